//! Division of wide numbers without the slow path.
//!
//! A division of 128-bit numbers takes thousands of instructions on a processor of 32 bits, one of
//! 64-bit numbers some hundred. Nearly all divisors here are short, and then long division does.

/// Returns the quotient, rounded down; `None` for a division by zero. It is exactly
/// [`u128::checked_div`].
pub(crate) const fn divide(dividend: u128, divisor: u128) -> Option<u128> {
    if divisor == 0 {
        None
    } else if fits(dividend, 64) && fits(divisor, 64) {
        match low(dividend).checked_div(low(divisor)) {
            Some(quotient) => Some(quotient as u128),
            None => None,
        }
    } else if fits(divisor, 32) {
        Some(long_division(dividend, low(divisor), 32))
    } else if fits(divisor, 48) {
        Some(long_division(dividend, low(divisor), 16))
    } else if fits(divisor, 56) {
        Some(long_division(dividend, low(divisor), 8))
    } else {
        Some(bit_by_bit(dividend, divisor))
    }
}

const fn fits(value: u128, bits: u32) -> bool {
    value.leading_zeros() >= u128::BITS.saturating_sub(bits)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower bits are meant")]
const fn low(value: u128) -> u64 {
    value as u64
}

/// Divides digit by digit, as on paper. A remainder and a digit together must fit 64 bits.
#[inline(never)]
const fn long_division(dividend: u128, divisor: u64, digit_bits: u32) -> u128 {
    let (mut quotient, mut rest) = (0_u128, 0_u64);
    let mut below = u128::BITS;
    while below > 0 {
        below = below.saturating_sub(digit_bits);
        let digit = low(dividend.unbounded_shr(below))
            & u64::MAX.unbounded_shr(64_u32.saturating_sub(digit_bits));
        let part = rest.unbounded_shl(digit_bits) | digit;
        if part >= divisor {
            let (Some(times), Some(left)) = (part.checked_div(divisor), part.checked_rem(divisor))
            else {
                return 0;
            };
            quotient |= (times as u128).unbounded_shl(below);
            rest = left;
        } else {
            rest = part;
        }
    }
    quotient
}

/// Divides bit by bit: a long divisor leaves few bits of a quotient. The language's own way is much code.
#[inline(never)]
const fn bit_by_bit(dividend: u128, divisor: u128) -> u128 {
    let shift = divisor.leading_zeros().saturating_sub(dividend.leading_zeros());
    let (mut part, mut bit) = (divisor.unbounded_shl(shift), 1_u128.unbounded_shl(shift));
    let (mut quotient, mut rest) = (0_u128, dividend);
    while bit > 0 {
        if part <= rest {
            rest = rest.wrapping_sub(part);
            quotient |= bit;
        }
        part = part.unbounded_shr(1);
        bit = bit.unbounded_shr(1);
    }
    quotient
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::divide;

    proptest! {
        #[test]
        fn a_quotient_is_that_of_the_language(
            dividend in any::<u128>(),
            divisor in any::<u128>(),
            shifts in (0..128_u32, 0..128_u32),
        ) {
            let (dividend, divisor) = (dividend >> shifts.0, divisor >> shifts.1);
            prop_assert_eq!(divide(dividend, divisor), dividend.checked_div(divisor));
        }
    }

    #[test]
    fn ends_of_the_ranges_divide_exactly() {
        let ends = [0, 1, 2, u128::MAX].into_iter();
        let edges = [16, 32, 48, 56, 64, 96].map(|bits| 1_u128 << bits);
        let values: std::vec::Vec<u128> =
            ends.chain(edges.into_iter().flat_map(|edge| [edge - 1, edge, edge + 1])).collect();
        for &dividend in &values {
            for &divisor in &values {
                assert_eq!(divide(dividend, divisor), dividend.checked_div(divisor));
            }
        }
    }
}
