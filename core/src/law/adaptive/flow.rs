//! What the shaper's counters say: is the direction loaded, and does less come through than it
//! lets through?

use embassy_time::Instant;
use heapless::Deque;
use serde::{Deserialize, Serialize};

use super::arith::{micros, scale, share_ppm};
use super::inflow::Inflow;
use crate::divide::quotient;
use crate::places::Empty;
use crate::tick::CounterReading;

/// Readings that are remembered.
const READINGS: usize = 8;
/// From this share of the shaper rate on, a direction presses against it.
const PRESSES_PPM: i64 = 900_000;
/// From this share of the shaper rate on, a direction's traffic can cause a queue.
pub(super) const CARRIES_PPM: i64 = 80_000;
/// Below this share of the lowest rate held, a direction's delivery falls short; from it on, of what was let
/// in, the shaper is full.
const SHORT_PPM: i64 = 930_000;
/// While a queue stands, less than this share is what the line carries.
const REDUCED_PPM: i64 = 970_000;
/// From this share of the highest rate held on, a direction's shaper is full.
const FULL_PPM: i64 = 970_000;
/// A rate is taken over at least this much.
const SPAN_US: i64 = 90_000;
/// A reading older than this does not tell what happens now.
const RECENT_US: i64 = 150_000;
/// Counters older than this say nothing any more.
const FRESH_US: i64 = 3_000_000;
/// Packets that have waited in CAKE for its target (5 ms by default; RFC 8289 gives the reasons for
/// it), and for this many full packets at least, were held back by it. One packet waits for another at any load.
const HELD_BACK_US: u64 = 5_000;
const HELD_BACK_PACKETS: u64 = 2;
/// A direction that falls short this soon after pressing has met a slower line.
const FALL_US: i64 = 300_000;
/// A direction that has pressed counts as pressing for this much longer.
const MEMORY_US: i64 = 1_500_000;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Reading {
    at_us: i64,
    bytes: u64,
    /// Whether packets wait in the shaper at that moment.
    waits: bool,
    /// Whether those that left since the reading before had waited for so long that the shaper is what held them back.
    is_held_back: bool,
}

/// What is known about the traffic of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Load {
    /// There are no counters.
    Unknown,
    /// It uses this share of the shaper rate.
    Share(i64),
}

/// How what was delivered compares with what the shaper let through, whenever within the span and
/// the lag before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum UseOfShaper {
    /// Less came through than the lowest rate that was held.
    Short,
    /// A little less than that.
    Reduced,
    /// As much as the highest rate that was held.
    Full,
    /// In between, or not known.
    Unclear,
}

/// The counters of one direction.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Flow {
    readings: Deque<Reading, READINGS>,
    load: Load,
    delivered_bps: u64,
    /// Between the last two readings, however close.
    latest_bps: u64,
    /// Of the latest rate.
    span_us: i64,
    at_us: i64,
    use_of_shaper: UseOfShaper,
    /// Since when the shaper has been full, whatever rates were held; `i64::MAX` if it is not.
    full_us: i64,
    pressed_us: Option<i64>,
    read_us: Option<i64>,
}

impl Empty for Flow {
    const EMPTY: Self = Self {
        readings: Deque::new(),
        load: Load::Unknown,
        delivered_bps: 0,
        latest_bps: 0,
        span_us: 0,
        at_us: 0,
        use_of_shaper: UseOfShaper::Short,
        full_us: 0,
        pressed_us: None,
        read_us: None,
    };
}

impl Flow {
    pub(super) const fn new() -> Self {
        Self {
            readings: Deque::new(),
            load: Load::Unknown,
            delivered_bps: 0,
            latest_bps: 0,
            span_us: 0,
            at_us: 0,
            use_of_shaper: UseOfShaper::Unclear,
            full_us: 0,
            pressed_us: None,
            read_us: None,
        }
    }

    /// Takes a reading. A counter that stands still although packets wait has not been refreshed.
    #[inline(never)]
    pub(super) fn read(
        &mut self,
        reading: &CounterReading,
        now: Instant,
        inflow: &Inflow,
        lag_us: i64,
    ) {
        let at_us = micros(now).saturating_sub(i64::from(reading.age_us));
        // At the rate held: a full packet has 12,000 bits.
        let packets_us = quotient(12_000_000_000 * HELD_BACK_PACKETS, inflow.newest_bps());
        let long_us = packets_us.max(HELD_BACK_US);
        let is_held_back = reading.queue_delay_us.is_some_and(|us| u64::from(us) >= long_us);
        let waits = reading.backlog_bytes > 0;
        let new = Reading { at_us, bytes: reading.delivered_bytes, waits, is_held_back };
        let last = self.readings.back().copied();
        if last.is_some_and(|last| at_us <= last.at_us) {
            return;
        }
        if last.is_some_and(|last| new.bytes < last.bytes) {
            self.readings.clear();
        }
        let oldest_us = at_us.saturating_sub(SPAN_US);
        let from = self.readings.iter().rev().find(|past| past.at_us <= oldest_us).copied();
        if let Some(last) = last {
            let bits = new.bytes.saturating_sub(last.bytes).saturating_mul(8_000_000);
            let passed = u64::try_from(at_us.saturating_sub(last.at_us)).unwrap_or(0);
            self.latest_bps = quotient(bits, passed);
        }
        if let Some(from) = from.or(last) {
            self.rate(&from, &new, inflow, lag_us, micros(now));
        }
        if self.readings.is_full() {
            self.readings.pop_front();
        }
        let _full = self.readings.push_back(new);
        self.read_us = Some(micros(now));
    }

