//! Division of wide numbers by the short divisions that a processor of 32 bits has.
//!
//! There a division of 64-bit numbers is a function of the compiler's that takes about 140 instructions
//! (thousands for 128 bits), and half of the worst tick was spent in it. These take about 50. Both do long
//! division with two digits of half a word, whose estimates are never more than two too high (D. Knuth, The Art of
//! Computer Programming, volume 2, section 4.3.1, algorithm D).

/// Returns the quotient, rounded down; 0 for a division by zero. Otherwise it is exactly `/`.
#[inline(never)]
pub(crate) const fn quotient(dividend: u64, divisor: u64) -> u64 {
    let (high, low) = halves(dividend);
    let (upper, lower) = halves(divisor);
    if upper > 0 {
        return by_long(dividend, divisor);
    }
    let Some(first) = high.checked_div(lower) else { return 0 };
    let rest = high.wrapping_sub(first.wrapping_mul(lower));
    joined(first, digit(rest, low, lower))
}

/// Returns the quotient, rounded down; `None` for a division by zero.
pub(crate) fn checked_quotient(dividend: u64, divisor: u64) -> Option<u64> {
    (divisor > 0).then(|| quotient(dividend, divisor))
}

/// Returns the quotient, rounded up; 0 for a division by zero.
pub(crate) const fn quotient_up(dividend: u64, divisor: u64) -> u64 {
    let quotient = quotient(dividend, divisor);
    if quotient.wrapping_mul(divisor) < dividend { quotient.saturating_add(1) } else { quotient }
}

/// Returns the quotient, rounded towards zero; 0 for a division by zero and where the quotient would be 2^63.
pub(crate) const fn signed_quotient(dividend: i64, divisor: i64) -> i64 {
    let quotient = quotient(dividend.unsigned_abs(), divisor.unsigned_abs()).cast_signed();
    if (dividend < 0) != (divisor < 0) {
        quotient.wrapping_neg()
    } else if quotient < 0 {
        0
    } else {
        quotient
    }
}

/// Returns the quotient, rounded down; `None` for a division by zero. Otherwise it is exactly `/`.
#[inline(never)]
pub(crate) const fn divide(dividend: u128, divisor: u64) -> Option<u128> {
    if divisor == 0 {
        return None;
    }
    let (high, low) = (truncated(dividend.unbounded_shr(64)), truncated(dividend));
    let first = quotient(high, divisor);
    let rest = high.wrapping_sub(first.wrapping_mul(divisor));
    let second = if rest == 0 { quotient(low, divisor) } else { wide_digit(rest, low, divisor) };
    Some((first as u128).unbounded_shl(64) | second as u128)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower bits are meant")]
const fn truncated(value: u128) -> u64 {
    value as u64
}

/// Returns the upper and the lower half.
#[expect(clippy::cast_possible_truncation, reason = "the lower bits are meant")]
const fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}

