//! The read-only mirror of the controller, for everybody who watches.
//!
//! It is separate from the controller's own state and `Copy`, so that a reader never holds the
//! controller up. Four values of a shaper rate are kept apart: what is *measured* (the line's
//! delay), *wanted* (by the law), *commanded* (on its way to the router) and *confirmed* (read
//! back from the router).

use core::cell::RefCell;

use critical_section::Mutex;
use embassy_time::Instant;
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::fixed::MicrosQ32;
use crate::law::classic::Streaks;
use crate::link::LinkState;
use crate::quality::LinkQuality;
use crate::recent::RecentFigures;
use crate::steering::SteeringSnapshot;
use crate::tick::MAX_WANS;
use crate::units::{BitsPerSecond, PerDirection};
use crate::zone::Zone;

/// What a WAN did in its last tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TickResult {
    /// Nothing came in; probes are on their way.
    #[default]
    Waiting,
    /// A sample was used and rates were decided.
    Controlled,
    /// Blind but connected: everything stays as it is.
    Frozen,
    /// Blind for too long, or not connected.
    Failed,
}

/// One direction of one WAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DirectionSnapshot {
    /// The zone of the last decision.
    pub zone: Zone,
    /// How long it has been in its zone.
    pub streaks: Streaks,
    /// What the law wants.
    pub wanted: BitsPerSecond,
    /// What was last sent to the router; `None` before the first and after a failed write.
    pub commanded: Option<BitsPerSecond>,
    /// What the router last said it holds.
    pub confirmed: Option<BitsPerSecond>,
    /// What it delivers, between the last two readings of its counters.
    pub delivered: Option<BitsPerSecond>,
}

/// Totals since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WanCounters {
    /// Samples accepted.
    pub samples: u64,
    /// Probes lost.
    pub losses: u64,
    /// Rates sent that lowered the shaper.
    pub cuts: u64,
    /// Rates sent that raised the shaper.
    pub raises: u64,
    /// Rates sent, including first writes and repetitions.
    pub writes: u64,
    /// Writes that failed or were not answered in time.
    pub writes_failed: u64,
    /// Blind ticks.
    pub blind_raw: u64,
    /// Blind ticks but those that only reused a cached value.
    pub blind_effective: u64,
}

impl WanCounters {
    /// Nothing has happened yet.
    pub(crate) const ZERO: Self = Self {
        samples: 0,
        losses: 0,
        cuts: 0,
        raises: 0,
        writes: 0,
        writes_failed: 0,
        blind_raw: 0,
        blind_effective: 0,
    };
}

impl WanCounters {
    pub(crate) fn count_write(&mut self, from: Option<BitsPerSecond>, to: BitsPerSecond) {
        self.writes = self.writes.saturating_add(1);
        match from {
            Some(from) if to < from => self.cuts = self.cuts.saturating_add(1),
            Some(_) => self.raises = self.raises.saturating_add(1),
            None => {}
        }
    }
}

/// One WAN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WanSnapshot {
    /// What the last tick did.
    pub result: TickResult,
    /// Where the link is in its life.
    pub link: LinkState,
    /// How good the line is.
    pub quality: LinkQuality,
    /// The last sample used (a median over reflectors), in µs.
    pub latest_rtt_us: Option<u32>,
    /// The load filter.
    pub load: MicrosQ32,
    /// The baseline.
    pub baseline: MicrosQ32,
    /// Load minus baseline: what zones are made of.
    pub delay: MicrosQ32,
    /// Ticks without an answer although the line was connected, since the last answer.
    pub blind_ticks: u32,
    /// Both directions.
    pub directions: PerDirection<DirectionSnapshot>,
    /// Totals since start.
    pub counters: WanCounters,
    /// The latest past, as far as [`Snapshot::set_recent`] was told.
    pub recent: Option<RecentFigures>,
}

/// The whole controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Snapshot {
    /// Time of the last tick.
    pub now: Option<Instant>,
    /// Number of ticks so far.
    pub ticks: u64,
    /// Actions and events that did not fit into their lists so far.
    pub outputs_dropped: u64,
    /// Steering, if it is configured.
    pub steering: Option<SteeringSnapshot>,
    wans: [WanSnapshot; MAX_WANS],
    wan_count: usize,
}

impl Snapshot {
    pub(crate) fn new(now: Option<Instant>, ticks: u64, outputs_dropped: u64) -> Self {
        Self { now, ticks, outputs_dropped, ..Self::default() }
    }

    pub(crate) fn push(&mut self, wan: WanSnapshot) {
        if let Some(slot) = self.wans.get_mut(self.wan_count) {
            *slot = wan;
            self.wan_count = self.wan_count.saturating_add(1);
        }
    }

    /// Adds what the latest past looked like ([`crate::controller::Controller::figures`]).
    pub fn set_recent(&mut self, figures: &[RecentFigures]) {
        for (wan, figures) in self.wans.iter_mut().take(self.wan_count).zip(figures) {
            wan.recent = Some(*figures);
        }
    }

    /// Returns the WANs in configuration order.
    #[must_use]
    pub fn wans(&self) -> &[WanSnapshot] {
        self.wans.get(..self.wan_count).unwrap_or_default()
    }
}

/// Where the tick leaves its snapshot and readers fetch it.
///
/// It is a list of none or one, because an `Option` of a snapshot is not all zeros when it is empty: a
/// static one takes no room in a board's flash.
#[derive(Debug)]
pub struct SharedSnapshot(Mutex<RefCell<Vec<Snapshot, 1>>>);

impl SharedSnapshot {
    /// Makes a place that holds nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(RefCell::new(Vec::new())))
    }

    /// Replaces the snapshot.
    pub fn publish(&self, snapshot: Snapshot) {
        critical_section::with(|section| {
            // Borrowed only inside critical sections, so it is free.
            let Ok(mut place) = self.0.borrow(section).try_borrow_mut() else { return };
            place.clear();
            let _full = place.push(snapshot);
        });
    }

    /// Looks at the latest snapshot where it is, if there was any. Nothing interrupts `look`, so it has
    /// to be short.
    pub fn read<R>(&self, look: impl FnOnce(&Snapshot) -> R) -> Option<R> {
        critical_section::with(|section| {
            let place = self.0.borrow(section).try_borrow().ok()?;
            place.first().map(look)
        })
    }

    /// Returns a copy of the latest snapshot, if there was any.
    #[must_use]
    pub fn latest(&self) -> Option<Snapshot> {
        self.read(|snapshot| *snapshot)
    }
}

impl Default for SharedSnapshot {
    fn default() -> Self {
        Self::new()
    }
}
