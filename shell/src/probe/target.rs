//! One WAN and its reflectors, as the probe thread sees them.

use std::io;
use std::net::IpAddr;

use wanctl_core::tick::MAX_REFLECTORS;
use wanctl_core::units::{ReflectorId, WanId};

use super::icmp::{Echo, Quoted, Reply};
use super::mailbox::{Arrival, Mailbox};
use super::outstanding::{Answer, Outstanding, Purpose, Timely};
use super::pool::{MEMBERS_MAX, Pool, Replacement};
use super::socket::{Family, IcmpSocket, Received};
use super::stamping::{Finding, Manner, Stamping};
use super::status::ReflectorStatus;
use super::{ProbeError, ProbeWan};
use crate::clock;

/// The most datagrams taken from one socket in a row, so that a flood of foreign ICMP on a raw
/// socket delays neither the other WANs nor the sending for long. It empties a full buffer.
const RECEIVE_BATCH_MAX: usize = 1024;
/// A socket that can send to no reflector is opened anew at most this often: its interface may have been
/// removed and made again (PPPoE, USB modem), which an old socket never notices.
const REOPEN_INTERVAL_NS: u64 = 5_000_000_000;
/// The choice of reflectors is looked at this often.
const REVIEW_NS: u64 = 1_000_000_000;

/// One reflector with everything its probes need.
#[derive(Debug)]
struct Reflector {
    address: IpAddr,
    /// Names this reflector's probes on a raw socket.
    identifier: u16,
    /// Chosen anew at every start, so that nobody else's reply is taken for ours.
    cookie: u64,
    outstanding: Outstanding,
    stamping: Stamping,
    /// Whether the last send failed: begin and end are logged, not each probe.
    send_fails: bool,
    /// Whether the last probe that ended did so by an ICMP error.
    is_refused: bool,
}

/// A socket of one IP version.
#[derive(Debug)]
pub(crate) struct Line {
    family: Family,
    pub(crate) socket: IcmpSocket,
    /// Off after a receive error until the next send, so that an error that stays cannot make the
    /// loop spin.
    pub(crate) is_polled: bool,
}

/// One WAN with everything its probes need.
#[derive(Debug)]
pub(crate) struct ProbedWan {
    pub(crate) id: WanId,
    settings: ProbeWan,
    /// One for each IP version that a reflector needs.
    pub(crate) lines: Vec<Line>,
    reflectors: Vec<Reflector>,
    pool: Pool,
    reopened_ns: u64,
    reviewed_ns: u64,
}

impl ProbedWan {
    /// Opens the sockets of the WAN at position `wan`. `random` is where identifiers, sequence
    /// numbers and cookies begin.
    pub(crate) fn open(
        wan: usize,
        settings: &ProbeWan,
        timeout_ns: u64,
        random: impl FnMut() -> u64,
    ) -> Result<Self, ProbeError> {
        let lines = open_lines(wan, settings)?;
        Self::with_lines(wan, settings, timeout_ns, random, lines)
    }

    /// Makes a WAN whose interface or address is not there yet: sockets are tried again and again.
    pub(crate) fn closed(
        wan: usize,
        settings: &ProbeWan,
        timeout_ns: u64,
        random: impl FnMut() -> u64,
    ) -> Result<Self, ProbeError> {
        Self::with_lines(wan, settings, timeout_ns, random, Vec::new())
    }

    fn with_lines(
        wan: usize,
        settings: &ProbeWan,
        timeout_ns: u64,
        mut random: impl FnMut() -> u64,
        lines: Vec<Line>,
    ) -> Result<Self, ProbeError> {
        let count = settings.reflectors.len();
        let [first_identifier, ..] = split(random());
        let reflector = |(address, offset): (&IpAddr, u16)| Reflector {
            address: *address,
            // Apart from each other, whatever the randomness.
            identifier: first_identifier.wrapping_add(offset),
            cookie: random(),
            outstanding: Outstanding::new(split(random())[1], timeout_ns),
            stamping: Stamping::new(),
            send_fails: false,
            is_refused: false,
        };
        if count > MEMBERS_MAX {
            return Err(ProbeError::TooManyReflectors { wan, count });
        }
        let reflectors = settings.reflectors.iter().zip(0..).map(reflector).collect();
        let now_ns = clock::now_nanos();
        Ok(Self {
            // `wan` is below MAX_WANS.
            id: WanId(u8::try_from(wan).unwrap_or(u8::MAX)),
            settings: settings.clone(),
            lines,
            reflectors,
            pool: Pool::new(count, settings.active(), now_ns),
            reopened_ns: 0,
            reviewed_ns: now_ns,
        })
    }

