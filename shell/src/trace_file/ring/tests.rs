//! The ring without sockets: rotation, pins, restarts, full disks, and what is taken out.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};

use embassy_time::Instant;
use tempfile::TempDir;
use wanctl_core::controller::Controller;
use wanctl_core::example;
use wanctl_core::outputs::Outputs;
use wanctl_core::tick::{RttSample, Tick};
use wanctl_core::trace::{self, Record};
use wanctl_core::units::{ReflectorId, RttNanos, WanId};

use super::*;
use crate::trace_file::{Tally, TraceReader};

/// A controller that writes to a ring as a recorder's thread does.
struct Session {
    controller: Controller,
    outputs: Outputs,
    ring: Ring,
    stats: Arc<RingStats>,
    wants_state: bool,
}

fn flight(folder: &TempDir, size: u64) -> FlightConfig {
    FlightConfig { folder: folder.path().join("record"), size }
}

fn frame(encode: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
    let mut buffer = vec![0; trace::MAX_STATE_BYTES];
    let length = encode(&mut buffer);
    buffer.truncate(length);
    buffer
}

impl Session {
    fn start(flight: &FlightConfig) -> Self {
        let controller = Controller::new(&example::config()).unwrap();
        let stats = Arc::new(RingStats::default());
        let ring = Ring::open(flight, Arc::clone(&stats)).unwrap();
        let mut session =
            Self { controller, outputs: Outputs::new(), ring, stats, wants_state: false };
        session.state(false).unwrap();
        session
    }

    fn now(&self) -> Instant {
        Instant::from_millis(50 * self.controller.ticks())
    }

    fn state(&mut self, begins_segment: bool) -> io::Result<()> {
        let config = example::config();
        let mut bytes = frame(|buffer| trace::encode_header(&config, buffer).unwrap().len());
        bytes.extend(frame(|buffer| trace::encode_state(&self.controller, buffer).unwrap().len()));
        let start = Some(Start { offset: 0, records: 0, at: clock::now(), begins_segment });
        self.wants_state = self.ring.write(Piece { bytes: &bytes, records: 2, start })?.wants_state;
        Ok(())
    }

    fn step(&mut self) -> io::Result<()> {
        let seq = self.controller.ticks();
        let mut tick = Tick::new(self.now());
        let (wan, reflector) = (WanId(0), ReflectorId(0));
        let rtt = RttNanos::from_micros(25_000 + seq % 7);
        tick.push_sample(RttSample { wan, reflector, rtt, age_us: 9, upload_owd: None });
        self.controller.step(&tick, &mut self.outputs);
        let outputs = &self.outputs;
        let bytes = frame(|buffer| trace::encode_step(seq, &tick, outputs, buffer).unwrap().len());
        let piece = Piece { bytes: &bytes, records: 1, start: None };
        self.wants_state |= self.ring.write(piece)?.wants_state;
        if std::mem::take(&mut self.wants_state) || self.controller.ticks().is_multiple_of(1200) {
            self.state(false)?;
        }
        Ok(())
    }

    fn steps(&mut self, count: u64) {
        for _ in 0..count {
            self.step().unwrap();
        }
    }

    fn files(&self) -> Vec<Segment> {
        list(&self.ring.folder).unwrap()
    }
}

/// A ring that wraps quickly; the configuration allows none as small.
const SMALL: u64 = 400_000;

/// What is read: numbers of the steps, starts, and the tally.
fn read(bytes: &[u8]) -> (Vec<u64>, u64, Tally) {
    let mut reader = TraceReader::new(bytes);
    let (mut steps, mut starts, mut first) = (Vec::new(), 0, true);
    while let Some(payload) = reader.next_payload().unwrap() {
        match trace::parse(payload).unwrap() {
            Record::Header(_) => starts += 1,
            Record::Step { seq, .. } => steps.push(seq),
            Record::State { .. } | Record::OtherFormat(_) => {}
        }
        assert!(!first || starts == 1, "a recording begins with a header");
        first = false;
    }
    (steps, starts, reader.tally())
}

