//! `wanctl-sim parity --steering` from outside: what it says, and how it ends.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::{expected_text, golden, golden_inputs, trace_text};
use crate::model::{ConfidenceParameters, Input, Parameters};

/// Runs the program; returns its exit code and everything it printed.
fn parity(trace: &Path, expected: &Path, settings: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wanctl-sim"));
    command.args(["parity", "--steering"]).arg(trace).arg(expected);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let output = command.output().expect("wanctl-sim can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
}

/// A folder with files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).expect("the folder can be written");
        path
    }

    /// Compares what the model made of a line.
    fn model(&self, parameters: &Parameters, inputs: &[Input], settings: &[&str]) -> String {
        let trace = self.write("trace.csv", &trace_text(inputs));
        let expected = self.write("expected.csv", &expected_text(parameters, inputs));
        let (code, text) = parity(&trace, &expected, settings);
        assert_eq!(code, Some(i32::from(!text.contains("parity holds"))), "{text}");
        text
    }
}

fn basic() -> String {
    std::fs::read_to_string(golden("so_basic.csv")).expect("a golden file")
}

#[test]
fn both_golden_recordings_are_repeated_without_any_setting() {
    for (expected, cells) in [("so_basic.csv", 27_000), ("so_conf_dry.csv", 42_000)] {
        let (code, text) = parity(&golden("st_basic.csv"), &golden(expected), &[]);
        assert_eq!(code, Some(0), "{text}");
        let verdict = format!("parity holds over 3000 rows ({cells} cells compared)");
        assert!(text.contains(&verdict), "{text}");
        let found = "drops=per-row was found out: with drops=cumulative, row 202 disagrees";
        assert!(text.contains(found), "{text}");
    }
}

#[test]
fn other_settings_or_the_other_reading_are_no_parity() {
    for setting in ["red_samples_required=3", "drops=cumulative", "rtt_ewma_alpha=0.31"] {
        let (code, text) = parity(&golden("st_basic.csv"), &golden("so_basic.csv"), &[setting]);
        assert_eq!(code, Some(1), "{setting}\n{text}");
        assert!(text.contains("NO PARITY"), "{text}");
    }
}

#[test]
fn a_changed_cell_of_any_column_is_found_and_its_row_named() {
    let folder = Folder::new();
    let recorded = std::fs::read_to_string(golden("so_conf_dry.csv")).expect("a golden file");
    let columns: Vec<&str> = recorded.lines().next().expect("a header").split(',').collect();
    let row = recorded.lines().nth(408).expect("a row");
    assert!(row.starts_with("407,1,WAN1_DEGRADED,GREEN,0,5,"), "{row}");
    for (index, column) in columns.iter().enumerate().skip(1) {
        let mut cells: Vec<String> = row.split(',').map(str::to_owned).collect();
        cells[index] = match (*column, cells[index].as_str()) {
            ("state", _) => "WAN1_GOOD".to_owned(),
            ("assess", _) => "YELLOW".to_owned(),
            ("calls", _) => "E".to_owned(),
            (_, "None") => "0.05".to_owned(),
            (_, number) => format!("{}", number.parse::<f64>().expect("a number") + 0.01),
        };
        let expected = folder.write("expected.csv", &recorded.replace(row, &cells.join(",")));
        let (code, text) = parity(&golden("st_basic.csv"), &expected, &[]);
        assert_eq!(code, Some(1), "{column}: {text}");
        let line = text.lines().find(|line| line.starts_with(column)).unwrap_or_default();
        assert!(line.contains("seq 407: expected"), "{column}: {text}");
    }
}

#[test]
fn a_timer_that_should_not_run_is_a_difference() {
    let folder = Folder::new();
    let recorded = std::fs::read_to_string(golden("so_conf_dry.csv")).expect("a golden file");
    let row = recorded.lines().nth(408).expect("a row");
    let changed = row.replacen(",2.0,None,", ",None,None,", 1);
    assert_ne!(row, changed);
    let expected = folder.write("expected.csv", &recorded.replace(row, &changed));
    let (code, text) = parity(&golden("st_basic.csv"), &expected, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("seq 407: expected nothing, got 2"), "{text}");
}

#[test]
fn a_trace_with_the_counter_itself_is_recognised() {
    let folder = Folder::new();
    let trace = folder.write("trace.csv", &trace_text(&golden_inputs("st_basic.csv")));
    let (code, text) = parity(&trace, &golden("so_conf_dry.csv"), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("drops=cumulative was found out"), "{text}");
}

#[test]
fn a_failed_ping_tells_whether_there_was_a_history() {
    let folder = Folder::new();
    let mut inputs = golden_inputs("st_basic.csv");
    inputs.truncate(300);
    for row in [150, 151, 230] {
        inputs[row].rtt_ms = None;
    }
    for (rtt_history, said) in [(false, "rtt_history=none was"), (true, "rtt_history=last was")] {
        let confidence = Some(ConfidenceParameters::default());
        let parameters = Parameters { rtt_history, confidence, ..Parameters::default() };
        let text = folder.model(&parameters, &inputs, &[]);
        assert!(text.contains("parity holds") && text.contains(said), "{text}");
        assert!(text.contains("found out: with rtt_history="), "{text}");
    }
}

