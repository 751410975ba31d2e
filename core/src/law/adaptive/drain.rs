//! Emptying a queue: what the line carries meanwhile, and whether the blame was right.

use serde::{Deserialize, Serialize};

use super::arith::{ONE_PPM, follow_bps, ratio_ppm, scale, share_ppm, to_i64};
use super::flow::{CARRIES_PPM, Load, UseOfShaper};
use super::gains::AdaptiveGains;
use super::noise::Threshold;
use super::shaper::{AdaptiveShaper, Mode, TYPICAL_TAU_US};
use super::signal::Round;
use crate::divide::{quotient, signed_quotient};
use crate::outputs::RateReason;
use crate::places::Empty;
use crate::units::Direction;

/// Time constant of the capacity estimate while a queue stands.
const CAPACITY_TAU_US: i64 = 100_000;
/// The shortest time between two rounds that tells what was carried.
const WINDOW_LEAST_US: i64 = 75_000;
/// A delivery below this share of the capacity needs a growing queue to be believed.
const CREDIBLE_PPM: i64 = 700_000;

/// A delay that does not respond to less traffic for this long is the path's own.
const FLAT_US: i64 = 400_000;
/// It may move by this much meanwhile.
const FLAT_WITHIN_US: i64 = 2_000;
/// Less was let in if the later half of that time had at most this share of the earlier one. With hardly less,
/// a queue stays as well if the line slows down as much.
const LESS_PPM: i64 = 830_000;
/// Once a delay has stood still, the rate is at least so far below the share to run at until the draining ends.
const STUCK_PPM: i64 = 200_000;
/// The most a path gets longer at once; more may be a full buffer.
pub(super) const LONGER_MAX_US: i64 = 100_000;

/// A queue that is being emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Drain {
    /// When it was noticed.
    pub(super) since_us: i64,
    /// When it began.
    queue_us: i64,
    /// The longest delay since it was noticed.
    pub(super) peak_us: i64,
    /// In how many rounds it was above what is expected.
    pub(super) rounds: u8,
    /// The rate before.
    pub(super) before_bps: u64,
    /// The capacity as it was first estimated.
    pub(super) met_bps: u64,
    /// The share of the rate that was used before.
    used_ppm: i64,
    /// Whether the other direction may have caused the queue.
    pub(super) is_on_trial: bool,
    /// Whether the blame has changed sides often enough.
    pub(super) is_settled: bool,
    /// Whether the rate held will not empty it within a second.
    pub(super) is_urgent: bool,
    /// Whether the delay has stood still although it should have fallen.
    is_stuck: bool,
    /// From here on the delay has to fall: the first probe that met the effect of the cut, later a probe that
    /// had met a shorter queue.
    effect: Option<Round>,
}

/// What is looked at in one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) newest: Round,
    /// The newest round that is not a bound.
    pub(super) truth: Round,
    /// The oldest round of the latest moment.
    pub(super) oldest: Round,
    pub(super) now_us: i64,
    pub(super) dt_us: i64,
}

impl Look {
    /// Returns what one direction has met of it.
    pub(super) fn of(&self, direction: Direction) -> Self {
        let of = |round: &Round| round.shared_like(&self.newest).of(direction);
        let (truth, oldest) = (of(&self.truth), of(&self.oldest));
        Self { newest: self.newest.of(direction), truth, oldest, ..*self }
    }
}

impl Empty for Drain {
    const EMPTY: Self = Self {
        since_us: 0,
        queue_us: 0,
        peak_us: 0,
        rounds: 0,
        before_bps: 0,
        met_bps: 0,
        used_ppm: 0,
        is_on_trial: false,
        is_settled: false,
        is_urgent: false,
        is_stuck: false,
        effect: Some(Round {
            sent_us: 0,
            delay_us: 0,
            voices: 0,
            is_bound: false,
            upload_share: None,
        }),
    };
}

