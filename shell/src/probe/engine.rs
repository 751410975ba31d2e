//! The probe thread: one readiness loop over the sockets of all WANs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wanctl_core::tick::{MAX_REFLECTORS, MAX_WANS};
use wanctl_core::units::{ReflectorId, WanId};

use super::ProbeWan;
use super::mailbox::{Arrival, Mailbox};
use super::outstanding::Outstanding;
use super::socket::IcmpSocket;
use crate::clock;

/// The most datagrams taken from one socket in a row, so that a flood of foreign ICMP on a raw
/// socket delays neither the other WANs nor the sending for long. It empties a full buffer.
const RECEIVE_BATCH_MAX: usize = 1024;
/// A socket that can send to no reflector is opened anew at most this often: its interface may have been
/// removed and made again (PPPoE, USB modem), which an old socket never notices.
const REOPEN_INTERVAL_NS: u64 = 5_000_000_000;

/// One WAN with everything its probes need.
#[derive(Debug)]
pub(crate) struct ProbedWan {
    pub(crate) id: WanId,
    pub(crate) settings: ProbeWan,
    pub(crate) socket: IcmpSocket,
    pub(crate) identifier: u16,
    pub(crate) cookie: u64,
    pub(crate) outstanding: Outstanding,
    /// Whether the last send to a reflector failed: begin and end are logged, not each probe.
    pub(crate) send_fails: [bool; MAX_REFLECTORS],
    /// Off after a receive error until the next send, so that an error that stays cannot make the
    /// loop spin.
    pub(crate) is_polled: bool,
    pub(crate) reopened_ns: u64,
}

/// The state of the probe thread.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) wans: Vec<ProbedWan>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) wake: Arc<OwnedFd>,
}

impl Engine {
    /// Runs until the mailbox says stop.
    pub(crate) fn run(mut self) {
        while !self.mailbox.is_stopped() {
            self.wait();
            for wan in &mut self.wans {
                wan.receive_all(&self.mailbox);
                wan.expire(&self.mailbox);
            }
            // Last, so that the answers find room: a raw socket gets all ICMP of the host, and
            // may have filled up if this thread had to wait for a processor.
            self.send_requested();
        }
    }

    fn send_requested(&mut self) {
        while let Some((id, reflector)) = self.mailbox.next_request() {
            match self.wans.get_mut(usize::from(id.0)) {
                Some(wan) => wan.send(reflector, &self.mailbox),
                None => self.mailbox.lost(id, reflector),
            }
        }
    }

    /// Waits for an answer, a request or the next expiry.
    fn wait(&self) {
        let timeout = self.wans.iter().filter_map(|wan| wan.outstanding.next_expiry_ns()).min();
        let timeout = timeout.map(|at_ns| timespec(at_ns.saturating_sub(clock::now_nanos())));
        let mut fds: heapless::Vec<PollFd<'_>, { MAX_WANS + 1 }> = heapless::Vec::new();
        // The capacity is that of all WANs, which `IcmpProber::start` has checked.
        let _ = fds.push(PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN));
        for wan in self.wans.iter().filter(|wan| wan.is_polled) {
            let _ = fds.push(PollFd::from_borrowed_fd(wan.socket.as_fd(), PollFlags::IN));
        }
        // An interrupted wait is as good as a finished one: the loop looks at everything anyway.
        let _ = poll(&mut fds, timeout.as_ref());
        let mut count = [0_u8; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
    }
}

impl ProbedWan {
    fn send(&mut self, reflector: ReflectorId, mailbox: &Mailbox) {
        let Some(&address) = self.settings.reflectors.get(usize::from(reflector.0)) else {
            mailbox.lost(self.id, reflector);
            return;
        };
        self.is_polled = true;
        let now_ns = clock::now_nanos();
        let (sequence, evicted) = self.outstanding.open(reflector, address, now_ns);
        if let Some(evicted) = evicted {
            mailbox.lost(self.id, evicted);
        }
        let sent = self.socket.send(sequence, address);
        if sent.is_err() {
            self.outstanding.cancel(sequence);
            mailbox.lost(self.id, reflector);
        }
        self.note_send(reflector, &sent);
        let count = self.settings.reflectors.len();
        let is_dead = self.send_fails.iter().take(count).all(|fails| *fails);
        if is_dead && now_ns.saturating_sub(self.reopened_ns) >= REOPEN_INTERVAL_NS {
            self.reopen(now_ns);
        }
    }

    fn note_send(&mut self, reflector: ReflectorId, sent: &io::Result<()>) {
        let Some(failing) = self.send_fails.get_mut(usize::from(reflector.0)) else { return };
        let (wan, number) = (self.id.0, reflector.0);
        match sent {
            Err(error) if !*failing => {
                tracing::warn!(wan, reflector = number, %error, "probes cannot be sent");
            }
            Ok(()) if *failing => {
                tracing::info!(wan, reflector = number, "probes can be sent again");
            }
            Ok(()) | Err(_) => {}
        }
        *failing = sent.is_err();
    }

    fn reopen(&mut self, now_ns: u64) {
        self.reopened_ns = now_ns;
        let wan = usize::from(self.id.0);
        match IcmpSocket::open(wan, &self.settings, self.identifier, self.cookie) {
            Ok(socket) => self.socket = socket,
            Err(error) => tracing::debug!(%error, "the ping socket stays as it is"),
        }
    }

    fn receive_all(&mut self, mailbox: &Mailbox) {
        for _ in 0..RECEIVE_BATCH_MAX {
            let received = match self.socket.receive() {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(wan = self.id.0, %error, "receiving failed");
                    self.is_polled = false;
                    return;
                }
            };
            let Some((sequence, from)) = received.reply else { continue };
            if let Some((reflector, rtt)) = self.outstanding.answer(sequence, from, received.at_ns)
            {
                let received_ns = received.at_ns;
                mailbox.arrived(Arrival { wan: self.id, reflector, rtt, received_ns });
            }
        }
    }

    fn expire(&mut self, mailbox: &Mailbox) {
        let wan = self.id;
        self.outstanding.expire(clock::now_nanos(), |reflector| mailbox.lost(wan, reflector));
    }
}

fn timespec(nanos: u64) -> Timespec {
    let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX);
    // Below 10^9, so it always fits.
    let rest = i64::try_from(nanos % 1_000_000_000).unwrap_or_default();
    Timespec { tv_sec: seconds, tv_nsec: rest }
}
