//! One direction: it climbs until it is blamed for a queue, then drains the queue and goes on just
//! below the capacity it has met.

use serde::{Deserialize, Serialize};

use super::arith::{ONE_PPM, follow, follow_bps, over, part, ratio_ppm, scale, share_ppm};
use super::blind::Blind;
use super::drain::Drain;
use super::flow::{Flow, Load};
use super::gains::AdaptiveGains;
use super::inflow::Inflow;
use crate::config::ShaperConfig;
use crate::governor::Wanted;
use crate::outputs::RateReason;
use crate::places::Empty;
use crate::units::{BitsPerSecond, Direction};

/// Share of the capacity to run at while the baselines are still falling.
const DEEPER_PPM: i64 = 850_000;
/// Unsteadiness up to which a line is steady; from twice as much on it is wholly unsteady.
const STEADY_PPM: i64 = 100_000;
/// Growth per second right after a queue, at least and at most.
const GROWTH_START_PPM: i64 = 60_000;
const GROWTH_START_MAX_PPM: i64 = 600_000;
/// Growth per second at the start, per unsteadiness.
const GROWTH_PER_UNSTEADINESS_PPM: i64 = 2_000_000;
/// Growth per second up to what the line usually carries, on an unsteady line.
const RECOVERY_PPM: i64 = 2_000_000;
/// Growth is multiplied by e in this time.
const GROWTH_TAU_US: i64 = 800_000;
/// Time constant of what the line usually carries.
pub(super) const TYPICAL_TAU_US: i64 = 2_000_000;
/// A rate that has made no queue for about this long is one that the line carries.
const PROVEN_TAU_US: i64 = 500_000;
/// After a queue on an unsteady line the rate goes so far towards what that usually carries.
const USUAL_PPM: i64 = 800_000;
/// Over so many queues it is learned how unsteady the line is: a single halving makes no line unsteady.
const QUEUES: i64 = 5;
/// What the router does not hold yet is not climbed from beyond this share of what it holds.
const UNTRIED_PPM: i64 = 1_400_000;
/// Where writes are limited, what a steady line is known to carry is not passed by more than this at once, a
/// wholly unsteady line's by so much more.
const BEYOND_PPM: i64 = 1_050_000;
const MORE_BEYOND_PPM: i64 = UNTRIED_PPM - BEYOND_PPM;
/// Below this share of it, a rate is low.
const LOW_PPM: i64 = 900_000;

/// What a direction is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mode {
    /// No queue stands: the rate grows while the direction presses against it.
    Climb,
    /// A queue stands and is being emptied.
    Drain(Drain),
    /// It was blamed by mistake and waits for the real queue to go; then it gets this rate back.
    Acquitted(u64),
}

/// One direction under the adaptive law.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AdaptiveShaper {
    pub(super) direction: Direction,
    pub(super) floor_bps: u64,
    pub(super) ceiling_bps: u64,
    pub(super) rate_bps: u64,
    reason: RateReason,
    pub(super) mode: Mode,
    /// What the line carried when a queue stood last.
    pub(super) capacity_bps: Option<u64>,
    /// The same over some seconds, or what has made no queue, if that is more.
    pub(super) typical_bps: Option<u64>,
    /// What it carried when the last queue had gone.
    drained_bps: u64,
    /// What the line has carried without a queue, or when one stood.
    pub(super) proven_bps: u64,
    growth_ppm: i64,
    /// How much the capacity differs from one queue to the next.
    unsteadiness_ppm: i64,
    pub(super) inflow: Inflow,
    pub(super) flow: Flow,
    /// From a command to its effect on the queue.
    pub(super) lag_us: i64,
    pub(super) blind: Blind,
    /// Whether writes are limited, so that counters are old as well.
    pub(super) is_dear: bool,
}

impl Empty for AdaptiveShaper {
    const EMPTY: Self = Self {
        direction: Direction::Download,
        floor_bps: 0,
        ceiling_bps: 0,
        rate_bps: 0,
        reason: RateReason::Start,
        mode: Mode::Drain(Drain::EMPTY),
        capacity_bps: None,
        typical_bps: None,
        drained_bps: 0,
        proven_bps: 0,
        growth_ppm: 0,
        unsteadiness_ppm: 0,
        inflow: Inflow::new(),
        flow: Flow::EMPTY,
        lag_us: 0,
        blind: Blind::EMPTY,
        is_dear: false,
    };
}

