//! Random numbers by counter: the same seed, stream and index always give the same number.
//!
//! Noise that is asked for by index does not depend on what a law has done before, so every law
//! meets the same noise.

/// A stream of random numbers.
#[derive(Debug, Clone, Copy)]
pub struct Rng {
    key: u64,
    index: u64,
}

/// Number of fraction bits of [`exponential`].
const EXP_FRACTION: u32 = 16;

/// The mixing of Steele, Lea and Flood (SplitMix64).
const fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Rng {
    /// Makes the stream `stream` of a seed.
    #[must_use]
    pub const fn new(seed: u64, stream: u64) -> Self {
        Self { key: mix(mix(seed) ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93)), index: 0 }
    }

    /// Returns this stream at position `index`, whatever was drawn before.
    #[must_use]
    pub const fn at(&self, index: u64) -> Self {
        Self { key: self.key, index: index << 8 }
    }

    /// Returns 64 random bits.
    pub const fn next(&mut self) -> u64 {
        self.index = self.index.wrapping_add(1);
        mix(self.key ^ self.index.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Returns an evenly distributed number below `bound`; zero below zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns whether something with a chance of `ppm` parts per million happens.
    pub fn chance(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(ppm)
    }

    /// Draws from the exponential distribution with the given mean.
    pub fn exponential(&mut self, mean: u64) -> u64 {
        let draw = exponential(self.next());
        ((u128::from(mean) * u128::from(draw)) >> EXP_FRACTION) as u64
    }

    /// Draws from the gamma distribution of shape 2 with the given mean: two exponentials.
    pub fn gamma2(&mut self, mean: u64) -> u64 {
        if mean == 0 {
            return 0;
        }
        self.exponential(mean).midpoint(self.exponential(mean))
    }

    /// Draws from a bell curve with mean zero and standard deviation 1000: the sum of twelve even
    /// draws (Irwin-Hall), which ends at six standard deviations.
    pub fn bell_milli(&mut self) -> i64 {
        let mut sum = 0_u64;
        for _ in 0..6 {
            let bits = self.next();
            sum += (bits & 0xffff_ffff) + (bits >> 32);
        }
        ((u128::from(sum) * 1000) >> 32) as i64 - 6000
    }
}

/// Returns -ln(u) for u = (bits + 1) / 2^64, with 16 fraction bits.
///
/// ln 2 times the position of the leading bit, and ln(1 + x) of the rest by the cubic
/// x - x^2/2 + x^3/3 with its end mended to ln 2; off by less than 0.01.
fn exponential(bits: u64) -> u64 {
    const LN2: u64 = 45_426; // ln 2 * 2^16
    let zeros = u64::from(bits.leading_zeros());
    if zeros >= 63 {
        return 63 * LN2;
    }
    let x = (bits << zeros << 1) >> 48; // the fraction after the leading bit, 16 bits
    // ln(1 + x) = x * (1 - x * (0.4497 - 0.1428 * x)), fitted at 0, 1/2 and 1.
    let inner = 29_471_i64 - ((9_361 * x as i64) >> 16);
    let ln = (x as i64 * (65_536 - ((inner * x as i64) >> 16))) >> 16;
    (zeros + 1) * LN2 - u64::try_from(ln).unwrap_or(0).min(LN2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_mean_they_are_asked_for() {
        let mut rng = Rng::new(7, 1);
        let count = 200_000_u64;
        let exponential: u64 = (0..count).map(|_| rng.exponential(10_000)).sum();
        let gamma: u64 = (0..count).map(|_| rng.gamma2(10_000)).sum();
        let bell: i64 = (0..count).map(|_| rng.bell_milli()).sum();
        assert!((9_900..10_100).contains(&(exponential / count)), "{}", exponential / count);
        assert!((9_900..10_100).contains(&(gamma / count)), "{}", gamma / count);
        assert!((bell / count as i64).abs() < 10);
    }

    #[test]
    fn a_position_does_not_depend_on_earlier_draws() {
        let fresh = Rng::new(3, 4);
        let mut used = fresh;
        used.next();
        assert_eq!(fresh.at(9).next(), used.at(9).next());
        assert_ne!(fresh.at(9).next(), fresh.at(10).next());
        assert_ne!(Rng::new(3, 5).next(), Rng::new(3, 4).next());
    }
}
