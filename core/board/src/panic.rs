//! The proof that nothing can panic: the handler needs a symbol that does not exist, so an image
//! in which a panic can be reached does not link.

use core::panic::PanicInfo;

unsafe extern "C" {
    /// Defined nowhere, unless `cargo xtask board` wants to see who calls it.
    fn wanctl_a_panic_can_be_reached() -> !;
}

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    // SAFETY: this never runs, because it does not link.
    unsafe { wanctl_a_panic_can_be_reached() }
}
