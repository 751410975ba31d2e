//! Hears of changes to interfaces and qdiscs, so that nobody has to wait for the next look.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use nix::errno::Errno;
use nix::libc::{RTMGRP_LINK, RTMGRP_TC};
use nix::sys::socket::{MsgFlags, recv};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::kernel::open_socket;
use super::wire::{self, Message};
use crate::shaping::Desk;

/// Room for one message; a longer one is cut, and counts as a change.
const MESSAGE_BYTES: usize = 16 * 1024;

/// A thread that asks for a look when somebody else changes something. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct EventWatcher {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl EventWatcher {
    /// `own_port` is the socket whose changes are no news.
    pub(super) fn start(desk: Arc<Desk>, own_port: u32) -> io::Result<Self> {
        let groups = (RTMGRP_LINK | RTMGRP_TC).cast_unsigned();
        let netlink = open_socket(groups)?;
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let stop = Arc::new(eventfd(0, flags).map_err(io::Error::from)?);
        let stopped = Arc::clone(&stop);
        let thread = Builder::new().name("qdiscs".to_owned()).spawn(move || {
            let mut buffer = vec![0; MESSAGE_BYTES];
            while wait(&netlink, &stopped) {
                if drain(&netlink, &mut buffer, own_port) {
                    desk.want_look();
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for EventWatcher {
    fn drop(&mut self) {
        // The counter of an eventfd cannot overflow here.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for news; returns whether to go on.
fn wait(netlink: &OwnedFd, stop: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(netlink, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
    // An interrupted wait is as good as a finished one.
    let _ = poll(&mut fds, None);
    fds[1].revents().is_empty()
}

/// Empties the socket; returns whether somebody else has changed anything.
fn drain(netlink: &OwnedFd, buffer: &mut [u8], own_port: u32) -> bool {
    let mut is_news = false;
    loop {
        match recv(netlink.as_raw_fd(), buffer, MsgFlags::empty()) {
            Ok(length) => is_news |= tells(buffer.get(..length).unwrap_or_default(), own_port),
            // Messages were lost: whatever they said, it is time to look.
            Err(Errno::ENOBUFS) => is_news = true,
            Err(Errno::EINTR) => {}
            Err(_) => return is_news,
        }
    }
}

/// Returns whether a message tells of a change that was not made here.
pub(super) fn tells(bytes: &[u8], own_port: u32) -> bool {
    let Some(envelopes) = wire::read(bytes) else { return true };
    envelopes.iter().any(|envelope| match envelope.message {
        Message::Qdisc(_) => envelope.port != own_port,
        Message::QdiscGone | Message::Link => true,
        Message::End(_) | Message::Other => false,
    })
}
