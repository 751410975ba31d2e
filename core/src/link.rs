//! The life of a link, and the thresholds and times that move it on.
//!
//! ```text
//!        found         heard         went_live
//!  INIT ───────► PROBE ───────► WARM ─────────► LIVE ◄──────────────┐
//!   ▲                            │               │                  │ settled
//!   │ began_again                │ degraded      │ degraded         │
//!   │                            └───────┬───────┘                  │
//!   │                                    ▼        improved          │
//!   │                                 DEGRADE ─────────────────► COOLDOWN
//!   │                                    ▲                          │
//!   │                                    └──────────────────────────┘
//!   │                                               relapsed
//! RESET ◄─── lost (outage, link down, new address), from every state but INIT
//! ```
//!
//! *Degradation* (the line answers, badly) and *outage* (nothing answers) are different things:
//! they have different inputs and different clocks, and neither counts towards the other: only
//! answers tell good from bad, and the time of a silence is left out.
//!
//! After a loss the path may be another one. Until the new one has been heard for the time of the
//! ramp its rates are capped: a start rate first, then a gradual rise to the ceiling.

use embassy_time::{Duration, Instant};
use serde::{Deserialize, Serialize};

use crate::divide::checked_quotient;
use crate::fixed::{PpmQ32, ticks_covering};
use crate::law::classic::STEP;
use crate::quality::LinkQuality;
use crate::tick::OperState;

/// A pause between two answers that is longer than this, and than [`PAUSE_TICKS`], is silence.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// So many ticks without an answer may be the path's jitter.
const PAUSE_TICKS: u64 = 3;

/// Where a link is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LinkState {
    /// The link is down, or nothing is known about it.
    #[default]
    Init,
    /// Probes are out and the first answers are awaited.
    Probe,
    /// Answers come; the filters fill.
    Warm,
    /// All is well.
    Live,
    /// The line answers, but badly.
    Degrade,
    /// The line is good again and has to stay so for a while.
    Cooldown,
    /// The link was lost, and with it what was learned about its path.
    Reset,
}

impl LinkState {
    /// Returns the state's name as users know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Probe => "PROBE",
            Self::Warm => "WARM",
            Self::Live => "LIVE",
            Self::Degrade => "DEGRADE",
            Self::Cooldown => "COOLDOWN",
            Self::Reset => "RESET",
        }
    }
}

/// Why a link went from one state to another: the edges of the diagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LinkEdge {
    /// The link is up, as far as anybody knows.
    Found,
    /// Enough probes were answered.
    Heard,
    /// The warm-up is over and the line is good.
    WentLive,
    /// The line has been bad for too long.
    Degraded,
    /// The line has been good for long enough.
    Improved,
    /// The line became bad again.
    Relapsed,
    /// The line stayed good.
    Settled,
    /// Lost: nothing has answered for too long.
    Outage,
    /// Lost: the interface went down.
    LinkDown,
    /// Lost: the line got another address, so its path is another one.
    NewAddress,
    /// The pause after a loss is over.
    BeganAgain,
}

/// Limits of quality. A line is good while everything is at or below `good`, and bad while
/// anything is above `bad`; in between nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct QualityLimits {
    /// The limits that promote.
    pub good: LinkQuality,
    /// The limits that demote.
    pub bad: LinkQuality,
}

/// Thresholds and times of a link's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LinkConfig {
    /// The limits of quality.
    pub limits: QualityLimits,
    /// Ticks of 50 ms with an answer that end PROBE; of another length as many as take that long.
    pub answers: u32,
    /// How long WARM lasts at least.
    #[serde(with = "crate::micros")]
    pub warm_up: Duration,
    /// How long the line must be bad before it counts as degraded.
    #[serde(with = "crate::micros")]
    pub degrade_after: Duration,
    /// How long the line must be good before DEGRADE ends.
    #[serde(with = "crate::micros")]
    pub improve_after: Duration,
    /// How long COOLDOWN lasts.
    #[serde(with = "crate::micros")]
    pub cooldown: Duration,
    /// How long nothing must answer before the link counts as lost.
    #[serde(with = "crate::micros")]
    pub outage_after: Duration,
    /// How long RESET lasts.
    #[serde(with = "crate::micros")]
    pub reset_pause: Duration,
    /// What a new link may carry, as a share of the way from floor to ceiling.
    pub ramp_start: PpmQ32,
    /// How long the rise from there to the ceiling takes, from WARM on.
    #[serde(with = "crate::micros")]
    pub ramp: Duration,
}

impl LinkConfig {
    /// Returns whether good is not worse than bad, and the ramp rises.
    pub(crate) fn is_consistent(&self) -> bool {
        let QualityLimits { good, bad } = &self.limits;
        !exceeds_any(good, bad) && self.ramp_start <= PpmQ32::ONE
    }
}

