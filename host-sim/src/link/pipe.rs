//! One direction of a line as discrete events.

use std::collections::VecDeque;
use std::time::Duration;

use super::bottleneck::Bottleneck;
use super::schedule::CapacitySchedule;
use super::shaper::{Dropped, Shaper};
use super::{Nanos, Packet, nanos};

/// What one direction of a line is made of.
#[derive(Clone, Debug)]
pub struct PipeOptions {
    /// Capacity of the bottleneck over time.
    pub capacity: CapacitySchedule,
    /// Size of the FIFO in front of the bottleneck in bytes, the packet being sent included.
    pub fifo_bytes: u64,
    /// Time from the end of the bottleneck to delivery.
    pub propagation: Duration,
    /// Rate of the shaper in bit/s at the start; zero means unlimited.
    pub shaper_bps: u64,
}

impl PipeOptions {
    /// Size of the FIFO in bytes unless another one is given: 1.6 s at 5 Mbit/s.
    pub const DEFAULT_FIFO_BYTES: u64 = 1_000_000;

    /// Builds a direction with the given capacity, the default FIFO, no propagation delay and no
    /// shaper.
    #[must_use]
    pub fn new(capacity: CapacitySchedule) -> Self {
        Self {
            capacity,
            fifo_bytes: Self::DEFAULT_FIFO_BYTES,
            propagation: Duration::ZERO,
            shaper_bps: 0,
        }
    }
}

/// What one direction has done so far, and where it stands.
///
/// `offered_bytes` always equals the sum of delivered, dropped and queued bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipeStats {
    /// Bytes handed to [`Pipe::enqueue`].
    pub offered_bytes: u64,
    /// Bytes that have passed the shaper.
    pub shaped_bytes: u64,
    /// Bytes that have passed the bottleneck.
    pub delivered_bytes: u64,
    /// Packets that have passed the bottleneck.
    pub delivered_packets: u64,
    /// Packets the shaper dropped because a flow's queue was too long.
    pub shaper_dropped_packets: u64,
    /// Packets the FIFO dropped because it was full.
    pub fifo_dropped_packets: u64,
    /// Bytes of all dropped packets.
    pub dropped_bytes: u64,
    /// Bytes waiting in the shaper.
    pub shaper_queued_bytes: u64,
    /// Bytes waiting in the FIFO, the packet being sent included.
    pub fifo_queued_bytes: u64,
    /// Nanoseconds a packet arriving now at the FIFO waits before it is sent; `Nanos::MAX` in an
    /// outage that does not end.
    pub fifo_delay: Nanos,
    /// Capacity of the bottleneck in bit/s.
    pub capacity_bps: u64,
    /// Rate of the shaper in bit/s; zero means unlimited.
    pub shaper_bps: u64,
}

/// One direction of a line, carrying packets with a payload of type `P`.
///
/// Time never runs backwards: a `now` before the latest one seen counts as that one.
#[derive(Debug)]
pub struct Pipe<P> {
    now: Nanos,
    shaper: Shaper<P>,
    bottleneck: Bottleneck<P>,
    propagation: Nanos,
    /// Packets past the bottleneck with their time of delivery, in order.
    travelling: VecDeque<(Nanos, P)>,
    /// Counters only; the state is filled in by [`Pipe::stats`].
    counted: PipeStats,
}

impl<P> Pipe<P> {
    /// Builds an empty direction at time zero.
    #[must_use]
    pub fn new(options: PipeOptions) -> Self {
        Self {
            now: 0,
            shaper: Shaper::new(options.shaper_bps),
            bottleneck: Bottleneck::new(options.capacity, options.fifo_bytes),
            propagation: nanos(options.propagation),
            travelling: VecDeque::new(),
            counted: PipeStats::default(),
        }
    }

