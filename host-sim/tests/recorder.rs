//! The flight recorder of the built daemon: export while it runs and without it, incidents, full and
//! blocked disks.

mod common;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Bench, Daemon, pings_or_skip, status, wanctl_binary};
use rustix::process::Signal;
use serde_json::Value;
use wanctl::exit::ExitReason;
use wanctl::trace_file::TraceReader;
use wanctl_core::outputs::Event;
use wanctl_core::trace::{self, MAGIC, Record};
use wanctl_sim::replay::{Outcome, replay};

/// A bench that records, every 10 ms.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.edit("run-dir = \"run\"", "run-dir = \"run\"\nstate-dir = \"state\"");
    bench.edit("interval = \"50ms\"\n", "interval = \"10ms\"\n");
    bench
}

fn wanctl(arguments: &[&str], files: &[&Path]) -> Output {
    let mut command = Command::new(wanctl_binary());
    command.args(arguments).args(files);
    command.output().expect("wanctl can be run")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// Exports the latest ten minutes and replays them.
fn export(bench: &Bench, name: &str) -> Outcome {
    let file = bench.files.path().join(name);
    let config = bench.files.config();
    let arguments = ["record", "export", "--last", "10m", "-o"];
    said(&wanctl(&arguments, &[&file, Path::new("--config"), &config]));
    replay_file(&file)
}

fn replay_file(file: &Path) -> Outcome {
    let outcome = replay(File::open(file).expect("the file is there"), None).expect("a recording");
    assert!(outcome.difference.is_none(), "{:?}", outcome.difference);
    assert_eq!((outcome.tally.damaged, outcome.progress.skipped), (0, 0), "{outcome:?}");
    outcome
}

fn list(bench: &Bench) -> String {
    said(&wanctl(&["record", "list", "--config"], &[&bench.files.config()]))
}

fn wait_for_ticks(daemon: &Daemon, more: u64) {
    let from = daemon.process.lines().len();
    let (index, first) = daemon.wait_for_status(from);
    let enough = |line: &str| status(line).is_some_and(|it| it.deadlines >= first.deadlines + more);
    daemon.wait_for("further ticks", index, enough);
}

#[test]
fn a_part_is_exported_while_the_daemon_runs_and_without_it() {
    if !pings_or_skip("a_part_is_exported_while_the_daemon_runs_and_without_it") {
        return;
    }
    let bench = bench();
    let daemon = bench.start_controlling();
    wait_for_ticks(&daemon, 100);
    let first = export(&bench, "running.trace");
    assert!(first.progress.steps >= 100, "{:?}", first.progress);
    assert_eq!((first.progress.fresh, first.progress.resumed), (1, 0));
    wait_for_ticks(&daemon, 50);
    daemon.terminate().expect(0, &["recording: ", " records written, 0 lost"]);
    let second = export(&bench, "ended.trace");
    assert!(second.progress.steps >= first.progress.steps + 50);
    assert!(list(&bench).contains(" 1 segments, "), "{}", list(&bench));
    // Another run goes on in the ring, from the state of the first one.
    let daemon = bench.start_controlling();
    daemon.terminate().expect(0, &["going on from the state before the restart"]);
    let both = export(&bench, "both.trace");
    assert!(both.progress.steps > second.progress.steps);
    assert_eq!((both.progress.fresh, both.progress.resumed), (1, 1), "{:?}", both.progress);
}

#[test]
fn what_was_killed_in_the_middle_is_exported_as_well() {
    if !pings_or_skip("what_was_killed_in_the_middle_is_exported_as_well") {
        return;
    }
    let bench = bench();
    let daemon = bench.start_controlling();
    wait_for_ticks(&daemon, 50);
    while !bench.files.path().join("state/state-0").exists() {
        wait_for_ticks(&daemon, 1);
    }
    daemon.signal(Signal::KILL);
    assert!(export(&bench, "killed.trace").progress.steps >= 50);
    // And what it had learned is there.
    let daemon = bench.start_controlling();
    daemon.terminate().expect(0, &["going on from the state before the restart"]);
}

#[test]
fn an_incident_is_told_recorded_and_kept() {
    if !pings_or_skip("an_incident_is_told_recorded_and_kept") {
        return;
    }
    let bench = bench();
    let mut daemon = bench.start_controlling();
    for number in 1..=2 {
        daemon.process.signal(Signal::USR2);
        let told = format!("WARN incident {number} was marked");
        daemon.wait_for("the incident", 0, |line| line.contains(&told));
    }
    wait_for_ticks(&daemon, 1);
    let config = bench.files.config();
    let text = said(&wanctl(&["status", "--config"], &[&config]));
    assert!(text.contains("incidents: 2 marked, the latest "), "{text}");
    assert!(text.contains(" in 1 segments, 1 pinned; "), "{text}");
    let json = said(&wanctl(&["status", "--json", "--config"], &[&config]));
    let state: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(state["incidents"]["marked"], 2);
    assert_eq!(state["recording"]["records_lost"], 0);
    assert!(list(&bench).contains(" 1 segments, ") && list(&bench).ends_with("pinned\n"));
    export(&bench, "incident.trace");
    assert_eq!(incidents(&bench.files.path().join("incident.trace")), [1, 2]);
    daemon.terminate().expect(0, &[]);
}

/// The numbers of the incidents in a recording.
fn incidents(file: &Path) -> Vec<u32> {
    let mut reader = TraceReader::new(File::open(file).expect("the file is there"));
    let mut numbers = Vec::new();
    while let Some(payload) = reader.next_payload().expect("the file can be read") {
        if let Ok(Record::Step { body, .. }) = trace::parse(payload) {
            let (_, outputs) = trace::decode_tick(body).expect("a tick");
            let outputs = trace::decode_outputs(outputs).expect("outputs");
            numbers.extend(outputs.events.iter().filter_map(|event| match event {
                Event::IncidentMarked { number } => Some(*number),
                _ => None,
            }));
        }
    }
    numbers
}

#[test]
fn the_recorder_can_be_switched_off_and_moved() {
    if !pings_or_skip("the_recorder_can_be_switched_off_and_moved") {
        return;
    }
    let bench = bench();
    let text = bench.config_text();
    bench.write_file(
        "wanctl.toml",
        &text.replace("[router]", "[record]\nenabled = false\n\n[router]"),
    );
    bench.start_controlling().terminate().expect(0, &[]).expect_not("recording: ");
    assert!(!bench.files.path().join("state/record").exists());
    let error = wanctl(&["record", "list", "--config"], &[&bench.files.config()]);
    assert_eq!(error.status.code(), Some(i32::from(ExitReason::Storage.code())));
    assert!(String::from_utf8_lossy(&error.stderr).contains("no flight recorder is configured"));
    let record = "[record]\ndirectory = \"ring\"\nsize = \"9MB\"\n\n[router]";
    bench.write_file("wanctl.toml", &text.replace("[router]", record));
    bench.start_controlling().terminate().expect(0, &["recording: "]);
    assert!(bench.files.path().join("ring").exists());
    export(&bench, "moved.trace");
    bench.write_file("wanctl.toml", &text.replace("[router]", &record.replace("9MB", "1MB")));
    bench.run().expect(ExitReason::ConfigValue.code(), &["record.size", "must be 8.0 MB to "]);
}

/// Starts the daemon in a mount namespace of its own, where its ring is on a disk of 400 kB.
fn start_on_a_tiny_disk(bench: &Bench) -> Daemon {
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=400k tiny \"$1\" && exec \"$2\" run --config \"$3\"";
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(bench.files.path().join("ring")).arg(wanctl_binary()).arg(bench.files.config());
    Daemon::start(&mut command)
}

/// Returns whether mount namespaces can be made; says why not.
fn mounts_or_skip(test: &str) -> bool {
    let made = Command::new("unshare").args(["--mount", "true"]).status();
    if made.is_ok_and(|status| status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{test} cannot run: no mount namespaces");
    let _closed = writeln!(std::io::stderr(), "{test} is skipped: no mount namespaces");
    false
}

#[test]
fn a_full_disk_costs_records_and_never_a_tick() {
    let test = "a_full_disk_costs_records_and_never_a_tick";
    if !pings_or_skip(test) || !mounts_or_skip(test) {
        return;
    }
    let bench = bench();
    bench.edit("[router]", "[record]\ndirectory = \"ring\"\nsize = \"8MB\"\n\n[router]");
    std::fs::create_dir(bench.files.path().join("ring")).expect("a folder");
    let daemon = start_on_a_tiny_disk(&bench);
    wait_for_ticks(&daemon, 50);
    // The ring as the daemon sees it.
    let root = PathBuf::from(format!("/proc/{}/root", daemon.process.id()));
    let ring = bench.files.path().join("ring");
    let ring = root.join(ring.strip_prefix("/").expect("an absolute path"));
    let mut filler = File::create(ring.join("filler")).expect("a file on the tiny disk");
    while filler.write_all(&[1; 512]).is_ok() {}
    // While it is open its room is not free again.
    drop(filler);
    daemon.wait_for("a warning", 0, |line| line.contains("WARN the recording has gaps: "));
    wait_for_ticks(&daemon, 50);
    let text = said(&wanctl(&["status", "--config"], &[&bench.files.config()]));
    assert!(text.contains("! the recording has gaps: the disk is full or too slow"), "{text}");
    std::fs::remove_file(ring.join("filler")).expect("the file is there");
    let (_, line) =
        daemon.wait_for("the end", 0, |line| line.contains("INFO the recording goes on; "));
    assert!(!line.contains(" 0 records lost"), "{line}");
    wait_for_ticks(&daemon, 50);
    let file = bench.files.path().join("full.trace");
    let arguments = ["record", "export", "-o"];
    said(&wanctl(&arguments, &[&file, Path::new("--directory"), &ring]));
    let outcome = replay(File::open(&file).expect("the file is there"), None).expect("a recording");
    // What is left is whole, and goes on behind the gap from a state.
    assert!(outcome.difference.is_none() && outcome.tally.damaged == 0, "{outcome:?}");
    assert!(outcome.progress.resumed >= 1 && outcome.progress.steps > 100, "{outcome:?}");
    daemon.terminate().expect(0, &["recording: "]);
}

#[test]
fn a_blocked_disk_holds_up_neither_ticks_nor_the_end() {
    let test = "a_blocked_disk_holds_up_neither_ticks_nor_the_end";
    if !pings_or_skip(test) {
        return;
    }
    let bench = bench();
    let path = bench.files.path().join("pipe");
    let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo can be run");
    assert!(made.success());
    // A pipe that nobody empties: it takes 64 KiB, and then nothing any more.
    let mut pipe = File::options().read(true).write(true).open(&path).expect("a pipe");
    let mut head = [1; 64];
    head[..MAGIC.len()].copy_from_slice(&MAGIC);
    pipe.write_all(&head).expect("room in the pipe");
    pipe.write_all(&[1; 60_000]).expect("room in the pipe");
    let mut command = Command::new(wanctl_binary());
    command.args(["run", "--config"]).arg(bench.files.config()).arg("--record").arg(&path);
    let daemon = Daemon::start(&mut command);
    wait_for_ticks(&daemon, 300);
    let warning = "the disk takes too long for the end of the recording";
    // The flight recorder beside it has lost nothing.
    daemon.terminate().expect(0, &[warning, " 0 lost"]);
    assert!(export(&bench, "beside.trace").progress.steps >= 300);
}
