//! The router's password is nowhere in what is shown over the binary API either, when whoever answers
//! sends the login back in every way it can.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use common::echo::Echo;
use common::{Bench, Daemon, PATIENCE, pings_or_skip, wanctl_binary};
use wanctl::routeros::sentence::{Decoder, encode};

/// With a quotation mark and a backslash, which errors spell otherwise.
const PASSWORD: &str = "Zx\\Leaked\"9Q";
/// A part of it that no spelling changes. Half a password is too much as well.
const NEEDLE: &str = "Leak";
/// The number of ways to answer.
const WAYS: usize = 10;
/// Errors show so much of what makes no sense, in characters.
const EXCERPT_CHARS: usize = 80;

#[track_caller]
fn assert_silent(place: &str, text: &str) {
    let line = text.lines().find(|line| line.contains(NEEDLE));
    assert_eq!(line, None, "in {place}");
}

/// Takes a login and answers with what was said.
fn answer(mut stream: TcpStream, way: usize) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut decoder, mut bytes) = (Decoder::default(), Vec::new());
    let words: Vec<String> = loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer)?;
        bytes.extend_from_slice(&buffer[..count]);
        decoder.push(&buffer[..count]);
        if let Ok(Some(words)) = decoder.next_sentence() {
            break words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        }
    };
    let with = |prefix: &str| words.iter().find(|word| word.starts_with(prefix)).cloned();
    let (tag, login) = (with(".tag=").unwrap_or_default(), with("=password=").unwrap_or_default());
    let password = login.trim_start_matches("=password=");
    let echo = words.join(" ");
    let say = |sentences: &[&[String]]| -> Vec<u8> {
        sentences.iter().flat_map(|words| encode(words).unwrap_or_default()).collect()
    };
    let text = |text: &str| text.to_owned();
    // The excerpt ends within the password.
    let cut = "x".repeat(EXCERPT_CHARS - 8) + password;
    let done = [text("!done"), tag.clone()];
    let reply = match way {
        0 => bytes,
        1 => say(&[&[text("!trap"), tag, format!("=message={echo}")], &done]),
        2 => say(&[&[text("!fatal"), echo]]),
        3 => say(&[&[text("!done"), tag, format!("=ret={echo}")]]),
        4 => say(&[&[cut]]),
        5 => say(&[&[format!("!{echo}")]]),
        6 => say(&[&[text("!re"), format!(".tag={echo}")]]),
        7 => {
            say(&[&[text("!trap"), tag, format!("=message=not enough permissions {login}")], &done])
        }
        8 => format!("HTTP/1.1 400 {echo}\r\n\r\n{echo}").into_bytes(),
        _ => say(&[&[text("!trap"), tag, format!("=message=cannot log in: {login}")], &done]),
    };
    stream.write_all(&reply)
}

#[test]
fn a_login_that_comes_back_over_the_api_is_not_shown() {
    let echo = Echo::start(WAYS, answer);
    let bench = Bench::new();
    bench.over_api();
    bench.edit(&bench.emulator.api_ssl_url(), &format!("http://127.0.0.1:{}", echo.port));
    bench.edit("ca-file = \"router-ca.pem\"\n", "");
    bench.write_file("password", PASSWORD);
    for way in 0..WAYS {
        let mut command = Command::new(wanctl_binary());
        command.args(["check", "--router", "--config"]).arg(bench.files.config());
        let output = command.output().expect("wanctl can be run");
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !shown.is_empty(), "way {way}: {output:?}");
        assert_silent(&format!("way {way}"), &shown);
        assert_silent(&format!("way {way}"), &String::from_utf8_lossy(&output.stdout));
    }
    assert!(echo.served() >= WAYS, "every way was met");
    if !pings_or_skip("a_login_that_comes_back_over_the_api_is_not_shown") {
        return;
    }
    let mut command = Command::new(wanctl_binary());
    command.args(["run", "--log-level", "trace", "--config"]).arg(bench.files.config());
    let daemon = Daemon::start(&mut command);
    daemon.wait_for("a failure", 0, |line| line.contains("WARN the router fails, trying again"));
    assert_silent("the log", &daemon.terminate().text);
}
