//! The simple authority: RED for long enough, GREEN for long enough.

use serde::{Deserialize, Serialize};

use crate::fixed::ticks_covering;
use crate::steering::config::SteeringConfig;
use crate::steering::decision::SteeringReason;
use crate::zone::Zone;

/// What an authority wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Wish {
    /// Traffic should leave the primary.
    Leave(SteeringReason),
    /// Traffic should return to the primary.
    Return(SteeringReason),
}

/// Counts ticks in a row, as many per measurement as it stands for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hysteresis {
    red_needed: u32,
    green_needed: u32,
    red: u32,
    green: u32,
}

impl Hysteresis {
    pub(super) const fn new(config: &SteeringConfig) -> Self {
        Self {
            red_needed: ticks_covering(config.on_after, config.tick),
            green_needed: ticks_covering(config.off_after, config.tick),
            red: 0,
            green: 0,
        }
    }

    /// Counts one measurement. RED counts while traffic is with the primary, GREEN while it is not.
    pub(super) fn count(&mut self, zone: Zone, ticks: u32, is_steered: bool) {
        let (red, green) = match zone {
            Zone::Red => (!is_steered, false),
            Zone::Green => (false, is_steered),
            Zone::Yellow | Zone::SoftRed => (false, false),
        };
        self.red = if red { self.red.saturating_add(ticks) } else { 0 };
        self.green = if green { self.green.saturating_add(ticks) } else { 0 };
    }

    pub(super) const fn wish(&self) -> Option<Wish> {
        if self.red >= self.red_needed {
            Some(Wish::Leave(SteeringReason::Red))
        } else if self.green >= self.green_needed {
            Some(Wish::Return(SteeringReason::Green))
        } else {
            None
        }
    }

    pub(super) const fn reset(&mut self) {
        (self.red, self.green) = (0, 0);
    }

    pub(super) const fn red_ticks(&self) -> u32 {
        self.red
    }

    pub(super) const fn green_ticks(&self) -> u32 {
        self.green
    }
}

#[cfg(test)]
mod tests {
    use embassy_time::Duration;

    use super::*;
    use crate::units::WanId;

    fn hysteresis() -> Hysteresis {
        Hysteresis::new(&SteeringConfig::new(&[WanId(0), WanId(1)], Duration::from_millis(50)))
    }

    #[test]
    fn sixteen_seconds_of_red_are_enough_and_yellow_begins_again() {
        let mut hysteresis = hysteresis();
        for zone in [Zone::Yellow, Zone::SoftRed, Zone::Green] {
            for _ in 0..319 {
                hysteresis.count(Zone::Red, 1, false);
                assert_eq!(hysteresis.wish(), None);
            }
            hysteresis.count(zone, 1, false);
            assert_eq!(hysteresis.red_ticks(), 0);
        }
        for _ in 0..320 {
            assert_eq!(hysteresis.wish(), None);
            hysteresis.count(Zone::Red, 1, false);
        }
        assert_eq!(hysteresis.wish(), Some(Wish::Leave(SteeringReason::Red)));
    }

    #[test]
    fn thirty_seconds_of_green_are_enough_to_return() {
        let mut hysteresis = hysteresis();
        for _ in 0..600 {
            assert_eq!(hysteresis.wish(), None);
            hysteresis.count(Zone::Green, 1, true);
        }
        assert_eq!(hysteresis.wish(), Some(Wish::Return(SteeringReason::Green)));
        hysteresis.count(Zone::Yellow, 1, true);
        assert_eq!(hysteresis.green_ticks(), 0);
    }

    #[test]
    fn red_does_not_count_while_steered_nor_green_while_not() {
        let mut hysteresis = hysteresis();
        for _ in 0..1000 {
            hysteresis.count(Zone::Red, 1, true);
            hysteresis.count(Zone::Green, 1, false);
        }
        assert_eq!(hysteresis.wish(), None);
    }
}
