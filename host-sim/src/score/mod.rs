//! `wanctl-sim score`: laws side by side on emulated lines.
//!
//! `docs/scoring.md` describes the model, the metrics and the suite.

pub mod board;
pub mod capacity;
pub mod contender;
pub mod histogram;
pub mod input;
pub mod laws;
pub mod metrics;
pub mod model;
pub mod rng;
pub mod run;
pub mod scenario;
pub mod suite;
pub mod table;
pub mod traces;

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

use self::board::{Entry, Plan};
use self::contender::budget::Budget;
use self::laws::Law;
use self::model::router::Backend;
use self::run::Setup;
use self::scenario::Scenario;

/// Options of `wanctl-sim score`.
#[derive(Debug, clap::Args)]
pub struct ScoreArgs {
    /// The suite to run: `default`, `long` (a day of each idle line) or `rig` (the bench the
    /// rivals were measured on)
    #[arg(long, default_value = "default")]
    suite: String,
    /// Add every capacity trace in this folder to the suite
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// Only scenarios whose name contains this; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The laws to compare
    #[arg(long, value_delimiter = ',', default_value = "classic,autorate,static,oracle")]
    laws: Vec<String>,
    /// How many seeds of each scenario
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Where the shaper is
    #[arg(long, value_enum, default_value = "linux")]
    backend: Backend,
    /// Router writes a minute, both directions together [default: 120 on routeros, no limit on
    /// linux]
    #[arg(long)]
    budget: Option<u32>,
    /// How often RouterOS is asked for its counters
    #[arg(long, value_name = "MS", default_value_t = 250)]
    counters_ms: u64,
    /// Threads to use [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Write one CSV line per tick of a single run: the first scenario, law and seed
    #[arg(long, value_name = "FILE.csv")]
    dump: Option<PathBuf>,
}

/// Runs a suite and prints the table.
///
/// # Errors
///
/// When an option makes no sense or a file cannot be written.
pub fn run(args: &ScoreArgs, out: &mut impl Write) -> Result<()> {
    let laws: Vec<Law> = args.laws.iter().map(|name| Law::find(name)).collect::<Result<_>>()?;
    let setup = setup(args);
    let scenarios = scenarios(args)?;
    if let Some(path) = &args.dump {
        return dump(args, &scenarios, laws[0], &setup, path, out);
    }
    let entry = |law: Law| Entry { name: law.name().to_owned(), law, setup };
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let plan = Plan {
        scenarios: scenarios.into_iter().map(|scenario| (scenario, args.seeds)).collect(),
        first_seed: args.first_seed,
        entries: laws.into_iter().map(entry).collect(),
        threads: args.threads.unwrap_or(available),
    };
    let is_terminal = std::io::stderr().is_terminal();
    let board = board::play(&plan, &|done, of| {
        if is_terminal {
            let end = if done == of { "\n" } else { "" };
            let _closed = write!(std::io::stderr(), "\r{done}/{of} runs{end}");
        }
    })?;
    table::print(&plan, &board, out)
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
    let mut scenarios = match args.suite.as_str() {
        "default" => suite::default_suite(),
        "long" => suite::long_suite(),
        "rig" => suite::rig_suite(),
        "none" => Vec::new(),
        other => bail!("there is no suite `{other}`; known are: default, long, rig, none"),
    };
    if let Some(folder) = &args.traces {
        scenarios.extend(traces::folder(folder)?);
    }
    if !args.only.is_empty() {
        scenarios.retain(|scenario| args.only.iter().any(|name| scenario.name.contains(name)));
    }
    ensure!(!scenarios.is_empty(), "no scenario is left to run");
    Ok(scenarios)
}

fn dump(
    args: &ScoreArgs,
    scenarios: &[Scenario],
    law: Law,
    setup: &Setup,
    path: &PathBuf,
    out: &mut impl Write,
) -> Result<()> {
    let name = path.display();
    let file = std::fs::File::create(path).with_context(|| format!("{name}"))?;
    let mut file = std::io::BufWriter::new(file);
    let (scenario, seed) = (&scenarios[0], args.first_seed);
    let capacity = run::capacities(scenario, seed);
    let score = run::run(scenario, &capacity, law, setup, seed, Some(&mut file))?;
    file.flush().with_context(|| format!("{name}"))?;
    writeln!(out, "{name}: {} under {}, seed {seed}\n{score:#?}", scenario.name, law.name())?;
    Ok(())
}
