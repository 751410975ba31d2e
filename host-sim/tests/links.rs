//! An interface that goes down, vanishes, returns or gets another address is picked up at once.

mod common;

use std::net::TcpListener;

use common::{Daemon, wanctl_binary};
use wanctl_sim::demo::{DaemonFiles, LineProfile, config_text};
use wanctl_sim::netns::{Namespace, usable_or_skip};
use wanctl_sim::routeros::{Emulator, EmulatorOptions};

const INTERFACE: &str = "wan0";
const ADDRESS: &str = "192.0.2.2/24";
const OTHER_ADDRESS: &str = "192.0.2.3/24";
const REFLECTOR: &str = "192.0.2.1";
/// A reflector behind the first one.
const DISTANT: &str = "198.51.100.7";

/// A home and an internet with a cable between them, and a daemon at home.
struct Rig {
    daemon: Daemon,
    _emulator: Emulator,
    _files: DaemonFiles,
    home: Namespace,
    internet: Namespace,
    /// Lines of the log that were looked at.
    seen: usize,
}

impl Rig {
    fn new() -> Self {
        Self::with(REFLECTOR, |_, _| {})
    }

    /// Another reflector, with what that needs in both namespaces.
    fn with(reflector: &str, prepare: impl FnOnce(&Namespace, &Namespace)) -> Self {
        Self::by_way_of(&format!("interface = \"{INTERFACE}\""), reflector, prepare)
    }

    /// Another way out, as the configuration has it.
    fn by_way_of(way: &str, reflector: &str, prepare: impl FnOnce(&Namespace, &Namespace)) -> Self {
        Self::started_by(&[], way, reflector, prepare)
    }

    /// Another way out, and a program before the daemon that starts it.
    fn started_by(
        starter: &[&str],
        way: &str,
        reflector: &str,
        prepare: impl FnOnce(&Namespace, &Namespace),
    ) -> Self {
        let home = Namespace::create("wctl-home").expect("a namespace");
        let internet = Namespace::create("wctl-inet").expect("a namespace");
        plug_in(&home, &internet);
        prepare(&home, &internet);
        let listener = home.run(|| TcpListener::bind("127.0.0.1:0")).expect("the namespace");
        let listener = listener.expect("a free port");
        let emulator = Emulator::start_on(&EmulatorOptions::default(), None, Some(listener));
        let emulator = emulator.expect("the emulator starts");
        let text = config_text(&emulator, &LineProfile::SLOW, &[reflector]);
        let wan = format!("name = \"cable\"\n{way}");
        let text = text.replace("name = \"cable\"", &wan) + "\n[wan.link]\nwarm-up = \"1s\"\n";
        let files = DaemonFiles::write(&text, emulator.ca_pem()).expect("a temporary folder");
        let daemon = wanctl_binary();
        let program = [starter, &[daemon.to_str().expect("UTF-8")]].concat();
        let mut command = home.command(program[0]);
        command
            .args(&program[1..])
            .args(["run", "--log-level", "debug", "--config"])
            .arg(files.config());
        let daemon = Daemon::start(&mut command);
        Self { daemon, _emulator: emulator, _files: files, home, internet, seen: 0 }
    }

    /// Waits for a line after those that were seen already.
    fn wait_for(&mut self, text: &str) -> String {
        let (index, line) = self.daemon.wait_for(text, self.seen, |line| line.contains(text));
        self.seen = index + 1;
        line
    }

    fn home(&self, arguments: &[&str]) {
        self.home.ip(arguments).expect("ip works");
    }

    /// The core's time from one edge to the next is in its own log lines.
    fn wait_until_live(&mut self) {
        self.wait_for("link WARM -> LIVE");
    }
}

fn plug_in(home: &Namespace, internet: &Namespace) {
    let peer = internet.name();
    let ip = |namespace: &Namespace, arguments: &[&str]| {
        namespace.ip(arguments).expect("ip works");
    };
    ip(home, &["link", "add", INTERFACE, "type", "veth", "peer", "name", "net0", "netns", peer]);
    ip(internet, &["addr", "add", "192.0.2.1/24", "dev", "net0"]);
    ip(internet, &["link", "set", "net0", "up"]);
    ip(home, &["addr", "add", ADDRESS, "dev", INTERFACE]);
    ip(home, &["link", "set", INTERFACE, "up"]);
}

#[test]
fn a_link_that_goes_down_and_comes_back_leads_through_its_life() {
    if !usable_or_skip("a_link_that_goes_down_and_comes_back_leads_through_its_life") {
        return;
    }
    let mut rig = Rig::new();
    rig.wait_until_live();
    rig.home(&["link", "set", INTERFACE, "down"]);
    rig.wait_for("WARN the interface is down");
    rig.wait_for("link LIVE -> RESET, the interface is down");
    rig.home(&["link", "set", INTERFACE, "up"]);
    rig.wait_for("INFO the interface is up");
    rig.wait_until_live();
    rig.daemon.terminate().expect(0, &[]);
}

