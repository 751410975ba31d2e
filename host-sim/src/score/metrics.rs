//! What is measured while a scenario runs, and the score that comes of it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use wanctl_core::units::{Direction, PerDirection};

use super::histogram::Histogram;
use super::model::line::Mix;
use super::phases::{PhaseScore, Phases};
use super::scenario::{Purpose, Scenario, StepSpec};

/// A direction is congested while its queue delays by this much or more.
const CONGESTED_US: u64 = 2_000;
/// A cut is innocent when its direction was not congested for so long.
const INNOCENT_AFTER_US: u64 = 1_000_000;
/// The added delay that a step must settle below (control-law.md).
pub const SETTLED_US: u64 = 15_000;

const SECOND_US: u64 = 1_000_000;

/// One direction at one moment, every 10 ms.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time.
    pub now_us: u64,
    /// The queueing delay of now in this direction.
    pub queue_us: u64,
    /// The queueing delay of now in both directions.
    pub added_us: u64,
    /// The capacity around now.
    pub capacity_bps: u64,
    /// The capacity of the 100 ms ahead.
    pub ahead_bps: u64,
    /// The shaper rate in force.
    pub rate_bps: u64,
    /// Whether more is offered than half of what the line can carry.
    pub is_loaded: bool,
}

/// The score of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Delivered of what could have been delivered, in parts per million; nothing if that is zero.
    pub utilisation_ppm: Option<u64>,
    /// The same for each direction.
    pub utilisation_by_direction_ppm: PerDirection<Option<u64>>,
    /// Mean of the queueing delay while loaded, in µs.
    pub mean_us: u64,
    /// Its median.
    pub p50_us: u64,
    /// Its 95th percentile.
    pub p95_us: u64,
    /// Its 99th percentile.
    pub p99_us: u64,
    /// Its maximum.
    pub max_us: u64,
    /// The response to a step, if the scenario has one.
    pub step: Option<StepScore>,
    /// Writes that lowered a rate.
    pub cuts: u64,
    /// Of these, in a direction without congestion while the other one had none either.
    pub innocent_cuts: u64,
    /// Of these, in a direction without congestion while the other one had some.
    pub misblamed_cuts: u64,
    /// Router writes.
    pub writes: u64,
    /// The most writes in any 60 s.
    pub writes_max_minute: u64,
    /// The most writes in any 1 s.
    pub writes_max_second: u64,
    /// Scored time, in µs.
    pub scored_us: u64,
    /// Of that, time in which a loaded direction could carry less than its floor.
    pub outage_us: u64,
    /// The phases of a scenario that has some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseScore>,
}

/// The response to a capacity step; nothing where it did not happen in the time looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepScore {
    /// Whether the step goes down.
    pub down: bool,
    /// From the step to the delay passing 15 ms, in µs.
    pub target_us: Option<u64>,
    /// From the step to the first cut, in µs.
    pub detect_us: Option<u64>,
    /// From the delay passing 15 ms to the first cut; 0 if the cut came before.
    pub detect_after_target_us: Option<u64>,
    /// From the step to the first moment below 15 ms after that, in µs.
    #[serde(default)]
    pub drained_us: Option<u64>,
    /// From the step to the last moment with 15 ms or more, in µs; 0 without any.
    pub settle_us: u64,
    /// From the step to a shaper rate of 90 % of the new capacity, in µs.
    pub recover_us: Option<u64>,
    /// 95th percentile of the delay in the time looked at, in µs.
    pub p95_us: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    possible: u64,
    delivered: u64,
    cuts: u64,
    commanded: Option<u64>,
    congested_us: Option<u64>,
}

/// Measures while a scenario runs.
#[derive(Debug)]
pub struct Recorder {
    from_us: u64,
    end_us: u64,
    counts: PerDirection<Counts>,
    delays: Histogram,
    innocent: u64,
    misblamed: u64,
    writes: u64,
    recent: VecDeque<u64>,
    writes_max_minute: u64,
    writes_max_second: u64,
    outage_us: u64,
    step: Option<Step>,
    phases: Phases,
}

#[derive(Debug)]
struct Step {
    spec: StepSpec,
    delays: Histogram,
    score: StepScore,
}

