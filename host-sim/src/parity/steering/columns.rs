//! The columns of an expected file of steering.

use embassy_time::Duration;
use wanctl_core::fixed::MicrosQ32;
use wanctl_core::steering::{SteeringConfig, SteeringSnapshot, SteeringWanSnapshot};

use super::settings::FlapColumn;
use crate::parity::columns::{micros_f64, zone_name};
use crate::parity::report::{Column, EXACT, Kind, Value, ZONE_SLACK_US, count};

/// What the core did in one row.
pub(super) struct Actual {
    /// Whether the cycle came to its end.
    pub(super) ok: bool,
    pub(super) snapshot: SteeringSnapshot,
    pub(super) primary: SteeringWanSnapshot,
    /// What the `flap` column means.
    pub(super) flap: FlapColumn,
    /// What the router was told, whether it did it or not.
    pub(super) call: &'static str,
}

/// The call that steers traffic away, and the one that brings it back.
pub(super) const ENABLE: &str = "E";
pub(super) const DISABLE: &str = "D";

const STATE: Kind = Kind::Word {
    read: state_name,
    otherwise: "is not a state; expected NAME_GOOD or NAME_DEGRADED",
    loose: false,
};
const ASSESSMENT: Kind = Kind::Word {
    read: zone_name,
    otherwise: "is not a zone; expected GREEN, YELLOW, SOFT_RED or RED",
    loose: true,
};
const CALLS: Kind = Kind::Word {
    read: call_name,
    otherwise: "is not a call; expected E, D or nothing",
    loose: false,
};
const DELAY_MS: Kind = Kind::Number(0.001);
const PACKETS: Kind = Kind::Number(0.001);
const TIMER_S: Kind = Kind::Optional(0.000_001);

macro_rules! column {
    ($name:literal, $kind:expr, $unit:literal, $value:expr) => {
        Column { name: $name, kind: $kind, unit: $unit, value: $value }
    };
}

pub(super) const COLUMNS: [Column<Actual>; 14] = [
    column!("ok", EXACT, "", |row| count(u64::from(row.ok))),
    column!("state", STATE, "", |row| Value::Word(match row.snapshot.steered_to {
        None => "GOOD",
        Some(_) => "DEGRADED",
    })),
    column!("assess", ASSESSMENT, "", |row| Value::Word(row.primary.zone.name())),
    column!("red", EXACT, "", |row| count(row.snapshot.red_ticks.into())),
    column!("good", EXACT, "", |row| count(row.snapshot.green_ticks.into())),
    column!("delta_ewma", DELAY_MS, "ms", |row| Value::Number(micros_f64(row.primary.delay) / 1e3)),
    column!("queue_ewma", PACKETS, "packets", |row| packets(row)),
    column!("conf", EXACT, "", |row| count(row.primary.score.into())),
    column!("degrade_t", TIMER_S, "s", |row| timer(row.snapshot.steer_left)),
    column!("hold_t", TIMER_S, "s", |row| timer(row.snapshot.hold_down_left)),
    column!("recover_t", TIMER_S, "s", |row| timer(row.snapshot.recovery_left)),
    column!("flap", EXACT, "", |row| count(match row.flap {
        FlapColumn::Penalty => u64::from(row.snapshot.penalty_left.is_some()),
        FlapColumn::Toggles => row.snapshot.toggles.try_into().unwrap_or(u64::MAX),
    })),
    column!("calls", CALLS, "", |row| Value::Word(row.call)),
    column!("cake_fail", EXACT, "", |row| count(row.primary.failed_readings.into())),
];

/// Returns whether the filtered delay is so close to a threshold that rounding decides about the
/// zone.
pub(super) fn is_near_threshold(actual: &Actual, config: &SteeringConfig) -> bool {
    let delay = micros_f64(actual.primary.delay);
    let distance = |threshold| (delay - micros_f64(MicrosQ32::from(threshold))).abs();
    let thresholds = [config.thresholds.yellow_delay, config.thresholds.red_delay];
    thresholds.into_iter().any(|threshold| distance(threshold) < ZONE_SLACK_US)
}

#[expect(clippy::cast_precision_loss, reason = "2^-20 packets are more than enough for comparing")]
fn packets(row: &Actual) -> Value {
    Value::Number(row.primary.backlog.to_bits() as f64 / 4_294_967_296.0)
}

#[expect(clippy::cast_precision_loss, reason = "a timer is far below 2^53 µs")]
fn timer(left: Option<Duration>) -> Value {
    left.map_or(Value::Nothing, |left| Value::Number(left.as_micros() as f64 / 1e6))
}

fn state_name(cell: &str) -> Option<&'static str> {
    if cell.ends_with("_GOOD") {
        Some("GOOD")
    } else if cell.ends_with("_DEGRADED") {
        Some("DEGRADED")
    } else {
        None
    }
}

fn call_name(cell: &str) -> Option<&'static str> {
    ["", ENABLE, DISABLE].into_iter().find(|name| *name == cell)
}
