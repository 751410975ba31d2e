//! Replays of good and bad recordings.

use std::io::Cursor;
use std::process::Command;

use wanctl_core::config::Config;
use wanctl_core::units::BitsPerSecond;
use wanctl_core::{example, trace};
use wanctl_sim::replay::{Outcome, WhatIf, replay};
use wanctl_sim::synthetic;

/// Frames of a recording of two WANs: `steps` steps, a header and a state in front of each minute.
fn frames(steps: u64) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    synthetic::write_recording(&synthetic::config(), steps, &mut bytes).unwrap();
    let inner = bytes.split(|byte| *byte == 0).filter(|inner| !inner.is_empty());
    inner.map(|inner| [&[0], inner, &[0]].concat()).collect()
}

fn check(bytes: &[u8]) -> Result<Outcome, String> {
    replay(Cursor::new(bytes), None).map_err(|error| format!("{error:#}"))
}

/// Puts the CRC behind a payload and makes a frame of it.
fn reframe(payload: &[u8]) -> Vec<u8> {
    let sum = wanctl_core::persist::checksum(payload).to_le_bytes();
    let mut frame = vec![0];
    // Runs of at most 254 bytes that hold no zero, each with its count.
    let mut rest = [payload, &sum, &[0]].concat();
    while !rest.is_empty() {
        let run = rest.iter().take(254).position(|byte| *byte == 0).unwrap_or(254);
        frame.push(u8::try_from(run + 1).unwrap());
        frame.extend(rest.drain(..run));
        if run < 254 {
            rest.remove(0);
        }
    }
    frame.push(0);
    frame
}

fn payload(frame: &[u8]) -> Vec<u8> {
    let mut inner = frame[1..frame.len() - 1].to_vec();
    trace::open(&mut inner).unwrap().to_vec()
}

#[test]
fn a_recording_replays_bit_for_bit_with_its_states() {
    let outcome = check(&frames(2600).concat()).unwrap();
    assert!(outcome.difference.is_none(), "{:?}", outcome.difference);
    let progress = &outcome.progress;
    assert_eq!((progress.steps, progress.states, progress.skipped), (2600, 3, 0));
    assert!(progress.notes.is_empty(), "{:?}", progress.notes);
}

#[test]
fn a_replay_starts_in_the_middle_and_after_a_gap() {
    let frames = frames(2600);
    // Header, state and 1200 steps make a minute.
    let outcome = check(&frames[700..].concat()).unwrap();
    assert_eq!((outcome.progress.steps, outcome.progress.skipped), (1400, 502));
    let gap = [&frames[..100], &frames[103..]].concat().concat();
    let outcome = check(&gap).unwrap();
    assert!(outcome.difference.is_none());
    assert_eq!((outcome.progress.steps, outcome.progress.skipped), (98 + 1400, 1099));
    assert_eq!(
        outcome.progress.notes,
        ["steps 98 to 100 are missing", "starting again from the state in front of step 1200"]
    );
}

#[test]
fn the_first_difference_is_shown() {
    let mut frames = frames(300);
    let at = frames.len() - 40;
    let mut changed = payload(&frames[at]);
    // The last byte counts dropped outputs.
    *changed.last_mut().unwrap() = 9;
    frames[at] = reframe(&changed);
    let outcome = check(&frames.concat()).unwrap();
    let difference = outcome.difference.as_ref().unwrap();
    assert_eq!(difference.seq, 260);
    assert_eq!((&*difference.expected, &*difference.got), ("9 dropped", "0 dropped"));
    let mut text = Vec::new();
    outcome.print("x.trace", &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("first difference: tick 260, time 13.050000 s"), "{text}");
}

