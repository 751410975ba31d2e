//! One non-blocking ICMP socket of one IP version. For IPv4 a raw one is preferred, for only that can
//! ask for timestamps; else an unprivileged one, which hears no foreign messages.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc::{sock_extended_err, sockaddr_in6};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

use super::icmp::{self, Echo, Fault, Framing, Quoted, Reply};
use super::{ProbeError, ProbeWan};
use crate::clock;

/// Enough for an error: two IPv4 headers of the longest kind and our message. Some routers quote
/// more, which is cut.
const RECEIVE_BYTES: usize = 256;

/// The receive buffer asked for, in bytes; the system may grant less. Foreign ICMP on a raw socket
/// must not crowd out our answers.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// A kernel's stamp older than this when it is read is not believed: the wall clock has jumped.
const STAMP_AGE_MAX_NS: i128 = 1_000_000_000;

/// A version of the internet protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// Both, in the order in which a WAN keeps its sockets.
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    const fn domain(self) -> Domain {
        match self {
            Self::V4 => Domain::IPV4,
            Self::V6 => Domain::IPV6,
        }
    }

    const fn protocol(self) -> Protocol {
        match self {
            Self::V4 => Protocol::ICMPV4,
            Self::V6 => Protocol::ICMPV6,
        }
    }
}

/// An ICMP socket of one WAN.
#[derive(Debug)]
pub(crate) struct IcmpSocket {
    /// The standard library's type is used for its `send_to`, which is the same system call for
    /// any socket of IPv4 or IPv6.
    socket: UdpSocket,
    framing: Framing,
    is_raw: bool,
    /// Room for what the kernel says about a datagram.
    control: Vec<u8>,
}

/// One message taken from the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// A reply of our shape, perhaps to somebody else.
    Reply {
        /// What it holds.
        reply: Reply,
        /// Who sent it.
        from: IpAddr,
        /// When the kernel got it, in ns of [`clock::now_nanos`].
        at_ns: u64,
    },
    /// An error about an echo request, perhaps somebody else's.
    Fault {
        /// The request, and what is wrong.
        quoted: Quoted,
        /// The request's cookie, where the kernel gives it back.
        cookie: Option<u64>,
        /// Who says so.
        by: Option<IpAddr>,
    },
    /// Anything else.
    Other,
}

