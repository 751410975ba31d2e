//! The scoreboard as text.

use std::io::Write;

use anyhow::Result;

use super::board::{Board, Plan};
use super::metrics::{Score, StepScore};
use super::scenario::{Purpose, Scenario};

/// Means over the seeds of one entry in one scenario, or over scenarios.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Means {
    /// Share of the possible that was delivered.
    pub utilisation: f64,
    /// Mean added delay in ms.
    pub mean_ms: f64,
    /// Its median in ms.
    pub p50_ms: f64,
    /// Its 95th percentile in ms.
    pub p95_ms: f64,
    /// Its 99th percentile in ms.
    pub p99_ms: f64,
    /// Cuts per hour in a direction that was not congested while nothing was.
    pub innocent_per_hour: f64,
    /// Cuts per hour in a direction that was not congested while the other was.
    pub misblamed_per_hour: f64,
    /// Writes per minute.
    pub writes_per_minute: f64,
    /// The most writes in any minute of any run.
    pub writes_max_minute: u64,
    /// The most writes in any second of any run.
    pub writes_max_second: u64,
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0_u32);
    for value in values {
        sum += value;
        count += 1;
    }
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}

fn millis(us: u64) -> f64 {
    us as f64 / 1000.0
}

impl Means {
    /// Takes the means over runs.
    #[must_use]
    pub fn of(scores: &[Score]) -> Self {
        let of = |get: &dyn Fn(&Score) -> f64| mean(scores.iter().map(get));
        let per_hour =
            |count: u64, score: &Score| count as f64 * 3.6e9 / score.scored_us.max(1) as f64;
        let utilisation = scores.iter().filter_map(|score| score.utilisation_ppm);
        Self {
            utilisation: mean(utilisation.map(|ppm| ppm as f64 / 1e6)),
            mean_ms: of(&|score| millis(score.mean_us)),
            p50_ms: of(&|score| millis(score.p50_us)),
            p95_ms: of(&|score| millis(score.p95_us)),
            p99_ms: of(&|score| millis(score.p99_us)),
            innocent_per_hour: of(&|score| per_hour(score.innocent_cuts, score)),
            misblamed_per_hour: of(&|score| per_hour(score.misblamed_cuts, score)),
            writes_per_minute: of(&|score| per_hour(score.writes, score) / 60.0),
            writes_max_minute: scores.iter().map(|s| s.writes_max_minute).max().unwrap_or(0),
            writes_max_second: scores.iter().map(|s| s.writes_max_second).max().unwrap_or(0),
        }
    }

    /// Takes the means over scenarios, each of the same weight.
    #[must_use]
    pub fn over(all: &[Self]) -> Self {
        let of = |get: &dyn Fn(&Self) -> f64| mean(all.iter().map(get));
        Self {
            utilisation: of(&|m| m.utilisation),
            mean_ms: of(&|m| m.mean_ms),
            p50_ms: of(&|m| m.p50_ms),
            p95_ms: of(&|m| m.p95_ms),
            p99_ms: of(&|m| m.p99_ms),
            innocent_per_hour: of(&|m| m.innocent_per_hour),
            misblamed_per_hour: of(&|m| m.misblamed_per_hour),
            writes_per_minute: of(&|m| m.writes_per_minute),
            writes_max_minute: all.iter().map(|m| m.writes_max_minute).max().unwrap_or(0),
            writes_max_second: all.iter().map(|m| m.writes_max_second).max().unwrap_or(0),
        }
    }

    fn print(&self, scenario: &str, law: &str, out: &mut impl Write) -> Result<()> {
        writeln!(
            out,
            "{scenario:<18} {law:<14} {:>6.3} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>8.0} {:>8.0} \
             {:>7.1} {:>7} {:>6}",
            self.utilisation,
            self.mean_ms,
            self.p50_ms,
            self.p95_ms,
            self.p99_ms,
            self.innocent_per_hour,
            self.misblamed_per_hour,
            self.writes_per_minute,
            self.writes_max_minute,
            self.writes_max_second
        )?;
        Ok(())
    }
}

/// Returns whether a scenario counts in the means.
#[must_use]
pub fn counts(scenario: &Scenario) -> bool {
    scenario.purpose != Purpose::Idle
}

/// Prints the table: every scenario, the means, the steps.
///
/// # Errors
///
/// When `out` cannot be written.
pub fn print(plan: &Plan, board: &Board, out: &mut impl Write) -> Result<()> {
    writeln!(
        out,
        "{:<18} {:<14} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>7} {:>6}",
        "scenario",
        "law",
        "util",
        "mean ms",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "innoc/h",
        "blame/h",
        "wr/min",
        "max/min",
        "max/s"
    )?;
    let mut all: Vec<Vec<Means>> = vec![Vec::new(); plan.entries.len()];
    for (index, (scenario, _)) in plan.scenarios.iter().enumerate() {
        for (entry, law) in plan.entries.iter().enumerate() {
            let means = Means::of(board.scores(index, entry));
            means.print(&scenario.name, &law.name, out)?;
            if counts(scenario) {
                all[entry].push(means);
            }
        }
        writeln!(out)?;
    }
    for (entry, law) in plan.entries.iter().enumerate() {
        Means::over(&all[entry]).print("MEAN", &law.name, out)?;
    }
    print_steps(plan, board, out)
}

fn print_steps(plan: &Plan, board: &Board, out: &mut impl Write) -> Result<()> {
    let is_step = |scenario: &Scenario| matches!(scenario.purpose, Purpose::Step(_));
    if !plan.scenarios.iter().any(|(scenario, _)| is_step(scenario)) {
        return Ok(());
    }
    writeln!(
        out,
        "\n{:<18} {:<14} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}",
        "step",
        "law",
        "detect ms",
        "after 15",
        "worst",
        "settle ms",
        "worst",
        "recover",
        "worst",
        "p95 ms"
    )?;
    for (index, (scenario, _)) in plan.scenarios.iter().enumerate() {
        if !is_step(scenario) {
            continue;
        }
        for (entry, law) in plan.entries.iter().enumerate() {
            let steps: Vec<&StepScore> =
                board.scores(index, entry).iter().filter_map(|s| s.step.as_ref()).collect();
            let column = |get: &dyn Fn(&StepScore) -> Option<u64>| {
                let values: Vec<u64> = steps.iter().filter_map(|step| get(step)).collect();
                if values.len() < steps.len() || values.is_empty() {
                    return (format!("{}/{}", values.len(), steps.len()), "never".to_owned());
                }
                let worst = values.iter().max().copied().unwrap_or_default();
                let mean = mean(values.iter().map(|&us| millis(us)));
                (format!("{mean:.0}"), format!("{:.0}", millis(worst)))
            };
            let (detect, _) = column(&|step| step.detect_us);
            let (after, after_worst) = column(&|step| step.detect_after_target_us);
            let (settle, settle_worst) = column(&|step| Some(step.settle_us));
            let (recover, recover_worst) = column(&|step| step.recover_us);
            let p95 = mean(steps.iter().map(|step| millis(step.p95_us)));
            writeln!(
                out,
                "{:<18} {:<14} {detect:>9} {after:>9} {after_worst:>9} {settle:>9} \
                 {settle_worst:>9} {recover:>9} {recover_worst:>9} {p95:>8.1}",
                scenario.name, law.name
            )?;
        }
    }
    Ok(())
}
