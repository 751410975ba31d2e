//! What a run has to reach.

use super::summary::{ALL, Row};

/// A number of the row of a whole run, and what it has to be.
struct Goal {
    what: &'static str,
    value: fn(&Row) -> f64,
    /// The lowest and the highest that is good.
    range: (f64, f64),
}

const DOWN: fn(&Row) -> f64 = |row| row.down;
const UP: fn(&Row) -> f64 = |row| row.up;
const P95: fn(&Row) -> f64 = |row| row.p95;
const P99: fn(&Row) -> f64 = |row| row.p99;
const ANY: f64 = f64::INFINITY;

const fn goal(what: &'static str, value: fn(&Row) -> f64, low: f64, high: f64) -> Goal {
    Goal { what, value, range: (low, high) }
}

/// The row of a fixed CAKE at 20/8 Mbit/s in docs/rig.md: 1.5 ms, 16.3 and 6.7 Mbit/s.
const SELF_CHECK: [Goal; 3] = [
    goal("p50 within 1 ms of 1.5", |row| row.p50, 0.5, 2.5),
    goal("download within 10 % of 16.3", DOWN, 14.67, 17.93),
    goal("upload within 10 % of 6.7", UP, 6.03, 7.37),
];
const DROP_LINUX: [Goal; 4] = [
    goal("download 30", DOWN, 30.0, ANY),
    goal("upload 12", UP, 12.0, ANY),
    goal("p95 25 ms", P95, -ANY, 25.0),
    goal("p99 70 ms", P99, -ANY, 70.0),
];
const DROP_ROUTEROS: [Goal; 4] = [
    goal("download 28.5", DOWN, 28.5, ANY),
    goal("upload 11.5", UP, 11.5, ANY),
    goal("p95 35 ms", P95, -ANY, 35.0),
    goal("p99 110 ms", P99, -ANY, 110.0),
];
const DOWNLOAD: [Goal; 3] = [
    goal("download 31", DOWN, 31.0, ANY),
    goal("p95 20 ms", P95, -ANY, 20.0),
    goal("upload never cut", |row| row.cuts_up, 0.0, 0.0),
];
const IDLE: [Goal; 2] = [
    goal("no cut", |row| row.cuts_down + row.cuts_up, 0.0, 0.0),
    goal("no write", |row| row.writes, 0.0, 0.0),
];

fn goals(scenario: &str, controller: &str) -> &'static [Goal] {
    match (scenario, controller) {
        ("drop-and-rise", "none") => &SELF_CHECK,
        ("drop-and-rise", "linux-cake") => &DROP_LINUX,
        ("drop-and-rise", "routeros") => &DROP_ROUTEROS,
        ("download-only", "linux-cake" | "routeros") => &DOWNLOAD,
        ("idle-noise", "linux-cake" | "routeros") => &IDLE,
        _ => &[],
    }
}

/// Says of each goal whether it is met, and by how much.
pub(crate) fn judge(scenario: &str, controller: &str, rows: &[Row]) -> Vec<(bool, String)> {
    let Some(row) = rows.iter().find(|row| row.phase == ALL && row.line == 1) else {
        return Vec::new();
    };
    let judged = |goal: &Goal| {
        let value = (goal.value)(row);
        let is_met = (goal.range.0..=goal.range.1).contains(&value);
        let verdict = if is_met { "met" } else { "MISSED" };
        (is_met, format!("{verdict}: {} ({value:.1})", goal.what))
    };
    goals(scenario, controller).iter().map(judged).collect()
}