fn exported(folder: &Path, selection: &Selection) -> (Vec<u64>, u64, Exported) {
    let mut bytes = Vec::new();
    let exported = export(folder, selection, &mut bytes).unwrap();
    let (steps, starts, tally) = read(&bytes);
    assert_eq!(tally.damaged, 0, "what is exported is whole");
    assert_eq!((exported.steps, exported.bytes), (steps.len() as u64, bytes.len() as u64));
    (steps, starts, exported)
}

fn is_without_gap(steps: &[u64]) -> bool {
    steps.windows(2).all(|pair| pair[1] == pair[0] + 1)
}

#[test]
fn the_ring_keeps_the_latest_past_within_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = Session::start(&flight(&folder, SMALL));
    for _ in 0..20_000 {
        session.step().unwrap();
        assert!(session.ring.bytes() <= SMALL);
    }
    let files = session.files();
    assert_eq!(files.iter().map(|file| file.bytes).sum::<u64>(), session.stats.bytes());
    assert!(session.stats.bytes() > SMALL * 9 / 10, "{}", session.stats.bytes());
    assert!(files.len() > 20 && files[0].number > 0, "{files:?}");
    assert!(files.windows(2).all(|pair| pair[1].number == pair[0].number + 1));
    let (steps, starts, _) = exported(&session.ring.folder, &Selection::All);
    assert!(is_without_gap(&steps) && steps.last() == Some(&19_999), "{} steps", steps.len());
    assert!(starts >= files.len() as u64);
}

#[test]
fn the_last_part_begins_with_a_state_and_is_hardly_longer_than_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = Session::start(&flight(&folder, 4_000_000));
    session.steps(20_000);
    for seconds in [1, 59, 60, 61, 300, 900] {
        let last = Selection::Last(Duration::from_secs(seconds));
        let (steps, _, exported) = exported(&session.ring.folder, &last);
        assert!(is_without_gap(&steps) && steps.last() == Some(&19_999));
        let recorded_s = exported.recorded_us / 1_000_000;
        // A state stands every 60 s, and in front of every segment.
        assert!((seconds..=seconds + 61).contains(&recorded_s), "{recorded_s} s of {seconds}");
    }
    // More than there is, is all.
    let (steps, ..) = exported(&session.ring.folder, &Selection::Last(Duration::from_secs(9_999)));
    assert_eq!(steps.len(), 20_000);
}

#[test]
fn segments_are_taken_out_by_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = Session::start(&flight(&folder, SMALL));
    session.steps(2_000);
    let (all, ..) = exported(&session.ring.folder, &Selection::All);
    let (some, _, taken) = exported(&session.ring.folder, &Selection::Segments(2..=3));
    assert_eq!(taken.segments, 2);
    assert!(is_without_gap(&some) && some.len() < all.len());
    let error = export(&session.ring.folder, &Selection::Segments(900..=901), &mut Vec::new());
    assert!(error.unwrap_err().to_string().contains("nothing of that is recorded"));
}

#[test]
fn a_restart_goes_on_and_a_torn_tail_costs_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let flight = flight(&folder, 4_000_000);
    for _ in 0..5 {
        let mut session = Session::start(&flight);
        session.steps(100);
        let [only] = &session.files()[..] else { panic!("{:?}", session.files()) };
        let path = only.path(&flight.folder);
        drop(session);
        // The power fails in the middle of a write.
        let length = fs::metadata(&path).unwrap().len();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 3).unwrap();
    }
    let (steps, starts, exported) = exported(&flight.folder, &Selection::All);
    assert_eq!((steps.len(), starts, exported.damaged), (5 * 99, 5, 5));
    // Time that passed without a daemon is no recording.
    assert_eq!(exported.recorded_us, 5 * 98 * 50_000);
}

#[test]
fn another_controller_begins_a_segment_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = Session::start(&flight(&folder, 4_000_000));
    session.steps(10);
    session.state(true).unwrap();
    session.steps(10);
    assert_eq!(session.files().len(), 2);
    let (steps, ..) = exported(&session.ring.folder, &Selection::Segments(1..=1));
    assert_eq!(steps.first(), Some(&10));
}

