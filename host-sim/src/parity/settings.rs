//! `--set key=value` for parity runs: the reference's configuration keys.

use anyhow::{Context as _, Result, bail};
use embassy_time::Duration;
use wanctl_core::config::{
    BlindConfig, BlindMode, Config, Quirks, ShaperConfig, WanConfig, WriteLimit,
};
use wanctl_core::config::{Checks, ClassicConfig, ZoneFloors};
use wanctl_core::example;
use wanctl_core::fixed::Ratio;
use wanctl_core::units::{BitsPerSecond, PerDirection, TimeConstant};

/// The keys that `--set` knows, as the reference's configuration file names them.
pub const KEYS: &str = "alpha_load, alpha_baseline, load_time_constant_sec, \
    baseline_time_constant_sec, baseline_rtt_initial, baseline_rtt_bounds.min, \
    baseline_rtt_bounds.max, baseline_update_threshold_ms, target_bloat_ms, warn_bloat_ms, \
    hard_red_bloat_ms, fallback_checks.enabled, fallback_mode, max_fallback_cycles, max_changes, \
    window_seconds, and with download. or upload. in front: ceiling_mbps, step_up_mbps, \
    factor_down, factor_down_yellow, floor_mbps, floor_green_mbps, floor_yellow_mbps, \
    floor_soft_red_mbps, floor_red_mbps";

/// What one parity run is made with.
#[derive(Debug, Clone)]
pub struct Settings {
    config: Config,
    shapers: PerDirection<ShaperConfig>,
    classic: ClassicConfig,
    /// Whether the `conn` column is looked at; without it every row without a reply fails.
    pub fallback_enabled: bool,
}

impl Default for Settings {
    /// The profile of the golden files: the reference's cable line with all of its quirks.
    fn default() -> Self {
        let (mut shapers, mut classic) = (example::shapers(), example::classic());
        shapers.download.factor_down_yellow = Ratio::ONE;
        classic.write_limit = WriteLimit { writes: 10, window: Duration::from_secs(60) };
        classic.quirks = Quirks::REFERENCE;
        classic.blind = BlindConfig {
            mode: BlindMode::Graceful,
            after: Duration::MIN,
            limit: Duration::from_millis(150),
            checks: Checks::Given,
        };
        Self { config: example::config(), shapers, classic, fallback_enabled: true }
    }
}

impl Settings {
    /// Returns the controller's configuration: one WAN with one reflector.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = self.config.clone();
        for wan in &mut config.wans {
            *wan = WanConfig {
                reflectors: 1,
                shapers: self.shapers,
                link: None,
                classic: self.classic,
                law: wanctl_core::config::LawConfig::Classic,
            };
        }
        config
    }

    /// Returns the parameters of the law.
    #[must_use]
    pub const fn classic(&self) -> &ClassicConfig {
        &self.classic
    }

    /// Applies one `key=value`. Leading sections (`continuous_monitoring.thresholds.`) may be
    /// given or left out; `-` and `_` are the same.
    ///
    /// # Errors
    ///
    /// An unknown key, with the list of known ones, or a value that does not fit.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let (key, value) = split(assignment)?;
        self.apply(&key, value).with_context(|| format!("`--set {assignment}`"))
    }

    fn apply(&mut self, key: &str, value: &str) -> Result<()> {
        let tail = |count: usize| {
            let parts: Vec<&str> = key.split('.').collect();
            parts[parts.len().saturating_sub(count)..].join(".")
        };
        let classic = &mut self.classic;
        let shaper = match tail(2).split('.').next() {
            Some("download" | "dl") => Some(&mut self.shapers.download),
            Some("upload" | "ul") => Some(&mut self.shapers.upload),
            _ => None,
        };
        if let Some(shaper) = shaper {
            set_shaper(shaper, &tail(1), value)?;
            // The reference's upload knows no floor but the one of RED.
            self.shapers.upload.floors = ZoneFloors::all(self.shapers.upload.floors.red);
            return Ok(());
        }
        // These words mean something in their own section only.
        match tail(2).as_str() {
            "fallback_checks.enabled" => {
                self.fallback_enabled = boolean(value)?;
                return Ok(());
            }
            "baseline_rtt_bounds.min" => {
                classic.baseline_min = millis(value)?;
                return Ok(());
            }
            "baseline_rtt_bounds.max" => {
                classic.baseline_max = millis(value)?;
                return Ok(());
            }
            _ => {}
        }
        match tail(1).as_str() {
            "alpha_load" => classic.load_time_constant = from_alpha(value, self.config.tick)?,
            "alpha_baseline" => {
                classic.baseline_time_constant = from_alpha(value, self.config.tick)?;
            }
            "load_time_constant_sec" => classic.load_time_constant = seconds(value)?,
            "baseline_time_constant_sec" => classic.baseline_time_constant = seconds(value)?,
            "baseline_rtt_initial" => classic.baseline_initial = Some(millis(value)?),
            "baseline_update_threshold_ms" => classic.baseline_freeze_delay = millis(value)?,
            "target_bloat_ms" => classic.target_delay = millis(value)?,
            "warn_bloat_ms" => classic.warn_delay = millis(value)?,
            "hard_red_bloat_ms" => classic.hard_red_delay = millis(value)?,
            "fallback_mode" => classic.blind.mode = blind_mode(value)?,
            "max_fallback_cycles" => {
                let cycles: u32 = value.parse()?;
                classic.blind.limit =
                    self.config.tick.checked_mul(cycles).context("too many cycles")?;
            }
            "max_changes" => {
                let writes = value.parse::<u8>().ok().filter(|writes| (1..=64).contains(writes));
                classic.write_limit.writes = writes.context("expected a number from 1 to 64")?;
            }
            "window_seconds" => {
                let window = number(value)? * 1e6;
                classic.write_limit.window = Duration::from_micros(positive_integer(window)?);
            }
            _ => bail!("unknown key; known are: {KEYS}"),
        }
        Ok(())
    }
}

