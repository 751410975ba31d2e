//! From a shaper's byte counter to the rate it delivers.
//!
//! RouterOS does not say how often it refreshes its counters; once a second is the slowest known
//! guess. So a value that has not changed means one of two things: nothing was delivered, or nobody
//! has looked since. A rate is therefore taken only between two moments at which the value was seen
//! to change, and standing still counts as 0 only after longer than the counter has been seen to
//! need. How long that is, is learned: two changes in a row bound the refresh period from above.

use embassy_time::{Duration, Instant};
use serde::{Deserialize, Serialize};

use crate::divide::divide;
use crate::places::Empty;
use crate::units::BitsPerSecond;

/// Readings closer together than this are not divided: they are a few ms apart from the moments
/// they are said to be of, and a shaper lets bursts of 100 ms through (`bucket-size`).
pub(crate) const READING_SPACING_MIN: Duration = Duration::from_millis(150);
/// The refresh period that is assumed before one was seen: a second, and what its timer may be late.
pub(crate) const REFRESH_PERIOD_MAX: Duration = Duration::from_millis(1200);
/// After so long without a reading a mean would say nothing about now: the next reading is a first.
pub(crate) const READING_GAP_MAX: Duration = Duration::from_secs(3);
/// A rate is not known any more when its last reading is so long ago.
pub(crate) const RATE_AGE_MAX: Duration = Duration::from_secs(3);

/// A counter's value with what is known about its time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Value {
    bytes: u64,
    /// The first reading with this value.
    #[serde(with = "crate::micros")]
    first: Instant,
    /// The last reading with this value.
    #[serde(with = "crate::micros")]
    last: Instant,
    /// The reading before the first one, if the value was seen to appear.
    #[serde(with = "crate::micros")]
    before: Option<Instant>,
}

/// The delivered rate of one direction.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Delivery {
    value: Option<Value>,
    /// The counter is refreshed at least this often.
    #[serde(with = "crate::micros")]
    refresh: Duration,
    rate: Option<BitsPerSecond>,
    /// The end of the time that the rate is of.
    #[serde(with = "crate::micros")]
    rated: Option<Instant>,
}

impl Default for Delivery {
    fn default() -> Self {
        Self { value: None, refresh: REFRESH_PERIOD_MAX, rate: None, rated: None }
    }
}

impl Empty for Delivery {
    const EMPTY: Self = {
        let start = Instant::MIN;
        let value = Value { bytes: 0, first: start, last: start, before: None };
        Self { value: Some(value), refresh: Duration::MIN, rate: None, rated: None }
    };
}

impl Delivery {
    /// Returns the latest rate, if there is one that is not too old.
    pub(crate) const fn rate(&self) -> Option<BitsPerSecond> {
        self.rate
    }

    /// Forgets a rate that has become too old.
    pub(crate) fn expire(&mut self, now: Instant) {
        let age = self.rated.and_then(|rated| now.checked_duration_since(rated));
        if age.is_some_and(|age| age > RATE_AGE_MAX) {
            self.rate = None;
            self.rated = None;
        }
    }

    /// Takes a counter's value; returns the new rate, and the time it is of, if this reading makes one. A
    /// counter that went back has begun again (or has wrapped), and only later readings say something.
    pub(crate) fn read(&mut self, bytes: u64, at: Instant) -> Option<(BitsPerSecond, Duration)> {
        let Some(value) = self.value else {
            self.value = Some(Value { bytes, first: at, last: at, before: None });
            return None;
        };
        let gap = at.checked_duration_since(value.last)?;
        if gap < READING_SPACING_MIN {
            return None;
        }
        if gap > READING_GAP_MAX || bytes < value.bytes {
            *self = Self {
                value: Some(Value { bytes, first: at, last: at, before: None }),
                // Another counter, perhaps of another RouterOS version.
                refresh: if bytes < value.bytes { REFRESH_PERIOD_MAX } else { self.refresh },
                ..*self
            };
            return None;
        }
        if bytes == value.bytes { self.stand(value, at) } else { self.change(value, bytes, at) }
    }

