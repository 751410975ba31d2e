//! SIGHUP: another configuration for a running daemon, whole or not at all.
//!
//! A thread of its own reads the file, says what differs, and prepares everything that has to be made
//! anew. The tick thread then exchanges the parts between two steps, without allocating or waiting, and
//! gives the old ones back to be ended. What fails before that leaves the daemon as it is.

mod changes;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Thread};

use wanctl_core::controller::Controller;

use self::changes::Changes;
use crate::config::{self, DaemonConfig, ReadFiles};
use crate::connectivity::Checker;
use crate::exit::{ExitReason, Failure};
use crate::links::LinkWatcher;
use crate::probe::Prober;
use crate::published::Published;
use crate::routeros::RouterView;
use crate::trace_file::Recorder;
use crate::{daemon, notify};

/// The size of a controller on its way into its box, many times over without optimisation.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// What is exchanged by a reload: the new parts on their way to the tick thread, and the old ones on
/// their way back. A part that stays is `None`.
#[derive(Debug)]
pub(crate) struct Parts<P> {
    pub(crate) config: Box<DaemonConfig>,
    pub(crate) controller: Option<Box<Controller>>,
    pub(crate) prober: Option<P>,
    pub(crate) checker: Option<Checker>,
    pub(crate) links: Option<Option<LinkWatcher>>,
    pub(crate) flight: Option<Option<Recorder>>,
    /// By WAN, whether its probes go the same way to the same reflectors.
    pub(crate) same_paths: Vec<bool>,
}

