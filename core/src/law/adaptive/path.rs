//! A delay that no queue makes: the path has become longer.

use serde::{Deserialize, Serialize};

use super::AdaptiveLaw;
use super::noise::Threshold;
use super::one_way::OneWay;
use super::signal::Round;
use crate::units::Direction;

/// A delay that stands for this long on an idle line is the path's own.
const PATH_US: i64 = 1_500_000;

/// A delay that has been standing although nobody can have caused it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Standing {
    since_us: i64,
    least_us: i64,
}

impl AdaptiveLaw {
    /// Re-anchors the baselines when the delay does not respond to cuts at all.
    pub(super) fn notice_longer_path(
        &mut self,
        round: &Round,
        limit: &Threshold,
        now_us: i64,
    ) -> bool {
        let is_longer = |way: Direction| {
            let shaper = self.shapers.get(way);
            shaper.is_longer_path(self.signal.newest_first(), limit, now_us)
        };
        let (down, up) = (Direction::Download, Direction::Upload);
        // A direction that carries something and was not cut may have the queue, unless it is told to have
        // none of the delay.
        let may_have_it = |way: Direction| {
            self.shapers.get(way).flow.carries() && round.of(way).delay_us > limit.expected_us
        };
        if !(is_longer(down) || is_longer(up))
            || (may_have_it(down) && !is_longer(down))
            || (may_have_it(up) && !is_longer(up))
        {
            return false;
        }
        let least_us = self.signal.least_of(8).unwrap_or(0);
        self.lengthen(least_us.saturating_sub(limit.mean_us / 2));
        for direction in Direction::BOTH {
            self.shapers.get_mut(direction).give_back();
        }
        true
    }

    /// Takes a delay for a part of the path from now on.
    #[inline(never)]
    pub(super) fn lengthen(&mut self, by_us: i64) {
        self.signal.lengthen(by_us);
        self.one_way = OneWay::new();
        self.clear_evidence();
    }

    /// A delay that stands although nobody can have caused it is the path's own. Returns whether that
    /// has been found.
    pub(super) fn watch_path(&mut self, round: &Round, limit: &Threshold, now_us: i64) -> bool {
        let presses = |direction: &Direction| {
            let flow = &self.shapers.get(*direction).flow;
            flow.carries() || flow.presses(now_us)
        };
        if round.delay_us <= limit.expected_us || Direction::BOTH.iter().any(presses) {
            self.standing = None;
            return false;
        }
        let new = Standing { since_us: now_us, least_us: i64::MAX };
        let standing = self.standing.get_or_insert(new);
        standing.least_us = standing.least_us.min(round.delay_us);
        if now_us.saturating_sub(standing.since_us) >= PATH_US {
            let by_us = standing.least_us.saturating_sub(limit.mean_us);
            self.lengthen(by_us);
            self.standing = None;
            return true;
        }
        false
    }
}
