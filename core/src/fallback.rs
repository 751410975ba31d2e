//! What happens while no reflector answers.
//!
//! A loss is a loss, never a delay of zero.

use embassy_time::Duration;
use serde::{Deserialize, Serialize};

use crate::config::{BlindConfig, BlindMode};
use crate::fixed::ticks_covering;

/// What a blind tick does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlindVerdict {
    /// Go on with the load filter's value as the sample.
    ReuseLoad,
    /// Keep everything as it is.
    Freeze,
    /// Keep everything as it is, and the tick counts as failed.
    Fail,
}

/// Counts blind ticks and decides on each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fallback {
    mode: BlindMode,
    limit_ticks: u32,
    ticks: u32,
}

impl Fallback {
    pub(crate) const fn new(config: &BlindConfig, tick: Duration) -> Self {
        let limit_ticks = ticks_covering(config.limit, tick);
        Self { mode: config.mode, limit_ticks, ticks: 0 }
    }

    /// Returns for how many ticks in a row the line has been blind but connected.
    pub(crate) const fn ticks(&self) -> u32 {
        self.ticks
    }

    /// Decides on a tick in which every probe that ended was lost. Ticks without connectivity
    /// fail and are not counted: they are an outage, not blindness.
    pub(crate) const fn judge(&mut self, connected: bool) -> BlindVerdict {
        if !connected {
            return BlindVerdict::Fail;
        }
        self.ticks = self.ticks.saturating_add(1);
        match self.mode {
            BlindMode::Freeze => BlindVerdict::Freeze,
            BlindMode::UseLastRtt => BlindVerdict::ReuseLoad,
            BlindMode::Graceful if self.ticks == 1 => BlindVerdict::ReuseLoad,
            BlindMode::Graceful if self.ticks <= self.limit_ticks => BlindVerdict::Freeze,
            BlindMode::Graceful => BlindVerdict::Fail,
        }
    }

    /// Returns whether this tick is the first beyond the limit.
    pub(crate) fn just_passed_limit(&self) -> bool {
        self.mode == BlindMode::Graceful && self.ticks == self.limit_ticks.saturating_add(1)
    }

    /// Ends blindness; returns how many ticks it lasted.
    pub(crate) const fn end(&mut self) -> u32 {
        core::mem::replace(&mut self.ticks, 0)
    }
}
