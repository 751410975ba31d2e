//! The rates that qdiscs had before this program wrote to them, in a file that outlives a crash.
//!
//! A daemon that was killed leaves its own rates in the kernel, and the next one would take them for those
//! of the owner. So before every write the file gets the rate that was found and the one that is about to be
//! written. A qdisc is known again if the kernel has not been started anew, interface index and handle are the
//! same, and its rate is, to the byte, the one that was left. The last counts because a handle proves little:
//! the kernel gives each qdisc the next of 32767 and never the last one again soon, but whoever names the
//! handle (`handle 1:`) gets the same one for a new qdisc, and a rate set by hand keeps it as well.
//!
//! The file is not flushed to the disk: a process that is killed loses nothing that it has handed to the
//! kernel, and what ends the kernel ends the qdiscs.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use wanctl_core::units::BitsPerSecond;

use super::find::Found;

/// The file's name in the `run-dir`.
const NAME: &str = "found-rates";
/// The first line.
const HEADER: &str =
    "wanctl found-rates 1: interface, index, handle, rate found, rates left, in bytes/s";
/// What the kernel makes up at each start.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// A file of ours is shorter: it has at most eight lines of about 150 bytes.
const BYTES_MAX: u64 = 4096;
/// So many rates may be the one the kernel holds: after a failure it can be any of those tried.
const LEFT_MAX: usize = 4;

/// Who asks for the rates that were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A daemon: keeps what it finds, until its orderly end.
    Daemon,
    /// A command that writes once: keeps what a daemon has found, and adds nothing of its own.
    Command,
}

/// What is known of one qdisc. Rates are in bytes per second.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    interface: String,
    /// The index of the interface and the handle of the qdisc.
    id: (u32, u32),
    found: u64,
    /// What it may hold if this program ends now.
    left: Vec<u64>,
    /// Whether the qdisc has been looked at since the start.
    is_met: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Memory {
    /// `None` where nothing can be kept.
    path: Option<PathBuf>,
    boot: String,
    role: Role,
    entries: Vec<Entry>,
    /// Whether the last write of the file has failed.
    is_failing: bool,
}

impl Memory {
    /// Reads what an earlier process has left in a folder. Whatever is wrong with it is a warning.
    pub(super) fn open(folder: &Path, role: Role) -> Self {
        match boot_id() {
            Ok(boot) => Self::of_boot(folder, role, boot),
            Err(error) => {
                tracing::warn!(
                    "{BOOT_ID}: {error}; after a crash the next start takes the rates it finds for those \
                     to put back; hint: in the systemd unit set ProcSubset=all"
                );
                Self::none(role)
            }
        }
    }

    /// Keeps nothing.
    pub(super) const fn none(role: Role) -> Self {
        Self { path: None, boot: String::new(), role, entries: Vec::new(), is_failing: false }
    }

