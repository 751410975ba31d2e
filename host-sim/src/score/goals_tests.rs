//! Tests of the goals: made-up scores on either side of each limit.

use std::collections::BTreeMap;

use super::*;
use crate::score::contender::budget::Budget;
use crate::score::run::Setup;
use crate::score::suites;

/// Scores of ours and of `theirs`, the same on every scenario.
fn judged(theirs: Law, backend: Backend, ours: &Score, other: &Score) -> Vec<Row> {
    let only = ["dsl", "dual", "step-", "idle-fibre"].map(str::to_owned);
    let scenarios = suites::find("default", &only).unwrap();
    let mut setup = Setup::of(backend);
    if backend == Backend::Routeros {
        setup.budget = Some(Budget::ROUTEROS);
    }
    let entries = vec![Entry::new(Law::Adaptive, setup), Entry::new(theirs, setup)];
    let mut scores = BTreeMap::new();
    for index in 0..scenarios.len() {
        scores.insert((index, 0), vec![ours.clone()]);
        scores.insert((index, 1), vec![other.clone()]);
    }
    let scenarios = scenarios.into_iter().map(|scenario| (scenario, 1)).collect();
    let plan = Plan { scenarios, first_seed: 1, entries, threads: 1 };
    rows(&plan, &Board::of(scores))
}

fn score(utilisation_ppm: u64, mean_us: u64, p95_us: u64) -> Score {
    Score {
        utilisation_ppm: Some(utilisation_ppm),
        mean_us,
        p95_us,
        scored_us: 80_000_000,
        ..Score::default()
    }
}

fn verdict(rows: &[Row], what: &str) -> Option<bool> {
    let row = rows.iter().find(|row| row.what.contains(what));
    row.unwrap_or_else(|| panic!("no row says {what}")).is_met
}

#[test]
fn the_limits_against_autorate_are_those_of_the_design() {
    let theirs = score(700_000, 30_000, 90_000);
    let linux = |ours: &Score| judged(Law::Autorate, Backend::Linux, ours, &theirs);
    let rows = linux(&score(851_000, 9_900, 29_900));
    for what in ["utilisation", "mean added delay", "p95 added delay", "every scenario"] {
        assert_eq!(verdict(&rows, what), Some(true), "{what}");
    }
    let rows = linux(&score(849_000, 10_100, 30_100));
    for what in ["utilisation", "mean added delay", "p95 added delay"] {
        assert_eq!(verdict(&rows, what), Some(false), "{what}");
    }
    // Half the delay does not excuse 4 % less throughput.
    let rows = linux(&score(672_000, 9_000, 45_000));
    assert_eq!(verdict(&rows, "every scenario"), Some(false));
    let rows = judged(Law::Autorate, Backend::Routeros, &score(781_000, 9_900, 29_900), &theirs);
    assert_eq!(verdict(&rows, "utilisation"), Some(true));
}

#[test]
fn the_oracle_is_compared_by_shares() {
    let oracle = score(900_000, 10_000, 20_000);
    let rows = judged(Law::Oracle, Backend::Linux, &score(856_000, 24_000, 1), &oracle);
    assert_eq!(verdict(&rows, "wired and Starlink: utilisation"), Some(true));
    assert_eq!(verdict(&rows, "wired and Starlink: mean delay"), Some(true));
    let rows = judged(Law::Oracle, Backend::Linux, &score(854_000, 26_000, 1), &oracle);
    assert_eq!(verdict(&rows, "wired and Starlink: utilisation"), Some(false));
    assert_eq!(verdict(&rows, "wired and Starlink: mean delay"), Some(false));
}

#[test]
fn steps_cuts_and_writes_have_limits_of_their_own() {
    let step = StepScore {
        target_us: Some(1),
        detect_after_target_us: Some(120_000),
        settle_us: 1_000_000,
        recover_us: Some(5_000_000),
        p95_us: 30_000,
        ..StepScore::default()
    };
    let mut ours = Score { step: Some(step), writes_max_minute: 120, ..score(1, 1, 1) };
    ours.writes_max_second = 6;
    let judge = |ours: &Score| judged(Law::None, Backend::Routeros, ours, &score(1, 1, 1));
    let whats = [
        "first cut after",
        "settled below",
        "90 % of the new",
        "p95 of the added delay",
        "idle and noisy",
        "uncongested direction",
        "any minute",
        "any second",
    ];
    let rows = judge(&ours);
    for what in whats {
        assert_eq!(verdict(&rows, what), Some(true), "{what}");
    }
    let step = ours.step.as_mut().unwrap();
    step.detect_after_target_us = Some(120_001);
    step.settle_us += 1;
    step.recover_us = None;
    step.p95_us += 1;
    (ours.cuts, ours.misblamed_cuts) = (1, 1);
    (ours.writes_max_minute, ours.writes_max_second) = (121, 7);
    let rows = judge(&ours);
    for what in whats {
        assert_eq!(verdict(&rows, what), Some(false), "{what}");
    }
}
