//! Deterministic fixed-point numbers: the same bits on every machine.
//!
//! | type | format | range | resolution |
//! |---|---|---|---|
//! | [`MicrosQ32`] | Q32.32 µs in `i64` | ±2147 s | 0.23 fs |
//! | [`PpmQ32`] | Q32.32 parts per million in `i64` | ±2147-fold | 2.3e-16 |
//! | [`PacketsQ32`] | Q32.32 packets in `i64` | 0 ..= 2^31 | 2.3e-10 |
//! | [`Alpha`] | Q0.48 in `u64` | 2^-48 ..= 1 | 3.6e-15 |
//! | [`Ratio`] | parts per million in `u32` | 0 ..= 1 | 1e-6 |
//!
//! Rounding is part of the contract and stated at each operation. Nothing here overflows: every
//! operation saturates at the ends of its type.

use embassy_time::Duration;
use serde::{Deserialize, Serialize};

use crate::divide::{divide, quotient, quotient_up};
use crate::ewma::Filtered;
use crate::units::{BitsPerSecond, Packets, RttNanos, TimeConstant};

/// Fraction bits of an [`Alpha`]. With 32 of them a filter of 360 s would follow a step of 100 ms with
/// an error of 0.02 µs; 48 are the most that keep a product within 128 bits with room to spare.
const ALPHA_BITS: u32 = 48;
/// 1.0 as an [`Alpha`].
const ONE_ALPHA: u64 = 1 << ALPHA_BITS;

/// A time or time difference in microseconds with 32 fraction bits.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MicrosQ32(i64);

impl MicrosQ32 {
    /// Zero.
    pub const ZERO: Self = Self(0);
    /// The largest value, about 2147 s.
    pub const MAX: Self = Self(i64::MAX);

    /// Makes a value from its raw Q32.32 bits.
    #[must_use]
    pub const fn from_bits(bits: i64) -> Self {
        Self(bits)
    }

    /// Returns the raw Q32.32 bits.
    #[must_use]
    pub const fn to_bits(self) -> i64 {
        self.0
    }

