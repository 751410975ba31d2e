//! The flap guard: who goes back and forth too often has to wait.

use embassy_time::{Duration, Instant};
use heapless::Deque;
use serde::{Deserialize, Serialize};

use crate::steering::config::{FlapGuardConfig, SteeringConfig};
use crate::steering::timer::Countdown;

/// The most changes the flap guard remembers.
pub const MAX_TOGGLES: usize = 20;

/// Remembers changes, and holds a penalty.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FlapGuard {
    config: Option<FlapGuardConfig>,
    /// The quirk `guards_without_effect`.
    is_reference: bool,
    #[serde(with = "crate::micros")]
    toggles: Deque<Instant, MAX_TOGGLES>,
    penalty: Countdown,
}

impl FlapGuard {
    pub(super) fn new(config: &SteeringConfig) -> Self {
        let penalty = config.flap_guard.map_or(Duration::MIN, |guard| guard.penalty);
        Self {
            config: config.flap_guard,
            is_reference: config.quirks.guards_without_effect,
            toggles: Deque::new(),
            penalty: if config.quirks.timers_in_doubles {
                Countdown::in_doubles(penalty, config.tick)
            } else {
                Countdown::new(penalty)
            },
        }
    }

    /// Notes a change; returns whether it was one too many, and a penalty begins again.
    pub(super) fn record(&mut self, now: Instant) -> bool {
        let Some(config) = self.config else { return false };
        if self.toggles.is_full() {
            self.toggles.pop_front();
        }
        // There is room now.
        let _full = self.toggles.push_back(now);
        let is_old = |at: &&Instant| {
            now.checked_duration_since(**at).is_some_and(|age| age >= config.window)
        };
        while self.toggles.front().as_ref().is_some_and(is_old) {
            self.toggles.pop_front();
        }
        let is_flapping = !self.is_reference && self.is_too_many();
        if is_flapping {
            self.penalty.start();
        }
        is_flapping
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        if !self.is_reference && self.penalty.pass(time) {
            self.penalty.stop();
        }
    }

    /// Runs and starts a penalty as the reference does: it runs in scored ticks only, and starts
    /// whenever too many changes are listed. Returns whether it begins.
    pub(super) fn reconsider(&mut self, tick: Duration) -> bool {
        if self.is_reference && self.penalty.pass(tick) {
            self.penalty.stop();
        }
        let begins = self.is_reference && !self.is_penalised() && self.is_too_many();
        if begins {
            self.penalty.start();
        }
        begins
    }

    fn is_too_many(&self) -> bool {
        let limit = self.config.map_or(MAX_TOGGLES, |config| usize::from(config.max_toggles));
        self.toggles.len() > limit
    }

    /// Returns whether a penalty lasts.
    pub(super) const fn is_penalised(&self) -> bool {
        self.penalty.is_started()
    }

    /// Returns what a score must have more than usual to count.
    pub(super) fn added_score(&self) -> u8 {
        match self.config {
            Some(config) if self.is_penalised() && !self.is_reference => config.added_score,
            Some(_) | None => 0,
        }
    }

    /// Returns how many changes are remembered.
    pub(super) fn toggles(&self) -> usize {
        self.toggles.len()
    }

    /// Returns what is left of the penalty.
    pub(super) fn penalty_left(&self) -> Option<Duration> {
        self.penalty.left()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steering::config::SteeringQuirks;
    use crate::units::WanId;

    const TICK: Duration = Duration::from_millis(50);

    fn guard(quirks: SteeringQuirks) -> FlapGuard {
        FlapGuard::new(&SteeringConfig { quirks, ..config() })
    }

    fn config() -> SteeringConfig {
        SteeringConfig::new(&[WanId(0), WanId(1)], TICK)
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_secs(seconds)
    }

    #[test]
    fn the_fifth_change_within_five_minutes_costs_a_minute() {
        let mut guard = guard(SteeringQuirks::NONE);
        for seconds in [0, 60, 120, 180] {
            assert!(!guard.record(at(seconds)));
        }
        assert!(guard.record(at(240)));
        assert_eq!(guard.added_score(), 15);
        guard.pass(Duration::from_secs(59));
        assert!(guard.is_penalised());
        guard.pass(Duration::from_secs(1));
        assert!(!guard.is_penalised());
        assert_eq!(guard.added_score(), 0);
        // Nothing happened meanwhile: it does not come back by itself.
        guard.pass(Duration::from_secs(1));
        assert!(!guard.reconsider(TICK));
    }

    #[test]
    fn changes_as_old_as_the_window_do_not_count() {
        let mut guard = guard(SteeringQuirks::NONE);
        for seconds in [0, 1, 2, 3] {
            guard.record(at(seconds));
        }
        assert!(!guard.record(at(300)), "the first is 300 s old");
        assert!(guard.record(at(300)), "but the second is not");
    }

    #[test]
    fn the_reference_s_penalty_comes_back_while_old_changes_are_listed() {
        let mut guard = guard(SteeringQuirks::REFERENCE);
        for seconds in 0..5 {
            assert!(!guard.record(at(seconds)));
        }
        assert!(guard.reconsider(TICK));
        guard.pass(Duration::from_secs(3600));
        // In doubles, 60 s are 1201 scored ticks.
        assert!((0..1200).all(|_| !guard.reconsider(TICK)));
        assert!(guard.reconsider(TICK));
        assert_eq!(guard.added_score(), 0, "and has no effect");
    }

    #[test]
    fn without_a_guard_nothing_is_flapping() {
        let mut guard = FlapGuard::new(&SteeringConfig { flap_guard: None, ..config() });
        assert!((0..100).all(|seconds| !guard.record(at(seconds))));
        assert!(!guard.is_penalised());
    }
}