impl AdaptiveShaper {
    /// Returns what the line has carried between two rounds while a queue stood: what came into the
    /// queue between two probes went out of it between their arrivals.
    #[inline(never)]
    fn carried(&self, newest: &Round, oldest: &Round) -> Option<u64> {
        let from_us = oldest.sent_us.saturating_sub(self.lag_us);
        let to_us = newest.sent_us.saturating_sub(self.lag_us);
        let sent_us = newest.sent_us.saturating_sub(oldest.sent_us);
        let arrived_us = sent_us.saturating_add(newest.delay_us).saturating_sub(oldest.delay_us);
        let arrived_us = arrived_us.max(sent_us / 4);
        let passed = u64::try_from(arrived_us).ok().filter(|passed| *passed > 0)?;
        let kbps = quotient(self.inflow.between(from_us, to_us), passed);
        let carried = kbps.saturating_mul(1000).max(1000);
        match (self.direction, self.share_ppm()) {
            (Direction::Upload, Some(share)) => Some(scale(carried, share.min(ONE_PPM))),
            _ => Some(carried),
        }
    }

    /// Returns whether what was let in is what came in: an upload's counter says how much it was, a
    /// download's only that the shaper is full.
    fn knows_inflow(&self, now_us: i64) -> bool {
        match (self.direction, self.flow.load()) {
            (Direction::Upload, _) | (_, Load::Unknown) => true,
            // Old counters are as good as none.
            (Direction::Download, Load::Share(_)) => {
                self.use_of_shaper(now_us) == UseOfShaper::Full
            }
        }
    }

    /// Returns what comes through, if that is clearly less than what is let through: the capacity.
    /// `since_us` is when the queue began.
    #[inline(never)]
    fn short(&self, since_us: i64, now_us: i64) -> Option<u64> {
        // A download's packets wait in the shaper after they have come through the line: if fewer come
        // through than it lets, CAKE has dropped the others, and the line carries more.
        let is_download = self.direction == Direction::Download;
        if (is_download && self.flow.is_held_back(now_us, 150_000))
            || !self.flow.is_of_full_line(since_us)
        {
            return None;
        }
        let delivered = self.flow.delivered_within(250_000);
        let use_of = self.flow.use_of_shaper(now_us, 150_000);
        delivered.filter(|_| matches!(use_of, UseOfShaper::Short | UseOfShaper::Reduced))
    }

    /// Returns how the shaper is used, if that is known well enough to blame somebody.
    #[inline(never)]
    pub(super) fn use_of_shaper(&self, now_us: i64) -> UseOfShaper {
        self.flow.use_of_shaper(now_us, 150_000)
    }

    /// Begins to empty a queue this direction is blamed for.
    #[inline(never)]
    pub(super) fn begin_drain(
        &mut self,
        newest: &Round,
        oldest: &Round,
        now_us: i64,
        is_on_trial: bool,
    ) {
        let before_bps = match self.mode {
            Mode::Acquitted(before_bps) => before_bps,
            Mode::Climb | Mode::Drain(_) => self.rate_bps,
        };
        let held_bps = self.inflow.between(newest.sent_us.saturating_sub(100_000), newest.sent_us);
        let held_bps = quotient(held_bps, 100);
        let carried = self.carried(newest, oldest).unwrap_or(held_bps);
        let short = self.short(oldest.sent_us, now_us);
        let mut capacity = short.unwrap_or(carried).min(held_bps);
        if self.is_dear && self.proven_bps > 0 {
            // Senders follow what comes through, so a rate that is too high makes a queue that grows slowly,
            // however far too high it is. A first cut that is too shallow is a write lost.
            capacity = capacity.min(self.proven_bps);
        }
        self.capacity_bps = Some(capacity);
        self.typical_bps =
            Some(self.typical_bps.map_or(capacity, |old| follow_bps(old, capacity, 1, 3)));
        self.mode = Mode::Drain(Drain {
            since_us: now_us,
            queue_us: oldest.sent_us,
            peak_us: newest.delay_us,
            rounds: 0,
            before_bps,
            met_bps: capacity,
            used_ppm: self.share_ppm().unwrap_or(ONE_PPM).min(ONE_PPM),
            is_on_trial,
            is_settled: false,
            is_urgent: false,
            is_stuck: false,
            effect: None,
        });
    }

