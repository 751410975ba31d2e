//! The model beside what was measured on a bench of a real CAKE and real TCP (`--suite rig`).

use std::io::Write;

use anyhow::Result;

use super::board::{Board, Plan};
use super::laws::Law;
use super::model::router::Backend;
use super::phases::PhaseScore;

/// How far the model may be off, as a share of what was measured.
const TOLERANCE: f64 = 0.25;
/// Delays may be off by this many ms, rates by so many Mbit/s: the bench's own runs differ by that.
const SLACK: (f64, f64) = (8.0, 1.0);

/// What a program did in a phase of the bench: delay over that of the idle line in ms, goodput in Mbit/s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The scenario.
    pub scenario: &'static str,
    /// The law that models the program.
    pub law: Law,
    /// The phase.
    pub phase: &'static str,
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// The least and the greatest one of all runs.
    pub p95_range: (f64, f64),
    /// 99th percentile.
    pub p99: f64,
    /// Download.
    pub down: f64,
    /// Upload; 0 where there is none.
    pub up: f64,
}

macro_rules! rows {
    ($($scenario:literal $law:ident $phase:literal: $p50:literal
        $p95:literal ($least:literal $most:literal) $p99:literal, $down:literal $up:literal;)*) => {
        [$(Measured {
            scenario: $scenario, law: Law::$law, phase: $phase, p50: $p50, p95: $p95,
            p95_range: ($least, $most), p99: $p99, down: $down, up: $up,
        }),*]
    };
}

/// Three runs of each program; one with the download alone, where a second one, and one more of
/// the others, is of cake-autorate's rules in a script of 60 lines. `autorate` after the drop: the first
/// drain takes about 5 % of the phase, so that the 95th percentile lies before or after its end. `sqm` was
/// measured with a port that starts at its minimum, so that its first phase cannot be compared.
/// The last sixteen rows are of our own daemon, `cargo xtask rig --scenario drop-and-rise,download-only
/// --runs 3` with `--backend classic` and `--backend linux-cake`.
pub const MEASURED: [Measured; 30] = rows! {
    "rig-dual" Base "50/20": 1.1 2.0 (2.0 2.6) 2.4, 18.7 7.2;
    "rig-dual" Base "15/6": 388.0 867.0 (544.0 1512.0) 899.0, 11.7 5.7;
    "rig-dual" Base "40/16": 1.2 2.3 (2.3 2.4) 82.0, 18.4 7.2;
    "rig-dual" Base "ALL": 1.5 780.0 (485.0 1363.0) 881.0, 16.3 6.7;
    "rig-dual" Autorate "50/20": 37.1 73.4 (73.4 74.5) 79.3, 30.2 16.8;
    "rig-dual" Autorate "15/6": 37.5 319.0 (92.0 343.0) 363.0, 5.4 5.2;
    "rig-dual" Autorate "40/16": 35.5 77.8 (77.8 79.6) 79.7, 14.2 13.9;
    "rig-dual" Autorate "ALL": 36.6 92.3 (92.0 94.0) 342.0, 16.6 12.0;
    "rig-dual" Sqm "15/6": 30.8 74.0 (58.0 91.0) 91.0, 11.8 5.0;
    "rig-dual" Sqm "40/16": 6.2 27.7 (27.7 27.7) 32.0, 30.2 10.6;
    "rig-download" Autorate "50/20": 18.6 73.0 (73.0 73.0) 92.0, 42.9 0.0;
    "rig-download" Autorate "15/6": 44.9 129.0 (78.8 129.0) 133.0, 13.8 0.0;
    "rig-download" Autorate "40/16": 25.8 78.0 (78.0 78.0) 100.0, 35.9 0.0;
    "rig-download" Autorate "ALL": 28.6 89.0 (89.0 89.0) 131.0, 30.9 0.0;
    "rig-dual" ClassicTuned "50/20": 29.7 54.5 (54.5 54.5) 56.5, 11.3 17.3;
    "rig-dual" ClassicTuned "15/6": 6.0 61.3 (61.3 61.3) 64.3, 6.8 4.6;
    "rig-dual" ClassicTuned "40/16": 10.0 50.2 (50.2 50.2) 52.8, 11.9 13.2;
    "rig-dual" ClassicTuned "ALL": 14.5 56.5 (55.9 57.0) 89.7, 10.5 11.3;
    "rig-dual" Adaptive "50/20": 2.8 9.1 (9.1 9.1) 10.4, 45.0 17.7;
    "rig-dual" Adaptive "15/6": 6.5 17.0 (17.0 17.0) 19.6, 13.0 5.3;
    "rig-dual" Adaptive "40/16": 6.6 13.2 (13.2 13.2) 15.4, 35.8 14.2;
    "rig-dual" Adaptive "ALL": 4.8 16.5 (16.0 16.8) 37.6, 30.6 12.1;
    "rig-download" ClassicTuned "50/20": 11.1 24.0 (24.0 24.0) 25.5, 45.8 0.0;
    "rig-download" ClassicTuned "15/6": 2.4 33.6 (33.6 33.6) 36.7, 12.1 0.0;
    "rig-download" ClassicTuned "40/16": 1.9 21.6 (21.6 21.6) 22.7, 35.0 0.0;
    "rig-download" ClassicTuned "ALL": 5.2 32.8 (31.1 34.1) 54.0, 30.1 0.0;
    "rig-download" Adaptive "50/20": 0.4 6.2 (6.2 6.2) 7.8, 46.6 0.0;
    "rig-download" Adaptive "15/6": 0.7 9.6 (9.6 9.6) 11.0, 13.7 0.0;
    "rig-download" Adaptive "40/16": 0.4 6.7 (6.7 6.7) 8.1, 37.3 0.0;
    "rig-download" Adaptive "ALL": 0.6 8.5 (8.3 8.6) 20.2, 32.1 0.0;
};

