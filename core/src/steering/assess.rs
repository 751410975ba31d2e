//! The zone of one WAN, from delay, drops and backlog.
//!
//! ```text
//!  filtered delay      queue                                  zone
//!  above severe        whatever it is                         RED
//!  above red           unknown, or drops and a high backlog   RED
//!  above red           anything else                          SOFT_RED
//!  above yellow        whatever it is                         YELLOW
//!  any                 a backlog                              YELLOW
//!  below yellow        no backlog                             GREEN
//! ```
//!
//! A drop counter that never moves although a queue stands says nothing: delay and backlog then
//! decide.

use embassy_time::Duration;
use serde::{Deserialize, Serialize};

use crate::divide::checked_quotient;
use crate::fixed::{MicrosQ32, PacketsQ32};
use crate::outputs::{Event, Outputs};
use crate::steering::config::{SteeringConfig, SteeringQuirks, SteeringThresholds};
use crate::steering::counters::{DropCounter, Drops};
use crate::steering::decision::SteeringEvidence;
use crate::steering::filter::StartingFilter;
use crate::steering::score::score;
use crate::steering::signals::{QueueSignal, WanSignals};
use crate::steering::snapshot::SteeringWanSnapshot;
use crate::units::{Packets, WanId};
use crate::zone::Zone;

/// A reading of a queue older than this says nothing about now.
pub(super) const QUEUE_AGE_MAX: Duration = Duration::from_secs(5);
/// A WAN without a measurement for this long is in no known state.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A longer pause between two measurements says nothing about the line in between.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The latest few values of each signal, oldest first.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Recent {
    pub(super) drops: [Option<Drops>; 3],
    pub(super) backlogs: [Option<Packets>; 2],
    pub(super) zones: [Option<Zone>; 3],
}

/// Returns the nearest number of ticks, at least 1.
fn ticks_nearest(time: Duration, tick: Duration) -> u32 {
    let half = tick.as_ticks() / 2;
    let ticks = checked_quotient(time.as_ticks().saturating_add(half), tick.as_ticks());
    u32::try_from(ticks.unwrap_or(1)).unwrap_or(u32::MAX).max(1)
}

fn push<T: Copy, const N: usize>(list: &mut [Option<T>; N], value: T) {
    list.rotate_left(1);
    if let Some(newest) = list.last_mut() {
        *newest = Some(value);
    }
}

/// The latest reading of a queue.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Queue {
    drops: Drops,
    backlog: Packets,
    #[serde(with = "crate::micros")]
    age: Duration,
    /// Whether the filter has it already.
    is_filtered: bool,
}

/// What is known about one WAN.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WanState {
    id: WanId,
    thresholds: SteeringThresholds,
    quirks: SteeringQuirks,
    #[serde(with = "crate::micros")]
    tick: Duration,
    delay: StartingFilter<MicrosQ32>,
    backlog: StartingFilter<PacketsQ32>,
    /// Measurements since the backlog filter was last fed.
    unfed_ticks: u32,
    counter: DropCounter,
    queue: Option<Queue>,
    failed_readings: u32,
    recent: Recent,
    unfiltered_delay: MicrosQ32,
    /// `None` before the first measurement.
    #[serde(with = "crate::micros")]
    silence: Option<Duration>,
    is_measured: bool,
    /// How many ticks the last measurement stands for.
    measured_ticks: u32,
    zone: Zone,
    score: u8,
    outage: bool,
    red_ticks: u32,
}

impl WanState {
    pub(super) fn new(id: WanId, config: &SteeringConfig) -> Self {
        let zeros = config.quirks.zeros_do_not_start_filter;
        Self {
            id,
            thresholds: config.thresholds,
            quirks: config.quirks,
            tick: config.tick,
            delay: StartingFilter::new(config.delay_time_constant, config.tick, zeros),
            backlog: StartingFilter::new(config.backlog_time_constant, config.tick, zeros),
            unfed_ticks: 0,
            counter: DropCounter::new(&config.quirks),
            queue: None,
            failed_readings: 0,
            recent: Recent::default(),
            unfiltered_delay: MicrosQ32::ZERO,
            silence: None,
            is_measured: false,
            measured_ticks: 1,
            zone: Zone::Green,
            score: 0,
            outage: false,
            red_ticks: 0,
        }
    }

