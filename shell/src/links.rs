//! What the operating system says about the interfaces of the WANs.
//!
//! Netlink says *that* something has changed, and then the list of interface addresses says what it
//! is now: no message has to be understood, and none can be missed for good.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use nix::ifaddrs::getifaddrs;
use nix::libc::{RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use wanctl_core::tick::{LinkFact, MAX_WANS, OperState, Tick};
use wanctl_core::units::WanId;

/// The most facts that wait for the tick thread; of more the oldest are dropped.
const FACTS_MAX: usize = 8 * MAX_WANS;
/// Room for one message of netlink; a longer one is cut, which does not matter.
const MESSAGE_BYTES: usize = 8192;

/// How a WAN's packets leave, as far as links are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedLink {
    /// The name in the log.
    pub name: String,
    /// The interface, if one is configured.
    pub interface: Option<String>,
    /// The source address of IPv4, if one is configured.
    pub source: Option<Ipv4Addr>,
    /// The source address of IPv6, if one is configured.
    pub source_v6: Option<Ipv6Addr>,
    /// Who is pinged: their IP versions are needed.
    pub reflectors: Vec<IpAddr>,
}

impl WatchedLink {
    fn has_source(&self) -> bool {
        self.source.is_some() || self.source_v6.is_some()
    }

    /// Returns the source addresses that an interface must have.
    fn sources(&self) -> impl Iterator<Item = IpAddr> {
        self.source.map(IpAddr::V4).into_iter().chain(self.source_v6.map(IpAddr::V6))
    }
}

/// An interface as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    name: String,
    /// Another one when the interface is made again.
    index: u32,
    is_running: bool,
    /// Addresses, the primary one of each IP version first; none of a link alone.
    addresses: Vec<IpAddr>,
}

impl Interface {
    /// Returns the address that packets leave with when nothing else is configured. Of an IPv6 address
    /// only the network counts: privacy extensions make up the rest anew every day.
    fn primary(&self, is_meant: fn(&IpAddr) -> bool) -> Option<IpAddr> {
        let address = self.addresses.iter().find(|address| is_meant(address));
        address.map(|address| match address {
            IpAddr::V4(_) => *address,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        })
    }
}

/// What a WAN's link is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct LinkView {
    is_up: bool,
    index: Option<u32>,
    /// The addresses packets leave with, IPv4 first, as far as they are needed and there.
    addresses: [Option<IpAddr>; 2],
}

impl LinkView {
    /// Looks for a WAN's link. `None` if the configuration names neither interface nor address:
    /// then the routes decide, and nothing can be said.
    fn of(link: &WatchedLink, interfaces: &[Interface]) -> Option<Self> {
        let is_meant = |interface: &&Interface| match &link.interface {
            Some(name) => interface.name == *name,
            None => link.sources().any(|source| interface.addresses.contains(&source)),
        };
        if link.interface.is_none() && !link.has_source() {
            return None;
        }
        let Some(interface) = interfaces.iter().find(is_meant) else {
            return Some(Self::default());
        };
        let has = |source: &IpAddr| interface.addresses.contains(source);
        let has_sources = link.sources().all(|source| has(&source));
        let needs = |is_meant: fn(&IpAddr) -> bool| link.reflectors.iter().any(is_meant);
        let address = |source: Option<IpAddr>, is_meant: fn(&IpAddr) -> bool| {
            let primary = || needs(is_meant).then(|| interface.primary(is_meant)).flatten();
            source.filter(has).or_else(primary).filter(|_| has_sources)
        };
        let addresses = [
            address(link.source.map(IpAddr::V4), IpAddr::is_ipv4),
            address(link.source_v6.map(IpAddr::V6), IpAddr::is_ipv6),
        ];
        // Without an address nothing can be sent, as during the dial-up of PPPoE.
        let is_up = interface.is_running && addresses.iter().any(Option::is_some);
        Some(Self { is_up, index: Some(interface.index), addresses })
    }
}

/// What was told about a link last.
#[derive(Debug, Default)]
struct Told {
    view: Option<LinkView>,
    /// The last addresses it had.
    addresses: [Option<IpAddr>; 2],
}

