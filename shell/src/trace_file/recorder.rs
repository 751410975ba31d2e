//! Writing a recording: the tick encodes into memory, a thread takes it to the disk.
//!
//! A few chunks of memory go round: one is filled by the tick, full ones wait for the disk, empty
//! ones come back. Without an empty one the tick goes on filling; when there is no room left, it
//! drops records and counts them, and begins again with a state record.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use wanctl_core::config::Config;
use wanctl_core::controller::Controller;
use wanctl_core::fixed::ticks_covering;
use wanctl_core::outputs::Outputs;
use wanctl_core::tick::Tick;
use wanctl_core::trace::{self, BufferTooSmall, MAGIC, MAX_STATE_BYTES, STATE_INTERVAL};

/// Bytes of one chunk: minutes of ticks of two WANs.
const CHUNK_BYTES: usize = 2 * MAX_STATE_BYTES;
/// Chunks that go round.
const CHUNKS: usize = 4;
/// How long the end may wait for the disk.
const FINISH_TIMEOUT: Duration = Duration::from_millis(80);
/// A recording has its magic within so many bytes.
const HEAD_BYTES: u64 = 64;

/// Memory for encoded records.
struct Chunk {
    bytes: Box<[u8]>,
    used: usize,
    records: u64,
}

impl Chunk {
    fn new() -> Self {
        Self { bytes: vec![0; CHUNK_BYTES].into_boxed_slice(), used: 0, records: 0 }
    }

    fn clear(&mut self) {
        (self.used, self.records) = (0, 0);
    }

    /// Adds the frame that `encode` makes, or nothing.
    fn add(
        &mut self,
        encode: impl FnOnce(&mut [u8]) -> Result<&mut [u8], BufferTooSmall>,
    ) -> Result<(), BufferTooSmall> {
        self.used += encode(&mut self.bytes[self.used..])?.len();
        self.records += 1;
        Ok(())
    }
}

/// What both threads know.
#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    lost: AtomicU64,
    /// The disk has refused records since the tick last looked.
    has_failed: AtomicBool,
}

impl Shared {
    fn lose(&self, records: u64, why: &dyn fmt::Display) {
        if self.lost.fetch_add(records, Ordering::Relaxed) == 0 {
            tracing::warn!("the recording has gaps: {why}");
        }
    }

    fn report(&self) -> RecorderReport {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RecorderReport { written: load(&self.written), lost: load(&self.lost) }
    }
}

/// What became of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecorderReport {
    /// Records on the disk.
    pub written: u64,
    /// Records that the disk was too slow for, or did not take.
    pub lost: u64,
}

impl fmt::Display for RecorderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records written, {} lost", self.written, self.lost)
    }
}

/// Takes every tick to a file, without ever waiting for it.
pub struct Recorder {
    config: Config,
    state_ticks: u64,
    needs_state: bool,
    chunk: Chunk,
    empty: Receiver<Chunk>,
    full: SyncSender<Chunk>,
    ended: Receiver<()>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Opens the file, behind what an earlier run has recorded there, and starts the thread.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or holds something else than a recording.
    pub fn start(path: &Path, config: &Config, controller: &Controller) -> io::Result<Self> {
        Self::start_on(open(path)?, config, controller)
    }

    /// Records to anything; the seam for tests.
    pub(super) fn start_on(
        target: impl Write + Send + 'static,
        config: &Config,
        controller: &Controller,
    ) -> io::Result<Self> {
        let (full, incoming) = sync_channel(CHUNKS);
        let (outgoing, empty) = sync_channel(CHUNKS);
        let (ending, ended) = sync_channel(1);
        for _ in 1..CHUNKS {
            outgoing.try_send(Chunk::new()).map_err(|_| io::ErrorKind::Other)?;
        }
        let shared = Arc::new(Shared::default());
        let shared2 = Arc::clone(&shared);
        std::thread::Builder::new().name("record".to_owned()).spawn(move || {
            write_all(target, &incoming, &outgoing, &shared2);
            // Nobody waits any more when the daemon was in a hurry.
            let _late = ending.send(());
        })?;
        let state_ticks = u64::from(ticks_covering(STATE_INTERVAL, config.tick));
        let (config, chunk) = (config.clone(), Chunk::new());
        let mut recorder =
            Self { config, state_ticks, needs_state: true, chunk, empty, full, ended, shared };
        recorder.add_state(controller);
        recorder.hand_over();
        Ok(recorder)
    }

