//! `cargo xtask`: the project's own commands. What CI runs is `cargo xtask test` and nothing else.

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a build tool talks to its terminal"
)]

mod bench;
mod board;
mod cross;
mod demo;
mod rig;
mod run;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, check and demo commands of wanctl
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything CI runs: formatting, lints, docs, tests, shipped configs, the README's commands,
    /// the core on one board, the daemon once before real queues
    Test {
        /// Also run the whole rig (`cargo xtask rig`), a quarter of an hour, and the soak (`cargo xtask
        /// soak`), ten minutes
        #[arg(long)]
        full: bool,
    },
    /// Measure one step of the core: time (criterion) and instructions (callgrind)
    Bench,
    /// Build the core for small ARM boards, replay recordings on them in QEMU and compare
    Board(board::BoardArgs),
    /// Build daemon and simulator for ARM Linux boards and try them with QEMU's user emulation
    Cross,
    /// Run the daemon for ten minutes beside a router of real latency; nothing may wear out (root)
    Soak {
        /// Passed on to `wanctl-sim soak`: --seconds N
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run controllers before real queues: CAKE, TCP and a changing line in a user-mode Linux (docs/rig.md)
    Rig(rig::RigArgs),
    /// Build in release mode and play the demo; also reached as `cargo demo`
    Demo {
        /// Passed on to `wanctl-sim demo`: --seconds N, --root-net
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test { full } => test::run_all(full),
        Command::Bench => bench::run_all(),
        Command::Board(args) => board::run(&args),
        Command::Cross => cross::run_all(),
        Command::Soak { args } => soak::run_all(&args),
        Command::Rig(args) => rig::run(&args),
        Command::Demo { args } => demo::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
