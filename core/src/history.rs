//! A ring of the latest 2400 samples: two minutes at a 50 ms tick.

use serde::{Deserialize, Serialize};

use crate::ring::Ring;

/// How many samples a [`History`] keeps.
pub const HISTORY_SAMPLES: usize = 2400;

/// The latest [`HISTORY_SAMPLES`] values, in fixed memory; a new value replaces the oldest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(serialize = "T: Copy + Serialize", deserialize = "T: Copy + Deserialize<'de>"))]
pub struct History<T> {
    ring: Ring<T, HISTORY_SAMPLES>,
}

impl<T: Copy + Ord> History<T> {
    /// Makes an empty history.
    #[must_use]
    pub const fn new() -> Self {
        Self { ring: Ring::new() }
    }

    /// Adds a value.
    pub fn push(&mut self, value: T) {
        self.ring.write(value);
    }

    /// Returns the number of values, at most [`HISTORY_SAMPLES`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Returns whether nothing has been added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Returns the newest value.
    #[must_use]
    pub fn latest(&self) -> Option<T> {
        self.ring.recent().copied()
    }

    /// Returns the latest `count` values (fewer if there are fewer), oldest first.
    pub fn recent(&self, count: usize) -> impl Iterator<Item = T> + '_ {
        self.ring.oldest_ordered().skip(self.len().saturating_sub(count)).copied()
    }

    /// Returns the smallest of the latest `count` values.
    #[must_use]
    pub fn min_of_recent(&self, count: usize) -> Option<T> {
        self.recent(count).min()
    }
}

impl History<u32> {
    /// Returns the smallest value that at least `permille` of a thousand values do not exceed: 500 is
    /// the median, 1000 the largest value.
    ///
    /// It searches the range of values bit by bit, so it needs no memory, but it looks at every
    /// value up to 32 times: for observers, not for the tick.
    #[must_use]
    pub fn quantile(&self, permille: u32) -> Option<u32> {
        let length = u64::try_from(self.len()).unwrap_or(u64::MAX);
        let wanted = length.saturating_mul(u64::from(permille.min(1000))).div_ceil(1000).max(1);
        let (mut low, mut high) = (self.min_of_recent(usize::MAX)?, self.recent(usize::MAX).max()?);
        while low < high {
            let middle = low.midpoint(high);
            let below = self.ring.as_slice().iter().filter(|value| **value <= middle).count();
            if u64::try_from(below).unwrap_or(u64::MAX) >= wanted {
                high = middle;
            } else {
                low = middle.saturating_add(1);
            }
        }
        Some(low)
    }
}

impl<T: Copy + Ord> Default for History<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_value_leaves_when_the_ring_is_full() {
        let mut history = History::new();
        assert!(history.is_empty());
        assert_eq!(history.latest(), None);
        for value in 0..2405_u32 {
            history.push(value);
        }
        assert_eq!(history.len(), HISTORY_SAMPLES);
        assert_eq!(history.latest(), Some(2404));
        assert_eq!(history.min_of_recent(usize::MAX), Some(5));
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut history = History::<u32>::new();
        assert_eq!(history.quantile(500), None);
        // 2410 values in a scrambled order; the ring keeps the latest 2400.
        let values: std::vec::Vec<u32> = (0..2410_u32).map(|i| i * 7919 % 100_003).collect();
        for value in &values {
            history.push(*value);
        }
        let mut sorted = values[10..].to_vec();
        sorted.sort_unstable();
        for permille in [0_usize, 1, 10, 500, 950, 990, 999, 1000, 5000] {
            let rank = (2400 * permille.min(1000)).div_ceil(1000).max(1);
            assert_eq!(history.quantile(permille as u32), Some(sorted[rank - 1]), "{permille}");
        }
    }

    #[test]
    fn the_minimum_looks_only_at_the_values_asked_for() {
        let mut history = History::new();
        for value in [3_u32, 1, 4, 9, 5] {
            history.push(value);
        }
        assert_eq!(history.min_of_recent(3), Some(4));
        assert_eq!(history.min_of_recent(4), Some(1));
        assert_eq!(history.min_of_recent(0), None);
        assert!(history.recent(2).eq([9, 5]));
    }
}