impl AdaptiveShaper {
    /// Forgets everything and begins with a configuration.
    pub(super) fn begin(&mut self, direction: Direction, config: &ShaperConfig) {
        self.direction = direction;
        self.ceiling_bps = config.ceiling.get();
        self.floor_bps = config.floors.red.get();
        self.rate_bps = self.ceiling_bps;
        self.reason = RateReason::Start;
        self.mode = Mode::Climb;
        (self.capacity_bps, self.typical_bps, self.proven_bps) = (None, None, 0);
        self.drained_bps = 0;
        self.growth_ppm = GROWTH_START_MAX_PPM;
        self.unsteadiness_ppm = 0;
        self.inflow.clear();
        self.flow = Flow::new();
        self.lag_us = 0;
        self.blind = Blind::EMPTY;
    }

    pub(super) const fn rate(&self) -> BitsPerSecond {
        BitsPerSecond::new(self.rate_bps)
    }

    #[inline(never)]
    pub(super) const fn wanted(&self) -> Wanted {
        let (rate, ceiling) = (self.rate(), BitsPerSecond::new(self.ceiling_bps));
        let is_urgent = matches!(self.mode, Mode::Drain(Drain { is_urgent: true, .. }));
        Wanted { rate, ceiling, reason: self.reason, is_urgent }
    }

