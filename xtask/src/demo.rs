//! `cargo demo`.

use std::process::Command;

use anyhow::Result;

use crate::run::{self, cargo, root};

/// Builds daemon and simulator and plays the demo.
pub(crate) fn run(args: &[String]) -> Result<()> {
    run::run(&mut cargo(&["build", "--quiet", "--release", "-p", "wanctl", "-p", "wanctl-sim"]))?;
    // `cargo demo -- --seconds 20` brings a `--` of its own.
    let args = args.iter().filter(|arg| *arg != "--");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |target| root().join(target));
    run::run(Command::new(target.join("release/wanctl-sim")).arg("demo").args(args))
}
