//! One file of the ring and its name: `NUMBER-BEGUN.trace`, or `NUMBER-BEGUN-pinned.trace`.

use std::io;
use std::path::{Path, PathBuf};

/// The end of every segment's name.
const SUFFIX: &str = ".trace";
/// Stands before it when the segment belongs to an incident.
const PINNED: &str = "-pinned";

/// A segment on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Counts up from segment to segment, over restarts as well.
    pub number: u64,
    /// When it was begun, in ms since 1970.
    pub begun_ms: u64,
    /// Whether it belongs to an incident and stays when others are overwritten.
    pub is_pinned: bool,
    /// Its length.
    pub bytes: u64,
}

impl Segment {
    /// Returns its path in the ring's folder.
    #[must_use]
    pub fn path(&self, folder: &Path) -> PathBuf {
        let Self { number, begun_ms, is_pinned, .. } = self;
        let pinned = if *is_pinned { PINNED } else { "" };
        folder.join(format!("{number:08}-{begun_ms}{pinned}{SUFFIX}"))
    }

    /// Reads a name; other files are left alone.
    fn parse(name: &str, bytes: u64) -> Option<Self> {
        let stem = name.strip_suffix(SUFFIX)?;
        let (stem, is_pinned) =
            stem.strip_suffix(PINNED).map_or((stem, false), |stem| (stem, true));
        let (number, begun) = stem.split_once('-')?;
        let (number, begun_ms) = (number.parse().ok()?, begun.parse().ok()?);
        Some(Self { number, begun_ms, is_pinned, bytes })
    }
}

/// Returns the segments of a folder, oldest first.
///
/// # Errors
///
/// When the folder cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        // A segment may be overwritten meanwhile.
        let Ok(metadata) = entry.metadata() else { continue };
        let segment = Segment::parse(&entry.file_name().to_string_lossy(), metadata.len());
        segments.extend(segment.filter(|_| metadata.is_file()));
    }
    segments.sort_by_key(|segment| (segment.number, segment.begun_ms));
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_strangers_are_left_alone() {
        for is_pinned in [false, true] {
            let segment = Segment { number: 7, begun_ms: 1_700_000_000_123, is_pinned, bytes: 9 };
            let path = segment.path(Path::new("ring"));
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(Segment::parse(name, 9), Some(segment));
        }
        for name in ["7.trace", "7-x.trace", "7-8.tmp", "notes.trace", "7-8-held.trace", ""] {
            assert_eq!(Segment::parse(name, 9), None, "{name}");
        }
    }
}
