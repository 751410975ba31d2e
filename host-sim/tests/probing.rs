//! Reflectors over real ICMP: both IP versions, one-way delays, replacement of bad ones. Needs root;
//! skipped without.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};
use wanctl::clock;
use wanctl::pacer::Pacer;
use wanctl::probe::{IcmpProber, ProbeCounters, ProbeWan, Prober};
use wanctl_core::tick::{RttSample, Tick};
use wanctl_core::units::{ReflectorId, WanId};
use wanctl_sim::link::{CapacitySchedule, Direction};
use wanctl_sim::netns::{
    Namespace, PacketLink, PacketLinkOptions, REFLECTORS, TcpLoad, usable_or_skip,
};

/// Shorter than the daemon's, so that more happens in the same time.
const TICK: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_secs(1);
/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(120);

/// A prober that is asked at a steady pace.
struct Pump {
    prober: IcmpProber,
    active: u8,
    tick: Tick,
    pacer: Pacer,
    losses: usize,
    replaced: Vec<u8>,
}

impl Pump {
    /// The thread of the prober stays in the namespace in which it is started.
    fn start(home: &Namespace, wan: ProbeWan) -> Result<Self> {
        let active = u8::try_from(wan.active())?;
        let prober = home.run(|| IcmpProber::start(&[wan], TIMEOUT, TICK / 4))??;
        let pacer = Pacer::new(embassy_time::Duration::from_millis(TICK.as_millis() as u64));
        let tick = Tick::new(clock::now());
        Ok(Self { prober, active, tick, pacer, losses: 0, replaced: Vec::new() })
    }

    /// Sends one round of probes; returns what has been answered meanwhile.
    fn round(&mut self) -> &[RttSample] {
        for reflector in 0..self.active {
            self.prober.send(WanId(0), ReflectorId(reflector));
        }
        let now = self.pacer.wait(&AtomicBool::new(false)).expect("nothing stops it");
        self.tick.reset(now);
        self.prober.drain(&mut self.tick);
        self.losses += self.tick.losses.len();
        self.replaced.extend(self.tick.replaced.iter().map(|replaced| replaced.reflector.0));
        &self.tick.samples
    }

    /// Goes on until `is_met` says so of a round.
    fn until(&mut self, what: &str, mut is_met: impl FnMut(&mut Self) -> bool) -> Result<()> {
        let started = Instant::now();
        loop {
            self.round();
            if is_met(self) {
                return Ok(());
            }
            ensure!(started.elapsed() < DEADLINE, "still not after {DEADLINE:?}: {what}");
        }
    }

    fn counters(&self) -> ProbeCounters {
        self.prober.counters()[0]
    }

    fn pinged(&self) -> Vec<IpAddr> {
        self.counters().reflectors.iter().flatten().map(|all| all.address).collect()
    }
}

fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
}

/// A home and an internet with a cable between them, IPv6 and IPv4; the internet has `hosts`.
fn cable(hosts: std::ops::RangeInclusive<u16>) -> Result<(Namespace, Namespace)> {
    let home = Namespace::create("wctl-phome")?;
    let internet = Namespace::create("wctl-pinet")?;
    for namespace in [&home, &internet] {
        for scope in ["all", "default"] {
            namespace.set_sysctl(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "0")?;
        }
    }
    let peer = internet.name();
    home.ip(&["link", "add", "wan0", "type", "veth", "peer", "name", "eth0", "netns", peer])?;
    home.ip(&["addr", "add", "2001:db8::1/64", "dev", "wan0", "nodad"])?;
    home.ip(&["addr", "add", "192.0.2.1/24", "dev", "wan0"])?;
    internet.ip(&["addr", "add", "192.0.2.2/24", "dev", "eth0"])?;
    for host in hosts {
        internet.ip(&["addr", "add", &format!("{}/64", v6(host)), "dev", "eth0", "nodad"])?;
    }
    home.ip(&["link", "set", "wan0", "up"])?;
    internet.ip(&["link", "set", "eth0", "up"])?;
    Ok((home, internet))
}