    pub(super) const fn id(&self) -> WanId {
        self.id
    }

    pub(super) const fn zone(&self) -> Zone {
        self.zone
    }

    pub(super) const fn score(&self) -> u8 {
        self.score
    }

    pub(super) const fn is_out(&self) -> bool {
        self.outage
    }

    /// Returns the zone the score was made of.
    pub(super) fn scored_zone(&self) -> Zone {
        let [_, before, _] = self.recent.zones;
        if self.quirks.score_from_last_zone { before.unwrap_or_default() } else { self.zone }
    }

    /// Returns whether this tick brought a measurement.
    pub(super) const fn is_measured(&self) -> bool {
        self.is_measured
    }

    /// Returns how many ticks the last measurement stands for: those since the one before, so that
    /// seconds stay seconds on a line that loses probes.
    pub(super) const fn measured_ticks(&self) -> u32 {
        self.measured_ticks
    }

    /// Returns whether the last measurement is too old to say anything about now.
    pub(super) fn is_silent(&self) -> bool {
        self.silence.is_none_or(|silence| silence > SILENCE_MAX)
    }

    /// Returns whether it carries traffic, as far as is known.
    pub(super) fn is_usable(&self) -> bool {
        !self.outage && !self.is_silent()
    }

    /// Returns whether it can take traffic from others.
    pub(super) fn is_healthy(&self) -> bool {
        self.is_usable() && self.zone <= Zone::Yellow
    }

    /// Returns for how many ticks the measurements have been RED.
    pub(super) const fn red_ticks(&self) -> u32 {
        self.red_ticks
    }

    /// Returns the unfiltered delay of the last measurement.
    pub(super) const fn unfiltered_delay(&self) -> MicrosQ32 {
        self.unfiltered_delay
    }

    pub(super) fn filtered_delay(&self) -> Option<MicrosQ32> {
        self.delay.value()
    }

    /// Returns whether packets were dropped between the last two readings.
    pub(super) fn has_drops(&self) -> bool {
        self.queue.is_some_and(|queue| queue.drops.0 > 0)
    }

    /// Takes in one tick.
    pub(super) fn observe(&mut self, signals: &WanSignals, out: &mut Outputs) {
        self.outage = signals.outage;
        match signals.queue {
            QueueSignal::NotRead => {}
            QueueSignal::Failed => {
                self.failed_readings = self.failed_readings.saturating_add(1);
                if self.quirks.failed_reading_is_empty_queue {
                    self.set_queue(Drops(0), Packets(0));
                }
            }
            QueueSignal::Read { dropped, backlog } => {
                self.failed_readings = 0;
                let drops = self.counter.read(dropped);
                push(&mut self.recent.drops, drops);
                push(&mut self.recent.backlogs, backlog);
                self.set_queue(drops, backlog);
            }
        }
        self.is_measured = signals.delay.is_some();
        if let Some(delay) = signals.delay {
            let pause = self.silence.replace(Duration::MIN).filter(|pause| *pause <= PAUSE_MAX);
            let is_reference = self.quirks.timers_in_doubles;
            self.measured_ticks =
                pause.filter(|_| !is_reference).map_or(1, |pause| ticks_nearest(pause, self.tick));
            self.assess(delay.max(MicrosQ32::ZERO), out);
        }
    }

    /// Lets time pass: what is known gets older.
    pub(super) fn pass(&mut self, passed: Duration) {
        let add = |time: Duration| {
            Duration::from_ticks(time.as_ticks().saturating_add(passed.as_ticks()))
        };
        self.silence = self.silence.map(add);
        if let Some(queue) = &mut self.queue {
            queue.age = add(queue.age);
        }
        self.queue = self.queue.filter(|queue| queue.age <= QUEUE_AGE_MAX);
    }

