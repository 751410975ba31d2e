//! Where records are read from.
//!
//! postcard's own asks after every byte whether there was one, and what calls it has to pass that on. This
//! one reads zeros behind the end and tells at last: that saves a branch behind every field of every
//! record, which is kilobytes of a board's flash.

use postcard::de_flavors::Flavor;
use postcard::{Deserializer, Error, Result};
use serde::Deserialize;

struct Source<'b> {
    bytes: &'b [u8],
    /// Bytes were read that were not there.
    is_short: bool,
}

impl Source<'_> {
    #[inline(never)]
    fn next(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((byte, rest)) => {
                self.bytes = rest;
                *byte
            }
            None => {
                self.is_short = true;
                0
            }
        }
    }
}

impl<'b> Flavor<'b> for Source<'b> {
    type Remainder = &'b [u8];
    type Source = &'b [u8];

    fn pop(&mut self) -> Result<u8> {
        Ok(self.next())
    }

    fn try_take_n(&mut self, count: usize) -> Result<&'b [u8]> {
        let (taken, rest) =
            self.bytes.split_at_checked(count).ok_or(Error::DeserializeUnexpectedEnd)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn finalize(self) -> Result<&'b [u8]> {
        if self.is_short { Err(Error::DeserializeUnexpectedEnd) } else { Ok(self.bytes) }
    }
}

/// Reads a value from the beginning of some bytes and returns the rest. Every list in a value has an
/// end, so that zeros are read behind the bytes only a few times.
pub(crate) fn take<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<(T, &'b [u8])> {
    let mut deserializer = Deserializer::from_flavor(Source { bytes, is_short: false });
    let value = T::deserialize(&mut deserializer)?;
    Ok((value, deserializer.finalize()?))
}

#[cfg(test)]
mod tests {
    use heapless::Vec;

    use super::*;

    #[test]
    fn whatever_is_cut_off_is_noticed() {
        let list: Vec<(u64, Option<u16>), 3> =
            Vec::from_slice(&[(0, None), (1 << 60, Some(9)), (0, Some(0))]).unwrap();
        let mut buffer = [0; 32];
        let bytes = &*postcard::to_slice(&(list.clone(), [7_u8, 0, 0]), &mut buffer).unwrap();
        type Read = (Vec<(u64, Option<u16>), 3>, [u8; 3]);
        for end in 0..bytes.len() {
            assert!(take::<Read>(&bytes[..end]).is_err(), "{end}");
        }
        assert_eq!(take::<Read>(bytes), Ok(((list, [7, 0, 0]), &[][..])));
        let more = [bytes, &[1, 2]].concat();
        assert_eq!(take::<Read>(&more).unwrap().1, [1, 2]);
        // A length, and nothing behind it.
        assert!(take::<Read>(&[3]).is_err());
        assert!(take::<Read>(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
    }
}