fn by_wan0(reflectors: Vec<IpAddr>) -> ProbeWan {
    let interface = Some("wan0".to_owned());
    ProbeWan { reflectors, interface, ..ProbeWan::default() }
}

#[test]
fn reflectors_of_both_ip_versions_answer_on_raw_and_on_unprivileged_sockets() -> Result<()> {
    if !usable_or_skip("reflectors_of_both_ip_versions_answer_on_raw_and_on_unprivileged_sockets") {
        return Ok(());
    }
    let (home, internet) = cable(2..=3)?;
    internet.set_sysctl("net/ipv6/conf/all/forwarding", "1")?;
    internet.ip(&["-6", "route", "add", "unreachable", "2001:db8:ffff::/48"])?;
    home.ip(&["-6", "route", "add", "2001:db8:ffff::/48", "via", "2001:db8::2"])?;
    // Nobody may use unprivileged sockets, then everybody.
    for groups in ["1 0", "0 2147483647"] {
        home.set_sysctl("net/ipv4/ping_group_range", groups)?;
        let reflectors = vec![v6(2).into(), [192, 0, 2, 2].into(), v6(3).into()];
        let mut wan = by_wan0(reflectors);
        wan.source_v6 = Some(v6(1));
        let mut pump = Pump::start(&home, wan)?;
        let mut answers = [0; 3];
        // Neighbours have to be found first.
        pump.until("100 answers of each", |pump| {
            for sample in &pump.tick.samples {
                answers[usize::from(sample.reflector.0)] += 1;
            }
            answers.iter().all(|count| *count >= 100)
        })?;
        assert!(pump.losses < 10, "{} losses", pump.losses);
        assert_eq!(pump.counters().errors, 0);

        let nowhere = "2001:db8:ffff::9".parse()?;
        let mut pump = Pump::start(&home, by_wan0(vec![nowhere, v6(2).into()]))?;
        pump.until("an ICMPv6 error", |pump| pump.counters().errors > 3)?;
        assert!(pump.losses > 3, "each error ends a probe at once");
    }
    Ok(())
}

#[test]
fn one_way_delays_tell_in_which_direction_the_queue_stands() -> Result<()> {
    if !usable_or_skip("one_way_delays_tell_in_which_direction_the_queue_stands") {
        return Ok(());
    }
    for direction in Direction::BOTH {
        let (lan, internet) = (Namespace::create("wctl-plan")?, Namespace::create("wctl-pnet")?);
        let capacity = || CapacitySchedule::constant(10_000_000);
        let mut options = PacketLinkOptions::new(capacity(), capacity());
        options.base_rtt = Duration::from_millis(20);
        options.fifo_bytes = 200_000;
        let link = PacketLink::start(&lan, &internet, options)?;
        link.set_shaper_rate(direction, 100_000_000);
        let wan =
            ProbeWan { reflectors: REFLECTORS.map(Into::into).to_vec(), ..ProbeWan::default() };
        let mut pump = Pump::start(&lan, wan)?;
        // Least of both ways, per reflector, in µs.
        let mut least = [(i64::MAX, i64::MAX); 3];
        let ways = |sample: &RttSample| {
            let upload_us = i64::from(sample.upload_owd?.as_micros());
            let rtt_us = i64::try_from(sample.rtt.get() / 1000).ok()?;
            Some((usize::from(sample.reflector.0), upload_us, rtt_us - upload_us))
        };
        let mut counts = [0; 3];
        pump.until("a hundred one-way delays of each", |pump| {
            for (reflector, upload_us, download_us) in pump.tick.samples.iter().filter_map(ways) {
                let (up, down) = least[reflector];
                least[reflector] = (up.min(upload_us), down.min(download_us));
                counts[reflector] += 1;
            }
            counts.iter().all(|count| *count >= 100)
        })?;
        let load = TcpLoad::start(&lan, &internet, direction, 2)?;
        let mut best = (0, 0);
        pump.until("a queue of 60 ms", |pump| {
            for (reflector, upload_us, download_us) in pump.tick.samples.iter().filter_map(ways) {
                let (up, down) = least[reflector];
                let rises = (upload_us - up, download_us - down);
                if rises.0.max(rises.1) > best.0.max(best.1) {
                    best = rises;
                }
            }
            best.0.max(best.1) > 60_000
        })?;
        let (own, other) = match direction {
            Direction::Upload => best,
            Direction::Download => (best.1, best.0),
        };
        // Acknowledgements and a busy machine may hold up the other way a little.
        assert!(own > 60_000 && other < own / 2, "{direction:?}: {own} and {other} us");
        load.stop();
    }
    Ok(())
}

