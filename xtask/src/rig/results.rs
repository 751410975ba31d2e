//! What a run has left behind, as series over time.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// fping waits this long for an answer, in s.
const LOST_AFTER: f64 = 5.0;
const DAY: f64 = 86_400.0;

/// The value a quantity has from a time on, in order of time; times are seconds since the epoch.
pub(crate) type Steps = Vec<(f64, f64)>;

/// One interval of a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Goodput {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) mbps: f64,
}

/// What one direction of one line has been like.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Lane {
    /// In Mbit/s.
    pub(crate) capacity: Steps,
    /// In Mbit/s; the first is the one before the controller.
    pub(crate) shaper: Steps,
    /// One list per load.
    pub(crate) loads: Vec<Vec<Goodput>>,
}

/// One line.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LineResult {
    /// When each ping left, and its round-trip time in ms unless it was lost.
    pub(crate) rtt: Vec<(f64, Option<f64>)>,
    pub(crate) down: Lane,
    pub(crate) up: Lane,
}

/// One run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Results {
    /// Begin and name of each phase; the last one is the end.
    pub(crate) marks: Vec<(f64, String)>,
    pub(crate) lines: [LineResult; 2],
}

impl Results {
    /// Reads a folder of results.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let text = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
        };
        let mut results = Self::default();
        let events = text("events")?;
        for line in events.lines() {
            let mut words = line.splitn(3, ' ');
            let at: f64 = words.next().unwrap_or_default().parse().context("time of an event")?;
            let (kind, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            match kind {
                "mark" => results.marks.push((at, rest.to_owned())),
                "load" => results.add_load(at, rest, &text)?,
                "capacity" | "shaper" => results.add_event(at, kind, rest),
                _ => {}
            }
        }
        let begin = results.marks.first().map_or(0.0, |(at, _)| *at);
        for line in text("rates")?.lines() {
            if let Some((at, interface, mbps)) = parse_rate(line, begin) {
                results.add_rate(at, interface, mbps);
            }
        }
        for (line, number) in results.lines.iter_mut().zip(1..) {
            let pings =
                fs::read_to_string(folder.join(format!("rtt-{number}"))).unwrap_or_default();
            line.rtt = pings.lines().filter_map(parse_ping).collect();
            line.rtt.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        Ok(results)
    }

    fn lane(&mut self, line: &str, direction: &str) -> &mut Lane {
        let [first, second] = &mut self.lines;
        let line = if line == "2" { second } else { first };
        if direction == "up" { &mut line.up } else { &mut line.down }
    }

    fn add_event(&mut self, at: f64, kind: &str, rest: &str) {
        let mbps = |kbit: &str| kbit.parse::<f64>().map_or(0.0, |kbit| kbit / 1000.0);
        let words: Vec<&str> = rest.split(' ').collect();
        match (kind, &words[..]) {
            ("capacity", [line, down, up]) => {
                self.lane(line, "down").capacity.push((at, mbps(down)));
                self.lane(line, "up").capacity.push((at, mbps(up)));
            }
            ("shaper", [interface, kbit]) => self.add_rate(at, interface, mbps(kbit)),
            _ => {}
        }
    }

    fn add_rate(&mut self, at: f64, interface: &str, mbps: f64) {
        let line = if interface.ends_with('2') { "2" } else { "1" };
        let direction = if interface.starts_with("ifb") { "down" } else { "up" };
        self.lane(line, direction).shaper.push((at, mbps));
    }

    fn add_load(
        &mut self,
        at: f64,
        rest: &str,
        text: &impl Fn(&str) -> Result<String>,
    ) -> Result<()> {
        if let [line, direction, file] = *rest.split(' ').collect::<Vec<_>>() {
            let report = text(file)?;
            let goodput =
                parse_load(&report, at).with_context(|| format!("{file}: {report:.300}"))?;
            self.lane(line, direction).loads.push(goodput);
        }
        Ok(())
    }
}

/// Reads iperf3's report; its times count from the begin of the load.
fn parse_load(report: &str, begin: f64) -> Result<Vec<Goodput>> {
    let report: Value = serde_json::from_str(report)?;
    let intervals = report.get("intervals").and_then(Value::as_array).context("no intervals")?;
    let number = |interval: &Value, key: &str| interval.get("sum")?.get(key)?.as_f64();
    let goodput = |interval: &Value| {
        Some(Goodput {
            from: begin + number(interval, "start")?,
            to: begin + number(interval, "end")?,
            mbps: number(interval, "bits_per_second")? / 1e6,
        })
    };
    anyhow::ensure!(!intervals.is_empty(), "it carried nothing");
    Ok(intervals.iter().filter_map(goodput).collect())
}

