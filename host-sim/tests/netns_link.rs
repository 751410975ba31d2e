//! The emulated line between two real network namespaces. Needs root; skipped without.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use wanctl_sim::link::{CapacitySchedule, Direction};
use wanctl_sim::netns::{
    INTERNET_ADDRESS, Namespace, PacketLink, PacketLinkOptions, REFLECTORS, TcpLoad, usable_or_skip,
};

const BASE_RTT: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_secs(20);
/// What a busy machine may add to a round trip.
const SCHEDULING: Duration = Duration::from_millis(30);

struct Network {
    // Dropped in this order: the interfaces go before their namespaces.
    link: PacketLink,
    lan: Namespace,
    internet: Namespace,
}

fn network(download_bps: u64, upload_bps: u64) -> Result<Network> {
    let lan = Namespace::create("wanctl-lan")?;
    let internet = Namespace::create("wanctl-inet")?;
    let constant = CapacitySchedule::constant;
    let mut options = PacketLinkOptions::new(constant(download_bps), constant(upload_bps));
    options.base_rtt = BASE_RTT;
    // Smaller than the default, so that it drains within a test.
    options.fifo_bytes = 300_000;
    let link = PacketLink::start(&lan, &internet, options)?;
    Ok(Network { link, lan, internet })
}

/// Looks at `condition` every few milliseconds until it holds.
fn wait_until(what: &str, condition: impl Fn() -> bool) -> Result<()> {
    let started = Instant::now();
    while !condition() {
        ensure!(started.elapsed() < DEADLINE, "still not after {DEADLINE:?}: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
    Ok(())
}

fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// Sends ICMP echo requests to `host` until one is answered; returns the round trip time.
fn ping(lan: &Namespace, host: Ipv4Addr) -> Result<Duration> {
    let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4));
    let mut socket = lan.run(open)?.context("open a raw socket")?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let address = SocketAddr::from((host, 0)).into();
    for sequence in 1..=5_u8 {
        let mut request = [8, 0, 0, 0, 0x77, 0x61, 0, sequence];
        let sum = checksum(&request);
        request[2..4].copy_from_slice(&sum.to_be_bytes());
        let sent = Instant::now();
        socket.send_to(&request, &address)?;
        let mut reply = [0; 128];
        while let Ok(bytes) = socket.read(&mut reply) {
            // An IP header of 20 bytes, then the echo with type 0, our id and sequence number.
            if bytes == 28 && reply[20] == 0 && reply[24..28] == request[4..8] {
                return Ok(sent.elapsed());
            }
        }
    }
    anyhow::bail!("{host} answers none of 5 pings")
}

#[test]
fn a_ping_takes_the_base_rtt_to_every_reflector() -> Result<()> {
    if !usable_or_skip("a_ping_takes_the_base_rtt_to_every_reflector") {
        return Ok(());
    }
    let network = network(50_000_000, 20_000_000)?;
    for host in REFLECTORS.into_iter().chain([INTERNET_ADDRESS]) {
        // The best of a few: any single one may have been held up by the machine.
        let rtts: Vec<_> = (0..5).map(|_| ping(&network.lan, host)).collect::<Result<_>>()?;
        let best = rtts.into_iter().min().unwrap_or_default();
        assert!(best >= BASE_RTT, "{host}: {best:?} is impossible");
        assert!(best < BASE_RTT + SCHEDULING, "{host}: {best:?}");
    }
    Ok(())
}

#[test]
fn the_queue_stands_in_the_fifo_until_the_shaper_goes_below_capacity() -> Result<()> {
    if !usable_or_skip("the_queue_stands_in_the_fifo_until_the_shaper_goes_below_capacity") {
        return Ok(());
    }
    let network = network(10_000_000, 5_000_000)?;
    for direction in Direction::BOTH {
        let capacity_bps = network.link.stats(direction).capacity_bps;
        network.link.set_shaper_rate(direction, 10 * capacity_bps);
        let load = TcpLoad::start(&network.lan, &network.internet, direction, 2)?;
        let delay = || Duration::from_nanos(network.link.stats(direction).fifo_delay);
        wait_until("a queue in the FIFO", || delay() > Duration::from_millis(100))?;
        assert!(ping(&network.lan, REFLECTORS[0])? > BASE_RTT + SCHEDULING);

        network.link.set_shaper_rate(direction, capacity_bps * 8 / 10);
        wait_until("an empty FIFO", || delay() < Duration::from_millis(30))?;
        let before = load.received_bytes();
        wait_until("traffic", || load.received_bytes() > before + 100_000)?;
        assert!(delay() < Duration::from_millis(30), "{:?}", delay());
        // A ping does not wait in the shaper either, unless it shares a queue with a bulk flow.
        let rtts: Vec<_> =
            REFLECTORS.into_iter().map(|host| ping(&network.lan, host)).collect::<Result<_>>()?;
        assert!(rtts.iter().any(|&rtt| rtt < BASE_RTT + SCHEDULING), "{rtts:?}");

        assert!(load.stop() > 100_000);
        network.link.set_shaper_rate(direction, 0);
        wait_until("an idle line", || network.link.stats(direction).shaper_queued_bytes == 0)?;
    }
    Ok(())
}

#[test]
fn an_outage_stops_the_line_and_its_end_starts_it_again() -> Result<()> {
    if !usable_or_skip("an_outage_stops_the_line_and_its_end_starts_it_again") {
        return Ok(());
    }
    let network = network(20_000_000, 20_000_000)?;
    network.link.set_capacity(Direction::Upload, 0);
    wait_until("an outage", || network.link.stats(Direction::Upload).capacity_bps == 0)?;
    let socket = network.lan.run(|| std::net::UdpSocket::bind("0.0.0.0:0"))??;
    socket.send_to(b"held", (INTERNET_ADDRESS, 9))?;
    wait_until("a held packet", || network.link.stats(Direction::Upload).fifo_delay == u64::MAX)?;
    network.link.set_capacity(Direction::Upload, 20_000_000);
    wait_until("its way", || network.link.stats(Direction::Upload).delivered_bytes >= 32)?;
    ping(&network.lan, REFLECTORS[0])?;
    Ok(())
}

#[test]
fn a_namespace_has_its_own_interfaces_and_is_gone_afterwards() -> Result<()> {
    if !usable_or_skip("a_namespace_has_its_own_interfaces_and_is_gone_afterwards") {
        return Ok(());
    }
    let namespace = Namespace::create("wanctl-own")?;
    let name = namespace.name().to_owned();
    let listed = namespace.command("ip").args(["-o", "link"]).output()?;
    let listed = String::from_utf8(listed.stdout)?;
    assert!(listed.contains(": lo:") && listed.contains("UP"), "{listed}");
    assert!(!listed.contains(": eth"), "{listed}");
    assert_eq!(namespace.run(|| 6 * 7)?, 42);
    drop(namespace);
    assert!(!exists(&name));
    Ok(())
}

#[test]
fn a_namespace_of_a_dead_process_is_removed_and_that_of_a_live_one_is_not() -> Result<()> {
    if !usable_or_skip("a_namespace_of_a_dead_process_is_removed_and_that_of_a_live_one_is_not") {
        return Ok(());
    }
    let mut child = Command::new("true").spawn()?;
    child.wait()?;
    let dead = format!("wanctl-dead-{}-0", child.id());
    ensure!(Command::new("ip").args(["netns", "add", &dead]).status()?.success());
    let live = Namespace::create("wanctl-dead")?;
    let _second = Namespace::create("wanctl-dead")?;
    assert!(!exists(&dead));
    assert!(exists(live.name()));
    Ok(())
}

fn exists(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}
