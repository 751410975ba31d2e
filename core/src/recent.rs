//! The latest past of a WAN: what a person asks about and steering weighs.
//!
//! | history | one value per | resolution |
//! |---|---|---|
//! | round-trip times | tick with an answer | 20 µs |
//! | zones, both directions | tick from the first decision on | |
//! | *wanted* rates | tick from the first decision on | 1/65535 of the ceiling |
//! | packets dropped since the reading before | reading of the shaper's counters | 1, at most 65535 |
//! | packets waiting | reading of the shaper's counters | 1, at most 65535 |
//!
//! Each keeps the latest [`HISTORY_SAMPLES`] values: two minutes of 50 ms ticks. The rate is the
//! wanted one because that is known in every tick and stays within the ceiling; what the router
//! holds follows it by a round trip.
//!
//! [`HISTORY_SAMPLES`]: crate::history::HISTORY_SAMPLES

use serde::{Deserialize, Serialize};

use crate::divide::{checked_quotient, quotient};
use crate::fixed::MicrosQ32;
use crate::history::History;
use crate::tick::CounterReading;
use crate::units::{BitsPerSecond, Direction, PerDirection, Permille};
use crate::zone::Zone;

/// A drop counter that went back by more than this has begun again; otherwise its 32 bits have
/// wrapped. No queue drops so many packets between two readings.
const WRAP_DROPS_MAX: u32 = 1 << 24;

/// What the ceiling is in a history of rates.
const FULL_RATE: u64 = u16::MAX as u64;

/// Unit of the history of round-trip times, in µs: 16 bits then reach 1.3 s, further than a probe is
/// waited for, and lower than the jitter of any line.
const ROUND_TRIP_UNIT_US: u64 = 20;

/// Returns a round-trip time of a history.
fn round_trip_of(units: u16) -> MicrosQ32 {
    MicrosQ32::from_micros(u64::from(units).saturating_mul(ROUND_TRIP_UNIT_US))
}

/// From a counter of dropped packets to the packets dropped between readings.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct DropCounter {
    last: Option<u32>,
}

impl DropCounter {
    /// Returns the packets dropped since the reading before, 0 for the first one: what was dropped
    /// before that says nothing about now.
    fn read(&mut self, dropped: u32) -> u32 {
        let Some(last) = self.last.replace(dropped) else { return 0 };
        let gained = dropped.wrapping_sub(last);
        if dropped >= last || gained <= WRAP_DROPS_MAX { gained } else { dropped }
    }
}

/// The zones of both directions, two bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ZonePair(u8);

impl ZonePair {
    const fn new(zones: &PerDirection<Zone>) -> Self {
        Self(zones.download as u8 | (zones.upload as u8) << 2)
    }

    const fn has(self, direction: Direction, zone: Zone) -> bool {
        let code = match direction {
            Direction::Download => self.0 & 3,
            Direction::Upload => self.0 >> 2,
        };
        code == zone as u8
    }
}

impl From<ZonePair> for u16 {
    fn from(pair: ZonePair) -> Self {
        Self::from(pair.0)
    }
}

impl TryFrom<u16> for ZonePair {
    type Error = ();

    fn try_from(code: u16) -> Result<Self, ()> {
        u8::try_from(code).ok().filter(|code| *code < 16).map(Self).ok_or(())
    }
}

/// The histories of one direction.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct DirectionHistory {
    ceiling: BitsPerSecond,
    /// In units of which [`FULL_RATE`] are the ceiling.
    rates: History<u16>,
    drop_counter: DropCounter,
    drops: History<u16>,
    backlog_packets: History<u16>,
    /// Of the latest reading: there is no room for a history.
    queue_delay_us: Option<u32>,
}

impl DirectionHistory {
    const fn empty() -> Self {
        Self {
            ceiling: BitsPerSecond::new(0),
            rates: History::new(),
            drop_counter: DropCounter { last: None },
            drops: History::new(),
            backlog_packets: History::new(),
            queue_delay_us: None,
        }
    }

    fn begin(&mut self, ceiling: BitsPerSecond) {
        self.ceiling = ceiling;
        self.rates.clear();
        self.drop_counter = DropCounter::default();
        self.drops.clear();
        self.backlog_packets.clear();
        self.queue_delay_us = None;
    }

    fn rate_code(&self, rate: BitsPerSecond) -> u16 {
        let (rate, ceiling) = (rate.get(), self.ceiling.get());
        let code = match rate.checked_mul(FULL_RATE) {
            Some(scaled) => checked_quotient(scaled.saturating_add(ceiling / 2), ceiling),
            // Beyond 281 Tbit/s.
            None => checked_quotient(rate, quotient(ceiling, FULL_RATE)),
        };
        u16::try_from(code.unwrap_or(FULL_RATE)).unwrap_or(u16::MAX)
    }

