//! The command line of `wanctl`.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand, ValueEnum};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use tracing::level_filters::LevelFilter;

use crate::config::{self, BackendConfig, DaemonConfig, ReadFiles, RouterConfig, WanConfig};
use crate::daemon::Requests;
use crate::exit::{ExitReason, Failure};
use crate::instance::{self, Instance};
use crate::notify::Notifier;
use crate::observe::{self, Listener, Observer};
use crate::probe::{IcmpProber, ProbeWan};
use crate::published::Published;
use crate::record_command::{self, RecordCommand};
use crate::reload::Reloader;
use crate::{audit, daemon, linux_cake, logging, router_setup};

/// Keeps a home internet line fast and responsive.
///
/// Pings the internet 20 times a second, sees queues building at the provider, and moves the CAKE
/// shaper of a MikroTik router, or of this machine, so that they never do.
#[derive(Debug, Parser)]
#[command(name = "wanctl", version, after_help = exit_code_help())]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Control the line until SIGTERM or SIGINT
    ///
    /// SIGHUP reads the configuration again: all of it is used, or none and the log says why. SIGUSR2 marks
    /// an incident: it appears in log, status and recording, and its part of the recording is kept.
    Run {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The least important lines that are logged
        #[arg(long, value_enum, default_value_t = LogLevel::Info)]
        log_level: LogLevel,
        /// Record every tick to this file, for `wanctl-sim replay`; an existing recording goes on
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
    },
    /// Show what a running daemon does
    Status {
        /// The configuration file of the daemon, to find its socket
        #[arg(long, value_name = "FILE", conflicts_with = "socket")]
        config: Option<PathBuf>,
        /// The daemon's socket [default: wanctl.sock in /run/wanctl]
        #[arg(long, value_name = "FILE")]
        socket: Option<PathBuf>,
        /// One JSON document instead of text
        #[arg(long)]
        json: bool,
    },
    /// Check a configuration file, the CAKE qdiscs if it is about this machine's, and on request the router
    Check {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Look at nothing but the file: not at the password and CA files that it names, not at qdiscs
        #[arg(long, conflicts_with = "router")]
        text_only: bool,
        /// Also look over the router: version, user, certificate, queues, FastTrack, steering rules, flash and
        /// log, each finding with its remedy; nothing is changed there
        #[arg(long)]
        router: bool,
    },
    /// Switch steering off and write the `fail-safe` rates, without a daemon
    ///
    /// For a router that could not be reached when the daemon ended, or a daemon that was killed. Tries again
    /// while the router does not answer.
    FailSafe {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How long to try
        #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
        patience: std::time::Duration,
    },
    /// Look into the flight recorder and take parts out of it, whether a daemon runs or not
    Record {
        #[command(subcommand)]
        command: RecordCommand,
    },
    /// Print the RouterOS commands that prepare a router for a configuration; nothing is changed
    RouterSetup {
        /// The configuration file; the files that it names are not read
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

fn exit_code_help() -> String {
    let mut help = "Exit codes:\n   0  success\n   2  wrong command line\n".to_owned();
    for (_, code, description) in ExitReason::TABLE {
        help.push_str(&format!("  {code:>2}  {description}\n"));
    }
    help
}

/// Runs a command; `out` takes what is printed besides the log.
///
/// # Errors
///
/// Why the command ended early; the reason decides the exit code.
pub fn main(cli: &Cli, out: &mut impl Write) -> Result<(), Failure> {
    match &cli.command {
        Command::Run { config, log_level, record } => {
            let mut loaded = config::load(config, ReadFiles::Yes)?;
            loaded.record.clone_from(record);
            let _flush_at_end = logging::start((*log_level).into());
            run(&loaded, config)
        }
        Command::Status { config, socket, json } => {
            let socket = match (socket, config) {
                (Some(socket), _) => socket.clone(),
                (None, config) => run_dir(config.as_deref())?.join(instance::SOCKET),
            };
            let path = if *json { "/status.json" } else { "/status" };
            let state = observe::client::get(&socket, path).map_err(|error| {
                let message = format!("no daemon answers at {}: {error}", socket.display());
                Failure::new(ExitReason::NotRunning, message)
            })?;
            say(out, state.trim_end())
        }
        Command::Check { config, text_only, router } => {
            let files = if *text_only { ReadFiles::No } else { ReadFiles::Yes };
            let loaded = config::load(config, files)?;
            say(out, &format!("{}: good", config.display()))?;
            match &loaded.backend {
                BackendConfig::RouterOs(target) if *router => check_router(target, &loaded, out),
                BackendConfig::LinuxCake(_) if *router => Err(no_router()),
                BackendConfig::LinuxCake(_) if !*text_only => check_cake(&loaded, out),
                BackendConfig::RouterOs(_) | BackendConfig::LinuxCake(_) => Ok(()),
            }
        }
        Command::FailSafe { config, patience } => {
            let loaded = config::load(config, ReadFiles::Yes)?;
            let _flush_at_end = logging::start(LevelFilter::WARN);
            // A running daemon would write its own rates again.
            let _instance = take_run_dir(&loaded)?;
            say(out, &daemon::leave_fail_safe(&loaded, *patience)?.to_string())
        }
        Command::Record { command } => say(out, record_command::run(command)?.trim_end()),
        Command::RouterSetup { config } => {
            let loaded = config::load(config, ReadFiles::No)?;
            let router = loaded.backend.router().ok_or_else(no_router)?;
            say(out, router_setup::script(router, &loaded).trim_end())
        }
    }
}

fn run(config: &DaemonConfig, path: &Path) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let requests = Requests::default();
    let flags = [
        (SIGTERM, &stop),
        (SIGINT, &stop),
        (SIGHUP, &requests.reload),
        (SIGUSR2, &requests.incident),
    ];
    for (signal, flag) in flags {
        signal_hook::flag::register(signal, Arc::clone(flag))
            .map_err(|error| Failure::new(ExitReason::Other, format!("signals: {error}")))?;
    }
    let published = Arc::new(Published::new());
    // First of all: a second daemon must not even ping.
    let (_instance, listener) = take_run_dir(config)?.unzip();
    let prober = start_prober(config)?;
    let _observer = start_observer(config, listener, &published)?;
    let _notifier = Notifier::start(Arc::clone(&published))
        .map_err(|error| Failure::new(ExitReason::Other, format!("notify thread: {error}")))?;
    let reloader = Reloader { path: path.to_path_buf(), start_prober };
    daemon::run_with(config, prober, &stop, &published, &requests, Some(reloader))
}