impl IcmpSocket {
    /// Opens a socket of the WAN at position `wan`.
    pub(crate) fn open(
        wan: usize,
        settings: &ProbeWan,
        family: Family,
    ) -> Result<Self, ProbeError> {
        let fail = |step: String| move |error| ProbeError::Socket { wan, step, error };
        let (socket, kind) = open_permitted(family).map_err(|error| {
            if is_forbidden(&error) {
                ProbeError::NotPermitted
            } else {
                fail("opening it".to_owned())(error)
            }
        })?;
        socket.set_nonblocking(true).map_err(fail("making it non-blocking".to_owned()))?;
        // A smaller buffer works as well on a quiet host.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        settings.bind(&socket, family).map_err(|(step, error)| fail(step)(error))?;
        let is_raw = kind == Type::RAW;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)
            .map_err(|error| fail("asking for receive timestamps".to_owned())(error.into()))?;
        if !is_raw {
            // Raw sockets get ICMP errors as they are.
            let asked = match family {
                Family::V4 => setsockopt(&socket, sockopt::Ipv4RecvErr, &true),
                Family::V6 => setsockopt(&socket, sockopt::Ipv6RecvErr, &true),
            };
            asked.map_err(|error| fail("asking for ICMP errors".to_owned())(error.into()))?;
        }
        let framing = match family {
            Family::V4 if is_raw => Framing::Ipv4,
            Family::V4 => Framing::Icmp,
            Family::V6 => Framing::Icmp6,
        };
        // The larger of both versions' addresses.
        let control = nix::cmsg_space!(TimeSpec, sock_extended_err, sockaddr_in6);
        Ok(Self { socket: socket.into(), framing, is_raw, control })
    }

    /// Returns whether the identifiers of requests are ours; an unprivileged socket has one that the
    /// kernel chose, and gets nobody else's replies.
    pub(crate) const fn has_own_identifiers(&self) -> bool {
        self.is_raw
    }

    /// Returns whether timestamp requests can be sent: the kernel lets unprivileged sockets send
    /// nothing but echo requests, and ICMPv6 knows no others.
    pub(crate) const fn can_ask_for_timestamps(&self) -> bool {
        matches!(self.framing, Framing::Ipv4)
    }

    /// Returns `"raw"` or `"unprivileged"`.
    pub(crate) const fn kind(&self) -> &'static str {
        if self.is_raw { "raw" } else { "unprivileged" }
    }

    /// Sends one echo request.
    pub(crate) fn send(&self, echo: Echo, to: IpAddr) -> io::Result<()> {
        self.send_packet(&icmp::encode_request(echo, self.framing), to)
    }

    /// Sends one timestamp request.
    pub(crate) fn ask_for_timestamps(&self, echo: Echo, to: IpAddr) -> io::Result<()> {
        self.send_packet(&icmp::encode_timestamp_request(echo), to)
    }

    fn send_packet(&self, packet: &[u8], to: IpAddr) -> io::Result<()> {
        let send = || self.socket.send_to(packet, (to, 0)).map(|_| ());
        // An ICMP error about an earlier probe that came just now makes one call fail on an
        // unprivileged socket, whomever it is for.
        send().or_else(|_| send())
    }

    /// Takes the next message, or [`io::ErrorKind::WouldBlock`].
    pub(crate) fn receive(&mut self) -> io::Result<Received> {
        let framing = self.framing;
        let mut buffer = [0_u8; RECEIVE_BYTES];
        let (data, from, stamp, _) = self.take(&mut buffer, MsgFlags::empty())?;
        let at_ns = arrival_ns(stamp);
        if let (Some(reply), Some(from)) = (icmp::parse_reply(data, framing), from) {
            return Ok(Received::Reply { reply, from, at_ns });
        }
        let quoted = icmp::parse_error(data, framing);
        Ok(quoted.map_or(Received::Other, |quoted| Received::Fault {
            quoted,
            cookie: None,
            by: from,
        }))
    }

    /// Takes the next error from the queue of an unprivileged socket, or
    /// [`io::ErrorKind::WouldBlock`].
    pub(crate) fn receive_error(&mut self) -> io::Result<Received> {
        let mut buffer = [0_u8; RECEIVE_BYTES];
        let (data, to, _, fault) = self.take(&mut buffer, MsgFlags::MSG_ERRQUEUE)?;
        let request = icmp::parse_request(data, self.framing);
        let (Some(echo), Some(to), Some((fault, by))) = (request, to, fault) else {
            return Ok(Received::Other);
        };
        let quoted = Quoted { fault, to, identifier: echo.identifier, sequence: echo.sequence };
        Ok(Received::Fault { quoted, cookie: Some(echo.cookie), by })
    }

    #[expect(clippy::type_complexity, reason = "its two callers are right above")]
    fn take<'b>(
        &mut self,
        buffer: &'b mut [u8],
        flags: MsgFlags,
    ) -> io::Result<(&'b [u8], Option<IpAddr>, Option<TimeSpec>, Option<(Fault, Option<IpAddr>)>)>
    {
        let (mut stamp, mut fault) = (None, None);
        let (bytes, address) = {
            let mut parts = [IoSliceMut::new(buffer)];
            let fd = self.socket.as_raw_fd();
            let message =
                recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut self.control), flags)?;
            for control in message.cmsgs()? {
                match control {
                    ControlMessageOwned::ScmTimestampns(at) => stamp = Some(at),
                    ControlMessageOwned::Ipv4RecvErr(error, by) => {
                        let by = by.map(|by| Ipv4Addr::from(u32::from_be(by.sin_addr.s_addr)));
                        let kind = Fault::v4(error.ee_type, error.ee_code);
                        fault = kind.map(|fault| (fault, by.map(IpAddr::V4)));
                    }
                    ControlMessageOwned::Ipv6RecvErr(error, by) => {
                        let by = by.map(|by| Ipv6Addr::from(by.sin6_addr.s6_addr));
                        let kind = Fault::v6(error.ee_type, error.ee_code);
                        fault = kind.map(|fault| (fault, by.map(IpAddr::V6)));
                    }
                    _ => {}
                }
            }
            (message.bytes, message.address.as_ref().and_then(ip_of))
        };
        Ok((buffer.get(..bytes).unwrap_or_default(), address, stamp, fault))
    }
}

