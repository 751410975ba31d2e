//! `cargo xtask test`: everything that must hold.

use anyhow::{Result, bail};

use crate::run::{cargo, example_configs, install, run, run_watched};
use crate::{board, rig, soak};

/// Programs the tests call, with the Debian package that brings them.
const PROGRAMS: [(&str, &str); 1] = [("ip", "iproute2")];

/// Runs every check; the number of tests is the last line.
///
/// With `full` the whole rig and the soak run as well, and must be available.
pub(crate) fn run_all(full: bool) -> Result<()> {
    install_programs();
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["fmt", "--check", "--manifest-path", "core/board/Cargo.toml"]))?;
    let clippy = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run(&mut cargo(&clippy))?;
    run(&mut cargo(&["check", "--locked", "-p", "wanctl-core", "--features", "defmt"]))?;
    run(cargo(&["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings"))?;
    check_configs()?;
    let counts = run_tests()?;
    readme_commands()?;
    board::run_quick()?;
    if full {
        rig::run_suite()?;
        soak::run_all(&[])?;
    } else {
        rig::smoke()?;
    }
    eprintln!("all checks passed");
    // Alone on its line: this is how CI learns how many tests ran.
    println_counts(&counts);
    Ok(())
}

/// Installs what is missing, where that is possible.
fn install_programs() {
    for (program, package) in PROGRAMS {
        if let Err(error) = install(program, "-V", &[package]) {
            eprintln!("{error:#}; tests that need {program} will be skipped or fail");
        }
    }
}

/// Validates every file that is shipped as an example.
fn check_configs() -> Result<()> {
    for file in example_configs()? {
        let check =
            ["run", "--locked", "-q", "-p", "wanctl", "--", "check", "--text-only", "--config"];
        run(cargo(&check).arg(file))?;
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

fn run_tests() -> Result<Counts> {
    let mut counts = Counts::default();
    let mut test = cargo(&["test", "--locked", "--workspace", "--no-fail-fast"]);
    let succeeded = run_watched(&mut test, |line| counts.add(line))?;
    if !succeeded || counts.failed > 0 || counts.passed == 0 {
        println_counts(&counts);
        bail!("tests failed");
    }
    Ok(counts)
}

impl Counts {
    /// Adds a line such as `test result: ok. 12 passed; 0 failed; 1 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let numbers = result.split_once(". ").map_or("", |(_, numbers)| numbers);
        for part in numbers.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let number: u64 = number.parse().unwrap_or_default();
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// The README promises two commands. This one is running; here is the other.
fn readme_commands() -> Result<()> {
    run(&mut cargo(&["demo", "--", "--seconds", "20"]))
}

fn println_counts(counts: &Counts) {
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.ignored);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_test_programs_add_up() {
        let mut counts = Counts::default();
        counts.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        counts.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured");
        counts.add("test naming::test result: ok. 7 passed ... ok");
        assert_eq!((counts.passed, counts.failed, counts.ignored), (15, 2, 1));
    }
}
