//! A list whose elements are begun where they are.
//!
//! `heapless::Vec` moves each element on its way in, and gives it back when there is no room: a WAN
//! would be on a board's stack twice. This only ever hands out a place. It is written as a list, or, if
//! it has one place, as an `Option`: their bytes are the same.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that stands in a place nobody has taken yet.
pub(crate) trait Empty {
    /// All zeros, whatever that means: an option may be `Some`. Only then does a static list of it take
    /// no room in a board's flash. It has to be begun before it is used.
    const EMPTY: Self;
}

/// At most `N` elements.
#[derive(Debug, Clone)]
pub(crate) struct Places<T, const N: usize> {
    count: usize,
    each: [T; N],
}

impl<T: Empty, const N: usize> Places<T, N> {
    pub(crate) const fn new() -> Self {
        Self { count: 0, each: [const { T::EMPTY }; N] }
    }

    /// Removes all elements.
    pub(crate) const fn clear(&mut self) {
        self.count = 0;
    }

    /// Takes the next place, with whatever is in it; `None` if the list is full.
    pub(crate) fn take(&mut self) -> Option<&mut T> {
        let place = self.each.get_mut(self.count)?;
        self.count = self.count.saturating_add(1);
        Some(place)
    }
}

impl<T, const N: usize> Deref for Places<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.each.get(..self.count).unwrap_or_default()
    }
}

impl<T, const N: usize> DerefMut for Places<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.each.get_mut(..self.count).unwrap_or_default()
    }
}

impl<T: Serialize, const N: usize> Serialize for Places<T, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.len()))?;
        for element in self.iter() {
            list.serialize_element(element)?;
        }
        list.end()
    }
}

impl<'de, T: Empty + Deserialize<'de>, const N: usize> Deserialize<'de> for Places<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PlacesVisitor(PhantomData))
    }
}

struct PlacesVisitor<T, const N: usize>(PhantomData<T>);

impl<'de, T: Empty + Deserialize<'de>, const N: usize> Visitor<'de> for PlacesVisitor<T, N> {
    type Value = Places<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {N} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Places<T, N>, A::Error> {
        let mut places = Places::new();
        while let Some(element) = list.next_element()? {
            *places.take().ok_or_else(|| A::Error::custom("too many elements"))? = element;
        }
        Ok(places)
    }
}