impl AsFd for IcmpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl ProbeWan {
    /// Makes a socket's packets leave by this WAN; an error says which step failed.
    pub(crate) fn bind(&self, socket: &Socket, family: Family) -> Result<(), (String, io::Error)> {
        if let Some(name) = &self.interface {
            socket
                .bind_device(Some(name.as_bytes()))
                .map_err(|error| (format!("binding it to interface {name}"), error))?;
        }
        if let Some(mark) = self.fwmark {
            socket
                .set_mark(mark)
                .map_err(|error| (format!("setting its firewall mark to {mark}"), error))?;
        }
        if let Some(source) = self.source_of(family) {
            socket
                .bind(&SocketAddr::new(source, 0).into())
                .map_err(|error| (format!("binding it to source address {source}"), error))?;
        }
        Ok(())
    }

    /// Returns the source address of packets of an IP version, if one is configured.
    fn source_of(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.source.map(IpAddr::V4),
            Family::V6 => self.source_v6.map(IpAddr::V6),
        }
    }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

fn open_permitted(family: Family) -> io::Result<(Socket, Type)> {
    let open = |kind| {
        let socket = Socket::new(family.domain(), kind, Some(family.protocol()))?;
        Ok((socket, kind))
    };
    match family {
        Family::V4 => open(Type::RAW).or_else(|_| open(Type::DGRAM)),
        Family::V6 => open(Type::DGRAM).or_else(|_| open(Type::RAW)),
    }
}

fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Returns when a packet arrived, on the clock of [`clock::now_nanos`]. The kernel's stamp is of the
/// wall clock; how long ago that was is the same on both, unless the wall clock has just jumped.
fn arrival_ns(stamp: Option<TimeSpec>) -> u64 {
    let Some(stamp) = stamp else { return clock::now_nanos() };
    let (now_ns, wall_ns) = clock::both_nanos();
    let stamp_ns = i128::from(stamp.tv_sec()) * 1_000_000_000 + i128::from(stamp.tv_nsec());
    let age_ns = wall_ns - stamp_ns;
    match u64::try_from(age_ns) {
        Ok(age) if age_ns <= STAMP_AGE_MAX_NS => now_ns.saturating_sub(age),
        _ => now_ns,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn a_stamp_is_believed_unless_the_wall_clock_has_jumped() {
        let (before, wall) = clock::both_nanos();
        let stamp = |ago_ns: i128| {
            let at = wall - ago_ns;
            let (seconds, nanos) = (at / 1_000_000_000, at % 1_000_000_000);
            Some(TimeSpec::new(i64::try_from(seconds).unwrap(), i64::try_from(nanos).unwrap()))
        };
        // The clocks do not run apart by more than this, however busy the machine is.
        let error = arrival_ns(stamp(500_000_000)).abs_diff(before - 500_000_000);
        assert!(error < 100_000_000, "{error}");
        for jumped in [-3_000_000_000, 3_000_000_000] {
            assert!(arrival_ns(stamp(jumped)) >= before, "{jumped}");
        }
        assert!(arrival_ns(None) >= before);
    }

    #[test]
    fn an_answer_is_as_old_as_the_kernel_says_however_late_it_is_read() {
        let opened = IcmpSocket::open(0, &ProbeWan::default(), Family::V4);
        let Ok(mut socket) = opened else { return };
        // A busy kernel begins to stamp packets a good while after it was asked to.
        let give_up = Instant::now() + Duration::from_secs(20);
        let is_in_time = |_: &u16| Instant::now() < give_up;
        let is_stamped = (0..u16::MAX).cycle().take_while(is_in_time).any(|sequence| {
            let echo = Echo { identifier: 7, sequence, cookie: 0x5eed_0001 };
            socket.send(echo, Ipv4Addr::LOCALHOST.into()).unwrap();
            let mut fds = [PollFd::new(&socket, PollFlags::IN)];
            poll(&mut fds, None).unwrap();
            let arrived_before_ns = clock::now_nanos();
            std::thread::yield_now();
            // A raw socket hears other pings of this machine as well.
            std::iter::from_fn(|| socket.receive().ok()).any(|received| match received {
                Received::Reply { reply, at_ns, .. } => {
                    reply.is_of(echo.cookie) && at_ns <= arrived_before_ns
                }
                Received::Fault { .. } | Received::Other => false,
            })
        });
        assert!(is_stamped, "answers are as old as their reading");
    }
}
