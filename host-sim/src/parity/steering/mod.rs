//! Golden parity of steering: the core against recorded runs of the reference's steering daemon.
//!
//! A trace says what each cycle of the reference read; reading, and doing without what cannot be
//! read, is done here as the reference does it, and the core decides. State, counters, score and
//! calls must be equal in every row, timers to a microsecond, filters to 1 µs and a thousandth of a
//! packet, and the assessment unless the filtered delay is within 2 µs of a threshold.

mod columns;
mod run;
mod settings;
mod trace;

use std::path::Path;

use anyhow::Result;

use self::columns::{COLUMNS, is_near_threshold};
use self::run::{Reading, Run};
pub use self::settings::{DropsColumn, KEYS, RttHistory, SteeringSettings};
use self::trace::TraceRow;
use super::report::Report;
use super::table::Table;

/// Runs steering over a trace and compares each row with the expected one.
///
/// What the settings leave open about the reading of the trace is tried both ways; the report is
/// about the reading that agrees, or agrees longest, and says which it is.
///
/// # Errors
///
/// A file that cannot be read, or settings that contradict each other.
pub fn compare(trace: &Path, expected: &Path, settings: &SteeringSettings) -> Result<Report> {
    settings.check()?;
    let files = Files::read(trace, expected)?;
    let mut reports = Vec::new();
    for reading in Reading::all(settings) {
        reports.push((reading, files.compare(settings, reading)?));
    }
    // Of equals, the first.
    let length = |report: &Report| report.first_difference().map_or(usize::MAX, |row| row);
    let longest = reports.iter().map(|(_, report)| length(report)).max().unwrap_or_default();
    let best = reports.iter().position(|(_, report)| length(report) == longest).unwrap_or_default();
    let (reading, mut report) = reports.swap_remove(best);
    for (other, other_report) in &reports {
        if let Some(question) = reading.question(*other) {
            let answer = reading.answer(question);
            report.note(match other_report.first_difference() {
                Some(row) if row < longest => format!(
                    "{question}={answer} was found out: with {question}={} row {} disagrees",
                    other.answer(question),
                    row + 1
                ),
                _ => format!("{question}={answer} is a guess: the files do not depend on it"),
            });
        }
    }
    Ok(report)
}

struct Files {
    trace: Table,
    rows: Vec<TraceRow>,
    expected: Table,
    /// Whether the expected file shows a score.
    is_confident: bool,
}

impl Files {
    fn read(trace: &Path, expected: &Path) -> Result<Self> {
        let (trace, expected) = (Table::read(trace)?, Table::read(expected)?);
        let rows = trace::rows(&trace)?;
        let is_confident = (0..expected.len()).any(|row| expected.cell(row, "conf").is_some());
        Ok(Self { trace, rows, expected, is_confident })
    }

    fn compare(&self, settings: &SteeringSettings, reading: Reading) -> Result<Report> {
        let config = settings.config(self.is_confident);
        let mut run = Run::new(&config, settings.baseline_bounds_ms, reading);
        let mut report = Report::new(&COLUMNS, &trace::COLUMNS, &self.trace, &self.expected)?;
        let mut fatal = None;
        for (index, row) in self.rows.iter().take(report.rows()).enumerate() {
            let (actual, was_fatal) = run.row(row)?;
            if was_fatal {
                fatal.get_or_insert(index);
            }
            let near = is_near_threshold(&actual, &config);
            report.compare(&COLUMNS, &self.expected, index, &actual, near)?;
        }
        if let Some(row) = fatal {
            report.note(format!(
                "{}: row {} has more than 1000 packets or a delay above 1000 ms, which ends the \
                 reference; taken as a cycle that fails",
                self.trace.name(),
                row + 1
            ));
        }
        Ok(report)
    }
}