fn start_prober(config: &DaemonConfig) -> Result<IcmpProber, Failure> {
    let wans: Vec<ProbeWan> = config.wans.iter().map(WanConfig::probe_path).collect();
    // A quarter of a tick: most answers still come before the next one.
    let spread = std::time::Duration::from_micros(config.core.tick.as_micros() / 4);
    IcmpProber::start(&wans, config.probe_timeout, spread)
        .map_err(|error| Failure::new(ExitReason::Probing, error.to_string()))
}

/// Makes sure to be the only daemon. Where nobody has configured a folder and the usual one cannot be
/// used, as without root, there is no lock and no `wanctl status`.
fn take_run_dir(config: &DaemonConfig) -> Result<Option<(Instance, UnixListener)>, Failure> {
    let folder = instance::folder(config.run_dir.as_deref());
    match Instance::start(&folder) {
        Err(failure) if failure.reason == ExitReason::Storage && config.run_dir.is_none() => {
            tracing::warn!("{failure}; going on without lock and status socket");
            Ok(None)
        }
        taken => taken.map(Some),
    }
}

fn start_observer(
    config: &DaemonConfig,
    socket: Option<UnixListener>,
    published: &Arc<Published>,
) -> Result<Option<Observer>, Failure> {
    let mut listeners: Vec<Listener> = socket.map(Listener::Unix).into_iter().collect();
    if let Some(address) = config.listen {
        listeners.push(Listener::tcp(address).map_err(|error| {
            Failure::new(ExitReason::Other, format!("listen = \"{address}\": {error}"))
        })?);
    }
    if listeners.is_empty() {
        return Ok(None);
    }
    Observer::start(listeners, Arc::clone(published))
        .map(Some)
        .map_err(|error| Failure::new(ExitReason::Other, format!("observe thread: {error}")))
}

/// Returns the folder of the daemon that is asked about.
fn run_dir(config: Option<&Path>) -> Result<PathBuf, Failure> {
    let Some(config) = config else { return Ok(PathBuf::from(instance::DEFAULT_FOLDER)) };
    Ok(instance::folder(config::run_dir(config)?.as_deref()))
}

fn no_router() -> Failure {
    let message = "this configuration has no router: its backend is linux-cake";
    Failure::new(ExitReason::ConfigValue, message)
}

fn check_router(
    router: &RouterConfig,
    config: &DaemonConfig,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let client = daemon::connect(router)?;
    let audit = audit::audit(&client, router, config)?;
    say(out, &format!("{}: {}", router.url, audit.identity))?;
    say(out, &audit.to_string())?;
    audit.failure().map_or(Ok(()), Err)
}

/// Looks at the qdiscs that the configuration names, and at whether they may be changed.
fn check_cake(config: &DaemonConfig, out: &mut impl Write) -> Result<(), Failure> {
    let interfaces: Vec<_> = config.wans.iter().map(|wan| wan.queues.clone()).collect();
    let report = linux_cake::check(&interfaces);
    for line in &report.lines {
        say(out, line)?;
    }
    report.outcome.map_err(Failure::from)
}

fn say(out: &mut impl Write, line: &str) -> Result<(), Failure> {
    writeln!(out, "{line}").map_err(|error| Failure::new(ExitReason::Other, error.to_string()))
}
