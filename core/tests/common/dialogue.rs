//! The dialogue with the router, kept account of from outside the core.

use embassy_time::Instant;
use wanctl_core::command::COMMAND_TIMEOUT;
use wanctl_core::config::WriteLimit;
use wanctl_core::outputs::Event;
use wanctl_core::tick::{Outcome, Reply};
use wanctl_core::units::{BitsPerSecond, CommandId, Direction, WanId};

/// What is known from outside about one direction's commands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Commanded {
    pub(crate) rate: Option<BitsPerSecond>,
    confirmed: Option<BitsPerSecond>,
    /// The highest rate the router may hold while `rate` is unknown.
    highest: Option<BitsPerSecond>,
    pub(crate) in_flight: Option<(CommandId, BitsPerSecond, Instant)>,
}

/// How a command ended; the latest one of a direction ends exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Confirmed(Direction, BitsPerSecond),
    Failed(Direction, BitsPerSecond),
    TimedOut(Direction, BitsPerSecond),
}

impl End {
    /// Returns the end that an event tells.
    pub(crate) fn told_by(event: &Event, id: WanId) -> Option<Self> {
        match *event {
            Event::RateConfirmed { wan, direction, rate, .. } if wan == id => {
                Some(Self::Confirmed(direction, rate))
            }
            Event::WriteFailed { wan, direction, rate } if wan == id => {
                Some(Self::Failed(direction, rate))
            }
            Event::WriteTimedOut { wan, direction, rate } if wan == id => {
                Some(Self::TimedOut(direction, rate))
            }
            _ => None,
        }
    }
}

impl Commanded {
    /// Takes an answer of the router.
    pub(crate) fn take(&mut self, reply: &Reply) -> Option<End> {
        if let Outcome::Applied(rate) = reply.outcome {
            self.confirmed = Some(rate);
        }
        let (_, rate, _) = self.in_flight.take_if(|(id, ..)| *id == reply.id)?;
        match reply.outcome {
            Outcome::Applied(rate) => {
                self.highest = None;
                Some(End::Confirmed(reply.direction, rate))
            }
            Outcome::Failed | Outcome::Superseded => {
                self.lose(rate);
                Some(End::Failed(reply.direction, rate))
            }
        }
    }

    /// Gives up a command that waits for too long.
    pub(crate) fn expire(&mut self, direction: Direction, now: Instant) -> Option<End> {
        let expired = |(_, _, since): &mut (_, _, Instant)| now - *since >= COMMAND_TIMEOUT;
        let (_, rate, _) = self.in_flight.take_if(expired)?;
        self.lose(rate);
        Some(End::TimedOut(direction, rate))
    }

    fn lose(&mut self, rate: BitsPerSecond) {
        self.rate = None;
        self.highest = self.highest.max(self.confirmed.map(|confirmed| confirmed.max(rate)));
    }

    /// Returns whether this rate may be below what the router holds.
    pub(crate) fn may_be_lowered_by(&self, wanted: BitsPerSecond) -> bool {
        self.rate.or(self.highest).is_none_or(|held| wanted < held)
    }
}

/// The write budget counted from outside: tokens for `writes` per window, an eighth kept for cuts.
#[derive(Debug)]
pub(crate) struct Tokens {
    limit: WriteLimit,
    /// In µs of the window times writes, so that nothing is rounded.
    level: u128,
    counted: Option<Instant>,
}

impl Tokens {
    /// Starts with all tokens there.
    pub(crate) fn new(limit: WriteLimit) -> Self {
        let level = u128::from(limit.window.as_micros()) * u128::from(limit.writes);
        Self { limit, level, counted: None }
    }

    /// Lets tokens come.
    pub(crate) fn pass_time(&mut self, now: Instant) {
        let writes = u128::from(self.limit.writes);
        let full = writes * u128::from(self.limit.window.as_micros());
        let passed = self.counted.map_or(0, |counted| (now - counted).as_micros());
        self.level = (self.level + u128::from(passed) * writes).min(full);
        self.counted = Some(now);
    }

    /// Returns whether a raise leaves enough for cuts.
    pub(crate) fn can_raise(&self) -> bool {
        let needed = u128::from(self.limit.writes / 8 + 1);
        self.level >= needed * u128::from(self.limit.window.as_micros())
    }

    /// Counts a write.
    pub(crate) fn take_one(&mut self) {
        self.level = self.level.saturating_sub(self.limit.window.as_micros().into());
    }
}