impl Recorder {
    /// Begins measuring a scenario.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let step = match scenario.purpose {
            Purpose::Step(spec) => Some(Step {
                spec,
                delays: Histogram::new(),
                score: StepScore { down: spec.down, ..StepScore::default() },
            }),
            Purpose::Load | Purpose::Idle => None,
        };
        Self {
            from_us: scenario.warm_up_s * SECOND_US,
            end_us: scenario.seconds * SECOND_US,
            counts: PerDirection::default(),
            delays: Histogram::new(),
            innocent: 0,
            misblamed: 0,
            writes: 0,
            recent: VecDeque::with_capacity(4096),
            writes_max_minute: 0,
            writes_max_second: 0,
            outage_us: 0,
            step,
            phases: Phases::new(&scenario.phases),
        }
    }

    /// Returns the rate commanded last.
    #[must_use]
    pub const fn commanded(&self, direction: Direction) -> Option<u64> {
        self.counts.get(direction).commanded
    }

    /// Notes that a law has commanded a rate.
    pub fn command(&mut self, direction: Direction, rate: u64, now_us: u64) {
        let from = self.counts.get_mut(direction).commanded.replace(rate);
        let is_cut = from.is_some_and(|from| rate < from);
        if !is_cut {
            return;
        }
        if let Some(step) = &mut self.step {
            step.cut(now_us);
        }
        if now_us < self.from_us {
            return;
        }
        self.counts.get_mut(direction).cuts += 1;
        let is_congested = |direction| {
            let last = self.counts.get(direction).congested_us;
            last.is_some_and(|last| now_us.saturating_sub(last) < INNOCENT_AFTER_US)
        };
        let other = match direction {
            Direction::Download => Direction::Upload,
            Direction::Upload => Direction::Download,
        };
        if !is_congested(direction) {
            if is_congested(other) {
                self.misblamed += 1;
            } else {
                self.innocent += 1;
            }
        }
    }

    /// Notes that a write was sent to the router.
    pub fn write(&mut self, now_us: u64) {
        if now_us < self.from_us {
            return;
        }
        self.writes += 1;
        self.recent.push_back(now_us);
        while self.recent.front().is_some_and(|&at| at + 60 * SECOND_US <= now_us) {
            self.recent.pop_front();
        }
        self.writes_max_minute = self.writes_max_minute.max(self.recent.len() as u64);
        let within = self.recent.iter().rev().take_while(|&&at| at + SECOND_US > now_us).count();
        self.writes_max_second = self.writes_max_second.max(within as u64);
    }

    /// Notes what was delivered in a step or more, and what could have been.
    pub fn deliver(&mut self, direction: Direction, now_us: u64, delivered: Mix, possible: u64) {
        self.phases.deliver(direction, now_us, delivered.bulk);
        if now_us >= self.from_us {
            let counts = self.counts.get_mut(direction);
            counts.delivered += delivered.total();
            counts.possible += possible;
        }
    }

    /// Notes how long a ping of the scorer has queued, there and back.
    pub fn delay(&mut self, now_us: u64, queued_us: u64) {
        self.phases.delay(now_us, queued_us);
        if now_us >= self.from_us {
            self.delays.add(queued_us);
        }
        if let Some(step) = &mut self.step
            && step.is_within(now_us)
        {
            step.delays.add(queued_us);
        }
    }

    /// Notes that a loaded direction can carry less than its floor.
    pub fn outage(&mut self, now_us: u64, for_us: u64) {
        if now_us >= self.from_us {
            self.outage_us += for_us;
        }
    }

    /// Looks at one direction.
    pub fn look(&mut self, direction: Direction, moment: &Moment) {
        let is_above = moment.is_loaded && moment.rate_bps > moment.capacity_bps;
        if moment.queue_us >= CONGESTED_US || is_above {
            self.counts.get_mut(direction).congested_us = Some(moment.now_us);
        }
        if let Some(step) = &mut self.step {
            step.look(moment);
        }
    }

    /// Ends the measurement.
    #[must_use]
    pub fn score(&self) -> Score {
        let share = |delivered: u64, possible: u64| {
            let ppm = u128::from(delivered) * 1_000_000;
            ppm.checked_div(u128::from(possible)).map(|ppm| ppm as u64)
        };
        let PerDirection { download, upload } = &self.counts;
        let sum = |get: fn(&Counts) -> u64| get(download) + get(upload);
        Score {
            utilisation_ppm: share(sum(|c| c.delivered), sum(|c| c.possible)),
            utilisation_by_direction_ppm: PerDirection {
                download: share(download.delivered, download.possible),
                upload: share(upload.delivered, upload.possible),
            },
            mean_us: self.delays.mean_us(),
            p50_us: self.delays.quantile_us(500),
            p95_us: self.delays.quantile_us(950),
            p99_us: self.delays.quantile_us(990),
            max_us: self.delays.max_us(),
            step: self.step.as_ref().map(Step::score),
            cuts: sum(|c| c.cuts),
            innocent_cuts: self.innocent,
            misblamed_cuts: self.misblamed,
            writes: self.writes,
            writes_max_minute: self.writes_max_minute,
            writes_max_second: self.writes_max_second,
            scored_us: self.end_us - self.from_us,
            outage_us: self.outage_us,
            phases: self.phases.scores(),
        }
    }
}

impl Step {
    const fn since(&self, now_us: u64) -> Option<u64> {
        now_us.checked_sub(self.spec.at_ms * 1000)
    }

    fn is_within(&self, now_us: u64) -> bool {
        self.since(now_us).is_some_and(|since| since <= self.spec.window_ms * 1000)
    }

    fn cut(&mut self, now_us: u64) {
        if self.is_within(now_us) && self.score.detect_us.is_none() {
            self.score.detect_us = self.since(now_us);
        }
    }

    fn look(&mut self, moment: &Moment) {
        let Some(since) = self.since(moment.now_us) else { return };
        if !self.is_within(moment.now_us) || !moment.is_loaded {
            return;
        }
        if moment.added_us >= SETTLED_US {
            self.score.target_us.get_or_insert(since);
            self.score.settle_us = since;
        } else if self.score.target_us.is_some() {
            self.score.drained_us.get_or_insert(since);
        }
        if moment.rate_bps * 10 >= moment.ahead_bps * 9 {
            self.score.recover_us.get_or_insert(since);
        }
    }

    fn score(&self) -> StepScore {
        let mut score = self.score.clone();
        score.p95_us = self.delays.quantile_us(950);
        score.detect_after_target_us = match (score.target_us, score.detect_us) {
            (Some(target), Some(detect)) => Some(detect.saturating_sub(target)),
            _ => None,
        };
        score
    }
}
