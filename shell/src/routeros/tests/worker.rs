//! The worker: first contact, order of writes, recovery, and the end.

use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wanctl_core::tick::{Outcome, Tick};
use wanctl_core::units::{BitsPerSecond, CommandId, Direction, PerDirection, WanId};

use super::super::{RouterOs, SteeringRules};
use super::server::{Answer, FakeRouter, Request};
use super::*;
use crate::exit::ExitReason;
use crate::shaping::{BackendStatus, RateOrder, Worker};

pub(super) const QUEUES: [(&str, &str); 2] = [("*1", "down"), ("*2", "up")];
/// Far more than any of these tests needs.
const AMPLE: Duration = Duration::from_secs(30);
use Direction::{Download, Upload};

fn start(url: &str) -> Worker {
    let queues = PerDirection { download: "down".to_owned(), upload: "up".to_owned() };
    let steering = SteeringRules::default();
    // No looks at the counters within a test.
    let interval = Duration::from_secs(3600);
    Worker::start(RouterOs::new(client(url), vec![queues], steering, interval)).unwrap()
}

pub(super) fn order(id: u32, direction: Direction, mbps: u64, is_cut: bool) -> RateOrder {
    let rate = BitsPerSecond::from_mbps(mbps);
    RateOrder { id: CommandId(id), wan: WanId(0), direction, rate, is_cut }
}

pub(super) fn applied(mbps: u64) -> Outcome {
    Outcome::Applied(BitsPerSecond::from_mbps(mbps))
}

/// Drains until `count` replies have come.
pub(super) fn replies(worker: &Worker, count: usize) -> Vec<(u32, Outcome)> {
    let mut all = Vec::new();
    while all.len() < count {
        let mut tick = Tick::new(crate::clock::now());
        worker.drain(&mut tick);
        all.extend(tick.replies.iter().map(|reply| (reply.id.0, reply.outcome)));
        assert_eq!(worker.fatal(), None, "no further reply will come");
        std::thread::yield_now();
    }
    all
}

pub(super) fn wait_until(worker: &Worker, is_so: impl Fn(&BackendStatus) -> bool) {
    loop {
        let status = worker.status();
        if is_so(&status) {
            return;
        }
        assert!(!matches!(status, BackendStatus::Failed { .. }), "{status:?} is final");
        std::thread::yield_now();
    }
}

fn mbps_of(write: &(String, String)) -> u64 {
    let digits: String = write.1.chars().filter(char::is_ascii_digit).collect();
    digits.parse::<u64>().unwrap() / 1_000_000
}

/// A hook that holds every write back until the test lets one pass.
fn gate() -> (Sender<()>, impl Fn(&Request) -> Answer + Send + Sync + 'static) {
    let (open, gate): (Sender<()>, Receiver<()>) = channel();
    let gate = Mutex::new(gate);
    let hook = move |request: &Request| {
        if request.method == "PATCH" {
            let _ = gate.lock().unwrap().recv();
        }
        Answer::Healthy
    };
    (open, hook)
}

#[test]
fn router_and_queues_are_looked_up_before_the_first_write() {
    let router = FakeRouter::start(&QUEUES, |_| Answer::Healthy);
    let worker = start(&router.url());
    worker.set_rate(order(1, Download, 20, true));
    assert_eq!(replies(&worker, 1), [(1, applied(20))]);
    assert_eq!(router.methods_seen(), ["GET", "GET", "GET", "GET", "PATCH"]);
    let BackendStatus::Ready { identity } = worker.status() else { panic!() };
    assert_eq!((identity.name.as_str(), identity.board.as_str()), ("home", "RB5009"));
    let counters = worker.counters();
    assert_eq!((counters.requests, counters.failures), (4, 0));
    assert!(counters.worst_us >= counters.last_us && counters.last_us > 0);
}

#[test]
fn wrong_password_at_start_is_fatal_and_writes_nothing() {
    let router = FakeRouter::start(&QUEUES, |_| Answer::Status(401, "{}".to_owned()));
    let worker = start(&router.url());
    worker.set_rate(order(1, Download, 20, true));
    wait_until(&worker, |status| matches!(status, BackendStatus::Failed { .. }));
    assert_eq!(worker.fatal().unwrap().reason, ExitReason::RouterLogin);
    let last = (WanId(0), Download, BitsPerSecond::from_mbps(9));
    let report = worker.finish(vec![last], Instant::now() + AMPLE);
    assert_eq!((report.confirmed, report.unconfirmed), (vec![], vec![last]));
    assert_eq!(router.methods_seen(), ["GET"; 4], "it was not believed at once");
}

