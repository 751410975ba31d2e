//! The other authority: a score that must be high, or low, for long enough.

use embassy_time::Duration;
use serde::{Deserialize, Serialize};

use crate::fixed::MicrosQ32;
use crate::steering::config::{ConfidenceConfig, SteeringConfig};
use crate::steering::decision::SteeringReason;
use crate::steering::hysteresis::Wish;
use crate::steering::timer::Countdown;
use crate::zone::Zone;

/// Traffic returns only while the unfiltered delay is below this.
const QUIET: MicrosQ32 = MicrosQ32::from_micros(10_000);

/// What one measurement of the primary means for confidence.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConfidenceInput {
    pub(super) zone: Zone,
    pub(super) score: u8,
    /// Unfiltered.
    pub(super) delay: MicrosQ32,
    pub(super) has_drops: bool,
}

/// The two timers of confidence scoring.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Confidence {
    config: ConfidenceConfig,
    /// The quirk `timers_in_doubles`.
    is_reference: bool,
    steer: Countdown,
    recovery: Countdown,
}

impl Confidence {
    pub(super) fn new(config: &ConfidenceConfig, all: &SteeringConfig) -> Self {
        let is_reference = all.quirks.timers_in_doubles;
        let timer = |duration| {
            if is_reference {
                Countdown::in_doubles(duration, all.tick)
            } else {
                Countdown::new(duration)
            }
        };
        Self {
            config: *config,
            is_reference,
            steer: timer(config.sustain),
            recovery: timer(config.recovery_sustain),
        }
    }

    /// Looks at one measurement while traffic is with the primary. `added_score` is the flap
    /// guard's, `time` what the measurement stands for.
    pub(super) fn consider_leaving(
        &mut self,
        input: &ConfidenceInput,
        added_score: u8,
        time: Duration,
    ) -> Option<Wish> {
        let holds = input.score >= self.config.steer_score.saturating_add(added_score);
        let is_up = sustain(&mut self.steer, holds, self.is_reference, time);
        is_up.then_some(Wish::Leave(SteeringReason::HighScore))
    }

    /// Looks at one measurement while traffic is elsewhere.
    pub(super) fn consider_returning(
        &mut self,
        input: &ConfidenceInput,
        time: Duration,
    ) -> Option<Wish> {
        let holds = input.score <= self.config.recovery_score
            && input.zone == Zone::Green
            && input.delay < QUIET
            && !input.has_drops;
        let is_up = sustain(&mut self.recovery, holds, self.is_reference, time);
        is_up.then_some(Wish::Return(SteeringReason::LowScore))
    }

    pub(super) const fn reset(&mut self) {
        self.steer.stop();
        self.recovery.stop();
    }

    pub(super) fn steer_left(&self) -> Option<Duration> {
        self.steer.left()
    }

    pub(super) fn recovery_left(&self) -> Option<Duration> {
        self.recovery.left()
    }
}

/// Runs a timer while a condition holds; returns whether it has held long enough. The reference's
/// timer starts in one tick and runs from the next one on, and then begins again.
fn sustain(timer: &mut Countdown, holds: bool, is_reference: bool, time: Duration) -> bool {
    if !holds {
        timer.stop();
        return false;
    }
    if !timer.is_started() {
        timer.start();
        if is_reference {
            return false;
        }
    }
    let is_up = timer.pass(time);
    if is_up && is_reference {
        timer.stop();
    }
    is_up
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steering::config::SteeringQuirks;
    use crate::units::WanId;

    const TICK: Duration = Duration::from_millis(50);
    const BAD: ConfidenceInput =
        ConfidenceInput { zone: Zone::Red, score: 60, delay: MicrosQ32::ZERO, has_drops: false };
    const QUIET_LINE: ConfidenceInput =
        ConfidenceInput { zone: Zone::Green, score: 20, delay: MicrosQ32::ZERO, has_drops: false };

    fn confidence(quirks: SteeringQuirks) -> Confidence {
        let mut config = SteeringConfig::new(&[WanId(0), WanId(1)], TICK);
        config.quirks = quirks;
        Confidence::new(&ConfidenceConfig::DEFAULT, &config)
    }

    #[test]
    fn a_high_score_must_last_two_seconds() {
        let mut confidence = confidence(SteeringQuirks::NONE);
        for _ in 0..39 {
            assert_eq!(confidence.consider_leaving(&BAD, 0, TICK), None);
        }
        let leave = Some(Wish::Leave(SteeringReason::HighScore));
        assert_eq!(confidence.consider_leaving(&BAD, 0, TICK), leave);
        assert_eq!(confidence.consider_leaving(&BAD, 0, TICK), leave, "it stays wanted");
        let lower = ConfidenceInput { score: 54, ..BAD };
        assert_eq!(confidence.consider_leaving(&lower, 0, TICK), None);
        assert_eq!(confidence.steer_left(), None);
    }

    #[test]
    fn the_flap_guard_s_points_are_needed_too() {
        let mut confidence = confidence(SteeringQuirks::NONE);
        for _ in 0..100 {
            assert_eq!(confidence.consider_leaving(&BAD, 15, TICK), None);
        }
        let higher = ConfidenceInput { score: 70, ..BAD };
        let mut wishes = (0..40).map(|_| confidence.consider_leaving(&higher, 15, TICK));
        assert!(wishes.any(|wish| wish.is_some()));
    }

    #[test]
    fn every_condition_of_a_return_is_needed() {
        let broken = [
            ConfidenceInput { score: 21, ..QUIET_LINE },
            ConfidenceInput { zone: Zone::Yellow, ..QUIET_LINE },
            ConfidenceInput { delay: QUIET, ..QUIET_LINE },
            ConfidenceInput { has_drops: true, ..QUIET_LINE },
        ];
        for broken in broken {
            let mut confidence = confidence(SteeringQuirks::NONE);
            for _ in 0..59 {
                assert_eq!(confidence.consider_returning(&QUIET_LINE, TICK), None);
            }
            assert_eq!(confidence.consider_returning(&broken, TICK), None, "{broken:?}");
            for _ in 0..59 {
                assert_eq!(confidence.consider_returning(&QUIET_LINE, TICK), None);
            }
            let back = Some(Wish::Return(SteeringReason::LowScore));
            assert_eq!(confidence.consider_returning(&QUIET_LINE, TICK), back);
        }
    }

    #[test]
    fn the_reference_decides_every_41_ticks() {
        let mut confidence = confidence(SteeringQuirks::REFERENCE);
        let mut decided = std::vec::Vec::new();
        for tick in 1..=123 {
            if confidence.consider_leaving(&BAD, 0, TICK).is_some() {
                decided.push(tick);
            }
        }
        assert_eq!(decided, [41, 82, 123]);
    }
}
