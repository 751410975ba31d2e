//! Any ticks and outputs.

use embassy_time::{Duration, Instant};
use proptest::collection::vec;
use proptest::prelude::*;
use wanctl_core::fixed::{MicrosQ32, PpmQ32};
use wanctl_core::link::{LinkEdge, LinkState};
use wanctl_core::outputs::{Action, Event, Outputs, RateReason, SampleRejection};
use wanctl_core::persist::StateRefusal;
use wanctl_core::quality::LinkQuality;
use wanctl_core::steering::{SteeringDecision, SteeringEvidence, SteeringReason, SteeringRefusal};
use wanctl_core::tick::{
    CheckKind, ConnectivityReport, CounterReading, LinkFact, OperState, Outcome, ProbeLoss,
    ReplacedReflector, Reply, RttSample, SteeringReply, Tick,
};
use wanctl_core::units::{
    BitsPerSecond, CommandId, Direction, Packets, ReflectorId, RelativeOwd, RttNanos, WanId,
};
use wanctl_core::zone::Zone;

fn wan() -> impl Strategy<Value = WanId> {
    prop_oneof![4 => (0..4_u8).prop_map(WanId), 1 => any::<u8>().prop_map(WanId)]
}

fn reflector() -> impl Strategy<Value = ReflectorId> {
    prop_oneof![4 => (0..3_u8).prop_map(ReflectorId), 1 => any::<u8>().prop_map(ReflectorId)]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Download), Just(Direction::Upload)]
}

fn sample() -> impl Strategy<Value = RttSample> {
    (wan(), reflector(), any::<u64>(), any::<u32>(), any::<Option<i16>>()).prop_map(
        |(wan, reflector, rtt, age_us, owd)| {
            let upload_owd = owd.map(RelativeOwd::from);
            RttSample { wan, reflector, rtt: RttNanos::new(rtt), age_us, upload_owd }
        },
    )
}

fn reply() -> impl Strategy<Value = Reply> {
    let outcome = prop_oneof![
        any::<u64>().prop_map(|rate| Outcome::Applied(BitsPerSecond::new(rate))),
        Just(Outcome::Failed),
        Just(Outcome::Superseded),
    ];
    (wan(), direction(), any::<u32>(), outcome, any::<u32>()).prop_map(
        |(wan, direction, id, outcome, took_us)| {
            let id = CommandId(id);
            Reply { wan, direction, id, outcome, took_us }
        },
    )
}

fn steering_reply() -> impl Strategy<Value = SteeringReply> {
    (any::<u32>(), any::<bool>(), any::<u32>()).prop_map(|(id, succeeded, took_us)| SteeringReply {
        id: CommandId(id),
        succeeded,
        took_us,
    })
}

fn link_fact() -> impl Strategy<Value = LinkFact> {
    let states = [OperState::Unknown, OperState::Up, OperState::Down];
    (wan(), 0..3_usize, any::<bool>()).prop_map(move |(wan, state, address_changed)| LinkFact {
        wan,
        oper_state: states[state],
        address_changed,
    })
}

fn counters() -> impl Strategy<Value = CounterReading> {
    (wan(), direction(), any::<u64>(), any::<[u32; 4]>(), any::<Option<u32>>()).prop_map(
        |(wan, direction, delivered_bytes, rest, queue_delay_us)| {
            let [dropped_packets, backlog_bytes, backlog_packets, age_us] = rest;
            CounterReading {
                wan,
                direction,
                delivered_bytes,
                dropped_packets,
                backlog_bytes,
                backlog_packets,
                age_us,
                queue_delay_us,
            }
        },
    )
}

pub(crate) fn tick() -> impl Strategy<Value = Tick> {
    let loss = (wan(), reflector()).prop_map(|(wan, reflector)| ProbeLoss { wan, reflector });
    let replaced =
        (wan(), reflector()).prop_map(|(wan, reflector)| ReplacedReflector { wan, reflector });
    let report = (wan(), any::<[bool; 2]>()).prop_map(|(wan, [is_tcp, connected])| {
        let kind = CHECKS[usize::from(is_tcp)];
        ConnectivityReport { wan, kind, connected }
    });
    let lists = (
        vec(sample(), 0..70),
        vec(loss, 0..5),
        vec(report, 0..5),
        vec(reply(), 0..18),
        vec(link_fact(), 0..6),
        vec(counters(), 0..10),
        vec(steering_reply(), 0..4),
        vec(replaced, 0..14),
    );
    let incident = proptest::option::of(any::<u32>());
    (any::<u64>(), lists, any::<u16>(), incident).prop_map(|(now, lists, dropped, incident)| {
        let mut tick = Tick::new(Instant::from_micros(now));
        tick.inputs_dropped = dropped;
        tick.incident = incident;
        lists.0.into_iter().for_each(|sample| tick.push_sample(sample));
        lists.1.into_iter().for_each(|loss| tick.push_loss(loss));
        lists.2.into_iter().for_each(|report| tick.push_connectivity(report));
        lists.3.into_iter().for_each(|reply| tick.push_reply(reply));
        lists.4.into_iter().for_each(|fact| tick.push_link(fact));
        lists.5.into_iter().for_each(|reading| tick.push_counters(reading));
        lists.6.into_iter().for_each(|reply| tick.push_steering_reply(reply));
        lists.7.into_iter().for_each(|replaced| tick.push_replaced(replaced));
        tick
    })
}

