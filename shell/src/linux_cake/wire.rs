//! Messages of rtnetlink about queueing disciplines, as bytes.
//!
//! `struct tcmsg` and the attribute numbers are those of `linux/rtnetlink.h` and `linux/gen_stats.h`.

use netlink_packet_core::{
    DefaultNla, Emitable, NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_DUMP, NLM_F_ECHO, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator,
};
use nix::libc::{RTM_DELLINK, RTM_DELQDISC, RTM_GETQDISC, RTM_NEWLINK, RTM_NEWQDISC};

use super::cake::{self, Cake};

/// `TCA_KIND`.
const KIND: u16 = 1;
/// `TCA_OPTIONS`.
const OPTIONS: u16 = 2;
/// `TCA_STATS2`.
const STATS2: u16 = 7;
/// `TCA_CAKE_BASE_RATE64`.
const BASE_RATE64: u16 = 2;
/// `sizeof(struct nlmsghdr)`.
const HEADER_BYTES: usize = 16;
/// `sizeof(struct tcmsg)`.
const TCMSG_BYTES: usize = 20;

/// One queueing discipline of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Qdisc {
    /// The index of the interface it belongs to.
    pub(super) interface: u32,
    /// Its handle; 0 for the one an interface has by default.
    pub(super) handle: u32,
    /// What kind it is, as `fq_codel`.
    pub(super) kind: String,
    /// What it says about itself, if it is CAKE.
    pub(super) cake: Option<Cake>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// There is such a qdisc, or it has changed.
    Qdisc(Qdisc),
    /// A qdisc is gone.
    QdiscGone,
    /// An interface is there, has changed or is gone.
    Link,
    /// A request has ended, with 0 or the system's error number.
    End(i32),
    /// Something else.
    Other,
}

/// A message and whom it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Envelope {
    /// The number of the request.
    pub(super) sequence: u32,
    /// The port of the socket that asked for it or caused it.
    pub(super) port: u32,
    pub(super) message: Message,
}

/// Returns the request for all qdiscs of all interfaces: the kernel lists no fewer.
pub(super) fn list_request(sequence: u32) -> Vec<u8> {
    message(RTM_GETQDISC, NLM_F_REQUEST | NLM_F_DUMP, sequence, (0, 0), &[])
}

/// Returns the request to give a CAKE qdisc another rate, in bytes per second. Everything else about
/// it stays: no flag asks for it to be made, and options that are not named are kept. Its new state
/// is sent back (`NLM_F_ECHO`).
pub(super) fn rate_request(sequence: u32, interface: u32, handle: u32, rate_bytes: u64) -> Vec<u8> {
    let rate = DefaultNla::new(BASE_RATE64, rate_bytes.to_ne_bytes().to_vec());
    let options = DefaultNla::new(OPTIONS, bytes_of(&rate));
    let kind = DefaultNla::new(KIND, cake::KIND.iter().copied().chain([0]).collect());
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_ECHO;
    message(RTM_NEWQDISC, flags, sequence, (interface, handle), &[kind, options])
}

/// Returns a request that changes nothing, as it names no interface: the kernel first looks at
/// whether the sender may change anything.
pub(super) fn permission_request(sequence: u32) -> Vec<u8> {
    message(RTM_NEWQDISC, NLM_F_REQUEST | NLM_F_ACK, sequence, (0, 0), &[])
}

fn message(
    kind: u16,
    flags: u16,
    sequence: u32,
    (interface, handle): (u32, u32),
    attributes: &[DefaultNla],
) -> Vec<u8> {
    let mut body = Vec::with_capacity(64);
    // Family and padding, interface, handle, parent, info.
    for word in [0, interface, handle, 0, 0] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    for attribute in attributes {
        body.extend_from_slice(&bytes_of(attribute));
    }
    let length = HEADER_BYTES + body.len();
    let mut bytes = vec![0; HEADER_BYTES];
    let mut header = NetlinkBuffer::new(&mut bytes);
    header.set_length(u32::try_from(length).unwrap_or(u32::MAX));
    header.set_message_type(kind);
    header.set_flags(flags);
    header.set_sequence_number(sequence);
    bytes.extend_from_slice(&body);
    bytes
}

fn bytes_of(attribute: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.buffer_len()];
    attribute.emit(&mut bytes);
    bytes
}

/// Reads what one call of the kernel has brought. `None` at the first malformed message.
pub(super) fn read(mut bytes: &[u8]) -> Option<Vec<Envelope>> {
    let mut envelopes = Vec::new();
    while !bytes.is_empty() {
        let buffer = NetlinkBuffer::new_checked(bytes).ok()?;
        let length = usize::try_from(buffer.length()).ok()?;
        let body = bytes.get(HEADER_BYTES..length)?;
        let message = match buffer.message_type() {
            RTM_NEWQDISC => Message::Qdisc(qdisc(body)?),
            RTM_DELQDISC => Message::QdiscGone,
            RTM_NEWLINK | RTM_DELLINK => Message::Link,
            NLMSG_DONE => Message::End(word(body, 0).map_or(0, u32::cast_signed).saturating_neg()),
            NLMSG_ERROR => Message::End(word(body, 0)?.cast_signed().saturating_neg()),
            _ => Message::Other,
        };
        let (sequence, port) = (buffer.sequence_number(), buffer.port_number());
        envelopes.push(Envelope { sequence, port, message });
        // Messages begin at multiples of four bytes.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(envelopes)
}

fn qdisc(body: &[u8]) -> Option<Qdisc> {
    let attributes = body.get(TCMSG_BYTES..)?;
    let kind = attribute(attributes, KIND).map(|kind| kind.strip_suffix(&[0]).unwrap_or(kind))?;
    let cake = (kind == cake::KIND).then(|| {
        let part = |number| attribute(attributes, number).unwrap_or_default();
        Cake::read(part(OPTIONS), part(STATS2))
    });
    Some(Qdisc {
        interface: word(body, 4)?,
        handle: word(body, 8)?,
        kind: String::from_utf8_lossy(kind).into_owned(),
        cake,
    })
}

/// Returns the attributes of a message or of a nested attribute, with their numbers.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).filter_map(|nla| {
        let (number, length) = (nla.kind(), usize::from(nla.length()));
        nla.into_inner().get(NLA_HEADER_SIZE..length).map(|value| (number, value))
    })
}

/// Returns the value of an attribute.
pub(super) fn attribute(bytes: &[u8], number: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == number).then_some(value))
}

/// Returns 32 bits of a structure.
pub(super) fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// Returns 64 bits of a structure.
pub(super) fn long(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}
