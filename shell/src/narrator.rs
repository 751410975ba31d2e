//! The narrator: a thread that turns the core's events into log lines, away from the tick.
//!
//! Making a line of text allocates; the tick thread only hands over small copies.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use wanctl_core::outputs::Event;

use crate::explain;
use crate::published::Published;

/// Events that may wait for their line: those of some fifty busy ticks.
const WAITING_MAX: usize = 1024;

/// What there is to tell.
#[derive(Debug, Clone, Copy)]
enum Told {
    Event(Event),
    /// The line about everything, from what was published last.
    Status,
}

/// Hands over what is to be logged; dropping it waits until everything is.
#[derive(Debug)]
pub struct Narrator {
    told: Option<SyncSender<Told>>,
    thread: Option<JoinHandle<()>>,
    /// What found no room since the last thing that did.
    untold: u64,
}

impl Narrator {
    /// Starts the thread. `names` are those of the WANs, in order.
    ///
    /// # Errors
    ///
    /// The system's error if it allows no further thread.
    pub fn start(names: Vec<String>, published: Arc<Published>) -> std::io::Result<Self> {
        let (told, listened) = sync_channel(WAITING_MAX);
        let thread = Builder::new()
            .name("narrator".to_owned())
            .spawn(move || narrate(&listened, &names, &published))?;
        Ok(Self { told: Some(told), thread: Some(thread), untold: 0 })
    }

    /// Logs an event, unless its level is not wanted. Never waits and does not allocate.
    pub fn event(&mut self, event: &Event) {
        if explain::is_logged(event) {
            self.tell(Told::Event(*event));
        }
    }

    /// Logs the line about everything. Never waits and does not allocate.
    pub fn status(&mut self) {
        self.tell(Told::Status);
    }

    fn tell(&mut self, told: Told) {
        let Some(sender) = &self.told else { return };
        match sender.try_send(told) {
            Ok(()) if self.untold == 0 => {}
            Ok(()) => {
                // Once in a long while, and the line is worth it.
                tracing::warn!("{} events came too fast to be logged", self.untold);
                self.untold = 0;
            }
            Err(_) => self.untold += 1,
        }
    }
}

impl Drop for Narrator {
    fn drop(&mut self) {
        drop(self.told.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

fn narrate(listened: &Receiver<Told>, names: &[String], published: &Published) {
    for told in listened {
        match told {
            Told::Event(event) => explain::log(&event, names),
            Told::Status => {
                if let Some(line) = published.status_line() {
                    tracing::info!("{line}");
                }
            }
        }
    }
}
