//! What a user is told about a configuration file.

use std::path::Path;

use wanctl_core::config::{Checks, LawConfig, Quirks};
use wanctl_core::units::BitsPerSecond;

use super::*;

const GOOD: &str = r#"interval = "100ms"
on-exit = "fail-safe"

[router]
url = "https://192.0.2.1:8443"
user = "wanctl"
password-file = "password"

[[wan]]
name = "cable"
reflectors = ["192.0.2.7", "192.0.2.8"]

[wan.download]
queue = "WAN-Download"
ceiling = "94.5M"
floor = "20M"
factor-down = 0.9
fail-safe = "50M"

[wan.upload]
queue = "WAN-Upload"
ceiling = "18M"
floors = { red = "4M", soft-red = "5M", yellow = "6M", green = "7M" }
fail-safe = "10M"

[wan.classic]
target-delay = "5ms"
baseline-initial = "20ms"
quirks = ["floors-lift-rate"]
"#;

fn parse_text(text: &str) -> Result<DaemonConfig, Problems> {
    parse(Path::new("wanctl.toml"), text, ReadFiles::No)
}

/// Replaces one line of the good file and returns what the user is told.
fn told_after(line: &str, replacement: &str) -> (ExitReason, String) {
    assert!(GOOD.contains(line), "the good file has no line {line}");
    let problems = parse_text(&GOOD.replacen(line, replacement, 1)).unwrap_err();
    (problems.reason(), problems.to_string())
}

#[test]
fn a_good_file_becomes_the_core_configuration() {
    let config = parse_text(GOOD).unwrap();
    assert_eq!(config.on_exit, OnExit::FailSafe);
    assert_eq!(config.core.tick, embassy_time::Duration::from_millis(100));
    let (shell, core) = (&config.wans[0], &config.core.wans[0]);
    assert_eq!(shell.queues.download, "WAN-Download");
    assert_eq!(shell.fail_safe.upload, Some(BitsPerSecond::from_mbps(10)));
    assert_eq!(core.reflectors, 2);
    assert_eq!(core.shapers.download.ceiling, BitsPerSecond::new(94_500_000));
    assert_eq!(core.shapers.download.step_up, BitsPerSecond::new(945_000));
    assert_eq!(core.shapers.download.floors.green, BitsPerSecond::from_mbps(20));
    assert_eq!(core.shapers.upload.floors.green, BitsPerSecond::from_mbps(7));
    assert_eq!(core.classic.target_delay, embassy_time::Duration::from_millis(5));
    assert_eq!(core.classic.quirks, Quirks { floors_lift_rate: true, ..Quirks::default() });
}

#[test]
fn a_state_folder_is_relative_to_the_file_and_has_no_default() {
    assert_eq!(parse_text(GOOD).unwrap().state_dir, None);
    let text = format!("state-dir = \"state\"\n{GOOD}");
    let config = parse(Path::new("/etc/wanctl/wanctl.toml"), &text, ReadFiles::No).unwrap();
    assert_eq!(config.state_dir.as_deref(), Some(Path::new("/etc/wanctl/state")));
    assert!(parse_text(&text.replace("\"state\"", "7")).is_err());
}

#[test]
fn quirks_are_off_by_default() {
    let config = parse_text(&GOOD.replace("quirks = [\"floors-lift-rate\"]", "")).unwrap();
    assert_eq!(config.core.wans[0].classic.quirks, Quirks::default());
}

#[test]
fn a_misspelt_key_is_named_with_its_place_and_the_right_spelling() {
    let (reason, told) = told_after("interval = \"100ms\"", "intervall = \"100ms\"");
    assert_eq!(reason, ExitReason::ConfigText);
    let expected = "wanctl.toml:1:1: intervall\n  unknown key\n  hint: did you mean `interval`?";
    assert_eq!(told, expected);
}

#[test]
fn an_unknown_key_brings_the_list_of_known_ones() {
    let (reason, told) = told_after("user = \"wanctl\"", "user = \"wanctl\"\nxyzzyxyzzy = 1");
    assert_eq!(reason, ExitReason::ConfigText);
    assert!(told.starts_with("wanctl.toml:7:1: router.xyzzyxyzzy\n  unknown key\n"), "{told}");
    let known = "known here: ca-file, counter-interval, insecure, password-file, url, user";
    assert!(told.contains(known), "{told}");
}

