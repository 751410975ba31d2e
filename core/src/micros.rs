//! embassy-time's types in serde: whole µs, for `#[serde(with = "crate::micros")]`.

use embassy_time::{Duration, Instant};
use heapless::Deque;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounded;

/// A time, or something made of times, that is written as µs.
pub(crate) trait Micros: Sized {
    /// What is written instead.
    type Written: Serialize + for<'de> Deserialize<'de>;

    fn to_written(&self) -> Self::Written;
    fn from_written(written: Self::Written) -> Self;
}

impl Micros for Instant {
    type Written = u64;

    fn to_written(&self) -> u64 {
        self.as_micros()
    }

    fn from_written(written: u64) -> Self {
        Self::from_micros(written)
    }
}

impl Micros for Duration {
    type Written = u64;

    fn to_written(&self) -> u64 {
        self.as_micros()
    }

    fn from_written(written: u64) -> Self {
        Self::from_micros(written)
    }
}

impl<T: Micros> Micros for Option<T> {
    type Written = Option<T::Written>;

    fn to_written(&self) -> Self::Written {
        self.as_ref().map(T::to_written)
    }

    fn from_written(written: Self::Written) -> Self {
        written.map(T::from_written)
    }
}

impl<T: Micros, const N: usize> Micros for Deque<T, N> {
    type Written = heapless::Vec<T::Written, N>;

    fn to_written(&self) -> Self::Written {
        bounded::collect(self.iter().map(T::to_written))
    }

    fn from_written(written: Self::Written) -> Self {
        let mut deque = Self::new();
        for item in written {
            // The list that was read has the same capacity.
            let _full = deque.push_back(T::from_written(item));
        }
        deque
    }
}

pub(crate) fn serialize<T: Micros, S: Serializer>(time: &T, to: S) -> Result<S::Ok, S::Error> {
    time.to_written().serialize(to)
}

pub(crate) fn deserialize<'de, T: Micros, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    T::Written::deserialize(from).map(T::from_written)
}
