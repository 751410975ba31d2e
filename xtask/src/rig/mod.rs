//! `cargo xtask rig`: controllers before real queues, in a user-mode Linux (docs/rig.md).

mod controller;
mod drawing;
mod goals;
mod guest;
mod install;
mod results;
mod scenario;
mod summary;
mod table;

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::run::{self, cargo, root, target};
use controller::Controller;
use install::{Guest, Unavailable};
use results::Results;
use scenario::Scenario;
use summary::Row;

/// Real time after which a run is given up.
const RUN_LIMIT: Duration = Duration::from_secs(900);
/// The program's answer time must not decide: a busy guest ages a tenth of the time that passes.
const SPEED: f64 = 0.1;

/// Arguments of `cargo xtask rig`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RigArgs {
    /// Scenario to run; may be repeated or separated by commas [default: all of them]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    scenario: Vec<String>,
    /// How our daemon reaches CAKE: linux-cake or routeros; classic is linux-cake with the classic law,
    /// none leaves CAKE at the rates of the start
    /// [default: linux-cake and routeros, and none once to check the rig itself]
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "cmd")]
    backend: Vec<String>,
    /// Run this command of bash instead of our daemon, in the router's network namespace; it finds
    /// interfaces, reflectors and limits in the environment (docs/rig.md)
    #[arg(long, value_name = "PROGRAM")]
    cmd: Option<String>,
    /// Runs of each scenario
    #[arg(long, value_name = "N", default_value = "1")]
    runs: NonZeroUsize,
    /// Guests at the same time
    #[arg(long, value_name = "N", default_value = "2")]
    jobs: NonZeroUsize,
    /// Folder for tables, drawings and everything the runs leave behind [default: rig/runs in the target folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Capacities for the scenario `lte`: lines of seconds,down,up in Mbit/s [default: xtask/rig/lte.csv]
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How much a busy guest ages in one second, from 0.01 to 1
    #[arg(long, value_name = "SPEED", default_value_t = SPEED)]
    speed: f64,
    /// Fail when a goal is missed, not only when a run fails or the rig's own check does
    #[arg(long)]
    strict: bool,
    /// List the scenarios and end
    #[arg(long)]
    list: bool,
}

/// One run to be made.
#[derive(Debug)]
struct Job {
    scenario: Scenario,
    controller: Controller,
    folder: PathBuf,
}

/// Runs what the arguments ask for.
pub(crate) fn run(args: &RigArgs) -> Result<()> {
    let scenarios = args.scenarios()?;
    if args.list {
        for Scenario { name, about, .. } in &scenarios {
            println!("{name:<14} {about}");
        }
        return Ok(());
    }
    ensure!((0.01..=1.0).contains(&args.speed), "--speed takes a number from 0.01 to 1");
    let out = args.out.clone().unwrap_or_else(|| target().join("rig/runs"));
    fs::create_dir_all(&out).with_context(|| format!("make {}", out.display()))?;
    let out = fs::canonicalize(&out)?;
    let mut groups: Vec<(&Scenario, Controller)> = Vec::new();
    for controller in args.controllers()? {
        groups.extend(scenarios.iter().map(|scenario| (scenario, controller.clone())));
    }
    let checks_itself = args.backend.is_empty() && args.cmd.is_none() && args.scenario.is_empty();
    if let (true, Some(first)) = (checks_itself, scenarios.first()) {
        groups.push((first, Controller::Fixed));
    }
    let job = |(scenario, controller): &(&Scenario, Controller), run: usize| Job {
        folder: out.join(format!("{}-{}-{run}", scenario.name, controller.name())),
        scenario: (*scenario).clone(),
        controller: controller.clone(),
    };
    let jobs: Vec<Job> =
        groups.iter().flat_map(|group| (1..=args.runs.get()).map(|run| job(group, run))).collect();
    let text = out.to_string_lossy().into_owned();
    ensure!(!text.contains(char::is_whitespace), "the rig cannot use a path with blanks: {text}");
    let guest = install::prepare()?;
    if jobs.iter().any(|job| job.controller.is_ours()) {
        build()?;
    }
    let begin = Instant::now();
    let done = run_jobs(&guest, &jobs, args);
    eprintln!("{} runs took {:.0} s", jobs.len(), begin.elapsed().as_secs_f64());
    report(&groups, &jobs, &done, &out, args.strict)
}

