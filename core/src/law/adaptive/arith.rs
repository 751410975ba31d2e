//! Integer helpers of this law: times in µs, rates in bit/s, shares in parts per million.
//!
//! Nothing overflows: a rate is at most 10^12 bit/s and a share at most 10^7, and everything
//! saturates. Saturation and division of 64 bits are much code on a small processor, so what is called
//! in many places is not inlined.

use embassy_time::Instant;

use crate::divide::{quotient, signed_quotient};

/// The whole in parts per million.
pub(super) const ONE_PPM: i64 = 1_000_000;

/// Returns a point in time as µs from the clock's origin.
pub(super) fn micros(at: Instant) -> i64 {
    i64::try_from(at.as_micros()).unwrap_or(i64::MAX)
}

/// Returns `rate_bps` times a share.
#[inline(never)]
pub(super) fn scale(rate_bps: u64, ppm: i64) -> u64 {
    let ppm = u64::try_from(ppm).unwrap_or(0);
    quotient(rate_bps.saturating_mul(ppm), 1_000_000)
}

/// Returns `value` times a share; both may be negative.
#[inline(never)]
pub(super) fn part(value: i64, ppm: i64) -> i64 {
    signed_quotient(value.saturating_mul(ppm), ONE_PPM)
}

/// Returns `part` as a share of `whole`, 0 if there is no whole.
#[inline(never)]
pub(super) fn share_ppm(part: u64, whole: u64) -> i64 {
    let ppm = quotient(part.saturating_mul(1_000_000), whole);
    i64::try_from(ppm).unwrap_or(i64::MAX)
}

/// Returns what is gained at a rate of `per_second` in `dt_us`.
pub(super) fn over(per_second: i64, dt_us: i64) -> i64 {
    signed_quotient(per_second.saturating_mul(dt_us), ONE_PPM)
}

/// Moves `value` towards `target` by `dt / tau`.
#[inline(never)]
pub(super) fn follow(value: i64, target: i64, dt_us: i64, tau_us: i64) -> i64 {
    let distance = target.saturating_sub(value);
    let step = signed_quotient(distance.saturating_mul(dt_us), tau_us.max(1));
    if dt_us >= tau_us { target } else { value.saturating_add(step) }
}

/// Returns `part` as a share of `whole`, 0 if there is no whole.
#[inline(never)]
pub(super) fn ratio_ppm(part: i64, whole: i64) -> i64 {
    signed_quotient(part.saturating_mul(ONE_PPM), whole)
}

/// Moves a rate towards another one by `dt / tau`.
pub(super) fn follow_bps(from: u64, to: u64, dt_us: i64, tau_us: i64) -> u64 {
    u64::try_from(follow(to_i64(from), to_i64(to), dt_us, tau_us)).unwrap_or(0)
}

/// Converts, stopping at the end of the range.
pub(super) fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
