//! What was wanted, commanded and confirmed: the dialogue with the router about one shaper rate.

use embassy_time::{Duration, Instant};
use serde::{Deserialize, Serialize};

use crate::tick::Outcome;
use crate::units::{BitsPerSecond, CommandId};

/// A command without an answer for this long is given up and decided again.
///
/// RouterOS itself ends every REST request after 60 s at the latest; the shell gives up sooner.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// A command that has not been answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct InFlight {
    id: CommandId,
    rate: BitsPerSecond,
    #[serde(with = "crate::micros")]
    since: Instant,
}

/// How a reply or the passing of time changed a [`RateCommand`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The router holds this rate.
    Confirmed(BitsPerSecond),
    /// This rate may or may not have arrived.
    Failed(BitsPerSecond),
    /// Nothing changed: the reply belongs to a command that was replaced meanwhile.
    Ignored,
}

/// The commands of one direction of one WAN. Only the latest one counts.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct RateCommand {
    /// The rate last handed to the shell; `None` when what the router holds is unknown.
    commanded: Option<BitsPerSecond>,
    confirmed: Option<BitsPerSecond>,
    /// The highest rate the router may hold, while `commanded` is unknown.
    highest_possible: Option<BitsPerSecond>,
    in_flight: Option<InFlight>,
    ever_issued: bool,
}

impl RateCommand {
    /// Makes a direction nothing was ever commanded for.
    pub(crate) const fn new() -> Self {
        Self {
            commanded: None,
            confirmed: None,
            highest_possible: None,
            in_flight: None,
            ever_issued: false,
        }
    }

    /// Returns the rate last commanded, unless its fate is unknown.
    pub(crate) const fn commanded(&self) -> Option<BitsPerSecond> {
        self.commanded
    }

    /// Returns what the router most likely holds: the rate last commanded or, if its fate is
    /// unknown, the one last confirmed.
    pub(crate) fn presumed(&self) -> Option<BitsPerSecond> {
        self.commanded.or(self.confirmed)
    }

    /// Returns the rate the router last confirmed.
    pub(crate) const fn confirmed(&self) -> Option<BitsPerSecond> {
        self.confirmed
    }

    /// Returns whether writing `wanted` lowers, or may lower, what the router holds.
    pub(crate) fn is_cut(&self, wanted: BitsPerSecond) -> bool {
        match self.commanded {
            Some(commanded) => wanted < commanded,
            None => self.highest_possible.is_none_or(|highest| wanted < highest),
        }
    }

    /// Returns whether a command waits for its answer.
    pub(crate) const fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Returns whether any command was ever issued.
    pub(crate) const fn was_ever_issued(&self) -> bool {
        self.ever_issued
    }

    /// Notes a command that leaves now.
    pub(crate) const fn issue(&mut self, id: CommandId, rate: BitsPerSecond, now: Instant) {
        self.commanded = Some(rate);
        self.in_flight = Some(InFlight { id, rate, since: now });
        self.ever_issued = true;
    }

    /// Notes an answer.
    pub(crate) fn answer(&mut self, id: CommandId, outcome: Outcome) -> Ended {
        if let Outcome::Applied(rate) = outcome {
            self.confirmed = Some(rate);
        }
        let Some(command) = self.in_flight.filter(|command| command.id == id) else {
            return Ended::Ignored;
        };
        self.in_flight = None;
        match outcome {
            Outcome::Applied(rate) => {
                self.highest_possible = None;
                Ended::Confirmed(rate)
            }
            Outcome::Failed | Outcome::Superseded => {
                self.lose_track(command.rate);
                Ended::Failed(command.rate)
            }
        }
    }

    /// Gives up a command that has been waiting for [`COMMAND_TIMEOUT`]; returns its rate.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<BitsPerSecond> {
        let command = self.in_flight?;
        let waited = now.checked_duration_since(command.since)?;
        if waited < COMMAND_TIMEOUT {
            return None;
        }
        self.in_flight = None;
        self.lose_track(command.rate);
        Some(command.rate)
    }

    /// Notes that a command may or may not have had its effect. Before the first confirmation there
    /// is no knowing what the router holds, so every write may be a cut.
    fn lose_track(&mut self, rate: BitsPerSecond) {
        self.commanded = None;
        let before = self.confirmed.map(|confirmed| confirmed.max(rate));
        self.highest_possible = before.max(self.highest_possible);
    }
}