#[test]
fn a_state_that_was_not_reached_is_a_difference() {
    let mut frames = frames(1300);
    let at = 1203;
    let mut changed = payload(&frames[at]);
    let last = changed.last_mut().unwrap();
    assert_eq!((*last, changed[0]), (0, 2), "a state ends with a restoration that is not due");
    *changed.last_mut().unwrap() = 1;
    frames[at] = reframe(&changed);
    let difference = check(&frames.concat()).unwrap().difference.unwrap();
    assert_eq!((difference.seq, difference.time_us), (1200, None));
}

#[test]
fn no_truncation_and_no_flipped_bit_is_too_much() {
    let frames = frames(4);
    let bytes = frames.concat();
    for length in 0..bytes.len() {
        match check(&bytes[..length]) {
            Ok(outcome) => assert!(outcome.difference.is_none(), "{length} bytes"),
            Err(error) => assert!(error.contains("records saved"), "{length} bytes: {error}"),
        }
    }
    // One bit of each byte; the tests of the reader flip all of them.
    for bit in (0..bytes.len()).map(|byte| byte * 8 + byte * 5 % 8) {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        match check(&damaged) {
            Ok(outcome) => {
                assert!(outcome.difference.is_none(), "bit {bit}");
                assert!(outcome.tally.saved + 1 >= frames.len() as u64, "bit {bit}");
            }
            Err(error) => {
                assert!(error.starts_with("5 records saved"), "bit {bit}: {error}");
                assert!(error.contains("no state is left"), "bit {bit}: {error}");
            }
        }
    }
}

#[test]
fn what_cannot_be_replayed_says_why_and_how_much_was_saved() {
    let frames = frames(3);
    let error = check(b"interval = 50ms").unwrap_err();
    assert!(error.starts_with("0 records saved, 1 places damaged: this is not a recording"));
    let mut newer = payload(&frames[0]);
    newer[9] = 2;
    let error = check(&[reframe(&newer), frames[1].clone()].concat()).unwrap_err();
    // Whole records are counted even where they cannot be replayed.
    assert!(error.starts_with("2 records saved, 0 places damaged: it is recorded in format 2"));
    let mut other = synthetic::config();
    other.wans[0].classic.green_hold = embassy_time::Duration::from_secs(1);
    let mut buffer = vec![0; trace::MAX_HEADER_BYTES];
    let header = trace::encode_header(&other, &mut buffer).unwrap().to_vec();
    let error = check(&[&[header][..], &frames[1..]].concat().concat()).unwrap_err();
    assert!(error.starts_with("5 records saved, 0 places damaged: "), "{error}");
    assert!(error.ends_with("in front of step 0 belongs to another configuration"), "{error}");
}

#[test]
fn states_of_another_format_leave_the_beginning_as_a_start() {
    let mut frames = frames(1300);
    for header in [0, 1202] {
        let mut changed = payload(&frames[header]);
        changed[10] = 99;
        frames[header] = reframe(&changed);
    }
    let outcome = check(&frames.concat()).unwrap();
    assert_eq!((outcome.progress.steps, outcome.progress.states), (1300, 1));
    assert!(outcome.progress.notes[0].starts_with("its states are of format 99"));
}

#[test]
fn two_sessions_in_one_file_are_both_replayed() {
    let mut single = example::config();
    single.wans[0].reflectors = 1;
    let mut bytes = frames(30).concat();
    synthetic::write_recording(&single, 40, &mut bytes).unwrap();
    let outcome = check(&bytes).unwrap();
    assert!(outcome.difference.is_none());
    assert_eq!((outcome.progress.steps, outcome.progress.states), (70, 2));
    assert_eq!(outcome.progress.notes.len(), 2, "{:?}", outcome.progress.notes);
}

fn what_if(config: Config) -> Result<String, String> {
    let mut what_if = WhatIf::new(config).unwrap();
    let bytes = frames(12_000).concat();
    replay(Cursor::new(bytes), Some(&mut what_if)).map_err(|error| format!("{error:#}"))?;
    let mut text = Vec::new();
    what_if.print(&mut text).unwrap();
    Ok(String::from_utf8(text).unwrap())
}

