//! Files of the host, over semihosting.

use core::ffi::CStr;

use cortex_m::asm;
use cortex_m_semihosting::{debug, nr, syscall, syscall1};

/// `fopen` modes of the semihosting interface.
const READ_BINARY: usize = 1;
const WRITE_BINARY: usize = 5;

/// Why the run cannot go on.
pub(crate) type Failure = &'static str;

/// A file, once it is open.
pub(crate) struct File(usize);

impl File {
    /// No handle that a host gives.
    pub(crate) const fn closed() -> Self {
        Self(0)
    }

    pub(crate) fn open(&mut self, name: &CStr) -> Result<(), Failure> {
        self.open_as(name, READ_BINARY).ok_or("the recording cannot be opened")
    }

    fn create(&mut self, name: &CStr) -> Result<(), Failure> {
        self.open_as(name, WRITE_BINARY).ok_or("an output file cannot be created")
    }

    fn open_as(&mut self, name: &CStr, mode: usize) -> Option<()> {
        // SAFETY: the host reads as many bytes of the name as it is told.
        self.0 = unsafe { syscall!(OPEN, name.as_ptr(), mode, name.count_bytes()) };
        (self.0 != usize::MAX).then_some(())
    }

    /// Fills a buffer from its beginning and returns how many bytes there were; 0 at the end.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> usize {
        // SAFETY: the host writes no further than the length it is told.
        let left = unsafe { syscall!(READ, self.0, buffer.as_mut_ptr(), buffer.len()) };
        buffer.len().saturating_sub(left)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        // SAFETY: the host only reads, and no further than the length it is told.
        match unsafe { syscall!(WRITE, self.0, bytes.as_ptr(), bytes.len()) } {
            0 => Ok(()),
            _ => Err("an output file cannot be written"),
        }
    }
}

/// Bytes on their way to a file.
pub(crate) struct Writer {
    file: File,
    waiting: heapless::Vec<u8, 256>,
}

impl Writer {
    pub(crate) const fn new() -> Self {
        Self { file: File::closed(), waiting: heapless::Vec::new() }
    }

    pub(crate) fn create(&mut self, name: &CStr) -> Result<(), Failure> {
        self.file.create(name)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for &byte in bytes {
            if self.waiting.is_full() {
                self.flush()?;
            }
            // There is room now.
            let _full = self.waiting.push(byte);
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.file.write(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }
}

/// Ends the program: all is well.
pub(crate) fn succeed() -> ! {
    debug::exit(debug::EXIT_SUCCESS);
    halt()
}

/// Ends the program and says why.
pub(crate) fn fail(why: Failure) -> ! {
    for byte in why.bytes().chain([b'\n']) {
        // SAFETY: the host reads one byte.
        unsafe { syscall1(nr::WRITEC, (&raw const byte).addr()) };
    }
    debug::exit(debug::EXIT_FAILURE);
    halt()
}

fn halt() -> ! {
    loop {
        asm::wfi();
    }
}
