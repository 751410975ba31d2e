//! SIGHUP: the whole configuration or nothing, and everybody is told.

mod common;

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use common::{Bench, Daemon, PATIENCE, pings_or_skip, reload, wanctl_binary};
use rustix::process::Signal;
use wanctl_sim::replay::replay;

/// Another password, which must not be shown either.
const OTHER_PASSWORD: &str = "Qy-Other-7731";

#[track_caller]
fn expect(said: &[String], pieces: &[&str]) {
    for piece in pieces {
        assert!(said.iter().any(|line| line.contains(piece)), "{piece:?} in {said:#?}");
    }
}

fn status(bench: &Bench) -> String {
    let mut command = Command::new(wanctl_binary());
    // By its socket: the file may be wrong just now.
    command.args(["status", "--socket"]).arg(bench.files.path().join("run/wanctl.sock"));
    String::from_utf8(command.output().expect("wanctl can be run").stdout).expect("UTF-8")
}

fn download_writes(bench: &Bench) -> Vec<u64> {
    let writes = bench.emulator.writes().into_iter();
    let writes = writes.filter(|write| write.queue == "WAN-Download");
    writes.map(|write| write.max_limit_bps).collect()
}

#[test]
fn rates_change_without_a_restart_and_the_recording_replays() {
    if !pings_or_skip("rates_change_without_a_restart_and_the_recording_replays") {
        return;
    }
    let bench = Bench::new();
    bench.be_patient();
    bench.edit("run-dir = \"run\"", "run-dir = \"run\"\nstate-dir = \"state\"");
    let mut daemon = bench.start_controlling();
    let before = bench.emulator.writes().len();
    bench.edit("ceiling = \"38000k\"", "ceiling = \"30M\"");
    let said = reload(&mut daemon);
    let change = "INFO reload: wan.cable.download.ceiling: \"38000k\" -> \"30M\"";
    expect(&said, &[change, "INFO reload: done, 1 change"]);
    let cut = bench.emulator.wait_until(PATIENCE, |view| view.writes.len() > before);
    assert!(cut, "{:#?}", daemon.process.lines());
    assert_eq!(download_writes(&bench).last(), Some(&30_000_000));
    // The upload was not written again: what the router holds was known.
    assert_eq!(bench.emulator.writes().len(), before + 1);
    daemon.wait_for("the event", 0, |line| line.contains("going on under another configuration"));
    assert!(status(&bench).contains("reloads: 1 done, 0 refused"), "{}", status(&bench));
    let said = reload(&mut daemon);
    expect(&said, &["INFO reload: done, nothing has changed"]);
    // The recorder moves to a ring of another size in the same folder, beside the one that ends.
    bench.edit("[router]", "[record]\nsize = \"9MB\"\n\n[router]");
    let said = reload(&mut daemon);
    expect(&said, &["reload: record.size: (not set) -> \"9MB\"", "done, 1 change"]);
    let (from, _) = daemon.wait_for_status(daemon.process.lines().len());
    daemon.wait_for_status(from + 1);
    assert!(status(&bench).contains(" of 9.0 MB in 3 segments"), "{}", status(&bench));
    daemon.terminate().expect(0, &[]);
    let file = bench.files.path().join("both.trace");
    let mut command = Command::new(wanctl_binary());
    command.args(["record", "export", "-o"]).arg(&file).arg("--config").arg(bench.files.config());
    assert!(command.status().expect("wanctl can be run").success());
    let outcome = replay(File::open(&file).expect("the file is there"), None).expect("a recording");
    assert!(outcome.difference.is_none(), "{:?}", outcome.difference);
    assert_eq!((outcome.progress.fresh, outcome.progress.resumed), (1, 1), "{outcome:?}");
    assert_eq!((outcome.progress.skipped, outcome.tally.damaged), (0, 0), "{outcome:?}");
}

