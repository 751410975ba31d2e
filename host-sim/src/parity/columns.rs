//! The columns of an expected file: what each means and how exact it must be.

use std::io::Write;

use anyhow::{Result, bail};
use wanctl_core::config::ClassicConfig;
use wanctl_core::fixed::MicrosQ32;
use wanctl_core::snapshot::{DirectionSnapshot, TickResult, WanSnapshot};
use wanctl_core::units::BitsPerSecond;
use wanctl_core::zone::Zone;

use super::{Actual, Table};

/// A value of one cell.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Number(f64),
    Zone(Zone),
    Nothing,
}

/// How a column is compared.
#[derive(Debug, Clone, Copy)]
enum Tolerance {
    /// Numbers may differ by this much.
    Within(f64),
    /// Zones must be equal unless the delay is next to a threshold.
    Zone,
}

struct Column {
    name: &'static str,
    tolerance: Tolerance,
    unit: &'static str,
    value: fn(&Actual, &WanSnapshot) -> Value,
}

const EXACT: Tolerance = Tolerance::Within(0.0);
const RATE: Tolerance = Tolerance::Within(10.0);
const FILTER_MS: Tolerance = Tolerance::Within(0.001);
/// Delay is the difference of two filters.
const DELAY_MS: Tolerance = Tolerance::Within(0.002);
/// How close to a threshold a zone may differ, in µs.
const ZONE_SLACK_US: f64 = 2.0;

macro_rules! column {
    ($name:literal, $tolerance:expr, $unit:literal, $value:expr) => {
        Column { name: $name, tolerance: $tolerance, unit: $unit, value: $value }
    };
}

const COLUMNS: [Column; 17] = [
    column!("ok", EXACT, "", |_, wan| count(u64::from(matches!(
        wan.result,
        TickResult::Controlled | TickResult::Frozen
    )))),
    column!("dl_state", Tolerance::Zone, "", |_, wan| Value::Zone(down(wan).zone)),
    column!("ul_state", Tolerance::Zone, "", |_, wan| Value::Zone(up(wan).zone)),
    column!("dl_rate", RATE, "bit/s", |_, wan| rate(Some(down(wan).wanted))),
    column!("ul_rate", RATE, "bit/s", |_, wan| rate(Some(up(wan).wanted))),
    column!("load_rtt", FILTER_MS, "ms", |_, wan| millis(wan.load)),
    column!("baseline_rtt", FILTER_MS, "ms", |_, wan| millis(wan.baseline)),
    column!("delta", DELAY_MS, "ms", |_, wan| millis(wan.delay)),
    column!("router_write", EXACT, "", |actual, _| count(u64::from(actual.wrote))),
    column!("applied_dl", RATE, "bit/s", |_, wan| rate(down(wan).commanded)),
    column!("applied_ul", RATE, "bit/s", |_, wan| rate(up(wan).commanded)),
    column!("dl_green", EXACT, "", |_, wan| count(down(wan).streaks.green.into())),
    column!("dl_soft", EXACT, "", |_, wan| count(down(wan).streaks.soft_red.into())),
    column!("dl_red", EXACT, "", |_, wan| count(down(wan).streaks.red.into())),
    column!("ul_green", EXACT, "", |_, wan| count(up(wan).streaks.green.into())),
    column!("ul_red", EXACT, "", |_, wan| count(up(wan).streaks.red.into())),
    column!("icmp_unavail", EXACT, "", |_, wan| count(wan.blind_ticks.into())),
];

fn down(wan: &WanSnapshot) -> &DirectionSnapshot {
    &wan.directions.download
}

fn up(wan: &WanSnapshot) -> &DirectionSnapshot {
    &wan.directions.upload
}

#[expect(clippy::cast_precision_loss, reason = "counts and rates stay far below 2^53")]
fn count(value: u64) -> Value {
    Value::Number(value as f64)
}

fn rate(value: Option<BitsPerSecond>) -> Value {
    value.map_or(Value::Nothing, |rate| count(rate.get()))
}

fn millis(value: MicrosQ32) -> Value {
    Value::Number(micros_f64(value) / 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "2^-20 µs is more than enough for comparing")]
fn micros_f64(value: MicrosQ32) -> f64 {
    value.to_bits() as f64 / 4_294_967_296.0
}

/// What became of one column.
#[derive(Debug, Clone, Default)]
struct ColumnResult {
    present: bool,
    compared: u64,
    largest: f64,
    first: Option<String>,
}

/// The comparison of one run, column by column.
#[derive(Debug)]
pub struct Report {
    results: Vec<ColumnResult>,
    thresholds_us: [f64; 3],
    rows: (usize, usize),
    /// Columns of the expected file that mean nothing here.
    unknown: Vec<String>,
    /// The first row whose delay was next to a threshold, and the first that disagreed.
    first_near: Option<usize>,
    first_different: Option<usize>,
}

