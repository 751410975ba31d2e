//! A ring of the latest 2400 values: two minutes at a 50 ms tick.
//!
//! Values are 16 bits wide or less, so that all histories of a WAN fit a small board. In a state
//! record a history is a list of differences between successive values; a difference of 0 is
//! followed by how many more of them follow. A zone that lasts then costs a few bytes.

use core::fmt;
use core::iter::Peekable;
use core::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ring::Ring;
use crate::units::Permille;

/// How many values a [`History`] keeps.
pub const HISTORY_SAMPLES: usize = 2400;

/// The latest [`HISTORY_SAMPLES`] values, in fixed memory; a new value replaces the oldest.
#[derive(Debug, Clone)]
pub struct History<T> {
    ring: Ring<T, HISTORY_SAMPLES>,
}

impl<T: Copy + Ord> History<T> {
    /// Makes an empty history.
    #[must_use]
    pub const fn new() -> Self {
        Self { ring: Ring::new() }
    }

    /// Removes all values.
    pub fn clear(&mut self) {
        self.ring.clear();
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

    /// Returns the latest `count` values (fewer if there are fewer), oldest first.
    pub fn recent(&self, count: usize) -> impl Iterator<Item = T> + '_ {
        self.ring.latest(count).copied()
    }

    /// Returns the smallest of the latest `count` values.
    #[must_use]
    pub fn min_of_recent(&self, count: usize) -> Option<T> {
        let [older, newer] = self.ring.latest_slices(count).map(lowest);
        older.into_iter().chain(newer).min()
    }

    /// Returns how many values are such.
    #[must_use]
    pub fn count(&self, is_it: impl Fn(T) -> bool) -> usize {
        self.ring.as_slice().iter().filter(|value| is_it(**value)).count()
    }
}

/// Returns the lowest value. Four at a time: in the worst tick this was most of all instructions, and the
/// iterators' own way takes twice as many of them on a Cortex-M.
fn lowest<T: Copy + Ord>(values: &[T]) -> Option<T> {
    let (&first, rest) = values.split_first()?;
    let (blocks, rest) = rest.as_chunks();
    let lower = |one: T, other: T| if other < one { other } else { one };
    let mut lowest = rest.iter().copied().fold(first, lower);
    for &[one, two, three, four] in blocks {
        lowest = lower(lower(lower(lower(lowest, one), two), three), four);
    }
    Some(lowest)
}

impl History<u16> {
    /// Returns the smallest value that at least this share of the values do not exceed: 500 ‰ is
    /// the median, 1000 ‰ the largest value.
    ///
    /// It searches the range of values bit by bit, so it needs no memory, but it looks at every
    /// value up to 16 times: for observers and now and then, not for every tick.
    #[must_use]
    pub fn quantile(&self, share: Permille) -> Option<u16> {
        let length = u64::try_from(self.len()).unwrap_or(u64::MAX);
        let wanted = length.saturating_mul(u64::from(share.get())).div_ceil(1000).max(1);
        let values = self.ring.as_slice();
        let (mut low, mut high) = (*values.iter().min()?, *values.iter().max()?);
        while low < high {
            let middle = low.midpoint(high);
            let below = self.count(|value| value <= middle);
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

/// Turns values into what is written of them.
struct Differences<I: Iterator<Item = u16>> {
    values: Peekable<I>,
    last: u16,
    /// How many more zeros follow the zero that was just returned.
    zeros: Option<i16>,
}

impl<I: Iterator<Item = u16>> Differences<I> {
    fn new(values: I) -> Self {
        Self { values: values.peekable(), last: 0, zeros: None }
    }
}

impl<I: Iterator<Item = u16>> Iterator for Differences<I> {
    type Item = i16;

    fn next(&mut self) -> Option<i16> {
        if let Some(zeros) = self.zeros.take() {
            return Some(zeros);
        }
        let value = self.values.next()?;
        let difference = value.wrapping_sub(self.last).cast_signed();
        self.last = value;
        if difference == 0 {
            let mut zeros = 0_i16;
            while self.values.next_if_eq(&value).is_some() {
                zeros = zeros.saturating_add(1);
            }
            self.zeros = Some(zeros);
        }
        Some(difference)
    }
}

impl<T: Copy + Into<u16>> Serialize for History<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let values = || self.ring.latest(usize::MAX).map(|value| (*value).into());
        let mut list = serializer.serialize_seq(Some(Differences::new(values()).count()))?;
        for difference in Differences::new(values()) {
            list.serialize_element(&difference)?;
        }
        list.end()
    }
}

impl<'de, T: Copy + Ord + TryFrom<u16>> Deserialize<'de> for History<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(HistoryVisitor(PhantomData))
    }
}

