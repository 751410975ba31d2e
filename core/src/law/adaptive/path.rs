//! A delay that no queue makes: the path has become longer.

use serde::{Deserialize, Serialize};

use super::AdaptiveLaw;
use super::drain::LONGER_MAX_US;
use super::noise::Threshold;
use super::one_way::OneWay;
use super::signal::Round;
use crate::units::Direction;

/// A delay that stands for this long where nothing is carried is the path's own.
const PATH_US: i64 = 1_500_000;

/// A delay that has been standing although nobody can have caused it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Standing {
    /// As long as it was not hidden by a queue of the other direction.
    for_us: i64,
    least_us: i64,
}

impl AdaptiveLaw {
    /// Re-anchors the baselines when the delay does not respond to cuts at all.
    pub(super) fn notice_longer_path(&mut self, round: &Round, limit: &Threshold) -> bool {
        let (down, up) = (Direction::Download, Direction::Upload);
        let [longer_down, longer_up] = [down, up].map(|way| {
            let shaper = self.shapers.get_mut(way);
            shaper.is_longer_path(self.signal.newest_first(), limit)
        });
        // A direction that carries something and was not cut may have the queue, unless it is told to have
        // none of the delay.
        let is_in_doubt = |way: Direction, is_longer: bool| {
            let carries = self.shapers.get(way).flow.carries();
            !is_longer && carries && round.of(way).delay_us > limit.expected_us
        };
        if !(longer_down || longer_up)
            || is_in_doubt(down, longer_down)
            || is_in_doubt(up, longer_up)
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
        self.standing = None;
        self.clear_evidence();
    }

    /// A delay that stands although nobody can have caused it is the path's own. Returns whether that
    /// has been found.
    pub(super) fn watch_path(
        &mut self,
        round: &Round,
        limit: &Threshold,
        now_us: i64,
        dt_us: i64,
    ) -> bool {
        let is_innocent = |law: &Self, way| !law.shapers.get(way).may_queue(now_us);
        let [down, up] = Direction::BOTH.map(|way| is_innocent(self, way));
        let is_told = round.upload_share.is_some();
        let delay_us = match (down, up) {
            (true, true) => round.delay_us,
            (true, false) if is_told => round.of(Direction::Download).delay_us,
            (false, true) if is_told => round.of(Direction::Upload).delay_us,
            (true | false, true | false) => {
                self.standing = None;
                return false;
            }
        };
        let before_us = self.standing.map_or(i64::MAX, |standing| standing.least_us);
        let grows = delay_us / 2 > before_us || delay_us >= LONGER_MAX_US;
        if round.delay_us <= limit.expected_us || (self.is_draining() && grows) {
            self.standing = None;
            return false;
        }
        // It may be hidden.
        if delay_us <= limit.expected_us {
            return false;
        }
        let new = Standing { for_us: 0, least_us: i64::MAX };
        let standing = self.standing.get_or_insert(new);
        standing.for_us = standing.for_us.saturating_add(dt_us);
        standing.least_us = standing.least_us.min(delay_us);
        let standing = *standing;
        if standing.for_us < PATH_US {
            return false;
        }
        self.lengthen(standing.least_us.saturating_sub(limit.mean_us));
        for way in Direction::BOTH {
            if is_innocent(self, way) {
                self.shapers.get_mut(way).give_back();
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use embassy_time::{Duration, Instant};

    use super::super::LawInputs;
    use super::super::shaper::Mode;
    use super::*;
    use crate::example;
    use crate::places::Empty;
    use crate::tick::RttSample;
    use crate::units::{BitsPerSecond, PerDirection, ReflectorId, RttNanos, WanId};

    /// What drained got its rate back because its delay was the path's; the other direction was waiting for that.
    #[test]
    fn who_waits_for_a_queue_to_go_gets_the_rate_back_also_when_nothing_drains_any_more() {
        let (mut law, before_bps) = (AdaptiveLaw::EMPTY, 9_000_000);
        law.begin(&example::adaptive(), &example::config().wans[0], Duration::from_millis(50));
        law.start_at(Direction::Upload, BitsPerSecond::new(3_000_000));
        law.shapers.upload.mode = Mode::Acquitted(before_bps);
        let now = Instant::from_millis(1_000);
        let (wan, reflector, rtt) = (WanId(0), ReflectorId(0), RttNanos::from_micros(20_000));
        law.answer(&RttSample { wan, reflector, rtt, age_us: 0, upload_owd: None }, now);
        law.step(&LawInputs { now, held: PerDirection::default(), is_usable: true });
        assert_eq!(law.shapers.upload.mode, Mode::Climb);
        assert_eq!(law.wanted(Direction::Upload).rate.get(), before_bps);
    }
}
