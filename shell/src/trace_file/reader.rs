//! Reading a recording: one intact frame after the other, over whatever damage.

use std::io::{self, Read};
use std::ops::Range;

use wanctl_core::trace::{self, MAX_STATE_BYTES};

/// Bytes in memory at a time: room for the longest frame and for many short ones.
const BUFFER_BYTES: usize = 4 * MAX_STATE_BYTES;

/// How much of a recording could be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Intact records.
    pub saved: u64,
    /// Places where bytes were not an intact record.
    pub damaged: u64,
}

/// Reads the intact frames of a recording.
#[derive(Debug)]
pub struct TraceReader<R> {
    source: R,
    buffer: Vec<u8>,
    /// What of the buffer has not been looked at yet.
    unread: Range<usize>,
    /// Inside a run of bytes that is too long for a frame.
    is_overlong: bool,
    tally: Tally,
}

impl<R: Read> TraceReader<R> {
    /// Makes a reader; it buffers by itself.
    pub fn new(source: R) -> Self {
        let tally = Tally::default();
        Self { source, buffer: vec![0; BUFFER_BYTES], unread: 0..0, is_overlong: false, tally }
    }

    /// Returns how much could be read so far.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Returns the payload of the next intact frame, or `None` at the end.
    ///
    /// # Errors
    ///
    /// When the source cannot be read. Damage is not an error; it is counted.
    pub fn next_payload(&mut self) -> io::Result<Option<&[u8]>> {
        while let Some(frame) = self.next_frame()? {
            let begin = frame.start;
            match trace::open(&mut self.buffer[frame]).map(<[u8]>::len) {
                Ok(length) => {
                    self.tally.saved += 1;
                    return Ok(Some(&self.buffer[begin..begin + length]));
                }
                Err(_) => self.tally.damaged += 1,
            }
        }
        Ok(None)
    }

    /// Returns where the bytes before the next zero byte are.
    fn next_frame(&mut self) -> io::Result<Option<Range<usize>>> {
        loop {
            let unread = &self.buffer[self.unread.clone()];
            if let Some(length) = unread.iter().position(|&byte| byte == 0) {
                let frame = self.unread.start..self.unread.start + length;
                self.unread.start = frame.end + 1;
                if std::mem::take(&mut self.is_overlong) {
                    self.tally.damaged += 1;
                } else if !frame.is_empty() {
                    return Ok(Some(frame));
                }
            } else if !self.fill()? {
                let is_torn = self.is_overlong || !self.unread.is_empty();
                self.tally.damaged += u64::from(is_torn);
                self.is_overlong = false;
                self.unread = 0..0;
                return Ok(None);
            }
        }
    }

    /// Reads more; returns whether there was more.
    fn fill(&mut self) -> io::Result<bool> {
        if self.unread.len() > MAX_STATE_BYTES {
            self.is_overlong = true;
            self.unread = 0..0;
        }
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        loop {
            match self.source.read(&mut self.buffer[self.unread.end..]) {
                Ok(count) => {
                    self.unread.end += count;
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
