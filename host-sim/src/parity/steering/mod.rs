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
use self::run::{QUESTIONS, Reading, Run};
pub use self::settings::{DropsColumn, FlapColumn, KEYS, RttHistory, SteeringSettings};
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
    let (mut attempts, mut error) = (Vec::new(), None);
    for reading in Reading::all(settings) {
        match files.compare(settings, reading) {
            Ok(report) => attempts.push(Attempt { reading, report }),
            Err(why) => error = Some(why),
        }
    }
    if let (Some(why), true) = (error, attempts.is_empty()) {
        return Err(why);
    }
    // Of equals, the first.
    let longest = attempts.iter().map(Attempt::length).max().unwrap_or_default();
    let best = attempts.iter().position(|attempt| attempt.length() == longest).unwrap_or_default();
    let mut best = attempts.swap_remove(best);
    for note in best.notes(&attempts) {
        best.report.note(note);
    }
    Ok(best.report)
}

/// One reading of the files, and how far it agreed.
struct Attempt {
    reading: Reading,
    report: Report,
}

impl Attempt {
    /// Returns in how many rows it agreed.
    fn length(&self) -> usize {
        self.report.first_difference().unwrap_or(usize::MAX)
    }

    /// Says which of the other readings do not agree as long, and which do.
    fn notes(&self, others: &[Self]) -> Vec<String> {
        let (mut notes, mut open) = (Vec::new(), Vec::new());
        let answers = self.reading.answers();
        for (index, question) in QUESTIONS.into_iter().enumerate() {
            let differs_only_here = |other: &&Self| {
                let is_same = |(at, (a, b)): (usize, (&str, &str))| (a == b) != (at == index);
                answers.into_iter().zip(other.reading.answers()).enumerate().all(is_same)
            };
            let Some(other) = others.iter().find(differs_only_here) else { continue };
            let (answer, rejected) = (answers[index], other.reading.answers()[index]);
            match other.report.first_difference() {
                Some(row) if row < self.length() => notes.push(format!(
                    "{question}={answer} was found out: with {question}={rejected}, row {} disagrees",
                    row + 1
                )),
                _ => open.push(format!("{question}={answer}")),
            }
        }
        if !open.is_empty() {
            notes.push(format!("assumed, the files do not tell: {}", open.join(", ")));
        }
        notes
    }
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
            let complain = || self.trace.complain(index, "drops", "takes the counter below 0");
            let (actual, was_fatal) = run.row(row).ok_or_else(complain)?;
            if was_fatal {
                fatal.get_or_insert(index);
            }
            let near = is_near_threshold(&actual, &config);
            report.compare(&COLUMNS, &self.expected, index, &actual, near)?;
        }
        if let Some(row) = fatal {
            report.note(format!(
                "{}:{}: more than 1000 packets or a delay above 1000 ms, which ends the reference; \
                 taken as a cycle that fails",
                self.trace.name(),
                self.trace.line(row)
            ));
        }
        Ok(report)
    }
}
