//! Talks to the router: the client, over RouterOS REST or the binary API, and the backend that uses it.

mod accord;
mod api;
pub mod client;
mod error;
mod model;
mod rest;
mod secret;
mod serve;
mod steer;
mod target;
pub mod transport;
mod trouble;
mod watch;

pub use api::sentence;
pub use client::{Client, RouterTarget};
pub use error::{RefusalCode, RouterError};
pub use model::{MangleRule, Queue, RouterIdentity, Written};
pub(crate) use model::{Record, flag, text};
pub use secret::Secret;
pub use serve::RouterOs;
pub use steer::{SteeringRule, SteeringRules};
pub use target::{TlsTrust, check_url, check_user};
pub use transport::TransportKind;
pub use watch::{COUNTER_INTERVAL, COUNTER_INTERVAL_MAX, COUNTER_INTERVAL_MIN};

#[cfg(test)]
mod tests;
