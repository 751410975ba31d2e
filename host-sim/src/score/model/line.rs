//! One direction: the provider's deep FIFO and the router's CAKE, as fluids.
//!
//! ```text
//! upload:   flows ─► CAKE at the shaper rate ─► FIFO at the capacity ─► internet ─► acks
//! download: flows ─► FIFO at the capacity ─► CAKE at the shaper rate ─► home ─► acks
//! ```
//!
//! Only the FIFO delays everybody. CAKE isolates flows, so its queue delays nobody but the bulk
//! flows themselves ([`super::cake`]).

use std::collections::VecDeque;

use super::STEP_US;
use super::cake::Cake;
use super::flows::{ALL_HIT, Back, Flows, PACKET_BITS, WayBack};

/// Bits of two kinds: flows that react, and traffic that does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mix {
    /// Of the flows.
    pub bulk: u64,
    /// Of calls, games and acknowledgements.
    pub constant: u64,
}

impl Mix {
    /// Returns all bits.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.bulk + self.constant
    }

    pub(super) const fn add(&mut self, other: Self) {
        self.bulk += other.bulk;
        self.constant += other.constant;
    }

    /// Takes `bits` out of a well-stirred mix.
    pub(super) fn take(&mut self, bits: u64) -> Self {
        let total = self.total();
        let taken = if bits >= total {
            *self
        } else if self.constant == 0 {
            Self { bulk: bits, constant: 0 }
        } else {
            let share = u128::from(bits) * u128::from(self.constant) / u128::from(total);
            let constant = (share as u64).max(bits.saturating_sub(self.bulk));
            Self { bulk: bits - constant, constant }
        };
        self.bulk -= taken.bulk;
        self.constant -= taken.constant;
        taken
    }
}

/// Something that waits for its turn in the FIFO, to see how long that takes.
#[derive(Debug, Clone, Copy)]
pub struct Marker {
    /// It leaves when so many bits have left the FIFO.
    position: u64,
    /// When it came, in µs.
    entered_us: u64,
    /// When it came by the clock that stands still in outages.
    entered_up_us: u64,
    /// What it is.
    kind: MarkerKind,
}

/// What a marker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkerKind {
    /// The probe of that number.
    Probe(u64),
    /// A ping of the scorer, which no noise and no loss meets; it has queued so many µs before.
    Sample(u64),
}

/// A marker that has left the FIFO.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    /// What it is.
    pub kind: MarkerKind,
    /// How long it waited, in µs.
    pub waited_us: u64,
    /// How long it waited without the time in which the line was out, in µs.
    pub queued_us: u64,
}

/// The provider's FIFO.
#[derive(Debug, Clone)]
pub struct Fifo {
    queue: Mix,
    limit: u64,
    departed: u64,
    dropped: Mix,
    markers: VecDeque<Marker>,
    up_us: u64,
}

impl Fifo {
    /// Makes an empty FIFO with room for so many bits.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            queue: Mix::default(),
            limit,
            departed: 0,
            dropped: Mix::default(),
            markers: VecDeque::with_capacity(4096),
            up_us: 0,
        }
    }

    /// Runs one step; returns what leaves and what is dropped.
    fn serve(&mut self, arriving: Mix, capacity: u64) -> (Mix, Mix) {
        self.queue.add(arriving);
        let leaving = self.queue.take(capacity);
        let over = self.queue.total().saturating_sub(self.limit);
        let dropped = if over > 0 { self.queue.take(over) } else { Mix::default() };
        self.dropped.add(dropped);
        (leaving, dropped)
    }

    /// Lets markers leave that the bits of this step have carried out.
    fn depart(&mut self, bits: u64, capacity: u64, now_us: u64, is_up: bool, left: &mut Vec<Left>) {
        let before = self.departed;
        self.departed += bits;
        while let Some(marker) = self.markers.front() {
            // A tail drop can leave a marker behind the last bit.
            if marker.position > self.departed && self.queue.total() > 0 {
                break;
            }
            let ahead = marker.position.saturating_sub(before).min(capacity);
            let into_us = ahead * STEP_US / capacity.max(1);
            let up_us = self.up_us + if is_up { into_us } else { 0 };
            left.push(Left {
                kind: marker.kind,
                waited_us: (now_us + into_us).saturating_sub(marker.entered_us),
                queued_us: up_us.saturating_sub(marker.entered_up_us),
            });
            self.markers.pop_front();
        }
        if is_up {
            self.up_us += STEP_US;
        }
    }

    /// Puts a marker at the end; returns false when there is no room for it.
    pub fn enter(&mut self, now_us: u64, kind: MarkerKind) -> bool {
        if self.markers.len() == self.markers.capacity() {
            return false;
        }
        self.markers.push_back(Marker {
            position: self.departed + self.queue.total(),
            entered_us: now_us,
            entered_up_us: self.up_us,
            kind,
        });
        true
    }

    /// Returns the bits waiting.
    #[must_use]
    pub const fn queued(&self) -> u64 {
        self.queue.total()
    }

    /// Returns the bits that have left.
    #[must_use]
    pub const fn departed(&self) -> u64 {
        self.departed
    }

    /// Returns the bits that were dropped.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped.total()
    }

    /// Returns whether the FIFO is full to the brim.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.queue.total() >= self.limit
    }
}

