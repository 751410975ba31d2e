//! Where the tick thread and the worker that moves the shapers meet: orders one way, replies and status the
//! other. Nothing here waits for anything slow, and the lock is held for moments only.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wanctl_core::tick::{CounterReading, MAX_WANS, Outcome, Reply, SteeringReply, Tick};
use wanctl_core::units::{Direction, PerDirection, WanId};

use super::orders::{
    Complaint, FinalRate, QueueCounters, RateOrder, Renewal, SteeringOrder, WaitingSteering,
};
use super::worker::{BackendStatus, RequestCounters};
use crate::clock;
use crate::exit::Failure;

/// The most replies that wait for the tick thread: far more than one tick can cause.
const REPLIES_MAX: usize = 64;

/// An order that has not been sent yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) order: RateOrder,
    /// When it was given, in ns of [`clock::now_nanos`].
    given_ns: u64,
    /// Since when its slot has been waiting: a newer order keeps its predecessor's place.
    queued_ns: u64,
    /// Whether it, or an order it replaced before that was sent, lowers the rate.
    is_cut: bool,
}

/// What the worker does next.
#[derive(Debug)]
pub(crate) enum Work {
    /// Write a rate.
    Write(Waiting),
    /// Switch the steering rules.
    Steer(WaitingSteering),
    /// Nothing has to be written, and it is time to look at the queues.
    Look,
    /// Go on with another login.
    Renew(Box<Renewal>),
}

/// Counters with the moment they are of, in ns of [`clock::now_nanos`].
#[derive(Debug, Clone, Copy)]
struct Reading {
    counters: QueueCounters,
    at_ns: u64,
}

/// How the worker shall end.
#[derive(Debug)]
struct Stop {
    final_rates: Vec<FinalRate>,
    deadline: Instant,
    /// Whether somebody waits for that end, and wanted no other rates to be left.
    is_finish: bool,
}

