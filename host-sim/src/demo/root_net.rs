//! The episode on real packets: network namespaces, real ICMP and TCP, the built `wanctl` binary.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use wanctl::routeros::TransportKind;
use wanctl_core::units::{Direction, PerDirection};

use super::accounting::{Accounting, Passed};
use super::daemon_log::DaemonLog;
use super::episode::Episode;
use super::files::{DaemonFiles, QUEUES, config_text};
use super::recording::{Figures, LineSample, Row, millis};
use crate::daemon_process::DaemonProcess;
use crate::netns::{Namespace, PacketLink, PacketLinkOptions, REFLECTORS, TcpLoad};
use crate::routeros::{Emulator, EmulatorOptions, Latency, Listeners, QueueWrite};

/// How long the emulated router takes for a read and a write, as an RB5009 does on average.
const LATENCY: Latency =
    Latency { read: Duration::from_millis(6), write: Duration::from_millis(20) };
/// Time between two looks at the lines and two updates of the shapers.
const STEP: Duration = Duration::from_millis(10);
/// More than the daemon may need to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// TCP flows per direction.
const FLOWS: usize = 4;

/// Everything that was recorded.
#[derive(Debug)]
pub struct NetRecording {
    /// The episode that was played.
    pub episode: Episode,
    /// The line that wanctl controlled.
    pub with: Vec<LineSample>,
    /// Its twin, with the shapers left at the ceiling.
    pub without: Vec<LineSample>,
    /// Every rate the router was given.
    pub writes: Vec<QueueWrite>,
    /// What the daemon said.
    pub log: DaemonLog,
}

/// Runs the episode in namespaces and prints it second by second, then the summary.
///
/// # Errors
///
/// When a part cannot be started (see [`crate::netns::available`]) or the daemon ends early.
pub(super) fn run(episode: Episode, wanctl: &Path, out: &mut impl Write) -> Result<NetRecording> {
    let with = NetLine::new(&episode)?;
    let without = NetLine::new(&episode)?;
    let emulator = with.start_emulator()?;
    let reflectors = REFLECTORS.map(|address| address.to_string());
    let reflectors: Vec<&str> = reflectors.iter().map(String::as_str).collect();
    let mut config = config_text(&emulator, &episode.line, &reflectors);
    let mut served = format!("{}/rest (emulated, HTTPS)", emulator.https_url());
    if episode.transport == TransportKind::Api {
        let url = emulator.api_ssl_url();
        config = config.replace(&emulator.https_url(), &url);
        config = config.replace("[router]", "[router]\ntransport = \"api\"");
        served = format!("{url} (emulated, binary API with TLS)");
    }
    let files = DaemonFiles::write(&config, emulator.ca_pem())?;
    writeln!(out, "router    {served}")?;
    writeln!(
        out,
        "line      user-space link over TUN between two namespaces, real TCP and ICMP\n"
    )?;
    let mut daemon = Daemon::start(&with.lan, wanctl, &files.config())?;
    let watcher = Watcher::start(episode, with, without, emulator.clone())?;
    Row::print_header(out)?;
    let start = Instant::now();
    for second in 1..=episode.length.as_secs() {
        std::thread::sleep(Duration::from_secs(second).saturating_sub(start.elapsed()));
        daemon.check()?;
        if let Some(row) = row(second, &episode, &watcher, &daemon, &emulator) {
            row.print(out)?;
        }
    }
    let log = daemon.stop()?;
    let (with, without) = watcher.stop()?;
    let recording = NetRecording { episode, with, without, writes: emulator.writes(), log };
    recording.print_summary(out)?;
    Ok(recording)
}

