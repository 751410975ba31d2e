//! The read-only mirror of steering.

use embassy_time::Duration;
use heapless::Vec;

use crate::fixed::{MicrosQ32, PacketsQ32};
use crate::steering::decision::{SteeringDecision, SteeringRefusal};
use crate::tick::MAX_WANS;
use crate::units::WanId;
use crate::zone::Zone;

/// Steering as it was after its last tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SteeringSnapshot {
    /// Where traffic is steered to, as far as it was confirmed; `None` is the primary.
    pub steered_to: Option<WanId>,
    /// Whether the router confirmed that, and no command failed since.
    pub is_confirmed: bool,
    /// Whether a command waits for its answer.
    pub is_in_flight: bool,
    /// For how many ticks the primary has been RED while traffic was with it.
    pub red_ticks: u32,
    /// For how many ticks the primary has been GREEN while traffic was elsewhere.
    pub green_ticks: u32,
    /// What is left of the time a high score must last.
    pub steer_left: Option<Duration>,
    /// What is left of the time a low score must last.
    pub recovery_left: Option<Duration>,
    /// What is left of the hold-down.
    pub hold_down_left: Option<Duration>,
    /// What is left of the flap guard's penalty.
    pub penalty_left: Option<Duration>,
    /// How many changes the flap guard remembers.
    pub toggles: usize,
    /// What confidence scoring would have done on its own: where traffic would be. Only in its dry
    /// run.
    pub would_steer_to: Option<WanId>,
    /// What holds a change back that is wished for.
    pub refused: Option<SteeringRefusal>,
    /// Changes confirmed since start.
    pub changes: u64,
    /// Commands that failed or were not answered in time since start.
    pub failures: u64,
    /// The last decision.
    pub decision: Option<SteeringDecision>,
    pub(super) wans: [SteeringWanSnapshot; MAX_WANS],
    pub(super) wan_count: usize,
}

/// One WAN that takes part in steering.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SteeringWanSnapshot {
    /// Which WAN.
    pub wan: WanId,
    /// The zone of the last measurement.
    pub zone: Zone,
    /// The score of the last measurement.
    pub score: u8,
    /// Whether it carries nothing.
    pub outage: bool,
    /// The delay filter; zero before the first measurement.
    pub delay: MicrosQ32,
    /// The backlog filter; zero before the first reading.
    pub backlog: PacketsQ32,
    /// Readings of its queue that failed in a row.
    pub failed_readings: u32,
    /// Whether its drop counter never moves, so that zones are made without it.
    pub drops_useless: bool,
}

impl SteeringSnapshot {
    /// Returns the WANs that take part, the primary first.
    #[must_use]
    pub fn wans(&self) -> &[SteeringWanSnapshot] {
        self.wans.get(..self.wan_count).unwrap_or_default()
    }

    pub(super) fn set_wans(&mut self, wans: &Vec<SteeringWanSnapshot, MAX_WANS>) {
        self.wan_count = wans.len();
        for (slot, wan) in self.wans.iter_mut().zip(wans) {
            *slot = *wan;
        }
    }
}
