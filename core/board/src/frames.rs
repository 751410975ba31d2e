//! The frames of a recording, one after the other, with no more memory than the longest needs.

use core::ffi::CStr;

use crate::host::{Failure, File};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256;

/// Reads frames from a file; `shell/src/trace_file/reader.rs` does the same on hosts.
pub(crate) struct Frames {
    file: File,
    chunk: [u8; CHUNK_BYTES],
    next: usize,
    end: usize,
}

impl Frames {
    pub(crate) const fn new() -> Self {
        Self { file: File::closed(), chunk: [0; CHUNK_BYTES], next: 0, end: 0 }
    }

    pub(crate) fn open(&mut self, name: &CStr) -> Result<(), Failure> {
        self.file.open(name)
    }

    /// Reads the bytes before the next zero byte and returns their number. Runs that are too long
    /// for the buffer are passed over.
    pub(crate) fn read<'b>(
        &mut self,
        buffer: &'b mut [u8],
    ) -> Result<Option<&'b mut [u8]>, Failure> {
        let mut length = 0_usize;
        while let Some(byte) = self.byte() {
            if byte != 0 {
                if let Some(place) = buffer.get_mut(length) {
                    *place = byte;
                }
                length = length.saturating_add(1);
            } else if length > buffer.len() {
                length = 0;
            } else if length > 0 {
                return Ok(buffer.get_mut(..length));
            }
        }
        Ok(None)
    }

    fn byte(&mut self) -> Option<u8> {
        if self.next >= self.end {
            self.end = self.file.read(&mut self.chunk);
            self.next = 0;
            if self.end == 0 {
                return None;
            }
        }
        let byte = self.chunk.get(self.next).copied();
        self.next = self.next.saturating_add(1);
        byte
    }
}
