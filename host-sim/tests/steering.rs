//! Steering, end to end: the built `wanctl`, two lines, an emulated router with mangle rules.

mod common;

use std::net::TcpListener;

use common::{Bench, Daemon, PASSWORD, PATIENCE, SECOND_WAN, pings_or_skip};
use wanctl::exit::ExitReason;
use wanctl_sim::demo::USER;
use wanctl_sim::link::{CapacitySchedule, Direction};
use wanctl_sim::netns::{Namespace, PacketLink, PacketLinkOptions, REFLECTORS, usable_or_skip};
use wanctl_sim::routeros::{
    Emulator, EmulatorOptions, Listeners, MenuName, Properties, RequestRecord, Router,
    RouterOptions, User, properties_of,
};

/// The comment of the rule that sends traffic to the alternate. Its characters are those that some
/// routers' filters stumble over.
const COMMENT: &str = "wanctl: latency -> dsl (50%)";
/// What every packet passes at once.
const FAST_BPS: u64 = 50_000_000;
/// Just enough for the pings: each takes some 40 ms to pass.
const SLOW_BPS: u64 = 10_000;

/// Times short enough to wait for.
const STEERING: &str = r#"
[steering]
rules = { dsl = "wanctl: latency -> dsl (50%)" }
on-after = "500ms"
off-after = "500ms"
hold-down = "500ms"
delay-time-constant = "100ms"
thresholds = { severe-delay = "15ms" }
"#;

fn rule(comment: &str, disabled: &str) -> Properties {
    properties_of(&[
        ("action", "mark-connection"),
        ("chain", "prerouting"),
        ("comment", comment),
        ("connection-state", "new"),
        ("disabled", disabled),
        ("new-connection-mark", "via-dsl"),
        ("passthrough", "yes"),
    ])
}

/// A router with the queues of both WANs, some rules, and nobody's steering rule.
fn router() -> RouterOptions {
    RouterOptions::default()
        .with_queue("DSL-Download", "ether3", "cake-down", 50_000_000)
        .with_queue("DSL-Upload", "ether2", "cake-up", 10_000_000)
        .with_users(vec![User::full(USER, PASSWORD)])
}

/// Replaces the only WAN's reflectors and adds the second one.
fn configure(bench: &Bench, primary_reflector: &str) {
    bench.edit(
        "reflectors = [\"127.0.0.1\", \"127.0.0.2\", \"127.0.0.3\"]",
        &format!("reflectors = [\"{primary_reflector}\"]"),
    );
    bench.write_file("wanctl.toml", &(bench.config_text() + SECOND_WAN + STEERING));
}

fn is_on(router: &Router) -> bool {
    let rules = router.rows(MenuName::Mangle);
    let mut ours = rules.iter().filter(|rule| rule.get("comment").is_some_and(|c| c == COMMENT));
    let rule = ours.next().expect("the rule is there");
    rule.get("disabled").is_some_and(|disabled| disabled == "false")
}

/// Waits until the rule is on, or off.
#[track_caller]
fn wait_for_rule(emulator: &Emulator, daemon: &Daemon, on: bool) {
    let is_so = emulator.wait_until(PATIENCE, |view| is_on(view.router) == on);
    assert!(is_so, "the rule is not {on}: {:#?}", daemon.process.lines());
}

fn switches(emulator: &Emulator) -> usize {
    let requests = emulator.requests();
    let is_switch = |r: &RequestRecord| match r.method.as_str() {
        "PATCH" => r.path.starts_with("/rest/ip/firewall/mangle/"),
        "API" => r.path == "/ip/firewall/mangle/set",
        _ => false,
    };
    requests.iter().filter(|r| is_switch(r)).count()
}

#[test]
fn the_rule_follows_the_primary_and_is_off_at_the_end() {
    if usable_or_skip("the_rule_follows_the_primary_and_is_off_at_the_end") {
        follow_the_primary("wctl-steer", "wctl-sinet", false);
    }
}

#[test]
fn over_the_api_the_rule_follows_the_primary_as_well() {
    if usable_or_skip("over_the_api_the_rule_follows_the_primary_as_well") {
        follow_the_primary("wctl-asteer", "wctl-asinet", true);
    }
}

