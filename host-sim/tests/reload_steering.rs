//! SIGHUP while traffic is steered: two lines, an emulated router, the built `wanctl`.

mod common;

use std::process::Command;

use common::{Bench, Daemon, PASSWORD, PATIENCE, SECOND_WAN, pings_or_skip, reload, wanctl_binary};
use wanctl_sim::demo::USER;
use wanctl_sim::routeros::{EmulatorOptions, MenuName, RouterOptions, User};

const COMMENT: &str = "wanctl: to dsl";
/// Nobody has this address.
const SILENT: &str = "reflectors = [\"192.0.2.77\"]";
const ANSWERS: &str = "reflectors = [\"127.0.0.1\", \"127.0.0.2\", \"127.0.0.3\"]";

const STEERING: &str = r#"
[steering]
rules = { dsl = "wanctl: to dsl" }
on-after = "500ms"
off-after = "500ms"
hold-down = "500ms"
"#;

fn bench() -> Bench {
    let rule = [
        ("action", "mark-connection"),
        ("chain", "prerouting"),
        ("comment", COMMENT),
        ("disabled", "yes"),
        ("new-connection-mark", "via-dsl"),
    ];
    let router = RouterOptions::default()
        .with_users(vec![User::full(USER, PASSWORD)])
        .with_queue("DSL-Download", "ether3", "cake-down", 50_000_000)
        .with_queue("DSL-Upload", "ether2", "cake-up", 10_000_000)
        .with_row(MenuName::Mangle, &rule);
    let bench = Bench::with_options(&EmulatorOptions { router, ..Default::default() });
    bench.write_file("wanctl.toml", &(bench.config_text() + SECOND_WAN + STEERING));
    bench
}

#[track_caller]
fn wait_for_rule(bench: &Bench, daemon: &Daemon, on: bool) {
    let is_so = bench.emulator.wait_until(PATIENCE, |view| {
        let rules = view.router.rows(MenuName::Mangle);
        let ours = rules.iter().find(|rule| rule.get("comment").is_some_and(|it| it == COMMENT));
        ours.and_then(|rule| rule.get("disabled")).is_some_and(|it| (it == "false") == on)
    });
    assert!(is_so, "the rule is not {on}: {:#?}", daemon.process.lines());
}

/// How often the rule was switched so far.
fn switches(bench: &Bench) -> usize {
    let requests = bench.emulator.requests();
    let is_switch = |path: &str| path.starts_with("/rest/ip/firewall/mangle/");
    requests.iter().filter(|it| it.method == "PATCH" && is_switch(&it.path)).count()
}

#[test]
fn a_reload_leaves_traffic_where_it_is_while_the_primary_is_out() {
    if !pings_or_skip("a_reload_leaves_traffic_where_it_is_while_the_primary_is_out") {
        return;
    }
    let bench = bench();
    let mut daemon = bench.start();
    daemon.wait_for("both lines", 0, |line| line.contains("dsl: link WARM -> LIVE"));
    // The primary's reflectors fall silent: an outage, and traffic leaves.
    bench.edit(ANSWERS, SILENT);
    assert!(reload(&mut daemon).iter().any(|line| line.contains("done, 1 change")));
    wait_for_rule(&bench, &daemon, true);
    daemon.wait_for("the change", 0, |line| line.contains("the router sends traffic to dsl"));
    assert_eq!(switches(&bench), 1);
    // It goes on trying, and is not well meanwhile.
    let lost = daemon.wait_for("the loss", 0, |line| line.contains("cable: link LIVE -> RESET")).0;
    daemon.wait_for("a try", lost, |line| line.contains("cable: link INIT -> PROBE"));
    let (from, _) = daemon.wait_for_status(daemon.process.lines().len());
    daemon.wait_for_status(from + 1);
    let mut command = Command::new(wanctl_binary());
    command.args(["status", "--config"]).arg(bench.files.config());
    let text = command.output().expect("wanctl can be run").stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains(", failing") && text.contains("! cable: "), "{text}");
    // Rates and filters of either line are another matter.
    let writes = bench.emulator.writes().len();
    bench.edit("ceiling = \"50M\"", "ceiling = \"40M\"");
    assert!(reload(&mut daemon).iter().any(|line| line.contains("done, 1 change")));
    let cut = bench.emulator.wait_until(PATIENCE, |view| view.writes.len() > writes);
    assert!(cut, "{:#?}", daemon.process.lines());
    let (from, _) = daemon.wait_for_status(daemon.process.lines().len());
    let (at, _) = daemon.wait_for_status(from + 1);
    assert!(
        daemon.process.lines()[at].contains("steering to dsl"),
        "{:#?}",
        daemon.process.lines()
    );
    assert_eq!(switches(&bench), 1, "{:#?}", daemon.process.lines());
    // What takes a restart leaves everything as it is.
    bench.edit("on-after = \"500ms\"", "on-after = \"500ms\"\ndry-run = true");
    let said = reload(&mut daemon);
    assert!(said.iter().any(|line| line.contains("takes a restart: steering.rules")), "{said:#?}");
    assert_eq!(switches(&bench), 1);
    // Steering begins anew, and an outage needs no time: traffic stays, confirmed again.
    bench.edit("on-after = \"500ms\"\ndry-run = true", "on-after = \"600ms\"");
    let from = daemon.process.lines().len();
    assert!(reload(&mut daemon).iter().any(|line| line.contains("done, 1 change")));
    let confirmed = |line: &str| line.contains("the router sends traffic to dsl");
    daemon.wait_for("the same way", from, confirmed);
    assert_eq!(switches(&bench), 1, "{:#?}", daemon.process.lines());
    // The primary answers again.
    bench.edit(SILENT, ANSWERS);
    assert!(reload(&mut daemon).iter().any(|line| line.contains("done, 1 change")));
    wait_for_rule(&bench, &daemon, false);
    daemon.terminate().expect(0, &["steering is off"]);
}