#[test]
fn a_router_that_fails_is_asked_again_in_every_cycle() {
    let folder = Folder::new();
    let mut inputs = golden_inputs("st_basic.csv");
    inputs.truncate(500);
    for input in &mut inputs[190..395] {
        input.router_ok = false;
    }
    let confidence = Some(ConfidenceParameters::default());
    let text = folder.model(&Parameters { confidence, ..Parameters::default() }, &inputs, &[]);
    assert!(text.contains("parity holds"), "{text}");
    let expected = std::fs::read_to_string(folder.0.path().join("expected.csv")).expect("a file");
    let calls = expected.lines().filter(|line| line.contains(",E,")).count();
    assert_eq!(calls, 195, "every RED cycle from the second on, and one that succeeds");
    assert!(expected.contains(",30.0,None,0,E,"), "a dry run holds down what it would have done");
}

#[test]
fn what_ends_the_reference_is_said() {
    let folder = Folder::new();
    let trace = "rtt_ms,drops,queued,baseline,router_ok\n25,0,0,25,1\n25,0,1001,25,1\n";
    let trace = folder.write("trace.csv", trace);
    let expected = folder.write("expected.csv", "seq,ok\n0,1\n1,0\n");
    let (code, text) = parity(&trace, &expected, &[]);
    assert_eq!(code, Some(0), "{text}");
    let said = format!("{}:3: more than 1000 packets", trace.display());
    assert!(text.contains(&said), "{text}");
}

/// Checks that files are refused with exit code 2, the place and the reason.
#[track_caller]
fn refused(folder: &Folder, trace: &str, expected: &str, place: &str, what: &str) {
    let trace = folder.write("trace.csv", trace);
    let expected = folder.write("expected.csv", expected);
    let (code, text) = parity(&trace, &expected, &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains(place) && text.contains(what), "{place:?} and {what:?} in\n{text}");
}

#[test]
fn a_malformed_file_is_refused_with_its_line() {
    let folder = Folder::new();
    let head = "seq,rtt_ms,drops,queued,baseline,router_ok\n";
    let trace = |row: &str| format!("{head}0,25.0,0,2,25.0,1\n{row}\n");
    let good = trace("1,25.0,0,2,25.0,1");
    let expected = "seq,ok\n0,1\n1,1\n";
    for (row, what) in [
        ("1,fast,0,2,25.0,1", "column rtt_ms: `fast` is not a number"),
        ("1,-1,0,2,25.0,1", "column rtt_ms: `-1` is not a round-trip time in ms"),
        ("1,25.0,0.5,2,25.0,1", "column drops: `0.5` is not a whole number of packets"),
        ("1,25.0,-7,2,25.0,1", "column drops: `-7` takes the counter below 0"),
        ("1,25.0,0,-2,25.0,1", "column queued: `-2` is not a whole number of packets from 0 on"),
        ("1,25.0,0,2,NaN,1", "column baseline: `NaN` is not a round-trip time in ms"),
        ("1,25.0,0,2,25.0,", "column router_ok: `` is neither 0 nor 1"),
        ("1,25.0,0,2,25.0,2", "column router_ok: `2` is neither 0 nor 1"),
    ] {
        refused(&folder, &trace(row), expected, "trace.csv:3: ", what);
    }
    let without = good.replace("drops", "lost").replace("baseline", "idle");
    let what = "no column drops, baseline; a steering trace needs rtt_ms, drops, queued, baseline, \
                router_ok";
    refused(&folder, &without, expected, "trace.csv:1: ", what);
    for (expected, what) in [
        ("seq,ok\n0,1\n1,yes\n", "column ok: `yes` is not a number"),
        ("seq,state\n0,A_GOOD\n1,BAD\n", "`BAD` is not a state; expected NAME_GOOD or"),
        ("seq,assess\n0,GREEN\n1,BLUE\n", "`BLUE` is not a zone; expected GREEN, YELLOW,"),
        ("seq,calls\n0,\n1,X\n", "`X` is not a call; expected E, D or nothing"),
    ] {
        refused(&folder, &good, expected, "expected.csv:3: ", what);
    }
    let what = "none of these columns can be compared; expected some of ok, state, assess, red";
    refused(&folder, &good, "seq,oops\n0,1\n1,1\n", "expected.csv:1: ", what);
}

#[test]
fn a_file_that_ends_early_is_no_parity() {
    let folder = Folder::new();
    let short: String = basic().lines().take(2001).map(|line| format!("{line}\n")).collect();
    let expected = folder.write("expected.csv", &short);
    let (code, text) = parity(&golden("st_basic.csv"), &expected, &[]);
    assert_eq!(code, Some(1), "{text}");
    let what = format!("{}:2001: ends after 2000 rows; expected 3000", expected.display());
    assert!(text.contains(&what) && text.contains("NO PARITY over 2000 rows"), "{text}");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (settings, what) in [
        (&["red_rtt=20"][..], "unknown key; known are: thresholds.yellow_rtt_ms, red_rtt_ms"),
        (&["confidence.dry_run=maybe"], "expected true or false"),
        (&["drops=both"], "expected cumulative or per-row"),
        (&["min_queue_red=50.5"], "expected a whole number from 0 to"),
        (&["yellow_rtt_ms=20"], "yellow_rtt_ms must not be above red_rtt_ms"),
        (&["steer_threshold=20"], "recovery_threshold must be below steer_threshold"),
        (&["baseline_rtt_bounds.min=70"], "must not be above baseline_rtt_bounds.max"),
    ] {
        let (code, text) = parity(&golden("st_basic.csv"), &golden("so_basic.csv"), settings);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(what), "{settings:?}: {text}");
    }
}
