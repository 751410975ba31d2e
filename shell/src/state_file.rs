//! The state that survives a restart, in two small files of one folder.
//!
//! The files are written in turn, each by way of a temporary file, so that at every moment one of
//! them is whole. Writing is the work of a thread of its own: a slow disk never delays a tick.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use embassy_time::Instant;
use wanctl_core::controller::Controller;
use wanctl_core::persist::{MAX_SLOT_BYTES, PersistedState, Slot, StateRefusal, checksum};

/// A state older than this says too little about the line of now.
pub const AGE_MAX: Duration = Duration::from_secs(3600);
/// A state this far in the future is still believed: clocks are corrected at boot.
pub const FUTURE_MAX: Duration = Duration::from_secs(60);
/// The state is saved at most this often.
pub const SAVE_INTERVAL: embassy_time::Duration = embassy_time::Duration::from_secs(5);
/// How long the last write may take.
const FINISH_TIMEOUT: Duration = Duration::from_millis(80);
/// The slots' names; the generation decides which is written.
const SLOTS: [&str; 2] = ["state-0", "state-1"];

/// The folder with both slots.
#[derive(Debug, Clone)]
pub struct StateFile {
    folder: PathBuf,
    lines: u32,
}

/// What was found in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundState {
    /// The state of the newer valid slot; nothing when there is no slot at all.
    pub state: Result<Option<PersistedState>, StateRefusal>,
    /// The generation of the next write.
    pub next_generation: u64,
}

impl StateFile {
    /// Opens a folder, and makes it if necessary; `names` are those of the WANs, in order.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or not written to.
    pub fn open(folder: &Path, names: &[&str]) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let probe = folder.join("state.tmp");
        fs::write(&probe, b"")?;
        fs::remove_file(&probe)?;
        Ok(Self { folder: folder.to_path_buf(), lines: checksum(names.join("\n").as_bytes()) })
    }

    /// Reads both slots; the newer valid one counts. `now` is in seconds since 1970.
    #[must_use]
    pub fn read(&self, now: u64) -> FoundState {
        let slots = SLOTS.map(|name| read_slot(&self.folder.join(name)));
        let newest = slots.iter().flatten().flatten().max_by_key(|slot| slot.generation);
        let next_generation = newest.map_or(0, |slot| slot.generation.saturating_add(1));
        let state = match newest {
            Some(slot) => self.judge(slot, now).map(Some),
            // Nothing at all, or nothing but refused slots.
            None => slots
                .iter()
                .try_for_each(|slot| slot.as_ref().map(|_| ()))
                .map_err(|e| *e)
                .map(|()| None),
        };
        FoundState { state, next_generation }
    }

    fn judge(&self, slot: &Slot, now: u64) -> Result<PersistedState, StateRefusal> {
        let oldest = now.saturating_sub(AGE_MAX.as_secs());
        let newest = now.saturating_add(FUTURE_MAX.as_secs());
        if slot.lines != self.lines {
            Err(StateRefusal::OtherConfig)
        } else if !(oldest..=newest).contains(&slot.saved_unix_s) {
            Err(StateRefusal::Age)
        } else {
            Ok(slot.state.clone())
        }
    }

    /// Writes the slot whose turn it is.
    ///
    /// # Errors
    ///
    /// When the disk does not take it; the other slot is as it was.
    pub fn write(&self, state: PersistedState, generation: u64, now: u64) -> io::Result<()> {
        let slot = Slot { generation, saved_unix_s: now, lines: self.lines, state };
        let mut buffer = [0; MAX_SLOT_BYTES];
        let bytes = slot.encode(&mut buffer).map_err(io::Error::other)?;
        let [even, odd] = SLOTS;
        let path = self.folder.join(if generation.is_multiple_of(2) { even } else { odd });
        let temporary = path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.folder)?.sync_all()
    }
}

/// Reads one slot; nothing when there is none.
fn read_slot(path: &Path) -> Result<Option<Slot>, StateRefusal> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err(StateRefusal::Damaged),
    };
    // A slot is short: whatever else it is, it is not read.
    if usize::try_from(length).is_ok_and(|length| length <= MAX_SLOT_BYTES) {
        let bytes = fs::read(path).map_err(|_| StateRefusal::Damaged)?;
        Slot::decode(&bytes).map(Some)
    } else {
        Err(StateRefusal::Damaged)
    }
}

/// Returns the wall-clock time in seconds since 1970.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Hands states to the thread that writes them.
#[derive(Debug)]
pub struct StateSaver {
    states: SyncSender<PersistedState>,
    ended: Receiver<()>,
    saved: Option<PersistedState>,
    due: Instant,
    /// The disk has refused a state since the last one was handed over.
    has_failed: Arc<AtomicBool>,
}

impl StateSaver {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When no thread can be made.
    pub fn start(file: StateFile, next_generation: u64) -> io::Result<Self> {
        // One is being written, one waits for the end.
        let (states, incoming) = sync_channel(2);
        let (ending, ended) = sync_channel(1);
        let has_failed = Arc::new(AtomicBool::new(false));
        let has_failed2 = Arc::clone(&has_failed);
        std::thread::Builder::new().name("state".to_owned()).spawn(move || {
            write_all(&file, next_generation, &incoming, &has_failed2);
            // Nobody waits any more when the daemon was in a hurry.
            let _late = ending.send(());
        })?;
        Ok(Self { states, ended, saved: None, due: Instant::MIN, has_failed })
    }

    /// Saves the state if it has changed and the last time was [`SAVE_INTERVAL`] ago. Never waits.
    pub fn offer(&mut self, now: Instant, controller: &Controller) {
        if now < self.due {
            return;
        }
        self.due = now.checked_add(SAVE_INTERVAL).unwrap_or(Instant::MAX);
        let state = controller.persist();
        let is_new =
            self.has_failed.swap(false, Ordering::Relaxed) || self.saved.as_ref() != Some(&state);
        if is_new && self.states.try_send(state.clone()).is_ok() {
            self.saved = Some(state);
        }
    }

    /// Saves the last state and waits for it, but not for long.
    pub fn finish(self, controller: &Controller) {
        // A full queue holds a state that is hardly older.
        let _full = self.states.try_send(controller.persist());
        drop(self.states);
        if self.ended.recv_timeout(FINISH_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the disk takes too long to save the last state");
        }
    }
}

fn write_all(
    file: &StateFile,
    next_generation: u64,
    states: &Receiver<PersistedState>,
    failure: &AtomicBool,
) {
    let mut has_failed = false;
    for (state, generation) in states.iter().zip(next_generation..) {
        match file.write(state, generation, unix_seconds()) {
            Ok(()) => has_failed = false,
            Err(error) => {
                failure.store(true, Ordering::Relaxed);
                if !std::mem::replace(&mut has_failed, true) {
                    let folder = file.folder.display();
                    tracing::warn!("the state cannot be saved in {folder}: {error}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
