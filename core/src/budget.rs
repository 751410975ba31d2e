//! A hard limit on router writes, cuts included, and what a write is worth under it.
//!
//! Two token buckets, one per minute and one per second. A bucket that holds `room` tokens and gains
//! `limit - room` of them per period never lets more than `limit` through in any period. The
//! fewer tokens are left, the larger a change has to be; a cut may be smaller than a raise, and the
//! last tokens are for cuts alone.

use embassy_time::Instant;
use serde::{Deserialize, Serialize};

use crate::config::WriteBudgetConfig;
use crate::divide::quotient;

/// Tokens are counted in millionths.
const TOKEN: u64 = 1_000_000;
/// The least change worth a write, in parts per million, with full buckets.
const PRICE_LEAST_PPM: u64 = 30_000;
/// A change by one part in so many is worth a write with full buckets.
pub(crate) const WORTH_PART: u64 = 32;
const _: () = assert!(TOKEN / WORTH_PART >= PRICE_LEAST_PPM, "not worth it");
/// The least change worth a write with nearly empty buckets.
const PRICE_MOST_PPM: u64 = 300_000;

/// The least change worth a write for a cut, whatever the buckets: a rate a little above the capacity lets
/// a queue grow all the while (`docs/control-law.md` has the scores of 6 and 10 %).
const CUT_PRICE_MOST_PPM: u64 = 100_000;

/// A token bucket.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Bucket {
    room: u64,
    level: u64,
    gain_per_us_e6: u64,
}

impl Bucket {
    fn new(limit: u64, room: u64, period_us: u64) -> Self {
        let gained = limit.saturating_sub(room).saturating_mul(TOKEN);
        let gain_per_us_e6 = quotient(gained.saturating_mul(1_000_000), period_us);
        let room = room.saturating_mul(TOKEN);
        Self { room, level: room, gain_per_us_e6 }
    }

    fn refill(&mut self, passed_us: u64) {
        let gained = self.gain_per_us_e6.saturating_mul(passed_us.min(60_000_000));
        let gained = quotient(gained, 1_000_000);
        self.level = self.level.saturating_add(gained).min(self.room);
    }

    const fn take(&mut self) {
        self.level = self.level.saturating_sub(TOKEN);
    }
}

/// The write budget of one WAN.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct HardBudget {
    minute: Bucket,
    second: Bucket,
    /// Up to here the buckets have been refilled.
    #[serde(with = "crate::micros")]
    refilled: Option<Instant>,
}

impl HardBudget {
    pub(crate) fn new(config: WriteBudgetConfig) -> Self {
        // Little room leaves more of the limit to steady gain: a twelfth of a minute's and half of a
        // second's writes at once are enough for a drop in both directions.
        let (minute, second) = (u64::from(config.per_minute), u64::from(config.per_second));
        Self {
            minute: Bucket::new(minute, (minute / 12).max(2), 60_000_000),
            second: Bucket::new(second, (second / 2).max(1), 1_000_000),
            refilled: None,
        }
    }

    fn refill(&mut self, now: Instant) {
        let last = self.refilled.unwrap_or(now);
        let passed = now.checked_duration_since(last).map_or(0, |passed| passed.as_micros());
        self.minute.refill(passed);
        self.second.refill(passed);
        self.refilled = Some(last.max(now));
    }

    /// Returns the least change worth a write, in parts per million; `None` when there is no token.
    pub(crate) fn price_ppm(&mut self, now: Instant, is_cut: bool) -> Option<u64> {
        self.refill(now);
        let kept = if is_cut { TOKEN } else { quotient(self.minute.room, 6) };
        let kept_second = if is_cut { TOKEN } else { TOKEN.saturating_mul(2) };
        if self.minute.level < kept.max(TOKEN) || self.second.level < kept_second {
            return None;
        }
        let missing = self.minute.room.saturating_sub(self.minute.level);
        let span = PRICE_MOST_PPM.saturating_sub(PRICE_LEAST_PPM);
        let dearer = quotient(span.saturating_mul(missing), self.minute.room);
        let price = PRICE_LEAST_PPM.saturating_add(dearer);
        Some(if is_cut { (price / 2).min(CUT_PRICE_MOST_PPM) } else { price })
    }

    pub(crate) fn record(&mut self, now: Instant) {
        self.refill(now);
        self.minute.take();
        self.second.take();
    }
}
