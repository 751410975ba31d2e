//! The demo without privileges: the real daemon, a real HTTPS dialogue, an emulated line.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use wanctl::config::{self, ReadFiles};
use wanctl::exit::Failure;
use wanctl::published::Published;
use wanctl_core::snapshot::WanSnapshot;
use wanctl_core::units::{Direction, PerDirection};

use super::episode::Episode;
use super::files::{DaemonFiles, config_text};
use super::line::LineThread;
use super::recording::{Figures, Row, millis};
use crate::link::NANOS_PER_SECOND;
use crate::routeros::{Emulator, EmulatorOptions, Latency};

/// How long the emulated router takes for a read and a write, as an RB5009 does on average.
const LATENCY: Latency =
    Latency { read: Duration::from_millis(6), write: Duration::from_millis(20) };
/// Reflectors of the emulated line. Nothing is sent to them: the line answers itself.
const REFLECTORS: [&str; 3] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];

/// Runs the episode and prints it second by second, then the summary.
///
/// # Errors
///
/// When a part cannot be started or the daemon ends early.
pub(super) fn run(episode: Episode, record: Option<&Path>, out: &mut impl Write) -> Result<()> {
    let emulator = Emulator::start(&EmulatorOptions { latency: LATENCY, ..Default::default() })?;
    let config = config_text(&emulator, &episode.line, &REFLECTORS);
    let files = DaemonFiles::write(&config, emulator.ca_pem())?;
    let mut config = config::load(&files.config(), ReadFiles::Yes)?;
    config.record = record.map(Path::to_path_buf);
    writeln!(out, "router    {}/rest (emulated, HTTPS)", emulator.https_url())?;
    writeln!(out, "line      emulated in this process; probes pass through its queues\n")?;
    let line = LineThread::start(episode, emulator.clone())?;
    let daemon = DaemonThread::start(config, &line)?;
    Row::print_header(out)?;
    let start = Instant::now();
    for second in 1..=episode.length.as_secs() {
        let due = Duration::from_secs(second);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        if daemon.thread.is_finished() {
            daemon.stop()?;
            bail!("the daemon has ended early");
        }
        if let Some(row) = row(second, &episode, &line, &daemon, &emulator) {
            row.print(out)?;
        }
    }
    let pacing = daemon.published.pacing();
    let wan = daemon.wan().context("the daemon has not ticked")?;
    daemon.stop()?;
    let (with, without) = line.stop();
    writeln!(out)?;
    Figures::print_header(out)?;
    for (name, samples) in [("without wanctl", &without), ("with wanctl", &with)] {
        Figures::of(samples, &episode).context("no load was recorded")?.print(name, out)?;
    }
    let counters = wan.counters;
    writeln!(
        out,
        "\nrouter: {} writes ({} cuts, {} raises, {} failed)",
        counters.writes, counters.cuts, counters.raises, counters.writes_failed
    )?;
    writeln!(out, "daemon: {}", wanctl::status::pacing_part(&pacing))?;
    Ok(())
}

fn row(
    second: u64,
    episode: &Episode,
    line: &LineThread,
    daemon: &DaemonThread,
    emulator: &Emulator,
) -> Option<Row> {
    let at = Duration::from_secs(second).saturating_sub(Duration::from_millis(1));
    let capacity = |direction| episode.capacity(direction).rate_at(second * NANOS_PER_SECOND - 1);
    let (with, without) = line.latest()?;
    let wan = daemon.wan()?;
    Some(Row {
        second,
        phase: episode.phase(at),
        capacity_bps: PerDirection {
            download: capacity(Direction::Download),
            upload: capacity(Direction::Upload),
        },
        shaper_bps: with.shaper_bps,
        zones: PerDirection {
            download: wan.directions.download.zone,
            upload: wan.directions.upload.zone,
        },
        rtt_ms: f64::from(wan.latest_rtt_us.unwrap_or_default()) / 1e3,
        added_ms: (millis(with.added_delay()), millis(without.added_delay())),
        writes: emulator.writes().len(),
    })
}

/// The daemon's tick thread, as `wanctl run` has it, with probes through the emulated line.
struct DaemonThread {
    stop: Arc<AtomicBool>,
    published: Arc<Published>,
    thread: JoinHandle<Result<(), Failure>>,
}

impl DaemonThread {
    fn start(config: config::DaemonConfig, line: &LineThread) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let published = Arc::new(Published::new());
        let (stop2, published2, prober) =
            (Arc::clone(&stop), Arc::clone(&published), line.prober());
        let thread = std::thread::Builder::new()
            .name("tick".to_owned())
            .spawn(move || wanctl::daemon::run(&config, prober, &stop2, &published2))
            .context("start the daemon's thread")?;
        Ok(Self { stop, published, thread })
    }

    fn wan(&self) -> Option<WanSnapshot> {
        self.published.snapshot()?.wans().first().copied()
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the daemon has panicked"))??;
        Ok(())
    }
}
