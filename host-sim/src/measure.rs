//! `wanctl-sim measure`: what a `wanctl` process with one WAN costs, and how well it keeps time.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use crate::daemon_process::DaemonProcess;
use crate::demo::{DaemonFiles, LineProfile, config_text};
use crate::link::CapacitySchedule;
use crate::netns::{self, Namespace, PacketLink, PacketLinkOptions};
use crate::routeros::cli::parse_latency;
use crate::routeros::{Emulator, EmulatorOptions, Latency};

/// More than the first contact or the end may take, whatever the router's latency.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Reflectors of the idle measurement.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
/// The busy line alternates between these capacities. The slow one is a little less than what
/// the probes alone need, so that they queue behind each other without any other traffic.
const BUSY_CAPACITIES_BPS: [u64; 2] = [10_000_000, 20_000];
/// How long each of the capacities lasts.
const BUSY_STEP: Duration = Duration::from_secs(2);

/// Options of `wanctl-sim measure`.
#[derive(Debug, clap::Args)]
pub struct MeasureArgs {
    /// How long to measure
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Time the emulated router takes for each request, such as 300ms
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = parse_latency)]
    router_latency: Duration,
    /// Keep the router busy: probe through a line whose delay rises and falls (root)
    #[arg(long)]
    busy: bool,
    /// The wanctl binary; by default the one next to this program
    #[arg(long, value_name = "FILE")]
    wanctl: Option<PathBuf>,
}

/// Measures and prints the figures.
///
/// # Errors
///
/// When a part cannot be started, or the daemon ends early.
pub fn run(args: &MeasureArgs, out: &mut impl Write) -> Result<()> {
    let wanctl = match &args.wanctl {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("wanctl"),
    };
    let wanctl = wanctl.canonicalize().with_context(|| format!("{}", wanctl.display()))?;
    let place = if args.busy { Place::busy(args.seconds)? } else { Place::idle() };
    let emulator = place.start_emulator(args.router_latency)?;
    let reflectors: Vec<&str> = place.reflectors.iter().map(String::as_str).collect();
    let config = config_text(&emulator, &LineProfile::SLOW, &reflectors);
    let files = DaemonFiles::write(&config, emulator.ca_pem())?;
    let latency = args.router_latency.as_millis();
    writeln!(out, "wanctl     {}", wanctl.display())?;
    writeln!(out, "setting    one WAN, 3 reflectors, 20 Hz; the router takes {latency} ms")?;
    writeln!(out, "line       {}", place.description)?;

    let mut command = place.command(&wanctl)?;
    command.arg("run").arg("--config").arg(files.config());
    let mut daemon = DaemonProcess::start(&mut command, |_| {})?;
    let figures = Figures::take(&mut daemon, &emulator, Duration::from_secs(args.seconds))?;
    daemon.signal(Signal::TERM);
    let status = daemon.wait_end(PATIENCE)?;
    ensure!(status.success(), "wanctl ended with {status}:\n{}", daemon.lines().join("\n"));
    figures.print(args.router_latency, out)?;
    let lines = daemon.lines();
    let pacing = lines.iter().rev().find_map(|line| pacing(line)).context("no status line")?;
    writeln!(out, "pacing     {pacing}")?;
    Ok(())
}

/// Where the daemon runs and what it pings.
pub(crate) struct Place {
    pub(crate) description: &'static str,
    pub(crate) reflectors: Vec<String>,
    // The link's interfaces live in the namespaces, so it goes first.
    net: Option<(PacketLink, Namespace, Namespace)>,
}

impl Place {
    fn idle() -> Self {
        let reflectors = LOOPBACK.map(str::to_owned).to_vec();
        Self {
            description: "loopback; the router is written to at the start",
            reflectors,
            net: None,
        }
    }

    pub(crate) fn busy(seconds: u64) -> Result<Self> {
        if let Err(why) = netns::available() {
            bail!("--busy is not possible here: {why}");
        }
        let (lan, internet) = (Namespace::create("wctl-lan")?, Namespace::create("wctl-net")?);
        let end = Duration::from_secs(seconds) + 2 * PATIENCE;
        let starts = (0..).map(|index| BUSY_STEP * index).take_while(|start| *start < end);
        let steps: Vec<_> = starts.zip(BUSY_CAPACITIES_BPS.into_iter().cycle()).collect();
        let capacity = || CapacitySchedule::steps(&steps);
        let options = PacketLinkOptions::new(capacity(), capacity());
        let link = PacketLink::start(&lan, &internet, options)?;
        let reflectors = netns::REFLECTORS.map(|address| address.to_string()).to_vec();
        let description = "user-space link over TUN; its capacity drops every other 2 s";
        Ok(Self { description, reflectors, net: Some((link, lan, internet)) })
    }