#[test]
fn missing_queue_at_start_is_fatal_and_writes_nothing() {
    let router = FakeRouter::start(&QUEUES[..1], |_| Answer::Healthy);
    let worker = start(&router.url());
    worker.set_rate(order(1, Download, 20, true));
    wait_until(&worker, |status| matches!(status, BackendStatus::Failed { .. }));
    let fatal = worker.fatal().unwrap();
    assert_eq!(fatal.reason, ExitReason::QueueMissing);
    assert!(fatal.message.contains("\"up\""), "{fatal}");
    assert!(!router.methods_seen().contains(&"PATCH".to_owned()));
}

#[test]
fn latest_order_wins_and_the_replaced_one_is_answered() {
    let (open, hook) = gate();
    let router = FakeRouter::start(&QUEUES, hook);
    let worker = start(&router.url());
    worker.set_rate(order(1, Download, 10, false));
    assert_eq!(mbps_of(&router.next_write()), 10); // in flight now
    worker.set_rate(order(2, Download, 20, false));
    worker.set_rate(order(3, Download, 30, false));
    open.send(()).unwrap();
    open.send(()).unwrap();
    assert_eq!(mbps_of(&router.next_write()), 30);
    let mut ended = replies(&worker, 3);
    ended.sort_by_key(|reply| reply.0);
    assert_eq!(ended, [(1, applied(10)), (2, Outcome::Superseded), (3, applied(30))]);
}

#[test]
fn cut_overtakes_a_waiting_raise() {
    let (open, hook) = gate();
    let router = FakeRouter::start(&QUEUES, hook);
    let worker = start(&router.url());
    worker.set_rate(order(1, Download, 10, false));
    router.next_write(); // in flight now
    worker.set_rate(order(2, Download, 20, false));
    worker.set_rate(order(3, Upload, 5, true));
    for _ in 0..3 {
        open.send(()).unwrap();
    }
    assert_eq!(router.next_write().0, "/rest/queue/tree/*2");
    assert_eq!(router.next_write().0, "/rest/queue/tree/*1");
    assert_eq!(replies(&worker, 3).iter().map(|reply| reply.0).collect::<Vec<_>>(), [1, 3, 2]);
}

#[test]
fn queue_that_was_made_anew_is_looked_up_again() {
    let router = FakeRouter::start(&QUEUES, |_| Answer::Healthy);
    let worker = start(&router.url());
    wait_until(&worker, |status| matches!(status, BackendStatus::Ready { .. }));
    "*77".clone_into(&mut router.tree.lock().unwrap()[0].0);
    let _ = router.methods_seen();
    worker.set_rate(order(1, Download, 20, true));
    assert_eq!(replies(&worker, 1), [(1, applied(20))]);
    let seen: Vec<_> = router.seen.try_iter().map(|r| (r.method, r.path)).collect();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(seen[2].1, "/rest/queue/tree/*77");
}

#[test]
fn queue_under_another_name_is_looked_up_again() {
    let router = FakeRouter::start(&QUEUES, |_| Answer::Healthy);
    let worker = start(&router.url());
    wait_until(&worker, |status| matches!(status, BackendStatus::Ready { .. }));
    *router.tree.lock().unwrap() = vec![
        ("*1".to_owned(), "guest".to_owned(), "1".to_owned()),
        ("*5".to_owned(), "down".to_owned(), "1".to_owned()),
    ];
    worker.set_rate(order(1, Download, 20, true));
    assert_eq!(replies(&worker, 1), [(1, applied(20))]);
    assert_eq!(router.tree.lock().unwrap()[1].2, "20000000");
}

