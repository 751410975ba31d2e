//! Long TCP flows of one direction as one fluid with one window.
//!
//! The flows send what their window allows and no more: what is delivered is acknowledged a round
//! trip later, and only that lets them send again (ack clocking). The window grows while nothing is
//! lost or marked, and every flow that is hit takes 30 % off its share, once per round trip (CUBIC,
//! RFC 9438). Slow start doubles the window per round trip and ends at the first hit, or when the
//! delay has grown (HyStart++, RFC 9406).

use super::STEP_US;

/// Size of a full packet, in bits.
pub const PACKET_BITS: u64 = 1500 * 8;
/// A hit of all flows; hits are parts of this.
pub const ALL_HIT: u32 = 1 << 16;
/// Initial window in packets per flow (RFC 6928).
const INITIAL_PACKETS: u64 = 10;
/// Reno-friendly growth in per mille of a packet per flow and round trip: 3 (1 - 0.7) / (1 + 0.7).
const FRIENDLY_PERMILLE: u64 = 529;
/// What a hit flow takes off, in per cent (CUBIC's beta is 0.7).
const HIT_PER_CENT: u64 = 30;
/// Without any acknowledgement for this long, the flows start over (RFC 6298, the lower bound).
const TIMEOUT_US: u64 = 1_000_000;
/// The largest window, in bits: 64 MiB over all flows.
const WINDOW_MAX: u64 = 8 * 64 * 1024 * 1024;

/// The flows of one direction.
#[derive(Debug, Clone)]
pub struct Flows {
    count: u64,
    window: u64,
    slow_start_end: u64,
    in_flight: u64,
    silent_us: u64,
    /// Part of the flows that may still be hit in this round trip.
    hittable: u64,
    /// Fractions of bits of growth that were not added yet.
    growth_rest: u64,
    /// Time since the last hit, in µs.
    epoch_us: u64,
    /// Where CUBIC's plateau is, in µs after a hit (its K).
    plateau_us: u64,
}

impl Flows {
    /// Makes `count` flows that have not sent anything.
    #[must_use]
    pub fn new(count: u32) -> Self {
        let mut flows = Self {
            count: u64::from(count),
            window: 0,
            slow_start_end: 0,
            in_flight: 0,
            silent_us: 0,
            hittable: u64::from(ALL_HIT),
            growth_rest: 0,
            epoch_us: 0,
            plateau_us: 0,
        };
        flows.begin();
        flows
    }

    /// Begins new connections.
    pub fn begin(&mut self) {
        self.window = self.count * INITIAL_PACKETS * PACKET_BITS;
        self.slow_start_end = u64::MAX;
        self.silent_us = 0;
    }

    /// Returns how many there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the bits sent and neither acknowledged nor known to be lost.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Takes what one step brings back; `round_trip_us` is the round trip without the queue of
    /// this direction and `queue_us` that queue.
    pub fn take(&mut self, back: Back, base_us: u64, queue_us: u64) {
        let round_trip_us = base_us + queue_us;
        self.hittable += u64::from(ALL_HIT) * STEP_US / round_trip_us.max(STEP_US);
        self.hittable = self.hittable.min(u64::from(ALL_HIT));
        self.in_flight -= (u64::from(back.acked) + u64::from(back.lost)).min(self.in_flight);
        if back.hit > 0 {
            let hit = u64::from(back.hit).min(self.hittable);
            self.hittable -= hit;
            self.shrink(hit);
        }
        if back.acked > 0 {
            self.silent_us = 0;
            self.grow(u64::from(back.acked), base_us, queue_us);
        } else if self.in_flight > 0 {
            self.silent_us += STEP_US;
            if self.silent_us >= TIMEOUT_US {
                self.slow_start_end = self.window / 2;
                self.window = self.count * PACKET_BITS;
                self.silent_us = 0;
            }
        }
    }

    fn shrink(&mut self, hit: u64) {
        let all = u64::from(ALL_HIT);
        let plateau_us = plateau_us(self.window / (self.count * PACKET_BITS).max(1));
        let blend = |old: u64, new: u64| (old * (all - hit) + new * hit) / all;
        self.plateau_us = blend(self.plateau_us, plateau_us);
        self.epoch_us = blend(self.epoch_us, 0);
        let off = (self.window * HIT_PER_CENT / 100).saturating_mul(hit) / all;
        self.window = (self.window - off).max(self.count * PACKET_BITS);
        self.slow_start_end = self.window;
    }

    fn grow(&mut self, acked: u64, base_us: u64, queue_us: u64) {
        if self.window < self.slow_start_end && queue_us > (base_us / 8).max(4_000) {
            self.slow_start_end = self.window;
            self.epoch_us = 0;
            self.plateau_us = 0;
        }
        if self.window < self.slow_start_end {
            self.window += acked;
        } else {
            self.epoch_us += STEP_US;
            let packets = self.count * PACKET_BITS;
            let friendly = acked * (packets * FRIENDLY_PERMILLE / 1000) / self.window.max(1);
            let growth = friendly.max(self.cubic()).min(acked / 2);
            self.window += growth;
        }
        self.window = self.window.min(WINDOW_MAX);
    }

