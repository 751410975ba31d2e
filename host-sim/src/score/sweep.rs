//! `wanctl-sim sweep`: a law's parameters over a suite, one JSON line per point.
//!
//! Points are dealt to shards by their number, lines say which point of which sweep they are, and a
//! run that was interrupted goes on behind its last line. So any batch system will do, and results
//! are merged by putting the files together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toml::Spanned;

use super::board::{self, Entry, Plan};
use super::input::{self, InputError};
use super::laws::Law;
use super::model::router::Backend;
use super::overrides::Override;
use super::run::Setup;
use super::table::{self, Means};
use super::{contender::budget::Budget, scenario::Scenario, suites};

/// What every result begins with.
const BEGIN: &str = "{\"sweep\":";
/// The most points one sweep may have.
const POINTS_MAX: usize = 1_000_000;

/// Options of `wanctl-sim sweep`.
#[derive(Debug, clap::Args)]
pub struct SweepArgs {
    /// What to sweep, as TOML: see docs/scoring.md
    file: PathBuf,
    /// Add results to this file and go on behind what it holds
    #[arg(long, value_name = "FILE.jsonl", required_unless_present = "report")]
    out: Option<PathBuf>,
    /// Only every n-th point, beginning with the i-th: `--shard 1/8` to `--shard 8/8`
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    shard: Option<Shard>,
    /// Run nothing; print the best points of these files
    #[arg(long, value_name = "FILE.jsonl", num_args = 1.., conflicts_with = "out")]
    report: Vec<PathBuf>,
    /// How many points a report shows
    #[arg(long, default_value_t = 20)]
    top: usize,
    /// Threads to use [default: all cores]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

/// One part of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

fn parse_shard(text: &str) -> Result<Shard, String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((index, count)) if (1..=count).contains(&index) => Ok(Shard { index, count }),
        _ => Err("expected I/N with I from 1 to N, such as 2/8".to_owned()),
    }
}

/// A sweep file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SweepFile {
    #[serde(default = "default_law")]
    law: Spanned<String>,
    #[serde(default = "default_suite")]
    suite: Spanned<String>,
    #[serde(default)]
    only: Vec<String>,
    #[serde(default)]
    backend: BackendName,
    budget: Option<u32>,
    seeds: u64,
    #[serde(default = "first_seed")]
    first_seed: u64,
    parameters: BTreeMap<Spanned<String>, Spanned<Vec<toml::Value>>>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum BackendName {
    #[default]
    Linux,
    Routeros,
}

fn default_law() -> Spanned<String> {
    Spanned::new(0..0, "adaptive".to_owned())
}

fn default_suite() -> Spanned<String> {
    Spanned::new(0..0, "default".to_owned())
}

const fn first_seed() -> u64 {
    1
}

/// A sweep, ready to run.
#[derive(Debug)]
pub struct Sweep {
    fingerprint: String,
    law: Law,
    setup: Setup,
    seeds: u64,
    first_seed: u64,
    scenarios: Vec<Scenario>,
    parameters: Vec<(String, Vec<Value>)>,
}

/// The result of one point.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// Which sweep it belongs to.
    pub sweep: String,
    /// The number of the point, from zero.
    pub point: usize,
    /// The parameters.
    pub set: BTreeMap<String, Value>,
    /// Means over all scenarios.
    pub means: Means,
    /// Means of every scenario.
    pub scenarios: BTreeMap<String, Means>,
}

/// Runs a sweep, or reports on one.
///
/// # Errors
///
/// An [`InputError`] when the sweep file or earlier results cannot be used.
pub fn run(args: &SweepArgs, out: &mut impl Write) -> Result<()> {
    let sweep = Sweep::read(&args.file)?;
    if let Some(path) = &args.out {
        sweep.run(path, args, out)
    } else {
        sweep.report(&args.report, args.top, out)
    }
}

