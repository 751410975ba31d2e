//! The steering of the core, fed as the reference feeds itself.

use embassy_time::{Duration, Instant};
use wanctl_core::fixed::MicrosQ32;
use wanctl_core::outputs::{Action, Outputs};
use wanctl_core::steering::{QueueSignal, Steering, SteeringConfig, WanSignals};
use wanctl_core::tick::SteeringReply;
use wanctl_core::units::{CommandId, Packets};

use super::columns::{Actual, DISABLE, ENABLE};
use super::settings::{DropsColumn, FlapColumn, RttHistory, SteeringSettings};
use super::trace::{QueueRow, TraceRow};

/// How files are read where they leave room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    drops: DropsColumn,
    rtt_history: RttHistory,
    flap: FlapColumn,
}

/// The keys of what files leave open.
pub(super) const QUESTIONS: [&str; 3] = ["drops", "rtt_history", "flap"];

impl Reading {
    /// Returns every reading that the settings allow.
    pub(super) fn all(settings: &SteeringSettings) -> Vec<Self> {
        let all_drops = either(settings.drops, [DropsColumn::PerRow, DropsColumn::Cumulative]);
        let histories = either(settings.rtt_history, [RttHistory::None, RttHistory::Last]);
        let flaps = either(settings.flap, [FlapColumn::Penalty, FlapColumn::Toggles]);
        let mut all = Vec::new();
        for &drops in &all_drops {
            for &rtt_history in &histories {
                all.extend(flaps.iter().map(|&flap| Self { drops, rtt_history, flap }));
            }
        }
        all
    }

    /// Returns the values of [`QUESTIONS`].
    pub(super) const fn answers(self) -> [&'static str; 3] {
        let drops = match self.drops {
            DropsColumn::PerRow => "per-row",
            DropsColumn::Cumulative => "cumulative",
        };
        let rtt_history = match self.rtt_history {
            RttHistory::None => "none",
            RttHistory::Last => "last",
        };
        let flap = match self.flap {
            FlapColumn::Penalty => "penalty",
            FlapColumn::Toggles => "toggles",
        };
        [drops, rtt_history, flap]
    }
}

fn either<T: Copy>(decided: Option<T>, both: [T; 2]) -> Vec<T> {
    decided.map_or_else(|| both.to_vec(), |decided| vec![decided])
}

/// More than this ends the reference: packets in a queue, and a delay in ms.
const FATAL_PACKETS: u64 = 1000;
const FATAL_DELAY_MS: f64 = 1000.0;

/// Steering of two WANs and a router that answers at once.
pub(super) struct Run {
    steering: Steering,
    outputs: Outputs,
    next_id: CommandId,
    now: Instant,
    tick: Duration,
    reading: Reading,
    baseline_bounds_ms: (f64, f64),
    baseline_ms: Option<f64>,
    last_rtt_ms: Option<f64>,
    dropped: i64,
}

impl Run {
    pub(super) fn new(
        config: &SteeringConfig,
        baseline_bounds_ms: (f64, f64),
        reading: Reading,
    ) -> Self {
        Self {
            steering: Steering::new(config),
            outputs: Outputs::new(),
            next_id: CommandId(0),
            now: Instant::from_ticks(0),
            tick: config.tick,
            reading,
            baseline_bounds_ms,
            baseline_ms: None,
            last_rtt_ms: None,
            dropped: 0,
        }
    }

    /// Runs one cycle, and also tells whether it would have ended the reference; `None` when the drop
    /// counter would fall below 0.
    pub(super) fn row(&mut self, row: &TraceRow) -> Option<(Actual, bool)> {
        self.now += self.tick;
        let mut primary = WanSignals::default();
        let mut is_fatal = false;
        if let Some(baseline_ms) = self.baseline(row.baseline_ms) {
            primary.queue = self.queue(row.queue)?;
            let delay_ms = self.rtt(row.rtt_ms).map(|rtt_ms| (rtt_ms - baseline_ms).max(0.0));
            is_fatal = row.queue.is_some_and(|queue| queue.queued > FATAL_PACKETS)
                || delay_ms.is_some_and(|delay_ms| delay_ms > FATAL_DELAY_MS);
            primary.delay = delay_ms.filter(|_| !is_fatal).map(delay);
        }
        let ok = primary.delay.is_some();
        let alternate = WanSignals { delay: Some(MicrosQ32::ZERO), ..WanSignals::default() };
        self.outputs.clear();
        let signals = [primary, alternate];
        self.steering.step(self.now, &signals, &mut self.next_id, &mut self.outputs);
        let call = self.answer(row.router_ok);
        let snapshot = self.steering.snapshot();
        let primary = snapshot.wans().first().copied().unwrap_or_default();
        let flap = self.reading.flap;
        Some((Actual { ok, snapshot, primary, flap, call }, is_fatal))
    }

    /// Answers the command of this row: the reference's router calls return at once.
    fn answer(&mut self, succeeded: bool) -> &'static str {
        let mut call = "";
        let actions = self.outputs.actions.clone();
        for action in &actions {
            if let Action::SetSteering { id, to, .. } = *action {
                call = if to.is_some() { ENABLE } else { DISABLE };
                let reply = SteeringReply { id, succeeded, took_us: 0 };
                self.steering.answer(self.now, &reply, &mut self.outputs);
            }
        }
        call
    }

    /// Returns the last baseline that was within its bounds.
    fn baseline(&mut self, read: Option<f64>) -> Option<f64> {
        let (min, max) = self.baseline_bounds_ms;
        if let Some(baseline_ms) = read.filter(|read| (min..=max).contains(read)) {
            self.baseline_ms = Some(baseline_ms);
        }
        self.baseline_ms
    }

    fn rtt(&mut self, measured: Option<f64>) -> Option<f64> {
        match (measured, self.reading.rtt_history) {
            (Some(rtt_ms), _) => self.last_rtt_ms = Some(rtt_ms),
            (None, RttHistory::None) => return None,
            (None, RttHistory::Last) => {}
        }
        self.last_rtt_ms
    }

    fn queue(&mut self, read: Option<QueueRow>) -> Option<QueueSignal> {
        let Some(QueueRow { drops, queued }) = read else { return Some(QueueSignal::Failed) };
        self.dropped = match self.reading.drops {
            DropsColumn::Cumulative => drops,
            DropsColumn::PerRow => self.dropped.saturating_add(drops),
        };
        let dropped = Packets(u64::try_from(self.dropped).ok()?);
        Some(QueueSignal::Read { dropped, backlog: Packets(queued) })
    }
}

/// Converts a delay to the core's type, on the same side of every whole microsecond: thresholds are
/// whole microseconds, and the reference compares them with a double in milliseconds.
#[expect(clippy::cast_possible_truncation, reason = "at most 1000 ms")]
fn delay(millis: f64) -> MicrosQ32 {
    const ONE_MICRO: f64 = 4_294_967_296.0;
    let bits = (millis * 1e3 * ONE_MICRO).round() as i64;
    let whole_micros = (millis * 1e3).round();
    let is_whole = bits == (whole_micros * ONE_MICRO) as i64;
    let side = match millis.partial_cmp(&(whole_micros / 1e3)) {
        Some(std::cmp::Ordering::Less) => -1,
        Some(std::cmp::Ordering::Greater) => 1,
        Some(std::cmp::Ordering::Equal) | None => 0,
    };
    MicrosQ32::from_bits(if is_whole { bits + side } else { bits })
}
