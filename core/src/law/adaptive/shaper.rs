//! One direction: it climbs until it is blamed for a queue, then drains the queue and goes on just
//! below the capacity it has met.

use serde::{Deserialize, Serialize};

use super::arith::{ONE_PPM, follow, over, part, scale, share_ppm};
use super::flow::{Flow, Load, UseOfShaper};
use super::gains::AdaptiveGains;
use super::inflow::Inflow;
use super::noise::Threshold;
use super::signal::Round;
use crate::config::ShaperConfig;
use crate::governor::Wanted;
use crate::outputs::RateReason;
use crate::units::{BitsPerSecond, Direction};

/// Time constant of what the line usually carries.
const TYPICAL_TAU_US: i64 = 2_000_000;
/// A queue that is to stand is filled at most at this share of the capacity.
const REFILL_MAX_PPM: i64 = 1_150_000;

/// A delay that does not respond to less traffic for this long is the path's own.
const FLAT_US: i64 = 400_000;
/// It may move by this much meanwhile.
const FLAT_WITHIN_US: i64 = 2_000;
/// The most a path gets longer at once; more may be a full buffer.
const LONGER_MAX_US: i64 = 100_000;

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

/// A queue that is being emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Drain {
    /// When it was noticed.
    pub(super) since_us: i64,
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
    /// The first probe that meets the effect of the cut, and its delay.
    effect: Option<Round>,
}

/// One direction under the adaptive law.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AdaptiveShaper {
    direction: Direction,
    floor_bps: u64,
    ceiling_bps: u64,
    rate_bps: u64,
    reason: RateReason,
    mode: Mode,
    /// What the line carried when a queue stood last.
    capacity_bps: Option<u64>,
    /// The same over some seconds.
    typical_bps: Option<u64>,
    growth_ppm: i64,
    /// How much the capacity differs from one queue to the next.
    unsteadiness_ppm: i64,
    pub(super) inflow: Inflow,
    pub(super) flow: Flow,
    /// From a command to its effect on the queue.
    lag_us: i64,
}

impl AdaptiveShaper {
    pub(super) fn new(direction: Direction, config: &ShaperConfig, gains: &AdaptiveGains) -> Self {
        let ceiling_bps = config.ceiling.get();
        Self {
            direction,
            floor_bps: config.floors.red.get(),
            ceiling_bps,
            rate_bps: ceiling_bps,
            reason: RateReason::Start,
            mode: Mode::Climb,
            capacity_bps: None,
            typical_bps: None,
            growth_ppm: i64::from(gains.growth_start_ppm.1),
            unsteadiness_ppm: i64::from(gains.growth_start_ppm.1),
            inflow: Inflow::new(),
            flow: Flow::new(),
            lag_us: 0,
        }
    }

    pub(super) const fn rate(&self) -> BitsPerSecond {
        BitsPerSecond::new(self.rate_bps)
    }

    pub(super) const fn wanted(&self) -> Wanted {
        let (rate, ceiling) = (self.rate(), BitsPerSecond::new(self.ceiling_bps));
        Wanted { rate, ceiling, reason: self.reason }
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

    /// Bounds the wanted rate.
    pub(super) fn cap(&mut self, share_ppm: i64) {
        let span = self.ceiling_bps.saturating_sub(self.floor_bps);
        let most = self.floor_bps.saturating_add(scale(span, share_ppm));
        if self.rate_bps > most {
            self.set(most, RateReason::Ramp);
        }
    }

    fn set(&mut self, rate_bps: u64, reason: RateReason) {
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
    pub(super) fn share_ppm(&self) -> Option<i64> {
        match self.flow.load() {
            Load::Unknown => None,
            Load::Share(share) => self.flow.delivered_within(250_000).map(|_| share),
        }
    }

    /// Returns what the line has carried between two rounds while a queue stood: what came into the
    /// queue between two probes went out of it between their arrivals.
    fn carried(&self, newest: &Round, oldest: &Round) -> Option<u64> {
        let from_us = oldest.sent_us.saturating_sub(self.lag_us);
        let to_us = newest.sent_us.saturating_sub(self.lag_us);
        let sent_us = newest.sent_us.saturating_sub(oldest.sent_us);
        let arrived_us = sent_us.saturating_add(newest.delay_us).saturating_sub(oldest.delay_us);
        let arrived_us = arrived_us.max(sent_us / 4);
        let passed = u64::try_from(arrived_us).ok().filter(|passed| *passed > 0)?;
        let kbps = self.inflow.between(from_us, to_us).checked_div(passed)?;
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
                !self.flow.is_recent(now_us) || self.use_of_shaper(now_us) == UseOfShaper::Full
            }
        }
    }