const fn joined(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

/// Divides two digits by one that is greater than the upper one.
#[inline(never)]
const fn digit(high: u32, low: u32, divisor: u32) -> u32 {
    if high == 0 {
        return match low.checked_div(divisor) {
            Some(quotient) => quotient,
            None => 0,
        };
    }
    // With the divisor's highest bit set, its upper half makes good estimates.
    let shift = divisor.leading_zeros();
    let divisor = divisor.wrapping_shl(shift);
    let rest = high.wrapping_shl(shift) | (low >> 1).wrapping_shr(shift ^ 31);
    let low = low.wrapping_shl(shift);
    let first = half_digit(rest, low >> 16, divisor);
    let rest = (rest << 16 | low >> 16).wrapping_sub(first.wrapping_mul(divisor));
    first << 16 | half_digit(rest, low & 0xffff, divisor)
}

/// Divides a rest and a half digit by a divisor of 32 bits that is greater than the rest.
const fn half_digit(rest: u32, next: u32, divisor: u32) -> u32 {
    let (upper, lower) = (divisor >> 16, divisor & 0xffff);
    let Some(mut estimate) = rest.checked_div(upper) else { return 0 };
    let mut left = rest.wrapping_sub(estimate.wrapping_mul(upper));
    while estimate > 0xffff || estimate.wrapping_mul(lower) > (left << 16 | next) {
        estimate = estimate.wrapping_sub(1);
        left = left.wrapping_add(upper);
        if left > 0xffff {
            break;
        }
    }
    estimate
}

/// As [`digit`], with digits of 64 bits.
const fn wide_digit(high: u64, low: u64, divisor: u64) -> u64 {
    let shift = divisor.leading_zeros();
    let divisor = divisor.wrapping_shl(shift);
    let rest = high.wrapping_shl(shift) | (low >> 1).wrapping_shr(shift ^ 63);
    let (upper, lower) = halves(low.wrapping_shl(shift));
    let first = wide_half_digit(rest, upper, divisor);
    let rest = (rest << 32 | upper as u64).wrapping_sub(first.wrapping_mul(divisor));
    first << 32 | wide_half_digit(rest, lower, divisor)
}

/// As [`half_digit`], with digits of 64 bits.
#[inline(never)]
const fn wide_half_digit(rest: u64, next: u32, divisor: u64) -> u64 {
    let (upper, lower) = (divisor >> 32, divisor & 0xffff_ffff);
    let mut estimate = quotient(rest, upper);
    let mut left = rest.wrapping_sub(estimate.wrapping_mul(upper));
    while estimate >> 32 > 0 || estimate.wrapping_mul(lower) > (left << 32 | next as u64) {
        estimate = estimate.wrapping_sub(1);
        left = left.wrapping_add(upper);
        if left >> 32 > 0 {
            break;
        }
    }
    estimate
}

/// Divides by more than 32 bits: the quotient is one digit, estimated from the divisor's upper 32 bits
/// (H. Warren, Hacker's Delight, section 9-5).
const fn by_long(dividend: u64, divisor: u64) -> u64 {
    let shift = divisor.leading_zeros();
    let (upper, _) = halves(divisor.wrapping_shl(shift));
    let (high, low) = halves(dividend >> 1);
    let estimate = joined(0, digit(high, low, upper)).wrapping_shl(shift) >> 31;
    // It is at most one too high; now it is at most one too low.
    let estimate = estimate.saturating_sub(1);
    let rest = dividend.wrapping_sub(estimate.wrapping_mul(divisor));
    if rest >= divisor { estimate.wrapping_add(1) } else { estimate }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_wide_quotient_is_that_of_the_language(
            dividend in any::<u128>(),
            divisor in any::<u64>(),
            shifts in (0..128_u32, 0..64_u32),
        ) {
            let (dividend, divisor) = (dividend >> shifts.0, divisor >> shifts.1);
            let expected = dividend.checked_div(u128::from(divisor));
            prop_assert_eq!(divide(dividend, divisor), expected);
        }

        #[test]
        fn a_quotient_is_that_of_the_language(
            dividend in any::<u64>(),
            divisor in any::<u64>(),
            shifts in (0..64_u32, 0..64_u32),
        ) {
            let (dividend, divisor) = (dividend >> shifts.0, divisor >> shifts.1);
            prop_assert_eq!(quotient(dividend, divisor), dividend.checked_div(divisor).unwrap_or(0));
            let (dividend, divisor) = (dividend.cast_signed(), divisor.cast_signed());
            let expected = dividend.checked_div(divisor).unwrap_or(0);
            prop_assert_eq!(signed_quotient(dividend, divisor), expected);
            let expected = dividend.checked_neg().and_then(|it| it.checked_div(divisor));
            prop_assert_eq!(signed_quotient(dividend.wrapping_neg(), divisor), expected.unwrap_or(0));
        }
    }

    /// Where estimates are wrong: digits that are all zeros or all ones, and their neighbours.
    #[test]
    fn ends_of_the_ranges_divide_exactly() {
        let ends = [0, 1, 2, u128::MAX].into_iter();
        let edges = [15, 16, 31, 32, 33, 47, 48, 56, 63, 64, 80, 96].map(|bits| 1_u128 << bits);
        let values: std::vec::Vec<u128> =
            ends.chain(edges.into_iter().flat_map(|edge| [edge - 1, edge, edge + 1])).collect();
        let sums = values.iter().flat_map(|&one| values.iter().map(move |&other| one ^ other));
        let sums: std::vec::Vec<u128> = sums.collect();
        for &dividend in &sums {
            for divisor in sums.iter().filter_map(|&divisor| u64::try_from(divisor).ok()) {
                let expected = dividend.checked_div(u128::from(divisor));
                assert_eq!(divide(dividend, divisor), expected, "{dividend} / {divisor}");
                let Ok(dividend) = u64::try_from(dividend) else { continue };
                let expected = dividend.checked_div(divisor).unwrap_or(0);
                assert_eq!(quotient(dividend, divisor), expected, "{dividend} / {divisor}");
                if divisor > 0 {
                    assert_eq!(quotient_up(dividend, divisor), dividend.div_ceil(divisor));
                }
                let (dividend, divisor) = (dividend.cast_signed(), divisor.cast_signed());
                let expected = dividend.checked_div(divisor).unwrap_or(0);
                assert_eq!(signed_quotient(dividend, divisor), expected, "{dividend} / {divisor}");
            }
        }
    }
}
