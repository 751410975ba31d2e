//! How the law behaves: numbers that are the same for every line.

use crate::places::Empty;
use serde::{Deserialize, Serialize};

/// The constants of the adaptive law. They are not meant for users: what differs from line to line is
/// learned. They are data, so that sweeps can vary them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct AdaptiveGains {
    /// Mean deviations of noise that a delay may have above the mean.
    pub noise_allowance_ppm: u32,
    /// Delay that is never held against anybody, in µs.
    pub allowance_min_us: u32,
    /// Mean deviations of noise that the summed excess must reach.
    pub noise_alarm_ppm: u32,
    /// Least summed excess that is a queue, in µs.
    pub alarm_min_us: u32,
    /// Share of the capacity to run at.
    pub run_at_ppm: u32,
    /// Share of the capacity to run at while the baselines are still falling.
    pub deeper_ppm: u32,
    /// In which time a standing queue is drained, in µs.
    pub drain_us: u32,
    /// The least share of the capacity while draining.
    pub drain_least_ppm: u32,
    /// Time constant of the capacity estimate while a queue stands, in µs.
    pub capacity_tau_us: u32,
    /// Growth per second right after a queue, at least and at most.
    pub growth_start_ppm: (u32, u32),
    /// Growth is multiplied by e in this time, in µs.
    pub growth_tau_us: u32,
    /// The most growth per second.
    pub growth_max_ppm: u32,
    /// Growth per second at the start, per unsteadiness.
    pub growth_per_unsteadiness_ppm: u32,
    /// Growth per second up to what the line usually carries.
    pub recovery_ppm: u32,
    /// Unsteadiness up to which a line is steady; from twice as much on it is wholly unsteady.
    pub steady_ppm: u32,
    /// Delay that is waited out on an unsteady line, in µs.
    pub tolerance_us: u32,
    /// So much longer a delay has to last there before it is a queue.
    pub patience_ppm: u32,
    /// After a queue the rate goes so far towards what the line usually carries.
    pub usual_ppm: u32,
    /// Share of the shaper rate from which on a direction presses against it.
    pub pressing_ppm: u32,
}

impl Empty for AdaptiveGains {
    const EMPTY: Self = Self {
        noise_allowance_ppm: 0,
        allowance_min_us: 0,
        noise_alarm_ppm: 0,
        alarm_min_us: 0,
        run_at_ppm: 0,
        deeper_ppm: 0,
        drain_us: 0,
        drain_least_ppm: 0,
        capacity_tau_us: 0,
        growth_start_ppm: (0, 0),
        growth_tau_us: 0,
        growth_max_ppm: 0,
        growth_per_unsteadiness_ppm: 0,
        recovery_ppm: 0,
        steady_ppm: 0,
        tolerance_us: 0,
        patience_ppm: 0,
        usual_ppm: 0,
        pressing_ppm: 0,
    };
}

impl AdaptiveGains {
    /// The values in use. `wanctl-sim sweep docs/sweeps/adaptive.toml` tries the four that matter most; the others are from
    /// runs of `wanctl-sim score --laws adaptive` over one value at a time (`docs/control-law.md` has both).
    pub const DEFAULT: Self = Self {
        noise_allowance_ppm: 2_000_000,
        allowance_min_us: 2_000,
        noise_alarm_ppm: 5_000_000,
        alarm_min_us: 6_000,
        run_at_ppm: 960_000,
        deeper_ppm: 850_000,
        drain_us: 200_000,
        drain_least_ppm: 300_000,
        capacity_tau_us: 100_000,
        growth_start_ppm: (60_000, 600_000),
        growth_tau_us: 800_000,
        growth_max_ppm: 1_000_000,
        growth_per_unsteadiness_ppm: 3_000_000,
        recovery_ppm: 2_000_000,
        steady_ppm: 100_000,
        tolerance_us: 7_000,
        patience_ppm: 1_200_000,
        usual_ppm: 800_000,
        pressing_ppm: 900_000,
    };
}

impl Default for AdaptiveGains {
    fn default() -> Self {
        Self::DEFAULT
    }
}
