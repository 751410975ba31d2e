//! The idle round-trip time of one reflector: the lowest of the last minute.
//!
//! The law empties the queue again and again, so within a minute there is always a probe that met
//! none. The minimum is kept per ten seconds; the oldest of these drops out, which lets the baseline
//! rise slowly when the path has become longer. A path that changes at once is re-anchored.

use crate::places::Empty;
use serde::{Deserialize, Serialize};

/// Number of parts of the window.
const PARTS: usize = 6;
/// Length of one part.
const PART_US: i64 = 10_000_000;

/// The windowed minimum.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Baseline {
    parts: [u32; PARTS],
    newest: usize,
    since_us: i64,
    lowest: u32,
}

impl Empty for Baseline {
    const EMPTY: Self = Self { parts: [0; PARTS], newest: 0, since_us: 0, lowest: 0 };
}

impl Baseline {
    pub(super) const fn new() -> Self {
        Self { parts: [u32::MAX; PARTS], newest: 0, since_us: 0, lowest: u32::MAX }
    }

    /// Returns the baseline in µs, if there was any sample.
    pub(super) fn get(&self) -> Option<i64> {
        (self.lowest < u32::MAX).then_some(i64::from(self.lowest))
    }

    /// Takes a round-trip time; returns by how much the baseline has fallen, if there was one.
    pub(super) fn take(&mut self, rtt_us: i64, now_us: i64) -> i64 {
        let before = self.get();
        let rtt = u32::try_from(rtt_us).unwrap_or(u32::MAX);
        if self.lowest == u32::MAX {
            self.since_us = now_us;
        }
        if now_us.saturating_sub(self.since_us) >= PART_US {
            self.since_us = now_us;
            self.newest = self.newest.saturating_add(1).checked_rem(PARTS).unwrap_or(0);
            if let Some(part) = self.parts.get_mut(self.newest) {
                *part = rtt;
            }
        }
        if let Some(part) = self.parts.get_mut(self.newest) {
            *part = rtt.min(*part);
        }
        self.lowest = self.parts.iter().copied().min().unwrap_or(u32::MAX);
        before.map_or(0, |before| before.saturating_sub(i64::from(self.lowest)))
    }

    /// Adds to the baseline: the path has become longer by that much.
    pub(super) fn lengthen(&mut self, by_us: i64) {
        let lowest = i64::from(self.lowest).saturating_add(by_us.max(0));
        let anchor = u32::try_from(lowest).unwrap_or(u32::MAX);
        self.parts = [u32::MAX; PARTS];
        if let Some(part) = self.parts.get_mut(self.newest) {
            *part = anchor;
        }
        self.lowest = anchor;
    }
}