    /// Takes a value that is still the same.
    fn stand(&mut self, value: Value, at: Instant) -> Option<(BitsPerSecond, Duration)> {
        let stood = at.checked_duration_since(value.first)?;
        let over = at.checked_duration_since(value.last)?;
        let needed = self.refresh.as_ticks().saturating_mul(3) / 2;
        if stood.as_ticks() < needed {
            self.value = Some(Value { last: at, ..value });
            return None;
        }
        // When it will move again, nothing says since when it has.
        self.value = Some(Value { last: at, before: None, ..value });
        self.set(BitsPerSecond::ZERO, at, over)
    }

    /// Takes a higher value.
    fn change(
        &mut self,
        value: Value,
        bytes: u64,
        at: Instant,
    ) -> Option<(BitsPerSecond, Duration)> {
        self.value = Some(Value { bytes, first: at, last: at, before: Some(value.last) });
        let Some(before) = value.before else {
            // Not seen to appear: what was gained may belong to a longer time. It stood for no longer than a
            // slow counter does, so perhaps the router refreshes it less often now; if not, that is learned
            // anew with the next two changes.
            let stood = at.checked_duration_since(value.first)?;
            if stood <= REFRESH_PERIOD_MAX {
                self.refresh = REFRESH_PERIOD_MAX;
            }
            return None;
        };
        self.refresh = self.refresh.min(at.checked_duration_since(before)?);
        let passed = at.checked_duration_since(value.first)?;
        let bits = u128::from(bytes.saturating_sub(value.bytes)).saturating_mul(8_000_000);
        let rate = divide(bits, passed.as_micros())?;
        self.set(BitsPerSecond::new(u64::try_from(rate).unwrap_or(u64::MAX)), at, passed)
    }

