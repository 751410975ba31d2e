//! The flight recorder: the latest past of the daemon in a ring of files.
//!
//! A *segment* is a file that begins with a header and a state, so a reader can begin with any of them.
//! When it is full a new one is begun, and the oldest ones make room. Segments around a marked incident
//! are *pinned* by their name: they stay until pins take half of the ring, and then the oldest are let
//! go. A restart goes on in the last segment.

mod export;
mod segment;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use embassy_time::Instant;

pub use self::export::{Exported, Selection, export};
pub use self::segment::{Segment, list};
use super::target::{Piece, Start, Taken, Target};
use crate::clock;

/// The size of the ring unless configured: a day or more, see `docs/recording.md`.
pub const SIZE_DEFAULT: u64 = 256_000_000;
/// The smallest ring.
pub const SIZE_MIN: u64 = 8_000_000;
/// The largest ring.
pub const SIZE_MAX: u64 = 16_000_000_000;
/// A ring consists of about so many segments.
const SEGMENTS: u64 = 64;
/// Pinned segments take at most this part of the ring.
const PINNED_PART: u64 = 2;
/// What happened so long before an incident is pinned with it.
pub const PIN_BEFORE: Duration = Duration::from_secs(600);
/// What happens so long after an incident is pinned with it.
pub const PIN_AFTER: Duration = Duration::from_secs(120);

/// Where the ring is and how large it may get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlightConfig {
    /// Its folder.
    pub folder: PathBuf,
    /// The most bytes of all segments together, [`SIZE_MIN`] ..= [`SIZE_MAX`].
    pub size: u64,
}

/// What is in the ring.
#[derive(Debug, Default)]
pub struct RingStats {
    size: AtomicU64,
    bytes: AtomicU64,
    segments: AtomicU64,
    pinned: AtomicU64,
}

impl RingStats {
    /// Returns how many bytes the ring may have; 0 when there is none.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Returns how many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns how many segments it has.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.segments.load(Ordering::Relaxed)
    }

    /// Returns how many of them are pinned.
    #[must_use]
    pub fn pinned(&self) -> u64 {
        self.pinned.load(Ordering::Relaxed)
    }
}

/// The ring as its thread has it.
#[derive(Debug)]
pub(super) struct Ring {
    folder: PathBuf,
    size: u64,
    /// Oldest first. While `file` is open the last one is being written.
    segments: Vec<Segment>,
    file: Option<File>,
    /// Something was lost: nothing is of use until the next state.
    waits_for_state: bool,
    /// Segments begun until then, in ms since 1970, belong to an incident.
    pin_until_ms: u64,
    stats: Arc<RingStats>,
}

impl Ring {
    /// Opens a folder, makes it if necessary, and goes on with the last segment if it has room.
    pub(super) fn open(flight: &FlightConfig, stats: Arc<RingStats>) -> io::Result<Self> {
        fs::create_dir_all(&flight.folder)?;
        let probe = flight.folder.join("record.tmp");
        fs::write(&probe, b"")?;
        fs::remove_file(&probe)?;
        let (folder, size) = (flight.folder.clone(), flight.size);
        let segments = list(&folder)?;
        let mut ring = Self {
            folder,
            size,
            segments,
            file: None,
            waits_for_state: true,
            pin_until_ms: 0,
            stats,
        };
        if let Some(last) = ring.segments.last().filter(|last| last.bytes < ring.segment_bytes()) {
            let mut file = OpenOptions::new().write(true).open(last.path(&ring.folder))?;
            file.seek(SeekFrom::End(0))?;
            ring.file = Some(file);
        }
        ring.note();
        Ok(ring)
    }

