//! The trace format: round trips, golden bytes, damage.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed expectation ends a test"
)]

mod arbitrary;

use embassy_time::{Duration, Instant};
use proptest::prelude::*;
use wanctl_core::controller::Controller;
use wanctl_core::example;
use wanctl_core::fixed::MicrosQ32;
use wanctl_core::history::HISTORY_SAMPLES;
use wanctl_core::outputs::{Action, Event, MAX_ACTIONS, MAX_EVENTS, Outputs, RateReason};
use wanctl_core::steering::{SteeringConfig, SteeringDecision, SteeringEvidence, SteeringReason};
use wanctl_core::tick::{
    CheckKind, ConnectivityReport, CounterReading, MAX_LOSSES, MAX_REPLIES, MAX_SAMPLES, MAX_WANS,
    Outcome, ProbeLoss, ReplacedReflector, Reply, RttSample, SteeringReply, Tick,
};
use wanctl_core::trace::{self, Damage, Record};
use wanctl_core::units::{
    BitsPerSecond, CommandId, Direction, Packets, ReflectorId, RelativeOwd, RttNanos, WanId,
};
use wanctl_core::zone::Zone;

fn buffer() -> Vec<u8> {
    vec![0; trace::MAX_STATE_BYTES]
}

/// The payload of a frame, checked for its two zero bytes.
fn payload(frame: &mut [u8]) -> Vec<u8> {
    let [0, inner @ .., 0] = frame else { panic!("a frame stands between zero bytes") };
    assert!(!inner.contains(&0), "no other byte is zero");
    trace::open(inner).unwrap().to_vec()
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn a_step_comes_back_as_it_was(
        seq: u64,
        tick in arbitrary::tick(),
        outputs in arbitrary::outputs(),
    ) {
        let mut buffer = vec![0; trace::MAX_STEP_BYTES];
        let payload = payload(trace::encode_step(seq, &tick, &outputs, &mut buffer).unwrap());
        let Record::Step { seq: seq_read, body } = trace::parse(&payload).unwrap() else {
            panic!("not a step");
        };
        let (tick_read, rest) = trace::decode_tick(body).unwrap();
        prop_assert_eq!(seq_read, seq);
        prop_assert_eq!(tick_read, tick);
        prop_assert_eq!(trace::decode_outputs(rest).unwrap(), outputs.clone());
        let mut buffer = vec![0; trace::MAX_STEP_BYTES];
        prop_assert_eq!(trace::outputs_bytes(&outputs, &mut buffer).unwrap(), rest);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for skip in 0..4.min(bytes.len()) {
            // Without the checksum's protection.
            if let Ok(Record::Step { body, .. } | Record::State { body, .. }) =
                trace::parse(&bytes[skip..])
            {
                let _any = trace::decode_tick(body);
                let _any = trace::decode_outputs(body);
                let _any = trace::decode_state::<2>(body);
            }
        }
        let _any = trace::open(&mut bytes);
    }

    #[test]
    fn a_controller_comes_back_as_it_was(ticks in prop::collection::vec(arbitrary::tick(), 0..20)) {
        let mut controller = Controller::<1>::new(&example::config()).unwrap();
        let mut outputs = Outputs::new();
        for tick in &ticks {
            controller.step(tick, &mut outputs);
        }
        let mut buffer = buffer();
        let payload = payload(trace::encode_state(&controller, &mut buffer).unwrap());
        let Record::State { seq, body } = trace::parse(&payload).unwrap() else {
            panic!("not a state");
        };
        prop_assert_eq!(seq, ticks.len() as u64);
        let mut twin = trace::decode_state::<1>(body).unwrap();
        let mut outputs_twin = Outputs::new();
        for tick in &ticks {
            controller.step(tick, &mut outputs);
            twin.step(tick, &mut outputs_twin);
            prop_assert_eq!(&outputs, &outputs_twin);
        }
        prop_assert_eq!(controller.figures(), twin.figures());
        let mut buffers = [vec![0; trace::MAX_STATE_BYTES], vec![0; trace::MAX_STATE_BYTES]];
        let [bytes, bytes_twin] = &mut buffers;
        let bytes = trace::state_bytes(&controller, bytes).unwrap();
        prop_assert_eq!(bytes, trace::state_bytes(&twin, bytes_twin).unwrap());
    }
}