    fn rate_of(&self, code: u16) -> BitsPerSecond {
        // In two parts, so that nothing saturates.
        let (code, ceiling) = (u64::from(code), self.ceiling.get());
        let whole = (ceiling / FULL_RATE).saturating_mul(code);
        let rest = (ceiling % FULL_RATE).saturating_mul(code).saturating_add(FULL_RATE / 2);
        BitsPerSecond::new(whole.saturating_add(rest / FULL_RATE))
    }
}

/// The histories of one WAN. They are far larger than all the rest of it, so they have a place of
/// their own in the controller and are never moved: a board's stack has no room for them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WanHistory {
    /// In units of [`ROUND_TRIP_UNIT_US`].
    round_trips: History<u16>,
    zones: History<ZonePair>,
    directions: PerDirection<DirectionHistory>,
}

impl WanHistory {
    pub(crate) const fn empty() -> Self {
        Self {
            round_trips: History::new(),
            zones: History::new(),
            directions: PerDirection {
                download: DirectionHistory::empty(),
                upload: DirectionHistory::empty(),
            },
        }
    }

    /// Begins again, where it is.
    pub(crate) fn begin(&mut self, download: BitsPerSecond, upload: BitsPerSecond) {
        self.round_trips.clear();
        self.zones.clear();
        self.directions.download.begin(download);
        self.directions.upload.begin(upload);
    }

    /// Notes a sample.
    pub(crate) fn sampled(&mut self, sample: MicrosQ32) {
        let half = ROUND_TRIP_UNIT_US / 2;
        let units = sample.as_micros_rounded().saturating_add(half);
        let units = quotient(units, ROUND_TRIP_UNIT_US);
        self.round_trips.push(u16::try_from(units).unwrap_or(u16::MAX));
    }

    /// Forgets the samples of a path that is gone.
    pub(crate) fn forget_samples(&mut self) {
        self.round_trips.clear();
    }

    /// Returns the lowest of the latest `count` samples.
    pub(crate) fn lowest_sample(&self, count: usize) -> Option<MicrosQ32> {
        self.round_trips.min_of_recent(count).map(round_trip_of)
    }

    /// Notes what a tick has ended with.
    pub(crate) fn decided(
        &mut self,
        zones: &PerDirection<Zone>,
        wanted: &PerDirection<BitsPerSecond>,
    ) {
        self.zones.push(ZonePair::new(zones));
        for direction in Direction::BOTH {
            let history = self.directions.get_mut(direction);
            let code = history.rate_code(*wanted.get(direction));
            history.rates.push(code);
        }
    }

    /// Notes a reading of a shaper's counters.
    pub(crate) fn read(&mut self, reading: &CounterReading) {
        let history = self.directions.get_mut(reading.direction);
        let drops = history.drop_counter.read(reading.dropped_packets);
        history.drops.push(u16::try_from(drops).unwrap_or(u16::MAX));
        let waiting = u16::try_from(reading.backlog_packets).unwrap_or(u16::MAX);
        history.backlog_packets.push(waiting);
        history.queue_delay_us = reading.queue_delay_us;
    }
}

/// The latest past of one WAN, see [`crate::controller::Controller::recent`].
///
/// Every question looks at all of a history, a quantile up to 16 times (about 10 µs on a PC): for
/// once a second, not for every tick.
#[derive(Debug, Clone, Copy)]
pub struct Recent<'a> {
    baseline: MicrosQ32,
    history: &'a WanHistory,
}

impl<'a> Recent<'a> {
    pub(crate) const fn new(baseline: MicrosQ32, history: &'a WanHistory) -> Self {
        Self { baseline, history }
    }

