//! Recording: every [`Tick`] in and every [`Outputs`] out, as bytes, without allocation.
//!
//! A recording is a row of frames. A frame is a zero byte, a postcard record with its CRC-32
//! behind it, both COBS-stuffed so that no other byte is zero, and a zero byte. Whoever meets
//! damage looks for the next zero byte and goes on: a damaged byte costs one record.
//! `docs/trace-format.md` describes every byte; tests pin them.
//!
//! ```
//! # use embassy_time::Instant;
//! # use wanctl_core::{outputs::Outputs, tick::Tick, trace};
//! let mut buffer = [0; trace::MAX_STEP_BYTES];
//! let (tick, outputs) = (Tick::new(Instant::from_millis(50)), Outputs::new());
//! let frame = trace::encode_step(7, &tick, &outputs, &mut buffer)?;
//! let inner = frame.len() - 1;
//! let record = trace::open(&mut frame[1..inner]).and_then(|payload| trace::parse(payload));
//! let Ok(trace::Record::Step { seq: 7, body }) = record else { panic!("{record:?}") };
//! assert_eq!(trace::decode_tick(body)?.0, tick);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crc::{CRC_32_ISO_HDLC, Crc};
use embassy_time::{Duration, Instant};
use heapless::Vec;
use postcard::ser_flavors::crc::CrcModifier;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::controller::Controller;
use crate::outputs::Outputs;
use crate::sink;
use crate::source;
use crate::stuffing::{Stuffed, unstuff};
use crate::tick::Tick;

/// The first bytes of every header record.
pub const MAGIC: [u8; 8] = *b"WCTLTRCE";
/// Version of frames, headers, ticks and outputs. Any change of these is a new number.
pub const FORMAT: u16 = 1;
/// Version of state records. Any change of a field inside the controller is a new number; ticks and
/// outputs stay readable.
pub const STATE_FORMAT: u16 = 1;
/// The longest frame of a header record.
pub const MAX_HEADER_BYTES: usize = 4096;
/// The longest frame of a step record.
pub const MAX_STEP_BYTES: usize = 8192;
/// The longest frame of a state record with [`crate::tick::MAX_WANS`] WANs.
pub const MAX_STATE_BYTES: usize = 256 * 1024;
/// A header and a state record belong at the start, after every gap, and this often.
pub const STATE_INTERVAL: Duration = Duration::from_secs(60);

/// What comes before the bytes of a record.
#[derive(Serialize)]
enum Written<'a, const WANS: usize, const STEERINGS: usize> {
    Header {
        magic: [u8; 8],
        format: u16,
        state_format: u16,
        core_version: &'a str,
        config: &'a Config,
    },
    Step {
        seq: u64,
        tick: &'a Tick,
        outputs: &'a Outputs,
    },
    State {
        seq: u64,
        controller: &'a Controller<WANS, STEERINGS>,
    },
}

/// A record other than a state has nothing to do with the number of WANs.
type WithoutState<'a> = Written<'a, 1, 1>;

/// A buffer was too small for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferTooSmall;

impl core::fmt::Display for BufferTooSmall {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the buffer is too small for the record")
    }
}

impl core::error::Error for BufferTooSmall {}

/// Writes a header record into a buffer ([`MAX_HEADER_BYTES`]) and returns its frame.
///
/// # Errors
///
/// When the buffer is too small.
pub fn encode_header<'b>(
    config: &Config,
    buffer: &'b mut [u8],
) -> Result<&'b mut [u8], BufferTooSmall> {
    let record = WithoutState::Header {
        magic: MAGIC,
        format: FORMAT,
        state_format: STATE_FORMAT,
        core_version: env!("CARGO_PKG_VERSION"),
        config,
    };
    encode(&record, buffer)
}

