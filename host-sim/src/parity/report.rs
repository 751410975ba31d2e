//! The comparison of a run with an expected file, column by column, and what is said about it.

use std::io::Write;

use anyhow::{Result, bail};

use super::table::Table;

/// What the core has in one cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Number(f64),
    Word(&'static str),
    Nothing,
}

/// How a cell is read and compared.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A number that may differ by this much; an empty cell or `None` is not compared.
    Number(f64),
    /// The same, but `None` means that the core must have nothing there either.
    Optional(f64),
    /// One of several words; an empty one is compared only if it is one of them.
    Word {
        /// Returns the core's word for a cell.
        read: fn(&str) -> Option<&'static str>,
        /// What is said about other cells.
        otherwise: &'static str,
        /// Whether it may differ in rows that are next to a threshold.
        loose: bool,
    },
}

impl Kind {
    const fn is_loose(self) -> bool {
        matches!(self, Self::Word { loose: true, .. })
    }
}

/// A column of an expected file: what it means to the core and how exact it must be.
pub(super) struct Column<A> {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: &'static str,
    pub(super) value: fn(&A) -> Value,
}

/// A column that is compared exactly.
pub(super) const EXACT: Kind = Kind::Number(0.0);

/// How close to a threshold a zone may differ, in µs.
pub(super) const ZONE_SLACK_US: f64 = 2.0;

#[expect(clippy::cast_precision_loss, reason = "counts and rates stay far below 2^53")]
pub(super) fn count(value: u64) -> Value {
    Value::Number(value as f64)
}

/// What became of one column.
#[derive(Debug, Clone)]
struct ColumnResult {
    name: &'static str,
    unit: &'static str,
    present: bool,
    compared: u64,
    largest: f64,
    first: Option<String>,
}

/// The comparison of one run, column by column.
#[derive(Debug)]
pub struct Report {
    results: Vec<ColumnResult>,
    rows: usize,
    /// What is said when the files differ in length.
    other_length: Option<String>,
    /// Columns of the expected file that mean nothing here.
    unknown: Vec<String>,
    /// What else there is to say.
    notes: Vec<String>,
    /// The first row that rounding explains, and the first that disagreed in what must be equal.
    first_near: Option<usize>,
    first_different: Option<usize>,
}

impl Report {
    /// Starts a report for the columns that the expected file has; `inputs` are the names of columns
    /// that it may repeat from the trace.
    pub(super) fn new<A>(
        columns: &[Column<A>],
        inputs: &[&str],
        trace: &Table,
        expected: &Table,
    ) -> Result<Self> {
        let result = |column: &Column<A>| ColumnResult {
            name: column.name,
            unit: column.unit,
            present: expected.column(column.name).is_some(),
            compared: 0,
            largest: 0.0,
            first: None,
        };
        let results: Vec<_> = columns.iter().map(result).collect();
        if results.iter().all(|result| !result.present) {
            let names: Vec<_> = columns.iter().map(|column| column.name).collect();
            bail!(
                "{}:1: none of these columns can be compared; expected some of {}",
                expected.name(),
                names.join(", ")
            );
        }
        let is_unknown = |name: &&str| {
            !inputs.contains(name) && columns.iter().all(|column| column.name != *name)
        };
        let unknown = expected.columns().filter(is_unknown).map(str::to_owned).collect();
        Ok(Self {
            results,
            rows: trace.len().min(expected.len()),
            other_length: other_length(trace, expected),
            unknown,
            notes: Vec::new(),
            first_near: None,
            first_different: None,
        })
    }

    /// Returns how many rows there are to compare.
    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a line to what is printed.
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Compares one row; `near` tells that a delay of it is next to a threshold.
    pub(super) fn compare<A>(
        &mut self,
        columns: &[Column<A>],
        expected: &Table,
        row: usize,
        actual: &A,
        near: bool,
    ) -> Result<()> {
        for (column, result) in columns.iter().zip(&mut self.results) {
            let Some(wanted) = wanted(expected, row, column.name, column.kind)? else { continue };
            result.compared += 1;
            let got = (column.value)(actual);
            if result.judge(column.kind, wanted, got) {
                continue;
            }
            if near {
                self.first_near.get_or_insert(row);
            }
            if !(near && column.kind.is_loose()) {
                let seq = expected.cell(row, "seq");
                let seq = seq.map_or_else(|| row.to_string(), str::to_owned);
                result.first.get_or_insert_with(|| {
                    format!("seq {seq}: expected {}, got {}", show(wanted), show(got))
                });
                self.first_different.get_or_insert(row);
            }
        }
        Ok(())
    }

