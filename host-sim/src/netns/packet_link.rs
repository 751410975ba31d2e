//! An emulated line between two namespaces, for the kernel's own packets.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::tun::{MTU, Tun};
use super::{INTERNET_ADDRESS, LAN_ADDRESS, Namespace, REFLECTORS};
use crate::link::{CapacitySchedule, Direction, NANOS_PER_SECOND, Nanos, Pipe, PipeOptions};

/// Name of the interface in the home, unless told otherwise.
const LAN_INTERFACE: &str = "wan0";
/// Name of the interface in the internet.
const INTERNET_INTERFACE: &str = "inet0";
/// Packets read from one side before the other gets its turn.
const BATCH_PACKETS: usize = 32;
/// Longest the thread sleeps: a new rate or a stop takes effect within this time.
const SLEEP_MAX: Nanos = 5_000_000;
/// A capacity that has not been set by hand.
const FROM_SCHEDULE: u64 = u64::MAX;

/// What the line is made of.
#[derive(Clone, Debug)]
pub struct PacketLinkOptions {
    /// Capacity from the internet to the home; time counts from [`PacketLink::start`].
    pub download: CapacitySchedule,
    /// Capacity from the home to the internet; time counts from [`PacketLink::start`].
    pub upload: CapacitySchedule,
    /// Size of the FIFO of each direction in bytes.
    pub fifo_bytes: u64,
    /// Round trip time of the empty line without transmission times.
    pub base_rtt: Duration,
    /// Addresses in the internet that answer pings.
    pub reflectors: Vec<Ipv4Addr>,
    /// Name of the interface in the home.
    pub lan_interface: String,
    /// Address of the home's end.
    pub lan_address: Ipv4Addr,
    /// Address of the internet's end.
    pub internet_address: Ipv4Addr,
}

impl PacketLinkOptions {
    /// Builds a line with the given capacities, the default FIFO, 20 ms of base RTT and the
    /// [`REFLECTORS`].
    #[must_use]
    pub fn new(download: CapacitySchedule, upload: CapacitySchedule) -> Self {
        Self {
            download,
            upload,
            fifo_bytes: PipeOptions::DEFAULT_FIFO_BYTES,
            base_rtt: Duration::from_millis(20),
            reflectors: REFLECTORS.to_vec(),
            lan_interface: LAN_INTERFACE.to_owned(),
            lan_address: LAN_ADDRESS,
            internet_address: INTERNET_ADDRESS,
        }
    }
}

/// Where one direction of a running line stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketLinkStats {
    /// Nanoseconds a packet arriving now at the FIFO waits before it is sent; `Nanos::MAX` in an
    /// outage that does not end.
    pub fifo_delay: Nanos,
    /// Bytes of IP packets that have passed the shaper.
    pub shaped_bytes: u64,
    /// Bytes of IP packets that have passed the bottleneck.
    pub delivered_bytes: u64,
    /// Packets the shaper has dropped.
    pub shaper_dropped_packets: u64,
    /// Packets the shaper and the FIFO have dropped.
    pub dropped_packets: u64,
    /// Bytes waiting in the shaper.
    pub shaper_queued_bytes: u64,
    /// Capacity of the bottleneck in bit/s.
    pub capacity_bps: u64,
}

