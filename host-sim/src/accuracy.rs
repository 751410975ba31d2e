//! `wanctl-sim accuracy`: how far measured round-trip times are from the truth.
//!
//! The prober pings through an emulated line between two namespaces. The truth is what a packet tap
//! on the line's interface sees: the kernel stamps each request when it hands it to the interface
//! and each reply when it comes from there. What the prober says beyond that is its error.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSliceMut, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};
use wanctl::clock;
use wanctl::probe::{IcmpProber, ProbeWan, Prober};
use wanctl_core::tick::Tick;
use wanctl_core::units::{ReflectorId, WanId};

use crate::link::CapacitySchedule;
use crate::netns::{Namespace, PacketLink, PacketLinkOptions, REFLECTORS};
use crate::routeros::cli::parse_latency;

/// Time between two rounds of probes, as in the daemon.
const TICK: Duration = Duration::from_millis(50);
/// Round-trip time of the line. Longer than a tick minus the spread, so that samples of two ticks
/// mix as they do on real lines.
const BASE_RTT: Duration = Duration::from_millis(20);
/// A reply and the sample made of it are at most so far apart.
const MATCH_MAX_NS: u64 = 5_000_000;
/// All packets, whatever their protocol (`ETH_P_ALL`).
const EVERY_PROTOCOL: u16 = 3;

/// Options of `wanctl-sim accuracy`.
#[derive(Debug, clap::Args)]
pub struct AccuracyArgs {
    /// How long to measure
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The highest error at the 99th percentile that is good enough
    #[arg(long, value_name = "TIME", default_value = "100us", value_parser = parse_latency)]
    limit: Duration,
}

/// Measures and prints the figures; returns whether they are good enough.
///
/// # Errors
///
/// When namespaces cannot be made (see [`crate::netns::available`]) or nothing was answered.
pub fn run(args: &AccuracyArgs, out: &mut impl Write) -> Result<bool> {
    let (lan, internet) = (Namespace::create("wctl-lan")?, Namespace::create("wctl-net")?);
    let capacity = || CapacitySchedule::constant(100_000_000);
    let options =
        PacketLinkOptions { base_rtt: BASE_RTT, ..PacketLinkOptions::new(capacity(), capacity()) };
    let _link = PacketLink::start(&lan, &internet, options)?;
    let mut tap = lan.run(Tap::open)??;
    let wan = ProbeWan { reflectors: REFLECTORS.map(Into::into).to_vec(), ..ProbeWan::default() };
    // The thread of the prober stays in the namespace in which it is started.
    let start = || IcmpProber::start(&[wan], Duration::from_secs(2), TICK / 4);
    let mut prober = lan.run(start)?.context("start the prober")?;
    let samples = measure(&mut prober, &mut tap, Duration::from_secs(args.seconds))?;
    let round_trips = tap.round_trips();
    let errors = errors(&samples, &round_trips);
    ensure!(!errors.is_empty(), "no probe was answered");
    let true_rtts: Vec<i64> = round_trips.values().flatten().map(|all| all.rtt_ns as i64).collect();
    writeln!(out, "line    base round-trip time {} ms, 3 reflectors, 20 Hz", BASE_RTT.as_millis())?;
    writeln!(out, "truth   {} round trips of the tap: {}", true_rtts.len(), show(&true_rtts))?;
    writeln!(out, "error   {} samples: {}", errors.len(), show(&errors))?;
    let p99 = percentile(&errors, 99).unsigned_abs();
    let is_good = u128::from(p99) <= args.limit.as_nanos();
    let verdict = if is_good { "within" } else { "ABOVE" };
    writeln!(out, "p99     {:.1} us, {verdict} the limit of {:?}", p99 as f64 / 1e3, args.limit)?;
    Ok(is_good)
}

/// An answered probe: reflector, arrival on the daemon's clock, round-trip time.
type Sample = (usize, u64, u64);

fn measure(prober: &mut IcmpProber, tap: &mut Tap, length: Duration) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let (start, mut rounds) = (Instant::now(), 0);
    let mut tick = Tick::new(clock::now());
    // One round more to collect the last answers, which is longer than they take.
    while start.elapsed() < length + TICK {
        if start.elapsed() < length {
            for reflector in (0..).take(REFLECTORS.len()).map(ReflectorId) {
                prober.send(WanId(0), reflector);
            }
        }
        rounds += 1;
        std::thread::sleep((TICK * rounds).saturating_sub(start.elapsed()));
        tick.reset(clock::now());
        prober.drain(&mut tick);
        let now_us = tick.now.as_micros();
        samples.extend(tick.samples.iter().map(|sample| {
            let arrived_ns = now_us.saturating_sub(sample.age_us.into()) * 1000;
            (usize::from(sample.reflector.0), arrived_ns, sample.rtt.get())
        }));
        tap.drain()?;
    }
    Ok(samples)
}