    #[inline(never)]
    fn rate(&mut self, from: &Reading, to: &Reading, inflow: &Inflow, lag_us: i64, now_us: i64) {
        let span_us = to.at_us.saturating_sub(from.at_us);
        let bits = to.bytes.saturating_sub(from.bytes).saturating_mul(8);
        let passed = u64::try_from(span_us).unwrap_or(0);
        let allowed =
            inflow.between(from.at_us.saturating_sub(lag_us), to.at_us.saturating_sub(lag_us));
        // 1 kbit/s for 1 µs is a thousandth of a bit.
        let share = share_ppm(bits, quotient(allowed, 1000));
        self.delivered_bps = quotient(bits.saturating_mul(1_000_000), passed);
        self.span_us = span_us;
        self.at_us = to.at_us;
        self.load = Load::Share(share);
        let range = inflow.range(from.at_us.saturating_sub(lag_us), to.at_us);
        self.use_of_shaper = match range {
            Some((low, _)) if self.delivered_bps < scale(low, SHORT_PPM) => UseOfShaper::Short,
            Some((low, _)) if self.delivered_bps < scale(low, REDUCED_PPM) => UseOfShaper::Reduced,
            Some((_, high)) if self.delivered_bps >= scale(high, FULL_PPM) => UseOfShaper::Full,
            _ => UseOfShaper::Unclear,
        };
        let is_full = share >= SHORT_PPM;
        self.full_us = if is_full { self.full_us.min(from.at_us) } else { i64::MAX };
        let waits = to.waits && from.waits;
        if share >= PRESSES_PPM || waits {
            self.pressed_us = Some(now_us);
        }
    }

    /// Forgets counters that have not been read for long.
    pub(super) fn age(&mut self, now_us: i64) {
        let is_old = self.read_us.is_none_or(|read| now_us.saturating_sub(read) > FRESH_US);
        if is_old && self.load != Load::Unknown {
            *self = Self::new();
        }
    }

    /// Returns whether the direction presses against its shaper or did a moment ago. Without counters
    /// it may.
    #[inline(never)]
    pub(super) fn presses(&self, now_us: i64) -> bool {
        let memory_us = MEMORY_US.saturating_add(self.span_us.saturating_mul(2));
        match self.load {
            Load::Unknown => true,
            Load::Share(_) => self.has_pressed_within(now_us, memory_us),
        }
    }

    /// Returns whether the direction pressed against its shaper a moment ago: if it falls short now, the
    /// line has become slower.
    #[inline(never)]
    pub(super) fn has_just_pressed(&self, now_us: i64) -> bool {
        self.has_pressed_within(now_us, FALL_US.saturating_add(self.span_us))
    }

    #[inline(never)]
    pub(super) fn has_pressed_within(&self, now_us: i64, time_us: i64) -> bool {
        self.pressed_us.is_some_and(|then| now_us.saturating_sub(then) <= time_us)
    }

    /// Returns whether the direction carries enough to be able to cause a queue.
    #[inline(never)]
    pub(super) const fn carries(&self) -> bool {
        match self.load {
            Load::Unknown => true,
            Load::Share(share) => share >= CARRIES_PPM,
        }
    }

    /// Returns whether the direction presses against its shaper as far as the latest reading goes.
    #[inline(never)]
    pub(super) fn presses_now(&self, share_ppm: i64) -> bool {
        let waits = self.readings.back().is_some_and(|reading| reading.waits);
        match self.load {
            Load::Unknown => true,
            Load::Share(share) => share >= share_ppm || waits,
        }
    }

    /// Returns whether packets waited in the shaper in both of the latest two readings (`Some(true)`),
    /// or in none of them.
    pub(super) fn waits(&self, now_us: i64, age_us: i64) -> Option<bool> {
        let mut latest = self.readings.iter().rev();
        let (newest, before) = (latest.next()?, latest.next()?);
        let is_recent = now_us.saturating_sub(newest.at_us) <= age_us;
        let (waits, waited) = (newest.waits, before.waits);
        (is_recent && waits == waited).then_some(waits)
    }

    /// Returns whether the shaper held packets back for long according to a reading not older than
    /// `age_us`: it is what limits the traffic then.
    pub(super) fn is_held_back(&self, now_us: i64, age_us: i64) -> bool {
        let is_recent = |reading: &Reading| now_us.saturating_sub(reading.at_us) <= age_us;
        self.readings.back().is_some_and(|reading| reading.is_held_back && is_recent(reading))
    }

