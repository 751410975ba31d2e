//! What survives a restart: per WAN the filters and the wanted rates.
//!
//! A state is only believed when it was made under the same configuration and every value is
//! within that configuration's bounds. On any doubt the controller starts fresh, and an event says
//! so.

use crc::{CRC_32_ISO_HDLC, Crc};
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::fixed::MicrosQ32;
use crate::sink;
use crate::tick::MAX_WANS;
use crate::trace::BufferTooSmall;
use crate::units::{BitsPerSecond, PerDirection};

/// No round-trip time is above this, in µs; a load filter beyond it is not believed.
pub const LOAD_MAX: MicrosQ32 = MicrosQ32::from_micros(60_000_000);

/// The first bytes of every slot.
pub const MAGIC: [u8; 8] = *b"WCTLSTAT";
/// Version of slots. Any change of [`Slot`] is a new number.
pub const VERSION: u16 = 1;
/// The most bytes of a slot.
pub const MAX_SLOT_BYTES: usize = 512;

/// What a [`crate::controller::Controller`] needs to go on where another one has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PersistedState {
    /// [`Config::fingerprint`] of the configuration it was made under.
    pub config: u32,
    /// The WANs in configuration order; `None` where nothing had been measured yet.
    pub wans: Vec<Option<PersistedWan>, MAX_WANS>,
}

/// One WAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PersistedWan {
    /// The baseline.
    pub baseline: MicrosQ32,
    /// The load filter.
    pub load: MicrosQ32,
    /// The rates the law wanted.
    pub wanted: PerDirection<BitsPerSecond>,
}

/// Why a state was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum StateRefusal {
    /// Nothing of it can be read.
    Damaged,
    /// It was written by another version.
    OtherVersion,
    /// It was made under another configuration.
    OtherConfig,
    /// It is too old, or from the future.
    Age,
    /// A value is outside the bounds of the configuration.
    OutOfRange,
}

/// A state with what is needed to decide whether it may be used. Two slots are kept and written in
/// turn, so that one is whole whatever happens; the one with the higher generation counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Slot {
    /// Counts up with every write.
    pub generation: u64,
    /// Wall-clock time of the write, in seconds since 1970.
    pub saved_unix_s: u64,
    /// [`checksum`] of whatever names the lines: the core does not know their names.
    pub lines: u32,
    /// The state.
    pub state: PersistedState,
}

impl Slot {
    /// Writes magic, version, slot and CRC-32 into a buffer ([`MAX_SLOT_BYTES`]) and returns them.
    ///
    /// # Errors
    ///
    /// When the buffer is too small.
    pub fn encode<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], BufferTooSmall> {
        let checksum = Crc::<u32>::new(&CRC_32_ISO_HDLC);
        postcard::to_slice_crc32(&(MAGIC, VERSION, self), buffer, checksum.digest())
            .map(|bytes| &*bytes)
            .map_err(|_| BufferTooSmall)
    }

    /// Reads what [`Self::encode`] has written.
    ///
    /// # Errors
    ///
    /// [`StateRefusal::Damaged`] or [`StateRefusal::OtherVersion`].
    pub fn decode(bytes: &[u8]) -> Result<Self, StateRefusal> {
        let damaged = |_| StateRefusal::Damaged;
        let (body, sum) = bytes.split_last_chunk().ok_or(StateRefusal::Damaged)?;
        if checksum(body) != u32::from_le_bytes(*sum) {
            return Err(StateRefusal::Damaged);
        }
        let ((magic, version), body): (([u8; 8], u16), _) =
            postcard::take_from_bytes(body).map_err(damaged)?;
        if magic != MAGIC {
            return Err(StateRefusal::Damaged);
        }
        if version != VERSION {
            return Err(StateRefusal::OtherVersion);
        }
        match postcard::take_from_bytes(body).map_err(damaged)? {
            (slot, []) => Ok(slot),
            _ => Err(StateRefusal::Damaged),
        }
    }
}

/// Returns the CRC-32 of bytes.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(bytes)
}

/// How taking over a state ended; told with the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)] // Puts `NotDue` at 0, for `Controller::empty`.
pub(crate) enum Restoration {
    /// Nothing is to be told.
    NotDue,
    Restored,
    Refused(StateRefusal),
    /// Another configuration was taken over while running.
    Reconfigured,
}

impl Config {
    /// Returns a number that differs, but for one chance in 2^32, when anything in the
    /// configuration differs.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        let checksum = Crc::<u32>::new(&CRC_32_ISO_HDLC);
        let mut digest = checksum.digest();
        sink::sum(self, &mut digest);
        digest.finalize()
    }
}
