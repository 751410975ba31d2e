//! One non-blocking ICMPv4 socket, unprivileged if the system allows it, else raw.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::icmp::{self, Echo, Framing};
use super::{ProbeError, ProbeWan};
use crate::clock;

/// Enough for the longest IPv4 header and our message. A longer datagram is cut and refused.
const RECEIVE_BYTES: usize = 128;

/// The receive buffer asked for, in bytes; the system may grant less. Foreign ICMP on a raw socket
/// must not crowd out our answers.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// An ICMP socket of one WAN.
#[derive(Debug)]
pub(crate) struct IcmpSocket {
    /// The standard library's type is used for its `send_to` and `recv_from`, which are the same
    /// system calls for any IPv4 socket.
    socket: UdpSocket,
    framing: Framing,
    /// On a raw socket the identifier of our requests; the kernel's own on an unprivileged one.
    identifier: Option<u16>,
    cookie: u64,
}

/// One datagram taken from the socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    /// The echo reply, if the datagram is one of ours.
    pub(crate) reply: Option<(u16, Ipv4Addr)>,
    /// When it was taken, in ns of [`clock::now_nanos`].
    pub(crate) at_ns: u64,
}

impl IcmpSocket {
    /// Opens the socket of the WAN at position `wan`; `identifier` tells it from other raw sockets.
    pub(crate) fn open(
        wan: usize,
        settings: &ProbeWan,
        identifier: u16,
        cookie: u64,
    ) -> Result<Self, ProbeError> {
        let fail = |step: String| move |error| ProbeError::Socket { wan, step, error };
        let (socket, kind) = open_permitted().map_err(|error| {
            if is_forbidden(&error) {
                ProbeError::NotPermitted
            } else {
                fail("opening it".to_owned())(error)
            }
        })?;
        socket.set_nonblocking(true).map_err(fail("making it non-blocking".to_owned()))?;
        // A smaller buffer works as well on a quiet host.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        if let Some(name) = &settings.interface {
            socket
                .bind_device(Some(name.as_bytes()))
                .map_err(fail(format!("binding it to interface {name}")))?;
        }
        if let Some(source) = settings.source {
            socket
                .bind(&SocketAddrV4::new(source, 0).into())
                .map_err(fail(format!("binding it to source address {source}")))?;
        }
        let is_raw = kind == Type::RAW;
        Ok(Self {
            socket: socket.into(),
            framing: if is_raw { Framing::Ipv4 } else { Framing::Icmp },
            identifier: is_raw.then_some(identifier),
            cookie,
        })
    }

    /// Returns `"raw"` or `"unprivileged"`.
    pub(crate) const fn kind(&self) -> &'static str {
        match self.framing {
            Framing::Ipv4 => "raw",
            Framing::Icmp => "unprivileged",
        }
    }

    /// Sends one echo request.
    pub(crate) fn send(&self, sequence: u16, to: Ipv4Addr) -> io::Result<()> {
        let identifier = self.identifier.unwrap_or_default();
        let packet = icmp::encode_request(Echo { identifier, sequence, cookie: self.cookie });
        self.socket.send_to(&packet, (to, 0)).map(|_| ())
    }

    /// Takes the next datagram, or [`io::ErrorKind::WouldBlock`].
    pub(crate) fn receive(&self) -> io::Result<Received> {
        let mut buffer = [0_u8; RECEIVE_BYTES];
        let (length, from) = self.socket.recv_from(&mut buffer)?;
        let at_ns = clock::now_nanos();
        let echo = buffer.get(..length).and_then(|data| icmp::parse_reply(data, self.framing));
        let reply =
            match (echo.filter(|echo| echo.answers(self.identifier, self.cookie)), from.ip()) {
                (Some(echo), IpAddr::V4(from)) => Some((echo.sequence, from)),
                _ => None,
            };
        Ok(Received { reply, at_ns })
    }
}

impl AsFd for IcmpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open_permitted() -> io::Result<(Socket, Type)> {
    let open = |kind| Socket::new(Domain::IPV4, kind, Some(Protocol::ICMPV4)).map(|s| (s, kind));
    open(Type::DGRAM).or_else(|_| open(Type::RAW))
}

fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}
