//! Who has caused a queue: the round-trip time does not say in which direction it stands.
//!
//! Where reflectors tell one-way delays, each direction answers for its own part of the delay, and
//! both may be emptied at once. Otherwise only a direction that carries something can be blamed. If
//! both do, a first suspect is chosen, and the trial is the cut itself: a queue must respond to it
//! within a round trip. If it does not, the other direction is cut and the first one gets its rate
//! back when the delay has gone.

use super::AdaptiveLaw;
use super::arith::ONE_PPM;
use super::flow::{Load, UseOfShaper};
use super::noise::Threshold;
use super::shaper::Mode;
use super::signal::Round;
use crate::divide::signed_quotient;
use crate::units::Direction;

/// Least drop expected from a cut before its absence acquits, in µs.
const TRIAL_US: i64 = 6_000;
/// Where counters are too old to tell, a direction that has gone this much farther beyond what it has
/// proven is the first suspect.
const DARE_PPM: i64 = 100_000;
/// From this share of its shaper rate on, a direction uses much of it.
const MUCH_PPM: i64 = 500_000;
/// A direction that has pressed this lately may have begun again: counters may be too old to tell.
const AGAIN_US: i64 = 30_000_000;
/// So many rounds of a queue are enough, whoever has not told yet.
const ENOUGH_ROUNDS: u8 = 3;
/// After so many changes of mind both directions are to blame.
const FLIPS_MAX: u8 = 3;

impl AdaptiveLaw {
    /// Begins to drain a direction that reflectors tell to have a queue. One that carries little is
    /// believed to have it only after some rounds, and never on an idle line.
    pub(super) fn accuse(
        &mut self,
        direction: Direction,
        round: &Round,
        limit: &Threshold,
        now_us: i64,
    ) {
        let flow = &self.shapers.get(direction).flow;
        let carries = |way| self.shapers.get(way).flow.carries();
        let is_loaded = Direction::BOTH.into_iter().any(carries);
        let newest = round.of(direction);
        let is_likely =
            flow.presses(now_us) || (is_loaded && self.is_sure(direction, &newest, limit));
        // What speaks against it may have been gathered before anybody told.
        if !is_likely || newest.delay_us <= limit.expected_us {
            return;
        }
        let oldest = self.since(self.evidence.get(direction).rounds(), round);
        self.evidence.get_mut(direction).clear();
        let oldest = oldest.shared_like(round).of(direction);
        self.shapers.get_mut(direction).begin_drain(&newest, &oldest, now_us, false);
    }

    /// Returns whether even a direction that does not press against its shaper can be blamed. One that uses
    /// little of it, as a call does, has a queue only if the line has become much slower: then the delay
    /// soon passes twice the target.
    #[inline(never)]
    fn is_sure(&self, direction: Direction, part: &Round, limit: &Threshold) -> bool {
        let uses_much = match self.shapers.get(direction).flow.load() {
            Load::Unknown => true,
            Load::Share(share) => share >= MUCH_PPM,
        };
        self.evidence.get(direction).is_strong(limit) && (uses_much || self.is_large(part, limit))
    }

    /// Returns whether a delay has passed twice the target.
    #[inline(never)]
    fn is_large(&self, round: &Round, limit: &Threshold) -> bool {
        let most_us = limit.expected_us.saturating_add(self.target_us().saturating_mul(2));
        round.delay_us > most_us
    }

    /// Returns the last round before these.
    #[inline(never)]
    fn since(&self, rounds: u8, newest: &Round) -> Round {
        let rounds = usize::from(rounds).clamp(1, 6);
        self.signal.newest_first().nth(rounds).copied().unwrap_or(*newest)
    }

    /// Begins to drain whoever has caused a queue.
    pub(super) fn blame(&mut self, round: &Round, limit: &Threshold, now_us: i64) {
        let oldest = self.since(self.evidence.download.rounds(), round);
        let carries = |way| self.shapers.get(way).flow.carries();
        let presses = |way| self.shapers.get(way).flow.presses(now_us);
        let (mut down, mut up) = (carries(Direction::Download), carries(Direction::Upload));
        if !down && !up {
            // The line may have stopped carrying what was pressing a moment ago.
            (down, up) = (presses(Direction::Download), presses(Direction::Upload));
        }
        let is_early =
            self.evidence.download.rounds() < ENOUGH_ROUNDS && !self.is_large(round, limit);
        if is_early && self.may_be_either(now_us) && self.signal.tells_soon() {
            return;
        }
        let both = down && up;
        let suspect = match (down, up) {
            (false, false) => return,
            (true, false) => Direction::Download,
            (false, true) => Direction::Upload,
            (true, true) => self.suspect(round, &oldest, now_us),
        };
        let presses = self.shapers.get(suspect).flow.presses(now_us);
        if !presses && !self.is_sure(suspect, round, limit) {
            return;
        }
        self.clear_evidence();
        self.flips = 0;
        self.shapers.get_mut(suspect).begin_drain(round, &oldest, now_us, both);
    }

    /// Returns whether each of the two directions can have made a queue.
    #[inline(never)]
    fn may_be_either(&self, now_us: i64) -> bool {
        Direction::BOTH.into_iter().all(|way| {
            let flow = &self.shapers.get(way).flow;
            flow.carries() || flow.has_pressed_within(now_us, AGAIN_US)
        })
    }

