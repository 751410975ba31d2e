//! The daemon: one tick thread that owns the controller and never waits for anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use embassy_time::Instant;
use wanctl_core::controller::Controller;
use wanctl_core::outputs::{Action, Outputs};
use wanctl_core::recent::RecentFigures;
use wanctl_core::snapshot::Snapshot;
use wanctl_core::tick::{MAX_WANS, Tick};
use wanctl_core::units::{BitsPerSecond, Direction, WanId};

use crate::config::{BackendConfig, DaemonConfig, OnExit, RouterConfig, WanConfig};
use crate::connectivity::{Check, CheckTargets, Checker};
use crate::exit::{ExitReason, Failure};
use crate::instance;
use crate::links::{LinkWatcher, WatchedLink};
use crate::linux_cake::{LinuxCake, Role};
use crate::narrator::Narrator;
use crate::pacer::Pacer;
use crate::probe::Prober;
use crate::published::{About, Published};
use crate::reload::{Parts, ReloadThread, Reloader};
use crate::routeros::{Client, RouterOs, RouterTarget};
use crate::shaping::{FinishReport, RateOrder, SteeringOrder, Worker};
use crate::state_file::{self, StateFile, StateSaver};
use crate::trace_file::Recorder;

/// How often the figures of the latest past are made anew: they look at all of it.
const FIGURES_INTERVAL: Duration = Duration::from_secs(1);

/// How long the end of the daemon may take: it must be over within a second of the signal.
const FINISH_TIMEOUT: Duration = Duration::from_millis(800);

/// What signals ask of a running daemon.
#[derive(Debug, Default)]
pub struct Requests {
    /// Read the configuration again.
    pub reload: Arc<AtomicBool>,
    /// Mark an incident.
    pub incident: Arc<AtomicBool>,
}

/// Runs until `stop` is set, or until something is wrong that waiting cannot mend.
///
/// # Errors
///
/// What was wrong. Nothing has been written to the router in that case.
pub fn run<P: Prober + 'static>(
    config: &DaemonConfig,
    prober: P,
    stop: &AtomicBool,
    published: &Arc<Published>,
) -> Result<(), Failure> {
    run_with(config, prober, stop, published, &Requests::default(), None)
}

/// Runs as [`run`] does, and does what it is asked; `reloader` knows how to read the configuration again.
///
/// # Errors
///
/// What was wrong. Nothing has been written to the router in that case.
pub fn run_with<P: Prober + 'static>(
    config: &DaemonConfig,
    prober: P,
    stop: &AtomicBool,
    published: &Arc<Published>,
    requests: &Requests,
    reloader: Option<Reloader<P>>,
) -> Result<(), Failure> {
    let mut controller: Box<Controller> = Controller::new(&config.core)
        .map(Box::new)
        .map_err(|error| Failure::new(ExitReason::ConfigValue, error.to_string()))?;
    let saver = start_saver(config, &mut controller)?;
    let recorder = start_recorder(config, &controller)?;
    let flight = start_flight(config, &controller)?;
    published.notice(|notices| notices.recorder = flight.as_ref().map(Recorder::view));
    let worker = start_worker(config, Role::Daemon)?;
    let names: Vec<String> = config.wans.iter().map(|wan| wan.name.clone()).collect();
    tracing::info!("{} started for {}", crate::VERSION, names.join(", "));
    let (interval, started) = (config.core.tick, crate::clock::now());
    let (about_names, router) = (names.clone(), worker.view());
    published.begin(About { names: about_names, interval, started, router: router.clone() });
    let reload = reloader
        .map(|reloader| reloader.start(config.clone(), &requests.reload, router, published))
        .transpose()
        .map_err(|error| Failure::new(ExitReason::Other, format!("reload thread: {error}")))?;
    let narrator = Narrator::start(names, Arc::clone(published))
        .map_err(|error| Failure::new(ExitReason::Other, format!("narrator thread: {error}")))?;
    let status_due = after(started, config.status_interval);
    let mut daemon = Daemon {
        config: Box::new(config.clone()),
        controller,
        prober,
        worker,
        checker: start_checker(config)?,
        links: start_links(config),
        narrator,
        tick: Box::new(Tick::new(crate::clock::now())),
        outputs: Box::new(Outputs::new()),
        pacer: Pacer::new(config.core.tick),
        status_due,
        figures: heapless::Vec::new(),
        figures_due: Instant::MIN,
        saver,
        recorder,
        flight,
        reload,
        incidents: 0,
    };
    let outcome = daemon.tick_until(stop, requests, published);
    daemon.end(published, outcome.is_ok());
    outcome
}