/// A measured row and the model's, means over the seeds.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What was measured.
    pub real: Measured,
    /// What the model says.
    pub model: Measured,
}

impl Row {
    /// Whether the 95th percentile is near enough.
    #[must_use]
    pub fn is_delay_near(&self) -> bool {
        let (least, most) = self.real.p95_range;
        let p95 = self.model.p95;
        p95 >= least && p95 <= most || is_near(p95, least, SLACK.0) || is_near(p95, most, SLACK.0)
    }

    /// Whether both rates are near enough.
    #[must_use]
    pub fn are_rates_near(&self) -> bool {
        is_near(self.model.down, self.real.down, SLACK.1)
            && is_near(self.model.up, self.real.up, SLACK.1)
    }
}

fn is_near(model: f64, real: f64, slack: f64) -> bool {
    (model - real).abs() <= (real * TOLERANCE).max(slack)
}

/// Finds the measured rows a board has the runs for.
#[must_use]
pub fn rows(plan: &Plan, board: &Board) -> Vec<Row> {
    let row = |real: &Measured| {
        let scenario = plan.scenarios.iter().position(|(s, _)| s.name == real.scenario)?;
        let entry = plan
            .entries
            .iter()
            .position(|e| e.law == real.law && e.setup.backend == Backend::Linux)?;
        let scores = board.scores(scenario, entry);
        let phases: Vec<&PhaseScore> =
            scores.iter().flat_map(|s| &s.phases).filter(|p| p.name == real.phase).collect();
        if phases.is_empty() {
            return None;
        }
        let mean = |get: fn(&PhaseScore) -> u64, unit: f64| {
            phases.iter().map(|phase| get(phase) as f64 / unit).sum::<f64>() / phases.len() as f64
        };
        let model = Measured {
            p50: mean(|phase| phase.p50_us, 1e3),
            p95: mean(|phase| phase.p95_us, 1e3),
            p99: mean(|phase| phase.p99_us, 1e3),
            down: mean(|phase| phase.goodput_bps.download, 1e6),
            up: mean(|phase| phase.goodput_bps.upload, 1e6),
            ..*real
        };
        Some(Row { real: *real, model })
    };
    MEASURED.iter().filter_map(row).collect()
}

/// Prints the rows, if there are any.
///
/// # Errors
///
/// When `out` cannot be written.
pub fn print(rows: &[Row], out: &mut impl Write) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\nThe model beside the bench (added ms, goodput in Mbit/s; ! more than {:.0} % off)\n\
         {:<13} {:<13} {:<6} {:>15} {:>16} {:>17} {:>15} {:>15}",
        TOLERANCE * 100.0,
        "scenario",
        "law",
        "phase",
        "p50 model/real",
        "p95",
        "p99",
        "down",
        "up"
    )?;
    for row in rows {
        let Row { real, model } = row;
        let mark = |is_near| if is_near { ' ' } else { '!' };
        writeln!(
            out,
            "{:<13} {:<13} {:<6} {:>7.1}/{:<7.1} {:>7.1}/{:<7.1}{} {:>8.1}/{:<7.1} {:>6.1}/{:<6.1}{} {:>6.1}/{:<6.1}{}",
            real.scenario,
            real.law.name(),
            real.phase,
            model.p50,
            real.p50,
            model.p95,
            real.p95,
            mark(row.is_delay_near()),
            model.p99,
            real.p99,
            model.down,
            real.down,
            mark(is_near(model.down, real.down, SLACK.1)),
            model.up,
            real.up,
            mark(is_near(model.up, real.up, SLACK.1)),
        )?;
    }
    let near = rows.iter().filter(|row| row.is_delay_near() && row.are_rates_near()).count();
    writeln!(out, "{near} of {} near", rows.len())?;
    Ok(())
}
