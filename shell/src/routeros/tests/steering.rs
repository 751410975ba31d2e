//! Mangle rules: found by comment, switched, read back; and the worker between cuts and raises.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wanctl_core::tick::Tick;
use wanctl_core::units::{BitsPerSecond, CommandId, Direction, PerDirection, WanId};

use super::super::{RouterError, RouterOs, SteeringRule, SteeringRules};
use super::server::{Answer, FakeRouter, Request};
use super::*;
use crate::shaping::{RateOrder, SteeringOrder, Worker};

const QUEUES: [(&str, &str); 2] = [("*1", "down"), ("*2", "up")];
/// Far more than any of these tests needs.
const AMPLE: Duration = Duration::from_secs(30);

/// A rule: id, comment, whether it is disabled.
type Rule = (&'static str, &'static str, bool);
type Rules = Arc<Mutex<Vec<Rule>>>;

fn rules(list: &[Rule]) -> Rules {
    Arc::new(Mutex::new(list.to_vec()))
}

fn record(&(id, comment, disabled): &Rule) -> Value {
    // As RouterOS does: every value is a text.
    json!({ ".id": id, "comment": comment, "chain": "prerouting", "action": "mark-connection",
            "disabled": disabled.to_string() })
}

/// Answers requests about mangle rules; `obeys` tells whether switching has an effect.
fn answer(rules: &Rules, request: &Request, obeys: bool) -> Answer {
    let Some(rest) = request.path.strip_prefix("/rest/ip/firewall/mangle") else {
        return Answer::Healthy;
    };
    let mut rules = rules.lock().unwrap();
    let Some(id) = rest.strip_prefix('/') else {
        return Answer::Status(
            200,
            json!(rules.iter().map(record).collect::<Vec<_>>()).to_string(),
        );
    };
    let Some(rule) = rules.iter_mut().find(|rule| rule.0 == id) else {
        return Answer::Status(404, json!({ "error": 404, "message": "Not Found" }).to_string());
    };
    if request.method == "PATCH" && obeys {
        rule.2 = request.body.contains("true");
    }
    Answer::Status(200, record(rule).to_string())
}

fn router(rules: &Rules) -> FakeRouter {
    let rules = Arc::clone(rules);
    FakeRouter::start(&QUEUES, move |request| answer(&rules, request, true))
}

#[test]
fn a_rule_is_found_by_its_exact_comment() {
    let rules = rules(&[("*1", "to LTE", true), ("*2", "to LTE (old)", false), ("*3", "", false)]);
    let router = router(&rules);
    let rule = client(&router.url()).find_rule("to LTE").unwrap();
    assert_eq!(
        (rule.id.as_str(), rule.disabled, rule.action.as_str()),
        ("*1", true, "mark-connection")
    );
    let error = client(&router.url()).find_rule("to lte").unwrap_err();
    let existing = vec!["to LTE".to_owned(), "to LTE (old)".to_owned()];
    assert_eq!(error, RouterError::NoSuchRule { comment: "to lte".to_owned(), existing });
    assert!(error.is_fatal());
}

#[test]
fn a_rule_that_is_as_it_should_be_is_not_written() {
    let rules = rules(&[("*1", "to LTE", true)]);
    let router = router(&rules);
    client(&router.url()).switch_rule("*1", "to LTE", false).unwrap();
    assert_eq!(router.methods_seen(), ["GET"]);
    client(&router.url()).switch_rule("*1", "to LTE", true).unwrap();
    assert_eq!(router.methods_seen(), ["GET", "PATCH", "GET"]);
    assert!(!rules.lock().unwrap()[0].2);
}

#[test]
fn switching_without_an_effect_is_noticed() {
    let rules = rules(&[("*1", "to LTE", true)]);
    let router = FakeRouter::start(&QUEUES, move |request| answer(&rules, request, false));
    let error = client(&router.url()).switch_rule("*1", "to LTE", true).unwrap_err();
    assert_eq!(error, RouterError::RuleUnchanged { comment: "to LTE".to_owned() });
}

