//! What a scenario is made of: a line, a path, traffic and the limits a law is given.

use std::sync::Arc;

use wanctl_core::units::PerDirection;

use super::capacity::Capacity;

/// One scenario; a seed makes a run of it.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name in the table.
    pub name: String,
    /// What it is scored for.
    pub purpose: Purpose,
    /// How long it lasts.
    pub seconds: u64,
    /// When scoring begins.
    pub warm_up_s: u64,
    /// Both directions of the line.
    pub lines: PerDirection<LineSpec>,
    /// What a probe meets besides queues.
    pub path: PathSpec,
    /// Parts that are measured by themselves as well.
    pub phases: Vec<Phase>,
}

/// A part of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// Its name in the table.
    pub name: &'static str,
    /// When it begins, in ms.
    pub from_ms: u64,
    /// When it ends, in ms.
    pub to_ms: u64,
}

/// What a scenario is scored for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Utilisation and added delay; part of the means.
    Load,
    /// The response to a capacity step at this time, in ms; part of the means as well.
    Step(StepSpec),
    /// Innocent cuts; nothing else makes sense on an idle line.
    Idle,
}

/// A capacity step whose response is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepSpec {
    /// When the capacity changes, in ms.
    pub at_ms: u64,
    /// How long the response is looked at, in ms.
    pub window_ms: u64,
    /// Whether the step goes down.
    pub down: bool,
}

/// One direction of a line.
#[derive(Debug, Clone)]
pub struct LineSpec {
    /// What it can carry.
    pub capacity: CapacitySpec,
    /// The provider's buffer in bytes.
    pub fifo_bytes: u64,
    /// What the law may do.
    pub limits: Limits,
    /// What wants to go through it.
    pub traffic: TrafficSpec,
    /// When its flows are on, one value per [`super::recording::WINDOW_MS`]; nothing if the
    /// traffic itself says that.
    pub active: Option<Arc<[bool]>>,
}

/// The limits of one shaper, in bit/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The rate is never below this.
    pub floor: u64,
    /// The rate is never above this.
    pub ceiling: u64,
    /// Where laws begin that have a base rate; nothing for the geometric mean of both.
    pub base: Option<u64>,
}

impl Limits {
    /// Makes limits without a base rate.
    #[must_use]
    pub const fn new(floor: u64, ceiling: u64) -> Self {
        Self { floor, ceiling, base: None }
    }

    /// The base rate; by default the geometric mean of floor and ceiling, which cake-autorate's
    /// defaults are, 5/20/80 Mbit/s.
    #[must_use]
    pub fn base(&self) -> u64 {
        let mean = (u128::from(self.floor) * u128::from(self.ceiling)).isqrt();
        // The root of a product of two such numbers fits into one.
        self.base.unwrap_or(mean as u64).clamp(self.floor, self.ceiling)
    }
}

/// How a capacity comes about; rates in bit/s.
#[derive(Debug, Clone)]
pub enum CapacitySpec {
    /// Always the same.
    Constant(u64),
    /// Steps `(from ms, bit/s)`, the first one at 0.
    Steps(Vec<(u64, u64)>),
    /// Straight lines between the points `(ms, bit/s)`.
    Ramps(Vec<(u64, u64)>),
    /// Ornstein-Uhlenbeck: it wanders around a mean.
    Wander(WanderSpec),
    /// Two levels, with exponential times in each.
    Markov {
        /// The level it begins at.
        high: u64,
        /// The other level.
        low: u64,
        /// Mean time at `high`, in ms.
        high_ms: u64,
        /// Mean time at `low`, in ms.
        low_ms: u64,
    },
    /// A day of the given length: a raised cosine from `night` down to `evening`.
    Diurnal {
        /// The best rate.
        night: u64,
        /// The worst rate.
        evening: u64,
        /// Length of the day, in s.
        day_s: u64,
    },
    /// Something recorded; it begins again when it ends.
    Trace(Arc<Capacity>),
}

