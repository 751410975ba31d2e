//! `wanctl-sim`: the simulator's command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use wanctl_sim::parity;

/// Emulated routers and links for wanctl: demo, parity checks, RouterOS emulator
#[derive(Debug, Parser)]
#[command(name = "wanctl-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare the core with a recorded run of the reference controller
    Parity(parity::ParityArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut stdout = std::io::stdout().lock();
    let result = match &cli.command {
        Command::Parity(args) => parity::run(args, &mut stdout),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _closed = writeln!(std::io::stderr(), "wanctl-sim: {error:#}");
            ExitCode::from(2)
        }
    }
}
