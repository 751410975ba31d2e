//! `cargo xtask soak`: the release build for ten minutes beside a router of real latency.

use anyhow::Result;

use crate::run::{cargo, run};

/// Builds and runs; `args` go to `wanctl-sim soak`.
pub(crate) fn run_all(args: &[String]) -> Result<()> {
    run(&mut cargo(&["build", "--locked", "--release", "-p", "wanctl", "-p", "wanctl-sim"]))?;
    let soak = ["run", "--locked", "--release", "-q", "-p", "wanctl-sim", "--", "soak"];
    run(cargo(&soak).args(args))
}
