//! All runs of a scoreboard, on as many threads as there are cores.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, anyhow};

use super::laws::Law;
use super::metrics::Score;
use super::overrides::Override;
use super::run::{self, Setup};
use super::scenario::{Purpose, Scenario};

/// What is to be scored.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The scenarios with the number of seeds of each.
    pub scenarios: Vec<(Scenario, u64)>,
    /// The first seed.
    pub first_seed: u64,
    /// The laws, each with its setup.
    pub entries: Vec<Entry>,
    /// Threads to use.
    pub threads: usize,
}

/// A law in a setup: one line of the table for each scenario.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name in the table.
    pub name: String,
    /// The law.
    pub law: Law,
    /// Its setup.
    pub setup: Setup,
    /// Fields of its configuration to change, if it is one of the core's.
    pub overrides: Vec<Override>,
    /// Whether it idles through days as well.
    pub idles: bool,
}

impl Entry {
    /// Makes an entry named after its law.
    #[must_use]
    pub fn new(law: Law, setup: Setup) -> Self {
        let idles = !matches!(law, Law::Static | Law::Oracle | Law::None | Law::Base);
        Self { name: law.name().to_owned(), law, setup, overrides: Vec::new(), idles }
    }
}

/// The scores of a board by scenario, entry and seed.
#[derive(Debug)]
pub struct Board {
    scores: BTreeMap<(usize, usize), Vec<Score>>,
}

impl Board {
    #[cfg(test)]
    pub(super) const fn of(scores: BTreeMap<(usize, usize), Vec<Score>>) -> Self {
        Self { scores }
    }

    /// Returns the scores of an entry in a scenario, by seed.
    #[must_use]
    pub fn scores(&self, scenario: usize, entry: usize) -> &[Score] {
        self.scores.get(&(scenario, entry)).map_or(&[], Vec::as_slice)
    }
}

/// Runs a plan; `progress` is told how many of how many jobs are done.
///
/// # Errors
///
/// When a law cannot be configured for a scenario.
pub fn play(plan: &Plan, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Board> {
    for (scenario, _) in &plan.scenarios {
        for Entry { law, setup, overrides, name, .. } in &plan.entries {
            let ready = law.contender(scenario, setup, overrides);
            ready.with_context(|| format!("{name} on {}", scenario.name))?;
        }
    }
    let mut jobs = Vec::new();
    for (scenario, (spec, seeds)) in plan.scenarios.iter().enumerate() {
        for seed in 0..*seeds {
            // The long ones first, so that no thread is left with one at the end.
            jobs.push((std::cmp::Reverse(spec.seconds), scenario, seed));
        }
    }
    jobs.sort_unstable();
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            scope.spawn(|| {
                while let Some(&(_, scenario, seed)) =
                    jobs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let result = job(plan, scenario, seed);
                    let mut results =
                        results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    results.push((scenario, seed, result));
                    drop(results);
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
                }
            });
        }
    });
    let mut results = results.into_inner().map_err(|_| anyhow!("a run has panicked"))?;
    results.sort_by_key(|&(scenario, seed, _)| (scenario, seed));
    let mut scores: BTreeMap<(usize, usize), Vec<Score>> = BTreeMap::new();
    for (scenario, _, result) in results {
        for (entry, score) in result? {
            scores.entry((scenario, entry)).or_default().push(score);
        }
    }
    Ok(Board { scores })
}

/// Runs all laws through one scenario with one seed.
fn job(plan: &Plan, scenario: usize, seed: u64) -> Result<Vec<(usize, Score)>> {
    let (scenario, _) = &plan.scenarios[scenario];
    let seed = plan.first_seed + seed;
    let capacity = run::capacities(scenario, seed);
    let is_idle = scenario.purpose == Purpose::Idle;
    let entries = plan.entries.iter().enumerate().filter(|(_, entry)| entry.idles || !is_idle);
    entries
        .map(|(index, Entry { law, setup, overrides, .. })| {
            let score = run::run(scenario, &capacity, *law, setup, overrides, seed, None)?;
            Ok((index, score))
        })
        .collect()
}