impl Sweep {
    /// Reads a sweep file and checks every value of every parameter.
    ///
    /// # Errors
    ///
    /// An [`InputError`] with the line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        let text = input::without_mark(&text);
        let file: SweepFile =
            toml::from_str(text).map_err(|error| input::of_toml(path, text, &error))?;
        let at = |span: std::ops::Range<usize>, what: String| {
            InputError::at(path, input::line_of(text, span.start), what)
        };
        let law = Law::find(file.law.get_ref())
            .map_err(|error| at(file.law.span(), error.to_string()))?;
        if !law.is_core() {
            let what = format!("expected a law with parameters: {}", Law::names_of_core());
            return Err(at(file.law.span(), what).into());
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let scenarios = suites::find_from(folder, file.suite.get_ref(), &file.only)
            .map_err(|error| at(file.suite.span(), format!("{error:#}")))?;
        let Some(first) = scenarios.first() else {
            return Err(at(file.suite.span(), "expected a suite with scenarios".to_owned()).into());
        };
        let mut setup = match file.backend {
            BackendName::Linux => Setup::of(Backend::Linux),
            BackendName::Routeros => Setup::of(Backend::Routeros),
        };
        if let Some(per_minute) = file.budget {
            setup.budget = Some(Budget { per_minute, ..Budget::ROUTEROS });
        }
        let mut parameters = Vec::new();
        let mut points = 1_usize;
        for (key, values) in &file.parameters {
            let json: Vec<Value> =
                values.get_ref().iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
            if json.is_empty() {
                let what = "expected at least one value".to_owned();
                return Err(at(values.span(), what).into());
            }
            for value in &json {
                let set = [Override { key: key.get_ref().clone(), value: value.clone() }];
                law.contender(first, &setup, &set)
                    .map_err(|error| at(key.span(), format!("{error:#}")))?;
            }
            points = points.saturating_mul(json.len());
            parameters.push((key.get_ref().clone(), json));
        }
        if points > POINTS_MAX || file.seeds == 0 {
            let what = format!("expected 1 to {POINTS_MAX} points and at least one seed");
            return Err(InputError::whole(path, what).into());
        }
        // The suite may be a file, and what is built in changes: both belong to what was swept.
        let mut hash = Fnv::new();
        hash.write_str(text)?;
        write!(hash, "{scenarios:?}")?;
        let fingerprint = format!("{:016x}", hash.0);
        let SweepFile { seeds, first_seed, .. } = file;
        Ok(Self { fingerprint, law, setup, seeds, first_seed, scenarios, parameters })
    }

    fn points(&self) -> usize {
        self.parameters.iter().map(|(_, values)| values.len()).product()
    }

    /// The parameters of a point: the last one changes fastest.
    fn set(&self, mut point: usize) -> Vec<Override> {
        let mut set = Vec::new();
        for (key, values) in self.parameters.iter().rev() {
            let value = values[point % values.len()].clone();
            point /= values.len();
            set.push(Override { key: key.clone(), value });
        }
        set.reverse();
        set
    }

    fn run(&self, path: &Path, args: &SweepArgs, out: &mut impl Write) -> Result<()> {
        let done: BTreeSet<usize> = if path.exists() {
            // Read first: nothing is cut off a file that is not a sweep's.
            let lines = self.read_lines(path)?;
            cut_torn_line(path)?;
            lines.into_iter().map(|line| line.point).collect()
        } else {
            BTreeSet::new()
        };
        let name = || format!("{}", path.display());
        let mut file =
            OpenOptions::new().create(true).append(true).open(path).with_context(name)?;
        let shard = args.shard.unwrap_or(Shard { index: 1, count: 1 });
        let mine = (0..self.points()).filter(|point| point % shard.count == shard.index - 1);
        let mine: Vec<usize> = mine.collect();
        let open: Vec<usize> = mine.iter().copied().filter(|p| !done.contains(p)).collect();
        let is_terminal = std::io::stderr().is_terminal();
        for (index, &point) in open.iter().enumerate() {
            let line = self.score(point, args.threads);
            let line =
                line.with_context(|| format!("point {point}: {}", told(&self.set(point))))?;
            let mut line = serde_json::to_string(&line)?;
            line.push('\n');
            file.write_all(line.as_bytes()).with_context(name)?;
            if is_terminal {
                let end = if index + 1 == open.len() { "\n" } else { "" };
                let _closed =
                    write!(std::io::stderr(), "\r{}/{} points{end}", index + 1, open.len());
            }
        }
        let (all, new) = (mine.len(), open.len());
        writeln!(out, "{}: {all} points, {new} of them new", path.display())?;
        Ok(())
    }

