//! Delays, counted: 0.1 ms fine up to 0.2 s, 1 ms up to 2.2 s, 10 ms up to 22 s.

/// Buckets of each of the three widths.
const PER_WIDTH: usize = 2_000;
/// Widths in µs, and where they begin.
const WIDTHS: [(u64, u64); 3] = [(0, 100), (200_000, 1_000), (2_200_000, 10_000)];

/// A histogram of delays in µs.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u32>,
    count: u64,
    sum_us: u64,
    max_us: u64,
}

impl Histogram {
    /// Makes an empty one.
    #[must_use]
    pub fn new() -> Self {
        Self { counts: vec![0; PER_WIDTH * WIDTHS.len()], count: 0, sum_us: 0, max_us: 0 }
    }

    /// Counts a delay.
    pub fn add(&mut self, delay_us: u64) {
        let width = WIDTHS.iter().rposition(|&(begin, _)| delay_us >= begin).unwrap_or(0);
        let (begin, fine) = WIDTHS[width];
        let bucket = width * PER_WIDTH + ((delay_us - begin) / fine) as usize;
        let last = self.counts.len() - 1;
        self.counts[bucket.min(last)] += 1;
        self.count += 1;
        self.sum_us += delay_us;
        self.max_us = self.max_us.max(delay_us);
    }

    /// Returns the number of delays.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the mean in µs, 0 without any delay.
    #[must_use]
    pub fn mean_us(&self) -> u64 {
        self.sum_us.checked_div(self.count).unwrap_or_default()
    }

    /// Returns the largest delay in µs.
    #[must_use]
    pub const fn max_us(&self) -> u64 {
        self.max_us
    }

    /// Returns the delay in µs that so many per mille do not exceed, as the upper end of its
    /// bucket; 0 without any delay.
    #[must_use]
    pub fn quantile_us(&self, permille: u64) -> u64 {
        let rank = (self.count * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank && count > 0 {
                let (begin, fine) = WIDTHS[bucket / PER_WIDTH];
                let end = begin + (bucket % PER_WIDTH) as u64 * fine + fine;
                return end.min(self.max_us);
            }
        }
        0
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        let mut histogram = Histogram::new();
        (1..=1000_u64).for_each(|ms| histogram.add(ms * 1000));
        assert_eq!(histogram.mean_us(), 500_500);
        assert!(histogram.quantile_us(500).abs_diff(500_000) <= 1_000);
        assert!(histogram.quantile_us(950).abs_diff(950_000) <= 1_000);
        assert_eq!(histogram.quantile_us(1000), 1_000_000);
        histogram.add(3_600_000_000);
        assert_eq!(histogram.max_us(), 3_600_000_000);
        assert_eq!(Histogram::new().quantile_us(950), 0);
    }
}
