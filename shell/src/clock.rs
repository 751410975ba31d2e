//! The one clock of the daemon: monotonic, shared by all threads.

use embassy_time::Instant;
use rustix::time::{ClockId, clock_gettime};

/// Returns the time since an arbitrary origin in nanoseconds; it never goes back.
#[must_use]
pub fn now_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Returns the same time as the core counts it, in whole µs.
#[must_use]
pub fn now() -> Instant {
    Instant::from_micros(now_nanos() / 1000)
}
