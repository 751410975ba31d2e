//! The classic law's limits on router writes: a token bucket that holds back raises only, and the
//! reference's sliding window. The adaptive law's hard limit is `budget`.

use embassy_time::{Duration, Instant};
use heapless::Deque;
use serde::{Deserialize, Serialize};

use crate::config::{MAX_WRITES_PER_WINDOW, WriteLimit};
use crate::divide::quotient_up;

/// One write in so many is kept for cuts.
const RESERVE_SHARE: u8 = 8;

/// A token bucket with room for `writes`, refilled with `writes` per window.
///
/// Raises leave an eighth of it to cuts. Cuts take what is there and are written even when nothing
/// is: not writing them would cost the line, writing them costs the router's log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WriteBudget {
    limit: WriteLimit,
    /// Tokens times the window in ticks of the clock, so that refilling is exact.
    level: u64,
    #[serde(with = "crate::micros")]
    refilled: Option<Instant>,
    #[serde(with = "crate::micros")]
    last_write: Option<Instant>,
}

impl WriteBudget {
    pub(crate) const fn new(limit: WriteLimit) -> Self {
        let level = limit.window.as_ticks().saturating_mul(limit.writes as u64);
        Self { limit, level, refilled: None, last_write: None }
    }

    /// The cost of one write, in units of the level.
    const fn cost(&self) -> u64 {
        self.limit.window.as_ticks()
    }

    fn refill(&mut self, now: Instant) {
        let passed = self.refilled.and_then(|last| now.checked_duration_since(last));
        let writes = u64::from(self.limit.writes);
        let gained = passed.map_or(0, |passed| passed.as_ticks().saturating_mul(writes));
        let full = self.cost().saturating_mul(writes);
        self.level = self.level.saturating_add(gained).min(full);
        self.refilled = Some(self.refilled.map_or(now, |last| last.max(now)));
    }

    /// Returns how long a raise has to wait, zero when it may go.
    pub(crate) fn wait(&mut self, now: Instant) -> Duration {
        self.refill(now);
        let reserve = self.limit.writes.checked_div(RESERVE_SHARE).unwrap_or_default();
        let needed = self.cost().saturating_mul(u64::from(reserve).saturating_add(1));
        let missing = needed.saturating_sub(self.level);
        let refill_time = quotient_up(missing, u64::from(self.limit.writes.max(1)));
        let since_write = self.last_write.map_or(Duration::MAX, |last| age(now, last));
        remaining(self.limit.spacing(), since_write).max(Duration::from_ticks(refill_time))
    }

    pub(crate) fn record(&mut self, now: Instant) {
        self.refill(now);
        self.level = self.level.saturating_sub(self.cost());
        self.last_write = Some(now);
    }
}

/// The reference's limiter: at most `writes` in a sliding window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WriteWindow {
    limit: WriteLimit,
    #[serde(with = "crate::micros")]
    written: Deque<Instant, MAX_WRITES_PER_WINDOW>,
}

impl WriteWindow {
    pub(crate) const fn new(limit: WriteLimit) -> Self {
        Self { limit, written: Deque::new() }
    }

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
    pub(crate) fn wait(&mut self, now: Instant) -> Duration {
        while let Some(&oldest) = self.written.front() {
            if age(now, oldest) <= self.limit.window {
                break;
            }
            self.written.pop_front();
        }
        match self.written.front() {
            Some(&oldest) if self.written.len() >= usize::from(self.limit.writes) => {
                // Strictly older: one resolution step of the clock more than the window.
                remaining(self.limit.window, age(now, oldest)).max(Duration::from_ticks(1))
            }
            _ => Duration::MIN,
        }
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

    fn limit(writes: u8, window_ms: u64) -> WriteLimit {
        WriteLimit { writes, window: Duration::from_millis(window_ms) }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn a_full_window_opens_when_its_oldest_entry_is_strictly_older() {
        let mut window = WriteWindow::new(limit(2, 1000));
        window.record(at(0));
        assert_eq!(window.wait(at(10)), Duration::MIN);
        window.record(at(10));
        assert_eq!(window.wait(at(100)), Duration::from_millis(900));
        assert_eq!(window.wait(at(1000)), Duration::from_ticks(1));
        assert_eq!(window.wait(at(1001)), Duration::MIN);
        window.record(at(1001));
        assert_eq!(window.wait(at(1001)), Duration::from_millis(9));
    }

    #[test]
    fn time_going_back_opens_neither_window_nor_budget() {
        let mut window = WriteWindow::new(limit(1, 1000));
        window.record(at(5000));
        assert_eq!(window.wait(at(10)), Duration::from_millis(1000));
        let mut budget = WriteBudget::new(limit(1, 1000));
        budget.record(at(5000));
        assert_eq!(budget.wait(at(10)), Duration::from_millis(1000));
    }

    #[test]
    fn raises_keep_their_distance_from_the_last_write() {
        let mut budget = WriteBudget::new(limit(20, 10_000));
        assert_eq!(budget.wait(at(7)), Duration::MIN);
        budget.record(at(100));
        assert_eq!(budget.wait(at(150)), Duration::from_millis(450));
        assert_eq!(budget.wait(at(600)), Duration::MIN);
    }

    #[test]
    fn after_many_cuts_raises_wait_until_the_reserve_is_full_again() {
        let mut budget = WriteBudget::new(limit(16, 8_000)); // one write per 500 ms, reserve 2
        for cut in 0..40 {
            budget.record(at(cut * 50));
        }
        // Empty at 1950 ms; three tokens are needed, of 500 ms each.
        assert_eq!(budget.wait(at(1950)), Duration::from_millis(1500));
        assert_eq!(budget.wait(at(3450)), Duration::MIN);
    }

    #[test]
    fn raises_alone_never_exceed_the_budget() {
        let mut budget = WriteBudget::new(limit(6, 3_000));
        let mut writes = 0;
        for tick in 0..6000 {
            if budget.wait(at(tick * 10)) == Duration::MIN {
                budget.record(at(tick * 10));
                writes += 1;
            }
        }
        assert_eq!(writes, 120); // 60 s at 6 per 3 s
    }
}