    /// Hands a packet of `bytes` bytes to the shaper, where packets with equal `flow` share a queue.
    pub fn enqueue(&mut self, now: Nanos, flow: u64, bytes: u32, payload: P) {
        self.advance(now);
        self.counted.offered_bytes += u64::from(bytes);
        let dropped = self.shaper.push(flow, Packet { bytes, payload });
        self.count_shaper_drops(dropped);
        self.advance(now);
    }

    /// Sets the shaper to `rate_bps` bit/s from `now` on; zero means unlimited.
    pub fn set_shaper_rate(&mut self, now: Nanos, rate_bps: u64) {
        self.advance(now);
        let dropped = self.shaper.set_rate(self.now, rate_bps);
        self.count_shaper_drops(dropped);
        self.advance(now);
    }

    /// Sets the capacity to `rate_bps` bit/s from `now` on, in place of the rest of the schedule.
    pub fn set_capacity(&mut self, now: Nanos, rate_bps: u64) {
        self.advance(now);
        self.bottleneck.set_rate_from(self.now, rate_bps);
        self.advance(now);
    }

    /// Returns the time of the next thing that happens by itself; `None` if nothing will.
    #[must_use]
    pub fn next_event(&self) -> Option<Nanos> {
        let delivery = self.travelling.front().map(|&(at, _)| at);
        [self.next_queue_event(), delivery].into_iter().flatten().min()
    }

    /// Returns when the next packet leaves the shaper or the FIFO; `None` if none will.
    #[must_use]
    pub fn next_queue_event(&self) -> Option<Nanos> {
        [self.shaper_event(), self.bottleneck.done_at()].into_iter().flatten().min()
    }

    /// Lets everything happen that is due by `now`, in the order of time.
    pub fn advance(&mut self, now: Nanos) {
        loop {
            let sent = self.bottleneck.done_at().filter(|&at| at <= now);
            let shaped = self.shaper_event().filter(|&at| at <= now);
            match (sent, shaped) {
                (Some(sent), shaped) if shaped.is_none_or(|at| sent <= at) => self.leave_fifo(sent),
                (_, Some(shaped)) => self.leave_shaper(shaped),
                (_, None) => break,
            }
        }
        self.now = self.now.max(now);
    }

    /// Takes the oldest packet delivered by `now` with its time of delivery.
    ///
    /// It looks only at what [`Pipe::advance`] has brought this far.
    pub fn pop_delivered(&mut self, now: Nanos) -> Option<(Nanos, P)> {
        let &(at, _) = self.travelling.front()?;
        if at <= now { self.travelling.pop_front() } else { None }
    }

    /// Returns how many nanoseconds a packet arriving at the FIFO at `now` would wait before it is
    /// sent; `Nanos::MAX` in an outage that does not end.
    ///
    /// Correct only if the direction has been advanced to `now`.
    #[must_use]
    pub fn fifo_delay(&self, now: Nanos) -> Nanos {
        self.bottleneck.delay(now)
    }

    /// Returns how many more bytes the FIFO can take.
    #[must_use]
    pub fn fifo_room_bytes(&self) -> u64 {
        self.bottleneck.room_bytes()
    }

    /// Returns the number of packets waiting in the shaper.
    #[must_use]
    pub fn shaper_queued_packets(&self) -> usize {
        self.shaper.queued_packets()
    }

    /// Returns the number of bytes waiting in the shaper.
    #[must_use]
    pub fn shaper_queued_bytes(&self) -> u64 {
        self.shaper.queued_bytes()
    }

    /// Returns the counters and the state as of the latest time seen.
    #[must_use]
    pub fn stats(&self) -> PipeStats {
        PipeStats {
            shaper_queued_bytes: self.shaper.queued_bytes(),
            fifo_queued_bytes: self.bottleneck.queued_bytes(),
            fifo_delay: self.bottleneck.delay(self.now),
            capacity_bps: self.bottleneck.rate_at(self.now),
            shaper_bps: self.shaper.rate_bps(),
            ..self.counted
        }
    }

    fn shaper_event(&self) -> Option<Nanos> {
        self.shaper.ready_at().map(|at| at.max(self.now))
    }

