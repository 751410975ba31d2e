//! The scoreboard as JSON.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::board::{Board, Entry, Plan};
use super::goals::Row;
use super::metrics::Score;
use super::model::router::Backend;
use super::table::{self, Means};

#[derive(Debug, Serialize)]
struct Document<'b> {
    program: &'static str,
    first_seed: u64,
    results: Vec<Scored<'b>>,
    means: Vec<Overall<'b>>,
    goals: &'b [Row],
}

/// One law in one scenario.
#[derive(Debug, Serialize)]
struct Scored<'b> {
    scenario: &'b str,
    law: Head<'b>,
    means: Means,
    runs: &'b [Score],
}

#[derive(Debug, Serialize)]
struct Overall<'b> {
    law: Head<'b>,
    means: Means,
}

/// A law and its setup.
#[derive(Debug, Serialize)]
struct Head<'b> {
    name: &'b str,
    backend: &'static str,
    writes_per_minute: Option<u32>,
    overrides: Vec<String>,
}

/// Returns a backend's name as the command line has it.
#[must_use]
pub const fn backend_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Linux => "linux",
        Backend::Routeros => "routeros",
    }
}

fn head(entry: &Entry) -> Head<'_> {
    Head {
        name: &entry.name,
        backend: backend_name(entry.setup.backend),
        writes_per_minute: entry.setup.budget.map(|budget| budget.per_minute),
        overrides: entry.overrides.iter().map(|o| format!("{}={}", o.key, o.value)).collect(),
    }
}

/// Writes all scores, their means and the goals.
///
/// # Errors
///
/// When the file cannot be written.
pub fn write(plan: &Plan, board: &Board, goals: &[Row], path: &Path) -> Result<()> {
    let mut results = Vec::new();
    let mut means = Vec::new();
    for (index, entry) in plan.entries.iter().enumerate() {
        let mut counted = Vec::new();
        for (scenario, (spec, _)) in plan.scenarios.iter().enumerate() {
            let runs = board.scores(scenario, index);
            let of_runs = Means::of(runs);
            if table::counts(spec) {
                counted.push(of_runs.clone());
            }
            let scenario = &spec.name;
            results.push(Scored { scenario, law: head(entry), means: of_runs, runs });
        }
        means.push(Overall { law: head(entry), means: Means::over(&counted) });
    }
    let program = concat!("wanctl-sim ", env!("CARGO_PKG_VERSION"));
    let document = Document { program, first_seed: plan.first_seed, results, means, goals };
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    std::fs::write(path, text).with_context(|| format!("{}", path.display()))
}
