//! `wanctl-sim soak`: the daemon for minutes beside a router of real latency; nothing may wear out.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;

use crate::daemon_process::DaemonProcess;
use crate::demo::{DaemonFiles, LineProfile, QUEUES, config_text};
use crate::measure::{PATIENCE, Place, pacing, status_field};
use crate::routeros::{FaultSpec, RequestRecord};

/// Requests take as long as on an RB5009: writes 20 ms on average, 50 ms at p95, at most 147 ms.
const LATENCY: &str = "latency:rb5009";
/// What the counters say is carried: enough for either direction to be blamed for a delay.
const FLOW_BPS: (u64, u64) = (36_000_000, 9_000_000);
/// What may be added to the time that the router was at work, at p95: for our other requests, too, as
/// it works on one at a time.
const ADDED_MAX_MS: f64 = 5.0;
/// What memory may grow by after the first tenth of the time: a few pages.
const GROWTH_MAX_KIB: u64 = 256;

/// Options of `wanctl-sim soak`.
#[derive(Debug, clap::Args)]
pub struct SoakArgs {
    /// How long
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(10..=1500))]
    seconds: u64,
    /// The wanctl binary; by default the one next to this program
    #[arg(long, value_name = "FILE")]
    wanctl: Option<PathBuf>,
}

/// Runs the daemon, prints the figures and returns whether every goal is met.
///
/// # Errors
///
/// When a part cannot be started, or the daemon ends early.
pub fn run(args: &SoakArgs, out: &mut impl Write) -> Result<bool> {
    let wanctl = match &args.wanctl {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("wanctl"),
    };
    let wanctl = wanctl.canonicalize().with_context(|| format!("{}", wanctl.display()))?;
    let place = Place::busy(args.seconds)?;
    let emulator = place.start_emulator(Duration::ZERO)?;
    emulator.inject(LATENCY.parse::<FaultSpec>().map_err(anyhow::Error::msg)?);
    emulator.with_router(|router| {
        router.set_flow(QUEUES.0, FLOW_BPS.0);
        router.set_flow(QUEUES.1, FLOW_BPS.1);
    });
    let reflectors: Vec<&str> = place.reflectors.iter().map(String::as_str).collect();
    let config = config_text(&emulator, &LineProfile::SLOW, &reflectors);
    let files = DaemonFiles::write(&config, emulator.ca_pem())?;
    writeln!(out, "line       {}", place.description)?;
    writeln!(out, "router     as slow as an RB5009; counters say that both directions are in use")?;

    let mut command = place.command(&wanctl)?;
    command.args(["run", "--log-level", "debug", "--config"]).arg(files.config());
    let mut daemon = DaemonProcess::start(&mut command, |_| {})?;
    let resident_kib = watch(&mut daemon, Duration::from_secs(args.seconds))?;
    daemon.signal(Signal::TERM);
    let status = daemon.wait_end(PATIENCE)?;
    ensure!(status.success(), "wanctl ended with {status}:\n{}", daemon.lines().join("\n"));
    Findings::of(&daemon.lines(), &emulator.requests(), resident_kib)?.print(out)
}

/// Waits and returns the resident memory after the first tenth of the time and at the end.
fn watch(daemon: &mut DaemonProcess, length: Duration) -> Result<(u64, u64)> {
    let confirmed = |line: &str| pacing(line).is_some() && !line.contains("unconfirmed");
    if daemon.wait_for_line(0, PATIENCE, confirmed).is_none() {
        bail!("wanctl does not control the line:\n{}", daemon.lines().join("\n"));
    }
    let id = daemon.id();
    let started = Instant::now();
    let mut resident_kib = Vec::new();
    for share in [length / 10, length] {
        // Nothing is waited for but the time or an early end.
        let _nothing = daemon.wait_for_line(0, share.saturating_sub(started.elapsed()), |_| false);
        if let Some(status) = daemon.ended()? {
            bail!("wanctl ended early with {status}:\n{}", daemon.lines().join("\n"));
        }
        let proc_status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        resident_kib.push(status_field(&proc_status, "VmRSS:")?);
    }
    match resident_kib[..] {
        [early, late] => Ok((early, late)),
        _ => bail!("no figures of memory"),
    }
}

/// What a soak has shown.
#[derive(Debug)]
struct Findings {
    pacing: String,
    missed: u64,
    resident_kib: (u64, u64),
    /// From the decision to its confirmation, in ms.
    confirmed_ms: Vec<f64>,
    /// The part of it in which the router was at work, in ms.
    router_ms: Vec<f64>,
    /// The rest, in ms.
    added_ms: Vec<f64>,
}

impl Findings {
    fn of(lines: &[String], requests: &[RequestRecord], resident_kib: (u64, u64)) -> Result<Self> {
        let latest = lines.iter().rev().find_map(|line| pacing(line)).context("no status line")?;
        let missed = latest.split(", ").find_map(|part| part.strip_suffix(" missed"));
        let writes: Vec<&RequestRecord> =
            requests.iter().filter(|request| request.method == "PATCH").collect();
        let mut times: [Vec<f64>; 3] = Default::default();
        for (took_ms, number) in confirmations(lines) {
            let Some(write) = writes.get(number) else { bail!("write {number} is unknown") };
            let router_ms = busy_ms(requests, write.at.as_secs_f64() * 1e3, took_ms);
            for (list, time) in times.iter_mut().zip([took_ms, router_ms, took_ms - router_ms]) {
                list.push(time);
            }
        }
        for list in &mut times {
            ensure!(!list.is_empty(), "no rate was written");
            list.sort_by(f64::total_cmp);
        }
        let [confirmed_ms, router_ms, added_ms] = times;
        Ok(Self {
            pacing: latest.to_owned(),
            missed: missed.and_then(|number| number.parse().ok()).context("no missed ticks")?,
            resident_kib,
            confirmed_ms,
            router_ms,
            added_ms,
        })
    }

