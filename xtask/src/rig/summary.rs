//! A run as numbers: one row per phase.

use super::results::{Goodput, LineResult, Results, Steps};

/// Seconds left out at the begin of the idle phase.
const IDLE_SETTLE: f64 = 1.0;
/// An interval of a load belongs to a phase if it sticks out by this much at most, in s.
const OVERLAP: f64 = 0.3;
/// Rates that differ by less are the same: tc rounds what it prints.
const SAME: f64 = 0.002;
/// Name of the row from the first load to the end.
pub(crate) const ALL: &str = "ALL";

/// One phase of one line; delays in ms above the median of the idle phase, rates in Mbit/s. `NaN` is
/// "not measured".
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// The line's number, from 1.
    pub(crate) line: usize,
    pub(crate) phase: String,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    pub(crate) lost: f64,
    pub(crate) down: f64,
    pub(crate) up: f64,
    /// What the ISP let through.
    pub(crate) capacity_down: f64,
    pub(crate) capacity_up: f64,
    /// Changes of either shaper, and those of each that lowered it.
    pub(crate) writes: f64,
    pub(crate) cuts_down: f64,
    pub(crate) cuts_up: f64,
}

/// Makes the rows of a run.
pub(crate) fn rows(results: &Results, settle: f64) -> Vec<Row> {
    let mut rows = Vec::new();
    for (line, number) in results.lines.iter().zip(1..) {
        if line.rtt.is_empty() {
            continue;
        }
        let marks = &results.marks;
        let Some([(idle, _), (begin, _), ..]) = marks.get(..) else { continue };
        let base = median_rtt(line, idle + IDLE_SETTLE, *begin);
        for (index, pair) in marks.windows(2).enumerate() {
            let ((from, name), (to, _)) = (&pair[0], &pair[1]);
            let from = from + if index == 0 { IDLE_SETTLE } else { settle };
            rows.push(row(line, number, name, (from, *to), base));
        }
        if let (true, Some((end, _))) = (marks.len() > 3, marks.last()) {
            rows.push(row(line, number, ALL, (*begin, *end), base));
        } else if let Some(last) = rows.last_mut() {
            ALL.clone_into(&mut last.phase);
        }
    }
    rows
}

