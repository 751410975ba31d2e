//! What the tick thread leaves for everybody who watches: copies, never references.

use std::cell::Cell;

use critical_section::Mutex;
use wanctl_core::snapshot::{SharedSnapshot, Snapshot};

use crate::pacer::Pacing;

/// The latest state of a running daemon.
#[derive(Debug)]
pub struct Published {
    snapshot: SharedSnapshot,
    pacing: Mutex<Cell<Pacing>>,
}

impl Published {
    /// Makes a place that holds nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        let pacing = Pacing { ticks: 0, late: 0, missed: 0, worst_us: 0 };
        Self { snapshot: SharedSnapshot::new(), pacing: Mutex::new(Cell::new(pacing)) }
    }

    /// Replaces everything; called once per tick.
    pub(crate) fn publish(&self, snapshot: Snapshot, pacing: Pacing) {
        self.snapshot.publish(snapshot);
        critical_section::with(|section| self.pacing.borrow(section).set(pacing));
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
}

impl Default for Published {
    fn default() -> Self {
        Self::new()
    }
}
