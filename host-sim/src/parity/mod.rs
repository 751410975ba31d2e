//! Golden parity: the core against recorded runs of the reference controller.
//!
//! The core is fed a trace row by row and every value the reference wrote down is compared:
//! zones must be equal unless the delay is within 2 µs of a threshold, filters may differ by
//! 1 µs, rates by 10 bit/s, everything else not at all. An empty cell in the expected file is not
//! compared.

mod columns;
mod report;
mod settings;
pub mod steering;
mod table;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use embassy_time::{Duration, Instant};
use wanctl_core::controller::Controller;
use wanctl_core::outputs::{Action, Outputs};
use wanctl_core::tick::{
    CheckKind, ConnectivityReport, Outcome, ProbeLoss, Reply, RttSample, Tick,
};
use wanctl_core::units::{ReflectorId, WanId};

use self::columns::{Actual, COLUMNS, is_near_threshold};
pub use self::report::Report;
pub use self::settings::{KEYS, Settings};
use self::steering::SteeringSettings;
use self::table::{Table, TraceRow};

/// Options of `wanctl-sim parity`.
#[derive(Debug, clap::Args)]
pub struct ParityArgs {
    /// Input: columns rtt_ms (empty: no reply) and conn (0: the line is down). With --steering:
    /// rtt_ms, drops and queued (empty: not readable), baseline and router_ok
    trace: PathBuf,
    /// What the reference did with it, one row per input row
    expected: PathBuf,
    /// Compare the steering between two WANs instead of the shaper law
    #[arg(long)]
    steering: bool,
    /// A setting of the reference that differs from the golden profile, such as alpha_load=0.005
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// Returns what `--help` says below the options.
#[must_use]
pub fn help() -> String {
    format!(
        "Keys of --set:\n  {KEYS}\n\nKeys of --set with --steering:\n  {}\n\nExit codes:\n  \
         0  the core agrees in every row\n  1  there is a difference\n  \
         2  nothing can be compared",
        steering::KEYS
    )
}

/// Compares and prints one line per column; returns whether everything agrees.
///
/// # Errors
///
/// A file that cannot be read or a setting that does not exist.
pub fn run(args: &ParityArgs, out: &mut impl Write) -> Result<bool> {
    let (trace, expected) = (&args.trace, &args.expected);
    let report = if args.steering {
        let mut settings = SteeringSettings::default();
        for assignment in &args.settings {
            settings.set(assignment)?;
        }
        steering::compare(trace, expected, &settings)?
    } else {
        let mut settings = Settings::default();
        for assignment in &args.settings {
            settings.set(assignment)?;
        }
        compare(trace, expected, &settings)?
    };
    report.print(out)?;
    Ok(report.agrees())
}

/// Runs the core over a trace and compares each row with the expected one.
///
/// # Errors
///
/// A file that cannot be read, or settings the core refuses.
pub fn compare(trace: &Path, expected: &Path, settings: &Settings) -> Result<Report> {
    let trace = Table::read(trace)?;
    let expected = Table::read(expected)?;
    let mut run = Run::new(settings)?;
    let mut report = Report::new(&COLUMNS, &["seq", "rtt_ms", "conn"], &trace, &expected)?;
    for index in 0..report.rows() {
        let row = trace.trace_row(index)?;
        let actual = run.row(&row)?;
        let near = is_near_threshold(&actual, settings.classic());
        report.compare(&COLUMNS, &expected, index, &actual, near)?;
    }
    Ok(report)
}

/// The core with a line and a router that answers at once.
struct Run {
    controller: Controller<1>,
    tick: Tick,
    outputs: Outputs,
    interval: Duration,
    fallback_enabled: bool,
}

impl Run {
    fn new(settings: &Settings) -> Result<Self> {
        let config = settings.config();
        let controller =
            Controller::new(&config).context("these settings contradict each other")?;
        Ok(Self {
            controller,
            tick: Tick::new(Instant::from_ticks(0)),
            outputs: Outputs::new(),
            interval: config.tick,
            fallback_enabled: settings.fallback_enabled,
        })
    }

    fn row(&mut self, row: &TraceRow) -> Result<Actual> {
        let (wan, reflector) = (WanId(0), ReflectorId(0));
        self.tick.reset(self.tick.now + self.interval);
        self.answer_commands();
        if let Some(rtt) = row.rtt {
            self.tick.push_sample(RttSample { wan, reflector, rtt, age_us: 0, upload_owd: None });
        } else {
            self.tick.push_loss(ProbeLoss { wan, reflector });
            let connected = row.connected && self.fallback_enabled;
            self.tick.push_connectivity(ConnectivityReport {
                wan,
                kind: CheckKind::Tcp,
                connected,
            });
        }
        self.controller.step(&self.tick, &mut self.outputs);
        let wrote = self.outputs.actions.iter().any(|a| matches!(a, Action::SetRate { .. }));
        let snapshot = self.controller.snapshot();
        let wan = *snapshot.wans().first().context("the core has no WAN")?;
        Ok(Actual { wan, wrote })
    }

    /// Confirms what the last row commanded: the reference's router calls return at once.
    fn answer_commands(&mut self) {
        for action in &self.outputs.actions {
            if let Action::SetRate { id, wan, direction, rate, .. } = *action {
                let outcome = Outcome::Applied(rate);
                self.tick.push_reply(Reply { wan, direction, id, outcome, took_us: 0 });
            }
        }
    }
}
