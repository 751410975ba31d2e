//! The log: defmt frames into a file of the host. `cargo xtask board` decodes them.

use core::cell::{Cell, UnsafeCell};

use critical_section::{Mutex, RestoreState};
use defmt::Encoder;
use embassy_time::Instant;

use crate::host::{Failure, Writer};

/// Time of the tick that is being worked on.
static NOW: Mutex<Cell<Instant>> = Mutex::new(Cell::new(Instant::from_ticks(0)));

defmt::timestamp!(
    "{=u64:us}",
    critical_section::with(|section| NOW.borrow(section).get()).as_micros()
);

/// Stamps the lines from now on with the time of a tick.
pub(crate) fn set_time(now: Instant) {
    critical_section::with(|section| NOW.borrow(section).set(now));
}

/// What the logger needs. Everything in here is touched inside critical sections only.
struct Inner {
    encoder: UnsafeCell<Encoder>,
    writer: UnsafeCell<Writer>,
    is_open: Cell<bool>,
    restore: Cell<RestoreState>,
}

// SAFETY: see `Inner`; there is one core.
unsafe impl Sync for Inner {}

static INNER: Inner = Inner {
    encoder: UnsafeCell::new(Encoder::new()),
    writer: UnsafeCell::new(Writer::new()),
    is_open: Cell::new(false),
    restore: Cell::new(RestoreState::invalid()),
};

/// Opens the file. Lines before that are lost.
pub(crate) fn start() -> Result<(), Failure> {
    critical_section::with(|_| {
        // SAFETY: the reference ends with this critical section.
        unsafe { &mut *INNER.writer.get() }.create(c"log")?;
        INNER.is_open.set(true);
        Ok(())
    })
}

/// Writes what is left in memory.
pub(crate) fn finish() -> Result<(), Failure> {
    // SAFETY: the reference ends with this critical section.
    critical_section::with(|_| unsafe { &mut *INNER.writer.get() }.flush())
}

fn put(bytes: &[u8]) {
    if INNER.is_open.get() {
        // The log is best effort; a full disk shows in the outputs.
        // SAFETY: only the logger calls this, between `acquire` and `release`.
        let _full = unsafe { &mut *INNER.writer.get() }.write(bytes);
    }
}

#[defmt::global_logger]
struct Logger;

// SAFETY: a critical section lasts from `acquire` to `release`, and nothing in between logs.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        // SAFETY: `release` hands the same state back.
        let state = unsafe { critical_section::acquire() };
        INNER.restore.set(state);
        // SAFETY: inside the critical section.
        unsafe { &mut *INNER.encoder.get() }.start_frame(put);
    }

    unsafe fn flush() {}

    unsafe fn release() {
        // SAFETY: inside the critical section, until its end below.
        unsafe {
            (*INNER.encoder.get()).end_frame(put);
            critical_section::release(INNER.restore.get());
        }
    }

    unsafe fn write(bytes: &[u8]) {
        // SAFETY: inside the critical section.
        unsafe { &mut *INNER.encoder.get() }.write(bytes, put);
    }
}
