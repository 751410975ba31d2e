//! `wanctl-sim step`: the core for foreign simulators, one JSON line in, one JSON line out.
//!
//! `docs/step-interface.md` describes the lines.

use std::io::{BufRead, Read as _, Write};
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};
use wanctl::config::{self, ReadFiles};
use wanctl_core::config::Config;
use wanctl_core::controller::Controller;
use wanctl_core::outputs::Outputs;
use wanctl_core::tick::Tick;

/// Version of the lines. Any change that an old program would not understand is a new number.
pub const VERSION: u32 = 1;
/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Options of `wanctl-sim step`.
#[derive(Debug, clap::Args)]
pub struct StepArgs {
    /// The configuration of `wanctl run`; password and CA files need not exist
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    version: u32,
    tick: Tick,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Response<'a> {
    Outputs { version: u32, outputs: &'a Outputs },
    Error { version: u32, error: &'a str },
}

/// Answers every line of `input`; returns whether all of them were good.
///
/// # Errors
///
/// When the configuration cannot be used or a stream fails.
pub fn run(args: &StepArgs, input: impl BufRead, out: &mut impl Write) -> Result<bool> {
    let config = config::load(&args.config, ReadFiles::No).map_err(|error| anyhow!("{error}"))?;
    serve(&config.core, input, out)
}

/// The same for a configuration that has been read.
///
/// # Errors
///
/// As [`run`].
pub fn serve(config: &Config, mut input: impl BufRead, out: &mut impl Write) -> Result<bool> {
    let mut controller: Box<Controller> = Box::new(Controller::new(config)?);
    let mut outputs = Outputs::new();
    let (mut line, mut all_good) = (Vec::new(), true);
    loop {
        line.clear();
        (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(all_good);
        }
        let response = match read(&line, &mut input) {
            Ok(tick) => {
                controller.step(&tick, &mut outputs);
                serde_json::to_string(&Response::Outputs { version: VERSION, outputs: &outputs })?
            }
            Err(error) => {
                all_good = false;
                let error = error.to_string();
                serde_json::to_string(&Response::Error { version: VERSION, error: &error })?
            }
        };
        // The other side waits for this line before it sends the next one.
        writeln!(out, "{response}")?;
        out.flush()?;
    }
}

fn read(line: &[u8], rest: &mut impl BufRead) -> Result<Tick> {
    if line.len() as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
        rest.skip_until(b'\n')?;
        return Err(anyhow!("a line may have {LINE_BYTES_MAX} bytes at most"));
    }
    let request: Request = serde_json::from_slice(line)?;
    if request.version != VERSION {
        return Err(anyhow!("version {} is not {VERSION}", request.version));
    }
    Ok(request.tick)
}
