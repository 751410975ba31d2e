//! What a killed program has left in the kernel, and what the next one makes of it.

use std::path::Path;
use std::sync::Arc;

use wanctl_core::tick::Outcome;
use wanctl_core::units::Direction::{Download, Upload};

use super::super::memory::Role;
use super::qdisc;
use super::served::{Fake, FakeCake, HANDLE, IFB, WAN, finish, order, rate, reply};
use crate::shaping::{FinalRate, Worker};

const FILE: &str = "found-rates";

fn start(fake: &Fake, folder: &Path, role: Role) -> Worker {
    Worker::start(FakeCake(fake.clone(), Some((folder.to_path_buf(), role)))).unwrap()
}

/// Starts a daemon and waits for its rates.
fn daemon(fake: &Fake, folder: &Path, download: u64, upload: u64) -> Worker {
    let worker = start(fake, folder, Role::Daemon);
    for (id, direction, mbps) in [(1, Download, download), (2, Upload, upload)] {
        worker.set_rate(order(id, direction, mbps));
        assert!(matches!(reply(&worker, id), Outcome::Applied(_)));
    }
    worker
}

/// Ends it with nothing more written, as SIGKILL does, and waits until it is gone.
fn kill(fake: &Fake, worker: Worker) {
    drop(worker);
    while Arc::strong_count(&fake.0) > 1 {
        std::thread::yield_now();
    }
}

/// A kernel with 20 and 8 Mbit/s whose daemon was killed at 3 and 2.
fn killed() -> (Fake, tempfile::TempDir) {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().unwrap());
    let worker = daemon(&fake, folder.path(), 5, 4);
    for (id, direction, mbps) in [(3, Download, 3), (4, Upload, 2)] {
        worker.set_rate(order(id, direction, mbps));
        reply(&worker, id);
    }
    kill(&fake, worker);
    assert_eq!((fake.mbps(IFB), fake.mbps(WAN)), (3, 2));
    (fake, folder)
}

/// What a daemon finds that is started now; it writes, too.
fn found(fake: &Fake, folder: &Path) -> Vec<FinalRate> {
    let worker = daemon(fake, folder, 6, 5);
    let found = worker.found();
    kill(fake, worker);
    found
}

#[test]
fn a_daemon_that_was_killed_does_not_make_its_rates_the_ones_to_put_back() {
    let (fake, folder) = killed();
    // As often as it is killed.
    for _ in 0..3 {
        assert_eq!(found(&fake, folder.path()), [rate(Download, 20), rate(Upload, 8)]);
    }
    let worker = daemon(&fake, folder.path(), 7, 3);
    let found = worker.found();
    let ended = finish(worker, found);
    assert_eq!(ended, "the router holds download 20 Mbit/s, upload 8 Mbit/s");
    assert_eq!((fake.mbps(IFB), fake.mbps(WAN)), (20, 8));
    assert!(!folder.path().join(FILE).exists(), "there is nothing to put back any more");
}

#[test]
fn a_daemon_that_is_killed_before_its_first_write_forgets_nothing() {
    let (fake, folder) = killed();
    let worker = start(&fake, folder.path(), Role::Daemon);
    while worker.found().len() < 2 {
        std::thread::yield_now();
    }
    kill(&fake, worker);
    assert_eq!(found(&fake, folder.path()), [rate(Download, 20), rate(Upload, 8)]);
}

#[test]
fn a_qdisc_made_anew_while_nobody_watches_is_taken_as_it_is() {
    let cases = [
        ("another handle", qdisc(IFB, HANDLE + 0x1_0000, 3)),
        ("the same handle, as it can be named, and a rate of its own", qdisc(IFB, HANDLE, 50)),
    ];
    for (case, anew) in cases {
        let (fake, folder) = killed();
        fake.state().qdiscs[0] = anew;
        let now = fake.mbps(IFB);
        let found = found(&fake, folder.path());
        assert_eq!(found, [rate(Download, now), rate(Upload, 8)], "{case}");
    }
    let (fake, folder) = killed();
    // The interface was made anew.
    fake.state().interfaces.insert("ifb4wan".to_owned(), 9);
    fake.state().qdiscs[0] = qdisc(9, HANDLE, 3);
    assert_eq!(found(&fake, folder.path()), [rate(Download, 3), rate(Upload, 8)]);
}

#[test]
fn a_rate_that_was_set_by_hand_after_the_kill_is_the_one_to_put_back() {
    let (fake, folder) = killed();
    fake.set_mbps(WAN, 7);
    assert_eq!(found(&fake, folder.path()), [rate(Download, 20), rate(Upload, 7)]);
}

#[test]
fn an_end_in_order_leaves_what_it_leaves_as_found() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().unwrap());
    // As with `on-exit = "keep"`.
    let _ended = finish(daemon(&fake, folder.path(), 5, 4), Vec::new());
    assert!(!folder.path().join(FILE).exists());
    assert_eq!(found(&fake, folder.path()), [rate(Download, 5), rate(Upload, 4)]);
}

#[test]
fn what_could_not_be_put_back_is_tried_again_by_the_next_one() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().unwrap());
    let worker = daemon(&fake, folder.path(), 5, 4);
    let found_first = worker.found();
    fake.state().refusal = Some(nix::errno::Errno::EINVAL);
    let ended = finish(worker, found_first.clone());
    assert_eq!(ended, "not confirmed by the router: download 20 Mbit/s, upload 8 Mbit/s");
    fake.state().refusal = None;
    assert_eq!(found(&fake, folder.path()), found_first);
}

#[test]
fn an_end_before_the_qdiscs_were_there_forgets_nothing() {
    let (fake, folder) = killed();
    let gone = std::mem::take(&mut fake.state().qdiscs);
    let worker = start(&fake, folder.path(), Role::Daemon);
    while worker.fatal().is_none() {
        std::thread::yield_now();
    }
    let _ended = finish(worker, Vec::new());
    fake.state().qdiscs = gone;
    assert_eq!(found(&fake, folder.path()), [rate(Download, 20), rate(Upload, 8)]);
}

#[test]
fn fail_safe_rates_set_by_a_command_are_not_taken_for_found_ones() {
    let (fake, folder) = killed();
    let command = start(&fake, folder.path(), Role::Command);
    let ended = finish(command, vec![rate(Download, 10), rate(Upload, 6)]);
    assert_eq!(ended, "the router holds download 10 Mbit/s, upload 6 Mbit/s");
    assert_eq!(found(&fake, folder.path()), [rate(Download, 20), rate(Upload, 8)]);
}

#[test]
fn a_command_without_a_daemon_before_it_sets_what_the_next_one_finds() {
    let (fake, folder) = (Fake::new(), tempfile::tempdir().unwrap());
    let _ended = finish(start(&fake, folder.path(), Role::Command), vec![rate(Download, 10)]);
    assert!(!folder.path().join(FILE).exists());
    assert_eq!(found(&fake, folder.path()), [rate(Download, 10), rate(Upload, 8)]);
}
