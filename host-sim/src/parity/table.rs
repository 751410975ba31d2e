//! CSV files with named columns.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use wanctl_core::units::RttNanos;

/// A CSV file in memory; columns are found by name, in any order.
pub(super) struct Table {
    path: PathBuf,
    header: csv::StringRecord,
    rows: Vec<csv::StringRecord>,
}

/// One row of an input trace.
pub(super) struct TraceRow {
    /// The reply, if there was one.
    pub(super) rtt: Option<RttNanos>,
    /// Whether the other connectivity checks succeed.
    pub(super) connected: bool,
}

impl Table {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let name = || path.display().to_string();
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_path(path)
            .with_context(|| format!("{}: cannot be read", name()))?;
        let header = reader.headers().with_context(name)?.clone();
        let rows = reader.records().collect::<Result<Vec<_>, _>>().with_context(name)?;
        Ok(Self { path: path.to_path_buf(), header, rows })
    }

    /// Returns the file's name as the user gave it.
    pub(super) fn name(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns the number of the line that a row is in.
    pub(super) fn line(&self, row: usize) -> u64 {
        self.rows.get(row).and_then(csv::StringRecord::position).map_or(0, csv::Position::line)
    }

    /// Returns the number of the last line.
    pub(super) fn last_line(&self) -> u64 {
        self.len().checked_sub(1).map_or(1, |last| self.line(last))
    }

    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// Returns the names of all columns.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.header.iter()
    }

    /// Returns a cell as it is written; a column that is not there is `None`.
    pub(super) fn raw_cell(&self, row: usize, name: &str) -> Option<&str> {
        self.rows.get(row)?.get(self.column(name)?)
    }

    /// Returns a cell; an empty one or a column that is not there is `None`.
    pub(super) fn cell(&self, row: usize, name: &str) -> Option<&str> {
        self.raw_cell(row, name).filter(|cell| !cell.is_empty() && *cell != "None")
    }

    /// Returns a cell as a number.
    pub(super) fn number(&self, row: usize, name: &str) -> Result<Option<f64>> {
        let Some(cell) = self.cell(row, name) else { return Ok(None) };
        let number = match cell {
            "True" | "true" => 1.0,
            "False" | "false" => 0.0,
            _ => cell.parse().map_err(|_| self.complain(row, name, "is not a number"))?,
        };
        Ok(Some(number))
    }

    pub(super) fn complain(&self, row: usize, name: &str, what: &str) -> anyhow::Error {
        let line = self.line(row);
        let cell = self.cell(row, name).unwrap_or_default();
        anyhow!("{}:{line}: column {name}: `{cell}` {what}", self.name())
    }

    /// Reads one row of an input trace.
    pub(super) fn trace_row(&self, row: usize) -> Result<TraceRow> {
        if self.column("rtt_ms").is_none() {
            bail!("{}:1: a trace needs a column rtt_ms", self.name());
        }
        let rtt = match self.number(row, "rtt_ms")? {
            Some(millis) if (0.0..=2.0e6).contains(&millis) => Some(nanos(millis)),
            Some(_) => return Err(self.complain(row, "rtt_ms", "is not a round-trip time in ms")),
            None => None,
        };
        let connected = self.number(row, "conn")?.is_none_or(|conn| conn != 0.0);
        Ok(TraceRow { rtt, connected })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the caller has checked the range"
)]
fn nanos(millis: f64) -> RttNanos {
    RttNanos::new((millis * 1e6).round() as u64)
}