/// Averages the rows of several runs of the same plan.
pub(crate) fn mean(runs: &[Vec<Row>]) -> Vec<Row> {
    let Some(first) = runs.first() else { return Vec::new() };
    let mean_of = |index: usize, value: fn(&Row) -> f64| {
        let values: Vec<f64> =
            runs.iter().filter_map(|rows| Some(value(rows.get(index)?))).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    let averaged = |(index, row): (usize, &Row)| Row {
        line: row.line,
        phase: row.phase.clone(),
        p50: mean_of(index, |row| row.p50),
        p95: mean_of(index, |row| row.p95),
        p99: mean_of(index, |row| row.p99),
        max: mean_of(index, |row| row.max),
        lost: mean_of(index, |row| row.lost),
        down: mean_of(index, |row| row.down),
        up: mean_of(index, |row| row.up),
        capacity_down: mean_of(index, |row| row.capacity_down),
        capacity_up: mean_of(index, |row| row.capacity_up),
        writes: mean_of(index, |row| row.writes),
        cuts_down: mean_of(index, |row| row.cuts_down),
        cuts_up: mean_of(index, |row| row.cuts_up),
    };
    first.iter().enumerate().map(averaged).collect()
}

/// Returns the median of the round-trip times in ms.
pub(crate) fn median_rtt(line: &LineResult, from: f64, to: f64) -> f64 {
    percentile(
        &sorted(
            line.rtt.iter().filter(|(at, _)| (from..to).contains(at)).filter_map(|(_, rtt)| *rtt),
        ),
        50.0,
    )
}

fn row(line: &LineResult, number: usize, phase: &str, (from, to): (f64, f64), base: f64) -> Row {
    let pings = line.rtt.iter().filter(|(at, _)| (from..to).contains(at));
    let lost = pings.clone().filter(|(_, rtt)| rtt.is_none()).count();
    let added = sorted(pings.filter_map(|(_, rtt)| *rtt).map(|rtt| rtt - base));
    let (cuts_down, writes_down) = changes(&line.down.shaper, from, to);
    let (cuts_up, writes_up) = changes(&line.up.shaper, from, to);
    Row {
        line: number,
        phase: phase.to_owned(),
        p50: percentile(&added, 50.0),
        p95: percentile(&added, 95.0),
        p99: percentile(&added, 99.0),
        max: percentile(&added, 100.0),
        lost: lost as f64,
        down: goodput(&line.down.loads, from, to),
        up: goodput(&line.up.loads, from, to),
        capacity_down: time_mean(&line.down.capacity, from, to),
        capacity_up: time_mean(&line.up.capacity, from, to),
        writes: f64::from(writes_down + writes_up),
        cuts_down: f64::from(cuts_down),
        cuts_up: f64::from(cuts_up),
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    sorted[((percent / 100.0 * last as f64).round() as usize).min(last)]
}

/// Averages the intervals of all loads within a phase: what goes while nothing is sent does not count.
fn goodput(loads: &[Vec<Goodput>], from: f64, to: f64) -> f64 {
    let within =
        |interval: &&Goodput| interval.from >= from - OVERLAP && interval.to <= to + OVERLAP;
    let rates: Vec<f64> =
        loads.iter().flatten().filter(within).map(|interval| interval.mbps).collect();
    rates.iter().sum::<f64>() / rates.len() as f64
}

fn time_mean(steps: &Steps, from: f64, to: f64) -> f64 {
    let ends = steps.iter().skip(1).map(|(at, _)| *at).chain([f64::INFINITY]);
    let weighed =
        |((at, value), end): (&(f64, f64), f64)| value * (end.min(to) - at.max(from)).max(0.0);
    steps.iter().zip(ends).map(weighed).sum::<f64>() / (to - from)
}

/// Counts how often a rate fell and how often it changed.
fn changes(steps: &Steps, from: f64, to: f64) -> (u32, u32) {
    let mut counted = (0, 0);
    for pair in steps.windows(2) {
        let ((_, before), (at, after)) = (pair[0], pair[1]);
        let differs = (after - before).abs() > SAME * before;
        if (from..to).contains(&at) && differs {
            counted.0 += u32::from(after < before);
            counted.1 += 1;
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let marks = [(0.0, "idle"), (10.0, "a"), (20.0, "b"), (30.0, "end")];
        let marks = marks.map(|(at, name)| (at, name.to_owned())).to_vec();
        let mut results = Results { marks, ..Results::default() };
        let line = &mut results.lines[0];
        // 20 ms when idle, 30 ms in the first phase, 25 ms in the second; one ping of it is lost.
        line.rtt = (0..300)
            .map(|ping| (f64::from(ping) / 10.0, [20.0, 30.0, 25.0][ping as usize / 100]))
            .map(|(at, rtt)| (at, (at != 25.0).then_some(rtt)))
            .collect();
        line.down.capacity = vec![(0.0, 50.0), (25.0, 10.0)];
        line.down.shaper = vec![(0.0, 20.0), (12.0, 60.0), (22.0, 9.0), (23.0, 9.001)];
        let second =
            |from: u8, mbps| Goodput { from: from.into(), to: f64::from(from) + 1.0, mbps };
        line.down.loads =
            vec![(10..20).map(|at| second(at, 40.0)).collect(), vec![second(26, 8.0)]];
        results
    }

    #[test]
    fn phases_are_measured_against_the_idle_line() {
        let rows = rows(&results(), 2.0);
        let names: Vec<&str> = rows.iter().map(|row| row.phase.as_str()).collect();
        assert_eq!(names, ["idle", "a", "b", ALL]);
        assert_eq!((rows[1].p50, rows[1].lost, rows[1].down), (10.0, 0.0, 40.0));
        assert_eq!((rows[2].p95, rows[2].lost, rows[2].down), (5.0, 1.0, 8.0));
        assert!(rows[2].up.is_nan());
        assert!((rows[2].capacity_down - 25.0).abs() < 1e-9, "3 of 8 s at 50, 5 at 10");
        assert_eq!((rows[3].writes, rows[3].cuts_down, rows[3].max), (2.0, 1.0, 10.0));
    }

    #[test]
    fn runs_are_averaged_row_by_row() {
        let one = rows(&results(), 2.0);
        let mut other = one.clone();
        other[3].p99 += 4.0;
        let averaged = mean(&[one.clone(), other]);
        assert_eq!(averaged[3].p99, one[3].p99 + 2.0);
        assert_eq!(averaged.len(), 4);
    }
}
