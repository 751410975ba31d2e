//! What the tick thread leaves for everybody who watches: copies, never references.

use std::cell::Cell;
use std::sync::OnceLock;

use critical_section::Mutex;
use embassy_time::{Duration, Instant};
use wanctl_core::snapshot::{SharedSnapshot, Snapshot};
use wanctl_core::tick::MAX_WANS;

use crate::pacer::Pacing;
use crate::probe::ProbeCounters;
use crate::shaping::BackendView;

/// What does not change while a daemon runs.
#[derive(Debug, Clone)]
pub struct About {
    /// The names of the WANs, in the order of the snapshot.
    pub names: Vec<String>,
    /// The time between two ticks.
    pub interval: Duration,
    /// When the daemon began.
    pub started: Instant,
    /// The router.
    pub router: BackendView,
}

/// The latest state of a running daemon.
#[derive(Debug)]
pub struct Published {
    about: OnceLock<About>,
    snapshot: SharedSnapshot,
    pacing: Mutex<Cell<Pacing>>,
    probes: Mutex<Cell<[ProbeCounters; MAX_WANS]>>,
}

impl Published {
    /// Makes a place that holds nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        let pacing = Pacing { ticks: 0, late: 0, missed: 0, worst_us: 0 };
        let probes = [ProbeCounters { late: 0, duplicates: 0, errors: 0 }; MAX_WANS];
        Self {
            about: OnceLock::new(),
            snapshot: SharedSnapshot::new(),
            pacing: Mutex::new(Cell::new(pacing)),
            probes: Mutex::new(Cell::new(probes)),
        }
    }

    /// Says what stays as it is; only the first call counts.
    pub(crate) fn begin(&self, about: About) {
        let _already_told = self.about.set(about);
    }

    /// Replaces everything that changes; called once per tick.
    pub(crate) fn publish(
        &self,
        snapshot: Snapshot,
        pacing: Pacing,
        probes: [ProbeCounters; MAX_WANS],
    ) {
        self.snapshot.publish(snapshot);
        critical_section::with(|section| {
            self.pacing.borrow(section).set(pacing);
            self.probes.borrow(section).set(probes);
        });
    }

    /// Returns what does not change, once the daemon has begun.
    #[must_use]
    pub fn about(&self) -> Option<&About> {
        self.about.get()
    }

    /// Returns the controller's latest snapshot, if there was a tick.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.snapshot.latest()
    }

    /// Returns how well tick deadlines were met so far.
    #[must_use]
    pub fn pacing(&self) -> Pacing {
        critical_section::with(|section| self.pacing.borrow(section).get())
    }

    /// Returns what probing has seen besides answers in time, by WAN.
    #[must_use]
    pub fn probes(&self) -> [ProbeCounters; MAX_WANS] {
        critical_section::with(|section| self.probes.borrow(section).get())
    }
}

impl Default for Published {
    fn default() -> Self {
        Self::new()
    }
}
