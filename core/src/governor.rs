//! From wanted rates to router writes.
//!
//! A cut is never delayed. A raise waits for the answer to the last command, keeps a distance of
//! `window / writes` from the last write, must be worth a write, and leaves a reserve of the write
//! budget to cuts; whatever is wanted by then is written, so raises merge by themselves. Unchanged
//! rates are not written. The reference's limiter (quirk `limiter-delays-cuts`) counts writes in a
//! sliding window instead and delays cuts as well.

use embassy_time::{Duration, Instant};
use serde::{Deserialize, Serialize};

use crate::budget::{HardBudget, WORTH_PART};
use crate::command::{Ended, RateCommand};
use crate::config::{WriteBudgetConfig, WriteLimit};
use crate::divide::{checked_quotient, quotient};
use crate::fixed::MicrosQ32;
use crate::outputs::{Action, Event, Outputs, RateReason};
use crate::places::Empty;
use crate::snapshot::WanCounters;
use crate::tick::Reply;
use crate::units::{BitsPerSecond, CommandId, Direction, PerDirection, WanId};
use crate::write_limit::{WriteBudget, WriteWindow};

/// A raise smaller than this share of the ceiling is not worth a write, unless it reaches it.
const RAISE_MIN_SHARE: u64 = 100;
/// A change smaller than this is not worth a write even where writes cost nothing.
const FREE_CHANGE_PPM: u64 = 5_000;

/// What the law wants for one direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) rate: BitsPerSecond,
    pub(crate) ceiling: BitsPerSecond,
    pub(crate) reason: RateReason,
    /// Whether a queue stands that what the router holds will not empty soon.
    pub(crate) is_urgent: bool,
}

/// What the governor needs to know about one tick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) delay: MicrosQ32,
    pub(crate) baseline: MicrosQ32,
    /// Whether the line is blind: then nothing is raised.
    pub(crate) is_blind: bool,
}

/// Decides on the writes of one WAN and follows them to their end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Governor {
    wan: WanId,
    limiter: Limiter,
    commands: PerDirection<RateCommand>,
    /// Whether the wait of a raise has been told.
    held: PerDirection<bool>,
    /// Which direction was raised last: where writes are dear, the other one goes first.
    raised: Direction,
}

/// What limits the writes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "there is no heap to put the larger one on")]
enum Limiter {
    Budget(WriteBudget),
    Reference(WriteWindow),
    /// The adaptive law's: without a limit where a write costs nothing.
    Hard(Option<HardBudget>),
}

impl Empty for Governor {
    const EMPTY: Self = Self {
        wan: WanId(0),
        limiter: Limiter::Reference(WriteWindow::new(WriteLimit {
            writes: 0,
            window: Duration::MIN,
        })),
        commands: PerDirection { download: RateCommand::new(), upload: RateCommand::new() },
        held: PerDirection { download: false, upload: false },
        raised: Direction::Download,
    };
}

impl Governor {
    pub(crate) const fn new(wan: WanId, limit: WriteLimit, is_reference: bool) -> Self {
        let none = RateCommand::new();
        Self {
            wan,
            limiter: if is_reference {
                Limiter::Reference(WriteWindow::new(limit))
            } else {
                Limiter::Budget(WriteBudget::new(limit))
            },
            commands: PerDirection { download: none, upload: none },
            held: PerDirection { download: false, upload: false },
            raised: Direction::Upload,
        }
    }

    /// Makes the governor of the adaptive law.
    pub(crate) fn with_budget(wan: WanId, budget: Option<WriteBudgetConfig>) -> Self {
        let unused = WriteLimit { writes: 1, window: Duration::from_secs(1) };
        let limiter = Limiter::Hard(budget.map(HardBudget::new));
        Self { limiter, ..Self::new(wan, unused, false) }
    }

    /// Returns the commands of one direction.
    pub(crate) const fn command(&self, direction: Direction) -> &RateCommand {
        self.commands.get(direction)
    }

    /// Takes over what the router was told and what it holds. The write limit begins anew.
    pub(crate) const fn take_over(&mut self, before: &Self) {
        self.commands = before.commands;
    }

