//! `--set key=value` for steering parity: the keys of the reference's steering configuration.

use anyhow::{Context as _, Result, bail};
use embassy_time::Duration;
use wanctl_core::steering::{ConfidenceConfig, FlapGuardConfig, SteeringConfig, SteeringQuirks};
use wanctl_core::units::{Packets, TimeConstant, WanId};

use crate::parity::settings::{boolean, from_alpha, millis, number, positive_integer, split};

/// The keys that `--set` knows with `--steering`, as the reference's configuration file names them,
/// and the three things that files leave open.
pub const KEYS: &str = "thresholds.yellow_rtt_ms, red_rtt_ms, min_drops_red, min_queue_yellow, \
    min_queue_red, rtt_ewma_alpha, queue_ewma_alpha, red_samples_required, \
    green_samples_required, baseline_rtt_bounds.min, baseline_rtt_bounds.max; \
    mode.use_confidence_scoring; confidence.steer_threshold, recovery_threshold, \
    sustain_duration_sec, recovery_sustain_sec, hold_down_duration_sec, flap_detection_enabled, \
    flap_window_minutes, max_toggles, penalty_duration_sec, penalty_threshold_add, dry_run; \
    drops=cumulative|per-row; rtt_history=none|last; flap=penalty|toggles";

/// The cycle of the reference.
const TICK: Duration = Duration::from_millis(50);

/// The WAN whose line the trace is about, and the one that takes over.
pub(super) const PRIMARY: WanId = WanId(0);
pub(super) const ALTERNATE: WanId = WanId(1);

/// What the `drops` column of a trace holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropsColumn {
    /// How many packets were dropped since the row before.
    PerRow,
    /// The counter itself.
    Cumulative,
}

/// What the reference does when a ping fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RttHistory {
    /// The cycle fails: a run that began without a state file keeps no history.
    None,
    /// The last round-trip time serves again, as after a restart.
    Last,
}

/// What the `flap` column of an expected file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlapColumn {
    /// 1 while the flap guard's penalty lasts.
    Penalty,
    /// How many toggles the flap guard remembers.
    Toggles,
}

/// What one steering parity run is made with.
#[derive(Debug, Clone)]
pub struct SteeringSettings {
    config: SteeringConfig,
    confidence: ConfidenceConfig,
    flap_guard: FlapGuardConfig,
    has_flap_guard: bool,
    /// Whether there is confidence scoring; `None` means as the expected file shows.
    pub use_confidence: Option<bool>,
    /// The lowest and the highest baseline that is believed, in ms.
    pub baseline_bounds_ms: (f64, f64),
    /// How `drops` is read; `None` tries both.
    pub drops: Option<DropsColumn>,
    /// What follows a failed ping; `None` tries both.
    pub rtt_history: Option<RttHistory>,
    /// How `flap` is read; `None` tries both.
    pub flap: Option<FlapColumn>,
}

impl Default for SteeringSettings {
    /// The profile of the golden files: the reference's defaults with all of its quirks.
    fn default() -> Self {
        let mut config = SteeringConfig::new(&[PRIMARY, ALTERNATE], TICK);
        config.quirks = SteeringQuirks::REFERENCE;
        // Coefficients of 0.3 and 0.4 per cycle; 2 RED and 15 GREEN cycles.
        config.delay_time_constant = TimeConstant::from_nanos(166_666_667);
        config.backlog_time_constant = TimeConstant::from_nanos(125_000_000);
        config.on_after = Duration::from_millis(100);
        config.off_after = Duration::from_millis(750);
        Self {
            config,
            confidence: ConfidenceConfig::DEFAULT,
            flap_guard: FlapGuardConfig::DEFAULT,
            has_flap_guard: true,
            use_confidence: None,
            baseline_bounds_ms: (10.0, 60.0),
            drops: None,
            rtt_history: None,
            flap: None,
        }
    }
}

impl SteeringSettings {
    /// Returns the configuration of steering; `confident` decides unless the settings do.
    #[must_use]
    pub fn config(&self, confident: bool) -> SteeringConfig {
        let mut config = self.config.clone();
        config.flap_guard = self.has_flap_guard.then_some(self.flap_guard);
        let confident = self.use_confidence.unwrap_or(confident);
        config.confidence = confident.then_some(self.confidence);
        config
    }

