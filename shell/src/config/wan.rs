//! One `[[wan]]` table.

use std::net::Ipv4Addr;
use std::time::Duration;

use toml::de::DeValue;
use wanctl_core::config::{
    BlindConfig, BlindMode, ClassicConfig, MAX_WRITES_PER_WINDOW, Quirks, ShaperConfig, WriteLimit,
    ZoneFloors,
};
use wanctl_core::fixed::Ratio;
use wanctl_core::history::HISTORY_SAMPLES;
use wanctl_core::tick::MAX_REFLECTORS;
use wanctl_core::units::{BitsPerSecond, Direction, PerDirection, TimeConstant};

use super::load::{check_duration, duration, string, to_core};
use super::reader::{Placed, Problems, Section};
use super::{OnExit, WanConfig, quantity, show_rate};
use crate::exit::ExitReason;

/// What was read of one WAN.
pub(super) struct ReadWan {
    pub(super) shell: WanConfig,
    pub(super) core: wanctl_core::config::WanConfig,
    /// Values that no other WAN may have.
    pub(super) unique: Vec<Placed<String>>,
}

/// What was read of one direction.
struct ReadShaper {
    queue: Placed<String>,
    core: ShaperConfig,
    fail_safe: Option<BitsPerSecond>,
}

pub(super) fn read(
    mut section: Section<'_>,
    tick: Duration,
    on_exit: OnExit,
    problems: &mut Problems,
) -> Option<ReadWan> {
    let name = section.required(problems, "name", identifier);
    let interface = section.optional(problems, "interface", string);
    let source = section.optional(problems, "source-address", address);
    let reflectors = section.required(problems, "reflectors", reflectors);
    let mut direction = |direction: Direction| match section.table(problems, direction.name()) {
        Some(table) => shaper(table, direction, on_exit, problems),
        None => {
            let message = "this table is required and missing";
            let reason = ExitReason::ConfigText;
            problems.add(reason, section.at(), format!("wan.{}", direction.name()), message, None);
            None
        }
    };
    let download = direction(Direction::Download);
    let upload = direction(Direction::Upload);
    let classic_table = section.table(problems, "classic");
    section.finish(problems);
    let (download, upload) = (download?, upload?);
    let classic = classic(classic_table, download.core, upload.core, tick, problems)?;
    let (name, reflectors) = (name?, reflectors?.value);
    let count = u8::try_from(reflectors.len()).unwrap_or(u8::MAX);
    let shell = WanConfig {
        name: name.value.clone(),
        interface: interface.map(|interface| interface.value),
        source_address: source.map(|source| source.value),
        reflectors,
        queues: PerDirection {
            download: download.queue.value.clone(),
            upload: upload.queue.value.clone(),
        },
        fail_safe: PerDirection { download: download.fail_safe, upload: upload.fail_safe },
    };
    let core = wanctl_core::config::WanConfig { reflectors: count, classic };
    Some(ReadWan { shell, core, unique: vec![name, download.queue, upload.queue] })
}

fn shaper(
    mut section: Section<'_>,
    direction: Direction,
    on_exit: OnExit,
    problems: &mut Problems,
) -> Option<ReadShaper> {
    let at = section.at();
    let queue = section.required(problems, "queue", queue_name);
    let ceiling = section.required(problems, "ceiling", rate);
    let floor = section.optional(problems, "floor", rate);
    let floors_table = section.table(problems, "floors");
    let step_up = section.optional(problems, "step-up", rate);
    let factor_down = section.optional(problems, "factor-down", ratio);
    let factor_down_yellow = section.optional(problems, "factor-down-yellow", ratio);
    let fail_safe = section.optional(problems, "fail-safe", rate);
    section.finish(problems);
    let zones = floors_table.map(|table| zone_floors(table, problems));
    let floors = match (floor, zones) {
        (Some(floor), None) => [floor.clone(), floor.clone(), floor.clone(), floor],
        (None, Some(zones)) => zones?,
        (floor, _) => {
            let message = "give either `floor` (one for all zones) or `floors` (one per zone)";
            let at = floor.map_or(at, |floor| floor.at);
            let subject = format!("wan.{}.floor", direction.name());
            problems.add(ExitReason::ConfigText, at, subject, message, None);
            return None;
        }
    };
    let (ceiling, queue) = (ceiling?, queue?);
    check_floors(&floors, &ceiling, problems);
    if let Some(placed) = &fail_safe {
        let bounds = (floors[0].value, ceiling.value);
        check_within(placed, bounds, "floor to ceiling", problems);
    } else if on_exit == OnExit::FailSafe {
        let subject = format!("wan.{}.fail-safe", direction.name());
        let message = "required because of `on-exit = \"fail-safe\"`";
        problems.add(ExitReason::ConfigText, queue.at.clone(), subject, message, None);
    }
    // Per tick, 1 % of the ceiling: from half rate to the ceiling in 2.5 s.
    let default_step = BitsPerSecond::new((ceiling.value.get() / 100).max(1));
    let (down_default, yellow_default) = match direction {
        Direction::Download => (850_000, 960_000),
        // Uploads of cable lines idle with 5-15 ms of jitter: YELLOW is no reason to cut.
        Direction::Upload => (900_000, 1_000_000),
    };
    let or = |placed: Option<Placed<u32>>, default| placed.map_or(default, |placed| placed.value);
    let [red, soft_red, yellow, green] = floors.map(|floor| floor.value);
    let core = ShaperConfig {
        floors: ZoneFloors { green, yellow, soft_red, red },
        ceiling: ceiling.value,
        step_up: step_up.map_or(default_step, |step| step.value),
        factor_down: Ratio::from_ppm(or(factor_down, down_default)),
        factor_down_yellow: Ratio::from_ppm(or(factor_down_yellow, yellow_default)),
    };
    Some(ReadShaper { queue, core, fail_safe: fail_safe.map(|placed| placed.value) })
}