    pub(crate) fn send(&mut self, slot: ReflectorId, mailbox: &Mailbox) {
        let now_ns = clock::now_nanos();
        let aim = self.pool.aim(usize::from(slot.0), now_ns);
        let member = aim.and_then(|aim| Some((aim, self.reflectors.get_mut(aim.member)?)));
        let Some((aim, reflector)) = member else {
            mailbox.lost(self.id, slot);
            return;
        };
        let Reflector { address, identifier, cookie, .. } = *reflector;
        let family = Family::of(address);
        let mut line = self.lines.iter_mut().find(|line| line.family == family);
        let can_stamp = line.as_ref().is_some_and(|line| line.socket.can_ask_for_timestamps());
        let purpose = reflector.purpose(aim.is_scout, can_stamp, now_ns);
        let (sequence, evicted) = reflector.outstanding.open(purpose, now_ns);
        let echo = Echo { identifier, sequence, cookie };
        let sent = match &mut line {
            Some(line) => {
                line.is_polled = true;
                if purpose.is_stamped() {
                    line.socket.ask_for_timestamps(echo, address)
                } else {
                    line.socket.send(echo, address)
                }
            }
            None => Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        let failed = sent.as_ref().err().and_then(|_| reflector.outstanding.give_up(sequence));
        reflector.note_send(self.id, &sent);
        for purpose in [evicted, failed].into_iter().flatten() {
            self.lose(aim.member, purpose, mailbox);
        }
        let is_mute = |slot| {
            let member = self.pool.member_in(slot).and_then(|member| self.reflectors.get(member));
            member.is_none_or(|member| member.send_fails)
        };
        let is_dead = (0..MAX_REFLECTORS).all(is_mute);
        if is_dead && now_ns.saturating_sub(self.reopened_ns) >= REOPEN_INTERVAL_NS {
            self.reopen(now_ns);
        }
    }

    /// Opens the sockets anew; an old one never notices that its interface was made again.
    pub(crate) fn reopen(&mut self, now_ns: u64) {
        self.reopened_ns = now_ns;
        match open_lines(usize::from(self.id.0), &self.settings) {
            Ok(lines) => {
                self.lines = lines;
                tracing::debug!(wan = self.id.0, "ping sockets opened anew");
            }
            Err(error) => tracing::debug!(%error, "the ping sockets stay as they are"),
        }
    }

    pub(crate) fn receive_all(&mut self, mailbox: &Mailbox) {
        for line in 0..self.lines.len() {
            self.receive_from(line, mailbox);
        }
    }

    fn receive_from(&mut self, line: usize, mailbox: &Mailbox) {
        let Some(open) = self.lines.get_mut(line) else { return };
        let has_own_identifiers = open.socket.has_own_identifiers();
        // First: an error in this queue makes other calls on the socket fail.
        let errors = if has_own_identifiers { 0 } else { RECEIVE_BATCH_MAX };
        for _ in 0..errors {
            let received = self.lines.get_mut(line).map(|line| line.socket.receive_error());
            let Some(Ok(received)) = received else { break };
            self.take(received, has_own_identifiers, mailbox);
        }
        for _ in 0..RECEIVE_BATCH_MAX {
            let Some(open) = self.lines.get_mut(line) else { return };
            match open.socket.receive() {
                Ok(received) => self.take(received, has_own_identifiers, mailbox),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::debug!(wan = self.id.0, %error, "receiving failed");
                    open.is_polled = false;
                    return;
                }
            }
        }
    }

    fn take(&mut self, received: Received, has_own_identifiers: bool, mailbox: &Mailbox) {
        match received {
            Received::Reply { reply, from, at_ns } => {
                let is_meant = |reflector: &Reflector| {
                    reply.is_of(reflector.cookie)
                        && reflector.address == from
                        && (!has_own_identifiers || reflector.identifier == reply.identifier)
                };
                let member = self.reflectors.iter().position(is_meant);
                member.inspect(|member| self.take_reply(*member, &reply, at_ns, mailbox));
            }
            Received::Fault { quoted, cookie, by } => {
                self.take_fault(quoted, cookie, by, mailbox);
            }
            Received::Other => {}
        }
    }