impl Told {
    /// Returns what has to be told now.
    fn update(&mut self, wan: WanId, view: LinkView) -> Option<LinkFact> {
        if self.view == Some(view) {
            return None;
        }
        let mut address_changed = false;
        for (known, new) in self.addresses.iter_mut().zip(view.addresses) {
            address_changed |= new.is_some() && known.is_some() && new != *known;
            *known = new.or(*known);
        }
        self.view = Some(view);
        let oper_state = if view.is_up { OperState::Up } else { OperState::Down };
        Some(LinkFact { wan, oper_state, address_changed })
    }
}

type Facts = Arc<Mutex<VecDeque<LinkFact>>>;

fn lock(facts: &Facts) -> MutexGuard<'_, VecDeque<LinkFact>> {
    // Every change to the list is one push or removal.
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches the links on a thread of its own; dropping it ends and joins the thread.
#[derive(Debug)]
pub struct LinkWatcher {
    facts: Facts,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl LinkWatcher {
    /// Takes a first look, whose facts are there when this returns, and starts the thread.
    ///
    /// # Errors
    ///
    /// The system's error if it allows no netlink socket or no further thread.
    pub fn start(links: Vec<WatchedLink>) -> io::Result<Self> {
        let netlink = open_netlink()?;
        let facts: Facts = Arc::new(Mutex::new(VecDeque::with_capacity(FACTS_MAX)));
        let mut looker = Looker { told: Vec::new(), facts: Arc::clone(&facts), links };
        looker.told.resize_with(looker.links.len(), Told::default);
        looker.look();
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let stop = Arc::new(eventfd(0, flags).map_err(io::Error::from)?);
        let stopped = Arc::clone(&stop);
        let thread = Builder::new()
            .name("links".to_owned())
            .spawn(move || looker.run(&netlink, &stopped))?;
        Ok(Self { facts, stop, thread: Some(thread) })
    }

    /// Moves facts into the tick: at most one of each WAN, so that none hides another.
    pub fn drain(&self, tick: &mut Tick) {
        let mut facts = lock(&self.facts);
        let mut index = 0;
        while let Some(fact) = facts.get(index).copied() {
            if tick.links.iter().any(|taken| taken.wan == fact.wan) {
                index += 1;
            } else {
                facts.remove(index);
                tick.push_link(fact);
            }
        }
    }
}

impl Drop for LinkWatcher {
    fn drop(&mut self) {
        // The counter of an eventfd cannot overflow here.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The state of the thread.
#[derive(Debug)]
struct Looker {
    links: Vec<WatchedLink>,
    told: Vec<Told>,
    facts: Facts,
}

impl Looker {
    fn run(mut self, netlink: &OwnedFd, stop: &OwnedFd) {
        loop {
            let mut fds = [PollFd::new(netlink, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
            // An interrupted wait is as good as a finished one.
            let _ = poll(&mut fds, None);
            if !fds[1].revents().is_empty() {
                return;
            }
            drain_messages(netlink);
            self.look();
        }
    }

    fn look(&mut self) {
        let interfaces = match interfaces() {
            Ok(interfaces) => interfaces,
            Err(error) => {
                tracing::warn!(%error, "the interfaces cannot be listed");
                return;
            }
        };
        for ((id, link), told) in (0..).map(WanId).zip(&self.links).zip(&mut self.told) {
            let Some(view) = LinkView::of(link, &interfaces) else { continue };
            if let Some(fact) = told.update(id, view) {
                tell(link, &view, &fact);
                let mut facts = lock(&self.facts);
                if facts.len() == FACTS_MAX {
                    facts.pop_front();
                }
                facts.push_back(fact);
            }
        }
    }
}

fn tell(link: &WatchedLink, view: &LinkView, fact: &LinkFact) {
    let wan = &link.name;
    let interface = link.interface.as_deref().unwrap_or("of its source address");
    let mut addresses = view.addresses.iter().flatten();
    match (view.is_up, addresses.next()) {
        (true, Some(address)) => {
            let changed = fact.address_changed;
            tracing::info!(wan, interface, %address, changed, "the interface is up");
        }
        _ if view.index.is_none() => tracing::warn!(wan, interface, "there is no such interface"),
        (_, None) => {
            tracing::warn!(wan, interface, "the interface has no address to send from");
        }
        _ => tracing::warn!(wan, interface, "the interface is down"),
    }
}

fn open_netlink() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let netlink = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    let groups = (RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR).cast_unsigned();
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(netlink)
}

/// Empties the socket. That messages were lost (`ENOBUFS`) does not matter: they only say that it is
/// time to look.
fn drain_messages(netlink: &OwnedFd) {
    let mut buffer = [0_u8; MESSAGE_BYTES];
    loop {
        match recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(_) | Err(nix::Error::ENOBUFS | nix::Error::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Lists the interfaces with their addresses.
fn interfaces() -> io::Result<Vec<Interface>> {
    let mut all: Vec<Interface> = Vec::new();
    for entry in getifaddrs()? {
        let name = entry.interface_name;
        let known = all.iter().position(|interface| interface.name == name);
        let position = known.unwrap_or_else(|| {
            let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
            let is_running = entry.flags.contains(up);
            // It may have vanished since it was listed.
            let index = if_nametoindex(name.as_str()).unwrap_or_default();
            all.push(Interface { name, index, is_running, addresses: Vec::new() });
            all.len() - 1
        });
        let v4 = entry.address.as_ref().and_then(|address| address.as_sockaddr_in());
        let v6 = entry.address.as_ref().and_then(|address| address.as_sockaddr_in6());
        // An address of the link alone reaches no reflector.
        let v6 = v6.map(nix::sys::socket::SockaddrIn6::ip).filter(|v6| !v6.is_unicast_link_local());
        let address = v4.map(|v4| IpAddr::V4(v4.ip())).or(v6.map(IpAddr::V6));
        if let (Some(address), Some(interface)) = (address, all.get_mut(position)) {
            interface.addresses.push(address);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use embassy_time::Instant;

    use super::*;

    const FIRST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    fn link(interface: Option<&str>, source: Option<Ipv4Addr>) -> WatchedLink {
        let interface = interface.map(str::to_owned);
        let reflectors = vec![Ipv4Addr::new(198, 51, 100, 7).into()];
        WatchedLink { name: "cable".to_owned(), interface, source, source_v6: None, reflectors }
    }

    fn interface(index: u32, is_running: bool, addresses: &[Ipv4Addr]) -> Interface {
        let addresses = addresses.iter().copied().map(IpAddr::V4).collect();
        Interface { name: "ppp0".to_owned(), index, is_running, addresses }
    }

    /// The same with IPv6 addresses.
    fn interface_v6(addresses: &[&str]) -> Interface {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Interface { name: "ppp0".to_owned(), index: 4, is_running: true, addresses }
    }

    /// Returns what is told about one state after the other, as (is up, address changed).
    fn told(link: &WatchedLink, states: &[&[Interface]]) -> Vec<Option<(bool, bool)>> {
        let mut told = Told::default();
        let fact = |interfaces: &&[Interface]| {
            let fact = told.update(WanId(0), LinkView::of(link, interfaces)?)?;
            Some((fact.oper_state == OperState::Up, fact.address_changed))
        };
        states.iter().map(fact).collect()
    }

    #[test]
    fn an_interface_that_vanishes_and_returns_is_told_twice() {
        let up = [interface(4, true, &[FIRST])];
        let states: [&[Interface]; 5] = [&up, &up, &[], &[], &[interface(5, true, &[FIRST])]];
        let expected = [Some((true, false)), None, Some((false, false)), None, Some((true, false))];
        assert_eq!(told(&link(Some("ppp0"), None), &states), expected);
    }

    #[test]
    fn an_interface_made_again_between_two_looks_is_told() {
        let states: [&[Interface]; 2] =
            [&[interface(4, true, &[FIRST])], &[interface(5, true, &[FIRST])]];
        let expected = [Some((true, false)); 2];
        assert_eq!(told(&link(Some("ppp0"), None), &states), expected);
    }

    #[test]
    fn a_link_without_carrier_or_address_is_down() {
        let states: [&[Interface]; 3] = [
            &[interface(4, true, &[FIRST])],
            &[interface(4, false, &[FIRST])],
            &[interface(4, true, &[])],
        ];
        let expected = [Some((true, false)), Some((false, false)), Some((false, false))];
        assert_eq!(told(&link(Some("ppp0"), None), &states), expected);
    }

    #[test]
    fn another_address_is_told_also_after_a_time_without_any() {
        let states: [&[Interface]; 4] = [
            &[interface(4, true, &[FIRST])],
            &[interface(4, true, &[OTHER])],
            &[interface(4, true, &[])],
            &[interface(4, true, &[FIRST])],
        ];
        let expected =
            [Some((true, false)), Some((true, true)), Some((false, false)), Some((true, true))];
        assert_eq!(told(&link(Some("ppp0"), None), &states), expected);
    }

    #[test]
    fn a_further_address_is_no_change() {
        let states: [&[Interface]; 2] =
            [&[interface(4, true, &[FIRST])], &[interface(4, true, &[FIRST, OTHER])]];
        assert_eq!(told(&link(Some("ppp0"), None), &states), [Some((true, false)), None]);
    }

    #[test]
    fn a_source_address_that_is_gone_is_a_link_that_is_down() {
        let states: [&[Interface]; 2] =
            [&[interface(4, true, &[OTHER, FIRST])], &[interface(4, true, &[OTHER])]];
        for interface in [None, Some("ppp0")] {
            let expected = [Some((true, false)), Some((false, false))];
            assert_eq!(told(&link(interface, Some(FIRST)), &states), expected);
        }
    }

    #[test]
    fn another_ipv6_network_is_told_and_another_privacy_address_is_not() {
        let mut link = link(Some("ppp0"), None);
        link.reflectors = vec!["2001:db8:9::9".parse().unwrap()];
        let states: [&[Interface]; 4] = [
            &[interface_v6(&["192.0.2.1"])],
            &[interface_v6(&["2001:db8:0:1::5"])],
            &[interface_v6(&["2001:db8:0:1:abcd::6", "2001:db8:0:1::5"])],
            &[interface_v6(&["2001:db8:0:2::5"])],
        ];
        let expected = [Some((false, false)), Some((true, false)), None, Some((true, true))];
        assert_eq!(told(&link, &states), expected);
    }

    #[test]
    fn a_link_of_both_ip_versions_needs_both_of_its_source_addresses() {
        let mut link = link(None, Some(FIRST));
        link.source_v6 = Some("2001:db8::5".parse().unwrap());
        let states: [&[Interface]; 2] =
            [&[interface_v6(&["192.0.2.1", "2001:db8::5"])], &[interface_v6(&["192.0.2.1"])]];
        assert_eq!(told(&link, &states), [Some((true, false)), Some((false, false))]);
    }

    #[test]
    fn nothing_is_told_where_the_routes_decide() {
        assert_eq!(told(&link(None, None), &[&[interface(4, true, &[FIRST])]]), [None]);
    }

    #[test]
    fn a_tick_takes_one_fact_of_each_wan() {
        let facts: Facts = Arc::default();
        let fact =
            |wan, oper_state| LinkFact { wan: WanId(wan), oper_state, address_changed: false };
        let (down, up) = (fact(0, OperState::Down), fact(0, OperState::Up));
        let other = fact(1, OperState::Down);
        lock(&facts).extend([down, up, other]);
        let stop = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let watcher = LinkWatcher { facts, stop: Arc::new(stop), thread: None };
        let mut tick = Tick::new(Instant::MIN);
        watcher.drain(&mut tick);
        assert_eq!(tick.links.as_slice(), [down, other]);
        tick.reset(Instant::MIN);
        watcher.drain(&mut tick);
        assert_eq!(tick.links.as_slice(), [up]);
    }

    #[test]
    fn the_loopback_interface_is_up_at_the_first_look() {
        let Ok(watcher) = LinkWatcher::start(vec![link(Some("lo"), None)]) else { return };
        let mut tick = Tick::new(Instant::MIN);
        watcher.drain(&mut tick);
        assert_eq!(tick.links.first().map(|fact| fact.oper_state), Some(OperState::Up));
    }
}
