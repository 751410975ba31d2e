//! `wanctl check --router` against emulated routers with something wrong.

mod common;

use common::{Bench, Ended};
use wanctl::exit::ExitReason;
use wanctl_sim::routeros::{MenuName, Policy, Properties, Router, RouterOptions, properties_of};

const FIT: u8 = 0;

/// A router with every object of the configuration, and one WAN that can be steered to.
fn router() -> RouterOptions {
    RouterOptions::default()
        .with_queue("DSL-Download", "ether3", "cake-down", 50_000_000)
        .with_queue("DSL-Upload", "ether2", "cake-up", 10_000_000)
}

const STEERING: &str = r#"
[[wan]]
name = "dsl"
reflectors = ["127.0.0.4"]
download = { queue = "DSL-Download", ceiling = "50M", floor = "5M" }
upload = { queue = "DSL-Upload", ceiling = "10M", floor = "1M" }

[steering]
rules = { dsl = "ADAPTIVE: steer" }
"#;

fn set(router: &mut Router, menu: MenuName, key: &str, property: &str, value: &str) {
    assert!(router.set_unchecked(menu, key, property, Some(value)), "no {key}");
}

fn insert(router: &mut Router, menu: MenuName, row: &[(&str, &str)]) {
    router.insert_unchecked(menu, properties_of(row));
}

fn fasttrack(router: &mut Router, connection_mark: &str) {
    let mut row: Properties = properties_of(&[
        ("action", "fasttrack-connection"),
        ("chain", "forward"),
        ("connection-state", "established,related"),
    ]);
    if !connection_mark.is_empty() {
        row.insert("connection-mark".to_owned(), connection_mark.to_owned());
    }
    router.insert_unchecked(MenuName::Filter, row);
}

/// Checks a router after a change and returns what was said.
fn audit(change: impl FnOnce(&mut Router)) -> Ended {
    let bench = Bench::with_router(router());
    bench.write_file("wanctl.toml", &(bench.config_text() + STEERING));
    audit_of(&bench, change)
}

/// Checks the bench's router after a change; whatever is found, nothing was changed.
fn audit_of(bench: &Bench, change: impl FnOnce(&mut Router)) -> Ended {
    bench.emulator.with_router(change);
    let all = |router: &mut Router| MenuName::ALL.map(|menu| router.rows(menu).len());
    let before = bench.emulator.with_router(all);
    let ended = bench.check(&["--router"]);
    let methods: Vec<String> = bench.emulator.requests().into_iter().map(|r| r.method).collect();
    assert!(methods.iter().all(|method| method == "GET"), "{methods:?}");
    assert_eq!(bench.emulator.with_router(all), before);
    ended
}

#[test]
fn a_router_without_faults_passes_with_notes_alone() {
    let ended = audit(|_| {});
    ended.expect(
        FIT,
        &[
            "MikroTik (RB5009UG+S+, RouterOS 7.23.2 (stable))",
            "cable download: queue WAN-Download, now 500 Mbit/s",
            "steering to dsl: prerouting rule \"ADAPTIVE: steer\" (mark-connection), now off",
            "note: flash: 1482 sectors written in 1d2h",
            "note: log rule *1 (memory) gets a line for each rate wanctl sets",
            "0 errors, 0 warnings,",
            "nothing was changed on the router",
        ],
    );
    ended.expect_not("was not looked at");
    audit(|router| set(router, MenuName::Logging, "*1", "topics", "info,!system"))
        .expect(FIT, &[])
        .expect_not("log rule");
}

type Change = fn(&mut Router);

