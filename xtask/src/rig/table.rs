//! Rows as text.

use std::fmt::Write as _;

use super::summary::Row;

/// Heads the columns of [`rows`].
pub(crate) fn head() -> String {
    format!(
        "{:<14} {:<11} {:<14} {:>7} {:>7} {:>7} {:>7} {:>5} {:>6} {:>6} {:>6} {:>6} {:>6} {:>5} {:>5}\n",
        "scenario",
        "backend",
        "phase",
        "p50",
        "p95",
        "p99",
        "max",
        "lost",
        "down",
        "of",
        "up",
        "of",
        "writes",
        "cut-d",
        "cut-u"
    )
}

/// Writes rows below each other. Delays are ms above the idle line's, rates Mbit/s.
pub(crate) fn rows(scenario: &str, controller: &str, rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let phase = if row.line == 1 {
            row.phase.clone()
        } else {
            format!("line {}: {}", row.line, row.phase)
        };
        let rate = |value: f64| if value.is_nan() { "-".to_owned() } else { format!("{value:.1}") };
        let _fits = writeln!(
            text,
            "{scenario:<14} {controller:<11} {phase:<14} {:>7.1} {:>7.1} {:>7.1} {:>7.1} {:>5.0} {:>6} {:>6} {:>6} \
             {:>6} {:>6.0} {:>5.0} {:>5.0}",
            row.p50,
            row.p95,
            row.p99,
            row.max,
            row.lost,
            rate(row.down),
            rate(row.capacity_down),
            rate(row.up),
            rate(row.capacity_up),
            row.writes,
            row.cuts_down,
            row.cuts_up
        );
    }
    text
}
