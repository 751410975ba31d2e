//! The delay that all reflectors have in common.
//!
//! Probes of one tick leave together; their answers make a *round*. Queueing on the line meets every
//! probe of a round, noise of a reflector meets its own, so a round's delay is the least of
//! `rtt - baseline`. An answer that is overdue says as much as one that came: the delay is at
//! least as long as it has been waited for beyond the baseline. So a queue is seen before the
//! probes have crossed it.

use embassy_time::Duration;
use heapless::Deque;
use serde::{Deserialize, Serialize};

use super::arith::part;
use super::baseline::Baseline;
use super::one_way::{OneWay, told_apart};
use crate::divide::quotient;
use crate::places::Empty;
use crate::tick::{MAX_REFLECTORS, RttSample};
use crate::units::{Direction, ReflectorId};

/// A baseline that falls by this much has not been the true one: a queue stood in it.
const FALL_US: i64 = 500;
/// After such a fall the queue is emptied further for so long, to see whether there is more.
const DEEPER_US: i64 = 700_000;
/// A queue that grows by less than this share of the time is one that probing has made.
const SLOW_PPM: i64 = 80_000;
/// Rounds that are remembered.
pub(super) const ROUNDS: usize = 16;
/// A reflector that has not answered for this long has no say.
const ALIVE_US: i64 = 1_000_000;

/// What the probes that left together have found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Round {
    /// When they left.
    pub(super) sent_us: i64,
    /// The least delay above the baseline.
    pub(super) delay_us: i64,
    /// How many reflectors say so.
    pub(super) voices: u8,
    /// Whether the probes are still on their way and the delay is a lower bound.
    pub(super) is_bound: bool,
    /// How much of the delay stands in the upload, in parts of [`Round::WHOLE`], where reflectors tell.
    pub(super) upload_share: Option<u8>,
}

impl Round {
    /// All of the delay.
    pub(super) const WHOLE: u8 = u8::MAX;
    /// Most of it: two thirds.
    const MOST: u8 = Self::WHOLE / 3 * 2;

    /// Returns the round with its delay shared like another one's, as far as nobody has told about it.
    #[inline(never)]
    pub(super) fn shared_like(&self, other: &Self) -> Self {
        let told = other.upload_share;
        Self { upload_share: told.and(self.upload_share.or(told)), ..*self }
    }

    /// Returns the round as one direction has met it: with the whole delay, if nobody tells.
    #[inline(never)]
    pub(super) fn of(&self, direction: Direction) -> Self {
        let Some(upload) = self.upload_share else { return *self };
        let share = match direction {
            Direction::Upload => upload,
            Direction::Download => Self::WHOLE.saturating_sub(upload),
        };
        let whole = i64::from(Self::WHOLE);
        let delay_us = self.delay_us.saturating_mul(i64::from(share)).checked_div(whole);
        Self { delay_us: delay_us.unwrap_or(self.delay_us), ..*self }
    }

    /// Gives the part of a direction that seems to carry nothing to the other one, unless most of the
    /// delay is said to stand in it: counters may be old, and it may have begun since.
    fn spare(&mut self, idle: Option<Direction>) {
        let (Some(idle), Some(upload)) = (idle, self.upload_share) else { return };
        let (part, others) = match idle {
            Direction::Download => (Self::WHOLE.saturating_sub(upload), Self::WHOLE),
            Direction::Upload => (upload, 0),
        };
        if part < Self::MOST {
            self.upload_share = Some(others);
        }
    }

    /// Returns whether the delay has grown so slowly since then as it does when a rate was tried that is too
    /// high. A line that has become slower lets it grow faster.
    #[inline(never)]
    pub(super) fn has_grown_slowly(&self, since: &Self) -> bool {
        let sent_us = self.sent_us.saturating_sub(since.sent_us);
        self.delay_us.saturating_sub(since.delay_us) < part(sent_us, SLOW_PPM)
    }

    /// Returns in which direction the delay stands, if nearly all of it is said to stand in one.
    pub(super) fn culprit(&self) -> Option<Direction> {
        self.upload_share?;
        told_apart(self.of(Direction::Download).delay_us, self.of(Direction::Upload).delay_us)
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Reflector {
    baseline: Baseline,
    /// Of the newest answered probe.
    sent_us: i64,
    delay_us: i64,
    answered_us: Option<i64>,
    is_fresh: bool,
}

impl Empty for Reflector {
    const EMPTY: Self = Self {
        baseline: Baseline::EMPTY,
        sent_us: 0,
        delay_us: 0,
        answered_us: None,
        is_fresh: false,
    };
}

impl Reflector {
    #[inline(never)]
    const fn new() -> Self {
        Self {
            baseline: Baseline::new(),
            sent_us: i64::MIN,
            delay_us: 0,
            answered_us: None,
            is_fresh: false,
        }
    }

    /// Returns by how much the answer to a probe sent then is overdue; negative if it is not.
    #[inline(never)]
    fn overdue_us(&self, sent_us: i64, now_us: i64) -> i64 {
        let baseline_us = self.baseline.get().unwrap_or(0);
        now_us.saturating_sub(sent_us).saturating_sub(baseline_us)
    }

    #[inline(never)]
    fn is_alive(&self, now_us: i64) -> bool {
        self.answered_us.is_some_and(|answered| now_us.saturating_sub(answered) < ALIVE_US)
    }
}

/// The probes of one WAN.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Signal {
    tick_us: i64,
    reflectors: [Reflector; MAX_REFLECTORS],
    rounds: Deque<Round, ROUNDS>,
    /// When a baseline fell last.
    fell_us: Option<i64>,
}

impl Empty for Signal {
    const EMPTY: Self = Self {
        tick_us: 0,
        reflectors: [Reflector::EMPTY; MAX_REFLECTORS],
        rounds: Deque::new(),
        fell_us: None,
    };
}

impl Signal {
    pub(super) fn new(tick: Duration) -> Self {
        Self {
            tick_us: i64::try_from(tick.as_micros()).unwrap_or(i64::MAX),
            reflectors: [Reflector::new(); MAX_REFLECTORS],
            rounds: Deque::new(),
            fell_us: None,
        }
    }

