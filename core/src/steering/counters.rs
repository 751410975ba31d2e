//! From a counter of dropped packets to drops between two readings.

use embassy_time::Duration;
use serde::{Deserialize, Serialize};

use crate::steering::config::SteeringQuirks;
use crate::units::Packets;

/// More drops than this between two readings cannot be: ten seconds of a million packets per second.
/// The counter began again.
pub(super) const DROPS_MAX: u64 = 10_000_000;
/// Where RouterOS's counter of drops wraps.
const WRAP: u64 = 1 << 32;
/// A counter that stands still during this much of a queue as high as RED needs is no evidence: CAKE
/// on RouterOS leaves it at zero.
pub(super) const USELESS_AFTER: Duration = Duration::from_secs(5);

/// Drops between two readings; negative only by the quirk `resets_count_negative`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Drops(pub(super) i64);

impl Drops {
    /// Returns whether there are at least so many.
    pub(super) fn reach(self, packets: Packets) -> bool {
        i64::try_from(packets.0).is_ok_and(|packets| self.0 >= packets)
    }

    /// Returns the number of packets, at least none.
    pub(super) fn packets(self) -> Packets {
        Packets(u64::try_from(self.0).unwrap_or_default())
    }
}

/// A shaper's counter of dropped packets.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DropCounter {
    first_reading_counts: bool,
    resets_count_negative: bool,
    last: Option<Packets>,
    has_moved: bool,
    #[serde(with = "crate::micros")]
    still_under_load: Duration,
}

impl DropCounter {
    pub(super) const fn new(quirks: &SteeringQuirks) -> Self {
        Self {
            first_reading_counts: quirks.first_reading_counts,
            resets_count_negative: quirks.resets_count_negative,
            last: None,
            has_moved: false,
            still_under_load: Duration::MIN,
        }
    }

    /// Takes a reading and returns the drops since the last one.
    pub(super) fn read(&mut self, now: Packets) -> Drops {
        let last = self.last.replace(now);
        let Some(last) = last else {
            return if self.first_reading_counts { signed(0, now.0) } else { Drops(0) };
        };
        self.has_moved |= last != now;
        if self.resets_count_negative {
            return signed(last.0, now.0);
        }
        let wrapped = if last.0 < WRAP { now.0.checked_add(WRAP) } else { None };
        let gain = [Some(now.0), wrapped].into_iter().flatten().find_map(|now| {
            let gain = now.checked_sub(last.0)?;
            (gain <= DROPS_MAX).then_some(gain)
        });
        // A counter that began again says something with its next reading.
        signed(0, gain.unwrap_or(0))
    }

    /// Notes that a queue as high as RED needs stood for a while; returns whether this has just made
    /// the counter useless.
    pub(super) fn stand_still(&mut self, time: Duration) -> bool {
        let was_useless = self.is_useless();
        let still = self.still_under_load.as_ticks().saturating_add(time.as_ticks());
        self.still_under_load = Duration::from_ticks(still);
        self.is_useless() && !was_useless
    }

    /// Returns whether the counter is no evidence: it never moved although it should have.
    pub(super) fn is_useless(&self) -> bool {
        !self.has_moved && self.still_under_load >= USELESS_AFTER
    }
}

fn signed(from: u64, to: u64) -> Drops {
    let limit = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    Drops(limit(to).saturating_sub(limit(from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(quirks: &SteeringQuirks, readings: &[u64]) -> std::vec::Vec<i64> {
        let mut counter = DropCounter::new(quirks);
        readings.iter().map(|reading| counter.read(Packets(*reading)).0).collect()
    }

    #[test]
    fn the_first_reading_is_no_drop_whatever_it_says() {
        assert_eq!(read_all(&SteeringQuirks::NONE, &[70_000, 70_000, 70_003]), [0, 0, 3]);
    }

    #[test]
    fn a_counter_that_wraps_at_32_bits_goes_on() {
        let top = u64::from(u32::MAX);
        assert_eq!(read_all(&SteeringQuirks::NONE, &[top - 2, 4, 5]), [0, 7, 1]);
    }

    #[test]
    fn a_counter_that_begins_again_makes_no_drops() {
        assert_eq!(read_all(&SteeringQuirks::NONE, &[70_000, 12, 15]), [0, 0, 3]);
        assert_eq!(read_all(&SteeringQuirks::NONE, &[3_000_000_000, 12, 15]), [0, 0, 3]);
        assert_eq!(read_all(&SteeringQuirks::NONE, &[u64::MAX, 12, u64::MAX]), [0, 0, 0]);
    }

    #[test]
    fn an_impossible_jump_is_no_drop() {
        assert_eq!(
            read_all(&SteeringQuirks::NONE, &[0, DROPS_MAX, 3 * DROPS_MAX]),
            [0, DROPS_MAX.cast_signed(), 0]
        );
    }

    #[test]
    fn the_reference_takes_first_readings_and_resets_literally() {
        let quirks = SteeringQuirks::REFERENCE;
        assert_eq!(read_all(&quirks, &[70_000, 70_003, 12]), [70_000, 3, -69_991]);
    }

    #[test]
    fn a_counter_is_useless_only_if_it_never_moved_under_load() {
        let mut counter = DropCounter::new(&SteeringQuirks::NONE);
        counter.read(Packets(0));
        let half = USELESS_AFTER / 2;
        assert!(!counter.stand_still(half));
        assert!(counter.stand_still(half));
        assert!(!counter.stand_still(half), "told once");
        assert!(counter.is_useless());
        counter.read(Packets(1));
        assert!(!counter.is_useless());
    }
}
