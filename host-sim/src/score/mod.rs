//! `wanctl-sim score`: laws side by side on emulated lines.
//!
//! `docs/scoring.md` describes the model, the metrics and the suite.

pub mod board;
pub mod capacity;
pub mod contender;
pub mod dump;
pub mod fidelity;
pub mod goals;
pub mod histogram;
pub mod input;
pub mod json;
pub mod laws;
pub mod lint;
pub mod metrics;
pub mod model;
pub mod overrides;
pub mod phases;
pub mod plots;
pub mod recording;
pub mod rng;
pub mod run;
pub mod scenario;
pub mod suite;
mod suite_corners;
pub mod suite_file;
pub mod suites;
pub mod sweep;
pub mod table;
pub mod traces;

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use self::board::{Entry, Plan};
use self::contender::budget::Budget;
use self::laws::Law;
use self::model::router::Backend;
use self::overrides::Override;
use self::run::Setup;
use self::scenario::{Purpose, Scenario};

/// The most seeds of one scenario.
const SEEDS_MAX: u64 = 1_000_000;
/// The highest number a first seed may have; far from the end of what counts them.
const FIRST_SEED_MAX: u64 = u64::MAX / 2;

/// Options of `wanctl-sim score`.
#[derive(Debug, clap::Args)]
pub struct ScoreArgs {
    /// The suite to run: `default`, `long` (a day of each idle line), `rig` (the bench the rivals
    /// were measured on, with the measured rows beside the model's), `corners` (blind pings, a
    /// slow line, a route that changes under load, a day's course), `none` (with --traces), or a file
    #[arg(long, default_value = "default")]
    suite: String,
    /// Add every capacity trace in this folder to the suite
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Add every line of a recording of `wanctl run --record`; may be given several times
    #[arg(long, value_name = "FILE")]
    recording: Vec<PathBuf>,
    /// Only scenarios whose name contains this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The laws to compare
    #[arg(long, value_delimiter = ',', default_value = "classic,autorate,static,oracle,adaptive")]
    laws: Vec<String>,
    /// Change a field of the core's configuration for classic-tuned and adaptive, by its path below
    /// the WAN: `classic.target_delay=12000`; durations in µs, rates in bit/s
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How many seeds of each scenario
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=SEEDS_MAX))]
    seeds: u64,
    /// How many seeds of each idle line, which lasts a day
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=SEEDS_MAX))]
    idle_seeds: u64,
    /// Everything that is judged: all laws on linux, ours and autorate on routeros as well, with
    /// budgets of 30, 120 and 240 writes a minute
    #[arg(long, conflicts_with_all = ["backend", "budget", "counters_ms"])]
    goals: bool,
    /// The first seed
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=FIRST_SEED_MAX))]
    first_seed: u64,
    /// Where the shaper is
    #[arg(long, value_enum, default_value = "linux")]
    backend: Backend,
    /// Router writes a minute, both directions together [default: 120 on routeros, no limit on
    /// linux]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    budget: Option<u32>,
    /// How often RouterOS is asked for its counters
    #[arg(long, value_name = "MS", default_value_t = 250, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    counters_ms: u64,
    /// How many of the three reflectors answer ICMP timestamps [default: what the scenario says, 1
    /// in all that are built in]
    #[arg(long, value_name = "0-3", value_parser = clap::value_parser!(u8).range(0..=3))]
    timestamps: Option<u8>,
    /// Threads to use [default: all cores]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw capacity, rates and delay of each scenario's first seed as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Write one CSV line per tick of a single run: the first scenario, law and seed
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["goals", "json", "plots"])]
    dump: Option<PathBuf>,
}

/// Runs a suite and prints the table.
///
/// # Errors
///
/// When an option makes no sense or a file cannot be written.
pub fn run(args: &ScoreArgs, out: &mut impl Write) -> Result<()> {
    let laws: Vec<Law> = args.laws.iter().map(|name| Law::find(name)).collect::<Result<_>>()?;
    let overrides: Vec<Override> =
        args.set.iter().map(|text| Override::parse(text)).collect::<Result<_>>()?;
    let setup = setup(args);
    let scenarios = scenarios(args)?;
    let mut entries = if args.goals { goal_entries(&laws) } else { entries(&laws, setup) };
    for entry in entries.iter_mut().filter(|entry| takes_overrides(entry)) {
        entry.overrides.clone_from(&overrides);
    }
    ensure!(
        overrides.is_empty() || entries.iter().any(takes_overrides),
        "--set changes classic-tuned and adaptive, and none of them is among --laws"
    );
    if let Some(path) = &args.dump {
        return dump(args, &scenarios, &entries[0], path, out);
    }
    probe_outputs(args)?;
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let plan = Plan {
        scenarios: scenarios.into_iter().map(|scenario| with_seeds(scenario, args)).collect(),
        first_seed: args.first_seed,
        entries,
        threads: args.threads.map_or(available, NonZeroUsize::get),
    };
    let is_terminal = std::io::stderr().is_terminal();
    let board = board::play(&plan, &|done, of| {
        if is_terminal {
            let end = if done == of { "\n" } else { "" };
            let _closed = write!(std::io::stderr(), "\r{done}/{of} runs{end}");
        }
    })?;
    table::print(&plan, &board, out)?;
    fidelity::print(&fidelity::rows(&plan, &board), out)?;
    let goals = goals::rows(&plan, &board);
    goals::print(&goals, out)?;
    if let Some(path) = &args.json {
        json::write(&plan, &board, &goals, path)?;
    }
    if let Some(folder) = &args.plots {
        plots::write(&plan, folder)?;
    }
    Ok(())
}