impl NetRecording {
    /// Prints delays and throughput with and without control.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written or nothing was recorded.
    pub fn print_summary(&self, out: &mut impl Write) -> Result<()> {
        writeln!(out)?;
        Figures::print_header(out)?;
        for (name, samples) in [("without wanctl", &self.without), ("with wanctl", &self.with)] {
            let figures = Figures::of(samples, &self.episode).context("no load was recorded")?;
            figures.print(name, out)?;
        }
        writeln!(out, "\nrouter: {} writes", self.writes.len())?;
        let status = self.log.lines.iter().rev().find(|line| line.contains(" ticks, "));
        let pacing =
            status.and_then(|line| line.split("; ").find(|part| part.contains(" ticks, ")));
        writeln!(out, "daemon: {}", pacing.unwrap_or("no status line"))?;
        Ok(())
    }
}

fn row(
    second: u64,
    episode: &Episode,
    watcher: &Watcher,
    daemon: &Daemon,
    emulator: &Emulator,
) -> Option<Row> {
    let at = Duration::from_secs(second).saturating_sub(Duration::from_millis(1));
    let (with, without) = watcher.latest()?;
    let log = lock(&daemon.log);
    Some(Row {
        second,
        phase: episode.phase(at),
        capacity_bps: watcher.capacity(),
        shaper_bps: with.shaper_bps,
        zones: log.zones,
        rtt_ms: log.rtt_ms(),
        added_ms: (millis(with.added_delay()), millis(without.added_delay())),
        writes: emulator.writes().len(),
    })
}

/// A home and an internet with a line between them.
struct NetLine {
    // The link's interfaces live in the namespaces, so it goes first.
    link: PacketLink,
    lan: Namespace,
    internet: Namespace,
}

impl NetLine {
    fn new(episode: &Episode) -> Result<Self> {
        let (lan, internet) = (Namespace::create("wctl-lan")?, Namespace::create("wctl-net")?);
        let link = PacketLink::start(
            &lan,
            &internet,
            PacketLinkOptions {
                fifo_bytes: episode.line.fifo_bytes,
                base_rtt: episode.line.base_rtt,
                ..PacketLinkOptions::new(
                    episode.capacity(Direction::Download),
                    episode.capacity(Direction::Upload),
                )
            },
        )?;
        let line = Self { link, lan, internet };
        line.shape(episode.line.ceiling_bps);
        Ok(line)
    }

    /// Starts an emulated router that only this home can reach.
    fn start_emulator(&self) -> Result<Emulator> {
        let listen = || self.lan.run(|| TcpListener::bind("127.0.0.1:0"));
        let (https, api_ssl) = (Some(listen()??), Some(listen()??));
        let options = EmulatorOptions { latency: LATENCY, ..Default::default() };
        Emulator::start_with(&options, Listeners { https, api_ssl, ..Listeners::default() })
    }

    fn shape(&self, rates: PerDirection<u64>) {
        for direction in Direction::BOTH {
            self.link.set_shaper_rate(direction, *rates.get(direction));
        }
    }

    fn load(&self) -> Result<[TcpLoad; 2]> {
        let start = |direction| TcpLoad::start(&self.lan, &self.internet, direction, FLOWS);
        Ok([start(Direction::Download)?, start(Direction::Upload)?])
    }

    fn sample(&self, at: Duration, shaper_bps: PerDirection<u64>) -> LineSample {
        let stats = |direction| self.link.stats(direction);
        let (download, upload) = (stats(Direction::Download), stats(Direction::Upload));
        LineSample {
            at,
            delay: PerDirection { download: download.fifo_delay, upload: upload.fifo_delay },
            delivered_bytes: PerDirection {
                download: download.delivered_bytes,
                upload: upload.delivered_bytes,
            },
            shaper_bps,
        }
    }
}

#[derive(Default)]
struct Watched {
    with: Vec<LineSample>,
    without: Vec<LineSample>,
    capacity_bps: PerDirection<u64>,
}

