//! Lines whose pings do not see the queue that TCP waits in (some cellular and satellite lines).
//!
//! Only counters are left then. A direction that is well loaded all the time, never presses against
//! its shaper and shows no delay either wants no more, or is held back behind the shaper by something that
//! pings overtake. Counters cannot tell which. So this is looked for only where pings have not yet
//! shown that they see queues, and only in a direction that uses a good part of its shaper. Then the
//! rate goes just below what comes through, which empties the hidden queue, and from then on a
//! delivery that falls short of the shaper takes the place of the delay.

use serde::{Deserialize, Serialize};

use super::arith::{micros, scale};
use super::drain::Drain;
use super::flow::{Load, UseOfShaper};
use super::shaper::AdaptiveShaper;
use super::{AdaptiveLaw, LawInputs};
use crate::outputs::RateReason;
use crate::places::Empty;
use crate::units::Direction;

/// So long a loaded direction has to stay away from its shaper. Slow start and a CUBIC flow that has lost
/// take less on a line of 100 ms.
const SHORT_US: i64 = 3_000_000;
/// A direction that carries less than this share of its ceiling is not loaded: a call, a stream. Lines
/// that are known for blind pings deliver half of their best in the mean (`--suite corners`).
const LOADED_PPM: i64 = 300_000;
/// While pings are not believed it is loaded if it uses this share of its shaper.
const CARRIES_PPM: i64 = 200_000;
/// Share of what comes through that empties a hidden queue: 0.15 s of it in a second.
const BELOW_PPM: i64 = 850_000;
/// An application wants the same each time, in falls that are this far apart; a line whose pings are
/// blind carries something else: capacities of radio move by a quarter and more within seconds.
const SAME_PPM: i64 = 40_000;
const STEADY: u8 = 4;
const APART_US: i64 = 1_000_000;
/// It is looked at anew when this much more or less comes through.
const MOVED_PPM: i64 = 100_000;
/// Counters that are older, or rates over more, do not tell what happens now.
const RECENT_US: i64 = 400_000;
const SPAN_US: i64 = 600_000;
/// A queue that pings see is at least so long and lasts for so many rounds; noise does not. After one
/// pings are believed for as long as the path stays.
const SEEN_US: i64 = 15_000;
const SEEN_ROUNDS: u8 = 5;

/// What is known about one direction.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Blind {
    /// Whether pings are not believed to see its queue.
    is_blind: bool,
    /// For how long counters have been speaking against that.
    for_us: i64,
    /// What came through when the rate fell back last, how often in a row it was
    /// the same, and when that was.
    level_bps: u64,
    times: u8,
    fell_us: i64,
}

impl Empty for Blind {
    const EMPTY: Self = Self { is_blind: false, for_us: 0, level_bps: 0, times: 0, fell_us: 0 };
}

impl AdaptiveLaw {
    /// Returns whether pings are not believed to see the queue of a direction.
    pub(crate) fn is_blind(&self, direction: Direction) -> bool {
        self.shapers.get(direction).blind.is_blind
    }

    /// Notes whether a queue that has been emptied was one that pings have seen.
    pub(super) const fn note_seen(&mut self, drain: &Drain) {
        self.has_seen |= drain.peak_us >= SEEN_US && drain.rounds >= SEEN_ROUNDS;
    }

    /// Looks for queues that pings do not see; not while they see one.
    pub(super) fn look_behind(&mut self, inputs: &LawInputs, dt_us: i64) {
        let now_us = micros(inputs.now);
        let (has_seen, sees) = (self.has_seen, self.is_draining());
        for direction in Direction::BOTH {
            let shaper = self.shapers.get_mut(direction);
            if has_seen {
                shaper.blind = Blind::EMPTY;
            } else if !sees {
                shaper.look_behind(now_us, dt_us);
            }
        }
    }
}

impl AdaptiveShaper {
    #[inline(never)]
    fn look_behind(&mut self, now_us: i64, dt_us: i64) {
        let Some((delivered, share)) = self.comes_through() else { return };
        if !self.blind.is_blind {
            let is_loaded = delivered >= scale(self.ceiling_bps, LOADED_PPM);
            let is_new = !self.blind.is_steady(delivered, MOVED_PPM);
            let speaks = is_loaded && is_new && !self.flow.presses(now_us);
            let by_us = if speaks { dt_us } else { dt_us.saturating_neg() };
            let for_us = self.blind.for_us.saturating_add(by_us).max(0);
            let is_blind = for_us >= SHORT_US;
            self.blind = Blind { is_blind, for_us, ..self.blind };
            if !is_blind {
                return;
            }
        }
        // What waits in the shaper is not held back behind it.
        let is_short = self.flow.use_of_shaper(now_us, RECENT_US) == UseOfShaper::Short
            && self.flow.waits(now_us, RECENT_US) == Some(false);
        if is_short && share >= CARRIES_PPM {
            self.fall_back(delivered, now_us);
        }
    }

    /// Returns what comes through, and which share of what was let through that is.
    fn comes_through(&self) -> Option<(u64, i64)> {
        match self.flow.load() {
            Load::Unknown => None,
            Load::Share(share) => self.flow.delivered_within(SPAN_US).map(|bps| (bps, share)),
        }
    }

    /// Goes below what comes through; not for ever if that is always the same.
    fn fall_back(&mut self, delivered: u64, now_us: i64) {
        let rate = scale(delivered, BELOW_PPM);
        if rate >= self.rate_bps {
            return;
        }
        if now_us.saturating_sub(self.blind.fell_us) >= APART_US {
            let is_same = near(delivered, self.blind.level_bps, SAME_PPM);
            self.blind.times = if is_same { self.blind.times.saturating_add(1) } else { 1 };
            (self.blind.level_bps, self.blind.fell_us) = (delivered, now_us);
        }
        if self.blind.times >= STEADY {
            (self.blind.is_blind, self.blind.for_us) = (false, 0);
            return;
        }
        self.set(rate, RateReason::Queue);
        self.slow_down();
    }
}

impl Blind {
    /// Returns whether so much comes through as an application was found to want.
    fn is_steady(&self, delivered: u64, within_ppm: i64) -> bool {
        self.times >= STEADY && near(delivered, self.level_bps, within_ppm)
    }
}

fn near(bps: u64, level_bps: u64, within_ppm: i64) -> bool {
    bps.abs_diff(level_bps) <= scale(level_bps, within_ppm)
}
