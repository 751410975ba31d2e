//! `wanctl record`: what the flight recorder has, on the command line.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::config::{self, ReadFiles};
use crate::exit::{ExitReason, Failure};
use crate::trace_file::ring::{self, Exported, Selection, show_bytes};

/// What can be done with the flight recorder.
#[derive(Debug, Subcommand)]
pub enum RecordCommand {
    /// Show the segments: number, beginning (UTC), size, and whether an incident keeps it
    List {
        #[command(flatten)]
        ring: RingArgs,
    },
    /// Write a part of the recording to one file, for `wanctl-sim replay`
    Export {
        #[command(flatten)]
        ring: RingArgs,
        /// The latest part: so much recorded time, or up to a minute more (default: everything)
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        last: Option<Duration>,
        /// Segments by their numbers in `list`, one or FIRST-LAST
        #[arg(long, value_name = "NUMBERS", value_parser = numbers, conflicts_with = "last")]
        segments: Option<RangeInclusive<u64>>,
        /// The file to write; one that exists is replaced when the new one is complete
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// Where the recording is.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct RingArgs {
    /// The configuration file of the daemon; the files that it names are not read
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder with the segments
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

fn numbers(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err("expected a number or FIRST-LAST, such as 12-17".to_owned()),
    }
}

/// Runs a command and returns what it has to say.
///
/// # Errors
///
/// When there is no such recording, or the file cannot be written.
pub fn run(command: &RecordCommand) -> Result<String, Failure> {
    match command {
        RecordCommand::List { ring } => {
            let folder = ring.folder()?;
            ring::describe(&folder).map_err(|error| storage(&folder, &error))
        }
        RecordCommand::Export { ring, last, segments, output } => {
            let selection = match (last, segments) {
                (Some(last), _) => Selection::Last(*last),
                (None, Some(numbers)) => Selection::Segments(numbers.clone()),
                (None, None) => Selection::All,
            };
            let folder = ring.folder()?;
            let exported = export(&folder, &selection, output)?;
            Ok(format!("{}: {}", output.display(), describe(&exported)))
        }
    }
}

impl RingArgs {
    fn folder(&self) -> Result<PathBuf, Failure> {
        let Some(path) = &self.config else {
            return Ok(self.directory.clone().unwrap_or_default());
        };
        let config = config::load(path, ReadFiles::No)?;
        config.flight.map(|flight| flight.folder).ok_or_else(|| {
            let hint = "it needs state-dir, or [record] with a directory, and no enabled = false";
            let message = format!("{}: no flight recorder is configured; {hint}", path.display());
            Failure::new(ExitReason::Storage, message)
        })
    }
}

fn storage(path: &Path, error: &io::Error) -> Failure {
    Failure::new(ExitReason::Storage, format!("{}: {error}", path.display()))
}

/// Writes beside the file first, so that there is never half a recording of that name.
fn export(folder: &Path, selection: &Selection, output: &Path) -> Result<Exported, Failure> {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = output.with_file_name(name);
    let file = File::create(&part).map_err(|error| storage(&part, &error))?;
    let mut file = BufWriter::new(file);
    let exported = ring::export(folder, selection, &mut file);
    let finished = exported.and_then(|exported| {
        file.flush()?;
        std::fs::rename(&part, output)?;
        Ok(exported)
    });
    finished.map_err(|error| {
        let _gone = std::fs::remove_file(&part);
        storage(folder, &error)
    })
}

fn describe(exported: &Exported) -> String {
    let seconds = Duration::from_secs(exported.recorded_us / 1_000_000);
    let mut text = format!(
        "{} of recording, {} steps, {} from {} segments",
        humantime::format_duration(seconds),
        exported.steps,
        show_bytes(exported.bytes),
        exported.segments
    );
    if exported.damaged > 0 {
        text.push_str(&format!("; {} places were damaged and left out", exported.damaged));
    }
    text
}
