//! The worker thread: first contact, serving orders, the last writes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wanctl_core::tick::Outcome;
use wanctl_core::units::{BitsPerSecond, Direction, PerDirection, WanId};

use super::accord::Finding;
use super::client::Client;
use super::error::RouterError;
use super::model::{Queue, RouterIdentity, Written};
use super::steer::{Steerer, SteeringRules};
use super::trouble::Trouble;
use super::watch::Watch;
use crate::clock;
use crate::shaping::{
    Accord, Backend, BackendStatus, Desk, FinalRate, Identity, Renewal, Waiting, Work,
};

/// The pause after the first failure of an episode. Long enough for the router's web server to
/// recover from a request that was given up.
pub(crate) const BACK_OFF_MIN: Duration = Duration::from_millis(500);
/// The longest pause between two requests to a router that fails.
pub(crate) const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// So many refusals in a row are believed. The pauses between them are together longer than the
/// 2.4 s for which a router has been seen to give answers to the wrong client.
const REFUSALS_MAX: u32 = 4;

/// Doubling pauses.
#[derive(Debug)]
pub(crate) struct BackOff(Duration);

impl BackOff {
    pub(crate) const fn new() -> Self {
        Self(BACK_OFF_MIN)
    }

    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = pause.saturating_mul(2).min(BACK_OFF_MAX);
        pause
    }
}

/// What is left to do before the end.
#[derive(Debug, Clone, Copy)]
enum Last {
    Rate(FinalRate),
    SteeringOff,
}

/// A queue to be controlled.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// The router's id of it, until it proves wrong.
    pub(crate) id: Option<String>,
    /// When its counters were handed over last.
    pub(crate) counted: Option<Instant>,
    pub(crate) accord: Accord,
    /// What was wrong at the last look.
    pub(crate) finding: Option<Finding>,
    /// What keeps it from being written.
    pub(crate) trouble: Option<Trouble>,
}

/// An episode of failures.
#[derive(Debug)]
struct Failing {
    since: embassy_time::Instant,
    /// What kind of failure was told last.
    kind: std::mem::Discriminant<RouterError>,
    /// Whether only a write can show that it is over.
    until_written: bool,
}

/// A router to be controlled.
#[derive(Debug)]
pub struct RouterOs {
    client: Client,
    queues: Vec<PerDirection<String>>,
    steering: SteeringRules,
    counter_interval: Duration,
}

impl RouterOs {
    /// Makes a router of its client. `queues` holds the queue names per WAN, the position being the
    /// [`WanId`]. Their counters are read about every `counter_interval`, between writes.
    #[must_use]
    pub const fn new(
        client: Client,
        queues: Vec<PerDirection<String>>,
        steering: SteeringRules,
        counter_interval: Duration,
    ) -> Self {
        Self { client, queues, steering, counter_interval }
    }
}

impl Backend for RouterOs {
    fn thread_name(&self) -> &'static str {
        "router"
    }

    fn leaves_steering(&self) -> bool {
        Steerer::new(self.steering.clone()).leaves_something()
    }

    fn run(self, desk: Arc<Desk>) {
        let watch = Watch::new(self.counter_interval);
        Server::new(self.client, self.queues, self.steering, watch, desk).run();
    }
}

impl From<RouterIdentity> for Identity {
    fn from(identity: RouterIdentity) -> Self {
        let RouterIdentity { name, version, board } = identity;
        Self { name, version, board }
    }
}

/// The state of the worker thread.
#[derive(Debug)]
pub(crate) struct Server {
    client: Client,
    pub(crate) targets: Vec<PerDirection<Target>>,
    pub(crate) steerer: Steerer,
    pub(crate) desk: Arc<Desk>,
    pub(crate) watch: Watch,
    /// Known after the first contact.
    identity: Option<RouterIdentity>,
    /// Whether any write has ever succeeded.
    pub(crate) has_written: bool,
    failing: Option<Failing>,
    back_off: BackOff,
    /// Refusals in a row that would end it.
    refusals: u32,
}

impl Server {
    pub(crate) fn new(
        client: Client,
        queues: Vec<PerDirection<String>>,
        steering: SteeringRules,
        watch: Watch,
        desk: Arc<Desk>,
    ) -> Self {
        let target = |name| Target {
            name,
            id: None,
            counted: None,
            accord: Accord::default(),
            finding: None,
            trouble: None,
        };
        let targets = queues
            .into_iter()
            .map(|wan| PerDirection { download: target(wan.download), upload: target(wan.upload) })
            .collect();
        Self {
            client,
            targets,
            steerer: Steerer::new(steering),
            desk,
            watch,
            identity: None,
            has_written: false,
            failing: None,
            back_off: BackOff::new(),
            refusals: 0,
        }
    }

    /// Runs until the desk says stop or an error shows that control is impossible.
    pub(crate) fn run(mut self) {
        match self.contact().and_then(|()| self.serve()) {
            Ok(()) => self.write_final_rates(),
            Err(error) => {
                tracing::error!(%error, "the router cannot be controlled");
                self.desk.set_fatal(error.into());
            }
        }
        self.desk.end();
    }