    fn of_boot(folder: &Path, role: Role, boot: String) -> Self {
        let path = folder.join(NAME);
        let entries = match read(&path, &boot) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!("{}: {error}; it is ignored", path.display());
                Vec::new()
            }
        };
        Self { path: Some(path), boot, role, entries, is_failing: false }
    }

    /// Takes note of a qdisc and returns the rate to put back in the end: the one it has, or the one that
    /// was there before this program, or one that was killed, has written to it.
    pub(super) fn meet(&mut self, interface: &str, found: &Found) -> BitsPerSecond {
        let (id, rate) = ((found.interface, found.handle), found.cake.rate_bytes);
        if let Some(entry) = self.entry(interface)
            && entry.id == id
            && entry.left.contains(&rate)
        {
            (entry.left, entry.is_met) = (vec![rate], true);
            return BitsPerSecond::new(entry.found.saturating_mul(8));
        }
        self.entries.retain(|entry| entry.interface != interface);
        if self.role == Role::Daemon {
            let (interface, left) = (interface.to_owned(), Vec::new());
            self.entries.push(Entry { interface, id, found: rate, left, is_met: true });
        }
        found.cake.rate()
    }

    /// Notes that a qdisc was made anew with the rate it had: what was found before still counts.
    pub(super) fn follow(&mut self, interface: &str, id: (u32, u32)) {
        if let Some(entry) = self.entry(interface) {
            entry.id = id;
        }
    }

    /// To be called before a rate is written.
    pub(super) fn before_write(&mut self, interface: &str, rate: BitsPerSecond) {
        let Some(entry) = self.entry(interface) else { return };
        let rate = rate.get() / 8;
        let is_known = entry.left.contains(&rate);
        if !is_known {
            if entry.left.len() >= LEFT_MAX {
                // The first is the last one that was read back.
                entry.left.remove(1);
            }
            entry.left.push(rate);
        }
        if !is_known || self.is_failing {
            self.save();
        }
    }

    /// To be called with the rate that was read back after [`Memory::before_write`].
    pub(super) fn after_write(&mut self, interface: &str, held: BitsPerSecond) {
        let Some(entry) = self.entry(interface) else { return };
        let held = held.get() / 8;
        let is_known = entry.left.contains(&held);
        entry.left = vec![held];
        if !is_known {
            self.save();
        }
    }

    /// Ends in order. The file goes, but for the qdiscs that were not met or are not as they were to be
    /// left: those of `open`.
    pub(super) fn finish(mut self, open: &[String]) {
        if self.role == Role::Daemon {
            self.entries.retain(|entry| !entry.is_met || open.contains(&entry.interface));
            self.save();
        }
    }

    fn entry(&mut self, interface: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.interface == interface)
    }

    fn save(&mut self) {
        let Some(path) = &self.path else { return };
        let saved = write(path, &self.boot, &self.entries);
        let is_first = !std::mem::replace(&mut self.is_failing, saved.is_err());
        if let (Err(error), true) = (saved, is_first) {
            tracing::warn!(
                "the rates that were found cannot be kept in {}: {error}",
                path.display()
            );
        }
    }
}

fn boot_id() -> io::Result<String> {
    let id = fs::read_to_string(BOOT_ID)?;
    Ok(id.trim().to_owned())
}

/// Writes the file by way of a temporary one, or removes it when there is nothing to keep.
fn write(path: &Path, boot: &str, entries: &[Entry]) -> io::Result<()> {
    // Without a rate that was left, no write has been tried.
    let lines: Vec<String> =
        entries.iter().filter(|entry| !entry.left.is_empty()).map(Entry::line).collect();
    if lines.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
    }
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, format!("{HEADER}\n{boot}\n{}\n", lines.join("\n")))?;
    fs::rename(&temporary, path)
}

/// Reads the file; nothing when there is none, or when it is of another start of the kernel.
fn read(path: &Path, boot: &str) -> io::Result<Vec<Entry>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text)?;
    let other = || io::Error::other("this is not a list of rates that wanctl has found");
    // A file that was cut lacks the end of its last line.
    let whole = text.strip_suffix('\n').ok_or_else(other)?;
    let mut lines = whole.lines();
    if lines.next() != Some(HEADER) {
        return Err(other());
    }
    if lines.next().ok_or_else(other)? != boot {
        return Ok(Vec::new());
    }
    let entries: Vec<Entry> = lines.map(Entry::read).collect::<Option<_>>().ok_or_else(other)?;
    // None is ever written without one.
    if entries.is_empty() { Err(other()) } else { Ok(entries) }
}

impl Entry {
    fn line(&self) -> String {
        let Self { interface, id: (index, handle), found, left, .. } = self;
        let left: Vec<String> = left.iter().map(u64::to_string).collect();
        format!("{interface} {index} {:x}: {found} {}", handle >> 16, left.join(" "))
    }

    /// No interface's name has a space.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let interface = words.next().filter(|name| !name.is_empty())?.to_owned();
        let index = words.next()?.parse().ok()?;
        let major = u16::from_str_radix(words.next()?.strip_suffix(':')?, 16).ok()?;
        let found = words.next()?.parse().ok()?;
        let left: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
        let is_known = (1..=LEFT_MAX).contains(&left.len());
        let id = (index, u32::from(major) << 16);
        is_known.then_some(Self { interface, id, found, left, is_met: false })
    }
}

#[cfg(test)]
mod tests;
