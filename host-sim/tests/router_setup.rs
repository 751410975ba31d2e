//! What `wanctl router-setup` prints makes a router with which `wanctl check --router` is content.

mod common;

use std::process::Command;

use common::{Bench, Daemon, wanctl_binary};
use wanctl_sim::routeros::{MenuName, Properties, RouterOptions};

/// The shipped configuration with everything in it.
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/dual-wan.toml");
/// What the reader fills in.
const VALUES: [(&str, &str); 5] = [
    ("$wanctlLan", "ether3"),
    ("$wanctlWan1", "ether1"),
    ("$wanctlWan2", "ether2"),
    ("$wanctlGateway1", "192.0.2.1"),
    ("$wanctlGateway2", "198.51.100.1"),
];

/// Splits arguments as RouterOS does: at spaces outside quotes, with backslashes inside.
fn arguments(text: &str) -> Properties {
    let mut words = vec![String::new()];
    let (mut in_quotes, mut letters) = (false, text.chars());
    while let Some(letter) = letters.next() {
        let word = words.last_mut().expect("a word");
        match letter {
            '"' => in_quotes = !in_quotes,
            '\\' if in_quotes => word.extend(letters.next()),
            ' ' if !in_quotes => words.push(String::new()),
            _ => word.push(letter),
        }
    }
    let pair = |word: &String| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        (key.to_owned(), value.to_owned())
    };
    words.iter().filter(|word| !word.is_empty()).map(pair).collect()
}

/// Returns what the script adds to menus that the emulator has.
fn rows(script: &str) -> Vec<(MenuName, Properties)> {
    let mut script = script.to_owned();
    for (variable, value) in VALUES {
        script = script.replace(variable, value);
    }
    let commands = script.lines().filter(|line| !line.starts_with('#'));
    let commands = commands.filter_map(|line| line.split_once("do={ /")?.1.split_once(" } else"));
    let added = commands.filter_map(|(command, _)| command.split_once("/add "));
    let known = |(path, rest): (&str, &str)| {
        let menu = MenuName::ALL.into_iter().find(|menu| menu.path() == path)?;
        Some((menu, arguments(rest)))
    };
    let writable = |(menu, _): &(MenuName, Properties)| {
        !matches!(menu, MenuName::User | MenuName::UserGroup | MenuName::Certificate)
    };
    added.filter_map(known).filter(writable).collect()
}

#[test]
fn a_router_that_was_set_up_by_the_script_passes_the_audit() {
    let mut command = Command::new(wanctl_binary());
    command.args(["router-setup", "--config", CONFIG]);
    let script = Daemon::start(&mut command).end();
    script.expect(0, &["# 8. Steering"]);
    let rows = rows(&script.text);
    let count = |menu| rows.iter().filter(|(found, _)| *found == menu).count();
    assert_eq!([count(MenuName::QueueType), count(MenuName::QueueTree)], [4, 4]);
    assert_eq!([count(MenuName::Mangle), count(MenuName::RoutingTable)], [4, 2]);

    // The emulator refuses properties and values that RouterOS does not have.
    let options = RouterOptions { rows, ..RouterOptions::bare() };
    let bench = Bench::with_router(options);
    let url = bench.emulator.https_url();
    let config = std::fs::read_to_string(CONFIG).expect("the example is there");
    let config = config
        .replace("https://192.168.88.1\"", &format!("{url}\""))
        .replace("wanctl.password", "password");
    bench.write_file("wanctl.toml", &config);
    let steering = "steering to lte: prerouting rule \"wanctl: latency to LTE\" (mark-connection)";
    let pieces = ["cable download: queue WAN-Download-Cable, now 940 Mbit/s", steering];
    bench.check(&["--router"]).expect(0, &pieces).expect(0, &["0 errors, 0 warnings"]);
}
