//! The wanctl daemon: sockets, HTTP, files, signals and threads around [`wanctl_core`].
//!
//! It decides nothing about rates, zones or steering; that is the core's work alone.

pub mod clock;
pub mod probe;
pub mod routeros;
