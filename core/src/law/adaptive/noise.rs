//! How much the delay moves without any queue, and the threshold that follows from it.

use serde::{Deserialize, Serialize};

use super::arith::{ONE_PPM, follow, part, ratio_ppm};
use super::gains::AdaptiveGains;
use crate::places::Empty;

/// Delay that is never held against anybody.
const ALLOWANCE_MIN_US: i64 = 2_000;
/// Least summed excess that is a queue.
const ALARM_MIN_US: i64 = 6_000;
/// So much longer a delay has to last on an unsteady line before it is a queue.
const PATIENCE_PPM: i64 = 1_200_000;
/// What is believed before anything was measured.
const START_US: i64 = 1_000;
/// The most noise that is believed.
const MEAN_MAX_US: i64 = 60_000;

/// Mean and mean deviation of the delay in quiet times.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Noise {
    mean_256us: i64,
    deviation_256us: i64,
}

/// What is noise and what is not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threshold {
    /// What a delay is expected to be at most without a queue.
    pub(super) expected_us: i64,
    /// How much more, summed up over rounds, is a queue.
    pub(super) alarm_us: i64,
    /// The most of that a single round can say.
    pub(super) round_us: i64,
    /// The mean delay without a queue.
    pub(super) mean_us: i64,
}

impl Threshold {
    /// Returns the threshold for a line that is unsteady by a share. What it does not carry now it carries
    /// a moment later, and a short gap leaves no queue: so it is waited out.
    #[inline(never)]
    pub(super) fn for_unsteady(&self, share_ppm: i64, gains: &AdaptiveGains) -> Self {
        let more_us = part(i64::from(gains.tolerance_us), share_ppm);
        let longer_ppm = part(PATIENCE_PPM, share_ppm).saturating_add(ONE_PPM);
        let expected_us = self.expected_us.saturating_add(more_us);
        Self { expected_us, round_us: ratio_ppm(self.round_us, longer_ppm), ..*self }
    }
}

impl Empty for Noise {
    const EMPTY: Self = Self { mean_256us: 0, deviation_256us: 0 };
}

impl Noise {
    pub(super) const fn new() -> Self {
        Self { mean_256us: START_US * 256, deviation_256us: START_US * 256 }
    }

    /// Learns from a delay that no queue can be part of.
    pub(super) fn learn(&mut self, delay_us: i64, dt_us: i64, tau_us: i64) {
        // Kept times 256, so that slow filters do not get stuck.
        let fine = |us: i64| us.saturating_mul(256);
        let mean = follow(self.mean_256us, fine(delay_us.min(MEAN_MAX_US)), dt_us, tau_us);
        let distance = fine(delay_us.min(MEAN_MAX_US)).saturating_sub(mean).abs();
        self.mean_256us = mean;
        self.deviation_256us = follow(self.deviation_256us, distance, dt_us, tau_us);
    }

    /// Returns the threshold; `packet_us` is how long a full packet takes at the rates of now.
    pub(super) fn threshold(&self, gains: &AdaptiveGains, packet_us: i64) -> Threshold {
        let (mean_us, deviation_us) = (self.mean_256us / 256, self.deviation_256us / 256);
        let spread_us = part(deviation_us, i64::from(gains.noise_allowance_ppm));
        let least_us = ALLOWANCE_MIN_US;
        let expected_us = mean_us.saturating_add(spread_us).max(least_us).saturating_add(packet_us);
        let alarm_us = part(deviation_us, i64::from(gains.noise_alarm_ppm))
            .max(ALARM_MIN_US)
            .saturating_add(packet_us);
        let mean_us = mean_us.saturating_add(packet_us / 2);
        Threshold { expected_us, alarm_us, round_us: alarm_us, mean_us }
    }
}