#[test]
fn an_incident_keeps_the_segments_around_it() {
    let folder = tempfile::tempdir().unwrap();
    let flight = flight(&folder, SMALL);
    let mut session = Session::start(&flight);
    session.steps(500);
    let before: Vec<u64> = session.files().iter().map(|file| file.number).collect();
    session.ring.mark(clock::now());
    session.steps(200);
    let pinned = |session: &Session| -> Vec<u64> {
        let files = session.files().into_iter();
        files.filter(|file| file.is_pinned).map(|file| file.number).collect()
    };
    let kept = pinned(&session);
    assert!(before.iter().all(|number| kept.contains(number)), "{before:?} in {kept:?}");
    assert!(kept.len() > before.len(), "what follows belongs to it: {kept:?}");
    assert_eq!(session.stats.pinned(), kept.len() as u64);
    // Its time is over, and the ring goes round.
    session.ring.pin_until_ms = 0;
    session.steps(20_000);
    assert_eq!(pinned(&session), kept);
    assert!(session.ring.bytes() <= SMALL);
    let numbers = kept[0]..=kept[kept.len() - 1];
    let (steps, ..) = exported(&flight.folder, &Selection::Segments(numbers));
    assert!(is_without_gap(&steps) && steps.contains(&499));
    // A restart knows them by their names.
    drop(session);
    assert_eq!(pinned(&Session::start(&flight)), kept);
}

#[test]
fn pins_cannot_fill_the_ring() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = Session::start(&flight(&folder, SMALL));
    for _ in 0..200 {
        session.steps(100);
        session.ring.mark(clock::now());
        let files = session.files();
        let pinned = files.iter().filter(|file| file.is_pinned).map(|file| file.bytes);
        let open = files.last().map_or(0, |last| last.bytes);
        assert!(pinned.sum::<u64>() <= SMALL / PINNED_PART + open, "{files:?}");
        assert!(session.ring.bytes() <= SMALL);
    }
    let (steps, ..) = exported(&session.ring.folder, &Selection::All);
    assert_eq!(steps.last(), Some(&19_999));
}

#[test]
fn other_files_of_the_folder_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let flight = flight(&folder, SMALL);
    fs::create_dir_all(&flight.folder).unwrap();
    let note = flight.folder.join("note.trace");
    fs::write(&note, "not ours").unwrap();
    Session::start(&flight).steps(10_000);
    assert_eq!(fs::read(&note).unwrap(), b"not ours");
}

#[test]
fn segments_of_another_format_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let flight = flight(&folder, 4_000_000);
    let mut session = Session::start(&flight);
    session.steps(20);
    drop(session);
    // A header of format 9 and a record behind it that only it knows.
    let path = list(&flight.folder).unwrap()[0].path(&flight.folder);
    let mut bytes = Vec::new();
    OpenOptions::new().read(true).open(&path).unwrap().read_to_end(&mut bytes).unwrap();
    let older = flight.folder.join("00000000-5.trace");
    fs::rename(&path, flight.folder.join("00000007-9.trace")).unwrap();
    let mut file = OpenOptions::new().write(true).create_new(true).open(older).unwrap();
    file.write_all(&other_format()).unwrap();
    file.write_all(&bytes[bytes.len() - 20..]).unwrap();
    let (steps, _, taken) = exported(&flight.folder, &Selection::All);
    assert_eq!((steps.len(), taken.segments), (20, 1));
}

/// The frame of a header of format 9: stuffed as `docs/trace-format.md` says.
fn other_format() -> Vec<u8> {
    let mut payload = vec![0];
    payload.extend_from_slice(&trace::MAGIC);
    payload.extend_from_slice(&[9, 1, 2, 3]);
    payload.extend(wanctl_core::persist::checksum(&payload).to_le_bytes());
    let mut stuffed = vec![0];
    for piece in payload.split(|byte| *byte == 0) {
        stuffed.push(u8::try_from(piece.len() + 1).unwrap());
        stuffed.extend_from_slice(piece);
    }
    stuffed.push(0);
    stuffed
}
