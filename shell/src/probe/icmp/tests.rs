use super::*;

const V4: Framing = Framing::Ipv4;
const ECHO: Echo = Echo { identifier: 0xbeef, sequence: 513, cookie: 0x0123_4567_89ab_cdef };

const ANSWER: Reply = Reply { identifier: 0xbeef, sequence: 513, token: ECHO.cookie, stamps: None };

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
    let packet = encode_request(ECHO, V4);
    assert_eq!(packet[..2], [8, 0]);
    assert_eq!(packet[4..8], [0xbe, 0xef, 0x02, 0x01]);
    assert_eq!(checksum(&packet), 0);
}

#[test]
fn reply_is_read_without_an_ipv4_header() {
    assert_eq!(parse_reply(&reply(), Framing::Icmp), Some(ANSWER));
}

#[test]
fn reply_is_read_behind_an_ipv4_header_with_and_without_options() {
    for options in [0, 10] {
        let datagram = with_ipv4_header(options, &reply());
        assert_eq!(parse_reply(&datagram, V4), Some(ANSWER), "{options}");
    }
}

/// An error as a router sends it: IPv4 header, ICMP header, our IPv4 header, our request.
fn error(kind: u8, code: u8, quoted_bytes: usize) -> Vec<u8> {
    let mut quoted = with_ipv4_header(0, &encode_request(ECHO, V4));
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
        let quoted = parse_error(&error(3, 1, quoted_bytes), V4).unwrap();
        assert_eq!((quoted.identifier, quoted.sequence), (ECHO.identifier, ECHO.sequence));
        assert_eq!(quoted.to, IpAddr::from([192, 0, 2, 9]));
        assert_eq!(quoted.fault.to_string(), "host unreachable");
    }
}

#[test]
fn damaged_and_foreign_errors_are_refused() {
    let good = error(11, 0, 16);
    for length in 0..good.len() {
        assert_eq!(parse_error(&good[..length], V4), None, "{length}");
    }
    assert_eq!(parse_error(&error(5, 0, 16), V4), None, "a redirect is no error");
    let mut damaged = good.clone();
    damaged[25] ^= 1;
    assert_eq!(parse_error(&damaged, V4), None);
    assert_eq!(parse_error(&with_ipv4_header(0, &reply()), V4), None);
}

#[test]
fn our_own_request_is_read_back() {
    assert_eq!(parse_request(&encode_request(ECHO, V4), Framing::Icmp), Some(ECHO));
    assert_eq!(parse_request(&reply(), Framing::Icmp), None);
    assert_eq!(parse_request(&encode_request(ECHO, V4)[..15], Framing::Icmp), None);
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
    assert_eq!(parse_reply(&encode_request(ECHO, V4), Framing::Icmp), None);
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

/// A timestamp reply as a host sends it.
fn timestamp_reply() -> Vec<u8> {
    let mut packet = encode_timestamp_request(ECHO).to_vec();
    packet[0] = TIMESTAMP_REPLY;
    packet[12..16].copy_from_slice(&77_000_u32.to_be_bytes());
    packet[16..20].copy_from_slice(&77_001_u32.to_be_bytes());
    packet[2..4].fill(0);
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn timestamp_request_has_the_layout_of_rfc_792() {
    let packet = encode_timestamp_request(ECHO);
    assert_eq!(packet[..2], [13, 0]);
    assert_eq!(packet[4..8], [0xbe, 0xef, 0x02, 0x01]);
    assert!(packet[8] >= 0x80, "no milliseconds since midnight");
    assert_eq!(packet[12..], [0; 8]);
    assert_eq!(checksum(&packet), 0);
}

#[test]
fn timestamp_reply_is_read_and_knows_its_request() {
    for datagram in [timestamp_reply(), with_ipv4_header(3, &timestamp_reply())] {
        let framing = if datagram.len() == 20 { Framing::Icmp } else { V4 };
        let reply = parse_reply(&datagram, framing).unwrap();
        assert_eq!((reply.identifier, reply.sequence), (0xbeef, 513));
        let stamps = Stamps { receive_ms: 77_000, transmit_ms: 77_001 };
        assert_eq!(reply.stamps, Some(stamps));
        assert!(reply.is_of(ECHO.cookie) && !reply.is_of(ECHO.cookie ^ 1));
    }
}

#[test]
fn damaged_timestamp_replies_are_refused() {
    let good = timestamp_reply();
    for length in 0..good.len() {
        assert_eq!(parse_reply(&good[..length], Framing::Icmp), None, "{length}");
    }
    for bit in 0..good.len() * 8 {
        let mut packet = good.clone();
        packet[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(parse_reply(&packet, Framing::Icmp), None, "bit {bit}");
    }
    assert_eq!(parse_reply(&good, Framing::Icmp6), None, "there is no such thing in IPv6");
    assert_eq!(parse_reply(&encode_timestamp_request(ECHO), Framing::Icmp), None);
}

#[test]
fn an_error_about_a_timestamp_request_names_it() {
    let mut quoted = with_ipv4_header(0, &encode_timestamp_request(ECHO));
    quoted[16..20].copy_from_slice(&[192, 0, 2, 9]);
    let mut message = vec![3, 13, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&quoted[..28]);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let quoted = parse_error(&with_ipv4_header(0, &message), V4).unwrap();
    assert_eq!((quoted.identifier, quoted.sequence), (ECHO.identifier, ECHO.sequence));
    assert_eq!(quoted.fault.to_string(), "administratively prohibited");
}

fn error_v6(kind: u8, code: u8) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0, 0, 16, 58, 64];
    message.extend_from_slice(&[0; 16]);
    message.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
    message.extend_from_slice(&encode_request(ECHO, Framing::Icmp6));
    message
}

#[test]
fn icmpv6_echo_and_errors_are_read() {
    assert_eq!(encode_request(ECHO, Framing::Icmp6)[0], 128);
    let reply = encode(ECHO_REPLY_6, ECHO);
    assert_eq!(parse_reply(&reply, Framing::Icmp6), Some(ANSWER));
    assert_eq!(parse_reply(&reply, Framing::Icmp), None);
    assert_eq!(parse_reply(&encode_request(ECHO, Framing::Icmp6), Framing::Icmp6), None);
    for (kind, code, words) in [(1, 3, "address unreachable"), (3, 0, "hop limit exceeded")] {
        let quoted = parse_error(&error_v6(kind, code), Framing::Icmp6).unwrap();
        assert_eq!(quoted.fault.to_string(), words);
        assert_eq!(quoted.to, IpAddr::from(Ipv6Addr::LOCALHOST));
        assert_eq!((quoted.identifier, quoted.sequence), (ECHO.identifier, ECHO.sequence));
    }
}

#[test]
fn damaged_and_foreign_icmpv6_is_refused() {
    let good = error_v6(1, 0);
    for length in 0..good.len() - 8 {
        assert_eq!(parse_error(&good[..length], Framing::Icmp6), None, "{length}");
    }
    // No error, another IP version, another protocol, not our request.
    for (at, value) in [(0, 135), (8, 0x40), (14, 17), (48, 129)] {
        let mut other = good.clone();
        other[at] = value;
        assert_eq!(parse_error(&other, Framing::Icmp6), None, "{at}");
    }
    for length in 0..ECHO_BYTES {
        let reply = encode(ECHO_REPLY_6, ECHO);
        assert_eq!(parse_reply(&reply[..length], Framing::Icmp6), None, "{length}");
    }
}
