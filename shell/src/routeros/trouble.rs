//! One queue that cannot be written is no reason to leave the others alone: its writes rest for a
//! while, and theirs go on.

use std::mem::{Discriminant, discriminant};
use std::time::Instant;

use wanctl_core::units::{Direction, WanId};

use super::error::RouterError;
use super::serve::{BackOff, Server, Target};
use crate::clock;
use crate::shaping::BackendStatus;

/// What keeps one queue from being written, on a router that answers.
#[derive(Debug)]
pub(crate) struct Trouble {
    since: embassy_time::Instant,
    /// What was told last.
    kind: Discriminant<RouterError>,
    error: String,
    back_off: BackOff,
    /// Not written before.
    rests_until: Instant,
}

impl Trouble {
    fn status(&self) -> BackendStatus {
        BackendStatus::Failing { since: self.since, error: self.error.clone() }
    }
}

impl Target {
    /// Returns whether it is to be left alone for now.
    pub(crate) fn is_resting(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.rests_until > Instant::now())
    }
}

impl Server {
    /// Takes note of a write that failed, and leaves the queue alone for a while, or the whole router.
    pub(crate) fn note_failed_write(
        &mut self,
        wan: WanId,
        direction: Direction,
        error: &RouterError,
    ) {
        // Before the first success nobody knows whom an error is about.
        if self.has_written && error.is_about_queue() {
            self.begin_trouble(wan, direction, error);
        } else {
            self.note_failure(error, true);
            self.pause();
        }
    }

    fn begin_trouble(&mut self, wan: WanId, direction: Direction, error: &RouterError) {
        let Ok(target) = self.target(usize::from(wan.0), direction) else { return };
        let (queue, kind) = (&target.name, discriminant(error));
        if target.trouble.as_ref().is_none_or(|trouble| trouble.kind != kind) {
            tracing::warn!(queue, %error, "the queue cannot be written, trying again");
        } else {
            tracing::debug!(queue, %error, "the queue still cannot be written");
        }
        let before = target.trouble.take().map(|trouble| (trouble.since, trouble.back_off));
        let (since, mut back_off) = before.unwrap_or_else(|| (clock::now(), BackOff::new()));
        let rests_until = Instant::now() + back_off.next();
        let error = error.to_string();
        target.trouble = Some(Trouble { since, kind, error, back_off, rests_until });
        self.desk.rest(wan, direction, Some(rests_until));
        self.show_status();
    }

    /// The queue holds what it shall.
    pub(crate) fn end_trouble(&mut self, wan: usize, direction: Direction) {
        let Ok(target) = self.target(wan, direction) else { return };
        if target.trouble.take().is_none() {
            return;
        }
        tracing::info!(queue = target.name, "the queue can be written again");
        if let Ok(wan) = u8::try_from(wan) {
            self.desk.rest(WanId(wan), direction, None);
        }
        self.show_status();
    }

    /// Makes the next write to a queue due at once: something about it has changed.
    pub(crate) fn end_rest(&mut self, wan: usize, direction: Direction) {
        let Ok(target) = self.target(wan, direction) else { return };
        let Some(trouble) = &mut target.trouble else { return };
        (trouble.back_off, trouble.rests_until) = (BackOff::new(), Instant::now());
        if let Ok(wan) = u8::try_from(wan) {
            self.desk.rest(WanId(wan), direction, None);
        }
    }

    /// The same for all queues.
    pub(crate) fn end_all_rests(&mut self) {
        for wan in 0..self.targets.len() {
            Direction::BOTH.into_iter().for_each(|direction| self.end_rest(wan, direction));
        }
    }

    /// Returns the status of a router that answers, if a queue keeps it from being good.
    pub(crate) fn troubled_status(&self) -> Option<BackendStatus> {
        let mut both = self.targets.iter().flat_map(|wan| [&wan.download, &wan.upload]);
        both.find_map(|target| target.trouble.as_ref()).map(Trouble::status)
    }
}