    /// Makes a value from whole microseconds; exact up to 2147 s, then [`Self::MAX`].
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        if micros >= 1 << 31 { Self::MAX } else { Self((micros << 32).cast_signed()) }
    }

    /// Makes a value from nanoseconds, rounded half up to 2^-32 µs; at most [`Self::MAX`].
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        let micros = quotient(nanos, 1000);
        if micros >= 1 << 31 {
            return Self::MAX;
        }
        let rest = nanos.wrapping_sub(micros.wrapping_mul(1000));
        let fraction = quotient((rest << 32).saturating_add(500), 1000);
        Self(((micros << 32).saturating_add(fraction)).cast_signed())
    }

    /// Returns the nearest whole microseconds, half up; negative values become 0.
    #[must_use]
    pub const fn as_micros_rounded(self) -> u64 {
        if self.0 <= 0 { 0 } else { (self.0.cast_unsigned().saturating_add(1 << 31)) >> 32 }
    }

    /// Returns the value in microseconds, rounded down (towards minus infinity).
    #[must_use]
    pub const fn as_micros_floor(self) -> i64 {
        self.0 >> 32
    }

    /// Subtracts, stopping at the ends of the range.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Adds, stopping at the ends of the range.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns the mean of two values, rounded half up.
    #[must_use]
    pub const fn midpoint(self, other: Self) -> Self {
        let sum = (self.0 as i128).saturating_add(other.0 as i128).saturating_add(1);
        Self::from_wide(sum >> 1)
    }

    /// Moves this value towards `target` by the fraction `alpha`:
    /// `self + round_half_up((target - self) * alpha)`.
    ///
    /// This is the only place of the filter formula. One step is off by at most 2^-33 µs.
    #[must_use]
    #[inline(never)] // 128 bits are much code on a small processor.
    pub const fn step_towards(self, target: Self, alpha: Alpha) -> Self {
        // The distance fits 64 bits without a sign, and times 49 bits it fits 128: nothing wraps.
        let distance = target.0.abs_diff(self.0) as u128;
        let product = distance.wrapping_mul(alpha.0 as u128);
        let half = 1 << (ALPHA_BITS - 1);
        // Half up is away from zero above it and towards zero below it. The result is a part of the
        // distance, so it is between the two values.
        if target.0 >= self.0 {
            Self(self.0.saturating_add_unsigned(scaled(product.wrapping_add(half))))
        } else {
            Self(self.0.saturating_sub_unsigned(scaled(product.wrapping_add(half - 1))))
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the value is clamped to i64 first")]
    const fn from_wide(bits: i128) -> Self {
        if bits > i64::MAX as i128 {
            Self(i64::MAX)
        } else if bits < i64::MIN as i128 {
            Self(i64::MIN)
        } else {
            Self(bits as i64)
        }
    }
}

/// Drops the fraction bits of a product with an [`Alpha`].
#[expect(clippy::cast_possible_truncation, reason = "a part of a distance of 64 bits")]
const fn scaled(product: u128) -> u64 {
    (product >> ALPHA_BITS) as u64
}

impl Filtered for MicrosQ32 {
    fn step_towards(self, target: Self, alpha: Alpha) -> Self {
        self.step_towards(target, alpha)
    }
}

/// A share or ratio in parts per million with 32 fraction bits.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PpmQ32(MicrosQ32);

impl PpmQ32 {
    /// Nothing.
    pub const ZERO: Self = Self(MicrosQ32::ZERO);
    /// The whole.
    pub const ONE: Self = Self::from_ppm(1_000_000);

    /// Makes a share from whole parts per million; at most about 2147-fold.
    #[must_use]
    pub const fn from_ppm(parts_per_million: u64) -> Self {
        Self(MicrosQ32::from_micros(parts_per_million))
    }

    /// Returns how far apart two values are.
    #[must_use]
    pub fn distance(self, other: Self) -> Self {
        Self(self.max(other).0.saturating_sub(self.min(other).0))
    }

    /// Returns this value as a share of `whole`, rounded down; zero if `whole` is not positive.
    #[must_use]
    pub fn share_of(self, whole: Self) -> Self {
        let bits = |value: Self| value.0.to_bits().max(0).cast_unsigned();
        // 63 bits times 20 bits fits 128 bits.
        let scaled = u128::from(bits(self)).saturating_mul(1_000_000);
        let ppm = divide(scaled, bits(whole)).unwrap_or_default();
        let ppm = u64::try_from(ppm).unwrap_or(u64::MAX);
        Self::from_ppm(ppm)
    }

    /// Returns the nearest whole parts per million, half up; negative values become 0.
    #[must_use]
    pub const fn as_ppm_rounded(self) -> u64 {
        self.0.as_micros_rounded()
    }
}

impl Filtered for PpmQ32 {
    fn step_towards(self, target: Self, alpha: Alpha) -> Self {
        Self(self.0.step_towards(target.0, alpha))
    }
}

/// A number of packets with 32 fraction bits, for filtered backlogs.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PacketsQ32(MicrosQ32);

impl PacketsQ32 {
    /// None.
    pub const ZERO: Self = Self(MicrosQ32::ZERO);

    /// Returns the raw Q32.32 bits.
    #[must_use]
    pub const fn to_bits(self) -> i64 {
        self.0.to_bits()
    }

    /// Returns the nearest whole number of packets, half up.
    #[must_use]
    pub const fn rounded(self) -> Packets {
        Packets(self.0.as_micros_rounded())
    }
}

impl Filtered for PacketsQ32 {
    fn step_towards(self, target: Self, alpha: Alpha) -> Self {
        Self(self.0.step_towards(target.0, alpha))
    }
}

/// Exact below 2^31 packets; more than that saturates.
impl From<Packets> for PacketsQ32 {
    fn from(packets: Packets) -> Self {
        Self(MicrosQ32::from_micros(packets.0))
    }
}

impl From<RttNanos> for MicrosQ32 {
    fn from(rtt: RttNanos) -> Self {
        Self::from_nanos(rtt.get())
    }
}

impl From<Duration> for MicrosQ32 {
    fn from(duration: Duration) -> Self {
        Self::from_micros(duration.as_micros())
    }
}

/// The coefficient of an exponential filter, 2^-48 ..= 1.
///
/// Kept in 49 bits because 1 (no filtering) must be exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Alpha(u64);

impl Alpha {
    /// Nothing but the past.
    pub(crate) const ZERO: Self = Self(0);
    /// No filtering: the output is the input.
    pub const ONE: Self = Self(ONE_ALPHA);

    /// Derives the coefficient `tick / time_constant`, rounded half up, limited to 2^-48 ..= 1.
    ///
    /// This linear form (not `1 - exp(-tick/tau)`) is the reference's definition of a time
    /// constant; the two differ by half of `tick / tau`.
    #[must_use]
    pub const fn per_tick(tick: Duration, time_constant: TimeConstant) -> Self {
        let tau_nanos = time_constant.as_nanos();
        let tick_nanos = (tick.as_micros() as u128).saturating_mul(1000);
        let scaled = (tick_nanos << ALPHA_BITS).saturating_add((tau_nanos / 2) as u128);
        let Some(bits) = divide(scaled, tau_nanos) else { return Self::ONE };
        if bits >= ONE_ALPHA as u128 { Self::ONE } else { Self::from_small(bits) }
    }

    #[expect(clippy::cast_possible_truncation, reason = "callers pass less than 2^48")]
    const fn from_small(bits: u128) -> Self {
        if bits == 0 { Self(1) } else { Self(bits as u64) }
    }

    /// Returns the raw Q0.48 bits, 1 ..= 2^48.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }
}

/// A factor between 0 and 1 that a rate is multiplied with, in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ratio(u32);

/// 1.0 in parts per million.
const ONE_PPM: u32 = 1_000_000;

impl Ratio {
    /// Nothing at all.
    pub(crate) const ZERO: Self = Self(0);

    /// The factor 1: nothing changes.
    pub const ONE: Self = Self(ONE_PPM);

    /// Makes a ratio from parts per million, at most 1.
    #[must_use]
    pub const fn from_ppm(parts_per_million: u32) -> Self {
        if parts_per_million >= ONE_PPM { Self::ONE } else { Self(parts_per_million) }
    }

    /// Multiplies a rate by this ratio and rounds down to whole bit/s, exactly for every rate.
    #[must_use]
    pub const fn mul_floor(self, rate: BitsPerSecond) -> BitsPerSecond {
        const ONE: u64 = ONE_PPM as u64;
        let ppm = self.0 as u64;
        // In two parts, so that nothing saturates: the first is at most the rate itself, the
        // second below one million.
        let millions = quotient(rate.get(), ONE);
        let rest = rate.get().wrapping_sub(millions.wrapping_mul(ONE));
        let whole = millions.saturating_mul(ppm);
        let rest = quotient(rest.saturating_mul(ppm), ONE);
        BitsPerSecond::new(whole.saturating_add(rest))
    }
}

impl Ratio {
    /// Returns the ratio that, once per `time`, changes a rate as fast as this one does once per
    /// `step`: `self ^ (time / step)`, to the nearest millionth. A ratio below 1 stays below 1.
    #[must_use]
    pub(crate) fn per(self, time: Duration, step: Duration) -> Self {
        let (time, step) = (time.as_micros(), step.as_micros().max(1));
        if time == step || self == Self::ONE {
            return self;
        }
        let one = u128::from(ONE_PPM);
        let base = divide(u128::from(self.0) << POWER_BITS, ONE_PPM.into()).unwrap_or_default();
        let base = u64::try_from(base).unwrap_or(ONE_POWER);
        let steps = quotient(time, step);
        let whole = whole_power(base, steps);
        let fraction = time.wrapping_sub(steps.wrapping_mul(step));
        let power = times(whole, fractional_power(base, fraction, step));
        // 62 bits times 20 bits fits.
        let ppm = u128::from(power).wrapping_mul(one).wrapping_add(1 << (POWER_BITS - 1));
        Self(u32::try_from(ppm >> POWER_BITS).unwrap_or(ONE_PPM).min(ONE_PPM - 1))
    }
}

/// Fraction bits while powers are computed; a product of two fits 128 bits.
const POWER_BITS: u32 = 62;
/// 1.0 as a power. None is above it.
const ONE_POWER: u64 = 1 << POWER_BITS;

#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "no factor is above 1, nor is their product")]
fn times(one: u64, other: u64) -> u64 {
    (u128::from(one).wrapping_mul(u128::from(other)) >> POWER_BITS) as u64
}

/// Returns `base ^ exponent` by repeated squaring.
fn whole_power(base: u64, mut exponent: u64) -> u64 {
    let (mut square, mut power) = (base, ONE_POWER);
    while exponent > 0 {
        if !exponent.is_multiple_of(2) {
            power = times(power, square);
        }
        square = times(square, square);
        exponent /= 2;
    }
    power
}

/// Returns `base ^ (part / whole)` for a part below the whole: a square root for each binary digit
/// of the quotient.
fn fractional_power(base: u64, mut part: u64, whole: u64) -> u64 {
    let (mut root, mut power) = (base, ONE_POWER);
    for _ in 0..u32::BITS {
        root = square_root(root);
        part = part.saturating_mul(2);
        if let Some(rest) = part.checked_sub(whole) {
            part = rest;
            power = times(power, root);
        }
    }
    power
}

/// Returns the square root, rounded down, bit by bit: the language's own for 128 bits is 2 KiB of code
/// on a small processor.
fn square_root(power: u64) -> u64 {
    let square = u128::from(power) << POWER_BITS;
    let (mut root, mut bit) = (0_u64, ONE_POWER);
    while bit > 0 {
        let more = root | bit;
        if u128::from(more).wrapping_mul(u128::from(more)) <= square {
            root = more;
        }
        bit /= 2;
    }
    root
}

/// Returns how many ticks cover a duration: rounded up, at least 1.
#[must_use]
pub const fn ticks_covering(duration: Duration, tick: Duration) -> u32 {
    let tick_micros = if tick.as_micros() == 0 { 1 } else { tick.as_micros() };
    let ticks = quotient_up(duration.as_micros(), tick_micros);
    if ticks == 0 {
        1
    } else if ticks > u32::MAX as u64 {
        u32::MAX
    } else {
        #[expect(clippy::cast_possible_truncation, reason = "compared with u32::MAX above")]
        {
            ticks as u32
        }
    }
}

#[cfg(test)]
mod tests;
