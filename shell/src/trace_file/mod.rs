//! Recordings as files: [`Recorder`] writes them beside the tick, to one file or to the [`ring`] of the
//! flight recorder; [`TraceReader`] reads them whatever has happened to them. `docs/trace-format.md`
//! describes the bytes, `docs/recording.md` the ring.

mod reader;
mod recorder;
pub mod ring;
mod target;
#[cfg(test)]
mod tests;

pub use self::reader::{Tally, TraceReader};
pub use self::recorder::{Recorder, RecorderReport, RecorderView};
