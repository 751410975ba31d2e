//! How a running daemon ends: at once, and with the router as configured.

mod common;

use std::process::Command;

use common::{Bench, Daemon, PATIENCE, pings_or_skip};
use rustix::process::Signal;
use wanctl_sim::routeros::FaultSpec;

/// The rates of the fail-safe configuration, in Mbit/s, and as the router is told them.
const FAIL_SAFE: (u32, u32) = (20, 5);
const FAIL_SAFE_WRITES: [(&str, u64); 2] =
    [("WAN-Download", 20_000_000), ("WAN-Upload", 5_000_000)];

/// Everything the router was told, by queue.
fn writes(bench: &Bench) -> Vec<(String, u64)> {
    let writes = bench.emulator.writes().into_iter();
    writes.map(|write| (write.queue, write.max_limit_bps)).collect()
}

fn owned(writes: &[(&str, u64)]) -> Vec<(String, u64)> {
    writes.iter().map(|(queue, rate)| ((*queue).to_owned(), *rate)).collect()
}

#[test]
fn either_signal_ends_the_daemon_and_keep_writes_nothing_more() {
    if !pings_or_skip("either_signal_ends_the_daemon_and_keep_writes_nothing_more") {
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let bench = Bench::new();
        let daemon = bench.start_controlling();
        let before = writes(&bench);
        daemon.signal(signal).expect(0, &["ended: the router keeps its rates"]);
        assert_eq!(writes(&bench), before);
    }
}

#[test]
fn either_signal_leaves_the_fail_safe_rates_when_configured() {
    if !pings_or_skip("either_signal_leaves_the_fail_safe_rates_when_configured") {
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let bench = Bench::new();
        bench.fail_safe(FAIL_SAFE.0, FAIL_SAFE.1);
        let daemon = bench.start_controlling();
        let mut expected = writes(&bench);
        let ended = daemon.signal(signal);
        ended.expect(0, &["ended: the router holds download 20 Mbit/s, upload 5 Mbit/s"]);
        expected.extend(owned(&FAIL_SAFE_WRITES));
        assert_eq!(writes(&bench), expected);
    }
}

#[test]
fn a_daemon_that_never_reached_its_router_still_tries_to_leave_the_fail_safe_rates() {
    let test = "a_daemon_that_never_reached_its_router_still_tries_to_leave_the_fail_safe_rates";
    if !pings_or_skip(test) {
        return;
    }
    let bench = Bench::new();
    bench.fail_safe(FAIL_SAFE.0, FAIL_SAFE.1).emulator.power_off();
    let daemon = bench.start();
    daemon.wait_for("warning", 0, |line| line.contains("WARN the router fails"));
    daemon.terminate().expect(
        0,
        &[
            "the final rate is not confirmed",
            "ended: not confirmed by the router: download 20 Mbit/s, upload 5 Mbit/s",
        ],
    );
    assert_eq!(writes(&bench), []);
}

#[test]
fn a_router_that_stops_answering_does_not_keep_the_daemon_from_ending() {
    if !pings_or_skip("a_router_that_stops_answering_does_not_keep_the_daemon_from_ending") {
        return;
    }
    let bench = Bench::new();
    bench.fail_safe(FAIL_SAFE.0, FAIL_SAFE.1);
    let daemon = bench.start_controlling();
    let held = bench.emulator.hold_replies();
    let before = writes(&bench).len();
    // It ends while the reply to its first fail-safe write, or to a look at the queues, is still
    // held back.
    daemon.terminate().expect(
        0,
        &[
            "ended: not confirmed by the router: download 20 Mbit/s, upload 5 Mbit/s",
            "a request was still unanswered",
        ],
    );
    let sent = &writes(&bench)[before..];
    assert!(sent.is_empty() || sent == &owned(&FAIL_SAFE_WRITES)[..1], "{sent:?}");
    drop(held);
}

#[test]
fn a_router_that_never_answers_the_first_write_does_not_keep_the_daemon_from_ending() {
    let test = "a_router_that_never_answers_the_first_write_does_not_keep_the_daemon_from_ending";
    if !pings_or_skip(test) {
        return;
    }
    let bench = Bench::with_endless_writes();
    let daemon = bench.start();
    bench.wait_for_open_write(&daemon);
    let ended = daemon.terminate();
    ended.expect(0, &["ended: the router keeps its rates; a request was still unanswered"]);
    assert_eq!(writes(&bench), []);
}