#[test]
fn every_flipped_bit_and_every_shortened_frame_is_noticed() {
    let mut buffer = buffer();
    let config = example::config();
    let frame = trace::encode_header(&config, &mut buffer).unwrap().to_vec();
    let inner = &frame[1..frame.len() - 1];
    for bit in 0..inner.len() * 8 {
        let mut damaged = inner.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(trace::open(&mut damaged).is_err(), "bit {bit}");
    }
    for length in 0..inner.len() {
        assert!(trace::open(&mut inner[..length].to_vec()).is_err(), "{length} bytes");
    }
    assert!(trace::open(&mut inner.to_vec()).is_ok());
}

#[test]
fn another_format_and_another_content_are_told_apart() {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&trace::MAGIC);
    bytes.extend_from_slice(&[9, 1, 2, 3]);
    assert_eq!(trace::parse(&bytes), Ok(Record::OtherFormat(9)));
    assert_eq!(trace::parse(&bytes[..9]), Err(Damage::Content));
    assert_eq!(trace::parse(&[7]), Err(Damage::Content));
}

fn sample_tick() -> Tick {
    let (wan, reflector) = (WanId(0), ReflectorId(1));
    let mut tick = Tick::new(Instant::from_millis(50));
    let (rtt, upload_owd) = (RttNanos::new(20_000_000), Some(RelativeOwd::from(-123)));
    tick.push_sample(RttSample { wan, reflector, rtt, age_us: 300, upload_owd });
    tick.push_loss(ProbeLoss { wan, reflector: ReflectorId(2) });
    tick.push_connectivity(ConnectivityReport { wan, kind: CheckKind::Tcp, connected: true });
    let outcome = Outcome::Applied(BitsPerSecond::from_mbps(94));
    let direction = Direction::Upload;
    tick.push_reply(Reply { wan, direction, id: CommandId(3), outcome, took_us: 20_000 });
    let id = CommandId(5);
    tick.push_steering_reply(SteeringReply { id, succeeded: true, took_us: 40_000 });
    tick.push_replaced(ReplacedReflector { wan, reflector: ReflectorId(2) });
    tick.incident = Some(7);
    tick
}

fn sample_outputs() -> Outputs {
    let (wan, direction) = (WanId(0), Direction::Download);
    let rate = BitsPerSecond::from_mbps(80);
    let mut outputs = Outputs::new();
    let probe = Action::SendProbe { wan, reflector: ReflectorId(0) };
    let set = Action::SetRate { id: CommandId(4), wan, direction, rate, is_cut: true };
    let steer = Action::SetSteering { id: CommandId(5), from: wan, to: Some(WanId(1)) };
    for action in [probe, set, steer] {
        outputs.actions.push(action).unwrap();
    }
    let changed = Event::RateChanged {
        wan,
        direction,
        from: Some(BitsPerSecond::from_mbps(94)),
        to: rate,
        reason: RateReason::Red,
        delay: MicrosQ32::from_micros(90_000),
        baseline: MicrosQ32::from_micros(20_000),
    };
    for event in [changed, Event::TickGap { gap: Duration::from_millis(120) }] {
        outputs.events.push(event).unwrap();
    }
    outputs
}

/// One event of each kind; `tiny` chooses among the variants inside.
fn all_events(tiny: u8) -> Outputs {
    let mut outputs = Outputs::new();
    for kind in 0..arbitrary::EVENT_KINDS {
        let (wan, direction) = (WanId(1), Direction::Upload);
        let values = (94_000_000, -5 << 32, 20_000 << 32, 70_000, tiny);
        let event = arbitrary::event_of(kind, wan, direction, values);
        assert_eq!(arbitrary::kind_of(&event), kind);
        outputs.events.push(event).unwrap();
    }
    outputs
}

/// Stands for the core's version in the golden header: a release does not change the format.
const VERSION: &str = "<version>";

/// How a header says which core wrote it: length and text.
fn version() -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    std::iter::once(u8::try_from(version.len()).unwrap()).chain(version.iter().copied()).collect()
}

