//! The router's CAKE as a fluid: a shaper, fair queues, and COBALT in front of each flow.
//!
//! COBALT is CoDel (RFC 8289) with a memory: it drops a packet of a flow that waits longer than the
//! target every `interval / sqrt(count)`, counts drops up, and counts them down at the same pace while
//! the flow waits less. So after a deep cut, which leaves a second of packets in CAKE, flows are kept
//! small for seconds: measured behind a real CAKE, a download of two flows fills 60 to 78 % of its
//! shaper for three seconds. A CAKE for downloads (`ingress`) charges dropped packets to the shaper.

use super::STEP_US;
use super::flows::{ALL_HIT, PACKET_BITS};
use super::line::Mix;

/// CAKE's default target and interval (internet keyword): 5 ms and 100 ms.
const TARGET_US: u64 = 5_000;
const INTERVAL_US: u64 = 100_000;
/// Nothing is dropped of a flow that waits less than so many packet times.
const TARGET_PACKETS: u64 = 4;
/// For `ingress`, nor of one that waits less than so many packet times of each flow.
const TARGET_PACKETS_PER_FLOW: u64 = 2;
/// Bits of a sparse packet: an acknowledgement, a piece of a call.
const SMALL_PACKET_BITS: u64 = 100 * 8;
/// One, with 16 fraction bits.
const ONE: u64 = 1 << 16;

/// COBALT's state, the same for all flows.
#[derive(Debug, Clone, Default)]
struct Cobalt {
    /// Drops of a flow that are remembered, with 16 fraction bits.
    count: u64,
    /// How long flows have waited for more than the target.
    over_us: u64,
    /// Drops that are due, with 16 fraction bits.
    due: u64,
}

impl Cobalt {
    /// Returns how many packets to drop in a step.
    fn drops(&mut self, is_over: bool, flows: u64) -> u64 {
        if !is_over {
            self.over_us = 0;
            if self.count > 0 {
                self.count = self.count.saturating_sub(per_step(self.count));
            }
            return 0;
        }
        self.count = self.count.max(ONE);
        self.over_us += STEP_US;
        let per_step = per_step(self.count);
        // Flows do not drop at the same moment, but one after the other: the first drops come in the
        // mean after an interval / sqrt(count), from a half to one and a half of it.
        if self.over_us * per_step * 2 < STEP_US * ONE {
            self.due = ONE / 2;
            return 0;
        }
        self.due += per_step * flows;
        let drops = self.due / ONE;
        self.due %= ONE;
        self.count += drops * ONE / flows.max(1);
        drops
    }
}

/// Drops of a flow in one step with this count, both with 16 fraction bits.
fn per_step(count: u64) -> u64 {
    (count * ONE).isqrt() * STEP_US / INTERVAL_US
}

/// What a step of CAKE does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shaped {
    /// What leaves.
    pub leaving: Mix,
    /// Bits of flows that were dropped.
    pub lost: u64,
    /// Which part of the flows misses a packet, of [`ALL_HIT`].
    pub hit: u32,
}

/// The router's CAKE.
#[derive(Debug, Clone, Default)]
pub struct Cake {
    is_ingress: bool,
    queue: Mix,
    /// Bits it has delivered: the counter the router shows.
    delivered: u64,
    /// Packets it has dropped, and their bits.
    dropped: u64,
    lost: u64,
    /// Bits that were charged to the shaper and not paid yet.
    debt: u64,
    /// How long the next bit of the flows waits, in µs.
    waits_us: u64,
    /// What left in the last step, and how much could have.
    left: u64,
    rate: u64,
    cobalt: Cobalt,
    since_read: Waits,
}

/// What packets have waited that left.
#[derive(Debug, Clone, Default)]
struct Waits {
    /// How many, in bits of full packets.
    packet_bits: u64,
    /// Their times in µs, times their bits.
    total: u64,
}

impl Cake {
    /// Makes an empty one; `is_ingress` is what it is for downloads.
    #[must_use]
    pub fn new(is_ingress: bool) -> Self {
        Self { is_ingress, ..Self::default() }
    }

    /// Runs one step. Sparse traffic goes first.
    pub fn serve(&mut self, arriving: Mix, rate: u64, flows: u64) -> Shaped {
        self.queue.add(arriving);
        let paid = self.debt.min(rate);
        self.debt -= paid;
        let room = rate - paid;
        let constant = self.queue.constant.min(room);
        let bulk = self.queue.bulk.min(room - constant);
        self.queue.constant -= constant;
        self.queue.bulk -= bulk;
        self.delivered += constant + bulk;
        self.note_waits(bulk, constant);
        let leaving = Mix { bulk, constant };
        (self.left, self.rate) = (leaving.total(), rate);
        self.waits_us =
            if self.queue.bulk == 0 { 0 } else { self.queue.bulk * STEP_US / rate.max(1) };
        if self.waits_us == 0 && self.cobalt.count == 0 {
            return Shaped { leaving, ..Shaped::default() };
        }
        let drops = self.cobalt.drops(self.waits_us > self.target_us(rate, flows), flows);
        let lost = (drops * PACKET_BITS).min(self.queue.bulk);
        self.queue.bulk -= lost;
        self.dropped += drops;
        self.lost += lost;
        if self.is_ingress {
            self.debt += lost;
        }
        let hit = (drops * u64::from(ALL_HIT)).checked_div(flows).unwrap_or_default();
        Shaped { leaving, lost, hit: hit.min(u64::from(ALL_HIT)) as u32 }
    }

