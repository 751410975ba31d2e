//! All faults, what the daemon does about each, and what its log says: the text of `docs/faults.md`.

use wanctl::exit::ExitReason;
use wanctl_sim::demo::QUEUES;

use super::common::{Bench, Daemon, PATIENCE};
use super::run::{COMMENT, FLOW_BPS, Scene, Step, When, abandon_a_request, wait_for_requests};

/// One fault.
pub(crate) struct Row {
    /// What happens at the router.
    pub(crate) happens: &'static str,
    /// What the daemon does.
    pub(crate) does: &'static str,
    /// How it recovers.
    pub(crate) recovers: &'static str,
    pub(crate) steps: &'static [Step],
}

/// Status lines whose rates are looked at, two in each.
const STATUS_LINES: usize = 5;

const FAILS: &str = "WARN the router fails, trying again";
const WORKS: &str = "INFO the router works again";
const FOUND: &str = "INFO router found";
const BLIND: &str = "WARN the queues cannot be read, going on without their counters";
const SEES: &str = "INFO the queues can be read again";
const GONE: &str = "WARN the queue is gone";
const WELL: &str = "INFO the queue is well again";
const FOREIGN: &str = "WARN somebody else changed the shaper rate, writing ours again";
const CLOSED: &str = "closed without an answer";

const fn step(
    when: When,
    fault: &'static str,
    says: &'static [&'static str],
    then: &'static [&'static str],
) -> Step {
    Step { fault, when, scene: Scene::Idle, says, then, settles: true, ends: &[], check: |_, _| {} }
}

const fn running(
    fault: &'static str,
    says: &'static [&'static str],
    then: &'static [&'static str],
) -> Step {
    step(When::Running, fault, says, then)
}

const fn start(
    fault: &'static str,
    says: &'static [&'static str],
    then: &'static [&'static str],
) -> Step {
    step(When::Start, fault, says, then)
}

