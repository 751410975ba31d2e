//! How long requests take on certain devices.

use std::time::Duration;

/// A device and how busy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatencyProfile {
    /// The virtual router: 1 to 4 ms.
    Chr,
    /// RB5009 over HTTPS: reads 6 ms on average, 20 ms at the 95th percentile, 31 ms at most; writes
    /// 20, 50 and 147 ms.
    Rb5009,
    /// A busy router: 100 to 500 ms.
    Loaded,
}

/// A log-normal distribution that ends at a smallest and a largest value, in ms.
struct LogNormal {
    median_ms: f64,
    sigma: f64,
    min_ms: f64,
    max_ms: f64,
}

/// From mean m and 95th percentile p: sigma solves ln(p / m) = 1.645 sigma - sigma²/2, and the median
/// is m exp(-sigma²/2).
const RB5009_READ: LogNormal = LogNormal { median_ms: 3.3, sigma: 1.11, min_ms: 1.0, max_ms: 31.0 };
const RB5009_WRITE: LogNormal =
    LogNormal { median_ms: 16.1, sigma: 0.69, min_ms: 7.7, max_ms: 147.0 };
/// Uniform numbers whose sum, less half as many, is normal enough: its variance is 1.
const SUMMED: usize = 12;

impl LatencyProfile {
    /// Draws the time of one request; `uniform` gives numbers from 0 to 1.
    pub(crate) fn draw(self, is_write: bool, mut uniform: impl FnMut() -> f64) -> Duration {
        let ms = match self {
            Self::Chr => 1.0 + 3.0 * uniform(),
            Self::Loaded => 100.0 + 400.0 * uniform(),
            Self::Rb5009 => {
                let shape = if is_write { RB5009_WRITE } else { RB5009_READ };
                let sum: f64 = (0..SUMMED).map(|_| uniform()).sum();
                let normal = sum - SUMMED as f64 / 2.0;
                let ms = shape.median_ms * (shape.sigma * normal).exp();
                ms.clamp(shape.min_ms, shape.max_ms)
            }
        };
        Duration::from_secs_f64(ms / 1000.0)
    }
}

/// Numbers that look random and are the same in every run (xorshift64).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    /// Returns the next number from 0 to 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rb5009_has_its_mean_and_its_95th_percentile() {
        let mut dice = Dice::new();
        for (is_write, mean_ms, p95_ms) in [(false, 6.1, 20.5), (true, 20.4, 50.0)] {
            let mut drawn: Vec<f64> = (0..20_000)
                .map(|_| LatencyProfile::Rb5009.draw(is_write, || dice.uniform()))
                .map(|time| time.as_secs_f64() * 1000.0)
                .collect();
            drawn.sort_by(f64::total_cmp);
            let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
            let p95 = drawn[drawn.len() * 95 / 100];
            assert!((mean / mean_ms - 1.0).abs() < 0.15, "mean {mean} for {mean_ms}");
            assert!((p95 / p95_ms - 1.0).abs() < 0.15, "p95 {p95} for {p95_ms}");
        }
    }
}
