//! The worker of one router as the rest of the daemon sees it.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, io};

use wanctl_core::tick::Tick;
use wanctl_core::units::{BitsPerSecond, CommandId, Direction, PerDirection, WanId};

use super::client::Client;
use super::desk::{Desk, Renewal};
use super::error::RouterError;
use super::model::RouterIdentity;
use super::serve::Server;
use super::steer::{SteeringOrder, SteeringRules};
use super::watch::Watch;
use crate::config::show_rate;

/// The shaper rate of one direction of one WAN.
pub type FinalRate = (WanId, Direction, BitsPerSecond);

/// One [`wanctl_core::outputs::Action::SetRate`] for this router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateOrder {
    /// Names the order in its reply.
    pub id: CommandId,
    /// The WAN whose shaper is meant.
    pub wan: WanId,
    /// The direction whose shaper is meant.
    pub direction: Direction,
    /// The shaper rate to write.
    pub rate: BitsPerSecond,
    /// Whether this lowers the rate; cuts overtake raises.
    pub is_cut: bool,
}

/// How the router is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouterStatus {
    /// The first contact is being made.
    Connecting,
    /// The router is known and the last request succeeded.
    Ready {
        /// Who it is.
        identity: RouterIdentity,
    },
    /// The last request failed; the next one follows after a pause.
    Failing {
        /// When the failures began, in the daemon's monotonic time.
        since: embassy_time::Instant,
        /// The latest failure.
        error: String,
    },
    /// The worker has given up, see [`RouterWorker::fatal`].
    Failed {
        /// Why.
        error: String,
    },
}

impl fmt::Display for RouterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The advice of an error is in the log already.
        let what = |error: &str| error.split("; hint:").next().unwrap_or_default().to_owned();
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Ready { identity } => write!(f, "{} ready", identity.name),
            Self::Failing { error, .. } => write!(f, "failing: {}", what(error)),
            Self::Failed { error } => write!(f, "given up: {}", what(error)),
        }
    }
}

/// What the requests to a router have been like since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounters {
    /// Requests that ended, of whatever kind; asking who the router is counts as one.
    pub requests: u64,
    /// Those among them that failed.
    pub failures: u64,
    /// How long the latest took, in µs.
    pub last_us: u32,
    /// How long the slowest took, in µs.
    pub worst_us: u32,
}

/// How the last writes went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FinishReport {
    /// What the router holds now, as it said itself.
    pub confirmed: Vec<FinalRate>,
    /// Final rates that were not confirmed; the router may hold them or the rates before.
    pub unconfirmed: Vec<FinalRate>,
    /// Whether all steering rules are switched off, as the router said itself; `None` when there was
    /// nothing to switch off.
    pub steering_off: Option<bool>,
    /// Whether the deadline passed during a request. Its thread was left behind.
    pub timed_out: bool,
}

impl FinishReport {
    /// Returns whether the router holds everything it was left with, as it said itself.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.unconfirmed.is_empty() && self.steering_off != Some(false)
    }
}

impl fmt::Display for FinishReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |rates: &[FinalRate]| {
            let one = |(_, direction, rate): &FinalRate| {
                format!("{} {}", direction.name(), show_rate(*rate))
            };
            rates.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        match (self.confirmed.as_slice(), self.unconfirmed.as_slice()) {
            ([], []) => f.write_str("the router keeps its rates")?,
            (confirmed, []) => write!(f, "the router holds {}", list(confirmed))?,
            (_, unconfirmed) => write!(f, "not confirmed by the router: {}", list(unconfirmed))?,
        }
        match self.steering_off {
            Some(true) => f.write_str("; steering is off")?,
            Some(false) => f.write_str("; steering is not confirmed off")?,
            None => {}
        }
        if self.timed_out { f.write_str("; a request was still unanswered") } else { Ok(()) }
    }
}

/// Writes shaper rates and steering rules to one router, on a thread of its own, one request at a time.
///
/// Dropping it without [`RouterWorker::finish`] ends the thread after the request in flight and
/// does not wait for that.
#[derive(Debug)]
pub struct RouterWorker {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
    has_steering: bool,
}

/// What a router's worker is doing, for everybody who watches.
#[derive(Debug, Clone)]
pub struct RouterView(Arc<Desk>);

impl RouterView {
    /// Returns how the router is doing.
    #[must_use]
    pub fn status(&self) -> RouterStatus {
        self.0.status()
    }

