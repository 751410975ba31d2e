//! What others see of a WAN, and what a restart keeps of it.

use super::Wan;
use crate::link::{Link, LinkState};
use crate::persist::PersistedWan;
use crate::snapshot::{DirectionSnapshot, WanSnapshot};
use crate::units::{Direction, PerDirection};

impl Wan {
    /// Returns the read-only mirror of this WAN.
    pub(crate) fn snapshot(&self) -> WanSnapshot {
        let direction = |direction: Direction| DirectionSnapshot {
            zone: self.shapers.get(direction).zone(),
            streaks: self.shapers.get(direction).streaks(),
            wanted: self.wanted(direction).rate,
            commanded: self.governor.command(direction).commanded(),
            confirmed: self.governor.command(direction).confirmed(),
            delivered: self.deliveries.get(direction).rate(),
        };
        WanSnapshot {
            result: self.result,
            link: self.link.first().map_or(LinkState::Live, Link::state),
            quality: self.quality.quality(self.delay()),
            latest_rtt_us: self.estimate.latest_sample_us(),
            load: match self.adaptive.first() {
                Some(_) => self.baseline().saturating_add(self.delay()),
                None => self.estimate.load(),
            },
            baseline: self.baseline(),
            delay: self.delay(),
            blind_ticks: self.fallback.ticks(),
            directions: PerDirection {
                download: direction(Direction::Download),
                upload: direction(Direction::Upload),
            },
            counters: self.counters,
            recent: None,
        }
    }

    /// Returns what is worth keeping over a restart, if anything was measured yet.
    pub(crate) fn persist(&self) -> Option<PersistedWan> {
        let wanted = self.wanted_rates();
        let (baseline, load) = (self.estimate.baseline(), self.estimate.load());
        self.estimate.is_seeded().then_some(PersistedWan { baseline, load, wanted })
    }

    /// Returns whether this WAN could have been in that state.
    pub(crate) fn accepts(&self, kept: &PersistedWan) -> bool {
        let mut directions = Direction::BOTH.into_iter();
        let accepts = |way| {
            let rate = *kept.wanted.get(way);
            let adaptive = self.adaptive.first();
            adaptive
                .map_or_else(|| self.shapers.get(way).accepts(rate), |law| law.accepts(way, rate))
        };
        self.estimate.accepts(kept.baseline, kept.load) && directions.all(accepts)
    }

    /// Goes on from a state that was accepted.
    pub(crate) fn restore(&mut self, kept: &PersistedWan) {
        self.estimate.restore(kept.baseline, kept.load);
        for direction in Direction::BOTH {
            let rate = *kept.wanted.get(direction);
            self.shapers.get_mut(direction).restore(rate);
            if let Some(law) = self.adaptive.first_mut() {
                law.restore(direction, rate);
            }
        }
    }
}
