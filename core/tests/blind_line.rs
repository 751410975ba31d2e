//! What happens while no reflector answers, one story per test.

mod common;

use embassy_time::Duration;
use wanctl_core::config::{BlindMode, ClassicConfig};
use wanctl_core::example;
use wanctl_core::outputs::Event;
use wanctl_core::snapshot::TickResult;
use wanctl_core::tick::ProbeLoss;
use wanctl_core::units::ReflectorId;
use wanctl_core::zone::Zone;

use self::common::{Rig, WAN, mbps, unfiltered};

fn in_mode(mode: BlindMode) -> ClassicConfig {
    let mut classic = unfiltered();
    classic.blind.mode = mode;
    classic
}

fn results(rig: &mut Rig, ticks: usize) -> Vec<TickResult> {
    let mut result = |_| {
        rig.lose(true);
        rig.wan().result
    };
    (0..ticks).map(&mut result).collect()
}

#[test]
fn graceful_blindness_reuses_the_load_once_then_freezes_then_fails() {
    let mut rig = Rig::new(in_mode(BlindMode::Graceful));
    rig.answer(25);
    let expected = [
        TickResult::Controlled,
        TickResult::Frozen,
        TickResult::Frozen,
        TickResult::Failed,
        TickResult::Failed,
    ];
    assert_eq!(results(&mut rig, 5), expected);
    assert_eq!(rig.wan().blind_ticks, 5);
}

#[test]
fn passing_the_limit_is_told_once() {
    let mut rig = Rig::new(in_mode(BlindMode::Graceful));
    rig.answer(25);
    let is_limit = |event: &Event| matches!(event, Event::BlindLimitReached { ticks: 4, .. });
    let told: Vec<bool> = (0..6)
        .map(|_| {
            rig.lose(true);
            rig.told(is_limit)
        })
        .collect();
    assert_eq!(told, [false, false, false, true, false, false]);
}

#[test]
fn mode_freeze_freezes_for_ever() {
    let mut rig = Rig::new(in_mode(BlindMode::Freeze));
    rig.answer(25);
    assert!(results(&mut rig, 100).iter().all(|&result| result == TickResult::Frozen));
}

#[test]
fn mode_use_last_rtt_goes_on_with_the_load_for_ever() {
    let mut rig = Rig::new(in_mode(BlindMode::UseLastRtt));
    rig.answer(120);
    assert!(results(&mut rig, 50).iter().all(|&result| result == TickResult::Controlled));
    assert_eq!(rig.download().zone, Zone::Red);
    assert_eq!(rig.download().wanted, mbps(200));
}

#[test]
fn without_connectivity_every_mode_fails_at_once_and_counts_nothing() {
    for mode in [BlindMode::Graceful, BlindMode::Freeze, BlindMode::UseLastRtt] {
        let mut rig = Rig::new(in_mode(mode));
        rig.answer(120);
        let before = rig.download();
        rig.lose(false);
        assert_eq!(rig.wan().result, TickResult::Failed);
        assert_eq!(rig.wan().blind_ticks, 0);
        assert_eq!(rig.download().wanted, before.wanted);
    }
}

#[test]
fn an_answer_resets_the_count_and_is_told_once() {
    let mut rig = Rig::new(in_mode(BlindMode::Graceful));
    rig.answer(25);
    rig.lose(true);
    assert!(rig.told(|event| matches!(event, Event::BlindBegan { connected: true, .. })));
    rig.lose(true);
    assert!(!rig.told(|event| matches!(event, Event::BlindBegan { .. })));
    rig.answer(25);
    assert!(rig.told(|event| matches!(event, Event::BlindEnded { ticks: 2, .. })));
    assert_eq!(rig.wan().blind_ticks, 0);
    rig.answer(25);
    assert!(!rig.told(|event| matches!(event, Event::BlindEnded { .. })));
    rig.lose(true);
    assert_eq!(rig.wan().result, TickResult::Controlled, "graceful starts anew");
}

