//! From a shaper's byte counter to the rate it delivers.

use embassy_time::{Duration, Instant};
use serde::{Deserialize, Serialize};

use crate::units::BitsPerSecond;

/// Readings closer together than this are not divided: RouterOS may refresh counters only once a
/// second, and a rate over a few milliseconds says nothing.
pub(crate) const READING_SPACING_MIN: Duration = Duration::from_millis(200);

/// A counter's value with its time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Reading {
    bytes: u64,
    #[serde(with = "crate::micros")]
    at: Instant,
}

/// The delivered rate of one direction.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Delivery {
    last: Option<Reading>,
    rate: Option<BitsPerSecond>,
}

impl Delivery {
    /// Returns the rate between the last two readings, if there were two.
    pub(crate) const fn rate(&self) -> Option<BitsPerSecond> {
        self.rate
    }

    /// Takes a counter's value; returns the new rate and the time it is of, if this reading makes one.
    /// A counter that went back has begun again, and only its next reading says something.
    pub(crate) fn read(&mut self, bytes: u64, at: Instant) -> Option<(BitsPerSecond, Duration)> {
        let Some(last) = self.last else {
            self.last = Some(Reading { bytes, at });
            return None;
        };
        let passed = at.checked_duration_since(last.at)?;
        if passed < READING_SPACING_MIN {
            return None;
        }
        self.last = Some(Reading { bytes, at });
        let gained = bytes.checked_sub(last.bytes)?;
        let bits = u128::from(gained).saturating_mul(8_000_000);
        let rate = bits.checked_div(u128::from(passed.as_micros())).unwrap_or_default();
        let rate = BitsPerSecond::new(u64::try_from(rate).unwrap_or(u64::MAX));
        self.rate = Some(rate);
        Some((rate, passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_readings_make_a_rate() {
        let mut delivery = Delivery::default();
        assert_eq!(delivery.read(1_000, Instant::from_millis(100)), None);
        assert_eq!(delivery.read(9_000, Instant::from_millis(200)), None); // too close
        let rate = delivery.read(126_000, Instant::from_millis(600));
        assert_eq!(rate, Some((BitsPerSecond::new(2_000_000), Duration::from_millis(500))));
    }

    #[test]
    fn a_counter_that_begins_again_makes_no_rate() {
        let mut delivery = Delivery::default();
        delivery.read(1_000_000, Instant::from_millis(0));
        assert_eq!(delivery.read(10, Instant::from_millis(500)), None);
        let rate = delivery.read(125_010, Instant::from_millis(1500));
        assert_eq!(rate, Some((BitsPerSecond::new(1_000_000), Duration::from_secs(1))));
    }

    #[test]
    fn hostile_readings_saturate() {
        let mut delivery = Delivery::default();
        delivery.read(0, Instant::from_ticks(0));
        assert_eq!(
            delivery.read(u64::MAX, Instant::from_secs(1)),
            Some((BitsPerSecond::new(u64::MAX), Duration::from_secs(1)))
        );
        assert_eq!(delivery.read(0, Instant::from_ticks(5)), None);
    }
}
