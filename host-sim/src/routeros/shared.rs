//! What the connections share: the router, the turns of its users, holds and the request log.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use super::api;
use super::faults::{Delivery, Fate, Fault, FaultSpec, Faults, TlsFault};
use super::holds::HoldPoint;
use super::message::{Request, Response};
use super::plane::{DataPlane, Shaper};
use super::rest;
use super::server::Protocol;
use super::store::{QueueWrite, Router};
use super::tls::Spoilt;

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
        if request.is_write() { self.write } else { self.read }
    }
}

/// One answered request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// Time of the answer since the emulator started.
    pub at: Duration,
    /// Method in capitals; `API` for a command of the binary API.
    pub method: String,
    /// Path without the query, as sent.
    pub path: String,
    /// HTTP status of the answer, or of the one REST would give.
    pub status: u16,
    /// Time the router took for it.
    pub took: Duration,
}

impl RequestRecord {
    fn new(at: Duration, request: &Request, status: u16, took: Duration) -> Self {
        let path = request.path();
        let (method, path) = if request.is_http() {
            (request.method.as_str(), path)
        } else {
            ("API", path.strip_prefix("/rest").unwrap_or(path))
        };
        Self { at, method: method.to_owned(), path: path.to_owned(), status, took }
    }
}

/// What a condition of `wait_until` can look at.
#[derive(Debug)]
pub struct EmulatorView<'a> {
    /// Requests received so far, answered or not.
    pub arrived_count: u64,
    /// Requests answered so far.
    pub request_count: u64,
    /// Connections that a fault closed before their first request.
    pub turned_away_count: u64,
    /// The most requests of one user that were in work or waiting at the same time.
    pub in_flight_max: usize,
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
    turned_away: u64,
    /// Requests in work or waiting, by the login they came with.
    in_flight: BTreeMap<Option<String>, usize>,
    in_flight_max: usize,
    faults: Faults,
    plane: DataPlane,
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
    idle_close: Duration,
    spoilt_tls: Spoilt,
}

impl Shared {
    pub(crate) fn new(
        router: Router,
        latency: Latency,
        connections_max: usize,
        idle_close: Duration,
        spoilt_tls: Spoilt,
    ) -> Self {
        let state = State {
            router,
            latency,
            arrived: 0,
            answered: 0,
            turned_away: 0,
            in_flight: BTreeMap::new(),
            in_flight_max: 0,
            faults: Faults::new(),
            plane: DataPlane::default(),
            requests: VecDeque::new(),
            request_holds: 0,
            reply_holds: 0,
            turns: BTreeMap::new(),
            cycle: 0,
            connections: BTreeMap::new(),
            next_connection: 0,
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Self { state, changed, start: Instant::now(), connections_max, idle_close, spoilt_tls }
    }

    /// Passes one request through the router; `None` when the power went off meanwhile.
    ///
    /// `is_abandoned` tells whether its client has gone.
    pub(crate) fn exchange(
        &self,
        request: &Request,
        cycle: u64,
        is_abandoned: impl FnOnce() -> bool,
    ) -> Option<(Response, Delivery)> {
        let mut state = self.lock();
        if state.cycle != cycle {
            // A ticket taken now would never be served and block its user after the power-on.
            return None;
        }
        state.arrived += 1;
        let in_flight = state.in_flight.entry(request.sender()).or_default();
        *in_flight += 1;
        let in_flight = *in_flight;
        state.in_flight_max = state.in_flight_max.max(in_flight);
        self.changed.notify_all();
        let exchanged = self.work_on(state, request, cycle, is_abandoned);
        if let Some(in_flight) = self.lock().in_flight.get_mut(&request.sender()) {
            *in_flight -= 1;
        }
        exchanged
    }

    fn work_on<'s>(
        &'s self,
        mut state: MutexGuard<'s, State>,
        request: &Request,
        cycle: u64,
        is_abandoned: impl FnOnce() -> bool,
    ) -> Option<(Response, Delivery)> {
        let user = rest::authenticate(&state.router, request).map(|user| user.name.clone());
        let queue = user.as_ref().map(|user| request.queue(user));
        if let Some(queue) = &queue {
            let turns = state.turns.entry(queue.clone()).or_default();
            let ticket = turns.next;
            turns.next += 1;
            state = self.wait_while(state, cycle, |state| {
                state.turns.get(queue).is_some_and(|turns| turns.serving != ticket)
            })?;
        }
        let now = self.start.elapsed();
        let extra = state.faults.latency(request, request.is_write(), user.as_deref(), now);
        let latency = state.latency.of(request) + extra;
        state = self.spend(state, cycle, latency)?;
        state = self.wait_while(state, cycle, |state| state.request_holds > 0)?;
        let waits = state.faults.wait_limit(request);
        state = self.wait_for_turn_of_another(state, cycle, waits)?;
        let is_refused = waits.is_some() && state.faults.is_shared();
        state.router.advance_to(self.start.elapsed());
        let (response, delivery) = if is_refused {
            (Response::error(400, Some("Session closed")), Delivery::Whole)
        } else {
            state.carry_out(request, user.as_deref())
        };
        self.changed.notify_all();
        state = self.wait_while(state, cycle, |state| state.reply_holds > 0)?;
        let mixed = state.faults.mix_up(request, response, is_abandoned(), self.start.elapsed());
        let (response, delivery) =
            if mixed.1 == Delivery::Whole { (mixed.0, delivery) } else { mixed };
        state.answered += 1;
        let at = self.start.elapsed();
        let record = RequestRecord::new(at, request, response.status, latency);
        if state.requests.len() == REQUEST_LOG_MAX {
            state.requests.pop_front();
        }
        state.requests.push_back(record);
        if let Some(turns) = queue.and_then(|queue| state.turns.get_mut(&queue)) {
            turns.serving += 1;
        }
        self.changed.notify_all();
        Some((response, delivery))
    }

