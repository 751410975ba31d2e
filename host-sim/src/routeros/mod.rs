//! An emulated RouterOS router: REST and the binary API, as far as a queue controller uses them.
//!
//! The model ([`Router`], [`rest::handle`], [`api::Session`]) is pure: no I/O and time passed in as a
//! value. [`Emulator`] puts it behind real sockets for HTTP, HTTPS, `api` and `api-ssl`, one request of
//! one user at a time, with a settable latency.

pub mod api;
pub mod cli;
mod counters;
mod edit;
mod emulator;
mod faults;
mod holds;
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
pub use emulator::{Emulator, EmulatorOptions, Listeners};
pub use faults::{
    BadBody, CounterWidth, FAULT_NAMES, Fault, FaultSpec, ForeignWrite, LatencyProfile, LyingWrite,
    Removal, RoundedValue, RuleChange, ServiceFault, TlsFault, WrongShape,
};
pub use holds::ReplyHold;
pub use menus::MenuName;
pub use message::{Body, Origin, Request, Response, basic_credentials};
pub use plane::{DataPlane, QueueInterface, Shaper, ShaperReading};
pub use seed::{Policy, Quirks, RouterOptions, User, properties_of};
pub use shared::{EmulatorView, Latency, REQUEST_LOG_MAX, RequestRecord};
pub use store::{Properties, QueueWrite, Router, WRITE_LOG_MAX};
