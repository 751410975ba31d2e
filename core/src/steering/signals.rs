//! What steering is told about each WAN, once per tick.

use crate::fixed::MicrosQ32;
use crate::units::Packets;

/// What one tick says about one WAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WanSignals {
    /// The unfiltered delay above the baseline; `None` when this tick brought no measurement.
    pub delay: Option<MicrosQ32>,
    /// The download shaper's queue.
    pub queue: QueueSignal,
    /// Whether the WAN carries nothing at all. An outage is not a bad zone, and shares no counter
    /// with one.
    pub outage: bool,
}

/// What one tick says about a shaper's queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum QueueSignal {
    /// It was not read in this tick; the last reading stays valid for a while.
    #[default]
    NotRead,
    /// It could not be read.
    Failed,
    /// It was read.
    Read {
        /// Packets dropped since the counter began.
        dropped: Packets,
        /// Packets waiting now.
        backlog: Packets,
    },
}
