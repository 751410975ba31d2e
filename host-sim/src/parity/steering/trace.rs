//! The input of steering parity: what the reference read in each cycle.

use anyhow::{Result, bail};

use crate::parity::table::Table;

/// The columns of a trace.
pub(super) const COLUMNS: [&str; 6] = ["seq", "rtt_ms", "drops", "queued", "baseline", "router_ok"];

/// One row of a trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TraceRow {
    /// The round-trip time in ms; `None` is a ping that failed.
    pub(super) rtt_ms: Option<f64>,
    /// The queue; `None` is a read that failed.
    pub(super) queue: Option<QueueRow>,
    /// The idle round-trip time in ms that the other daemon wrote down; `None` is no such file.
    pub(super) baseline_ms: Option<f64>,
    /// Whether the router does what it is told.
    pub(super) router_ok: bool,
}

/// A queue that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueRow {
    /// Dropped packets, as the column has them.
    pub(super) drops: i64,
    /// Waiting packets.
    pub(super) queued: u64,
}

/// Reads all rows of a trace.
pub(super) fn rows(trace: &Table) -> Result<Vec<TraceRow>> {
    let missing: Vec<_> =
        COLUMNS[1..].iter().filter(|name| trace.column(name).is_none()).copied().collect();
    if !missing.is_empty() {
        bail!(
            "{}:1: no column {}; a steering trace needs {}",
            trace.name(),
            missing.join(", "),
            COLUMNS[1..].join(", ")
        );
    }
    (0..trace.len()).map(|row| read_row(trace, row)).collect()
}

fn read_row(trace: &Table, row: usize) -> Result<TraceRow> {
    let drops = integer(trace, row, "drops", -MAX_COUNT..=MAX_COUNT)?;
    let queued = integer(trace, row, "queued", 0..=MAX_COUNT)?;
    let queue =
        drops.zip(queued).map(|(drops, queued)| QueueRow { drops, queued: queued.unsigned_abs() });
    let router_ok = match trace.number(row, "router_ok")? {
        Some(0.0) => false,
        Some(1.0) => true,
        _ => return Err(trace.complain(row, "router_ok", "is neither 0 nor 1")),
    };
    Ok(TraceRow {
        rtt_ms: millis(trace, row, "rtt_ms")?,
        queue,
        baseline_ms: millis(trace, row, "baseline")?,
        router_ok,
    })
}

/// Up to here a double is every whole number.
const MAX_COUNT: i64 = 1 << 53;

fn millis(trace: &Table, row: usize, name: &str) -> Result<Option<f64>> {
    let Some(millis) = trace.number(row, name)? else { return Ok(None) };
    if (0.0..=2.0e6).contains(&millis) {
        Ok(Some(millis))
    } else {
        Err(trace.complain(row, name, "is not a round-trip time in ms, from 0 to 2000000"))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "compared with the limits of the range")]
#[expect(clippy::cast_precision_loss, reason = "the limits are at most 2^53")]
fn integer(
    trace: &Table,
    row: usize,
    name: &str,
    range: std::ops::RangeInclusive<i64>,
) -> Result<Option<i64>> {
    let Some(number) = trace.number(row, name)? else { return Ok(None) };
    let (low, high) = (*range.start() as f64, *range.end() as f64);
    if number.fract() == 0.0 && (low..=high).contains(&number) {
        Ok(Some(number as i64))
    } else {
        let wanted = if *range.start() < 0 { "" } else { " from 0 on" };
        Err(trace.complain(row, name, &format!("is not a whole number of packets{wanted}")))
    }
}
