//! A complete configuration to start from, in tests and examples: a cable line of 940/38 Mbit/s.
//!
//! The figures are the production profile of wanctl v1.1's author, without its defects.

use embassy_time::Duration;
use heapless::Vec;

use crate::config::{
    AdaptiveConfig, AdaptiveGains, BlindConfig, BlindMode, Checks, ClassicConfig, Config,
    LawConfig, Quirks, ShaperConfig, WanConfig, WriteBudgetConfig, WriteLimit, ZoneFloors,
};
use crate::fixed::{MicrosQ32, PpmQ32, Ratio};
use crate::link::{LinkConfig, QualityLimits};
use crate::quality::LinkQuality;
use crate::steering::{ConfidenceConfig, SteeringConfig};
use crate::units::{BitsPerSecond, PerDirection, TimeConstant, WanId};

/// Returns a configuration with one WAN and a 50 ms tick.
#[must_use]
pub fn config() -> Config {
    let mut wans = Vec::new();
    // One WAN always fits.
    let _full = wans.push(WanConfig {
        reflectors: 3,
        shapers: shapers(),
        link: Some(link()),
        classic: classic(),
        law: LawConfig::Classic,
    });
    Config { tick: Duration::from_millis(50), wans, steering: None }
}

/// Returns a configuration with two such WANs and steering between them, confidence scoring beside it.
#[must_use]
pub fn two_wans() -> Config {
    let mut config = config();
    if let Some(first) = config.wans.first().copied() {
        // Two WANs always fit.
        let _full = config.wans.push(first);
    }
    let mut steering = SteeringConfig::new(&[WanId(0), WanId(1)], config.tick);
    steering.confidence = Some(ConfidenceConfig::DEFAULT);
    config.steering = Some(steering);
    config
}

/// Returns the shapers of that WAN.
#[must_use]
pub const fn shapers() -> PerDirection<ShaperConfig> {
    PerDirection {
        download: ShaperConfig {
            floors: ZoneFloors {
                green: BitsPerSecond::from_mbps(550),
                yellow: BitsPerSecond::from_mbps(350),
                soft_red: BitsPerSecond::from_mbps(275),
                red: BitsPerSecond::from_mbps(200),
            },
            ceiling: BitsPerSecond::from_mbps(940),
            step_up: BitsPerSecond::from_mbps(10),
            factor_down: Ratio::from_ppm(850_000),
            factor_down_yellow: Ratio::from_ppm(960_000),
        },
        upload: ShaperConfig {
            floors: ZoneFloors::all(BitsPerSecond::from_mbps(8)),
            ceiling: BitsPerSecond::from_mbps(38),
            step_up: BitsPerSecond::from_mbps(1),
            factor_down: Ratio::from_ppm(900_000),
            factor_down_yellow: Ratio::ONE,
        },
    }
}

/// Returns the thresholds and times of that WAN's link.
#[must_use]
pub const fn link() -> LinkConfig {
    LinkConfig {
        limits: QualityLimits {
            good: LinkQuality {
                delay: MicrosQ32::from_micros(30_000),
                loss: PpmQ32::from_ppm(20_000),
                jitter: MicrosQ32::from_micros(15_000),
                throughput_deviation: PpmQ32::from_ppm(400_000),
            },
            bad: LinkQuality {
                delay: MicrosQ32::from_micros(150_000),
                loss: PpmQ32::from_ppm(100_000),
                jitter: MicrosQ32::from_micros(40_000),
                throughput_deviation: PpmQ32::from_ppm(800_000),
            },
        },
        answers: 10,
        warm_up: Duration::from_secs(2),
        degrade_after: Duration::from_secs(5),
        improve_after: Duration::from_secs(10),
        cooldown: Duration::from_secs(10),
        outage_after: Duration::from_secs(3),
        reset_pause: Duration::from_secs(1),
        ramp_start: PpmQ32::from_ppm(500_000),
        ramp: Duration::from_secs(10),
    }
}

/// Returns the classic law's parameters of that WAN.
#[must_use]
pub const fn classic() -> ClassicConfig {
    ClassicConfig {
        target_delay: Duration::from_millis(15),
        warn_delay: Duration::from_millis(45),
        hard_red_delay: Duration::from_millis(80),
        load_time_constant: TimeConstant::from_millis(250),
        baseline_time_constant: TimeConstant::from_millis(2500),
        baseline_initial: Some(Duration::from_millis(25)),
        baseline_min: Duration::from_millis(10),
        baseline_max: Duration::from_millis(60),
        baseline_freeze_delay: Duration::from_millis(3),
        baseline_freeze_max: Duration::from_secs(120),
        green_hold: Duration::from_millis(250),
        soft_red_confirm: Duration::from_millis(150),
        blind: BlindConfig {
            mode: BlindMode::Graceful,
            after: Duration::from_millis(500),
            limit: Duration::from_millis(1000),
            checks: Checks::Asked { gateway: true, tcp_targets: 2, every: Duration::from_secs(5) },
        },
        write_limit: WriteLimit { writes: 20, window: Duration::from_secs(10) },
        quirks: Quirks {
            floors_lift_rate: false,
            soft_red_holds: false,
            limiter_delays_cuts: false,
            baseline_freezes_for_ever: false,
        },
    }
}

/// Returns the adaptive law's parameters of that WAN, behind a `RouterOS` router.
#[must_use]
pub const fn adaptive() -> AdaptiveConfig {
    AdaptiveConfig {
        target_delay: Duration::from_millis(15),
        write_budget: Some(WriteBudgetConfig { per_minute: 120, per_second: 6 }),
        gains: AdaptiveGains::DEFAULT,
    }
}
