//! Counting instructions: with `-icount shift=10` QEMU spends 1024 ns on each, and SysTick runs at
//! 25 MHz on the mps2 boards, so it counts 25.6 per instruction. `cargo xtask board` divides.

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;

/// SysTick has 24 bits: 655,000 instructions. More than that is told as this.
const MOST: u32 = 0x00ff_ffff;

/// The counter.
pub(crate) struct Meter(SYST);

impl Meter {
    pub(crate) fn new(mut timer: SYST) -> Self {
        timer.set_clock_source(SystClkSource::Core);
        timer.set_reload(MOST);
        timer.enable_counter();
        Self(timer)
    }

    /// Returns what a piece of work takes, in SysTick's ticks.
    pub(crate) fn measure(&mut self, work: impl FnOnce()) -> u32 {
        self.0.clear_current();
        let begin = SYST::get_current();
        work();
        let end = SYST::get_current();
        if self.0.has_wrapped() { MOST } else { begin.wrapping_sub(end) & MOST }
    }
}
