//! The demo that needs no privileges.

use std::process::Command;

#[test]
fn the_demo_shows_the_episode_and_sums_it_up() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wanctl-sim"));
    let output = command.args(["demo", "--seconds", "10"]).output().expect("wanctl-sim can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
    for piece in ["/rest (emulated, HTTPS)", "queueing delay, ms", "router: ", " ticks, "] {
        assert!(text.contains(piece), "{piece:?} in\n{text}");
    }
    for phase in ["idle", "busy", "congested", "recovered"] {
        let rows = text.lines().filter(|line| line.contains(&format!(" s {phase} ")));
        assert!(rows.count() > 0, "no row of phase {phase} in\n{text}");
    }
    for name in ["without wanctl", "with wanctl"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name:?} in\n{text}");
    }
}

#[test]
fn a_demo_that_is_too_short_is_a_wrong_command_line() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wanctl-sim"));
    let output = command.args(["demo", "--seconds", "9"]).output().expect("wanctl-sim can be run");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("10..=3600"));
}
