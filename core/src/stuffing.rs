//! COBS: bytes without any zero, so that a zero byte can end a frame.
//!
//! A count, so many bytes less one, and a zero unless the count was 255; again until the end.
//! (S. Cheshire, M. Baker: Consistent Overhead Byte Stuffing, 1999.) postcard brings this along,
//! but with indices that could panic.

use postcard::ser_flavors::Flavor;
use postcard::{Error, Result};

/// Where a postcard record is stuffed while it is serialized. It ends with a zero byte.
#[derive(Debug)]
pub(crate) struct Stuffed<'b> {
    buffer: &'b mut [u8],
    /// Where the count of the current run belongs.
    count_at: usize,
    /// One more than the bytes of the current run.
    count: u8,
    /// Where the next byte goes.
    next: usize,
}

impl<'b> Stuffed<'b> {
    pub(crate) const fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, count_at: 0, count: 1, next: 1 }
    }

    fn put(&mut self, at: usize, byte: u8) -> Result<()> {
        *self.buffer.get_mut(at).ok_or(Error::SerializeBufferFull)? = byte;
        Ok(())
    }

    fn end_run(&mut self) -> Result<()> {
        self.put(self.count_at, self.count)?;
        (self.count_at, self.count) = (self.next, 1);
        self.next = self.next.saturating_add(1);
        Ok(())
    }
}

impl<'b> Flavor for Stuffed<'b> {
    type Output = &'b mut [u8];

    fn try_push(&mut self, byte: u8) -> Result<()> {
        if byte == 0 {
            return self.end_run();
        }
        self.put(self.next, byte)?;
        self.next = self.next.saturating_add(1);
        self.count = self.count.saturating_add(1);
        if self.count == u8::MAX { self.end_run() } else { Ok(()) }
    }

    fn finalize(mut self) -> Result<&'b mut [u8]> {
        self.put(self.count_at, self.count)?;
        self.put(self.next, 0)?;
        let length = self.next.saturating_add(1);
        self.buffer.get_mut(..length).ok_or(Error::SerializeBufferFull)
    }
}

/// Undoes stuffing where it is, without the zero byte at the end, and returns the length.
pub(crate) fn unstuff(frame: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0_usize, 0_usize);
    while let Some(&count) = frame.get(from) {
        let run = usize::from(count).checked_sub(1)?;
        let begin = from.checked_add(1)?;
        let end = begin.checked_add(run)?;
        // Byte by byte: a copy within a list can panic, and is 700 bytes of code that nothing else needs.
        for at in begin..end {
            let byte = *frame.get(at)?;
            *frame.get_mut(to)? = byte;
            to = to.checked_add(1)?;
        }
        from = end;
        if count < u8::MAX && from < frame.len() {
            *frame.get_mut(to)? = 0;
            to = to.checked_add(1)?;
        }
    }
    Some(to)
}

#[cfg(test)]
mod tests {
    use postcard::ser_flavors::{Cobs, Slice};

    use super::*;

    fn stuff<'b>(bytes: &[u8], buffer: &'b mut [u8]) -> Result<&'b mut [u8]> {
        let mut stuffed = Stuffed::new(buffer);
        stuffed.try_extend(bytes)?;
        stuffed.finalize()
    }

    #[test]
    fn stuffed_bytes_are_those_of_the_published_examples() {
        let mut buffer = [0; 8];
        assert_eq!(stuff(&[], &mut buffer).unwrap(), [1, 0]);
        assert_eq!(stuff(&[0, 0], &mut buffer).unwrap(), [1, 1, 1, 0]);
        assert_eq!(stuff(&[0x11, 0, 0x22], &mut buffer).unwrap(), [2, 0x11, 2, 0x22, 0]);
    }

    #[test]
    fn bytes_come_back_whatever_the_length_of_their_runs() {
        for length in [0_u32, 1, 253, 254, 255, 508, 509, 1000] {
            for zero_every in [1, 2, 254, 255, 256, 10_000] {
                let bytes: std::vec::Vec<u8> = (1..=length)
                    .map(|i| if i % zero_every == 0 { 0 } else { i as u8 | 1 })
                    .collect();
                let mut buffer = [0; 1200];
                let frame = stuff(&bytes, &mut buffer).unwrap();
                let (zero, inner) = frame.split_last_mut().unwrap();
                assert_eq!(*zero, 0);
                assert!(!inner.contains(&0));
                let mut other = [0; 1200];
                let mut cobs = Cobs::try_new(Slice::new(&mut other)).unwrap();
                cobs.try_extend(&bytes).unwrap();
                assert_eq!(cobs.finalize().unwrap().split_last().unwrap().1, inner);
                let length = unstuff(inner).unwrap();
                assert_eq!(&inner[..length], bytes);
            }
        }
    }

    #[test]
    fn a_buffer_that_is_too_small_is_told() {
        let bytes = [7; 300];
        let mut buffer = [0; 304];
        let needed = stuff(&bytes, &mut buffer).unwrap().len();
        for length in 0..needed {
            assert!(stuff(&bytes, &mut buffer[..length]).is_err(), "{length}");
        }
    }
}