/// Writes what step number `seq` was told and what it answered into a buffer
/// ([`MAX_STEP_BYTES`]) and returns the frame. The first step of a controller has the number 0.
///
/// # Errors
///
/// When the buffer is too small.
pub fn encode_step<'b>(
    seq: u64,
    tick: &Tick,
    outputs: &Outputs,
    buffer: &'b mut [u8],
) -> Result<&'b mut [u8], BufferTooSmall> {
    encode(&WithoutState::Step { seq, tick, outputs }, buffer)
}

/// Writes the whole controller as it is before step number [`Controller::ticks`] into a buffer
/// ([`MAX_STATE_BYTES`]) and returns the frame.
///
/// # Errors
///
/// When the buffer is too small.
pub fn encode_state<'b, const WANS: usize, const STEERINGS: usize>(
    controller: &Controller<WANS, STEERINGS>,
    buffer: &'b mut [u8],
) -> Result<&'b mut [u8], BufferTooSmall> {
    encode(&Written::State { seq: controller.ticks(), controller }, buffer)
}

fn encode<'b, const WANS: usize, const STEERINGS: usize>(
    record: &Written<'_, WANS, STEERINGS>,
    buffer: &'b mut [u8],
) -> Result<&'b mut [u8], BufferTooSmall> {
    let checksum = Crc::<u32>::new(&CRC_32_ISO_HDLC);
    let (first, rest) = buffer.split_first_mut().ok_or(BufferTooSmall)?;
    *first = 0;
    let flavor = CrcModifier::new(Stuffed::new(rest), checksum.digest());
    let written =
        postcard::serialize_with_flavor(record, flavor).map_err(|_| BufferTooSmall)?.len();
    buffer.get_mut(..written.saturating_add(1)).ok_or(BufferTooSmall)
}

/// Why a frame cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It does not end where it says it ends.
    Stuffing,
    /// Its CRC-32 does not fit.
    Checksum,
    /// It is intact, but not what this version writes.
    Content,
}

impl core::fmt::Display for Damage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Stuffing => "a frame does not end where it says it ends",
            Self::Checksum => "the checksum of a frame does not fit",
            Self::Content => "an intact frame does not hold what this version writes",
        })
    }
}

impl core::error::Error for Damage {}

/// Undoes stuffing and checks the CRC of a frame without its zero bytes; returns the payload.
///
/// # Errors
///
/// When the frame is damaged; the bytes are of no use then.
pub fn open(frame: &mut [u8]) -> Result<&[u8], Damage> {
    let length = unstuff(frame).ok_or(Damage::Stuffing)?;
    let record = frame.get(..length).ok_or(Damage::Stuffing)?;
    let (payload, sum) = record.split_last_chunk().ok_or(Damage::Checksum)?;
    if checksum(payload) == u32::from_le_bytes(*sum) { Ok(payload) } else { Err(Damage::Checksum) }
}

/// 16 KiB of tables make a replay faster on a host.
#[cfg(not(target_os = "none"))]
fn checksum(bytes: &[u8]) -> u32 {
    const CHECKSUM: Crc<u32, crc::Table<16>> = Crc::<u32, crc::Table<16>>::new(&CRC_32_ISO_HDLC);
    CHECKSUM.checksum(bytes)
}

#[cfg(target_os = "none")]
use small_checksum as checksum;

/// The same with a table of 64 bytes: the smallest of the library's is 1 KiB of a board's flash.
#[cfg(any(test, target_os = "none"))]
fn small_checksum(bytes: &[u8]) -> u32 {
    const NIBBLES: [u32; 16] = [
        0,
        0x1db7_1064,
        0x3b6e_20c8,
        0x26d9_30ac,
        0x76dc_4190,
        0x6b6b_51f4,
        0x4db2_6158,
        0x5005_713c,
        0xedb8_8320,
        0xf00f_9344,
        0xd6d6_a3e8,
        0xcb61_b38c,
        0x9b64_c2b0,
        0x86d3_d2d4,
        0xa00a_e278,
        0xbdbd_f21c,
    ];
    let step = |sum: u32, low: u32| {
        let nibble = usize::try_from((sum ^ low) & 15).unwrap_or_default();
        (sum >> 4) ^ NIBBLES.get(nibble).copied().unwrap_or_default()
    };
    let bytes = bytes.iter().map(|byte| u32::from(*byte));
    !bytes.fold(u32::MAX, |sum, byte| step(step(sum, byte), byte >> 4))
}

