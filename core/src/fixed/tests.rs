//! Tests of the fixed-point numbers.

use proptest::prelude::*;

use super::*;

#[test]
fn a_ratio_per_another_time_is_its_power() {
    let step = Duration::from_millis(50);
    for ppm in [0, 1, 100_000, 850_000, 900_000, 960_000, 999_999] {
        for tick_ms in [10, 25, 37, 50, 99, 100, 250, 1000] {
            let per = Ratio::from_ppm(ppm).per(Duration::from_millis(tick_ms), step);
            let exact = (f64::from(ppm) / 1e6).powf(tick_ms as f64 / 50.0) * 1e6;
            let off = (f64::from(per.0) - exact).abs();
            assert!(off < 1.0, "{ppm} per {tick_ms} ms: {per:?}, not {exact}");
            assert!(per < Ratio::ONE);
        }
        assert_eq!(Ratio::from_ppm(ppm).per(step, step), Ratio::from_ppm(ppm));
    }
    assert_eq!(Ratio::ONE.per(Duration::from_millis(10), step), Ratio::ONE);
}

#[test]
fn nanoseconds_become_the_nearest_fraction() {
    assert_eq!(MicrosQ32::from_nanos(1_500).to_bits(), 3 << 31);
    // 1/1000 µs is 4294967.296 / 2^32.
    assert_eq!(MicrosQ32::from_nanos(1).to_bits(), 4_294_967);
    assert_eq!(MicrosQ32::from_nanos(999).to_bits(), 4_290_672_329);
    assert_eq!(MicrosQ32::from_nanos(u64::MAX), MicrosQ32::MAX);
}

#[test]
fn alpha_is_tick_over_time_constant() {
    let tick = Duration::from_millis(50);
    assert_eq!(Alpha::per_tick(tick, TimeConstant::from_millis(100)).to_bits(), 1 << 47);
    assert_eq!(Alpha::per_tick(tick, TimeConstant::from_millis(50)), Alpha::ONE);
    assert_eq!(Alpha::per_tick(tick, TimeConstant::from_millis(1)), Alpha::ONE);
    assert_eq!(Alpha::per_tick(tick, TimeConstant::from_nanos(0)), Alpha::ONE);
    let shortest = Duration::from_micros(1);
    assert_eq!(Alpha::per_tick(shortest, TimeConstant::from_nanos(u64::MAX)).to_bits(), 1);
}

#[test]
fn alpha_one_copies_the_input_exactly() {
    let old = MicrosQ32::from_bits(-123_456_789_012_345);
    let new = MicrosQ32::from_bits(98_765_432_109_876);
    assert_eq!(old.step_towards(new, Alpha::ONE), new);
}

#[test]
fn a_step_rounds_half_up_in_both_directions() {
    let half = Alpha::per_tick(Duration::from_millis(1), TimeConstant::from_millis(2));
    let up = MicrosQ32::from_bits(0).step_towards(MicrosQ32::from_bits(1), half);
    let down = MicrosQ32::from_bits(0).step_towards(MicrosQ32::from_bits(-1), half);
    assert_eq!(up.to_bits(), 1);
    assert_eq!(down.to_bits(), 0);
}

proptest! {
    #[test]
    fn a_step_is_the_rounded_product_of_wide_numbers(
        from in any::<i64>(),
        target in any::<i64>(),
        alpha in 1..=ONE_ALPHA,
        near in any::<i16>(),
    ) {
        for target in [target, from.saturating_add(near.into())] {
            let product = (i128::from(target) - i128::from(from)) * i128::from(alpha);
            let wide = i128::from(from) + ((product + (1 << 47)) >> 48);
            let step = MicrosQ32(from).step_towards(MicrosQ32(target), Alpha(alpha));
            prop_assert_eq!(i128::from(step.to_bits()), wide);
        }
    }

    #[test]
    fn a_square_root_is_that_of_the_language(power in 0..=ONE_POWER) {
        let root = (u128::from(power) << POWER_BITS).isqrt();
        prop_assert_eq!(u128::from(square_root(power)), root);
    }
}

#[test]
fn the_ends_of_the_range_saturate() {
    assert_eq!(square_root(0), 0);
    assert_eq!(square_root(ONE_POWER), ONE_POWER);
    let low = MicrosQ32::from_bits(i64::MIN);
    assert_eq!(low.step_towards(MicrosQ32::MAX, Alpha::ONE), MicrosQ32::MAX);
    assert_eq!(MicrosQ32::MAX.saturating_sub(low), MicrosQ32::MAX);
    assert_eq!(MicrosQ32::MAX.midpoint(MicrosQ32::MAX), MicrosQ32::MAX);
}

#[test]
fn decimal_products_keep_their_whole_bits() {
    let cut = |ppm, rate| Ratio::from_ppm(ppm).mul_floor(BitsPerSecond::new(rate)).get();
    assert_eq!(cut(900_000, 38_000_000), 34_200_000);
    assert_eq!(cut(850_000, 490_685_875), 417_082_993); // 417 082 993.75
    assert_eq!(cut(1_000_000, u64::MAX), u64::MAX);
    assert_eq!(cut(0, 940_000_000), 0);
}

#[test]
fn cuts_are_rounded_down_however_fast_the_line() {
    for ppm in [990_000, 850_000, 333_333] {
        for rate in (0..1000).map(|index| 1_999_999_000 + index).chain([u64::MAX]) {
            let exact = u128::from(rate) * u128::from(ppm) / 1_000_000;
            let cut = Ratio::from_ppm(ppm).mul_floor(BitsPerSecond::new(rate));
            assert_eq!(u128::from(cut.get()), exact);
        }
    }
}

#[test]
fn a_duration_is_covered_by_whole_ticks() {
    let tick = Duration::from_millis(50);
    assert_eq!(ticks_covering(Duration::from_millis(250), tick), 5);
    assert_eq!(ticks_covering(Duration::from_millis(251), tick), 6);
    assert_eq!(ticks_covering(Duration::from_millis(0), tick), 1);
    assert_eq!(ticks_covering(Duration::MAX, Duration::from_micros(0)), u32::MAX);
}
