//! The record that says why.

use serde::{Deserialize, Serialize};

use crate::fixed::MicrosQ32;
use crate::units::{Packets, WanId};
use crate::zone::Zone;

/// Why traffic is steered elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SteeringReason {
    /// What the router holds is not known yet.
    Start,
    /// What the router holds is not known after a command that failed.
    Again,
    /// The primary was RED for long enough.
    Red,
    /// The primary was GREEN for long enough.
    Green,
    /// The primary's score was high for long enough.
    HighScore,
    /// The primary's score was low, and its line quiet, for long enough.
    LowScore,
    /// The primary carries nothing.
    Outage,
    /// The alternate in use carries nothing.
    AlternateOutage,
    /// The alternate in use was RED for long enough.
    AlternateRed,
}

/// Everything a steering decision was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SteeringDecision {
    /// Where traffic was steered to before; `None` is the primary.
    pub from: Option<WanId>,
    /// Where it is steered to now; `None` is the primary.
    pub to: Option<WanId>,
    /// Why.
    pub reason: SteeringReason,
    /// The primary at this moment.
    pub primary: SteeringEvidence,
    /// The alternate that is used or left, at this moment.
    pub alternate: SteeringEvidence,
}

/// What is known about one WAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SteeringEvidence {
    /// Its zone.
    pub zone: Zone,
    /// Its score: 0 is best, 100 worst.
    pub score: u8,
    /// Whether it carries nothing.
    pub outage: bool,
    /// Its filtered delay above the baseline; `None` before the first measurement.
    pub delay: Option<MicrosQ32>,
    /// Packets dropped between the last two readings; `None` when the queue is unknown.
    pub drops: Option<Packets>,
    /// Packets waiting, as the zone was made of them; `None` when the queue is unknown.
    pub backlog: Option<Packets>,
}

/// What holds a change back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SteeringRefusal {
    /// The last change is too recent.
    HoldDown,
    /// Steering went back and forth too often.
    FlapGuard,
    /// No alternate is better off.
    NoAlternate,
}
