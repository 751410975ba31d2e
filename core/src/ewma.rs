//! The exponential filter of the delay signals.

use serde::{Deserialize, Serialize};

use crate::fixed::{Alpha, MicrosQ32};

/// A value that an [`Ewma`] can filter.
pub trait Filtered: Copy {
    /// Moves this value towards `target` by the fraction `alpha`, rounded half up.
    #[must_use]
    fn step_towards(self, target: Self, alpha: Alpha) -> Self;
}

/// An exponentially weighted moving average: `value += (input - value) * alpha`.
///
/// Against the same filter in f64 it stays within 0.0001 µs over a simulated day with queues of
/// 300 ms, at every alpha from 0.0001 to 1 (`core/tests/filter_precision.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ewma<T = MicrosQ32> {
    value: T,
    alpha: Alpha,
}

impl<T: Filtered> Ewma<T> {
    /// Makes a filter that starts at `initial`.
    #[must_use]
    pub const fn new(initial: T, alpha: Alpha) -> Self {
        Self { value: initial, alpha }
    }

    /// Returns the filtered value.
    #[must_use]
    pub const fn value(&self) -> T {
        self.value
    }

    /// Returns what [`Self::update`] would make of `input`, without changing anything.
    #[must_use]
    pub fn candidate(&self, input: T) -> T {
        self.value.step_towards(input, self.alpha)
    }

    /// Feeds one input and returns the new value.
    pub fn update(&mut self, input: T) -> T {
        self.value = self.candidate(input);
        self.value
    }

    /// Replaces the value, forgetting the past.
    pub const fn set(&mut self, value: T) {
        self.value = value;
    }
}