/// The bytes of format 1: a header's payload, the frame of a step,
/// outputs with all events, the frame of a state. They differ when a type at the seam has changed: see "When a type
/// changes" in `docs/trace-format.md` before replacing them with what the test prints.
#[test]
fn golden_bytes() {
    let mut buffer = buffer();
    let config = example::config();
    let controller = Controller::<1>::new(&config).unwrap();
    let golden = include_str!("golden/trace-format-1.txt");
    let mut actual = String::new();
    let mut add =
        |name: &str, frame: &[u8]| actual.push_str(&format!("{name} {}\n", hex_of(frame)));
    let header = payload(trace::encode_header(&config, &mut buffer).unwrap());
    add("header", &header);
    let (tick, outputs) = (sample_tick(), sample_outputs());
    add("step", trace::encode_step(1, &tick, &outputs, &mut buffer).unwrap());
    for tiny in 0..7 {
        add("events", trace::outputs_bytes(&all_events(tiny), &mut buffer).unwrap());
    }
    add("state", trace::encode_state(&controller, &mut buffer).unwrap());
    let config = example::two_wans();
    let header = payload(trace::encode_header(&config, &mut buffer).unwrap());
    add("two-wans", &header);
    let controller = Controller::<2>::new(&config).unwrap();
    add("two-wans-state", trace::encode_state(&controller, &mut buffer).unwrap());
    let actual = actual.replace(&hex_of(&version()), VERSION);
    for (is, should) in actual.lines().zip(golden.lines()) {
        assert_eq!(is, should, "the format has changed; all of it now:\n{actual}");
    }
    assert_eq!(actual.lines().count(), golden.lines().count(), "all of it now:\n{actual}");
}

/// What format 1 has written stays readable.
#[test]
fn golden_bytes_are_read() {
    let mut kinds = Vec::new();
    for line in include_str!("golden/trace-format-1.txt").lines() {
        let (name, hex) = line.split_once(' ').unwrap();
        let hex = hex.replace(VERSION, &hex_of(&version()));
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let mut frame: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        if name == "events" {
            let tiny = u8::try_from(kinds.len() - 2).unwrap();
            assert_eq!(trace::decode_outputs(&frame).unwrap(), all_events(tiny));
            kinds.push(name);
            continue;
        }
        let is_header = matches!(name, "header" | "two-wans");
        let payload = if is_header { frame } else { payload(&mut frame) };
        match trace::parse(&payload).unwrap() {
            Record::Header(header) => {
                let config = trace::decode_config(header.config);
                let two = name == "two-wans";
                assert_eq!(config, Ok(if two { example::two_wans() } else { example::config() }));
            }
            Record::Step { seq, body } => {
                let (tick, rest) = trace::decode_tick(body).unwrap();
                assert_eq!((seq, tick), (1, sample_tick()));
                assert_eq!(trace::decode_outputs(rest).unwrap(), sample_outputs());
            }
            Record::State { seq, body } => {
                assert_eq!(seq, 0);
                trace::decode_state::<2>(body).unwrap();
            }
            Record::OtherFormat(format) => panic!("format {format}"),
        }
        kinds.push(name);
    }
    assert_eq!(kinds.len(), 3 + 7 + 2);
    assert_eq!((kinds[0], kinds[1], kinds[9]), ("header", "step", "state"));
}

