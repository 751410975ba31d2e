//! How much of the stack was ever used. `cortex-m-rt` has painted it before `main`.

use core::ptr;

use cortex_m_rt::STACK_PAINT_VALUE;

unsafe extern "C" {
    static _stack_start: u32;
    static _stack_end: u32;
}

/// Returns the bytes of the high-water mark, or `None` if the stack may have run over its end.
pub(crate) fn high_water() -> Option<u32> {
    let (top, end) = (&raw const _stack_start, &raw const _stack_end);
    let mut lowest = end;
    // SAFETY: the linker script gives the stack the memory between the two symbols, and every word
    // of it has been written, by the painter at least.
    while lowest < top && unsafe { ptr::read_volatile(lowest) } == STACK_PAINT_VALUE {
        lowest = lowest.wrapping_add(1);
    }
    let used = (top as usize).wrapping_sub(lowest as usize);
    if lowest == end { None } else { u32::try_from(used).ok() }
}
