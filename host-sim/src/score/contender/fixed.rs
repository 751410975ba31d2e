//! `static`, a rate that never changes, and `oracle`, which knows the capacity.

use wanctl_core::tick::Tick;
use wanctl_core::units::{Direction, PerDirection};

use super::{Asks, Contender, RateAsk};
use crate::score::model::Truth;
use crate::score::scenario::{Limits, Scenario};

/// Writes one rate per direction and is done.
#[derive(Debug)]
pub struct Fixed {
    rates: PerDirection<u64>,
    is_written: bool,
}

impl Fixed {
    /// Makes a law of fixed rates.
    #[must_use]
    pub const fn new(rates: PerDirection<u64>) -> Self {
        Self { rates, is_written: false }
    }
}

impl Contender for Fixed {
    fn step(&mut self, _tick: &Tick, _truth: &Truth<'_>, asks: &mut Asks) {
        if !std::mem::replace(&mut self.is_written, true) {
            for direction in Direction::BOTH {
                let rate = *self.rates.get(direction);
                *asks.rates.get_mut(direction) = Some(RateAsk { rate, id: None });
            }
        }
    }
}

/// Sets 95 % of the true capacity in each tick, within the limits.
#[derive(Debug)]
pub struct Oracle {
    limits: PerDirection<Limits>,
    last: PerDirection<u64>,
}

impl Oracle {
    /// Makes the oracle of a scenario.
    #[must_use]
    pub const fn new(scenario: &Scenario) -> Self {
        let limits = PerDirection {
            download: scenario.lines.download.limits,
            upload: scenario.lines.upload.limits,
        };
        Self { limits, last: PerDirection { download: 0, upload: 0 } }
    }
}

impl Contender for Oracle {
    fn step(&mut self, _tick: &Tick, truth: &Truth<'_>, asks: &mut Asks) {
        for direction in Direction::BOTH {
            let limits = self.limits.get(direction);
            let rate = truth.capacity.get(direction) * 95 / 100;
            let rate = rate.clamp(limits.floor, limits.ceiling);
            let last = self.last.get_mut(direction);
            if *last != rate {
                *last = rate;
                *asks.rates.get_mut(direction) = Some(RateAsk { rate, id: None });
            }
        }
    }
}