    fn take_reply(&mut self, member: usize, reply: &Reply, at_ns: u64, mailbox: &Mailbox) {
        let Some(reflector) = self.reflectors.get_mut(member) else { return };
        let is_stamped = reply.stamps.is_some();
        let counters = |count: fn(&mut super::ProbeCounters)| mailbox.count(self.id, count);
        match reflector.outstanding.answer(reply.sequence, is_stamped, at_ns) {
            Answer::InTime(timely) => self.take_timely(member, reply, &timely, at_ns, mailbox),
            Answer::Late => counters(|all| all.late = all.late.saturating_add(1)),
            Answer::Duplicate => counters(|all| all.duplicates = all.duplicates.saturating_add(1)),
            Answer::Unknown => {}
        }
    }

    fn take_timely(
        &mut self,
        member: usize,
        reply: &Reply,
        timely: &Timely,
        at_ns: u64,
        mailbox: &Mailbox,
    ) {
        let (wan, rtt) = (self.id, timely.rtt);
        let Some(reflector) = self.reflectors.get_mut(member) else { return };
        if std::mem::replace(&mut reflector.is_refused, false) {
            tracing::info!(wan = wan.0, reflector = %reflector.address, "it answers again");
        }
        if timely.purpose == Purpose::Scout {
            if let Some(replacement) = self.pool.scout_answered(member, at_ns) {
                self.tell(&replacement, mailbox);
            }
            return;
        }
        let mut upload_owd = None;
        if let Some(stamps) = reply.stamps {
            let (owd, finding) =
                reflector.stamping.answered(stamps, timely.sent_ns, rtt.get(), at_ns);
            upload_owd = owd;
            reflector.note_finding(wan, finding);
        }
        self.pool.answered(member, rtt.get(), at_ns);
        // One that was replaced meanwhile has no number any more.
        let Some(reflector) = self.number_of(member) else { return };
        mailbox.arrived(Arrival { wan, reflector, rtt, received_ns: at_ns, upload_owd });
    }

    /// Returns the number under which the core knows a reflector.
    fn number_of(&self, member: usize) -> Option<ReflectorId> {
        self.pool.slot_of(member).and_then(|slot| u8::try_from(slot).ok()).map(ReflectorId)
    }

    /// A probe has ended without an answer.
    fn lose(&mut self, member: usize, purpose: Purpose, mailbox: &Mailbox) {
        let Some(reflector) = self.reflectors.get_mut(member) else { return };
        if purpose.is_stamped() {
            let finding = reflector.stamping.unanswered(clock::now_nanos());
            reflector.note_finding(self.id, finding);
        }
        if matches!(purpose, Purpose::Measure | Purpose::Stamped) {
            self.pool.lost(member);
            if let Some(reflector) = self.number_of(member) {
                mailbox.lost(self.id, reflector);
            }
        }
    }

    /// Ends the probe that an ICMP error is about. Only a probe that waits, and was sent where the
    /// error says, can be ended: that much a stranger would have to guess.
    fn take_fault(
        &mut self,
        quoted: Quoted,
        cookie: Option<u64>,
        by: Option<IpAddr>,
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
        let Some(member) = self.reflectors.iter().position(is_meant) else { return };
        let Some(reflector) = self.reflectors.get_mut(member) else { return };
        let Some(purpose) = reflector.outstanding.give_up(quoted.sequence) else { return };
        // Who refuses timestamps, or is only looked at, answers pings all the same.
        let is_news = purpose == Purpose::Measure;
        if is_news && !std::mem::replace(&mut reflector.is_refused, true) {
            let by = by.map_or_else(String::new, |by| format!(", says {by}"));
            let (to, fault) = (quoted.to, quoted.fault);
            tracing::warn!(wan = wan.0, "{to}: {fault}{by}");
        }
        mailbox.count(wan, |all| all.errors = all.errors.saturating_add(1));
        self.lose(member, purpose, mailbox);
    }