fn follow_the_primary(lan: &str, internet: &str, over_api: bool) {
    let (lan, internet) = (
        Namespace::create(lan).expect("a namespace"),
        Namespace::create(internet).expect("a namespace"),
    );
    let constant = CapacitySchedule::constant(FAST_BPS);
    let options = PacketLinkOptions::new(constant.clone(), constant);
    let link = PacketLink::start(&lan, &internet, options).expect("a line");
    let listen = || {
        let listener = lan.run(|| TcpListener::bind("127.0.0.1:0")).expect("the namespace is ours");
        Some(listener.expect("a free port"))
    };
    let options = EmulatorOptions { router: router(), ..Default::default() };
    let listeners = Listeners { https: listen(), api_ssl: listen(), ..Listeners::default() };
    let emulator = Emulator::start_with(&options, listeners).expect("the emulator starts");
    // Somebody left it on.
    let left_on = rule(COMMENT, "false");
    emulator.with_router(|router| router.insert_unchecked(MenuName::Mangle, left_on));
    let bench = Bench::around(emulator);
    configure(&bench, &REFLECTORS[0].to_string());
    if over_api {
        bench.over_api();
    }

    let program = common::wanctl_binary().to_str().expect("the path is UTF-8");
    let mut command = lan.command(program);
    command.args(["run", "--log-level", "debug", "--config"]).arg(bench.files.config());
    let daemon = Daemon::start(&mut command);
    let emulator = &bench.emulator;

    wait_for_rule(emulator, &daemon, false);
    daemon.wait_for("first confirmation", 0, |line| line.contains("sends traffic to the primary"));
    daemon.wait_for("both lines", 0, |line| line.contains("-> LIVE"));
    let quiet = switches(emulator);
    assert_eq!(quiet, 1, "only what somebody left on is switched");

    link.set_capacity(Direction::Download, SLOW_BPS);
    wait_for_rule(emulator, &daemon, true);
    let (steered, _) =
        daemon.wait_for("confirmation", 0, |line| line.contains("sends traffic to dsl after"));

    link.set_capacity(Direction::Download, FAST_BPS);
    wait_for_rule(emulator, &daemon, false);
    daemon.wait_for("confirmation", steered, |line| line.contains("sends traffic to the primary"));
    assert_eq!(switches(emulator), quiet + 2, "one write each way");

    // An outage steers as well, and the end does not leave it so.
    link.set_capacity(Direction::Download, 0);
    wait_for_rule(emulator, &daemon, true);
    daemon
        .wait_for("status", steered, |line| line.contains("; steering to dsl, cable OUTAGE score"));
    let ended = daemon.terminate();
    ended.expect(
        0,
        &[
            "traffic to dsl, RED for too long; primary RED delay +",
            "traffic back from dsl, GREEN for long enough; primary GREEN delay ",
            "the primary carries nothing",
            "steering is off",
        ],
    );
    assert!(!emulator.with_router(|router| is_on(router)), "{}", ended.text);
}

fn bench_with_rules(rules: &[Properties]) -> Bench {
    let options = EmulatorOptions { router: router(), ..Default::default() };
    let bench = Bench::around(Emulator::start(&options).expect("the emulator starts"));
    for rule in rules {
        let rule = rule.clone();
        bench.emulator.with_router(|router| router.insert_unchecked(MenuName::Mangle, rule));
    }
    configure(&bench, "127.0.0.1");
    bench
}

/// `run` and `check --router` say the same, and nothing was written.
#[track_caller]
fn expect_refused(bench: &Bench, reason: ExitReason, pieces: &[&str]) {
    bench.check(&[]).expect(0, &["good"]);
    bench.run().expect(reason.code(), pieces);
    bench.check(&["--router"]).expect(reason.code(), pieces);
    assert_eq!(bench.emulator.writes(), []);
    assert_eq!(switches(&bench.emulator), 0);
}

