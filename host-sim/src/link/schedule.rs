//! The capacity of a bottleneck over time.

use std::time::Duration;

use super::{NANOS_PER_SECOND, Nanos, nanos};

/// A capacity in bit/s as a function of time: a list of steps, each holding until the next one.
///
/// A capacity of zero is an outage. The last step holds for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapacitySchedule {
    /// Start of the step and its rate in bit/s; strictly increasing, the first one at zero.
    steps: Vec<(Nanos, u64)>,
}

impl CapacitySchedule {
    /// Builds a capacity of `rate_bps` bit/s that never changes.
    #[must_use]
    pub fn constant(rate_bps: u64) -> Self {
        Self { steps: vec![(0, rate_bps)] }
    }

    /// Builds a schedule from steps `(time since the start of the link, bit/s)` in any order.
    ///
    /// The earliest step also holds before its time. Of two steps at the same time the later in the
    /// list wins.
    ///
    /// # Panics
    ///
    /// If `steps` is empty.
    #[must_use]
    pub fn steps(steps: &[(Duration, u64)]) -> Self {
        assert!(!steps.is_empty(), "a capacity schedule needs at least one step");
        let mut sorted: Vec<(Nanos, u64)> = steps.iter().map(|&(t, bps)| (nanos(t), bps)).collect();
        sorted.sort_by_key(|&(at, _)| at);
        sorted.dedup_by(|later, kept| {
            let same_time = later.0 == kept.0;
            if same_time {
                kept.1 = later.1;
            }
            same_time
        });
        sorted[0].0 = 0;
        Self { steps: sorted }
    }

    /// Returns the capacity in bit/s at time `at`.
    #[must_use]
    pub fn rate_at(&self, at: Nanos) -> u64 {
        self.steps[self.index_at(at)].1
    }

    /// Returns the time of the first step strictly after `at`, if there is one.
    #[must_use]
    pub fn next_change_after(&self, at: Nanos) -> Option<Nanos> {
        self.steps.get(self.index_at(at) + 1).map(|&(start, _)| start)
    }

    /// Replaces everything from `at` on by one step of `rate_bps` bit/s.
    pub fn set_from(&mut self, at: Nanos, rate_bps: u64) {
        self.steps.retain(|&(start, _)| start < at);
        let start = if self.steps.is_empty() { 0 } else { at };
        self.steps.push((start, rate_bps));
    }

    /// Returns when a transmission of `bits` bits that starts at `start` ends, rounded up to the
    /// nanosecond, counting every change of capacity on the way.
    ///
    /// `None` means never: the capacity falls to zero for good before the end.
    #[must_use]
    pub fn transmission_end(&self, start: Nanos, bits: u64) -> Option<Nanos> {
        // Work is counted in bit-nanoseconds per second, so that no step has to round.
        let mut work_left = u128::from(bits) * u128::from(NANOS_PER_SECOND);
        let mut at = start;
        for index in self.index_at(start)..self.steps.len() {
            let rate = u128::from(self.steps[index].1);
            if let Some(&(change, _)) = self.steps.get(index + 1) {
                let work_in_step = rate * u128::from(change - at);
                if work_in_step < work_left {
                    work_left -= work_in_step;
                    at = change;
                    continue;
                }
            }
            if work_left == 0 {
                return Some(at);
            }
            if rate == 0 {
                return None;
            }
            let nanos = Nanos::try_from(work_left.div_ceil(rate)).unwrap_or(Nanos::MAX);
            return Some(at.saturating_add(nanos));
        }
        None
    }

    fn index_at(&self, at: Nanos) -> usize {
        // The first step is at zero, so at least one start is `<= at`.
        self.steps.partition_point(|&(start, _)| start <= at) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    fn dip() -> CapacitySchedule {
        let ms = Duration::from_millis;
        CapacitySchedule::steps(&[(ms(0), 8_000_000), (ms(10), 0), (ms(20), 4_000_000)])
    }

    #[test]
    fn a_step_holds_from_its_start_until_the_next() {
        let schedule = dip();
        assert_eq!(schedule.rate_at(0), 8_000_000);
        assert_eq!(schedule.rate_at(10 * MS - 1), 8_000_000);
        assert_eq!(schedule.rate_at(10 * MS), 0);
        assert_eq!(schedule.rate_at(u64::MAX), 4_000_000);
        assert_eq!(schedule.next_change_after(0), Some(10 * MS));
        assert_eq!(schedule.next_change_after(10 * MS), Some(20 * MS));
        assert_eq!(schedule.next_change_after(20 * MS), None);
    }

    #[test]
    fn steps_may_come_unsorted_and_the_first_one_reaches_back_to_the_start() {
        let s = Duration::from_secs;
        let schedule = CapacitySchedule::steps(&[(s(9), 9), (s(3), 1), (s(3), 2)]);
        assert_eq!(schedule.rate_at(0), 2);
        assert_eq!(schedule.next_change_after(0), Some(9 * NANOS_PER_SECOND));
    }

    #[test]
    fn a_transmission_across_changes_integrates_the_bits() {
        // 16000 bits: 8000 in the last ms before the outage, nothing for 10 ms, 8000 at 4 Mbit/s.
        assert_eq!(dip().transmission_end(9 * MS, 16_000), Some(22 * MS));
        assert_eq!(dip().transmission_end(9 * MS, 8_000), Some(10 * MS));
        assert_eq!(dip().transmission_end(12 * MS, 4_000), Some(21 * MS));
    }

    #[test]
    fn a_transmission_into_a_final_outage_never_ends() {
        assert_eq!(CapacitySchedule::constant(0).transmission_end(5, 1), None);
        assert_eq!(CapacitySchedule::constant(0).transmission_end(5, 0), Some(5));
        assert_eq!(CapacitySchedule::constant(3).transmission_end(0, 1), Some(333_333_334));
    }

    #[test]
    fn a_rate_set_by_hand_replaces_the_rest_of_the_schedule() {
        let mut schedule = dip();
        schedule.set_from(15 * MS, 7);
        assert_eq!(schedule.rate_at(14 * MS), 0);
        assert_eq!(schedule.rate_at(30 * MS), 7);
        schedule.set_from(0, 5);
        assert_eq!(schedule, CapacitySchedule::constant(5));
    }
}