struct Daemon<P> {
    config: Box<DaemonConfig>,
    controller: Box<Controller>,
    prober: P,
    worker: Worker,
    checker: Checker,
    links: Option<LinkWatcher>,
    narrator: Narrator,
    tick: Box<Tick>,
    outputs: Box<Outputs>,
    pacer: Pacer,
    status_due: Instant,
    figures: heapless::Vec<RecentFigures, MAX_WANS>,
    figures_due: Instant,
    saver: Option<StateSaver>,
    recorder: Option<Recorder>,
    flight: Option<Recorder>,
    reload: Option<ReloadThread<P>>,
    /// How many were marked so far.
    incidents: u32,
}

impl<P: Prober> Daemon<P> {
    fn tick_until(
        &mut self,
        stop: &AtomicBool,
        requests: &Requests,
        published: &Published,
    ) -> Result<(), Failure> {
        while let Some(now) = self.pacer.wait(stop) {
            self.take_parts(now, published);
            let is_marked = requests.incident.swap(false, Ordering::Relaxed);
            self.step(now, is_marked);
            if is_marked {
                let count = self.incidents;
                published.notice(|notices| {
                    (notices.incidents, notices.last_incident) = (count, Some(now));
                });
            }
            if now >= self.figures_due {
                self.figures_due = after(now, FIGURES_INTERVAL);
                self.figures = self.controller.figures();
            }
            let probes = self.prober.counters();
            published.publish(self.snapshot(), self.pacer.pacing(), probes);
            if now >= self.status_due {
                self.status_due = after(now, self.config.status_interval);
                self.narrator.status();
            }
            if let Some(error) = self.worker.fatal() {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Goes on with what a reload has prepared, if it has. The old parts go back to its thread: it
    /// has the time to end them.
    fn take_parts(&mut self, now: Instant, published: &Published) {
        let Some(reload) = &self.reload else { return };
        let Some(mut parts) = reload.take() else { return };
        let Parts { config, controller, prober, checker, links, flight, same_paths } = &mut *parts;
        std::mem::swap(&mut self.config, config);
        if let Some(controller) = controller {
            let configs = (&config.core, &self.config.core);
            let is_same_path = |wan: WanId| same_paths.get(usize::from(wan.0)) == Some(&true);
            // Another number of WANs was refused before.
            let _same = controller.take_over(&self.controller, configs, is_same_path);
            std::mem::swap(&mut self.controller, controller);
        }
        swap_some(&mut self.prober, prober);
        swap_some(&mut self.checker, checker);
        swap_some(&mut self.links, links);
        let is_new_flight = flight.is_some();
        swap_some(&mut self.flight, flight);
        if is_new_flight {
            published.notice(|notices| notices.recorder = self.flight.as_ref().map(Recorder::view));
        }
        let is_new_controller = controller.is_some();
        for recorder in [&mut self.recorder, &mut self.flight].into_iter().flatten() {
            if is_new_controller || is_new_flight {
                recorder.reconfigure(&self.config.core, &self.controller, now);
            }
        }
        reload.give_back(parts);
    }

    fn step(&mut self, now: Instant, is_marked: bool) {
        self.tick.reset(now);
        if is_marked {
            self.incidents = self.incidents.saturating_add(1);
            self.tick.incident = Some(self.incidents);
        }
        self.prober.drain(&mut self.tick);
        self.worker.drain(&mut self.tick);
        self.checker.drain(&mut self.tick);
        if let Some(links) = &self.links {
            links.drain(&mut self.tick);
        }
        for fact in &self.tick.links {
            self.prober.renew(fact.wan);
        }
        self.controller.step(&self.tick, &mut self.outputs);
        for action in &self.outputs.actions {
            match *action {
                Action::SendProbe { wan, reflector } => self.prober.send(wan, reflector),
                Action::CheckGateway { wan } => self.checker.ask(Check::Gateway(wan)),
                Action::CheckTcp { wan, target } => self.checker.ask(Check::Tcp(wan, target)),
                Action::SetRate { id, wan, direction, rate, is_cut } => {
                    self.worker.set_rate(RateOrder { id, wan, direction, rate, is_cut });
                }
                Action::SetSteering { id, to, .. } => {
                    self.worker.steer(SteeringOrder { id, to });
                }
            }
        }
        for event in &self.outputs.events {
            self.narrator.event(event);
        }
        for recorder in [&mut self.recorder, &mut self.flight].into_iter().flatten() {
            if is_marked {
                recorder.mark(now);
            }
            recorder.step(&self.tick, &self.outputs, &self.controller);
        }
        if let Some(saver) = &mut self.saver {
            saver.offer(now, &self.controller);
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.controller.snapshot();
        snapshot.set_recent(&self.figures);
        snapshot
    }

    /// Leaves the router as configured and says how the run went.
    fn end(mut self, published: &Published, is_orderly: bool) {
        published.publish(self.snapshot(), self.pacer.pacing(), self.prober.counters());
        self.narrator.status();
        // Everything before the end is told before it.
        drop(self.narrator);
        let rates = match self.config.on_exit {
            OnExit::FailSafe if is_orderly => fail_safe_rates(&self.config),
            OnExit::Restore if is_orderly => self.worker.found(),
            OnExit::FailSafe | OnExit::Restore | OnExit::Keep => Vec::new(),
        };
        let report = self.worker.finish(rates, std::time::Instant::now() + FINISH_TIMEOUT);
        if report.is_confirmed() {
            tracing::info!("ended: {report}");
        } else {
            tracing::warn!("ended: {report}");
        }
        if let Some(saver) = self.saver {
            saver.finish(&self.controller);
        }
        for recorder in [self.recorder, self.flight].into_iter().flatten() {
            let report = recorder.finish();
            tracing::info!("recording: {report}");
        }
    }
}

/// Takes over the state before the restart and begins to keep the one of this run.
fn start_saver(
    config: &DaemonConfig,
    controller: &mut Controller,
) -> Result<Option<StateSaver>, Failure> {
    let Some(folder) = &config.state_dir else { return Ok(None) };
    let names: Vec<&str> = config.wans.iter().map(|wan| wan.name.as_str()).collect();
    let storage = |error: std::io::Error| {
        Failure::new(ExitReason::Storage, format!("state-dir {}: {error}", folder.display()))
    };
    let file = StateFile::open(folder, &names).map_err(storage)?;
    let slots = file.read(state_file::unix_seconds());
    match slots.state {
        // What it says about a refusal is an event of the first tick.
        Ok(Some(state)) => drop(controller.restore(&state)),
        Ok(None) => {}
        Err(why) => controller.refuse_state(why),
    }
    StateSaver::start(file, slots.next_generation).map(Some).map_err(storage)
}

fn start_recorder(
    config: &DaemonConfig,
    controller: &Controller,
) -> Result<Option<Recorder>, Failure> {
    let Some(path) = &config.record else { return Ok(None) };
    Recorder::start(path, &config.core, controller).map(Some).map_err(|error| {
        Failure::new(ExitReason::Storage, format!("recording {}: {error}", path.display()))
    })
}

fn start_flight(
    config: &DaemonConfig,
    controller: &Controller,
) -> Result<Option<Recorder>, Failure> {
    let recorder = open_flight(config, true)?;
    Ok(recorder.map(|mut recorder| {
        recorder.begin(controller, crate::clock::now());
        recorder
    }))
}

/// Opens the ring of the flight recorder, if there is to be one.
pub(crate) fn open_flight(
    config: &DaemonConfig,
    goes_on: bool,
) -> Result<Option<Recorder>, Failure> {
    let Some(flight) = &config.flight else { return Ok(None) };
    let storage = |error: std::io::Error| {
        let folder = flight.folder.display();
        Failure::new(ExitReason::Storage, format!("record directory {folder}: {error}"))
    };
    Recorder::start_ring(flight, &config.core, goes_on).map(Some).map_err(storage)
}

fn start_worker(config: &DaemonConfig, role: Role) -> Result<Worker, Failure> {
    let queues = config.wans.iter().map(|wan| wan.queues.clone()).collect();
    let worker = match &config.backend {
        BackendConfig::RouterOs(router) => {
            let steering = config.steering_rules.clone();
            let interval = router.counter_interval;
            Worker::start(RouterOs::new(connect(router)?, queues, steering, interval))
        }
        BackendConfig::LinuxCake(cake) => {
            let folder = instance::folder(config.run_dir.as_deref());
            Worker::start(LinuxCake::new(queues, cake.counter_interval, folder, role))
        }
    };
    worker.map_err(|error| Failure::new(ExitReason::Other, format!("router thread: {error}")))
}

pub(crate) fn start_checker(config: &DaemonConfig) -> Result<Checker, Failure> {
    let targets = config
        .wans
        .iter()
        .map(|wan| CheckTargets {
            path: wan.probe_path(),
            gateway: wan.checks.gateway,
            tcp: wan.checks.tcp_targets.clone(),
        })
        .collect();
    Checker::start(targets)
        .map_err(|error| Failure::new(ExitReason::Other, format!("check thread: {error}")))
}

/// Watches the links, if the configuration says which. Without it the daemon works as well, only
/// less promptly.
pub(crate) fn start_links(config: &DaemonConfig) -> Option<LinkWatcher> {
    let link = |wan: &WanConfig| WatchedLink {
        name: wan.name.clone(),
        interface: wan.interface.clone(),
        source: wan.source_address,
        source_v6: wan.source_address_v6,
        reflectors: wan.reflectors.clone(),
    };
    let links: Vec<WatchedLink> = config.wans.iter().map(link).collect();
    if links.iter().all(|link| link.interface.is_none() && link.source.is_none()) {
        return None;
    }
    LinkWatcher::start(links)
        .inspect_err(|error| tracing::warn!(%error, "the interfaces cannot be watched"))
        .ok()
}

/// Makes the client of the configured router. Nothing is sent yet.
///
/// # Errors
///
/// When the settings cannot be used, such as a malformed certificate.
pub fn connect(router: &RouterConfig) -> Result<Client, Failure> {
    let target = RouterTarget {
        url: router.url.clone(),
        transport: router.transport,
        user: router.user.clone(),
        password: router.password.clone(),
        trust: router.trust.clone(),
    };
    Ok(Client::new(target)?)
}

/// Does at the router what the orderly end of a daemon with `on-exit = "fail-safe"` does, and tries for a
/// while.
///
/// # Errors
///
/// When no fail-safe rate is configured, or the router has not confirmed everything.
pub fn leave_fail_safe(config: &DaemonConfig, patience: Duration) -> Result<FinishReport, Failure> {
    let rates = fail_safe_rates(config);
    if rates.is_empty() {
        let message = "no fail-safe rate is configured";
        return Err(Failure::new(ExitReason::ConfigValue, message));
    }
    let report =
        start_worker(config, Role::Command)?.finish(rates, std::time::Instant::now() + patience);
    if report.is_confirmed() {
        Ok(report)
    } else {
        let reason = report.refusal.as_ref().map(|refusal| refusal.reason);
        let reason = reason.unwrap_or(ExitReason::RouterUnreachable);
        Err(Failure::new(reason, report.to_string()))
    }
}

fn fail_safe_rates(config: &DaemonConfig) -> Vec<(WanId, Direction, BitsPerSecond)> {
    let mut rates = Vec::new();
    for (id, wan) in (0..).map(WanId).zip(&config.wans) {
        for direction in Direction::BOTH {
            rates.extend(wan.fail_safe.get(direction).map(|rate| (id, direction, rate)));
        }
    }
    rates
}

fn after(now: Instant, interval: Duration) -> Instant {
    let interval = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
    now.checked_add(embassy_time::Duration::from_micros(interval)).unwrap_or(Instant::MAX)
}

/// Exchanges a value for another one, if there is another one.
const fn swap_some<T>(value: &mut T, other: &mut Option<T>) {
    if let Some(other) = other {
        std::mem::swap(value, other);
    }
}
