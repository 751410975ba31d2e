//! From wanted rates to commands and back, one story per test.

mod common;

use embassy_time::{Duration, Instant};
use wanctl_core::command::COMMAND_TIMEOUT;
use wanctl_core::config::{ClassicConfig, Quirks, WriteLimit};
use wanctl_core::example;
use wanctl_core::outputs::{Event, RateReason};
use wanctl_core::tick::Outcome;
use wanctl_core::units::{BitsPerSecond, Direction};
use wanctl_core::zone::Zone;

use self::common::{Profile, Rig, SetRate, mbps, unfiltered};

const GREEN_MS: u64 = 25;
const RED_MS: u64 = 120;

fn limited(writes: u8, window_ms: u64) -> ClassicConfig {
    let window = Duration::from_millis(window_ms);
    ClassicConfig { write_limit: WriteLimit { writes, window }, ..unfiltered() }
}

/// Down at the floors, with everything confirmed.
fn at_the_floor(classic: ClassicConfig) -> Rig {
    let mut rig = Rig::new(classic);
    rig.answer_times(40, RED_MS);
    assert_eq!(rig.download().confirmed, Some(example::shapers().download.floors.red));
    rig
}

/// Returns the next download command and how many ticks it took.
fn answer_until_command(rig: &mut Rig, rtt_ms: u64) -> (SetRate, usize) {
    for ticks in 1..=1000 {
        rig.answer(rtt_ms);
        if let Some(set) = rig.download_command() {
            return (set, ticks);
        }
    }
    panic!("no command in a thousand ticks")
}

#[test]
fn nothing_is_written_before_the_first_decision() {
    let mut rig = Rig::new(unfiltered());
    rig.step();
    assert_eq!(rig.commands(), []);
    rig.answer(GREEN_MS);
    assert_eq!(rig.commands().len(), 2);
    assert_eq!(rig.download_reason(), Some(RateReason::Start));
}

#[test]
fn an_unchanged_rate_is_not_written_again() {
    let mut rig = Rig::new(unfiltered());
    rig.answer(GREEN_MS);
    for _ in 0..100 {
        rig.answer(GREEN_MS);
        assert_eq!(rig.commands(), []);
    }
    assert_eq!(rig.wan().counters.writes, 2);
}

#[test]
fn a_confirmed_rate_is_told_and_kept() {
    let mut rig = Rig::new(unfiltered());
    rig.answer(GREEN_MS);
    assert_eq!(rig.download().confirmed, None);
    rig.answer(GREEN_MS);
    assert_eq!(rig.download().confirmed, Some(mbps(940)));
    assert!(rig.told(|event| matches!(event, Event::RateConfirmed { took_us: 1000, .. })));
}

#[test]
fn cuts_pass_a_full_limiter_at_once() {
    let mut rig = Rig::new(limited(1, 60_000));
    rig.answer(GREEN_MS);
    let mut rates = Vec::new();
    while rig.download().wanted > mbps(200) {
        rig.answer(RED_MS);
        let set = rig.download_command().expect("every cut is commanded in its tick");
        assert!(set.is_cut);
        rates.push(set.rate);
    }
    assert_eq!(rates.len(), 10);
}

#[test]
fn in_the_reference_the_limiter_starves_cuts() {
    let mut classic = limited(2, 60_000);
    classic.quirks = Quirks::REFERENCE;
    let mut rig = Rig::new(classic);
    rig.answer(GREEN_MS);
    rig.answer(RED_MS);
    let commanded = rig.download().commanded;
    rig.answer(RED_MS);
    assert!(rig.told(|event| matches!(event, Event::WriteHeld { .. })));
    rig.answer_times(100, RED_MS);
    assert_eq!(rig.download().commanded, commanded);
    assert_eq!(rig.download().wanted, mbps(200));
}

#[test]
fn in_the_reference_a_slot_opens_when_a_write_is_older_than_the_window() {
    let mut classic = limited(2, 1000);
    classic.quirks = Quirks::REFERENCE;
    let mut rig = Rig::new(classic);
    rig.answer(GREEN_MS);
    rig.answer(RED_MS);
    for _ in 0..19 {
        rig.answer(RED_MS);
        assert_eq!(rig.commands(), []);
    }
    // The first write is 1050 ms old now; at 1000 ms it still counted.
    rig.answer(RED_MS);
    assert_eq!(rig.download().commanded, Some(mbps(200)));
}

#[test]
fn a_cut_is_commanded_although_another_command_is_in_flight() {
    let mut rig = Rig::new(unfiltered());
    rig.confirms = false;
    rig.answer(GREEN_MS);
    let first = rig.download_command().expect("the first write");
    rig.answer(RED_MS);
    let second = rig.download_command().expect("a cut does not wait");
    assert!(second.is_cut && second.id != first.id);
    // The late answer to the first one changes nothing about the second.
    rig.reply(first, Outcome::Failed);
    rig.answer(GREEN_MS);
    assert_eq!(rig.download().commanded, Some(second.rate));
    assert_eq!(rig.wan().counters.writes_failed, 0);
}

#[test]
fn raises_merge_while_a_command_is_in_flight_up_to_one_spacing() {
    // A spacing of 500 ms: ten steps of a 50 ms tick.
    let mut rig = at_the_floor(limited(20, 10_000));
    rig.confirms = false;
    let (first, _) = answer_until_command(&mut rig, GREEN_MS);
    assert!(!first.is_cut);
    for _ in 0..40 {
        rig.answer(GREEN_MS);
        assert_eq!(rig.download_command(), None);
    }
    rig.reply(first, Outcome::Applied(first.rate));
    rig.answer(GREEN_MS);
    let merged = rig.download_command().expect("the answer lets the next one go");
    assert_eq!(merged.rate, first.rate.saturating_add(mbps(10 * 10)));
    assert_eq!(rig.download_reason(), Some(RateReason::Green));
}

