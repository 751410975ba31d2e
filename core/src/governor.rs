//! From wanted rates to router writes.
//!
//! A cut is never delayed. A raise waits for the answer to the last command and keeps a distance of
//! `window / writes` from the last write; whatever is wanted by then is written, so raises merge by
//! themselves. Unchanged rates are not written. The reference's limiter (quirk
//! `limiter-delays-cuts`) counts writes in a sliding window instead and delays cuts as well.

use embassy_time::{Duration, Instant};
use heapless::Deque;
use serde::{Deserialize, Serialize};

use crate::config::{MAX_WRITES_PER_WINDOW, WriteLimit};

/// A sliding window over the writes of one WAN.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WriteLimiter {
    limit: WriteLimit,
    #[serde(with = "crate::micros")]
    written: Deque<Instant, MAX_WRITES_PER_WINDOW>,
}

impl WriteLimiter {
    pub(crate) const fn new(limit: WriteLimit) -> Self {
        Self { limit, written: Deque::new() }
    }

    /// Notes a write.
    pub(crate) fn record(&mut self, now: Instant) {
        if self.written.is_full() {
            self.written.pop_front();
        }
        // Cannot be full any more: the oldest entry was just removed.
        let _full = self.written.push_back(now);
    }

    /// Returns how long the window stays full, zero when it has room.
    ///
    /// An entry leaves when it is strictly older than the window.
    pub(crate) fn wait_for_room(&mut self, now: Instant) -> Duration {
        while let Some(&oldest) = self.written.front() {
            if age(now, oldest) <= self.limit.window {
                break;
            }
            self.written.pop_front();
        }
        // Cuts may have overfilled the window: a raise waits until enough entries have left.
        let surplus = self.written.len().checked_sub(usize::from(self.limit.writes));
        let Some(deciding) = surplus.and_then(|index| self.written.iter().nth(index)) else {
            return Duration::MIN;
        };
        // Strictly older: one resolution step of the clock more than the window.
        remaining(self.limit.window, age(now, *deciding)).max(Duration::from_ticks(1))
    }

    /// Returns how long a raise must still keep its distance from the last write.
    pub(crate) fn wait_for_spacing(&self, now: Instant) -> Duration {
        let Some(&last) = self.written.back() else { return Duration::MIN };
        remaining(self.limit.spacing(), age(now, last))
    }
}

fn age(now: Instant, then: Instant) -> Duration {
    now.checked_duration_since(then).unwrap_or(Duration::MIN)
}

fn remaining(whole: Duration, passed: Duration) -> Duration {
    Duration::from_ticks(whole.as_ticks().saturating_sub(passed.as_ticks()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(writes: u8, window_ms: u64) -> WriteLimiter {
        WriteLimiter::new(WriteLimit { writes, window: Duration::from_millis(window_ms) })
    }

    #[test]
    fn a_full_window_opens_when_its_oldest_entry_is_strictly_older() {
        let mut limiter = limiter(2, 1000);
        let at = Instant::from_millis;
        limiter.record(at(0));
        assert_eq!(limiter.wait_for_room(at(10)), Duration::MIN);
        limiter.record(at(10));
        assert_eq!(limiter.wait_for_room(at(100)), Duration::from_millis(900));
        assert_eq!(limiter.wait_for_room(at(1000)), Duration::from_ticks(1));
        assert_eq!(limiter.wait_for_room(at(1001)), Duration::MIN);
        limiter.record(at(1001));
        assert_eq!(limiter.wait_for_room(at(1001)), Duration::from_millis(9));
    }

    #[test]
    fn spacing_spreads_raises_evenly() {
        let mut limiter = limiter(20, 10_000);
        assert_eq!(limiter.wait_for_spacing(Instant::from_millis(7)), Duration::MIN);
        limiter.record(Instant::from_millis(100));
        assert_eq!(limiter.wait_for_spacing(Instant::from_millis(150)), Duration::from_millis(450));
        assert_eq!(limiter.wait_for_spacing(Instant::from_millis(600)), Duration::MIN);
    }

    #[test]
    fn time_going_back_does_not_open_the_window() {
        let mut limiter = limiter(1, 1000);
        limiter.record(Instant::from_millis(5000));
        assert_eq!(limiter.wait_for_room(Instant::from_millis(10)), Duration::from_millis(1000));
    }
}
