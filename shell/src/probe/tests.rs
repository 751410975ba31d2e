//! Real sockets against the loopback interface, whose every address answers pings.

use super::*;
use crate::clock;

/// Far longer than loopback ever takes; only a silent reflector would wait for it.
const TIMEOUT: Duration = Duration::from_secs(20);
const SPREAD: Duration = Duration::from_millis(2);
/// No socket may send to it without asking for broadcast, so sending always fails.
const UNSENDABLE: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

fn loopback(reflectors: &[IpAddr]) -> ProbeWan {
    ProbeWan { reflectors: reflectors.to_vec(), ..ProbeWan::default() }
}

fn local(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// WAN and reflector of a probe that ended.
type Ended = Vec<(u8, u8)>;

/// Starts a prober, or says that this machine does not allow it. In CI that is a failure.
#[allow(clippy::print_stderr, reason = "a skipped test must say so")]
fn start_or_skip(wans: &[ProbeWan]) -> Option<IcmpProber> {
    match IcmpProber::start(wans, TIMEOUT, SPREAD) {
        Ok(prober) => Some(prober),
        Err(ProbeError::NotPermitted) => {
            assert!(std::env::var_os("CI").is_none(), "CI must allow ICMP sockets");
            eprintln!("skipped: {}", ProbeError::NotPermitted);
            None
        }
        Err(other) => panic!("{other}"),
    }
}

/// Drains until `count` probes have ended; every one ends by the timeout at the latest.
fn collect(prober: &mut IcmpProber, count: usize) -> (Ended, Ended) {
    let (mut answered, mut lost) = (Vec::new(), Vec::new());
    let mut tick = Tick::new(clock::now());
    while answered.len() + lost.len() < count {
        tick.reset(clock::now());
        prober.drain(&mut tick);
        assert_eq!(tick.inputs_dropped, 0);
        for sample in &tick.samples {
            assert!(sample.rtt.get() > 0 && sample.rtt.get() < 20_000_000_000);
            answered.push((sample.wan.0, sample.reflector.0));
        }
        lost.extend(tick.losses.iter().map(|loss| (loss.wan.0, loss.reflector.0)));
        std::thread::yield_now();
    }
    // They leave in random order.
    answered.sort_unstable();
    lost.sort_unstable();
    (answered, lost)
}

#[test]
fn every_probe_is_answered_exactly_once_with_its_ids() {
    let both = [loopback(&[local(1), local(2), local(3)]), loopback(&[local(3), local(1)])];
    let Some(mut prober) = start_or_skip(&both) else { return };
    let round = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)];
    // One round at a time, as the daemon does. A raw socket gets every ICMP message of the host,
    // so a burst could overflow its buffer while other tests ping too.
    for _ in 0..8 {
        for (wan, reflector) in round {
            prober.send(WanId(wan), ReflectorId(reflector));
        }
        assert_eq!(collect(&mut prober, round.len()), (round.to_vec(), Vec::new()));
    }
}

#[test]
fn failed_send_is_one_loss_and_the_others_go_on() {
    let Some(mut prober) = start_or_skip(&[loopback(&[UNSENDABLE, local(1)])]) else { return };
    for _ in 0..3 {
        prober.send(WanId(0), ReflectorId(0));
        prober.send(WanId(0), ReflectorId(1));
    }
    let (answered, lost) = collect(&mut prober, 6);
    assert_eq!(answered, [(0, 1); 3]);
    assert_eq!(lost, [(0, 0); 3]);
}

#[test]
fn unknown_wan_or_reflector_is_a_loss() {
    let Some(mut prober) = start_or_skip(&[loopback(&[local(1)])]) else { return };
    prober.send(WanId(3), ReflectorId(0));
    prober.send(WanId(0), ReflectorId(2));
    assert_eq!(collect(&mut prober, 2).1, [(0, 2), (3, 0)]);
}

#[test]
fn probes_leave_by_the_configured_source_and_interface() {
    let wan = ProbeWan {
        reflectors: vec![local(1)],
        source: Some(Ipv4Addr::new(127, 0, 0, 9)),
        interface: Some("lo".to_owned()),
        ..ProbeWan::default()
    };
    let Some(mut prober) = start_or_skip(&[wan]) else { return };
    prober.send(WanId(0), ReflectorId(0));
    assert_eq!(collect(&mut prober, 1).0, [(0, 0)]);
}

#[test]
fn source_address_of_another_machine_is_refused_at_start() {
    let mut wan = loopback(&[local(1)]);
    wan.source = Some(Ipv4Addr::new(192, 0, 2, 77));
    match IcmpProber::start(&[wan], TIMEOUT, SPREAD) {
        Err(ProbeError::NotPermitted) => {}
        Err(error @ ProbeError::Socket { .. }) => {
            assert!(error.to_string().contains("source address 192.0.2.77"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_interface_that_is_not_there_yet_does_not_keep_other_lines_from_being_probed() {
    let mut absent = loopback(&[local(2)]);
    absent.interface = Some("wanctl-absent".to_owned());
    let Some(mut prober) = start_or_skip(&[loopback(&[local(1)]), absent.clone()]) else { return };
    prober.send(WanId(0), ReflectorId(0));
    prober.send(WanId(1), ReflectorId(0));
    assert_eq!(collect(&mut prober, 2), (vec![(0, 0)], vec![(1, 0)]));
    // Alone it is a mistake of the configuration.
    let refused = IcmpProber::start(&[absent], TIMEOUT, SPREAD).unwrap_err().to_string();
    assert!(refused.contains("interface wanctl-absent"), "{refused}");
}

#[test]
fn too_many_wans_and_reflectors_are_refused() {
    let wans = vec![loopback(&[]); MAX_WANS + 1];
    assert!(matches!(IcmpProber::start(&wans, TIMEOUT, SPREAD), Err(ProbeError::TooManyWans(5))));
    let crowded = loopback(&[local(1); MAX_POOL + 1]);
    assert!(matches!(
        IcmpProber::start(&[crowded], TIMEOUT, SPREAD),
        Err(ProbeError::TooManyReflectors { wan: 0, count: 17 })
    ));
}

#[test]
fn missing_rights_name_the_remedy() {
    let text = ProbeError::NotPermitted.to_string();
    assert!(text.contains("cap_net_raw+ep") && text.contains("net.ipv4.ping_group_range"));
}

#[test]
fn dropping_the_prober_ends_its_thread() {
    let Some(prober) = start_or_skip(&[loopback(&[local(1)])]) else { return };
    let mailbox = Arc::downgrade(&prober.mailbox);
    drop(prober); // joins
    assert_eq!(mailbox.strong_count(), 0, "the thread still holds its mailbox");
}
