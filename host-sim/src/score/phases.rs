//! Parts of a scenario, measured as a bench of real machines measures them: the delay by the time of
//! sending, and the goodput of the flows.

use serde::{Deserialize, Serialize};
use wanctl_core::units::{Direction, PerDirection};

use super::histogram::Histogram;
use super::scenario::Phase;

/// TCP payload of a full Ethernet frame, of the bytes a queue counts for it.
const PAYLOAD_BYTES: (u64, u64) = (1448, 1514);

/// What came of one phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseScore {
    /// Its name.
    pub name: String,
    /// Median of the added delay, in µs.
    pub p50_us: u64,
    /// Its 95th percentile.
    pub p95_us: u64,
    /// Its 99th percentile.
    pub p99_us: u64,
    /// What the flows carried without headers, in bit/s.
    pub goodput_bps: PerDirection<u64>,
}

/// The phases of a run.
#[derive(Debug)]
pub(super) struct Phases(Vec<Part>);

#[derive(Debug)]
struct Part {
    phase: Phase,
    delays: Histogram,
    carried: PerDirection<u64>,
}

impl Phases {
    pub(super) fn new(phases: &[Phase]) -> Self {
        let part =
            |&phase| Part { phase, delays: Histogram::new(), carried: PerDirection::default() };
        Self(phases.iter().map(part).collect())
    }

    fn at(&mut self, now_us: u64) -> impl Iterator<Item = &mut Part> {
        let ms = now_us / 1000;
        self.0.iter_mut().filter(move |part| part.phase.from_ms <= ms && ms < part.phase.to_ms)
    }

    pub(super) fn deliver(&mut self, direction: Direction, now_us: u64, bits: u64) {
        for part in self.at(now_us) {
            *part.carried.get_mut(direction) += bits;
        }
    }

    pub(super) fn delay(&mut self, now_us: u64, queued_us: u64) {
        for part in self.at(now_us.saturating_sub(queued_us)) {
            part.delays.add(queued_us);
        }
    }

    pub(super) fn scores(&self) -> Vec<PhaseScore> {
        self.0.iter().map(Part::score).collect()
    }
}

impl Part {
    fn score(&self) -> PhaseScore {
        let millis = (self.phase.to_ms - self.phase.from_ms).max(1);
        let (payload, frame) = PAYLOAD_BYTES;
        let goodput = |bits: u64| bits * payload / frame * 1000 / millis;
        PhaseScore {
            name: self.phase.name.to_owned(),
            p50_us: self.delays.quantile_us(500),
            p95_us: self.delays.quantile_us(950),
            p99_us: self.delays.quantile_us(990),
            goodput_bps: PerDirection {
                download: goodput(self.carried.download),
                upload: goodput(self.carried.upload),
            },
        }
    }
}
