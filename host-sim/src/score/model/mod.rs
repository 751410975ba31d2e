//! The line, its traffic, its probes and its router, in steps of [`STEP_US`].

pub mod cake;
pub mod flows;
pub mod line;
pub mod probes;
pub mod router;
pub mod world;

pub use world::{Truth, World};

/// Length of a step of the fluids, in µs.
pub const STEP_US: u64 = 2_000;
