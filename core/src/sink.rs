//! Where records are written to: a buffer, or a checksum.
//!
//! One type for both, so that what writes a value is in an image once. Neither can fail on the way: what
//! does not fit a buffer shows at its end. That saves a branch behind every field of every record.

use crc::Digest;
use postcard::ser_flavors::Flavor;
use serde::Serialize;

/// Takes bytes.
trait Target {
    fn put(&mut self, bytes: &[u8]);
}

struct Buffer<'b> {
    bytes: &'b mut [u8],
    /// How many were put, even if not all of them are there.
    length: usize,
}

impl Target for Buffer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len());
        let place = self.bytes.get_mut(self.length..end).unwrap_or_default();
        for (place, byte) in place.iter_mut().zip(bytes) {
            *place = *byte;
        }
        self.length = end;
    }
}

impl Target for Digest<'_, u32> {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

struct Sink<'t>(&'t mut dyn Target);

impl Sink<'_> {
    #[inline(never)]
    fn push(&mut self, byte: u8) {
        self.0.put(&[byte]);
    }

    #[inline(never)]
    fn extend(&mut self, bytes: &[u8]) {
        self.0.put(bytes);
    }
}

impl Flavor for Sink<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.extend(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Writes a value to the beginning of a buffer and returns its bytes, or `None` when they do not fit.
pub(crate) fn write<'b>(value: &impl Serialize, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let mut target = Buffer { bytes: buffer, length: 0 };
    postcard::serialize_with_flavor(value, Sink(&mut target)).ok()?;
    target.bytes.get(..target.length)
}

/// Adds the bytes of a value to a checksum.
pub(crate) fn sum(value: &impl Serialize, digest: &mut Digest<'_, u32>) {
    // Nothing in the core's types can fail to be written, and a sum has room for everything.
    let _never = postcard::serialize_with_flavor(value, Sink(digest));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_exactly_is_written_and_one_byte_less_is_not_enough() {
        let value = (7_u8, 300_u16, [1_u32, 70_000]);
        let mut expected = [0; 16];
        let expected = postcard::to_slice(&value, &mut expected).unwrap();
        let mut buffer = [0xff; 16];
        assert_eq!(write(&value, &mut buffer).unwrap(), expected);
        let length = expected.len();
        assert_eq!(write(&value, &mut buffer[..length]).unwrap(), expected);
        for short in 0..length {
            assert!(write(&value, &mut buffer[..short]).is_none());
        }
    }
}
