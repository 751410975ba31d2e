//! The ICMPv4 echo messages (RFC 792) as pure functions over bytes.

/// ICMP header (8 bytes) and the cookie (8 bytes).
pub(crate) const ECHO_BYTES: usize = 16;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const PROTOCOL_ICMP: u8 = 1;

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

impl Echo {
    /// Returns whether this answers a socket of that identifier and cookie. `None` where the kernel
    /// has chosen the identifier and delivers nobody else's replies.
    pub(crate) fn answers(self, identifier: Option<u16>, cookie: u64) -> bool {
        identifier.is_none_or(|own| own == self.identifier) && self.cookie == cookie
    }
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

    #[test]
    fn replies_to_others_are_told_apart() {
        let Echo { identifier, cookie, .. } = ECHO;
        assert!(ECHO.answers(Some(identifier), cookie));
        assert!(ECHO.answers(None, cookie), "an unprivileged socket");
        assert!(!ECHO.answers(Some(identifier ^ 1), cookie));
        assert!(!ECHO.answers(Some(identifier), cookie ^ 1));
        assert!(!ECHO.answers(None, cookie ^ 1));
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
