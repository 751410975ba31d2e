//! The classic law: wanctl v1.1's zones, streaks, floors, steps and factors.
//!
//! Per [`STEP`] and direction, with the delay above the baseline:
//!
//! | zone | wanted rate | not below |
//! |---|---|---|
//! | RED, at once | rate × `factor_down` | `floors.red` |
//! | SOFT_RED, after `soft_red_confirm` (download) | rate × `factor_down` | `floors.soft_red` |
//! | YELLOW | rate × `factor_down_yellow` | `floors.yellow` |
//! | GREEN for `green_hold` or longer | rate + `step_up` | |
//! | GREEN, shorter | rate | |
//!
//! The upload has no SOFT_RED (its RED begins at the warn threshold) and one floor,
//! `floors.red`. The reference's own floors and its SOFT_RED differ; they are behind
//! [`crate::config::Quirks`].
//!
//! At another tick than [`STEP`] each tick changes the rate by its share: `step_up` in proportion,
//! factors as powers. So rates fall and rise as fast at every tick.

use embassy_time::Duration;
use serde::{Deserialize, Serialize};

use crate::config::{ShaperConfig, WanConfig, ZoneFloors};
use crate::divide::divide;
use crate::fixed::{MicrosQ32, PpmQ32, Ratio, ticks_covering};
use crate::governor::{Wanted, smallest_raise};
use crate::outputs::RateReason;
use crate::places::Empty;
use crate::units::{BitsPerSecond, Direction};
use crate::zone::{Thresholds, Zone};

/// The time that [`ShaperConfig::step_up`] and the factors are defined for: the reference's tick.
pub const STEP: Duration = Duration::from_millis(50);

/// How long a direction has been in its zone, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Streaks {
    /// GREEN in a row.
    pub green: u32,
    /// Above the warn threshold, not RED, in a row (download only).
    pub soft_red: u32,
    /// RED in a row.
    pub red: u32,
}

/// Returns the shaper with what one tick does instead of what one [`STEP`] does.
fn per_tick(shaper: &ShaperConfig, tick: Duration) -> ShaperConfig {
    let (tick_us, step_us) = (u128::from(tick.as_micros()), STEP.as_micros());
    let scaled = u128::from(shaper.step_up.get()).saturating_mul(tick_us);
    let step_up =
        divide(scaled.saturating_add(u128::from(step_us / 2)), step_us).unwrap_or_default();
    ShaperConfig {
        step_up: BitsPerSecond::new(u64::try_from(step_up).unwrap_or(u64::MAX)),
        factor_down: shaper.factor_down.per(tick, STEP),
        factor_down_yellow: shaper.factor_down_yellow.per(tick, STEP),
        ..*shaper
    }
}

/// One direction under the classic law.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClassicShaper {
    direction: Direction,
    /// Its step and factors are those of one tick.
    config: ShaperConfig,
    thresholds: Thresholds,
    green_ticks: u32,
    soft_red_ticks: u32,
    floors_lift_rate: bool,
    soft_red_holds: bool,
    streaks: Streaks,
    zone: Zone,
    rate: BitsPerSecond,
    reason: RateReason,
}

impl Empty for ClassicShaper {
    const EMPTY: Self = {
        let (none, zero) = (BitsPerSecond::new(0), MicrosQ32::ZERO);
        Self {
            direction: Direction::Download,
            config: ShaperConfig {
                floors: ZoneFloors { green: none, yellow: none, soft_red: none, red: none },
                ceiling: none,
                step_up: none,
                factor_down: Ratio::ZERO,
                factor_down_yellow: Ratio::ZERO,
            },
            thresholds: Thresholds { target: zero, warn: zero, hard_red: zero },
            green_ticks: 0,
            soft_red_ticks: 0,
            floors_lift_rate: false,
            soft_red_holds: false,
            streaks: Streaks { green: 0, soft_red: 0, red: 0 },
            zone: Zone::Green,
            rate: none,
            reason: RateReason::Start,
        }
    };
}

impl ClassicShaper {
    /// Starts at the ceiling, in GREEN.
    pub(crate) fn new(direction: Direction, wan: &WanConfig, tick: Duration) -> Self {
        let (shaper, config) = (per_tick(wan.shapers.get(direction), tick), &wan.classic);
        Self {
            direction,
            config: shaper,
            thresholds: Thresholds {
                target: config.target_delay.into(),
                warn: config.warn_delay.into(),
                hard_red: config.hard_red_delay.into(),
            },
            green_ticks: ticks_covering(config.green_hold, tick),
            soft_red_ticks: ticks_covering(config.soft_red_confirm, tick),
            floors_lift_rate: config.quirks.floors_lift_rate,
            soft_red_holds: config.quirks.soft_red_holds,
            streaks: Streaks::default(),
            zone: Zone::Green,
            rate: shaper.ceiling,
            reason: RateReason::Start,
        }
    }

    /// Returns the zone of the last step.
    pub(crate) const fn zone(&self) -> Zone {
        self.zone
    }

    /// Returns the wanted rate with its reason.
    pub(crate) const fn wanted(&self) -> Wanted {
        let (rate, ceiling) = (self.rate, self.config.ceiling);
        Wanted { rate, ceiling, reason: self.reason, is_urgent: false }
    }

    /// Bounds the wanted rate to a share of the way from the lowest floor to the ceiling.
    pub(crate) fn cap(&mut self, share: PpmQ32) {
        let (floor, ceiling) = (self.config.floors.red, self.config.ceiling);
        let span = u128::from(ceiling.get().saturating_sub(floor.get()));
        let part = span.saturating_mul(u128::from(share.as_ppm_rounded()));
        let part = divide(part, 1_000_000);
        let part = u64::try_from(part.unwrap_or_default()).unwrap_or(u64::MAX);
        let cap = floor.saturating_add(BitsPerSecond::new(part));
        if self.rate > cap {
            self.rate = cap;
            self.reason = RateReason::Ramp;
        }
    }

