//! The `[wan.link]` and `[wan.checks]` tables.

use std::net::SocketAddrV4;
use std::time::Duration;

use toml::de::DeValue;
use wanctl_core::config::Checks;
use wanctl_core::example;
use wanctl_core::fixed::{MicrosQ32, PpmQ32};
use wanctl_core::link::LinkConfig;
use wanctl_core::quality::LinkQuality;

use super::load::{check_duration, duration, to_core};
use super::reader::{Placed, Problems, Section};
use super::wan::address;
use super::{CheckConfig, quantity};

use crate::exit::ExitReason;

/// The most TCP targets of one WAN.
const TCP_TARGETS_MAX: usize = 4;

/// Reads `[wan.link]`; every key has a default.
pub(super) fn read(section: Option<Section<'_>>, problems: &mut Problems) -> LinkConfig {
    let mut link = example::link();
    let Some(mut section) = section else { return link };
    let ms = Duration::from_millis;
    let mut set = |key, target: &mut embassy_time::Duration| {
        if let Some(placed) = section.optional(problems, key, duration) {
            check_duration(&placed, ms(0), ms(3_600_000), problems);
            *target = to_core(placed.value);
        }
    };
    set("warm-up", &mut link.warm_up);
    set("degrade-after", &mut link.degrade_after);
    set("improve-after", &mut link.improve_after);
    set("cooldown", &mut link.cooldown);
    set("outage-after", &mut link.outage_after);
    set("ramp", &mut link.ramp);
    if let Some(table) = section.table(problems, "good") {
        quality(table, &mut link.limits.good, problems);
    }
    if let Some(table) = section.table(problems, "bad") {
        quality(table, &mut link.limits.bad, problems);
    }
    let at = section.at();
    section.finish(problems);
    let (good, bad) = (&link.limits.good, &link.limits.bad);
    if good.delay > bad.delay
        || good.loss > bad.loss
        || good.jitter > bad.jitter
        || good.throughput_deviation > bad.throughput_deviation
    {
        let message = "every limit of `good` must be at or below that of `bad`";
        problems.add(ExitReason::ConfigValue, at, "wan.link", message, None);
    }
    link
}

fn quality(mut section: Section<'_>, quality: &mut LinkQuality, problems: &mut Problems) {
    let mut time = |key, target: &mut MicrosQ32| {
        if let Some(placed) = section.optional(problems, key, duration) {
            check_duration(&placed, Duration::ZERO, Duration::from_secs(10), problems);
            *target = to_core(placed.value).into();
        }
    };
    time("delay", &mut quality.delay);
    time("jitter", &mut quality.jitter);
    let mut share = |key, target: &mut PpmQ32| {
        if let Some(placed) = section.optional(problems, key, percent) {
            *target = placed.value;
        }
    };
    share("loss", &mut quality.loss);
    share("throughput-deviation", &mut quality.throughput_deviation);
    section.finish(problems);
}

/// Reads a share such as `"2%"`.
fn percent(value: &DeValue<'_>) -> Result<PpmQ32, String> {
    let number = value.as_str().and_then(|text| text.trim().strip_suffix('%'));
    number
        .and_then(|number| quantity::decimal(number.trim_end(), 4))
        .filter(|ppm| *ppm <= 10_000_000)
        .map(PpmQ32::from_ppm)
        .ok_or_else(|| "expected a share such as \"2%\"".to_owned())
}

/// Reads `[wan.checks]`: without it nothing is checked.
pub(super) fn checks(
    section: Option<Section<'_>>,
    problems: &mut Problems,
) -> (CheckConfig, Checks) {
    let mut config = CheckConfig::default();
    let mut every = Duration::from_secs(5);
    if let Some(mut section) = section {
        config.gateway = section.optional(problems, "gateway", address).map(value);
        config.tcp_targets =
            section.optional(problems, "tcp-targets", targets).map(value).unwrap_or_default();
        if let Some(placed) = section.optional(problems, "every", duration) {
            let (least, most) = (Duration::from_secs(1), Duration::from_secs(3600));
            check_duration(&placed, least, most, problems);
            every = placed.value;
        }
        section.finish(problems);
    }
    let checks = Checks::Asked {
        gateway: config.gateway.is_some(),
        tcp_targets: u8::try_from(config.tcp_targets.len()).unwrap_or(u8::MAX),
        every: to_core(every),
    };
    (config, checks)
}

fn value<T>(placed: Placed<T>) -> T {
    placed.value
}

fn targets(value: &DeValue<'_>) -> Result<Vec<SocketAddrV4>, String> {
    let expected =
        || format!("expected at most {TCP_TARGETS_MAX} addresses such as \"1.1.1.1:443\"");
    let list = value.as_array().ok_or_else(expected)?;
    if list.len() > TCP_TARGETS_MAX {
        return Err(expected());
    }
    let parse = |text: &str| text.parse().ok();
    list.iter()
        .map(|item| item.get_ref().as_str().and_then(parse))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(expected)
}
