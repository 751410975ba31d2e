//! `cargo xtask board`: the core on small ARM boards, in QEMU, compared with the host byte by byte.

mod build;
mod figures;
mod qemu;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

pub(crate) use self::build::Toolchain;
use self::build::{Image, Variant};
use self::figures::Row;
use crate::run::{self, cargo, install, output};

/// A board, and what is built for it.
#[derive(Debug)]
pub(crate) struct Board {
    name: &'static str,
    target: &'static str,
    /// QEMU's machine. Its memory is larger than what the image is given.
    machine: &'static str,
    limits: bool,
}

const CORTEX_M4: Board = Board {
    name: "Cortex-M4F",
    target: "thumbv7em-none-eabihf",
    machine: "mps2-an386",
    limits: true,
};
const CORTEX_M3: Board =
    Board { name: "Cortex-M3", target: "thumbv7m-none-eabi", machine: "mps2-an385", limits: false };
/// QEMU's only Cortex-M0 has 16 KiB of RAM; a Cortex-M3 runs the same instructions.
const CORTEX_M0: Board = Board {
    name: "Cortex-M0+ code",
    target: "thumbv6m-none-eabi",
    machine: "mps2-an385",
    limits: false,
};

/// The parts of the recordings that are made here: an ordinary and a hostile line under each law, and
/// how many seconds of it.
const PARTS: [(&[&str], &str); 4] = [
    (&["--law", "adaptive"], "1000"),
    (&["--law", "adaptive", "--hostile"], "2000"),
    (&["--law", "classic"], "1000"),
    (&["--law", "classic", "--hostile"], "2000"),
];

/// Which boards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Which {
    M4,
    M3,
    M0,
    All,
}

impl Which {
    fn boards(self) -> &'static [Board] {
        match self {
            Self::M4 => &[CORTEX_M4],
            Self::M3 => &[CORTEX_M3],
            Self::M0 => &[CORTEX_M0],
            Self::All => &[CORTEX_M4, CORTEX_M3, CORTEX_M0],
        }
    }
}

/// Options of `cargo xtask board`.
#[derive(Debug, clap::Args)]
pub(crate) struct BoardArgs {
    /// Replay this recording instead of the made-up ones
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
    /// Only this board
    #[arg(long, value_enum, default_value_t = Which::All)]
    board: Which,
}

/// Everything; the figures of a full run go into `docs/boards.md`.
pub(crate) fn run(args: &BoardArgs) -> Result<()> {
    let rows = check(args.board, args.recording.as_deref())?;
    println!("{}", figures::table(&rows));
    if args.recording.is_none() && args.board == Which::All {
        figures::write(&rows)?;
    }
    figures::check_limits(&rows)
}

/// What `cargo xtask test` runs: one board, without touching the documentation.
pub(crate) fn run_quick() -> Result<()> {
    let rows = check(Which::M4, None)?;
    println!("{}", figures::table(&rows));
    figures::check_limits(&rows)
}

fn check(which: Which, recording: Option<&Path>) -> Result<Vec<Row>> {
    install("qemu-system-arm", "--version", &["qemu-system-arm"])?;
    install("arm-none-eabi-ld", "--version", &["binutils-arm-none-eabi"])?;
    // What cannot be reached from an image is still no place for a panic.
    let lints = ["clippy", "--locked", "-q", "-p", "wanctl-core", "--lib", "--", "-D", "warnings"];
    run::run(&mut cargo(&lints))?;
    let mut boards = Vec::new();
    for board in which.boards() {
        let toolchain = Toolchain::find(board.target)?;
        build::prove(board, &toolchain)?;
        boards.push((board, toolchain));
    }
    run::run(&mut cargo(&["build", "--locked", "-q", "--release", "-p", "wanctl-sim"]))?;
    let folder = run::target().join("board");
    fs::create_dir_all(&folder)?;
    let inputs = match recording {
        Some(file) => vec![Input::of(&folder, file)?],
        None => vec![Input::made_up(&folder, 1)?, Input::made_up(&folder, 2)?],
    };
    let mut rows = Vec::new();
    for (board, toolchain) in &boards {
        for input in &inputs {
            let image = Image::build(board, toolchain, input.variant())?;
            rows.push(input.run(board, &image)?);
        }
    }
    Ok(rows)
}

/// A recording, with what the host makes of it.
struct Input {
    recording: PathBuf,
    /// The outputs of every step, computed by the host.
    outputs: PathBuf,
    wans: u8,
    /// A start from a state with a past; only an image with more memory can do that.
    has_resumed: bool,
}

impl Input {
    /// Makes a recording of so many WANs.
    fn made_up(folder: &Path, wans: u8) -> Result<Self> {
        let mut bytes = Vec::new();
        for (kind, seconds) in PARTS {
            let part = folder.join("part.trace");
            let mut synthesize = simulator();
            synthesize.arg("synthesize").arg(&part).args(["--seconds", seconds]);
            output(synthesize.args(["--wans", &wans.to_string()]).args(kind))?;
            bytes.append(&mut fs::read(&part)?);
            fs::remove_file(part)?;
        }
        let recording = folder.join(format!("made-up-{wans}.trace"));
        fs::write(&recording, bytes)?;
        Self::of(folder, &recording)
    }

    /// Replays a recording on the host.
    fn of(folder: &Path, recording: &Path) -> Result<Self> {
        let name = recording.file_stem().unwrap_or_default().to_string_lossy();
        let outputs = folder.join(format!("{name}.outputs"));
        let mut replay = simulator();
        let replay = replay.arg("replay").arg(recording).arg("--outputs").arg(&outputs);
        let told = output(replay).context("the host cannot replay the recording")?;
        let numbers = told.lines().find_map(starts).context("the replay tells no starts")?;
        let [_, resumed, wans] = numbers;
        let wans = u8::try_from(wans).context("too many WANs")?;
        let recording = fs::canonicalize(recording)?;
        Ok(Self { recording, outputs, wans, has_resumed: resumed > 0 })
    }

    fn variant(&self) -> Variant {
        Variant { wans: self.wans, resume: self.has_resumed }
    }

    /// Replays the recording on a board and compares.
    fn run(&self, board: &Board, image: &Image) -> Result<Row> {
        let run = qemu::run(board, image, &self.recording)?;
        let expected = fs::read(&self.outputs)?;
        let name = self.recording.file_name().unwrap_or_default().to_string_lossy();
        qemu::compare(&expected, &run.outputs)
            .with_context(|| format!("{name} on {}", board.name))?;
        ensure!(!run.costs.is_empty(), "{name} holds no step");
        ensure!(run.log_lines > 0, "the log is empty");
        println!(
            "{}, {} WAN(s): {name}: {} ticks, {} bytes of outputs identical to the host's, {} lines \
             of log",
            board.name,
            self.wans,
            run.costs.len(),
            expected.len(),
            run.log_lines
        );
        Row::new(board, image, &run)
    }
}

/// Finds the numbers in `starts: 7 fresh, 0 from a state; WANs: 2`.
fn starts(line: &str) -> Option<[u64; 3]> {
    let line = line.strip_prefix("starts: ")?;
    let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty());
    let mut next = || numbers.next()?.parse().ok();
    Some([next()?, next()?, next()?])
}

fn simulator() -> Command {
    Command::new(run::target().join("release/wanctl-sim"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_starts_of_a_replay_are_found() {
        let line = "starts: 7 fresh, 0 from a state; WANs: 2";
        assert_eq!(super::starts(line), Some([7, 0, 2]));
        assert_eq!(super::starts("identical: 7 steps"), None);
    }
}