    /// Takes an answer of the router.
    pub(crate) fn take(&mut self, reply: &Reply, counters: &mut WanCounters, out: &mut Outputs) {
        let (wan, direction) = (self.wan, reply.direction);
        match self.commands.get_mut(direction).answer(reply.id, reply.outcome) {
            Ended::Confirmed(rate) => {
                let took_us = reply.took_us;
                out.tell(Event::RateConfirmed { wan, direction, rate, took_us });
            }
            Ended::Failed(rate) => {
                counters.writes_failed = counters.writes_failed.saturating_add(1);
                out.tell(Event::WriteFailed { wan, direction, rate });
            }
            Ended::Ignored => {}
        }
    }

    /// Gives up commands that were never answered.
    pub(crate) fn expire(&mut self, now: Instant, counters: &mut WanCounters, out: &mut Outputs) {
        let wan = self.wan;
        for direction in Direction::BOTH {
            if let Some(rate) = self.commands.get_mut(direction).expire(now) {
                counters.writes_failed = counters.writes_failed.saturating_add(1);
                out.tell(Event::WriteTimedOut { wan, direction, rate });
            }
        }
    }

    /// Turns wanted rates into writes, as far as they may go now. Cuts go first.
    pub(crate) fn govern(
        &mut self,
        wanted: &PerDirection<Wanted>,
        moment: &Moment,
        next_id: &mut CommandId,
        counters: &mut WanCounters,
        out: &mut Outputs,
    ) {
        let mut written = false;
        for want_cut in [true, false] {
            for direction in self.order(want_cut) {
                let wanted = wanted.get(direction);
                let command = self.commands.get(direction);
                let is_cut = command.is_cut(wanted.rate);
                if command.commanded() == Some(wanted.rate) {
                    *self.held.get_mut(direction) = false;
                } else if is_cut == want_cut && self.may_write(direction, wanted, moment, out) {
                    let from = self.write(direction, wanted, is_cut, moment, next_id, out);
                    counters.count_write(from, wanted.rate);
                    if !is_cut {
                        self.raised = direction;
                    }
                    self.limiter.count(moment.now);
                    written = true;
                } else if !is_cut && !want_cut && self.keeps_its_turn(direction, wanted) {
                    break;
                }
            }
        }
        if written {
            self.limiter.record(moment.now);
        }
    }

    /// Returns which direction goes first.
    const fn order(&self, want_cut: bool) -> [Direction; 2] {
        match (&self.limiter, self.raised) {
            (Limiter::Hard(_), Direction::Download) if !want_cut => {
                [Direction::Upload, Direction::Download]
            }
            _ => Direction::BOTH,
        }
    }

    /// Returns whether a raise that has to wait goes before the other direction's, because it is worth a
    /// write as soon as there is one: else the direction that wants more would take each of them.
    fn keeps_its_turn(&self, direction: Direction, wanted: &Wanted) -> bool {
        let commanded = self.commands.get(direction).commanded().map_or(0, BitsPerSecond::get);
        let least = commanded.saturating_add(quotient(commanded, WORTH_PART));
        matches!(self.limiter, Limiter::Hard(Some(_))) && wanted.rate.get() >= least
    }

    /// Returns whether a rate that differs from the commanded one may be written now, and tells
    /// once if it has to wait.
    #[inline(never)]
    fn may_write(
        &mut self,
        direction: Direction,
        wanted: &Wanted,
        moment: &Moment,
        out: &mut Outputs,
    ) -> bool {
        let command = self.commands.get(direction);
        let is_cut = command.is_cut(wanted.rate);
        let wait = match &mut self.limiter {
            Limiter::Reference(window) => window.wait(moment.now),
            Limiter::Hard(_) if moment.is_blind && !is_cut => return false,
            Limiter::Hard(budget) => return may_change(budget, command, wanted, moment.now),
            Limiter::Budget(_) if is_cut => Duration::MIN,
            Limiter::Budget(_) if moment.is_blind || command.is_in_flight() => return false,
            Limiter::Budget(_) if !is_worth_a_write(command, wanted) => return false,
            Limiter::Budget(budget) => budget.wait(moment.now),
        };
        if wait == Duration::MIN {
            return true;
        }
        if !core::mem::replace(self.held.get_mut(direction), true) {
            let (wan, wanted) = (self.wan, wanted.rate);
            out.tell(Event::WriteHeld { wan, direction, wanted, wait });
        }
        false
    }

