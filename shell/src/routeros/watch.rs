//! Looking at the queues between writes: one request for all of them.

use std::time::{Duration, Instant};

use wanctl_core::units::{BitsPerSecond, Direction, WanId};

use super::accord::Finding;
use super::client::Client;
use super::error::RouterError;
use super::model::Queue;
use super::serve::{BackOff, Server, Target};
use crate::clock;
use crate::shaping::QueueCounters;

/// The shortest time between two looks: RouterOS itself prints no faster (`print interval`).
pub const COUNTER_INTERVAL_MIN: Duration = Duration::from_millis(200);
/// The longest time between two looks: a delivered rate that is older is of no use.
pub const COUNTER_INTERVAL_MAX: Duration = Duration::from_secs(2);
/// Time between two looks unless configured. A look takes an RB5009 6 ms on average and 21 ms at
/// the 95th percentile.
pub const COUNTER_INTERVAL: Duration = COUNTER_INTERVAL_MIN;
/// A look is followed by so many times its duration without one: a slow router is left free for
/// writes four fifths of the time.
const REST_FACTOR: u32 = 4;

/// When to look at the queues.
#[derive(Debug)]
pub(crate) struct Watch {
    interval: Duration,
    due: Instant,
    back_off: BackOff,
    /// Whether the last look was refused.
    is_refused: bool,
}

impl Watch {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            due: Instant::now() + interval,
            back_off: BackOff::new(),
            is_refused: false,
        }
    }

    /// Returns when the next look is due.
    pub(crate) const fn due(&self) -> Instant {
        self.due
    }

    /// Looks at once, and then at another interval.
    pub(crate) fn renew(&mut self, interval: Duration) {
        (self.interval, self.back_off) = (interval, BackOff::new());
        self.look_now();
    }

    /// Makes the next look due at once.
    pub(crate) fn look_now(&mut self) {
        self.due = Instant::now();
    }

    fn plan(&mut self, begin: Instant, took: Duration) {
        self.due = begin + self.interval.max(took.saturating_mul(REST_FACTOR + 1));
    }
}

impl Server {
    /// Reads all queues. A refusal is no reason to leave writes undone; other failures are.
    pub(crate) fn look(&mut self) {
        let begin = Instant::now();
        let result = self.call(Client::queues);
        let took = begin.elapsed();
        self.watch.plan(begin, took);
        match result {
            Ok(queues) => {
                self.watch.back_off = BackOff::new();
                if std::mem::take(&mut self.watch.is_refused) {
                    tracing::info!("the queues can be read again");
                }
                self.note_success(false);
                self.take_look(&queues, took);
            }
            Err(error) => self.note_failed_look(&error),
        }
    }

    fn note_failed_look(&mut self, error: &RouterError) {
        if error.is_answer() {
            if !std::mem::replace(&mut self.watch.is_refused, true) {
                tracing::warn!(%error, "the queues cannot be read, going on without their counters");
            }
            self.watch.due = Instant::now() + self.watch.back_off.next();
        } else {
            self.note_failure(error, false);
            self.pause();
        }
    }

    /// Compares what was found with what should be there, and puts right what others changed.
    fn take_look(&mut self, queues: &[Queue], took: Duration) {
        for wan in 0..self.targets.len() {
            for direction in Direction::BOTH {
                let Some(target) = self.targets.get_mut(wan) else { continue };
                let target = target.get_mut(direction);
                let (queue, finding) =
                    Finding::of(queues.iter().filter(|queue| queue.name == target.name));
                let is_back = target.finding.is_some() && finding.is_none();
                tell_finding(target, finding);
                target.id = queue.map(|queue| queue.id.clone());
                if is_back {
                    self.end_rest(wan, direction);
                }
                let Some(queue) = queue else { continue };
                if let Some(counters) = queue.counters {
                    // When exactly the router looked at its counters is not known.
                    self.counted(wan, direction, counters, took, took / 2);
                }
                self.compare(wan, direction, queue.max_limit);
            }
        }
        self.show_findings();
    }

    fn compare(&mut self, wan: usize, direction: Direction, found: BitsPerSecond) {
        let Some(target) = self.targets.get_mut(wan) else { return };
        let target = target.get_mut(direction);
        let id = u8::try_from(wan).map(WanId).unwrap_or(WanId(u8::MAX));
        if self.desk.is_waiting(id, direction) {
            return; // whatever it is now, a newer rate takes its place
        }
        if target.is_resting() {
            return;
        }
        let Some(ours) = target.accord.settle(&target.name, found) else {
            // Somebody else has put it right.
            if target.accord.held == Some(found) {
                self.end_trouble(wan, direction);
            }
            return;
        };
        if let Err(error) = self.write(id, direction, ours) {
            if let Ok(target) = self.target(wan, direction) {
                target.accord.not_corrected();
            }
            self.note_failed_write(id, direction, &error);
        }
    }

    /// Tells what is disputed, and what is wrong besides rates.
    pub(crate) fn show_findings(&self) {
        let both = self.targets.iter().flat_map(|wan| [&wan.download, &wan.upload]);
        let disputed = both.filter(|target| target.accord.is_truce());
        let queues = disputed.map(|target| target.name.clone());
        self.desk.set_disputed(queues.chain(self.steerer.disputed()).collect());
        let both = self.targets.iter().flat_map(|wan| [&wan.download, &wan.upload]);
        let queues = both.filter_map(|target| {
            let finding = target.finding?;
            Some(finding.complaint(&format!("queue {:?}", target.name), finding != Finding::NoType))
        });
        self.desk.set_complaints(queues.chain(self.steerer.complaints()).collect());
    }

    /// Hands over counters that came with a request which ended just now. Those of a request so
    /// slow that the rate would be off by more than an eighth are not used.
    pub(crate) fn counted(
        &mut self,
        wan: usize,
        direction: Direction,
        counters: QueueCounters,
        took: Duration,
        age: Duration,
    ) {
        let Some(target) = self.targets.get_mut(wan) else { return };
        let target = target.get_mut(direction);
        let now = Instant::now();
        let since_last = target.counted.map_or(Duration::MAX, |last| now.duration_since(last));
        if took.saturating_mul(REST_FACTOR) > since_last {
            tracing::debug!(queue = target.name, ?took, "counters too late to be used");
            return;
        }
        target.counted = Some(now);
        let age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        let at_ns = clock::now_nanos().saturating_sub(age_ns);
        self.desk.counted(wan, direction, counters, at_ns);
    }
}

/// Reports what is wrong with a queue when that changes.
fn tell_finding(target: &mut Target, finding: Option<Finding>) {
    let before = std::mem::replace(&mut target.finding, finding);
    let queue = &target.name;
    match finding {
        Some(finding) if before != Some(finding) => tracing::warn!(queue, "the queue {finding}"),
        None if before.is_some() => tracing::info!(queue, "the queue is well again"),
        Some(_) | None => {}
    }
}
