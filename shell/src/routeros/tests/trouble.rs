//! A queue that cannot be written beside others that can.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use wanctl_core::tick::Outcome;
use wanctl_core::units::{BitsPerSecond, Direction, PerDirection, WanId};

use super::super::{RouterOs, SteeringRules};
use super::client;
use super::server::{Answer, FakeRouter};
use super::worker::{QUEUES, applied, order, replies, wait_until};
use crate::shaping::{BackendStatus, Complaint, Worker};
use Direction::{Download, Upload};

fn start(url: &str, look_interval: Duration) -> Worker {
    let queues = PerDirection { download: "down".to_owned(), upload: "up".to_owned() };
    let steering = SteeringRules::default();
    Worker::start(RouterOs::new(client(url), vec![queues], steering, look_interval)).unwrap()
}

/// The paths of the writes seen so far.
fn writes(router: &FakeRouter) -> Vec<String> {
    let writes = router.seen.try_iter().filter(|request| request.method == "PATCH");
    writes.map(|write| write.path.rsplit('*').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_queue_that_refuses_its_rate_does_not_keep_the_others_from_theirs() {
    // As RouterOS does below `limit-at`.
    let refuses = Arc::new(Mutex::new(true));
    let is_bad = Arc::clone(&refuses);
    let router = FakeRouter::start(&QUEUES, move |request| {
        let is_refused = request.path.ends_with("*2") && *is_bad.lock().unwrap();
        let detail = r#"{"error":400,"detail":"failure: max-limit below limit-at"}"#;
        if is_refused { Answer::Status(400, detail.to_owned()) } else { Answer::Healthy }
    });
    let worker = start(&router.url(), Duration::from_secs(3600));
    worker.set_rate(order(1, Download, 20, true));
    assert_eq!(replies(&worker, 1), [(1, applied(20))]);
    for id in 2..4 {
        worker.set_rate(order(id, Upload, 1, true));
        assert_eq!(replies(&worker, 1), [(id, Outcome::Failed)]);
    }
    writes(&router);
    // The core gives a failed order again at once; it waits now, and is older and a cut.
    worker.set_rate(order(4, Upload, 1, true));
    worker.set_rate(order(5, Download, 30, false));
    assert_eq!(replies(&worker, 2), [(5, applied(30)), (4, Outcome::Failed)]);
    assert_eq!(writes(&router), ["1", "2"]);
    assert!(
        matches!(worker.status(), BackendStatus::Failing { error, .. } if error.contains("limit-at")),
        "{:?}",
        worker.status()
    );
    *refuses.lock().unwrap() = false;
    worker.set_rate(order(6, Upload, 2, false));
    assert_eq!(replies(&worker, 1), [(6, applied(2))]);
    assert!(matches!(worker.status(), BackendStatus::Ready { .. }));
}

#[test]
fn a_queue_that_comes_back_is_written_with_the_next_look() {
    let router = FakeRouter::start(&QUEUES, |_| Answer::Healthy);
    let worker = start(&router.url(), Duration::from_millis(20));
    worker.set_rate(order(1, Upload, 20, true));
    assert_eq!(replies(&worker, 1), [(1, applied(20))]);
    let up = router.tree.lock().unwrap().pop().unwrap();
    for id in 2..5 {
        worker.set_rate(order(id, Upload, 5, true));
        assert_eq!(replies(&worker, 1), [(id, Outcome::Failed)]);
    }
    wait_until(&worker, |status| matches!(status, BackendStatus::Failing { .. }));
    worker.set_rate(order(5, Upload, 5, true));
    router.tree.lock().unwrap().push(up);
    let before = worker.counters().requests;
    assert_eq!(replies(&worker, 1), [(5, applied(5))]);
    // One look that was under way, the one that finds it, the write. Its rest is a hundred looks long.
    let requests = worker.counters().requests - before;
    assert!(requests <= 10, "{requests}");
    assert!(matches!(worker.status(), BackendStatus::Ready { .. }));
}

#[test]
fn a_missing_queue_leaves_the_status_failing_while_looks_succeed() {
    let router = FakeRouter::start(&QUEUES, |_| Answer::Healthy);
    let worker = start(&router.url(), Duration::from_millis(20));
    worker.set_rate(order(1, Download, 20, true));
    assert_eq!(replies(&worker, 1), [(1, applied(20))]);
    router.tree.lock().unwrap().pop();
    worker.set_rate(order(2, Upload, 5, true));
    assert_eq!(replies(&worker, 1), [(2, Outcome::Failed)]);
    let looks = worker.counters().requests;
    while worker.counters().requests < looks + 5 {
        std::thread::yield_now();
    }
    worker.set_rate(order(3, Download, 30, false));
    assert_eq!(replies(&worker, 1), [(3, applied(30))]);
    let status = worker.status();
    assert!(matches!(&status, BackendStatus::Failing { error, .. } if error.contains("\"up\"")));
    let last = [(Download, 50), (Upload, 9)]
        .map(|(direction, mbps)| (WanId(0), direction, BitsPerSecond::from_mbps(mbps)));
    let report = worker.finish(last.to_vec(), Instant::now() + Duration::from_secs(30));
    assert_eq!((report.confirmed, report.unconfirmed), (vec![last[0]], vec![last[1]]));
}

#[test]
fn a_queue_that_does_not_shape_is_told_of_although_nothing_has_to_be_written() {
    let router = FakeRouter::start(&QUEUES, |_| Answer::Healthy);
    let worker = start(&router.url(), Duration::from_millis(20));
    worker.set_rate(order(1, Download, 20, true));
    assert_eq!(replies(&worker, 1), [(1, applied(20))]);
    assert_eq!(worker.view().complaints(), []);
    let up = router.tree.lock().unwrap().pop().unwrap();
    while worker.view().complaints().is_empty() {
        std::thread::yield_now();
    }
    let gone = Complaint { text: "queue \"up\" is gone".to_owned(), is_serious: true };
    assert_eq!(worker.view().complaints(), [gone]);
    assert!(worker.view().to_string().ends_with("ready, queue \"up\" is gone"));
    router.tree.lock().unwrap().push(up);
    while !worker.view().complaints().is_empty() {
        std::thread::yield_now();
    }
}
