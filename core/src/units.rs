//! Physical units and identifiers.
//!
//! Raw integers cross a function boundary only here and in [`crate::fixed`]; everywhere else a
//! value says by its type what it measures.

use core::num::NonZeroI16;

use serde::{Deserialize, Serialize};

/// Stands for zero, which an optional [`RelativeOwd`] needs for itself.
const ONE_TENTH: NonZeroI16 = match NonZeroI16::new(1) {
    Some(one) => one,
    None => NonZeroI16::MAX,
};

/// A rate in bits per second (decimal: 1 Mbit/s is 1 000 000 bit/s, as RouterOS counts).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BitsPerSecond(u64);

impl BitsPerSecond {
    /// No traffic at all. As a RouterOS `max-limit` this would mean *unlimited*, so it is never
    /// written to a router: [`crate::config::Config::check`] refuses it as a floor.
    pub const ZERO: Self = Self(0);

    /// Makes a rate from bit/s.
    #[must_use]
    pub const fn new(bits_per_second: u64) -> Self {
        Self(bits_per_second)
    }

    /// Makes a rate from Mbit/s; saturates at `u64::MAX` bit/s.
    #[must_use]
    pub const fn from_mbps(megabits_per_second: u64) -> Self {
        Self(megabits_per_second.saturating_mul(1_000_000))
    }

    /// Returns the rate in bit/s.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Multiplies a rate, stopping at `u64::MAX` bit/s.
    #[must_use]
    pub const fn saturating_mul(self, times: u32) -> Self {
        Self(self.0.saturating_mul(times as u64))
    }

    /// Adds two rates, stopping at `u64::MAX` bit/s.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// A round-trip time in nanoseconds, the resolution of the shell's clock.
///
/// A lost probe is never an `RttNanos`: it is a [`crate::tick::ProbeLoss`].
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RttNanos(u64);

impl RttNanos {
    /// Makes a round-trip time from nanoseconds.
    #[must_use]
    pub const fn new(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Makes a round-trip time from microseconds; saturates.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(1000))
    }

    /// Returns the round-trip time in nanoseconds.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// How long a probe took to its reflector, counted from an origin that nobody knows: the reflector's
/// clock is not ours. Only differences between probes of one reflector mean anything, and the origin
/// may drift and jump with either clock.
///
/// In tenths of a millisecond, -3276.8 ms ..= 3276.7 ms, so that a sample does not become larger by
/// it; a reflector's clock counts whole milliseconds anyway. Zero is kept as one tenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(from = "i16", into = "i16")]
pub struct RelativeOwd(NonZeroI16);

impl RelativeOwd {
    /// Makes a delay from microseconds, rounded to tenths of a millisecond; `None` out of range.
    #[must_use]
    pub fn from_micros(micros: i64) -> Option<Self> {
        let tenths = micros.saturating_add(50).div_euclid(100);
        i16::try_from(tenths).ok().map(Self::from)
    }

    /// Returns the delay in microseconds.
    #[must_use]
    pub fn as_micros(self) -> i32 {
        i32::from(self.0.get()).saturating_mul(100)
    }
}

impl From<i16> for RelativeOwd {
    /// Makes a delay from tenths of a millisecond.
    fn from(tenths: i16) -> Self {
        Self(NonZeroI16::new(tenths).unwrap_or(ONE_TENTH))
    }
}

impl From<RelativeOwd> for i16 {
    /// Returns the delay in tenths of a millisecond.
    fn from(owd: RelativeOwd) -> Self {
        owd.0.get()
    }
}

/// The time constant of an exponential filter, in nanoseconds.
///
/// Configuration gives time constants; the per-tick coefficient is derived from it and the tick
/// ([`crate::fixed::Alpha::per_tick`]), so that another tick keeps the same filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TimeConstant(u64);

impl TimeConstant {
    /// Makes a time constant from nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Makes a time constant from milliseconds; saturates.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Returns the time constant in nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

/// The direction of traffic as seen from the home: download comes from the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Direction {
    /// From the internet.
    Download,
    /// To the internet.
    Upload,
}

impl Direction {
    /// Both directions, download first.
    pub const BOTH: [Self; 2] = [Self::Download, Self::Upload];

    /// Returns `"download"` or `"upload"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }
}

/// One value for each [`Direction`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PerDirection<T> {
    /// The value for traffic from the internet.
    pub download: T,
    /// The value for traffic to the internet.
    pub upload: T,
}

impl<T> PerDirection<T> {
    /// Returns the value of one direction.
    pub const fn get(&self, direction: Direction) -> &T {
        match direction {
            Direction::Download => &self.download,
            Direction::Upload => &self.upload,
        }
    }

    /// Returns the value of one direction for changing it.
    pub const fn get_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Download => &mut self.download,
            Direction::Upload => &mut self.upload,
        }
    }
}

/// A share in parts per thousand, 0 ..= 1000.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Permille(u16);

impl Permille {
    /// Makes a share; at most the whole.
    #[must_use]
    pub const fn new(permille: u16) -> Self {
        Self(if permille > 1000 { 1000 } else { permille })
    }

    /// Returns `part` of `whole`, rounded down; zero of nothing.
    #[must_use]
    pub fn of(part: usize, whole: usize) -> Self {
        let permille = part.saturating_mul(1000).checked_div(whole).unwrap_or_default();
        Self::new(u16::try_from(permille).unwrap_or(u16::MAX))
    }

    /// Returns the share in parts per thousand.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A WAN, by its position in the configuration (0 is the first).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WanId(pub u8);

/// A reflector, by its position in its WAN's list (0 is the first).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ReflectorId(pub u8);

/// A command to the router; unique for the life of a controller (it wraps after 2^32 commands).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CommandId(pub u32);

/// A number of packets: of a counter since it began, or waiting in a queue.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Packets(pub u64);