/// What one tick says about a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LinkInputs {
    pub(crate) oper_state: OperState,
    pub(crate) address_changed: bool,
    /// Whether any probe was answered.
    pub(crate) answered: bool,
    /// Whether another check says that the line works: then silence is filtered ICMP, no outage.
    pub(crate) connected: bool,
    pub(crate) quality: LinkQuality,
}

/// A state change that has just happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkChange {
    pub(crate) from: LinkState,
    pub(crate) to: LinkState,
    pub(crate) edge: LinkEdge,
}

/// One link.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Link {
    config: LinkConfig,
    state: LinkState,
    /// When the current state began.
    #[serde(with = "crate::micros")]
    since: Option<Instant>,
    /// Ticks with an answer in PROBE.
    answers: u32,
    /// A longer pause between two answers is silence.
    #[serde(with = "crate::micros")]
    pause_max: Duration,
    /// When a probe was last answered.
    #[serde(with = "crate::micros")]
    heard_at: Option<Instant>,
    /// When anything last said that the line works.
    #[serde(with = "crate::micros")]
    last_answer: Option<Instant>,
    /// Since when the line has been bad without interruption.
    #[serde(with = "crate::micros")]
    bad_since: Option<Instant>,
    /// Since when it has been good without interruption.
    #[serde(with = "crate::micros")]
    good_since: Option<Instant>,
    ramp: Ramp,
}

/// How far a link's rates have risen after a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Ramp {
    /// They are not bounded: there was no loss, or it is long ago.
    Over,
    /// Waiting for the first answers.
    Waiting,
    /// Rising since then.
    Rising(#[serde(with = "crate::micros")] Instant),
}

impl Link {
    pub(crate) fn new(config: LinkConfig, tick: Duration) -> Self {
        let ticks = |ticks: u64| Duration::from_ticks(tick.as_ticks().saturating_mul(ticks));
        let heard = STEP.as_ticks().saturating_mul(config.answers.into());
        let answers = ticks_covering(Duration::from_ticks(heard), tick);
        Self {
            config: LinkConfig { answers, ..config },
            state: LinkState::Init,
            since: None,
            answers: 0,
            pause_max: PAUSE_MAX.max(ticks(PAUSE_TICKS)),
            heard_at: None,
            last_answer: None,
            bad_since: None,
            good_since: None,
            ramp: Ramp::Over,
        }
    }

    /// Goes on where the link was under another configuration.
    pub(crate) fn take_over(&mut self, before: &Self) {
        let (config, pause_max) = (self.config, self.pause_max);
        self.clone_from(before);
        (self.config, self.pause_max) = (config, pause_max);
    }

    pub(crate) const fn state(&self) -> LinkState {
        self.state
    }

    /// Looks at one tick; returns the change it made, at most one.
    pub(crate) fn step(&mut self, now: Instant, inputs: &LinkInputs) -> Option<LinkChange> {
        self.observe(now, inputs);
        let edge = self.loss(now, inputs).or_else(|| self.progress(now, inputs))?;
        let from = self.state;
        match edge {
            LinkEdge::Found => self.found(now),
            LinkEdge::Heard => self.heard(now),
            LinkEdge::WentLive | LinkEdge::Settled => self.went_live(now),
            LinkEdge::Degraded | LinkEdge::Relapsed => self.degraded(now),
            LinkEdge::Improved => self.improved(now),
            LinkEdge::Outage | LinkEdge::LinkDown | LinkEdge::NewAddress => self.lost(now),
            LinkEdge::BeganAgain => self.began_again(now),
        }
        Some(LinkChange { from, to: self.state, edge })
    }

    /// Keeps the clocks of answers and of quality, which know nothing of each other.
    fn observe(&mut self, now: Instant, inputs: &LinkInputs) {
        self.since.get_or_insert(now);
        if inputs.answered || inputs.connected {
            self.last_answer = Some(now);
        }
        if !inputs.answered {
            return;
        }
        self.leave_out_silence(now);
        self.answers = self.answers.saturating_add(1);
        let limits = &self.config.limits;
        keep_since(&mut self.bad_since, exceeds_any(&inputs.quality, &limits.bad), now);
        keep_since(&mut self.good_since, !exceeds_any(&inputs.quality, &limits.good), now);
    }

    /// Puts the clocks of quality forward by a silence that has just ended: nothing is known of it.
    fn leave_out_silence(&mut self, now: Instant) {
        let heard_at = self.heard_at.replace(now);
        let pause = heard_at.and_then(|at| now.checked_duration_since(at)).unwrap_or_default();
        if pause <= self.pause_max {
            return;
        }
        let later = |since: Option<Instant>| {
            since.map(|since| since.checked_add(pause).unwrap_or(now).min(now))
        };
        self.bad_since = later(self.bad_since);
        self.good_since = later(self.good_since);
        self.since = later(self.since);
    }

