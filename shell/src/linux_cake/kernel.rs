//! The kernel's qdiscs over rtnetlink. No call waits for anybody: the kernel answers a request while it is
//! being sent.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::net::if_::{if_nameindex, if_nametoindex};
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

/// A CAKE qdisc that can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The index of its interface.
    pub(super) interface: u32,
    /// Its handle.
    pub(super) handle: u32,
    /// Its state.
    pub(super) cake: Cake,
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

    /// Finds out whether this program may change qdiscs, without changing any.
    pub(super) fn check_permission(&mut self) -> Result<(), CakeError> {
        match self.request(wire::permission_request) {
            Err(Errno::EPERM | Errno::EACCES) => Err(CakeError::NotPermitted),
            // It names no interface and is refused for that.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Lists the qdiscs of all interfaces.
    pub(super) fn qdiscs(&mut self) -> Result<Vec<Qdisc>, CakeError> {
        self.request(wire::list_request).map_err(|errno| match errno {
            Errno::EBADMSG => CakeError::BadReply,
            other => CakeError::Unreadable(other),
        })
    }

    /// Gives a CAKE qdisc another rate and returns its state then.
    pub(super) fn set_rate(
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
        let cake = cake.ok_or(CakeError::BadReply)?;
        if cake.rate_bytes != rate_bytes {
            let (interface, held) = (name.to_owned(), cake.rate());
            return Err(CakeError::OtherRate { interface, asked: rate, held });
        }
        Ok(cake)
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

/// Opens a netlink socket that hears of these groups.
pub(super) fn open_socket(groups: u32) -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(netlink)
}

/// Finds the CAKE qdisc of an interface among all qdiscs.
pub(super) fn find(name: &str, qdiscs: &[Qdisc]) -> Result<Found, CakeError> {
    let interface = name.to_owned();
    let Ok(index) = if_nametoindex(name) else {
        return Err(CakeError::NoSuchInterface { interface, existing: interfaces() });
    };
    find_on(name, index, qdiscs)
}

fn find_on(name: &str, index: u32, qdiscs: &[Qdisc]) -> Result<Found, CakeError> {
    let interface = name.to_owned();
    let here = || qdiscs.iter().filter(|qdisc| qdisc.interface == index);
    let cakes: Vec<(&Qdisc, &Cake)> =
        here().filter_map(|qdisc| Some((qdisc, qdisc.cake.as_ref()?))).collect();
    match cakes.as_slice() {
        [] => {
            let kinds: BTreeSet<String> = here().map(|qdisc| qdisc.kind.clone()).collect();
            let found = kinds.into_iter().collect();
            Err(CakeError::NoCake { interface, found, is_in_kernel: is_cake_in_kernel() })
        }
        all if all.iter().all(|(qdisc, _)| qdisc.handle == 0) => {
            Err(CakeError::DefaultCake { interface })
        }
        [(qdisc, cake)] => {
            Ok(Found { interface: index, handle: qdisc.handle, cake: (*cake).clone() })
        }
        several => {
            let handle = |(qdisc, _): &(&Qdisc, &Cake)| format!("{:x}:", qdisc.handle >> 16);
            Err(CakeError::SeveralCakes {
                interface,
                handles: several.iter().map(handle).collect(),
            })
        }
    }
}

/// Lists the names of the interfaces.
fn interfaces() -> Vec<String> {
    let Ok(all) = if_nameindex() else { return Vec::new() };
    all.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect()
}

/// Returns whether the running kernel has CAKE, as a module or built in; `None` if that cannot be seen.
fn is_cake_in_kernel() -> Option<bool> {
    if Path::new("/sys/module/sch_cake").exists() {
        return Some(true);
    }
    let release = rustix::system::uname();
    let folder = Path::new("/lib/modules").join(release.release().to_str().ok()?);
    let mut is_known = false;
    for list in ["modules.dep", "modules.builtin"] {
        let Ok(text) = std::fs::read_to_string(folder.join(list)) else { continue };
        is_known = true;
        if text.contains("/sch_cake.ko") {
            return Some(true);
        }
    }
    is_known.then_some(false)
}
