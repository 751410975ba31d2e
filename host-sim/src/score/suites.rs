//! Suites by name or file.

use std::path::Path;

use anyhow::{Result, ensure};

use super::scenario::Scenario;
use super::{suite, suite_corners, suite_file};

/// The names of the suites that are built in.
pub const NAMES: &str = "default, long, rig, corners, none";

/// Finds a suite by its name, or else reads the file of that name, and keeps the scenarios whose
/// names contain one of `only`.
///
/// # Errors
///
/// When there is no such suite, its file is malformed, or nothing is left.
pub fn find(name: &str, only: &[String]) -> Result<Vec<Scenario>> {
    find_from(Path::new(""), name, only)
}

/// The same, with files named from a folder.
///
/// # Errors
///
/// As [`find`].
pub fn find_from(folder: &Path, name: &str, only: &[String]) -> Result<Vec<Scenario>> {
    let read = || read(&folder.join(name));
    let mut scenarios = built_in(name).map_or_else(read, Ok)?;
    if !scenarios.is_empty() {
        keep(&mut scenarios, only)?;
    }
    Ok(scenarios)
}

/// Keeps the scenarios whose names contain one of `only`; all if it is empty.
///
/// # Errors
///
/// When nothing is left; the message lists the names there are.
pub fn keep(scenarios: &mut Vec<Scenario>, only: &[String]) -> Result<()> {
    ensure!(
        !scenarios.is_empty(),
        "there is no scenario to run; expected a suite other than `none`, or a trace or a recording"
    );
    let names: Vec<String> = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    let is_wanted = |scenario: &Scenario| only.iter().any(|name| scenario.name.contains(name));
    scenarios.retain(|scenario| only.is_empty() || is_wanted(scenario));
    ensure!(
        !scenarios.is_empty(),
        "no scenario has {} in its name; there are: {}",
        only.join(" or "),
        names.join(", ")
    );
    Ok(())
}

fn built_in(name: &str) -> Option<Vec<Scenario>> {
    match name {
        "default" => Some(suite::default_suite()),
        "long" => Some(suite::long_suite()),
        "rig" => Some(suite::rig_suite()),
        "corners" => Some(suite_corners::corners_suite()),
        "none" => Some(Vec::new()),
        _ => None,
    }
}

fn read(path: &Path) -> Result<Vec<Scenario>> {
    let name = path.display();
    ensure!(path.exists(), "there is no suite and no file `{name}`; suites are: {NAMES}");
    suite_file::read(path)
}