/// What is done to the router, the exit code's reason, what is said about it and the remedy.
const ERRORS: &[(Change, ExitReason, &str, &str)] = &[
    (
        |router| set(router, MenuName::QueueTree, "WAN-Upload", "disabled", "true"),
        ExitReason::RouterUnfit,
        "queue WAN-Upload is disabled",
        "/queue/tree/enable \"WAN-Upload\"",
    ),
    (
        |router| set(router, MenuName::QueueTree, "WAN-Upload", "queue", "*1E"),
        ExitReason::RouterUnfit,
        "queue WAN-Upload has the type \"*1E\", which does not exist",
        "/queue/tree/set \"WAN-Upload\" queue=TYPE",
    ),
    (
        |router| set(router, MenuName::QueueTree, "WAN-Upload", "invalid", "true"),
        ExitReason::RouterUnfit,
        "queue WAN-Upload is invalid: its parent \"ether1\" or its type is gone",
        "/queue/tree/set \"WAN-Upload\" parent=INTERFACE",
    ),
    (
        |router| {
            insert(router, MenuName::QueueTree, &[("name", "WAN-Upload"), ("parent", "ether2")]);
        },
        ExitReason::QueueAmbiguous,
        "the router has 2 queues named \"WAN-Upload\"",
        "rename all but one",
    ),
    (
        |router| set(router, MenuName::Mangle, "*1", "invalid", "true"),
        ExitReason::RouterUnfit,
        "the steering rule \"ADAPTIVE: steer\" is invalid",
        "correct its interface",
    ),
    (
        |router| {
            assert!(router.set_policies("wanctl", &[Policy::Read, Policy::Api, Policy::RestApi]));
        },
        ExitReason::RouterPermission,
        "user wanctl (group wanctl) lacks the policies write",
        "/user/group/set \"wanctl\" policy=read,write,api,rest-api",
    ),
    (
        |router| fasttrack(router, ""),
        ExitReason::RouterUnfit,
        "FastTrack (filter rule *2) also takes connections that are steered",
        "/ip/firewall/filter/set *2 connection-mark=no-mark",
    ),
    (
        |router| {
            set(router, MenuName::QueueTree, "WAN-Download", "parent", "global");
            fasttrack(router, "no-mark");
        },
        ExitReason::RouterUnfit,
        "FastTrack (filter rule *2) bypasses queues that hang below global or need a packet mark: WAN-Download",
        "/ip/firewall/filter/disable *2",
    ),
    (
        |router| {
            set(router, MenuName::QueueTree, "DSL-Upload", "packet-mark", "dsl-up");
            fasttrack(router, "no-mark");
        },
        ExitReason::RouterUnfit,
        "need a packet mark: DSL-Upload",
        "packet-mark=no-mark",
    ),
    (
        |router| assert!(router.remove_unchecked(MenuName::RoutingTable, "to-wan2")),
        ExitReason::RouterUnfit,
        "the routing table \"to-wan2\" of the rule *2 does not exist or is off",
        "/routing/table/add name=to-wan2 fib",
    ),
    (
        |router| {
            insert(
                router,
                MenuName::Mangle,
                &[("chain", "forward"), ("comment", "ADAPTIVE: steer")],
            );
        },
        ExitReason::RuleAmbiguous,
        "2 mangle rules with the comment \"ADAPTIVE: steer\"",
        "give all but one another comment",
    ),
    (
        |router| set(router, MenuName::Certificate, "rest", "expired", "true"),
        ExitReason::RouterUnfit,
        "the certificate rest has expired",
        "make a new one as in wanctl router-setup",
    ),
];

#[test]
fn what_wanctl_cannot_work_with_is_an_error_with_its_remedy() {
    for (change, reason, what, remedy) in ERRORS {
        audit(change).expect(reason.code(), &["error: ", what, "remedy: ", remedy]);
    }
}

