//! The ICMPv4 echo messages (RFC 792) and the errors about them, as pure functions over bytes.

use std::net::Ipv4Addr;

/// ICMP header (8 bytes) and the cookie (8 bytes).
pub(crate) const ECHO_BYTES: usize = 16;

const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
const PROTOCOL_ICMP: u8 = 1;
/// Header of an ICMP message, and as much of ours as every error quotes (RFC 792).
const HEADER_BYTES: usize = 8;

/// An ICMP error: a router or the host itself says that a probe will not be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    kind: u8,
    code: u8,
}

impl Fault {
    /// Returns the fault that an error of this type and code reports, if it reports one.
    pub(crate) fn new(kind: u8, code: u8) -> Option<Self> {
        matches!(kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM)
            .then_some(Self { kind, code })
    }
}

impl std::fmt::Display for Fault {
    /// Writes the words of RFC 792 and RFC 1812.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match (self.kind, self.code) {
            (UNREACHABLE, 0) => "network unreachable",
            (UNREACHABLE, 1) => "host unreachable",
            (UNREACHABLE, 2) => "protocol unreachable",
            (UNREACHABLE, 4) => "fragmentation needed",
            (UNREACHABLE, 9 | 10 | 13) => "administratively prohibited",
            (UNREACHABLE, _) => "unreachable",
            (TIME_EXCEEDED, _) => "time to live exceeded",
            _ => "parameter problem",
        })
    }
}

/// An echo request that an ICMP error quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quoted {
    /// What the error says.
    pub(crate) fault: Fault,
    /// Whom the request was for.
    pub(crate) to: Ipv4Addr,
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

/// Whether a received datagram still has its IPv4 header: raw sockets deliver it, unprivileged
/// ICMP sockets do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The ICMP header comes first.
    Icmp,
    /// An IPv4 header comes first.
    Ipv4,
}