/// The thread that loads both lines, lets the shapers follow the router and looks at the queues.
struct Watcher {
    stop: Arc<AtomicBool>,
    watched: Arc<Mutex<Watched>>,
    thread: JoinHandle<Result<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every value behind these locks is whole after each statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher {
    fn start(episode: Episode, with: NetLine, without: NetLine, router: Emulator) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let watched = Arc::new(Mutex::new(Watched::default()));
        let (stop2, watched2) = (Arc::clone(&stop), Arc::clone(&watched));
        let thread = std::thread::Builder::new()
            .name("watcher".to_owned())
            .spawn(move || watch(&episode, &with, &without, &router, &stop2, &watched2))
            .context("start the watching thread")?;
        Ok(Self { stop, watched, thread })
    }

    fn latest(&self) -> Option<(LineSample, LineSample)> {
        let watched = lock(&self.watched);
        Some((*watched.with.last()?, *watched.without.last()?))
    }

    fn capacity(&self) -> PerDirection<u64> {
        lock(&self.watched).capacity_bps
    }

    fn stop(self) -> Result<(Vec<LineSample>, Vec<LineSample>)> {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(outcome) = self.thread.join() else { bail!("the watching thread has panicked") };
        outcome?;
        let mut watched = lock(&self.watched);
        Ok((std::mem::take(&mut watched.with), std::mem::take(&mut watched.without)))
    }
}

fn watch(
    episode: &Episode,
    with: &NetLine,
    without: &NetLine,
    router: &Emulator,
    stop: &AtomicBool,
    watched: &Mutex<Watched>,
) -> Result<()> {
    let start = Instant::now();
    let mut loads: Vec<TcpLoad> = Vec::new();
    let mut accounting = Accounting::default();
    while !stop.load(Ordering::Relaxed) {
        let at = start.elapsed();
        let limit = |queue| router.max_limit_bps(queue).unwrap_or_default();
        let rates = PerDirection { download: limit(QUEUES.0), upload: limit(QUEUES.1) };
        with.shape(rates);
        for direction in Direction::BOTH {
            let passed = Passed::of_packet_link(direction, &with.link.stats(direction));
            accounting.follow(router, direction, passed);
        }
        if loads.is_empty() && episode.is_loaded(at) {
            loads.extend(with.load()?);
            loads.extend(without.load()?);
        }
        let mut watched = lock(watched);
        watched.with.push(with.sample(at, rates));
        watched.without.push(without.sample(at, episode.line.ceiling_bps));
        let capacity = |direction| with.link.stats(direction).capacity_bps;
        watched.capacity_bps = PerDirection {
            download: capacity(Direction::Download),
            upload: capacity(Direction::Upload),
        };
        drop(watched);
        std::thread::sleep(STEP);
    }
    for load in loads {
        load.stop();
    }
    Ok(())
}

/// The built daemon, running inside a namespace.
struct Daemon {
    process: DaemonProcess,
    log: Arc<Mutex<DaemonLog>>,
}

impl Daemon {
    fn start(namespace: &Namespace, wanctl: &Path, config: &Path) -> Result<Self> {
        let program = wanctl.to_str().context("the path of wanctl is not UTF-8")?;
        let mut command = namespace.command(program);
        command.args(["run", "--log-level", "debug", "--config"]).arg(config);
        let log = Arc::new(Mutex::new(DaemonLog::default()));
        let log2 = Arc::clone(&log);
        let process =
            DaemonProcess::start(&mut command, move |line| lock(&log2).take(line.to_owned()))?;
        Ok(Self { process, log })
    }

    fn check(&mut self) -> Result<()> {
        if let Some(status) = self.process.ended()? {
            bail!("the daemon ended early with {status}:\n{}", self.process.lines().join("\n"));
        }
        Ok(())
    }

    /// Asks the daemon to end and returns what it said.
    fn stop(mut self) -> Result<DaemonLog> {
        self.process.signal(Signal::TERM);
        let status = self.process.wait_end(END_TIMEOUT)?;
        if !status.success() {
            bail!("the daemon ended with {status}");
        }
        Ok(lock(&self.log).clone())
    }
}