const WARNINGS: &[(Change, &str, &str)] = &[
    (
        |router| set(router, MenuName::Resource, "", "version", "7.19.4 (stable)"),
        "CVE-2025-10948",
        "/system/package/update/install, to 7.20.1 or later",
    ),
    (
        |router| {
            set(
                router,
                MenuName::UserGroup,
                "wanctl",
                "policy",
                "read,write,api,rest-api,policy,!ftp",
            );
        },
        "may do more than wanctl needs: policy",
        "policy=read,write,api,rest-api,!policy",
    ),
    (
        |router| set(router, MenuName::QueueTree, "WAN-Upload", "queue", "default-small"),
        "queue WAN-Upload is of the kind pfifo (default-small)",
        "/queue/type/add name=wanctl-upload kind=cake",
    ),
    (
        |router| set(router, MenuName::QueueType, "cake-down", "cake-bandwidth", "420000000"),
        "queue type cake-down has a cake-bandwidth besides the queue's max-limit",
        "/queue/type/set \"cake-down\" cake-bandwidth=0",
    ),
    (
        |router| set(router, MenuName::QueueType, "cake-down", "cake-nat", "yes"),
        "queue type cake-down of the download has cake-nat on",
        "cake-nat=no",
    ),
    (
        |router| set(router, MenuName::QueueType, "cake-down", "cake-autorate-ingress", "true"),
        "estimates the rate itself",
        "cake-autorate-ingress=no",
    ),
    (
        |router| set(router, MenuName::QueueTree, "WAN-Download", ".about", "type with bandwidth"),
        "the router says about queue WAN-Download: type with bandwidth",
        "follow",
    ),
    (
        |router| set(router, MenuName::Certificate, "rest", "expires-after", "1w2d3h"),
        "the certificate rest expires in 9 days",
        "make a new one",
    ),
    (
        |router| set(router, MenuName::Certificate, "rest", "key-size", "4096"),
        "has a key of 4096 bits",
        "key-size=2048",
    ),
    (
        |router| set(router, MenuName::Certificate, "rest", "subject-alt-name", ""),
        "the certificate rest has no subject-alt-name",
        "make a new one",
    ),
    (
        |router| set(router, MenuName::Resource, "", "bad-blocks", "0.4%"),
        "the router's flash has bad blocks: 0.4%",
        "plan a replacement, and lower writes-per-minute of [wan.adaptive]",
    ),
    (
        |router| set(router, MenuName::Logging, "*1", "action", "disk"),
        "log rule *1 puts a line on the flash for each rate wanctl sets",
        "/system/logging/set *1 topics=info,!system",
    ),
    (
        |router| {
            set(router, MenuName::Logging, "*1", "topics", "info,!account");
            set(router, MenuName::Logging, "*1", "action", "disk");
        },
        "log rule *1 puts a line on the flash",
        "topics=info,!system",
    ),
    (
        |router| set(router, MenuName::Mangle, "*1", "action", "mark-routing"),
        "does mark-routing instead of mark-connection",
        "wanctl router-setup",
    ),
    (
        |router| assert!(router.set_unchecked(MenuName::Mangle, "*1", "connection-state", None)),
        "also marks connections that exist already",
        "/ip/firewall/mangle/set *1 connection-state=new",
    ),
    (
        |router| set(router, MenuName::Mangle, "*1", "passthrough", "false"),
        "ends the chain",
        "passthrough=yes",
    ),
    (
        |router| set(router, MenuName::Mangle, "*1", "chain", "forward"),
        "is not in prerouting",
        "chain=prerouting",
    ),
    (
        |router| set(router, MenuName::Mangle, "*2", "disabled", "true"),
        "no rule routes the connections marked via-wan2",
        "action=mark-routing",
    ),
    (
        |router| {
            let rule = router.row(MenuName::Mangle, "*1").expect("the steering rule");
            assert!(router.remove_unchecked(MenuName::Mangle, "*1"));
            router.insert_unchecked(MenuName::Mangle, rule);
        },
        "the rule *2 that routes the mark via-wan2 comes before",
        "/ip/firewall/mangle/move *3 destination=*2",
    ),
];

#[test]
fn what_weakens_wanctl_is_a_warning_with_its_remedy() {
    for (change, what, remedy) in WARNINGS {
        let ended = audit(change);
        ended.expect(ExitReason::RouterWeak.code(), &["warning: ", what, "remedy: ", remedy]);
        ended.expect_not("error: ");
    }
}

