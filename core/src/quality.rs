//! How good a line is: delay, loss, jitter and the steadiness of its throughput.
//!
//! These are measurements, not decisions; [`crate::link`] compares them with thresholds.

use embassy_time::Duration;
use serde::{Deserialize, Serialize};

use crate::ewma::Ewma;
use crate::fixed::{Alpha, MicrosQ32, PpmQ32};
use crate::units::{BitsPerSecond, TimeConstant};

/// Time constant of the loss filter: 5 % of loss shows within a second, one lost probe of 60 a second
/// is forgotten within a few.
pub const LOSS_TIME_CONSTANT: TimeConstant = TimeConstant::from_millis(2_000);
/// Time constant of the jitter filter, as in the reference's later signal processing.
pub const JITTER_TIME_CONSTANT: TimeConstant = TimeConstant::from_millis(2_000);
/// Time constant of the throughput filters.
pub const THROUGHPUT_TIME_CONSTANT: TimeConstant = TimeConstant::from_millis(5_000);

/// What is known about a line's quality.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LinkQuality {
    /// Filtered delay above the baseline.
    pub delay: MicrosQ32,
    /// Share of probes lost.
    pub loss: PpmQ32,
    /// Mean difference between successive samples.
    pub jitter: MicrosQ32,
    /// Mean deviation of the delivered rate from its mean, as a share of that mean; zero while
    /// throughput is not known.
    pub throughput_deviation: PpmQ32,
}

/// The filters behind [`LinkQuality`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct QualityEstimate {
    loss: Ewma<PpmQ32>,
    jitter: Ewma,
    last_sample: Option<MicrosQ32>,
    throughput: Option<Throughput>,
    throughput_alpha: Alpha,
}

/// Mean of the delivered rate and mean distance from it. Both are kept relative to the first rate
/// seen, which drops out of their quotient.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Throughput {
    unit: BitsPerSecond,
    mean: Ewma<PpmQ32>,
    deviation: Ewma<PpmQ32>,
}

impl QualityEstimate {
    pub(crate) const fn new(tick: Duration) -> Self {
        Self {
            loss: Ewma::new(PpmQ32::ZERO, Alpha::per_tick(tick, LOSS_TIME_CONSTANT)),
            jitter: Ewma::new(MicrosQ32::ZERO, Alpha::per_tick(tick, JITTER_TIME_CONSTANT)),
            last_sample: None,
            throughput: None,
            throughput_alpha: Alpha::per_tick(tick, THROUGHPUT_TIME_CONSTANT),
        }
    }

    /// Notes how the probes that ended in this tick went, if any did.
    pub(crate) fn probes(&mut self, answered: u32, lost: u32) {
        let ended = answered.saturating_add(lost);
        let ppm = u64::from(lost).saturating_mul(1_000_000).checked_div(u64::from(ended));
        if let Some(ppm) = ppm {
            self.loss.update(PpmQ32::from_ppm(ppm));
        }
    }

    /// Notes a sample.
    pub(crate) fn sample(&mut self, sample: MicrosQ32) {
        if let Some(last) = self.last_sample.replace(sample) {
            self.jitter.update(sample.max(last).saturating_sub(sample.min(last)));
        }
    }

    /// Notes the rate delivered while the line was loaded.
    pub(crate) fn delivered(&mut self, rate: BitsPerSecond) {
        let alpha = self.throughput_alpha;
        let throughput = self.throughput.get_or_insert(Throughput {
            unit: rate.max(BitsPerSecond::new(1)),
            mean: Ewma::new(PpmQ32::ONE, alpha),
            deviation: Ewma::new(PpmQ32::ZERO, alpha),
        });
        let relative = throughput.relative(rate);
        let mean = throughput.mean.update(relative);
        throughput.deviation.update(relative.distance(mean));
    }

    pub(crate) fn quality(&self, delay: MicrosQ32) -> LinkQuality {
        LinkQuality {
            delay,
            loss: self.loss.value(),
            jitter: self.jitter.value(),
            throughput_deviation: self.throughput.map_or(PpmQ32::ZERO, |throughput| {
                throughput.deviation.value().share_of(throughput.mean.value())
            }),
        }
    }
}

impl Throughput {
    /// Returns a rate in parts per million of the first one; at most a thousandfold.
    fn relative(&self, rate: BitsPerSecond) -> PpmQ32 {
        let scaled = u128::from(rate.get()).saturating_mul(1_000_000);
        let ppm = scaled.checked_div(u128::from(self.unit.get())).unwrap_or_default();
        PpmQ32::from_ppm(u64::try_from(ppm).unwrap_or(u64::MAX).min(1_000_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(50);

    #[test]
    fn loss_approaches_the_share_of_lost_probes() {
        let mut estimate = QualityEstimate::new(TICK);
        estimate.probes(0, 0);
        assert_eq!(estimate.quality(MicrosQ32::ZERO).loss, PpmQ32::ZERO);
        for _ in 0..1000 {
            estimate.probes(2, 1);
        }
        let loss = estimate.quality(MicrosQ32::ZERO).loss.as_ppm_rounded();
        assert!((333_000..=333_334).contains(&loss), "{loss}");
    }

    #[test]
    fn jitter_is_the_mean_step_between_samples() {
        let mut estimate = QualityEstimate::new(TICK);
        for index in 0..1000 {
            estimate.sample(MicrosQ32::from_micros(if index % 2 == 0 { 20_000 } else { 26_000 }));
        }
        let jitter = estimate.quality(MicrosQ32::ZERO).jitter.as_micros_rounded();
        assert!((5_990..=6_000).contains(&jitter), "{jitter}");
    }

    #[test]
    fn a_steady_rate_has_no_deviation_and_a_swinging_one_has() {
        let deviation = |rates: [u64; 2]| {
            let mut estimate = QualityEstimate::new(TICK);
            for index in 0..4000 {
                estimate.delivered(BitsPerSecond::from_mbps(rates[index % 2]));
            }
            estimate.quality(MicrosQ32::ZERO).throughput_deviation.as_ppm_rounded()
        };
        assert_eq!(deviation([40, 40]), 0);
        let swinging = deviation([20, 60]);
        assert!((480_000..=520_000).contains(&swinging), "{swinging}");
    }

    #[test]
    fn hostile_rates_saturate() {
        let mut estimate = QualityEstimate::new(TICK);
        for rate in [0, u64::MAX, 1, u64::MAX] {
            estimate.delivered(BitsPerSecond::new(rate));
        }
        estimate.probes(u32::MAX, u32::MAX);
        let _quality = estimate.quality(MicrosQ32::MAX);
    }
}
