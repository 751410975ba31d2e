//! Taking a part of the ring out, as one recording that begins with a state.

use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use wanctl_core::trace::{self, Record};

use super::segment::{Segment, list};

/// The longest time between two steps that counts as recorded; a longer one is a gap.
const STEP_MAX_US: u64 = 2_000_000;

/// Which part of the ring is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Everything.
    All,
    /// So much recorded time up to the end, or a little more: up to the state in front of it.
    Last(Duration),
    /// The segments with these numbers.
    Segments(std::ops::RangeInclusive<u64>),
}

/// What was taken out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Segments it came from.
    pub segments: u64,
    /// Steps.
    pub steps: u64,
    /// Recorded time, gaps not counted, in µs.
    pub recorded_us: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Places that were not an intact record, such as a torn end.
    pub damaged: u64,
}

/// One intact record of a segment.
struct Frame {
    /// Its bytes without the zero bytes around them.
    place: Range<usize>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Header,
    /// A header of another format: nothing up to the next header can be read.
    OtherHeader,
    State,
    /// With the time of its tick, in µs.
    Step(u64),
}

/// A segment in memory.
struct Opened {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
    damaged: u64,
}

/// Writes a part of the ring in a folder to `out`, whether a daemon records there or not.
///
/// Nothing of a daemon is needed: what it has recorded is in the files at the latest one step later.
///
/// # Errors
///
/// When the folder cannot be read, `out` cannot be written, or nothing of the part is recorded.
pub fn export(folder: &Path, selection: &Selection, out: &mut impl Write) -> io::Result<Exported> {
    let mut segments = list(folder)?;
    let mut skip = 0;
    match selection {
        Selection::All => {}
        Selection::Segments(numbers) => segments.retain(|it| numbers.contains(&it.number)),
        Selection::Last(wanted) => {
            let wanted_us = u64::try_from(wanted.as_micros()).unwrap_or(u64::MAX);
            let (first, place) = find_beginning(folder, &segments, wanted_us)?;
            segments.drain(..first);
            skip = place;
        }
    }
    let mut exported = Exported::default();
    for segment in &segments {
        // Segments that were overwritten meanwhile are the oldest; the rest is whole.
        if let Some(opened) = open(folder, segment)? {
            copy(&opened, std::mem::take(&mut skip), &mut exported, out)?;
        }
    }
    if exported.steps == 0 {
        let message = format!("nothing of that is recorded in {}", folder.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    out.flush()?;
    Ok(exported)
}

/// Returns the segment to begin with, and the place of the header in it.
fn find_beginning(
    folder: &Path,
    segments: &[Segment],
    wanted_us: u64,
) -> io::Result<(usize, usize)> {
    let mut left_us = wanted_us;
    for (index, segment) in segments.iter().enumerate().rev() {
        let Some(opened) = open(folder, segment)? else { return Ok((index, 0)) };
        let mut beginning = None;
        let mut later = None;
        let mut behind_us = 0_u64;
        for (at, frame) in opened.frames.iter().enumerate().rev() {
            match frame.kind {
                Kind::Step(now_us) => {
                    behind_us = behind_us.saturating_add(passed(now_us, later));
                    later = Some(now_us);
                }
                Kind::Header if opened.begins_at(at) => {
                    beginning = Some(frame.place.start);
                    if behind_us >= left_us {
                        break;
                    }
                }
                Kind::Header | Kind::OtherHeader | Kind::State => {}
            }
        }
        left_us = left_us.saturating_sub(behind_us);
        if left_us == 0 || index == 0 {
            return Ok((index, beginning.unwrap_or_default()));
        }
    }
    Ok((0, 0))
}

/// Returns the recorded time between a step and the next one.
fn passed(now_us: u64, later_us: Option<u64>) -> u64 {
    let gap = later_us.and_then(|later| later.checked_sub(now_us));
    gap.filter(|gap| *gap <= STEP_MAX_US).unwrap_or_default()
}

impl Opened {
    /// Returns whether a reader can begin with this frame: a header with a state behind it.
    fn begins_at(&self, index: usize) -> bool {
        let kind = |index: usize| self.frames.get(index).map(|frame| frame.kind);
        kind(index) == Some(Kind::Header) && kind(index + 1) == Some(Kind::State)
    }
}

/// Copies the intact records behind a place, from the first beginning on.
fn copy(
    opened: &Opened,
    skip: usize,
    exported: &mut Exported,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut has_begun = false;
    let mut last_us = None;
    for (index, frame) in opened.frames.iter().enumerate() {
        match frame.kind {
            Kind::OtherHeader => has_begun = false,
            _ => has_begun |= frame.place.start >= skip && opened.begins_at(index),
        }
        if !has_begun {
            continue;
        }
        if let Kind::Step(now_us) = frame.kind {
            exported.steps += 1;
            exported.recorded_us += last_us.map_or(0, |last_us| passed(last_us, Some(now_us)));
            last_us = Some(now_us);
        }
        let bytes = opened.bytes.get(frame.place.clone()).unwrap_or_default();
        for part in [&[0], bytes, &[0]] {
            out.write_all(part)?;
            exported.bytes += u64::try_from(part.len()).unwrap_or_default();
        }
    }
    exported.segments += u64::from(has_begun);
    exported.damaged += opened.damaged;
    Ok(())
}

/// Reads a segment; `None` if it is gone. They are short enough for the memory of any host.
fn open(folder: &Path, segment: &Segment) -> io::Result<Option<Opened>> {
    let pinned = |is_pinned| Segment { is_pinned, ..segment.clone() }.path(folder);
    // It may have been pinned, or let go, since the folder was read.
    let read = fs::read(pinned(segment.is_pinned));
    let bytes = match read.or_else(|_| fs::read(pinned(!segment.is_pinned))) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut frames, mut damaged) = (Vec::new(), 0);
    let mut begin = 0;
    let mut scratch = Vec::new();
    for piece in bytes.split(|byte| *byte == 0) {
        let place = begin..begin + piece.len();
        begin = place.end + 1;
        if piece.is_empty() {
            continue;
        }
        scratch.clear();
        scratch.extend_from_slice(piece);
        match kind_of(&mut scratch) {
            Some(kind) => frames.push(Frame { place, kind }),
            None => damaged += 1,
        }
    }
    Ok(Some(Opened { bytes, frames, damaged }))
}

fn kind_of(frame: &mut [u8]) -> Option<Kind> {
    match trace::parse(trace::open(frame).ok()?).ok()? {
        Record::Header(_) => Some(Kind::Header),
        Record::OtherFormat(_) => Some(Kind::OtherHeader),
        Record::State { .. } => Some(Kind::State),
        Record::Step { body, .. } => {
            trace::tick_time(body).ok().map(|at| Kind::Step(at.as_micros()))
        }
    }
}
