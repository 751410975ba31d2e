//! What a CAKE qdisc says about itself: its options and counters.
//!
//! The attribute numbers are those of `linux/pkt_sched.h`.

use wanctl_core::units::BitsPerSecond;

use super::wire::{attribute, attributes, long, word};
use crate::shaping::{QueueCounters, Waited};

/// The name of this kind of qdisc.
pub(super) const KIND: &[u8] = b"cake";

/// Options, `TCA_CAKE_*`.
mod option {
    pub(super) const BASE_RATE64: u16 = 2;
    pub(super) const AUTORATE: u16 = 9;
    pub(super) const INGRESS: u16 = 15;
}

/// Counters of any qdisc, `TCA_STATS_*`.
mod stats {
    pub(super) const BASIC: u16 = 1;
    pub(super) const QUEUE: u16 = 3;
    pub(super) const APP: u16 = 4;
}

/// What CAKE counts besides, `TCA_CAKE_STATS_*` and `TCA_CAKE_TIN_STATS_*`.
mod tin {
    pub(super) const TINS: u16 = 10;
    pub(super) const PACKETS: u16 = 2;
    pub(super) const DROPPED_PACKETS: u16 = 4;
    pub(super) const DROPPED_ACKS: u16 = 6;
    pub(super) const MARKED_PACKETS: u16 = 8;
    pub(super) const BACKLOG_BYTES: u16 = 11;
    pub(super) const PEAK_DELAY_US: u16 = 18;
    pub(super) const AVERAGE_DELAY_US: u16 = 19;
}

/// The state of a CAKE qdisc.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cake {
    /// The shaper rate in bytes per second; 0 is unlimited.
    pub(super) rate_bytes: u64,
    /// Whether CAKE sets its rate itself (`autorate-ingress`).
    pub(super) is_autorate: bool,
    /// Whether dropped packets count as having come through the line before it (`ingress`).
    pub(super) is_ingress: bool,
    /// `None` if the message has none.
    pub(super) counters: Option<QueueCounters>,
    /// From the highest priority to the lowest, as CAKE lists them.
    pub(super) tins: Vec<Tin>,
}

/// A priority class of CAKE.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tin {
    /// Packets that came, since it was made; wraps, as the other counters do.
    pub(super) packets: u32,
    /// Packets dropped, but for the acknowledgements that newer ones made superfluous.
    pub(super) dropped_packets: u32,
    /// Those acknowledgements (`ack-filter`).
    pub(super) dropped_acks: u32,
    /// Bytes waiting now.
    pub(super) backlog_bytes: u32,
    /// Packets marked instead of dropped.
    pub(super) marked_packets: u32,
    /// How long the packets that waited longest have been waiting lately.
    pub(super) peak_delay_us: u32,
    /// How long packets have been waiting lately; each that leaves counts for 1/256.
    pub(super) average_delay_us: u32,
}

impl Cake {
    /// Reads `TCA_OPTIONS` and `TCA_STATS2`. What an older kernel does not tell is 0.
    pub(super) fn read(options: &[u8], stats2: &[u8]) -> Self {
        let flag = |number| {
            let value = attribute(options, number).and_then(|value| word(value, 0));
            value.unwrap_or_default() != 0
        };
        let rate = attribute(options, option::BASE_RATE64).and_then(|value| long(value, 0));
        let app = attribute(stats2, stats::APP).unwrap_or_default();
        let tins = attribute(app, tin::TINS).unwrap_or_default();
        Self {
            rate_bytes: rate.unwrap_or_default(),
            is_autorate: flag(option::AUTORATE),
            is_ingress: flag(option::INGRESS),
            counters: counters(stats2),
            tins: attributes(tins).map(|(_, tin)| Tin::read(tin)).collect(),
        }
    }

    /// Returns the shaper rate; 0 is unlimited.
    pub(super) fn rate(&self) -> BitsPerSecond {
        BitsPerSecond::new(self.rate_bytes.saturating_mul(8))
    }
}

/// Reads `struct gnet_stats_basic` and `struct gnet_stats_queue`.
fn counters(stats2: &[u8]) -> Option<QueueCounters> {
    let (basic, queue) = (attribute(stats2, stats::BASIC)?, attribute(stats2, stats::QUEUE)?);
    Some(QueueCounters {
        bytes: long(basic, 0)?,
        queued_packets: word(queue, 0)?,
        queued_bytes: word(queue, 4)?,
        dropped: word(queue, 8)?,
        waited: Waited::default(),
    })
}

impl Tin {
    fn read(bytes: &[u8]) -> Self {
        let number = |number| attribute(bytes, number).and_then(|value| word(value, 0));
        Self {
            packets: number(tin::PACKETS).unwrap_or_default(),
            dropped_packets: number(tin::DROPPED_PACKETS).unwrap_or_default(),
            dropped_acks: number(tin::DROPPED_ACKS).unwrap_or_default(),
            backlog_bytes: number(tin::BACKLOG_BYTES).unwrap_or_default(),
            marked_packets: number(tin::MARKED_PACKETS).unwrap_or_default(),
            peak_delay_us: number(tin::PEAK_DELAY_US).unwrap_or_default(),
            average_delay_us: number(tin::AVERAGE_DELAY_US).unwrap_or_default(),
        }
    }
}