    /// Both directions carry something: chooses the likelier one.
    #[inline(never)]
    fn suspect(&self, round: &Round, oldest: &Round, now_us: i64) -> Direction {
        let is_slow = round.has_grown_slowly(oldest);
        if self.shapers.download.flow.load() == Load::Unknown {
            return self.culprit.unwrap_or(self.turn);
        }
        let dares = |way| self.shapers.get(way).dare_ppm();
        let more = dares(Direction::Download).saturating_sub(dares(Direction::Upload));
        let is_recent = self.shapers.download.flow.is_recent(now_us);
        if !is_recent && more.abs() > DARE_PPM {
            return if more > 0 { Direction::Download } else { Direction::Upload };
        }
        let presses = |way| self.shapers.get(way).flow.has_just_pressed(now_us);
        match (presses(Direction::Download), presses(Direction::Upload)) {
            (true, false) => Direction::Download,
            (false, true) => Direction::Upload,
            (false, false) => self.busier(),
            (true, true) => {
                let download = &self.shapers.download;
                // Packets of a download wait in the router only if they did not wait before it. An
                // upload's queue holds up acknowledgements, so a download falls short then as well,
                // but only later.
                match (download.use_of_shaper(now_us), download.flow.waits(now_us, 150_000)) {
                    _ if self.was_short_first => Direction::Download,
                    (UseOfShaper::Full, Some(true)) => Direction::Upload,
                    (UseOfShaper::Full, None) if !is_slow => Direction::Upload,
                    _ => self.turn,
                }
            }
        }
    }

    /// Notes what came first: that the download fell short, or that the delay grew. To be called with
    /// whether anything spoke for a queue before this tick.
    pub(super) fn note_order(&mut self, was_suspicious: bool, now_us: i64) {
        if !was_suspicious {
            self.was_short_first = self.was_short;
        }
        let flow = &self.shapers.download.flow;
        self.was_short = flow.has_just_pressed(now_us)
            && flow.use_of_shaper(now_us, 150_000) == UseOfShaper::Short;
    }

    fn busier(&self) -> Direction {
        let share = |way| self.shapers.get(way).share_ppm().unwrap_or(0);
        if share(Direction::Upload) > share(Direction::Download) {
            Direction::Upload
        } else {
            Direction::Download
        }
    }

    /// Returns how much a queue must have failed to shrink before the other direction is tried: the more,
    /// the less that one carries, and the more often this has happened.
    fn trial_us(&self, other: Direction, limit: &Threshold, now_us: i64) -> i64 {
        let flow = &self.shapers.get(other).flow;
        let share = match flow.load() {
            Load::Share(share) if !flow.presses(now_us) => share.clamp(150_000, ONE_PPM),
            Load::Share(_) | Load::Unknown => ONE_PPM,
        };
        let least_us = TRIAL_US.saturating_add(limit.expected_us);
        let least_us = least_us.saturating_mul(i64::from(self.flips).saturating_add(1));
        let falls_short = matches!(
            flow.use_of_shaper(now_us, 150_000),
            UseOfShaper::Short | UseOfShaper::Reduced
        );
        let is_telling = other == Direction::Download && flow.presses(now_us) && falls_short;
        let least_us = if is_telling { least_us / 2 } else { least_us };
        signed_quotient(least_us.saturating_mul(ONE_PPM), share)
    }

    /// Turns to the other direction when a cut does not help although it should.
    pub(super) fn reconsider(
        &mut self,
        round: &Round,
        truth: &Round,
        limit: &Threshold,
        now_us: i64,
    ) {
        for (direction, other) in
            [(Direction::Download, Direction::Upload), (Direction::Upload, Direction::Download)]
        {
            let Mode::Drain(drain) = self.shapers.get(direction).mode() else { continue };
            // The other one may have been idle, or its counters old, when the blame fell here.
            if drain.is_settled || !self.shapers.get(other).flow.carries() {
                continue;
            }
            let least_us = self.trial_us(other, limit, now_us);
            let is_likely = self.shapers.get(other).flow.presses(now_us)
                || self.is_large(&round.of(other), limit);
            let shaper = self.shapers.get_mut(direction);
            let is_unmoved = shaper.is_unmoved(truth, least_us);
            let told = round.culprit();
            let is_others = match told {
                Some(culprit) if culprit == direction => {
                    shaper.convict();
                    false
                }
                // Who does not press is accused by what its own part says over some rounds.
                Some(_) => is_likely,
                None => is_unmoved && !self.signal.tells_soon(),
            };
            if !is_others || round.of(other).delay_us <= limit.expected_us {
                continue;
            }
            if self.drains(other) {
                let shaper = self.shapers.get_mut(direction);
                if told == Some(other) && drain.is_on_trial {
                    shaper.suspend();
                } else {
                    shaper.end_trial();
                }
                continue;
            }
            self.flips = self.flips.saturating_add(1);
            let is_open = self.flips < FLIPS_MAX;
            if self.shapers.get(direction).has_helped(truth) {
                self.shapers.get_mut(direction).resume(&self.config.gains);
            } else if is_open {
                self.shapers.get_mut(direction).suspend();
            } else {
                self.shapers.get_mut(direction).end_trial();
            }
            let is_open = is_open && told.is_none();
            let from = self.since(3, round).shared_like(round).of(other);
            self.shapers.get_mut(other).begin_drain(&round.of(other), &from, now_us, is_open);
            if !is_open {
                self.shapers.get_mut(other).end_trial();
            }
            return;
        }
    }
}