    /// Repeats the first contact until it succeeds or the worker shall end.
    fn contact(&mut self) -> Result<(), RouterError> {
        while let Err(error) = self.look_up_everything() {
            if self.is_final(&error) {
                return Err(error);
            }
            self.note_failure(&error, false);
            if self.desk.pause(self.back_off.next()) {
                return Ok(());
            }
            if let Some(renewal) = self.desk.take_renewal() {
                self.renew(*renewal);
            }
        }
        Ok(())
    }

    /// Goes on with another login.
    fn renew(&mut self, renewal: Renewal) {
        self.client = renewal.client;
        (self.back_off, self.refusals) = (BackOff::new(), 0);
        self.watch.renew(renewal.counter_interval);
        self.steerer.look_now();
        self.end_all_rests();
        tracing::info!("the router's login is renewed");
    }

    /// Returns whether an error ends the worker. The router's own word is believed when it has been
    /// said often enough: for a moment after a boot or an abandoned request it tells anything.
    pub(crate) fn is_final(&mut self, error: &RouterError) -> bool {
        if self.has_written || !error.is_fatal() {
            self.refusals = 0;
            return false;
        }
        self.refusals += 1;
        error.is_local() || self.refusals >= REFUSALS_MAX
    }

    /// Carries out orders, and looks at the queues between them, until the worker shall end.
    fn serve(&mut self) -> Result<(), RouterError> {
        while let Some(work) = self.desk.next_work(self.look_due()) {
            match work {
                Work::Write(waiting) => self.carry_out(&waiting)?,
                Work::Steer(waiting) => self.carry_out_steering(&waiting)?,
                Work::Renew(renewal) => self.renew(*renewal),
                Work::Look if self.steerer.is_due() => self.look_at_rules(),
                Work::Look => self.look(),
            }
        }
        Ok(())
    }

    /// Returns when queues or rules are to be looked at next.
    fn look_due(&self) -> Instant {
        self.steerer.due().map_or(self.watch.due(), |due| due.min(self.watch.due()))
    }

    fn carry_out(&mut self, waiting: &Waiting) -> Result<(), RouterError> {
        let order = waiting.order;
        let written = self.write(order.wan, order.direction, order.rate);
        if let Ok(target) = self.target(usize::from(order.wan.0), order.direction) {
            target.accord.held = written.as_ref().ok().copied();
        }
        match written {
            Ok(held) => self.desk.reply(waiting, Outcome::Applied(held)),
            Err(error) => {
                self.desk.reply(waiting, Outcome::Failed);
                if self.is_final(&error) {
                    return Err(error);
                }
                self.note_failed_write(order.wan, order.direction, &error);
            }
        }
        Ok(())
    }

    /// Leaves a router that fails alone for a while.
    pub(crate) fn pause(&mut self) {
        self.desk.pause(self.back_off.next());
    }