    /// Returns the length at which a segment is full.
    const fn segment_bytes(&self) -> u64 {
        self.size / SEGMENTS
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    fn note(&self) {
        let pinned = self.segments.iter().filter(|segment| segment.is_pinned).count();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.stats.size.store(self.size, Ordering::Relaxed);
        self.stats.bytes.store(self.bytes(), Ordering::Relaxed);
        self.stats.segments.store(count(self.segments.len()), Ordering::Relaxed);
        self.stats.pinned.store(count(pinned), Ordering::Relaxed);
    }

    /// Returns the segments that may go: all but the one that is being written.
    fn closed(&self) -> &[Segment] {
        let open = usize::from(self.file.is_some());
        self.segments.get(..self.segments.len().saturating_sub(open)).unwrap_or_default()
    }

    /// Deletes the oldest segment, pinned ones only if asked; returns whether there was one.
    fn give_up_oldest(&mut self, with_pinned: bool) -> bool {
        let may_go = |segment: &Segment| with_pinned || !segment.is_pinned;
        let Some(index) = self.closed().iter().position(may_go) else { return false };
        let segment = self.segments.remove(index);
        if let Err(error) = fs::remove_file(segment.path(&self.folder))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, number = segment.number, "a segment cannot be deleted");
        }
        true
    }

    /// Makes room in the ring for so many bytes more.
    fn make_room(&mut self, more: usize) -> io::Result<()> {
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        while self.bytes().saturating_add(more) > self.size {
            if !self.give_up_oldest(false) && !self.give_up_oldest(true) {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "the ring is too small"));
            }
        }
        Ok(())
    }

    /// Writes to the open segment. What was written in part is taken back.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.make_room(bytes.len())?;
        loop {
            let Some((file, segment)) = self.file.as_mut().zip(self.segments.last_mut()) else {
                return Err(io::Error::other("a new segment could not be begun"));
            };
            match file.write_all(bytes) {
                Ok(()) => {
                    segment.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    return Ok(());
                }
                Err(error) => {
                    // Where that fails as well a reader passes over a torn record.
                    let _torn = file.set_len(segment.bytes);
                    let _torn = file.seek(SeekFrom::Start(segment.bytes));
                    // Others need the disk as well: the newest past is worth more than the oldest.
                    if error.kind() != io::ErrorKind::StorageFull || !self.give_up_oldest(false) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Ends the open segment and begins another one.
    fn begin(&mut self, at: Instant) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            // Without it a power failure would take more.
            let _lost = file.sync_data();
        }
        let number = self.segments.last().map_or(0, |last| last.number.saturating_add(1));
        let begun_ms = wall_ms(at);
        let is_pinned = begun_ms <= self.pin_until_ms;
        let segment = Segment { number, begun_ms, is_pinned, bytes: 0 };
        let path = segment.path(&self.folder);
        let create = || OpenOptions::new().write(true).create_new(true).open(&path);
        let file = match create() {
            Err(error)
                if error.kind() == io::ErrorKind::StorageFull && self.give_up_oldest(false) =>
            {
                create()?
            }
            created => created?,
        };
        self.file = Some(file);
        self.segments.push(segment);
        self.limit_pins();
        Ok(())
    }

    fn set_pinned(&mut self, index: usize, is_pinned: bool) {
        let Some(segment) = self.segments.get_mut(index) else { return };
        let from = segment.path(&self.folder);
        let to = Segment { is_pinned, ..segment.clone() }.path(&self.folder);
        match fs::rename(from, to) {
            Ok(()) => segment.is_pinned = is_pinned,
            Err(error) => tracing::warn!(%error, number = segment.number, "pinning has failed"),
        }
    }

    /// Lets the oldest pins go while they take too much of the ring.
    fn limit_pins(&mut self) {
        let pinned = |segment: &&Segment| segment.is_pinned;
        loop {
            let bytes: u64 = self.segments.iter().filter(pinned).map(|segment| segment.bytes).sum();
            let oldest = self.closed().iter().position(|segment| segment.is_pinned);
            let Some(index) = oldest.filter(|_| bytes > self.size / PINNED_PART) else { return };
            self.set_pinned(index, false);
            if self.segments.get(index).is_some_and(|segment| segment.is_pinned) {
                return;
            }
            tracing::info!("incidents take half of the recording; the oldest segment is let go");
        }
    }

    /// Returns whether the next state begins a new segment.
    fn is_full(&self) -> bool {
        let last = self.segments.last().filter(|_| self.file.is_some());
        last.is_none_or(|last| last.bytes >= self.segment_bytes())
    }

    fn write_piece(&mut self, piece: Piece<'_>) -> io::Result<u64> {
        let Some(Start { offset, records, at, begins_segment }) = piece.start else {
            if self.waits_for_state {
                return Ok(piece.records);
            }
            return self.append(piece.bytes).map(|()| 0);
        };
        let (before, behind) = piece.bytes.split_at_checked(offset).unwrap_or((&[], piece.bytes));
        if !self.waits_for_state {
            self.append(before)?;
        }
        if self.is_full() || begins_segment {
            self.begin(at)?;
        }
        self.append(behind)?;
        let was_waiting = std::mem::take(&mut self.waits_for_state);
        Ok(if was_waiting { records } else { 0 })
    }
}

