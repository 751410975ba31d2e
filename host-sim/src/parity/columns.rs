//! The columns of an expected file of the shaper law.

use wanctl_core::config::ClassicConfig;
use wanctl_core::fixed::MicrosQ32;
use wanctl_core::snapshot::{DirectionSnapshot, TickResult, WanSnapshot};
use wanctl_core::units::BitsPerSecond;
use wanctl_core::zone::Zone;

use super::report::{Column, EXACT, Kind, Value, ZONE_SLACK_US, count};

/// What the core did in one row.
pub(super) struct Actual {
    pub(super) wan: WanSnapshot,
    pub(super) wrote: bool,
}

const RATE: Kind = Kind::Number(10.0);
const FILTER_MS: Kind = Kind::Number(0.001);
/// Delay is the difference of two filters.
const DELAY_MS: Kind = Kind::Number(0.002);
const ZONE: Kind = Kind::Word { read: zone_name, otherwise: "is not a zone", loose: true };

macro_rules! column {
    ($name:literal, $kind:expr, $unit:literal, $value:expr) => {
        Column { name: $name, kind: $kind, unit: $unit, value: $value }
    };
}

pub(super) const COLUMNS: [Column<Actual>; 17] = [
    column!("ok", EXACT, "", |row| count(u64::from(matches!(
        row.wan.result,
        TickResult::Controlled | TickResult::Frozen
    )))),
    column!("dl_state", ZONE, "", |row| Value::Word(down(row).zone.name())),
    column!("ul_state", ZONE, "", |row| Value::Word(up(row).zone.name())),
    column!("dl_rate", RATE, "bit/s", |row| rate(Some(down(row).wanted))),
    column!("ul_rate", RATE, "bit/s", |row| rate(Some(up(row).wanted))),
    column!("load_rtt", FILTER_MS, "ms", |row| millis(row.wan.load)),
    column!("baseline_rtt", FILTER_MS, "ms", |row| millis(row.wan.baseline)),
    column!("delta", DELAY_MS, "ms", |row| millis(row.wan.delay)),
    column!("router_write", EXACT, "", |row| count(u64::from(row.wrote))),
    column!("applied_dl", RATE, "bit/s", |row| rate(down(row).commanded)),
    column!("applied_ul", RATE, "bit/s", |row| rate(up(row).commanded)),
    column!("dl_green", EXACT, "", |row| count(down(row).streaks.green.into())),
    column!("dl_soft", EXACT, "", |row| count(down(row).streaks.soft_red.into())),
    column!("dl_red", EXACT, "", |row| count(down(row).streaks.red.into())),
    column!("ul_green", EXACT, "", |row| count(up(row).streaks.green.into())),
    column!("ul_red", EXACT, "", |row| count(up(row).streaks.red.into())),
    column!("icmp_unavail", EXACT, "", |row| count(row.wan.blind_ticks.into())),
];

/// Returns whether the delay is so close to a threshold that rounding decides about the zone.
pub(super) fn is_near_threshold(actual: &Actual, classic: &ClassicConfig) -> bool {
    let thresholds = [classic.target_delay, classic.warn_delay, classic.hard_red_delay];
    let delay = micros_f64(actual.wan.delay);
    let distance = |threshold| (delay - micros_f64(MicrosQ32::from(threshold))).abs();
    thresholds.into_iter().any(|threshold| distance(threshold) < ZONE_SLACK_US)
}

fn down(row: &Actual) -> &DirectionSnapshot {
    &row.wan.directions.download
}

fn up(row: &Actual) -> &DirectionSnapshot {
    &row.wan.directions.upload
}

pub(super) fn zone_name(cell: &str) -> Option<&'static str> {
    let zones = [Zone::Green, Zone::Yellow, Zone::SoftRed, Zone::Red];
    zones.into_iter().map(Zone::name).find(|name| *name == cell)
}

fn rate(value: Option<BitsPerSecond>) -> Value {
    value.map_or(Value::Nothing, |rate| count(rate.get()))
}

fn millis(value: MicrosQ32) -> Value {
    Value::Number(micros_f64(value) / 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "2^-20 µs is more than enough for comparing")]
pub(super) fn micros_f64(value: MicrosQ32) -> f64 {
    value.to_bits() as f64 / 4_294_967_296.0
}