    fn set(
        &mut self,
        rate: BitsPerSecond,
        at: Instant,
        over: Duration,
    ) -> Option<(BitsPerSecond, Duration)> {
        self.rate = Some(rate);
        self.rated = Some(at);
        Some((rate, over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8 Mbit/s are so many bytes in a millisecond.
    const BYTES_PER_MS: u64 = 1_000;
    const RATE: Option<BitsPerSecond> = Some(BitsPerSecond::from_mbps(8));
    const RATE_200_MS: Option<(BitsPerSecond, Duration)> =
        Some((BitsPerSecond::from_mbps(8), Duration::from_millis(200)));

    /// Reads a counter that is refreshed every so often and counts 8 Mbit/s while `loaded` says so.
    fn poll(
        delivery: &mut Delivery,
        times: impl Iterator<Item = u64>,
        refresh_ms: u64,
        loaded: core::ops::Range<u64>,
    ) -> std::vec::Vec<(u64, BitsPerSecond)> {
        let counted = |ms: u64| ms.clamp(loaded.start, loaded.end) * BYTES_PER_MS;
        times
            .filter_map(|ms| {
                let shown = counted(ms - ms % refresh_ms);
                Some((ms, delivery.read(shown, Instant::from_millis(ms))?.0))
            })
            .collect()
    }

    #[test]
    fn a_rate_needs_both_its_ends() {
        let mut delivery = Delivery::default();
        assert_eq!(delivery.read(7, Instant::from_millis(0)), None);
        // How long these bytes took is not known: the first value may have been a second old.
        assert_eq!(delivery.read(200_007, Instant::from_millis(200)), None);
        assert_eq!(delivery.read(300_007, Instant::from_millis(300)), None); // too close
        assert_eq!(delivery.read(400_007, Instant::from_millis(400)), RATE_200_MS);
        assert_eq!(delivery.rate(), RATE);
    }

    #[test]
    fn a_counter_of_whole_seconds_is_neither_zero_nor_a_burst_between_its_refreshes() {
        let mut delivery = Delivery::default();
        let rates = poll(&mut delivery, (100..60_000).step_by(210), 1000, 0..60_000);
        assert!(rates.len() > 50, "{rates:?}");
        for (ms, rate) in rates {
            // Each end is known to one period of the readings.
            let error = rate.get().abs_diff(8_000_000);
            assert!(error <= 2_200_000, "{rate:?} at {ms} ms");
        }
    }

    #[test]
    fn a_counter_of_whole_seconds_comes_to_zero_after_the_load_and_back() {
        let mut delivery = Delivery::default();
        let zero = BitsPerSecond::ZERO;
        let rates = poll(&mut delivery, (100..20_000).step_by(200), 1000, 0..10_000);
        let first = rates.iter().find(|(_, rate)| *rate == zero).map(|(ms, _)| *ms);
        assert!(first.is_some_and(|ms| (11_000..=12_200).contains(&ms)), "{rates:?}");
        // The bytes of the first refresh after the pause may be of any part of it.
        let again = poll(&mut delivery, (20_100..24_000).step_by(200), 1000, 10_000..14_000);
        assert!(again.iter().all(|(_, rate)| *rate == zero || rate.get() > 6_000_000), "{again:?}");
    }

    #[test]
    fn a_counter_that_is_read_live_says_zero_soon() {
        let mut delivery = Delivery::default();
        let rates = poll(&mut delivery, (0..20_000).step_by(200), 1, 0..10_000);
        let (busy, idle): (std::vec::Vec<_>, std::vec::Vec<_>) =
            rates.into_iter().partition(|(ms, _)| *ms <= 10_000);
        assert!(busy.iter().all(|(_, rate)| Some(*rate) == RATE), "{busy:?}");
        assert!(idle.iter().all(|(_, rate)| *rate == BitsPerSecond::ZERO), "{idle:?}");
        assert_eq!(idle.first().map(|(ms, _)| *ms), Some(10_600));
    }

    #[test]
    fn a_live_counter_that_is_refreshed_once_a_second_from_now_on_is_not_idle() {
        let mut delivery = Delivery::default();
        poll(&mut delivery, (0..10_000).step_by(200), 1, 0..60_000);
        let rates = poll(&mut delivery, (10_000..60_000).step_by(210), 1000, 0..60_000);
        let settled = rates.iter().filter(|(ms, _)| *ms > 13_000);
        assert!(settled.clone().count() > 40, "{rates:?}");
        for (ms, rate) in settled {
            assert!(rate.get().abs_diff(8_000_000) <= 2_200_000, "{rate:?} at {ms} ms");
        }
        // And back.
        let rates = poll(&mut delivery, (60_000..90_000).step_by(200), 1, 0..80_000);
        let first = rates.iter().find(|(_, rate)| *rate == BitsPerSecond::ZERO);
        assert_eq!(first.map(|(ms, _)| *ms), Some(80_600), "{rates:?}");
    }

    #[test]
    fn a_counter_that_begins_again_makes_no_rate() {
        let mut delivery = Delivery::default();
        poll(&mut delivery, (0..2_000).step_by(200), 1, 0..2_000);
        assert_eq!(delivery.read(10, Instant::from_millis(2_000)), None);
        assert_eq!(delivery.read(200_010, Instant::from_millis(2_200)), None);
        assert_eq!(delivery.read(400_010, Instant::from_millis(2_400)), RATE_200_MS);
    }

    #[test]
    fn a_reading_after_a_long_silence_is_a_first_one() {
        let mut delivery = Delivery::default();
        poll(&mut delivery, (0..2_000).step_by(200), 1, 0..90_000);
        assert_eq!(delivery.read(60_000_000, Instant::from_secs(60)), None);
        assert_eq!(delivery.read(60_200_000, Instant::from_millis(60_200)), None);
        assert_eq!(delivery.read(60_400_000, Instant::from_millis(60_400)), RATE_200_MS);
    }

    #[test]
    fn a_rate_without_further_readings_is_soon_not_known() {
        let mut delivery = Delivery::default();
        poll(&mut delivery, (0..1_001).step_by(200), 1, 0..90_000);
        delivery.expire(Instant::from_millis(4_000));
        assert_eq!(delivery.rate(), RATE);
        delivery.expire(Instant::from_millis(4_001));
        assert_eq!(delivery.rate(), None);
    }

    #[test]
    fn hostile_readings_saturate() {
        let mut delivery = Delivery::default();
        delivery.read(0, Instant::from_ticks(0));
        delivery.read(1, Instant::from_secs(1));
        let rate = delivery.read(u64::MAX, Instant::from_secs(2));
        assert_eq!(rate, Some((BitsPerSecond::new(u64::MAX), Duration::from_secs(1))));
        assert_eq!(delivery.read(0, Instant::from_ticks(5)), None);
        assert_eq!(delivery.read(0, Instant::MAX), None);
    }
}