    /// Commands a rate; returns the one commanded before, if its fate is known.
    fn write(
        &mut self,
        direction: Direction,
        wanted: &Wanted,
        is_cut: bool,
        moment: &Moment,
        next_id: &mut CommandId,
        out: &mut Outputs,
    ) -> Option<BitsPerSecond> {
        let (wan, id, to) = (self.wan, *next_id, wanted.rate);
        next_id.0 = next_id.0.wrapping_add(1);
        let command = self.commands.get_mut(direction);
        let from = command.commanded();
        let reason = match from {
            Some(_) => wanted.reason,
            None if command.was_ever_issued() => RateReason::Again,
            None => RateReason::Start,
        };
        command.issue(id, to, moment.now);
        *self.held.get_mut(direction) = false;
        let Moment { delay, baseline, .. } = *moment;
        out.act(Action::SetRate { id, wan, direction, rate: to, is_cut });
        out.tell(Event::RateChanged { wan, direction, from, to, reason, delay, baseline });
        from
    }
}

/// Returns the change as a share of the commanded rate; what is not known to be held changes
/// without bounds.
fn change_ppm(command: &RateCommand, wanted: &Wanted) -> u64 {
    let Some(commanded) = command.commanded() else { return u64::MAX };
    let change = wanted.rate.get().abs_diff(commanded.get()).saturating_mul(1_000_000);
    checked_quotient(change, commanded.get()).unwrap_or(u64::MAX)
}

/// Returns whether a change is worth a write at what writes cost now.
fn may_change(
    budget: &mut Option<HardBudget>,
    command: &RateCommand,
    wanted: &Wanted,
    now: Instant,
) -> bool {
    let is_cut = command.is_cut(wanted.rate);
    let is_whole = wanted.rate == wanted.ceiling;
    let change_ppm = change_ppm(command, wanted);
    match budget {
        None => change_ppm >= FREE_CHANGE_PPM || is_whole,
        Some(_) if !is_cut && command.is_in_flight() => false,
        Some(budget) => {
            // What an urgent cut is worth is the queue it empties, not the change of the rate.
            let is_urgent = is_cut && wanted.is_urgent && change_ppm >= FREE_CHANGE_PPM;
            budget.price_ppm(now, is_cut).is_some_and(|price| is_urgent || change_ppm >= price)
        }
    }
}

/// Returns whether a raise changes enough: 1 % of the ceiling, or all that is left up to it.
fn is_worth_a_write(command: &RateCommand, wanted: &Wanted) -> bool {
    let Some(commanded) = command.commanded() else { return true };
    let gain = wanted.rate.get().saturating_sub(commanded.get());
    gain >= smallest_raise(wanted.ceiling).get() || wanted.rate == wanted.ceiling
}

/// Returns the smallest raise that is worth a write; a law must be able to want that much more than
/// the router holds, or it never rises.
pub(crate) fn smallest_raise(ceiling: BitsPerSecond) -> BitsPerSecond {
    BitsPerSecond::new(quotient(ceiling.get(), RAISE_MIN_SHARE))
}

impl Limiter {
    /// Counts one write at once: both directions of a tick are two.
    fn count(&mut self, now: Instant) {
        if let Self::Hard(Some(budget)) = self {
            budget.record(now);
        }
    }

    fn record(&mut self, now: Instant) {
        match self {
            Self::Hard(_) => {}
            Self::Budget(budget) => budget.record(now),
            Self::Reference(window) => window.record(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn a_small_cut_is_worth_a_write_only_if_a_queue_would_stand_without_it() {
        let mut command = RateCommand::new();
        command.issue(CommandId(1), BitsPerSecond::from_mbps(100), at(0));
        let mut budget =
            Some(HardBudget::new(WriteBudgetConfig { per_second: 6, per_minute: 120 }));
        let mut may_cut = |kbps: u64, is_urgent| {
            let (rate, ceiling) = (BitsPerSecond::new(kbps * 1000), BitsPerSecond::from_mbps(200));
            let wanted = Wanted { rate, ceiling, reason: RateReason::Queue, is_urgent };
            may_change(&mut budget, &command, &wanted, at(1))
        };
        assert!(may_cut(98_000, false) && !may_cut(99_000, false), "1.5 % with full buckets");
        assert!(may_cut(99_000, true), "a queue stands");
        assert!(!may_cut(99_800, true), "0.2 % empties nothing");
        budget.iter_mut().for_each(|budget| (0..3).for_each(|_| budget.record(at(1))));
        let (rate, ceiling) = (BitsPerSecond::from_mbps(50), BitsPerSecond::from_mbps(200));
        let wanted = Wanted { rate, ceiling, reason: RateReason::Queue, is_urgent: true };
        assert!(!may_change(&mut budget, &command, &wanted, at(1)), "the budget is hard");
    }
}