    /// Applies one `key=value`. Leading sections (`thresholds.`, `confidence.`) may be given or left
    /// out; `-` and `_` are the same.
    ///
    /// # Errors
    ///
    /// An unknown key, with the list of known ones, or a value that does not fit.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let (key, value) = split(assignment)?;
        self.apply(&key, value).with_context(|| format!("`--set {assignment}`"))
    }

    /// Checks what the reference checks across its settings.
    pub(super) fn check(&self) -> Result<()> {
        let (thresholds, (min, max)) = (&self.config.thresholds, self.baseline_bounds_ms);
        if thresholds.yellow_delay > thresholds.red_delay {
            bail!("yellow_rtt_ms must not be above red_rtt_ms");
        }
        if self.confidence.recovery_score >= self.confidence.steer_score {
            bail!("recovery_threshold must be below steer_threshold");
        }
        if min > max {
            bail!("baseline_rtt_bounds.min must not be above baseline_rtt_bounds.max");
        }
        Ok(())
    }

    fn apply(&mut self, key: &str, value: &str) -> Result<()> {
        let mut parts = key.rsplit('.');
        let (name, section) = (parts.next().unwrap_or_default(), parts.next());
        match section {
            Some("baseline_rtt_bounds") => self.set_baseline_bound(name, value),
            Some("confidence") => self.set_confidence(name, value),
            Some("thresholds" | "mode") => self.set_threshold(name, value),
            None if CONFIDENCE_KEYS.contains(&name) => self.set_confidence(name, value),
            None => self.set_threshold(name, value),
            Some(_) => bail!("unknown key; known are: {KEYS}"),
        }
    }

    fn set_baseline_bound(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "min" => self.baseline_bounds_ms.0 = number(value)?,
            "max" => self.baseline_bounds_ms.1 = number(value)?,
            _ => bail!("unknown key; known are: {KEYS}"),
        }
        Ok(())
    }

    fn set_threshold(&mut self, name: &str, value: &str) -> Result<()> {
        let config = &mut self.config;
        let thresholds = &mut config.thresholds;
        match name {
            // The reference checks this one and never uses it.
            "green_rtt_ms" => drop(millis(value)?),
            "yellow_rtt_ms" => thresholds.yellow_delay = millis(value)?,
            "red_rtt_ms" => thresholds.red_delay = millis(value)?,
            "min_drops_red" => thresholds.red_drops = Packets(whole(value, 1, 1 << 32)?),
            "min_queue_yellow" => thresholds.yellow_backlog = Packets(whole(value, 0, 1 << 32)?),
            "min_queue_red" => thresholds.red_backlog = Packets(whole(value, 0, 1 << 32)?),
            "rtt_ewma_alpha" => config.delay_time_constant = from_alpha(value, TICK)?,
            "queue_ewma_alpha" => config.backlog_time_constant = from_alpha(value, TICK)?,
            "red_samples_required" => config.on_after = cycles(value)?,
            "green_samples_required" => config.off_after = cycles(value)?,
            "use_confidence_scoring" => self.use_confidence = Some(boolean(value)?),
            "drops" | "rtt_history" | "flap" => self.set_reading(name, value)?,
            _ => bail!("unknown key; known are: {KEYS}"),
        }
        Ok(())
    }

    fn set_reading(&mut self, name: &str, value: &str) -> Result<()> {
        match (name, value) {
            ("drops", "cumulative") => self.drops = Some(DropsColumn::Cumulative),
            ("drops", "per-row") => self.drops = Some(DropsColumn::PerRow),
            ("drops", _) => bail!("expected cumulative or per-row"),
            ("rtt_history", "none") => self.rtt_history = Some(RttHistory::None),
            ("rtt_history", "last") => self.rtt_history = Some(RttHistory::Last),
            ("rtt_history", _) => bail!("expected none or last"),
            (_, "penalty") => self.flap = Some(FlapColumn::Penalty),
            (_, "toggles") => self.flap = Some(FlapColumn::Toggles),
            _ => bail!("expected penalty or toggles"),
        }
        Ok(())
    }

    fn set_confidence(&mut self, name: &str, value: &str) -> Result<()> {
        let (confidence, guard) = (&mut self.confidence, &mut self.flap_guard);
        match name {
            "steer_threshold" => confidence.steer_score = small(value, 0, 100)?,
            "recovery_threshold" => confidence.recovery_score = small(value, 0, 100)?,
            "sustain_duration_sec" => confidence.sustain = seconds(value, 1.0)?,
            "recovery_sustain_sec" => confidence.recovery_sustain = seconds(value, 1.0)?,
            "hold_down_duration_sec" => self.config.hold_down = seconds(value, 1.0)?,
            "flap_detection_enabled" => self.has_flap_guard = boolean(value)?,
            "flap_window_minutes" => guard.window = seconds(value, 60.0)?,
            "max_toggles" => guard.max_toggles = small(value, 1, 19)?,
            "penalty_duration_sec" => guard.penalty = seconds(value, 1.0)?,
            "penalty_threshold_add" => guard.added_score = small(value, 0, 100)?,
            "dry_run" => confidence.dry_run = boolean(value)?,
            _ => bail!("unknown key; known are: {KEYS}"),
        }
        Ok(())
    }
}

