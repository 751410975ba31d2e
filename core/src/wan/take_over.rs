//! A WAN goes on under another configuration: what holds for the line is kept, what follows from the
//! configuration is new.

use super::Wan;
use crate::units::Direction;

impl Wan {
    /// Takes over what another WAN has learned; this one was made from the new configuration.
    ///
    /// Wanted rates move into the new bounds, and what the router holds and has been told stays known.
    /// `is_same_path` tells that probes go the same way to the same reflectors, at the same tick.
    /// Otherwise delays are learned anew.
    pub(crate) fn take_over(&mut self, before: &Self, is_same_path: bool) {
        let rates = before.wanted_rates();
        for direction in Direction::BOTH {
            let rate = *rates.get(direction);
            self.shapers.get_mut(direction).take_over(rate);
            if let Some(law) = self.adaptive.first_mut() {
                law.start_at(direction, rate);
            }
        }
        self.governor.take_over(&before.governor);
        self.oper_state = before.oper_state;
        self.counters = before.counters;
        self.has_decided = before.has_decided;
        if let (Some(link), Some(before)) = (self.link.first_mut(), before.link.first()) {
            link.take_over(before);
        }
        self.sight.take_over(&before.sight);
        self.deliveries.clone_from(&before.deliveries);
        if is_same_path {
            self.take_over_path(before);
        }
    }

    fn take_over_path(&mut self, before: &Self) {
        self.result = before.result;
        self.quality.clone_from(&before.quality);
        self.last_sample = before.last_sample;
        let (baseline, load) = (before.estimate.baseline(), before.estimate.load());
        if before.estimate.is_seeded() && self.estimate.accepts(baseline, load) {
            self.estimate.restore(baseline, load);
        }
        if let (Some(law), Some(before)) = (self.adaptive.first_mut(), before.adaptive.first()) {
            law.take_over(before);
        }
    }
}