/// Reads `[1795259740.05617] 203.0.113.1 : [0], 64 bytes, 40.1 ms (...)`: the time is that of the answer.
fn parse_ping(line: &str) -> Option<(f64, Option<f64>)> {
    let (at, rest) = line.strip_prefix('[')?.split_once(']')?;
    let at: f64 = at.parse().ok()?;
    let (_, told) = rest.split_once("], ")?;
    if told.starts_with("timed out") {
        return Some((at - LOST_AFTER, None));
    }
    let (_, time) = told.split_once("bytes, ")?;
    let rtt: f64 = time.split(' ').next()?.parse().ok()?;
    Some((at - rtt / 1000.0, Some(rtt)))
}

/// Reads `[2026-11-21T10:54:51.214372] qdisc cake 8003: dev wan root ... bandwidth 12785Kbit ...`: time,
/// interface, Mbit/s. The day is the one that is nearest to `begin`.
fn parse_rate(line: &str, begin: f64) -> Option<(f64, &str, f64)> {
    let (time, told) = line.strip_prefix('[')?.split_once("] ")?;
    let mut clock = time.split_once('T')?.1.split(':').map(str::parse::<f64>);
    let mut next = || clock.next()?.ok();
    let second = next()? * 3600.0 + next()? * 60.0 + next()?;
    // Of the days it may be, the one nearest to the first mark: controllers start some seconds before.
    let days = ((begin - second) / DAY).round();
    let at = days * DAY + second;
    if !told.starts_with("qdisc cake") {
        return None;
    }
    let after = |word: &str| told.split(' ').skip_while(|found| *found != word).nth(1);
    Some((at, after("dev")?, parse_bandwidth(after("bandwidth")?)?))
}

/// Reads a rate as tc writes it, in Mbit/s.
fn parse_bandwidth(text: &str) -> Option<f64> {
    let (number, factor) = match text.strip_suffix("bit")? {
        giga if giga.ends_with('G') => (giga.trim_end_matches('G'), 1e3),
        mega if mega.ends_with('M') => (mega.trim_end_matches('M'), 1.0),
        kilo if kilo.ends_with('K') => (kilo.trim_end_matches('K'), 1e-3),
        plain => (plain, 1e-6),
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_is_dated_when_it_left() {
        let (at, rtt) =
            parse_ping("[100.500] 203.0.113.1 : [3], 64 bytes, 40.0 ms (40.1 avg, 0% loss)")
                .unwrap();
        assert!((at - 100.46).abs() < 1e-9);
        assert_eq!(rtt, Some(40.0));
        assert_eq!(
            parse_ping("[105] 203.0.113.1 : [4], timed out (NaN avg, 100% loss)"),
            Some((100.0, None))
        );
        assert_eq!(parse_ping("garbage"), None);
    }

    #[test]
    fn a_change_of_rate_is_read_also_after_midnight() {
        let line = "[2026-11-22T00:00:01.500000] qdisc cake 8003: dev ifb4wan root refcnt 2 bandwidth 12785Kbit x";
        let (at, interface, mbps) = parse_rate(line, 2.0 * DAY - 1.0).unwrap();
        assert_eq!((at, interface), (2.0 * DAY + 1.5, "ifb4wan"));
        assert!((mbps - 12.785).abs() < 1e-9);
        let line = line.replace("22T00:00:01", "21T23:59:58");
        assert_eq!(parse_rate(&line, 2.0 * DAY + 1.0).map(|(at, ..)| at), Some(2.0 * DAY - 1.5));
        assert_eq!(
            parse_rate("[2026-11-22T00:00:01] qdisc tbf 1: dev wan root rate 3Mbit", 0.0),
            None
        );
        assert_eq!(parse_bandwidth("1Gbit"), Some(1000.0));
        assert_eq!(parse_bandwidth("12345678bit"), Some(12.345_678));
    }

    #[test]
    fn goodput_is_dated_from_the_begin_of_its_load() {
        let report = r#"{"intervals":[{"sum":{"start":0,"end":1,"bits_per_second":2000000}}]}"#;
        assert_eq!(
            parse_load(report, 10.0).unwrap(),
            [Goodput { from: 10.0, to: 11.0, mbps: 2.0 }]
        );
        assert!(parse_load(r#"{"intervals":[],"error":"unable to connect"}"#, 0.0).is_err());
    }
}