#[test]
fn an_interface_that_vanishes_and_is_made_again_is_probed_again() {
    if !usable_or_skip("an_interface_that_vanishes_and_is_made_again_is_probed_again") {
        return;
    }
    let mut rig = Rig::new();
    rig.wait_until_live();
    rig.home(&["link", "del", INTERFACE]);
    rig.wait_for("WARN there is no such interface");
    rig.wait_for("link LIVE -> RESET, the interface is down");
    plug_in(&rig.home, &rig.internet);
    rig.wait_for("INFO the interface is up");
    rig.wait_until_live();
    rig.daemon.terminate().expect(0, &[]);
}

#[test]
fn another_address_is_a_new_path() {
    if !usable_or_skip("another_address_is_a_new_path") {
        return;
    }
    let mut rig = Rig::new();
    rig.wait_until_live();
    rig.home(&["addr", "del", ADDRESS, "dev", INTERFACE]);
    rig.wait_for("WARN the interface has no address to send from");
    rig.home(&["addr", "add", OTHER_ADDRESS, "dev", INTERFACE]);
    let line = rig.wait_for("INFO the interface is up");
    assert!(line.contains("address=192.0.2.3 changed=true"), "{line}");
    rig.wait_until_live();
    rig.daemon.terminate().expect(0, &[]);
}

#[test]
fn an_icmp_error_ends_a_probe_at_once_and_names_who_sent_it() {
    if !usable_or_skip("an_icmp_error_ends_a_probe_at_once_and_names_who_sent_it") {
        return;
    }
    let way = format!("interface = \"{INTERFACE}\"");
    // Root may use raw sockets, and these come first.
    let without_raw = ["setpriv", "--bounding-set", "-net_raw"];
    for (kind, starter, ping_groups) in
        [("raw", &[][..], "1\t0"), ("unprivileged", &without_raw[..], "0\t2147483647")]
    {
        let mut rig = Rig::started_by(starter, &way, DISTANT, |home, internet| {
            home.set_sysctl("net/ipv4/ping_group_range", ping_groups).expect("a sysctl");
            home.ip(&["route", "add", "default", "via", REFLECTOR]).expect("ip works");
            internet.set_sysctl("net/ipv4/ip_forward", "1").expect("a sysctl");
            internet.ip(&["addr", "add", DISTANT, "dev", "lo"]).expect("ip works");
        });
        rig.wait_for(&format!("ping socket open wan=0 family=V4 kind=\"{kind}\""));
        rig.wait_until_live();
        let internet = |arguments: &[&str]| rig.internet.ip(arguments).expect("ip works");
        // Its own address goes before the route, so there is no moment without either.
        internet(&["route", "add", "unreachable", DISTANT]);
        internet(&["addr", "del", &format!("{DISTANT}/32"), "dev", "lo"]);
        rig.wait_for("WARN 198.51.100.7: host unreachable, says 192.0.2.1");
        let internet = |arguments: &[&str]| rig.internet.ip(arguments).expect("ip works");
        internet(&["addr", "add", DISTANT, "dev", "lo"]);
        rig.wait_for("INFO it answers again wan=0 reflector=198.51.100.7");
        rig.daemon.terminate().expect(0, &[]);
    }
}

#[test]
fn probes_leave_by_the_way_their_mark_or_source_address_chooses() {
    if !usable_or_skip("probes_leave_by_the_way_their_mark_or_source_address_chooses") {
        return;
    }
    // The main table has no way to the reflector; the one of the rule has.
    for (way, rule) in [
        ("fwmark = 0x2a", ["fwmark", "0x2a"]),
        ("source-address = \"192.0.2.3\"", ["from", "192.0.2.3"]),
    ] {
        let mut rig = Rig::by_way_of(way, DISTANT, |home, internet| {
            home.ip(&["addr", "add", OTHER_ADDRESS, "dev", INTERFACE]).expect("ip works");
            home.ip(&["route", "add", DISTANT, "via", REFLECTOR, "table", "100"])
                .expect("ip works");
            home.ip(&["rule", "add", rule[0], rule[1], "lookup", "100"]).expect("ip works");
            internet.ip(&["addr", "add", DISTANT, "dev", "lo"]).expect("ip works");
        });
        rig.wait_until_live();
        rig.home(&["rule", "del", rule[0], rule[1], "lookup", "100"]);
        rig.wait_for("WARN probes cannot be sent");
        rig.home(&["rule", "add", rule[0], rule[1], "lookup", "100"]);
        rig.wait_for("INFO probes can be sent again");
        rig.daemon.terminate().expect(0, &[]);
    }
}
