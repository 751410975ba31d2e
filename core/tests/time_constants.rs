//! Configuration gives seconds: another tick keeps the same behaviour in time.

use std::io::Write as _;

use embassy_time::Duration;
use proptest::prelude::*;
use wanctl_core::controller::Controller;
use wanctl_core::ewma::Ewma;
use wanctl_core::fixed::{Alpha, MicrosQ32, ticks_covering};
use wanctl_core::outputs::Outputs;
use wanctl_core::tick::Tick;
use wanctl_core::units::TimeConstant;

const TICKS_MS: [u64; 4] = [25, 50, 100, 250];

/// Returns a filter's answer to a step of 100 ms after some time, in µs.
fn step_response(tick_ms: u64, tau_ms: u64, after_ms: u64) -> i64 {
    let alpha = Alpha::per_tick(Duration::from_millis(tick_ms), TimeConstant::from_millis(tau_ms));
    let mut filter = Ewma::new(MicrosQ32::ZERO, alpha);
    for _ in 0..after_ms / tick_ms {
        filter.update(MicrosQ32::from_micros(100_000));
    }
    filter.value().as_micros_floor()
}

proptest! {
    /// The linear coefficient `tick / tau` differs from the exact one by half of `tick / tau`; for
    /// filters of 5 s and more that is below 1 % of the step at the coarsest tick.
    #[test]
    fn a_filter_is_the_same_filter_at_every_tick(
        tau_ms in 5_000_u64..100_000,
        quarters in 1_u64..200,
    ) {
        let after_ms = quarters * 250;
        let fine = step_response(TICKS_MS[0], tau_ms, after_ms);
        for tick_ms in TICKS_MS {
            let coarse = step_response(tick_ms, tau_ms, after_ms);
            prop_assert!((coarse - fine).abs() <= 1_000, "{tick_ms} ms: {coarse} µs, not {fine}");
        }
    }

    /// A duration is covered by as many ticks as it needs, and not one more.
    #[test]
    fn a_duration_lasts_as_long_at_every_tick(wanted_ms in 1_u64..60_000, tick_ms in 10_u64..1000) {
        let (wanted, tick) = (Duration::from_millis(wanted_ms), Duration::from_millis(tick_ms));
        let lasts_ms = u64::from(ticks_covering(wanted, tick)) * tick_ms;
        prop_assert!(lasts_ms >= wanted_ms && lasts_ms < wanted_ms + tick_ms);
    }
}

#[test]
fn a_ten_second_filter_has_moved_by_63_percent_after_ten_seconds() {
    for tick_ms in TICKS_MS {
        let moved = step_response(tick_ms, 10_000, 10_000);
        assert!((63_000..=64_000).contains(&moved), "{tick_ms} ms: {moved} µs");
    }
}

#[test]
fn a_controller_of_two_wans_fits_a_small_board() {
    let bytes = size_of::<Controller<2>>();
    assert!(bytes < 96 * 1024, "{bytes} bytes");
    // Past the capture of test output: the figure is worth seeing when all is well.
    let (one, tick, outputs) =
        (size_of::<Controller<1>>(), size_of::<Tick>(), size_of::<Outputs>());
    writeln!(
        std::io::stdout(),
        "Controller<2>: {bytes} bytes; Controller<1>: {one}, Tick: {tick}, Outputs: {outputs}"
    )
    .unwrap();
}