    fn leave_shaper(&mut self, at: Nanos) {
        self.now = at;
        let Some(packet) = self.shaper.pop(at) else { return };
        self.counted.shaped_bytes += u64::from(packet.bytes);
        if let Err(packet) = self.bottleneck.push(at, packet) {
            self.counted.fifo_dropped_packets += 1;
            self.counted.dropped_bytes += u64::from(packet.bytes);
        }
    }

    fn leave_fifo(&mut self, at: Nanos) {
        self.now = at;
        let Some(packet) = self.bottleneck.pop(at) else { return };
        self.counted.delivered_packets += 1;
        self.counted.delivered_bytes += u64::from(packet.bytes);
        self.travelling.push_back((at.saturating_add(self.propagation), packet.payload));
    }

    fn count_shaper_drops(&mut self, dropped: Dropped) {
        self.counted.shaper_dropped_packets += dropped.packets;
        self.counted.dropped_bytes += dropped.bytes;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Nanos = 1_000_000;

    fn pipe(capacity: CapacitySchedule) -> Pipe<u32> {
        Pipe::new(PipeOptions::new(capacity))
    }

    fn deliveries(pipe: &mut Pipe<u32>, until: Nanos) -> Vec<(Nanos, u32)> {
        pipe.advance(until);
        std::iter::from_fn(|| pipe.pop_delivered(until)).collect()
    }

    #[test]
    fn a_packet_takes_its_transmission_time_and_the_propagation() {
        let options = PipeOptions {
            propagation: Duration::from_millis(10),
            ..PipeOptions::new(CapacitySchedule::constant(8_000_000))
        };
        let mut pipe = Pipe::new(options);
        pipe.enqueue(0, 0, 1_000, 1);
        pipe.enqueue(0, 0, 1_000, 2);
        assert_eq!(pipe.fifo_delay(0), 2 * MS);
        assert_eq!(pipe.next_event(), Some(MS));
        assert_eq!(deliveries(&mut pipe, 11 * MS), [(11 * MS, 1)]);
        assert_eq!(pipe.next_event(), Some(12 * MS));
        assert_eq!(deliveries(&mut pipe, 12 * MS), [(12 * MS, 2)]);
        assert_eq!(pipe.next_event(), None);
    }

    #[test]
    fn an_outage_holds_packets_and_lets_them_go_afterwards() {
        let ms = Duration::from_millis;
        let schedule = CapacitySchedule::steps(&[(ms(0), 0), (ms(50), 8_000_000)]);
        let mut pipe = pipe(schedule);
        pipe.enqueue(20 * MS, 0, 1_000, 1);
        assert_eq!(pipe.fifo_delay(20 * MS), 31 * MS);
        assert_eq!(deliveries(&mut pipe, 50 * MS), []);
        assert_eq!(deliveries(&mut pipe, 51 * MS), [(51 * MS, 1)]);

        pipe.set_capacity(60 * MS, 0);
        pipe.enqueue(60 * MS, 0, 1_000, 2);
        assert_eq!((pipe.next_event(), pipe.fifo_delay(60 * MS)), (None, Nanos::MAX));
        pipe.set_capacity(70 * MS, 1_000_000);
        assert_eq!(pipe.next_event(), Some(78 * MS));
    }

    #[test]
    fn a_capacity_change_keeps_what_has_been_sent_of_a_packet() {
        let mut pipe = pipe(CapacitySchedule::constant(8_000_000));
        pipe.enqueue(0, 0, 1_000, 1);
        pipe.set_capacity(MS / 2, 4_000_000);
        assert_eq!(pipe.next_event(), Some(MS / 2 + MS));
    }

    #[test]
    fn a_full_fifo_drops_the_newest_packet() {
        let options = PipeOptions {
            fifo_bytes: 2_500,
            ..PipeOptions::new(CapacitySchedule::constant(8_000_000))
        };
        let mut pipe = Pipe::new(options);
        for payload in 1..=3 {
            pipe.enqueue(0, 0, 1_000, payload);
        }
        assert_eq!(pipe.stats().fifo_dropped_packets, 1);
        assert_eq!(deliveries(&mut pipe, MS * 9), [(MS, 1), (2 * MS, 2)]);
    }

    #[test]
    fn a_ping_does_not_wait_behind_bulk_in_the_shaper() {
        let mut pipe = pipe(CapacitySchedule::constant(100_000_000));
        pipe.set_shaper_rate(0, 8_000_000);
        for _ in 0..20 {
            pipe.enqueue(0, 1, 1_000, 1);
        }
        pipe.enqueue(5 * MS + 1, 2, 100, 2);
        let ping = deliveries(&mut pipe, 30 * MS).into_iter().find(|&(_, payload)| payload == 2);
        // It waits for the packet before it to be paid for, and is then sent at 100 Mbit/s.
        assert_eq!(ping, Some((6 * MS + 8_000, 2)));
    }

    #[test]
    fn lifting_the_shaper_lets_everything_through_at_once() {
        let mut pipe = pipe(CapacitySchedule::constant(8_000_000));
        pipe.set_shaper_rate(0, 1_000);
        pipe.enqueue(0, 1, 1_000, 1);
        pipe.enqueue(0, 1, 1_000, 2);
        assert_eq!(pipe.shaper_queued_packets(), 1);
        pipe.set_shaper_rate(5 * MS, 0);
        assert_eq!(pipe.shaper_queued_packets(), 0);
        assert_eq!(deliveries(&mut pipe, 9 * MS), [(MS, 1), (6 * MS, 2)]);
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Enqueue { flow: u64, bytes: u32 },
        SetShaper(u64),
        SetCapacity(u64),
        Wait(Nanos),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let rate = prop_oneof![Just(0), 1_u64..2_000, 100_000_u64..1_000_000_000];
        prop_oneof![
            6 => (0_u64..200, 1_u32..9_000)
                .prop_map(|(flow, bytes)| Operation::Enqueue { flow, bytes }),
            1 => rate.clone().prop_map(Operation::SetShaper),
            1 => rate.prop_map(Operation::SetCapacity),
            3 => (0..50 * MS).prop_map(Operation::Wait),
        ]
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_made_up(operations in prop::collection::vec(operation(), 1..300)) {
            let options = PipeOptions {
                fifo_bytes: 40_000,
                propagation: Duration::from_millis(5),
                ..PipeOptions::new(CapacitySchedule::constant(5_000_000))
            };
            let mut pipe = Pipe::new(options);
            let (mut now, mut offered, mut popped, mut last_delivery) = (0, 0, 0, 0);
            for operation in operations {
                match operation {
                    Operation::Enqueue { flow, bytes } => {
                        offered += u64::from(bytes);
                        pipe.enqueue(now, flow, bytes, bytes);
                    }
                    Operation::SetShaper(rate) => pipe.set_shaper_rate(now, rate),
                    Operation::SetCapacity(rate) => pipe.set_capacity(now, rate),
                    Operation::Wait(time) => {
                        now += time;
                        pipe.advance(now);
                    }
                }
                while let Some((at, bytes)) = pipe.pop_delivered(now) {
                    prop_assert!(last_delivery <= at && at <= now);
                    last_delivery = at;
                    popped += u64::from(bytes);
                }
                let travelling: u64 = pipe.travelling.iter().map(|&(_, b)| u64::from(b)).sum();
                let stats = pipe.stats();
                let queued = stats.shaper_queued_bytes + stats.fifo_queued_bytes;
                prop_assert_eq!(stats.offered_bytes, offered);
                prop_assert_eq!(stats.delivered_bytes, popped + travelling);
                prop_assert_eq!(offered, stats.delivered_bytes + queued + stats.dropped_bytes);
                prop_assert!(pipe.next_event().is_none_or(|at| at > now));
            }
        }
    }
}
