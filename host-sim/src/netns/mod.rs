//! A real network of two namespaces with an emulated line between them.
//!
//! ```text
//!  namespace "lan"              this process                 namespace "internet"
//!  wan0 10.77.0.2 ─── TUN ─── packet link ─── TUN ─── inet0 10.77.0.1, reflectors 10.77.1.1-3
//! ```
//!
//! Everything here needs root and Linux; [`namespace::available`] tells whether it will work.

pub mod namespace;
pub mod packet_link;
pub mod tcp_load;
mod tun;

use std::net::Ipv4Addr;

pub use namespace::{Namespace, available, usable_or_skip};
pub use packet_link::{PacketLink, PacketLinkOptions, PacketLinkStats};
pub use tcp_load::TcpLoad;

/// Address of the home's end of the line.
pub const LAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Address of the internet's end of the line; it answers pings too.
pub const INTERNET_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Addresses in the internet that answer pings.
pub const REFLECTORS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 77, 1, 1), Ipv4Addr::new(10, 77, 1, 2), Ipv4Addr::new(10, 77, 1, 3)];
