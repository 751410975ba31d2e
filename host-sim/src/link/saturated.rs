//! A whole line with greedy traffic of its own, and probes to measure it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::pipe::{Pipe, PipeOptions, PipeStats};
use super::schedule::CapacitySchedule;
use super::{Direction, Nanos, nanos};

/// Size of a bulk packet in bytes.
const BULK_BYTES: u32 = 1_500;
/// Number of bulk flows per direction.
const BULK_FLOWS: u64 = 4;
/// Bulk packets kept waiting in the shaper: two per flow, which no queue limit touches.
const BULK_WAITING: usize = 8;
/// Room in the FIFO that bulk leaves, so that a probe is not lost in a full one.
///
/// Real flows leave it by backing off after each loss: pings seldom get lost behind them.
const FIFO_RESERVE_BYTES: u64 = 1_500;
/// Flow of the probes; bulk flows count from zero.
const PROBE_FLOW: u64 = BULK_FLOWS;
/// Size of a probe in bytes: an ICMP echo with the usual 56 bytes of data.
const PROBE_BYTES: u32 = 84;

/// What a line is made of.
#[derive(Clone, Debug)]
pub struct SaturatedLinkOptions {
    /// Capacity from the internet to the home.
    pub download: CapacitySchedule,
    /// Capacity from the home to the internet.
    pub upload: CapacitySchedule,
    /// Size of the FIFO of each direction in bytes.
    pub fifo_bytes: u64,
    /// Round trip time of the empty line without transmission times.
    pub base_rtt: Duration,
    /// Largest extra delay of a reply; each one draws evenly between zero and this.
    pub jitter: Duration,
    /// Seed of the jitter.
    pub seed: u64,
}

impl SaturatedLinkOptions {
    /// Builds a line with the given capacities, the default FIFO, 20 ms of base RTT and no jitter.
    #[must_use]
    pub fn new(download: CapacitySchedule, upload: CapacitySchedule) -> Self {
        Self {
            download,
            upload,
            fifo_bytes: PipeOptions::DEFAULT_FIFO_BYTES,
            base_rtt: Duration::from_millis(20),
            jitter: Duration::ZERO,
            seed: 0,
        }
    }
}

/// The reply to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeReply {
    /// The token the probe was sent with.
    pub token: u64,
    /// When the probe was sent.
    pub sent_at: Nanos,
    /// When the reply arrived.
    pub received_at: Nanos,
}

impl ProbeReply {
    /// Returns the round trip time in nanoseconds.
    #[must_use]
    pub fn rtt(&self) -> Nanos {
        self.received_at - self.sent_at
    }
}

#[derive(Clone, Copy, Debug)]
enum Cargo {
    Bulk,
    Probe { token: u64, sent_at: Nanos },
}

/// A line both directions of which can be saturated, with probes going up and coming back down.
///
/// The traffic behaves as many long TCP flows would: it uses whatever the shaper lets through, and
/// where the bottleneck is slower than the shaper it keeps the FIFO full. The state at a given time
/// does not depend on how often [`SaturatedLink::advance`] is called on the way there.
#[derive(Debug)]
pub struct SaturatedLink {
    download: LoadedPipe,
    upload: LoadedPipe,
    jitter: Nanos,
    random: SplitMix64,
    /// Replies as `(received_at, order, token, sent_at)`: jitter may let one overtake another.
    replies: BinaryHeap<Reverse<(Nanos, u64, u64, Nanos)>>,
    reply_count: u64,
}

impl SaturatedLink {
    /// Builds an idle line at time zero; the shapers are unlimited.
    #[must_use]
    pub fn new(options: SaturatedLinkOptions) -> Self {
        let half_up = options.base_rtt / 2;
        let direction = |capacity, propagation| {
            let fifo_bytes = options.fifo_bytes;
            LoadedPipe::new(PipeOptions { capacity, fifo_bytes, propagation, shaper_bps: 0 })
        };
        Self {
            download: direction(options.download, options.base_rtt - half_up),
            upload: direction(options.upload, half_up),
            jitter: nanos(options.jitter),
            random: SplitMix64 { state: options.seed },
            replies: BinaryHeap::new(),
            reply_count: 0,
        }
    }

    /// Switches the bulk traffic of a direction on or off; what is queued stays queued.
    pub fn set_load(&mut self, now: Nanos, direction: Direction, on: bool) {
        self.advance(now);
        let pipe = self.direction_mut(direction);
        pipe.loaded = on;
        pipe.refill(now);
    }