    /// Starts a router that the daemon can reach.
    pub(crate) fn start_emulator(&self, latency: Duration) -> Result<Emulator> {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let listener = match &self.net {
            Some((_, lan, _)) => lan.run(bind)??,
            None => bind()?,
        };
        let options = EmulatorOptions { latency: Latency::same(latency), ..Default::default() };
        Emulator::start_on(&options, None, Some(listener))
    }

    pub(crate) fn command(&self, program: &Path) -> Result<Command> {
        Ok(match &self.net {
            Some((_, lan, _)) => {
                lan.command(program.to_str().context("the path of wanctl is not UTF-8")?)
            }
            None => Command::new(program),
        })
    }
}

/// What was measured besides the pacing.
struct Figures {
    elapsed: Duration,
    cpu: Duration,
    resident_kib: u64,
    resident_most_kib: u64,
    threads: u64,
    requests: u64,
    writes: usize,
}

impl Figures {
    /// Waits for the first rates to be confirmed, then measures.
    fn take(daemon: &mut DaemonProcess, emulator: &Emulator, length: Duration) -> Result<Self> {
        let confirmed = |line: &str| pacing(line).is_some() && !line.contains("unconfirmed");
        if daemon.wait_for_line(0, PATIENCE, confirmed).is_none() {
            bail!("wanctl does not control the line:\n{}", daemon.lines().join("\n"));
        }
        let id = daemon.id();
        let (begin, cpu) = (Instant::now(), cpu_time(id)?);
        let (requests, writes) = (emulator.request_count(), emulator.writes().len());
        // Nothing is waited for but the time or an early end.
        let _nothing = daemon.wait_for_line(0, length, |_| false);
        if let Some(status) = daemon.ended()? {
            bail!("wanctl ended early with {status}:\n{}", daemon.lines().join("\n"));
        }
        let proc_status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let field = |name| status_field(&proc_status, name);
        Ok(Self {
            elapsed: begin.elapsed(),
            cpu: cpu_time(id)?.saturating_sub(cpu),
            resident_kib: field("VmRSS:")?,
            resident_most_kib: field("VmHWM:")?,
            threads: field("Threads:")?,
            requests: emulator.request_count() - requests,
            writes: emulator.writes().len() - writes,
        })
    }

    fn print(&self, latency: Duration, out: &mut impl Write) -> Result<()> {
        let seconds = self.elapsed.as_secs_f64();
        let cpu = self.cpu.as_secs_f64();
        let megabytes = |kib: u64| Duration::from_micros(kib * 1024).as_secs_f64();
        let (now, most) = (megabytes(self.resident_kib), megabytes(self.resident_most_kib));
        let busy = latency.as_secs_f64() * Duration::from_secs(self.requests).as_secs_f64();
        writeln!(out, "measured   {seconds:.1} s")?;
        writeln!(out, "memory     {now:.2} MB resident (VmRSS), {most:.2} MB at most (VmHWM)")?;
        writeln!(out, "cpu        {:.2} % of one core ({cpu:.2} s)", 100.0 * cpu / seconds)?;
        writeln!(out, "threads    {}", self.threads)?;
        writeln!(
            out,
            "router     {} requests, {} of them changed a rate; busy {:.0} % of the time",
            self.requests,
            self.writes,
            100.0 * busy / seconds
        )?;
        Ok(())
    }
}

/// User and system time of all threads of a process.
fn cpu_time(id: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let ticks = stat_cpu_ticks(&stat).with_context(|| format!("/proc/{id}/stat: {stat}"))?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_nanos(ticks * 1_000_000_000 / per_second))
}

/// Adds fields 14 and 15 of `/proc/PID/stat`. Field 2 is in parentheses and may hold anything.
fn stat_cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

/// Reads a number of `/proc/PID/status`.
pub(crate) fn status_field(status: &str, name: &str) -> Result<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no number {name} in /proc/PID/status"))
}

/// Returns the part of a status line about the ticks.
pub(crate) fn pacing(line: &str) -> Option<&str> {
    line.split("; ").find(|part| part.contains(" ticks, "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_kernel_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 120 0 0 0 25 17 0 0 20 0 4 0 100 9 8";
        assert_eq!(stat_cpu_ticks(stat), Some(42));
        assert_eq!(stat_cpu_ticks("7 (short) S 1"), None);
        let status = "Name:\twanctl\nVmHWM:\t    7000 kB\nThreads:\t5\n";
        assert_eq!(status_field(status, "VmHWM:").unwrap(), 7000);
        assert_eq!(status_field(status, "Threads:").unwrap(), 5);
        assert!(status_field(status, "VmRSS:").is_err());
        assert!(cpu_time(std::process::id()).is_ok());
    }

    #[test]
    fn pacing_is_found_in_a_status_line() {
        let line = "INFO cable: 2 writes; 40 ticks, 0 late (>10 ms), 0 missed; router home ready";
        assert_eq!(pacing(line), Some("40 ticks, 0 late (>10 ms), 0 missed"));
        assert_eq!(pacing("INFO router found"), None);
    }
}
