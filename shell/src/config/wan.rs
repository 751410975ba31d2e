//! One `[[wan]]` table.

use std::net::Ipv4Addr;
use std::time::Duration;

use toml::de::DeValue;
use wanctl_core::config::{LawConfig, ShaperConfig, ZoneFloors};
use wanctl_core::fixed::Ratio;
use wanctl_core::units::{BitsPerSecond, Direction, PerDirection};

use super::load::{BackendKind, string};
use super::reader::{Placed, Problems, Refusal, Section};
use super::{OnExit, WanConfig, adaptive, classic, link, quantity, reflectors, show_rate};
use crate::exit::ExitReason;

/// The lowest and the highest rate that make sense for a line.
const RATE_MIN: BitsPerSecond = BitsPerSecond::new(1_000);
const RATE_MAX: BitsPerSecond = BitsPerSecond::from_mbps(1_000_000);

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
    kind: BackendKind,
    tick: Duration,
    on_exit: OnExit,
    problems: &mut Problems,
) -> Option<ReadWan> {
    let name = section.required(problems, "name", identifier);
    let interface = section.optional(problems, "interface", string);
    let source = section.optional(problems, "source-address", address);
    let fwmark = section.optional(problems, "fwmark", fwmark);
    let source_v6 = section.optional(problems, "source-address-v6", reflectors::source_v6);
    let list = section.required(problems, "reflectors", reflectors::list);
    let active = section.optional(problems, "active-reflectors", reflectors::active);
    reflectors::check_active(list.as_ref(), active.as_ref(), problems);
    let has_way = interface.is_some() || fwmark.is_some();
    let has_source = [source.is_some(), source_v6.is_some()];
    reflectors::check_sources(list.as_ref(), has_source, has_way, problems);
    let download = one_direction(&mut section, Direction::Download, kind, on_exit, problems);
    let upload = one_direction(&mut section, Direction::Upload, kind, on_exit, problems);
    let law = section.optional(problems, "law", law);
    let adaptive_table = section.table(problems, "adaptive");
    let classic_table = section.table(problems, "classic");
    let law = choose_law(law, adaptive_table.as_ref(), classic_table.as_ref(), problems);
    let link_table = section.table(problems, "link");
    let checks_table = section.table(problems, "checks");
    section.finish(problems);
    let classic = classic::read(classic_table, tick, problems);
    let adaptive = adaptive::read(adaptive_table, kind, problems);
    let link = Some(link::read(link_table, problems));
    let (check_config, checks) = link::checks(checks_table, problems);
    let (download, upload, name, reflectors) = (download?, upload?, name?, list?.value);
    let shapers = PerDirection { download: download.core, upload: upload.core };
    let shell = WanConfig {
        name: name.value.clone(),
        interface: interface.map(|interface| interface.value),
        source_address: source.map(|source| source.value),
        source_address_v6: source_v6.map(|source| source.value),
        fwmark: fwmark.map(|fwmark| fwmark.value),
        reflectors,
        active_reflectors: active.map(|active| active.value),
        queues: PerDirection {
            download: download.queue.value.clone(),
            upload: upload.queue.value.clone(),
        },
        checks: check_config,
        fail_safe: PerDirection { download: download.fail_safe, upload: upload.fail_safe },
    };
    let count = u8::try_from(shell.probe_path().active()).unwrap_or(u8::MAX);
    let mut classic = classic?;
    classic.blind.checks = checks;
    let law = match law {
        Law::Classic => LawConfig::Classic,
        Law::Adaptive => {
            // Zones keep their meaning: they classify the delay in multiples of the target.
            classic.target_delay = adaptive.target_delay;
            classic.warn_delay = adaptive.target_delay * 3;
            classic.hard_red_delay = adaptive.target_delay * 6;
            LawConfig::Adaptive(adaptive)
        }
    };
    let core = wanctl_core::config::WanConfig { reflectors: count, shapers, link, classic, law };
    Some(ReadWan { shell, core, unique: vec![name, download.queue, upload.queue] })
}

