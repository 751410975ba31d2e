//! Who is scored: our core with any configuration, and our own models of other laws.

pub mod autorate;
pub mod budget;
pub mod core_law;
pub mod fixed;
pub mod sqm;

use wanctl_core::tick::Tick;
use wanctl_core::units::{CommandId, PerDirection};

use super::model::Truth;

/// A rate a law asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateAsk {
    /// In bit/s.
    pub rate: u64,
    /// The name of the command; the world gives one if a law has none.
    pub id: Option<CommandId>,
}

/// Everything a law asks for in one tick.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asks {
    /// Reflectors to ping, one bit each.
    pub probes: u8,
    /// Rates to write.
    pub rates: PerDirection<Option<RateAsk>>,
    /// Whether to check the gateway, and a TCP target.
    pub checks: [bool; 2],
}

/// What a law would like to show in a dump.
#[derive(Debug, Clone, Copy, Default)]
pub struct Insight {
    /// The delay above the baseline as the law sees it, in µs.
    pub delay_us: Option<u64>,
    /// The baseline, in µs.
    pub baseline_us: Option<u64>,
    /// The rate it wants, in bit/s.
    pub wanted: PerDirection<Option<u64>>,
}

/// A law, or something like one.
pub trait Contender {
    /// Looks at a tick and asks for what it wants. `truth` is for those who may
    /// know it.
    fn step(&mut self, tick: &Tick, truth: &Truth<'_>, asks: &mut Asks);

    /// Shows what it thinks.
    fn insight(&self) -> Insight {
        Insight::default()
    }
}