struct HistoryVisitor<T>(PhantomData<T>);

impl<'de, T: Copy + Ord + TryFrom<u16>> Visitor<'de> for HistoryVisitor<T> {
    type Value = History<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the differences of at most {HISTORY_SAMPLES} values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<History<T>, A::Error> {
        let mut history = History::new();
        let mut last = 0_u16;
        while let Some(difference) = list.next_element::<i16>()? {
            last = last.wrapping_add_signed(difference);
            let value = T::try_from(last).map_err(|_| A::Error::custom("not a value"))?;
            let more = if difference == 0 { list.next_element::<i16>()? } else { Some(0) };
            let more = more.and_then(|more| usize::try_from(more).ok());
            let more = more.ok_or_else(|| A::Error::custom("not a count"))?;
            if more >= HISTORY_SAMPLES.saturating_sub(history.len()) {
                return Err(A::Error::invalid_length(HISTORY_SAMPLES, &self));
            }
            for _ in 0..=more {
                history.push(value);
            }
        }
        Ok(history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Bytes = std::vec::Vec<u8>;

    fn filled(values: impl IntoIterator<Item = u16>) -> History<u16> {
        let mut history = History::new();
        values.into_iter().for_each(|value| history.push(value));
        history
    }

    fn bytes(history: &History<u16>) -> Bytes {
        let mut buffer = std::vec![0; 8000];
        postcard::to_slice(history, &mut buffer).unwrap().to_vec()
    }

    fn read(bytes: &[u8]) -> postcard::Result<History<u16>> {
        postcard::from_bytes(bytes)
    }

    #[test]
    fn the_oldest_value_leaves_when_the_ring_is_full() {
        let mut history = History::new();
        assert!(history.is_empty());
        for value in 0..2405_u16 {
            history.push(value);
        }
        assert_eq!(history.len(), HISTORY_SAMPLES);
        assert_eq!(history.min_of_recent(usize::MAX), Some(5));
        assert_eq!(history.count(|value| value < 10), 5);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        assert_eq!(History::<u16>::new().quantile(Permille::new(500)), None);
        // 2410 values in a scrambled order; the ring keeps the latest 2400.
        let values: std::vec::Vec<u16> =
            (0..2410_u32).map(|i| (i * 7919 % 65_521) as u16).collect();
        let history = filled(values.iter().copied());
        let mut sorted = values[10..].to_vec();
        sorted.sort_unstable();
        for permille in [0_u16, 1, 10, 500, 950, 990, 999, 1000, 5000] {
            let share = Permille::new(permille);
            let rank = (2400 * usize::from(permille.min(1000))).div_ceil(1000).max(1);
            assert_eq!(history.quantile(share), Some(sorted[rank - 1]), "{permille}");
        }
    }

    #[test]
    fn the_minimum_looks_only_at_the_values_asked_for() {
        let history = filled([3_u16, 1, 4, 9, 5]);
        assert_eq!(history.min_of_recent(3), Some(4));
        assert_eq!(history.min_of_recent(4), Some(1));
        assert_eq!(history.min_of_recent(0), None);
        assert!(history.recent(2).eq([9, 5]));
    }

    #[test]
    fn a_history_comes_back_as_it_was() {
        let random = (0..3000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as u16);
        let runs = (0..3000_u16).map(|i| i / 700 % 3);
        let edges = [0, 0, u16::MAX, u16::MAX, 0, 1, 0, 0, 0];
        for history in [filled(random), filled(runs), filled(edges), filled([]), filled([7])] {
            let twin = read(&bytes(&history)).unwrap();
            assert!(twin.recent(usize::MAX).eq(history.recent(usize::MAX)));
        }
    }

    #[test]
    fn what_does_not_change_costs_a_few_bytes() {
        assert_eq!(bytes(&filled([0; HISTORY_SAMPLES])).len(), 4);
        assert_eq!(bytes(&filled([60_000; HISTORY_SAMPLES])).len(), 6);
    }

    #[test]
    fn more_values_than_fit_are_refused() {
        let full = bytes(&filled([0; HISTORY_SAMPLES]));
        // A length of 2, a difference of 0, and 2399 more: zigzag 4798.
        assert_eq!(full, [2, 0, 0xbe, 0x25]);
        assert!(read(&full).is_ok());
        for refused in [&[2, 0, 0xc0, 0x25][..], &[1, 0], &[2, 0, 1], &[4, 0, 0xbe, 0x25, 0, 0]] {
            assert!(read(refused).is_err(), "{refused:?}");
        }
    }
}
