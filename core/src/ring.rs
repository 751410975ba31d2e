//! A ring buffer without a single index that could panic.
//!
//! `heapless::HistoryBuf` does the same, but checks its own indices with panics that the compiler
//! cannot remove, and the board image proves that there is none.

use core::fmt;
use core::marker::PhantomData;

use heapless::Vec;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

    /// Returns the newest value.
    pub(crate) fn recent(&self) -> Option<&T> {
        self.oldest.checked_sub(1).map_or_else(|| self.values.last(), |at| self.values.get(at))
    }

    /// Returns all values in no particular order.
    pub(crate) fn as_slice(&self) -> &[T] {
        &self.values
    }

    /// Returns all values, the oldest first.
    pub(crate) fn oldest_ordered(&self) -> impl Iterator<Item = &T> + Clone {
        let (newer, older) = self.values.split_at_checked(self.oldest).unwrap_or_default();
        older.iter().chain(newer)
    }
}

/// A list, the oldest value first.
impl<T: Copy + Serialize, const N: usize> Serialize for Ring<T, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;
        let mut list = serializer.serialize_seq(Some(self.len()))?;
        for value in self.oldest_ordered() {
            list.serialize_element(value)?;
        }
        list.end()
    }
}

impl<'de, T: Copy + Deserialize<'de>, const N: usize> Deserialize<'de> for Ring<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RingVisitor(PhantomData))
    }
}

struct RingVisitor<T, const N: usize>(PhantomData<T>);

impl<'de, T: Copy + Deserialize<'de>, const N: usize> Visitor<'de> for RingVisitor<T, N> {
    type Value = Ring<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "values, the oldest first")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Ring<T, N>, A::Error> {
        let mut ring = Ring::new();
        while let Some(value) = list.next_element()? {
            ring.write(value);
        }
        Ok(ring)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_values_stay_in_the_order_they_came() {
        let mut ring = Ring::<u32, 3>::new();
        assert!(ring.is_empty());
        assert_eq!(ring.recent(), None);
        for value in 1..=7 {
            ring.write(value);
            let expected = value.saturating_sub(2).max(1)..=value;
            assert!(ring.oldest_ordered().copied().eq(expected), "{ring:?}");
            assert_eq!(ring.recent(), Some(&value));
            assert_eq!(ring.len(), ring.as_slice().len());
        }
    }

    #[test]
    fn a_ring_that_has_turned_is_written_like_one_that_has_not() {
        let mut turned = Ring::<u32, 3>::new();
        let mut straight = turned.clone();
        (1..=5).for_each(|value| turned.write(value));
        (3..=5).for_each(|value| straight.write(value));
        let (mut one, mut other) = ([0; 8], [0; 8]);
        let bytes = postcard::to_slice(&turned, &mut one).unwrap();
        assert_eq!(bytes, postcard::to_slice(&straight, &mut other).unwrap());
        let read: Ring<u32, 3> = postcard::from_bytes(bytes).unwrap();
        assert!(read.oldest_ordered().eq(turned.oldest_ordered()));
    }
}
