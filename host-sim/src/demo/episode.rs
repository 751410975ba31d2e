//! The congestion episode that the demo plays: a busy line loses most of its capacity and gets it
//! back.

use std::time::Duration;

use wanctl::routeros::TransportKind;
use wanctl_core::units::{Direction, PerDirection};

use crate::link::CapacitySchedule;

/// What a line can carry, in bit/s, and how its shapers are bounded.
#[derive(Debug, Clone, Copy)]
pub struct LineProfile {
    /// Capacity on a good day.
    pub full_bps: PerDirection<u64>,
    /// Capacity while the provider is congested.
    pub congested_bps: PerDirection<u64>,
    /// The highest shaper rate, a little below [`Self::full_bps`].
    pub ceiling_bps: PerDirection<u64>,
    /// The lowest shaper rate.
    pub floor_bps: PerDirection<u64>,
    /// The provider's buffer in each direction.
    pub fifo_bytes: u64,
    /// Round-trip time of the idle line.
    pub base_rtt: Duration,
}

impl LineProfile {
    /// A cable line, for the line emulated inside the process.
    pub const CABLE: Self = Self {
        full_bps: PerDirection { download: 100_000_000, upload: 20_000_000 },
        congested_bps: PerDirection { download: 35_000_000, upload: 8_000_000 },
        ceiling_bps: PerDirection { download: 95_000_000, upload: 19_000_000 },
        floor_bps: PerDirection { download: 25_000_000, upload: 5_000_000 },
        fifo_bytes: 500_000,
        base_rtt: Duration::from_millis(20),
    };

    /// A slower line that real TCP flows fill without needing much of the machine.
    pub const SLOW: Self = Self {
        full_bps: PerDirection { download: 40_000_000, upload: 10_000_000 },
        congested_bps: PerDirection { download: 12_000_000, upload: 4_000_000 },
        ceiling_bps: PerDirection { download: 38_000_000, upload: 9_500_000 },
        floor_bps: PerDirection { download: 8_000_000, upload: 2_500_000 },
        fifo_bytes: 400_000,
        base_rtt: Duration::from_millis(20),
    };
}

/// One part of the episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nobody uses the line.
    Idle,
    /// The line is full and carries what it is paid for.
    Busy,
    /// The line is full and the provider carries only a part.
    Congested,
    /// The capacity is back.
    Recovered,
}

impl Phase {
    /// Returns the name shown to the user.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Congested => "congested",
            Self::Recovered => "recovered",
        }
    }
}

/// The whole episode.
#[derive(Debug, Clone, Copy)]
pub struct Episode {
    /// How long it takes.
    pub length: Duration,
    /// The line it happens on.
    pub line: LineProfile,
    /// How the daemon talks to the router.
    pub transport: TransportKind,
}

impl Episode {
    /// Makes an episode over REST.
    #[must_use]
    pub const fn new(length: Duration, line: LineProfile) -> Self {
        Self { length, line, transport: TransportKind::Rest }
    }

    /// When load begins, capacity drops and capacity returns, in percent of the length.
    const BUSY: u32 = 10;
    const CONGESTED: u32 = 30;
    const RECOVERED: u32 = 65;

    fn percent(&self, percent: u32) -> Duration {
        self.length * percent / 100
    }

    /// Returns the phase at a time since the start.
    #[must_use]
    pub fn phase(&self, at: Duration) -> Phase {
        if at < self.percent(Self::BUSY) {
            Phase::Idle
        } else if at < self.percent(Self::CONGESTED) {
            Phase::Busy
        } else if at < self.percent(Self::RECOVERED) {
            Phase::Congested
        } else {
            Phase::Recovered
        }
    }

    /// Returns whether the line is in use at a time since the start.
    #[must_use]
    pub fn is_loaded(&self, at: Duration) -> bool {
        self.phase(at) != Phase::Idle
    }

    /// Returns when load begins.
    #[must_use]
    pub fn load_begins(&self) -> Duration {
        self.percent(Self::BUSY)
    }

    /// Returns the capacity of a direction over time.
    #[must_use]
    pub fn capacity(&self, direction: Direction) -> CapacitySchedule {
        let full = *self.line.full_bps.get(direction);
        let congested = *self.line.congested_bps.get(direction);
        CapacitySchedule::steps(&[
            (Duration::ZERO, full),
            (self.percent(Self::CONGESTED), congested),
            (self.percent(Self::RECOVERED), full),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_follows_the_phases() {
        let episode = Episode::new(Duration::from_secs(20), LineProfile::CABLE);
        let capacity = episode.capacity(Direction::Upload);
        for (seconds, phase, bps) in [
            (1, Phase::Idle, 20_000_000),
            (2, Phase::Busy, 20_000_000),
            (6, Phase::Congested, 8_000_000),
            (13, Phase::Recovered, 20_000_000),
        ] {
            let at = Duration::from_secs(seconds);
            assert_eq!(episode.phase(at), phase);
            assert_eq!(capacity.rate_at(seconds * crate::link::NANOS_PER_SECOND), bps);
        }
    }
}
