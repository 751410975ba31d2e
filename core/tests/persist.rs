//! The state that survives a restart: taken over whole, or refused with an event that says why.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed expectation ends a test"
)]

use embassy_time::Instant;
use wanctl_core::config::Config;
use wanctl_core::controller::Controller;
use wanctl_core::example;
use wanctl_core::fixed::MicrosQ32;
use wanctl_core::outputs::{Event, Outputs};
use wanctl_core::persist::{PersistedState, PersistedWan, Slot, StateRefusal};
use wanctl_core::tick::{RttSample, Tick};
use wanctl_core::units::{BitsPerSecond, ReflectorId, RttNanos, WanId};

fn step(controller: &mut Controller<1>, number: u64, rtt_us: u64) -> Outputs {
    let mut tick = Tick::new(Instant::from_millis(50 * number));
    let (wan, reflector, rtt) = (WanId(0), ReflectorId(0), RttNanos::from_micros(rtt_us));
    tick.push_sample(RttSample { wan, reflector, rtt, age_us: 0, upload_owd: None });
    let mut outputs = Outputs::new();
    controller.step(&tick, &mut outputs);
    outputs
}

fn fresh(config: &Config) -> Controller<1> {
    Controller::new(config).unwrap()
}

/// A state after congestion: a raised load filter and rates below the ceiling.
fn kept() -> PersistedState {
    let mut controller = fresh(&example::config());
    for number in 0..40 {
        step(&mut controller, number, 120_000);
    }
    let state = controller.persist();
    let wan = state.wans[0].unwrap();
    assert!(wan.wanted.download < BitsPerSecond::from_mbps(940) && wan.load > wan.baseline);
    state
}

/// What is told in the first step after taking over a changed state.
fn refusal(change: impl FnOnce(&mut PersistedState)) -> StateRefusal {
    let mut state = kept();
    change(&mut state);
    let mut controller = fresh(&example::config());
    let why = controller.restore(&state).unwrap_err();
    assert_eq!(controller.persist(), fresh(&example::config()).persist(), "nothing is changed");
    assert_eq!(step(&mut controller, 0, 25_000).events[0], Event::StateRefused { why });
    why
}

fn first(state: &mut PersistedState) -> &mut PersistedWan {
    state.wans[0].as_mut().unwrap()
}

#[test]
fn a_state_is_taken_over_and_told_once() {
    let state = kept();
    let mut controller = fresh(&example::config());
    controller.restore(&state).unwrap();
    assert_eq!(controller.persist(), state);
    assert_eq!(step(&mut controller, 0, 25_000).events[0], Event::StateRestored);
    assert!(!step(&mut controller, 1, 25_000).events.contains(&Event::StateRestored));
}

#[test]
fn nothing_measured_is_nothing_to_keep() {
    let mut config = example::config();
    config.wans[0].classic.baseline_initial = None;
    let state = fresh(&config).persist();
    assert_eq!(state.wans[0], None);
    let mut controller = fresh(&config);
    controller.restore(&state).unwrap();
    assert_eq!(controller.persist(), state);
}

#[test]
fn another_configuration_is_refused() {
    assert_eq!(refusal(|state| state.config ^= 1), StateRefusal::OtherConfig);
    assert_eq!(refusal(|state| state.wans.clear()), StateRefusal::OtherConfig);
    let mut config = example::config();
    config.wans[0].classic.quirks.soft_red_holds = true;
    assert_ne!(config.fingerprint(), example::config().fingerprint());
    assert_eq!(fresh(&config).restore(&kept()), Err(StateRefusal::OtherConfig));
}

#[test]
fn a_value_out_of_range_is_refused() {
    let bit = MicrosQ32::from_bits(1);
    let changes: [fn(&mut PersistedWan); 7] = [
        |wan| wan.baseline = MicrosQ32::from_micros(9_999),
        |wan| wan.baseline = MicrosQ32::from_micros(60_001),
        |wan| wan.load = MicrosQ32::from_bits(-1),
        |wan| wan.load = MicrosQ32::MAX,
        |wan| wan.wanted.download = BitsPerSecond::new(940_000_001),
        |wan| wan.wanted.download = BitsPerSecond::new(199_999_999),
        |wan| wan.wanted.upload = BitsPerSecond::ZERO,
    ];
    for change in changes {
        assert_eq!(refusal(|state| change(first(state))), StateRefusal::OutOfRange);
    }
    let mut state = kept();
    first(&mut state).baseline = MicrosQ32::from_micros(60_000).saturating_sub(bit);
    assert_eq!(fresh(&example::config()).restore(&state), Ok(()));
}

fn slot() -> Slot {
    let state = fresh(&example::config()).persist();
    Slot { generation: 3, saved_unix_s: 1_700_000_000, lines: 77, state }
}

/// The bytes of version 1: another [`Slot`] is another version, see `docs/trace-format.md`.
#[test]
fn golden_slot() {
    let mut buffer = [0; 512];
    let bytes = slot().encode(&mut buffer).unwrap();
    let actual: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        actual,
        "5743544c53544154010380e2cfaa064df598b28c0801018080808080ea308080808080ea3080869dc00380ab\
         8f1250353594"
    );
    assert_eq!(Slot::decode(bytes), Ok(slot()));
}

#[test]
fn a_slot_is_whole_or_refused() {
    let mut buffer = [0; 512];
    let bytes = slot().encode(&mut buffer).unwrap();
    for length in 0..bytes.len() {
        assert_eq!(Slot::decode(&bytes[..length]), Err(StateRefusal::Damaged), "{length} bytes");
    }
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Slot::decode(&damaged), Err(StateRefusal::Damaged), "bit {bit}");
    }
    let mut other = [&b"WCTLSTAT\x02anything"[..]].concat();
    let sum = wanctl_core::persist::checksum(&other);
    other.extend_from_slice(&sum.to_le_bytes());
    assert_eq!(Slot::decode(&other), Err(StateRefusal::OtherVersion));
}
