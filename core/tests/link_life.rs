//! A WAN whose link comes and goes, one story per test.

mod common;

use wanctl_core::config::{Checks, ClassicConfig, ConfigError};
use wanctl_core::example;
use wanctl_core::fixed::{MicrosQ32, PpmQ32};
use wanctl_core::link::{LinkConfig, LinkEdge, LinkState};
use wanctl_core::outputs::{Action, Event, RateReason};
use wanctl_core::tick::{
    CheckKind, ConnectivityReport, CounterReading, LinkFact, OperState, ProbeLoss,
};
use wanctl_core::units::{Direction, ReflectorId};

use self::common::{Rig, WAN, mbps, unfiltered};

const GREEN_MS: u64 = 25;

/// A line that has been live for a while, at the ceiling.
fn live() -> Rig {
    let mut rig = Rig::with_link(unfiltered(), example::link());
    rig.answer_times(100, GREEN_MS);
    assert_eq!(rig.wan().link, LinkState::Live);
    assert_eq!(rig.download().confirmed, Some(mbps(940)));
    rig
}

fn edges(rig: &Rig) -> Vec<LinkEdge> {
    let edge = |event: &Event| match event {
        Event::LinkChanged { edge, .. } => Some(*edge),
        _ => None,
    };
    rig.out.events.iter().filter_map(edge).collect()
}

fn silence(rig: &mut Rig, ticks: usize) -> Vec<LinkEdge> {
    let mut seen = Vec::new();
    for _ in 0..ticks {
        rig.step();
        seen.extend(edges(rig));
    }
    seen
}

#[test]
fn an_outage_forgets_the_path_and_the_new_one_begins_half_way_up() {
    let mut rig = live();
    assert_eq!(silence(&mut rig, 61), [LinkEdge::Outage]);
    // Half-way between the floor of 200 and the ceiling of 940 Mbit/s.
    assert_eq!(rig.download().wanted, mbps(570));
    assert_eq!(rig.download_reason(), None, "the cut went out in the tick of the loss");
    silence(&mut rig, 30);
    // The path has changed: what was a delay of 15 ms is idle now.
    rig.answer_times(20, 40);
    assert_eq!(rig.wan().link, LinkState::Warm);
    assert!(rig.wan().baseline.as_micros_rounded() >= 40_000);
    assert!(rig.download().wanted < mbps(650), "{:?}", rig.download().wanted);
    rig.answer_times(300, 40);
    assert_eq!(rig.wan().link, LinkState::Live);
    assert_eq!(rig.download().wanted, mbps(940));
}

/// The losses of an outage say nothing about the line that has come back.
#[test]
fn a_line_that_works_again_is_not_degraded_by_the_losses_of_its_outage() {
    let mut rig = live();
    for _ in 0..300 {
        rig.lose(false);
    }
    let mut seen = Vec::new();
    for tick in 0..300 {
        // Probes of the outage are given up for two more seconds.
        if tick < 40 {
            rig.tick.push_loss(ProbeLoss { wan: WAN, reflector: ReflectorId(0) });
        }
        rig.answer(GREEN_MS);
        seen.extend(edges(&rig));
    }
    assert_eq!(seen, [LinkEdge::Heard, LinkEdge::WentLive]);
}

#[test]
fn a_link_that_is_down_is_not_probed_and_comes_back() {
    let mut rig = live();
    let fact = |oper_state| LinkFact { wan: WAN, oper_state, address_changed: false };
    rig.tick.push_link(fact(OperState::Down));
    rig.step();
    assert_eq!(edges(&rig), [LinkEdge::LinkDown]);
    assert_eq!(rig.download_reason(), Some(RateReason::Ramp));
    silence(&mut rig, 40);
    assert_eq!(rig.wan().link, LinkState::Init);
    assert!(!rig.out.actions.iter().any(|action| matches!(action, Action::SendProbe { .. })));
    rig.tick.push_link(fact(OperState::Up));
    rig.answer_times(100, GREEN_MS);
    assert_eq!(rig.wan().link, LinkState::Live);
}

