//! `wanctl`: the daemon and its command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match wanctl::cli::main(&wanctl::cli::Cli::parse(), &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody may be listening; the exit code still tells.
            let _closed = writeln!(std::io::stderr(), "wanctl: {failure}");
            failure.reason.into()
        }
    }
}