#[test]
fn a_signal_during_the_first_contact_ends_the_daemon() {
    if !pings_or_skip("a_signal_during_the_first_contact_ends_the_daemon") {
        return;
    }
    let bench = Bench::new();
    let held = bench.emulator.hold_requests();
    let daemon = bench.start();
    let arrived = bench.emulator.wait_until(PATIENCE, |view| view.arrived_count > 0);
    assert!(arrived, "no request: {:#?}", daemon.process.lines());
    daemon.terminate().expect(0, &["a request was still unanswered"]);
    drop(held);
    assert_eq!(writes(&bench), []);
}

#[test]
fn a_router_that_was_away_for_a_while_gets_the_fail_safe_rates_at_the_end() {
    if !pings_or_skip("a_router_that_was_away_for_a_while_gets_the_fail_safe_rates_at_the_end") {
        return;
    }
    let bench = Bench::new();
    bench.fail_safe(FAIL_SAFE.0, FAIL_SAFE.1);
    let daemon = bench.start_controlling();
    bench.emulator.power_off();
    let (from, _) = daemon.wait_for("a warning", 0, |line| line.contains("WARN the router fails"));
    bench.emulator.power_on().expect("the router starts");
    daemon.wait_for("the router", from, |line| line.contains("INFO the router works again"));
    let ended = daemon.terminate();
    ended.expect(0, &["ended: the router holds download 20 Mbit/s, upload 5 Mbit/s"]);
    assert!(writes(&bench).ends_with(&owned(&FAIL_SAFE_WRITES)));
}

#[test]
fn a_router_that_comes_back_after_the_daemon_has_ended_gets_the_fail_safe_rates() {
    let test = "a_router_that_comes_back_after_the_daemon_has_ended_gets_the_fail_safe_rates";
    if !pings_or_skip(test) {
        return;
    }
    let bench = Bench::new();
    bench.fail_safe(FAIL_SAFE.0, FAIL_SAFE.1);
    let daemon = bench.start_controlling();
    let command = || {
        let mut command = Command::new(common::wanctl_binary());
        command.args(["fail-safe", "--config"]).arg(bench.files.config());
        command
    };
    // While the daemon controls, nobody else does.
    Daemon::start(&mut command()).end().expect(22, &["another wanctl is running"]);
    bench.emulator.power_off();
    daemon.terminate().expect(0, &["ended: not confirmed by the router"]);
    let before = writes(&bench);
    let late = Daemon::start(&mut command());
    late.wait_for("a warning", 0, |line| line.contains("the final rate is not confirmed"));
    bench.emulator.power_on().expect("the router starts");
    late.end().expect(0, &["the router holds ", "download 20 Mbit/s", "upload 5 Mbit/s"]);
    let mut written = writes(&bench).split_off(before.len());
    written.sort();
    assert_eq!(written, owned(&FAIL_SAFE_WRITES));
    // And one that stays away is given up.
    bench.emulator.power_off();
    let mut command = command();
    command.args(["--for", "300ms"]);
    Daemon::start(&mut command).end().expect(30, &["not confirmed by the router: download"]);
}

#[test]
fn fail_safe_believes_a_refusal_when_it_comes_again_and_again() {
    let bench = Bench::new();
    bench.fail_safe(FAIL_SAFE.0, FAIL_SAFE.1);
    let fail_safe = || {
        let mut command = Command::new(common::wanctl_binary());
        command.args(["fail-safe", "--config"]).arg(bench.files.config());
        Daemon::start(&mut command).end()
    };
    let refuse = |fault: &str| bench.emulator.inject(fault.parse::<FaultSpec>().expect("a fault"));
    // As a router does that has just booted.
    refuse("login-refused,times=2");
    fail_safe().expect(0, &["the router holds ", "download 20 Mbit/s", "upload 5 Mbit/s"]);
    refuse("login-refused");
    fail_safe().expect(31, &["not confirmed by the router: download"]);
}