fn set_shaper(shaper: &mut ShaperConfig, key: &str, value: &str) -> Result<()> {
    match key {
        "ceiling_mbps" => shaper.ceiling = mbps(value)?,
        "step_up_mbps" => shaper.step_up = mbps(value)?,
        "factor_down" => shaper.factor_down = ratio(value)?,
        "factor_down_yellow" => shaper.factor_down_yellow = ratio(value)?,
        "floor_mbps" => shaper.floors = ZoneFloors::all(mbps(value)?),
        "floor_green_mbps" => shaper.floors.green = mbps(value)?,
        "floor_yellow_mbps" => shaper.floors.yellow = mbps(value)?,
        "floor_soft_red_mbps" => shaper.floors.soft_red = mbps(value)?,
        "floor_red_mbps" => shaper.floors.red = mbps(value)?,
        _ => bail!("unknown key; known are: {KEYS}"),
    }
    Ok(())
}

/// Takes `key=value` apart; in the key, `-` and `_` are the same.
pub(super) fn split(assignment: &str) -> Result<(String, &str)> {
    let (key, value) = assignment
        .split_once('=')
        .with_context(|| format!("`--set {assignment}`: write it as key=value"))?;
    Ok((key.trim().replace('-', "_"), value.trim()))
}

pub(super) fn number(value: &str) -> Result<f64> {
    let number: f64 = value.parse().context("not a number")?;
    if number.is_finite() && number >= 0.0 { Ok(number) } else { bail!("not a finite number >= 0") }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be in 1 ..= 2^53"
)]
pub(super) fn positive_integer(value: f64) -> Result<u64> {
    let rounded = value.round();
    if (1.0..=9.0e15).contains(&rounded) {
        Ok(rounded as u64)
    } else {
        bail!("out of range: it must be positive, and not above 9e15 in its smallest unit")
    }
}

fn mbps(value: &str) -> Result<BitsPerSecond> {
    Ok(BitsPerSecond::new(positive_integer(number(value)? * 1e6)?))
}

pub(super) fn millis(value: &str) -> Result<Duration> {
    Ok(Duration::from_micros(positive_integer(number(value)? * 1e3)?))
}

fn seconds(value: &str) -> Result<TimeConstant> {
    Ok(TimeConstant::from_nanos(positive_integer(number(value)? * 1e9)?))
}

fn ratio(value: &str) -> Result<Ratio> {
    let ppm = positive_integer(number(value)? * 1e6)?;
    if ppm > 1_000_000 {
        bail!("a factor is at most 1");
    }
    Ok(Ratio::from_ppm(u32::try_from(ppm).context("out of range")?))
}

pub(super) fn boolean(value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => bail!("expected true or false"),
    }
}

fn blind_mode(value: &str) -> Result<BlindMode> {
    Ok(match value {
        "graceful_degradation" => BlindMode::Graceful,
        "freeze" => BlindMode::Freeze,
        "use_last_rtt" => BlindMode::UseLastRtt,
        _ => bail!("known modes: graceful_degradation, freeze, use_last_rtt"),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a tick is far below 2^53 ns")]
pub(super) fn from_alpha(value: &str, tick: Duration) -> Result<TimeConstant> {
    let alpha = number(value)?;
    if !(1e-6..=1.0).contains(&alpha) {
        bail!("a filter coefficient lies between 0.000001 and 1");
    }
    let tick_nanos = tick.as_micros() as f64 * 1e3;
    Ok(TimeConstant::from_nanos(positive_integer(tick_nanos / alpha)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_with_and_without_their_section() {
        let mut settings = Settings::default();
        for assignment in [
            "continuous_monitoring.thresholds.alpha_load=0.005",
            "alpha-baseline=0.0005",
            "download.factor_down=0.9",
            "continuous_monitoring.upload.floor_mbps=7.5",
            "baseline_rtt_bounds.min=5",
            "max_fallback_cycles=10",
            "fallback_checks.enabled=False",
        ] {
            settings.set(assignment).unwrap();
        }
        assert!(!settings.fallback_enabled);
        assert_eq!(settings.shapers.upload.floors.green, BitsPerSecond::new(7_500_000));
        let classic = settings.classic();
        assert_eq!(classic.load_time_constant, TimeConstant::from_millis(10_000));
        assert_eq!(classic.baseline_time_constant, TimeConstant::from_millis(100_000));
        assert_eq!(settings.shapers.download.factor_down, Ratio::from_ppm(900_000));
        assert_eq!(settings.shapers.upload.floors.red, BitsPerSecond::new(7_500_000));
        assert_eq!(classic.baseline_min, Duration::from_millis(5));
        assert_eq!(classic.blind.limit, Duration::from_millis(500));
    }

    #[test]
    fn unknown_keys_and_bad_values_are_refused() {
        let mut settings = Settings::default();
        for assignment in [
            "alpha_laod=0.1",
            "alpha_load=2",
            "alpha_load",
            "download.step_up_mbps=x",
            "baseline_rtt_bounds.min=-1",
            "health_check.enabled=false",
            "quux.min=3",
            "download.factor_down=1.5",
            "max_changes=1000",
        ] {
            assert!(settings.set(assignment).is_err(), "{assignment}");
        }
    }
}
