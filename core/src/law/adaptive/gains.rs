//! How the law behaves: numbers that are the same for every line.

use crate::places::Empty;
use serde::{Deserialize, Serialize};

/// Those constants of the adaptive law that sweeps can vary, because they trade throughput for delay. They are not
/// meant for users: what differs from line to line is learned. Where writes are limited the law changes
/// some of them itself (`AdaptiveLaw::begin`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct AdaptiveGains {
    /// Mean deviations of noise that a delay may have above the mean.
    pub noise_allowance_ppm: u32,
    /// Mean deviations of noise that the summed excess must reach.
    pub noise_alarm_ppm: u32,
    /// Share of the capacity to run at.
    pub run_at_ppm: u32,
    /// In which time a standing queue is drained, in µs.
    pub drain_us: u32,
    /// The least share of the capacity while draining.
    pub drain_least_ppm: u32,
    /// The most growth per second.
    pub growth_max_ppm: u32,
    /// Delay that is waited out on an unsteady line, in µs.
    pub tolerance_us: u32,
}

impl Empty for AdaptiveGains {
    const EMPTY: Self = Self {
        noise_allowance_ppm: 0,
        noise_alarm_ppm: 0,
        run_at_ppm: 0,
        drain_us: 0,
        drain_least_ppm: 0,
        growth_max_ppm: 0,
        tolerance_us: 0,
    };
}

impl AdaptiveGains {
    /// The values in use. `wanctl-sim sweep docs/sweeps/adaptive.toml` tries the four that matter most; the others are from
    /// runs of `wanctl-sim score --laws adaptive` over one value at a time (`docs/control-law.md` has both).
    pub const DEFAULT: Self = Self {
        noise_allowance_ppm: 2_000_000,
        noise_alarm_ppm: 5_000_000,
        run_at_ppm: 960_000,
        drain_us: 200_000,
        drain_least_ppm: 300_000,
        growth_max_ppm: 1_000_000,
        tolerance_us: 7_000,
    };
}

impl Default for AdaptiveGains {
    fn default() -> Self {
        Self::DEFAULT
    }
}
