//! ICMP messages of both IP versions and the errors about them, as pure functions over bytes: echo
//! (RFC 792, RFC 4443) and timestamp (RFC 792).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// ICMP header (8 bytes) and the cookie (8 bytes).
pub(crate) const ECHO_BYTES: usize = 16;
/// ICMP header (8 bytes) and three times of 4 bytes.
pub(crate) const TIMESTAMP_BYTES: usize = 20;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
const TIMESTAMP_REQUEST: u8 = 13;
const TIMESTAMP_REPLY: u8 = 14;
const PROTOCOL_ICMP: u8 = 1;

const UNREACHABLE_6: u8 = 1;
const TOO_BIG_6: u8 = 2;
const TIME_EXCEEDED_6: u8 = 3;
const PARAMETER_PROBLEM_6: u8 = 4;
const ECHO_REQUEST_6: u8 = 128;
const ECHO_REPLY_6: u8 = 129;
const PROTOCOL_ICMP_6: u8 = 58;
const IPV6_HEADER_BYTES: usize = 40;

/// Header of an ICMP message, and as much of ours as every error quotes (RFC 792).
const HEADER_BYTES: usize = 8;
/// A time that is not in milliseconds since midnight has this bit set (RFC 792).
const NOT_STANDARD: u32 = 0x8000_0000;

/// An ICMP error: a router or the host itself says that a probe will not be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault(&'static str);

impl Fault {
    /// Returns the fault that an ICMPv4 error of this type and code reports, if it reports one, in the
    /// words of RFC 792 and RFC 1812.
    pub(crate) const fn v4(kind: u8, code: u8) -> Option<Self> {
        Some(Self(match (kind, code) {
            (UNREACHABLE, 0) => "network unreachable",
            (UNREACHABLE, 1) => "host unreachable",
            (UNREACHABLE, 2) => "protocol unreachable",
            (UNREACHABLE, 4) => "fragmentation needed",
            (UNREACHABLE, 9 | 10 | 13) => "administratively prohibited",
            (UNREACHABLE, _) => "unreachable",
            (TIME_EXCEEDED, _) => "time to live exceeded",
            (PARAMETER_PROBLEM, _) => "parameter problem",
            _ => return None,
        }))
    }

    /// The same for ICMPv6, in the words of RFC 4443.
    pub(crate) const fn v6(kind: u8, code: u8) -> Option<Self> {
        Some(Self(match (kind, code) {
            (UNREACHABLE_6, 0) => "no route to destination",
            (UNREACHABLE_6, 1 | 5 | 6) => "administratively prohibited",
            (UNREACHABLE_6, 2) => "beyond scope of source address",
            (UNREACHABLE_6, 3) => "address unreachable",
            (UNREACHABLE_6, _) => "unreachable",
            (TOO_BIG_6, _) => "packet too big",
            (TIME_EXCEEDED_6, _) => "hop limit exceeded",
            (PARAMETER_PROBLEM_6, _) => "parameter problem",
            _ => return None,
        }))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A request that an ICMP error quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quoted {
    /// What the error says.
    pub(crate) fault: Fault,
    /// Whom the request was for.
    pub(crate) to: IpAddr,
    /// The request's identifier.
    pub(crate) identifier: u16,
    /// The request's sequence number.
    pub(crate) sequence: u16,
}

/// One echo request or reply, as far as a prober needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Echo {
    /// Names the socket. On an unprivileged ICMP socket the kernel puts its own value here.
    pub(crate) identifier: u16,
    /// Names the probe.
    pub(crate) sequence: u16,
    /// Chosen anew at every start, so that nobody else's reply is taken for ours.
    pub(crate) cookie: u64,
}

/// When a timestamp request came and its answer left, by the reflector's clock: in ms since midnight
/// UT, or anything else with the highest bit set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamps {
    pub(crate) receive_ms: u32,
    pub(crate) transmit_ms: u32,
}

/// An answer to either kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) identifier: u16,
    pub(crate) sequence: u16,
    /// What came back of the cookie: all of it, or what fits into a time.
    token: u64,
    /// The times, if timestamps were asked for.
    pub(crate) stamps: Option<Stamps>,
}