#[test]
fn an_id_that_is_another_rule_s_is_not_switched() {
    let rules = rules(&[("*1", "accept", false)]);
    let router = router(&rules);
    let error = client(&router.url()).switch_rule("*1", "to LTE", true).unwrap_err();
    assert!(error.is_stale_id(), "{error}");
    assert_eq!(router.methods_seen(), ["GET"]);
}

/// A worker with a rule for each of two alternates.
fn start(url: &str) -> Worker {
    start_looking(url, Duration::from_secs(3600))
}

/// One that looks at the rules so often.
fn start_looking(url: &str, look_interval: Duration) -> Worker {
    let queues = PerDirection { download: "down".to_owned(), upload: "up".to_owned() };
    let rule = |wan, comment: &str| SteeringRule { wan: WanId(wan), comment: comment.to_owned() };
    let rules = vec![rule(1, "to DSL"), rule(2, "to LTE")];
    let steering = SteeringRules { rules, dry_run: false, look_interval };
    Worker::start(RouterOs::new(client(url), vec![queues], steering, Duration::from_secs(3600)))
        .unwrap()
}

/// Waits for the next reply to a steering order.
fn reply(worker: &Worker) -> (u32, bool) {
    let begin = Instant::now();
    let mut tick = Tick::new(embassy_time::Instant::MIN);
    while tick.steering_replies.is_empty() {
        assert!(begin.elapsed() < AMPLE, "no reply: {}", worker.status());
        worker.drain(&mut tick);
        std::thread::yield_now();
    }
    (tick.steering_replies[0].id.0, tick.steering_replies[0].succeeded)
}

fn order(id: u32, to: Option<u8>) -> SteeringOrder {
    SteeringOrder { id: CommandId(id), to: to.map(WanId) }
}

#[test]
fn one_rule_at_most_is_on_and_none_is_at_the_end() {
    let rules = rules(&[("*1", "to DSL", false), ("*2", "to LTE", true)]);
    let router = router(&rules);
    let worker = start(&router.url());
    let states = || rules.lock().unwrap().iter().map(|rule| !rule.2).collect::<Vec<_>>();
    worker.steer(order(1, Some(2)));
    assert_eq!(reply(&worker), (1, true));
    assert_eq!(states(), [false, true]);
    worker.steer(order(2, Some(1)));
    assert_eq!(reply(&worker), (2, true));
    assert_eq!(states(), [true, false]);
    let writes = |request: &Request| (request.method == "PATCH").then(|| request.body.clone());
    let bodies: Vec<String> = router.seen.try_iter().filter_map(|r| writes(&r)).collect();
    let (on, off) = (r#"{"disabled":"false"}"#, r#"{"disabled":"true"}"#);
    assert_eq!(bodies, [off, on, off, on], "off before on");
    let report = worker.finish(Vec::new(), Instant::now() + AMPLE);
    assert_eq!(report.steering_off, Some(true));
    assert_eq!(report.to_string(), "the router keeps its rates; steering is off");
    assert_eq!(states(), [false, false]);
}

#[test]
fn a_rule_that_was_made_again_is_found_again() {
    let rules = rules(&[("*1", "to DSL", true), ("*2", "to LTE", true)]);
    let router = router(&rules);
    let worker = start(&router.url());
    worker.steer(order(1, None));
    assert_eq!(reply(&worker), (1, true));
    rules.lock().unwrap()[1].0 = "*7";
    worker.steer(order(2, Some(2)));
    assert_eq!(reply(&worker), (2, true));
    assert!(!rules.lock().unwrap()[1].2);
}

#[test]
fn a_rule_that_is_gone_fails_the_order_and_leaves_the_shapers_at_work() {
    let rules = rules(&[("*1", "to DSL", true), ("*2", "to LTE", true)]);
    let router = router(&rules);
    let worker = start(&router.url());
    let rate = BitsPerSecond::from_mbps(25);
    let (wan, direction) = (WanId(0), Direction::Download);
    worker.set_rate(RateOrder { id: CommandId(1), wan, direction, rate, is_cut: true });
    router.next_write();
    rules.lock().unwrap().pop();
    for id in 2..12 {
        worker.steer(order(id, Some(2)));
        assert_eq!(reply(&worker), (id, false));
    }
    // Ten failures with pauses would take minutes.
    worker.set_rate(RateOrder { id: CommandId(20), wan, direction, rate, is_cut: true });
    assert_eq!(router.next_write().0, "/rest/queue/tree/*1");
    assert!(worker.fatal().is_none());
    // Without waiting for a look at the rules: each order puts that off.
    let complaints: Vec<_> = worker.view().complaints().into_iter().map(|it| it.text).collect();
    assert_eq!(complaints, ["mangle rule \"to LTE\" is gone"]);
}

/// Waits until the worker has brought something about.
fn wait_for(worker: &Worker, what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < AMPLE, "{what} never happens: {}", worker.status());
        std::thread::yield_now();
    }
}