const ZONES: [Zone; 4] = [Zone::Green, Zone::Yellow, Zone::SoftRed, Zone::Red];

const REASONS: [RateReason; 12] = [
    RateReason::Start,
    RateReason::Red,
    RateReason::SoftRed,
    RateReason::Yellow,
    RateReason::Green,
    RateReason::FloorLift,
    RateReason::Again,
    RateReason::Ramp,
    RateReason::Queue,
    RateReason::Drained,
    RateReason::Probe,
    RateReason::Acquitted,
];

const STATES: [LinkState; 7] = [
    LinkState::Init,
    LinkState::Probe,
    LinkState::Warm,
    LinkState::Live,
    LinkState::Degrade,
    LinkState::Cooldown,
    LinkState::Reset,
];

const EDGES: [LinkEdge; 11] = [
    LinkEdge::Found,
    LinkEdge::Heard,
    LinkEdge::WentLive,
    LinkEdge::Degraded,
    LinkEdge::Improved,
    LinkEdge::Relapsed,
    LinkEdge::Settled,
    LinkEdge::Outage,
    LinkEdge::LinkDown,
    LinkEdge::NewAddress,
    LinkEdge::BeganAgain,
];

const CHECKS: [CheckKind; 2] = [CheckKind::Gateway, CheckKind::Tcp];

const STEERING_REASONS: [SteeringReason; 9] = [
    SteeringReason::Start,
    SteeringReason::Again,
    SteeringReason::Red,
    SteeringReason::Green,
    SteeringReason::HighScore,
    SteeringReason::LowScore,
    SteeringReason::Outage,
    SteeringReason::AlternateOutage,
    SteeringReason::AlternateRed,
];

const STEERING_REFUSALS: [SteeringRefusal; 3] =
    [SteeringRefusal::HoldDown, SteeringRefusal::FlapGuard, SteeringRefusal::NoAlternate];

const REFUSALS: [StateRefusal; 5] = [
    StateRefusal::Damaged,
    StateRefusal::OtherVersion,
    StateRefusal::OtherConfig,
    StateRefusal::Age,
    StateRefusal::OutOfRange,
];

/// Values that events are made of.
pub(crate) type EventValues = (u64, i64, i64, u32, u8);

/// Kinds of events that [`event_of`] makes.
pub(crate) const EVENT_KINDS: u8 = 32;

/// Returns the number of an event's kind, in the order of [`Event`]. A new variant does not compile
/// here until it has a number and a line in [`event_of`].
pub(crate) fn kind_of(event: &Event) -> u8 {
    match event {
        Event::ZoneChanged { .. } => 0,
        Event::RateChanged { .. } => 1,
        Event::RateConfirmed { .. } => 2,
        Event::WriteFailed { .. } => 3,
        Event::WriteTimedOut { .. } => 4,
        Event::WriteHeld { .. } => 5,
        Event::BaselineFrozen { .. } => 6,
        Event::BaselineReleased { .. } => 7,
        Event::BaselineOutOfBounds { .. } => 8,
        Event::BaselineReanchored { .. } => 9,
        Event::BlindBegan { .. } => 10,
        Event::BlindLimitReached { .. } => 11,
        Event::BlindEnded { .. } => 12,
        Event::SampleRejected { .. } => 13,
        Event::TickGap { .. } => 14,
        Event::InputsDropped { .. } => 15,
        Event::StateRestored => 16,
        Event::StateRefused { .. } => 17,
        Event::LinkChanged { .. } => 18,
        Event::ConnectivityChecked { .. } => 19,
        Event::SteeringCommanded { .. } => 20,
        Event::SteeringConfirmed { .. } => 21,
        Event::SteeringFailed { .. } => 22,
        Event::SteeringTimedOut { .. } => 23,
        Event::SteeringRefused { .. } => 24,
        Event::SteeringFlapping { .. } => 25,
        Event::SteeringDropsUseless { .. } => 26,
        Event::SteeringWouldChange { .. } => 27,
        Event::IncidentMarked { .. } => 28,
        Event::Reconfigured => 29,
        Event::SignalBlind { .. } => 30,
        Event::SignalSees { .. } => 31,
    }
}

