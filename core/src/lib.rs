//! The control core of wanctl: pure, deterministic, for any machine from a Cortex-M up.
//!
//! Once per tick the shell fills a [`tick::Tick`] with what it has measured and calls
//! [`controller::Controller::step`]; the core answers with [`outputs::Outputs`]: actions to carry
//! out and events that explain them. That is the whole seam.
//!
//! ```
//! use embassy_time::Instant;
//! use wanctl_core::{controller::Controller, outputs::Outputs, tick::Tick};
//! # use wanctl_core::example;
//! let mut controller = Controller::<1>::new(&example::config())?;
//! let mut outputs = Outputs::new();
//! controller.step(&Tick::new(Instant::from_millis(50)), &mut outputs);
//! assert_eq!(outputs.actions.len(), 3); // one probe to each of three reflectors
//! # Ok::<(), wanctl_core::config::ConfigError>(())
//! ```
//!
//! Invariants, kept by lints and tests: no clock, no allocation, no floating point, no unsafe code,
//! no indexing or arithmetic that can panic; every list has a capacity with a name; a rate stays
//! between floor and ceiling; a cut is never delayed by a raise.

#![no_std]
#![forbid(unsafe_code)]
#![deny(
    missing_docs,
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        reason = "a failed expectation ends a test"
    )
)]

#[cfg(test)]
extern crate std;

mod bounded;
mod budget;
pub mod command;
pub mod config;
pub mod controller;
mod delivery;
mod divide;
mod estimate;
pub mod ewma;
pub mod example;
mod fallback;
pub mod fixed;
mod governor;
mod histories;
pub mod history;
pub mod law;
pub mod link;
mod micros;
pub mod outputs;
pub mod persist;
mod places;
pub mod quality;
pub mod recent;
mod ring;
mod sink;
pub mod snapshot;
mod source;
pub mod steering;
mod stuffing;
pub mod tick;
pub mod trace;
pub mod units;
mod wan;
mod write_limit;
pub mod zone;
