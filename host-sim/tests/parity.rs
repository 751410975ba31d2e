//! Golden parity: the core against the recorded runs of the reference controller.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use wanctl_sim::parity::{Settings, compare};

/// A file of the golden recordings.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// What `out_step_a005.csv` was recorded with. Nothing here says so for the second value: it is
/// the one with which all columns of all rows agree.
const SLOW: [&str; 2] = ["alpha_load=0.005", "alpha_baseline=0.0005"];

/// Trace, expected file and the settings that differ from the golden profile.
const PAIRS: [(&str, &str, &[&str]); 5] = [
    ("tr_step.csv", "out_step.csv", &[]),
    ("tr_noise.csv", "out_noise.csv", &[]),
    ("tr_ramp.csv", "out_ramp.csv", &[]),
    ("tr_spike.csv", "out_spike.csv", &[]),
    ("tr_step.csv", "out_step_a005.csv", &SLOW),
];

/// The recordings that `steering_parity` looks at.
const STEERING: [&str; 3] = ["st_basic.csv", "so_basic.csv", "so_conf_dry.csv"];

fn parity(trace: &Path, expected: &Path, settings: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wanctl-sim"));
    command.arg("parity").arg(trace).arg(expected);
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.output().expect("wanctl-sim can be run")
}

/// Standard output and standard error.
fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

#[test]
fn the_core_agrees_with_every_golden_recording() {
    for (trace, expected, assignments) in PAIRS {
        let mut settings = Settings::default();
        for assignment in assignments {
            settings.set(assignment).expect("a known setting");
        }
        let report = compare(&golden(trace), &golden(expected), &settings).expect("readable files");
        let mut text = Vec::new();
        report.print(&mut text).expect("memory can be written");
        let text = String::from_utf8_lossy(&text);
        assert!(report.agrees(), "{trace} and {expected}:\n{text}");
        assert!(text.contains("parity holds over"), "{text}");
        assert!(!text.contains("over 0 rows"), "{trace} is empty");
    }
}

#[test]
fn every_recording_belongs_to_a_pair() {
    let mut files: Vec<String> =
        PAIRS.iter().flat_map(|(a, b, _)| [*a, *b]).chain(STEERING).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    let entries = std::fs::read_dir(golden("")).expect("the folder is there").flatten();
    let mut present: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    present.sort();
    assert_eq!(present, files);
}

#[test]
fn the_program_prints_one_line_per_column_and_succeeds() {
    let output = parity(&golden("tr_step.csv"), &golden("out_step_a005.csv"), &SLOW);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("dl_rate") && text.contains("parity holds"), "{text}");
}

#[test]
fn the_wrong_settings_are_no_parity() {
    let output = parity(&golden("tr_step.csv"), &golden("out_step_a005.csv"), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
}

#[test]
fn a_changed_rate_is_found_and_its_row_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let expected = folder.path().join("expected.csv");
    let recorded = std::fs::read_to_string(golden("out_step.csv")).expect("a golden file");
    let row = recorded.lines().nth(8).expect("a row");
    let changed = row.replacen("940000000", "939999000", 1);
    assert!(row.starts_with("7,") && row != changed, "{row}");
    std::fs::write(&expected, recorded.replace(row, &changed)).expect("the folder can be written");
    let output = parity(&golden("tr_step.csv"), &expected, &[]);
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let found = text.lines().find(|line| line.starts_with("dl_rate")).unwrap_or_default();
    assert!(found.ends_with("seq 7: expected 939999000, got 940000000"), "{text}");
    assert!(text.contains("NO PARITY"), "{text}");
}

#[test]
fn a_malformed_file_is_refused_with_its_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, content, place, what) in [
        ("word.csv", "seq,rtt_ms\n0,25.0\n1,fast\n", ":3: ", "`fast` is not a number"),
        ("range.csv", "seq,rtt_ms\n0,-1\n", ":2: ", "is not a round-trip time"),
        (
            "cells.csv",
            "seq,rtt_ms\n0,25.0\n1,25.0,7,8\n",
            ": ",
            "(line: 3, byte: 18): found record with 4 fields",
        ),
        ("header.csv", "seq,delay\n0,25.0\n", ":1: ", "needs a column rtt_ms"),
    ] {
        let trace = folder.path().join(name);
        std::fs::write(&trace, content).expect("the folder can be written");
        let output = parity(&trace, &golden("out_step.csv"), &[]);
        let text = text(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        let place = format!("{}{place}", trace.display());
        assert!(text.contains(&place) && text.contains(what), "{place:?} and {what:?} in\n{text}");
    }
    let missing = folder.path().join("missing.csv");
    let output = parity(&missing, &golden("out_step.csv"), &[]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("missing.csv: cannot be read"), "{}", text(&output));
}