const fn ends(fault: &'static str, reason: ExitReason, says: &'static [&'static str]) -> Step {
    step(When::Ends(reason), fault, says, &[])
}

/// Nobody notices it.
const fn quiet(when: When, fault: &'static str) -> Step {
    step(when, fault, &[], &[])
}

const fn busy(fault: &'static str, check: fn(&Bench, &Daemon)) -> Step {
    Step { scene: Scene::Busy, check, ..quiet(When::Running, fault) }
}

const fn steering(mut step: Step) -> Step {
    step.scene = Scene::Steering;
    step
}

/// In the order of [`wanctl_sim::routeros::FAULT_NAMES`].
pub(crate) const ROWS: [Row; 27] = [
    Row {
        happens: "The first request takes longer, and one request every ten minutes: the router \
                  logs the user in anew.",
        does: "Waits. Ticks go on, an order that is given meanwhile is sent next.",
        recovers: "With the answer.",
        steps: &[Step {
            check: |bench, daemon| wait_for_requests(bench, daemon, 10),
            ..quiet(When::Start, "slow-login:700ms,every=1s")
        }],
    },
    Row {
        happens: "Requests take as long as on a virtual router, on an RB5009, or on a busy router.",
        does: "Writes and looks one after the other; after a look it leaves the router alone for \
               four times as long as that took.",
        recovers: "There is nothing to recover from.",
        steps: &[
            quiet(When::Running, "latency:rb5009"),
            quiet(When::Start, "latency:rb5009"),
            quiet(When::Running, "latency:chr"),
            quiet(When::Start, "latency:loaded"),
        ],
    },
    Row {
        happens: "The TLS handshake takes seconds; the certificate has expired, is for another \
                  name, or is missing.",
        does: "Waits up to 10 s for a handshake. A certificate that is not trusted ends it at the \
               start; later, and when there is none, it tries again with pauses.",
        recovers: "When the certificate is replaced.",
        steps: &[
            quiet(When::Start, "tls-handshake:1s"),
            ends(
                "tls-handshake:expired",
                ExitReason::RouterCertificate,
                &["is not trusted", "expired"],
            ),
            ends("tls-handshake:other-name", ExitReason::RouterCertificate, &["is not trusted"]),
            running("tls-handshake:expired", &[FAILS, "is not trusted"], &[WORKS]),
            start("tls-handshake:no-certificate", &[FAILS, "TLS with router"], &[FOUND]),
        ],
    },
    Row {
        happens: "Another program uses the same RouterOS user, and its request does not end: ours \
                  wait behind it and are closed (after 60 s on a real router).",
        does: "Waits, up to 30 s a request, then tries again with pauses.",
        recovers: "When the other request has ended. Give the daemon a user of its own.",
        steps: &[
            running("shared-user:500ms", &[BLIND, "Session closed"], &[SEES]),
            start("shared-user:500ms,method=PATCH", &[FAILS, "Session closed"], &[WORKS]),
        ],
    },
    Row {
        happens: "Some client gave up a request; for 1.3 to 2.4 s the router resets connections \
                  and gives answers to the wrong client, such as a 401.",
        does: "Tries again with pauses. A refusal that would end it at the start is believed only \
               when it comes again and again, for longer than the damage lasts.",
        recovers: "By itself, with the next good answer.",
        steps: &[Step {
            check: |bench, daemon| {
                abandon_a_request(bench);
                daemon.wait_for("a wrong refusal", 0, |line| {
                    line.contains(FAILS) && line.contains("refused user wanctl (401)")
                });
            },
            ..running("abort-damage", &[FAILS, "refused user wanctl (401)", WORKS], &[])
        }],
    },
    Row {
        happens: "The router closes connections that are silent for a while.",
        does: "Connects again; a request that met the closed connection is sent again, once.",
        recovers: "At once.",
        steps: &[quiet(When::Running, "idle-close:50ms"), quiet(When::Start, "idle-close:50ms")],
    },
    Row {
        happens: "All sessions of the router are taken: it accepts connections and closes them.",
        does: "Tries again after 0.5 s, then twice as long, up to 30 s.",
        recovers: "With the next attempt after a session has become free.",
        steps: &[
            running("overload", &[FAILS, CLOSED], &[WORKS]),
            start("overload", &[FAILS, CLOSED], &[FOUND]),
        ],
    },
    Row {
        happens: "The password was changed or the user disabled: 401.",
        does: "Ends at the start. While it runs it tries again with pauses: each attempt leaves a \
               line in the router's log.",
        recovers: "When the login is right again. A new password is read on SIGHUP.",
        steps: &[
            ends("login-refused", ExitReason::RouterLogin, &["refused user wanctl (401)"]),
            running("login-refused", &[FAILS, "refused user wanctl (401)"], &[WORKS]),
            start("login-refused,times=2", &[FAILS], &[FOUND]),
        ],
    },
    Row {
        happens: "The group of the user loses a policy.",
        does: "Without `read` it goes on writing; without the others it tries again with pauses. \
               At the start it ends, but for `write`, whose lack the router does not name.",
        recovers: "When the policy is back.",
        steps: &[
            start(
                "permission-loss:write",
                &[FAILS, "missing or invalid resource identifier", "lacks the policy write"],
                &[WORKS],
            ),
            running("permission-loss:read", &[BLIND, "not enough permissions (9)"], &[SEES]),
            ends("permission-loss:read", ExitReason::RouterPermission, &["lacks a permission"]),
            running("permission-loss:api", &[BLIND, "std failure: not allowed (9)"], &[SEES]),
            running("permission-loss:rest-api", &[FAILS, "refused user wanctl (401)"], &[WORKS]),
        ],
    },
    Row {
        happens: "The address list of the service or the user leaves this machine out: \
                  connections are accepted and closed.",
        does: "Tries again after 0.5 s, then twice as long, up to 30 s.",
        recovers: "When the address is allowed again.",
        steps: &[
            running("address-filter", &[FAILS, "does that service's address list allow"], &[WORKS]),
            start("address-filter", &[FAILS, CLOSED], &[FOUND]),
        ],
    },
    Row {
        happens: "The service is disabled or moved to another port; REST is switched off on it.",
        does: "Tries again with pauses.",
        recovers: "When the service is back.",
        steps: &[
            running("service-change:off", &[FAILS, "is its service www or www-ssl"], &[WORKS]),
            start("service-change:off", &[FAILS, "refused"], &[FOUND]),
            running("service-change:rest-off", &[BLIND, "REST is switched off"], &[SEES]),
            start("service-change:rest-off", &[FAILS, "REST is switched off"], &[FOUND]),
        ],
    },
    Row {
        happens: "The router reboots: nobody answers, then all counters begin at zero, and for a \
                  moment requests are answered with the record of another menu.",
        does: "Tries again with pauses, believes no record that is not a queue's, and compares \
               the rates as soon as the router is back.",
        recovers: "With the first sensible answer.",
        steps: &[
            Step {
                check: |_, daemon| {
                    daemon.wait_for("a status", 0, |line| line.contains("failing: router"));
                },
                ..running("reboot", &[FAILS], &[WORKS, "makes no sense"])
            },
            start("reboot", &[FAILS], &["makes no sense", FOUND]),
        ],
    },
    Row {
        happens: "The body of an answer is cut short, no JSON, empty, a web page, or holds bytes \
                  that JSON forbids.",
        does: "Reads control characters and bytes that are not UTF-8. Otherwise it treats a write \
               as not done and writes again, with pauses; looks are left out.",
        recovers: "With the next whole answer.",
        steps: &[
            running("bad-body:truncated", &[BLIND, "cut short"], &[SEES]),
            start("bad-body:truncated,method=PATCH", &[FAILS, "cut short"], &[WORKS]),
            running("bad-body:half", &[BLIND, "not JSON"], &[SEES]),
            quiet(When::Start, "bad-body:control"),
            quiet(When::Start, "bad-body:not-utf8"),
            running("bad-body:empty", &[BLIND, "not JSON"], &[SEES]),
            running("bad-body:html", &[BLIND, "is this a RouterOS 7 REST service"], &[SEES]),
            start("bad-body:html,method=PATCH", &[FAILS, "not JSON"], &[WORKS]),
            start("bad-body:empty", &[FAILS, "not JSON"], &[FOUND]),
        ],
    },
    Row {
        happens: "Numbers instead of texts, an array instead of an object and the reverse, keys \
                  that are missing or new, `yes` instead of `true`.",
        does: "Reads them all; a missing `disabled` means enabled.",
        recovers: "There is nothing to recover from.",
        steps: &[
            quiet(When::Start, "wrong-shape:numbers"),
            quiet(When::Start, "wrong-shape:swapped"),
            quiet(When::Start, "wrong-shape:missing-keys"),
            quiet(When::Start, "wrong-shape:extra-keys"),
            steering(quiet(When::Start, "wrong-shape:yes-no")),
        ],
    },
    Row {
        happens: "Another admin renames a queue.",
        does: "Reports it and shapes the others. It writes to no queue of another name; at the \
               start it ends.",
        recovers: "When there is a queue of that name again.",
        steps: &[
            running("renamed", &[GONE], &[WELL]),
            ends("renamed", ExitReason::QueueMissing, &["has no queue named \"WAN-Download\""]),
        ],
    },
    Row {
        happens: "A queue is removed and made anew under another id, or its type or parent is \
                  removed.",
        does: "Reports it; finds the new queue by its name and writes our rate to it.",
        recovers: "When the queue is there and valid again.",
        steps: &[
            running("removed:queue", &[GONE], &[WELL]),
            ends("removed:queue", ExitReason::QueueMissing, &["has no queue named"]),
            running("removed:type", &["WARN the queue has lost its queue type"], &[WELL]),
            running("removed:parent", &["WARN the queue is invalid and does nothing"], &[WELL]),
        ],
    },
    Row {
        happens: "Another admin switches the steering rule, moves it, makes it anew, or makes a \
                  second one with the same comment.",
        does: "Finds a moved or new rule by its comment. Each switch of ours reads the rule before \
               and after; a switch by others is put right with the next look, every 30 s. With two \
               rules it ends at the start.",
        recovers: "With the next look or switch, at the latest when the daemon ends.",
        steps: &[
            steering(Step {
                check: rule_is_on,
                ends: &["steering is off"],
                ..quiet(When::Running, "rule-change:toggled")
            }),
            steering(quiet(When::Running, "rule-change:moved")),
            steering(Step {
                ends: &["looking the steering rule up again", "steering is off"],
                ..quiet(When::Running, "rule-change:recreated")
            }),
            steering(ends(
                "rule-change:duplicated",
                ExitReason::RuleAmbiguous,
                &["2 mangle rules with the comment"],
            )),
        ],
    },
    Row {
        happens: "Another client changes a shaper rate, or a safe mode ends and takes our write \
                  back.",
        does: "Reports it and writes ours again, three times a minute at most.",
        recovers: "With that write.",
        steps: &[
            running("foreign-write:once", &[FOREIGN, "found=\"3 Mbit/s\""], &[]),
            start("foreign-write:rollback", &[], &[FOREIGN]),
        ],
    },
    Row {
        happens: "Somebody resets the counters.",
        does: "Leaves out one difference; no burst appears.",
        recovers: "With the next look.",
        steps: &[busy("counters-reset", rates_are_right)],
    },
    Row {
        happens: "A counter reaches its width and begins again at 0, or stays at its largest value.",
        does: "Counts on across the wrap; no burst appears.",
        recovers: "At once.",
        steps: &[
            busy("counter-width:wrap", rates_are_right),
            busy("counter-width:saturate", rates_are_right),
        ],
    },
    Row {
        happens: "Counters are refreshed once a second only, and `dropped` stays 0.",
        does: "Notices the rhythm and takes the rate from one refresh to the next.",
        recovers: "There is nothing to recover from.",
        steps: &[Step { when: When::Start, ..busy("stale-counters", rates_are_right) }],
    },
    Row {
        happens: "A write takes effect, but the answer is 400 or is lost.",
        does: "Takes it for not done and writes again: it is an absolute value.",
        recovers: "With the first answer that confirms it.",
        steps: &[
            start("lying-write:refused", &[FAILS, "400"], &[WORKS]),
            start("lying-write:refused,times=2", &[FAILS, WORKS], &[]),
            start("lying-write:lost-reply", &[FAILS, CLOSED], &[WORKS]),
            quiet(When::Start, "lying-write:lost-reply,times=1"),
        ],
    },
    Row {
        happens: "The router accepts a write and stores another rate, or none.",
        does: "Takes a rate that differs by up to a sixteenth for ours, rounded. Otherwise it \
               takes the write for not done and writes again, with pauses.",
        recovers: "When the router stores what it is told; a rounded rate with the next decision.",
        steps: &[
            Step {
                settles: false,
                says: &["download 38 Mbit/s", "upload 9 Mbit/s"],
                ..start("rounded-value:rounded", &[], &[])
            },
            start(
                "rounded-value:ignored",
                &[FAILS, "it holds 500 Mbit/s instead of 38 Mbit/s"],
                &[WORKS],
            ),
        ],
    },
    Row {
        happens: "The router's processor is busy: requests take 100 to 500 ms.",
        does: "Looks at the queues less often, so that four fifths of the time are free for writes.",
        recovers: "When requests are fast again.",
        steps: &[quiet(When::Running, "cpu-saturation"), quiet(When::Start, "cpu-saturation")],
    },
    Row {
        happens: "FastTrack is on: queue and mangle counters stay at 0 while traffic flows past \
                  the queues.",
        does: "Goes on with the delays alone; the status line shows that the queues carry nothing.",
        recovers: "When FastTrack is off.",
        steps: &[Step {
            scene: Scene::Busy,
            ..running("fasttrack", &["carrying 0 bit/s"], &[" Mbit/s, upload"])
        }],
    },
    Row {
        happens: "Dates and times have the format of an old version, and the uptime jumps.",
        does: "Does not look at them.",
        recovers: "There is nothing to recover from.",
        steps: &[quiet(When::Start, "clock-jump"), quiet(When::Running, "clock-jump")],
    },
    Row {
        happens: "Every write leaves a line in the router's log and an entry in its history of \
                  100.",
        does: "Writes changes only: an idle line leaves no trace.",
        recovers: "There is nothing to recover from.",
        steps: &[Step { check: idle_leaves_no_trace, ..quiet(When::Start, "log-growth") }],
    },
];

/// The status lines show what the queues carry, without a burst.
fn rates_are_right(_: &Bench, daemon: &Daemon) {
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

fn rule_is_on(bench: &Bench, daemon: &Daemon) {
    use wanctl_sim::routeros::MenuName;
    let on = bench.emulator.wait_until(PATIENCE, |view| {
        let row = view.router.row(MenuName::Mangle, COMMENT).expect("it is there");
        row.get("disabled").is_some_and(|disabled| disabled == "false")
    });
    assert!(on, "{:#?}", daemon.process.lines());
}

fn idle_leaves_no_trace(bench: &Bench, daemon: &Daemon) {
    let lines = || bench.emulator.fault_log().len();
    assert_eq!(lines(), 2, "one for each first rate");
    wait_for_requests(bench, daemon, 15);
    assert_eq!(lines(), 2, "{:?}", bench.emulator.writes());
    assert!(bench.emulator.max_limit_bps(QUEUES.0).is_some());
}