    /// Returns since when the shaper has been full: `i64::MAX` if it was not at the latest reading, 0 if
    /// there are no counters.
    pub(super) const fn full_us(&self) -> i64 {
        self.full_us
    }

    /// Returns whether the latest reading is from a moment ago.
    pub(super) const fn is_recent(&self, now_us: i64) -> bool {
        now_us.saturating_sub(self.at_us) <= RECENT_US
    }

    /// Returns whether the latest rate is of a time in which the line was full: either a queue stood
    /// since `since_us`, or the direction pressed against its shaper when that time began. A flow that
    /// has just started delivers less than the line carries, and says nothing about it.
    pub(super) fn is_of_full_line(&self, since_us: i64) -> bool {
        let from_us = self.at_us.saturating_sub(self.span_us);
        let pressed = self.pressed_us.is_some_and(|then| from_us.saturating_sub(then) <= FALL_US);
        from_us >= since_us || pressed
    }

    /// Returns how the shaper is used according to a reading not older than `age_us`.
    #[inline(never)]
    pub(super) fn use_of_shaper(&self, now_us: i64, age_us: i64) -> UseOfShaper {
        let is_recent = now_us.saturating_sub(self.at_us) <= age_us;
        if self.load != Load::Unknown && is_recent {
            self.use_of_shaper
        } else {
            UseOfShaper::Unclear
        }
    }

    pub(super) const fn load(&self) -> Load {
        self.load
    }

    /// Returns what is delivered, if it is known over a span not longer than this.
    #[inline(never)]
    pub(super) fn delivered_within(&self, span_us: i64) -> Option<u64> {
        // The latest reading counts if it is higher: what has just grown is not at its limit.
        let delivered = self.delivered_bps.max(self.latest_bps);
        (self.load != Load::Unknown && self.span_us <= span_us).then_some(delivered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Direction, WanId};

    /// A download of 20 Mbit/s, read every 50 ms.
    struct Reader {
        flow: Flow,
        inflow: Inflow,
        now_us: u64,
        bytes: u64,
    }

    impl Reader {
        fn new() -> Self {
            let mut inflow = Inflow::new();
            inflow.hold(20_000_000, 0);
            Self { flow: Flow::new(), inflow, now_us: 1_000_000, bytes: 0 }
        }

        fn read(&mut self, share: u64, backlog_bytes: u32, queue_delay_us: Option<u32>) {
            self.now_us += 50_000;
            self.bytes += 125_000 * share / 100;
            let reading = CounterReading {
                wan: WanId(0),
                direction: Direction::Download,
                delivered_bytes: self.bytes,
                dropped_packets: 0,
                backlog_bytes,
                backlog_packets: backlog_bytes.div_ceil(1500),
                age_us: 0,
                queue_delay_us,
            };
            let now = Instant::from_micros(self.now_us);
            self.flow.read(&reading, now, &self.inflow, 0);
        }

        fn is_held_back(&self) -> bool {
            self.flow.is_held_back(self.now_us.cast_signed(), 150_000)
        }
    }

    #[test]
    fn a_shaper_is_full_from_the_reading_on_after_which_no_share_was_missing() {
        let mut reader = Reader::new();
        assert_eq!(reader.flow.full_us(), 0, "without counters nobody knows better");
        (0..6).for_each(|_| reader.read(70, 0, None));
        assert_eq!(reader.flow.full_us(), i64::MAX);
        (0..10).for_each(|_| reader.read(100, 0, None));
        // The first two rates of a full shaper still reach back to readings before it.
        assert_eq!(reader.flow.full_us(), 1_300_000);
        reader.read(50, 0, None);
        assert_eq!(reader.flow.full_us(), i64::MAX);
    }

    #[test]
    fn packets_that_have_waited_were_held_back_although_none_waits_at_the_moment_of_reading() {
        let mut reader = Reader::new();
        for queue_delay_us in [None, Some(4_999)] {
            reader.read(65, 0, queue_delay_us);
            assert!(!reader.is_held_back());
        }
        reader.read(65, 0, Some(5_000));
        assert!(reader.is_held_back());
    }

    #[test]
    fn a_stream_after_a_download_is_not_held_back() {
        let mut reader = Reader::new();
        for _ in 0..40 {
            reader.read(100, 9000, Some(20_000));
        }
        assert!(reader.is_held_back());
        // What one reading says is not true of the next, and not for long.
        reader.read(25, 0, Some(80));
        reader.read(25, 0, None);
        reader.read(25, 0, None);
        assert!(!reader.is_held_back());
        reader.read(100, 9000, Some(20_000));
        reader.now_us += 200_000;
        assert!(!reader.is_held_back());
    }

    #[test]
    fn one_packet_behind_another_is_not_held_back() {
        let mut reader = Reader::new();
        reader.inflow.hold(2_000_000, 0);
        // A packet takes 6 ms.
        reader.read(9, 1500, Some(11_900));
        assert!(!reader.is_held_back());
        reader.read(9, 1500, Some(12_000));
        assert!(reader.is_held_back());
    }
}