#[test]
fn the_largest_records_fit_their_buffers() {
    let mut tick = Tick::new(Instant::MAX);
    let (wan, reflector) = (WanId(u8::MAX), ReflectorId(u8::MAX));
    for _ in 0..MAX_SAMPLES.max(MAX_LOSSES) {
        let (rtt, upload_owd) = (RttNanos::new(u64::MAX), Some(RelativeOwd::from(i16::MAX)));
        tick.push_sample(RttSample { wan, reflector, rtt, age_us: u32::MAX, upload_owd });
        tick.push_replaced(ReplacedReflector { wan, reflector });
        tick.push_loss(ProbeLoss { wan, reflector });
    }
    for _ in 0..MAX_WANS {
        tick.push_connectivity(ConnectivityReport { wan, kind: CheckKind::Tcp, connected: true });
    }
    let (direction, id, rate) =
        (Direction::Upload, CommandId(u32::MAX), BitsPerSecond::new(u64::MAX));
    for _ in 0..MAX_REPLIES {
        let outcome = Outcome::Applied(rate);
        tick.push_reply(Reply { wan, direction, id, outcome, took_us: u32::MAX });
    }
    let mut outputs = Outputs::new();
    for _ in 0..MAX_ACTIONS {
        outputs.actions.push(Action::SetRate { id, wan, direction, rate, is_cut: true }).unwrap();
    }
    let packets = Some(Packets(u64::MAX));
    let evidence = SteeringEvidence {
        zone: Zone::Red,
        score: u8::MAX,
        outage: true,
        delay: Some(MicrosQ32::MAX),
        drops: packets,
        backlog: packets,
    };
    let decision = SteeringDecision {
        from: Some(wan),
        to: Some(wan),
        reason: SteeringReason::AlternateRed,
        primary: evidence,
        alternate: evidence,
    };
    for _ in 0..MAX_EVENTS {
        outputs.events.push(Event::SteeringWouldChange { decision }).unwrap();
    }
    let mut buffer = vec![0; trace::MAX_STEP_BYTES];
    trace::encode_step(u64::MAX, &tick, &outputs, &mut buffer).unwrap();
    assert!(trace::encode_step(0, &tick, &outputs, &mut [0; 100]).is_err());

    let mut config = example::two_wans();
    let wan = config.wans[0];
    while config.wans.push(wan).is_ok() {}
    let wans: Vec<WanId> = (0..4).map(WanId).collect();
    config.steering = Some(SteeringConfig::new(&wans, config.tick));
    trace::encode_header(&config, &mut vec![0; trace::MAX_HEADER_BYTES]).unwrap();
}

/// Histories whose differences are as long as they get.
#[test]
fn the_largest_state_fits_its_buffer() {
    let mut config = example::config();
    let wan = config.wans[0];
    while config.wans.push(wan).is_ok() {}
    let mut controller = Controller::<MAX_WANS>::new(&config).unwrap();
    let mut outputs = Outputs::new();
    for step in 0..2500 {
        let high = step % 2 * 0x8000;
        let mut tick = Tick::new(Instant::from_micros(u64::MAX / 2 + step * 50_000));
        for wan in (0..4).map(WanId) {
            let rtt = RttNanos::from_micros(high * 20);
            tick.push_sample(RttSample {
                wan,
                reflector: ReflectorId(0),
                rtt,
                age_us: 0,
                upload_owd: None,
            });
            for direction in Direction::BOTH {
                let packets = u32::try_from(high).unwrap();
                let dropped_packets = u32::try_from(step / 2).unwrap().wrapping_mul(0x8000);
                tick.push_counters(CounterReading {
                    wan,
                    direction,
                    delivered_bytes: step << 50,
                    dropped_packets,
                    backlog_bytes: u32::MAX,
                    backlog_packets: packets,
                    age_us: 0,
                    queue_delay_us: Some(u32::MAX),
                });
            }
        }
        controller.step(&tick, &mut outputs);
    }
    let mut buffer = buffer();
    let frame = trace::encode_state(&controller, &mut buffer).unwrap().len();
    // No line makes the wanted rates alternate so wildly; that would be three bytes each.
    let rates = MAX_WANS * 2 * HISTORY_SAMPLES * 3;
    assert!(frame > MAX_WANS * 5 * HISTORY_SAMPLES * 3, "{frame} bytes are not the longest");
    assert!(frame + rates < trace::MAX_STATE_BYTES, "{frame} bytes");
}

/// COBS counts at most 254 bytes at a time; lengths around that must come back as well.
#[test]
fn long_runs_without_a_zero_byte_come_back() {
    let (wan, reflector) = (WanId(1), ReflectorId(1));
    let mut buffer = vec![0; trace::MAX_STEP_BYTES];
    for samples in 0..MAX_SAMPLES {
        for size in 0..9 {
            let mut tick = Tick::new(Instant::from_micros(u64::MAX));
            let sample =
                |rtt| RttSample { wan, reflector, rtt, age_us: 0x0fff_ffff, upload_owd: None };
            for _ in 0..samples {
                tick.push_sample(sample(RttNanos::new(u64::MAX)));
            }
            tick.push_sample(sample(RttNanos::new(1 << (7 * size))));
            let outputs = Outputs::new();
            let frame = trace::encode_step(1, &tick, &outputs, &mut buffer).unwrap();
            let payload = payload(frame);
            let Ok(Record::Step { body, .. }) = trace::parse(&payload) else { panic!("no step") };
            assert_eq!(trace::decode_tick(body).unwrap().0, tick);
        }
    }
}
