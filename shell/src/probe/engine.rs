//! The probe thread: one readiness loop over the sockets of all WANs.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wanctl_core::tick::{MAX_REFLECTORS, MAX_WANS};
use wanctl_core::units::{ReflectorId, WanId};

use super::mailbox::Mailbox;
use super::target::ProbedWan;
use crate::clock;

/// The most probes that wait for their moment: more than two ticks cause.
const DUE_MAX: usize = 2 * MAX_WANS * MAX_REFLECTORS;

/// A probe that leaves at a moment within its tick.
#[derive(Debug, Clone, Copy)]
struct Due {
    at_ns: u64,
    wan: WanId,
    reflector: ReflectorId,
}

/// The state of the probe thread.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) wans: Vec<ProbedWan>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) wake: Arc<OwnedFd>,
    pub(crate) jitter: Jitter,
    due: heapless::Vec<Due, DUE_MAX>,
}

impl Engine {
    pub(crate) const fn new(
        wans: Vec<ProbedWan>,
        mailbox: Arc<Mailbox>,
        wake: Arc<OwnedFd>,
        jitter: Jitter,
    ) -> Self {
        Self { wans, mailbox, wake, jitter, due: heapless::Vec::new() }
    }

    /// Runs until the mailbox says stop.
    pub(crate) fn run(mut self) {
        while !self.mailbox.is_stopped() {
            self.wait();
            for wan in &mut self.wans {
                if self.mailbox.take_renewal(wan.id) {
                    wan.reopen(clock::now_nanos());
                }
                wan.receive_all(&self.mailbox);
                wan.expire(&self.mailbox);
            }
            // Last, so that the answers find room: a raw socket gets all ICMP of the host, and
            // may have filled up if this thread had to wait for a processor.
            self.plan_requested();
            self.send_due();
        }
    }

    /// Gives every requested probe its moment.
    fn plan_requested(&mut self) {
        while let Some((wan, reflector)) = self.mailbox.next_request() {
            let at_ns = clock::now_nanos().saturating_add(self.jitter.next());
            if self.due.push(Due { at_ns, wan, reflector }).is_err() {
                self.mailbox.lost(wan, reflector);
            }
        }
    }

    fn send_due(&mut self) {
        let mut index = 0;
        while let Some(&Due { at_ns, wan, reflector }) = self.due.get(index) {
            if at_ns > clock::now_nanos() {
                index += 1;
                continue;
            }
            self.due.swap_remove(index);
            match self.wans.get_mut(usize::from(wan.0)) {
                Some(wan) => wan.send(reflector, &self.mailbox),
                None => self.mailbox.lost(wan, reflector),
            }
        }
    }

    /// Waits for an answer, a request, the moment of a probe or the next expiry.
    fn wait(&self) {
        let expiries = self.wans.iter().filter_map(ProbedWan::next_expiry_ns);
        let next_ns = expiries.chain(self.due.iter().map(|due| due.at_ns)).min();
        let timeout = next_ns.map(|at_ns| timespec(at_ns.saturating_sub(clock::now_nanos())));
        let mut fds: heapless::Vec<PollFd<'_>, { 2 * MAX_WANS + 1 }> = heapless::Vec::new();
        // The capacity is that of all WANs, which `IcmpProber::start` has checked.
        let _ = fds.push(PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN));
        let lines = self.wans.iter().flat_map(|wan| &wan.lines);
        for line in lines.filter(|line| line.is_polled) {
            let _ = fds.push(PollFd::from_borrowed_fd(line.socket.as_fd(), PollFlags::IN));
        }
        // An interrupted wait is as good as a finished one: the loop looks at everything anyway.
        let _ = poll(&mut fds, timeout.as_ref());
        let mut count = [0_u8; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
    }
}

/// Random delays, so that reflectors are not pinged in step with each other and with whatever else
/// happens 20 times a second.
#[derive(Debug)]
pub(crate) struct Jitter {
    state: u64,
    /// Delays are below this, in ns.
    spread_ns: u64,
}

impl Jitter {
    pub(crate) const fn new(seed: u64, spread_ns: u64) -> Self {
        // The generator never leaves zero.
        Self { state: seed | 1, spread_ns }
    }

    /// Returns the next delay in ns (xorshift64 by G. Marsaglia, 2003).
    fn next(&mut self) -> u64 {
        let mut state = self.state;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.state = state;
        state.checked_rem(self.spread_ns).unwrap_or_default()
    }
}

fn timespec(nanos: u64) -> Timespec {
    let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX);
    // Below 10^9, so it always fits.
    let rest = i64::try_from(nanos % 1_000_000_000).unwrap_or_default();
    Timespec { tv_sec: seconds, tv_nsec: rest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_cover_their_spread_evenly() {
        let mut jitter = Jitter::new(0, 1_000);
        let mut quarters = [0_u32; 4];
        for _ in 0..40_000 {
            quarters[usize::try_from(jitter.next() / 250).unwrap()] += 1;
        }
        assert!(quarters.iter().all(|count| (9_500..10_500).contains(count)), "{quarters:?}");
        assert_eq!(Jitter::new(7, 0).next(), 0);
    }
}
