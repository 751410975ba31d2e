//! Calls of whatever the core offers and the replay does not need, so that the proof of the linker
//! covers it. This is built and linked, never run.

use core::hint::black_box;

use wanctl_core::persist::Slot;
use wanctl_core::{example, trace};

use crate::desk::Desk;

/// Reaches as much of the core as possible with values that the compiler cannot guess.
pub(crate) fn reach(desk: &mut Desk, buffer: &mut [u8]) {
    let config = black_box(example::config());
    let seq = desk.controller.ticks();
    let _ = black_box(trace::encode_header(&config, buffer).is_ok());
    let _ = black_box(trace::encode_step(seq, &desk.tick, &desk.outputs, buffer).is_ok());
    let _ = black_box(trace::encode_state(&desk.controller, buffer).is_ok());
    let _ = black_box(trace::state_bytes(&desk.controller, buffer).is_ok());
    if let Ok(controller) = trace::decode_state(buffer) {
        desk.controller = controller;
    }
    if let Ok(outputs) = trace::decode_outputs(buffer) {
        desk.outputs = outputs;
    }
    let state = desk.controller.persist();
    let slot = Slot { generation: seq, saved_unix_s: seq, lines: 0, state };
    let _ = black_box(slot.encode(buffer).is_ok());
    if let Ok(slot) = Slot::decode(buffer) {
        black_box(desk.controller.restore(&slot.state).is_ok());
    }
    black_box(desk.controller.fits(&config));
    #[cfg(feature = "log")]
    defmt::info!("{} {} {} {}", config, desk.tick, desk.outputs, desk.controller.persist());
    #[cfg(feature = "log")]
    defmt::info!("{} {}", desk.controller.snapshot(), desk.controller.figures().as_slice());
}
