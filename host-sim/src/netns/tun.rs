//! TUN devices: network interfaces whose packets this process reads and writes.

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Result as IoResult, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context as _, Result, ensure};
use rustix::ioctl::{self, Updater, opcode};

use super::Namespace;

/// Largest IP packet in bytes, and the MTU of the devices.
pub(super) const MTU: usize = 1_500;

const IFF_TUN: u16 = 0x0001;
/// No header of the TUN driver in front of each packet.
const IFF_NO_PI: u16 = 0x1000;
/// Size of an interface name in the kernel, with its final zero.
const NAME_BYTES: usize = 16;

/// `struct ifreq` of the kernel, as `TUNSETIFF` reads it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES],
    flags: u16,
    unused: [u8; 22],
}

/// The near end of a TUN device; the device disappears on drop. Reads and writes never block.
#[derive(Debug)]
pub(super) struct Tun {
    name: String,
    file: File,
}

impl Tun {
    /// Makes the device `name` in `namespace`; it has no address and is down.
    pub(super) fn open(namespace: &Namespace, name: &str) -> Result<Self> {
        ensure!(name.len() < NAME_BYTES, "interface name {name:?} is too long");
        // The device appears in the namespace of the thread that opens the file.
        let open = || OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        let file = namespace.run(open)?.context("open /dev/net/tun")?;
        rustix::io::ioctl_fionbio(&file, true).context("make a TUN device non-blocking")?;
        attach(&file, name).with_context(|| format!("make TUN device {name}"))?;
        Ok(Self { name: name.to_owned(), file })
    }

    /// Gives the device its address and that of the far end, and takes it up.
    pub(super) fn configure(
        &self,
        namespace: &Namespace,
        address: Ipv4Addr,
        peer: Ipv4Addr,
    ) -> Result<()> {
        let (name, mtu) = (self.name.as_str(), MTU.to_string());
        let (address, peer) = (address.to_string(), peer.to_string());
        namespace.ip(&["addr", "add", &address, "peer", &peer, "dev", name])?;
        namespace.ip(&["link", "set", name, "mtu", &mtu, "up"])?;
        // A home with several lines has several default routes; the first line's comes first.
        namespace.ip(&["route", "append", "default", "dev", name])
    }

    /// Reads the next packet the kernel has sent; `None` if there is none.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> IoResult<Option<usize>> {
        match (&self.file).read(buffer) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hands a packet to the kernel.
    pub(super) fn send(&self, packet: &[u8]) -> IoResult<()> {
        (&self.file).write(packet).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[expect(unsafe_code, reason = "the kernel offers TUN devices through an ioctl only")]
fn attach(file: &File, name: &str) -> rustix::io::Result<()> {
    const TUNSETIFF: ioctl::Opcode = opcode::write::<c_int>(b'T', 202);
    let mut request =
        InterfaceRequest { name: [0; NAME_BYTES], flags: IFF_TUN | IFF_NO_PI, unused: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads a `struct ifreq` and writes the device's name back into it.
    // `InterfaceRequest` has the size and layout of that, and nothing else looks at it meanwhile.
    unsafe { ioctl::ioctl(file, Updater::<TUNSETIFF, _>::new(&mut request)) }
}