/// A worker that has switched the first rule on and looks at the rules all the time.
fn steering_to_dsl(rules: &Rules) -> (FakeRouter, Worker) {
    let router = router(rules);
    let worker = start_looking(&router.url(), Duration::from_millis(30));
    worker.steer(SteeringOrder { id: CommandId(1), to: Some(WanId(1)) });
    assert_eq!(reply(&worker), (1, true));
    (router, worker)
}

/// The rules `to DSL` and `to LTE`: whether they are on.
fn on(rules: &Rules) -> [bool; 2] {
    let rules = rules.lock().unwrap();
    ["to DSL", "to LTE"].map(|comment| {
        let mut found = rules.iter().filter(|rule| rule.1 == comment);
        found.next().is_some_and(|rule| !rule.2)
    })
}

#[test]
fn a_rule_that_somebody_else_switched_is_switched_back() {
    let rules = rules(&[("*1", "to DSL", true), ("*2", "to LTE", true)]);
    let (_router, worker) = steering_to_dsl(&rules);
    for rule in [0, 1] {
        rules.lock().unwrap()[rule].2 ^= true;
        wait_for(&worker, "the correction", || on(&rules) == [true, false]);
    }
    assert_eq!(worker.view().disputed(), [""; 0]);
}

#[test]
fn after_three_corrections_a_rule_is_left_alone_but_for_decisions() {
    let rules = rules(&[("*1", "to DSL", true), ("*2", "to LTE", true)]);
    let (router, worker) = steering_to_dsl(&rules);
    for _ in 0..3 {
        rules.lock().unwrap()[0].2 = true;
        wait_for(&worker, "the correction", || on(&rules) == [true, false]);
    }
    rules.lock().unwrap()[0].2 = true;
    wait_for(&worker, "the end of the fight", || !worker.view().disputed().is_empty());
    assert_eq!(worker.view().disputed(), ["mangle rule \"to DSL\""]);
    // Some looks later it is still theirs.
    let _: Vec<_> = router.seen.try_iter().collect();
    let is_look = |request: &Request| request.path.contains("mangle?");
    assert_eq!(router.seen.iter().filter(is_look).take(5).count(), 5);
    assert_eq!(on(&rules), [false, false]);
    worker.steer(SteeringOrder { id: CommandId(2), to: Some(WanId(1)) });
    assert_eq!(reply(&worker), (2, true));
    assert_eq!(on(&rules), [true, false]);
}

#[test]
fn a_rule_that_was_removed_and_made_again_is_found_and_switched() {
    let rules = rules(&[("*1", "to DSL", true), ("*2", "to LTE", true)]);
    let (_router, worker) = steering_to_dsl(&rules);
    rules.lock().unwrap()[0] = ("*9", "to DSL", true);
    wait_for(&worker, "the correction", || on(&rules) == [true, false]);
}

#[test]
fn of_two_rules_with_one_comment_neither_is_switched_back() {
    let rules = rules(&[("*1", "to DSL", true), ("*2", "to LTE", true)]);
    let (router, worker) = steering_to_dsl(&rules);
    *rules.lock().unwrap() =
        vec![("*1", "to DSL", true), ("*2", "to LTE", true), ("*3", "to DSL", true)];
    let _: Vec<_> = router.seen.try_iter().collect();
    let requests: Vec<Request> = router.seen.iter().take(5).collect();
    assert!(requests.iter().all(|request| request.method == "GET"));
    drop(worker);
}
