//! Traces and expected files of the steering, as text and as the model's inputs and outputs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::model::{Assessment, Input, Model, Toggle};

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
