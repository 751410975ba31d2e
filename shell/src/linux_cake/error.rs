//! What can go wrong between this program and the kernel's qdiscs, told so that the reader can act.

use std::fmt;

use nix::errno::Errno;

use crate::config::show_rate;
use crate::exit::{ExitReason, Failure};
use wanctl_core::units::BitsPerSecond;

/// Why a CAKE qdisc cannot be found, read or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CakeError {
    /// There is no way to talk to the kernel.
    NoNetlink(Errno),
    /// This program may not change anything about the network.
    NotPermitted,
    /// There is no such interface.
    NoSuchInterface {
        /// Its name.
        interface: String,
        /// The names that exist.
        existing: Vec<String>,
    },
    /// The interface has no CAKE qdisc.
    NoCake {
        /// The name of the interface.
        interface: String,
        /// The kinds of the qdiscs it has.
        found: Vec<String>,
        /// Whether this kernel can be seen to have CAKE, or not to have it.
        is_in_kernel: Option<bool>,
    },
    /// The interface has several.
    SeveralCakes {
        /// The name of the interface.
        interface: String,
        /// Their handles.
        handles: Vec<String>,
    },
    /// The interface has one CAKE for each of its hardware queues (`cake_mq`, since Linux 7.0).
    SeveralQueues {
        /// The name of the interface.
        interface: String,
    },
    /// The CAKE qdisc is the one that interfaces have by default. It has no handle, so nobody can change it.
    DefaultCake {
        /// The name of the interface.
        interface: String,
    },
    /// The qdisc that was found is not there any more.
    Gone {
        /// The name of the interface.
        interface: String,
    },
    /// The kernel refused another rate.
    Refused {
        /// The name of the interface.
        interface: String,
        /// The rate it was to take.
        rate: BitsPerSecond,
        /// What it said.
        errno: Errno,
    },
    /// The kernel agreed and holds another rate.
    OtherRate {
        /// The name of the interface.
        interface: String,
        /// The rate it was to take.
        asked: BitsPerSecond,
        /// The rate it has.
        held: BitsPerSecond,
    },
    /// The qdiscs cannot be listed.
    Unreadable(Errno),
    /// An answer of the kernel makes no sense.
    BadReply,
}

impl CakeError {
    /// Returns whether waiting cannot help: somebody must set something up first.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        match self {
            Self::NoNetlink(_)
            | Self::NotPermitted
            | Self::NoSuchInterface { .. }
            | Self::NoCake { .. }
            | Self::SeveralCakes { .. }
            | Self::SeveralQueues { .. }
            | Self::DefaultCake { .. } => true,
            Self::Gone { .. }
            | Self::Refused { .. }
            | Self::OtherRate { .. }
            | Self::Unreadable(_)
            | Self::BadReply => false,
        }
    }
}

impl From<&CakeError> for ExitReason {
    fn from(error: &CakeError) -> Self {
        match error {
            CakeError::NotPermitted => Self::NetAdmin,
            CakeError::NoSuchInterface { .. } => Self::InterfaceMissing,
            CakeError::NoCake { .. }
            | CakeError::SeveralCakes { .. }
            | CakeError::SeveralQueues { .. }
            | CakeError::DefaultCake { .. } => Self::CakeMissing,
            CakeError::NoNetlink(_)
            | CakeError::Gone { .. }
            | CakeError::Refused { .. }
            | CakeError::OtherRate { .. }
            | CakeError::Unreadable(_)
            | CakeError::BadReply => Self::Other,
        }
    }
}

impl From<CakeError> for Failure {
    fn from(error: CakeError) -> Self {
        Self::new(ExitReason::from(&error), error.to_string())
    }
}

impl fmt::Display for CakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNetlink(errno) => write!(
                f,
                "the kernel's qdiscs cannot be reached over netlink: {}; hint: does a service \
                 manager or container forbid AF_NETLINK?",
                errno.desc()
            ),
            Self::NotPermitted => f.write_str(
                "this program may not change qdiscs; hint: run it as root or give it \
                 CAP_NET_ADMIN (systemd: AmbientCapabilities= and CapabilityBoundingSet=), in the \
                 network namespace of the interfaces",
            ),
            Self::NoSuchInterface { interface, existing } => write!(
                f,
                "there is no interface {interface:?}; hint: there are {}",
                existing.join(", ")
            ),
            Self::NoCake { interface, found, is_in_kernel } => {
                write_no_cake(f, interface, found, *is_in_kernel)
            }
            Self::SeveralCakes { interface, handles } => write!(
                f,
                "interface {interface} has {} CAKE qdiscs ({}), and which one is meant cannot be \
                 told; hint: leave one, as with: tc qdisc replace dev {interface} root cake \
                 bandwidth 20mbit",
                handles.len(),
                handles.join(", ")
            ),
            Self::SeveralQueues { interface } => write!(
                f,
                "interface {interface} has cake_mq, which is one CAKE for each of its hardware \
                 queues, and wanctl moves a single one; hint: tc qdisc replace dev {interface} root \
                 cake bandwidth 20mbit"
            ),
            Self::DefaultCake { interface } => write!(
                f,
                "the CAKE qdisc of interface {interface} is the one interfaces have by default \
                 (net.core.default_qdisc), which cannot be changed; hint: give it one of its own: \
                 tc qdisc replace dev {interface} root cake bandwidth 20mbit"
            ),
            Self::Gone { interface } => {
                write!(f, "the CAKE qdisc of interface {interface} is not there any more")
            }
            Self::Refused { interface, rate, errno } => write!(
                f,
                "the kernel refused {} for the CAKE qdisc of interface {interface}: {}; hint: \
                 the kernel's log may say more (dmesg)",
                show_rate(*rate),
                errno.desc()
            ),
            Self::OtherRate { interface, asked, held } => write!(
                f,
                "the CAKE qdisc of interface {interface} was told {} and holds {}; hint: is \
                 autorate-ingress on, or does another program set it?",
                show_rate(*asked),
                show_rate(*held)
            ),
            Self::Unreadable(errno) => write!(f, "the qdiscs cannot be listed: {}", errno.desc()),
            Self::BadReply => f.write_str(
                "the kernel's answer about its qdiscs makes no sense; hint: please report this \
                 with the kernel's version",
            ),
        }
    }
}

fn write_no_cake(
    f: &mut fmt::Formatter<'_>,
    interface: &str,
    found: &[String],
    is_in_kernel: Option<bool>,
) -> fmt::Result {
    write!(f, "interface {interface} has no CAKE qdisc")?;
    if !found.is_empty() {
        write!(f, " but {}", found.join(", "))?;
    }
    if is_in_kernel == Some(false) {
        return f.write_str(
            ", and this kernel has no CAKE (sch_cake); hint: install the package with its module \
             (Debian, Ubuntu: the linux-modules package of this kernel; OpenWrt: kmod-sched-cake)",
        );
    }
    write!(f, "; hint: tc qdisc replace dev {interface} root cake bandwidth 20mbit")?;
    match is_in_kernel {
        Some(_) => Ok(()),
        None => f.write_str(" (\"kind is unknown\" then means a kernel without sch_cake)"),
    }
}

impl std::error::Error for CakeError {}
