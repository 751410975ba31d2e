//! `cargo xtask bench`: how long one step of the core takes, and how many instructions.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::run::{cargo, install, run, target};

/// Steps whose instructions are counted; a second run with twice as many gives the difference.
const STEPS: u64 = 20_000;

/// Measures; everything is printed.
pub(crate) fn run_all() -> Result<()> {
    install("valgrind", "--version", &["valgrind"])?;
    run(&mut cargo(&["bench", "--locked", "-p", "wanctl-sim", "--bench", "step"]))?;
    run(&mut cargo(&["build", "--locked", "--release", "-p", "wanctl-sim", "--example", "steps"]))?;
    for wans in [1, 2] {
        let per_step = (instructions(wans, 2 * STEPS)? - instructions(wans, STEPS)?) / STEPS;
        writeln!(std::io::stdout(), "{per_step} instructions per step with {wans} WAN(s)")?;
    }
    Ok(())
}

/// Counts the instructions of one run with callgrind.
fn instructions(wans: u64, steps: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(target().join("release/examples/steps"))
        .args([wans.to_string(), steps.to_string()])
        .stderr(Stdio::piped())
        .output()
        .context("cannot start valgrind")?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("valgrind has failed:\n{told}");
    }
    collected(&told).with_context(|| format!("valgrind has counted nothing:\n{told}"))
}

/// Finds the number in `==123== Collected : 456`.
fn collected(told: &str) -> Option<u64> {
    told.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_of_instructions_is_found() {
        let told = "==7== Events    : Ir\n==7== Collected : 123456\n==7==\n";
        assert_eq!(super::collected(told), Some(123_456));
        assert_eq!(super::collected("==7== nothing"), None);
    }
}