/// Makes an event of one kind.
pub(crate) fn event_of(
    kind: u8,
    wan: WanId,
    direction: Direction,
    (large, delay, baseline, small, tiny): EventValues,
) -> Event {
    let pick = |count: u8| usize::from(tiny % count);
    let rate = BitsPerSecond::new(large);
    let (delay, baseline) = (MicrosQ32::from_bits(delay), MicrosQ32::from_bits(baseline));
    let wait = Duration::from_micros(large);
    let connected = tiny.is_multiple_of(2);
    let (from, to) = (ZONES[pick(4)], ZONES[usize::from(tiny / 4 % 4)]);
    match kind {
        0 => Event::ZoneChanged { wan, direction, from, to, delay },
        1 => {
            let (from, reason) = (connected.then_some(rate), REASONS[pick(8)]);
            Event::RateChanged { wan, direction, from, to: rate, reason, delay, baseline }
        }
        2 => Event::RateConfirmed { wan, direction, rate, took_us: small },
        3 => Event::WriteFailed { wan, direction, rate },
        4 => Event::WriteTimedOut { wan, direction, rate },
        5 => Event::WriteHeld { wan, direction, wanted: rate, wait },
        6 => Event::BaselineFrozen { wan, baseline, delay },
        7 => Event::BaselineReleased { wan, baseline },
        8 => Event::BaselineOutOfBounds { wan, candidate: delay },
        9 => Event::BaselineReanchored { wan, from: delay, to: baseline },
        10 => Event::BlindBegan { wan, connected },
        11 => Event::BlindLimitReached { wan, ticks: small },
        12 => Event::BlindEnded { wan, ticks: small },
        13 => {
            let why = [SampleRejection::UnknownSource, SampleRejection::Stale][pick(2)];
            Event::SampleRejected { wan, reflector: ReflectorId(tiny), why }
        }
        14 => Event::TickGap { gap: wait },
        15 => Event::InputsDropped { count: u16::from(tiny) },
        16 => Event::StateRestored,
        17 => Event::StateRefused { why: REFUSALS[pick(5)] },
        18 => {
            let (from, to) = (STATES[pick(7)], STATES[usize::from(tiny / 7 % 7)]);
            let loss = PpmQ32::from_ppm(u64::from(small));
            let quality = LinkQuality { delay, loss, jitter: baseline, throughput_deviation: loss };
            Event::LinkChanged { wan, from, to, edge: EDGES[pick(11)], quality }
        }
        19 => Event::ConnectivityChecked { wan, kind: CHECKS[pick(2)], connected },
        28 => Event::IncidentMarked { number: small },
        29 => Event::Reconfigured,
        30 => Event::SignalBlind { wan, direction, rate },
        31 => Event::SignalSees { wan, direction },
        _ => steering_event_of(kind, wan, (large, delay, small, tiny)),
    }
}

fn steering_event_of(
    kind: u8,
    wan: WanId,
    (large, delay, small, tiny): (u64, MicrosQ32, u32, u8),
) -> Event {
    let pick = |count: u8| usize::from(tiny % count);
    let to = tiny.is_multiple_of(2).then_some(wan);
    let evidence = |zone| SteeringEvidence {
        zone,
        score: tiny,
        outage: tiny.is_multiple_of(3),
        delay: to.map(|_| delay),
        drops: to.map(|_| Packets(large)),
        backlog: to.map(|_| Packets(u64::from(small))),
    };
    let decision = SteeringDecision {
        from: Some(wan),
        to,
        reason: STEERING_REASONS[pick(9)],
        primary: evidence(ZONES[pick(4)]),
        alternate: evidence(ZONES[usize::from(tiny / 4 % 4)]),
    };
    match kind {
        20 => Event::SteeringCommanded { decision },
        21 => Event::SteeringConfirmed { to, took_us: small },
        22 => Event::SteeringFailed { to },
        23 => Event::SteeringTimedOut { to },
        24 => Event::SteeringRefused { why: STEERING_REFUSALS[pick(3)] },
        25 => Event::SteeringFlapping { penalty: Duration::from_micros(large) },
        26 => Event::SteeringDropsUseless { wan },
        _ => Event::SteeringWouldChange { decision },
    }
}

fn event() -> impl Strategy<Value = Event> {
    let values = (any::<u64>(), any::<i64>(), any::<i64>(), any::<u32>(), any::<u8>());
    (0..EVENT_KINDS, wan(), direction(), values)
        .prop_map(|(kind, wan, direction, values)| event_of(kind, wan, direction, values))
}

fn action() -> impl Strategy<Value = Action> {
    let set = (wan(), direction(), any::<u32>(), any::<u64>(), any::<bool>()).prop_map(
        |(wan, direction, id, rate, is_cut)| {
            let (id, rate) = (CommandId(id), BitsPerSecond::new(rate));
            Action::SetRate { id, wan, direction, rate, is_cut }
        },
    );
    let probe = (wan(), reflector());
    prop_oneof![
        probe.prop_map(|(wan, reflector)| Action::SendProbe { wan, reflector }),
        set,
        wan().prop_map(|wan| Action::CheckGateway { wan }),
        (wan(), any::<u8>()).prop_map(|(wan, target)| Action::CheckTcp { wan, target }),
        (any::<u32>(), wan(), proptest::option::of(wan()))
            .prop_map(|(id, from, to)| Action::SetSteering { id: CommandId(id), from, to }),
    ]
}

pub(crate) fn outputs() -> impl Strategy<Value = Outputs> {
    (vec(action(), 0..41), vec(event(), 0..49), any::<u16>()).prop_map(
        |(actions, events, outputs_dropped)| Outputs {
            actions: actions.into_iter().collect(),
            events: events.into_iter().collect(),
            outputs_dropped,
        },
    )
}