#[test]
fn the_folder_and_the_address_of_a_running_daemon_are_optional() {
    let config = parse_text(GOOD).unwrap();
    assert_eq!((config.run_dir, config.listen), (None, None));
    let text = format!("run-dir = \"run\"\nlisten = \"[::1]:9871\"\n{GOOD}");
    let config = parse_text(&text).unwrap();
    assert_eq!(config.run_dir, Some("run".into()));
    assert_eq!(config.listen, Some("[::1]:9871".parse().unwrap()));
    for (address, expected) in
        [("192.0.2.1:9871", "must be a loopback address"), ("9871", "expected address and port")]
    {
        let text = format!("listen = \"{address}\"\n{GOOD}");
        let told = parse_text(&text).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn a_firewall_mark_is_a_positive_number_of_32_bits() {
    let line = "name = \"cable\"";
    let marked = |mark: &str| GOOD.replacen(line, &format!("{line}\nfwmark = {mark}"), 1);
    let config = parse_text(&marked("0x2a")).unwrap();
    assert_eq!(config.wans[0].probe_path().fwmark, Some(42));
    for mark in ["0", "-1", "0x100000000", "\"7\""] {
        let told = parse_text(&marked(mark)).unwrap_err().to_string();
        assert!(told.contains("expected a firewall mark from 1 to 0xffffffff"), "{told}");
    }
}

#[test]
fn a_floor_above_the_ceiling_shows_both() {
    let (reason, told) = told_after("floor = \"20M\"", "floor = \"200M\"");
    assert_eq!(reason, ExitReason::ConfigValue);
    assert!(told.contains("wanctl.toml:16:9: wan.download.floor = \"200 Mbit/s\""), "{told}");
    assert!(told.contains("must not be above wan.download.ceiling (94.5 Mbit/s)"), "{told}");
}

#[test]
fn each_kind_of_mistake_is_told_where_it_is() {
    for (line, replacement, place, message) in [
        ("ceiling = \"18M\"", "ceiling = \"18\"", "22:11", "expected a rate such as"),
        ("ceiling = \"18M\"", "ceiling = 18", "22:11", "expected a rate such as"),
        ("floor = \"20M\"", "floor = \"0M\"", "16:9", "0 would mean unlimited"),
        ("factor-down = 0.9", "factor-down = 1.5", "17:15", "expected a factor from 0.1 to 1.0"),
        ("interval = \"100ms\"", "interval = \"5ms\"", "1:12", "must be 10ms to 1s"),
        ("target-delay = \"5ms\"", "target-delay = \"45ms\"", "27:16", "delays must rise"),
        ("baseline-initial = \"20ms\"", "baseline-initial = \"1s\"", "28:20", "must be ordered"),
        ("queue = \"WAN-Upload\"", "queue = \"WAN-Download\"", "21:9", "used twice"),
        ("queue = \"WAN-Upload\"", "queue = \"a\\\"b\"", "21:9", "expected 1 to 64 letters"),
        ("queue = \"WAN-Upload\"", "queue = \"WAN-Upload\\n\"", "21:9", "expected 1 to 64"),
        ("url = \"https://192.0.2.1:8443\"", "url = \"192.0.2.1\"", "5:7", "must start with"),
        ("url = \"https://192.0.2.1:8443\"", "url = \"https://h:99999\"", "5:7", "1 to 65535"),
        ("url = \"https://192.0.2.1:8443\"", "url = \"https://h:abc\"", "5:7", "1 to 65535"),
        ("user = \"wanctl\"", "user = \"wan:ctl\"", "6:8", "nor contain a colon"),
        ("user = \"wanctl\"", "", "4:1", "required and missing"),
        ("on-exit = \"fail-safe\"", "on-exit = \"reset\"", "2:11", "expected \"keep\""),
        ("reflectors = [\"192.0.2.7\", \"192.0.2.8\"]", "reflectors = []", "11:14", "1 to 3"),
        ("fail-safe = \"10M\"", "", "21:9", "required because of"),
        ("fail-safe = \"10M\"", "fail-safe = \"1M\"", "24:13", "floor to ceiling"),
    ] {
        let (_, told) = told_after(line, replacement);
        assert!(told.contains(&format!("wanctl.toml:{place}: ")), "{replacement}: {told}");
        assert!(told.contains(message), "{replacement}: {told}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = GOOD
        .replace("interval =", "intervall =")
        .replace("floor = \"20M\"", "floor = \"200M\"")
        .replace("target-delay", "target_delay");
    let problems = parse_text(&text).unwrap_err();
    let places: Vec<_> = problems.list().iter().map(|problem| problem.place).collect();
    assert_eq!(places, [(1, 1), (16, 9), (27, 1)]);
    assert_eq!(problems.reason(), ExitReason::ConfigText);
}

#[test]
fn text_that_is_not_toml_is_told_with_its_place() {
    let (reason, told) = told_after("user = \"wanctl\"", "user = \"wanctl");
    assert_eq!(reason, ExitReason::ConfigText);
    assert!(told.starts_with("wanctl.toml:6:"), "{told}");
}

#[test]
fn secrets_are_read_from_files_next_to_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wanctl.toml");
    let told = parse(&path, GOOD, ReadFiles::Yes).unwrap_err();
    assert_eq!(told.reason(), ExitReason::PasswordMissing);
    assert_eq!(told.list()[0].place, (7, 17));

    std::fs::write(folder.path().join("password"), "s3cret\n").unwrap();
    let config = parse(&path, GOOD, ReadFiles::Yes).unwrap();
    assert_eq!(config.backend.router().unwrap().password, Secret::new("s3cret".to_owned()));
    assert!(!format!("{config:?}").contains("s3cret"));

    let text = GOOD.replace("user =", "ca-file = \"ca.pem\"\nuser =");
    std::fs::write(folder.path().join("ca.pem"), "no certificate").unwrap();
    let told = parse(&path, &text, ReadFiles::Yes).unwrap_err();
    assert_eq!(told.reason(), ExitReason::CaUnreadable);
    assert_eq!(told.list()[0].place, (6, 11));
}

#[test]
fn values_out_of_range_and_values_of_the_wrong_kind_end_differently() {
    for (line, replacement, reason) in [
        ("floor = \"20M\"", "floor = \"0M\"", ExitReason::ConfigValue),
        ("floor = \"20M\"", "floor = 20", ExitReason::ConfigText),
        ("factor-down = 0.9", "factor-down = 2.0", ExitReason::ConfigValue),
        ("factor-down = 0.9", "factor-down = \"x\"", ExitReason::ConfigText),
    ] {
        let problems = parse_text(&GOOD.replacen(line, replacement, 1)).unwrap_err();
        assert_eq!(problems.reason(), reason, "{replacement}");
        assert_eq!(problems.list().len(), 1, "{replacement}: {problems}");
    }
}

#[test]
fn tls_keys_are_refused_without_tls() {
    let url = "url = \"https://192.0.2.1:8443\"";
    let (reason, told) = told_after(url, "url = \"http://192.0.2.1\"\nca-file = \"ca.pem\"");
    assert_eq!(reason, ExitReason::ConfigValue);
    assert!(told.contains("wanctl.toml:6:11: router.ca-file"), "{told}");
    assert!(told.contains("clear text"), "{told}");
}

#[test]
fn checks_and_link_limits_reach_the_core() {
    let text = format!(
        "{GOOD}\n[wan.checks]\ngateway = \"192.0.2.254\"\ntcp-targets = [\"192.0.2.9:443\"]\n\
         [wan.link]\noutage-after = \"7s\"\nbad = {{ loss = \"12.5%\" }}\n"
    );
    let config = parse_text(&text).unwrap();
    let core = &config.core.wans[0];
    let every = embassy_time::Duration::from_secs(5);
    assert_eq!(core.classic.blind.checks, Checks::Asked { gateway: true, tcp_targets: 1, every });
    let link = core.link.unwrap();
    assert_eq!(link.outage_after, embassy_time::Duration::from_secs(7));
    assert_eq!(link.limits.bad.loss.as_ppm_rounded(), 125_000);
    assert_eq!(config.wans[0].checks.tcp_targets.len(), 1);

    let told = parse_text(&text.replace("12.5%", "1%")).unwrap_err();
    assert!(told.to_string().contains("at or below that of `bad`"), "{told}");
    let told = parse_text(&text.replace("192.0.2.9:443", "192.0.2.9")).unwrap_err();
    assert!(told.to_string().contains("expected at most 4 addresses"), "{told}");
}

#[test]
fn the_law_is_adaptive_unless_a_classic_table_or_the_key_says_otherwise() {
    let i = GOOD.find("[wan.classic]").unwrap();
    let plain = &GOOD[..i];
    let law = |text: &str| parse_text(text).unwrap().core.wans[0].law;
    assert_eq!(law(GOOD), LawConfig::Classic);
    let LawConfig::Adaptive(adaptive) = law(plain) else { panic!("not adaptive") };
    assert_eq!(adaptive.write_budget.map(|budget| budget.per_minute), Some(120));
    let named = plain.replacen("name = ", "law = \"classic\"\nname = ", 1);
    assert_eq!(law(&named), LawConfig::Classic);
    let tuned = format!(
        "{plain}[wan.adaptive]\ntarget-delay = \"8ms\"\nwrites-per-minute = \"unlimited\"\n"
    );
    let config = parse_text(&tuned).unwrap();
    let LawConfig::Adaptive(adaptive) = config.core.wans[0].law else { panic!("not adaptive") };
    assert_eq!((adaptive.target_delay.as_millis(), adaptive.write_budget), (8, None));
    assert_eq!(config.core.wans[0].classic.warn_delay, embassy_time::Duration::from_millis(24));
}

/// The good file for CAKE of this machine.
fn cake_text() -> String {
    let text =
        GOOD.replace("interval = \"100ms\"\non-exit = \"fail-safe\"", "backend = \"linux-cake\"");
    let i = text.find("[router]").unwrap();
    let j = text.find("[[wan]]").unwrap();
    let text = format!("{}{}", &text[..i], &text[j..text.find("[wan.classic]").unwrap()]);
    text.replace("queue = \"WAN-Download\"\n", "")
        .replace("queue = \"WAN-Upload\"\n", "")
        .replace("name = ", "download-interface = \"ifb4wan\"\nupload-interface = \"wan\"\nname = ")
}

#[test]
fn cake_of_this_machine_has_interfaces_and_defaults_of_its_own() {
    let config = parse_text(&cake_text()).unwrap();
    let interval: Duration = config.core.tick.into();
    let BackendConfig::LinuxCake(cake) = config.backend else { panic!("{:?}", config.backend) };
    assert_eq!(cake.counter_interval, interval);
    assert_eq!(config.on_exit, OnExit::Restore);
    let queues = PerDirection { download: "ifb4wan".to_owned(), upload: "wan".to_owned() };
    assert_eq!(config.wans[0].queues, queues);
    let LawConfig::Adaptive(adaptive) = config.core.wans[0].law else { panic!("not adaptive") };
    assert_eq!(adaptive.write_budget, None);
    let text = cake_text()
        + "[wan.adaptive]\nwrites-per-minute = 60\n[linux-cake]\ncounter-interval = \"20ms\"\n";
    let config = parse_text(&text).unwrap();
    let LawConfig::Adaptive(adaptive) = config.core.wans[0].law else { panic!("not adaptive") };
    assert_eq!(
        adaptive.write_budget.map(|budget| (budget.per_minute, budget.per_second)),
        Some((60, 6))
    );
    let BackendConfig::LinuxCake(cake) = config.backend else { panic!("{:?}", config.backend) };
    assert_eq!(cake.counter_interval, Duration::from_millis(20));
}

#[test]
fn what_belongs_to_another_backend_is_refused() {
    let refused = |text: &str, message: &str| {
        let problems = parse_text(text).unwrap_err();
        assert_eq!(problems.list().len(), 1, "{problems}");
        assert!(problems.to_string().contains(message), "{problems}");
        assert_eq!(problems.reason(), ExitReason::ConfigValue);
    };
    let cake = cake_text();
    refused(&(cake.clone() + "[router]\n"), "a backend that is not used");
    refused(&(cake.clone() + "[steering]\n"), "this backend has none");
    let queue = cake.replace("[wan.upload]\n", "[wan.upload]\nqueue = \"WAN-Upload\"\n");
    refused(&queue, "upload-interface = \"...\" in [[wan]]");
    refused(&cake.replace("\"wan\"", "\"ifb4wan\""), "is used twice");
    refused(
        &GOOD.replace("name = ", "upload-interface = \"wan\"\nname = "),
        "`backend = \"linux-cake\"`",
    );
    refused(&(GOOD.to_owned() + "[linux-cake]\n"), "a backend that is not used");
    let missing = parse_text(&cake.replace("upload-interface = \"wan\"\n", "")).unwrap_err();
    assert!(missing.to_string().contains("wan.upload-interface"), "{missing}");
    let unknown = parse_text(&cake.replace("linux-cake", "openwrt")).unwrap_err().to_string();
    assert!(unknown.contains("expected \"routeros\" or \"linux-cake\""), "{unknown}");
}

#[test]
fn tables_of_a_law_that_is_not_used_and_writes_out_of_range_are_refused() {
    let told = |text: &str| parse_text(text).unwrap_err().to_string();
    let both = format!("{GOOD}[wan.adaptive]\n");
    assert!(told(&both).contains("belongs to a law that is not used"), "{}", told(&both));
    let i = GOOD.find("[wan.classic]").unwrap();
    let few = format!("{}[wan.adaptive]\nwrites-per-minute = 5\n", &GOOD[..i]);
    assert!(told(&few).contains("6 to 1200, or \"unlimited\""), "{}", told(&few));
}
