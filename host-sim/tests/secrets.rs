//! The router's password is nowhere in what the daemon shows or keeps, even when the router sends it
//! back in every way it can.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::echo::Echo;
use common::{Bench, Daemon, PATIENCE, pings_or_skip, wanctl_binary};
use rustix::process::Signal;

/// With a quotation mark and a backslash, which JSON spells otherwise.
const PASSWORD: &str = "Zx\\Leaked\"9Q";
/// The password after the reload.
const NEXT_PASSWORD: &str = "Kw-Leaked-4T";

/// Base64 of both logins and of both passwords, without padding.
const IN_BASE64: [&str; 4] = [
    "d2FuY3RsOlp4XExlYWtlZCI5UQ",
    "WnhcTGVha2VkIjlR",
    "b3RoZXI6S3ctTGVha2VkLTRU",
    "S3ctTGVha2VkLTRU",
];

/// Every spelling that must not appear.
fn needles() -> Vec<String> {
    let plain = [PASSWORD, NEXT_PASSWORD].map(str::to_owned);
    let escaped = PASSWORD.replace('\\', "\\\\").replace('"', "\\\"");
    let twice = escaped.replace('\\', "\\\\").replace('"', "\\\"");
    let debug = [escaped, twice];
    plain.into_iter().chain(debug).chain(IN_BASE64.map(str::to_owned)).collect()
}

#[track_caller]
fn assert_silent(place: &str, bytes: &[u8]) {
    for needle in needles() {
        let found = bytes.windows(needle.len()).position(|window| window == needle.as_bytes());
        let context = found.map(|at| {
            let from = at.saturating_sub(200);
            String::from_utf8_lossy(&bytes[from..(at + 60).min(bytes.len())]).into_owned()
        });
        assert_eq!(context, None, "{needle} in {place}");
    }
}

/// The number of ways.
const WAYS: usize = 12;

/// Repeats a request, with its login spelled out.
fn serve(mut stream: TcpStream, way: usize) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; 8192];
    let count = stream.read(&mut buffer)?;
    let request = String::from_utf8_lossy(&buffer[..count]).into_owned();
    let basic = request.lines().find_map(|line| line.split_once("Basic ")).map(|(_, it)| it.trim());
    let login = BASE64_STANDARD.decode(basic.unwrap_or_default()).unwrap_or_default();
    let login = String::from_utf8_lossy(&login).into_owned();
    let password = login.split_once(':').map_or("", |(_, password)| password);
    let echo = format!("{request} {login} {password} {}", BASE64_STANDARD.encode(password));
    let line = echo.replace(['\r', '\n'], " ");
    let json = serde_json::json!({ "error": 400, "message": echo, "detail": echo }).to_string();
    let plain = |status: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    };
    let answer = match way {
        0 => plain("400 Bad Request", &json),
        1 => plain("500 Internal Server Error", &json),
        2 => plain("404 Not Found", &json),
        3 => plain("200 OK", &echo),
        4 => plain("200 OK", &json),
        5 => plain("200 OK", &serde_json::json!([{ "max-limit": echo, ".id": echo }]).to_string()),
        6 => plain(&format!("400 {line}"), &json),
        7 => line,
        8 => format!("HTTP/1.1 200 OK\r\nX-Echo {line}\r\n\r\n"),
        9 => plain(&format!("302 Found\r\nLocation: http://{login}@localhost/"), &json),
        10 => format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{line}\r\n"),
        _ => format!("HTTP/1.1 {line} OK\r\nContent-Length: {line}\r\n\r\n{json}"),
    };
    stream.write_all(answer.as_bytes())
}

fn get(address: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("a question");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    answer
}

/// Looks into every file of a folder but those that the user has written.
fn search(folder: &Path) -> usize {
    let mut files = 0;
    for entry in folder.read_dir().expect("a folder").map_while(Result::ok) {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            files += search(&path);
        } else if entry.file_type().is_ok_and(|it| it.is_file()) && name != "password" {
            files += 1;
            assert_silent(&name, &std::fs::read(&path).expect("the file can be read"));
        }
    }
    files
}

fn output(arguments: &[&str], bench: &Bench) -> Vec<u8> {
    let mut command = Command::new(wanctl_binary());
    command.args(arguments).arg("--config").arg(bench.files.config());
    let output = command.output().expect("wanctl can be run");
    [output.stdout, output.stderr].concat()
}

