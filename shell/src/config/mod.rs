//! The daemon's configuration: strict TOML, explained errors, and the core's plain data.
//!
//! `configs/` holds complete examples; `docs/configuration.md` describes every key.

mod adaptive;
mod classic;
mod keys;
mod link;
mod load;
mod quantity;
mod reader;
mod record;
mod reflectors;
mod steering;
#[cfg(test)]
mod tests;
mod wan;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use wanctl_core::units::{BitsPerSecond, PerDirection};

pub use self::keys::{KeyChange, Keys};
pub use self::quantity::show_rate;
pub use self::reader::{Problem, Problems};
use crate::exit::{ExitReason, Failure};
use crate::probe::ProbeWan;
use crate::routeros::{Secret, SteeringRules, TlsTrust, TransportKind};
use crate::trace_file::ring::FlightConfig;

/// Everything `wanctl run` needs to know.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// What is left on the router when the daemon ends.
    pub on_exit: OnExit,
    /// Time between two status lines in the log.
    pub status_interval: Duration,
    /// A probe without an answer for this long is lost.
    pub probe_timeout: Duration,
    /// The folder with the state that survives a restart; without it every start is fresh.
    pub state_dir: Option<PathBuf>,
    /// The folder of the lock and of the socket of `wanctl status`, if configured.
    pub run_dir: Option<PathBuf>,
    /// The loopback address for health and metrics, if they are wanted.
    pub listen: Option<SocketAddr>,
    /// Where every tick is recorded; from the command line, never from a file.
    pub record: Option<PathBuf>,
    /// The ring that the latest past is recorded to, unless it is switched off or has no folder.
    pub flight: Option<FlightConfig>,
    /// What the file says, key by key, to tell what a reload changes.
    pub keys: Keys,
    /// Who holds the shapers.
    pub backend: BackendConfig,
    /// The WANs, in the order of [`Self::core`].
    pub wans: Vec<WanConfig>,
    /// The router's rules that steer between them.
    pub steering_rules: SteeringRules,
    /// What the core is told.
    pub core: wanctl_core::config::Config,
}

/// What is left on the router when the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    /// The rates of the last write.
    Keep,
    /// The configured fail-safe rates.
    FailSafe,
    /// The rates that were found at the start.
    Restore,
}

/// Who holds the shapers.
#[derive(Debug, Clone)]
pub enum BackendConfig {
    /// A MikroTik router.
    RouterOs(RouterConfig),
    /// CAKE in this machine's kernel.
    LinuxCake(LinuxCakeConfig),
}

impl BackendConfig {
    /// Returns the router, if there is one.
    #[must_use]
    pub const fn router(&self) -> Option<&RouterConfig> {
        match self {
            Self::RouterOs(router) => Some(router),
            Self::LinuxCake(_) => None,
        }
    }
}

/// How to use CAKE of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinuxCakeConfig {
    /// Time between two readings of the qdiscs' counters.
    pub counter_interval: Duration,
}

/// How to talk to the router.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// Scheme, host and port, such as `https://192.168.88.1`.
    pub url: String,
    /// How it is talked to.
    pub transport: TransportKind,
    /// The RouterOS user.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Which certificate the router may show.
    pub trust: TlsTrust,
    /// Time between two readings of the queues' counters.
    pub counter_interval: Duration,
}

/// The shell's part of one WAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WanConfig {
    /// Its name in logs.
    pub name: String,
    /// The network interface probes leave by, if not the route's choice.
    pub interface: Option<String>,
    /// The source address of IPv4 probes, if not the route's choice.
    pub source_address: Option<Ipv4Addr>,
    /// The source address of IPv6 probes, if not the route's choice.
    pub source_address_v6: Option<Ipv6Addr>,
    /// The firewall mark of probes, if routing rules choose the WAN by one.
    pub fwmark: Option<u32>,
    /// Who may be pinged.
    pub reflectors: Vec<IpAddr>,
    /// How many of them are pinged at a time; `None` as many as the core can use.
    pub active_reflectors: Option<u8>,
    /// The router's queue tree entries, or this machine's interfaces with CAKE.
    pub queues: PerDirection<String>,
    /// What is tried when no reflector answers.
    pub checks: CheckConfig,
    /// The rates of [`OnExit::FailSafe`].
    pub fail_safe: PerDirection<Option<BitsPerSecond>>,
}

impl WanConfig {
    /// Returns how this WAN's packets leave, and to whom.
    #[must_use]
    pub fn probe_path(&self) -> ProbeWan {
        ProbeWan {
            reflectors: self.reflectors.clone(),
            active: self.active_reflectors,
            source: self.source_address,
            source_v6: self.source_address_v6,
            interface: self.interface.clone(),
            fwmark: self.fwmark,
        }
    }
}

/// Ways to see whether a line works although no reflector answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckConfig {
    /// The gateway to ping.
    pub gateway: Option<Ipv4Addr>,
    /// Hosts on the internet that accept TCP connections, tried in this order.
    pub tcp_targets: Vec<SocketAddrV4>,
}

/// Whether the files that the configuration names are read as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFiles {
    /// Read password and CA certificate.
    Yes,
    /// Check the configuration's text alone; password and CA stay empty.
    No,
}

/// Reads and checks a configuration file.
///
/// # Errors
///
/// All problems at once, each with file, line, column and a hint.
pub fn load(path: &Path, files: ReadFiles) -> Result<DaemonConfig, Failure> {
    let source = read(path)?;
    parse(path, &source, files)
        .map_err(|problems| Failure::new(problems.reason(), problems.to_string()))
}

/// Reads `run-dir` and nothing else: a running daemon can be asked while its file is being edited.
///
/// # Errors
///
/// When the file cannot be read.
pub fn run_dir(path: &Path) -> Result<Option<PathBuf>, Failure> {
    let source = read(path)?;
    let (document, _) = toml::de::DeTable::parse_recoverable(&source);
    let value = document.get_ref().get("run-dir").and_then(|value| value.get_ref().as_str());
    Ok(value.map(|value| path.parent().unwrap_or(Path::new(".")).join(value)))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = format!("{}: cannot be read: {error}", path.display());
        Failure::new(ExitReason::ConfigUnreadable, message)
    })
}

/// Checks a configuration text; `path` is where it came from, for messages and relative paths.
///
/// # Errors
///
/// All problems at once.
pub fn parse(path: &Path, source: &str, files: ReadFiles) -> Result<DaemonConfig, Problems> {
    load::parse(path, source, files)
}