/// Answers ICMPv6 echo requests of one address in the place of the kernel, each after its time.
struct Responder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    fn start(internet: &Namespace, address: Ipv6Addr, delay_ms: fn(u64) -> u64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let socket = internet.run(|| -> Result<UdpSocket> {
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
            socket.bind(&SocketAddr::new(address.into(), 0).into())?;
            socket.set_read_timeout(Some(Duration::from_millis(1)))?;
            Ok(socket.into())
        })??;
        let thread = thread::spawn(move || {
            let mut waiting: Vec<(Instant, Vec<u8>, SocketAddr)> = Vec::new();
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut buffer = [0; 128];
                if let Ok((bytes, from)) = socket.recv_from(&mut buffer)
                    && buffer[0] == 128
                {
                    let at = Instant::now() + Duration::from_millis(delay_ms(count));
                    count += 1;
                    waiting.push((at, buffer[..bytes].to_vec(), from));
                }
                waiting.retain_mut(|(at, message, from)| {
                    if *at > Instant::now() {
                        return true;
                    }
                    message[0] = 129;
                    let _ = socket.send_to(message, *from);
                    false
                });
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn slow_and_jittery_reflectors_are_replaced_by_spares() -> Result<()> {
    if !usable_or_skip("slow_and_jittery_reflectors_are_replaced_by_spares") {
        return Ok(());
    }
    let (home, internet) = cable(2..=6)?;
    internet.set_sysctl("net/ipv6/icmp/echo_ignore_all", "1")?;
    let delays: [fn(u64) -> u64; 5] = [
        |_| 5,
        |_| 60,                     // slow
        |count| 5 + count % 2 * 25, // jittery
        |_| 5,
        |_| 5,
    ];
    let responders = (2..).zip(delays);
    let responders: Vec<Responder> = responders
        .map(|(host, delay_ms)| Responder::start(&internet, v6(host), delay_ms))
        .collect::<Result<_>>()?;
    let mut pump = Pump::start(&home, by_wan0((2..=6).map(|host| v6(host).into()).collect()))?;
    pump.until("both replaced", |pump| pump.replaced.len() == 2)?;
    pump.replaced.sort_unstable();
    assert_eq!(pump.replaced, [1, 2]);
    pump.until("the choice is published", |pump| {
        let mut pinged = pump.pinged();
        pinged.sort_unstable();
        pinged == [v6(2), v6(5), v6(6)].map(IpAddr::V6)
    })?;
    drop(responders);
    Ok(())
}

#[test]
fn a_silent_reflector_is_replaced_and_a_silent_line_replaces_nobody() -> Result<()> {
    if !usable_or_skip("a_silent_reflector_is_replaced_and_a_silent_line_replaces_nobody") {
        return Ok(());
    }
    let (home, internet) = cable(2..=5)?;
    let mut pump = Pump::start(&home, by_wan0((2..=5).map(|host| v6(host).into()).collect()))?;
    pump.until("everybody answers", |pump| pump.tick.samples.len() >= 3)?;
    internet.ip(&["addr", "del", "2001:db8::3/64", "dev", "eth0"])?;
    pump.until("a replacement", |pump| !pump.replaced.is_empty())?;
    assert_eq!(pump.replaced, [1]);
    pump.until("the new one answers under the number of the old one", |pump| {
        pump.tick.samples.iter().any(|sample| sample.reflector == ReflectorId(1))
    })?;
    let before = pump.losses;
    internet.ip(&["link", "set", "eth0", "down"])?;
    pump.until("an outage of 500 lost probes", |pump| pump.losses > before + 500)?;
    assert_eq!(pump.replaced, [1], "the line is out, nobody is to blame");
    Ok(())
}
