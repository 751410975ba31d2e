//! One WAN and its reflectors, as the probe thread sees them.

use std::io;
use std::net::Ipv4Addr;

use heapless::Vec;
use wanctl_core::tick::MAX_REFLECTORS;
use wanctl_core::units::{ReflectorId, WanId};

use super::icmp::{Echo, Quoted};
use super::mailbox::{Arrival, Mailbox};
use super::outstanding::{Answer, Outstanding};
use super::socket::{IcmpSocket, Received};
use super::{ProbeError, ProbeWan};
use crate::clock;

/// The most datagrams taken from one socket in a row, so that a flood of foreign ICMP on a raw
/// socket delays neither the other WANs nor the sending for long. It empties a full buffer.
const RECEIVE_BATCH_MAX: usize = 1024;
/// A socket that can send to no reflector is opened anew at most this often: its interface may have been
/// removed and made again (PPPoE, USB modem), which an old socket never notices.
const REOPEN_INTERVAL_NS: u64 = 5_000_000_000;

/// What was seen besides answers in time, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProbeCounters {
    /// Answers to probes that had been given up.
    pub late: u64,
    /// Further answers to probes that were answered.
    pub duplicates: u64,
    /// Probes that ended because an ICMP error said so.
    pub errors: u64,
}

/// One reflector with everything its probes need.
#[derive(Debug)]
struct Reflector {
    address: Ipv4Addr,
    /// Names this reflector's probes on a raw socket.
    identifier: u16,
    /// Chosen anew at every start, so that nobody else's reply is taken for ours.
    cookie: u64,
    outstanding: Outstanding,
    /// Whether the last send failed: begin and end are logged, not each probe.
    send_fails: bool,
    /// Whether the last probe that ended did so by an ICMP error.
    is_refused: bool,
}

/// One WAN with everything its probes need.
#[derive(Debug)]
pub(crate) struct ProbedWan {
    pub(crate) id: WanId,
    settings: ProbeWan,
    pub(crate) socket: IcmpSocket,
    reflectors: Vec<Reflector, MAX_REFLECTORS>,
    /// Off after a receive error until the next send, so that an error that stays cannot make the
    /// loop spin.
    pub(crate) is_polled: bool,
    reopened_ns: u64,
}

impl ProbedWan {
    /// Opens the socket of the WAN at position `wan`. `random` is where identifiers, sequence
    /// numbers and cookies begin.
    pub(crate) fn open(
        wan: usize,
        settings: &ProbeWan,
        timeout_ns: u64,
        mut random: impl FnMut() -> u64,
    ) -> Result<Self, ProbeError> {
        let count = settings.reflectors.len();
        let [first_identifier, ..] = split(random());
        let reflector = |(address, offset): (&Ipv4Addr, u16)| Reflector {
            address: *address,
            // Apart from each other, whatever the randomness.
            identifier: first_identifier.wrapping_add(offset),
            cookie: random(),
            outstanding: Outstanding::new(split(random())[1], timeout_ns),
            send_fails: false,
            is_refused: false,
        };
        if count > MAX_REFLECTORS {
            return Err(ProbeError::TooManyReflectors { wan, count });
        }
        let reflectors = settings.reflectors.iter().zip(0..).map(reflector).collect();
        let socket = IcmpSocket::open(wan, settings)?;
        tracing::debug!(wan, kind = socket.kind(), "ping socket open");
        Ok(Self {
            // `wan` is below MAX_WANS.
            id: WanId(u8::try_from(wan).unwrap_or(u8::MAX)),
            settings: settings.clone(),
            socket,
            reflectors,
            is_polled: true,
            reopened_ns: 0,
        })
    }

    pub(crate) fn send(&mut self, id: ReflectorId, mailbox: &Mailbox) {
        let Some(reflector) = self.reflectors.get_mut(usize::from(id.0)) else {
            mailbox.lost(self.id, id);
            return;
        };
        self.is_polled = true;
        let Reflector { address, identifier, cookie, .. } = *reflector;
        let now_ns = clock::now_nanos();
        let (sequence, has_evicted) = reflector.outstanding.open(now_ns);
        if has_evicted {
            mailbox.lost(self.id, id);
        }
        let sent = self.socket.send(Echo { identifier, sequence, cookie }, address);
        if sent.is_err() && reflector.outstanding.give_up(sequence) {
            mailbox.lost(self.id, id);
        }
        reflector.note_send(self.id, id, &sent);
        let is_dead = self.reflectors.iter().all(|reflector| reflector.send_fails);
        if is_dead && now_ns.saturating_sub(self.reopened_ns) >= REOPEN_INTERVAL_NS {
            self.reopen(now_ns);
        }
    }

    /// Opens the socket anew; an old one never notices that its interface was made again.
    pub(crate) fn reopen(&mut self, now_ns: u64) {
        self.reopened_ns = now_ns;
        match IcmpSocket::open(usize::from(self.id.0), &self.settings) {
            Ok(socket) => {
                self.socket = socket;
                self.is_polled = true;
                tracing::debug!(wan = self.id.0, "ping socket opened anew");
            }
            Err(error) => tracing::debug!(%error, "the ping socket stays as it is"),
        }
    }