/// Where new and old parts change hands.
#[derive(Debug)]
struct Exchange<P> {
    is_offered: AtomicBool,
    offered: Mutex<Option<Box<Parts<P>>>>,
    returned: Mutex<Option<Box<Parts<P>>>>,
    changed: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P> Exchange<P> {
    /// Offers new parts and waits for the old ones.
    fn exchange(&self, parts: Box<Parts<P>>) -> Option<Box<Parts<P>>> {
        *lock(&self.offered) = Some(parts);
        self.is_offered.store(true, Ordering::Release);
        let waiting = |returned: &mut Option<_>| returned.is_none();
        let returned = self.changed.wait_while(lock(&self.returned), waiting);
        returned.unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The tick thread's end of the thread that reloads.
#[derive(Debug)]
pub(crate) struct ReloadThread<P> {
    requested: Arc<AtomicBool>,
    thread: Thread,
    exchange: Arc<Exchange<P>>,
}

impl<P> ReloadThread<P> {
    /// Wakes the thread if a reload was asked for, and returns what it has prepared.
    pub(crate) fn take(&self) -> Option<Box<Parts<P>>> {
        if self.requested.load(Ordering::Relaxed) {
            self.thread.unpark();
        }
        let is_offered = self.exchange.is_offered.swap(false, Ordering::Acquire);
        is_offered.then(|| lock(&self.exchange.offered).take()).flatten()
    }

    /// Hands the old parts over, to be ended.
    pub(crate) fn give_back(&self, parts: Box<Parts<P>>) {
        *lock(&self.exchange.returned) = Some(parts);
        self.exchange.changed.notify_all();
    }
}

/// How a daemon reads its configuration again.
#[derive(Debug)]
pub struct Reloader<P> {
    /// The configuration file.
    pub path: PathBuf,
    /// Makes the prober of a configuration.
    pub start_prober: fn(&DaemonConfig) -> Result<P, Failure>,
}

impl<P: Prober + 'static> Reloader<P> {
    /// Starts the thread, which ends with the process.
    pub(crate) fn start(
        self,
        config: DaemonConfig,
        requested: &Arc<AtomicBool>,
        router: RouterView,
        published: &Arc<Published>,
    ) -> std::io::Result<ReloadThread<P>> {
        let exchange = Arc::new(Exchange {
            is_offered: AtomicBool::new(false),
            offered: Mutex::new(None),
            returned: Mutex::new(None),
            changed: Condvar::new(),
        });
        let (exchange2, requested2) = (Arc::clone(&exchange), Arc::clone(requested));
        let published = Arc::clone(published);
        let spawned =
            Builder::new().name("reload".to_owned()).stack_size(STACK_BYTES).spawn(move || {
                let mut config = config;
                loop {
                    while !requested2.swap(false, Ordering::Relaxed) {
                        std::thread::park();
                    }
                    notify::reloading();
                    let outcome = self.reload(&mut config, &router, &exchange2);
                    tell(outcome, &published);
                }
            })?;
        let (requested, thread) = (Arc::clone(requested), spawned.thread().clone());
        Ok(ReloadThread { requested, thread, exchange })
    }

    /// Carries a reload out; returns what was done.
    fn reload(
        &self,
        config: &mut DaemonConfig,
        router: &RouterView,
        exchange: &Exchange<P>,
    ) -> Result<String, Failure> {
        let mut new = config::load(&self.path, ReadFiles::Yes)?;
        new.record.clone_from(&config.record);
        let changes = Changes::between(config, &new);
        let listed = list(config, &new, &changes);
        if !changes.restart.is_empty() {
            let keys = changes.restart.join("; ");
            return Err(Failure::new(ExitReason::ConfigValue, format!("takes a restart: {keys}")));
        }
        let client = changes.login.then(|| daemon::connect(&new)).transpose()?;
        let parts = self.prepare(&new, &changes)?;
        // From here on nothing fails.
        for line in &listed {
            tracing::info!("reload: {line}");
        }
        let old = exchange.exchange(Box::new(parts));
        if let Some(client) = client {
            router.renew(client, new.router.counter_interval);
        }
        *config = new;
        if let Some(Some(recorder)) = old.and_then(|parts| parts.flight) {
            tracing::info!("recording: {}", recorder.finish());
        }
        Ok(match listed.len() {
            0 => "nothing has changed".to_owned(),
            1 => "1 change".to_owned(),
            count => format!("{count} changes"),
        })
    }

    /// Makes everything that is needed anew.
    fn prepare(&self, new: &DaemonConfig, changes: &Changes) -> Result<Parts<P>, Failure> {
        let controller = if changes.core {
            let controller = Controller::new(&new.core).map(Box::new);
            let bad = |error| Failure::new(ExitReason::ConfigValue, format!("{error}"));
            Some(controller.map_err(bad)?)
        } else {
            None
        };
        Ok(Parts {
            controller,
            prober: changes.prober.then(|| (self.start_prober)(new)).transpose()?,
            checker: changes.checker.then(|| daemon::start_checker(new)).transpose()?,
            links: changes.links.then(|| daemon::start_links(new)),
            flight: changes.flight.then(|| daemon::open_flight(new)).transpose()?,
            same_paths: changes.same_paths.clone(),
            config: Box::new(new.clone()),
        })
    }
}

/// Returns what differs, a line each.
fn list(old: &DaemonConfig, new: &DaemonConfig, changes: &Changes) -> Vec<String> {
    let mut lines: Vec<String> =
        old.keys.changes(&new.keys).iter().map(ToString::to_string).collect();
    if changes.password {
        lines.push("router.password: another one (not shown)".to_owned());
    }
    if changes.trust {
        lines.push("router: another trust in certificates".to_owned());
    }
    lines
}

/// Says how a reload went, to everybody.
fn tell(outcome: Result<String, Failure>, published: &Published) {
    let status = match outcome {
        Ok(done) => {
            published.notice(|notices| {
                notices.reloads = notices.reloads.saturating_add(1);
                notices.refusal = None;
            });
            tracing::info!("reload: done, {done}");
            format!("reloaded: {done}")
        }
        Err(failure) => {
            let why = failure.message;
            published.notice(|notices| {
                notices.reloads_refused = notices.reloads_refused.saturating_add(1);
                notices.refusal = Some(why.replace('\n', " "));
            });
            for line in why.lines() {
                tracing::error!("reload refused: {line}");
            }
            tracing::error!("reload refused; going on under the old configuration");
            let first = why.lines().next().unwrap_or_default();
            format!("reload refused: {first}")
        }
    };
    notify::reloaded(&status);
}
