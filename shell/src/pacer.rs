//! Absolute-deadline pacing: tick *n* is due at `start + n * interval`, whatever happened before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use embassy_time::Instant;
use rustix::io::Errno;
use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec};

use crate::clock;

/// A tick that begins later than this after its deadline counts as late.
pub const LATE: Duration = Duration::from_millis(10);

/// How well the deadlines were met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pacing {
    /// Ticks begun.
    pub ticks: u64,
    /// Ticks begun more than [`LATE`] after their deadline.
    pub late: u64,
    /// Deadlines that passed without a tick because the one before took too long.
    pub missed: u64,
    /// The worst delay after a deadline, in µs.
    pub worst_us: u64,
}

impl Pacing {
    fn note(&mut self, lateness_us: u64) {
        self.ticks += 1;
        self.worst_us = self.worst_us.max(lateness_us);
        if u128::from(lateness_us) > LATE.as_micros() {
            self.late += 1;
        }
    }
}

/// Waits for one deadline after the other.
#[derive(Debug)]
pub struct Pacer {
    interval_us: u64,
    deadline_us: u64,
    pacing: Pacing,
}

impl Pacer {
    /// Makes a pacer whose first deadline is one interval from now.
    #[must_use]
    pub fn new(interval: embassy_time::Duration) -> Self {
        let interval_us = interval.as_micros().max(1);
        let deadline_us = clock::now().as_micros() + interval_us;
        Self { interval_us, deadline_us, pacing: Pacing::default() }
    }

    /// Sleeps until the next deadline and returns the time then, or `None` as soon as `stop` is
    /// set and a signal has ended the sleep.
    pub fn wait(&mut self, stop: &AtomicBool) -> Option<Instant> {
        let seconds = i64::try_from(self.deadline_us / 1_000_000).unwrap_or(i64::MAX);
        let nanos = i64::try_from(self.deadline_us % 1_000_000 * 1000).unwrap_or_default();
        let deadline = Timespec { tv_sec: seconds, tv_nsec: nanos };
        while !stop.load(Ordering::Relaxed) {
            // A signal ends the sleep early; the deadline stays.
            if clock_nanosleep_absolute(ClockId::Monotonic, &deadline) != Err(Errno::INTR) {
                let now = clock::now();
                self.begin(now);
                return Some(now);
            }
        }
        None
    }

    /// Accounts for a tick that begins at `now` and sets the next deadline. Deadlines that have
    /// already passed are skipped, never made up for in a burst.
    fn begin(&mut self, now: Instant) {
        let late_us = now.as_micros().saturating_sub(self.deadline_us);
        self.pacing.note(late_us);
        let skipped = late_us / self.interval_us;
        self.pacing.missed += skipped;
        self.deadline_us += (skipped + 1) * self.interval_us;
    }

    /// Returns how well the deadlines were met so far.
    #[must_use]
    pub const fn pacing(&self) -> Pacing {
        self.pacing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pacer() -> Pacer {
        Pacer { interval_us: 50_000, deadline_us: 100_000, pacing: Pacing::default() }
    }

    #[test]
    fn lateness_does_not_move_the_deadlines() {
        let mut pacer = pacer();
        pacer.begin(Instant::from_micros(100_300));
        pacer.begin(Instant::from_micros(162_000));
        assert_eq!(pacer.deadline_us, 200_000);
        assert_eq!(pacer.pacing(), Pacing { ticks: 2, late: 1, missed: 0, worst_us: 12_000 });
    }

    #[test]
    fn passed_deadlines_are_skipped_and_counted() {
        let mut pacer = pacer();
        pacer.begin(Instant::from_micros(230_000));
        assert_eq!(pacer.deadline_us, 250_000);
        assert_eq!(pacer.pacing(), Pacing { ticks: 1, late: 1, missed: 2, worst_us: 130_000 });
    }
}