    /// Takes one answer.
    pub(super) fn answer(&mut self, sample: &RttSample, now_us: i64) {
        let Some(reflector) = self.reflectors.get_mut(usize::from(sample.reflector.0)) else {
            return;
        };
        let rtt_us = i64::try_from(quotient(sample.rtt.get(), 1000)).unwrap_or(i64::MAX);
        let arrived_us = now_us.saturating_sub(i64::from(sample.age_us));
        let sent_us = arrived_us.saturating_sub(rtt_us);
        if reflector.baseline.take(rtt_us, now_us) >= FALL_US {
            self.fell_us = Some(now_us);
        }
        reflector.answered_us = Some(now_us);
        if sent_us >= reflector.sent_us {
            reflector.sent_us = sent_us;
            reflector.is_fresh = true;
            let baseline_us = reflector.baseline.get().unwrap_or(rtt_us);
            reflector.delay_us = rtt_us.saturating_sub(baseline_us).max(0);
        }
    }

    /// Makes a round of what has come in since the last call, if that says anything. `idle` is the direction
    /// that carries nothing, if only one does.
    pub(super) fn close(
        &mut self,
        now_us: i64,
        one_way: &OneWay,
        idle: Option<Direction>,
    ) -> Option<Round> {
        let round = self.answered_round(now_us).or_else(|| self.overdue_round(now_us));
        for reflector in &mut self.reflectors {
            reflector.is_fresh = false;
        }
        let mut round = round?;
        round.upload_share = one_way.upload_share(&round, now_us);
        round.spare(idle);
        if self.rounds.back().is_some_and(|last| last.is_bound) {
            // A bound is only good until something better is known.
            self.rounds.pop_back();
        }
        if self.rounds.is_full() {
            self.rounds.pop_front();
        }
        let _full = self.rounds.push_back(round);
        Some(round)
    }

    /// The newest probes that were answered since the last call. A reflector whose answer is overdue by
    /// half of that delay agrees: it will not be less.
    fn answered_round(&self, now_us: i64) -> Option<Round> {
        let fresh = || self.reflectors.iter().filter(|reflector| reflector.is_fresh);
        let sent_us = fresh().map(|reflector| reflector.sent_us).max()?;
        let oldest_us = sent_us.saturating_sub(self.tick_us / 2);
        let round = || fresh().filter(|reflector| reflector.sent_us >= oldest_us);
        let delay_us = round().map(|reflector| reflector.delay_us).min()?;
        let agrees = |reflector: &&Reflector| {
            if reflector.sent_us >= oldest_us {
                return reflector.is_fresh;
            }
            reflector.is_alive(now_us) && reflector.overdue_us(sent_us, now_us) > delay_us / 2
        };
        let voices = self.reflectors.iter().filter(agrees).count();
        let voices = u8::try_from(voices).unwrap_or(u8::MAX);
        Some(Round { sent_us, delay_us, voices, is_bound: false, upload_share: None })
    }

    /// The probes after the newest answered ones, when all of them are late. A single reflector has
    /// to miss two: one may just have been lost.
    fn overdue_round(&self, now_us: i64) -> Option<Round> {
        let alive = || self.reflectors.iter().filter(|reflector| reflector.is_alive(now_us));
        let voices = alive().count();
        let missed = if voices >= 2 { 1 } else { 2 };
        let gap_us = self.tick_us.saturating_mul(missed);
        let bound = |reflector: &Reflector| {
            reflector.overdue_us(reflector.sent_us.saturating_add(gap_us), now_us)
        };
        let delay_us = alive().map(bound).min().filter(|bound| *bound > 0)?;
        let sent_us = alive().map(|reflector| reflector.sent_us.saturating_add(gap_us)).max()?;
        let voices = u8::try_from(voices).unwrap_or(u8::MAX);
        Some(Round { sent_us, delay_us, voices, is_bound: true, upload_share: None })
    }