    /// Records one step; `controller` is as the step has left it. Never waits.
    pub fn step(&mut self, tick: &Tick, outputs: &Outputs, controller: &Controller) {
        let seq = controller.ticks().saturating_sub(1);
        if self.chunk.add(|buffer| trace::encode_step(seq, tick, outputs, buffer)).is_err() {
            self.needs_state = true;
            self.shared.lose(1, &"the disk is too slow");
        }
        let is_due = controller.ticks().is_multiple_of(self.state_ticks);
        if is_due || self.needs_state || self.shared.has_failed.swap(false, Ordering::Relaxed) {
            self.add_state(controller);
        }
        self.hand_over();
    }

    /// Adds header and state, or notes that they are missing.
    fn add_state(&mut self, controller: &Controller) {
        let (used, records) = (self.chunk.used, self.chunk.records);
        let added = self
            .chunk
            .add(|buffer| trace::encode_header(&self.config, buffer))
            .and_then(|()| self.chunk.add(|buffer| trace::encode_state(controller, buffer)));
        self.needs_state = added.is_err();
        if self.needs_state {
            (self.chunk.used, self.chunk.records) = (used, records);
        }
    }

    /// Gives the filled chunk to the disk if an empty one can take its place.
    fn hand_over(&mut self) {
        if let Ok(empty) = self.empty.try_recv() {
            let filled = std::mem::replace(&mut self.chunk, empty);
            self.send(filled);
        }
    }

    fn send(&self, filled: Chunk) {
        // There is room for all chunks, so only a thread that has ended does not take it.
        if let Err(error) = self.full.try_send(filled) {
            let (TrySendError::Full(filled) | TrySendError::Disconnected(filled)) = error;
            self.shared.lose(filled.records, &"the recorder has ended");
        }
    }

    /// Returns how it went so far.
    #[must_use]
    pub fn report(&self) -> RecorderReport {
        self.shared.report()
    }

    /// Returns whether records are being dropped.
    #[cfg(test)]
    pub(super) const fn needs_state(&self) -> bool {
        self.needs_state
    }

    /// Writes what is left and says how it went, without waiting long.
    pub fn finish(mut self) -> RecorderReport {
        if !self.close(FINISH_TIMEOUT) {
            tracing::warn!("the disk takes too long for the end of the recording");
        }
        self.report()
    }

    /// Sends the last chunk; returns whether everything was written in time.
    pub(super) fn close(&mut self, patience: Duration) -> bool {
        let nothing = Chunk { bytes: Box::default(), used: 0, records: 0 };
        let last = std::mem::replace(&mut self.chunk, nothing);
        self.send(last);
        // The thread ends when nobody can send any more.
        self.full = sync_channel(1).0;
        self.ended.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }
}

/// Opens a file to go on with.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut head = Vec::new();
    (&mut file).take(HEAD_BYTES).read_to_end(&mut head)?;
    let is_ours = head.windows(MAGIC.len()).any(|bytes| bytes == MAGIC);
    if head.is_empty() || is_ours {
        Ok(file)
    } else {
        Err(io::Error::other("the file exists and is not a recording"))
    }
}

fn write_all(
    mut target: impl Write,
    full: &Receiver<Chunk>,
    empty: &SyncSender<Chunk>,
    shared: &Shared,
) {
    for mut chunk in full {
        match target.write_all(&chunk.bytes[..chunk.used]) {
            Ok(()) => {
                shared.written.fetch_add(chunk.records, Ordering::Relaxed);
            }
            Err(error) => {
                shared.has_failed.store(true, Ordering::Relaxed);
                shared.lose(chunk.records, &error);
            }
        }
        chunk.clear();
        // The daemon may have stopped waiting for chunks.
        let _unwanted = empty.try_send(chunk);
    }
}
