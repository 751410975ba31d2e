//! Every fault of the emulator against the built `wanctl`, over real sockets: it keeps ticking, keeps
//! the network usable, loses no decision, says what is wrong, and recovers.
//!
//! `WANCTL_WRITE_DOCS=1 cargo test -p wanctl-sim --test faults` writes `docs/faults.md` anew.

mod checks;
#[path = "../common/mod.rs"]
mod common;
mod document;
mod run;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::pings_or_skip;
use run::Step;
use wanctl::routeros::TransportKind;
use wanctl_sim::routeros::FAULT_NAMES;

/// Daemons that run at the same time. They mostly wait.
const WORKERS: usize = 20;

#[test]
fn the_daemon_outlives_every_fault_of_the_table() {
    if !pings_or_skip("the_daemon_outlives_every_fault_of_the_table") {
        return;
    }
    common::wanctl_binary();
    let only = std::env::var("WANCTL_FAULT").unwrap_or_default();
    let steps: Vec<_> = table::ROWS
        .iter()
        .enumerate()
        .flat_map(|(index, row)| {
            let rest = row.steps.iter().map(|step| (TransportKind::Rest, step));
            let api = row.api.unwrap_or_default().iter().map(|step| (TransportKind::Api, step));
            rest.chain(api).map(move |(transport, step)| (index + 1, transport, step))
        })
        .filter(|(_, _, step)| step.fault.starts_with(&only))
        .collect();
    let next = AtomicUsize::new(0);
    let failed = thread::scope(|scope| {
        let worker = || {
            let mut failed = Vec::new();
            while let Some((row, transport, step)) = steps.get(next.fetch_add(1, Ordering::Relaxed))
            {
                // The message was printed by the panic hook.
                if catch_unwind(AssertUnwindSafe(|| run::run(step, *transport))).is_err() {
                    let Step { fault, when, .. } = step;
                    failed.push(format!("row {row}: {fault} ({when:?}, {transport:?})"));
                }
            }
            failed
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("it catches"))
            .collect::<Vec<_>>()
    });
    assert!(failed.is_empty(), "{} of {} fail: {failed:#?}", failed.len(), steps.len());
}

#[test]
fn the_table_has_every_fault_with_every_detail() {
    for ((name, details), row) in FAULT_NAMES.iter().zip(&table::ROWS) {
        let words = row.steps.iter().map(|step| step.fault.split(',').next().unwrap_or_default());
        let words: Vec<_> = words.collect();
        assert!(!words.is_empty(), "{name} has no step");
        let api = row.api.unwrap_or_default().iter();
        let api = api.map(|step| step.fault.split(',').next().unwrap_or_default());
        for word in words.iter().copied().chain(api) {
            assert_eq!(word.split(':').next(), Some(*name), "{words:?}");
        }
        for detail in details.iter().filter(|detail| **detail != "TIME") {
            assert!(words.contains(&&*format!("{name}:{detail}")), "{name}:{detail} is not tested");
        }
    }
}

#[test]
fn docs_faults_md_is_what_the_table_says() {
    document::check();
}
