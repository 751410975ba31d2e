//! How good a line is: delay, loss, jitter and the steadiness of its throughput.
//!
//! These are measurements, not decisions; [`crate::link`] compares them with thresholds.

use embassy_time::Duration;
use serde::{Deserialize, Serialize};

use crate::divide::{checked_quotient, divide};
use crate::ewma::{Ewma, Filtered as _};
use crate::fixed::{Alpha, MicrosQ32, PpmQ32};
use crate::places::Empty;
use crate::units::{BitsPerSecond, Direction, PerDirection, TimeConstant};

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
    /// Mean deviation of the delivered rate from its mean, as a share of that mean, of the direction
    /// where it is larger; zero while throughput is not known.
    pub throughput_deviation: PpmQ32,
}

/// The filters behind [`LinkQuality`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct QualityEstimate {
    loss: Ewma<PpmQ32>,
    jitter: Ewma,
    last_sample: Option<MicrosQ32>,
    throughput: PerDirection<Option<Throughput>>,
}

/// Mean of a direction's delivered rate and mean distance from it. Both are kept relative to the first rate
/// seen, which drops out of their quotient.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Throughput {
    unit: BitsPerSecond,
    mean: PpmQ32,
    deviation: PpmQ32,
}

impl Empty for QualityEstimate {
    const EMPTY: Self = Self {
        loss: Ewma::new(PpmQ32::ZERO, Alpha::ZERO),
        jitter: Ewma::new(MicrosQ32::ZERO, Alpha::ZERO),
        last_sample: None,
        throughput: PerDirection { download: None, upload: None },
    };
}

impl QualityEstimate {
    pub(crate) const fn new(tick: Duration) -> Self {
        Self {
            loss: Ewma::new(PpmQ32::ZERO, Alpha::per_tick(tick, LOSS_TIME_CONSTANT)),
            jitter: Ewma::new(MicrosQ32::ZERO, Alpha::per_tick(tick, JITTER_TIME_CONSTANT)),
            last_sample: None,
            throughput: PerDirection { download: None, upload: None },
        }
    }

    /// Notes how the probes that ended in this tick went, if any did.
    pub(crate) fn probes(&mut self, answered: u32, lost: u32) {
        let ended = answered.saturating_add(lost);
        let ppm = checked_quotient(u64::from(lost).saturating_mul(1_000_000), u64::from(ended));
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

    /// Notes the rate a direction has delivered over some time, while it was loaded.
    pub(crate) fn delivered(&mut self, direction: Direction, rate: BitsPerSecond, over: Duration) {
        let throughput = self.throughput.get_mut(direction).get_or_insert(Throughput {
            unit: rate.max(BitsPerSecond::new(1)),
            mean: PpmQ32::ONE,
            deviation: PpmQ32::ZERO,
        });
        throughput.update(rate, Alpha::per_tick(over, THROUGHPUT_TIME_CONSTANT));
    }

    pub(crate) fn quality(&self, delay: MicrosQ32) -> LinkQuality {
        LinkQuality {
            delay,
            loss: self.loss.value(),
            jitter: self.jitter.value(),
            throughput_deviation: {
                let PerDirection { download, upload } = &self.throughput;
                let deviation = |one: &Option<Throughput>| one.map(|one| one.deviation());
                deviation(download).max(deviation(upload)).unwrap_or_default()
            },
        }
    }
}

impl Throughput {
    fn update(&mut self, rate: BitsPerSecond, alpha: Alpha) {
        let relative = self.relative(rate);
        self.mean = self.mean.step_towards(relative, alpha);
        self.deviation = self.deviation.step_towards(relative.distance(self.mean), alpha);
    }

    fn deviation(&self) -> PpmQ32 {
        self.deviation.share_of(self.mean)
    }

    /// Returns a rate in parts per million of the first one; at most a thousandfold.
    fn relative(&self, rate: BitsPerSecond) -> PpmQ32 {
        let scaled = u128::from(rate.get()).saturating_mul(1_000_000);
        let ppm = divide(scaled, self.unit.get()).unwrap_or_default();
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

    const DOWNLOAD: Direction = Direction::Download;
    const SECOND: Duration = Duration::from_secs(1);

    fn deviation(estimate: &QualityEstimate) -> u64 {
        estimate.quality(MicrosQ32::ZERO).throughput_deviation.as_ppm_rounded()
    }

    #[test]
    fn a_steady_rate_has_no_deviation_and_a_swinging_one_has() {
        let deviation_of = |rates: [u64; 2]| {
            let mut estimate = QualityEstimate::new(TICK);
            for index in 0..4000 {
                estimate.delivered(DOWNLOAD, BitsPerSecond::from_mbps(rates[index % 2]), TICK);
            }
            deviation(&estimate)
        };
        assert_eq!(deviation_of([40, 40]), 0);
        let swinging = deviation_of([20, 60]);
        assert!((480_000..=520_000).contains(&swinging), "{swinging}");
    }

    #[test]
    fn two_steady_directions_do_not_disturb_each_other() {
        let mut estimate = QualityEstimate::new(TICK);
        for _ in 0..100 {
            estimate.delivered(DOWNLOAD, BitsPerSecond::from_mbps(900), SECOND);
            estimate.delivered(Direction::Upload, BitsPerSecond::from_mbps(30), SECOND);
        }
        assert_eq!(deviation(&estimate), 0);
        // The unsteady one counts.
        for index in 0..100 {
            let mbps = if index % 2 == 0 { 10 } else { 50 };
            estimate.delivered(Direction::Upload, BitsPerSecond::from_mbps(mbps), SECOND);
        }
        assert!(deviation(&estimate) > 400_000);
    }

    #[test]
    fn throughput_is_forgotten_in_seconds_however_often_it_is_read() {
        for readings_per_second in [1, 5] {
            let mut estimate = QualityEstimate::new(TICK);
            let over = Duration::from_millis(1000 / readings_per_second);
            estimate.delivered(DOWNLOAD, BitsPerSecond::from_mbps(100), over);
            for _ in 0..5 * readings_per_second {
                estimate.delivered(DOWNLOAD, BitsPerSecond::from_mbps(50), over);
            }
            // After one time constant the mean is at 50 + 50/e; the linear coefficient of 1/5 is
            // coarser than that of 1/25.
            let mean = estimate.throughput.download.map(|one| one.mean.as_ppm_rounded());
            assert!((660_000..=690_000).contains(&mean.unwrap()), "{mean:?}");
        }
    }

    #[test]
    fn hostile_rates_saturate() {
        let mut estimate = QualityEstimate::new(TICK);
        for rate in [0, u64::MAX, 1, u64::MAX] {
            estimate.delivered(DOWNLOAD, BitsPerSecond::new(rate), Duration::MAX);
        }
        estimate.probes(u32::MAX, u32::MAX);
        let _quality = estimate.quality(MicrosQ32::MAX);
    }
}