#[test]
fn a_router_that_fails_at_once_is_not_stormed_with_raises() {
    let mut rig = at_the_floor(limited(20, 10_000));
    rig.confirms = false;
    let mut commands = 0;
    for _ in 0..200 {
        rig.answer(GREEN_MS);
        if let Some(set) = rig.download_command() {
            commands += 1;
            rig.reply(set, Outcome::Failed);
        }
    }
    // Ten seconds at one raise per 500 ms, and the first.
    assert!((19..=21).contains(&commands), "{commands}");
    assert!(rig.download().wanted <= mbps(200 + 100), "the wanted rate ran ahead");
}

#[test]
fn raises_keep_their_distance_and_a_held_one_is_told_once() {
    let mut rig = at_the_floor(limited(4, 2000));
    let (first, _) = answer_until_command(&mut rig, GREEN_MS);
    let is_held =
        |event: &Event| matches!(event, Event::WriteHeld { direction: Direction::Download, .. });
    rig.answer(GREEN_MS);
    assert!(rig.told(is_held));
    for _ in 0..8 {
        rig.answer(GREEN_MS);
        assert_eq!(rig.download_command(), None);
        assert!(!rig.told(is_held), "once per episode");
    }
    rig.answer(GREEN_MS);
    assert_eq!(
        rig.download_command().map(|set| set.rate),
        Some(first.rate.saturating_add(mbps(100)))
    );
    assert_eq!(answer_until_command(&mut rig, GREEN_MS).1, 10);
}

#[test]
fn a_pending_raise_is_forgotten_when_trouble_comes_back() {
    let mut rig = at_the_floor(limited(1, 5000));
    answer_until_command(&mut rig, GREEN_MS);
    rig.answer_times(50, GREEN_MS);
    let commanded = rig.download().commanded.expect("something was written");
    assert!(rig.download().wanted > mbps(600), "raises are pending");
    rig.answer(RED_MS);
    let cut = rig.download_command();
    assert_eq!(rig.download().zone, Zone::Red);
    let expected = commanded.get() * 85 / 100;
    let expected = BitsPerSecond::new(expected).max(mbps(200));
    assert_eq!(cut.map(|set| (set.rate, set.is_cut)), Some((expected, true)));
    assert_eq!(rig.download_reason(), Some(RateReason::Red));
}

#[test]
fn a_failed_command_is_written_again_with_the_rate_wanted_by_then() {
    let mut rig = Rig::new(unfiltered());
    rig.answer(GREEN_MS);
    rig.confirms = false;
    rig.answer(RED_MS);
    let cut = rig.download_command().expect("a cut");
    rig.reply(cut, Outcome::Failed);
    rig.answer(GREEN_MS);
    assert!(
        rig.told(|event| matches!(event, Event::WriteFailed { rate, .. } if *rate == cut.rate))
    );
    let again = rig.download_command().expect("it is written again");
    assert_eq!(again.rate, cut.rate);
    assert_eq!(rig.download_reason(), Some(RateReason::Again));
    assert_eq!(rig.wan().counters.writes_failed, 1);
    assert_eq!(rig.download().confirmed, Some(mbps(940)), "what the router last said");
}

#[test]
fn a_command_without_an_answer_is_given_up_and_written_again() {
    let mut rig = Rig::new(unfiltered());
    rig.confirms = false;
    rig.answer(GREEN_MS);
    rig.tick.now += COMMAND_TIMEOUT - Duration::from_millis(100);
    rig.answer(GREEN_MS);
    assert_eq!(rig.commands(), []);
    rig.answer(GREEN_MS);
    assert!(rig.told(|event| matches!(event, Event::WriteTimedOut { .. })));
    assert_eq!(rig.download_reason(), Some(RateReason::Again));
}

#[test]
fn time_going_back_is_told_and_opens_no_limiter() {
    let mut rig = at_the_floor(limited(1, 5000));
    answer_until_command(&mut rig, GREEN_MS);
    for _ in 0..50 {
        rig.tick.now = Instant::from_ticks(0);
        rig.answer(GREEN_MS);
        assert!(rig.told(|event| matches!(event, Event::TickGap { gap } if *gap == Duration::MIN)));
        assert_eq!(rig.download_command(), None);
    }
}

#[test]
fn steps_too_small_to_be_worth_a_write_gather_until_they_are() {
    let mut shapers = example::shapers();
    let download = &mut shapers.download;
    // Ten steps between two raises are 0.1 % of the ceiling, and a raise must be worth 1 %.
    (download.ceiling, download.step_up) = (mbps(1000), BitsPerSecond::new(100_000));
    let mut rig = Rig::new(Profile { shapers, classic: unfiltered() });
    rig.answer_times(40, RED_MS);
    assert_eq!(rig.download().confirmed, Some(shapers.download.floors.red));
    let (first, ticks) = answer_until_command(&mut rig, GREEN_MS);
    assert_eq!((first.rate, ticks), (mbps(210), 104), "a hundred steps after five ticks of GREEN");
    rig.answer_times(8000, GREEN_MS);
    assert_eq!(rig.download().confirmed, Some(mbps(1000)));
}
