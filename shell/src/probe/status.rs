//! What operators may know about the probes of a WAN.

use std::net::IpAddr;

use wanctl_core::tick::MAX_REFLECTORS;

use super::pool::Health;

/// A reflector that is pinged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReflectorStatus {
    /// Its address.
    pub address: IpAddr,
    /// Whether it tells one-way delays.
    pub has_timestamps: bool,
    pub(crate) health: Option<Health>,
}

impl ReflectorStatus {
    /// Makes one with a loss in permille, a least round-trip time and a jitter, both in ns.
    #[cfg(test)]
    pub(crate) const fn new(
        address: IpAddr,
        has_timestamps: bool,
        (loss_permille, least_ns, jitter_ns): (u32, u64, u64),
    ) -> Self {
        let health = Some(Health { loss_permille, least_ns, jitter_ns });
        Self { address, has_timestamps, health }
    }

    /// Returns the share of missing answers in the last ten seconds that are over, in permille.
    #[must_use]
    pub fn loss_permille(&self) -> Option<u32> {
        self.health.map(|health| health.loss_permille)
    }

    /// Returns the least round-trip time of these ten seconds, in µs.
    #[must_use]
    pub fn least_rtt_us(&self) -> Option<u64> {
        self.health.map(|health| health.least_ns / 1000)
    }

    /// Returns the mean difference of successive round-trip times, in µs.
    #[must_use]
    pub fn jitter_us(&self) -> Option<u64> {
        self.health.map(|health| health.jitter_ns / 1000)
    }
}

/// What was seen besides answers in time, since the start, and who is pinged now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProbeCounters {
    /// Answers to probes that had been given up.
    pub late: u64,
    /// Further answers to probes that were answered.
    pub duplicates: u64,
    /// Probes that ended because an ICMP error said so.
    pub errors: u64,
    /// Reflectors that were replaced by others.
    pub replaced: u64,
    /// Who is pinged, by the number of the reflector.
    pub reflectors: [Option<ReflectorStatus>; MAX_REFLECTORS],
}

impl ProbeCounters {
    /// Nothing was seen.
    pub const NONE: Self =
        Self { late: 0, duplicates: 0, errors: 0, replaced: 0, reflectors: [None; MAX_REFLECTORS] };
}