    pub(super) const fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) const fn lag_us(&self) -> i64 {
        self.lag_us
    }

    pub(super) fn is_at_floor(&self) -> bool {
        self.rate_bps <= self.floor_bps && self.floor_bps < self.ceiling_bps
    }

    pub(super) const fn is_at_ceiling(&self) -> bool {
        self.rate_bps >= self.ceiling_bps
    }

    pub(super) fn accepts(&self, rate: BitsPerSecond) -> bool {
        (self.floor_bps..=self.ceiling_bps).contains(&rate.get())
    }

    pub(super) const fn restore(&mut self, rate: BitsPerSecond) {
        self.rate_bps = rate.get();
    }

    /// Starts at a rate, as far as the bounds allow.
    pub(super) fn start_at(&mut self, rate: BitsPerSecond) {
        self.rate_bps = rate.get().max(self.floor_bps).min(self.ceiling_bps);
    }

    /// Goes on within another shaper's bounds.
    pub(super) fn bound_like(&mut self, other: &Self) {
        (self.floor_bps, self.ceiling_bps) = (other.floor_bps, other.ceiling_bps);
        self.is_dear = other.is_dear;
        self.start_at(self.rate());
    }

    /// Bounds the wanted rate.
    pub(super) fn cap(&mut self, share_ppm: i64) {
        let span = self.ceiling_bps.saturating_sub(self.floor_bps);
        let most = self.floor_bps.saturating_add(scale(span, share_ppm));
        if self.rate_bps > most {
            self.set(most, RateReason::Ramp);
        }
    }

    #[inline(never)]
    pub(super) fn set(&mut self, rate_bps: u64, reason: RateReason) {
        let bounded = rate_bps.max(self.floor_bps).min(self.ceiling_bps);
        if bounded != self.rate_bps {
            self.rate_bps = bounded;
            self.reason = reason;
        }
    }

    /// Notes what the router holds, and how long a command takes.
    pub(super) fn hold(
        &mut self,
        held: Option<BitsPerSecond>,
        write_us: i64,
        base_us: i64,
        now_us: i64,
    ) {
        let held_bps = held.map_or(self.rate_bps, BitsPerSecond::get);
        self.inflow.hold(held_bps, now_us);
        // A download is shaped behind the queue: its senders notice half a round trip later.
        let way_us = match self.direction {
            Direction::Download => base_us / 2,
            Direction::Upload => 0,
        };
        self.lag_us = write_us.saturating_add(way_us);
        self.flow.age(now_us);
    }

    /// Returns the share of what was let through that came through, if that is known and recent.
    #[inline(never)]
    pub(super) fn share_ppm(&self) -> Option<i64> {
        match self.flow.load() {
            Load::Unknown => None,
            Load::Share(share) => self.flow.delivered_within(250_000).map(|_| share),
        }
    }

    /// Ends the draining: goes on just below the capacity met, or on an unsteady line nearer to what that
    /// usually carries.
    #[inline(never)]
    pub(super) fn resume(&mut self, gains: &AdaptiveGains) {
        self.mode = Mode::Climb;
        if let Some(capacity) = self.capacity_bps {
            let last = if self.drained_bps == 0 { capacity } else { self.drained_bps };
            self.drained_bps = capacity;
            let change = share_ppm(capacity.abs_diff(last), capacity.max(last));
            self.unsteadiness_ppm = follow(self.unsteadiness_ppm, change, 1, QUEUES);
            self.proven_bps = capacity;
            let rate = scale(capacity, i64::from(gains.run_at_ppm));
            let below = self.typical_bps.unwrap_or(0).saturating_sub(rate);
            let usual = part(USUAL_PPM, self.unsteady_ppm());
            self.set(rate.saturating_add(scale(below, usual)), RateReason::Drained);
        }
        let start = part(self.unsteadiness_ppm, GROWTH_PER_UNSTEADINESS_PPM);
        self.growth_ppm = start.clamp(GROWTH_START_PPM, GROWTH_START_MAX_PPM);
    }

    /// Returns how far the line is from a steady one.
    #[inline(never)]
    pub(super) fn unsteady_ppm(&self) -> i64 {
        let more = self.unsteadiness_ppm.saturating_sub(STEADY_PPM).max(0);
        ratio_ppm(more, STEADY_PPM).min(ONE_PPM)
    }

    /// Gives back at once what was taken because of a longer path.
    pub(super) fn give_back(&mut self) {
        self.suspend();
        self.acquit();
    }

    /// Whether the other direction may be to blame does not matter any more.
    #[inline(never)]
    pub(super) const fn end_trial(&mut self) {
        if let Mode::Drain(drain) = &mut self.mode {
            drain.is_on_trial = false;
            drain.is_settled = true;
        }
    }

    /// One-way delays say that the queue is here: there is nothing to try.
    pub(super) const fn convict(&mut self) {
        if let Mode::Drain(drain) = &mut self.mode {
            drain.is_on_trial = false;
        }
    }

    /// Ends a draining that was a mistake; the rate stays until the delay has gone.
    #[inline(never)]
    pub(super) const fn suspend(&mut self) {
        if let Mode::Drain(drain) = self.mode {
            self.mode = Mode::Acquitted(drain.before_bps);
        }
    }

    /// Gives the rate back that was taken by mistake.
    #[inline(never)]
    pub(super) fn acquit(&mut self) {
        if let Mode::Acquitted(before_bps) = self.mode {
            self.mode = Mode::Climb;
            self.capacity_bps = Some(before_bps);
            self.set(before_bps, RateReason::Acquitted);
            self.slow_down();
        }
    }

    /// Begins to try anew, slowly.
    pub(super) const fn slow_down(&mut self) {
        self.growth_ppm = GROWTH_START_PPM;
    }

    /// Stays well below the capacity, because a queue may stand that the baseline hides.
    pub(super) fn deepen(&mut self) {
        if let Some(capacity) = self.capacity_bps {
            let most = scale(capacity, DEEPER_PPM);
            if self.rate_bps > most && self.rate_bps <= capacity {
                self.set(most, RateReason::Queue);
            }
        }
    }

    /// Returns whether the rate is lower than what the line usually carries.
    #[inline(never)]
    pub(super) fn is_low(&self) -> bool {
        self.typical_bps.is_some_and(|typical| self.rate_bps < scale(typical, LOW_PPM))
    }

    /// Notes that there is no queue although the direction presses against the rate held.
    pub(super) fn prove(&mut self, held_bps: u64, dt_us: i64) {
        self.proven_bps = follow_bps(self.proven_bps, held_bps, dt_us, PROVEN_TAU_US);
        self.typical_bps = self.typical_bps.map(|typical| typical.max(self.proven_bps));
    }

    /// Returns how far the rate held is above what the line has proven to carry.
    #[inline(never)]
    pub(super) fn dare_ppm(&self) -> i64 {
        share_ppm(self.inflow.newest_bps(), self.proven_bps)
    }

    /// Takes back what the router does not hold yet and the line has not proven to carry: something
    /// speaks for a queue already.
    pub(super) fn withdraw(&mut self, held: Option<BitsPerSecond>) {
        let (Mode::Climb, Some(held)) = (self.mode, held) else { return };
        let most = held.get().max(self.capacity_bps.unwrap_or(0));
        if self.rate_bps > most {
            self.set(most, RateReason::Queue);
        }
    }

    /// Returns how far to climb from what the router holds: nothing beyond it has been tried. Where writes
    /// are limited the next one may be seconds away; the steadier the line, the less it goes beyond the capacity met.
    fn untried(&self, held_bps: u64) -> u64 {
        let most = scale(held_bps, UNTRIED_PPM);
        let met = self.typical_bps.unwrap_or(0);
        let is_below = self.is_dear && held_bps < met;
        let beyond = BEYOND_PPM.saturating_add(part(MORE_BEYOND_PPM, self.unsteady_ppm()));
        if is_below { most.min(scale(met, beyond)) } else { most }
    }

    /// Tries more, a little at a time.
    #[inline(never)]
    pub(super) fn climb(&mut self, gains: &AdaptiveGains, dt_us: i64, held: Option<BitsPerSecond>) {
        let least = if self.is_low() { part(RECOVERY_PPM, self.unsteady_ppm()) } else { 0 };
        let growth = self.growth_ppm.max(least);
        let grown = self.rate_bps.saturating_add(scale(self.rate_bps, over(growth, dt_us)));
        // After a queue it goes on as it has been decided.
        let most = held.map_or(grown, |held| self.untried(held.get()).max(self.rate_bps));
        let rate = grown.min(most);
        // Back to the capacity met, nothing new is tried.
        let is_back = self.reason == RateReason::Drained && Some(rate) <= self.capacity_bps;
        self.set(rate, if is_back { RateReason::Drained } else { RateReason::Probe });
        let faster = part(self.growth_ppm, ratio_ppm(dt_us, GROWTH_TAU_US));
        self.growth_ppm =
            self.growth_ppm.saturating_add(faster).min(i64::from(gains.growth_max_ppm));
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const MBPS: u64 = 1_000_000;

    /// A shaper that has just met this capacity.
    fn shaper(capacity_bps: u64, unsteadiness_ppm: i64) -> AdaptiveShaper {
        AdaptiveShaper {
            floor_bps: MBPS,
            ceiling_bps: 100 * MBPS,
            rate_bps: capacity_bps,
            mode: Mode::Climb,
            capacity_bps: Some(capacity_bps),
            unsteadiness_ppm,
            ..AdaptiveShaper::EMPTY
        }
    }

    #[test]
    fn a_steady_line_is_tried_slowly_and_an_unsteady_one_fast() {
        let growth_at = |unsteadiness_ppm| {
            let mut shaper = shaper(50 * MBPS, unsteadiness_ppm);
            shaper.resume(&AdaptiveGains::DEFAULT);
            shaper.growth_ppm
        };
        assert_eq!(growth_at(0), GROWTH_START_PPM);
        assert_eq!(growth_at(5 * STEADY_PPM), GROWTH_START_MAX_PPM);
    }

    #[test]
    fn where_writes_are_limited_a_steady_line_is_climbed_just_beyond_what_it_is_known_to_carry() {
        let most_from = |held_mbps, unsteadiness_ppm, is_dear| {
            let mut shaper = shaper(40 * MBPS, unsteadiness_ppm);
            (shaper.typical_bps, shaper.is_dear) = (Some(40 * MBPS), is_dear);
            shaper.untried(held_mbps * MBPS) / MBPS
        };
        assert_eq!(most_from(38, 0, true), 42);
        assert_eq!(most_from(20, 0, true), 28, "not in one go either");
        assert_eq!(most_from(40, 0, true), 56, "what it is known to carry is tried");
        assert_eq!(most_from(38, 3 * STEADY_PPM / 2, true), 49, "a rather unsteady line");
        assert_eq!(most_from(38, 2 * STEADY_PPM, true), 53, "an unsteady line");
        assert_eq!(most_from(38, 0, false), 53, "another write is free");
    }

    #[test]
    fn the_way_back_to_the_capacity_met_is_not_told_as_trying_more() {
        let mut shaper = shaper(40 * MBPS, 0);
        shaper.resume(&AdaptiveGains::DEFAULT);
        let mut told = Vec::new();
        while shaper.rate_bps <= 41 * MBPS {
            shaper.climb(&AdaptiveGains::DEFAULT, 50_000, None);
            told.push((shaper.rate_bps > 40 * MBPS, shaper.reason));
        }
        told.dedup();
        assert_eq!(told, [(false, RateReason::Drained), (true, RateReason::Probe)]);
        shaper.rate_bps = 39 * MBPS;
        shaper.climb(&AdaptiveGains::DEFAULT, 50_000, None);
        assert_eq!(shaper.reason, RateReason::Probe, "no queue has gone since");
    }

    #[test]
    fn a_raise_that_the_router_does_not_hold_is_taken_back_as_far_as_it_is_not_known_to_be_good() {
        let held = |mbps: u64| Some(BitsPerSecond::from_mbps(mbps));
        let left_after = |held| {
            let mut shaper = shaper(40 * MBPS, 0);
            shaper.set(60 * MBPS, RateReason::Probe);
            shaper.withdraw(held);
            (shaper.rate_bps / MBPS, shaper.reason)
        };
        // Nobody is told that more is tried.
        assert_eq!(left_after(held(30)), (40, RateReason::Queue), "the capacity met");
        assert_eq!(left_after(held(50)), (50, RateReason::Queue), "what is held");
        assert_eq!(left_after(held(60)), (60, RateReason::Probe));
        assert_eq!(left_after(None), (60, RateReason::Probe), "nobody knows what is held");
    }
}
