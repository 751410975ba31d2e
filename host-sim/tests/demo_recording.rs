//! A recording made by the real daemon replays bit for bit, and its state survives a restart.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wanctl::config::{self, ReadFiles};
use wanctl::probe::Prober;
use wanctl::published::Published;
use wanctl::state_file::{StateFile, unix_seconds};
use wanctl::trace_file::TraceReader;
use wanctl_core::outputs::Event;
use wanctl_core::persist::StateRefusal;
use wanctl_core::tick::{RttSample, Tick};
use wanctl_core::trace::{self, Record};
use wanctl_core::units::{ReflectorId, RttNanos, WanId};
use wanctl_sim::demo::{self, DaemonFiles, Episode, LineProfile};
use wanctl_sim::replay::replay;
use wanctl_sim::routeros::{Emulator, EmulatorOptions};

#[test]
fn a_recorded_demo_replays_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.trace");
    let episode = Episode::new(Duration::from_secs(5), LineProfile::CABLE);
    demo::play_in_process(episode, Some(&path), &mut Vec::new()).unwrap();
    let outcome = replay(File::open(&path).unwrap(), None).unwrap();
    assert!(outcome.difference.is_none(), "{:?}", outcome.difference);
    assert_eq!((outcome.progress.skipped, outcome.tally.damaged), (0, 0));
    assert!(outcome.progress.steps > 20, "{:?}", outcome.progress);
}

/// Answers every probe at once, and ends the daemon after a few ticks.
struct EndingProber {
    ticks_left: u32,
    stop: Arc<AtomicBool>,
}

impl Prober for EndingProber {
    fn send(&mut self, _: WanId, _: ReflectorId) {}

    fn drain(&mut self, tick: &mut Tick) {
        let (wan, reflector) = (WanId(0), ReflectorId(0));
        tick.push_sample(RttSample {
            wan,
            reflector,
            rtt: RttNanos::from_micros(21_000),
            age_us: 0,
            upload_owd: None,
        });
        self.ticks_left -= 1;
        self.stop.store(self.ticks_left == 0, Ordering::Relaxed);
    }
}

/// Runs the daemon for five ticks and returns the events of its first one.
fn first_events(config: &str, emulator: &Emulator, folder: &Path) -> Vec<Event> {
    let files = DaemonFiles::write(config, emulator.ca_pem()).unwrap();
    let mut config = config::load(&files.config(), ReadFiles::Yes).unwrap();
    let record = folder.join("line.trace");
    config.record = Some(record.clone());
    config.state_dir = Some(folder.join("state"));
    let stop = Arc::new(AtomicBool::new(false));
    let prober = EndingProber { ticks_left: 5, stop: Arc::clone(&stop) };
    wanctl::daemon::run(&config, prober, &stop, &Arc::new(Published::new())).unwrap();
    let mut reader = TraceReader::new(File::open(&record).unwrap());
    let mut events = None;
    while let Some(payload) = reader.next_payload().unwrap() {
        if let Record::Step { seq: 0, body } = trace::parse(payload).unwrap() {
            let (_, rest) = trace::decode_tick(body).unwrap();
            events = Some(trace::decode_outputs(rest).unwrap().events.to_vec());
        }
    }
    // A session per run stands in the file; the last one counts.
    events.unwrap()
}

#[test]
fn the_daemon_goes_on_after_a_restart_unless_its_configuration_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::start(&EmulatorOptions::default()).unwrap();
    let text = demo::config_text(&emulator, &LineProfile::CABLE, &["192.0.2.1"]);
    let state = StateFile::open(&folder.path().join("state"), &["cable"]).unwrap();
    let wait_for_generation = |generation| {
        // The daemon does not wait long for the disk.
        while state.read(unix_seconds()).next_generation < generation {
            std::thread::yield_now();
        }
    };
    let events = first_events(&text, &emulator, folder.path());
    assert!(!events.contains(&Event::StateRestored), "{events:?}");
    wait_for_generation(2);
    let events = first_events(&text, &emulator, folder.path());
    assert_eq!(events.first(), Some(&Event::StateRestored));
    wait_for_generation(4);
    let events = first_events(&text.replace("95000k", "94000k"), &emulator, folder.path());
    let why = StateRefusal::OtherConfig;
    assert_eq!(events.first(), Some(&Event::StateRefused { why }));
    let outcome = replay(File::open(folder.path().join("line.trace")).unwrap(), None).unwrap();
    assert!(outcome.difference.is_none());
    assert_eq!((outcome.progress.steps, outcome.progress.states), (15, 3));
}
