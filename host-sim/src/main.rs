//! `wanctl-sim`: the simulator's command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use wanctl_sim::{demo, measure, parity, routeros};

/// Emulated routers and links for wanctl
#[derive(Debug, Parser)]
#[command(name = "wanctl-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play a congestion episode with an emulated router, an emulated line and the real daemon
    Demo(demo::DemoArgs),
    /// Measure the memory, CPU time and tick pacing of a wanctl process with one WAN
    Measure(measure::MeasureArgs),
    /// Compare the core with a recorded run of the reference controller
    Parity(parity::ParityArgs),
    /// Serve an emulated RouterOS REST interface until interrupted
    Routeros(routeros::cli::RouterosArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Not locked: the emulator prints as well.
    let mut stdout = std::io::stdout();
    let result = match &cli.command {
        Command::Demo(args) => demo::run(args, &mut stdout).map(|()| true),
        Command::Measure(args) => measure::run(args, &mut stdout).map(|()| true),
        Command::Parity(args) => parity::run(args, &mut stdout),
        Command::Routeros(args) => routeros::cli::run(args).map(|()| true),
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
