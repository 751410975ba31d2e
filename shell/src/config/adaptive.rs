//! The `[wan.adaptive]` table: the adaptive law.

use std::time::Duration;

use toml::de::DeValue;
use wanctl_core::config::{
    AdaptiveConfig, AdaptiveGains, MAX_WRITES_PER_MINUTE, MAX_WRITES_PER_SECOND, WriteBudgetConfig,
};

use super::load::{BackendKind, check_duration, duration, to_core};
use super::reader::{Problems, Refusal, Section};

/// The default budget: `RouterOS` keeps a log and an undo history of every write.
const BUDGET: WriteBudgetConfig = WriteBudgetConfig { per_minute: 120, per_second: 6 };

/// Reads `[wan.adaptive]`; every key has a default.
pub(super) fn read(
    section: Option<Section<'_>>,
    kind: BackendKind,
    problems: &mut Problems,
) -> AdaptiveConfig {
    // A write to this machine's kernel costs nothing.
    let default = match kind {
        BackendKind::RouterOs => Some(BUDGET),
        BackendKind::LinuxCake => None,
    };
    let mut adaptive = AdaptiveConfig {
        target_delay: to_core(Duration::from_millis(15)),
        write_budget: default,
        gains: AdaptiveGains::DEFAULT,
    };
    let Some(mut section) = section else { return adaptive };
    if let Some(placed) = section.optional(problems, "target-delay", duration) {
        check_duration(&placed, Duration::from_millis(2), Duration::from_millis(500), problems);
        adaptive.target_delay = to_core(placed.value);
    }
    let per_minute = section.optional(problems, "writes-per-minute", writes_per_minute);
    let per_second = section.optional(problems, "writes-per-second", writes_per_second);
    section.finish(problems);
    adaptive.write_budget = per_minute
        .map_or(default.map(|budget| budget.per_minute), |placed| placed.value)
        .map(|per_minute| WriteBudgetConfig {
            per_minute,
            per_second: per_second.map_or(BUDGET.per_second, |placed| placed.value),
        });
    adaptive
}

/// Reads a number of writes, or `"unlimited"`.
fn writes_per_minute(value: &DeValue<'_>) -> Result<Option<u16>, Refusal> {
    if value.as_str() == Some("unlimited") {
        return Ok(None);
    }
    let expected =
        format!("expected a whole number from 6 to {MAX_WRITES_PER_MINUTE}, or \"unlimited\"");
    let number = whole(value).ok_or_else(|| expected.clone())?;
    let in_range = u16::try_from(number).ok();
    let in_range = in_range.filter(|writes| (6..=MAX_WRITES_PER_MINUTE).contains(writes));
    in_range.map(Some).ok_or_else(|| Refusal::out_of_range(expected))
}

fn writes_per_second(value: &DeValue<'_>) -> Result<u8, Refusal> {
    let expected = format!("expected a whole number from 2 to {MAX_WRITES_PER_SECOND}");
    let number = whole(value).ok_or_else(|| expected.clone())?;
    let in_range = u8::try_from(number).ok();
    let in_range = in_range.filter(|writes| (2..=MAX_WRITES_PER_SECOND).contains(writes));
    in_range.ok_or_else(|| Refusal::out_of_range(expected))
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    value.as_integer().and_then(|number| number.as_str().parse().ok())
}