    /// Waits while a request of another client of the same user is in work, at most so long.
    fn wait_for_turn_of_another<'s>(
        &self,
        state: MutexGuard<'s, State>,
        cycle: u64,
        limit: Option<Duration>,
    ) -> Option<MutexGuard<'s, State>> {
        let blocked = |state: &mut State| state.cycle == cycle && state.faults.is_shared();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, limit.unwrap_or_default(), blocked)
            .unwrap_or_else(PoisonError::into_inner);
        (state.cycle == cycle).then_some(state)
    }

    /// Switches a fault on and cuts the connections, so that the next request meets it.
    pub(crate) fn inject(&self, spec: FaultSpec) {
        self.change_faults(|faults, router| faults.inject(spec, router));
    }

    /// Switches a fault off; `false` when it was not on.
    pub(crate) fn mend(&self, fault: Fault) -> bool {
        self.change_faults(|faults, router| faults.mend(fault, router))
    }

    fn change_faults<R>(&self, change: impl FnOnce(&mut Faults, &mut Router) -> R) -> R {
        let mut state = self.lock();
        state.router.advance_to(self.start.elapsed());
        let State { faults, router, connections, .. } = &mut *state;
        let before = faults.of_connections();
        let result = change(faults, router);
        if faults.of_connections() != before {
            cut(connections);
        }
        self.changed.notify_all();
        result
    }

    pub(crate) fn fault_log(&self) -> Vec<String> {
        self.lock().faults.log().cloned().collect()
    }

    /// Lets a new connection wait or end, as the faults have it; returns whether it is served.
    pub(crate) fn may_serve(&self, cycle: u64, secure: bool) -> bool {
        let mut state = self.lock();
        match state.faults.fate(secure) {
            Fate::Serve(delay) => self.spend(state, cycle, delay).is_some(),
            Fate::Close => {
                state.turned_away += 1;
                self.changed.notify_all();
                false
            }
        }
    }

    /// Returns what the handshake shall use instead of the proper certificate, if anything.
    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        let spoilt = match self.lock().faults.tls()? {
            TlsFault::Slow(_) => return None,
            TlsFault::Expired => &self.spoilt_tls.expired,
            TlsFault::OtherName => &self.spoilt_tls.other_name,
            TlsFault::NoCertificate => &self.spoilt_tls.no_certificate,
        };
        Some(Arc::clone(spoilt))
    }

    /// Returns the time after which a silent connection is closed; the router does not do that to a
    /// session of the binary API.
    pub(crate) fn idle_close(&self, protocol: Protocol) -> Option<Duration> {
        let usual = (protocol == Protocol::Http).then_some(self.idle_close);
        self.lock().faults.idle_close().or(usual)
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

    /// Puts a shaper below a tree queue.
    pub(crate) fn bind(&self, queue: &str, shaper: Box<dyn Shaper>) -> anyhow::Result<()> {
        let mut state = self.lock();
        let State { router, plane, .. } = &mut *state;
        plane.bind(router, queue, shaper)
    }

    /// Lets go of all shapers, with the rates they were found with.
    pub(crate) fn release_shapers(&self) {
        self.lock().plane.release();
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
        cut(&state.connections);
        self.changed.notify_all();
        state.cycle
    }

    /// Ends every connection; new ones are served.
    pub(crate) fn drop_connections(&self) {
        cut(&self.lock().connections);
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

    pub(super) fn change_holds(&self, point: HoldPoint, change: impl FnOnce(&mut usize)) {
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
    /// Lets the router work on a request, with the faults that change its work or its answer.
    fn carry_out(&mut self, request: &Request, user: Option<&str>) -> (Response, Delivery) {
        if let Some(response) = self.faults.answer(request, &self.router) {
            return (response, Delivery::Whole);
        }
        let rewritten = self.faults.rewrite(request);
        let writes_before = self.router.write_count();
        let on_queues = request.path().contains("/queue");
        if on_queues {
            self.plane.count(&mut self.router);
        }
        let response = api::handle(&mut self.router, rewritten.as_ref().unwrap_or(request));
        log_new_writes(&self.router, writes_before);
        if on_queues {
            self.plane.shape(&self.router);
        }
        if request.is_write() && response.status < 300 {
            self.faults.written(request, user.unwrap_or_default());
        }
        self.faults.spoil(request, response)
    }

    fn view(&self) -> EmulatorView<'_> {
        EmulatorView {
            arrived_count: self.arrived,
            request_count: self.answered,
            turned_away_count: self.turned_away,
            in_flight_max: self.in_flight_max,
            connection_count: self.connections.len(),
            requests: &self.requests,
            writes: self.router.writes(),
            router: &self.router,
        }
    }
}

fn cut(connections: &BTreeMap<u64, TcpStream>) {
    for stream in connections.values() {
        // The client may have closed it first.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn log_new_writes(router: &Router, count_before: u64) {
    let new = usize::try_from(router.write_count() - count_before).unwrap_or(usize::MAX);
    for write in router.writes().iter().rev().take(new).rev() {
        let QueueWrite { at, queue, max_limit_bps } = write;
        tracing::info!(?at, queue, max_limit_bps, "max-limit written");
    }
}
