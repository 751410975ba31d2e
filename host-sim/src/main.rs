//! `wanctl-sim`: the simulator's command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use wanctl_sim::{accuracy, demo, measure, parity, replay, routeros, score, soak, step, synthetic};

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
    /// Tell what a configuration will do: recovery, response to a drop, cuts on idle noise
    #[command(after_help = LINT_EXIT_CODES)]
    Lint(score::lint::LintArgs),
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
    /// Score laws side by side on emulated lines
    #[command(after_help = SCORE_EXIT_CODES)]
    Score(score::ScoreArgs),
    /// Score a law with many parameter values, sharded and resumable
    #[command(after_help = SCORE_EXIT_CODES)]
    Sweep(score::sweep::SweepArgs),
    /// Run the daemon at the latency of a real router for long, and check that nothing wears out
    #[command(after_help = SOAK_EXIT_CODES)]
    Soak(soak::SoakArgs),
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

const SCORE_EXIT_CODES: &str = "Exit codes:
  0  done
  2  it cannot be done: a bad option, a file that cannot be opened
  3  a suite, trace, recording or sweep file is malformed; nothing was run";

const SOAK_EXIT_CODES: &str = "Exit codes:
  0  every goal is met
  1  one is not
  2  it cannot be run here";

const LINT_EXIT_CODES: &str = "Exit codes:
  0  nothing to warn of
  1  some lines are marked with !
  2  the configuration cannot be used
  3  the recording is malformed or too short";

/// A file of the user's cannot be used.
const MALFORMED: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Not locked: the emulator prints as well.
    let mut stdout = std::io::stdout();
    let result = match &cli.command {
        Command::Accuracy(args) => accuracy::run(args, &mut stdout),
        Command::Demo(args) => demo::run(args, &mut stdout).map(|()| true),
        Command::Lint(args) => score::lint::run(args, &mut stdout),
        Command::Measure(args) => measure::run(args, &mut stdout).map(|()| true),
        Command::Parity(args) => parity::run(args, &mut stdout),
        Command::Replay(args) => replay::run(args, &mut stdout),
        Command::Score(args) => score::run(args, &mut stdout).map(|()| true),
        Command::Sweep(args) => score::sweep::run(args, &mut stdout).map(|()| true),
        Command::Soak(args) => soak::run(args, &mut stdout),
        Command::Step(args) => step::run(args, std::io::stdin().lock(), &mut stdout),
        Command::Synthesize(args) => synthetic::run(args, &mut stdout).map(|()| true),
        Command::Routeros(args) => routeros::cli::run(args).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        // Whoever reads has seen enough, as `head` has.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _closed = writeln!(std::io::stderr(), "wanctl-sim: {error:#}");
            let is_malformed = error.downcast_ref::<score::input::InputError>().is_some();
            ExitCode::from(if is_malformed { MALFORMED } else { 2 })
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