/// Reads `floors`, from RED to GREEN.
fn zone_floors(
    mut section: Section<'_>,
    problems: &mut Problems,
) -> Option<[Placed<BitsPerSecond>; 4]> {
    let mut floor = |key| section.required(problems, key, rate);
    let floors = [floor("red"), floor("soft-red"), floor("yellow"), floor("green")];
    section.finish(problems);
    let [red, soft_red, yellow, green] = floors;
    Some([red?, soft_red?, yellow?, green?])
}

fn check_floors(
    floors: &[Placed<BitsPerSecond>; 4],
    ceiling: &Placed<BitsPerSecond>,
    problems: &mut Problems,
) {
    let mut upper = ceiling;
    for floor in floors.iter().rev() {
        if floor.value > upper.value {
            let subject = format!("{} = \"{}\"", floor.key, show_rate(floor.value));
            let message = format!("must not be above {} ({})", upper.key, show_rate(upper.value));
            let hint = "red <= soft-red <= yellow <= green <= ceiling".to_owned();
            let reason = ExitReason::ConfigValue;
            problems.add(reason, floor.at.clone(), subject, message, Some(hint));
            return;
        }
        upper = floor;
    }
}

fn check_within(
    placed: &Placed<BitsPerSecond>,
    (least, most): (BitsPerSecond, BitsPerSecond),
    what: &str,
    problems: &mut Problems,
) {
    if placed.value < least || placed.value > most {
        let subject = format!("{} = \"{}\"", placed.key, show_rate(placed.value));
        let message = format!("must be {what} ({} to {})", show_rate(least), show_rate(most));
        problems.add(ExitReason::ConfigValue, placed.at.clone(), subject, message, None);
    }
}

/// Reads `[wan.classic]`; every key has a default.
fn classic(
    section: Option<Section<'_>>,
    download: ShaperConfig,
    upload: ShaperConfig,
    tick: Duration,
    problems: &mut Problems,
) -> Option<ClassicConfig> {
    let mut classic = defaults(download, upload);
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
fn defaults(download: ShaperConfig, upload: ShaperConfig) -> ClassicConfig {
    let ms = embassy_time::Duration::from_millis;
    ClassicConfig {
        download,
        upload,
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
        blind: BlindConfig { mode: BlindMode::Graceful, limit: ms(1000) },
        write_limit: WriteLimit { writes: 20, window: ms(10_000) },
        quirks: Quirks::default(),
    }
}

fn write_limit(mut section: Section<'_>, problems: &mut Problems) -> Option<WriteLimit> {
    let writes = section.required(problems, "writes", |value| {
        let number = value.as_integer().and_then(|number| number.as_str().parse().ok());
        number
            .filter(|writes: &u8| (1..=MAX_WRITES_PER_WINDOW).contains(&usize::from(*writes)))
            .ok_or_else(|| format!("expected a whole number from 1 to {MAX_WRITES_PER_WINDOW}"))
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

fn rate(value: &DeValue<'_>) -> Result<BitsPerSecond, String> {
    let rate = quantity::rate(value.as_str().unwrap_or_default())?;
    if rate < BitsPerSecond::new(1000) {
        return Err("expected a rate of at least \"1k\" (0 would mean unlimited)".to_owned());
    }
    Ok(rate)
}

/// Reads a factor in parts per million.
fn ratio(value: &DeValue<'_>) -> Result<u32, String> {
    let text = match value {
        DeValue::Float(float) => float.as_str(),
        DeValue::Integer(integer) => integer.as_str(),
        _ => "",
    };
    quantity::decimal(text, 6)
        .and_then(|ppm| u32::try_from(ppm).ok())
        .filter(|ppm| (100_000..=1_000_000).contains(ppm))
        .ok_or_else(|| "expected a factor from 0.1 to 1.0".to_owned())
}

fn address(value: &DeValue<'_>) -> Result<Ipv4Addr, String> {
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|_| "expected an IPv4 address such as \"192.0.2.1\"".to_owned())
}

fn reflectors(value: &DeValue<'_>) -> Result<Vec<Ipv4Addr>, String> {
    let expected = || format!("expected a list of 1 to {MAX_REFLECTORS} different IPv4 addresses");
    let list = value.as_array().ok_or_else(expected)?;
    let mut addresses = Vec::new();
    for item in list.iter() {
        let address = address(item.get_ref())?;
        if addresses.contains(&address) {
            return Err(expected());
        }
        addresses.push(address);
    }
    if (1..=MAX_REFLECTORS).contains(&addresses.len()) { Ok(addresses) } else { Err(expected()) }
}

fn identifier(value: &DeValue<'_>) -> Result<String, String> {
    name(value, "_.-")
}

fn queue_name(value: &DeValue<'_>) -> Result<String, String> {
    name(value, "_.-: ")
}

/// Reads a name of 1 to 64 ASCII letters, digits and some other characters.
fn name(value: &DeValue<'_>, others: &str) -> Result<String, String> {
    let text = value.as_str().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    if (1..=64).contains(&text.len()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!("expected 1 to 64 letters, digits or any of `{others}`"))
    }
}