    /// Gives up what has waited too long, and now and then looks whether a reflector should be replaced.
    pub(crate) fn expire(&mut self, mailbox: &Mailbox) {
        let now_ns = clock::now_nanos();
        for member in 0..self.reflectors.len() {
            while let Some(purpose) =
                self.reflectors.get_mut(member).and_then(|all| all.outstanding.expire(now_ns))
            {
                self.lose(member, purpose, mailbox);
            }
        }
        if now_ns.saturating_sub(self.reviewed_ns) < REVIEW_NS {
            return;
        }
        self.reviewed_ns = now_ns;
        if let Some(replacement) = self.pool.review(now_ns) {
            self.tell(&replacement, mailbox);
        }
        let statuses = std::array::from_fn(|slot| self.status(slot));
        mailbox.count(self.id, |all| all.reflectors = statuses);
    }

    /// Tells that a slot has another reflector now.
    fn tell(&mut self, replacement: &Replacement, mailbox: &Mailbox) {
        let Replacement { slot, old, new, why } = *replacement;
        let address = |member: usize| self.reflectors.get(member).map(|all| all.address);
        let (Some(old), Some(new)) = (address(old), address(new)) else { return };
        let wan = self.id;
        tracing::warn!(wan = wan.0, "reflector {old} is replaced by {new}: {}", why.as_str());
        let Ok(slot) = u8::try_from(slot) else { return };
        mailbox.replaced(wan, ReflectorId(slot));
        mailbox.count(wan, |all| all.replaced = all.replaced.saturating_add(1));
    }

    fn status(&self, slot: usize) -> Option<ReflectorStatus> {
        let member = self.pool.member_in(slot)?;
        let reflector = self.reflectors.get(member)?;
        let has_timestamps = reflector.stamping.is_used();
        let health = self.pool.health(member);
        Some(ReflectorStatus { address: reflector.address, has_timestamps, health })
    }

    /// Returns when the next probe expires.
    pub(crate) fn next_expiry_ns(&self) -> Option<u64> {
        self.reflectors.iter().filter_map(|all| all.outstanding.next_expiry_ns()).min()
    }
}

/// Opens a socket for each IP version that a reflector has. Without IPv6 on this host its reflectors
/// stay silent, unless there are no others.
fn open_lines(wan: usize, settings: &ProbeWan) -> Result<Vec<Line>, ProbeError> {
    let is_needed = |family| settings.reflectors.iter().any(|all| Family::of(*all) == family);
    let mut lines: Vec<Line> = Vec::new();
    for family in Family::BOTH.into_iter().filter(|family| is_needed(*family)) {
        match IcmpSocket::open(wan, settings, family) {
            Ok(socket) => {
                tracing::debug!(wan, ?family, kind = socket.kind(), "ping socket open");
                if family == Family::V4 && !socket.can_ask_for_timestamps() {
                    tracing::debug!(wan, "one-way delays need a raw socket (CAP_NET_RAW)");
                }
                lines.push(Line { family, socket, is_polled: true });
            }
            Err(ProbeError::Socket { step, error, .. }) if !lines.is_empty() => {
                tracing::warn!(wan, %error, "no pings by {family:?}: {step}");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(lines)
}

impl Reflector {
    /// Returns what the next probe is for.
    fn purpose(&mut self, is_scout: bool, can_stamp: bool, now_ns: u64) -> Purpose {
        if is_scout {
            return Purpose::Scout;
        }
        let manner = if can_stamp { self.stamping.next(now_ns) } else { Manner::Echo };
        match manner {
            Manner::Echo => Purpose::Measure,
            Manner::Timestamp => Purpose::Stamped,
            Manner::Trial => Purpose::Trial,
        }
    }

    fn note_finding(&self, wan: WanId, finding: Option<Finding>) {
        let (wan, reflector) = (wan.0, self.address);
        match finding {
            Some(Finding::Usable) => {
                tracing::info!(wan, %reflector, "one-way delays are measured by ICMP timestamps");
            }
            Some(Finding::Useless) => {
                tracing::info!(wan, %reflector, "no usable ICMP timestamps: only round trips");
            }
            None => {}
        }
    }

    fn note_send(&mut self, wan: WanId, sent: &io::Result<()>) {
        let (wan, reflector) = (wan.0, self.address);
        match sent {
            Err(error) if !self.send_fails => {
                tracing::warn!(wan, %reflector, %error, "probes cannot be sent");
            }
            Ok(()) if self.send_fails => {
                tracing::info!(wan, %reflector, "probes can be sent again");
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