#[derive(Debug)]
struct State {
    slots: [PerDirection<Option<Waiting>>; MAX_WANS],
    /// Until when the orders of a slot are not to be sent.
    rests: [PerDirection<Option<Instant>>; MAX_WANS],
    /// The latest counters that no tick has taken yet.
    readings: [PerDirection<Option<Reading>>; MAX_WANS],
    replies: VecDeque<Reply>,
    replies_dropped: u16,
    /// There is one steering command at a time.
    steering: Option<WaitingSteering>,
    steering_reply: Option<SteeringReply>,
    is_steering_off: bool,
    status: BackendStatus,
    fatal: Option<Failure>,
    counters: RequestCounters,
    disputed: Vec<String>,
    complaints: Vec<Complaint>,
    renewal: Option<Box<Renewal>>,
    /// Whether the queues are to be looked at sooner than planned.
    is_look_wanted: bool,
    stop: Option<Stop>,
    /// What was there before the first write.
    found: Vec<FinalRate>,
    confirmed: Vec<FinalRate>,
    is_ended: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let state = State {
            slots: [PerDirection { download: None, upload: None }; MAX_WANS],
            rests: [PerDirection { download: None, upload: None }; MAX_WANS],
            readings: [PerDirection { download: None, upload: None }; MAX_WANS],
            replies: VecDeque::with_capacity(REPLIES_MAX),
            replies_dropped: 0,
            steering: None,
            steering_reply: None,
            is_steering_off: false,
            status: BackendStatus::Connecting,
            fatal: None,
            counters: RequestCounters::default(),
            disputed: Vec::new(),
            complaints: Vec::new(),
            renewal: None,
            is_look_wanted: false,
            stop: None,
            found: Vec::new(),
            confirmed: Vec::new(),
            is_ended: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// A panic elsewhere leaves the state usable: every change to it is complete in itself.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The tick thread's side.

    pub(crate) fn give(&self, order: RateOrder) {
        let mut state = self.lock();
        let now_ns = clock::now_nanos();
        let mut waiting =
            Waiting { order, given_ns: now_ns, queued_ns: now_ns, is_cut: order.is_cut };
        let Some(slots) = state.slots.get_mut(usize::from(order.wan.0)) else {
            state.reply(&waiting, Outcome::Failed);
            return;
        };
        let slot = slots.get_mut(order.direction);
        let replaced = slot.take();
        if let Some(replaced) = &replaced {
            waiting.queued_ns = replaced.queued_ns;
            waiting.is_cut |= replaced.is_cut;
        }
        *slot = Some(waiting);
        if let Some(replaced) = replaced {
            state.reply(&replaced, Outcome::Superseded);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Takes a steering order; one that has not been carried out yet is replaced, and answered as
    /// failed.
    pub(crate) fn give_steering(&self, order: SteeringOrder) {
        let mut state = self.lock();
        if let Some(replaced) = state.steering.replace(WaitingSteering::new(order)) {
            state.steering_reply = Some(replaced.reply(false));
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Moves as many replies as the tick has room for, the others wait for the next one, and the
    /// latest counters with their age.
    pub(crate) fn drain(&self, tick: &mut Tick) {
        let mut state = self.lock();
        while !tick.replies.is_full() {
            let Some(reply) = state.replies.pop_front() else { break };
            tick.push_reply(reply);
        }
        if let Some(reply) = state.steering_reply.take() {
            tick.push_steering_reply(reply);
        }
        tick.inputs_dropped = tick.inputs_dropped.saturating_add(state.replies_dropped);
        state.replies_dropped = 0;
        for (wan, readings) in (0..).map(WanId).zip(&mut state.readings) {
            for direction in Direction::BOTH {
                if let Some(reading) = readings.get_mut(direction).take() {
                    tick.push_counters(reading.for_tick(tick.now, wan, direction));
                }
            }
        }
    }

    pub(crate) fn status(&self) -> BackendStatus {
        self.lock().status.clone()
    }

    pub(crate) fn counters(&self) -> RequestCounters {
        self.lock().counters
    }

    pub(crate) fn disputed(&self) -> Vec<String> {
        self.lock().disputed.clone()
    }

    pub(crate) fn complaints(&self) -> Vec<Complaint> {
        self.lock().complaints.clone()
    }

    pub(crate) fn fatal(&self) -> Option<Failure> {
        self.lock().fatal.clone()
    }

    /// Tells the worker to end; only the first call counts.
    pub(crate) fn stop(&self, final_rates: Vec<FinalRate>, deadline: Instant) {
        self.lock().stop.get_or_insert(Stop { final_rates, deadline, is_finish: true });
        self.changed.notify_all();
    }

    /// Tells the worker to end with nothing more to write: nobody is there any more to say what.
    pub(crate) fn abandon(&self) {
        let stop = Stop { final_rates: Vec::new(), deadline: Instant::now(), is_finish: false };
        self.lock().stop.get_or_insert(stop);
        self.changed.notify_all();
    }

    /// Waits until the worker has ended, at most until the deadline. Returns whether it has, and
    /// the final rates the router confirmed.
    pub(crate) fn wait_ended(&self, deadline: Instant) -> (bool, Vec<FinalRate>) {
        let patience = deadline.saturating_duration_since(Instant::now());
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), patience, |state| !state.is_ended)
            .unwrap_or_else(PoisonError::into_inner);
        (state.is_ended, state.confirmed.clone())
    }

    pub(crate) fn found(&self) -> Vec<FinalRate> {
        self.lock().found.clone()
    }

    // The worker's side.

    /// Notes the rate that a shaper had before it was written to. That of a shaper made anew replaces
    /// the one before.
    pub(crate) fn note_found(&self, rate: FinalRate) {
        let mut state = self.lock();
        state.found.retain(|known| (known.0, known.1) != (rate.0, rate.1));
        state.found.push(rate);
    }

    /// Waits for the most urgent order: cuts first, then steering, then the raise whose slot waits
    /// longest; without any, until it is time to look at the queues. `None` when the worker shall end.
    pub(crate) fn next_work(&self, look_due: Instant) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.stop.is_some() {
                return None;
            }
            if let Some(renewal) = state.renewal.take() {
                return Some(Work::Renew(renewal));
            }
            let now = Instant::now();
            if let Some(work) = state.take_work(now) {
                return Some(work);
            }
            if look_due <= now || std::mem::take(&mut state.is_look_wanted) {
                return Some(Work::Look);
            }
            let due = state.rest_ends().fold(look_due, Instant::min);
            let left = due.saturating_duration_since(now);
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Leaves the orders of one slot unsent until then; newer ones take their place as ever.
    pub(crate) fn rest(&self, wan: WanId, direction: Direction, until: Option<Instant>) {
        if let Some(rests) = self.lock().rests.get_mut(usize::from(wan.0)) {
            *rests.get_mut(direction) = until;
        }
    }

    /// Asks for a look at the queues, after what has to be written.
    pub(crate) fn want_look(&self) {
        self.lock().is_look_wanted = true;
        self.changed.notify_all();
    }

    /// Hands over counters; they replace older ones that no tick has taken, but for what packets have
    /// waited, which is since the reading before.
    pub(crate) fn counted(
        &self,
        wan: usize,
        direction: Direction,
        mut counters: QueueCounters,
        at_ns: u64,
    ) {
        if let Some(readings) = self.lock().readings.get_mut(wan) {
            let reading = readings.get_mut(direction);
            if let Some(before) = reading {
                counters.waited.add(before.counters.waited);
            }
            *reading = Some(Reading { counters, at_ns });
        }
    }

    /// Leaves another login for the worker, which takes it after the request under way.
    pub(crate) fn renew(&self, renewal: Renewal) {
        self.lock().renewal = Some(Box::new(renewal));
        self.changed.notify_all();
    }

    /// Returns another login, if one was left.
    pub(crate) fn take_renewal(&self) -> Option<Box<Renewal>> {
        self.lock().renewal.take()
    }

    /// Waits for the duration or, sooner, until the worker shall end or there is another login. Returns
    /// whether it shall end.
    pub(crate) fn pause(&self, duration: Duration) -> bool {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), duration, |state| {
                state.stop.is_none() && state.renewal.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.stop.is_some()
    }

    pub(crate) fn reply(&self, waiting: &Waiting, outcome: Outcome) {
        self.lock().reply(waiting, outcome);
    }

    pub(crate) fn reply_steering(&self, reply: SteeringReply) {
        self.lock().steering_reply = Some(reply);
    }

    pub(crate) fn set_status(&self, status: BackendStatus) {
        self.lock().status = status;
    }

    pub(crate) fn set_disputed(&self, queues: Vec<String>) {
        self.lock().disputed = queues;
    }

    pub(crate) fn set_complaints(&self, complaints: Vec<Complaint>) {
        self.lock().complaints = complaints;
    }

    /// Returns whether an order waits to be sent.
    pub(crate) fn is_waiting(&self, wan: WanId, direction: Direction) -> bool {
        let state = self.lock();
        let slots = state.slots.get(usize::from(wan.0));
        slots.is_some_and(|slots| slots.get(direction).is_some())
    }

    /// Returns whether a steering order waits to be carried out.
    pub(crate) fn is_steering_waiting(&self) -> bool {
        self.lock().steering.is_some()
    }

    pub(crate) fn set_fatal(&self, failure: Failure) {
        let mut state = self.lock();
        state.status = BackendStatus::Failed { error: failure.to_string() };
        state.fatal = Some(failure);
    }

    pub(crate) fn count_request(&self, took: Duration, is_failure: bool) {
        let took_us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let mut state = self.lock();
        let counters = &mut state.counters;
        counters.requests = counters.requests.saturating_add(1);
        counters.failures = counters.failures.saturating_add(u64::from(is_failure));
        counters.last_us = took_us;
        counters.worst_us = counters.worst_us.max(took_us);
    }

    /// Returns the rates to write before ending, and until when.
    pub(crate) fn final_rates(&self) -> Option<(VecDeque<FinalRate>, Instant)> {
        let state = self.lock();
        let stop = state.stop.as_ref()?;
        Some((stop.final_rates.iter().copied().collect(), stop.deadline))
    }

    /// Returns whether the worker ends in order.
    pub(crate) fn is_finishing(&self) -> bool {
        self.lock().stop.as_ref().is_some_and(|stop| stop.is_finish)
    }

    pub(crate) fn confirm(&self, held: FinalRate) {
        self.lock().confirmed.push(held);
    }

    pub(crate) fn confirm_steering_off(&self) {
        self.lock().is_steering_off = true;
    }

    /// Returns whether the router confirmed that steering is off, before the end.
    pub(crate) fn is_steering_off(&self) -> bool {
        self.lock().is_steering_off
    }

    pub(crate) fn end(&self) {
        self.lock().is_ended = true;
        self.changed.notify_all();
    }
}

impl Reading {
    fn for_tick(
        &self,
        now: embassy_time::Instant,
        wan: WanId,
        direction: Direction,
    ) -> CounterReading {
        let QueueCounters { bytes, dropped, queued_bytes, queued_packets, waited } = self.counters;
        let age_us = now.as_micros().saturating_sub(self.at_ns / 1000);
        CounterReading {
            wan,
            direction,
            delivered_bytes: bytes,
            dropped_packets: dropped,
            backlog_bytes: queued_bytes,
            backlog_packets: queued_packets,
            age_us: u32::try_from(age_us).unwrap_or(u32::MAX),
            queue_delay_us: waited.mean_us(),
        }
    }
}

impl State {
    fn take_work(&mut self, now: Instant) -> Option<Work> {
        let most_urgent = self.most_urgent(now);
        let has_cut = most_urgent.as_ref().is_some_and(|slot| slot.is_some_and(|it| it.is_cut));
        if has_cut {
            return most_urgent?.take().map(Work::Write);
        }
        match self.steering.take() {
            Some(waiting) => Some(Work::Steer(waiting)),
            None => self.most_urgent(now)?.take().map(Work::Write),
        }
    }

    /// Returns the slot to be served next of those that do not rest: cuts come first.
    fn most_urgent(&mut self, now: Instant) -> Option<&mut Option<Waiting>> {
        let slots = self.slots.iter_mut().flat_map(|wan| [&mut wan.download, &mut wan.upload]);
        let rests = self.rests.iter().flat_map(|wan| [wan.download, wan.upload]);
        let is_free = |until: Option<Instant>| until.is_none_or(|until| until <= now);
        let waiting = slots.zip(rests).filter(|(slot, until)| slot.is_some() && is_free(*until));
        let urgency = |slot: &Option<Waiting>| slot.map(|it| (!it.is_cut, it.queued_ns));
        waiting.map(|(slot, _)| slot).min_by_key(|slot| urgency(slot))
    }

    /// Returns when slots with an order may be served again.
    fn rest_ends(&self) -> impl Iterator<Item = Instant> {
        let slots = self.slots.iter().flat_map(|wan| [&wan.download, &wan.upload]);
        let rests = self.rests.iter().flat_map(|wan| [wan.download, wan.upload]);
        slots.zip(rests).filter_map(|(slot, until)| until.filter(|_| slot.is_some()))
    }

    fn reply(&mut self, waiting: &Waiting, outcome: Outcome) {
        if self.replies.len() == REPLIES_MAX {
            self.replies_dropped = self.replies_dropped.saturating_add(1);
            return;
        }
        let RateOrder { id, wan, direction, .. } = waiting.order;
        let took_us = clock::now_nanos().saturating_sub(waiting.given_ns) / 1000;
        let took_us = u32::try_from(took_us).unwrap_or(u32::MAX);
        self.replies.push_back(Reply { wan, direction, id, outcome, took_us });
    }
}

#[cfg(test)]
mod tests;
