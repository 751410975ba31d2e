//! Recordings: written, damaged in every way, and read again.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use embassy_time::Instant;
use wanctl_core::controller::Controller;
use wanctl_core::example;
use wanctl_core::outputs::Outputs;
use wanctl_core::tick::{RttSample, Tick};
use wanctl_core::trace::{self, Record};
use wanctl_core::units::{ReflectorId, RttNanos, WanId};

use super::target::Plain;
use super::*;

/// Far more than any of these tests needs.
const AMPLE: Duration = Duration::from_secs(60);

/// A controller that is fed and recorded.
struct Session {
    controller: Controller,
    outputs: Outputs,
    recorder: Recorder,
}

impl Session {
    fn start(target: impl Write + Send + 'static) -> Self {
        let config = example::config();
        let controller = Controller::new(&config).unwrap();
        let mut recorder = Recorder::start_on(Plain(target), Arc::default(), &config).unwrap();
        recorder.begin(&controller, Instant::MIN);
        Self { controller, outputs: Outputs::new(), recorder }
    }

    fn step(&mut self) {
        let number = self.controller.ticks();
        let mut tick = Tick::new(Instant::from_millis(50 * number));
        let (wan, reflector) = (WanId(0), ReflectorId(0));
        let rtt = RttNanos::from_micros(25_000 + number % 7);
        tick.push_sample(RttSample { wan, reflector, rtt, age_us: 9, upload_owd: None });
        self.controller.step(&tick, &mut self.outputs);
        self.recorder.step(&tick, &self.outputs, &self.controller);
    }
}

/// A disk in memory.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk that asks before each write: takes the bytes, or refuses them after a few.
struct AskingDisk {
    allowed: Receiver<bool>,
    memory: Memory,
}

impl Write for AskingDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Nobody to ask any more: everything is allowed.
        if self.allowed.recv().unwrap_or(true) {
            self.memory.write(bytes)
        } else {
            let _torn = self.memory.write(&bytes[..3])?;
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn small_recording() -> Vec<u8> {
    let memory = Memory::default();
    let mut session = Session::start(memory.clone());
    for _ in 0..5 {
        session.step();
    }
    assert!(session.recorder.close(AMPLE));
    memory.bytes()
}

/// What is read: `h`eader, `S`tate or the last digit of a step, and the tally.
fn read(bytes: &[u8]) -> (String, Tally) {
    let mut reader = TraceReader::new(bytes);
    let mut kinds = String::new();
    while let Some(payload) = reader.next_payload().unwrap() {
        kinds.push(match trace::parse(payload).unwrap() {
            Record::Header(_) => 'h',
            Record::State { .. } => 'S',
            Record::Step { seq, .. } => char::from_digit((seq % 10) as u32, 10).unwrap(),
            Record::OtherFormat(_) => '?',
        });
    }
    (kinds, reader.tally())
}

#[test]
fn what_is_recorded_is_read() {
    let tally = Tally { saved: 7, damaged: 0 };
    assert_eq!(read(&small_recording()), ("hS01234".to_owned(), tally));
    assert_eq!(read(&[]), (String::new(), Tally::default()));
}

#[test]
fn a_torn_tail_costs_one_record_wherever_it_is_torn() {
    let bytes = small_recording();
    for length in 0..bytes.len() {
        let kept = &bytes[..length];
        let (kinds, tally) = read(kept);
        // Frames begin and end with a zero byte.
        let whole = kept.windows(2).filter(|pair| pair[1] == 0 && pair[0] != 0).count();
        assert_eq!(kinds, "hS01234"[..whole], "{length} bytes");
        assert!(tally.damaged <= 1, "{length} bytes: {tally:?}");
    }
}

#[test]
fn a_flipped_bit_costs_at_most_one_record() {
    let bytes = small_recording();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let (kinds, tally) = read(&damaged);
        assert!(tally.saved >= 6 && kinds.len() >= 6, "bit {bit}: {kinds} {tally:?}");
    }
}

#[test]
fn noise_of_any_length_is_passed_over_in_bounded_memory() {
    let mut bytes = vec![b'x'; 3_000_000];
    bytes.extend_from_slice(&small_recording());
    assert_eq!(read(&bytes), ("hS01234".to_owned(), Tally { saved: 7, damaged: 1 }));
    bytes.extend_from_slice(&[b'y'; 1_000_000]);
    assert_eq!(read(&bytes).1, Tally { saved: 7, damaged: 2 });
}

#[test]
fn a_stuck_disk_costs_records_but_never_holds_up_a_step() {
    let (allow, allowed) = channel();
    let memory = Memory::default();
    let mut session = Session::start(AskingDisk { allowed, memory: memory.clone() });
    while session.recorder.report().lost == 0 {
        session.step();
    }
    let lost_first = session.controller.ticks() - 1;
    // The disk works again.
    drop(allow);
    while session.recorder.needs_state() {
        session.step();
    }
    session.step();
    assert!(session.recorder.close(AMPLE));
    let report = session.recorder.report();
    let (kinds, tally) = read(&memory.bytes());
    assert_eq!(tally, Tally { saved: report.written, damaged: 0 });
    let steps = kinds.chars().filter(char::is_ascii_digit).count() as u64;
    assert_eq!(steps + report.lost, session.controller.ticks());
    // The last step before the gap, the first one behind it, and the state that helps a reader.
    let behind = lost_first + report.lost;
    let gap = format!("{}{}hS", (lost_first - 1) % 10, behind % 10);
    assert!(kinds.contains(&gap), "steps {lost_first} to {behind} are missing: {kinds}");
}

#[test]
fn a_full_disk_costs_records_and_a_state_follows() {
    let (allow, allowed) = channel();
    let memory = Memory::default();
    let mut session = Session::start(AskingDisk { allowed, memory: memory.clone() });
    allow.send(true).unwrap();
    allow.send(false).unwrap();
    while session.recorder.report().lost == 0 {
        session.step();
    }
    drop(allow);
    session.step();
    session.step();
    assert!(session.recorder.close(AMPLE));
    let (kinds, tally) = read(&memory.bytes());
    assert_eq!(tally.damaged, 1, "the torn record of the full disk");
    assert!(kinds.matches("hS").count() >= 2, "{kinds}");
}

#[test]
fn a_recording_goes_on_and_other_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("line.trace");
    let config = example::config();
    let controller = Controller::new(&config).unwrap();
    for _ in 0..2 {
        Recorder::start(&path, &config, &controller).unwrap().close(AMPLE);
    }
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(read(&bytes).0, "hShS");
    let other = folder.path().join("wanctl.toml");
    std::fs::write(&other, "interval = \"50ms\"").unwrap();
    let error = Recorder::start(&other, &config, &controller).unwrap_err();
    assert_eq!(error.to_string(), "the file exists and is not a recording");
    assert_eq!(std::fs::read(&other).unwrap(), b"interval = \"50ms\"");
}