    /// CUBIC's growth in a step: the derivative of 0.4 (t - K)^3 packets per flow.
    fn cubic(&mut self) -> u64 {
        let from_plateau_ms = (self.epoch_us.abs_diff(self.plateau_us) / 1000).min(30_000);
        // 1.2 (t - K)^2 packets per second, in bits per step times 10^9
        let rate = self.count * PACKET_BITS * from_plateau_ms.pow(2) * 12 / 10;
        let growth = rate * STEP_US / 1_000 + self.growth_rest;
        self.growth_rest = growth % 1_000_000_000;
        growth / 1_000_000_000
    }

    /// Sends what the window allows; returns the bits.
    pub fn send(&mut self) -> u64 {
        let room = self.window.saturating_sub(self.in_flight);
        self.in_flight += room;
        room
    }
}

/// CUBIC's K for a window of so many packets per flow: the cube root of 0.3 W / 0.4 seconds.
fn plateau_us(packets: u64) -> u64 {
    let cube = packets * 3 / 4 * 1_000_000_000; // ms^3
    let mut root = 0_u64;
    for bit in (0..17).rev() {
        let higher = root | 1 << bit;
        if higher.pow(3) <= cube {
            root = higher;
        }
    }
    root * 1000
}

/// What comes back to the senders in one step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Back {
    /// Bits acknowledged.
    pub acked: u32,
    /// Bits found to be lost.
    pub lost: u32,
    /// Which part of the flows has lost or been marked, of [`ALL_HIT`].
    pub hit: u32,
}

/// Steps the way back may take at most; a power of two.
const SLOTS: usize = 2048;

/// What is on its way back, by the step of its arrival. Nothing overtakes.
#[derive(Debug, Clone)]
pub struct WayBack {
    slots: Box<[Back; SLOTS]>,
    last: u64,
}

impl WayBack {
    /// Makes an empty one.
    #[must_use]
    pub fn new() -> Self {
        Self { slots: Box::new([Back::default(); SLOTS]), last: 0 }
    }

    /// Sends something back in step `step`, to arrive `delay_us` later.
    pub fn put(&mut self, step: u64, delay_us: u64, back: Back) {
        let steps = (delay_us / STEP_US).clamp(1, SLOTS as u64 - 1);
        // Nothing is put twice the ring ahead, as `last` is at most one ring ahead of `step`.
        self.last = self.last.max(step + steps);
        let slot = &mut self.slots[self.last as usize % SLOTS];
        slot.acked = slot.acked.saturating_add(back.acked);
        slot.lost = slot.lost.saturating_add(back.lost);
        slot.hit = slot.hit.saturating_add(back.hit).min(ALL_HIT);
    }

    /// Takes what arrives in step `step`.
    pub fn take(&mut self, step: u64) -> Back {
        std::mem::take(&mut self.slots[step as usize % SLOTS])
    }
}

impl Default for WayBack {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_start_doubles_per_round_trip_and_avoidance_adds_a_packet_per_flow() {
        let mut flows = Flows::new(4);
        let first = flows.send();
        assert_eq!(first, 40 * PACKET_BITS);
        let all = Back { acked: first as u32, ..Back::default() };
        flows.take(all, 20_000, 0);
        assert_eq!(flows.send(), 80 * PACKET_BITS);
        // A hit of every flow: 30 % less, once per round trip.
        flows.take(Back { hit: ALL_HIT, ..Back::default() }, 20_000, 0);
        flows.take(Back { hit: ALL_HIT, ..Back::default() }, 20_000, 0);
        let window = flows.window;
        assert!((50 * PACKET_BITS..=56 * PACKET_BITS).contains(&window), "{window}");
        let lot = window.min(flows.in_flight) as u32;
        flows.take(Back { acked: lot, ..Back::default() }, 20_000, 0);
        // At least 0.53 packets per flow; right after a hit CUBIC is faster.
        let grown = flows.window - window;
        assert!((2 * PACKET_BITS..4 * PACKET_BITS).contains(&grown), "{grown}");
    }

    #[test]
    fn cubic_is_back_at_its_old_window_after_k_seconds() {
        assert_eq!(plateau_us(0), 0);
        // W = 90: K = (0.3 * 90 / 0.4)^(1/3) = 4.07 s
        assert!((4_050_000..4_080_000).contains(&plateau_us(90)), "{}", plateau_us(90));
        let mut flows = Flows::new(1);
        (flows.window, flows.slow_start_end) = (90 * PACKET_BITS, 0);
        flows.shrink(u64::from(ALL_HIT));
        assert_eq!(flows.window, 63 * PACKET_BITS);
        for _ in 0..plateau_us(90) / STEP_US {
            // Acknowledged slowly, so that Reno's growth is the smaller one.
            flows.take(Back { acked: 2_000, ..Back::default() }, 1_000_000, 0);
        }
        let packets = flows.window / PACKET_BITS;
        assert!((87..=92).contains(&packets), "{packets}");
    }

    #[test]
    fn nothing_overtakes_on_the_way_back() {
        let mut back = WayBack::new();
        back.put(10, 40_000, Back { acked: 1, ..Back::default() });
        back.put(11, 2_000, Back { acked: 2, ..Back::default() });
        assert_eq!(back.take(12).acked, 0);
        assert_eq!(back.take(30).acked, 3);
    }
}