#[test]
fn a_loss_beside_an_answer_is_not_blindness() {
    let mut rig = Rig::new(unfiltered());
    rig.tick.push_loss(ProbeLoss { wan: WAN, reflector: ReflectorId(1) });
    rig.answer(25);
    assert_eq!(rig.wan().result, TickResult::Controlled);
    assert_eq!(rig.wan().counters.losses, 1);
}

#[test]
fn the_loss_of_an_unknown_reflector_is_not_blindness() {
    let mut rig = Rig::new(unfiltered());
    rig.answer(25);
    rig.tick.push_loss(ProbeLoss { wan: WAN, reflector: ReflectorId(3) });
    rig.step();
    assert_eq!(rig.wan().result, TickResult::Waiting);
    assert_eq!(rig.wan().counters.losses, 0);
}

#[test]
fn blind_before_the_first_sample_never_acts_as_a_delay_of_zero() {
    for mode in [BlindMode::Graceful, BlindMode::UseLastRtt, BlindMode::Freeze] {
        let mut rig = Rig::new(ClassicConfig { baseline_initial: None, ..in_mode(mode) });
        for _ in 0..20 {
            rig.lose(true);
            assert_ne!(rig.wan().result, TickResult::Controlled);
            assert_eq!(rig.download().streaks.green, 0);
            assert_eq!(rig.commands(), []);
        }
        rig.answer(40);
        assert_eq!(rig.wan().result, TickResult::Controlled);
        assert_eq!(rig.wan().baseline.as_micros_rounded(), 40_000);
    }
}

#[test]
fn a_blind_line_is_not_raised() {
    let mut rig = Rig::new(in_mode(BlindMode::Freeze));
    rig.answer_times(30, 120);
    // Wanted rises by 10 Mbit/s per tick, commanded lags behind by the spacing of raises.
    rig.answer_times(10, 25);
    let commanded = rig.download().commanded;
    assert_eq!((commanded, rig.download().wanted), (Some(mbps(210)), mbps(260)));
    for _ in 0..100 {
        rig.lose(true);
        assert_eq!(rig.commands(), []);
    }
    assert_eq!(rig.download().commanded, commanded);
}

#[test]
fn a_load_that_is_only_repeated_is_no_sample_and_does_not_move_the_anchor() {
    let mut classic = in_mode(BlindMode::UseLastRtt);
    classic.baseline_freeze_max = Duration::from_secs(1);
    classic.load_time_constant = wanctl_core::units::TimeConstant::from_millis(250);
    let mut rig = Rig::new(classic);
    rig.answer_times(10, 80);
    let (before, latest) = (rig.wan().baseline, rig.wan().latest_rtt_us);
    for _ in 0..100 {
        rig.lose(true);
        assert_eq!(rig.wan().baseline, before);
    }
    assert_eq!(rig.wan().latest_rtt_us, latest);
}

#[test]
fn one_silent_reflector_among_others_is_not_blindness() {
    let mut rig = Rig::new(example::classic());
    rig.answer(25);
    for round in 0..200 {
        rig.tick.push_loss(ProbeLoss { wan: WAN, reflector: ReflectorId(2) });
        // The others answer in three of four ticks; in the fourth their answers are on the way.
        if round % 4 == 0 {
            rig.step();
        } else {
            rig.answer(25);
        }
        let told = rig.out.events.iter().any(|event| matches!(event, Event::BlindBegan { .. }));
        assert!(!told, "blind in round {round}");
    }
}

#[test]
fn half_a_second_of_losses_alone_is_blindness() {
    let mut rig = Rig::new(example::classic());
    rig.answer(25);
    let began =
        |rig: &Rig| rig.out.events.iter().any(|event| matches!(event, Event::BlindBegan { .. }));
    for _ in 0..9 {
        rig.lose(false);
        assert!(!began(&rig));
    }
    rig.lose(false);
    assert!(began(&rig));
}