    /// Returns how many round-trip times the delays are made of.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.history.round_trips.len()
    }

    /// Returns a quantile of the unfiltered delay above the baseline of now, to 20 µs; zero for
    /// samples below it.
    #[must_use]
    pub fn delay(&self, share: Permille) -> Option<MicrosQ32> {
        let sample = self.history.round_trips.quantile(share).map(round_trip_of)?;
        Some(sample.saturating_sub(self.baseline).max(MicrosQ32::ZERO))
    }

    /// Returns the share of time a direction has spent in a zone, rounded down.
    #[must_use]
    pub fn time_in(&self, direction: Direction, zone: Zone) -> Permille {
        let zones = &self.history.zones;
        Permille::of(zones.count(|pair| pair.has(direction, zone)), zones.len())
    }

    /// Returns a quantile of the wanted rate.
    #[must_use]
    pub fn rate(&self, direction: Direction, share: Permille) -> Option<BitsPerSecond> {
        let history = self.history.directions.get(direction);
        history.rates.quantile(share).map(|code| history.rate_of(code))
    }

    /// Returns a quantile of the packets dropped between two readings.
    #[must_use]
    pub fn drops(&self, direction: Direction, share: Permille) -> Option<u16> {
        self.history.directions.get(direction).drops.quantile(share)
    }

    /// Returns a quantile of the packets waiting in the shaper.
    #[must_use]
    pub fn backlog_packets(&self, direction: Direction, share: Permille) -> Option<u16> {
        self.history.directions.get(direction).backlog_packets.quantile(share)
    }

    /// Returns how long packets have been waiting in the shaper, in µs, according to the latest reading of
    /// its counters.
    #[must_use]
    pub fn queue_delay_us(&self, direction: Direction) -> Option<u32> {
        self.history.directions.get(direction).queue_delay_us
    }

    /// Returns the figures that a person wants.
    #[must_use]
    pub fn figures(&self) -> RecentFigures {
        let direction = |direction| DirectionFigures {
            green: self.time_in(direction, Zone::Green),
            yellow: self.time_in(direction, Zone::Yellow),
            soft_red: self.time_in(direction, Zone::SoftRed),
            red: self.time_in(direction, Zone::Red),
            rate: Spread::of(|share| self.rate(direction, share)),
            drops: Spread::of(|share| self.drops(direction, share)),
            backlog_packets: Spread::of(|share| self.backlog_packets(direction, share)),
            queue_delay_us: self.queue_delay_us(direction),
        };
        RecentFigures {
            delay: Spread::of(|share| self.delay(share)),
            directions: PerDirection {
                download: direction(Direction::Download),
                upload: direction(Direction::Upload),
            },
        }
    }
}

/// Half of the values do not exceed the median, 95 of 100 do not exceed the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Spread<T> {
    /// The median.
    pub p50: T,
    /// The 95th percentile.
    pub p95: T,
}

impl<T> Spread<T> {
    fn of(quantile: impl Fn(Permille) -> Option<T>) -> Option<Self> {
        Some(Self { p50: quantile(Permille::new(500))?, p95: quantile(Permille::new(950))? })
    }
}

/// What the latest past of one WAN looked like. `None` stands for: no value yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RecentFigures {
    /// Unfiltered delay above the baseline.
    pub delay: Option<Spread<MicrosQ32>>,
    /// Both directions.
    pub directions: PerDirection<DirectionFigures>,
}

/// What the latest past of one direction looked like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DirectionFigures {
    /// Share of time in GREEN.
    pub green: Permille,
    /// Share of time in YELLOW.
    pub yellow: Permille,
    /// Share of time in `SOFT_RED`.
    pub soft_red: Permille,
    /// Share of time in RED.
    pub red: Permille,
    /// The wanted rate.
    pub rate: Option<Spread<BitsPerSecond>>,
    /// Packets dropped between two readings of the counters.
    pub drops: Option<Spread<u16>>,
    /// Packets waiting in the shaper.
    pub backlog_packets: Option<Spread<u16>>,
    /// How long the packets that left the shaper between the latest two readings had waited in it, in the
    /// mean, in µs.
    pub queue_delay_us: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_counted_between_readings() {
        let mut counter = DropCounter::default();
        let drops = [1000, 1000, 1007, 3, 3, u32::MAX - 1, 4].map(|total| counter.read(total));
        // The first is 0, the fourth began again, the last has wrapped.
        assert_eq!(drops, [0, 0, 7, 3, 0, u32::MAX - 4, 6]);
    }

    #[test]
    fn a_pair_of_zones_keeps_both() {
        let zones = [Zone::Green, Zone::Yellow, Zone::SoftRed, Zone::Red];
        for download in zones {
            for upload in zones {
                let pair = ZonePair::new(&PerDirection { download, upload });
                assert_eq!(ZonePair::try_from(u16::from(pair)), Ok(pair));
                for zone in zones {
                    assert_eq!(pair.has(Direction::Download, zone), zone == download);
                    assert_eq!(pair.has(Direction::Upload, zone), zone == upload);
                }
            }
        }
        assert!(ZonePair::try_from(16).is_err());
    }

    #[test]
    fn rates_are_shares_of_the_ceiling() {
        for ceiling in [1, 19_000_000, 95_000_000, 940_000_000, 1 << 60, u64::MAX] {
            let mut history = DirectionHistory::empty();
            history.begin(BitsPerSecond::new(ceiling));
            for rate in [ceiling, ceiling / 2, ceiling / 7, 0] {
                let read = history.rate_of(history.rate_code(BitsPerSecond::new(rate))).get();
                assert!(read.abs_diff(rate) <= ceiling / 65_000 + 1, "{read}, not {rate}");
            }
            let full = history.rate_of(history.rate_code(history.ceiling));
            assert_eq!(full, history.ceiling);
        }
    }
}
