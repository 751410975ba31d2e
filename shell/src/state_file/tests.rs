//! Two slots: the newer valid one wins, and doubt is told.

use wanctl_core::controller::Controller;
use wanctl_core::example;
use wanctl_core::outputs::Outputs;
use wanctl_core::tick::{RttSample, Tick};
use wanctl_core::units::{ReflectorId, RttNanos, WanId};

use super::*;

const NOW: u64 = 1_800_000_000;

fn state() -> PersistedState {
    Controller::<4>::new(&example::config()).unwrap().persist()
}

fn other_state() -> PersistedState {
    PersistedState { config: 1, ..state() }
}

fn folder() -> (tempfile::TempDir, StateFile) {
    let folder = tempfile::tempdir().unwrap();
    let file = StateFile::open(folder.path(), &["cable", "lte"]).unwrap();
    (folder, file)
}

#[test]
fn a_first_start_finds_nothing_and_doubts_nothing() {
    let (_folder, file) = folder();
    assert_eq!(file.read(NOW), FoundState { state: Ok(None), next_generation: 0 });
}

#[test]
fn the_newer_slot_wins_and_the_older_one_helps_out() {
    let (folder, file) = folder();
    file.write(other_state(), 0, NOW).unwrap();
    file.write(state(), 1, NOW).unwrap();
    let found = file.read(NOW + 1);
    assert_eq!(found, FoundState { state: Ok(Some(state())), next_generation: 2 });
    fs::write(folder.path().join("state-1"), b"torn").unwrap();
    let found = file.read(NOW + 1);
    assert_eq!(found, FoundState { state: Ok(Some(other_state())), next_generation: 1 });
    fs::write(folder.path().join("state-0"), vec![1; 10_000]).unwrap();
    assert_eq!(file.read(NOW + 1).state, Err(StateRefusal::Damaged));
}

#[test]
fn age_and_other_lines_are_refused() {
    let (folder, file) = folder();
    file.write(state(), 0, NOW).unwrap();
    assert!(file.read(NOW + 3600).state.is_ok() && file.read(NOW - 60).state.is_ok());
    assert_eq!(file.read(NOW + 3601).state, Err(StateRefusal::Age));
    assert_eq!(file.read(NOW - 61).state, Err(StateRefusal::Age));
    let swapped = StateFile::open(folder.path(), &["lte", "cable"]).unwrap();
    assert_eq!(swapped.read(NOW).state, Err(StateRefusal::OtherConfig));
}

#[test]
fn the_saver_writes_what_has_changed_and_the_end() {
    let (_folder, file) = folder();
    let controller = Controller::new(&example::config()).unwrap();
    let mut saver = StateSaver::start(file.clone(), 5).unwrap();
    saver.offer(Instant::from_secs(1), &controller);
    saver.offer(Instant::from_secs(5), &controller);
    saver.offer(Instant::from_secs(60), &controller);
    let StateSaver { states, ended, .. } = saver;
    drop(states);
    ended.recv().unwrap();
    let found = file.read(unix_seconds());
    assert_eq!(found, FoundState { state: Ok(Some(state())), next_generation: 6 });
    let saver = StateSaver::start(file.clone(), 6).unwrap();
    saver.states.send(controller.persist()).unwrap();
    drop(saver.states);
    saver.ended.recv().unwrap();
    assert_eq!(file.read(unix_seconds()).next_generation, 7);
}

/// A saver whose states arrive here.
fn saver() -> (StateSaver, Receiver<PersistedState>) {
    let (states, incoming) = sync_channel(1000);
    let (_ending, ended) = sync_channel(1);
    let has_failed = Arc::new(AtomicBool::new(false));
    (StateSaver { states, ended, saved: None, due: Instant::MIN, has_failed }, incoming)
}

#[test]
fn a_state_that_changes_all_the_time_is_saved_every_five_seconds() {
    let (mut saver, incoming) = saver();
    let mut controller = Controller::<4>::new(&example::config()).unwrap();
    let mut outputs = Outputs::new();
    let mut saved_at = Vec::new();
    for number in 0..1200 {
        let mut tick = Tick::new(Instant::from_millis(50 * number));
        let rtt = RttNanos::from_micros(25_000 + number);
        let (wan, reflector) = (WanId(0), ReflectorId(0));
        tick.push_sample(RttSample { wan, reflector, rtt, age_us: 0, upload_owd: None });
        controller.step(&tick, &mut outputs);
        saver.offer(tick.now, &controller);
        if let Ok(state) = incoming.try_recv() {
            assert_eq!(state, controller.persist());
            saved_at.push(tick.now.as_millis());
        }
    }
    assert_eq!(saved_at, (0..12).map(|number| number * 5_000).collect::<Vec<u64>>());
}

#[test]
fn a_state_that_the_disk_has_refused_is_saved_again() {
    let (mut saver, incoming) = saver();
    let controller = Controller::new(&example::config()).unwrap();
    saver.offer(Instant::from_secs(0), &controller);
    saver.offer(Instant::from_secs(5), &controller);
    assert_eq!(incoming.try_iter().count(), 1, "it has not changed");
    saver.has_failed.store(true, Ordering::Relaxed);
    saver.offer(Instant::from_secs(10), &controller);
    saver.offer(Instant::from_secs(15), &controller);
    assert_eq!(incoming.try_iter().count(), 1);
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, b"").unwrap();
    assert!(StateFile::open(&path, &[]).is_err());
}
