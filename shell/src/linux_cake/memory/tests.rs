//! The file: what comes back from it, and what is not believed.

use std::fs;

use super::super::tests::qdisc;
use super::*;

const BOOT: &str = "5f0c8a52-0d6e-4b4c-9f0e-0a3d6f1c2b7e";
const HANDLE: u32 = 0x8001_0000;

fn open(folder: &Path, boot: &str) -> Memory {
    Memory::of_boot(folder, Role::Daemon, boot.to_owned())
}

fn cake(mbps: u64) -> Found {
    let cake = qdisc(3, HANDLE, mbps).cake.unwrap();
    Found { interface: 3, handle: HANDLE, cake }
}

const fn mbps(rate: u64) -> BitsPerSecond {
    BitsPerSecond::from_mbps(rate)
}

/// A folder whose daemon found 20 Mbit/s and was killed between asking for these rates and their answers.
fn killed(asked: &[u64]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut memory = open(folder.path(), BOOT);
    assert_eq!(memory.meet("eth0", &cake(20)), mbps(20));
    for rate in asked {
        memory.before_write("eth0", mbps(*rate));
    }
    folder
}

#[test]
fn the_file_says_in_words_what_it_is() {
    let folder = killed(&[5, 4]);
    let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
    assert_eq!(text, format!("{HEADER}\n{BOOT}\neth0 3 8001: 2500000 625000 500000\n"));
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, [NAME], "nothing temporary stays");
}

#[test]
fn whatever_rate_was_on_its_way_is_known_again() {
    for left in [5, 4] {
        let folder = killed(&[5, 4]);
        assert_eq!(open(folder.path(), BOOT).meet("eth0", &cake(left)), mbps(20));
    }
    let folder = killed(&[5, 4]);
    assert_eq!(open(folder.path(), BOOT).meet("eth0", &cake(6)), mbps(6));
    assert_eq!(open(folder.path(), BOOT).meet("eth1", &cake(4)), mbps(4), "another interface");
}

#[test]
fn a_rate_that_the_kernel_makes_of_it_is_the_one_that_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut memory = open(folder.path(), BOOT);
    memory.meet("eth0", &cake(20));
    memory.before_write("eth0", mbps(6));
    memory.after_write("eth0", mbps(5));
    assert_eq!(open(folder.path(), BOOT).meet("eth0", &cake(5)), mbps(20));
}

#[test]
fn of_rates_that_all_fail_the_last_one_held_and_the_latest_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut memory = open(folder.path(), BOOT);
    memory.meet("eth0", &cake(20));
    memory.before_write("eth0", mbps(15));
    memory.after_write("eth0", mbps(15));
    for rate in 1..=10 {
        memory.before_write("eth0", mbps(rate));
    }
    for (left, found) in [(15, 20), (10, 20), (9, 20), (8, 20), (7, 7)] {
        assert_eq!(open(folder.path(), BOOT).meet("eth0", &cake(left)), mbps(found), "{left}");
    }
}

#[test]
fn another_start_of_the_kernel_has_other_qdiscs() {
    let folder = killed(&[5]);
    assert_eq!(open(folder.path(), "another").meet("eth0", &cake(5)), mbps(5));
    assert_eq!(open(folder.path(), BOOT).meet("eth0", &cake(5)), mbps(20), "it was only read");
}

#[test]
fn a_qdisc_that_was_made_anew_with_our_rate_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let mut memory = open(folder.path(), BOOT);
    memory.meet("eth0", &cake(20));
    memory.before_write("eth0", mbps(5));
    memory.after_write("eth0", mbps(5));
    memory.follow("eth0", (4, HANDLE));
    memory.before_write("eth0", mbps(6));
    let anew = Found { interface: 4, ..cake(6) };
    assert_eq!(open(folder.path(), BOOT).meet("eth0", &anew), mbps(20));
}

#[test]
fn a_file_that_is_cut_spoilt_or_of_somebody_else_is_ignored() {
    let folder = killed(&[5]);
    let path = folder.path().join(NAME);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(read(&path, BOOT).is_err(), "{length}");
        assert_eq!(open(folder.path(), BOOT).meet("eth0", &cake(5)), mbps(5));
    }
    let line = |line: &str| format!("{HEADER}\n{BOOT}\n{line}\n");
    let lines = [
        "eth0 3 8001: 2500000",
        "eth0 3 8001: 2500000 1 2 3 4 5",
        "eth0 3 8001 2500000 625000",
        "eth0 -3 8001: 2500000 625000",
        "eth0 3 8001: 2500000  625000",
        " 3 8001: 2500000 625000",
        "",
    ];
    for text in lines.map(line).into_iter().chain(["{}\n".to_owned(), "x".repeat(10_000)]) {
        fs::write(&path, &text).unwrap();
        assert!(read(&path, BOOT).is_err(), "{text}");
    }
    fs::write(&path, [0xff; 100]).unwrap();
    assert!(read(&path, BOOT).is_err());
    // It is replaced by the next one.
    let mut memory = open(folder.path(), BOOT);
    memory.meet("eth0", &cake(7));
    memory.before_write("eth0", mbps(5));
    assert_eq!(open(folder.path(), BOOT).meet("eth0", &cake(5)), mbps(7));
}

#[test]
fn a_folder_that_cannot_be_written_to_stops_nobody() {
    let folder = killed(&[5]);
    let mut memory = open(&folder.path().join("missing"), BOOT);
    assert_eq!(memory.meet("eth0", &cake(20)), mbps(20));
    memory.before_write("eth0", mbps(5));
    fs::create_dir(folder.path().join("missing")).unwrap();
    // It is tried again, also for a rate that is no new one.
    memory.before_write("eth0", mbps(5));
    assert_eq!(open(&folder.path().join("missing"), BOOT).meet("eth0", &cake(5)), mbps(20));
}