/// Returns measured minus true round-trip time of every sample whose reply the tap has seen, in ns.
fn errors(samples: &[Sample], truth: &BTreeMap<Ipv4Addr, Vec<RoundTrip>>) -> Vec<i64> {
    let error = |(reflector, arrived_ns, rtt_ns): &Sample| {
        let seen = truth.get(REFLECTORS.get(*reflector)?)?;
        let nearest = seen.iter().min_by_key(|all| all.replied_ns.abs_diff(*arrived_ns))?;
        let is_match = nearest.replied_ns.abs_diff(*arrived_ns) <= MATCH_MAX_NS;
        is_match.then_some(*rtt_ns as i64 - nearest.rtt_ns as i64)
    };
    let mut errors: Vec<i64> = samples.iter().filter_map(error).collect();
    errors.sort_unstable();
    errors
}

fn percentile(sorted: &[i64], percent: usize) -> i64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

fn show(values: &[i64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let us = |percent| percentile(&sorted, percent) as f64 / 1e3;
    format!(
        "p1 {:.1}, median {:.1}, p95 {:.1}, p99 {:.1}, max {:.1} us",
        us(1),
        us(50),
        us(95),
        us(99),
        us(100)
    )
}

/// One ping as the tap has seen it.
#[derive(Debug, Clone, Copy)]
struct RoundTrip {
    rtt_ns: u64,
    /// On the daemon's clock.
    replied_ns: u64,
}

/// Names a ping: who is pinged, identifier, sequence number.
type Key = (Ipv4Addr, u16, u16);

/// Sees every packet of the namespace it was opened in, with the kernel's stamp.
struct Tap {
    socket: Socket,
    control: Vec<u8>,
    requests: BTreeMap<Key, u64>,
    round_trips: Vec<(Key, RoundTrip)>,
}

impl Tap {
    fn open() -> Result<Self> {
        let protocol = Protocol::from(i32::from(EVERY_PROTOCOL.to_be()));
        // Without the header of the link layer.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol));
        let socket = socket.context("open a packet socket")?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        let control = nix::cmsg_space!(TimeSpec);
        Ok(Self { socket, control, requests: BTreeMap::new(), round_trips: Vec::new() })
    }

    fn drain(&mut self) -> Result<()> {
        // Stamps are of the wall clock, samples of the monotonic one.
        let (now_ns, wall_ns) = clock::both_nanos();
        let offset_ns = i128::from(now_ns) - wall_ns;
        loop {
            let mut buffer = [0_u8; 128];
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let fd = self.socket.as_raw_fd();
            let taken = recvmsg::<()>(fd, &mut parts, Some(&mut self.control), MsgFlags::empty());
            let message = match taken.map_err(std::io::Error::from) {
                Ok(message) => message,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("read the packet tap"),
            };
            let stamp = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
                _ => None,
            });
            let (Some(stamp), bytes) = (stamp, message.bytes) else { continue };
            let real_ns = i128::from(stamp.tv_sec()) * 1_000_000_000 + i128::from(stamp.tv_nsec());
            let at_ns = u64::try_from(real_ns + offset_ns).unwrap_or_default();
            self.take(buffer.get(..bytes).unwrap_or_default(), at_ns);
        }
    }

    fn take(&mut self, packet: &[u8], at_ns: u64) {
        let Some((is_request, key)) = echo(packet) else { return };
        if is_request {
            self.requests.insert(key, at_ns);
        } else if let Some(sent_ns) = self.requests.remove(&key) {
            let rtt_ns = at_ns.saturating_sub(sent_ns);
            self.round_trips.push((key, RoundTrip { rtt_ns, replied_ns: at_ns }));
        }
    }

    fn round_trips(&self) -> BTreeMap<Ipv4Addr, Vec<RoundTrip>> {
        let mut by_reflector: BTreeMap<Ipv4Addr, Vec<RoundTrip>> = BTreeMap::new();
        for ((address, ..), round_trip) in &self.round_trips {
            by_reflector.entry(*address).or_default().push(*round_trip);
        }
        by_reflector
    }
}

/// Returns whether an IPv4 packet is an echo request, else a reply, and which ping it belongs to.
fn echo(packet: &[u8]) -> Option<(bool, Key)> {
    const ICMP: u8 = 1;
    let first = *packet.first()?;
    if first >> 4 != 4 || *packet.get(9)? != ICMP {
        return None;
    }
    let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
    let message = packet.get(usize::from(first & 0x0f) * 4..)?.first_chunk::<8>()?;
    let [kind, _, _, _, id_high, id_low, seq_high, seq_low] = *message;
    let (identifier, sequence) =
        (u16::from_be_bytes([id_high, id_low]), u16::from_be_bytes([seq_high, seq_low]));
    match kind {
        8 => Some((true, (address(16)?, identifier, sequence))),
        0 => Some((false, (address(12)?, identifier, sequence))),
        _ => None,
    }
}