    /// Returns what comes through, if that is clearly less than what is let through: the capacity.
    fn short(&self, now_us: i64) -> Option<u64> {
        let delivered = self.flow.delivered_within(250_000);
        let use_of = self.flow.use_of_shaper(now_us, 150_000);
        delivered.filter(|_| matches!(use_of, UseOfShaper::Short | UseOfShaper::Reduced))
    }

    /// Returns how the shaper is used, if that is known well enough to blame somebody.
    pub(super) fn use_of_shaper(&self, now_us: i64) -> UseOfShaper {
        self.flow.use_of_shaper(now_us, 150_000)
    }

    /// Begins to empty a queue this direction is blamed for.
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
        let held_bps =
            self.inflow.between(newest.sent_us.saturating_sub(100_000), newest.sent_us) / 100;
        let carried = self.carried(newest, oldest).unwrap_or(held_bps);
        let capacity = self.short(now_us).unwrap_or(carried).min(held_bps);
        self.capacity_bps = Some(capacity);
        if let Some(typical) = self.typical_bps {
            let change = share_ppm(capacity.abs_diff(typical), capacity.max(typical));
            self.unsteadiness_ppm = follow(self.unsteadiness_ppm, change, 1, 4);
        }
        self.typical_bps =
            Some(self.typical_bps.map_or(capacity, |old| follow_bps(old, capacity, 1, 3)));
        self.mode = Mode::Drain(Drain {
            since_us: now_us,
            before_bps,
            met_bps: capacity,
            used_ppm: self.share_ppm().unwrap_or(ONE_PPM).min(ONE_PPM),
            is_on_trial,
            is_settled: false,
            effect: None,
        });
    }

    /// Goes on emptying the queue; returns whether it is empty.
    pub(super) fn drain(
        &mut self,
        newest: &Round,
        truth: &Round,
        oldest: &Round,
        limit: &Threshold,
        gains: &AdaptiveGains,
        now_us: i64,
        dt_us: i64,
    ) -> bool {
        let Mode::Drain(drain) = self.mode else { return true };
        let Some(capacity) = self.capacity_bps else { return true };
        let took_effect = newest.sent_us >= drain.since_us.saturating_add(self.lag_us);
        if took_effect && newest.delay_us <= limit.expected_us {
            return true;
        }
        let is_longer = newest.sent_us.saturating_sub(oldest.sent_us) >= 75_000;
        let is_known = !drain.is_on_trial && self.knows_inflow(now_us);
        // If less came in than was let in, then the line has carried less than this.
        let is_useful = |carried: &u64| is_known || (!drain.is_on_trial && *carried < capacity);
        let is_credible =
            |seen: &u64| *seen >= scale(capacity, 700_000) || newest.delay_us > oldest.delay_us;
        let seen = self
            .short(now_us)
            // Without a growing queue so little means that nobody wants more.
            .filter(is_credible)
            .or_else(|| {
                self.carried(newest, oldest)
                    .filter(is_useful)
                    .filter(|_| is_longer && !newest.is_bound)
            });
        let tau_us = i64::from(gains.capacity_tau_us);
        let follow = |seen| follow_bps(capacity, seen, dt_us, tau_us);
        let capacity = seen.map_or(capacity, follow).max(1000);
        self.capacity_bps = Some(capacity);
        let delay_us = self
            .predicted(newest, capacity, now_us)
            .max(self.predicted(truth, capacity, now_us))
            .saturating_sub(limit.mean_us)
            .max(0);
        let typical = self.typical_bps.unwrap_or(capacity);
        let change = share_ppm(capacity.abs_diff(typical), capacity.max(typical));
        self.unsteadiness_ppm = self::follow(self.unsteadiness_ppm, change, dt_us, TYPICAL_TAU_US);
        self.typical_bps = Some(follow_bps(typical, capacity, dt_us, TYPICAL_TAU_US));
        let excess_us = delay_us.saturating_sub(self.working_us(gains));
        let drained = excess_us.saturating_mul(ONE_PPM) / i64::from(gains.drain_us.max(1));
        let share = self
            .run_at(gains)
            .saturating_sub(drained)
            .clamp(i64::from(gains.drain_least_ppm), REFILL_MAX_PPM);
        self.set(scale(capacity, share), RateReason::Queue);
        false
    }

    /// Returns the delay there will be when a command of now takes effect.
    fn predicted(&self, newest: &Round, capacity_bps: u64, now_us: i64) -> i64 {
        let from_us = newest.sent_us.saturating_sub(self.lag_us).min(now_us);
        let (cut_us, used_ppm) = match self.mode {
            Mode::Drain(drain) => (drain.since_us.max(from_us), drain.used_ppm),
            Mode::Climb | Mode::Acquitted(_) => (from_us, ONE_PPM),
        };
        // Before the cut the senders may have used less than they were let; not afterwards.
        let before = scale(self.inflow.between(from_us, cut_us), used_ppm);
        let let_in = before.saturating_add(self.inflow.between(cut_us, now_us));
        let serve_us = let_in.checked_div((capacity_bps / 1000).max(1)).unwrap_or(0);
        let passed_us = now_us.saturating_sub(from_us);
        newest.delay_us.saturating_add(to_i64(serve_us)).saturating_sub(passed_us)
    }

    /// Ends the draining: goes on just below the capacity met.
    pub(super) fn resume(&mut self, gains: &AdaptiveGains) {
        self.mode = Mode::Climb;
        if let Some(capacity) = self.capacity_bps {
            self.set(scale(capacity, self.run_at(gains)), RateReason::Drained);
        }
        let (least, most) = gains.growth_start_ppm;
        let start = part(self.unsteadiness_ppm, i64::from(gains.growth_per_unsteadiness_ppm));
        self.growth_ppm = start.clamp(i64::from(least), i64::from(most));
    }

    /// Returns the queue that is kept standing, so that a capacity that moves is seen at once.
    fn working_us(&self, gains: &AdaptiveGains) -> i64 {
        if matches!(self.mode, Mode::Drain(Drain { is_on_trial: true, .. })) {
            return 0;
        }
        let steady = i64::from(gains.steady_ppm).max(1);
        let unsteady = self.unsteadiness_ppm.saturating_sub(steady).max(0);
        let share = unsteady.saturating_mul(ONE_PPM) / steady.saturating_mul(2);
        part(i64::from(gains.working_us), share.min(ONE_PPM))
    }

    /// Returns the share of the capacity to run at: all of it where a queue is kept.
    fn run_at(&self, gains: &AdaptiveGains) -> i64 {
        if self.working_us(gains) > 0 { ONE_PPM } else { i64::from(gains.run_at_ppm) }
    }

    /// Returns whether the delay has not fallen although the cut should have emptied the queue by
    /// `least_us` meanwhile.
    pub(super) fn is_unmoved(&mut self, truth: &Round, least_us: i64) -> bool {
        let Mode::Drain(drain) = &mut self.mode else { return false };
        let base_us = self.lag_us.saturating_mul(2).max(30_000);
        if truth.sent_us < drain.since_us.saturating_add(base_us) {
            return false;
        }
        let effect = *drain.effect.get_or_insert(*truth);
        let met_kbps = (drain.met_bps / 1000).max(1);
        let from_us = effect.sent_us.saturating_sub(self.lag_us);
        let to_us = truth.sent_us.saturating_sub(self.lag_us);
        let served_us =
            to_i64(self.inflow.between(from_us, to_us).checked_div(met_kbps).unwrap_or(0));
        let expected_us = to_us.saturating_sub(from_us).saturating_sub(served_us);
        let dropped_us = effect.delay_us.saturating_sub(truth.delay_us);
        if self.rate_bps <= self.floor_bps {
            // There is nothing more to try here.
            let tried_us = truth.sent_us.saturating_sub(effect.sent_us);
            return tried_us >= least_us.saturating_mul(5) && dropped_us < least_us;
        }
        expected_us >= least_us && dropped_us < expected_us.min(effect.delay_us) / 3
    }

    /// Returns whether the delay has stood still while so much less came in that any queue would have
    /// shrunk: then it is not a queue but a longer path. `rounds` are newest first.
    pub(super) fn is_longer_path<'a>(
        &self,
        rounds: impl Iterator<Item = &'a Round>,
        limit: &Threshold,
        now_us: i64,
    ) -> bool {
        let Mode::Drain(drain) = self.mode else { return false };
        if !self.knows_inflow(now_us) {
            return false;
        }
        let effect_us = drain.since_us.saturating_add(self.lag_us.saturating_mul(2));
        let mut halves = [(0_i64, 0_i64); 2];
        let (mut newest_us, mut oldest_us) = (None, 0);
        for round in rounds.take_while(|round| round.sent_us >= effect_us && !round.is_bound) {
            let newest = *newest_us.get_or_insert(round.sent_us);
            oldest_us = round.sent_us;
            let [new, old] = &mut halves;
            let half = if newest.saturating_sub(oldest_us) < FLAT_US / 2 { new } else { old };
            *half = (half.0.saturating_add(round.delay_us), half.1.saturating_add(1));
            if newest.saturating_sub(oldest_us) >= FLAT_US {
                break;
            }
        }
        let Some(newest_us) = newest_us else { return false };
        if newest_us.saturating_sub(oldest_us) < FLAT_US {
            return false;
        }
        let middle_us = newest_us.saturating_sub(FLAT_US / 2);
        let let_in = |from_us: i64, to_us: i64| {
            let lag_us = self.lag_us;
            self.inflow.between(from_us.saturating_sub(lag_us), to_us.saturating_sub(lag_us))
        };
        let before = let_in(newest_us.saturating_sub(FLAT_US), middle_us);
        // At the floor it cannot be less still; but a line that carries even less than the floor lets
        // the delay grow, and a download falls short.
        let is_less = self.rate_bps <= self.floor_bps
            || let_in(middle_us, newest_us) <= scale(before, 930_000);
        let mean = |half: (i64, i64)| half.0.checked_div(half.1);
        let [new, old] = halves.map(mean);
        let (Some(new), Some(old)) = (new, old) else { return false };
        let quiet_us = limit.expected_us.saturating_sub(limit.mean_us).max(FLAT_WITHIN_US);
        is_less && new.saturating_sub(old).abs() <= quiet_us && new < LONGER_MAX_US
    }

    /// Gives back at once what was taken because of a longer path.
    pub(super) fn give_back(&mut self, gains: &AdaptiveGains) {
        self.suspend();
        self.acquit(gains);
    }

    /// Whether the other direction may be to blame does not matter any more.
    pub(super) const fn end_trial(&mut self) {
        if let Mode::Drain(drain) = &mut self.mode {
            drain.is_on_trial = false;
            drain.is_settled = true;
        }
    }

    /// Ends a draining that was a mistake; the rate stays until the delay has gone.
    pub(super) const fn suspend(&mut self) {
        if let Mode::Drain(drain) = self.mode {
            self.mode = Mode::Acquitted(drain.before_bps);
        }
    }

    /// Gives the rate back that was taken by mistake.
    pub(super) fn acquit(&mut self, gains: &AdaptiveGains) {
        if let Mode::Acquitted(before_bps) = self.mode {
            self.mode = Mode::Climb;
            self.capacity_bps = Some(before_bps);
            self.set(before_bps, RateReason::Acquitted);
            self.growth_ppm = i64::from(gains.growth_start_ppm.0);
        }
    }

    /// Stays well below the capacity, because a queue may stand that the baseline hides.
    pub(super) fn deepen(&mut self, gains: &AdaptiveGains) {
        if let Some(capacity) = self.capacity_bps {
            let most = scale(capacity, i64::from(gains.deeper_ppm));
            if self.rate_bps > most && self.rate_bps <= capacity {
                self.set(most, RateReason::Queue);
            }
        }
    }

    /// Returns whether the rate is lower than what the line usually carries.
    pub(super) fn is_low(&self) -> bool {
        self.typical_bps.is_some_and(|typical| self.rate_bps < scale(typical, 900_000))
    }

    /// Tries more, a little at a time.
    pub(super) fn climb(&mut self, gains: &AdaptiveGains, dt_us: i64, held: Option<BitsPerSecond>) {
        let growth = if self.is_low() {
            self.growth_ppm.max(i64::from(gains.recovery_ppm))
        } else {
            self.growth_ppm
        };
        let grown = self.rate_bps.saturating_add(scale(self.rate_bps, over(growth, dt_us)));
        // What the router does not hold yet has not been tried.
        let most = held.map_or(grown, |held| scale(held.get(), 1_300_000).max(self.rate_bps));
        self.set(grown.min(most), RateReason::Probe);
        let faster = self.growth_ppm.saturating_mul(dt_us) / i64::from(gains.growth_tau_us.max(1));
        self.growth_ppm =
            self.growth_ppm.saturating_add(faster).min(i64::from(gains.growth_max_ppm));
    }
}

/// Moves a rate towards another one by `dt / tau`.
fn follow_bps(from: u64, to: u64, dt_us: i64, tau_us: i64) -> u64 {
    u64::try_from(follow(to_i64(from), to_i64(to), dt_us, tau_us)).unwrap_or(0)
}

fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
