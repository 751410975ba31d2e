//! The four zones of a direction.
//!
//! ```text
//!            target        warn          hard red
//!  delay ───────┼─────────────┼──────────────┼──────────►
//!    GREEN      │   YELLOW    │   SOFT_RED   │    RED        download
//!    GREEN      │   YELLOW    │          RED                 upload
//! ```
//!
//! Every comparison is strict: a delay equal to a threshold is in the milder zone.

use serde::{Deserialize, Serialize};

use crate::fixed::MicrosQ32;

/// How much queueing delay a direction shows. The order is the order of severity.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Zone {
    /// No queue worth mentioning.
    #[default]
    Green,
    /// A queue begins to stand.
    Yellow,
    /// A queue stands (download only).
    SoftRed,
    /// A queue hurts.
    Red,
}

impl Zone {
    /// Returns the zone's name as users know it: `GREEN`, `YELLOW`, `SOFT_RED`, `RED`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Green => "GREEN",
            Self::Yellow => "YELLOW",
            Self::SoftRed => "SOFT_RED",
            Self::Red => "RED",
        }
    }
}

/// The delays at which zones begin, above the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// GREEN ends here.
    pub target: MicrosQ32,
    /// YELLOW ends here.
    pub warn: MicrosQ32,
    /// SOFT_RED ends here.
    pub hard_red: MicrosQ32,
}

impl Thresholds {
    /// Classifies a delay into four zones.
    #[must_use]
    pub fn four_zones(&self, delay: MicrosQ32) -> Zone {
        if delay > self.hard_red { Zone::Red } else { self.three_zones(delay).min(Zone::SoftRed) }
    }

    /// Classifies a delay into three zones: GREEN, YELLOW and, from `warn` on, RED.
    #[must_use]
    pub fn three_zones(&self, delay: MicrosQ32) -> Zone {
        if delay > self.warn {
            Zone::Red
        } else if delay > self.target {
            Zone::Yellow
        } else {
            Zone::Green
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        target: MicrosQ32::from_micros(15_000),
        warn: MicrosQ32::from_micros(45_000),
        hard_red: MicrosQ32::from_micros(80_000),
    };

    #[test]
    fn a_delay_at_a_threshold_is_in_the_milder_zone() {
        let bit = MicrosQ32::from_bits(1);
        for (micros, at, above) in [
            (15_000, Zone::Green, Zone::Yellow),
            (45_000, Zone::Yellow, Zone::SoftRed),
            (80_000, Zone::SoftRed, Zone::Red),
        ] {
            let delay = MicrosQ32::from_micros(micros);
            assert_eq!(THRESHOLDS.four_zones(delay), at);
            assert_eq!(THRESHOLDS.four_zones(delay.saturating_add(bit)), above);
        }
    }

    #[test]
    fn three_zones_are_red_from_the_warn_threshold_on() {
        assert_eq!(THRESHOLDS.three_zones(MicrosQ32::from_micros(45_000)), Zone::Yellow);
        assert_eq!(THRESHOLDS.three_zones(MicrosQ32::from_micros(45_001)), Zone::Red);
        assert_eq!(THRESHOLDS.three_zones(MicrosQ32::from_bits(i64::MIN)), Zone::Green);
    }
}
