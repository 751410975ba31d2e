//! Suites by name or file.

use std::path::Path;

use anyhow::{Result, ensure};

use super::scenario::Scenario;
use super::{suite, suite_file};

/// The names of the suites that are built in.
pub const NAMES: &str = "default, long, rig, blind, none";

/// Finds a suite by its name, or else reads the file of that name, and keeps the scenarios whose
/// names contain one of `only`.
///
/// # Errors
///
/// When there is no such suite, its file is malformed, or nothing is left.
pub fn find(name: &str, only: &[String]) -> Result<Vec<Scenario>> {
    let mut scenarios = built_in(name).map_or_else(|| read(name), Ok)?;
    keep(&mut scenarios, only);
    ensure!(!scenarios.is_empty() || name == "none", "no scenario is left to run");
    Ok(scenarios)
}

/// Keeps the scenarios whose names contain one of `only`; all if it is empty.
pub fn keep(scenarios: &mut Vec<Scenario>, only: &[String]) {
    if !only.is_empty() {
        scenarios.retain(|scenario| only.iter().any(|name| scenario.name.contains(name)));
    }
}

fn built_in(name: &str) -> Option<Vec<Scenario>> {
    match name {
        "default" => Some(suite::default_suite()),
        "long" => Some(suite::long_suite()),
        "rig" => Some(suite::rig_suite()),
        "blind" => Some(suite::blind_suite()),
        "none" => Some(Vec::new()),
        _ => None,
    }
}

fn read(name: &str) -> Result<Vec<Scenario>> {
    let path = Path::new(name);
    ensure!(path.exists(), "there is no suite and no file `{name}`; suites are: {NAMES}");
    suite_file::read(path)
}