/// One short run of our daemon before real queues, for CI. Where the rig cannot be had it says so, and why.
pub(crate) fn smoke() -> Result<()> {
    let out = target().join("rig/smoke");
    let job = Job {
        scenario: Scenario::named(scenario::SMOKE, Path::new(""))?,
        controller: Controller::LinuxCake,
        folder: out.join(scenario::SMOKE),
    };
    build()?;
    let rows = match install::prepare().and_then(|guest| job.run(&guest, SPEED)) {
        Err(error) if error.downcast_ref::<Unavailable>().is_some() => {
            eprintln!("SKIPPED: the rig's smoke test. {error:#}");
            return Ok(());
        }
        rows => rows?,
    };
    print!("{}{}", table::head(), table::rows(scenario::SMOKE, job.controller.name(), &rows));
    let row = rows
        .iter()
        .find(|row| row.phase == summary::ALL)
        .context("the rig has measured nothing")?;
    // Far from what is usual: 12.7 and 6.6 Mbit/s at 21 ms. CAKE left at its start: 13.9, 5.2, 146 ms.
    ensure!(
        row.down > 7.0 && row.up > 3.5,
        "the daemon leaves too little of 15/7.5 Mbit/s: see {}",
        out.display()
    );
    ensure!(row.p95 < 80.0, "queues are not kept short: see {}", out.display());
    ensure!(
        row.cuts_down > 0.0 && row.cuts_up > 0.0,
        "the shapers were never cut: see {}",
        out.display()
    );
    Ok(())
}

/// Builds our programs.
fn build() -> Result<()> {
    run::run(&mut cargo(&[
        "build",
        "--locked",
        "--release",
        "-q",
        "-p",
        "wanctl",
        "-p",
        "wanctl-sim",
    ]))
}

/// Everything there is to run, as `cargo xtask rig` without arguments.
pub(crate) fn run_suite() -> Result<()> {
    #[derive(Debug, clap::Parser)]
    struct Defaults {
        #[command(flatten)]
        args: RigArgs,
    }
    run(&<Defaults as clap::Parser>::parse_from(["rig"]).args)
}

impl RigArgs {
    fn scenarios(&self) -> Result<Vec<Scenario>> {
        let mut names: Vec<&str> = match &self.scenario[..] {
            [] => scenario::NAMES.to_vec(),
            chosen => chosen.iter().map(String::as_str).collect(),
        };
        drop_repeated(&mut names);
        ensure!(
            self.trace.is_none() || names.contains(&"lte"),
            "--trace is for the scenario lte, which is not among those to be run"
        );
        let trace = self.trace.clone().unwrap_or_else(|| root().join("xtask/rig/lte.csv"));
        names.into_iter().map(|name| Scenario::named(name, &trace)).collect()
    }

    fn controllers(&self) -> Result<Vec<Controller>> {
        if let Some(command) = &self.cmd {
            ensure!(!command.trim().is_empty(), "--cmd is empty; expected a command of bash");
            return Ok(vec![Controller::Command(command.clone())]);
        }
        if self.backend.is_empty() {
            return Ok(vec![Controller::LinuxCake, Controller::RouterOs]);
        }
        let named = |name: &String| match name.as_str() {
            "linux-cake" => Ok(Controller::LinuxCake),
            "classic" => Ok(Controller::Classic),
            "routeros" => Ok(Controller::RouterOs),
            "none" => Ok(Controller::Fixed),
            _ => bail!(
                "there is no backend \"{name}\"; there are linux-cake, classic, routeros and none"
            ),
        };
        let mut names: Vec<&String> = self.backend.iter().collect();
        drop_repeated(&mut names);
        names.into_iter().map(named).collect()
    }
}

/// Two runs of the same name would write to the same folder at once.
fn drop_repeated<T: Ord + Clone>(all: &mut Vec<T>) {
    let mut seen = BTreeSet::new();
    all.retain(|one| seen.insert(one.clone()));
}