    /// Switches steering off and writes each final rate, until it is confirmed, waiting cannot help,
    /// or the time is over.
    fn write_final_rates(&mut self) {
        let Some((rates, deadline)) = self.desk.final_rates() else { return };
        (self.back_off, self.refusals) = (BackOff::new(), 0);
        let steering = self.steerer.leaves_something().then_some(Last::SteeringOff);
        let mut open: VecDeque<Last> =
            steering.into_iter().chain(rates.into_iter().map(Last::Rate)).collect();
        while let Some(last) = open.pop_front() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let done = self.ensure_contact().and_then(|()| self.write_last(last));
            if let Err(error) = done {
                match last {
                    Last::Rate((wan, direction, _)) => {
                        let queue = self.target(usize::from(wan.0), direction);
                        let queue = queue.map(|target| target.name.as_str()).unwrap_or_default();
                        tracing::warn!(queue, %error, "the final rate is not confirmed");
                    }
                    Last::SteeringOff => tracing::warn!(%error, "steering is not confirmed off"),
                }
                // A router that has just booted is not believed here either.
                if error.is_fatal() && (self.has_written || self.is_final(&error)) {
                    self.desk.set_fatal(error.into());
                } else {
                    open.push_back(last);
                    std::thread::sleep(self.back_off.next().min(left));
                }
            }
        }
    }

    fn write_last(&mut self, last: Last) -> Result<(), RouterError> {
        match last {
            Last::Rate((wan, direction, rate)) => {
                let held = self.write(wan, direction, rate)?;
                self.desk.confirm((wan, direction, held));
            }
            Last::SteeringOff => {
                self.steer(None)?;
                self.desk.confirm_steering_off();
            }
        }
        Ok(())
    }

    fn ensure_contact(&mut self) -> Result<(), RouterError> {
        if self.identity.is_some() { Ok(()) } else { self.look_up_everything() }
    }

    /// Finds the router, all queues and all steering rules; nothing is written before this has succeeded once.
    fn look_up_everything(&mut self) -> Result<(), RouterError> {
        let identity = self.call(Client::identify)?;
        for wan in 0..self.targets.len() {
            for direction in Direction::BOTH {
                self.look_up(wan, direction)?;
            }
        }
        self.look_up_rules()?;
        let RouterIdentity { name, version, board } = &identity;
        tracing::info!(name, version, board, "router found");
        self.identity = Some(identity);
        self.note_success(true);
        Ok(())
    }

    /// Asks the router for the id of a queue and remembers it.
    fn look_up(&mut self, wan: usize, direction: Direction) -> Result<String, RouterError> {
        let name = self.target(wan, direction)?.name.clone();
        let Queue { id, max_limit, queue_type, parent, disabled, invalid, .. } =
            self.call(|client| client.find_queue(&name))?;
        let rate = max_limit.get();
        tracing::info!(queue = name, id, max_limit = rate, queue_type, parent, "queue found");
        if disabled || invalid {
            tracing::warn!(queue = name, disabled, invalid, "the queue does not shape");
        }
        self.target(wan, direction)?.id = Some(id.clone());
        if let (None, Ok(wan)) = (&self.identity, u8::try_from(wan)) {
            self.desk.note_found((WanId(wan), direction, max_limit));
        }
        Ok(id)
    }

    /// Writes one rate. An id that has become wrong is looked up again, once.
    pub(crate) fn write(
        &mut self,
        wan: WanId,
        direction: Direction,
        rate: BitsPerSecond,
    ) -> Result<BitsPerSecond, RouterError> {
        let wan = usize::from(wan.0);
        let known = self.target(wan, direction)?.id.clone();
        let written = match known {
            Some(id) => self.write_to(&id, wan, direction, rate),
            None => {
                let id = self.look_up(wan, direction)?;
                self.write_to(&id, wan, direction, rate)
            }
        };
        match written {
            Err(error) if error.is_stale_id() => {
                tracing::warn!(%error, "looking the queue up again");
                let id = self.look_up(wan, direction)?;
                self.write_to(&id, wan, direction, rate)
            }
            other => other,
        }
    }

    fn write_to(
        &mut self,
        id: &str,
        wan: usize,
        direction: Direction,
        rate: BitsPerSecond,
    ) -> Result<BitsPerSecond, RouterError> {
        let name = self.target(wan, direction)?.name.clone();
        let begin = Instant::now();
        let written = self.call(|client| client.set_max_limit(id, &name, rate));
        match &written {
            Ok(Written { held, counters }) => {
                tracing::debug!(queue = name, wanted = rate.get(), held = held.get(), "written");
                self.has_written = true;
                self.end_trouble(wan, direction);
                if let Some(counters) = *counters {
                    // The router makes the record after it has written.
                    self.counted(wan, direction, counters, begin.elapsed(), Duration::ZERO);
                }
                self.note_success(true);
            }
            Err(error) if error.is_stale_id() => self.target(wan, direction)?.id = None,
            Err(_) => {}
        }
        written.map(|written| written.held)
    }

    pub(crate) fn target(
        &mut self,
        wan: usize,
        direction: Direction,
    ) -> Result<&mut Target, RouterError> {
        let target = self.targets.get_mut(wan).map(|wan| wan.get_mut(direction));
        target.ok_or_else(|| RouterError::BadTarget(format!("WAN {wan} has no queues")))
    }

    /// Makes one request and counts it.
    pub(crate) fn call<T>(
        &self,
        request: impl FnOnce(&Client) -> Result<T, RouterError>,
    ) -> Result<T, RouterError> {
        let begin = Instant::now();
        let result = request(&self.client);
        self.desk.count_request(begin.elapsed(), result.is_err());
        result
    }

    pub(crate) fn note_failure(&mut self, error: &RouterError, is_write: bool) {
        // Once per episode, and again when the cause is another one.
        let kind = std::mem::discriminant(error);
        if self.failing.as_ref().is_none_or(|failing| failing.kind != kind) {
            tracing::warn!(%error, "the router fails, trying again");
        } else {
            tracing::debug!(%error, "the router still fails");
        }
        let since = self.failing.as_ref().map_or_else(clock::now, |failing| failing.since);
        let until_written = is_write && error.is_answer();
        self.failing = Some(Failing { since, kind, until_written });
        self.desk.set_status(BackendStatus::Failing { since, error: error.to_string() });
    }

    /// Ends an episode of failures, unless it takes a write for that.
    pub(crate) fn note_success(&mut self, is_write: bool) {
        let Some(identity) = &self.identity else { return };
        match &self.failing {
            Some(failing) if failing.until_written && !is_write => return,
            Some(_) => {
                tracing::info!(router = identity.name, "the router works again");
                self.watch.look_now();
                self.steerer.look_now();
                self.end_all_rests();
            }
            None if self.has_written => return, // the status says so already
            None => {}
        }
        self.failing = None;
        self.back_off = BackOff::new();
        self.show_status();
    }

    /// Tells how a router is that answers.
    pub(crate) fn show_status(&self) {
        let (None, Some(identity)) = (&self.failing, self.identity.clone()) else { return };
        let good = || BackendStatus::Ready { identity: identity.into() };
        self.desk.set_status(self.troubled_status().unwrap_or_else(good));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_to_its_limit() {
        let mut back_off = BackOff::new();
        let pauses: Vec<u128> = (0..8).map(|_| back_off.next().as_millis()).collect();
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    }
}