    /// Returns whether the wanted rate is at its lowest, and could be higher.
    pub(crate) fn is_at_floor(&self) -> bool {
        let lowest = self.config.floors.red;
        self.rate <= lowest && lowest < self.config.ceiling
    }

    /// Returns the current streaks.
    pub(crate) const fn streaks(&self) -> Streaks {
        self.streaks
    }

    /// Returns whether this rate can be wanted.
    pub(crate) fn accepts(&self, rate: BitsPerSecond) -> bool {
        (self.config.floors.red..=self.config.ceiling).contains(&rate)
    }

    /// Starts at a rate from before a restart.
    pub(crate) const fn restore(&mut self, rate: BitsPerSecond) {
        self.rate = rate;
    }

    /// Starts at a rate from under another configuration, within the bounds of this one.
    pub(crate) fn take_over(&mut self, rate: BitsPerSecond) {
        self.rate = rate.min(self.config.ceiling).max(self.config.floors.red);
    }

    /// Decides zone and wanted rate from the delay above the baseline.
    ///
    /// `held` is what the router holds, as far as known. The line's delay is the answer to that
    /// rate, not to a wanted one that waits to be written. So in GREEN the wanted rate gets at most
    /// `raise_ticks` steps ahead of it, or as many as are worth a write, and in every other zone a
    /// raise that has not left yet is forgotten and cuts start from what is held.
    pub(crate) fn step(&mut self, delay: MicrosQ32, held: Option<BitsPerSecond>, raise_ticks: u32) {
        self.classify(delay);
        let headroom = match self.zone {
            Zone::Green => {
                let steps = self.config.step_up.saturating_mul(raise_ticks.saturating_sub(1));
                steps.max(smallest_raise(self.config.ceiling))
            }
            Zone::Yellow | Zone::SoftRed | Zone::Red => BitsPerSecond::ZERO,
        };
        let start = held.map_or(self.rate, |held| self.rate.min(held.saturating_add(headroom)));
        let (proposed, reason) = self.propose(start);
        let bounded = self.bound(proposed, start);
        if bounded != self.rate {
            let lifted = bounded > proposed && bounded > self.rate;
            self.reason = if lifted { RateReason::FloorLift } else { reason };
            self.rate = bounded;
        }
    }

    /// Only classifies a delay; another law decides on the rate.
    pub(crate) fn classify(&mut self, delay: MicrosQ32) -> Zone {
        self.zone = match self.direction {
            Direction::Download => self.classify_download(delay),
            Direction::Upload => self.classify_upload(delay),
        };
        self.zone
    }

    fn classify_download(&mut self, delay: MicrosQ32) -> Zone {
        let streaks = self.streaks;
        let raw = self.thresholds.four_zones(delay);
        self.streaks = match raw {
            Zone::Green => Streaks { green: streaks.green.saturating_add(1), ..Streaks::default() },
            Zone::Yellow => Streaks::default(),
            Zone::SoftRed => {
                Streaks { soft_red: streaks.soft_red.saturating_add(1), ..Streaks::default() }
            }
            Zone::Red => Streaks { red: streaks.red.saturating_add(1), ..Streaks::default() },
        };
        let confirmed = self.streaks.soft_red >= self.soft_red_ticks;
        if raw == Zone::SoftRed && !confirmed { Zone::Yellow } else { raw }
    }

    fn classify_upload(&mut self, delay: MicrosQ32) -> Zone {
        let streaks = self.streaks;
        let zone = self.thresholds.three_zones(delay);
        let (green, red) = match zone {
            Zone::Green => (streaks.green.saturating_add(1), 0),
            Zone::Yellow | Zone::SoftRed => (0, 0),
            Zone::Red => (0, streaks.red.saturating_add(1)),
        };
        self.streaks = Streaks { green, red, ..streaks };
        zone
    }

    fn propose(&self, rate: BitsPerSecond) -> (BitsPerSecond, RateReason) {
        let config = &self.config;
        match self.zone {
            Zone::Red => (config.factor_down.mul_floor(rate), RateReason::Red),
            Zone::SoftRed if self.soft_red_holds => (rate, RateReason::SoftRed),
            Zone::SoftRed => (config.factor_down.mul_floor(rate), RateReason::SoftRed),
            Zone::Yellow => (config.factor_down_yellow.mul_floor(rate), RateReason::Yellow),
            Zone::Green if self.streaks.green >= self.green_ticks => {
                (rate.saturating_add(config.step_up), RateReason::Green)
            }
            Zone::Green => (rate, RateReason::Green),
        }
    }

    /// Applies the floor of the zone and the ceiling; the ceiling wins.
    fn bound(&self, proposed: BitsPerSecond, start: BitsPerSecond) -> BitsPerSecond {
        let floors = &self.config.floors;
        let zone_floor = match (self.direction, self.zone) {
            (Direction::Upload, _) | (Direction::Download, Zone::Red) => floors.red,
            (Direction::Download, Zone::SoftRed) => floors.soft_red,
            (Direction::Download, Zone::Yellow) => floors.yellow,
            (Direction::Download, Zone::Green) => floors.green,
        };
        // A rate that already lies below the zone's floor is not lifted, it is only not cut.
        let floor = if self.floors_lift_rate { zone_floor } else { zone_floor.min(start) };
        proposed.max(floor).min(self.config.ceiling)
    }
}
