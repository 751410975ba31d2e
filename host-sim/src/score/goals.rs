//! The goals the adaptive law is judged by, met or not.

use std::io::Write;

use anyhow::Result;

use super::board::{Board, Entry, Plan};
use super::laws::Law;
use super::metrics::{Score, StepScore};
use super::model::router::Backend;
use super::scenario::{Purpose, Scenario};
use super::table::Means;

/// A law may be worse by this much on a single scenario.
const WORSE_BY: f64 = 0.03;
/// Two ticks.
const TICKS_US: u64 = 100_000;

/// One line of the goals section.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Row {
    /// What is looked at.
    pub what: String,
    /// What was reached.
    pub got: String,
    /// What is asked for.
    pub goal: String,
    /// Whether that is met; nothing for a mere report.
    pub is_met: Option<bool>,
}

/// Looks at everything a board has the runs for.
#[must_use]
pub fn rows(plan: &Plan, board: &Board) -> Vec<Row> {
    let judge = Judge { plan, board };
    let find = |law, backend, budget: Option<u32>| {
        plan.entries.iter().position(|entry| {
            entry.law == law
                && entry.setup.backend == backend
                && entry.setup.budget.map(|budget| budget.per_minute) == budget
        })
    };
    let mut rows = Vec::new();
    let linux = find(Law::Adaptive, Backend::Linux, None);
    let routeros = find(Law::Adaptive, Backend::Routeros, Some(120));
    if let Some(ours) = linux {
        if let Some(theirs) = find(Law::Autorate, Backend::Linux, None) {
            judge.against(ours, theirs, Limits::new(0.15, 3.0, 3.0), &mut rows);
            judge.every_scenario(ours, theirs, &mut rows);
        }
        if let Some(theirs) = find(Law::Classic, Backend::Linux, None) {
            judge.against(
                ours,
                theirs,
                Limits { mean: None, ..Limits::new(0.35, 0.0, 4.0) },
                &mut rows,
            );
        }
        if let Some(theirs) = find(Law::Oracle, Backend::Linux, None) {
            judge.against_oracle(ours, theirs, &mut rows);
        }
    }
    if let (Some(ours), Some(theirs)) =
        (routeros, find(Law::Autorate, Backend::Routeros, Some(120)))
    {
        judge.against(ours, theirs, Limits::new(0.08, 3.0, 3.0), &mut rows);
    }
    if let Some(ours) = linux {
        judge.steps(ours, &mut rows);
        judge.cuts(ours, &mut rows);
    }
    if let Some(ours) = routeros {
        judge.steps(ours, &mut rows);
        judge.cuts(ours, &mut rows);
        judge.writes(ours, &mut rows);
        for budget in [30, 240] {
            if let Some(other) = find(Law::Adaptive, Backend::Routeros, Some(budget)) {
                judge.budget(ours, other, budget, &mut rows);
            }
        }
    }
    rows
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
    writeln!(out, "\nGoals")?;
    for row in rows {
        let verdict = match row.is_met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "",
        };
        let Row { what, got, goal, .. } = row;
        writeln!(out, "  {verdict:<8} {what:<58} {got:<34} {goal}")?;
    }
    let judged = rows.iter().filter(|row| row.is_met.is_some()).count();
    let met = rows.iter().filter(|row| row.is_met == Some(true)).count();
    writeln!(out, "  {met} of {judged} met")?;
    Ok(())
}

/// What a comparison asks for.
#[derive(Debug, Clone, Copy)]
struct Limits {
    utilisation: f64,
    mean: Option<f64>,
    p95: f64,
}

impl Limits {
    const fn new(utilisation: f64, mean: f64, p95: f64) -> Self {
        Self { utilisation, mean: Some(mean), p95 }
    }
}

struct Judge<'b> {
    plan: &'b Plan,
    board: &'b Board,
}

/// A ratio for people: 0/0 is 1.
fn ratio(ours: f64, theirs: f64) -> f64 {
    if theirs > 0.0 {
        ours / theirs
    } else if ours > 0.0 {
        f64::INFINITY
    } else {
        1.0
    }
}

fn is_mobile(scenario: &Scenario) -> bool {
    scenario.name.starts_with("lte") || scenario.name.starts_with("5g")
}