#[test]
fn the_password_is_shown_and_kept_nowhere() {
    if !pings_or_skip("the_password_is_shown_and_kept_nowhere") {
        return;
    }
    let echo = Echo::start(WAYS, serve);
    let bench = Bench::new();
    let url = bench.emulator.https_url();
    bench.edit(&url, &format!("http://127.0.0.1:{}", echo.port));
    bench.edit("ca-file = \"router-ca.pem\"\n", "");
    let folders = "run-dir = \"run\"\nstate-dir = \"state\"\nlisten = \"127.0.0.1:0\"";
    bench.edit("run-dir = \"run\"", folders);
    bench.write_file("password", PASSWORD);
    let mut command = Command::new(wanctl_binary());
    command.args(["run", "--log-level", "trace", "--config"]).arg(bench.files.config());
    command.arg("--record").arg(bench.files.path().join("plain.trace"));
    let mut daemon = Daemon::start(&mut command);
    let (_, line) = daemon.wait_for("the address", 0, |line| line.contains("http://127.0.0.1:"));
    let is_address = |line: &str| line.contains("health and metrics on http://");
    let line = if is_address(&line) { line } else { daemon.wait_for("it", 0, is_address).1 };
    let address = line.rsplit_once("http://").expect("an address").1.to_owned();
    let failure = |line: &str| line.contains("WARN the router fails, trying again");
    daemon.wait_for("a failure", 0, failure);
    let look = |daemon: &Daemon| {
        for path in ["/health", "/metrics", "/status", "/status.json", "/none"] {
            assert_silent(path, &get(&address, path));
        }
        assert_silent("status", &output(&["status"], &bench));
        assert_silent("status --json", &output(&["status", "--json"], &bench));
        assert_silent("the log", daemon.process.lines().join("\n").as_bytes());
    };
    look(&daemon);
    // Every way an answer can be wrong is met; the pauses of the daemon are longer every time.
    for _ in 0..WAYS {
        let shown = output(&["check", "--router"], &bench);
        assert!(!shown.is_empty());
        assert_silent("check --router", &shown);
    }
    daemon.process.signal(Signal::USR2);
    daemon.wait_for("the incident", 0, |line| line.contains("incident 1 was marked"));
    bench.write_file("password", NEXT_PASSWORD);
    bench.edit("user = \"wanctl\"", "user = \"other\"");
    daemon.process.signal(Signal::HUP);
    daemon.wait_for("the reload", 0, |line| line.contains("INFO reload: done, 2 changes"));
    bench.edit("status-interval = \"1s\"", "status-interval = 1");
    daemon.process.signal(Signal::HUP);
    daemon.wait_for("a refusal", 0, |line| line.contains("ERROR reload refused: "));
    look(&daemon);
    bench.edit("status-interval = 1", "status-interval = \"1s\"");
    let file = bench.files.path().join("export.trace");
    let file = file.to_str().expect("a path of ours");
    assert_silent("record export", &output(&["record", "export", "-o", file], &bench));
    assert_silent("record list", &output(&["record", "list"], &bench));
    assert_silent("router-setup", &output(&["router-setup"], &bench));
    daemon.process.signal(Signal::TERM);
    let ended = daemon.end();
    assert_silent("the log", ended.text.as_bytes());
    assert!(echo.served() > WAYS, "every way was met");
    // Configuration, state, both recordings, the export; none of them was left out.
    assert!(search(bench.files.path()) >= 5);
}

#[test]
fn a_file_that_is_no_password_is_not_shown_either() {
    let bench = Bench::new();
    for text in [format!("{PASSWORD}\n{PASSWORD}\n"), PASSWORD.repeat(30)] {
        bench.write_file("password", &text);
        let shown = output(&["check"], &bench);
        assert!(String::from_utf8_lossy(&shown).contains("does not look like a password"));
        assert_silent("check", &shown);
    }
    bench.write_file("password", PASSWORD);
    bench.edit("url = \"https://", &format!("url = \"https://wanctl:{NEXT_PASSWORD}@"));
    let shown = output(&["check"], &bench);
    assert!(String::from_utf8_lossy(&shown).contains("must not hold a login"));
    assert_silent("check", &shown);
}