    pub(crate) fn receive_all(&mut self, mailbox: &Mailbox) {
        if !self.socket.has_own_identifiers() {
            // First: an error in this queue makes other calls on the socket fail.
            for _ in 0..RECEIVE_BATCH_MAX {
                let Ok(received) = self.socket.receive_error() else { break };
                self.take(received, mailbox);
            }
        }
        for _ in 0..RECEIVE_BATCH_MAX {
            match self.socket.receive() {
                Ok(received) => self.take(received, mailbox),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(wan = self.id.0, %error, "receiving failed");
                    self.is_polled = false;
                    return;
                }
            }
        }
    }

    fn take(&mut self, received: Received, mailbox: &Mailbox) {
        match received {
            Received::Reply { echo, from, at_ns } => self.take_reply(echo, from, at_ns, mailbox),
            Received::Fault { quoted, cookie, by } => {
                self.take_fault(quoted, cookie, by, mailbox);
            }
            Received::Other => {}
        }
    }

    fn take_reply(&mut self, echo: Echo, from: Ipv4Addr, at_ns: u64, mailbox: &Mailbox) {
        let identifiers = self.socket.has_own_identifiers();
        let is_meant = |reflector: &Reflector| {
            reflector.cookie == echo.cookie
                && reflector.address == from
                && (!identifiers || reflector.identifier == echo.identifier)
        };
        let wan = self.id;
        let Some((id, reflector)) = self.find(is_meant) else { return };
        let counters = |count: fn(&mut ProbeCounters)| mailbox.count(wan, count);
        match reflector.outstanding.answer(echo.sequence, at_ns) {
            Answer::InTime(rtt) => {
                if std::mem::replace(&mut reflector.is_refused, false) {
                    tracing::info!(wan = wan.0, reflector = id.0, "the reflector answers again");
                }
                mailbox.arrived(Arrival { wan, reflector: id, rtt, received_ns: at_ns });
            }
            Answer::Late => counters(|all| all.late = all.late.saturating_add(1)),
            Answer::Duplicate => counters(|all| all.duplicates = all.duplicates.saturating_add(1)),
            Answer::Unknown => {}
        }
    }

    /// Ends the probe that an ICMP error is about. Only a probe that waits, and was sent where the
    /// error says, can be ended: that much a stranger would have to guess.
    fn take_fault(
        &mut self,
        quoted: Quoted,
        cookie: Option<u64>,
        by: Option<Ipv4Addr>,
        mailbox: &Mailbox,
    ) {
        let is_meant = |reflector: &Reflector| {
            let is_named = match cookie {
                Some(cookie) => reflector.cookie == cookie,
                None => reflector.identifier == quoted.identifier,
            };
            is_named && reflector.address == quoted.to
        };
        let wan = self.id;
        let Some((id, reflector)) = self.find(is_meant) else { return };
        if !reflector.outstanding.give_up(quoted.sequence) {
            return;
        }
        mailbox.lost(wan, id);
        mailbox.count(wan, |all| all.errors = all.errors.saturating_add(1));
        if !std::mem::replace(&mut reflector.is_refused, true) {
            let by = by.map_or_else(String::new, |by| format!(", says {by}"));
            let (to, fault) = (quoted.to, quoted.fault);
            tracing::warn!(wan = wan.0, reflector = id.0, "{to}: {fault}{by}");
        }
    }

    fn find(
        &mut self,
        is_meant: impl Fn(&Reflector) -> bool,
    ) -> Option<(ReflectorId, &mut Reflector)> {
        let mut all = (0..).map(ReflectorId).zip(&mut self.reflectors);
        all.find(|(_, reflector)| is_meant(reflector))
    }

    pub(crate) fn expire(&mut self, mailbox: &Mailbox) {
        let now_ns = clock::now_nanos();
        for (id, reflector) in (0..).map(ReflectorId).zip(&mut self.reflectors) {
            for _ in 0..reflector.outstanding.expire(now_ns) {
                mailbox.lost(self.id, id);
            }
        }
    }

    /// Returns when the next probe expires.
    pub(crate) fn next_expiry_ns(&self) -> Option<u64> {
        self.reflectors.iter().filter_map(|all| all.outstanding.next_expiry_ns()).min()
    }
}

impl Reflector {
    fn note_send(&mut self, wan: WanId, id: ReflectorId, sent: &io::Result<()>) {
        let (wan, reflector) = (wan.0, id.0);
        match sent {
            Err(error) if !self.send_fails => {
                tracing::warn!(wan, reflector, %error, "probes cannot be sent");
            }
            Ok(()) if self.send_fails => {
                tracing::info!(wan, reflector, "probes can be sent again");
            }
            Ok(()) | Err(_) => {}
        }
        self.send_fails = sent.is_err();
    }
}

fn split(random: u64) -> [u16; 4] {
    let [a, b, c, d, e, f, g, h] = random.to_be_bytes();
    [[a, b], [c, d], [e, f], [g, h]].map(u16::from_be_bytes)
}
