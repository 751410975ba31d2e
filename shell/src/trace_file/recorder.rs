//! Writing a recording: the tick encodes into memory, a thread takes it to the disk.
//!
//! What the thread writes to is a [`Target`]: a file, or the ring of the flight recorder.
//!
//! A few chunks of memory go round: one is filled by the tick, full ones wait for the disk, empty
//! ones come back. Without an empty one the tick goes on filling; when there is no room left, it
//! drops records and counts them, and begins again with a state record.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use embassy_time::Instant;
use wanctl_core::config::Config;
use wanctl_core::controller::Controller;
use wanctl_core::fixed::ticks_covering;
use wanctl_core::outputs::Outputs;
use wanctl_core::tick::Tick;
use wanctl_core::trace::{self, BufferTooSmall, MAX_STATE_BYTES, STATE_INTERVAL};

use super::ring::{FlightConfig, Ring, RingStats};
use super::target::{Piece, Plain, Start, Taken, Target};
use crate::clock;

/// Bytes of one chunk: minutes of ticks of two WANs.
const CHUNK_BYTES: usize = 2 * MAX_STATE_BYTES;
/// Chunks that go round.
const CHUNKS: usize = 4;
/// Time between two states that the disk asks for.
const WISH_INTERVAL: embassy_time::Duration = embassy_time::Duration::from_secs(1);
/// How long the end may wait for the disk.
const FINISH_TIMEOUT: Duration = Duration::from_millis(80);

/// Memory for encoded records.
struct Chunk {
    bytes: Box<[u8]>,
    used: usize,
    records: u64,
    /// Where a reader can begin: the first place, or the last one that must begin a segment.
    start: Option<Start>,
}

impl Chunk {
    fn new() -> Self {
        Self { bytes: vec![0; CHUNK_BYTES].into_boxed_slice(), used: 0, records: 0, start: None }
    }