#[test]
fn a_rule_that_does_not_exist_is_refused_with_the_comments_that_do() {
    if !pings_or_skip("a_rule_that_does_not_exist_is_refused_with_the_comments_that_do") {
        return;
    }
    let bench = bench_with_rules(&[rule("wanctl: latency -> lte", "true")]);
    let pieces = [
        "no rule with the comment \"wanctl: latency -> dsl (50%)\"",
        "the comments there are ADAPTIVE: steer, wanctl: latency -> lte",
    ];
    expect_refused(&bench, ExitReason::RuleMissing, &pieces);
}

#[test]
fn two_rules_of_one_comment_are_refused_with_what_tells_them_apart() {
    if !pings_or_skip("two_rules_of_one_comment_are_refused_with_what_tells_them_apart") {
        return;
    }
    let bench = bench_with_rules(&[rule(COMMENT, "true"), rule(COMMENT, "false")]);
    let pieces = [
        "2 mangle rules with the comment \"wanctl: latency -> dsl (50%)\"",
        "(*3 prerouting mark-connection, *4 prerouting mark-connection)",
        "give all but one another comment",
    ];
    expect_refused(&bench, ExitReason::RuleAmbiguous, &pieces);
}

#[test]
fn a_check_of_the_router_names_the_rule_and_its_state() {
    let bench = bench_with_rules(&[rule(COMMENT, "true")]);
    let line = "steering to dsl: prerouting rule \"wanctl: latency -> dsl (50%)\" \
                (mark-connection), now off";
    // This router has no rule that routes what it marks.
    let warning = "no rule routes the connections marked via-dsl";
    bench.check(&["--router"]).expect(ExitReason::RouterWeak.code(), &[line, warning]);
}

#[test]
fn a_dry_run_looks_for_the_rule_and_leaves_it_alone() {
    if !pings_or_skip("a_dry_run_looks_for_the_rule_and_leaves_it_alone") {
        return;
    }
    let bench = bench_with_rules(&[rule(COMMENT, "false")]);
    bench.edit("[steering]", "[steering]\ndry-run = true");
    let daemon = bench.start();
    daemon.wait_for("rule", 0, |line| line.contains("steering rule found"));
    daemon.wait_for("rates", 0, |line| line.contains("the router holds"));
    daemon
        .terminate()
        .expect(0, &["ended: the router keeps its rates"])
        .expect_not("steering is off");
    assert!(bench.emulator.with_router(|router| is_on(router)));
    assert_eq!(switches(&bench.emulator), 0);
}

#[test]
fn a_rule_that_disappeared_is_reported_at_the_end() {
    if !pings_or_skip("a_rule_that_disappeared_is_reported_at_the_end") {
        return;
    }
    let bench = bench_with_rules(&[rule(COMMENT, "true")]);
    let daemon = bench.start();
    daemon.wait_for("start", 0, |line| line.contains("sends traffic to the primary"));
    bench.emulator.with_router(|router| router.remove_unchecked(MenuName::Mangle, "*3"));
    let ended = daemon.terminate();
    ended.expect(0, &["steering is not confirmed off", "no rule with the comment"]);
}

#[test]
fn a_rule_that_somebody_switched_meanwhile_is_switched_back_after_a_reconnection() {
    let test = "a_rule_that_somebody_switched_meanwhile_is_switched_back_after_a_reconnection";
    if !pings_or_skip(test) {
        return;
    }
    let bench = bench_with_rules(&[rule(COMMENT, "true")]);
    let daemon = bench.start();
    let (line, _) =
        daemon.wait_for("start", 0, |line| line.contains("sends traffic to the primary"));
    bench.emulator.power_off();
    daemon.wait_for("failure", line, |line| line.contains("the router fails"));
    let switch = |router: &mut Router| {
        router.set_unchecked(MenuName::Mangle, COMMENT, "disabled", Some("false"))
    };
    assert!(bench.emulator.with_router(switch));
    bench.emulator.power_on().expect("the port is still free");
    let text = "WARN somebody else switched the steering rule, switching it back";
    daemon.wait_for("the correction", line, |line| line.contains(text));
    let is_off = bench.emulator.wait_until(PATIENCE, |view| !is_on(view.router));
    assert!(is_off, "still on: {:#?}", daemon.process.lines());
    daemon.terminate().expect(0, &["steering is off"]);
}
