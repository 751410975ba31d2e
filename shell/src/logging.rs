//! Log lines to standard error, without ever holding up the thread that writes them.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

/// Lines that may wait for a slow reader of the log; beyond that they are dropped.
const LINES_WAITING_MAX: usize = 1024;

/// Starts logging for the whole process. Waiting lines are written when the guard is dropped.
///
/// Under systemd (`JOURNAL_STREAM` is set) the journal adds the time, so the lines do not.
pub fn start(level: LevelFilter) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_WAITING_MAX)
        .lossy(true)
        .finish(std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().init();
    } else {
        builder.init();
    }
    guard
}
