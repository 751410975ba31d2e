//! Recordings as files: [`Recorder`] writes them beside the tick, [`TraceReader`] reads them
//! whatever has happened to them. `docs/trace-format.md` describes the bytes.

mod reader;
mod recorder;
#[cfg(test)]
mod tests;

pub use self::reader::{Tally, TraceReader};
pub use self::recorder::{Recorder, RecorderReport};
