//! Talks to the router: the RouterOS REST client and the thread that uses it.

pub mod client;
mod desk;
mod error;
mod model;
mod secret;
mod serve;
mod steer;
mod worker;

pub use client::{Client, RouterTarget, TlsTrust, check_url, check_user};
pub use error::RouterError;
pub use model::{MangleRule, Queue, RouterIdentity};
pub use secret::Secret;
pub use steer::{SteeringOrder, SteeringRule, SteeringRules};
pub use worker::{FinalRate, FinishReport, RateOrder, RequestCounters, RouterStatus, RouterWorker};

#[cfg(test)]
mod tests;
