//! A CAKE-like shaper: flow-isolated short queues behind one rate.

use std::collections::VecDeque;

use super::{NANOS_PER_SECOND, Nanos, Packet, transmit_nanos};

/// Number of flow queues, as many as CAKE has; flows whose hashes agree modulo this share one.
///
/// With 64, each ping would share its queue with one of four bulk flows in 6 % of all runs.
const BUCKETS: usize = 1_024;
/// Bytes a flow may send per round: one full-size IP packet.
const QUANTUM_BYTES: i64 = 1_500;
/// Longest queue of one flow, as time at the shaper rate.
const QUEUE_LIMIT: Nanos = 25_000_000;
/// Packets a flow may always hold, however low the rate.
const QUEUE_MIN_PACKETS: usize = 2;

/// The round a bucket waits in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Round {
    /// It has no packets and no turn.
    #[default]
    Idle,
    /// It had been idle, so it goes first: this is what keeps a ping ahead of bulk traffic.
    Sparse,
    /// It has used up its first turn.
    Bulk,
}

#[derive(Debug)]
struct Bucket<P> {
    packets: VecDeque<Packet<P>>,
    bytes: u64,
    deficit_bytes: i64,
    round: Round,
}

/// Deficit round robin over [`BUCKETS`] queues, sparse flows first, at a given rate.
#[derive(Debug)]
pub(super) struct Shaper<P> {
    /// bit/s; zero means unlimited.
    rate_bps: u64,
    /// The earliest time the next packet may leave: the last one has been paid for by then.
    free_at: Nanos,
    buckets: Vec<Bucket<P>>,
    sparse: VecDeque<usize>,
    bulk: VecDeque<usize>,
    queued_bytes: u64,
    queued_packets: usize,
}