    /// Goes on emptying the queue; returns whether it is empty.
    #[inline(never)]
    pub(super) fn drain(&mut self, look: &Look, limit: &Threshold, gains: &AdaptiveGains) -> bool {
        let Look { newest, now_us, dt_us, .. } = *look;
        let newest = &newest;
        let Mode::Drain(drain) = &mut self.mode else { return true };
        drain.peak_us = drain.peak_us.max(newest.delay_us);
        if newest.delay_us > limit.expected_us {
            drain.rounds = drain.rounds.saturating_add(1);
        }
        let drain = *drain;
        let Some(capacity) = self.capacity_bps else { return true };
        let took_effect = newest.sent_us >= drain.since_us.saturating_add(self.lag_us);
        let limit = limit.for_unsteady(self.unsteady_ppm(), gains);
        if took_effect && newest.delay_us <= limit.expected_us {
            return true;
        }
        let seen = self.seen(look, &drain, capacity);
        // Where writes are limited there may be none to correct a cut that was too shallow.
        let tau_us = if self.is_dear { 0 } else { CAPACITY_TAU_US };
        let follow = |seen| follow_bps(capacity, seen, dt_us, tau_us);
        let capacity = seen.map_or(capacity, follow).max(1000);
        self.capacity_bps = Some(capacity);
        let delay_us = self
            .predicted(newest, capacity, now_us)
            .max(self.predicted(&look.truth, capacity, now_us))
            .saturating_sub(limit.mean_us)
            .max(0);
        let typical = self.typical_bps.unwrap_or(capacity);
        self.typical_bps = Some(follow_bps(typical, capacity, dt_us, TYPICAL_TAU_US));
        let drained = ratio_ppm(delay_us, i64::from(gains.drain_us));
        // What stands still either goes then, or is no queue.
        let drained = if drain.is_stuck { drained.max(STUCK_PPM) } else { drained };
        let share = i64::from(gains.run_at_ppm).saturating_sub(drained);
        let share = share.max(i64::from(gains.drain_least_ppm));
        let rate = scale(capacity, share);
        let held = self.inflow.newest_bps();
        // Where a raise is a write lost if the estimate was wrong, it waits until the cut has worked.
        let is_early = self.is_dear && !self.has_helped(&look.truth);
        self.set(if is_early { rate.min(held) } else { rate }, RateReason::Queue);
        // So many parts per million below the capacity empty so many µs of queue in a second.
        let less = share_ppm(capacity.saturating_sub(held), capacity);
        if let Mode::Drain(drain) = &mut self.mode {
            drain.is_urgent = delay_us > less;
        }
        false
    }

    /// Returns what the line carries now, if anything tells.
    fn seen(&self, look: &Look, drain: &Drain, capacity: u64) -> Option<u64> {
        let Look { newest, oldest, now_us, .. } = look;
        let is_longer = newest.sent_us.saturating_sub(oldest.sent_us) >= WINDOW_LEAST_US;
        let is_known = !drain.is_on_trial && self.knows_inflow(*now_us);
        // If less came in than was let in, then the line has carried less than this.
        let is_useful = |carried: &u64| is_known || (!drain.is_on_trial && *carried < capacity);
        // Without a growing queue, so little means that nobody wants more.
        let is_credible = |seen: &u64| {
            *seen >= scale(capacity, CREDIBLE_PPM) || newest.delay_us > oldest.delay_us
        };
        let carried = || {
            let carried = self.carried(newest, oldest).filter(is_useful);
            carried.filter(|carried| is_longer && (!newest.is_bound || *carried < capacity))
        };
        self.short(drain.queue_us, *now_us).filter(is_credible).or_else(carried)
    }

    /// Returns whether most of the delay has gone since this direction was cut: if the rest does not
    /// respond, it has another cause, but the cut was no mistake.
    #[inline(never)]
    pub(super) const fn has_helped(&self, truth: &Round) -> bool {
        match self.mode {
            Mode::Drain(drain) => {
                let is_later = truth.sent_us >= drain.since_us;
                is_later && truth.delay_us.saturating_mul(2) < drain.peak_us
            }
            Mode::Climb | Mode::Acquitted(_) => false,
        }
    }