/// What a header record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The version of state records; equal to [`STATE_FORMAT`] if they can be used.
    pub state_format: u16,
    /// The version of the core that made the outputs.
    pub core_version: &'a str,
    /// What the controller was told; [`decode_config`] reads it.
    pub config: &'a [u8],
}

/// A record, as far as it is needed to decide what to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// Begins a session, and comes again before every state record.
    Header(Header<'a>),
    /// A header of another format: nothing behind it can be read.
    OtherFormat(u16),
    /// One step; [`decode_tick`] reads `body`.
    Step {
        /// The number of the step.
        seq: u64,
        /// The tick, then the outputs.
        body: &'a [u8],
    },
    /// The controller before step `seq`; [`decode_state`] reads `body`.
    State {
        /// The number of the next step.
        seq: u64,
        /// The controller.
        body: &'a [u8],
    },
}

/// Looks at the beginning of a payload.
///
/// # Errors
///
/// When it is nothing this version writes.
pub fn parse(payload: &[u8]) -> Result<Record<'_>, Damage> {
    let (kind, body) = take::<u8>(payload)?;
    match kind {
        0 => parse_header(body),
        1 => take::<u64>(body).map(|(seq, body)| Record::Step { seq, body }),
        2 => take::<u64>(body).map(|(seq, body)| Record::State { seq, body }),
        _ => Err(Damage::Content),
    }
}

fn parse_header(body: &[u8]) -> Result<Record<'_>, Damage> {
    let (magic, body) = take::<[u8; 8]>(body)?;
    let (format, body) = take::<u16>(body)?;
    if magic != MAGIC {
        Err(Damage::Content)
    } else if format != FORMAT {
        Ok(Record::OtherFormat(format))
    } else {
        let ((state_format, core_version), config) = take(body)?;
        Ok(Record::Header(Header { state_format, core_version, config }))
    }
}

/// Reads the configuration of a header. It is not checked: [`Config::check`].
///
/// # Errors
///
/// When it is nothing this version writes.
pub fn decode_config(body: &[u8]) -> Result<Config, Damage> {
    let mut config = Config { tick: Duration::MIN, wans: Vec::new(), steering: None };
    decode_config_into(body, &mut config)?;
    Ok(config)
}

/// Reads a configuration into memory that is there, as [`decode_config`] does. On a board's stack a
/// whole configuration would stand several times.
///
/// # Errors
///
/// When it is nothing this version writes; the configuration is of no use then.
pub fn decode_config_into(body: &[u8], config: &mut Config) -> Result<(), Damage> {
    // The fields in their order, as serde would read them.
    let (tick, rest) = take(body)?;
    config.tick = Duration::from_micros(tick);
    let rest = refill(&mut config.wans, rest)?;
    match replace(&mut config.steering, rest)? {
        [] => Ok(()),
        _ => Err(Damage::Content),
    }
}

/// Reads the tick of a step record; what is left are the outputs, as [`outputs_bytes`] gives them.
///
/// # Errors
///
/// When it is nothing this version writes.
pub fn decode_tick(body: &[u8]) -> Result<(Tick, &[u8]), Damage> {
    let mut tick = Tick::new(Instant::MIN);
    let outputs = decode_tick_into(body, &mut tick)?;
    Ok((tick, outputs))
}