impl Report {
    /// Starts a report for the columns that the expected file has.
    pub(super) fn new(expected: &Table, classic: &ClassicConfig) -> Result<Self> {
        let results: Vec<_> = COLUMNS
            .iter()
            .map(|column| ColumnResult {
                present: expected.column(column.name).is_some(),
                ..ColumnResult::default()
            })
            .collect();
        if results.iter().all(|result| !result.present) {
            bail!("the expected file has none of the columns that can be compared");
        }
        let thresholds = [classic.target_delay, classic.warn_delay, classic.hard_red_delay];
        let thresholds_us = thresholds.map(|threshold| micros_f64(threshold.into()));
        let is_unknown = |name: &&str| {
            !["seq", "rtt_ms", "conn"].contains(name)
                && COLUMNS.iter().all(|column| column.name != *name)
        };
        let unknown = expected.columns().filter(is_unknown).map(str::to_owned).collect();
        let rows = (0, 0);
        let (first_near, first_different) = (None, None);
        Ok(Self { results, thresholds_us, rows, unknown, first_near, first_different })
    }

    pub(super) fn count_rows(&mut self, trace: usize, expected: usize) {
        self.rows = (trace, expected);
    }

    /// Compares one row.
    pub(super) fn compare(&mut self, expected: &Table, row: usize, actual: &Actual) -> Result<()> {
        let Some(wan) = actual.snapshot.wans().first() else { bail!("the core has no WAN") };
        let near_threshold = self.thresholds_us.iter().any(|threshold| {
            let delay = micros_f64(wan.delay);
            (delay - threshold).abs() < ZONE_SLACK_US
        });
        if near_threshold {
            self.first_near.get_or_insert(row);
        }
        for (column, result) in COLUMNS.iter().zip(&mut self.results) {
            if expected.cell(row, column.name).is_none() {
                continue;
            }
            let wanted = match column.tolerance {
                Tolerance::Zone => zone(expected, row, column.name)?,
                Tolerance::Within(_) => number(expected, row, column.name)?,
            };
            result.compared += 1;
            let got = (column.value)(actual, wan);
            let seq = expected.cell(row, "seq");
            if !result.judge(column, wanted, got, near_threshold, seq, row) {
                self.first_different.get_or_insert(row);
            }
        }
        Ok(())
    }

    /// Returns whether something was compared and every column of every row agrees.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.cells() > 0 && self.rows.0 == self.rows.1 && self.first_different.is_none()
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
        for (column, result) in COLUMNS.iter().zip(&self.results) {
            if !result.present {
                writeln!(out, "{:<13} {:>7}", column.name, "absent")?;
                continue;
            }
            let largest = format!("{:.7} {}", result.largest, column.unit);
            let first = result.first.as_deref().unwrap_or("-");
            writeln!(out, "{:<13} {:>7} {largest:>20}   {first}", column.name, result.compared)?;
        }
        let (trace, expected) = self.rows;
        if trace != expected {
            writeln!(out, "the trace has {trace} rows, the expected file {expected}")?;
        }
        if !self.unknown.is_empty() {
            writeln!(out, "not compared, unknown columns: {}", self.unknown.join(", "))?;
        }
        if let (Some(near), Some(different)) = (self.first_near, self.first_different)
            && near <= different
        {
            writeln!(
                out,
                "the first disagreement follows row {}, whose delay is within 2 µs of a threshold: \
                 there the zone is left to rounding, and everything after it may differ",
                near + 1
            )?;
        }
        let verdict = if self.agrees() { "parity holds" } else { "NO PARITY" };
        let (rows, cells) = (trace.min(expected), self.cells());
        writeln!(out, "{verdict} over {rows} rows ({cells} cells compared)")?;
        Ok(())
    }
}

impl ColumnResult {
    fn judge(
        &mut self,
        column: &Column,
        wanted: Value,
        got: Value,
        near_threshold: bool,
        seq: Option<&str>,
        row: usize,
    ) -> bool {
        let agrees = match (column.tolerance, wanted, got) {
            (Tolerance::Within(most), Value::Number(wanted), Value::Number(got)) => {
                let difference = (wanted - got).abs();
                self.largest = self.largest.max(difference);
                difference <= most
            }
            (Tolerance::Zone, wanted, got) => {
                let equal = wanted == got;
                self.largest = self.largest.max(f64::from(u8::from(!equal)));
                equal || near_threshold
            }
            (Tolerance::Within(_), _, _) => false,
        };
        if !agrees {
            let seq = seq.map_or_else(|| row.to_string(), str::to_owned);
            self.first.get_or_insert_with(|| {
                format!("seq {seq}: expected {}, got {}", show(wanted), show(got))
            });
        }
        agrees
    }
}

fn show(value: Value) -> String {
    match value {
        Value::Number(number) => format!("{number}"),
        Value::Zone(zone) => zone.name().to_owned(),
        Value::Nothing => "nothing".to_owned(),
    }
}

fn number(table: &Table, row: usize, name: &str) -> Result<Value> {
    Ok(table.number(row, name)?.map_or(Value::Nothing, Value::Number))
}

fn zone(table: &Table, row: usize, name: &str) -> Result<Value> {
    let zones = [Zone::Green, Zone::Yellow, Zone::SoftRed, Zone::Red];
    let cell = table.cell(row, name).unwrap_or_default();
    match zones.into_iter().find(|zone| zone.name() == cell) {
        Some(zone) => Ok(Value::Zone(zone)),
        None => Err(table.complain(row, name, "is not a zone")),
    }
}