    /// Returns whether a delay may be a queue of this direction: not if it carries next to nothing, or did
    /// when it was cut and does not press since. After a deep cut little is a large share.
    pub(super) fn may_queue(&self, now_us: i64) -> bool {
        match self.mode {
            Mode::Drain(drain) if drain.used_ppm < CARRIES_PPM => self.flow.presses(now_us),
            Mode::Climb | Mode::Drain(_) | Mode::Acquitted(_) => {
                self.flow.carries() || self.flow.presses(now_us)
            }
        }
    }

    /// Returns the delay there will be when a command of now takes effect.
    #[inline(never)]
    fn predicted(&self, newest: &Round, capacity_bps: u64, now_us: i64) -> i64 {
        let from_us = newest.sent_us.saturating_sub(self.lag_us).min(now_us);
        let (cut_us, used_ppm) = match self.mode {
            Mode::Drain(drain) => (drain.since_us.max(from_us), drain.used_ppm),
            Mode::Climb | Mode::Acquitted(_) => (from_us, ONE_PPM),
        };
        // Before the cut the senders may have used less than they were let; not afterwards.
        let before = scale(self.inflow.between(from_us, cut_us), used_ppm);
        let let_in = before.saturating_add(self.inflow.between(cut_us, now_us));
        let serve_us = quotient(let_in, quotient(capacity_bps, 1000).max(1));
        let passed_us = now_us.saturating_sub(from_us);
        newest.delay_us.saturating_add(to_i64(serve_us)).saturating_sub(passed_us)
    }

    /// Returns whether the delay has not fallen, or not any further, although the cut should have emptied the
    /// queue by `least_us` meanwhile.
    pub(super) fn is_unmoved(&mut self, truth: &Round, least_us: i64) -> bool {
        let Mode::Drain(drain) = &mut self.mode else { return false };
        let base_us = self.lag_us.saturating_mul(2).max(30_000);
        if truth.sent_us < drain.since_us.saturating_add(base_us) {
            return false;
        }
        let effect = *drain.effect.get_or_insert(*truth);
        let met_kbps = quotient(drain.met_bps, 1000).max(1);
        let from_us = effect.sent_us.saturating_sub(self.lag_us);
        let to_us = truth.sent_us.saturating_sub(self.lag_us);
        let served_us = to_i64(quotient(self.inflow.between(from_us, to_us), met_kbps));
        let expected_us = to_us.saturating_sub(from_us).saturating_sub(served_us);
        let dropped_us = effect.delay_us.saturating_sub(truth.delay_us);
        if self.rate_bps <= self.floor_bps {
            // There is nothing more to try here.
            let tried_us = truth.sent_us.saturating_sub(effect.sent_us);
            return tried_us >= least_us.saturating_mul(5) && dropped_us < least_us;
        }
        let has_moved = dropped_us >= signed_quotient(expected_us.min(effect.delay_us), 3);
        if has_moved && expected_us >= least_us.saturating_mul(2) {
            // From here on it has to go on.
            drain.effect = Some(*truth);
        }
        expected_us >= least_us && !has_moved
    }

