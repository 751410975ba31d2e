//! The `[wan.classic]` table: the classic law.

use std::time::Duration;

use toml::de::DeValue;
use wanctl_core::config::{
    BlindConfig, BlindMode, Checks, ClassicConfig, MAX_WRITES_PER_WINDOW, Quirks, WriteLimit,
};
use wanctl_core::history::HISTORY_SAMPLES;
use wanctl_core::units::TimeConstant;

use super::load::{check_duration, duration, to_core};
use super::reader::{Placed, Problems, Refusal, Section};
use crate::exit::ExitReason;

/// Reads `[wan.classic]`; every key has a default.
pub(super) fn read(
    section: Option<Section<'_>>,
    tick: Duration,
    problems: &mut Problems,
) -> Option<ClassicConfig> {
    let mut classic = defaults();
    let Some(mut section) = section else { return Some(classic) };
    let ms = Duration::from_millis;
    let history = tick * u32::try_from(HISTORY_SAMPLES).unwrap_or(u32::MAX);
    let mut set = |key, target: &mut embassy_time::Duration, least, most| {
        let placed = section.optional(problems, key, duration)?;
        check_duration(&placed, least, most, problems);
        *target = to_core(placed.value);
        Some(placed)
    };
    let target = set("target-delay", &mut classic.target_delay, ms(1), ms(1000));
    let warn = set("warn-delay", &mut classic.warn_delay, ms(1), ms(2000));
    let hard_red = set("hard-red-delay", &mut classic.hard_red_delay, ms(1), ms(5000));
    set("baseline-min", &mut classic.baseline_min, Duration::from_micros(1), ms(2000));
    let most = set("baseline-max", &mut classic.baseline_max, ms(1), ms(2000));
    set("baseline-freeze-delay", &mut classic.baseline_freeze_delay, ms(1), ms(1000));
    set("baseline-freeze-max", &mut classic.baseline_freeze_max, ms(5000), history);
    set("green-hold", &mut classic.green_hold, ms(10), ms(60_000));
    set("soft-red-confirm", &mut classic.soft_red_confirm, ms(10), ms(60_000));
    set("blind-after", &mut classic.blind.after, ms(100), ms(10_000));
    set("blind-limit", &mut classic.blind.limit, ms(50), ms(3_600_000));
    let mut initial = embassy_time::Duration::MIN;
    let initial_key = set("baseline-initial", &mut initial, Duration::from_micros(1), ms(2000));
    classic.baseline_initial = initial_key.is_some().then_some(initial);
    let mut filter = |key, target: &mut TimeConstant| {
        if let Some(placed) = section.optional(problems, key, duration) {
            check_duration(&placed, ms(1), ms(3_600_000), problems);
            *target = TimeConstant::from_nanos(to_core(placed.value).as_micros() * 1000);
        }
    };
    filter("load-time-constant", &mut classic.load_time_constant);
    filter("baseline-time-constant", &mut classic.baseline_time_constant);
    if let Some(table) = section.table(problems, "write-limit") {
        classic.write_limit = write_limit(table, problems)?;
    }
    if let Some(mode) = section.optional(problems, "blind-mode", blind_mode) {
        classic.blind.mode = mode.value;
    }
    if let Some(quirks) = section.optional(problems, "quirks", quirks) {
        classic.quirks = quirks.value;
    }
    let at = section.at();
    section.finish(problems);
    let key = |placed: Option<Placed<Duration>>| placed.map_or(at.clone(), |placed| placed.at);
    if classic.target_delay >= classic.warn_delay || classic.warn_delay >= classic.hard_red_delay {
        let message = "delays must rise: target-delay < warn-delay < hard-red-delay";
        let at = key(target.or(warn).or(hard_red));
        problems.add(ExitReason::ConfigValue, at, "wan.classic", message, None);
    }
    let initial = classic.baseline_initial.unwrap_or(classic.baseline_min);
    if classic.baseline_min > classic.baseline_max
        || initial < classic.baseline_min
        || initial > classic.baseline_max
    {
        let message = "must be ordered: baseline-min <= baseline-initial <= baseline-max";
        let at = key(initial_key.or(most));
        problems.add(ExitReason::ConfigValue, at, "wan.classic.baseline", message, None);
    }
    Some(classic)
}

/// The reference's production thresholds and its later recommended load filter; bounds wide
/// enough for fibre and satellite.
fn defaults() -> ClassicConfig {
    let ms = embassy_time::Duration::from_millis;
    ClassicConfig {
        target_delay: ms(15),
        warn_delay: ms(45),
        hard_red_delay: ms(80),
        load_time_constant: TimeConstant::from_millis(250),
        baseline_time_constant: TimeConstant::from_millis(10_000),
        baseline_initial: None,
        baseline_min: ms(1),
        baseline_max: ms(150),
        baseline_freeze_delay: ms(3),
        baseline_freeze_max: ms(60_000),
        green_hold: ms(250),
        soft_red_confirm: ms(150),
        blind: BlindConfig {
            mode: BlindMode::Graceful,
            after: ms(500),
            limit: ms(1000),
            checks: Checks::Given,
        },
        write_limit: WriteLimit { writes: 20, window: ms(10_000) },
        quirks: Quirks::default(),
    }
}

fn blind_mode(value: &DeValue<'_>) -> Result<BlindMode, String> {
    match value.as_str() {
        Some("graceful") => Ok(BlindMode::Graceful),
        Some("freeze") => Ok(BlindMode::Freeze),
        Some("use-last-rtt") => Ok(BlindMode::UseLastRtt),
        _ => Err("expected \"graceful\", \"freeze\" or \"use-last-rtt\"".to_owned()),
    }
}

fn write_limit(mut section: Section<'_>, problems: &mut Problems) -> Option<WriteLimit> {
    let writes = section.required(problems, "writes", |value| -> Result<u8, Refusal> {
        let expected = format!("expected a whole number from 1 to {MAX_WRITES_PER_WINDOW}");
        let number = value.as_integer().and_then(|number| number.as_str().parse::<u64>().ok());
        let number = number.ok_or_else(|| expected.clone())?;
        let in_range = u8::try_from(number)
            .ok()
            .filter(|writes| (1..=MAX_WRITES_PER_WINDOW).contains(&usize::from(*writes)));
        in_range.ok_or_else(|| Refusal::out_of_range(expected))
    });
    let window = section.required(problems, "window", duration);
    if let Some(window) = &window {
        check_duration(window, Duration::from_secs(1), Duration::from_secs(3600), problems);
    }
    section.finish(problems);
    Some(WriteLimit { writes: writes?.value, window: to_core(window?.value) })
}

fn quirks(value: &DeValue<'_>) -> Result<Quirks, String> {
    let expected = "expected a list of \"floors-lift-rate\", \"soft-red-holds\", \
                    \"limiter-delays-cuts\", \"baseline-freezes-for-ever\"";
    let mut quirks = Quirks::default();
    for item in value.as_array().ok_or(expected)?.iter() {
        match item.get_ref().as_str() {
            Some("floors-lift-rate") => quirks.floors_lift_rate = true,
            Some("soft-red-holds") => quirks.soft_red_holds = true,
            Some("limiter-delays-cuts") => quirks.limiter_delays_cuts = true,
            Some("baseline-freezes-for-ever") => quirks.baseline_freezes_for_ever = true,
            _ => return Err(expected.to_owned()),
        }
    }
    Ok(quirks)
}