/// Returns whether `--set` changes an entry's law: the reference stays what it is.
fn takes_overrides(entry: &Entry) -> bool {
    matches!(entry.law, Law::ClassicTuned | Law::Adaptive)
}

/// Finds out whether results can be written, before minutes are spent on them.
fn probe_outputs(args: &ScoreArgs) -> Result<()> {
    let name = |path: &Path| format!("{} cannot be written", path.display());
    if let Some(path) = &args.json {
        // What it holds stays until there is something better.
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.with_context(|| name(path))?;
    }
    if let Some(folder) = &args.plots {
        std::fs::create_dir_all(folder).with_context(|| name(folder))?;
    }
    Ok(())
}

/// A day of idling is the same day whatever the seed, but for its noise: one seed will do.
fn with_seeds(scenario: Scenario, args: &ScoreArgs) -> (Scenario, u64) {
    let is_idle = scenario.purpose == Purpose::Idle;
    let seeds = if is_idle { args.idle_seeds.min(args.seeds) } else { args.seeds };
    (scenario, seeds)
}

fn entries(laws: &[Law], setup: Setup) -> Vec<Entry> {
    laws.iter().map(|&law| Entry::new(law, setup)).collect()
}

/// Everything that is judged: all laws on Linux, and what a router's latency and budget make of
/// ours and its rival.
fn goal_entries(laws: &[Law]) -> Vec<Entry> {
    let mut all = entries(laws, Setup::of(Backend::Linux));
    for law in [Law::Autorate, Law::Adaptive] {
        if !laws.contains(&law) {
            continue;
        }
        let budgets: &[u32] = if law == Law::Adaptive { &[120, 30, 240] } else { &[120] };
        for &per_minute in budgets {
            let mut setup = Setup::of(Backend::Routeros);
            setup.budget = Some(Budget { per_minute, ..Budget::ROUTEROS });
            let name = format!("{}/ros{per_minute}", law.name());
            let idles = law == Law::Adaptive && per_minute == Budget::ROUTEROS.per_minute;
            all.push(Entry { name, idles, ..Entry::new(law, setup) });
        }
    }
    all
}

fn setup(args: &ScoreArgs) -> Setup {
    let mut setup = Setup::of(args.backend);
    setup.counter_interval_us = args.counters_ms * 1000;
    if let Some(per_minute) = args.budget {
        setup.budget = Some(Budget { per_minute, ..Budget::ROUTEROS });
    }
    setup
}

fn scenarios(args: &ScoreArgs) -> Result<Vec<Scenario>> {
    let mut scenarios = suites::find(&args.suite, &[])?;
    if let Some(folder) = &args.traces {
        scenarios.extend(traces::folder(folder)?);
    }
    for path in &args.recording {
        scenarios.extend(recording::read(path)?);
    }
    suites::keep(&mut scenarios, &args.only)?;
    tell_apart(&mut scenarios);
    for scenario in &mut scenarios {
        scenario.path.stamping = args.timestamps.unwrap_or(scenario.path.stamping);
    }
    Ok(scenarios)
}

/// A trace or a recording may be called as a scenario of the suite is, or as another file.
fn tell_apart(scenarios: &mut [Scenario]) {
    let mut taken = BTreeSet::new();
    for scenario in scenarios {
        let names = (2_u32..).map(|number| format!("{}-{number}", scenario.name));
        let mut names = std::iter::once(scenario.name.clone()).chain(names);
        if let Some(free) = names.find(|name| !taken.contains(name)) {
            scenario.name = free;
        }
        taken.insert(scenario.name.clone());
    }
}

fn dump(
    args: &ScoreArgs,
    scenarios: &[Scenario],
    entry: &Entry,
    path: &PathBuf,
    out: &mut impl Write,
) -> Result<()> {
    let name = path.display();
    let file = std::fs::File::create(path).with_context(|| format!("{name}"))?;
    let mut file = std::io::BufWriter::new(file);
    let (scenario, seed) = (&scenarios[0], args.first_seed);
    let capacity = run::capacities(scenario, seed);
    let Entry { law, setup, overrides, name: law_name, .. } = entry;
    let mut watch = dump::Dump::new(&mut file)?;
    let score = run::run(scenario, &capacity, *law, setup, overrides, seed, Some(&mut watch))?;
    file.flush().with_context(|| format!("{name}"))?;
    writeln!(out, "{name}: {} under {}, seed {seed}\n{score:#?}", scenario.name, law_name)?;
    Ok(())
}
