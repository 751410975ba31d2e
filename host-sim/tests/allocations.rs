//! Once it runs, the tick thread allocates nothing: an allocator of this program counts.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Bench, PASSWORD, SECOND_WAN, pings_or_skip};
use tracing::level_filters::LevelFilter;
use wanctl::config::{self, DaemonConfig, ReadFiles, WanConfig};
use wanctl::daemon::{self, Requests};
use wanctl::exit::{ExitReason, Failure};
use wanctl::probe::{IcmpProber, ProbeCounters, Prober};
use wanctl::published::Published;
use wanctl::reload::Reloader;
use wanctl_core::tick::{MAX_WANS, Tick};
use wanctl_core::units::{ReflectorId, RttNanos, WanId};
use wanctl_sim::demo::USER;
use wanctl_sim::routeros::{MenuName, RouterOptions, User, properties_of};

thread_local! {
    /// Whether allocations of this thread count, how many did, and where the first one was.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static FIRST: RefCell<Option<Backtrace>> = const { RefCell::new(None) };
}

struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[expect(unsafe_code, reason = "the only way to see allocations")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are those this function asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note();
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Counts what the thread does, but not what counting does.
fn note() {
    if COUNTS.try_with(|counts| counts.replace(false)) != Ok(true) {
        return;
    }
    COUNT.set(COUNT.get() + 1);
    FIRST.with_borrow_mut(|first| {
        first.get_or_insert_with(Backtrace::force_capture);
    });
    COUNTS.set(true);
}

/// Ticks that are not counted: threads and sockets get going.
const WARM_UP_TICKS: u64 = 50;
/// Long enough for two savings of the state, which are 5 s apart.
const TICKS: u64 = 650;
/// Ticks of a good line, then as many of a bad one.
const SPELL_TICKS: u64 = 100;
/// When an incident is marked, and when another configuration is read.
const INCIDENT_TICK: u64 = 200;
const RELOAD_TICK: u64 = 300;
/// What the bad line adds.
const BAD_NANOS: u64 = 90_000_000;

/// Real pings, with a delay added in every other spell, and the end of the run.
struct Spells {
    pings: IcmpProber,
    ticks: u64,
    stop: Arc<AtomicBool>,
    incident: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Prober for Spells {
    fn send(&mut self, wan: WanId, reflector: ReflectorId) {
        self.pings.send(wan, reflector);
    }

    fn drain(&mut self, tick: &mut Tick) {
        self.ticks += 1;
        COUNTS.set((WARM_UP_TICKS..TICKS).contains(&self.ticks));
        self.pings.drain(tick);
        for sample in tick.samples.iter_mut().filter(|sample| sample.wan == WanId(0)) {
            if (self.ticks / SPELL_TICKS) % 2 == 1 {
                sample.rtt = RttNanos::new(sample.rtt.get().saturating_add(BAD_NANOS));
            }
        }
        self.stop.store(self.ticks >= TICKS, Ordering::Relaxed);
        if self.ticks == INCIDENT_TICK {
            self.incident.store(true, Ordering::Relaxed);
        }
        if self.ticks == RELOAD_TICK {
            self.reload.store(true, Ordering::Relaxed);
        }
    }

    fn renew(&mut self, wan: WanId) {
        self.pings.renew(wan);
    }

    fn counters(&self) -> [ProbeCounters; MAX_WANS] {
        self.pings.counters()
    }
}

/// Times short enough for a spell.
const STEERING: &str = r#"
[steering]
rules = { dsl = "wanctl: dsl" }
on-after = "300ms"
off-after = "300ms"
hold-down = "300ms"
delay-time-constant = "100ms"
thresholds = { severe-delay = "15ms" }
"#;

#[test]
fn the_tick_thread_allocates_nothing_once_it_runs() {
    if !pings_or_skip("the_tick_thread_allocates_nothing_once_it_runs") {
        return;
    }
    let router = RouterOptions::default()
        .with_queue("DSL-Download", "ether3", "cake-down", 50_000_000)
        .with_queue("DSL-Upload", "ether2", "cake-up", 10_000_000)
        .with_users(vec![User::full(USER, PASSWORD)]);
    let bench = Bench::with_router(router);
    let rule = properties_of(&[
        ("action", "mark-connection"),
        ("chain", "prerouting"),
        ("comment", "wanctl: dsl"),
        ("disabled", "true"),
        ("new-connection-mark", "via-dsl"),
    ]);
    bench.emulator.with_router(|router| router.insert_unchecked(MenuName::Mangle, rule));
    // This law cuts by delay alone, on a line without traffic as well.
    bench.edit("name = \"cable\"", "name = \"cable\"\nlaw = \"classic\"");
    bench.edit("interval = \"50ms\"", "interval = \"20ms\"\nstate-dir = \"state\"");
    bench.write_file("wanctl.toml", &(bench.config_text() + SECOND_WAN + STEERING));
    let mut config = config::load(&bench.files.config(), ReadFiles::Yes).expect("a configuration");
    config.record = Some(bench.files.path().join("run.trace"));
    assert!(config.flight.is_some(), "the flight recorder comes with the state");
    // What the reload finds: another controller.
    bench.edit("ceiling = \"50M\"", "ceiling = \"40M\"");

    // Every event is logged, as with the most talkative setting.
    let log = wanctl::logging::start(LevelFilter::TRACE);
    let stop = Arc::new(AtomicBool::new(false));
    let wans: Vec<_> = config.wans.iter().map(WanConfig::probe_path).collect();
    let spread = Duration::from_millis(5);
    let pings = IcmpProber::start(&wans, config.probe_timeout, spread).expect("ICMP sockets");
    let requests = Requests::default();
    let (incident, reload) = (Arc::clone(&requests.incident), Arc::clone(&requests.reload));
    let prober = Spells { pings, ticks: 0, stop: Arc::clone(&stop), incident, reload };
    let published = Arc::new(Published::new());
    let start_prober = |_: &DaemonConfig| Err(Failure::new(ExitReason::Other, "not needed"));
    let reloader = Reloader { path: bench.files.config(), start_prober };
    daemon::run_with(&config, prober, &stop, &published, &requests, Some(reloader))
        .expect("the daemon runs");
    drop(log);

    COUNTS.set(false);
    let first = FIRST.take().map(|trace| trace.to_string()).unwrap_or_default();
    assert_eq!(COUNT.get(), 0, "allocations or their ends; the first one:\n{first}");
    // All of it was at work.
    let snapshot = published.snapshot().expect("there were ticks");
    let cable = snapshot.wans().first().expect("the WAN of the configuration");
    assert!(cable.counters.cuts > 0 && cable.counters.raises > 0, "{:?}", cable.counters);
    let notices = published.notices();
    assert_eq!((notices.incidents, notices.reloads, notices.refusal), (1, 1, None));
    let recorder = notices.recorder.expect("the flight recorder");
    let report = recorder.report();
    assert!(report.written >= TICKS && report.lost == 0, "{report}");
    assert_eq!(recorder.ring().pinned(), recorder.ring().segments());
    let rows = bench.emulator.requests();
    let switches = rows.iter().filter(|row| row.method == "PATCH" && row.path.contains("mangle"));
    assert!(switches.count() > 1, "{rows:#?}");
    assert!(bench.files.path().join("state/state-1").exists(), "the state was saved once only");
}
