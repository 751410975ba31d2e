//! Pings the reflectors and turns what comes back into samples and losses.

mod engine;
mod error;
mod icmp;
mod mailbox;
mod outstanding;
mod pool;
mod socket;
mod stamping;
mod status;
mod target;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use wanctl_core::tick::{MAX_REFLECTORS, MAX_WANS, Tick};
use wanctl_core::units::{ReflectorId, WanId};

use engine::{Engine, Jitter};
pub use error::ProbeError;
use icmp::Echo;
use mailbox::Mailbox;
pub(crate) use socket::Family;
use socket::{IcmpSocket, Received};
pub use status::{ProbeCounters, ReflectorStatus};
use target::ProbedWan;

/// The most reflectors that can be configured for a WAN; at most
/// [`MAX_REFLECTORS`] of them are pinged at a time.
pub const MAX_POOL: usize = pool::MEMBERS_MAX;

/// Where probes go: real sockets, or (in the simulator) an emulated link.
pub trait Prober: Send {
    /// Asks for one echo request; never blocks.
    fn send(&mut self, wan: WanId, reflector: ReflectorId);

    /// Moves answers and losses since the last call into the tick, samples oldest first and with
    /// their age at `tick.now`. Never blocks for long and does not allocate.
    fn drain(&mut self, tick: &mut Tick);

    /// Takes note that a WAN's interface or address has changed.
    fn renew(&mut self, _wan: WanId) {}

    /// Returns what was seen besides answers in time, by WAN.
    fn counters(&self) -> [ProbeCounters; MAX_WANS] {
        [ProbeCounters::NONE; MAX_WANS]
    }
}

/// What the prober must know about one WAN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeWan {
    /// Who may be pinged, at most [`MAX_POOL`]; the first ones are at the start.
    pub reflectors: Vec<IpAddr>,
    /// How many of them are pinged at a time; `None` as many as the core can use.
    pub active: Option<u8>,
    /// The source address of IPv4 probes, where routing by source chooses the WAN.
    pub source: Option<Ipv4Addr>,
    /// The source address of IPv6 probes.
    pub source_v6: Option<Ipv6Addr>,
    /// The interface the probes must leave by (Linux `SO_BINDTODEVICE`).
    pub interface: Option<String>,
    /// The firewall mark of the probes, where routing rules choose the WAN by it (`SO_MARK`).
    pub fwmark: Option<u32>,
}

impl ProbeWan {
    /// Returns how many reflectors are pinged at a time; their [`ReflectorId`]s are below that.
    #[must_use]
    pub fn active(&self) -> usize {
        let most = self.reflectors.len().min(MAX_REFLECTORS);
        self.active.map_or(most, |active| most.min(active.into()))
    }
}

/// Pings through ICMP sockets, one per WAN and IP version, all served by one thread.
///
/// Dropping it ends and joins the thread.
#[derive(Debug)]
pub struct IcmpProber {
    mailbox: Arc<Mailbox>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl IcmpProber {
    /// Opens the sockets and starts the thread. A probe without an answer within `timeout` is
    /// lost; a later answer is counted only. At 20 Hz the table of open probes covers six seconds;
    /// beyond that the oldest are given up sooner. Each probe leaves a random part of `spread`
    /// after it was asked for.
    ///
    /// # Errors
    ///
    /// Says why no probe could ever leave: missing rights (with the remedy), an unknown interface
    /// or source address of all WANs, or more WANs or reflectors than the core serves.
    pub fn start(
        wans: &[ProbeWan],
        timeout: Duration,
        spread: Duration,
    ) -> Result<Self, ProbeError> {
        if wans.len() > MAX_WANS {
            return Err(ProbeError::TooManyWans(wans.len()));
        }
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let wans = open_all(wans, nanos(timeout))?;
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let wake = eventfd(0, flags).map_err(|error| ProbeError::Thread(error.into()))?;
        let (mailbox, wake) = (Arc::new(Mailbox::new()), Arc::new(wake));
        let jitter = Jitter::new(unpredictable(), nanos(spread));
        let engine = Engine::new(wans, Arc::clone(&mailbox), Arc::clone(&wake), jitter);
        let thread = Builder::new()
            .name("probe".to_owned())
            .spawn(move || engine.run())
            .map_err(ProbeError::Thread)?;
        Ok(Self { mailbox, wake, thread: Some(thread) })
    }

    /// The counter of an eventfd cannot overflow here, and a thread that is awake needs no waking.
    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Prober for IcmpProber {
    fn send(&mut self, wan: WanId, reflector: ReflectorId) {
        self.mailbox.request(wan, reflector);
        self.wake();
    }

    fn drain(&mut self, tick: &mut Tick) {
        self.mailbox.drain(tick);
    }

    fn renew(&mut self, wan: WanId) {
        self.mailbox.renew(wan);
        self.wake();
    }

    fn counters(&self) -> [ProbeCounters; MAX_WANS] {
        self.mailbox.counters()
    }
}

impl Drop for IcmpProber {
    fn drop(&mut self) {
        self.mailbox.stop();
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Opens the sockets of all WANs. One whose interface or address is missing, as a modem that is not
/// plugged in at boot, is waited for, and must not keep the others from being controlled.
fn open_all(wans: &[ProbeWan], timeout_ns: u64) -> Result<Vec<ProbedWan>, ProbeError> {
    let open = |(wan, settings)| ProbedWan::open(wan, settings, timeout_ns, unpredictable);
    let mut opened: Vec<_> = wans.iter().enumerate().map(open).collect();
    if opened.iter().any(Result::is_ok) {
        for (wan, (settings, result)) in wans.iter().zip(&mut opened).enumerate() {
            if let Err(error) = result
                && error.is_absence()
            {
                tracing::warn!(%error, "going on with the other lines, and trying again");
                *result = ProbedWan::closed(wan, settings, timeout_ns, unpredictable);
            }
        }
    }
    opened.into_iter().collect()
}

/// Sends one ping by a WAN's way and waits for its answer; returns whether it came in time.
///
/// # Errors
///
/// When no socket can be opened or the ping cannot be sent.
pub(crate) fn ping_once(
    path: &ProbeWan,
    address: IpAddr,
    timeout: Duration,
) -> Result<bool, ProbeError> {
    let random = unpredictable();
    let [id_high, id_low, seq_high, seq_low, ..] = random.to_be_bytes();
    let identifier = u16::from_be_bytes([id_high, id_low]);
    let sequence = u16::from_be_bytes([seq_high, seq_low]);
    let request = Echo { identifier, sequence, cookie: unpredictable() };
    let mut socket = IcmpSocket::open(0, path, Family::of(address))?;
    let fail = |step: &str| {
        let step = step.to_owned();
        move |error| ProbeError::Socket { wan: 0, step, error }
    };
    socket.send(request, address).map_err(fail("sending a ping"))?;
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(left) = Timespec::try_from(left) else { return Ok(false) };
        let mut fds = [PollFd::new(&socket, PollFlags::IN)];
        if poll(&mut fds, Some(&left)) == Ok(0) {
            return Ok(false);
        }
        match socket.receive() {
            // The kernel chooses the identifier of an unprivileged socket.
            Ok(Received::Reply { reply, from, .. })
                if from == address && reply.sequence == sequence && reply.is_of(request.cookie) =>
            {
                return Ok(true);
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(fail("receiving")(error)),
        }
    }
}

/// Returns a number that others cannot guess: the standard library keys its hash maps with
/// randomness from the system, which is all that is needed here.
fn unpredictable() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests;
