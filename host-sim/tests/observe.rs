//! A running daemon seen from outside: status, health, metrics, systemd, a second instance.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Instant;

use common::{Bench, Daemon, PATIENCE, pings_or_skip, wanctl_binary};
use rustix::process::Signal;
use serde_json::Value;
use wanctl::exit::ExitReason;
use wanctl_sim::routeros::FaultSpec;

/// The password of the router, which must be nowhere in what the daemon shows.
const SECRET: &str = common::PASSWORD;

fn status(bench: &Bench, options: &[&str]) -> Output {
    let mut command = Command::new(wanctl_binary());
    command.arg("status").args(options).arg("--config").arg(bench.files.config());
    command.output().expect("wanctl can be run")
}

fn text_of(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn socket(bench: &Bench) -> PathBuf {
    bench.files.path().join("run").join("wanctl.sock")
}

/// Asks the daemon's HTTP address and returns status and body.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("a question");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, body.to_owned())
}

#[test]
fn status_shows_what_the_daemon_does() {
    if !pings_or_skip("status_shows_what_the_daemon_does") {
        return;
    }
    let bench = Bench::new();
    let daemon = bench.start_controlling();
    let text = text_of(&status(&bench, &[]));
    for piece in ["wanctl ", "cable: ", "download 38 Mbit/s GREEN", "router: MikroTik ready"] {
        assert!(text.contains(piece), "{piece:?} in\n{text}");
    }
    let json = text_of(&status(&bench, &["--json"]));
    let state: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(state["wans"][0]["download"]["confirmed_bps"], 38_000_000);
    assert_eq!(state["router"]["state"], "ready");
    // Also while somebody edits the file.
    let good = bench.config_text();
    for mistake in ["[router", "floor = \"900G\"\n[["] {
        bench.write_file("wanctl.toml", &(good.clone() + mistake));
        assert!(text_of(&status(&bench, &[])).contains("cable: "), "{mistake}");
    }
    bench.write_file("wanctl.toml", &good);
    assert!(!text.contains(SECRET) && !json.contains(SECRET));
    daemon.terminate().expect(0, &[]);
    assert!(!socket(&bench).exists(), "the socket is left behind");
    let output = status(&bench, &[]);
    assert_eq!(output.status.code(), Some(i32::from(ExitReason::NotRunning.code())));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("no daemon answers at "), "{error}");
}

#[test]
fn health_and_metrics_are_served_on_the_loopback_interface() {
    if !pings_or_skip("health_and_metrics_are_served_on_the_loopback_interface") {
        return;
    }
    let bench = Bench::new();
    bench.edit("run-dir = \"run\"", "run-dir = \"run\"\nlisten = \"127.0.0.1:0\"");
    bench.edit("[wan.download]", "[wan.link]\nwarm-up = \"1s\"\n\n[wan.download]");
    let daemon = bench.start_controlling();
    let (_, line) = daemon.wait_for("the address", 0, |line| line.contains("http://127.0.0.1:"));
    let address = line.rsplit_once("http://").expect("an address").1.to_owned();
    daemon.wait_for("a live link", 0, |line| line.contains("WARM -> LIVE"));
    let (code, health) = get(&address, "/health");
    assert_eq!(code, 200, "{health}");
    let (code, metrics) = get(&address, "/metrics");
    assert_eq!(code, 200);
    let confirmed = "wanctl_rate_confirmed_bps{wan=\"cable\",direction=\"download\"} 38000000";
    for line in [confirmed, "wanctl_health 0", "# TYPE wanctl_ticks_total counter"] {
        assert!(metrics.lines().any(|shown| shown == line), "{line} in\n{metrics}");
    }
    assert!(!metrics.contains(SECRET) && !health.contains(SECRET));
    let gone: FaultSpec = "removed:queue".parse().expect("a fault");
    bench.emulator.inject(gone.clone());
    let (code, health) = wait_for_health(&address, 503);
    assert!(health.contains("failing") && health.contains("is gone"), "{code} {health}");
    bench.emulator.mend(gone.fault).expect("the ports are still free");
    wait_for_health(&address, 200);
    bench.emulator.power_off();
    daemon.wait_for("a failure", 0, |line| line.contains("WARN the router fails"));
    let (code, health) = get(&address, "/health");
    assert_eq!(code, 200, "{health}");
    assert!(health.contains("degraded") && health.contains("cannot be reached"), "{health}");
    daemon.terminate().expect(0, &[]);
}