impl Reply {
    /// Returns whether this answers a request with that cookie.
    pub(crate) const fn is_of(&self, cookie: u64) -> bool {
        self.token == if self.stamps.is_some() { originate(cookie) } else { cookie }
    }
}

/// Which headers a received datagram has, and of which IP version it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The ICMPv4 header comes first, as unprivileged sockets deliver it.
    Icmp,
    /// An IPv4 header comes first, as raw sockets deliver it.
    Ipv4,
    /// The ICMPv6 header comes first; the kernel has checked the checksum.
    Icmp6,
}

impl Framing {
    const fn request(self) -> u8 {
        match self {
            Self::Icmp | Self::Ipv4 => ECHO_REQUEST,
            Self::Icmp6 => ECHO_REQUEST_6,
        }
    }
}

/// Returns what stands for the cookie in a timestamp request. The time of departure is in our own
/// tables: a reflector only gives back what it is told, and RFC 792 allows any value with the
/// highest bit set.
const fn originate(cookie: u64) -> u64 {
    (cookie & 0xffff_ffff) | NOT_STANDARD as u64
}

/// Writes an echo request; with its checksum, which the kernel puts into ICMPv6 itself.
pub(crate) fn encode_request(echo: Echo, framing: Framing) -> [u8; ECHO_BYTES] {
    encode(framing.request(), echo)
}

