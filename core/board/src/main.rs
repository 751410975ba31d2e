//! The control core on a Cortex-M: a recording goes in over semihosting, outputs come back.
//!
//! The tick runs in an exception of its own (PendSV, where a product would use its timer), the
//! rest in `main`. They hand one [`Desk`] to and fro and share a [`SharedSnapshot`] through a
//! critical section. `cargo xtask board` builds this, runs it in QEMU and checks what came out.

#![no_std]
#![no_main]

mod desk;
#[cfg(feature = "everything")]
mod everything;
mod frames;
mod host;
#[cfg(feature = "log")]
mod log;
mod meter;
mod panic;
mod replay;
mod stack;

use cortex_m_rt::{ExceptionFrame, entry, exception};
use wanctl_core::snapshot::SharedSnapshot;

use crate::desk::{Desk, Handover};
use crate::meter::Meter;
use crate::replay::{FRAME_BYTES, Replay};

/// How many WANs this image serves.
const WANS: usize = include!(concat!(env!("OUT_DIR"), "/wans.rs"));

/// One WAN has nothing to steer to. An image that starts from states reads what hosts have written.
const STEERINGS: usize = if WANS > 1 || cfg!(feature = "resume") { 1 } else { 0 };

/// From `main` to the tick.
static INBOX: Handover = Handover::new();
/// From the tick back to `main`.
static OUTBOX: Handover = Handover::new();
/// What observers may see at any time.
static SNAPSHOT: SharedSnapshot = SharedSnapshot::new();

#[entry]
fn main() -> ! {
    static mut DESK: Desk = Desk::new();
    static mut REPLAY: Replay = Replay::new();
    static mut FRAME: [u8; FRAME_BYTES] = [0; FRAME_BYTES];
    let ending = match cortex_m::Peripherals::take() {
        Some(peripherals) => {
            DESK.meter = Some(Meter::new(peripherals.SYST));
            #[cfg(feature = "everything")]
            everything::reach(DESK, FRAME);
            replay::run(REPLAY, DESK, FRAME)
        }
        None => Err("the peripherals are taken"),
    };
    match ending {
        Ok(()) => host::succeed(),
        Err(why) => host::fail(why),
    }
}

unsafe extern "C" {
    fn DefaultHandler();
}

/// The interrupts of the mps2 boards, none of which is used. Without this table there are 240.
#[used]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".vector_table.interrupts")]
static __INTERRUPTS: [unsafe extern "C" fn(); 32] = [DefaultHandler; 32];

/// The tick.
#[exception]
fn PendSV() {
    if let Some(desk) = INBOX.take() {
        desk.step();
        desk.publish();
        OUTBOX.put(desk);
    }
}

#[exception]
unsafe fn HardFault(_frame: &ExceptionFrame) -> ! {
    host::fail("hard fault")
}