    /// Returns the edge to RESET, if the link is lost.
    fn loss(&self, now: Instant, inputs: &LinkInputs) -> Option<LinkEdge> {
        if matches!(self.state, LinkState::Init | LinkState::Reset) {
            return None;
        }
        if inputs.oper_state == OperState::Down {
            return Some(LinkEdge::LinkDown);
        }
        if inputs.address_changed {
            return Some(LinkEdge::NewAddress);
        }
        // In PROBE nothing has been heard yet that could be lost.
        let silent_since = self.last_answer.max(self.since);
        let silent = passed(silent_since, self.config.outage_after, now);
        (silent && self.state != LinkState::Probe).then_some(LinkEdge::Outage)
    }

    /// Returns the edge that the current state takes by itself.
    fn progress(&self, now: Instant, inputs: &LinkInputs) -> Option<LinkEdge> {
        let config = &self.config;
        let lasted = |duration| passed(self.since, duration, now);
        let is_good = self.good_since.is_some();
        let bad_for = |duration| passed(self.bad_since, duration, now);
        match self.state {
            LinkState::Init if inputs.oper_state != OperState::Down => Some(LinkEdge::Found),
            LinkState::Probe if self.answers >= config.answers => Some(LinkEdge::Heard),
            LinkState::Reset if lasted(config.reset_pause) => Some(LinkEdge::BeganAgain),
            // Silence says nothing about quality, and its time is not time of a good or a bad line.
            _ if !inputs.answered => None,
            LinkState::Warm | LinkState::Live if bad_for(config.degrade_after) => {
                Some(LinkEdge::Degraded)
            }
            LinkState::Warm if lasted(config.warm_up) && is_good => Some(LinkEdge::WentLive),
            LinkState::Degrade if passed(self.good_since, config.improve_after, now) => {
                Some(LinkEdge::Improved)
            }
            LinkState::Cooldown if self.bad_since.is_some() => Some(LinkEdge::Relapsed),
            LinkState::Cooldown if lasted(config.cooldown) => Some(LinkEdge::Settled),
            LinkState::Init
            | LinkState::Probe
            | LinkState::Warm
            | LinkState::Live
            | LinkState::Degrade
            | LinkState::Cooldown
            | LinkState::Reset => None,
        }
    }

    fn found(&mut self, now: Instant) {
        self.answers = 0;
        self.enter(LinkState::Probe, now);
    }

    fn heard(&mut self, now: Instant) {
        if self.ramp == Ramp::Waiting {
            self.ramp = Ramp::Rising(now);
        }
        self.enter(LinkState::Warm, now);
    }

    fn went_live(&mut self, now: Instant) {
        self.enter(LinkState::Live, now);
    }

    fn degraded(&mut self, now: Instant) {
        self.enter(LinkState::Degrade, now);
    }

    fn improved(&mut self, now: Instant) {
        self.enter(LinkState::Cooldown, now);
    }

    fn lost(&mut self, now: Instant) {
        self.ramp = Ramp::Waiting;
        self.last_answer = None;
        self.heard_at = None;
        self.enter(LinkState::Reset, now);
    }

    fn began_again(&mut self, now: Instant) {
        self.enter(LinkState::Init, now);
    }

    fn enter(&mut self, state: LinkState, now: Instant) {
        self.state = state;
        self.since = Some(now);
        self.bad_since = None;
        self.good_since = None;
    }

    /// Returns how far up from floor to ceiling the rates may go now; `None` is all the way.
    pub(crate) fn cap(&self, now: Instant) -> Option<PpmQ32> {
        let config = &self.config;
        let begun = match self.ramp {
            Ramp::Over => return None,
            Ramp::Waiting => return Some(config.ramp_start),
            Ramp::Rising(begun) => begun,
        };
        let risen = now.checked_duration_since(begun).unwrap_or(Duration::MIN);
        if risen >= config.ramp {
            return None;
        }
        let start = config.ramp_start.as_ppm_rounded().min(1_000_000);
        let span = 1_000_000_u64.saturating_sub(start);
        let share = span.saturating_mul(risen.as_micros().min(u64::from(u32::MAX)));
        let risen_ppm = checked_quotient(share, config.ramp.as_micros()).unwrap_or(span);
        Some(PpmQ32::from_ppm(start.saturating_add(risen_ppm)))
    }
}

/// Returns whether anything of `quality` is above its limit.
fn exceeds_any(quality: &LinkQuality, limits: &LinkQuality) -> bool {
    quality.delay > limits.delay
        || quality.loss > limits.loss
        || quality.jitter > limits.jitter
        || quality.throughput_deviation > limits.throughput_deviation
}

/// Notes since when a condition has held without interruption.
fn keep_since(since: &mut Option<Instant>, holds: bool, now: Instant) {
    if !holds {
        *since = None;
    } else if since.is_none() {
        *since = Some(now);
    }
}

/// Returns whether at least `duration` has passed since an instant, if there is one.
fn passed(since: Option<Instant>, duration: Duration, now: Instant) -> bool {
    since.and_then(|since| now.checked_duration_since(since)).is_some_and(|age| age >= duration)
}

#[cfg(test)]
mod tests;
