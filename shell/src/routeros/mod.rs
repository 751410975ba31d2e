//! Talks to the router: the RouterOS REST client and the backend that uses it.

mod accord;
pub mod client;
mod error;
mod model;
mod secret;
mod serve;
mod steer;
mod target;
mod watch;

pub use client::{Client, RouterTarget};
pub use error::RouterError;
pub use model::{MangleRule, Queue, RouterIdentity, Written};
pub(crate) use model::{Record, flag, text};
pub use secret::Secret;
pub use serve::RouterOs;
pub use steer::{SteeringRule, SteeringRules};
pub use target::{TlsTrust, check_url, check_user};
pub use watch::{COUNTER_INTERVAL, COUNTER_INTERVAL_MAX, COUNTER_INTERVAL_MIN};

#[cfg(test)]
mod tests;