impl Judge<'_> {
    fn entry(&self, index: usize) -> &Entry {
        &self.plan.entries[index]
    }

    fn scenarios(&self) -> impl Iterator<Item = (usize, &Scenario)> {
        self.plan.scenarios.iter().map(|(scenario, _)| scenario).enumerate()
    }

    fn means(&self, entry: usize, wanted: impl Fn(&Scenario) -> bool) -> Option<Means> {
        let scored = self.scenarios().filter(|(_, s)| s.purpose != Purpose::Idle && wanted(s));
        let all: Vec<Means> =
            scored.map(|(index, _)| Means::of(self.board.scores(index, entry))).collect();
        (!all.is_empty()).then(|| Means::over(&all))
    }

    fn against(&self, ours: usize, theirs: usize, limits: Limits, rows: &mut Vec<Row>) {
        let (Some(a), Some(b)) = (self.means(ours, |_| true), self.means(theirs, |_| true)) else {
            return;
        };
        let names = format!("{} against {}", self.entry(ours).name, self.entry(theirs).name);
        let gain = a.utilisation - b.utilisation;
        rows.push(Row {
            what: format!("{names}: utilisation"),
            got: format!("{:.3} - {:.3} = {gain:+.3}", a.utilisation, b.utilisation),
            goal: format!("at least {:+.2}", limits.utilisation),
            is_met: Some(gain >= limits.utilisation),
        });
        let mut delay = |what: &str, ours: f64, theirs: f64, times: f64| {
            let ratio = ratio(ours, theirs);
            rows.push(Row {
                what: format!("{names}: {what} added delay"),
                got: format!("{ours:.1} / {theirs:.1} ms = {ratio:.2}"),
                goal: format!("at most 1/{times}"),
                is_met: Some(ratio <= 1.0 / times),
            });
        };
        if let Some(times) = limits.mean {
            delay("mean", a.mean_ms, b.mean_ms, times);
        }
        delay("p95", a.p95_ms, b.p95_ms, limits.p95);
    }

    /// Better in throughput or p95 on every scenario, worse in neither by more than 3 %.
    fn every_scenario(&self, ours: usize, theirs: usize, rows: &mut Vec<Row>) {
        let mut failed = Vec::new();
        let mut count = 0;
        for (index, scenario) in self.scenarios().filter(|(_, s)| s.purpose != Purpose::Idle) {
            let a = Means::of(self.board.scores(index, ours));
            let b = Means::of(self.board.scores(index, theirs));
            count += 1;
            let is_better = a.utilisation > b.utilisation || a.p95_ms < b.p95_ms;
            let is_worse = a.utilisation < b.utilisation * (1.0 - WORSE_BY)
                || a.p95_ms > b.p95_ms * (1.0 + WORSE_BY);
            if !is_better || is_worse {
                failed.push(scenario.name.as_str());
            }
        }
        rows.push(Row {
            what: format!("{} is better on every scenario", self.entry(ours).name),
            got: if failed.is_empty() {
                format!("all {count}")
            } else {
                format!("not on {}", failed.join(", "))
            },
            goal: "throughput or p95 better, neither worse by 3 %".to_owned(),
            is_met: Some(failed.is_empty()),
        });
    }

    fn against_oracle(&self, ours: usize, oracle: usize, rows: &mut Vec<Row>) {
        for (what, mobile, share, times) in
            [("wired and Starlink", false, 0.95, 2.5), ("LTE and 5G", true, 0.88, 3.0)]
        {
            let wanted = |scenario: &Scenario| is_mobile(scenario) == mobile;
            let (Some(a), Some(b)) = (self.means(ours, wanted), self.means(oracle, wanted)) else {
                continue;
            };
            let reached = ratio(a.utilisation, b.utilisation);
            rows.push(Row {
                what: format!("{} against oracle, {what}: utilisation", self.entry(ours).name),
                got: format!("{:.3} / {:.3} = {reached:.3}", a.utilisation, b.utilisation),
                goal: format!("at least {share}"),
                is_met: Some(reached >= share),
            });
            let delay = ratio(a.mean_ms, b.mean_ms);
            rows.push(Row {
                what: format!("{} against oracle, {what}: mean delay", self.entry(ours).name),
                got: format!("{:.1} / {:.1} ms = {delay:.1}", a.mean_ms, b.mean_ms),
                goal: format!("at most {times}"),
                is_met: Some(delay <= times),
            });
        }
    }

    fn steps(&self, ours: usize, rows: &mut Vec<Row>) {
        let name = &self.entry(ours).name;
        for (index, scenario) in self.scenarios() {
            let Purpose::Step(spec) = scenario.purpose else { continue };
            let steps: Vec<&StepScore> =
                self.board.scores(index, ours).iter().filter_map(|s| s.step.as_ref()).collect();
            if steps.is_empty() {
                continue;
            }
            let mut row = |what: &str, worst: Option<u64>, limit_us: u64| {
                rows.push(Row {
                    what: format!("{name}, {}: {what}", scenario.name),
                    got: worst.map_or("never".to_owned(), |us| {
                        format!("{:.0} ms in the worst run", us as f64 / 1e3)
                    }),
                    goal: format!("at most {} ms", limit_us / 1000),
                    is_met: Some(worst.is_some_and(|us| us <= limit_us)),
                });
            };
            if spec.down {
                // A run whose delay never passed the target needed no cut.
                let late = |step: &&StepScore| {
                    step.target_us.map_or(Some(0), |_| step.detect_after_target_us)
                };
                let detect: Option<Vec<u64>> = steps.iter().map(late).collect();
                let detect = detect.and_then(|all| all.into_iter().max());
                let limit_us = TICKS_US + scenario.path.base_rtt_us;
                row("first cut after the delay passed 15 ms", detect, limit_us);
                let settle = steps.iter().map(|step| step.settle_us).max();
                row("settled below 15 ms for good", settle, 1_000_000);
            } else {
                let recover: Option<Vec<u64>> = steps.iter().map(|s| s.recover_us).collect();
                let recover = recover.and_then(|all| all.into_iter().max());
                row("90 % of the new capacity", recover, 5_000_000);
                let p95 = steps.iter().map(|step| step.p95_us).max();
                row("p95 of the added delay", p95, 30_000);
            }
        }
    }

    fn sum(&self, entry: usize, wanted: impl Fn(&Scenario) -> bool, get: fn(&Score) -> u64) -> u64 {
        let scenarios = self.scenarios().filter(|(_, scenario)| wanted(scenario));
        scenarios.flat_map(|(index, _)| self.board.scores(index, entry)).map(get).sum()
    }

    fn cuts(&self, ours: usize, rows: &mut Vec<Row>) {
        let name = &self.entry(ours).name;
        let is_idle = |scenario: &Scenario| scenario.purpose == Purpose::Idle;
        let mut row = |what: &str, count: u64| {
            rows.push(Row {
                what: format!("{name}: {what}"),
                got: count.to_string(),
                goal: "0".to_owned(),
                is_met: Some(count == 0),
            });
        };
        if self.scenarios().any(|(_, scenario)| is_idle(scenario)) {
            row("cuts on idle and noisy lines", self.sum(ours, is_idle, |s| s.cuts));
        }
        row("cuts of the uncongested direction", self.sum(ours, |_| true, |s| s.misblamed_cuts));
    }

    fn max(&self, entry: usize, get: fn(&Score) -> u64) -> u64 {
        let scores = self.scenarios().flat_map(|(index, _)| self.board.scores(index, entry));
        scores.map(get).max().unwrap_or_default()
    }

    fn writes(&self, ours: usize, rows: &mut Vec<Row>) {
        let name = &self.entry(ours).name;
        let mut row = |what: &str, got: u64, limit: u64| {
            rows.push(Row {
                what: format!("{name}: writes in any {what}"),
                got: got.to_string(),
                goal: format!("at most {limit}"),
                is_met: Some(got <= limit),
            });
        };
        row("minute", self.max(ours, |s| s.writes_max_minute), 120);
        row("second", self.max(ours, |s| s.writes_max_second), 6);
    }

    fn budget(&self, usual: usize, other: usize, budget: u32, rows: &mut Vec<Row>) {
        let (Some(a), Some(b)) = (self.means(other, |_| true), self.means(usual, |_| true)) else {
            return;
        };
        rows.push(Row {
            what: format!("a budget of {budget} instead of 120 writes a minute"),
            got: format!("utilisation {:+.3}", a.utilisation - b.utilisation),
            goal: format!(
                "mean {:.1} -> {:.1} ms, p95 {:.1} -> {:.1} ms",
                b.mean_ms, a.mean_ms, b.p95_ms, a.p95_ms
            ),
            is_met: None,
        });
    }
}

#[cfg(test)]
#[path = "goals_tests.rs"]
mod tests;
