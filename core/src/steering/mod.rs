//! Steering: which WAN carries the traffic that needs low latency.
//!
//! ```text
//!                    RED for 16 s, a high score, or an outage
//!            ┌─────────────────────────────────────────────────────┐
//!      ┌─────┴─────┐                                         ┌─────▼─────┐
//!      │  primary  │                                         │ alternate │──┐ its outage, or RED
//!      └─────▲─────┘                                         └─────┬──▲──┘  │ and another one is
//!            └─────────────────────────────────────────────────────┘  └─────┘ better off
//!                    GREEN for 30 s or a low score, after the hold-down
//! ```
//!
//! Each tick first looks at every WAN ([`SteeringEvidence`]), then one authority, never two, says
//! what it wishes: either counted RED and GREEN ticks, or confidence scoring. Guards may hold the
//! wish back; what is left becomes one command. There is one command at a time, and traffic counts
//! as moved when the router confirmed it. A command that failed, or was not answered in time, leaves
//! it open what the router holds: what is then right is written again.
//!
//! An outage is not a bad zone: it needs no counter, since the link's life has decided on it.

mod assess;
mod confidence;
mod config;
mod counters;
mod course;
mod decision;
mod filter;
mod flap;
mod hysteresis;
mod score;
mod signals;
mod snapshot;
mod timer;

use embassy_time::{Duration, Instant};
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::command::COMMAND_TIMEOUT;
use crate::outputs::{Action, Event, Outputs};
use crate::tick::{MAX_WANS, SteeringReply};
use crate::units::{CommandId, WanId};

use assess::WanState;
use confidence::{Confidence, ConfidenceInput};
use course::{Change, Course};
use hysteresis::{Hysteresis, Wish};
use timer::Countdown;

pub use config::{
    ConfidenceConfig, FlapGuardConfig, SteeringConfig, SteeringError, SteeringQuirks,
    SteeringThresholds,
};
pub use decision::{SteeringDecision, SteeringEvidence, SteeringReason, SteeringRefusal};
pub use flap::MAX_TOGGLES;
pub(crate) use signals::Sight;
pub use signals::{QueueSignal, WanSignals};
pub use snapshot::{SteeringSnapshot, SteeringWanSnapshot};

/// After a command that failed, nothing is commanded for this long.
pub const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// A command that has not been answered yet.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct InFlight {
    id: CommandId,
    to: Option<WanId>,
    #[serde(with = "crate::micros")]
    since: Instant,
}

/// Confidence scoring, in charge or in a dry run.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Scoring {
    confidence: Confidence,
    is_dry_run: bool,
    /// Where traffic would be; by quirk, the guards of the real course.
    course: Course,
}

/// Decides, tick by tick, which WAN carries the steered traffic.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Steering {
    #[serde(with = "crate::micros")]
    tick: Duration,
    dry_run: bool,
    quirks: SteeringQuirks,
    wans: Vec<WanState, MAX_WANS>,
    hysteresis: Hysteresis,
    scoring: Option<Scoring>,
    wish: Option<Wish>,
    course: Course,
    /// Whether the router is known to hold the course.
    is_certain: bool,
    command: Option<InFlight>,
    pause: Countdown,
    refused: Option<SteeringRefusal>,
    #[serde(with = "crate::micros")]
    last_now: Option<Instant>,
    changes: u64,
    failures: u64,
    decision: Option<SteeringDecision>,
}

impl Steering {
    /// Makes steering that has not seen a tick yet. Its first command leaves all traffic with the
    /// primary, because what the router holds is not known.
    #[must_use]
    pub fn new(config: &SteeringConfig) -> Self {
        let course = Course::new(config);
        Self {
            tick: config.tick,
            dry_run: config.dry_run,
            quirks: config.quirks,
            wans: bounded::collect(config.wans.iter().map(|id| WanState::new(*id, config))),
            hysteresis: Hysteresis::new(config),
            scoring: config.confidence.as_ref().map(|confidence| Scoring {
                confidence: Confidence::new(confidence, config),
                is_dry_run: confidence.dry_run,
                course: course.clone(),
            }),
            wish: None,
            course,
            is_certain: config.dry_run || config.quirks.router_is_believed,
            command: None,
            pause: Countdown::new(RETRY_PAUSE),
            refused: None,
            last_now: None,
            changes: 0,
            failures: 0,
            decision: None,
        }
    }

