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

/// Two readings of the monotonic clock around one of the wall clock are good when they are at most so
/// far apart: nobody interrupted them.
const CLOCKS_APART_MAX_NS: u64 = 5_000;
/// After so many tries the last readings have to do.
const CLOCKS_TRIES: usize = 4;

/// Returns the monotonic time, as [`now_nanos`], and the wall clock in ns since 1970 of one moment. The
/// kernel stamps packets with the wall clock, which may jump.
#[must_use]
pub fn both_nanos() -> (u64, i128) {
    let read = || {
        let before = now_nanos();
        let wall = clock_gettime(ClockId::Realtime);
        let apart = now_nanos().saturating_sub(before);
        let wall_ns = i128::from(wall.tv_sec) * 1_000_000_000 + i128::from(wall.tv_nsec);
        (before.saturating_add(apart / 2), wall_ns, apart)
    };
    let mut tries = std::iter::repeat_with(read).take(CLOCKS_TRIES);
    let good = tries.find(|(.., apart)| *apart <= CLOCKS_APART_MAX_NS);
    let (monotonic, wall, _) = good.unwrap_or_else(read);
    (monotonic, wall)
}

/// Returns the same time as the core counts it, in whole µs.
#[must_use]
pub fn now() -> Instant {
    Instant::from_micros(now_nanos() / 1000)
}