    /// Returns whether the delay has stood still while so much less came in that any queue would have
    /// shrunk: then it is not a queue but a longer path. Notes whether it has stood still at all, so that
    /// less is tried. `rounds` are newest first.
    #[inline(never)]
    pub(super) fn is_longer_path<'a>(
        &mut self,
        rounds: impl Iterator<Item = &'a Round>,
        limit: &Threshold,
    ) -> bool {
        let Mode::Drain(drain) = self.mode else { return false };
        let effect_us = drain.since_us.saturating_add(self.lag_us.saturating_mul(2));
        // Before its shaper was full, senders sent what came through, not what was let in. An upload at its
        // floor may never fill that, and a download that does not is on a line that is slower still.
        let is_least = self.direction == Direction::Upload && self.rate_bps <= self.floor_bps;
        let effect_us = if is_least { effect_us } else { effect_us.max(self.flow.full_us()) };
        let mut halves = [(0_i64, 0_i64); 2];
        let (mut newest, mut passed_us) = (None, 0);
        for round in rounds.take_while(|round| round.sent_us >= effect_us && !round.is_bound) {
            passed_us = newest.get_or_insert(*round).sent_us.saturating_sub(round.sent_us);
            let [new, old] = &mut halves;
            let half = if passed_us < FLAT_US / 2 { new } else { old };
            *half = (half.0.saturating_add(round.delay_us), half.1.saturating_add(1));
            if passed_us >= FLAT_US {
                break;
            }
        }
        let Some(newest) = newest.filter(|_| passed_us >= FLAT_US) else { return false };
        let newest_us = newest.sent_us;
        let middle_us = newest_us.saturating_sub(FLAT_US / 2);
        let let_in = |from_us: i64, to_us: i64| {
            let lag_us = self.lag_us;
            self.inflow.between(from_us.saturating_sub(lag_us), to_us.saturating_sub(lag_us))
        };
        let before = let_in(newest_us.saturating_sub(FLAT_US), middle_us);
        // At the floor it cannot be less still; but a line that carries even less than the floor lets
        // the delay grow, and a download falls short.
        let is_less = self.rate_bps <= self.floor_bps
            || let_in(middle_us, newest_us) <= scale(before, LESS_PPM);
        // Both have a round at least: the newest, and the one that made the time long enough.
        let [new, old] = halves.map(|half| signed_quotient(half.0, half.1));
        let quiet_us = limit.expected_us.saturating_sub(limit.mean_us).max(FLAT_WITHIN_US);
        let stands = new.saturating_sub(old).abs() <= quiet_us && new < LONGER_MAX_US;
        if stands
            && self.is_unmoved(&newest, quiet_us)
            && let Mode::Drain(drain) = &mut self.mode
        {
            drain.is_stuck = true;
        }
        stands && is_less
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use embassy_time::{Duration, Instant};

    use super::super::arith::micros;
    use super::super::flow::Flow;
    use super::super::noise::Noise;
    use super::*;
    use crate::tick::CounterReading;
    use crate::units::{BitsPerSecond, WanId};

    /// Returns whether a delay of 40 ms that stands while a direction is cut from 20 to 16 Mbit/s is the path's, if
    /// what comes through is this share of what is let in.
    fn is_path_of(direction: Direction, used_ppm: i64) -> bool {
        let mut shaper = AdaptiveShaper::EMPTY;
        (shaper.direction, shaper.flow) = (direction, Flow::new());
        let mut delivered_bytes = 0;
        for ms in (0..=1000).step_by(50) {
            let now = Instant::MIN + Duration::from_millis(ms);
            shaper.rate_bps = if ms < 800 { 20_000_000 } else { 16_000_000 };
            shaper.hold(Some(BitsPerSecond::new(shaper.rate_bps)), 0, 0, micros(now));
            shaper.flow.read(
                &CounterReading {
                    wan: WanId(0),
                    direction,
                    delivered_bytes,
                    dropped_packets: 0,
                    backlog_bytes: 0,
                    backlog_packets: 0,
                    age_us: 0,
                    queue_delay_us: None,
                },
                now,
                &shaper.inflow,
                0,
            );
            delivered_bytes += scale(shaper.rate_bps, used_ppm) / 8 / 20;
        }
        let round = |at: i64| Round {
            sent_us: at * 50_000,
            delay_us: 40_000,
            voices: 3,
            is_bound: false,
            upload_share: None,
        };
        let rounds: Vec<_> = (0..=20).rev().map(round).collect();
        let limit = Noise::new().threshold(&AdaptiveGains::DEFAULT, 731);
        shaper.is_longer_path(rounds.iter(), &limit)
    }

    #[test]
    fn a_delay_that_stands_is_a_queue_if_less_came_in_than_was_let_in_before_as_well() {
        for direction in Direction::BOTH {
            assert!(is_path_of(direction, 990_000), "{direction:?}");
            assert!(!is_path_of(direction, 800_000), "{direction:?}");
        }
    }
}