    /// Notes how long what leaves has waited. Sparse packets have not.
    fn note_waits(&mut self, bulk: u64, constant: u64) {
        let waits = &mut self.since_read;
        waits.packet_bits += bulk + constant * PACKET_BITS / SMALL_PACKET_BITS;
        waits.total += bulk * self.waits_us;
    }

    /// Returns how long the packets waited that left since it was asked last, in the mean, in µs. CAKE
    /// itself tells an average that moves by 1/256 of each packet; this is what can be told from two of these.
    pub fn take_wait_us(&mut self) -> Option<u32> {
        let waits = std::mem::take(&mut self.since_read);
        waits.total.checked_div(waits.packet_bits).map(|us| us as u32)
    }

    fn target_us(&self, rate: u64, flows: u64) -> u64 {
        let packets = if self.is_ingress { flows * TARGET_PACKETS_PER_FLOW } else { 0 };
        let packets = packets.max(TARGET_PACKETS);
        TARGET_US.max(packets * PACKET_BITS * STEP_US / rate.max(1))
    }

    /// Lets traffic pass for so many steps that meets no queue.
    pub fn pass(&mut self, bits: u64, steps: u64) {
        self.delivered += bits;
        self.note_waits(0, bits);
        (self.waits_us, self.left) = (0, 0);
        for _ in 0..steps {
            self.cobalt.drops(false, 0);
        }
    }

    /// Returns how long the next bit of the flows waits, in µs.
    #[must_use]
    pub const fn waits_us(&self) -> u64 {
        self.waits_us
    }

    /// Returns which part of the time a packet is being sent, in parts per million.
    #[must_use]
    pub fn busy_ppm(&self) -> u32 {
        (self.left * 1_000_000).checked_div(self.rate).unwrap_or_default() as u32
    }

    /// Returns how long a full packet takes at the shaper rate while there is traffic, in µs; at most
    /// 100 ms.
    #[must_use]
    pub fn packet_us(&self) -> u64 {
        if self.left == 0 { 0 } else { (PACKET_BITS * STEP_US / self.rate.max(1)).min(100_000) }
    }

    /// Returns the bits delivered so far.
    #[must_use]
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Returns the packets dropped so far.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns the bits dropped so far.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns the bits waiting.
    #[must_use]
    pub const fn queued(&self) -> u64 {
        self.queue.total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 Mbit/s in bits per step.
    const RATE: u64 = 20_000;

    fn bulk(bits: u64) -> Mix {
        Mix { bulk: bits, constant: 0 }
    }

    #[test]
    fn a_flow_is_dropped_ever_faster_while_it_waits_and_remembered_as_long_afterwards() {
        let mut cake = Cake::new(false);
        cake.serve(bulk(RATE * 100), RATE, 1);
        let mut dropped = Vec::new();
        for _ in 0..1000 {
            // As much again as leaves: the queue stands at 200 ms.
            let shaped = cake.serve(Mix::default(), RATE, 1);
            cake.queue.bulk += shaped.leaving.bulk + shaped.lost;
            dropped.push(cake.dropped());
        }
        // The first one after 100 ms; then the sum of 1/sqrt(n) intervals.
        assert_eq!((dropped[45], dropped[55]), (0, 1));
        let (one, two) = (dropped[499], dropped[999]);
        assert!((25..=40).contains(&one) && (95..=135).contains(&two), "{one} {two}");
        // What two seconds have taught takes two seconds to forget.
        cake.queue = Mix::default();
        let mut forgotten = None;
        for step in 0..1500 {
            cake.serve(Mix::default(), RATE, 1);
            if cake.cobalt.count == 0 {
                forgotten.get_or_insert(step);
            }
        }
        assert!((800..1200).contains(&forgotten.unwrap()), "{forgotten:?}");
    }

    #[test]
    fn what_ingress_drops_is_charged_to_the_shaper() {
        let delivered = |is_ingress| {
            let mut cake = Cake::new(is_ingress);
            cake.serve(bulk(RATE * 5_000), RATE, 4);
            for _ in 0..1000 {
                cake.serve(Mix::default(), RATE, 4);
            }
            (cake.delivered(), cake.dropped())
        };
        let ((plain, _), (ingress, dropped)) = (delivered(false), delivered(true));
        assert_eq!(plain, RATE * 1001);
        assert!(dropped > 300, "{dropped}");
        assert!((plain - ingress).abs_diff(dropped * PACKET_BITS) < 20 * RATE);
    }

    #[test]
    fn four_packet_times_are_never_dropped_of() {
        // 1 Mbit/s: a packet takes 12 ms, 40 ms wait.
        let mut cake = Cake::new(false);
        cake.serve(bulk(40_000), 2_000, 2);
        for _ in 0..500 {
            let shaped = cake.serve(Mix::default(), 2_000, 2);
            cake.queue.bulk += shaped.leaving.bulk;
        }
        assert_eq!(cake.dropped(), 0);
    }
}