#[test]
fn what_if_shows_both_sides() {
    let mut config = synthetic::config();
    config.wans[1].shapers.download.ceiling = BitsPerSecond::from_mbps(60);
    let text = what_if(config).unwrap();
    let table = |title: &str| {
        let rest = text.split(title).nth(1).unwrap();
        rest.lines().skip(1).take(10).map(str::to_owned).collect::<Vec<_>>()
    };
    let highest = |title| table(title).into_iter().find(|row| row.contains("highest")).unwrap();
    let cells = |row: String| {
        row.split("  ")
            .map(str::trim)
            .filter(|c| !c.is_empty())
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(cells(highest("WAN 0 download")), ["95 Mbit/s", "95 Mbit/s"], "{text}");
    assert_eq!(cells(highest("WAN 1 download")), ["95 Mbit/s", "60 Mbit/s"], "{text}");
    for row in table("WAN 0 upload").into_iter().filter(|row| row.contains("time in")) {
        let both = cells(row);
        assert_eq!(both[0], both[1], "the upload of WAN 0 is configured as recorded");
    }
    assert!(text.contains("They do not answer to the other rates"));
    let steering = text.split("Steering").nth(1).expect("the recording steers");
    let away = steering.lines().find(|row| row.contains("time on the alternate")).unwrap();
    assert_eq!(cells(away.to_owned()).len(), 2, "{text}");
    let refused = what_if(example::config()).unwrap_err();
    let told = "as the recording: it has 2 WANs with 3 and 3 reflectors, every 50 ms; the configuration has 1";
    assert!(refused.contains(told), "{refused}");
}

/// Runs the program on a recording; returns its exit code and everything it said.
fn program(bytes: &[u8], more: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.trace");
    std::fs::write(&path, bytes).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wanctl-sim"))
        .arg("replay")
        .arg(&path)
        .args(more)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn the_exit_code_says_identical_different_or_unusable() {
    let mut frames = frames(30);
    let (code, said) = program(&frames.concat(), &["--speed"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("identical: 30 steps and 1 states, bit for bit"), "{said}");
    assert!(said.contains("ticks per second"), "{said}");
    let mut changed = payload(&frames[20]);
    *changed.last_mut().unwrap() = 9;
    frames[20] = reframe(&changed);
    let (code, said) = program(&frames.concat(), &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("first difference: tick 18"), "{said}");
    let (code, said) = program(b"", &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("0 records saved"), "{said}");
    let (code, said) = program(&frames.concat(), &["--what-if", "no-such-file.toml"]);
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn the_outputs_of_every_step_are_written_down() {
    let frames = frames(3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outputs");
    let (code, said) = program(&frames.concat(), &["--outputs", path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let written = std::fs::read(path).unwrap();
    let mut rest = &written[..];
    for (seq, frame) in (0_u64..).zip(&frames[2..]) {
        let recorded = payload(frame);
        let Ok(trace::Record::Step { body, .. }) = trace::parse(&recorded) else { panic!("{seq}") };
        let outputs = trace::decode_tick(body).unwrap().1;
        let (head, bytes) = rest.split_at(10);
        assert_eq!(head[..8], seq.to_le_bytes());
        assert_eq!(usize::from(u16::from_le_bytes([head[8], head[9]])), outputs.len());
        assert_eq!(&bytes[..outputs.len()], outputs);
        rest = &bytes[outputs.len()..];
    }
    assert!(rest.is_empty());
}

#[test]
fn starts_with_and_without_a_past_are_told() {
    let frames = frames(1300);
    let (_, said) = program(&frames.concat(), &[]);
    assert!(said.contains("\nstarts: 1 fresh, 0 from a state; WANs: 2\n"), "{said}");
    let (_, said) = program(&frames[1202..].concat(), &[]);
    assert!(said.contains("\nstarts: 0 fresh, 1 from a state; WANs: 2\n"), "{said}");
}
