//! The worker that moves the shapers as the rest of the daemon sees it.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;
use std::{fmt, io};

use wanctl_core::tick::Tick;

use super::Backend;
use super::desk::Desk;
use super::orders::{Complaint, FinalRate, RateOrder, Renewal, SteeringOrder};
use crate::config::show_rate;
use crate::exit::Failure;

/// What moves the shapers, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name its owner gave it.
    pub name: String,
    /// The version of its system; empty if not told.
    pub version: String,
    /// The model; empty if not told.
    pub board: String,
}

/// How the shapers' keeper is doing: the router, or this machine's kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendStatus {
    /// The first contact is being made.
    Connecting,
    /// It is known and the last request succeeded.
    Ready {
        /// Who it is.
        identity: Identity,
    },
    /// The last request failed; the next one follows after a pause.
    Failing {
        /// When the failures began, in the daemon's monotonic time.
        since: embassy_time::Instant,
        /// The latest failure.
        error: String,
    },
    /// The worker has given up, see [`Worker::fatal`].
    Failed {
        /// Why.
        error: String,
    },
}

impl fmt::Display for BackendStatus {
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

/// What the requests have been like since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounters {
    /// Requests that ended, of whatever kind; asking who a router is counts as one.
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
    /// What the shapers hold now, as they said themselves.
    pub confirmed: Vec<FinalRate>,
    /// Final rates that were not confirmed; the shapers may hold them or the rates before.
    pub unconfirmed: Vec<FinalRate>,
    /// Whether all steering rules are switched off, as the router said itself; `None` when there was
    /// nothing to switch off.
    pub steering_off: Option<bool>,
    /// Whether the deadline passed during a request. Its thread was left behind.
    pub timed_out: bool,
    /// Why something was given up before the deadline.
    pub refusal: Option<Failure>,
}

impl FinishReport {
    /// Returns whether everything is as it was to be left, as was read back.
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

/// Moves shapers through a [`Backend`], on a thread of its own, one request at a time.
///
/// Dropping it without [`Worker::finish`] ends the thread after the request in flight and
/// does not wait for that.
#[derive(Debug)]
pub struct Worker {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
    has_steering: bool,
}

/// What the worker is doing, for everybody who watches.
#[derive(Debug, Clone)]
pub struct BackendView(Arc<Desk>);

impl BackendView {
    /// Returns how router or kernel are doing.
    #[must_use]
    pub fn status(&self) -> BackendStatus {
        self.0.status()
    }

    /// Returns what the requests have been like.
    #[must_use]
    pub fn counters(&self) -> RequestCounters {
        self.0.counters()
    }

    /// Makes the worker go on with another login to the same router, after the request under way, and
    /// with another time between two looks at the queues.
    pub fn renew(&self, renewal: Renewal) {
        self.0.renew(renewal);
    }

    /// Returns the shapers and mangle rules that somebody else keeps changing and which are therefore
    /// left alone between decisions.
    #[must_use]
    pub fn disputed(&self) -> Vec<String> {
        self.0.disputed()
    }

    /// Returns what is wrong with queues and rules, as of the latest look at them.
    #[must_use]
    pub fn complaints(&self) -> Vec<Complaint> {
        self.0.complaints()
    }
}

impl fmt::Display for BackendView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status())?;
        for queue in self.disputed() {
            write!(f, ", somebody keeps changing {queue}")?;
        }
        for complaint in self.complaints() {
            write!(f, ", {}", complaint.text)?;
        }
        Ok(())
    }
}

impl Worker {
    /// Starts the thread. The backend looks up everything it is to change before the first write.
    ///
    /// # Errors
    ///
    /// The system's error if it allows no further thread.
    pub fn start(backend: impl Backend) -> io::Result<Self> {
        let desk = Arc::new(Desk::new());
        let has_steering = backend.leaves_steering();
        let (name, given) = (backend.thread_name().to_owned(), Arc::clone(&desk));
        let thread = Builder::new().name(name).spawn(move || backend.run(given))?;
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

    /// Returns how router or kernel are doing.
    #[must_use]
    pub fn status(&self) -> BackendStatus {
        self.desk.status()
    }

    /// Returns what the requests have been like.
    #[must_use]
    pub fn counters(&self) -> RequestCounters {
        self.desk.counters()
    }

    /// Returns what others may see.
    #[must_use]
    pub fn view(&self) -> BackendView {
        BackendView(Arc::clone(&self.desk))
    }

    /// Returns why control is impossible: set when waiting cannot help and no write has ever
    /// succeeded. Later such errors are reported and retried, as a running daemon must outlive any
    /// hiccup.
    #[must_use]
    pub fn fatal(&self) -> Option<Failure> {
        self.desk.fatal()
    }

    /// Returns the rates that were found before the first write.
    #[must_use]
    pub fn found(&self) -> Vec<FinalRate> {
        self.desk.found()
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
        let refusal = self.desk.fatal();
        FinishReport { confirmed, unconfirmed, steering_off, timed_out: !is_ended, refusal }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.desk.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routeros::RouterError;

    #[test]
    fn a_status_leaves_the_advice_of_an_error_out() {
        let (url, detail) = ("https://router".to_owned(), "refused".to_owned());
        let error = RouterError::Unreachable { url, detail }.to_string();
        assert!(error.contains("hint") && !error.contains('\n'), "{error}");
        let status = BackendStatus::Failing { since: embassy_time::Instant::MIN, error };
        let expected = "failing: router https://router cannot be reached: refused";
        assert_eq!(status.to_string(), expected);
    }
}
