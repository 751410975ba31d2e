//! `wanctl-sim`: the simulator's command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use wanctl_sim::{accuracy, demo, measure, parity, replay, routeros, step, synthetic};

/// Emulated routers and links for wanctl
#[derive(Debug, Parser)]
#[command(name = "wanctl-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare measured round-trip times with those the kernel's packet tap sees (root)
    #[command(after_help = ACCURACY_EXIT_CODES)]
    Accuracy(accuracy::AccuracyArgs),
    /// Play a congestion episode with an emulated router, an emulated line and the real daemon
    Demo(demo::DemoArgs),
    /// Measure the memory, CPU time and tick pacing of a wanctl process with one WAN
    Measure(measure::MeasureArgs),
    /// Compare the core with a recorded run of the reference controller
    #[command(after_help = parity::help())]
    Parity(parity::ParityArgs),
    /// Feed a recording to the core again and compare every output bit for bit
    #[command(after_help = REPLAY_EXIT_CODES)]
    Replay(replay::ReplayArgs),
    /// Serve an emulated RouterOS REST interface until interrupted
    Routeros(routeros::cli::RouterosArgs),
    /// Run the core for a foreign simulator: one JSON tick per line in, one JSON line out
    Step(step::StepArgs),
    /// Make a long recording of made-up lines, without waiting for it
    Synthesize(synthetic::SynthesizeArgs),
}

const ACCURACY_EXIT_CODES: &str = "Exit codes:
  0  the 99th percentile of the error is within the limit
  1  it is not
  2  it cannot be measured here";

const REPLAY_EXIT_CODES: &str = "Exit codes:
  0  everything that could be replayed is identical
  1  there is a difference; the first one is printed
  2  nothing can be replayed";

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Not locked: the emulator prints as well.
    let mut stdout = std::io::stdout();
    let result = match &cli.command {
        Command::Accuracy(args) => accuracy::run(args, &mut stdout),
        Command::Demo(args) => demo::run(args, &mut stdout).map(|()| true),
        Command::Measure(args) => measure::run(args, &mut stdout).map(|()| true),
        Command::Parity(args) => parity::run(args, &mut stdout),
        Command::Replay(args) => replay::run(args, &mut stdout),
        Command::Step(args) => step::run(args, std::io::stdin().lock(), &mut stdout),
        Command::Synthesize(args) => synthetic::run(args, &mut stdout).map(|()| true),
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