/// Runs all jobs, so many at a time; what has failed is told at once.
fn run_jobs(guest: &Guest, jobs: &[Job], args: &RigArgs) -> Vec<Result<Vec<Row>>> {
    let waiting: Mutex<VecDeque<usize>> = Mutex::new((0..jobs.len()).collect());
    let done: Mutex<Vec<Option<Result<Vec<Row>>>>> =
        Mutex::new(jobs.iter().map(|_| None).collect());
    let work = || {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(index) = next else { return };
            let result = jobs[index].run(guest, args.speed);
            if let Err(error) = &result {
                eprintln!("{}: {error:#}", jobs[index].folder.display());
            }
            done.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.get().min(jobs.len()) {
            scope.spawn(work);
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.into_iter().map(|result| result.unwrap_or_else(|| bail!("it was not run"))).collect()
}

impl Job {
    fn run(&self, guest: &Guest, speed: f64) -> Result<Vec<Row>> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)
                .with_context(|| format!("empty {}", self.folder.display()))?;
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("make {}", self.folder.display()))?;
        let has_controller = self.controller.prepare(&self.scenario, &self.folder)?;
        fs::write(self.folder.join("plan.sh"), self.scenario.plan(has_controller))?;
        let took = guest.run(&self.folder, speed, RUN_LIMIT)?;
        let results = Results::read(&self.folder)?;
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        fs::write(self.folder.with_extension("svg"), drawing::draw(&name, &results))?;
        eprintln!("{name}: done after {:.0} s", took.as_secs_f64());
        Ok(summary::rows(&results, self.scenario.settle))
    }
}

/// Prints the table and what became of the goals; writes both to the folder as well.
fn report(
    groups: &[(&Scenario, Controller)],
    jobs: &[Job],
    done: &[Result<Vec<Row>>],
    out: &Path,
    strict: bool,
) -> Result<()> {
    let mut text = table::head();
    let (mut missed, mut broken) = (0, BTreeSet::new());
    for (scenario, controller) in groups {
        let is_of_group =
            |job: &Job| job.scenario.name == scenario.name && job.controller == *controller;
        let of_group = jobs.iter().zip(done).filter(|(job, _)| is_of_group(job));
        let runs: Vec<Vec<Row>> =
            of_group.filter_map(|(_, rows)| rows.as_ref().ok().cloned()).collect();
        let mean = summary::mean(&runs);
        text.push_str(&table::rows(scenario.name, controller.name(), &mean));
        if runs.len() > 1 {
            for (rows, number) in runs.iter().zip(1..) {
                let whole: Vec<Row> =
                    rows.iter().filter(|row| row.phase == summary::ALL).cloned().collect();
                text.push_str(&table::rows(scenario.name, &format!("run {number}"), &whole));
            }
        }
        for (is_met, verdict) in goals::judge(scenario.name, controller.name(), &mean) {
            text.push_str(&format!("    {verdict}\n"));
            missed += usize::from(!is_met);
            if !is_met && *controller == Controller::Fixed {
                broken.insert(
                    "the rig's check of itself has failed: its figures mean nothing".to_owned(),
                );
            }
        }
    }
    print!("{text}");
    fs::write(out.join("table.txt"), &text)?;
    eprintln!("tables, drawings and recordings are in {}", out.display());
    let failed = done.iter().filter(|rows| rows.is_err()).count();
    if failed > 0 {
        broken.insert(format!("{failed} of {} runs have failed", jobs.len()));
    }
    if strict && missed > 0 {
        broken.insert(format!("{missed} goals are missed"));
    }
    ensure!(broken.is_empty(), broken.into_iter().collect::<Vec<_>>().join("; "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> RigArgs {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: RigArgs,
        }
        <Line as clap::Parser>::parse_from(["rig"].iter().chain(words)).args
    }

    #[test]
    fn names_given_twice_make_one_run_and_options_without_use_are_refused() {
        let twice = args(&["--scenario", "fast,on-off,fast", "--backend", "none,none"]);
        let names: Vec<&str> = twice.scenarios().unwrap().iter().map(|it| it.name).collect();
        assert_eq!(names, ["fast", "on-off"]);
        assert_eq!(twice.controllers().unwrap(), [Controller::Fixed]);
        let refused = args(&["--scenario", "fast", "--trace", "x"]).scenarios().unwrap_err();
        assert!(refused.to_string().contains("--trace is for the scenario lte"), "{refused}");
        assert!(args(&["--cmd", " "]).controllers().is_err());
    }

    #[test]
    fn a_rig_that_cannot_be_had_is_told_apart_from_one_that_fails() {
        let fetch = || -> Result<()> { bail!("no mirror") };
        let told = || Unavailable("the package cannot be fetched".to_owned());
        let error = fetch().with_context(told).context("rig").expect_err("it fails");
        assert!(error.downcast_ref::<Unavailable>().is_some());
        let text = format!("{error:#}");
        assert_eq!(text, "rig: the package cannot be fetched: no mirror");
        assert!(fetch().expect_err("it fails").downcast_ref::<Unavailable>().is_none());
    }
}
