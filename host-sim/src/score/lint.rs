//! `wanctl-sim lint`: what a configuration will do, found out by letting its law do it.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use wanctl::config::{self, BackendConfig, DaemonConfig, ReadFiles};
use wanctl_core::config::{Config, WanConfig};
use wanctl_core::units::{Direction, PerDirection};

use super::contender::core_law::CoreLaw;
use super::input::InputError;
use super::metrics::{Score, StepScore};
use super::model::router::Backend;
use super::recording;
use super::run::{self, Setup};
use super::scenario::{
    CapacitySpec, Limits, LineSpec, PathSpec, Purpose, Scenario, StepSpec, TrafficSpec,
};
use super::suite;

/// Seeds of every experiment; the worst of them is told.
const SEEDS: u64 = 3;
/// When the capacity changes, in ms, and how long the response is looked at.
const STEP_MS: u64 = 30_000;
const WINDOW_MS: u64 = 60_000;
/// From here on a recovery is called slow, in µs.
const SLOW_US: u64 = 5_000_000;
/// From here on a queue after a drop is called lasting, in µs.
const LASTING_US: u64 = 3_000_000;
/// From here on a line counts as cut without reason, per hour on a quiet, a cable or the recorded line.
const INNOCENT_PER_HOUR: u64 = 1;

/// Where the shapers are that a configuration is for, and how often they are read.
fn setup(config: &DaemonConfig) -> Setup {
    let mut setup = match &config.backend {
        BackendConfig::RouterOs(router) => {
            let interval = u64::try_from(router.counter_interval.as_micros());
            let counter_interval_us = interval.unwrap_or(u64::MAX);
            Setup { counter_interval_us, ..Setup::of(Backend::Routeros) }
        }
        BackendConfig::LinuxCake(_) => Setup::of(Backend::Linux),
    };
    // The core keeps to the budget of the configuration itself.
    setup.budget = None;
    setup.tick_us = config.core.tick.as_micros();
    setup
}

/// Options of `wanctl-sim lint`.
#[derive(Debug, clap::Args)]
pub struct LintArgs {
    /// The daemon's configuration
    config: PathBuf,
    /// A recording of `wanctl run --record` of these lines: their own idle noise is tried as well
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
}

/// Prints what a configuration will do; returns whether nothing needs a warning.
///
/// # Errors
///
/// When the configuration cannot be used at all.
pub fn run(args: &LintArgs, out: &mut impl Write) -> Result<bool> {
    // The password is of no use here.
    let config = config::load(&args.config, ReadFiles::No).map_err(|error| anyhow!("{error}"))?;
    let recorded = args.recording.as_deref().map(recording::read).transpose()?;
    let mut warnings = 0;
    for (index, wan) in config.core.wans.iter().enumerate() {
        let name = config.wans.get(index).map_or("wan", |wan| wan.name.as_str());
        let one = alone(&config.core, wan);
        let own = match (&recorded, &args.recording) {
            (Some(scenarios), Some(file)) => Some(own_noise(scenarios, index, file, name)?),
            _ => None,
        };
        let setup = setup(&config);
        let mut linter = Linter { config: one, setup, wan, own, warnings: 0, out };
        linter.lint(name)?;
        warnings += linter.warnings;
    }
    match warnings {
        0 => writeln!(out, "nothing to warn of")?,
        1 => writeln!(out, "the line marked with ! deserves a second look")?,
        count => writeln!(out, "{count} lines marked with ! deserve a second look")?,
    }
    Ok(warnings == 0)
}

/// The configuration of one WAN; there is nothing to steer between.
fn alone(all: &Config, wan: &WanConfig) -> Config {
    let mut one = Config { steering: None, ..all.clone() };
    one.wans.clear();
    // One WAN always fits.
    let _full = one.wans.push(*wan);
    one
}

/// Returns what a recording shows of the path of a WAN besides its queues.
fn own_noise(scenarios: &[Scenario], index: usize, file: &Path, wan: &str) -> Result<PathSpec> {
    let ending = format!("-wan{index}");
    let scenario = scenarios.iter().find(|scenario| scenario.name.ends_with(&ending));
    let what =
        || format!("expected 20 s or more of WAN {wan:?}, the line number {index} from zero");
    Ok(scenario.ok_or_else(|| InputError::whole(file, what()))?.path.clone())
}