/// A capacity that wanders.
#[derive(Debug, Clone, Copy)]
pub struct WanderSpec {
    /// The mean, in bit/s.
    pub mean: u64,
    /// Standard deviation in per mille of the mean.
    pub sigma_permille: u64,
    /// Time constant of the return to the mean, in ms.
    pub tau_ms: u64,
    /// Lower bound, in bit/s.
    pub min: u64,
    /// Upper bound, in bit/s.
    pub max: u64,
    /// The capacity is drawn anew this often (a handover), in ms; 0 never.
    pub redraw_ms: u64,
    /// Mean time between outages, in ms; 0 for none.
    pub outage_every_ms: u64,
    /// Mean length of an outage, in ms.
    pub outage_ms: u64,
    /// Standard deviation of the single bins of 10 ms around this, in per mille.
    pub flutter_permille: u64,
}

/// The traffic of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficSpec {
    /// Long TCP flows; 0 for none.
    pub flows: u32,
    /// When they begin, in ms.
    pub from_ms: u64,
    /// Mean length of an on period in ms; 0 for flows that never pause.
    pub on_ms: u64,
    /// Mean length of an off period, in ms.
    pub off_ms: u64,
    /// Traffic that does not react: calls, games, chatter; in bit/s.
    pub constant_bps: u64,
}

/// Full packets per acknowledgement, as offloads and ack filters leave them.
pub const PACKETS_PER_ACK: u8 = 4;

/// Reflectors of three that answer ICMP timestamps, if nothing else is said: many hosts do, the
/// best-known resolvers do not, and wanctl uses whoever does (`docs/probing.md`).
pub const STAMPING: u8 = 1;

/// Everything on the way that is not a queue.
#[derive(Debug, Clone)]
pub struct PathSpec {
    /// Round trip of the empty line to the nearest reflector, in µs; also of the TCP flows.
    pub base_rtt_us: u64,
    /// How much farther each reflector is, in µs.
    pub extra_us: [u64; 3],
    /// Mean of the gamma jitter of each reply, in µs.
    pub jitter_us: u64,
    /// Mean of the gamma jitter that all replies of a tick share (upload grants), in µs.
    pub common_jitter_us: u64,
    /// Chance of a spike of a single reply, in parts per million.
    pub spike_ppm: u32,
    /// Chance that all replies of a tick spike together, in parts per million.
    pub common_spike_ppm: u32,
    /// Mean height of a spike, in µs.
    pub spike_us: u64,
    /// Chance that a probe is lost, in parts per million.
    pub loss_ppm: u32,
    /// Every so often the path changes (Starlink: 15 000 ms); 0 never.
    pub hop_every_ms: u64,
    /// The largest change of the base RTT at such a time, in µs.
    pub hop_us: u64,
    /// Lasting changes of the route: from this ms on so many µs more (or less).
    pub route_changes: Vec<(u64, i64)>,
    /// Full packets of a download per acknowledgement.
    pub packets_per_ack: u64,
    /// Whether probes overtake the queues, as pings do on some cellular and satellite lines.
    pub is_blind: bool,
    /// How many of the reflectors answer ICMP timestamps, the farthest first.
    pub stamping: u8,
}

impl Default for PathSpec {
    fn default() -> Self {
        Self {
            base_rtt_us: 0,
            extra_us: [0; 3],
            jitter_us: 0,
            common_jitter_us: 0,
            spike_ppm: 0,
            common_spike_ppm: 0,
            spike_us: 0,
            loss_ppm: 0,
            hop_every_ms: 0,
            hop_us: 0,
            route_changes: Vec::new(),
            packets_per_ack: PACKETS_PER_ACK.into(),
            is_blind: false,
            stamping: STAMPING,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_rate_is_the_geometric_mean_on_fast_lines_too() {
        assert_eq!(Limits::new(5_000_000, 80_000_000).base(), 20_000_000);
        assert_eq!(Limits::new(40_000_000_000, 90_000_000_000).base(), 60_000_000_000);
    }
}