/// Reads the tick of a step record into memory that is there, and returns the rest as
/// [`decode_tick`] does. On a board's stack a whole tick would stand several times.
///
/// # Errors
///
/// When it is nothing this version writes; the tick is of no use then.
pub fn decode_tick_into<'a>(body: &'a [u8], tick: &mut Tick) -> Result<&'a [u8], Damage> {
    // The fields in their order, as serde would read them.
    let (now, rest) = take(body)?;
    tick.now = Instant::from_micros(now);
    let rest = refill(&mut tick.samples, rest)?;
    let rest = refill(&mut tick.losses, rest)?;
    let rest = refill(&mut tick.connectivity, rest)?;
    let rest = refill(&mut tick.links, rest)?;
    let rest = refill(&mut tick.counters, rest)?;
    let rest = refill(&mut tick.replies, rest)?;
    let rest = replace(&mut tick.inputs_dropped, rest)?;
    let rest = refill(&mut tick.steering_replies, rest)?;
    let rest = refill(&mut tick.replaced, rest)?;
    replace(&mut tick.incident, rest)
}

/// Reads the time of the tick of a step record, and nothing else.
///
/// # Errors
///
/// When it is nothing this version writes.
pub fn tick_time(body: &[u8]) -> Result<Instant, Damage> {
    take(body).map(|(now, _)| Instant::from_micros(now))
}

/// Reads one field. Not inlined, so that the fields use the same stack one after the other.
#[inline(never)]
fn replace<'a, T: Deserialize<'a>>(field: &mut T, bytes: &'a [u8]) -> Result<&'a [u8], Damage> {
    let (value, rest) = take(bytes)?;
    *field = value;
    Ok(rest)
}

/// Reads a list, one element after the other: a whole one would stand on the stack twice.
#[inline(never)]
fn refill<'a, T: Deserialize<'a>, const N: usize>(
    list: &mut Vec<T, N>,
    bytes: &'a [u8],
) -> Result<&'a [u8], Damage> {
    let (count, mut rest) = take::<u16>(bytes)?;
    list.clear();
    for _ in 0..count {
        let element;
        (element, rest) = take(rest)?;
        list.push(element).map_err(|_| Damage::Content)?;
    }
    Ok(rest)
}

/// Reads outputs.
///
/// # Errors
///
/// When it is nothing this version writes.
pub fn decode_outputs(body: &[u8]) -> Result<Outputs, Damage> {
    whole(body)
}

/// Reads a whole controller. Only for state records of this [`STATE_FORMAT`].
///
/// # Errors
///
/// When it is nothing this version writes, or has more WANs than `WANS`.
pub fn decode_state<const WANS: usize>(body: &[u8]) -> Result<Controller<WANS>, Damage> {
    whole(body)
}

/// Returns outputs as a step record holds them: equal outputs are equal bytes.
///
/// # Errors
///
/// When the buffer is too small.
pub fn outputs_bytes<'b>(
    outputs: &Outputs,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], BufferTooSmall> {
    sink::write(outputs, buffer).ok_or(BufferTooSmall)
}

/// Returns a controller as a state record holds it: equal states are equal bytes.
///
/// # Errors
///
/// When the buffer is too small.
pub fn state_bytes<'b, const WANS: usize, const STEERINGS: usize>(
    controller: &Controller<WANS, STEERINGS>,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], BufferTooSmall> {
    sink::write(controller, buffer).ok_or(BufferTooSmall)
}

fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), Damage> {
    source::take(bytes).map_err(|_| Damage::Content)
}

/// Reads a value that fills the bytes to their end.
fn whole<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Damage> {
    match take(bytes)? {
        (value, []) => Ok(value),
        _ => Err(Damage::Content),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_small_checksum_is_the_same() {
        let bytes: [u8; 256] = core::array::from_fn(|index| u8::try_from(index).unwrap());
        for length in [0, 1, 2, 9, 255, 256] {
            let bytes = &bytes[256 - length..];
            assert_eq!(super::small_checksum(bytes), super::checksum(bytes), "{length}");
        }
    }
}