    /// Returns what the requests have been like.
    #[must_use]
    pub fn counters(&self) -> RequestCounters {
        self.0.counters()
    }

    /// Makes the worker go on with another login to the same router, after the request under way, and
    /// with another time between two looks at the queues.
    pub fn renew(&self, client: Client, counter_interval: Duration) {
        self.0.renew(Renewal { client, counter_interval });
    }

    /// Returns the queues and mangle rules that somebody else keeps changing and which are therefore
    /// left alone between decisions.
    #[must_use]
    pub fn disputed(&self) -> Vec<String> {
        self.0.disputed()
    }
}

impl fmt::Display for RouterView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status())?;
        for queue in self.disputed() {
            write!(f, ", somebody keeps changing {queue}")?;
        }
        Ok(())
    }
}

impl RouterWorker {
    /// Starts the thread, which looks up the router, every queue and every steering rule before the
    /// first write.
    ///
    /// `queues` holds the queue names per WAN, the position being the [`WanId`]. Their counters are
    /// read about every `counter_interval`, between writes.
    ///
    /// # Errors
    ///
    /// The system's error if it allows no further thread.
    pub fn start(
        client: Client,
        queues: Vec<PerDirection<String>>,
        steering: SteeringRules,
        counter_interval: Duration,
    ) -> io::Result<Self> {
        let desk = Arc::new(Desk::new());
        let watch = Watch::new(counter_interval);
        let server = Server::new(client, queues, steering, watch, Arc::clone(&desk));
        let has_steering = server.steerer.leaves_something();
        let thread = Builder::new().name("router".to_owned()).spawn(move || server.run())?;
        Ok(Self { desk, thread: Some(thread), has_steering })
    }

    /// Takes an order; never blocks and allocates nothing. An order of the same direction that has
    /// not been sent yet is replaced and answered as superseded.
    pub fn set_rate(&self, order: RateOrder) {
        self.desk.give(order);
    }

    /// Takes a steering order; never blocks and allocates nothing.
    pub fn steer(&self, order: SteeringOrder) {
        self.desk.give_steering(order);
    }

    /// Moves replies into the tick, as many as it has room for, and the latest counters.
    pub fn drain(&self, tick: &mut Tick) {
        self.desk.drain(tick);
    }

    /// Returns how the router is doing.
    #[must_use]
    pub fn status(&self) -> RouterStatus {
        self.desk.status()
    }

    /// Returns what the requests have been like.
    #[must_use]
    pub fn counters(&self) -> RequestCounters {
        self.desk.counters()
    }

    /// Returns what others may see.
    #[must_use]
    pub fn view(&self) -> RouterView {
        RouterView(Arc::clone(&self.desk))
    }

    /// Returns why control is impossible: set when waiting cannot help and no write has ever
    /// succeeded. Later such errors are reported and retried, as a running daemon must outlive any
    /// hiccup of its router.
    #[must_use]
    pub fn fatal(&self) -> Option<RouterError> {
        self.desk.fatal()
    }

    /// Takes no more orders, switches steering off and writes the final rates after the request in flight, and ends the
    /// thread. Returns at the deadline even if the router never answers.
    #[must_use]
    pub fn finish(mut self, final_rates: Vec<FinalRate>, deadline: Instant) -> FinishReport {
        self.desk.stop(final_rates.clone(), deadline);
        let (is_ended, confirmed) = self.desk.wait_ended(deadline);
        if let Some(thread) = self.thread.take_if(|_| is_ended) {
            let _ = thread.join();
        }
        let is_open =
            |rate: &FinalRate| !confirmed.iter().any(|held| (held.0, held.1) == (rate.0, rate.1));
        let unconfirmed = final_rates.into_iter().filter(is_open).collect();
        let steering_off = self.has_steering.then(|| self.desk.is_steering_off());
        FinishReport { confirmed, unconfirmed, steering_off, timed_out: !is_ended }
    }
}

impl Drop for RouterWorker {
    fn drop(&mut self) {
        self.desk.stop(Vec::new(), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_leaves_the_advice_of_an_error_out() {
        let (url, detail) = ("https://router".to_owned(), "refused".to_owned());
        let error = RouterError::Unreachable { url, detail }.to_string();
        assert!(error.contains("hint") && !error.contains('\n'), "{error}");
        let status = RouterStatus::Failing { since: embassy_time::Instant::MIN, error };
        let expected = "failing: router https://router cannot be reached: refused";
        assert_eq!(status.to_string(), expected);
    }
}