    /// Returns the WANs that take part, the primary first.
    pub fn wans(&self) -> impl Iterator<Item = WanId> + '_ {
        self.wans.iter().map(WanState::id)
    }

    /// Takes the end of a command. Call it before [`Self::step`] of the same tick.
    pub fn answer(&mut self, now: Instant, reply: &SteeringReply, out: &mut Outputs) {
        // What begins with this reply must not be as old as the last tick.
        self.pass_time(now);
        let Some(command) = self.command.take_if(|command| command.id == reply.id) else { return };
        if !reply.succeeded {
            out.tell(Event::SteeringFailed { to: command.to });
            self.fail();
            return;
        }
        out.tell(Event::SteeringConfirmed { to: command.to, took_us: reply.took_us });
        self.is_certain = true;
        self.arrive(command.to, now, out);
    }

    /// Runs one tick. `signals` are those of the configured WANs, in the configuration's order.
    pub fn step(
        &mut self,
        now: Instant,
        signals: &[WanSignals],
        next_id: &mut CommandId,
        out: &mut Outputs,
    ) {
        self.pass_time(now);
        self.expire(now, out);
        let known = signals.iter().copied().chain(core::iter::repeat(WanSignals::default()));
        for (wan, signals) in self.wans.iter_mut().zip(known) {
            wan.observe(&signals, out);
        }
        self.judge(now, out);
        self.decide(now, next_id, out);
    }

    /// Gives up a command that has been waiting for [`COMMAND_TIMEOUT`].
    fn expire(&mut self, now: Instant, out: &mut Outputs) {
        let is_late = |command: &mut InFlight| {
            let waited = now.checked_duration_since(command.since);
            waited.is_some_and(|waited| waited >= COMMAND_TIMEOUT)
        };
        if let Some(command) = self.command.take_if(is_late) {
            out.tell(Event::SteeringTimedOut { to: command.to });
            self.fail();
        }
    }

    /// Notes that a command may or may not have had its effect.
    const fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
        if !self.quirks.router_is_believed {
            self.is_certain = false;
            self.pause.start();
        }
    }

    /// Notes that traffic takes the way `to` now.
    fn arrive(&mut self, to: Option<WanId>, now: Instant, out: &mut Outputs) {
        if to == self.course.steered_to() {
            return;
        }
        self.changes = self.changes.saturating_add(1);
        if self.course.arrive(to, now) {
            tell_flapping(&self.course, out);
        }
        self.hysteresis.reset();
        self.wish = None;
        // The reference's timers know nothing of the other authority's changes.
        let is_theirs = !self.quirks.two_authorities;
        if let Some(scoring) = self.scoring.as_mut().filter(|it| is_theirs && !it.is_dry_run) {
            scoring.confidence.reset();
        }
    }

    /// Lets time pass for everything that waits or gets old.
    fn pass_time(&mut self, now: Instant) {
        let last = self.last_now.replace(now);
        let passed = last.and_then(|last| now.checked_duration_since(last)).unwrap_or_default();
        if self.pause.pass(passed) {
            self.pause.stop();
        }
        self.wans.iter_mut().for_each(|wan| wan.pass(passed));
        self.course.pass(passed);
        if let Some(scoring) = &mut self.scoring {
            scoring.course.pass(passed);
        }
    }

    /// Asks the authority in charge what it wishes.
    fn judge(&mut self, now: Instant, out: &mut Outputs) {
        let Some(primary) = self.wans.first() else { return };
        if !primary.is_measured() {
            if self.quirks.router_is_believed {
                self.wish = None;
            } else if primary.is_silent() {
                self.forget_evidence();
            }
            return;
        }
        let is_steered = self.course.steered_to().is_some();
        let is_dry_run = self.scoring.as_ref().is_some_and(|scoring| scoring.is_dry_run);
        let scored = self.score(now, out).filter(|_| !is_dry_run);
        let counts = self.scoring.is_none() || is_dry_run || self.quirks.two_authorities;
        self.wish = if counts && scored.is_none() {
            let primary = self.wans.first();
            let (zone, ticks) =
                primary.map(|wan| (wan.zone(), wan.measured_ticks())).unwrap_or_default();
            self.hysteresis.count(zone, ticks, is_steered);
            self.hysteresis.wish()
        } else {
            scored
        };
    }

    /// What was counted before a silence says nothing after it.
    const fn forget_evidence(&mut self) {
        self.wish = None;
        self.hysteresis.reset();
        if let Some(scoring) = &mut self.scoring {
            scoring.confidence.reset();
        }
    }

    /// Runs confidence scoring on a measurement of the primary.
    fn score(&mut self, now: Instant, out: &mut Outputs) -> Option<Wish> {
        let primary = self.wans.first()?;
        let scoring = self.scoring.as_mut()?;
        let ticks = u64::from(primary.measured_ticks());
        let time = Duration::from_ticks(self.tick.as_ticks().saturating_mul(ticks));
        let input = ConfidenceInput {
            zone: primary.scored_zone(),
            score: primary.score(),
            delay: primary.unfiltered_delay(),
            has_drops: primary.has_drops(),
        };
        if scoring.course.reconsider_flapping(self.tick) {
            tell_flapping(&scoring.course, out);
        }
        let is_own = scoring.is_dry_run && !self.quirks.dry_run_sees_real_state;
        let looks_at = if is_own { &scoring.course } else { &self.course };
        let is_steered = looks_at.steered_to().is_some();
        let added_score = looks_at.flap().added_score();
        if self.quirks.timers_in_doubles && is_steered && scoring.course.is_held(self.tick) {
            return None;
        }
        let wish = if is_steered {
            scoring.confidence.consider_returning(&input, time)
        } else {
            scoring.confidence.consider_leaving(&input, added_score, time)
        };
        if self.quirks.decisions_count_unconfirmed {
            if wish.is_some() {
                scoring.course.note(!is_steered, now);
            }
        } else if is_own && let Ok(Some(change)) = scoring.course.plan(wish, &self.wans) {
            let decision = describe(scoring.course.steered_to(), change, &self.wans);
            out.tell(Event::SteeringWouldChange { decision });
            scoring.course.arrive(decision.to, now);
            scoring.confidence.reset();
        }
        wish
    }

    /// Turns a wish into a command, unless a guard or another command is in the way.
    fn decide(&mut self, now: Instant, next_id: &mut CommandId, out: &mut Outputs) {
        if self.command.is_some() || self.pause.is_started() {
            return;
        }
        let plan = self.course.plan(self.wish, &self.wans);
        let refused = plan.err();
        if refused != self.refused {
            self.refused = refused;
            if let Some(why) = refused {
                out.tell(Event::SteeringRefused { why });
            }
        }
        if let Ok(Some(change)) = plan {
            self.command(change, now, next_id, out);
        } else if !self.is_certain {
            let why =
                if self.decision.is_some() { SteeringReason::Again } else { SteeringReason::Start };
            self.command((self.course.steered_to(), why), now, next_id, out);
        }
    }

    fn command(
        &mut self,
        change: Change,
        now: Instant,
        next_id: &mut CommandId,
        out: &mut Outputs,
    ) {
        let decision = describe(self.course.steered_to(), change, &self.wans);
        self.decision = Some(decision);
        if self.dry_run {
            out.tell(Event::SteeringWouldChange { decision });
            self.arrive(decision.to, now, out);
            return;
        }
        let (id, to) = (*next_id, decision.to);
        *next_id = CommandId(id.0.wrapping_add(1));
        let from = self.wans.first().map(WanState::id).unwrap_or_default();
        self.command = Some(InFlight { id, to, since: now });
        out.act(Action::SetSteering { id, from, to });
        out.tell(Event::SteeringCommanded { decision });
    }

    /// Returns the read-only mirror of steering.
    #[must_use]
    pub fn snapshot(&self) -> SteeringSnapshot {
        let own = self.scoring.as_ref();
        // By quirk the guards are those of confidence scoring.
        let guards = own.filter(|_| self.quirks.decisions_count_unconfirmed);
        let guards = guards.map_or(&self.course, |scoring| &scoring.course);
        let dry = own.filter(|scoring| scoring.is_dry_run);
        let mut snapshot = SteeringSnapshot {
            steered_to: self.course.steered_to(),
            is_confirmed: self.is_certain,
            is_in_flight: self.command.is_some(),
            red_ticks: self.hysteresis.red_ticks(),
            green_ticks: self.hysteresis.green_ticks(),
            steer_left: own.and_then(|scoring| scoring.confidence.steer_left()),
            recovery_left: own.and_then(|scoring| scoring.confidence.recovery_left()),
            hold_down_left: guards.hold_down_left(),
            penalty_left: guards.flap().penalty_left(),
            toggles: guards.flap().toggles(),
            would_steer_to: dry.and_then(|scoring| scoring.course.steered_to()),
            refused: self.refused,
            changes: self.changes,
            failures: self.failures,
            decision: self.decision,
            ..SteeringSnapshot::default()
        };
        snapshot.set_wans(&bounded::collect(self.wans.iter().map(WanState::snapshot)));
        snapshot
    }
}

fn tell_flapping(course: &Course, out: &mut Outputs) {
    if let Some(penalty) = course.flap().penalty_left() {
        out.tell(Event::SteeringFlapping { penalty });
    }
}

/// Writes down why a change is made.
fn describe(from: Option<WanId>, (to, reason): Change, wans: &[WanState]) -> SteeringDecision {
    let primary = wans.first().map(WanState::evidence).unwrap_or_default();
    let alternate = wans.iter().find(|wan| Some(wan.id()) == to.or(from));
    let alternate = alternate.map(WanState::evidence).unwrap_or_default();
    SteeringDecision { from, to, reason, primary, alternate }
}