#[test]
fn router_that_comes_up_later_gets_the_latest_order_only() {
    // An address of its own, so that no other test takes the port meanwhile.
    let listener = TcpListener::bind("127.0.0.77:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let worker = start(&format!("http://{address}"));
    wait_until(&worker, |status| matches!(status, BackendStatus::Failing { .. }));
    worker.set_rate(order(1, Download, 10, false));
    worker.set_rate(order(2, Download, 20, false));
    assert_eq!(worker.fatal(), None);
    let listener = TcpListener::bind(address).unwrap();
    let plain = Arc::new(|stream| -> Box<dyn server::ReadWrite> { Box::new(stream) });
    let router = FakeRouter::serve(listener, &QUEUES, Arc::new(|_| Answer::Healthy), plain);
    assert_eq!(replies(&worker, 2), [(1, Outcome::Superseded), (2, applied(20))]);
    assert_eq!(mbps_of(&router.next_write()), 20);
    wait_until(&worker, |status| matches!(status, BackendStatus::Ready { .. }));
}

/// A router that refuses writes in this way while `is_bad`.
fn moody(is_bad: &Arc<Mutex<bool>>, status: u16, body: &'static str) -> FakeRouter {
    let is_bad = Arc::clone(is_bad);
    FakeRouter::start(&QUEUES, move |request| {
        let refuses = request.method == "PATCH" && *is_bad.lock().unwrap();
        if refuses { Answer::Status(status, body.to_owned()) } else { Answer::Healthy }
    })
}

#[test]
fn failed_write_is_answered_and_the_next_one_works() {
    let is_bad = Arc::new(Mutex::new(true));
    let router = moody(&is_bad, 503, "busy");
    let worker = start(&router.url());
    worker.set_rate(order(1, Download, 10, false));
    assert_eq!(replies(&worker, 1), [(1, Outcome::Failed)]);
    wait_until(&worker, |status| matches!(status, BackendStatus::Failing { .. }));
    *is_bad.lock().unwrap() = false;
    worker.set_rate(order(2, Download, 10, false));
    assert_eq!(replies(&worker, 1), [(2, applied(10))]);
    assert!(matches!(worker.status(), BackendStatus::Ready { .. }));
    assert_eq!(worker.counters().failures, 1);
}

#[test]
fn refused_login_of_a_running_worker_is_not_fatal() {
    let is_bad = Arc::new(Mutex::new(false));
    let router = moody(&is_bad, 401, "{}");
    let worker = start(&router.url());
    worker.set_rate(order(1, Download, 10, false));
    assert_eq!(replies(&worker, 1), [(1, applied(10))]);
    *is_bad.lock().unwrap() = true;
    worker.set_rate(order(2, Download, 20, false));
    assert_eq!(replies(&worker, 1), [(2, Outcome::Failed)]);
    *is_bad.lock().unwrap() = false;
    worker.set_rate(order(3, Download, 30, false));
    assert_eq!(replies(&worker, 1), [(3, applied(30))]);
    assert_eq!(worker.fatal(), None);
}

#[test]
fn missing_permission_at_the_first_write_is_fatal() {
    let is_bad = Arc::new(Mutex::new(true));
    let router = moody(&is_bad, 500, r#"{"detail":"not enough permissions (9)"}"#);
    let worker = start(&router.url());
    wait_until(&worker, |status| {
        // The core gives it again as long as it fails.
        worker.set_rate(order(1, Download, 10, false));
        matches!(status, BackendStatus::Failed { .. })
    });
    assert_eq!(worker.fatal().unwrap().reason, ExitReason::RouterPermission);
}

#[test]
fn finish_writes_the_final_rates_after_the_request_in_flight() {
    let (open, hook) = gate();
    let router = FakeRouter::start(&QUEUES, hook);
    let worker = start(&router.url());
    worker.set_rate(order(1, Download, 10, false));
    router.next_write(); // in flight now
    for _ in 0..3 {
        open.send(()).unwrap();
    }
    let rates = [(Download, 50), (Upload, 15)]
        .map(|(direction, mbps)| (WanId(0), direction, BitsPerSecond::from_mbps(mbps)));
    let report = worker.finish(rates.to_vec(), Instant::now() + AMPLE);
    assert_eq!((report.confirmed, report.timed_out), (rates.to_vec(), false));
    assert_eq!(report.unconfirmed, []);
    let limits: Vec<_> = router.tree.lock().unwrap().iter().map(|queue| queue.2.clone()).collect();
    assert_eq!(limits, ["50000000", "15000000"]);
}

#[test]
fn finish_repeats_a_final_rate_that_failed() {
    let failures = Arc::new(Mutex::new(1));
    let router = FakeRouter::start(&QUEUES, move |request| {
        let mut failures = failures.lock().unwrap();
        if request.method == "PATCH" && *failures > 0 {
            *failures -= 1;
            return Answer::Status(503, String::new());
        }
        Answer::Healthy
    });
    let worker = start(&router.url());
    let last = (WanId(0), Upload, BitsPerSecond::from_mbps(9));
    let report = worker.finish(vec![last], Instant::now() + AMPLE);
    assert_eq!(report.confirmed, [last]);
}

#[test]
fn finish_without_final_rates_writes_nothing() {
    let router = FakeRouter::start(&QUEUES, |_| Answer::Healthy);
    let worker = start(&router.url());
    wait_until(&worker, |status| matches!(status, BackendStatus::Ready { .. }));
    assert!(!worker.finish(Vec::new(), Instant::now() + AMPLE).timed_out);
    assert!(!router.methods_seen().contains(&"PATCH".to_owned()));
}

#[test]
fn finish_leaves_a_router_that_never_answers_at_the_deadline() {
    let router = FakeRouter::start(&QUEUES, |request| match request.method.as_str() {
        "PATCH" => Answer::Silence,
        _ => Answer::Healthy,
    });
    let worker = start(&router.url());
    worker.set_rate(order(1, Download, 10, false));
    router.next_write(); // in flight for ever
    let last = (WanId(0), Download, BitsPerSecond::from_mbps(9));
    let report = worker.finish(vec![last], Instant::now() + Duration::from_millis(50));
    assert!(report.timed_out);
    assert_eq!(report.unconfirmed, [last]);
    assert_eq!(router.methods_seen(), [""; 0], "nothing follows a request in flight");
}