#[test]
fn what_is_wrong_is_refused_as_a_whole() {
    if !pings_or_skip("what_is_wrong_is_refused_as_a_whole") {
        return;
    }
    let bench = Bench::new();
    let mut daemon = bench.start_controlling();
    let good = bench.config_text();
    let before = bench.emulator.writes().len();
    bench
        .edit("ceiling = \"38000k\"", "ceiling = \"30M\"")
        .edit("queue = \"WAN-Upload\"", "que = 7");
    let said = reload(&mut daemon);
    expect(&said, &["ERROR reload refused: ", "wan.upload.que", "unknown key", "did you mean"]);
    assert!(status(&bench).contains("! the latest reload was refused: "), "{}", status(&bench));
    // Each of these is good, and takes a restart.
    for (from, to, key) in [
        ("interval = \"50ms\"", "interval = \"100ms\"", "interval"),
        ("run-dir = \"run\"", "run-dir = \"other\"", "run-dir"),
        ("run-dir = \"run\"", "run-dir = \"run\"\nlisten = \"127.0.0.1:0\"", "listen"),
        ("run-dir = \"run\"", "run-dir = \"run\"\nstate-dir = \"state\"", "state-dir"),
        ("url = \"https://", "url = \"https://localhost.", "router.url"),
        ("name = \"cable\"", "name = \"dsl\"", "the names and the number of [[wan]]"),
        ("queue = \"WAN-Upload\"", "queue = \"WAN-Other\"", "wan.cable: queue"),
    ] {
        bench.write_file("wanctl.toml", &good);
        bench.edit("ceiling = \"38000k\"", "ceiling = \"30M\"").edit(from, to);
        expect(&reload(&mut daemon), &[&format!("ERROR reload refused: takes a restart: {key}")]);
    }
    bench.remove_file("wanctl.toml");
    expect(&reload(&mut daemon), &["cannot be read"]);
    assert_eq!(bench.emulator.writes().len(), before, "nothing of it was used");
    bench.write_file("wanctl.toml", &good);
    expect(&reload(&mut daemon), &["INFO reload: done, nothing has changed"]);
    assert!(!status(&bench).contains("refused: "), "{}", status(&bench));
    daemon.terminate().expect(0, &[]);
}

#[test]
fn reflectors_and_the_fail_safe_rates_change_without_a_restart() {
    if !pings_or_skip("reflectors_and_the_fail_safe_rates_change_without_a_restart") {
        return;
    }
    let bench = Bench::new();
    let mut daemon = bench.start_controlling();
    bench.fail_safe(20, 5);
    bench.edit("[\"127.0.0.1\", \"127.0.0.2\", \"127.0.0.3\"]", "[\"127.0.0.9\"]");
    let said = reload(&mut daemon);
    let reflectors = "wan.cable.reflectors: [\"127.0.0.1\", \"127.0.0.2\", \"127.0.0.3\"] -> \
                      [\"127.0.0.9\"]";
    let fail_safe = "wan.cable.download.fail-safe: (not set) -> \"20M\"";
    expect(
        &said,
        &[reflectors, fail_safe, "on-exit: \"keep\" -> \"fail-safe\"", "done, 4 changes"],
    );
    // One that does not exist is silence: the probes really go there.
    bench.edit("[\"127.0.0.9\"]", "[\"192.0.2.77\"]");
    let from = daemon.process.lines().len();
    expect(&reload(&mut daemon), &["done, 1 change"]);
    daemon.wait_for("silence", from, |line| line.contains("cable: no reflector answers"));
    let ended = daemon.terminate();
    ended.expect(0, &["ended: the router holds download 20 Mbit/s, upload 5 Mbit/s"]);
}

#[test]
fn another_password_is_used_and_never_shown() {
    if !pings_or_skip("another_password_is_used_and_never_shown") {
        return;
    }
    let bench = Bench::new();
    let mut daemon = bench.start_controlling();
    bench.write_file("password", OTHER_PASSWORD);
    let said = reload(&mut daemon);
    expect(&said, &["INFO reload: router.password: another one (not shown)", "done, 1 change"]);
    let (from, _) =
        daemon.wait_for("a refusal", 0, |line| line.contains("refused user wanctl (401)"));
    bench.write_file("password", common::PASSWORD);
    expect(&reload(&mut daemon), &["router.password: another one (not shown)"]);
    daemon.wait_for("the login", from, |line| line.contains("INFO the router works again"));
    daemon.terminate().expect(0, &[]).expect_not(OTHER_PASSWORD);
}

#[test]
fn systemd_is_told_of_a_reload() {
    if !pings_or_skip("systemd_is_told_of_a_reload") {
        return;
    }
    let bench = Bench::new();
    let path = bench.files.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    systemd.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let told = || {
        let mut buffer = [0_u8; 4096];
        let count = systemd.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let wait_for = |wanted: &str| loop {
        let message = told();
        if message.contains(wanted) {
            return message;
        }
    };
    let mut command = Command::new(wanctl_binary());
    command.args(["run", "--config"]).arg(bench.files.config()).env("NOTIFY_SOCKET", &path);
    let mut daemon = Daemon::start(&mut command);
    wait_for("READY=1");
    for (edit, outcome) in
        [("5s", "STATUS=reloaded: 1 change"), ("5 parsecs", "STATUS=reload refused: ")]
    {
        let text = bench.config_text();
        let line = text.lines().find(|line| line.starts_with("status-interval")).expect("a line");
        bench.edit(line, &format!("status-interval = \"{edit}\""));
        daemon.process.signal(Signal::HUP);
        let begun = wait_for("RELOADING=1");
        let at = begun.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(at.and_then(|at| at.parse::<u64>().ok()).is_some_and(|at| at > 0), "{begun}");
        let over = wait_for("READY=1");
        assert!(over.contains(outcome), "{over}");
    }
    daemon.terminate().expect(0, &[]);
}