struct Linter<'w, W> {
    config: Config,
    setup: Setup,
    wan: &'w WanConfig,
    /// The path of the line itself, as it was recorded.
    own: Option<PathSpec>,
    warnings: u32,
    out: &'w mut W,
}

fn mbps(bps: u64) -> f64 {
    bps as f64 / 1e6
}

fn seconds(us: Option<u64>) -> String {
    us.map_or_else(
        || format!("not within {} s", WINDOW_MS / 1000),
        |us| format!("{:.2} s", us as f64 / 1e6),
    )
}

impl<W: Write> Linter<'_, W> {
    fn limits(&self, direction: Direction) -> Limits {
        let shaper = self.wan.shapers.get(direction);
        Limits::new(shaper.floors.red.get(), shaper.ceiling.get())
    }

    fn say(&mut self, is_warning: bool, text: &str) -> Result<()> {
        self.warnings += u32::from(is_warning);
        writeln!(self.out, "{} {text}", if is_warning { "!" } else { " " })?;
        Ok(())
    }

    fn lint(&mut self, name: &str) -> Result<()> {
        let (down, up) = (self.limits(Direction::Download), self.limits(Direction::Upload));
        writeln!(
            self.out,
            "{name}: {}/{} Mbit/s, floors {}/{}",
            mbps(down.ceiling),
            mbps(up.ceiling),
            mbps(down.floor),
            mbps(up.floor)
        )?;
        for direction in Direction::BOTH {
            self.floor(direction)?;
            self.recovery(direction)?;
            self.drop(direction)?;
        }
        self.idle()
    }

    fn floor(&mut self, direction: Direction) -> Result<()> {
        let Limits { floor, ceiling, .. } = self.limits(direction);
        let share = floor * 100 / ceiling.max(1);
        let text = format!(
            "{}: below {} Mbit/s ({share} % of the ceiling) a queue stays, for no cut goes there",
            direction.name(),
            mbps(floor)
        );
        self.say(share > 50, &text)
    }

    fn recovery(&mut self, direction: Direction) -> Result<()> {
        let Limits { floor, ceiling, .. } = self.limits(direction);
        let from = (floor + floor / 20).min(ceiling);
        let scores = self.step(direction, from, ceiling)?;
        let steps = || scores.iter().filter_map(|score| score.step.as_ref());
        let all: Option<Vec<u64>> = steps().map(|step| step.recover_us).collect();
        let worst = all.and_then(|all| all.into_iter().max());
        let p95_us = steps().map(|step| step.p95_us).max().unwrap_or_default();
        let text = format!(
            "{}: from the floor to 90 % of the ceiling takes {}, with a p95 of {:.0} ms",
            direction.name(),
            seconds(worst),
            p95_us as f64 / 1e3
        );
        self.say(worst.is_none_or(|us| us > SLOW_US), &text)
    }

    fn drop(&mut self, direction: Direction) -> Result<()> {
        let Limits { ceiling, .. } = self.limits(direction);
        let scores = self.step(direction, ceiling, ceiling / 2)?;
        let steps = || scores.iter().filter_map(|score| score.step.as_ref());
        let all: Option<Vec<u64>> = steps().map(|step| step.detect_us).collect();
        let detect = all.and_then(|all| all.into_iter().max());
        // A queue that never reached 15 ms need not fall below.
        let drained = |step: &StepScore| step.target_us.map_or(Some(0), |_| step.drained_us);
        let all: Option<Vec<u64>> = steps().map(drained).collect();
        let drained = all.and_then(|all| all.into_iter().max());
        let p95_us = steps().map(|step| step.p95_us).max().unwrap_or_default();
        let text = format!(
            "{}: a drop to half is cut after {} and back below 15 ms after {}, with a p95 of {:.0} ms",
            direction.name(),
            seconds(detect),
            seconds(drained),
            p95_us as f64 / 1e3
        );
        self.say(drained.is_none_or(|us| us > LASTING_US), &text)
    }

    fn idle(&mut self) -> Result<()> {
        let own = self.own.take().map(|path| ("this line, as recorded,", path, true));
        let kinds = [
            ("a quiet line", suite::quiet_path(20), true),
            ("a cable line", suite::docsis_path(), true),
            ("an LTE line", suite::lte_path(), false),
            ("a Starlink line", suite::starlink_path(), false),
        ];
        for (name, path, counts) in own.into_iter().chain(kinds) {
            let mut scenario = self.scenario(path, 3_600);
            scenario.purpose = Purpose::Idle;
            let scores = self.scores(&scenario)?;
            let cuts = scores.iter().map(|score| score.cuts).max().unwrap_or_default();
            let text = format!("idle noise of {name} causes {cuts} cuts an hour");
            self.say(counts && cuts >= INNOCENT_PER_HOUR, &text)?;
        }
        Ok(())
    }

    /// Lets the law meet a step of the capacity under load.
    fn step(&self, direction: Direction, from: u64, to: u64) -> Result<Vec<Score>> {
        let mut scenario = self.scenario(suite::quiet_path(20), (STEP_MS + WINDOW_MS) / 1000);
        let spec = StepSpec { at_ms: STEP_MS, window_ms: WINDOW_MS, down: to < from };
        scenario.purpose = Purpose::Step(spec);
        let line = scenario.lines.get_mut(direction);
        line.capacity = CapacitySpec::Steps(vec![(0, from), (STEP_MS, to)]);
        line.traffic = TrafficSpec { flows: 4, from_ms: 2_000, ..TrafficSpec::default() };
        self.scores(&scenario)
    }

    fn scenario(&self, path: PathSpec, seconds: u64) -> Scenario {
        let line = |direction| {
            let limits = self.limits(direction);
            LineSpec {
                capacity: CapacitySpec::Constant(limits.ceiling),
                fifo_bytes: (limits.ceiling / 8 / 4).max(64_000),
                limits,
                traffic: TrafficSpec { constant_bps: 100_000, ..TrafficSpec::default() },
                active: None,
            }
        };
        Scenario {
            name: "lint".to_owned(),
            purpose: Purpose::Load,
            seconds,
            warm_up_s: 20,
            lines: PerDirection {
                download: line(Direction::Download),
                upload: line(Direction::Upload),
            },
            path,
            phases: Vec::new(),
        }
    }

    fn scores(&self, scenario: &Scenario) -> Result<Vec<Score>> {
        let score = |seed| {
            let capacity = run::capacities(scenario, seed);
            let mut law = CoreLaw::new(&self.config)?;
            run::drive(scenario, &capacity, &mut law, &self.setup, seed, None)
        };
        (1..=SEEDS).map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wan_of_an_example_can_be_linted() {
        let mut count = 0;
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs")).unwrap()
        {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|ending| ending != "toml") {
                continue;
            }
            let config = config::load(&path, ReadFiles::No).unwrap();
            for wan in &config.core.wans {
                let one = alone(&config.core, wan);
                assert!(CoreLaw::new(&one).is_ok(), "{}", path.display());
                count += 1;
            }
        }
        assert!(count > 4, "{count}");
    }

    #[test]
    fn noise_is_that_of_the_wan_of_the_same_place() {
        let scenarios = suite::default_suite();
        let named = |name: &str| Scenario { name: name.to_owned(), ..scenarios[0].clone() };
        let mut recorded = [named("x-wan0"), named("x-wan1")];
        recorded[1].path.base_rtt_us = 77_000;
        let noise = |index| own_noise(&recorded, index, "x.rec".as_ref(), "lte");
        assert_eq!(noise(1).unwrap().base_rtt_us, 77_000);
        let error = noise(2).unwrap_err();
        assert!(error.downcast_ref::<InputError>().is_some());
        assert!(error.to_string().starts_with("x.rec: expected 20 s or more of WAN \"lte\""));
    }

    #[test]
    fn a_configuration_meets_the_backend_it_is_for() {
        let setup = |name: &str| {
            let path = format!("{}/../configs/{name}", env!("CARGO_MANIFEST_DIR"));
            setup(&config::load(path.as_ref(), ReadFiles::No).unwrap())
        };
        assert_eq!(setup("linux-cake.toml").backend, Backend::Linux);
        let router = setup("home-dsl.toml");
        assert_eq!((router.backend, router.counter_interval_us), (Backend::Routeros, 200_000));
    }
}
