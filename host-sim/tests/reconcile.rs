//! What others change on the router is reported and put right, but nobody is fought for ever.

mod common;

use common::{Bench, Daemon, PATIENCE, pings_or_skip};
use wanctl_sim::routeros::{MenuName, properties_of};

const QUEUE: &str = "WAN-Download";
/// What the daemon wants on an idle line, in bit/s: the ceiling.
const OURS: u64 = 38_000_000;
const THEIRS: u64 = 3_000_000;
/// Looks at the queues after which nothing more is expected.
const LOOKS: usize = 5;

fn interfere(bench: &Bench) {
    let theirs = THEIRS.to_string();
    let set = bench.emulator.with_router(|router| {
        router.set_unchecked(MenuName::QueueTree, QUEUE, "max-limit", Some(&theirs))
    });
    assert!(set);
}

fn wait_for_ours(bench: &Bench, daemon: &Daemon) {
    let ours =
        bench.emulator.wait_until(PATIENCE, |view| view.router.max_limit_bps(QUEUE) == Some(OURS));
    assert!(ours, "never put right: {:#?}", daemon.process.lines());
}

/// Waits until the queues have been looked at a few times more.
fn wait_for_looks(bench: &Bench) {
    let is_look = |method: &str, path: &str| method == "GET" && path == "/rest/queue/tree";
    let count = |requests: &mut dyn Iterator<Item = (String, String)>| {
        requests.filter(|(method, path)| is_look(method, path)).count()
    };
    let requests = bench.emulator.requests();
    let before = count(&mut requests.into_iter().map(|r| (r.method, r.path)));
    let looked = bench.emulator.wait_until(PATIENCE, |view| {
        let requests = view.requests.iter();
        count(&mut requests.map(|r| (r.method.clone(), r.path.clone()))) >= before + LOOKS
    });
    assert!(looked, "the queues are not looked at");
}

#[test]
fn a_rate_that_somebody_changed_is_reported_and_put_right() {
    if !pings_or_skip("a_rate_that_somebody_changed_is_reported_and_put_right") {
        return;
    }
    let bench = Bench::new();
    let daemon = bench.start_controlling();
    interfere(&bench);
    wait_for_ours(&bench, &daemon);
    daemon.terminate().expect(
        0,
        &["somebody else changed the shaper rate", "found=\"3 Mbit/s\" ours=\"38 Mbit/s\""],
    );
}

#[test]
fn after_three_corrections_the_other_side_is_left_alone_and_the_log_says_so() {
    let test = "after_three_corrections_the_other_side_is_left_alone_and_the_log_says_so";
    if !pings_or_skip(test) {
        return;
    }
    let bench = Bench::new();
    let daemon = bench.start_controlling();
    for _ in 0..3 {
        interfere(&bench);
        wait_for_ours(&bench, &daemon);
    }
    interfere(&bench);
    let (line, _) = daemon.wait_for("the end of the fight", 0, |line| {
        line.contains("WARN somebody keeps changing the shaper rate")
    });
    wait_for_looks(&bench);
    assert_eq!(bench.emulator.max_limit_bps(QUEUE), Some(THEIRS), "still fighting");
    let told = |line: &str| line.ends_with("ready, somebody keeps changing WAN-Download");
    daemon.wait_for("a status line that says so", line, told);
    daemon.terminate().expect(0, &[]);
}

#[test]
fn a_change_made_while_the_router_was_away_is_put_right_when_it_is_back() {
    let test = "a_change_made_while_the_router_was_away_is_put_right_when_it_is_back";
    if !pings_or_skip(test) {
        return;
    }
    let bench = Bench::new();
    let daemon = bench.start_controlling();
    bench.emulator.power_off();
    daemon.wait_for("a failure", 0, |line| line.contains("WARN the router fails"));
    interfere(&bench);
    bench.emulator.power_on().expect("the ports are still free");
    wait_for_ours(&bench, &daemon);
    daemon.terminate().expect(0, &["the router works again"]);
}

#[test]
fn a_queue_that_is_switched_off_or_removed_is_reported_and_found_again_under_a_new_id() {
    let test = "a_queue_that_is_switched_off_or_removed_is_reported_and_found_again";
    if !pings_or_skip(test) {
        return;
    }
    let bench = Bench::new();
    let daemon = bench.start_controlling();
    let set_disabled = |value| {
        bench.emulator.with_router(|router| {
            assert!(router.set_unchecked(MenuName::QueueTree, QUEUE, "disabled", Some(value)));
        });
    };
    let next = |from, text: &str| daemon.wait_for(text, from, |line| line.contains(text)).0 + 1;
    set_disabled("true");
    let line = next(0, "WARN the queue is disabled and does not shape");
    set_disabled("false");
    let line = next(line, "INFO the queue is well again");
    let row = bench.emulator.with_router(|router| {
        let row = router.row(MenuName::QueueTree, QUEUE).expect("it was there");
        assert!(router.remove_unchecked(MenuName::QueueTree, QUEUE));
        row
    });
    let line = next(line, "WARN the queue is gone");
    let mut made = properties_of(&[("name", QUEUE), ("max-limit", "7000000")]);
    for key in ["parent", "queue"] {
        made.insert(key.to_owned(), row[key].clone());
    }
    bench.emulator.with_router(|router| router.insert_unchecked(MenuName::QueueTree, made));
    next(line, "INFO the queue is well again");
    wait_for_ours(&bench, &daemon);
    daemon.terminate().expect(0, &[]).expect_not("the router fails");
}