    /// Returns whether something was compared and every column of every row agrees.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.cells() > 0 && self.other_length.is_none() && self.first_different.is_none()
    }

    /// Returns the first row that disagrees, counted from 0.
    #[must_use]
    pub const fn first_difference(&self) -> Option<usize> {
        self.first_different
    }

    /// Returns whether the first disagreement follows from a row whose delay is next to a threshold:
    /// there rounding decides, and both sides may be right.
    #[must_use]
    pub fn rounding_explains(&self) -> bool {
        matches!((self.first_near, self.first_different), (Some(near), Some(row)) if near <= row)
    }

    fn cells(&self) -> u64 {
        self.results.iter().map(|result| result.compared).sum()
    }

    /// Prints one line per column and the verdict.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written.
    pub fn print(&self, out: &mut impl Write) -> Result<()> {
        writeln!(
            out,
            "{:<13} {:>7} {:>20}   first disagreement",
            "column", "rows", "largest diff"
        )?;
        for result in &self.results {
            if !result.present {
                writeln!(out, "{:<13} {:>7}", result.name, "absent")?;
                continue;
            }
            let largest = format!("{:.7} {}", result.largest, result.unit);
            let first = result.first.as_deref().unwrap_or("-");
            writeln!(out, "{:<13} {:>7} {largest:>20}   {first}", result.name, result.compared)?;
        }
        if !self.unknown.is_empty() {
            writeln!(out, "not compared, unknown columns: {}", self.unknown.join(", "))?;
        }
        for line in self.notes.iter().chain(&self.other_length) {
            writeln!(out, "{line}")?;
        }
        if let (Some(near), true) = (self.first_near, self.rounding_explains()) {
            writeln!(
                out,
                "the first disagreement follows row {}, whose delay is within 2 µs of a threshold: \
                 there the zone is left to rounding, and everything after it may differ",
                near + 1
            )?;
        }
        let verdict = if self.agrees() { "parity holds" } else { "NO PARITY" };
        writeln!(out, "{verdict} over {} rows ({} cells compared)", self.rows, self.cells())?;
        Ok(())
    }
}

/// Complains about the shorter file, if there is one.
fn other_length(trace: &Table, expected: &Table) -> Option<String> {
    let (short, long) = match trace.len().cmp(&expected.len()) {
        std::cmp::Ordering::Less => (trace, expected),
        std::cmp::Ordering::Equal => return None,
        std::cmp::Ordering::Greater => (expected, trace),
    };
    Some(format!(
        "{}:{}: ends after {} rows; expected {}, as many as {} has",
        short.name(),
        short.last_line(),
        short.len(),
        long.len(),
        long.name()
    ))
}

/// Reads a cell of the expected file; `None` if there is nothing to compare with.
fn wanted(table: &Table, row: usize, name: &str, kind: Kind) -> Result<Option<Value>> {
    let Some(cell) = table.raw_cell(row, name) else { return Ok(None) };
    match kind {
        Kind::Number(_) => Ok(table.number(row, name)?.map(Value::Number)),
        Kind::Optional(_) if cell == "None" => Ok(Some(Value::Nothing)),
        Kind::Optional(_) => Ok(table.number(row, name)?.map(Value::Number)),
        Kind::Word { read, otherwise, .. } => match read(cell) {
            Some(word) => Ok(Some(Value::Word(word))),
            None if cell.is_empty() || cell == "None" => Ok(None),
            None => Err(table.complain(row, name, otherwise)),
        },
    }
}

impl ColumnResult {
    /// Returns whether a value is as it should be.
    fn judge(&mut self, kind: Kind, wanted: Value, got: Value) -> bool {
        match (kind, wanted, got) {
            (Kind::Number(most) | Kind::Optional(most), Value::Number(a), Value::Number(b)) => {
                let difference = (a - b).abs();
                self.largest = self.largest.max(difference);
                difference <= most
            }
            (Kind::Word { .. }, wanted, got) => {
                let equal = wanted == got;
                self.largest = self.largest.max(f64::from(u8::from(!equal)));
                equal
            }
            (Kind::Number(_), _, _) => false,
            (Kind::Optional(_), wanted, got) => wanted == got,
        }
    }
}

fn show(value: Value) -> String {
    match value {
        Value::Number(number) => format!("{number}"),
        Value::Word("") => "nothing".to_owned(),
        Value::Word(word) => word.to_owned(),
        Value::Nothing => "nothing".to_owned(),
    }
}
