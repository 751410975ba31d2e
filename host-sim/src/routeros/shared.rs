//! What the connections share: the router, the turns of its users, holds and the request log.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::message::{Request, Response};
use super::rest;
use super::store::{QueueWrite, Router};

/// Requests remembered; older ones are forgotten first.
pub const REQUEST_LOG_MAX: usize = 10_000;

/// Time the router takes for one request, spent while it is this user's turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// For GET and `print`.
    pub read: Duration,
    /// For everything else.
    pub write: Duration,
}

impl Latency {
    /// Makes reads and writes equally slow.
    pub fn same(latency: Duration) -> Self {
        Self { read: latency, write: latency }
    }

    fn of(self, request: &Request) -> Duration {
        let print = request.method == "POST" && request.path().ends_with("/print");
        if request.method == "GET" || print { self.read } else { self.write }
    }
}

/// One answered request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// Time of the answer since the emulator started.
    pub at: Duration,
    /// Method in capitals.
    pub method: String,
    /// Path without the query, as sent.
    pub path: String,
    /// HTTP status of the answer.
    pub status: u16,
}

/// What a condition of `wait_until` can look at.
#[derive(Debug)]
pub struct EmulatorView<'a> {
    /// Requests received so far, answered or not.
    pub arrived_count: u64,
    /// Requests answered so far.
    pub request_count: u64,
    /// Open connections.
    pub connection_count: usize,
    /// The last [`REQUEST_LOG_MAX`] answered requests, oldest first.
    pub requests: &'a VecDeque<RequestRecord>,
    /// The last rate writes, oldest first.
    pub writes: &'a VecDeque<QueueWrite>,
    /// The router.
    pub router: &'a Router,
}

/// Tickets of one user's requests, served in order of arrival.
#[derive(Debug, Default)]
struct Turns {
    next: u64,
    serving: u64,
}

#[derive(Debug)]
struct State {
    router: Router,
    latency: Latency,
    arrived: u64,
    answered: u64,
    requests: VecDeque<RequestRecord>,
    request_holds: usize,
    reply_holds: usize,
    turns: BTreeMap<String, Turns>,
    /// Counts power-offs; a connection of an older cycle is dead.
    cycle: u64,
    connections: BTreeMap<u64, TcpStream>,
    next_connection: u64,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    start: Instant,
    connections_max: usize,
    /// Time after which a silent connection is closed.
    pub(crate) idle_close: Duration,
}

