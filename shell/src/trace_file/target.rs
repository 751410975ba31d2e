//! What a recorder writes to.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::path::Path;

use embassy_time::Instant;
use wanctl_core::trace::MAGIC;

/// A recording has its magic within so many bytes.
const HEAD_BYTES: u64 = 64;

/// Records, one behind the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) records: u64,
    /// A place in them where a reader can begin.
    pub(super) start: Option<Start>,
}

/// A header with a state behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    pub(super) offset: usize,
    /// Records in front of it.
    pub(super) records: u64,
    /// The time of the state.
    pub(super) at: Instant,
    /// What comes now belongs into a segment of its own.
    pub(super) begins_segment: bool,
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Records of it that were left out, because no reader could use them.
    pub(super) left_out: u64,
    /// A state is wanted soon: to begin a new segment with it.
    pub(super) wants_state: bool,
}

/// What a recorder's thread writes to.
pub(super) trait Target: Send + 'static {
    /// Writes records. After a failure the next ones are expected to begin with a state.
    fn write(&mut self, piece: Piece<'_>) -> io::Result<Taken>;

    /// Takes note that an incident was marked at this time.
    fn mark(&mut self, _at: Instant) {}
}

/// One file, or whatever else takes bytes.
#[derive(Debug)]
pub(super) struct Plain<W>(pub(super) W);

impl<W: Write + Send + 'static> Target for Plain<W> {
    fn write(&mut self, piece: Piece<'_>) -> io::Result<Taken> {
        self.0.write_all(piece.bytes).map(|()| Taken::default())
    }
}

impl Plain<File> {
    /// Opens a file to go on with.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut head = Vec::new();
        (&mut file).take(HEAD_BYTES).read_to_end(&mut head)?;
        let is_ours = head.windows(MAGIC.len()).any(|bytes| bytes == MAGIC);
        if head.is_empty() || is_ours {
            Ok(Self(file))
        } else {
            Err(io::Error::other("the file exists and is not a recording"))
        }
    }
}