fn encode(kind: u8, echo: Echo) -> [u8; ECHO_BYTES] {
    let mut packet = [0; ECHO_BYTES];
    packet[0] = kind;
    packet[4..6].copy_from_slice(&echo.identifier.to_be_bytes());
    packet[6..8].copy_from_slice(&echo.sequence.to_be_bytes());
    packet[8..].copy_from_slice(&echo.cookie.to_be_bytes());
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Writes a timestamp request (type 13) with its checksum.
pub(crate) fn encode_timestamp_request(echo: Echo) -> [u8; TIMESTAMP_BYTES] {
    let [_, _, _, _, originate @ ..] = originate(echo.cookie).to_be_bytes();
    let mut packet = [0; TIMESTAMP_BYTES];
    packet[0] = TIMESTAMP_REQUEST;
    packet[4..6].copy_from_slice(&echo.identifier.to_be_bytes());
    packet[6..8].copy_from_slice(&echo.sequence.to_be_bytes());
    packet[8..12].copy_from_slice(&originate);
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Reads an answer of the shape our requests ask for; anything else is `None`.
pub(crate) fn parse_reply(datagram: &[u8], framing: Framing) -> Option<Reply> {
    let (message, kind) = match framing {
        Framing::Icmp => (datagram, ECHO_REPLY),
        Framing::Ipv4 => (strip_ipv4_header(datagram)?, ECHO_REPLY),
        Framing::Icmp6 => (datagram, ECHO_REPLY_6),
    };
    if framing != Framing::Icmp6 && checksum(message) != 0 {
        return None;
    }
    if let Ok(message) = <&[u8; TIMESTAMP_BYTES]>::try_from(message) {
        return parse_timestamp_reply(message).filter(|_| framing != Framing::Icmp6);
    }
    let message: &[u8; ECHO_BYTES] = message.try_into().ok()?;
    let [found, code, _, _, id_high, id_low, seq_high, seq_low, cookie @ ..] = *message;
    (found == kind && code == 0).then_some(Reply {
        identifier: u16::from_be_bytes([id_high, id_low]),
        sequence: u16::from_be_bytes([seq_high, seq_low]),
        token: u64::from_be_bytes(cookie),
        stamps: None,
    })
}

fn parse_timestamp_reply(message: &[u8; TIMESTAMP_BYTES]) -> Option<Reply> {
    let [TIMESTAMP_REPLY, 0, _, _, id_high, id_low, seq_high, seq_low, times @ ..] = *message
    else {
        return None;
    };
    let [o0, o1, o2, o3, r0, r1, r2, r3, t0, t1, t2, t3] = times;
    Some(Reply {
        identifier: u16::from_be_bytes([id_high, id_low]),
        sequence: u16::from_be_bytes([seq_high, seq_low]),
        token: u32::from_be_bytes([o0, o1, o2, o3]).into(),
        stamps: Some(Stamps {
            receive_ms: u32::from_be_bytes([r0, r1, r2, r3]),
            transmit_ms: u32::from_be_bytes([t0, t1, t2, t3]),
        }),
    })
}

/// Reads an ICMP error about a request of ours, as a raw socket delivers it.
pub(crate) fn parse_error(datagram: &[u8], framing: Framing) -> Option<Quoted> {
    match framing {
        Framing::Icmp => None,
        Framing::Ipv4 => parse_error_v4(datagram),
        Framing::Icmp6 => parse_error_v6(datagram),
    }
}

fn parse_error_v4(datagram: &[u8]) -> Option<Quoted> {
    let message = strip_ipv4_header(datagram)?;
    let [kind, code, ..] = *message.first_chunk::<HEADER_BYTES>()?;
    let fault = Fault::v4(kind, code).filter(|_| checksum(message) == 0)?;
    let quoted = message.get(HEADER_BYTES..)?;
    let to: [u8; 4] = quoted.get(16..20)?.try_into().ok()?;
    let (kind, identifier, sequence) = names(strip_ipv4_header(quoted)?)?;
    let is_request = matches!(kind, ECHO_REQUEST | TIMESTAMP_REQUEST);
    let to = Ipv4Addr::from(to).into();
    is_request.then_some(Quoted { fault, to, identifier, sequence })
}

fn parse_error_v6(message: &[u8]) -> Option<Quoted> {
    let [kind, code, ..] = *message.first_chunk::<HEADER_BYTES>()?;
    let fault = Fault::v6(kind, code)?;
    let quoted = message.get(HEADER_BYTES..)?;
    let header = quoted.first_chunk::<IPV6_HEADER_BYTES>()?;
    let to: [u8; 16] = header.get(24..40)?.try_into().ok()?;
    let is_ours = header[0] >> 4 == 6 && header[6] == PROTOCOL_ICMP_6;
    let (kind, identifier, sequence) = names(quoted.get(IPV6_HEADER_BYTES..)?)?;
    let to = Ipv6Addr::from(to).into();
    (is_ours && kind == ECHO_REQUEST_6).then_some(Quoted { fault, to, identifier, sequence })
}

/// Returns type, identifier and sequence number of a message.
fn names(message: &[u8]) -> Option<(u8, u16, u16)> {
    let [kind, _, _, _, id_high, id_low, seq_high, seq_low] =
        *message.first_chunk::<HEADER_BYTES>()?;
    let word = |high, low| u16::from_be_bytes([high, low]);
    Some((kind, word(id_high, id_low), word(seq_high, seq_low)))
}

/// Reads one of our own echo requests, which the kernel gives back with an error.
pub(crate) fn parse_request(message: &[u8], framing: Framing) -> Option<Echo> {
    let (kind, identifier, sequence) = names(message)?;
    let cookie = message.get(HEADER_BYTES..)?.first_chunk()?;
    let cookie = u64::from_be_bytes(*cookie);
    (kind == framing.request()).then_some(Echo { identifier, sequence, cookie })
}

fn strip_ipv4_header(datagram: &[u8]) -> Option<&[u8]> {
    let first = *datagram.first()?;
    let header_bytes = usize::from(first & 0x0f) * 4;
    let is_icmp = *datagram.get(9)? == PROTOCOL_ICMP;
    if first >> 4 != 4 || header_bytes < 20 || !is_icmp {
        return None;
    }
    datagram.get(header_bytes..)
}

/// Returns the internet checksum (RFC 1071); zero over data that holds its own correct checksum.
pub(crate) fn checksum(data: &[u8]) -> u16 {
    let words = data.chunks(2).map(|pair| match *pair {
        [high, low] => u16::from_be_bytes([high, low]),
        [high] => u16::from_be_bytes([high, 0]),
        _ => 0,
    });
    let sum = words.fold(0_u32, |sum, word| {
        let sum = sum + u32::from(word);
        (sum & 0xffff) + (sum >> 16)
    });
    // The fold keeps the sum within 16 bits after every step.
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
