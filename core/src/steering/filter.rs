//! The exponential filters of steering: they start at their first input.

use embassy_time::Duration;
use serde::{Deserialize, Serialize};

use crate::ewma::Filtered;
use crate::fixed::Alpha;
use crate::units::TimeConstant;

/// A filter that holds nothing before its first input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StartingFilter<T> {
    time_constant: TimeConstant,
    zeros_do_not_start: bool,
    value: Option<T>,
}

impl<T: Filtered + Default + PartialEq> StartingFilter<T> {
    pub(super) const fn new(time_constant: TimeConstant, zeros_do_not_start: bool) -> Self {
        Self { time_constant, zeros_do_not_start, value: None }
    }

    /// Feeds an input that stands for `time`, and returns the new value.
    pub(super) fn update(&mut self, input: T, time: Duration) -> T {
        let value = match self.value {
            Some(value) => value.step_towards(input, Alpha::per_tick(time, self.time_constant)),
            None if self.zeros_do_not_start && input == T::default() => return input,
            None => input,
        };
        self.value = Some(value);
        value
    }

    pub(super) fn value(&self) -> Option<T> {
        self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::MicrosQ32;

    const TAU: TimeConstant = TimeConstant::from_millis(100);
    const TICK: Duration = Duration::from_millis(50);

    #[test]
    fn the_first_input_starts_the_filter_even_if_it_is_zero() {
        let mut filter = StartingFilter::new(TAU, false);
        filter.update(MicrosQ32::ZERO, TICK);
        let value = filter.update(MicrosQ32::from_micros(1000), TICK);
        assert_eq!(value, MicrosQ32::from_micros(500));
    }

    #[test]
    fn the_reference_takes_a_true_zero_for_no_value() {
        let mut filter = StartingFilter::new(TAU, true);
        assert_eq!(filter.update(MicrosQ32::ZERO, TICK), MicrosQ32::ZERO);
        assert_eq!(filter.value(), None);
        let millisecond = MicrosQ32::from_micros(1000);
        assert_eq!(filter.update(millisecond, TICK), millisecond);
        // Decay is no zero: a double does not get there.
        for _ in 0..200 {
            filter.update(MicrosQ32::ZERO, TICK);
        }
        assert!(filter.update(millisecond, TICK) < millisecond);
    }
}
