//! The slowest place of a line: a deep FIFO in front of a capacity that changes over time.

use std::collections::VecDeque;

use super::schedule::CapacitySchedule;
use super::{Nanos, Packet};

/// A byte-bounded FIFO that drops at its tail.
#[derive(Debug)]
pub(super) struct Bottleneck<P> {
    schedule: CapacitySchedule,
    limit_bytes: u64,
    /// Waiting packets; the first one is being sent.
    queue: VecDeque<Packet<P>>,
    queued_bytes: u64,
    /// When the first packet began to be sent.
    head_started: Nanos,
    /// When it will have been sent; `None` if there is none, or if the capacity stays at zero.
    head_done: Option<Nanos>,
}

impl<P> Bottleneck<P> {
    pub(super) fn new(schedule: CapacitySchedule, limit_bytes: u64) -> Self {
        Self {
            schedule,
            limit_bytes,
            queue: VecDeque::new(),
            queued_bytes: 0,
            head_started: 0,
            head_done: None,
        }
    }

    pub(super) fn rate_at(&self, now: Nanos) -> u64 {
        self.schedule.rate_at(now)
    }

    pub(super) fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    pub(super) fn room_bytes(&self) -> u64 {
        self.limit_bytes.saturating_sub(self.queued_bytes)
    }

    /// When the packet being sent will have been sent.
    pub(super) fn done_at(&self) -> Option<Nanos> {
        self.head_done
    }

    /// Replaces the capacity from `now` on; the packet being sent keeps what it has already got.
    pub(super) fn set_rate_from(&mut self, now: Nanos, rate_bps: u64) {
        self.schedule.set_from(now, rate_bps);
        if !self.queue.is_empty() {
            self.start_head(self.head_started);
        }
    }

    /// Queues a packet; hands it back if there is no room. An empty queue takes any packet.
    pub(super) fn push(&mut self, now: Nanos, packet: Packet<P>) -> Result<(), Packet<P>> {
        let bytes = u64::from(packet.bytes);
        if !self.queue.is_empty() && bytes > self.room_bytes() {
            return Err(packet);
        }
        self.queued_bytes += bytes;
        self.queue.push_back(packet);
        if self.queue.len() == 1 {
            self.start_head(now);
        }
        Ok(())
    }

    /// Takes the packet that has been sent at `done`, the time given by [`Self::done_at`].
    pub(super) fn pop(&mut self, done: Nanos) -> Option<Packet<P>> {
        let packet = self.queue.pop_front()?;
        self.queued_bytes -= u64::from(packet.bytes);
        self.start_head(done);
        Some(packet)
    }

    /// Time from `now` until everything queued has been sent; `Nanos::MAX` if that is never.
    pub(super) fn delay(&self, now: Nanos) -> Nanos {
        if self.queue.is_empty() {
            return 0;
        }
        let empty_at = self.schedule.transmission_end(self.head_started, self.queued_bytes * 8);
        empty_at.map_or(Nanos::MAX, |at| at.saturating_sub(now))
    }

    fn start_head(&mut self, started: Nanos) {
        self.head_started = started;
        self.head_done =
            self.queue.front().and_then(|p| self.schedule.transmission_end(started, p.bits()));
    }
}
