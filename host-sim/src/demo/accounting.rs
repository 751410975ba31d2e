//! The router's queue counters follow an emulated line.

use wanctl_core::units::{Direction, PerDirection};

use super::files::QUEUES;
use crate::link::PipeStats;
use crate::netns::PacketLinkStats;
use crate::routeros::{Emulator, QueueTraffic};

/// Size of the packets that are counted, in bytes.
const PACKET_BYTES: u64 = 1500;

/// What the router sees of one direction of a line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Passed {
    bytes: u64,
    dropped_packets: u64,
    queued_bytes: u64,
}

impl Passed {
    /// A download reaches the router's queue behind the bottleneck, an upload leaves it before.
    fn new(direction: Direction, shaped: u64, delivered: u64) -> Self {
        let bytes = match direction {
            Direction::Download => delivered,
            Direction::Upload => shaped,
        };
        Self { bytes, ..Self::default() }
    }

    pub(super) fn of_pipe(direction: Direction, stats: &PipeStats) -> Self {
        Self {
            dropped_packets: stats.shaper_dropped_packets,
            queued_bytes: stats.shaper_queued_bytes,
            ..Self::new(direction, stats.shaped_bytes, stats.delivered_bytes)
        }
    }

    pub(super) fn of_packet_link(direction: Direction, stats: &PacketLinkStats) -> Self {
        Self {
            dropped_packets: stats.shaper_dropped_packets,
            queued_bytes: stats.shaper_queued_bytes,
            ..Self::new(direction, stats.shaped_bytes, stats.delivered_bytes)
        }
    }
}

/// What has been counted so far.
#[derive(Debug, Default)]
pub(super) struct Accounting(PerDirection<Passed>);

impl Accounting {
    /// Counts what has passed since the last call.
    pub(super) fn follow(&mut self, router: &Emulator, direction: Direction, passed: Passed) {
        let counted = std::mem::replace(self.0.get_mut(direction), passed);
        let bytes = passed.bytes.saturating_sub(counted.bytes);
        router.account(
            queue(direction),
            QueueTraffic {
                bytes,
                packets: bytes.div_ceil(PACKET_BYTES),
                dropped: passed.dropped_packets.saturating_sub(counted.dropped_packets),
                queued_bytes: passed.queued_bytes,
                queued_packets: passed.queued_bytes.div_ceil(PACKET_BYTES),
            },
        );
    }
}

/// Returns the queue of a direction.
pub(super) fn queue(direction: Direction) -> &'static str {
    match direction {
        Direction::Download => QUEUES.0,
        Direction::Upload => QUEUES.1,
    }
}