    const fn set_queue(&mut self, drops: Drops, backlog: Packets) {
        self.queue = Some(Queue { drops, backlog, age: Duration::MIN, is_filtered: false });
    }

    fn assess(&mut self, delay: MicrosQ32, out: &mut Outputs) {
        self.unfiltered_delay = delay;
        let filtered = self.delay.update(delay, self.measured_ticks);
        self.filter_backlog();
        if self.quirks.score_from_last_zone {
            self.score = score(self.zone, delay, &self.recent);
        }
        self.watch_counter(filtered, out);
        self.zone = self.zone_of(filtered);
        push(&mut self.recent.zones, self.zone);
        let red_ticks = self.red_ticks.saturating_add(self.measured_ticks);
        self.red_ticks = if self.zone == Zone::Red { red_ticks } else { 0 };
        if !self.quirks.score_from_last_zone {
            self.score = score(self.zone, delay, &self.recent);
        }
    }

    /// Feeds the backlog filter with a new reading, which stands for the time since the last one.
    fn filter_backlog(&mut self) {
        self.unfed_ticks = self.unfed_ticks.saturating_add(1);
        let Some(queue) = self.queue.as_mut().filter(|queue| !queue.is_filtered) else { return };
        queue.is_filtered = true;
        let ticks = core::mem::take(&mut self.unfed_ticks);
        self.backlog.update(queue.backlog.into(), ticks);
    }

    /// Returns drops and backlog as zones are made of them.
    fn queue(&self) -> Option<(Drops, Packets)> {
        let queue = self.queue?;
        let filtered = self.backlog.value().map_or(queue.backlog, PacketsQ32::rounded);
        let is_raw = self.quirks.backlog_unfiltered;
        Some((queue.drops, if is_raw { queue.backlog } else { filtered }))
    }

    /// Finds out whether the drop counter stands still although a queue is as high as RED needs.
    fn watch_counter(&mut self, delay: MicrosQ32, out: &mut Outputs) {
        let Some((_, backlog)) = self.queue() else { return };
        let is_loaded =
            delay > self.thresholds.red_delay.into() && backlog >= self.thresholds.red_backlog;
        if is_loaded && !self.quirks.red_needs_drops && self.counter.stand_still(self.tick) {
            out.tell(Event::SteeringDropsUseless { wan: self.id });
        }
    }

    fn zone_of(&self, delay: MicrosQ32) -> Zone {
        let is_above = |threshold: Duration| delay > threshold.into();
        let limits = &self.thresholds;
        let queue = self.queue();
        let has_backlog = queue.is_some_and(|(_, backlog)| backlog >= limits.yellow_backlog);
        let is_full = queue.is_some_and(|(drops, backlog)| {
            let has_drops = drops.reach(limits.red_drops) || self.counter.is_useless();
            has_drops && backlog >= limits.red_backlog
        });
        let is_reference = self.quirks.red_needs_drops;
        if is_above(limits.red_delay) && is_full {
            Zone::Red
        } else if !is_reference && is_above(limits.red_delay) {
            let is_red = queue.is_none() || is_above(limits.severe_delay);
            if is_red { Zone::Red } else { Zone::SoftRed }
        } else if is_above(limits.yellow_delay) || has_backlog {
            Zone::Yellow
        } else {
            Zone::Green
        }
    }

    pub(super) fn evidence(&self) -> SteeringEvidence {
        let queue = self.queue();
        SteeringEvidence {
            zone: self.zone,
            score: self.score,
            outage: self.outage,
            delay: self.delay.value(),
            drops: queue.map(|(drops, _)| drops.packets()),
            backlog: queue.map(|(_, backlog)| backlog),
        }
    }

    pub(super) fn snapshot(&self) -> SteeringWanSnapshot {
        SteeringWanSnapshot {
            wan: self.id,
            zone: self.zone,
            score: self.score,
            outage: self.outage,
            delay: self.delay.value().unwrap_or_default(),
            backlog: self.backlog.value().unwrap_or_default(),
            failed_readings: self.failed_readings,
            drops_useless: self.counter.is_useless(),
        }
    }
}
