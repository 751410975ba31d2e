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
        // What was not measured is no number.
        let shown =
            |value: f64| if value.is_nan() { "-".to_owned() } else { format!("{value:.1}") };
        let _fits = writeln!(
            text,
            "{scenario:<14} {controller:<11} {phase:<14} {:>7} {:>7} {:>7} {:>7} {:>5.0} {:>6} {:>6} {:>6} \
             {:>6} {:>6.0} {:>5.0} {:>5.0}",
            shown(row.p50),
            shown(row.p95),
            shown(row.p99),
            shown(row.max),
            row.lost,
            shown(row.down),
            shown(row.capacity_down),
            shown(row.up),
            shown(row.capacity_up),
            row.writes,
            row.cuts_down,
            row.cuts_up
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_a_dash_below_its_head() {
        let none = f64::NAN;
        let row = Row {
            line: 1,
            phase: "15/6".to_owned(),
            p50: none,
            p95: 17.25,
            p99: none,
            max: none,
            lost: 0.0,
            down: none,
            up: 5.0,
            capacity_down: 15.0,
            capacity_up: 6.0,
            writes: 3.0,
            cuts_down: 1.0,
            cuts_up: 0.0,
        };
        let text = rows("fast", "none", &[row]);
        let columns: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(columns[2..9], ["15/6", "-", "17.2", "-", "-", "0", "-"]);
        assert_eq!(text.len(), head().len());
    }
}
