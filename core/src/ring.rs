//! A ring buffer without a single index that could panic.
//!
//! `heapless::HistoryBuf` does the same, but checks its own indices with panics that the compiler
//! cannot remove, and the board image proves that there is none.

use heapless::Vec;

/// The latest `N` values; a new one replaces the oldest.
#[derive(Debug, Clone)]
pub(crate) struct Ring<T, const N: usize> {
    values: Vec<T, N>,
    /// Where the oldest value is. 0 until the ring is full.
    oldest: usize,
}

impl<T: Copy, const N: usize> Ring<T, N> {
    pub(crate) const fn new() -> Self {
        Self { values: Vec::new(), oldest: 0 }
    }

    /// Removes all values, without touching their memory.
    pub(crate) fn clear(&mut self) {
        self.values.clear();
        self.oldest = 0;
    }

    /// Adds a value.
    pub(crate) fn write(&mut self, value: T) {
        let Err(value) = self.values.push(value) else { return };
        if let Some(oldest) = self.values.get_mut(self.oldest) {
            *oldest = value;
        }
        let next = self.oldest.saturating_add(1);
        self.oldest = if next < N { next } else { 0 };
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns all values in no particular order.
    pub(crate) fn as_slice(&self) -> &[T] {
        &self.values
    }

    /// Returns the latest `count` values (fewer if there are fewer), the oldest first.
    pub(crate) fn latest(&self, count: usize) -> impl Iterator<Item = &T> + Clone {
        let [older, newer] = self.latest_slices(count);
        older.iter().chain(newer)
    }

    /// Returns the same values as two slices, the older ones first.
    pub(crate) fn latest_slices(&self, count: usize) -> [&[T]; 2] {
        let (newer, older) = self.values.split_at_checked(self.oldest).unwrap_or_default();
        [tail(older, count.saturating_sub(newer.len())), tail(newer, count)]
    }
}

/// Returns the last `count` values of a slice (fewer if there are fewer).
fn tail<T>(values: &[T], count: usize) -> &[T] {
    values.get(values.len().saturating_sub(count)..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_values_stay_in_the_order_they_came() {
        let mut ring = Ring::<u32, 3>::new();
        assert!(ring.is_empty());
        for value in 1..=7 {
            ring.write(value);
            let expected = value.saturating_sub(2).max(1)..=value;
            assert!(ring.latest(usize::MAX).copied().eq(expected), "{ring:?}");
            let expected = value.saturating_sub(1).max(1)..=value;
            assert!(ring.latest(2).copied().eq(expected), "{ring:?}");
            assert_eq!(ring.latest(0).count(), 0);
            assert_eq!(ring.len(), ring.as_slice().len());
        }
    }
}
