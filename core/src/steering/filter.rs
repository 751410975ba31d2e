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
    #[serde(with = "crate::micros")]
    tick: Duration,
    /// The coefficient of one tick.
    alpha: Alpha,
    zeros_do_not_start: bool,
    value: Option<T>,
}

impl<T: Filtered + Default + PartialEq> StartingFilter<T> {
    pub(super) const fn new(
        time_constant: TimeConstant,
        tick: Duration,
        zeros_do_not_start: bool,
    ) -> Self {
        let alpha = Alpha::per_tick(tick, time_constant);
        Self { time_constant, tick, alpha, zeros_do_not_start, value: None }
    }

    /// Feeds an input that stands for so many ticks, and returns the new value.
    pub(super) fn update(&mut self, input: T, ticks: u32) -> T {
        let value = match self.value {
            Some(value) => value.step_towards(input, self.alpha_of(ticks)),
            None if self.zeros_do_not_start && input == T::default() => return input,
            None => input,
        };
        self.value = Some(value);
        value
    }

    fn alpha_of(&self, ticks: u32) -> Alpha {
        if ticks == 1 {
            return self.alpha;
        }
        let time = self.tick.as_ticks().saturating_mul(u64::from(ticks));
        Alpha::per_tick(Duration::from_ticks(time), self.time_constant)
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
        let mut filter = StartingFilter::new(TAU, TICK, false);
        filter.update(MicrosQ32::ZERO, 1);
        let value = filter.update(MicrosQ32::from_micros(1000), 1);
        assert_eq!(value, MicrosQ32::from_micros(500));
    }

    #[test]
    fn an_input_that_stands_for_more_ticks_weighs_more() {
        let mut filter = StartingFilter::new(TimeConstant::from_millis(400), TICK, false);
        filter.update(MicrosQ32::ZERO, 1);
        assert_eq!(filter.update(MicrosQ32::from_micros(1000), 4), MicrosQ32::from_micros(500));
    }

    #[test]
    fn the_reference_takes_a_true_zero_for_no_value() {
        let mut filter = StartingFilter::new(TAU, TICK, true);
        assert_eq!(filter.update(MicrosQ32::ZERO, 1), MicrosQ32::ZERO);
        assert_eq!(filter.value(), None);
        let millisecond = MicrosQ32::from_micros(1000);
        assert_eq!(filter.update(millisecond, 1), millisecond);
        // Decay is no zero: a double does not get there.
        for _ in 0..200 {
            filter.update(MicrosQ32::ZERO, 1);
        }
        assert!(filter.update(millisecond, 1) < millisecond);
    }
}