const NOTES: &[(Change, &str)] = &[
    (|router| set(router, MenuName::Service, "www", "disabled", "false"), "the service www is on"),
    (
        |router| set(router, MenuName::Service, "www-ssl", "tls-version", "any"),
        "also speaks TLS 1.0 and 1.1",
    ),
    (
        |router| set(router, MenuName::Service, "www-ssl", "address", ""),
        "the service www-ssl answers every address",
    ),
    (
        |router| set(router, MenuName::User, "wanctl", "address", "0.0.0.0/0"),
        "user wanctl may log in from every address",
    ),
    (
        |router| assert!(router.remove_unchecked(MenuName::User, "wanctl")),
        "wanctl is not among the router's own users",
    ),
    (
        |router| set(router, MenuName::QueueType, "cake-up", "cake-nat", "no"),
        "shares by host without looking behind NAT",
    ),
];

#[test]
fn what_is_only_worth_knowing_is_a_note_and_no_failure() {
    for (change, what) in NOTES {
        audit(change).expect(FIT, &["note: ", what, "0 errors, 0 warnings"]);
    }
}

#[test]
fn fasttrack_is_fine_below_interfaces_when_it_spares_steered_connections() {
    audit(|router| fasttrack(router, "no-mark")).expect(FIT, &["0 warnings"]);
    audit(set_disabled_fasttrack).expect(FIT, &["0 warnings"]);
    // Without steering there is nothing to spare.
    audit_of(&Bench::new(), |router| fasttrack(router, "")).expect(FIT, &["0 warnings"]);
}

fn set_disabled_fasttrack(router: &mut Router) {
    fasttrack(router, "");
    set(router, MenuName::Filter, "*2", "disabled", "true");
}

#[test]
fn all_findings_are_told_at_once_and_the_most_basic_error_decides() {
    let ended = audit(|router| {
        set(router, MenuName::QueueType, "cake-down", "cake-nat", "yes");
        assert!(router.remove_unchecked(MenuName::QueueTree, "WAN-Upload"));
        assert!(router.remove_unchecked(MenuName::Mangle, "*1"));
    });
    let pieces = ["no queue named \"WAN-Upload\"", "no rule with the comment", "has cake-nat on"];
    ended.expect(ExitReason::QueueMissing.code(), &pieces);
    let place = |piece: &str| ended.text.find(piece);
    assert!(place("error: ") < place("warning: ") && place("warning: ") < place("note: "));
}

#[test]
fn a_rule_that_steers_the_probes_too_is_warned_about() {
    let bench = Bench::with_router(router());
    let text = (bench.config_text() + STEERING)
        .replace("name = \"dsl\"", "name = \"dsl\"\nsource-address = \"127.0.0.9\"");
    bench.write_file("wanctl.toml", &text);
    let pieces = ["also takes wanctl's own probes", "*1 src-address-list=!wanctl-probes"];
    audit_of(&bench, |_| {}).expect(ExitReason::RouterWeak.code(), &pieces);
    for (key, limit) in [("src-address-list", "!wanctl-probes"), ("protocol", "udp")] {
        let limit = |router: &mut Router| {
            assert!(router.set_unchecked(MenuName::Mangle, "*1", "protocol", None));
            set(router, MenuName::Mangle, "*1", key, limit);
        };
        audit_of(&bench, limit).expect(FIT, &["0 warnings"]);
        assert!(
            bench
                .emulator
                .with_router(|router| { router.set_unchecked(MenuName::Mangle, "*1", key, None) })
        );
    }
}

#[test]
fn clear_text_and_unverified_certificates_are_warned_about() {
    let bench = Bench::new();
    bench.edit("ca-file = \"router-ca.pem\"", "insecure = true");
    audit_of(&bench, |_| {}).expect(ExitReason::RouterWeak.code(), &["insecure = true: nobody"]);

    let bench = Bench::new();
    let (https, http) = (bench.emulator.https_url(), bench.emulator.http_url());
    bench.edit(&https, &http).edit("ca-file = \"router-ca.pem\"\n", "");
    audit_of(&bench, |_| {}).expect(ExitReason::RouterWeak.code(), &["in clear text with every"]);
}
