//! What else must hold while some faults last.

use wanctl_sim::demo::QUEUES;
use wanctl_sim::routeros::MenuName;

use super::common::{Bench, Daemon, PATIENCE};
use super::run::{COMMENT, FLOW_BPS, wait_for_requests};

/// Status lines whose rates are looked at, two in each.
const STATUS_LINES: usize = 5;

/// The status lines show what the queues carry, without a burst.
pub(crate) fn rates_are_right(_: &Bench, daemon: &Daemon) {
    let mut from = daemon.process.lines().len();
    let mut seen = 0;
    for _ in 0..STATUS_LINES {
        let (index, line) = daemon.wait_for("a status", from, |line| line.contains(" probes lost"));
        for (carried, wanted) in carried(&line).into_iter().zip([FLOW_BPS.0, FLOW_BPS.1]) {
            let wanted = wanted as f64 / 1e6;
            assert!((carried / wanted - 1.0).abs() < 0.35, "{carried} for {wanted} Mbit/s: {line}");
            seen += 1;
        }
        from = index + 1;
    }
    assert!(seen >= STATUS_LINES, "few rates: {:#?}", daemon.process.lines());
}

/// Reads "carrying 24.0 Mbit/s" out of a status line, as often as it is there.
fn carried(line: &str) -> Vec<f64> {
    let parts = line.split("carrying ").skip(1);
    parts.filter_map(|part| part.split_once(" Mbit/s")?.0.parse().ok()).collect()
}

pub(crate) fn rule_is_on(bench: &Bench, daemon: &Daemon) {
    let on = bench.emulator.wait_until(PATIENCE, |view| {
        let row = view.router.row(MenuName::Mangle, COMMENT).expect("it is there");
        row.get("disabled").is_some_and(|disabled| disabled == "false")
    });
    assert!(on, "{:#?}", daemon.process.lines());
}

pub(crate) fn idle_leaves_no_trace(bench: &Bench, daemon: &Daemon) {
    let lines = || bench.emulator.fault_log().len();
    assert_eq!(lines(), 2, "one for each first rate");
    wait_for_requests(bench, daemon, 15);
    assert_eq!(lines(), 2, "{:?}", bench.emulator.writes());
    assert!(bench.emulator.max_limit_bps(QUEUES.0).is_some());
}