fn one_direction(
    section: &mut Section<'_>,
    direction: Direction,
    kind: BackendKind,
    on_exit: OnExit,
    problems: &mut Problems,
) -> Option<ReadShaper> {
    let Some(mut table) = section.table(problems, direction.name()) else {
        let message = "this table is required and missing";
        let name = format!("wan.{}", direction.name());
        problems.add(ExitReason::ConfigText, section.at(), name, message, None);
        return None;
    };
    let queue = match kind {
        BackendKind::RouterOs => router_queue(section, &mut table, direction, problems),
        BackendKind::LinuxCake => cake_queue(section, &mut table, direction, problems),
    };
    shaper(table, queue, direction, on_exit, problems)
}

/// Which law decides on the rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Law {
    Adaptive,
    Classic,
}

fn law(value: &DeValue<'_>) -> Result<Law, String> {
    match value.as_str() {
        Some("adaptive") => Ok(Law::Adaptive),
        Some("classic") => Ok(Law::Classic),
        _ => Err("expected \"adaptive\" or \"classic\"".to_owned()),
    }
}

/// Without `law` the table that is there decides; without tables it is the adaptive law.
fn choose_law(
    law: Option<Placed<Law>>,
    adaptive: Option<&Section<'_>>,
    classic: Option<&Section<'_>>,
    problems: &mut Problems,
) -> Law {
    let default = if classic.is_some() { Law::Classic } else { Law::Adaptive };
    let chosen = law.map_or(default, |placed| placed.value);
    let unused = match chosen {
        Law::Adaptive => classic.map(|section| (section, "classic")),
        Law::Classic => adaptive.map(|section| (section, "adaptive")),
    };
    if let Some((section, name)) = unused {
        let message = "this table belongs to a law that is not used";
        let hint = Some("choose with `law = \"adaptive\"` or `law = \"classic\"`".to_owned());
        let reason = ExitReason::ConfigValue;
        problems.add(reason, section.at(), format!("wan.{name}"), message, hint);
    }
    chosen
}

/// The key of a WAN that names the interface of one direction's CAKE qdisc.
const fn interface_key(direction: Direction) -> &'static str {
    match direction {
        Direction::Download => "download-interface",
        Direction::Upload => "upload-interface",
    }
}

/// Reads the name of a queue tree entry.
fn router_queue(
    wan: &mut Section<'_>,
    table: &mut Section<'_>,
    direction: Direction,
    problems: &mut Problems,
) -> Option<Placed<String>> {
    if let Some(placed) = wan.optional(problems, interface_key(direction), string) {
        let message = "this key belongs to `backend = \"linux-cake\"`, which is not used";
        let hint = Some(format!("name the router's queue in [wan.{}]", direction.name()));
        problems.add(ExitReason::ConfigValue, placed.at, placed.key, message, hint);
    }
    table.required(problems, "queue", queue_name)
}

/// Reads the name of an interface with CAKE.
fn cake_queue(
    wan: &mut Section<'_>,
    table: &mut Section<'_>,
    direction: Direction,
    problems: &mut Problems,
) -> Option<Placed<String>> {
    let key = interface_key(direction);
    if let Some(placed) = table.optional(problems, "queue", string) {
        let message = "this key belongs to `backend = \"routeros\"`, which is not used";
        let hint = Some(format!("name the interface with CAKE: {key} = \"...\" in [[wan]]"));
        problems.add(ExitReason::ConfigValue, placed.at, placed.key, message, hint);
    }
    wan.required(problems, key, interface_name)
}

