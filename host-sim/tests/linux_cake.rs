//! Bad ground under `backend = "linux-cake"`: a clear message, an exit code of its own, and qdiscs that were
//! left alone. The kernel that runs the tests needs no CAKE; what works with it is the rig's to show.

mod common;

use std::process::Command;

use common::{Daemon, Ended, wanctl_binary};
use wanctl::exit::ExitReason;
use wanctl_sim::demo::DaemonFiles;
use wanctl_sim::netns::{Namespace, usable_or_skip};

const CONFIG: &str = r#"backend = "linux-cake"
run-dir = "run"

[[wan]]
name = "cable"
reflectors = ["127.0.0.1"]
download-interface = "ifb4wan"
upload-interface = "wan0"

[wan.download]
ceiling = "50M"
floor = "5M"

[wan.upload]
ceiling = "20M"
floor = "2M"
"#;

/// A namespace with `wan0` and `ifb4wan`, neither of them with CAKE.
struct Ground {
    namespace: Namespace,
    files: DaemonFiles,
}

impl Ground {
    fn new() -> Self {
        let namespace = Namespace::create("wctl-cake").expect("a namespace");
        for name in ["wan0", "ifb4wan"] {
            let peer = format!("{name}-far");
            let add = ["link", "add", name, "type", "veth", "peer", "name", &peer];
            namespace.ip(&add).expect("ip works");
            namespace.ip(&["link", "set", name, "up"]).expect("ip works");
        }
        let files = DaemonFiles::write(CONFIG, "").expect("a temporary folder");
        Self { namespace, files }
    }

    fn tc(&self, arguments: &[&str]) -> String {
        let output = self.namespace.command("tc").args(arguments).output().expect("tc runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `wanctl` behind these words until it ends.
    fn wanctl(&self, before: &[&str], arguments: &[&str]) -> Ended {
        let program = wanctl_binary().to_str().expect("UTF-8");
        let words: Vec<&str> = before.iter().copied().chain([program]).collect();
        let mut command: Command = self.namespace.command(words[0]);
        command.args(&words[1..]).args(arguments).arg("--config").arg(self.files.config());
        Daemon::start(&mut command).end()
    }

    /// Both ways to start say the same.
    fn expect(&self, before: &[&str], reason: ExitReason, pieces: &[&str]) {
        self.wanctl(before, &["check"]).expect(reason.code(), pieces);
        self.wanctl(before, &["run"]).expect(reason.code(), pieces);
    }
}

#[test]
fn interfaces_without_cake_or_with_another_qdisc_are_refused_and_left_alone() {
    if !usable_or_skip("interfaces_without_cake_or_with_another_qdisc_are_refused_and_left_alone") {
        return;
    }
    let ground = Ground::new();
    let reason = ExitReason::CakeMissing;
    ground.expect(&[], reason, &["interface ifb4wan has no CAKE qdisc but noqueue", "hint: "]);
    ground.tc(&["qdisc", "add", "dev", "ifb4wan", "root", "handle", "1:", "htb"]);
    let before = ground.tc(&["qdisc", "show"]);
    ground.expect(&[], reason, &["interface ifb4wan has no CAKE qdisc but htb"]);
    assert_eq!(ground.tc(&["qdisc", "show"]), before);
    // Both directions are looked at.
    let check = ground.wanctl(&[], &["check"]);
    check.expect(reason.code(), &["interface wan0 has no CAKE qdisc but noqueue"]);
    ground.wanctl(&[], &["check", "--text-only"]).expect(0, &["good"]);
}

#[test]
fn an_interface_that_is_not_there_is_named_with_those_that_are() {
    if !usable_or_skip("an_interface_that_is_not_there_is_named_with_those_that_are") {
        return;
    }
    let ground = Ground::new();
    ground.namespace.ip(&["link", "del", "ifb4wan"]).expect("ip works");
    let pieces = ["there is no interface \"ifb4wan\"; hint: there are ", "wan0"];
    ground.expect(&[], ExitReason::InterfaceMissing, &pieces);
}

#[test]
fn without_the_right_to_change_qdiscs_nothing_is_begun() {
    if !usable_or_skip("without_the_right_to_change_qdiscs_nothing_is_begun") {
        return;
    }
    let ground = Ground::new();
    let without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    if Command::new("setpriv").arg("--version").output().is_err() {
        return;
    }
    let pieces = ["this program may not change qdiscs", "CAP_NET_ADMIN"];
    ground.wanctl(&without, &["run"]).expect(ExitReason::NetAdmin.code(), &pieces);
}

#[test]
fn rates_that_an_earlier_daemon_found_survive_a_start_on_bad_ground() {
    if !usable_or_skip("rates_that_an_earlier_daemon_found_survive_a_start_on_bad_ground") {
        return;
    }
    let ground = Ground::new();
    let run_dir = ground.files.config().with_file_name("run");
    std::fs::create_dir(&run_dir).expect("a folder");
    let file = run_dir.join("found-rates");
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    let header =
        "wanctl found-rates 1: interface, index, handle, rate found, rates left, in bytes/s";
    let whole = format!("{header}\n{boot}ifb4wan 3 8001: 6250000 625000\n");
    let warning = "this is not a list of rates that wanctl has found; it is ignored";
    let reason = ExitReason::CakeMissing.code();
    std::fs::write(&file, &whole).expect("a file");
    let ended = ground.wanctl(&[], &["run"]);
    ended.expect(reason, &["has no CAKE qdisc"]);
    assert!(!ended.text.contains(warning), "{}", ended.text);
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), whole);

    let cut = &whole[..whole.len() - 5];
    std::fs::write(&file, cut).expect("a file");
    ground.wanctl(&[], &["run"]).expect(reason, &["run/found-rates", warning]);
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), cut);
}