const CONFIDENCE_KEYS: [&str; 11] = [
    "steer_threshold",
    "recovery_threshold",
    "sustain_duration_sec",
    "recovery_sustain_sec",
    "hold_down_duration_sec",
    "flap_detection_enabled",
    "flap_window_minutes",
    "max_toggles",
    "penalty_duration_sec",
    "penalty_threshold_add",
    "dry_run",
];

fn whole(value: &str, low: u64, high: u64) -> Result<u64> {
    let number = value.parse().ok().filter(|number| (low..=high).contains(number));
    number.with_context(|| format!("expected a whole number from {low} to {high}"))
}

fn small(value: &str, low: u8, high: u8) -> Result<u8> {
    Ok(u8::try_from(whole(value, low.into(), high.into())?)?)
}

/// A number of cycles as a duration.
fn cycles(value: &str) -> Result<Duration> {
    let count = whole(value, 1, 1_000_000)?;
    Ok(Duration::from_micros(count * TICK.as_micros()))
}

fn seconds(value: &str, unit: f64) -> Result<Duration> {
    Ok(Duration::from_micros(positive_integer(number(value)? * unit * 1e6)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_with_and_without_their_section() {
        let mut settings = SteeringSettings::default();
        for assignment in [
            "thresholds.red_rtt_ms=20",
            "rtt-ewma-alpha=0.5",
            "thresholds.baseline_rtt_bounds.max=70",
            "red_samples_required=320",
            "mode.use_confidence_scoring=true",
            "confidence.dry_run=false",
            "recovery_sustain_sec=4.5",
            "flap_window_minutes=2",
            "confidence.flap_detection_enabled=no",
            "drops=per-row",
        ] {
            settings.set(assignment).unwrap();
        }
        let config = settings.config(false);
        assert_eq!(config.thresholds.red_delay, Duration::from_millis(20));
        assert_eq!(config.thresholds.yellow_delay, Duration::from_millis(15));
        assert_eq!(config.delay_time_constant.as_nanos(), 100_000_000);
        assert_eq!(config.on_after, Duration::from_secs(16));
        assert_eq!(config.off_after, Duration::from_millis(750));
        assert_eq!(config.flap_guard, None);
        assert_eq!(settings.flap_guard.window, Duration::from_secs(120));
        let confidence = config.confidence.unwrap();
        assert!(!confidence.dry_run);
        assert_eq!(confidence.recovery_sustain, Duration::from_millis(4500));
        assert_eq!(settings.drops, Some(DropsColumn::PerRow));
        assert!((settings.baseline_bounds_ms.1 - 70.0).abs() < f64::EPSILON);
    }

    #[test]
    fn unknown_keys_and_bad_values_are_refused() {
        let mut settings = SteeringSettings::default();
        for assignment in [
            "alpha_load=0.1",
            "confidence.red_rtt_ms=15",
            "thresholds.dry_run=true",
            "health_check.dry_run=true",
            "rtt_ewma_alpha=1.5",
            "red_samples_required=0",
            "min_drops_red=-1",
            "steer_threshold=101",
            "max_toggles=2.5",
            "drops=sometimes",
            "rtt_history",
        ] {
            assert!(settings.set(assignment).is_err(), "{assignment}");
        }
    }
}
