//! Parity of the steering: the core against recorded runs of the reference, and against a naive model
//! of it on made-up lines.

mod files;
mod model;
mod program;
mod random;

use files::{
    HEADER, assignments, compare_texts, expected_row, expected_text, golden, golden_inputs,
    settings_of, trace_text,
};
use model::{ConfidenceParameters, Input, Model, Parameters, cycles_of};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{TestCaseResult, TestRunner};
use wanctl_sim::parity::Report;
use wanctl_sim::parity::steering::compare;

fn text(report: &Report) -> String {
    let mut text = Vec::new();
    report.print(&mut text).expect("memory can be written");
    String::from_utf8(text).expect("text")
}

#[test]
fn the_model_repeats_the_golden_recordings_to_the_last_digit() {
    let confidence = Some(ConfidenceParameters::default());
    let confident = Parameters { confidence, ..Parameters::default() };
    for (name, parameters) in
        [("so_basic.csv", Parameters::default()), ("so_conf_dry.csv", confident)]
    {
        let expected = std::fs::read_to_string(golden(name)).expect("a golden file");
        let mut lines = expected.lines();
        assert_eq!(lines.next(), Some(HEADER));
        let mut model = Model::new(&parameters);
        let inputs = golden_inputs("st_basic.csv");
        assert_eq!((inputs.len(), lines.clone().count()), (3000, 3000));
        for (seq, (input, line)) in inputs.iter().zip(lines).enumerate() {
            model.cycle(input);
            assert_eq!(expected_row(seq, &model), line, "{name}");
        }
    }
}

/// The cycle counts were observed on the reference itself.
#[test]
fn the_models_timers_last_as_long_as_those_of_the_reference() {
    let cycles = [2.0, 3.0, 5.0, 30.0, 60.0].map(cycles_of);
    assert_eq!(cycles, [40, 61, 101, 600, 1201]);
}

#[test]
fn the_core_agrees_with_both_golden_recordings() {
    for expected in ["so_basic.csv", "so_conf_dry.csv"] {
        let report = compare(&golden("st_basic.csv"), &golden(expected), &settings_of(&[]))
            .expect("golden files");
        let text = text(&report);
        assert!(report.agrees(), "{expected}:\n{text}");
        assert!(text.contains("parity holds over 3000 rows"), "{text}");
    }
}

/// The core must do what the model did, up to where rounding decides.
fn core_repeats(parameters: &Parameters, inputs: &[Input]) -> TestCaseResult {
    let (trace, expected) = (trace_text(inputs), expected_text(parameters, inputs));
    let report = compare_texts(&trace, &expected, &assignments(parameters));
    let holds = report.agrees() || report.rounding_explains();
    prop_assert!(holds, "{}\n{:?}", text(&report), parameters);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn the_core_counts_samples_as_the_model_does(
        parameters in random::parameters(),
        line in random::line(),
    ) {
        core_repeats(&parameters, &line.0)?;
    }

    #[test]
    fn the_core_scores_in_a_dry_run_as_the_model_does(
        parameters in random::parameters(),
        confidence in random::confidence(true),
        line in random::line(),
    ) {
        core_repeats(&Parameters { confidence: Some(confidence), ..parameters }, &line.0)?;
    }

    #[test]
    fn the_core_steers_by_score_as_the_model_does(
        parameters in random::parameters(),
        confidence in random::confidence(false),
        line in random::line(),
    ) {
        core_repeats(&Parameters { confidence: Some(confidence), ..parameters }, &line.0)?;
    }
}

/// What must have happened somewhere in the made-up lines for their agreement to mean something.
#[derive(Debug, Default)]
struct Seen {
    away: usize,
    back: usize,
    refused: usize,
    failed_cycles: usize,
    failed_readings: usize,
    held: usize,
    recovering: usize,
    penalties: usize,
    ends_of_penalties: usize,
}

#[test]
fn the_made_up_lines_show_every_behaviour() {
    let mut runner = TestRunner::deterministic();
    let confidence = any::<bool>().prop_flat_map(random::confidence);
    let strategy = (random::parameters(), confidence, random::line());
    let mut seen = Seen::default();
    for _ in 0..200 {
        let tree = strategy.new_tree(&mut runner).expect("nothing is filtered out");
        let (parameters, confidence, line) = tree.current();
        let mut model = Model::new(&Parameters { confidence: Some(confidence), ..parameters });
        let mut was_penalised = false;
        for input in &line.0 {
            let was_degraded = model.degraded;
            model.cycle(input);
            let confidence = model.confidence.as_ref().expect("scoring is on");
            let is_penalised = confidence.penalty.is_some();
            seen.away += usize::from(model.degraded && !was_degraded);
            seen.back += usize::from(!model.degraded && was_degraded);
            seen.refused += usize::from(model.call.is_some() && model.degraded == was_degraded);
            seen.failed_cycles += usize::from(!model.ok);
            seen.failed_readings += usize::from(model.cake_read_failures > 0);
            seen.held += usize::from(model.degraded && confidence.hold_down_timer.is_some());
            seen.recovering += usize::from(model.degraded && confidence.recovery_timer.is_some());
            seen.penalties += usize::from(is_penalised && !was_penalised);
            seen.ends_of_penalties += usize::from(was_penalised && !is_penalised);
            was_penalised = is_penalised;
        }
    }
    let Seen { away, back, refused, failed_cycles, failed_readings, .. } = seen;
    let Seen { held, recovering, penalties, ends_of_penalties, .. } = seen;
    let all = [away, back, refused, failed_cycles, failed_readings, held, recovering];
    assert!(all.iter().all(|count| *count >= 50), "{seen:?}");
    assert!(penalties >= 10 && ends_of_penalties >= 5, "{seen:?}");
}
