//! The kernel's qdiscs over rtnetlink. No call waits for anybody: the kernel answers a request while it is
//! being sent.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    recv, send, socket,
};
use wanctl_core::units::BitsPerSecond;

use super::cake::Cake;
use super::error::CakeError;
use super::wire::{self, Envelope, Message, Qdisc};

/// Room for what one call brings; the kernel sends at most 32 KiB of a list at a time.
const MESSAGE_BYTES: usize = 64 * 1024;

/// Whoever has qdiscs: the kernel, or a test.
pub(super) trait Qdiscs {
    /// Returns the index of an interface.
    fn index(&self, interface: &str) -> Option<u32>;

    /// Finds out whether this program may change qdiscs, without changing any.
    fn check_permission(&mut self) -> Result<(), CakeError>;

    /// Lists the qdiscs of all interfaces.
    fn qdiscs(&mut self) -> Result<Vec<Qdisc>, CakeError>;

    /// Gives the CAKE qdisc of this interface index and handle another rate and returns its state
    /// then. `name` is the interface's, for messages.
    fn set_rate(
        &mut self,
        name: &str,
        id: (u32, u32),
        rate: BitsPerSecond,
    ) -> Result<Cake, CakeError>;
}

/// A connection to the kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    socket: OwnedFd,
    /// Tells the changes this program makes from those of others.
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Kernel {
    pub(super) fn open() -> Result<Self, CakeError> {
        let open = || {
            let socket = open_socket(0)?;
            let port = getsockname::<NetlinkAddr>(socket.as_raw_fd())?.pid();
            Ok((socket, port))
        };
        let (socket, port) = open().map_err(CakeError::NoNetlink)?;
        Ok(Self { socket, port, sequence: 0, buffer: vec![0; MESSAGE_BYTES] })
    }

    /// Returns the port that is named as the cause of changes made here.
    pub(super) const fn port(&self) -> u32 {
        self.port
    }

    fn refusal(
        &mut self,
        name: &str,
        (index, handle): (u32, u32),
        rate: BitsPerSecond,
        errno: Errno,
    ) -> CakeError {
        let interface = name.to_owned();
        match errno {
            Errno::EPERM | Errno::EACCES => CakeError::NotPermitted,
            Errno::ENODEV | Errno::ENOENT => CakeError::Gone { interface },
            Errno::EBADMSG => CakeError::BadReply,
            // Another kind of qdisc has taken its handle.
            Errno::EINVAL if !self.is_there(index, handle) => CakeError::Gone { interface },
            errno => CakeError::Refused { interface, rate, errno },
        }
    }

    fn is_there(&mut self, interface: u32, handle: u32) -> bool {
        let is_meant = |qdisc: &Qdisc| {
            (qdisc.interface, qdisc.handle) == (interface, handle) && qdisc.cake.is_some()
        };
        self.qdiscs().is_ok_and(|qdiscs| qdiscs.iter().any(is_meant))
    }

    /// Makes a request and returns the qdiscs that the kernel tells about before it says that the
    /// request has ended.
    fn request(&mut self, request: impl FnOnce(u32) -> Vec<u8>) -> Result<Vec<Qdisc>, Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request(self.sequence);
        let fd = self.socket.as_raw_fd();
        send(fd, &bytes, MsgFlags::empty())?;
        let mut qdiscs = Vec::new();
        loop {
            let length = match recv(fd, &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let bytes = self.buffer.get(..length).unwrap_or_default();
            for Envelope { sequence, message, .. } in wire::read(bytes).ok_or(Errno::EBADMSG)? {
                if sequence != self.sequence {
                    continue; // the rest of an answer that made no sense
                }
                match message {
                    Message::Qdisc(qdisc) => qdiscs.push(qdisc),
                    Message::End(0) => return Ok(qdiscs),
                    Message::End(error) => return Err(Errno::from_raw(error)),
                    Message::QdiscGone | Message::Link | Message::Other => {}
                }
            }
        }
    }
}

impl Qdiscs for Kernel {
    fn index(&self, interface: &str) -> Option<u32> {
        if_nametoindex(interface).ok()
    }

    fn check_permission(&mut self) -> Result<(), CakeError> {
        match self.request(wire::permission_request) {
            Err(Errno::EPERM | Errno::EACCES) => Err(CakeError::NotPermitted),
            // It names no interface and is refused for that.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn qdiscs(&mut self) -> Result<Vec<Qdisc>, CakeError> {
        self.request(wire::list_request).map_err(|errno| match errno {
            Errno::EBADMSG => CakeError::BadReply,
            other => CakeError::Unreadable(other),
        })
    }

    fn set_rate(
        &mut self,
        name: &str,
        (interface, handle): (u32, u32),
        rate: BitsPerSecond,
    ) -> Result<Cake, CakeError> {
        let rate_bytes = rate.get() / 8;
        let request = |sequence| wire::rate_request(sequence, interface, handle, rate_bytes);
        let told = match self.request(request) {
            Ok(told) => told,
            Err(errno) => return Err(self.refusal(name, (interface, handle), rate, errno)),
        };
        let is_meant = |qdisc: &Qdisc| (qdisc.interface, qdisc.handle) == (interface, handle);
        let cake = told.into_iter().find(is_meant).and_then(|qdisc| qdisc.cake);
        cake.ok_or(CakeError::BadReply)
    }
}

/// Opens a netlink socket that hears of these groups.
pub(super) fn open_socket(groups: u32) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(netlink)
}
