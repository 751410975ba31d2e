//! Whether the daemon does its work, and why not.

use embassy_time::{Duration, Instant};
use serde_json::{Value, json};
use wanctl_core::link::LinkState;
use wanctl_core::snapshot::{Snapshot, TickResult, WanSnapshot};

use crate::published::{About, Published};
use crate::shaping::BackendStatus;

/// A daemon without a tick for so long has stopped; at long intervals, for three of them.
pub(crate) const TICK_AGE_MAX: Duration = Duration::from_secs(1);
/// A router may fail for so long: a reboot takes longer, a busy minute does not matter.
pub(crate) const ROUTER_PATIENCE: Duration = Duration::from_secs(10);

/// How well the daemon does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthState {
    /// All is well.
    Ok,
    /// Every line is controlled, but something wants attention.
    Degraded,
    /// Some line is not controlled.
    Failing,
}

impl HealthState {
    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failing => "failing",
        }
    }
}

/// A judgement with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The worst of all reasons.
    pub state: HealthState,
    /// What is not as it should be, one sentence each.
    pub reasons: Vec<String>,
}

impl Health {
    /// Returns whether every line is controlled.
    #[must_use]
    pub const fn is_well(&self) -> bool {
        !matches!(self.state, HealthState::Failing)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "state": self.state.name(), "reasons": self.reasons })
    }

    fn add(&mut self, state: HealthState, reason: impl Into<String>) {
        self.state = self.state.max(state);
        self.reasons.push(reason.into());
    }
}

/// Judges what was published, at this moment.
pub(super) fn judge(published: &Published, now: Instant) -> Health {
    let mut health = Health { state: HealthState::Ok, reasons: Vec::new() };
    let (Some(about), Some(snapshot)) = (published.about(), published.snapshot()) else {
        health.add(HealthState::Failing, "the daemon is starting");
        return health;
    };
    judge_ticks(&mut health, about.interval, &snapshot, now);
    judge_router(&mut health, about, now);
    let notices = published.notices();
    if notices.recorder.is_some_and(|recorder| recorder.is_losing()) {
        health.add(HealthState::Degraded, "the recording has gaps: the disk is full or too slow");
    }
    if let Some(why) = &notices.refusal {
        health.add(HealthState::Degraded, format!("the latest reload was refused: {why}"));
    }
    for (name, wan) in about.names.iter().zip(snapshot.wans()) {
        judge_wan(&mut health, name, wan);
    }
    health
}

fn judge_ticks(health: &mut Health, interval: Duration, snapshot: &Snapshot, now: Instant) {
    if !is_ticking(interval, snapshot, now) {
        health.add(HealthState::Failing, "the control loop stands still");
    }
    if snapshot.outputs_dropped > 0 {
        let count = snapshot.outputs_dropped;
        health.add(HealthState::Degraded, format!("{count} actions or events did not fit"));
    }
}

/// Returns whether the last tick is recent.
pub(crate) fn is_ticking(interval: Duration, snapshot: &Snapshot, now: Instant) -> bool {
    let patience = TICK_AGE_MAX.max(Duration::from_ticks(interval.as_ticks().saturating_mul(3)));
    let age = snapshot.now.and_then(|last| now.checked_duration_since(last));
    age.is_none_or(|age| age <= patience) && snapshot.now.is_some()
}

fn judge_router(health: &mut Health, about: &About, now: Instant) {
    let is_long = |since: Instant| {
        now.checked_duration_since(since).is_some_and(|passed| passed > ROUTER_PATIENCE)
    };
    match about.router.status() {
        BackendStatus::Ready { .. } => {}
        BackendStatus::Connecting if !is_long(about.started) => {}
        BackendStatus::Connecting => {
            health.add(HealthState::Failing, "the router does not answer");
        }
        status @ BackendStatus::Failing { since, .. } => {
            let state = if is_long(since) { HealthState::Failing } else { HealthState::Degraded };
            health.add(state, format!("router {status}"));
        }
        status @ BackendStatus::Failed { .. } => {
            health.add(HealthState::Failing, format!("router {status}"));
        }
    }
    for queue in about.router.disputed() {
        health.add(HealthState::Degraded, format!("somebody keeps changing {queue}"));
    }
    for complaint in about.router.complaints() {
        let serious =
            if complaint.is_serious { HealthState::Failing } else { HealthState::Degraded };
        health.add(serious, complaint.text);
    }
}

fn judge_wan(health: &mut Health, name: &str, wan: &WanSnapshot) {
    match (wan.result, wan.link) {
        (TickResult::Frozen | TickResult::Failed, _) => {
            health.add(HealthState::Failing, format!("{name}: no reflector answers"));
        }
        // Without an answer it waits in PROBE for as long as that takes.
        (_, LinkState::Init | LinkState::Probe | LinkState::Reset) => {
            health.add(HealthState::Failing, format!("{name}: the link is {}", wan.link.name()));
        }
        (_, LinkState::Degrade) => {
            health.add(HealthState::Degraded, format!("{name}: the line is bad"));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_well_when_it_is_controlled_and_answers() {
        let judged = |link, result| {
            let mut health = Health { state: HealthState::Ok, reasons: Vec::new() };
            judge_wan(&mut health, "cable", &WanSnapshot { link, result, ..Default::default() });
            health.state
        };
        use LinkState::{Cooldown, Degrade, Init, Live, Probe, Reset, Warm};
        for link in [Warm, Live, Cooldown] {
            assert_eq!(judged(link, TickResult::Controlled), HealthState::Ok, "{link:?}");
        }
        assert_eq!(judged(Degrade, TickResult::Controlled), HealthState::Degraded);
        // Between two bursts of losses nothing is frozen, and all the same nobody answers.
        for link in [Init, Probe, Reset] {
            assert_eq!(judged(link, TickResult::Waiting), HealthState::Failing, "{link:?}");
        }
        assert_eq!(judged(Live, TickResult::Frozen), HealthState::Failing);
    }
}
