//! A `wanctl` that runs as a process of its own: what it says, line by line, and how it ends.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// A started program. It is killed when it is dropped before it has ended.
#[derive(Debug)]
pub struct DaemonProcess {
    child: Child,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
}

/// Where the readers of standard output and standard error put their lines.
#[derive(Debug, Default)]
struct Output {
    state: Mutex<OutputState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct OutputState {
    lines: Vec<String>,
    streams_open: usize,
}

impl DaemonProcess {
    /// Starts a command and calls `on_line` with every line it writes, to whatever stream.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn start(
        command: &mut Command,
        on_line: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        let stdout = child.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
        let stderr = child.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>);
        let streams: Vec<_> = stdout.into_iter().chain(stderr).collect();
        let output = Arc::new(Output::default());
        output.lock().streams_open = streams.len();
        let on_line = Arc::new(on_line);
        let start_reader = |stream| {
            let (output, on_line) = (Arc::clone(&output), Arc::clone(&on_line));
            thread::spawn(move || output.read(stream, &*on_line))
        };
        let readers = streams.into_iter().map(start_reader).collect();
        Ok(Self { child, output, readers })
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns everything said so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().lines.clone()
    }

    /// Waits for a line, at index `from` or later, that `wanted` accepts; returns its index and
    /// text, or `None` when the process ended or `timeout` passed without it.
    #[must_use]
    pub fn wait_for_line(
        &self,
        from: usize,
        timeout: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<(usize, String)> {
        let find = |state: &OutputState| {
            let said = state.lines.iter().enumerate().skip(from);
            said.map(|(index, line)| (index, line.clone())).find(|(_, line)| wanted(line))
        };
        let unmet = |state: &mut OutputState| state.streams_open > 0 && find(state).is_none();
        let waited = self.output.changed.wait_timeout_while(self.output.lock(), timeout, unmet);
        find(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Returns how the process ended, if it has.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal; nothing happens when the process has ended.
    pub fn signal(&mut self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), pid) {
            // Between the look and the signal it stays a zombie at worst: the id is its own.
            let _gone = kill_process(pid, signal);
        }
    }

    /// Waits until the process has closed its streams and ended.
    ///
    /// # Errors
    ///
    /// When it has not within `timeout`.
    pub fn wait_end(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let open = |state: &mut OutputState| state.streams_open > 0;
        let waited = self.output.changed.wait_timeout_while(self.output.lock(), timeout, open);
        let is_open = waited.unwrap_or_else(PoisonError::into_inner).0.streams_open > 0;
        ensure!(!is_open, "the process has not ended after {timeout:?}");
        Ok(self.child.wait()?)
    }
}

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ended = reader.join();
        }
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, OutputState> {
        // Every change leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, stream: impl Read, on_line: impl Fn(&str)) {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            on_line(&line);
            self.lock().lines.push(line);
            self.changed.notify_all();
        }
        self.lock().streams_open -= 1;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> DaemonProcess {
        DaemonProcess::start(Command::new("sh").args(["-c", script]), |_| {}).unwrap()
    }

    #[test]
    fn lines_of_both_streams_and_the_exit_code_arrive() {
        let mut process = shell("echo one; echo two >&2; exit 7");
        assert_eq!(process.wait_end(PATIENCE).unwrap().code(), Some(7));
        let mut lines = process.lines();
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
        assert_eq!(process.wait_for_line(0, PATIENCE, |line| line == "three"), None);
    }

    #[test]
    fn a_signal_ends_it_and_a_drop_kills_it() {
        let mut process = shell("echo ready; exec sleep 600");
        assert_eq!(process.wait_for_line(0, PATIENCE, |_| true), Some((0, "ready".to_owned())));
        process.signal(Signal::TERM);
        assert!(!process.wait_end(PATIENCE).unwrap().success());
        drop(shell("exec sleep 600"));
    }
}