    /// Runs one point over the suite.
    fn score(&self, point: usize, threads: Option<NonZeroUsize>) -> Result<Line> {
        let overrides = self.set(point);
        let entry = Entry { overrides: overrides.clone(), ..Entry::new(self.law, self.setup) };
        let plan = Plan {
            scenarios: self.scenarios.iter().map(|s| (s.clone(), self.seeds)).collect(),
            first_seed: self.first_seed,
            entries: vec![entry],
            threads: threads
                .or_else(|| std::thread::available_parallelism().ok())
                .map_or(1, NonZeroUsize::get),
        };
        let board = board::play(&plan, &|_, _| {})?;
        let mut scenarios = BTreeMap::new();
        let mut counted = Vec::new();
        for (index, (scenario, _)) in plan.scenarios.iter().enumerate() {
            let means = Means::of(board.scores(index, 0));
            if table::counts(scenario) {
                counted.push(means.clone());
            }
            scenarios.insert(scenario.name.clone(), means);
        }
        Ok(Line {
            sweep: self.fingerprint.clone(),
            point,
            set: overrides.into_iter().map(|o| (o.key, o.value)).collect(),
            means: Means::over(&counted),
            scenarios,
        })
    }

    fn read_lines(&self, path: &Path) -> Result<Vec<Line>> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        let mut lines = Vec::new();
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let number = index + 1;
            if is_torn(line) {
                continue;
            }
            let line: Line = serde_json::from_str(line).map_err(|error| {
                InputError::at(path, number, format!("expected a result of a sweep: {error}"))
            })?;
            if line.sweep != self.fingerprint || line.point >= self.points() {
                let what = "this result belongs to another sweep: the sweep file, or the suite, was \
                            changed since; expected results of this one, or another --out";
                return Err(InputError::at(path, number, what).into());
            }
            lines.push(line);
        }
        Ok(lines)
    }

    /// Prints the best points: the fewest milliseconds for the throughput they keep.
    fn report(&self, files: &[PathBuf], top: usize, out: &mut impl Write) -> Result<()> {
        let mut lines: BTreeMap<usize, Line> = BTreeMap::new();
        for path in files {
            lines.extend(self.read_lines(path)?.into_iter().map(|line| (line.point, line)));
        }
        ensure!(!lines.is_empty(), "there are no results yet");
        let mut lines: Vec<Line> = lines.into_values().collect();
        lines.sort_by(|a, b| merit(&b.means).total_cmp(&merit(&a.means)));
        writeln!(
            out,
            "{} of {} points; merit = utilisation - p95 / 500 ms",
            lines.len(),
            self.points()
        )?;
        writeln!(out, "{:>6} {:>7} {:>8} {:>8}  parameters", "merit", "util", "mean ms", "p95 ms")?;
        for line in lines.iter().take(top) {
            let Means { utilisation, mean_ms, p95_ms, .. } = line.means;
            let set: Vec<String> = line.set.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let merit = merit(&line.means);
            writeln!(
                out,
                "{merit:>6.3} {utilisation:>7.4} {mean_ms:>8.2} {p95_ms:>8.2}  {}",
                set.join(" ")
            )?;
        }
        Ok(())
    }
}

fn merit(means: &Means) -> f64 {
    means.utilisation - means.p95_ms / 500.0
}

fn told(set: &[Override]) -> String {
    set.iter().map(|it| format!("{}={}", it.key, it.value)).collect::<Vec<_>>().join(" ")
}

/// Half a result, which an interrupted run may have left, or one that still runs is about to finish.
fn is_torn(line: &str) -> bool {
    !line.ends_with('\n') && (line.starts_with(BEGIN) || BEGIN.starts_with(line))
}

/// An interrupted run may have left half a line, which says nothing.
fn cut_torn_line(path: &Path) -> Result<()> {
    let name = || format!("{}", path.display());
    let bytes = std::fs::read(path).with_context(name)?;
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |index| index + 1);
    if whole < bytes.len() {
        let file: File = OpenOptions::new().write(true).open(path).with_context(name)?;
        file.set_len(whole as u64).with_context(name)?;
    }
    Ok(())
}

/// FNV-1a over whatever is written to it.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl std::fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
