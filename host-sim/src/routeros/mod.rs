//! An emulated RouterOS router: the REST interface, as far as a queue controller uses it.
//!
//! The model ([`Router`], [`rest::handle`]) is pure: no I/O and time passed in as a value.
//! [`Emulator`] puts it behind real HTTP and HTTPS sockets, one request of one user at a time,
//! with a settable latency.

pub mod cli;
mod counters;
mod edit;
mod emulator;
mod faults;
mod http;
mod menus;
mod message;
mod plane;
mod query;
pub mod rest;
mod seed;
mod seed_system;
mod server;
mod shared;
mod store;
mod tls;
mod value;

pub use counters::QueueTraffic;
pub use emulator::{Emulator, EmulatorOptions};
pub use faults::{
    BadBody, CounterWidth, FAULT_NAMES, Fault, FaultSpec, ForeignWrite, LatencyProfile, LyingWrite,
    Removal, RoundedValue, RuleChange, ServiceFault, TlsFault, WrongShape,
};
pub use menus::MenuName;
pub use message::{Body, Request, Response, basic_credentials};
pub use plane::{DataPlane, QueueInterface, Shaper, ShaperReading};
pub use seed::{Policy, Quirks, RouterOptions, User, properties_of};
pub use shared::{EmulatorView, Latency, REQUEST_LOG_MAX, ReplyHold, RequestRecord};
pub use store::{Properties, QueueWrite, Router, WRITE_LOG_MAX};
