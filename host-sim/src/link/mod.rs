//! A model of an internet line: shaper, bottleneck with a deep FIFO, propagation.
//!
//! ```text
//!  enqueue ─► shaper (router, CAKE-like) ─► FIFO ─► bottleneck ─► propagation ─► pop_delivered
//!             flow-isolated, short queues    deep    schedule
//! ```
//!
//! Time is passed in and arithmetic is integer, so the same calls always give the same results.
//! While the shaper is slower than the bottleneck, the queue stands in the shaper, where a ping does
//! not wait behind bulk traffic. As soon as the bottleneck is the slower one, the queue stands in
//! the FIFO, and every packet waits in it.
//!
//! Both directions have their shaper *in front* of the bottleneck. A home router shapes downloads
//! behind it; the difference shows only in how fast TCP reacts, not in where the queue stands.

mod bottleneck;
pub mod pipe;
pub mod saturated;
pub mod schedule;
mod shaper;

pub use pipe::{Pipe, PipeOptions, PipeStats};
pub use saturated::{ProbeReply, SaturatedLink, SaturatedLinkOptions};
pub use schedule::CapacitySchedule;
pub use wanctl_core::units::Direction;

/// A point in time, counted from the start of the link, or a length of time; both in nanoseconds.
pub type Nanos = u64;

/// The nanoseconds in one second.
pub const NANOS_PER_SECOND: Nanos = 1_000_000_000;

/// A packet on its way through one direction.
#[derive(Clone, Debug)]
struct Packet<P> {
    bytes: u32,
    payload: P,
}

impl<P> Packet<P> {
    fn bits(&self) -> u64 {
        u64::from(self.bytes) * 8
    }
}

/// Nanoseconds that `bits` take at `rate_bps`, rounded up; `None` at rate zero: they never end.
fn transmit_nanos(bits: u64, rate_bps: u64) -> Option<Nanos> {
    if rate_bps == 0 {
        return None;
    }
    let work = u128::from(bits) * u128::from(NANOS_PER_SECOND);
    Some(Nanos::try_from(work.div_ceil(u128::from(rate_bps))).unwrap_or(Nanos::MAX))
}

/// Converts a `Duration`, saturating after 584 years.
fn nanos(duration: std::time::Duration) -> Nanos {
    Nanos::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}