/// What a queue limit cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dropped {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl<P> Shaper<P> {
    pub(super) fn new(rate_bps: u64) -> Self {
        let bucket =
            || Bucket { packets: VecDeque::new(), bytes: 0, deficit_bytes: 0, round: Round::Idle };
        Self {
            rate_bps,
            free_at: 0,
            buckets: std::iter::repeat_with(bucket).take(BUCKETS).collect(),
            sparse: VecDeque::new(),
            bulk: VecDeque::new(),
            queued_bytes: 0,
            queued_packets: 0,
        }
    }

    pub(super) fn rate_bps(&self) -> u64 {
        self.rate_bps
    }

    pub(super) fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    pub(super) fn queued_packets(&self) -> usize {
        self.queued_packets
    }

    /// The earliest time a waiting packet may leave; `None` if none waits.
    pub(super) fn ready_at(&self) -> Option<Nanos> {
        (self.queued_packets > 0).then_some(self.free_at)
    }

    /// Changes the rate at `now`; what is still owed for the last packet is paid at the new one,
    /// and queues that are too long for the new rate lose their oldest packets.
    pub(super) fn set_rate(&mut self, now: Nanos, rate_bps: u64) -> Dropped {
        let wait = self.free_at.saturating_sub(now);
        let owed = u128::from(wait) * u128::from(self.rate_bps);
        let new_wait = if rate_bps == 0 { 0 } else { owed.div_ceil(u128::from(rate_bps)) };
        self.free_at = now.saturating_add(Nanos::try_from(new_wait).unwrap_or(Nanos::MAX));
        self.rate_bps = rate_bps;
        let mut dropped = Dropped::default();
        for index in 0..BUCKETS {
            let trimmed = self.trim(index);
            dropped.packets += trimmed.packets;
            dropped.bytes += trimmed.bytes;
        }
        dropped
    }

    /// Queues a packet; a queue that gets too long loses its oldest packets.
    pub(super) fn push(&mut self, flow: u64, packet: Packet<P>) -> Dropped {
        let index = (flow % BUCKETS as u64) as usize;
        let bucket = &mut self.buckets[index];
        self.queued_packets += 1;
        self.queued_bytes += u64::from(packet.bytes);
        bucket.bytes += u64::from(packet.bytes);
        bucket.packets.push_back(packet);
        if bucket.round == Round::Idle {
            bucket.round = Round::Sparse;
            bucket.deficit_bytes = QUANTUM_BYTES;
            self.sparse.push_back(index);
        }
        self.trim(index)
    }

    /// Takes the packet whose turn it is, and pays for it from `now` on.
    pub(super) fn pop(&mut self, now: Nanos) -> Option<Packet<P>> {
        let packet = self.next_in_turn()?;
        self.queued_packets -= 1;
        self.queued_bytes -= u64::from(packet.bytes);
        let cost = transmit_nanos(packet.bits(), self.rate_bps).unwrap_or(0);
        self.free_at = now.saturating_add(cost);
        Some(packet)
    }

    fn next_in_turn(&mut self) -> Option<Packet<P>> {
        loop {
            let was_sparse = !self.sparse.is_empty();
            let index = *self.sparse.front().or_else(|| self.bulk.front())?;
            let bucket = &mut self.buckets[index];
            if bucket.deficit_bytes <= 0 {
                bucket.deficit_bytes += QUANTUM_BYTES;
                self.end_turn(was_sparse, Round::Bulk);
            } else if let Some(packet) = bucket.packets.pop_front() {
                bucket.deficit_bytes -= i64::from(packet.bytes);
                bucket.bytes -= u64::from(packet.bytes);
                return Some(packet);
            } else if was_sparse && !self.bulk.is_empty() {
                // It has to wait one round, or a flow could stay sparse by pausing for a moment.
                self.end_turn(was_sparse, Round::Bulk);
            } else {
                self.end_turn(was_sparse, Round::Idle);
            }
        }
    }

    /// Moves the bucket at the head of a round to the end of the next one.
    fn end_turn(&mut self, was_sparse: bool, next: Round) {
        let from = if was_sparse { &mut self.sparse } else { &mut self.bulk };
        if let Some(index) = from.pop_front() {
            self.buckets[index].round = next;
            if next == Round::Bulk {
                self.bulk.push_back(index);
            }
        }
    }

    /// Drops the oldest packets of a bucket until it is within its limit.
    fn trim(&mut self, index: usize) -> Dropped {
        let mut dropped = Dropped::default();
        if self.rate_bps == 0 {
            return dropped;
        }
        let limit_bits = u128::from(self.rate_bps) * u128::from(QUEUE_LIMIT);
        let limit_bytes = limit_bits / u128::from(NANOS_PER_SECOND) / 8;
        let bucket = &mut self.buckets[index];
        while bucket.packets.len() > QUEUE_MIN_PACKETS && u128::from(bucket.bytes) > limit_bytes {
            let Some(packet) = bucket.packets.pop_front() else { break };
            bucket.bytes -= u64::from(packet.bytes);
            self.queued_bytes -= u64::from(packet.bytes);
            self.queued_packets -= 1;
            dropped.packets += 1;
            dropped.bytes += u64::from(packet.bytes);
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(shaper: &mut Shaper<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| shaper.pop(0)).map(|packet| packet.payload).collect()
    }

    #[test]
    fn a_ping_overtakes_bulk_and_bulk_flows_share() {
        let mut shaper = Shaper::new(10_000_000);
        for _ in 0..3 {
            shaper.push(1, Packet { bytes: 1_500, payload: "a" });
            shaper.push(2, Packet { bytes: 1_500, payload: "b" });
        }
        assert_eq!(shaper.pop(0).map(|p| p.payload), Some("a"));
        assert_eq!(shaper.pop(0).map(|p| p.payload), Some("b"));
        shaper.push(3, Packet { bytes: 84, payload: "ping" });
        assert_eq!(drain(&mut shaper), ["ping", "a", "b", "a", "b"]);
        assert_eq!((shaper.queued_bytes(), shaper.queued_packets()), (0, 0));
    }

    #[test]
    fn a_long_queue_loses_its_oldest_packets_but_never_the_last_two() {
        let mut shaper = Shaper::new(1_000_000); // 25 ms are 3125 bytes
        let mut dropped = 0;
        for payload in ["1", "2", "3", "4"] {
            dropped += shaper.push(7, Packet { bytes: 1_500, payload }).packets;
        }
        assert_eq!(dropped, 2);
        assert_eq!(shaper.set_rate(0, 1).packets, 0);
        assert_eq!(drain(&mut shaper), ["3", "4"]);
    }

    #[test]
    fn a_new_rate_applies_to_what_is_still_owed() {
        let mut shaper = Shaper::new(8_000_000);
        shaper.push(0, Packet { bytes: 1_000, payload: "first" });
        shaper.push(0, Packet { bytes: 1_000, payload: "second" });
        shaper.pop(0); // paid for at 1 ms
        shaper.set_rate(500_000, 4_000_000); // half of it is left, at half the rate
        assert_eq!(shaper.ready_at(), Some(1_500_000));
        shaper.set_rate(600_000, 0);
        assert_eq!(shaper.ready_at(), Some(600_000));
    }
}