impl Target for Ring {
    fn write(&mut self, piece: Piece<'_>) -> io::Result<Taken> {
        let written = self.write_piece(piece);
        self.waits_for_state |= written.is_err();
        self.note();
        let wants_state = self.waits_for_state || self.is_full();
        written.map(|left_out| Taken { left_out, wants_state })
    }

    fn mark(&mut self, at: Instant) {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let at_ms = wall_ms(at);
        let from_ms = at_ms.saturating_sub(millis(PIN_BEFORE));
        self.pin_until_ms = at_ms.saturating_add(millis(PIN_AFTER));
        // A segment reaches as far as the next one begins.
        let ends = self.segments.iter().skip(1).map(|next| next.begun_ms).chain([u64::MAX]);
        let touched: Vec<usize> = self
            .segments
            .iter()
            .zip(ends)
            .enumerate()
            .filter(|(_, (segment, end_ms))| !segment.is_pinned && *end_ms >= from_ms)
            .map(|(index, _)| index)
            .collect();
        for index in touched {
            self.set_pinned(index, true);
        }
        self.limit_pins();
        if let Some(file) = &self.file {
            let _lost = file.sync_data();
        }
        self.note();
    }
}

/// Returns a moment of the monotonic clock in ms since 1970.
fn wall_ms(at: Instant) -> u64 {
    let (monotonic_ns, wall_ns) = clock::both_nanos();
    let ago_ns = i128::from(monotonic_ns) - i128::from(at.as_micros()) * 1000;
    u64::try_from((wall_ns - ago_ns) / 1_000_000).unwrap_or_default()
}

/// Returns a size as people write it, in MB of 10^6 bytes.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// Returns a segment's beginning as people write it, in UTC.
#[must_use]
pub fn show_begun(segment: &Segment) -> String {
    let begun = std::time::UNIX_EPOCH + Duration::from_millis(segment.begun_ms);
    humantime::format_rfc3339_seconds(begun).to_string()
}

/// Returns the segments of a folder for people.
///
/// # Errors
///
/// When the folder cannot be read.
pub fn describe(folder: &Path) -> io::Result<String> {
    let segments = list(folder)?;
    let bytes = segments.iter().map(|segment| segment.bytes).sum();
    let pinned = segments.iter().filter(|segment| segment.is_pinned).count();
    let mut text = format!(
        "{}: {} segments, {}, {pinned} pinned\n",
        folder.display(),
        segments.len(),
        show_bytes(bytes)
    );
    for segment in &segments {
        let pinned = if segment.is_pinned { "  pinned" } else { "" };
        let (begun, size) = (show_begun(segment), show_bytes(segment.bytes));
        text.push_str(&format!("  {:>6}  {begun}  {size:>9}{pinned}\n", segment.number));
    }
    Ok(text)
}
