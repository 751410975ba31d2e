//! Traces and expected files of the steering, as text and as the model's inputs and outputs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use wanctl_sim::parity::Report;
use wanctl_sim::parity::steering::{SteeringSettings, compare};

use crate::model::{Assessment, Input, Model, Parameters, Toggle};

/// The columns of an expected file.
pub(crate) const HEADER: &str = "seq,ok,state,assess,red,good,delta_ewma,queue_ewma,conf,degrade_t,\
    hold_t,recover_t,flap,calls,cake_fail";

/// A file of the golden recordings.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Reads a golden trace. Its drops are differences; the model wants the counter.
pub(crate) fn golden_inputs(name: &str) -> Vec<Input> {
    let mut counter = 0;
    let mut reader = csv::Reader::from_path(golden(name)).expect("a golden file");
    let records = reader.records().map(|record| record.expect("a row"));
    let mut input = |record: csv::StringRecord| {
        let number = |index: usize| record[index].parse::<f64>().ok();
        counter += record[2].parse::<i64>().unwrap_or_default();
        Input {
            rtt_ms: number(1),
            queue: number(2).map(|_| (counter, number(3).expect("packets"))),
            baseline_ms: number(4),
            router_ok: number(5) == Some(1.0),
        }
    };
    records.map(&mut input).collect()
}

/// Writes a trace as `parity --steering` reads it, with the drop counter in column `drops`.
pub(crate) fn trace_text(inputs: &[Input]) -> String {
    let mut text = "seq,rtt_ms,drops,queued,baseline,router_ok\n".to_owned();
    for (seq, input) in inputs.iter().enumerate() {
        let cell = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let drops = input.queue.map_or(String::new(), |(drops, _)| drops.to_string());
        let (rtt, baseline) = (cell(input.rtt_ms), cell(input.baseline_ms));
        let queued = cell(input.queue.map(|(_, queued)| queued));
        let ok = u8::from(input.router_ok);
        writeln!(text, "{seq},{rtt},{drops},{queued},{baseline},{ok}").expect("memory");
    }
    text
}

/// Writes what the model did in a cycle, as the golden files have it.
pub(crate) fn expected_row(seq: usize, model: &Model) -> String {
    let state = if model.degraded { "WAN1_DEGRADED" } else { "WAN1_GOOD" };
    let assess = match model.assessment {
        Assessment::Green => "GREEN",
        Assessment::Yellow => "YELLOW",
        Assessment::Red => "RED",
    };
    let calls = match model.call {
        Some(Toggle::Enable) => "E",
        Some(Toggle::Disable) => "D",
        None => "",
    };
    let timer = |timer: Option<f64>| timer.map_or("None".to_owned(), |left| format!("{left:?}"));
    let confidence = model.confidence.as_ref().map_or(",,,,".to_owned(), |confidence| {
        format!(
            "{},{},{},{},{}",
            confidence.score,
            timer(confidence.degrade_timer),
            timer(confidence.hold_down_timer),
            timer(confidence.recovery_timer),
            u8::from(confidence.penalty.is_some())
        )
    });
    format!(
        "{seq},{},{state},{assess},{},{},{:?},{:?},{confidence},{calls},{}",
        u8::from(model.ok),
        model.red_count,
        model.good_count,
        model.rtt_delta_ewma,
        model.queue_ewma,
        model.cake_read_failures
    )
}

/// Runs the model, and returns its expected file.
pub(crate) fn expected_text(parameters: &Parameters, inputs: &[Input]) -> String {
    let mut model = Model::new(parameters);
    let mut text = format!("{HEADER}\n");
    for (seq, input) in inputs.iter().enumerate() {
        model.cycle(input);
        text += &expected_row(seq, &model);
        text.push('\n');
    }
    text
}

/// Writes both files and compares the core with them.
pub(crate) fn compare_texts(trace: &str, expected: &str, settings: &[String]) -> Report {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("the folder can be written");
        path
    };
    let (trace, expected) = (path("trace.csv", trace), path("expected.csv", expected));
    compare(&trace, &expected, &settings_of(settings)).expect("files that fit")
}

pub(crate) fn settings_of(assignments: &[String]) -> SteeringSettings {
    let mut settings = SteeringSettings::default();
    for assignment in assignments {
        settings.set(assignment).expect("a known setting");
    }
    settings
}

/// Returns the settings of the program that mean the same as the model's parameters.
pub(crate) fn assignments(parameters: &Parameters) -> Vec<String> {
    let mut all = vec![
        format!("yellow_rtt_ms={}", parameters.yellow_rtt_ms),
        format!("red_rtt_ms={}", parameters.red_rtt_ms),
        format!("min_drops_red={}", parameters.min_drops_red),
        format!("min_queue_yellow={}", parameters.min_queue_yellow),
        format!("min_queue_red={}", parameters.min_queue_red),
        format!("rtt_ewma_alpha={}", parameters.rtt_ewma_alpha),
        format!("queue_ewma_alpha={}", parameters.queue_ewma_alpha),
        format!("red_samples_required={}", parameters.red_samples_required),
        format!("green_samples_required={}", parameters.green_samples_required),
        format!("baseline_rtt_bounds.min={}", parameters.baseline_min_ms),
        format!("baseline_rtt_bounds.max={}", parameters.baseline_max_ms),
        format!("use_confidence_scoring={}", parameters.confidence.is_some()),
        format!("rtt_history={}", if parameters.rtt_history { "last" } else { "none" }),
        "drops=cumulative".to_owned(),
        "flap=penalty".to_owned(),
    ];
    if let Some(confidence) = &parameters.confidence {
        all.extend([
            format!("steer_threshold={}", confidence.steer_threshold),
            format!("recovery_threshold={}", confidence.recovery_threshold),
            format!("sustain_duration_sec={}", confidence.sustain_duration_sec),
            format!("recovery_sustain_sec={}", confidence.recovery_sustain_sec),
            format!("hold_down_duration_sec={}", confidence.hold_down_duration_sec),
            format!("flap_detection_enabled={}", confidence.flap_detection_enabled),
            format!("flap_window_minutes={}", confidence.flap_window_minutes),
            format!("max_toggles={}", confidence.max_toggles),
            format!("penalty_duration_sec={}", confidence.penalty_duration_sec),
            format!("dry_run={}", confidence.dry_run),
        ]);
    }
    all
}
