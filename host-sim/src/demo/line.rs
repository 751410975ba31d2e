//! Two twin lines in real time inside the process: one with wanctl's shaper, one without.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use wanctl::clock;
use wanctl::probe::Prober;
use wanctl_core::tick::{RttSample, Tick};
use wanctl_core::units::{Direction, PerDirection, ReflectorId, RttNanos, WanId};

use super::accounting::{Accounting, Passed, queue};
use super::episode::Episode;
use super::recording::LineSample;
use crate::link::{Nanos, SaturatedLink, SaturatedLinkOptions};
use crate::routeros::Emulator;

/// Time between two steps of the lines.
const STEP: Duration = Duration::from_millis(1);
/// Steps between two looks at the lines.
const STEPS_PER_SAMPLE: u64 = 10;
/// The largest random extra delay of a reply.
const JITTER: Duration = Duration::from_millis(2);
/// Seed of that randomness.
const SEED: u64 = 1;

/// A probe that has been asked for.
#[derive(Debug, Clone, Copy)]
struct Request {
    wan: WanId,
    reflector: ReflectorId,
}

/// A probe that has been answered.
#[derive(Debug, Clone, Copy)]
struct Answer {
    request: Request,
    rtt: Nanos,
    /// On the daemon's clock, in ns.
    received_at: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    requests: Mutex<Vec<Request>>,
    answers: Mutex<Vec<Answer>>,
    with: Mutex<Vec<LineSample>>,
    without: Mutex<Vec<LineSample>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every value behind these locks is whole after each statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that moves the twins; it ends on drop.
#[derive(Debug)]
pub(super) struct LineThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl LineThread {
    /// Starts an episode. The controlled line's shapers follow the router's `max-limit`, the
    /// other's stay at the ceiling.
    ///
    /// # Errors
    ///
    /// When no thread can be made.
    pub(super) fn start(episode: Episode, emulator: Emulator) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let twins = Twins::new(episode, emulator, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("line".to_owned())
            .spawn(move || twins.run())
            .context("start the thread of the line")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Returns the way probes take through the controlled line.
    #[must_use]
    pub(super) fn prober(&self) -> LineProber {
        LineProber { shared: Arc::clone(&self.shared) }
    }

    /// Returns the latest look at the line with and at the one without control.
    #[must_use]
    pub(super) fn latest(&self) -> Option<(LineSample, LineSample)> {
        Some((*lock(&self.shared.with).last()?, *lock(&self.shared.without).last()?))
    }

    /// Ends the episode and returns all looks at both lines.
    #[must_use]
    pub(super) fn stop(mut self) -> (Vec<LineSample>, Vec<LineSample>) {
        self.end();
        (
            std::mem::take(&mut lock(&self.shared.with)),
            std::mem::take(&mut lock(&self.shared.without)),
        )
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _panicked = thread.join();
        }
    }
}

impl Drop for LineThread {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends probes through the emulated line. None is ever lost there.
#[derive(Debug)]
pub(super) struct LineProber {
    shared: Arc<Shared>,
}

impl Prober for LineProber {
    fn send(&mut self, wan: WanId, reflector: ReflectorId) {
        lock(&self.shared.requests).push(Request { wan, reflector });
    }

    fn drain(&mut self, tick: &mut Tick) {
        let now = tick.now.as_micros();
        for Answer { request, rtt, received_at } in lock(&self.shared.answers).drain(..) {
            let Request { wan, reflector } = request;
            let age_us = u32::try_from(now.saturating_sub(received_at / 1000)).unwrap_or(u32::MAX);
            tick.push_sample(RttSample {
                wan,
                reflector,
                rtt: RttNanos::new(rtt),
                age_us,
                upload_owd: None,
            });
        }
    }
}

struct Twins {
    episode: Episode,
    emulator: Emulator,
    shared: Arc<Shared>,
    with: SaturatedLink,
    without: SaturatedLink,
    /// On the daemon's clock, in ns.
    origin: u64,
    /// Probes on their way, by token.
    pending: Vec<(u64, Request)>,
    next_token: u64,
    accounting: Accounting,
}

impl Twins {
    fn new(episode: Episode, emulator: Emulator, shared: Arc<Shared>) -> Self {
        let link = || {
            SaturatedLink::new(SaturatedLinkOptions {
                fifo_bytes: episode.line.fifo_bytes,
                base_rtt: episode.line.base_rtt,
                jitter: JITTER,
                seed: SEED,
                ..SaturatedLinkOptions::new(
                    episode.capacity(Direction::Download),
                    episode.capacity(Direction::Upload),
                )
            })
        };
        Self {
            episode,
            emulator,
            shared,
            with: link(),
            without: link(),
            origin: clock::now_nanos(),
            pending: Vec::new(),
            next_token: 0,
            accounting: Accounting::default(),
        }
    }

    fn run(mut self) {
        for direction in Direction::BOTH {
            let ceiling = *self.episode.line.ceiling_bps.get(direction);
            self.without.set_shaper_rate(0, direction, ceiling);
        }
        let mut step = 0;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let now = clock::now_nanos().saturating_sub(self.origin);
            self.advance(now);
            if step % STEPS_PER_SAMPLE == 0 {
                self.look(now);
                self.account();
            }
            step += 1;
            std::thread::sleep(STEP);
        }
    }

    fn advance(&mut self, now: Nanos) {
        let loaded = self.episode.is_loaded(Duration::from_nanos(now));
        for direction in Direction::BOTH {
            self.with.set_load(now, direction, loaded);
            self.without.set_load(now, direction, loaded);
            let rate = self.emulator.max_limit_bps(queue(direction)).unwrap_or_default();
            self.with.set_shaper_rate(now, direction, rate);
        }
        for request in lock(&self.shared.requests).drain(..) {
            self.pending.push((self.next_token, request));
            self.with.send_probe(now, self.next_token);
            self.next_token += 1;
        }
        self.with.advance(now);
        self.without.advance(now);
        while let Some(reply) = self.with.pop_reply(now) {
            let Some(index) = self.pending.iter().position(|(token, _)| *token == reply.token)
            else {
                continue;
            };
            let (_, request) = self.pending.swap_remove(index);
            let received_at = self.origin + reply.received_at;
            lock(&self.shared.answers).push(Answer { request, rtt: reply.rtt(), received_at });
        }
    }

    fn look(&mut self, now: Nanos) {
        lock(&self.shared.with).push(sample(&self.with, now));
        lock(&self.shared.without).push(sample(&self.without, now));
    }

    /// Lets the router's counters move.
    fn account(&mut self) {
        for direction in Direction::BOTH {
            let passed = Passed::of_pipe(direction, &self.with.stats(direction));
            self.accounting.follow(&self.emulator, direction, passed);
        }
    }
}

fn sample(link: &SaturatedLink, now: Nanos) -> LineSample {
    let (download, upload) = (link.stats(Direction::Download), link.stats(Direction::Upload));
    LineSample {
        at: Duration::from_nanos(now),
        delay: PerDirection { download: download.fifo_delay, upload: upload.fifo_delay },
        delivered_bytes: PerDirection {
            download: download.delivered_bytes,
            upload: upload.delivered_bytes,
        },
        shaper_bps: PerDirection { download: download.shaper_bps, upload: upload.shaper_bps },
    }
}
