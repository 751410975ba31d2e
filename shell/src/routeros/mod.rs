//! Talks to the router: the client, over RouterOS REST or the binary API, and the thread that uses it.

mod accord;
mod api;
pub mod client;
mod desk;
mod error;
mod model;
mod rest;
mod secret;
mod serve;
mod steer;
mod target;
pub mod transport;
mod watch;
mod worker;

pub use api::sentence;
pub use client::{Client, RouterTarget};
pub use error::{RefusalCode, RouterError};
pub use model::{MangleRule, Queue, QueueCounters, RouterIdentity, Written};
pub(crate) use model::{Record, flag, text};
pub use secret::Secret;
pub use steer::{SteeringOrder, SteeringRule, SteeringRules};
pub use target::{TlsTrust, check_url, check_user};
pub use transport::TransportKind;
pub use watch::{COUNTER_INTERVAL, COUNTER_INTERVAL_MAX, COUNTER_INTERVAL_MIN};
pub use worker::{
    FinalRate, FinishReport, RateOrder, RequestCounters, RouterStatus, RouterView, RouterWorker,
};

#[cfg(test)]
mod tests;
