//! What happened on a line, sample by sample, and the figures made of it.

use std::io::Write;
use std::time::Duration;

use wanctl_core::units::PerDirection;
use wanctl_core::zone::Zone;

use super::episode::{Episode, Phase};
use crate::link::Nanos;

/// A delay that stands for an outage without an end.
const DELAY_MAX: Nanos = 10_000_000_000;

/// One look at a line.
#[derive(Debug, Clone, Copy)]
pub struct LineSample {
    /// Time since the start of the episode.
    pub at: Duration,
    /// True queueing delay in the provider's buffers.
    pub delay: PerDirection<Nanos>,
    /// Bytes delivered since the start.
    pub delivered_bytes: PerDirection<u64>,
    /// Shaper rates in force, in bit/s.
    pub shaper_bps: PerDirection<u64>,
}

impl LineSample {
    /// Returns what queues add to a round trip, in ns.
    #[must_use]
    pub fn added_delay(&self) -> Nanos {
        self.delay.download.min(DELAY_MAX) + self.delay.upload.min(DELAY_MAX)
    }
}

/// One second of a controlled line, for the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Seconds since the start.
    pub second: u64,
    /// The part of the episode.
    pub phase: Phase,
    /// Capacity in bit/s.
    pub capacity_bps: PerDirection<u64>,
    /// Shaper rates in bit/s.
    pub shaper_bps: PerDirection<u64>,
    /// Zones.
    pub zones: PerDirection<Zone>,
    /// What the daemon measures: round-trip time in ms.
    pub rtt_ms: f64,
    /// What queues add to a round trip, in ms: with wanctl, and on a twin of the line without.
    pub added_ms: (f64, f64),
    /// Router writes so far.
    pub writes: usize,
}

impl Row {
    /// Prints the table's header.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written.
    pub fn print_header(out: &mut impl Write) -> std::io::Result<()> {
        writeln!(
            out,
            "                 capacity       shaper      zone               rtt   queueing delay, ms"
        )?;
        writeln!(
            out,
            " time phase       down/up      down/up      down/up             ms   wanctl without  writes"
        )
    }

    /// Prints one line of the table; rates are in Mbit/s.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written.
    pub fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let pair = |rates: PerDirection<u64>| {
            format!("{:.0}/{:.1}", mbps(rates.download), mbps(rates.upload))
        };
        let zones = format!("{}/{}", self.zones.download.name(), self.zones.upload.name());
        writeln!(
            out,
            "{:>3} s {:<9} {:>9} {:>12}   {zones:<15} {:>7.1} {:>8.1} {:>7.1} {:>7}",
            self.second,
            self.phase.name(),
            pair(self.capacity_bps),
            pair(self.shaper_bps),
            self.rtt_ms,
            self.added_ms.0,
            self.added_ms.1,
            self.writes,
        )?;
        out.flush()
    }
}

/// The figures of one line under load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Added delay in ms: mean, median, 95th percentile, largest.
    pub mean_ms: f64,
    /// Median added delay.
    pub p50_ms: f64,
    /// 95th percentile of the added delay.
    pub p95_ms: f64,
    /// Largest added delay.
    pub max_ms: f64,
    /// Mean goodput in Mbit/s.
    pub delivered_mbps: PerDirection<f64>,
}

impl Figures {
    /// Computes the figures over the samples with load; `None` without any.
    #[must_use]
    pub fn of(samples: &[LineSample], episode: &Episode) -> Option<Self> {
        let loaded: Vec<&LineSample> =
            samples.iter().filter(|sample| episode.is_loaded(sample.at)).collect();
        let (first, last) = (loaded.first()?, loaded.last()?);
        let seconds = (last.at - first.at).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let mut delays: Vec<f64> = loaded.iter().map(|s| millis(s.added_delay())).collect();
        delays.sort_by(f64::total_cmp);
        let rate = |from: u64, to: u64| mbps(to.saturating_sub(from)) * 8.0 / seconds;
        let (from, to) = (first.delivered_bytes, last.delivered_bytes);
        Some(Self {
            mean_ms: delays.iter().sum::<f64>() / exact(delays.len() as u64),
            p50_ms: quantile(&delays, 50),
            p95_ms: quantile(&delays, 95),
            max_ms: quantile(&delays, 100),
            delivered_mbps: PerDirection {
                download: rate(from.download, to.download),
                upload: rate(from.upload, to.upload),
            },
        })
    }

    /// Prints one line of the summary.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written.
    pub fn print(&self, name: &str, out: &mut impl Write) -> std::io::Result<()> {
        let delivered = self.delivered_mbps;
        writeln!(
            out,
            "{name:<16} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>11.1} {:>7.1}",
            self.mean_ms,
            self.p50_ms,
            self.p95_ms,
            self.max_ms,
            delivered.download,
            delivered.upload
        )
    }

    /// Prints the header of the summary.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written.
    pub fn print_header(out: &mut impl Write) -> std::io::Result<()> {
        writeln!(
            out,
            "under load            queueing delay, ms                 delivered, Mbit/s"
        )?;
        writeln!(out, "                     mean      p50      p95      max        down      up")
    }
}

fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() - 1) * percent / 100;
    sorted.get(index).copied().unwrap_or_default()
}

/// Converts bit/s to Mbit/s for display.
pub(super) fn mbps(bits: u64) -> f64 {
    exact(bits) / 1e6
}

/// Converts ns to ms for display.
pub(super) fn millis(nanos: Nanos) -> f64 {
    exact(nanos) / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "for display only")]
fn exact(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::super::episode::LineProfile;
    use super::*;

    #[test]
    fn figures_cover_the_loaded_part_only() {
        let episode = Episode::new(Duration::from_secs(10), LineProfile::CABLE);
        let sample = |second: u64, delay_ms: u64, bytes: u64| LineSample {
            at: Duration::from_secs(second),
            delay: PerDirection { download: delay_ms * 1_000_000, upload: 0 },
            delivered_bytes: PerDirection { download: bytes, upload: 0 },
            shaper_bps: PerDirection::default(),
        };
        let samples =
            [sample(0, 900, 0), sample(1, 10, 0), sample(2, 30, 500_000), sample(3, 20, 2_500_000)];
        let figures = Figures::of(&samples, &episode).unwrap();
        assert_eq!(figures.mean_ms, 20.0);
        assert_eq!(figures.p50_ms, 20.0);
        assert_eq!(figures.max_ms, 30.0);
        assert_eq!(figures.delivered_mbps.download, 10.0);
        assert!(Figures::of(&samples[..1], &episode).is_none());
    }
}
