//! The wanctl daemon: sockets, HTTP, files, signals and threads around [`wanctl_core`].
//!
//! It decides nothing about rates, zones or steering; that is the core's work alone. Threads:
//! the tick thread ([`daemon`]) owns the controller and never waits for anything but its deadline;
//! one thread probes ([`probe`]); one talks to the router ([`routeros`]); one watches the interfaces
//! ([`links`]); one checks gateways and TCP targets when the core asks ([`connectivity`]); one answers
//! questions ([`observe`]); one talks to systemd ([`notify`]); on request
//! one records ([`trace_file`]) and one keeps the state for the next start ([`state_file`]).

pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connectivity;
pub mod daemon;
pub mod exit;
pub mod explain;
pub mod instance;
pub mod links;
pub mod linux_cake;
pub mod logging;
pub mod notify;
pub mod observe;
pub mod pacer;
pub mod probe;
pub mod published;
pub mod router_setup;
pub mod routeros;
pub mod shaping;
pub mod state_file;
pub mod status;
pub mod trace_file;

/// The program's name and version.
pub const VERSION: &str = concat!("wanctl ", env!("CARGO_PKG_VERSION"));