    /// Returns whether the baselines have fallen a moment ago, so that they may be too high still.
    pub(super) fn is_falling(&self, now_us: i64) -> bool {
        self.fell_us.is_some_and(|then| now_us.saturating_sub(then) < DEEPER_US)
    }

    /// Returns whether someone has told lately whose the delay is, and not about the newest round: the answer
    /// of the reflector that tells may come a moment after those of nearer ones.
    #[inline(never)]
    pub(super) fn tells_soon(&self) -> bool {
        let mut told = self.newest_first().map(|round| round.upload_share.is_some()).take(3);
        told.next() == Some(false) && told.any(|is_told| is_told)
    }

    /// Returns the rounds, newest first.
    #[inline(never)]
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Round> {
        self.rounds.iter().rev()
    }

    /// Returns the least delay of the latest `count` rounds.
    pub(super) fn least_of(&self, count: usize) -> Option<i64> {
        self.newest_first().take(count).map(|round| round.delay_us).min()
    }

    /// Returns the lowest baseline of the reflectors that answer.
    pub(super) fn baseline_us(&self) -> Option<i64> {
        self.reflectors.iter().filter_map(|reflector| reflector.baseline.get()).min()
    }

    /// Takes a delay for a part of the path from now on.
    pub(super) fn lengthen(&mut self, by_us: i64) {
        for reflector in &mut self.reflectors {
            reflector.baseline.lengthen(by_us);
            reflector.delay_us = reflector.delay_us.saturating_sub(by_us).max(0);
        }
        for round in self.rounds.iter_mut() {
            round.delay_us = round.delay_us.saturating_sub(by_us).max(0);
        }
    }

    /// Forgets a reflector: another host answers in its place.
    pub(super) fn replace(&mut self, reflector: ReflectorId) {
        if let Some(reflector) = self.reflectors.get_mut(usize::from(reflector.0)) {
            *reflector = Reflector::new();
        }
    }

    /// Forgets everything: the path is another one.
    #[inline(never)]
    pub(super) fn forget(&mut self) {
        *self = Self::new(Duration::from_micros(u64::try_from(self.tick_us).unwrap_or(0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{RttNanos, WanId};

    fn answer(signal: &mut Signal, reflector: u8, rtt_ms: u64, now_ms: i64) {
        let (wan, reflector, rtt) = (WanId(0), ReflectorId(reflector), rtt_ms * 1000);
        let rtt = RttNanos::from_micros(rtt);
        let sample = RttSample { wan, reflector, rtt, age_us: 0, upload_owd: None };
        signal.answer(&sample, now_ms * 1000);
    }

    /// Probes leave every 50 ms; the near reflector is 20 ms away and the far one 30 ms.
    fn round_at(now_ms: i64, near_ms: u64) -> Round {
        let mut signal = Signal::new(Duration::from_millis(50));
        for sent_ms in [0, 50] {
            answer(&mut signal, 0, 20, sent_ms + 20);
            answer(&mut signal, 1, 30, sent_ms + 30);
        }
        signal.close(100_000, &OneWay::new(), None);
        answer(&mut signal, 0, near_ms, 100 + i64::try_from(near_ms).unwrap());
        signal.close(now_ms * 1000, &OneWay::new(), None).unwrap()
    }

    #[test]
    fn a_reflector_whose_answer_is_overdue_agrees_with_one_that_has_answered_late() {
        assert_eq!(round_at(150, 48).voices, 2, "overdue by 20 ms of 28");
        assert_eq!(round_at(135, 32).voices, 1, "overdue by 5 ms of 12");
        assert_eq!(round_at(122, 21).voices, 1, "not due yet");
    }

    #[test]
    fn a_line_that_has_become_slower_lets_the_delay_grow_faster_than_a_rate_that_is_too_high() {
        let round = |sent_us, delay_us| {
            let (voices, is_bound, upload_share) = (2, false, None);
            Round { sent_us, delay_us, voices, is_bound, upload_share }
        };
        assert!(round(150_000, 7_000).has_grown_slowly(&round(0, 1_000)));
        assert!(!round(150_000, 40_000).has_grown_slowly(&round(0, 1_000)));
    }

    #[test]
    fn a_direction_that_carries_nothing_is_spared_unless_the_delay_stands_in_it() {
        let upload_share = |told: Option<u8>, idle| {
            let (delay_us, voices, is_bound, upload_share) = (20_000, 2, false, told);
            let mut round = Round { sent_us: 0, delay_us, voices, is_bound, upload_share };
            round.spare(idle);
            round.upload_share
        };
        let (down, up) = (Some(Direction::Download), Some(Direction::Upload));
        assert_eq!(upload_share(Some(100), up), Some(0));
        assert_eq!(upload_share(Some(100), down), Some(Round::WHOLE));
        assert_eq!(upload_share(Some(240), up), Some(240), "nearly all is its own");
        assert_eq!(upload_share(Some(15), down), Some(15), "nearly all is its own");
        assert_eq!(upload_share(Some(80), down), Some(80), "most is its own");
        assert_eq!(upload_share(Some(100), None), Some(100), "both carry something");
        assert_eq!(upload_share(None, up), None, "nobody tells");
    }
}