    fn clear(&mut self) {
        (self.used, self.records, self.start) = (0, 0, None);
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
pub(super) struct Shared {
    written: AtomicU64,
    lost: AtomicU64,
    /// Records are being lost, which has been told.
    is_losing: AtomicBool,
    /// The thread asks for a state: the disk has refused records, or a segment is full.
    wants_state: AtomicBool,
    /// When the latest incident was marked that the thread has not seen yet, in µs, or 0.
    marked_us: AtomicU64,
    /// What is in the ring, if it is one.
    ring: Arc<RingStats>,
}

impl Shared {
    fn lose(&self, records: u64, why: &dyn fmt::Display) {
        self.lost.fetch_add(records, Ordering::Relaxed);
        if !self.is_losing.swap(true, Ordering::Relaxed) {
            tracing::warn!("the recording has gaps: {why}");
        }
    }

    fn keep(&self, records: u64) {
        self.written.fetch_add(records, Ordering::Relaxed);
        if self.is_losing.swap(false, Ordering::Relaxed) {
            let lost = self.lost.load(Ordering::Relaxed);
            tracing::info!("the recording goes on; {lost} records lost so far");
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

/// How a recorder is doing, for everybody who watches.
#[derive(Debug, Clone)]
pub struct RecorderView(Arc<Shared>);

impl RecorderView {
    /// Returns what became of the records so far.
    #[must_use]
    pub fn report(&self) -> RecorderReport {
        self.0.report()
    }

    /// Returns whether records are being lost now.
    #[must_use]
    pub fn is_losing(&self) -> bool {
        self.0.is_losing.load(Ordering::Relaxed)
    }

    /// Returns what is in the ring.
    #[must_use]
    pub fn ring(&self) -> &RingStats {
        &self.0.ring
    }
}

/// Takes every tick to the disk, without ever waiting for it.
pub struct Recorder {
    config: Config,
    state_ticks: u64,
    needs_state: bool,
    wish_due: Instant,
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
        let mut recorder = Self::start_on(Plain::open(path)?, Arc::default(), config)?;
        recorder.begin(controller, clock::now());
        Ok(recorder)
    }

    /// Goes on with the ring of segments in a folder, which is made if necessary. Nothing is recorded
    /// before [`Self::begin`] or [`Self::reconfigure`].
    ///
    /// # Errors
    ///
    /// When the folder cannot be made, read or written to.
    pub fn start_ring(flight: &FlightConfig, config: &Config) -> io::Result<Self> {
        let stats = Arc::new(RingStats::default());
        let ring = Ring::open(flight, Arc::clone(&stats))?;
        Self::start_on(ring, stats, config)
    }

    /// Records to anything; the seam for tests.
    pub(super) fn start_on(
        target: impl Target,
        ring: Arc<RingStats>,
        config: &Config,
    ) -> io::Result<Self> {
        let (full, incoming) = sync_channel(CHUNKS);
        let (outgoing, empty) = sync_channel(CHUNKS);
        let (ending, ended) = sync_channel(1);
        for _ in 1..CHUNKS {
            outgoing.try_send(Chunk::new()).map_err(|_| io::ErrorKind::Other)?;
        }
        let shared = Arc::new(Shared { ring, ..Shared::default() });
        let shared2 = Arc::clone(&shared);
        std::thread::Builder::new().name("record".to_owned()).spawn(move || {
            write_all(target, &incoming, &outgoing, &shared2);
            // Nobody waits any more when the daemon was in a hurry.
            let _late = ending.send(());
        })?;
        let state_ticks = u64::from(ticks_covering(STATE_INTERVAL, config.tick));
        let (config, chunk) = (config.clone(), Chunk::new());
        let wish_due = Instant::MIN;
        let needs_state = true;
        Ok(Self { config, state_ticks, needs_state, wish_due, chunk, empty, full, ended, shared })
    }

    /// Begins with a controller before its next step.
    pub fn begin(&mut self, controller: &Controller, now: Instant) {
        self.add_state(controller, now, false);
        self.hand_over();
    }

    /// Goes on in a new segment with another controller, before its first step.
    pub fn reconfigure(&mut self, config: &Config, controller: &Controller, now: Instant) {
        self.config.clone_from(config);
        self.state_ticks = u64::from(ticks_covering(STATE_INTERVAL, config.tick));
        self.add_state(controller, now, true);
        self.hand_over();
    }

    /// Notes that an incident was marked at this time: its segments are kept.
    pub fn mark(&self, now: Instant) {
        self.shared.marked_us.store(now.as_micros().max(1), Ordering::Relaxed);
    }

    /// Returns what others may see.
    #[must_use]
    pub fn view(&self) -> RecorderView {
        RecorderView(Arc::clone(&self.shared))
    }

    /// Records one step; `controller` is as the step has left it. Never waits.
    pub fn step(&mut self, tick: &Tick, outputs: &Outputs, controller: &Controller) {
        let seq = controller.ticks().saturating_sub(1);
        if self.chunk.add(|buffer| trace::encode_step(seq, tick, outputs, buffer)).is_err() {
            self.needs_state = true;
            self.shared.lose(1, &"the disk is too slow");
        }
        let is_due = controller.ticks().is_multiple_of(self.state_ticks);
        if is_due || self.needs_state || self.takes_wish(tick.now) {
            self.add_state(controller, tick.now, false);
        }
        self.hand_over();
    }

    /// Returns whether the thread asks for a state, and it is time for one: a state is as long as a
    /// hundred steps, too long to be tried with every step while a disk is full.
    fn takes_wish(&mut self, now: Instant) -> bool {
        let takes = now >= self.wish_due && self.shared.wants_state.swap(false, Ordering::Relaxed);
        if takes {
            self.wish_due = now.checked_add(WISH_INTERVAL).unwrap_or(Instant::MAX);
        }
        takes
    }

    /// Adds header and state, or notes that they are missing.
    fn add_state(&mut self, controller: &Controller, now: Instant, begins_segment: bool) {
        let (used, records) = (self.chunk.used, self.chunk.records);
        let added = self
            .chunk
            .add(|buffer| trace::encode_header(&self.config, buffer))
            .and_then(|()| self.chunk.add(|buffer| trace::encode_state(controller, buffer)));
        self.needs_state = added.is_err();
        if self.needs_state {
            (self.chunk.used, self.chunk.records) = (used, records);
        } else if begins_segment || self.chunk.start.is_none() {
            self.chunk.start = Some(Start { offset: used, records, at: now, begins_segment });
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
        let nothing = Chunk { bytes: Box::default(), used: 0, records: 0, start: None };
        let last = std::mem::replace(&mut self.chunk, nothing);
        self.send(last);
        // The thread ends when nobody can send any more.
        self.full = sync_channel(1).0;
        self.ended.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }
}

fn write_all(
    mut target: impl Target,
    full: &Receiver<Chunk>,
    empty: &SyncSender<Chunk>,
    shared: &Shared,
) {
    for mut chunk in full {
        let Chunk { used, records, start, .. } = chunk;
        match target.write(Piece { bytes: &chunk.bytes[..used], records, start }) {
            Ok(Taken { left_out, wants_state }) => {
                shared.lost.fetch_add(left_out, Ordering::Relaxed);
                match records.saturating_sub(left_out) {
                    0 => {}
                    kept => shared.keep(kept),
                }
                if wants_state {
                    shared.wants_state.store(true, Ordering::Relaxed);
                }
            }
            Err(error) => {
                shared.wants_state.store(true, Ordering::Relaxed);
                shared.lose(records, &error);
            }
        }
        match shared.marked_us.swap(0, Ordering::Relaxed) {
            0 => {}
            micros => target.mark(Instant::from_micros(micros)),
        }
        chunk.clear();
        // The daemon may have stopped waiting for chunks.
        let _unwanted = empty.try_send(chunk);
    }
}
