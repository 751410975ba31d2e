//! A router that takes its time never delays a tick.

mod common;

use common::{Bench, Daemon, PATIENCE, Status, pings_or_skip};

/// Deadlines between two status lines that are a second apart: 20, less what jitter may shift.
const DEADLINES_PER_STATUS: u64 = 15;

/// Asserts that two more status lines arrive, from line `from` on, each after a second of ticks.
fn expect_ticks_go_on(daemon: &Daemon, from: usize) -> Status {
    let (first, mut before) = daemon.wait_for_status(from);
    let mut from = first + 1;
    for _ in 0..2 {
        let (index, after) = daemon.wait_for_status(from);
        let passed = after.deadlines - before.deadlines;
        assert!(passed >= DEADLINES_PER_STATUS, "{after:?} after {before:?}");
        (from, before) = (index + 1, after);
    }
    before
}

#[test]
fn ticks_go_on_while_a_write_is_not_answered() {
    if !pings_or_skip("ticks_go_on_while_a_write_is_not_answered") {
        return;
    }
    let bench = Bench::with_endless_writes();
    let daemon = bench.start();
    bench.wait_for_open_write(&daemon);
    let status = expect_ticks_go_on(&daemon, daemon.process.lines().len());
    assert_eq!(status.writes_open, 2);
    assert_eq!(bench.emulator.writes(), [], "the write was not open all the time");
    daemon.terminate().expect(0, &["a request was still unanswered"]);
}

#[test]
fn ticks_go_on_while_the_router_is_silent_from_the_start_and_control_begins_when_it_answers() {
    let test = "ticks_go_on_while_the_router_is_silent_from_the_start";
    if !pings_or_skip(test) {
        return;
    }
    let bench = Bench::new();
    let held = bench.emulator.hold_requests();
    let daemon = bench.start();
    let asked = bench.emulator.wait_until(PATIENCE, |view| view.arrived_count > 0);
    assert!(asked, "no request: {:#?}", daemon.process.lines());
    let said = daemon.process.lines().len();
    let status = expect_ticks_go_on(&daemon, said);
    assert_eq!(status.writes_open, 2);
    assert_eq!(bench.emulator.request_count(), 0);
    drop(held);
    let confirmed = |line: &str| common::status(line).is_some_and(|status| status.writes_open == 0);
    daemon.wait_for("status with both rates confirmed", said, confirmed);
    assert_eq!(bench.emulator.writes().len(), 2);
    daemon.terminate().expect(0, &["the router keeps its rates"]);
}

#[test]
fn measure_reports_memory_cpu_time_and_pacing() {
    if !pings_or_skip("measure_reports_memory_cpu_time_and_pacing") {
        return;
    }
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wanctl-sim"));
    command.args(["measure", "--seconds", "2", "--router-latency", "20ms", "--wanctl"]);
    let output = command.arg(common::wanctl_binary()).output().expect("wanctl-sim can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
    for piece in [" MB resident (VmRSS)", " % of one core", "\nthreads ", " ticks, ", " missed"] {
        assert!(text.contains(piece), "{piece:?} in\n{text}");
    }
}
