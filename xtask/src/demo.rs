//! `cargo demo`.

use std::process::Command;

use anyhow::Result;

use crate::run::{self, cargo};

/// Builds daemon and simulator and plays the demo.
pub(crate) fn run(args: &[String]) -> Result<()> {
    run::run(&mut cargo(&["build", "--quiet", "--release", "-p", "wanctl", "-p", "wanctl-sim"]))?;
    // `cargo demo -- --seconds 20` brings a `--` of its own.
    let args = args.iter().filter(|arg| *arg != "--");
    run::run(Command::new(run::target().join("release/wanctl-sim")).arg("demo").args(args))
}
