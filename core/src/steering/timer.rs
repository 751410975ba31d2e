//! How long something has lasted, and how long it must last.

use embassy_time::Duration;
use serde::{Deserialize, Serialize};

/// A time that must pass.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Countdown {
    #[serde(with = "crate::micros")]
    duration: Duration,
    /// The duration, but for the quirk `timers_in_doubles`.
    #[serde(with = "crate::micros")]
    needed: Duration,
    #[serde(with = "crate::micros")]
    passed: Option<Duration>,
}

impl Countdown {
    pub(super) const fn new(duration: Duration) -> Self {
        Self { duration, needed: duration, passed: None }
    }

    /// Makes a countdown that ends when the reference's does: it takes 0.05 off a double per tick,
    /// however long the tick is.
    pub(super) fn in_doubles(duration: Duration, tick: Duration) -> Self {
        let ticks = u64::from(decrements_in_doubles(duration));
        let needed = Duration::from_ticks(tick.as_ticks().saturating_mul(ticks));
        Self { duration, needed, passed: None }
    }

    /// Starts it, from the beginning if it is running.
    pub(super) const fn start(&mut self) {
        self.passed = Some(Duration::MIN);
    }

    pub(super) const fn stop(&mut self) {
        self.passed = None;
    }

    /// Returns whether it was started and not stopped; its end does not stop it.
    pub(super) const fn is_started(&self) -> bool {
        self.passed.is_some()
    }

    /// Lets time pass, if it is started; returns whether the time is up.
    pub(super) fn pass(&mut self, time: Duration) -> bool {
        let Some(passed) = &mut self.passed else { return false };
        *passed = Duration::from_ticks(passed.as_ticks().saturating_add(time.as_ticks()));
        *passed >= self.needed
    }

    /// Returns what is left of its duration, if it is started.
    pub(super) fn left(&self) -> Option<Duration> {
        let passed = self.passed?;
        Some(self.duration.checked_sub(passed).unwrap_or(Duration::MIN))
    }
}

/// 0.05 as a double, in units of 2^-57.
const STEP: u128 = 7_205_759_403_792_794;
/// No timer is longer than this many steps (14.5 hours).
const STEPS_MAX: u32 = 1 << 20;

/// Returns how often 0.05 must be subtracted from a number of seconds, in doubles, until nothing is
/// left: 40 times from 2, 61 times from 3.
fn decrements_in_doubles(duration: Duration) -> u32 {
    // Every double from 1/16 on is a multiple of 2^-57, and so is every difference of such.
    let scaled = u128::from(duration.as_micros()) << 57;
    let is_exact = scaled.is_multiple_of(1_000_000);
    let mut left = to_double(scaled / 1_000_000, is_exact);
    let mut steps = 0_u32;
    while left > 0 && steps < STEPS_MAX {
        left = to_double(left.saturating_sub(STEP), true);
        steps = steps.saturating_add(1);
    }
    steps
}

/// Rounds to the 53 significant bits of a double, half to even. `is_exact` tells that nothing was
/// cut off below the last bit.
fn to_double(value: u128, is_exact: bool) -> u128 {
    let bits = u128::BITS.saturating_sub(value.leading_zeros());
    let Some(shift) = bits.checked_sub(53).filter(|shift| *shift > 0) else { return value };
    let kept = value.unbounded_shr(shift);
    let rest = value ^ kept.unbounded_shl(shift);
    let half = 1_u128.unbounded_shl(shift.saturating_sub(1));
    let is_up = rest > half || (rest == half && (!is_exact || !kept.is_multiple_of(2)));
    kept.saturating_add(u128::from(is_up)).unbounded_shl(shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_subtraction_in_doubles_is_reproduced() {
        let measured = [(2, 40), (3, 61), (5, 101), (30, 600), (60, 1201)];
        for (seconds, steps) in measured {
            assert_eq!(decrements_in_doubles(Duration::from_secs(seconds)), steps, "{seconds} s");
        }
        for micros in (100_000..20_000_000_u64).step_by(12_345) {
            let (mut left, mut steps) = (micros as f64 / 1e6, 0);
            while left > 0.0 {
                (left, steps) = (left - 0.05, steps + 1);
            }
            assert_eq!(decrements_in_doubles(Duration::from_micros(micros)), steps, "{micros} µs");
        }
        assert_eq!(decrements_in_doubles(Duration::MAX), STEPS_MAX);
        assert_eq!(decrements_in_doubles(Duration::MIN), 0);
    }

    #[test]
    fn a_countdown_ends_when_its_time_has_passed_and_stays_ended() {
        let mut countdown = Countdown::new(Duration::from_millis(100));
        assert!(!countdown.pass(Duration::MAX), "it was not started");
        countdown.start();
        assert!(!countdown.pass(Duration::from_millis(99)));
        assert_eq!(countdown.left(), Some(Duration::from_millis(1)));
        assert!(countdown.pass(Duration::from_millis(1)));
        assert!(countdown.pass(Duration::MAX));
        assert_eq!(countdown.left(), Some(Duration::MIN));
        countdown.stop();
        assert_eq!(countdown.left(), None);
    }
}
