//! The comparison of measured round-trip times with the truth says what it found.

use std::process::{Command, Output};

use wanctl_sim::netns::usable_or_skip;

fn accuracy(limit: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wanctl-sim"));
    command.args(["accuracy", "--seconds", "1", "--limit", limit]);
    command.output().expect("wanctl-sim can be run")
}

#[test]
fn every_probe_is_compared_and_the_limit_decides_on_the_exit_code() {
    if !usable_or_skip("every_probe_is_compared_and_the_limit_decides_on_the_exit_code") {
        return;
    }
    // No machine is as slow as the first limit, none as fast as the second.
    for (limit, code, verdict) in [("10s", 0, "within the limit"), ("0s", 1, "ABOVE the limit")] {
        let output = accuracy(limit);
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}{errors}");
        for piece in [verdict, "round trips of the tap", " samples: p1 "] {
            assert!(text.contains(piece), "{piece:?} in\n{text}");
        }
    }
}