/// A running line: a thread that moves packets between `wan0` (or another name) in one namespace and
/// `inet0` in the other. It stops, and both interfaces disappear, on drop.
#[derive(Debug)]
pub struct PacketLink {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl PacketLink {
    /// Makes both interfaces, with addresses and default routes, and starts moving packets.
    ///
    /// The shapers are unlimited at first.
    ///
    /// # Errors
    ///
    /// If the interfaces cannot be made: see [`super::available`].
    pub fn start(
        lan: &Namespace,
        internet: &Namespace,
        options: PacketLinkOptions,
    ) -> Result<Self> {
        let lan_tun = Tun::open(lan, &options.lan_interface)?;
        let internet_tun = Tun::open(internet, INTERNET_INTERFACE)?;
        let (near, far) = (options.lan_address, options.internet_address);
        lan_tun.configure(lan, near, far)?;
        internet_tun.configure(internet, far, near)?;
        for reflector in &options.reflectors {
            internet.ip(&["addr", "add", &format!("{reflector}/32"), "dev", "lo"])?;
        }
        let half_up = options.base_rtt / 2;
        let fifo_bytes = options.fifo_bytes;
        let pipe = |capacity, propagation| {
            Pipe::new(PipeOptions { capacity, fifo_bytes, propagation, shaper_bps: 0 })
        };
        let shared = Arc::new(Shared::default());
        let mover = Mover {
            started: Instant::now(),
            download: Lane::new(pipe(options.download, options.base_rtt - half_up)),
            upload: Lane::new(pipe(options.upload, half_up)),
            lan_tun,
            internet_tun,
            shared: Arc::clone(&shared),
        };
        mover.publish();
        let thread = thread::Builder::new()
            .name("packet-link".to_owned())
            .spawn(move || mover.run())
            .context("start the thread of the packet link")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Sets the shaper of a direction to `rate_bps` bit/s within 5 ms; zero means unlimited.
    pub fn set_shaper_rate(&self, direction: Direction, rate_bps: u64) {
        self.shared.lane(direction).shaper_bps.store(rate_bps, Ordering::Relaxed);
    }

    /// Sets the capacity of a direction to `rate_bps` bit/s within 5 ms, in place of the rest of
    /// its schedule; zero is an outage.
    pub fn set_capacity(&self, direction: Direction, rate_bps: u64) {
        let wanted = rate_bps.min(FROM_SCHEDULE - 1);
        self.shared.lane(direction).wanted_capacity_bps.store(wanted, Ordering::Relaxed);
    }

    /// Returns where a direction stands; at most 5 ms old.
    #[must_use]
    pub fn stats(&self, direction: Direction) -> PacketLinkStats {
        let lane = self.shared.lane(direction);
        PacketLinkStats {
            fifo_delay: lane.fifo_delay.load(Ordering::Relaxed),
            shaped_bytes: lane.shaped_bytes.load(Ordering::Relaxed),
            delivered_bytes: lane.delivered_bytes.load(Ordering::Relaxed),
            shaper_dropped_packets: lane.shaper_dropped_packets.load(Ordering::Relaxed),
            dropped_packets: lane.dropped_packets.load(Ordering::Relaxed),
            shaper_queued_bytes: lane.shaper_queued_bytes.load(Ordering::Relaxed),
            capacity_bps: lane.capacity_bps.load(Ordering::Relaxed),
        }
    }
}

impl Drop for PacketLink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

/// What the handle and the thread share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    download: SharedLane,
    upload: SharedLane,
}

impl Shared {
    fn lane(&self, direction: Direction) -> &SharedLane {
        match direction {
            Direction::Download => &self.download,
            Direction::Upload => &self.upload,
        }
    }
}

/// Wishes of the handle, then what the thread has seen.
#[derive(Debug)]
struct SharedLane {
    shaper_bps: AtomicU64,
    wanted_capacity_bps: AtomicU64,
    fifo_delay: AtomicU64,
    shaped_bytes: AtomicU64,
    delivered_bytes: AtomicU64,
    shaper_dropped_packets: AtomicU64,
    dropped_packets: AtomicU64,
    shaper_queued_bytes: AtomicU64,
    capacity_bps: AtomicU64,
}

impl Default for SharedLane {
    fn default() -> Self {
        Self {
            shaper_bps: AtomicU64::new(0),
            wanted_capacity_bps: AtomicU64::new(FROM_SCHEDULE),
            fifo_delay: AtomicU64::new(0),
            shaped_bytes: AtomicU64::new(0),
            delivered_bytes: AtomicU64::new(0),
            shaper_dropped_packets: AtomicU64::new(0),
            dropped_packets: AtomicU64::new(0),
            shaper_queued_bytes: AtomicU64::new(0),
            capacity_bps: AtomicU64::new(0),
        }
    }
}

/// One direction on the side of the thread.
struct Lane {
    pipe: Pipe<Vec<u8>>,
    shaper_bps: u64,
    capacity_bps: u64,
}

impl Lane {
    fn new(pipe: Pipe<Vec<u8>>) -> Self {
        Self { pipe, shaper_bps: 0, capacity_bps: FROM_SCHEDULE }
    }

    fn apply_wishes(&mut self, now: Nanos, shared: &SharedLane) {
        let shaper_bps = shared.shaper_bps.load(Ordering::Relaxed);
        if shaper_bps != self.shaper_bps {
            self.shaper_bps = shaper_bps;
            self.pipe.set_shaper_rate(now, shaper_bps);
        }
        let capacity_bps = shared.wanted_capacity_bps.load(Ordering::Relaxed);
        if capacity_bps != self.capacity_bps {
            self.capacity_bps = capacity_bps;
            self.pipe.set_capacity(now, capacity_bps);
        }
    }

    /// Reads what the kernel has sent into `from`; packets other than IPv4 are ignored.
    fn take_in(&mut self, from: &Tun, started: Instant) {
        let mut buffer = [0; MTU];
        for _ in 0..BATCH_PACKETS {
            // A device that fails is one that is gone or down: then no packets come, as on a line.
            let Ok(Some(bytes)) = from.receive(&mut buffer) else { break };
            let packet = &buffer[..bytes];
            if let Some(flow) = flow_hash(packet) {
                self.pipe.enqueue(elapsed(started), flow, bytes as u32, packet.to_vec());
            }
        }
    }

    fn hand_out(&mut self, to: &Tun, now: Nanos) {
        self.pipe.advance(now);
        while let Some((_, packet)) = self.pipe.pop_delivered(now) {
            // The kernel refuses packets only while the interface is down.
            let _ = to.send(&packet);
        }
    }

