//! The worker thread: first contact, serving orders, the last writes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wanctl_core::tick::Outcome;
use wanctl_core::units::{BitsPerSecond, Direction, PerDirection, WanId};

use super::client::Client;
use super::desk::{Desk, Waiting, Work};
use super::error::RouterError;
use super::model::{Queue, RouterIdentity};
use super::steer::{Steerer, SteeringRules};
use super::worker::{FinalRate, RouterStatus};
use crate::clock;

/// The pause after the first failure of an episode. Long enough for the router's web server to
/// recover from a request that was given up.
pub(crate) const BACK_OFF_MIN: Duration = Duration::from_millis(500);
/// The longest pause between two requests to a router that fails.
pub(crate) const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// Doubling pauses.
#[derive(Debug)]
struct BackOff(Duration);

impl BackOff {
    const fn new() -> Self {
        Self(BACK_OFF_MIN)
    }

    fn next(&mut self) -> Duration {
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
struct Target {
    name: String,
    /// The router's id of it, until it proves wrong.
    id: Option<String>,
}

/// The state of the worker thread.
#[derive(Debug)]
pub(crate) struct Server {
    client: Client,
    targets: Vec<PerDirection<Target>>,
    pub(super) steerer: Steerer,
    pub(super) desk: Arc<Desk>,
    /// Known after the first contact.
    identity: Option<RouterIdentity>,
    /// Whether any write has ever succeeded.
    pub(super) has_written: bool,
    failing_since: Option<embassy_time::Instant>,
    /// What kind of failure was told last.
    failing_kind: Option<std::mem::Discriminant<RouterError>>,
    back_off: BackOff,
}

impl Server {
    pub(crate) fn new(
        client: Client,
        queues: Vec<PerDirection<String>>,
        steering: SteeringRules,
        desk: Arc<Desk>,
    ) -> Self {
        let target = |name| Target { name, id: None };
        let targets = queues
            .into_iter()
            .map(|wan| PerDirection { download: target(wan.download), upload: target(wan.upload) })
            .collect();
        Self {
            client,
            targets,
            steerer: Steerer::new(steering),
            desk,
            identity: None,
            has_written: false,
            failing_since: None,
            failing_kind: None,
            back_off: BackOff::new(),
        }
    }

    /// Runs until the desk says stop or an error shows that control is impossible.
    pub(crate) fn run(mut self) {
        match self.contact().and_then(|()| self.serve()) {
            Ok(()) => self.write_final_rates(),
            Err(error) => {
                tracing::error!(%error, "the router cannot be controlled");
                self.desk.set_fatal(error);
            }
        }
        self.desk.end();
    }

    /// Repeats the first contact until it succeeds or the worker shall end.
    fn contact(&mut self) -> Result<(), RouterError> {
        while let Err(error) = self.look_up_everything() {
            if error.is_fatal() {
                return Err(error);
            }
            self.note_failure(&error);
            if self.desk.pause(self.back_off.next()) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Carries out orders until the worker shall end.
    fn serve(&mut self) -> Result<(), RouterError> {
        while let Some(work) = self.desk.next_work() {
            match work {
                Work::Write(waiting) => self.carry_out(&waiting)?,
                Work::Steer(waiting) => self.carry_out_steering(&waiting)?,
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, waiting: &Waiting) -> Result<(), RouterError> {
        let order = waiting.order;
        match self.write(order.wan, order.direction, order.rate) {
            Ok(held) => self.desk.reply(waiting, Outcome::Applied(held)),
            Err(error) => {
                self.desk.reply(waiting, Outcome::Failed);
                if error.is_fatal() && !self.has_written {
                    return Err(error);
                }
                self.note_failure(&error);
                self.pause();
            }
        }
        Ok(())
    }

    /// Leaves a router that fails alone for a while.
    pub(super) fn pause(&mut self) {
        self.desk.pause(self.back_off.next());
    }

    /// Switches steering off and writes each final rate, until it is confirmed, waiting cannot help,
    /// or the time is over.
    fn write_final_rates(&mut self) {
        let Some((rates, deadline)) = self.desk.final_rates() else { return };
        self.back_off = BackOff::new();
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
                    Last::Rate((wan, direction, _)) => tracing::warn!(
                        wan = wan.0, direction = direction.name(), %error,
                        "the final rate is not confirmed"
                    ),
                    Last::SteeringOff => tracing::warn!(%error, "steering is not confirmed off"),
                }
                if !error.is_fatal() {
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
        self.note_success();
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
        Ok(id)
    }

    /// Writes one rate. An id that has become wrong is looked up again, once.
    fn write(
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
        let written = self.call(|client| client.set_max_limit(id, &name, rate));
        match &written {
            Ok(held) => {
                tracing::debug!(queue = name, wanted = rate.get(), held = held.get(), "written");
                self.has_written = true;
                self.note_success();
            }
            Err(error) if error.is_stale_id() => self.target(wan, direction)?.id = None,
            Err(_) => {}
        }
        written
    }

    fn target(&mut self, wan: usize, direction: Direction) -> Result<&mut Target, RouterError> {
        let target = self.targets.get_mut(wan).map(|wan| wan.get_mut(direction));
        target.ok_or_else(|| RouterError::BadTarget(format!("WAN {wan} has no queues")))
    }

    /// Makes one request and counts it.
    pub(super) fn call<T>(
        &self,
        request: impl FnOnce(&Client) -> Result<T, RouterError>,
    ) -> Result<T, RouterError> {
        let begin = Instant::now();
        let result = request(&self.client);
        self.desk.count_request(begin.elapsed(), result.is_err());
        result
    }

    pub(super) fn note_failure(&mut self, error: &RouterError) {
        // Once per episode, and again when the cause is another one.
        let kind = std::mem::discriminant(error);
        if self.failing_since.is_none() || self.failing_kind != Some(kind) {
            tracing::warn!(%error, "the router fails, trying again");
        } else {
            tracing::debug!(%error, "the router still fails");
        }
        self.failing_kind = Some(kind);
        let since = *self.failing_since.get_or_insert_with(clock::now);
        self.desk.set_status(RouterStatus::Failing { since, error: error.to_string() });
    }

    pub(super) fn note_success(&mut self) {
        let Some(identity) = self.identity.clone() else { return };
        self.back_off = BackOff::new();
        match self.failing_since.take() {
            None if self.has_written => return, // the status says so already
            None => {}
            Some(_) => tracing::info!(router = identity.name, "the router works again"),
        }
        self.desk.set_status(RouterStatus::Ready { identity });
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
