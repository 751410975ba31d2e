//! The fixed-point filter against its formula in doubles, over a day of a line in trouble.

mod common;

use embassy_time::Duration;
use wanctl_core::ewma::Ewma;
use wanctl_core::fixed::{Alpha, MicrosQ32};
use wanctl_core::units::{RttNanos, TimeConstant};

use self::common::random::Random;

const TICK: Duration = Duration::from_millis(50);
const TICK_NS: f64 = 50e6;
const TICKS_PER_DAY: u64 = 24 * 3600 * 20;
/// The idle round-trip time.
const IDLE_NS: u64 = 22_000_000;
/// Far below the 0.01 µs that are asked for: what is left comes from the filter's state alone.
const WORST_US: f64 = 0.000_1;

/// A queue of 300 ms for half of every hour, jitter, and now and then an answer after 1.5 s.
fn rtt(tick: u64, random: &mut Random) -> RttNanos {
    let is_loaded = (tick / 36_000) % 2 == 1;
    let queue = if is_loaded { 300_000_000 } else { 0 };
    let jitter = random.range(0, 4_000_000);
    let late = if random.once_in(10_000) { 1_500_000_000 } else { 0 };
    RttNanos::new(IDLE_NS + queue + jitter + late)
}

/// Filters a day of samples; returns the largest difference in µs.
fn worst_difference_of_a_day(time_constant: TimeConstant) -> f64 {
    let alpha = TICK_NS / time_constant.as_nanos() as f64;
    let start = IDLE_NS / 1000;
    let alpha_core = Alpha::per_tick(TICK, time_constant);
    let mut core = Ewma::new(MicrosQ32::from_micros(start), alpha_core);
    let mut model = start as f64;
    let mut random = Random::new(1);
    let mut worst = 0.0_f64;
    for tick in 0..TICKS_PER_DAY {
        let sample = rtt(tick, &mut random);
        model = (1.0 - alpha) * model + alpha * (sample.get() as f64 / 1000.0);
        let value = core.update(sample.into()).to_bits() as f64 / 4_294_967_296.0;
        worst = worst.max((value - model).abs());
    }
    worst
}

/// A hundred coefficients from 0.0001 to 1, evenly spaced in their logarithm.
#[test]
fn a_day_of_filtering_agrees_with_doubles_at_every_alpha() {
    for step in 0..=100 {
        let alpha = 10_f64.powf(f64::from(step) / 25.0 - 4.0);
        let time_constant = TimeConstant::from_nanos((TICK_NS / alpha) as u64);
        let worst = worst_difference_of_a_day(time_constant);
        assert!(worst < WORST_US, "alpha {alpha}: {worst} µs");
    }
}

/// The coefficients that configurations have.
#[test]
fn a_day_of_filtering_agrees_with_doubles_at_usual_time_constants() {
    for millis in [50, 100, 250, 500, 2_500, 10_000, 60_000, 100_000, 300_000, 500_000] {
        let worst = worst_difference_of_a_day(TimeConstant::from_millis(millis));
        assert!(worst < WORST_US, "{millis} ms: {worst} µs");
    }
}
