//! Why probing cannot start.

use std::{fmt, io};

use nix::errno::Errno;
use wanctl_core::tick::MAX_WANS;

use super::MAX_POOL;

/// Why the prober could not start. WANs are counted from 0 in the order of the configuration.
#[derive(Debug)]
pub enum ProbeError {
    /// The system lets this process open neither an unprivileged nor a raw ICMP socket.
    NotPermitted,
    /// A socket could not be set up for another reason.
    Socket {
        /// The position of the WAN.
        wan: usize,
        /// What was being done.
        step: String,
        /// What the system said.
        error: io::Error,
    },
    /// More WANs than the core can serve.
    TooManyWans(usize),
    /// A WAN has more reflectors than the core can serve.
    TooManyReflectors {
        /// The position of the WAN.
        wan: usize,
        /// How many there are.
        count: usize,
    },
    /// The thread or its wake-up could not be made.
    Thread(io::Error),
}

impl ProbeError {
    /// Returns whether an interface or address is missing that may well come.
    pub(crate) fn is_absence(&self) -> bool {
        let Self::Socket { error, .. } = self else { return false };
        let code = error.raw_os_error().map(Errno::from_raw);
        matches!(code, Some(Errno::ENODEV | Errno::EADDRNOTAVAIL))
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPermitted => f.write_str(
                "this process may not send pings: neither an unprivileged nor a raw ICMP socket \
                 could be opened\n  \
                 hint: give the program the right with `setcap cap_net_raw+ep <program>` (or \
                 AmbientCapabilities=CAP_NET_RAW in its systemd unit),\n  \
                 or let its group ping with `sysctl -w net.ipv4.ping_group_range=\"<gid> <gid>\"`",
            ),
            Self::Socket { wan, step, error } => {
                write!(f, "no ping socket for WAN {wan}: {step}: {error}")
            }
            Self::TooManyWans(count) => {
                write!(f, "{count} WANs are configured, at most {MAX_WANS} can be served")
            }
            Self::TooManyReflectors { wan, count } => {
                write!(f, "WAN {wan} has {count} reflectors, at most {MAX_POOL} can be used")
            }
            Self::Thread(error) => write!(f, "the probe thread could not start: {error}"),
        }
    }
}

impl std::error::Error for ProbeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Socket { error, .. } | Self::Thread(error) => Some(error),
            Self::NotPermitted | Self::TooManyWans(_) | Self::TooManyReflectors { .. } => None,
        }
    }
}