/// What one step of a line needs to know.
#[derive(Debug, Clone, Copy)]
pub struct StepInput {
    /// The number of the step.
    pub step: u64,
    /// Bits the bottleneck can carry in it.
    pub capacity: u64,
    /// Bits per step it can carry in the mean of the next 100 ms.
    pub ahead: u64,
    /// Bits CAKE lets through in it.
    pub rate: u64,
    /// Bits of traffic that does not react.
    pub constant: u64,
    /// Whether the flows want to send.
    pub is_on: bool,
    /// The round trip of the flows without the queue of this direction, in µs.
    pub base_us: u64,
    /// Whether the line works at all.
    pub is_up: bool,
}

/// One direction of a line.
#[derive(Debug, Clone)]
pub struct Line {
    is_upload: bool,
    /// The provider's queue.
    pub fifo: Fifo,
    /// The router's queue.
    pub cake: Cake,
    flows: Flows,
    way_back: WayBack,
    /// How long the next bit will wait in the FIFO, in µs.
    queue_us: u64,
    arrived: u64,
}

impl Line {
    /// Makes an idle direction.
    #[must_use]
    pub fn new(is_upload: bool, fifo_bits: u64, flows: u32) -> Self {
        Self {
            is_upload,
            fifo: Fifo::new(fifo_bits),
            cake: Cake::new(!is_upload),
            flows: Flows::new(flows),
            way_back: WayBack::new(),
            queue_us: 0,
            arrived: 0,
        }
    }

    /// Begins new connections.
    pub fn begin_flows(&mut self) {
        self.flows.begin();
    }

    /// Runs one step; returns the bits that arrived at their destination. Markers that leave the
    /// FIFO are added to `left`.
    pub fn step(&mut self, input: &StepInput, left: &mut Vec<Left>) -> Mix {
        let mut bulk = 0;
        if self.flows.count() > 0 {
            let back = self.way_back.take(input.step);
            self.flows.take(back, input.base_us, self.queue_us + self.cake.waits_us());
            bulk = if input.is_on { self.flows.send() } else { 0 };
        }
        let sent = Mix { bulk, constant: input.constant };
        self.arrived += sent.total();
        let flows = self.flows.count();
        let (leaving, lost, mut hit) = if self.is_upload {
            let shaped = self.cake.serve(sent, input.rate, flows);
            let (leaving, dropped) = self.pass_fifo(shaped.leaving, input, left);
            (leaving, dropped.bulk + shaped.lost, self.hits(dropped) + shaped.hit)
        } else {
            let (through, dropped) = self.pass_fifo(sent, input, left);
            let shaped = self.cake.serve(through, input.rate, flows);
            (shaped.leaving, dropped.bulk + shaped.lost, self.hits(dropped) + shaped.hit)
        };
        hit = hit.min(ALL_HIT);
        if leaving.bulk > 0 || lost > 0 || hit > 0 {
            let back = Back { acked: leaving.bulk as u32, lost: lost as u32, hit };
            self.way_back.put(input.step, input.base_us, back);
        }
        leaving
    }

    /// Which part of the flows misses a packet that the FIFO dropped, of [`ALL_HIT`].
    fn hits(&self, dropped: Mix) -> u32 {
        let all = (PACKET_BITS * self.flows.count()).max(1);
        let share = dropped.bulk.saturating_mul(u64::from(ALL_HIT)) / all;
        share.min(u64::from(ALL_HIT)) as u32
    }

    fn pass_fifo(&mut self, arriving: Mix, input: &StepInput, left: &mut Vec<Left>) -> (Mix, Mix) {
        let (leaving, dropped) = self.fifo.serve(arriving, input.capacity);
        let now_us = input.step * STEP_US;
        self.fifo.depart(leaving.total(), input.capacity, now_us, input.is_up, left);
        let queued_us = (self.fifo.queued() * STEP_US).checked_div(input.ahead);
        // In an outage the queue gets older with every step.
        let is_empty = self.fifo.queued() == 0;
        self.queue_us = queued_us.unwrap_or(if is_empty { 0 } else { self.queue_us + STEP_US });
        (leaving, dropped)
    }

    /// Returns how long the next bit will wait in the FIFO if the capacity stays, in µs.
    #[must_use]
    pub const fn queue_us(&self) -> u64 {
        self.queue_us
    }

    /// Returns whether nothing but probes is under way.
    #[must_use]
    pub const fn is_quiet_but_for_probes(&self) -> bool {
        self.flows.in_flight() == 0 && self.fifo.queued() == 0 && self.cake.queued() == 0
    }

    /// Lets constant traffic pass that meets no queue, and all probes with it.
    pub fn pass_quietly(&mut self, bits: u64, steps: u64, now_us: u64, left: &mut Vec<Left>) {
        self.arrived += bits;
        self.cake.pass(bits, steps);
        self.fifo.departed += bits;
        self.queue_us = 0;
        while let Some(marker) = self.fifo.markers.pop_front() {
            let waited_us = now_us.saturating_sub(marker.entered_us);
            left.push(Left { kind: marker.kind, waited_us, queued_us: 0 });
        }
    }

    /// Returns all bits that came in.
    #[must_use]
    pub const fn arrived(&self) -> u64 {
        self.arrived
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
