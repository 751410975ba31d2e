//! What the daemon tells whoever moves the shapers, and what it hears back.

use std::time::Duration;

use wanctl_core::tick::SteeringReply;
use wanctl_core::units::{BitsPerSecond, CommandId, Direction, WanId};

use crate::clock;
use crate::routeros::Client;

/// The shaper rate of one direction of one WAN.
pub type FinalRate = (WanId, Direction, BitsPerSecond);

/// One [`wanctl_core::outputs::Action::SetRate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateOrder {
    /// Names the order in its reply.
    pub id: CommandId,
    /// The WAN whose shaper is meant.
    pub wan: WanId,
    /// The direction whose shaper is meant.
    pub direction: Direction,
    /// The shaper rate to write.
    pub rate: BitsPerSecond,
    /// Whether this lowers the rate; cuts overtake raises.
    pub is_cut: bool,
}

/// One [`wanctl_core::outputs::Action::SetSteering`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SteeringOrder {
    /// Names the order in its reply.
    pub id: CommandId,
    /// The alternate whose rule is to be the only one switched on; `None` switches all off.
    pub to: Option<WanId>,
}

/// Something wrong with a queue or a rule, for its owner to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// What, with the name.
    pub text: String,
    /// Whether it keeps a line from being controlled.
    pub is_serious: bool,
}

/// Another way to log in to the same router, and another time between two looks at the queues.
#[derive(Debug)]
pub struct Renewal {
    /// Speaks with the new login.
    pub client: Client,
    /// About so long between two readings of the counters.
    pub counter_interval: Duration,
}

/// An order that has not been carried out yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitingSteering {
    pub(crate) order: SteeringOrder,
    /// When it was given, in ns of [`clock::now_nanos`].
    given_ns: u64,
}

impl WaitingSteering {
    pub(crate) fn new(order: SteeringOrder) -> Self {
        Self { order, given_ns: clock::now_nanos() }
    }

    pub(crate) fn reply(&self, succeeded: bool) -> SteeringReply {
        let took_us = clock::now_nanos().saturating_sub(self.given_ns) / 1000;
        let took_us = u32::try_from(took_us).unwrap_or(u32::MAX);
        SteeringReply { id: self.order.id, succeeded, took_us }
    }
}

/// What a shaper has counted. Whoever makes the queue anew begins again at zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Bytes delivered.
    pub bytes: u64,
    /// Packets dropped; 32 bits wide, so it wraps. Always zero under CAKE on some versions.
    pub dropped: u32,
    /// Bytes waiting now, as far as 32 bits go.
    pub queued_bytes: u32,
    /// Packets waiting now, as far as 32 bits go.
    pub queued_packets: u32,
    /// What packets have waited since the reading before. No packets if the shaper does not tell.
    pub waited: Waited,
}

/// How long packets waited in a shaper that have left it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waited {
    /// How many.
    pub packets: u32,
    /// The sum of their times, in µs.
    pub total_us: u64,
}

impl Waited {
    /// Adds others.
    pub(crate) fn add(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.total_us = self.total_us.saturating_add(other.total_us);
    }

    /// Returns the mean, in µs.
    pub(crate) fn mean_us(self) -> Option<u32> {
        let mean_us = self.total_us.checked_div(self.packets.into())?;
        Some(u32::try_from(mean_us).unwrap_or(u32::MAX))
    }
}