impl Shared {
    pub(crate) fn new(
        router: Router,
        latency: Latency,
        connections_max: usize,
        idle_close: Duration,
    ) -> Self {
        let state = State {
            router,
            latency,
            arrived: 0,
            answered: 0,
            requests: VecDeque::new(),
            request_holds: 0,
            reply_holds: 0,
            turns: BTreeMap::new(),
            cycle: 0,
            connections: BTreeMap::new(),
            next_connection: 0,
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { state, changed, start: Instant::now(), connections_max, idle_close }
    }

    /// Passes one request through the router; `None` when the power went off meanwhile.
    pub(crate) fn exchange(&self, request: &Request, cycle: u64) -> Option<Response> {
        let mut state = self.lock();
        if state.cycle != cycle {
            // A ticket taken now would never be served and block its user after the power-on.
            return None;
        }
        state.arrived += 1;
        self.changed.notify_all();
        let user = rest::authenticate(&state.router, request).map(|user| user.name.clone());
        if let Some(user) = &user {
            let turns = state.turns.entry(user.clone()).or_default();
            let ticket = turns.next;
            turns.next += 1;
            state = self.wait_while(state, cycle, |state| {
                state.turns.get(user).is_some_and(|turns| turns.serving != ticket)
            })?;
        }
        let latency = state.latency.of(request);
        state = self.spend(state, cycle, latency)?;
        state = self.wait_while(state, cycle, |state| state.request_holds > 0)?;
        state.router.advance_to(self.start.elapsed());
        let writes_before = state.router.write_count();
        let response = rest::handle(&mut state.router, request);
        log_new_writes(&state.router, writes_before);
        self.changed.notify_all();
        state = self.wait_while(state, cycle, |state| state.reply_holds > 0)?;
        state.answered += 1;
        let record = RequestRecord {
            at: self.start.elapsed(),
            method: request.method.clone(),
            path: request.path().to_owned(),
            status: response.status,
        };
        if state.requests.len() == REQUEST_LOG_MAX {
            state.requests.pop_front();
        }
        state.requests.push_back(record);
        if let Some(turns) = user.and_then(|user| state.turns.get_mut(&user)) {
            turns.serving += 1;
        }
        self.changed.notify_all();
        Some(response)
    }

    /// Lets `latency` pass, as the router's own work on a request does.
    fn spend<'s>(
        &self,
        state: MutexGuard<'s, State>,
        cycle: u64,
        latency: Duration,
    ) -> Option<MutexGuard<'s, State>> {
        let powered = |state: &mut State| state.cycle == cycle;
        let (state, _) = self
            .changed
            .wait_timeout_while(state, latency, powered)
            .unwrap_or_else(PoisonError::into_inner);
        (state.cycle == cycle).then_some(state)
    }

    fn wait_while<'s>(
        &self,
        state: MutexGuard<'s, State>,
        cycle: u64,
        condition: impl Fn(&State) -> bool,
    ) -> Option<MutexGuard<'s, State>> {
        let blocked = |state: &mut State| state.cycle == cycle && condition(state);
        let state = self.changed.wait_while(state, blocked).unwrap_or_else(PoisonError::into_inner);
        (state.cycle == cycle).then_some(state)
    }

    /// Blocks until `condition` holds or `timeout` has passed; returns whether it holds.
    pub(crate) fn wait_until(
        &self,
        timeout: Duration,
        mut condition: impl FnMut(&EmulatorView<'_>) -> bool,
    ) -> bool {
        let mut holds = false;
        let unmet = |state: &mut State| {
            holds = condition(&state.view());
            !holds
        };
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, unmet);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        holds
    }

    /// Lends what the conditions of `wait_until` see.
    pub(crate) fn view<R>(&self, f: impl FnOnce(&EmulatorView<'_>) -> R) -> R {
        f(&self.lock().view())
    }

    /// Lends the router with its clock set to now.
    pub(crate) fn with_router<R>(&self, f: impl FnOnce(&mut Router) -> R) -> R {
        let mut state = self.lock();
        state.router.advance_to(self.start.elapsed());
        let result = f(&mut state.router);
        self.changed.notify_all();
        result
    }

    pub(crate) fn set_latency(&self, latency: Latency) {
        self.lock().latency = latency;
    }

    /// Starts a new power cycle: every connection dies, every waiting request is forgotten.
    pub(crate) fn cut_power(&self) -> u64 {
        let mut state = self.lock();
        state.cycle += 1;
        state.turns.clear();
        for stream in state.connections.values() {
            // The client may have closed it first.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
        state.cycle
    }

    pub(crate) fn cycle(&self) -> u64 {
        self.lock().cycle
    }

    pub(crate) fn is_current(&self, cycle: u64) -> bool {
        self.cycle() == cycle
    }

    /// Books a connection; `None` over the limit or after the power went off.
    pub(crate) fn register(&self, stream: &TcpStream, cycle: u64) -> Option<u64> {
        let mut state = self.lock();
        if state.cycle != cycle || state.connections.len() >= self.connections_max {
            return None;
        }
        let stream = stream.try_clone().ok()?;
        let id = state.next_connection;
        state.next_connection += 1;
        state.connections.insert(id, stream);
        self.changed.notify_all();
        Some(id)
    }

    pub(crate) fn unregister(&self, id: u64) {
        self.lock().connections.remove(&id);
        self.changed.notify_all();
    }

    fn change_holds(&self, point: HoldPoint, change: impl FnOnce(&mut usize)) {
        let mut state = self.lock();
        match point {
            HoldPoint::Requests => change(&mut state.request_holds),
            HoldPoint::Replies => change(&mut state.reply_holds),
        }
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between statements; a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn view(&self) -> EmulatorView<'_> {
        EmulatorView {
            arrived_count: self.arrived,
            request_count: self.answered,
            connection_count: self.connections.len(),
            requests: &self.requests,
            writes: self.router.writes(),
            router: &self.router,
        }
    }
}

fn log_new_writes(router: &Router, count_before: u64) {
    let new = usize::try_from(router.write_count() - count_before).unwrap_or(usize::MAX);
    for write in router.writes().iter().rev().take(new).rev() {
        let QueueWrite { at, queue, max_limit_bps } = write;
        tracing::info!(?at, queue, max_limit_bps, "max-limit written");
    }
}

/// Where a held request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoldPoint {
    /// Before it has any effect.
    Requests,
    /// After its effect, before its reply.
    Replies,
}

/// Keeps requests or replies back while it lives.
#[derive(Debug)]
#[must_use = "dropping the hold releases what it keeps back"]
pub struct ReplyHold {
    shared: Arc<Shared>,
    point: HoldPoint,
}

impl ReplyHold {
    pub(crate) fn new(shared: &Arc<Shared>, point: HoldPoint) -> Self {
        shared.change_holds(point, |holds| *holds += 1);
        Self { shared: Arc::clone(shared), point }
    }
}

impl Drop for ReplyHold {
    fn drop(&mut self) {
        self.shared.change_holds(self.point, |holds| *holds -= 1);
    }
}