/// Writes an echo request with its checksum.
pub(crate) fn encode_request(echo: Echo) -> [u8; ECHO_BYTES] {
    encode(ECHO_REQUEST, echo)
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

/// Reads an echo reply of the shape [`encode_request`] asks for; anything else is `None`.
pub(crate) fn parse_reply(datagram: &[u8], framing: Framing) -> Option<Echo> {
    let message = match framing {
        Framing::Icmp => datagram,
        Framing::Ipv4 => strip_ipv4_header(datagram)?,
    };
    let message: &[u8; ECHO_BYTES] = message.try_into().ok()?;
    let [kind, code, _, _, id_high, id_low, seq_high, seq_low, cookie @ ..] = *message;
    let is_reply = kind == ECHO_REPLY && code == 0 && checksum(message) == 0;
    is_reply.then_some(Echo {
        identifier: u16::from_be_bytes([id_high, id_low]),
        sequence: u16::from_be_bytes([seq_high, seq_low]),
        cookie: u64::from_be_bytes(cookie),
    })
}

/// Reads an ICMP error about an echo request, as a raw socket delivers it.
pub(crate) fn parse_error(datagram: &[u8]) -> Option<Quoted> {
    let message = strip_ipv4_header(datagram)?;
    let [kind, code, ..] = *message.first_chunk::<HEADER_BYTES>()?;
    let fault = Fault::new(kind, code).filter(|_| checksum(message) == 0)?;
    let quoted = message.get(HEADER_BYTES..)?;
    let to: [u8; 4] = quoted.get(16..20)?.try_into().ok()?;
    let [kind, _, _, _, id_high, id_low, seq_high, seq_low] =
        *strip_ipv4_header(quoted)?.first_chunk::<HEADER_BYTES>()?;
    (kind == ECHO_REQUEST).then_some(Quoted {
        fault,
        to: to.into(),
        identifier: u16::from_be_bytes([id_high, id_low]),
        sequence: u16::from_be_bytes([seq_high, seq_low]),
    })
}

/// Reads one of our own requests, which the kernel gives back with an error.
pub(crate) fn parse_request(message: &[u8]) -> Option<Echo> {
    let [ECHO_REQUEST, _, _, _, id_high, id_low, seq_high, seq_low, cookie @ ..] =
        *message.first_chunk::<ECHO_BYTES>()?
    else {
        return None;
    };
    Some(Echo {
        identifier: u16::from_be_bytes([id_high, id_low]),
        sequence: u16::from_be_bytes([seq_high, seq_low]),
        cookie: u64::from_be_bytes(cookie),
    })
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
mod tests {
    use super::*;

    const ECHO: Echo = Echo { identifier: 0xbeef, sequence: 513, cookie: 0x0123_4567_89ab_cdef };

    fn reply() -> [u8; ECHO_BYTES] {
        encode(ECHO_REPLY, ECHO)
    }

    fn with_ipv4_header(options: usize, message: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0_u8; 20 + 4 * options];
        datagram[0] = 0x40 | u8::try_from(5 + options).unwrap();
        datagram[9] = PROTOCOL_ICMP;
        datagram.extend_from_slice(message);
        datagram
    }

    #[test]
    fn checksum_matches_the_example_of_rfc_1071() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&data), !0xddf2);
    }

    #[test]
    fn checksum_pads_an_odd_byte_with_zero() {
        assert_eq!(checksum(&[0xab]), checksum(&[0xab, 0x00]));
        assert_eq!(checksum(&[]), 0xffff);
    }

    #[test]
    fn checksum_folds_every_carry() {
        assert_eq!(checksum(&[0xff; 64]), 0);
    }

    #[test]
    fn request_has_the_layout_of_rfc_792() {
        let packet = encode_request(ECHO);
        assert_eq!(packet[..2], [8, 0]);
        assert_eq!(packet[4..8], [0xbe, 0xef, 0x02, 0x01]);
        assert_eq!(checksum(&packet), 0);
    }

    #[test]
    fn reply_is_read_without_an_ipv4_header() {
        assert_eq!(parse_reply(&reply(), Framing::Icmp), Some(ECHO));
    }

    #[test]
    fn reply_is_read_behind_an_ipv4_header_with_and_without_options() {
        for options in [0, 10] {
            let datagram = with_ipv4_header(options, &reply());
            assert_eq!(parse_reply(&datagram, Framing::Ipv4), Some(ECHO), "{options}");
        }
    }

    /// An error as a router sends it: IPv4 header, ICMP header, our IPv4 header, our request.
    fn error(kind: u8, code: u8, quoted_bytes: usize) -> Vec<u8> {
        let mut quoted = with_ipv4_header(0, &encode_request(ECHO));
        quoted[16..20].copy_from_slice(&[192, 0, 2, 9]);
        let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(&quoted[..20 + quoted_bytes]);
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        with_ipv4_header(1, &message)
    }

    #[test]
    fn an_error_names_the_probe_it_is_about() {
        // Routers quote eight bytes at least.
        for quoted_bytes in [8, 16] {
            let quoted = parse_error(&error(3, 1, quoted_bytes)).unwrap();
            assert_eq!((quoted.identifier, quoted.sequence), (ECHO.identifier, ECHO.sequence));
            assert_eq!(quoted.to, Ipv4Addr::new(192, 0, 2, 9));
            assert_eq!(quoted.fault.to_string(), "host unreachable");
        }
    }

    #[test]
    fn damaged_and_foreign_errors_are_refused() {
        let good = error(11, 0, 16);
        for length in 0..good.len() {
            assert_eq!(parse_error(&good[..length]), None, "{length}");
        }
        assert_eq!(parse_error(&error(5, 0, 16)), None, "a redirect is no error");
        let mut damaged = good.clone();
        damaged[25] ^= 1;
        assert_eq!(parse_error(&damaged), None);
        assert_eq!(parse_error(&with_ipv4_header(0, &reply())), None);
    }

    #[test]
    fn our_own_request_is_read_back() {
        assert_eq!(parse_request(&encode_request(ECHO)), Some(ECHO));
        assert_eq!(parse_request(&reply()), None);
        assert_eq!(parse_request(&encode_request(ECHO)[..15]), None);
    }

    #[test]
    fn every_truncation_is_refused() {
        let datagram = with_ipv4_header(0, &reply());
        for length in 0..datagram.len() {
            assert_eq!(parse_reply(&datagram[..length], Framing::Ipv4), None, "{length}");
        }
        for length in 0..ECHO_BYTES {
            assert_eq!(parse_reply(&reply()[..length], Framing::Icmp), None, "{length}");
        }
    }

    #[test]
    fn request_is_not_a_reply() {
        assert_eq!(parse_reply(&encode_request(ECHO), Framing::Icmp), None);
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        for bit in 0..ECHO_BYTES * 8 {
            let mut packet = reply();
            packet[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_reply(&packet, Framing::Icmp), None, "bit {bit}");
        }
    }

    #[test]
    fn other_ip_versions_and_protocols_are_refused() {
        let good = with_ipv4_header(0, &reply());
        for (at, value) in [(0, 0x65), (0, 0x44), (9, 17)] {
            let mut datagram = good.clone();
            datagram[at] = value;
            assert_eq!(parse_reply(&datagram, Framing::Ipv4), None, "{at} {value:#x}");
        }
    }
}