/// Asks until the answer has this code; the daemon looks at its queues five times a second.
fn wait_for_health(address: &str, code: u16) -> (u16, String) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = get(address, "/health");
        if answer.0 == code || Instant::now() > deadline {
            assert_eq!(answer.0, code, "{}", answer.1);
            return answer;
        }
        std::thread::yield_now();
    }
}

#[test]
fn an_address_that_others_could_reach_is_refused() {
    let bench = Bench::new();
    bench.edit("run-dir = \"run\"", "listen = \"0.0.0.0:9871\"");
    let pieces = ["listen = \"0.0.0.0:9871\"", "must be a loopback address"];
    bench.run().expect(ExitReason::ConfigValue.code(), &pieces);
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    if !pings_or_skip("a_second_daemon_is_refused_and_the_first_goes_on") {
        return;
    }
    let bench = Bench::new();
    let first = bench.start_controlling();
    let asked = bench.emulator.writes().len();
    bench.run().expect(ExitReason::AlreadyRunning.code(), &["another wanctl is running"]);
    assert_eq!(bench.emulator.writes().len(), asked);
    assert!(text_of(&status(&bench, &[])).contains("router: MikroTik ready"));
    // One that was killed does not keep the next one out.
    first.signal(Signal::KILL);
    let next = bench.start_controlling();
    assert!(text_of(&status(&bench, &[])).contains("router: MikroTik ready"));
    next.terminate().expect(0, &[]);
}

#[test]
fn systemd_is_told_of_the_start_of_life_and_of_the_end() {
    if !pings_or_skip("systemd_is_told_of_the_start_of_life_and_of_the_end") {
        return;
    }
    let bench = Bench::new();
    // The router never answers: neither readiness nor the watchdog depend on it.
    let _held = bench.emulator.hold_requests();
    let path = bench.files.path().join("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    systemd.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let told = || {
        let mut buffer = [0_u8; 4096];
        let count = systemd.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let mut command = Command::new(wanctl_binary());
    command.args(["run", "--config"]).arg(bench.files.config());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000");
    let daemon = Daemon::start(&mut command);
    assert!(told().contains("READY=1"));
    let mut seen = String::new();
    while seen.matches("WATCHDOG=1").count() < 3 || !seen.contains("STATUS=cable: download ") {
        seen.push_str(&told());
    }
    daemon.terminate().expect(0, &[]);
    while !seen.contains("STOPPING=1") {
        seen.push_str(&told());
    }
}

#[test]
fn the_shipped_unit_is_closed_as_far_as_possible() {
    let unit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../configs/wanctl.service");
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--threshold=20", "--no-pager"]).arg(unit);
    let Ok(output) = command.output() else {
        let _closed = writeln!(std::io::stderr(), "the unit is not judged: no systemd-analyze");
        return;
    };
    // It fails above the threshold, which is ten times the level it shows.
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Overall exposure level for wanctl.service: "), "{text}");
}

#[test]
fn the_shipped_unit_starts_the_daemon_again_unless_somebody_has_to_mend_its_files() {
    let unit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../configs/wanctl.service");
    let unit = std::fs::read_to_string(unit).expect("the unit");
    let (key, restart) = ("RestartPreventExitStatus=", "Restart=always");
    assert!(unit.lines().any(|line| line == restart), "{unit}");
    let listed = unit.lines().find_map(|line| line.strip_prefix(key)).expect(key);
    let files = |reason: &ExitReason| *reason <= ExitReason::CaUnreadable;
    let codes = ExitReason::TABLE.iter().filter(|(reason, ..)| files(reason));
    let codes = codes.map(|(_, code, _)| format!(" {code}")).collect::<String>();
    assert_eq!(listed, format!("2{codes}"));
}

#[test]
fn the_password_can_be_a_systemd_credential() {
    if !pings_or_skip("the_password_can_be_a_systemd_credential") {
        return;
    }
    let bench = Bench::new();
    bench.edit("\"password\"", "\"$CREDENTIALS_DIRECTORY/router-password\"");
    let credentials = bench.files.path().join("credentials");
    std::fs::create_dir(&credentials).expect("a folder");
    std::fs::write(credentials.join("router-password"), SECRET).expect("a file");
    let mut command = Command::new(wanctl_binary());
    command.args(["check", "--router", "--config"]).arg(bench.files.config());
    command.env("CREDENTIALS_DIRECTORY", &credentials);
    Daemon::start(&mut command).end().expect(0, &["MikroTik"]);
    // By hand, nobody sets it.
    command.env_remove("CREDENTIALS_DIRECTORY");
    let advice = "CREDENTIALS_DIRECTORY=/etc/wanctl wanctl";
    Daemon::start(&mut command).end().expect(ExitReason::PasswordMissing.code(), &[advice]);
}