#[test]
fn a_new_address_begins_again() {
    let mut rig = live();
    let oper_state = OperState::Up;
    rig.tick.push_link(LinkFact { wan: WAN, oper_state, address_changed: true });
    rig.answer(GREEN_MS);
    assert_eq!(edges(&rig), [LinkEdge::NewAddress]);
    assert_eq!(rig.wan().link, LinkState::Reset);
}

#[test]
fn a_blind_line_asks_the_gateway_and_then_the_internet() {
    let mut classic: ClassicConfig = unfiltered();
    let every = embassy_time::Duration::from_secs(5);
    classic.blind.checks = Checks::Asked { gateway: true, tcp_targets: 1, every };
    let mut rig = Rig::new(classic);
    rig.answer_times(10, GREEN_MS);
    let asked = |rig: &Rig| {
        let is_check =
            |a: &&Action| matches!(a, Action::CheckGateway { .. } | Action::CheckTcp { .. });
        rig.out.actions.iter().find(is_check).copied()
    };
    rig.lose_unchecked();
    assert_eq!(asked(&rig), Some(Action::CheckGateway { wan: WAN }));
    let report = |kind| ConnectivityReport { wan: WAN, kind, connected: true };
    rig.tick.push_connectivity(report(CheckKind::Gateway));
    rig.lose_unchecked();
    assert_eq!(asked(&rig), Some(Action::CheckTcp { wan: WAN, target: 0 }));
    assert_eq!(rig.wan().blind_ticks, 0, "a gateway speaks for itself only");
    rig.tick.push_connectivity(report(CheckKind::Tcp));
    rig.lose_unchecked();
    assert_eq!(asked(&rig), None);
    assert_eq!(rig.wan().blind_ticks, 1);
    let counters = rig.wan().counters;
    assert_eq!((counters.blind_raw, counters.blind_effective), (3, 2));
}

#[test]
fn filtered_icmp_on_a_line_that_works_is_no_outage() {
    let mut rig = live();
    let before = rig.download().wanted;
    for _ in 0..200 {
        rig.lose(true);
        assert_eq!(edges(&rig), []);
    }
    assert_eq!(rig.wan().link, LinkState::Live);
    assert_eq!(rig.download().wanted, before);
    // The same silence without a working line is one.
    let lost: Vec<_> = (0..70)
        .flat_map(|_| {
            rig.lose(false);
            edges(&rig)
        })
        .collect();
    assert_eq!(lost[0], LinkEdge::Outage);
}

#[test]
fn counters_become_a_delivered_rate() {
    let mut rig = live();
    for (bytes, age_us) in [(1_000_000, 0), (2_000_000, 0), (4_500_000, 0)] {
        rig.tick.push_counters(CounterReading {
            wan: WAN,
            direction: Direction::Download,
            delivered_bytes: bytes,
            dropped_packets: 0,
            backlog_bytes: 0,
            backlog_packets: 0,
            age_us,
            queue_delay_us: None,
        });
        rig.answer_times(10, GREEN_MS);
    }
    // 2.5 MB in ten ticks of 50 ms.
    assert_eq!(rig.download().delivered, Some(mbps(40)));
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let refused = |change: fn(&mut LinkConfig)| {
        let mut config = example::config();
        change(config.wans[0].link.as_mut().unwrap());
        config.check() == Err(ConfigError::Link(WAN))
    };
    assert!(!refused(|_| {}));
    assert!(refused(|link| link.limits.good.delay = MicrosQ32::MAX));
    assert!(refused(|link| link.limits.bad.loss = PpmQ32::ZERO));
    assert!(refused(|link| link.limits.bad.jitter = MicrosQ32::ZERO));
    assert!(refused(|link| link.limits.good.throughput_deviation = PpmQ32::from_ppm(900_000)));
    assert!(refused(|link| link.ramp_start = PpmQ32::from_ppm(1_000_001)));
}