    /// Sets the shaper of a direction to `rate_bps` bit/s from `now` on; zero means unlimited.
    pub fn set_shaper_rate(&mut self, now: Nanos, direction: Direction, rate_bps: u64) {
        self.advance(now);
        let pipe = self.direction_mut(direction);
        pipe.pipe.set_shaper_rate(now, rate_bps);
        pipe.run(now);
    }

    /// Sets the capacity of a direction to `rate_bps` bit/s from `now` on, in place of the rest of
    /// its schedule.
    pub fn set_capacity(&mut self, now: Nanos, direction: Direction, rate_bps: u64) {
        self.advance(now);
        self.direction_mut(direction).pipe.set_capacity(now, rate_bps);
    }

    /// Sends a probe up the line; its reply comes back with the same token unless it is lost.
    pub fn send_probe(&mut self, now: Nanos, token: u64) {
        self.advance(now);
        let probe = Cargo::Probe { token, sent_at: now };
        self.upload.pipe.enqueue(now, PROBE_FLOW, PROBE_BYTES, probe);
    }

    /// Lets everything happen that is due by `now`.
    pub fn advance(&mut self, now: Nanos) {
        self.upload.run(now);
        while let Some((at, cargo)) = self.upload.pipe.pop_delivered(now) {
            if let Cargo::Probe { .. } = cargo {
                self.download.run(at);
                self.download.pipe.enqueue(at, PROBE_FLOW, PROBE_BYTES, cargo);
            }
        }
        self.download.run(now);
        while let Some((at, cargo)) = self.download.pipe.pop_delivered(now) {
            if let Cargo::Probe { token, sent_at } = cargo {
                let received_at = at + self.random.below(self.jitter.saturating_add(1));
                self.replies.push(Reverse((received_at, self.reply_count, token, sent_at)));
                self.reply_count += 1;
            }
        }
    }

    /// Takes the oldest reply received by `now`.
    ///
    /// It looks only at what [`SaturatedLink::advance`] has brought this far.
    pub fn pop_reply(&mut self, now: Nanos) -> Option<ProbeReply> {
        let &Reverse((received_at, _, token, sent_at)) = self.replies.peek()?;
        if received_at > now {
            return None;
        }
        self.replies.pop();
        Some(ProbeReply { token, sent_at, received_at })
    }

    /// Returns the time of the next thing that happens by itself; `None` if nothing will.
    #[must_use]
    pub fn next_event(&self) -> Option<Nanos> {
        let reply = self.replies.peek().map(|&Reverse((at, ..))| at);
        let events = [self.download.pipe.next_event(), self.upload.pipe.next_event(), reply];
        events.into_iter().flatten().min()
    }

    /// Returns counters and state of a direction as of the latest time seen.
    #[must_use]
    pub fn stats(&self, direction: Direction) -> PipeStats {
        match direction {
            Direction::Download => self.download.pipe.stats(),
            Direction::Upload => self.upload.pipe.stats(),
        }
    }

    fn direction_mut(&mut self, direction: Direction) -> &mut LoadedPipe {
        match direction {
            Direction::Download => &mut self.download,
            Direction::Upload => &mut self.upload,
        }
    }
}

/// A pipe with a greedy source in front.
#[derive(Debug)]
struct LoadedPipe {
    pipe: Pipe<Cargo>,
    loaded: bool,
    next_flow: u64,
}

impl LoadedPipe {
    fn new(options: PipeOptions) -> Self {
        Self { pipe: Pipe::new(options), loaded: false, next_flow: 0 }
    }

    /// Advances event by event, so that the source reacts to each of them in time.
    fn run(&mut self, now: Nanos) {
        while let Some(event) = self.pipe.next_queue_event().filter(|&at| at <= now) {
            self.pipe.advance(event);
            self.refill(event);
        }
        self.pipe.advance(now);
    }

    /// Offers bulk packets while the shaper has few and the FIFO has room for them.
    fn refill(&mut self, now: Nanos) {
        if !self.loaded {
            return;
        }
        let reserved = u64::from(BULK_BYTES) + FIFO_RESERVE_BYTES;
        while self.pipe.shaper_queued_packets() < BULK_WAITING
            && self.pipe.fifo_room_bytes() >= self.pipe.shaper_queued_bytes() + reserved
        {
            self.pipe.enqueue(now, self.next_flow, BULK_BYTES, Cargo::Bulk);
            self.next_flow = (self.next_flow + 1) % BULK_FLOWS;
        }
    }
}

/// The generator of Steele, Lea and Flood: 64 bits of state, good enough for jitter.
#[derive(Debug)]
struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// Returns an evenly distributed number below `bound`, which must not be zero.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests;