    fn print(&self, out: &mut impl Write) -> Result<bool> {
        let (early, late) = self.resident_kib;
        writeln!(out, "pacing     {}", self.pacing)?;
        writeln!(
            out,
            "memory     {early} KiB resident after a tenth of the time, {late} at its end"
        )?;
        writeln!(out, "writes     {}; in ms:    p50    p95    most", self.confirmed_ms.len())?;
        for (name, times) in [
            ("decision to confirmation", &self.confirmed_ms),
            ("the router at work", &self.router_ms),
            ("added to that", &self.added_ms),
        ] {
            let [p50, p95, most] = [0.5, 0.95, 1.0].map(|share| quantile(times, share));
            writeln!(out, "  {name:24} {p50:6.1} {p95:6.1} {most:7.1}")?;
        }
        let added = quantile(&self.added_ms, 0.95);
        let goals = [
            ("no tick is missed", self.missed == 0),
            ("a write is confirmed within the router's time + 5 ms, at p95", added < ADDED_MAX_MS),
            ("memory is flat", late <= early + GROWTH_MAX_KIB),
        ];
        for (goal, is_met) in goals {
            writeln!(out, "goal       {goal}: {}", if is_met { "met" } else { "MISSED" })?;
        }
        Ok(goals.iter().all(|(_, is_met)| *is_met))
    }
}

/// Finds how long writes took until they were confirmed, in ms, and which of all writes each was. One that
/// a newer decision has overtaken is never confirmed.
fn confirmations(lines: &[String]) -> Vec<(f64, usize)> {
    let (mut written, mut latest) = (0, [None; 2]);
    let mut found = Vec::new();
    for line in lines {
        if let Some((_, queue)) = line.split_once("written queue=\"") {
            latest[usize::from(queue.starts_with(QUEUES.1))] = Some(written);
            written += 1;
        } else if let Some((direction, took_ms)) = confirmation(line) {
            found.extend(latest[direction].take().map(|number| (took_ms, number)));
        }
    }
    found
}

/// Reads "... upload: the router holds 12 Mbit/s after 21.3 ms"; the upload is 1.
fn confirmation(line: &str) -> Option<(usize, f64)> {
    let (line, held) = line.split_once(": the router holds ")?;
    let took_ms = held.split_once(" after ")?.1.strip_suffix(" ms")?.parse().ok()?;
    Some((usize::from(line.ends_with(" upload")), took_ms))
}

/// The time that the router was at work in the `length_ms` before `end_ms`.
fn busy_ms(requests: &[RequestRecord], end_ms: f64, length_ms: f64) -> f64 {
    let overlap = |request: &RequestRecord| {
        let end = request.at.as_secs_f64() * 1e3;
        let begin = end - request.took.as_secs_f64() * 1e3;
        (end.min(end_ms) - begin.max(end_ms - length_ms)).max(0.0)
    };
    requests.iter().map(overlap).sum()
}

/// The smallest of sorted values that is at least as large as `share` of them.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(index.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmations_are_read_from_the_log() {
        let line = "DEBUG cable upload: the router holds 8.5 Mbit/s after 21.3 ms";
        assert_eq!(confirmation(line), Some((1, 21.3)));
        assert_eq!(confirmation("INFO ended: the router holds download 20 Mbit/s"), None);
    }

    #[test]
    fn a_write_that_was_overtaken_is_left_out() {
        let written = |queue| format!("DEBUG written queue=\"{queue}\" wanted=1 held=1");
        let holds = |direction, ms| {
            format!("DEBUG cable {direction}: the router holds 1 Mbit/s after {ms} ms")
        };
        let lines = [
            written(QUEUES.1),
            written(QUEUES.0),
            holds("download", 7),
            written(QUEUES.1),
            holds("upload", 9),
        ];
        assert_eq!(confirmations(&lines), [(7.0, 1), (9.0, 2)]);
    }

    #[test]
    fn every_goal_can_be_missed() {
        let good = || Findings {
            pacing: String::new(),
            missed: 0,
            resident_kib: (6000, 6000 + GROWTH_MAX_KIB),
            confirmed_ms: vec![20.0, 54.9],
            router_ms: vec![19.0, 50.0],
            added_ms: vec![1.0, 4.9],
        };
        let is_met = |findings: Findings| findings.print(&mut Vec::new()).expect("memory");
        assert!(is_met(good()));
        assert!(!is_met(Findings { missed: 1, ..good() }));
        assert!(!is_met(Findings { added_ms: vec![1.0, 5.1], ..good() }));
        assert!(!is_met(Findings { resident_kib: (6000, 6001 + GROWTH_MAX_KIB), ..good() }));
    }

    #[test]
    fn the_router_is_at_work_for_other_requests_as_well() {
        let ms = Duration::from_millis;
        let request = |at, took| RequestRecord {
            at: ms(at),
            method: "PATCH".to_owned(),
            path: String::new(),
            status: 200,
            took: ms(took),
        };
        let requests = [request(100, 30), request(125, 20), request(900, 5)];
        // The last 5 ms of the first, all of the second.
        assert!((busy_ms(&requests, 125.0, 30.0) - 25.0).abs() < 1e-9);
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([0.5, 0.95, 1.0].map(|share| quantile(&values, share)), [50.0, 95.0, 100.0]);
        assert_eq!(quantile(&[7.0], 0.5), 7.0);
    }
}
