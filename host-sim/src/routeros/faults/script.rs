//! Switches faults on and off at the times the command line gives.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::super::emulator::Emulator;
use super::FaultSpec;

/// A thread that does it, until it is dropped.
#[derive(Debug)]
pub(crate) struct FaultScript {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultScript {
    /// Starts with those that begin at once.
    ///
    /// # Errors
    /// No thread can be made.
    pub(crate) fn start(emulator: &Emulator, specs: &[FaultSpec]) -> anyhow::Result<Self> {
        let mut events: Vec<(Duration, bool, FaultSpec)> = Vec::new();
        for spec in specs {
            events.push((spec.from, true, spec.clone()));
            events.extend(spec.until.map(|until| (until, false, spec.clone())));
        }
        events.sort_by_key(|(at, begins, _)| (*at, !begins));
        let (emulator, start) = (emulator.clone(), Instant::now());
        let (stop, stopped) = channel();
        let body = move || {
            for (at, begins, spec) in events {
                let left = (start + at).saturating_duration_since(Instant::now());
                if !left.is_zero() && stopped.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                tracing::info!(fault = ?spec.fault, begins, "fault");
                if begins {
                    emulator.inject(spec);
                } else if let Err(error) = emulator.mend(spec.fault) {
                    tracing::error!(%error, "the fault cannot be ended");
                }
            }
        };
        let thread =
            Builder::new().name("faults".to_owned()).spawn(body).context("fault thread")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for FaultScript {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread was already reported by the panic hook.
            let _ = thread.join();
        }
    }
}
