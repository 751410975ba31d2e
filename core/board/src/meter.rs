//! Counting instructions: with `-icount shift=10` QEMU spends 1024 ns on each, and SysTick runs at
//! 25 MHz on the mps2 boards, so it counts 25.6 per instruction. `cargo xtask board` divides.

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;

/// SysTick has 24 bits: 655,000 instructions.
const MASK: u32 = 0x00ff_ffff;

/// Lets SysTick run round and round.
pub(crate) fn start(mut timer: SYST) {
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(MASK);
    timer.clear_current();
    timer.enable_counter();
}

/// Returns the count, which goes down.
pub(crate) fn now() -> u32 {
    SYST::get_current()
}

/// Returns what has passed since `begin`.
pub(crate) fn since(begin: u32) -> u32 {
    begin.wrapping_sub(now()) & MASK
}
