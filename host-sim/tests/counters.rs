//! The queues' counters on their way from the router to the delivered rate.

mod common;

use std::time::Duration;

use common::{Bench, Daemon, PASSWORD, pings_or_skip};
use wanctl_sim::demo::USER;
use wanctl_sim::routeros::{EmulatorOptions, Latency, Policy, Router, RouterOptions, User};

/// What the emulated queues carry, in bit/s.
const DOWNLOAD_BPS: u64 = 24_000_000;
const UPLOAD_BPS: u64 = 6_000_000;
/// Status lines that are looked at: a second apart.
const STATUS_LINES: usize = 4;

fn bench(refresh: Duration, latency: Latency) -> Bench {
    let router = RouterOptions {
        counter_refresh: refresh,
        ..RouterOptions::default().with_users(vec![User::full(USER, PASSWORD)])
    };
    let bench =
        Bench::with_options(&EmulatorOptions { router, latency, ..EmulatorOptions::default() });
    bench.emulator.with_router(|router| {
        router.set_flow("WAN-Download", DOWNLOAD_BPS);
        router.set_flow("WAN-Upload", UPLOAD_BPS);
    });
    bench
}

/// Reads "download 38 Mbit/s GREEN carrying 24 Mbit/s, upload ..." in Mbit/s.
fn carrying(line: &str, direction: &str) -> Option<f64> {
    let (_, rest) = line.split_once(&format!("{direction} "))?;
    let (part, _) = rest.split_once(',')?;
    let (_, rate) = part.split_once(" carrying ")?;
    rate.strip_suffix(" Mbit/s")?.parse().ok()
}

/// Waits for status lines with both rates, from line `from` on, and returns them with the index
/// after the last.
fn rates(daemon: &Daemon, from: usize, count: usize) -> (usize, Vec<(f64, f64)>) {
    let both = |line: &str| Some((carrying(line, "download")?, carrying(line, "upload")?));
    let mut next = from;
    let found = (0..count).map(|_| {
        let (index, line) = daemon.wait_for("delivered rates", next, |line| both(line).is_some());
        next = index + 1;
        both(&line).expect("they were waited for")
    });
    let found = found.collect();
    (next, found)
}

fn assert_near(rates: &[(f64, f64)], share: f64) {
    let near = |is: f64, bps: u64| (is * 1e6 - bps as f64).abs() <= share * bps as f64;
    for (download, upload) in rates {
        let good = near(*download, DOWNLOAD_BPS) && near(*upload, UPLOAD_BPS);
        assert!(good, "{download} and {upload} Mbit/s in {rates:?}");
    }
}

#[test]
fn live_counters_become_the_rates_the_queues_carry() {
    if !pings_or_skip("live_counters_become_the_rates_the_queues_carry") {
        return;
    }
    let latency = Latency { read: Duration::from_millis(6), write: Duration::from_millis(20) };
    let bench = bench(Duration::ZERO, latency);
    let daemon = bench.start_controlling();
    let (_, rates) = rates(&daemon, 0, STATUS_LINES);
    assert_near(&rates, 0.1);
    daemon.terminate().expect(0, &[]);
}

#[test]
fn counters_refreshed_once_a_second_become_the_same_rates() {
    if !pings_or_skip("counters_refreshed_once_a_second_become_the_same_rates") {
        return;
    }
    let bench = bench(Duration::from_secs(1), Latency::default());
    let daemon = bench.start_controlling();
    let (next, before) = rates(&daemon, 0, STATUS_LINES);
    // Each end of a second is known to one reading of 200 ms.
    assert_near(&before, 0.25);
    bench.emulator.with_router(|router| router.set_flow("WAN-Download", 0));
    let idle = |line: &str| line.contains("GREEN carrying 0 bit/s, upload");
    daemon.wait_for("an idle download", next, idle);
    daemon.terminate().expect(0, &[]);
}

#[test]
fn counters_that_begin_again_make_no_burst() {
    if !pings_or_skip("counters_that_begin_again_make_no_burst") {
        return;
    }
    let bench = bench(Duration::ZERO, Latency::default());
    let daemon = bench.start_controlling();
    let (next, _) = rates(&daemon, 0, 1);
    bench.emulator.with_router(Router::reboot);
    let (_, after) = rates(&daemon, next, STATUS_LINES);
    assert_near(&after, 0.1);
    daemon.terminate().expect(0, &[]);
}

#[test]
fn a_router_that_refuses_to_show_its_queues_gets_its_rates_all_the_same() {
    let test = "a_router_that_refuses_to_show_its_queues_gets_its_rates_all_the_same";
    if !pings_or_skip(test) {
        return;
    }
    let bench = bench(Duration::ZERO, Latency::default());
    let daemon = bench.start_controlling();
    rates(&daemon, 0, 1);
    let all = daemon.process.lines().len();
    let no_read = [Policy::Write, Policy::Api, Policy::RestApi];
    assert!(bench.emulator.with_router(|router| router.set_policies(USER, &no_read)));
    daemon.wait_for("a failed look", all, |line| line.contains("the queues cannot be read"));
    let unknown = |line: &str| line.contains("Mbit/s GREEN, upload");
    daemon.wait_for("rates that are not known any more", all, unknown);
    daemon.terminate().expect(0, &[]).expect_not("the router fails");
}
