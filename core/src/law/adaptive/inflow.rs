//! What a shaper has let through: the integral of the rate it held.

use heapless::Deque;
use serde::{Deserialize, Serialize};

use crate::divide::quotient;

/// Changes that are remembered.
const POINTS: usize = 48;
/// Points are at least this far apart.
const SPACING_US: i64 = 25_000;

/// From here on `rate` was held; `sum` went through before.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Point {
    at_us: i64,
    rate_kbps: u64,
    /// In kbit/s x µs; it wraps.
    sum: u64,
}

impl Point {
    #[inline(never)]
    fn sum_at(&self, at_us: i64) -> u64 {
        let passed = u64::try_from(at_us.saturating_sub(self.at_us)).unwrap_or(0);
        self.sum.wrapping_add(self.rate_kbps.saturating_mul(passed))
    }
}

/// The rates a shaper held lately.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Inflow {
    points: Deque<Point, POINTS>,
}

impl Inflow {
    pub(super) const fn new() -> Self {
        Self { points: Deque::new() }
    }

    pub(super) fn clear(&mut self) {
        self.points.clear();
    }

    /// Notes the rate that is held from now on.
    pub(super) fn hold(&mut self, rate_bps: u64, now_us: i64) {
        let rate_kbps = quotient(rate_bps, 1000);
        let Some(last) = self.points.back_mut() else {
            let _full = self.points.push_back(Point { at_us: now_us, rate_kbps, sum: 0 });
            return;
        };
        let sum = last.sum_at(now_us);
        if now_us.saturating_sub(last.at_us) < SPACING_US {
            *last = Point { at_us: now_us, rate_kbps, sum };
            return;
        }
        if self.points.is_full() {
            self.points.pop_front();
        }
        let _full = self.points.push_back(Point { at_us: now_us, rate_kbps, sum });
    }

    /// Returns how many points are not after a point in time.
    #[inline(never)]
    fn count_until(&self, at_us: i64) -> usize {
        // From the newest on: nearly all questions are about the last moments.
        let (older, newer) = self.points.as_slices();
        let last = |points: &[Point]| points.iter().rposition(|point| point.at_us <= at_us);
        let last = match last(newer) {
            Some(last) => Some(older.len().saturating_add(last)),
            None => last(older),
        };
        last.map_or(0, |last| last.saturating_add(1))
    }

    /// Returns what went through before a point in time, in kbit/s x µs from an arbitrary origin.
    /// The oldest known rate stands for everything before it, the newest for everything after.
    #[inline(never)]
    fn sum_at(&self, at_us: i64) -> u64 {
        let newest = self.count_until(at_us).checked_sub(1);
        if let Some(point) = newest.and_then(|newest| self.points.get(newest)) {
            return point.sum_at(at_us);
        }
        let Some(oldest) = self.points.front() else { return 0 };
        let before = u64::try_from(oldest.at_us.saturating_sub(at_us)).unwrap_or(0);
        oldest.sum.wrapping_sub(oldest.rate_kbps.saturating_mul(before))
    }

    /// Returns the rate held now.
    pub(super) fn newest_bps(&self) -> u64 {
        self.points.back().map_or(0, |point| point.rate_kbps.saturating_mul(1000))
    }

    /// Returns the lowest and the highest rate held between two points in time, in bit/s.
    pub(super) fn range(&self, from_us: i64, to_us: i64) -> Option<(u64, u64)> {
        let end = self.count_until(to_us);
        let newest = end.checked_sub(1)?;
        let begin = self.count_until(from_us).saturating_sub(1).min(newest);
        let (mut low, mut high) = (u64::MAX, 0);
        for point in self.points.iter().skip(begin).take(end.saturating_sub(begin)) {
            (low, high) = (low.min(point.rate_kbps), high.max(point.rate_kbps));
        }
        Some((low.saturating_mul(1000), high.saturating_mul(1000)))
    }

    /// Returns what went through between two points in time, in kbit/s x µs.
    pub(super) fn between(&self, from_us: i64, to_us: i64) -> u64 {
        if to_us <= from_us {
            return 0;
        }
        self.sum_at(to_us).wrapping_sub(self.sum_at(from_us))
    }
}