    fn publish(&self, shared: &SharedLane) {
        let stats = self.pipe.stats();
        let dropped = stats.shaper_dropped_packets + stats.fifo_dropped_packets;
        shared.fifo_delay.store(stats.fifo_delay, Ordering::Relaxed);
        shared.delivered_bytes.store(stats.delivered_bytes, Ordering::Relaxed);
        shared.shaped_bytes.store(stats.shaped_bytes, Ordering::Relaxed);
        shared.shaper_dropped_packets.store(stats.shaper_dropped_packets, Ordering::Relaxed);
        shared.dropped_packets.store(dropped, Ordering::Relaxed);
        shared.shaper_queued_bytes.store(stats.shaper_queued_bytes, Ordering::Relaxed);
        shared.capacity_bps.store(stats.capacity_bps, Ordering::Relaxed);
    }
}

/// The state of the thread.
struct Mover {
    started: Instant,
    lan_tun: Tun,
    internet_tun: Tun,
    download: Lane,
    upload: Lane,
    shared: Arc<Shared>,
}

impl Mover {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let now = elapsed(self.started);
            self.download.apply_wishes(now, &self.shared.download);
            self.upload.apply_wishes(now, &self.shared.upload);
            self.upload.take_in(&self.lan_tun, self.started);
            self.download.take_in(&self.internet_tun, self.started);
            let now = elapsed(self.started);
            self.upload.hand_out(&self.internet_tun, now);
            self.download.hand_out(&self.lan_tun, now);
            self.publish();
            self.wait();
        }
    }

    fn publish(&self) {
        self.download.publish(&self.shared.download);
        self.upload.publish(&self.shared.upload);
    }

    /// Sleeps until a packet comes in or something is due in one of the pipes.
    fn wait(&self) {
        let now = elapsed(self.started);
        let events = [self.download.pipe.next_event(), self.upload.pipe.next_event()];
        let next = events.into_iter().flatten().min().unwrap_or(Nanos::MAX);
        let sleep = next.saturating_sub(now).min(SLEEP_MAX);
        let timeout = Timespec {
            tv_sec: (sleep / NANOS_PER_SECOND) as i64,
            tv_nsec: (sleep % NANOS_PER_SECOND) as i64,
        };
        let mut fds = [
            PollFd::new(&self.lan_tun, PollFlags::IN),
            PollFd::new(&self.internet_tun, PollFlags::IN),
        ];
        // An interrupted wait is over a little early, which does no harm.
        let _ = poll(&mut fds, Some(&timeout));
    }
}

fn elapsed(started: Instant) -> Nanos {
    started.elapsed().as_nanos() as Nanos
}

/// A hash of addresses, protocol and ports (or the id of an ICMP echo); `None` if not IPv4.
fn flow_hash(packet: &[u8]) -> Option<u64> {
    const ICMP: u8 = 1;
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    if packet.len() < 20 || packet[0] >> 4 != 4 {
        return None;
    }
    let header_bytes = usize::from(packet[0] & 0x0f) * 4;
    let protocol = packet[9];
    // Only the first fragment of a packet has ports, so no fragment may use them.
    let is_fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
    let ids = match protocol {
        TCP | UDP if !is_fragment => packet.get(header_bytes..header_bytes + 4),
        ICMP if !is_fragment => packet.get(header_bytes + 4..header_bytes + 6),
        _ => None,
    };
    // FNV-1a.
    let bytes = packet[12..20].iter().chain([&protocol]).chain(ids.unwrap_or_default());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The shaper uses the low bits; the high ones are mixed best.
    Some(hash ^ (hash >> 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(protocol: u8, source: u8, transport: [u8; 8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend([10, 0, 0, source, 10, 0, 0, 2]);
        packet.extend(transport);
        packet
    }

    #[test]
    fn a_flow_is_told_by_addresses_protocol_and_ports() {
        let udp = packet(17, 1, [0, 80, 1, 1, 9, 9, 9, 9]);
        assert_eq!(flow_hash(&udp), flow_hash(&packet(17, 1, [0, 80, 1, 1, 8, 8, 8, 8])));
        for other in [
            packet(17, 1, [0, 80, 1, 2, 9, 9, 9, 9]),
            packet(6, 1, [0, 80, 1, 1, 9, 9, 9, 9]),
            packet(17, 3, [0, 80, 1, 1, 9, 9, 9, 9]),
        ] {
            assert_ne!(flow_hash(&udp), flow_hash(&other));
        }
    }

    #[test]
    fn pings_with_one_id_are_one_flow_whatever_their_sequence_number() {
        let echo = packet(1, 1, [8, 0, 7, 7, 1, 1, 0, 1]);
        assert_eq!(flow_hash(&echo), flow_hash(&packet(1, 1, [8, 0, 6, 6, 1, 1, 0, 2])));
        assert_ne!(flow_hash(&echo), flow_hash(&packet(1, 1, [8, 0, 7, 7, 1, 2, 0, 1])));
    }

    #[test]
    fn fragments_ignore_what_would_be_ports_and_other_packets_have_no_flow() {
        let fragment = |transport| {
            let mut fragment = packet(17, 1, transport);
            fragment[6] = 0x20;
            flow_hash(&fragment)
        };
        assert_eq!(fragment([1; 8]), fragment([2; 8]));
        assert_eq!(flow_hash(&[0x60; 40]), None);
        assert_eq!(flow_hash(&[0x45; 19]), None);
        assert!(flow_hash(&packet(17, 1, [1; 8])[..22]).is_some());
    }
}