fn shaper(
    mut section: Section<'_>,
    queue: Option<Placed<String>>,
    direction: Direction,
    on_exit: OnExit,
    problems: &mut Problems,
) -> Option<ReadShaper> {
    let at = section.at();
    let ceiling = section.required(problems, "ceiling", rate);
    let floor = section.optional(problems, "floor", rate);
    let floors_table = section.table(problems, "floors");
    let one_is_given = section.has("floor") != section.has("floors");
    let step_up = section.optional(problems, "step-up", rate);
    let factor_down = section.optional(problems, "factor-down", ratio);
    let factor_down_yellow = section.optional(problems, "factor-down-yellow", ratio);
    let fail_safe = section.optional(problems, "fail-safe", rate);
    section.finish(problems);
    let zones = floors_table.map(|table| zone_floors(table, problems));
    let floors = match (floor, zones) {
        (Some(floor), None) => [floor.clone(), floor.clone(), floor.clone(), floor],
        (None, Some(zones)) => zones?,
        // One was given, and what is wrong with it has been said.
        (None, None) if one_is_given => return None,
        (floor, _) => {
            let message = "give either `floor` (one for all zones) or `floors` (one per zone)";
            let at = floor.map_or(at, |floor| floor.at);
            let subject = format!("wan.{}.floor", direction.name());
            problems.add(ExitReason::ConfigText, at, subject, message, None);
            return None;
        }
    };
    let (ceiling, queue) = (ceiling?, queue?);
    let floors_fit = check_floors(&floors, &ceiling, problems);
    if let Some(placed) = &fail_safe {
        // Bounds that are wrong themselves are no measure.
        if floors_fit {
            check_within(placed, (floors[0].value, ceiling.value), problems);
        }
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
) -> bool {
    let mut upper = ceiling;
    for floor in floors.iter().rev() {
        if floor.value > upper.value {
            let subject = format!("{} = \"{}\"", floor.key, show_rate(floor.value));
            let message = format!("must not be above {} ({})", upper.key, show_rate(upper.value));
            let hint = "red <= soft-red <= yellow <= green <= ceiling".to_owned();
            let reason = ExitReason::ConfigValue;
            problems.add(reason, floor.at.clone(), subject, message, Some(hint));
            return false;
        }
        upper = floor;
    }
    true
}

fn check_within(
    placed: &Placed<BitsPerSecond>,
    (least, most): (BitsPerSecond, BitsPerSecond),
    problems: &mut Problems,
) {
    if placed.value < least || placed.value > most {
        let subject = format!("{} = \"{}\"", placed.key, show_rate(placed.value));
        let message =
            format!("must be floor to ceiling ({} to {})", show_rate(least), show_rate(most));
        problems.add(ExitReason::ConfigValue, placed.at.clone(), subject, message, None);
    }
}

fn rate(value: &DeValue<'_>) -> Result<BitsPerSecond, Refusal> {
    let rate = quantity::rate(value.as_str().unwrap_or_default())?;
    if rate < RATE_MIN || rate > RATE_MAX {
        let (least, most) = (show_rate(RATE_MIN), show_rate(RATE_MAX));
        let message = format!("must be {least} to {most} (0 would mean unlimited)");
        return Err(Refusal::out_of_range(message));
    }
    Ok(rate)
}

/// Reads a factor in parts per million.
fn ratio(value: &DeValue<'_>) -> Result<u32, Refusal> {
    let text = match value {
        DeValue::Float(float) => float.as_str(),
        DeValue::Integer(integer) => integer.as_str(),
        _ => "",
    };
    let expected = "expected a factor from 0.1 to 1.0";
    let ppm = quantity::decimal(text, 6).ok_or_else(|| expected.to_owned())?;
    let in_range = u32::try_from(ppm).ok().filter(|ppm| (100_000..=1_000_000).contains(ppm));
    in_range.ok_or_else(|| Refusal::out_of_range(expected))
}

pub(super) fn address(value: &DeValue<'_>) -> Result<Ipv4Addr, String> {
    let text = value.as_str().unwrap_or_default();
    text.parse().map_err(|_| "expected an IPv4 address such as \"192.0.2.1\"".to_owned())
}

fn fwmark(value: &DeValue<'_>) -> Result<u32, Refusal> {
    let expected = || "expected a firewall mark from 1 to 0xffffffff, such as 0x2".to_owned();
    let integer = value.as_integer().ok_or_else(expected)?;
    match u32::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(0) | Err(_) => Err(Refusal::out_of_range(expected())),
        Ok(mark) => Ok(mark),
    }
}

fn identifier(value: &DeValue<'_>) -> Result<String, String> {
    name(value, "_.-")
}

fn queue_name(value: &DeValue<'_>) -> Result<String, String> {
    name(value, "_.-: ")
}

/// Reads the name of a network interface as Linux allows them.
fn interface_name(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().unwrap_or_default();
    let fits = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if (1..=15).contains(&text.len()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("expected the name of an interface, such as \"ifb4wan\"".to_owned())
    }
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
