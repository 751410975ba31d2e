//! `wanctl-sim replay`: the recorded ticks once more, compared bit for bit.

mod session;
mod what_if;

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use wanctl::config::{self, ReadFiles};
use wanctl::trace_file::{Tally, TraceReader};
use wanctl_core::config::Config;
use wanctl_core::trace::{self, Record};

use self::session::Session;
pub use self::session::{Difference, Progress};
pub use self::what_if::WhatIf;

/// A decoded controller is passed up by value, many times its size without optimisation.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Options of `wanctl-sim replay`.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// A recording of `wanctl run --record` or `wanctl-sim demo --record`
    file: PathBuf,
    /// Feed the same inputs to a core with this configuration as well, and show both
    #[arg(long, value_name = "CONFIG.toml")]
    what_if: Option<PathBuf>,
    /// Write the outputs of every replayed step to a file, for `cargo xtask board`
    #[arg(long, value_name = "FILE")]
    outputs: Option<PathBuf>,
    /// Print how many ticks per second were replayed
    #[arg(long)]
    speed: bool,
}

/// What a replay has found.
#[derive(Debug)]
pub struct Outcome {
    /// What could be read.
    pub tally: Tally,
    /// What was done with it.
    pub progress: Progress,
    /// The first difference, if any; the replay ends there.
    pub difference: Option<Difference>,
}

/// Replays a file and prints what was found; returns whether all of it was identical.
///
/// # Errors
///
/// When nothing of the file can be replayed.
pub fn run(args: &ReplayArgs, out: &mut impl Write) -> Result<bool> {
    let what_if = args.what_if.as_deref().map(load_config).transpose()?;
    let mut what_if = what_if.map(WhatIf::new).transpose()?;
    let name = args.file.display();
    let file = File::open(&args.file).with_context(|| format!("{name}"))?;
    let outputs = args.outputs.as_deref().map(File::create).transpose().context("--outputs")?;
    let outputs = outputs.map(|file| Box::new(BufWriter::new(file)) as Box<dyn Write + Send>);
    let begin = Instant::now();
    let outcome =
        replay_into(file, what_if.as_mut(), outputs).with_context(|| format!("{name}"))?;
    let seconds = begin.elapsed().as_secs_f64();
    outcome.print(&name.to_string(), out)?;
    if args.speed {
        let ticks = outcome.progress.steps;
        // Counts of this size are exact in f64, and this is for reading only.
        writeln!(out, "speed: {:.0} ticks per second, {seconds:.3} s", ticks as f64 / seconds)?;
    }
    if let Some(what_if) = &what_if {
        what_if.print(out)?;
    }
    Ok(outcome.difference.is_none())
}

fn load_config(path: &Path) -> Result<Config> {
    // The password is of no use here.
    config::load(path, ReadFiles::No).map(|config| config.core).map_err(|error| anyhow!("{error}"))
}

/// Replays everything that can be replayed, up to the first difference.
///
/// # Errors
///
/// When that is nothing; the message says why and how many records could be read.
pub fn replay(source: impl Read + Send, what_if: Option<&mut WhatIf>) -> Result<Outcome> {
    replay_into(source, what_if, None)
}

/// Replays, and writes the outputs of every step as `docs/boards.md` describes it.
fn replay_into(
    source: impl Read + Send,
    what_if: Option<&mut WhatIf>,
    outputs: Option<Box<dyn Write + Send>>,
) -> Result<Outcome> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("replay".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || replay_here(source, what_if, outputs))?
            .join()
            .map_err(|_| anyhow!("the replay has panicked"))?
    })
}

fn replay_here(
    source: impl Read,
    mut what_if: Option<&mut WhatIf>,
    outputs: Option<Box<dyn Write + Send>>,
) -> Result<Outcome> {
    let mut reader = TraceReader::new(source);
    let mut session = Session::new(outputs);
    let mut failure = None;
    while let Some(payload) = reader.next_payload().context("cannot be read on")? {
        // What comes behind the end of the replay is only counted.
        if failure.is_none() && !session.has_differed() {
            failure = take(&mut session, payload, what_if.as_deref_mut()).err();
        }
    }
    let tally = reader.tally();
    let saved = format!("{} records saved, {} places damaged", tally.saved, tally.damaged);
    if let Some(error) = failure {
        return Err(error.context(saved));
    }
    let (progress, difference) = session.finish()?;
    if progress.steps == 0 && progress.states == 0 && difference.is_none() {
        bail!(
            "{saved}: {}",
            if tally.saved == 0 {
                "this is not a recording of wanctl, or nothing is left of it"
            } else if progress.skipped == 0 {
                "it holds no step"
            } else {
                "no state is left for a start in front of its steps"
            }
        );
    }
    Ok(Outcome { tally, progress, difference })
}

/// Takes one record.
fn take(session: &mut Session, payload: &[u8], what_if: Option<&mut WhatIf>) -> Result<()> {
    match trace::parse(payload)? {
        Record::OtherFormat(format) => bail!(
            "it is recorded in format {format}, and this program reads format {}; \
             use the wanctl-sim of that time",
            trace::FORMAT
        ),
        Record::Header(header) => session.header(&header)?,
        Record::State { seq, body } => session.state(seq, body)?,
        Record::Step { seq, body } => {
            let was_replayed = session.step(seq, body)?;
            if let Some(what_if) = what_if.filter(|_| was_replayed) {
                if let Some(both) = what_if.mismatch(session.config()) {
                    bail!(
                        "--what-if needs as many WANs and reflectors and the same interval as the \
                         recording: {both}"
                    );
                }
                what_if.step(session);
            }
        }
    }
    Ok(())
}

impl Outcome {
    /// Prints what was found.
    ///
    /// # Errors
    ///
    /// When `out` cannot be written.
    pub fn print(&self, name: &str, out: &mut impl Write) -> Result<()> {
        let Tally { saved, damaged } = self.tally;
        let Progress { steps, states, skipped, fresh, resumed, wans, .. } = self.progress;
        writeln!(out, "{name}: {saved} records saved, {damaged} places damaged")?;
        // `cargo xtask board` reads this line.
        writeln!(out, "starts: {fresh} fresh, {resumed} from a state; WANs: {wans}")?;
        for note in &self.progress.notes {
            writeln!(out, "note: {note}")?;
        }
        if self.progress.notes_left_out > 0 {
            writeln!(out, "note: and {} more like these", self.progress.notes_left_out)?;
        }
        if skipped > 0 {
            writeln!(out, "{skipped} steps could not be replayed")?;
        }
        if let Some(difference) = &self.difference {
            writeln!(out, "DIFFERENT after {steps} identical steps and {states} states")?;
            difference.print(out)
        } else {
            writeln!(out, "identical: {steps} steps and {states} states, bit for bit")?;
            Ok(())
        }
    }
}
