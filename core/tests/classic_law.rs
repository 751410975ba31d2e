//! Zones, streaks, floors, filters and samples of the classic law, one story per test.
//!
//! The baseline stands at 25 ms, thresholds at 15, 45 and 80 ms above it, and the load is not
//! filtered: 40 ms is the last GREEN answer, 70 ms the last YELLOW one, 105 ms the last SOFT_RED.

mod common;

use embassy_time::Duration;
use wanctl_core::config::{ClassicConfig, Quirks, ZoneFloors};
use wanctl_core::example;
use wanctl_core::fixed::{MicrosQ32, Ratio};
use wanctl_core::outputs::{Event, SampleRejection};
use wanctl_core::snapshot::TickResult;
use wanctl_core::units::{BitsPerSecond, RttNanos, TimeConstant};
use wanctl_core::zone::Zone;

use self::common::{Profile, Rig, mbps, unfiltered};

const GREEN_MS: u64 = 25;
const YELLOW_MS: u64 = 60;
const SOFT_RED_MS: u64 = 100;
const RED_MS: u64 = 120;

fn millis(ms: u64) -> MicrosQ32 {
    MicrosQ32::from_micros(ms * 1000)
}

fn reference() -> ClassicConfig {
    ClassicConfig { quirks: Quirks::REFERENCE, ..unfiltered() }
}

/// A direction that neither YELLOW nor GREEN moves, to look at one thing at a time.
fn yellow_holds() -> Profile {
    let mut profile = Profile::from(unfiltered());
    profile.shapers.download.factor_down_yellow = Ratio::ONE;
    profile
}

#[test]
fn a_delay_equal_to_a_threshold_is_in_the_milder_zone() {
    for (at_ms, at, above) in [(40, Zone::Green, Zone::Yellow), (105, Zone::SoftRed, Zone::Red)] {
        let mut rig = Rig::new(unfiltered());
        rig.answer_times(3, at_ms);
        assert_eq!(rig.download().zone, at);
        rig.answer_nanos(at_ms * 1_000_000 + 1);
        assert_eq!(rig.download().zone, above);
    }
    let mut rig = Rig::new(unfiltered());
    rig.answer(70);
    assert_eq!(rig.upload().zone, Zone::Yellow);
    rig.answer_nanos(70_000_001);
    assert_eq!(rig.upload().zone, Zone::Red);
}

#[test]
fn red_cuts_on_the_first_sample() {
    let mut rig = Rig::new(unfiltered());
    rig.answer(GREEN_MS);
    rig.answer(RED_MS);
    assert_eq!(rig.download().wanted, mbps(799));
    assert_eq!(rig.upload().wanted, BitsPerSecond::new(34_200_000));
    assert_eq!(rig.commands().len(), 2);
}

#[test]
fn cuts_are_rounded_down_to_whole_bits() {
    let mut classic = Profile::from(unfiltered());
    classic.shapers.download.ceiling = BitsPerSecond::new(600_000_001);
    let mut rig = Rig::new(classic);
    rig.answer(RED_MS);
    assert_eq!(rig.download().wanted, BitsPerSecond::new(510_000_000)); // 510 000 000.85
}

#[test]
fn red_stops_at_its_floor_and_green_at_the_ceiling() {
    let mut rig = Rig::new(unfiltered());
    rig.answer_times(30, RED_MS);
    assert_eq!((rig.download().wanted, rig.upload().wanted), (mbps(200), mbps(8)));
    rig.answer_times(200, GREEN_MS);
    assert_eq!((rig.download().wanted, rig.upload().wanted), (mbps(940), mbps(38)));
}

#[test]
fn four_green_samples_hold_and_every_further_one_steps_up() {
    let mut rig = Rig::new(unfiltered());
    rig.answer_times(30, RED_MS);
    rig.answer_times(4, GREEN_MS);
    assert_eq!(rig.download().wanted, mbps(200));
    rig.answer(GREEN_MS);
    assert_eq!((rig.download().wanted, rig.upload().wanted), (mbps(210), mbps(9)));
    rig.answer(GREEN_MS);
    assert_eq!((rig.download().wanted, rig.upload().wanted), (mbps(220), mbps(10)));
}

#[test]
fn any_other_zone_restarts_the_count_of_green_samples() {
    for other_ms in [YELLOW_MS, SOFT_RED_MS, RED_MS] {
        let mut rig = Rig::new(yellow_holds());
        rig.answer_times(30, RED_MS);
        rig.answer_times(4, GREEN_MS);
        rig.answer(other_ms);
        rig.answer_times(4, GREEN_MS);
        assert_eq!(rig.download().wanted, mbps(200), "after {other_ms} ms");
        rig.answer(GREEN_MS);
        assert_eq!(rig.download().wanted, mbps(210), "after {other_ms} ms");
    }
}

#[test]
fn yellow_clears_all_streaks_of_the_download() {
    let mut rig = Rig::new(unfiltered());
    rig.answer(RED_MS);
    assert_eq!(rig.download().streaks.red, 1);
    rig.answer(YELLOW_MS);
    assert_eq!(rig.download().streaks, Default::default());
}

#[test]
fn yellow_decays_gently_to_its_own_floor() {
    let mut rig = Rig::new(unfiltered());
    rig.answer(YELLOW_MS);
    assert_eq!(rig.download().wanted, BitsPerSecond::new(902_400_000));
    assert_eq!(rig.upload().wanted, mbps(38), "a factor of one holds");
    rig.answer_times(100, YELLOW_MS);
    assert_eq!(rig.download().wanted, mbps(350));
}

#[test]
fn soft_red_shows_as_yellow_for_two_samples() {
    let mut rig = Rig::new(unfiltered());
    for zone in [Zone::Yellow, Zone::Yellow, Zone::SoftRed, Zone::SoftRed] {
        rig.answer(SOFT_RED_MS);
        assert_eq!(rig.download().zone, zone);
        assert_eq!(rig.upload().zone, Zone::Red, "the upload has no SOFT_RED");
    }
    for other_ms in [GREEN_MS, YELLOW_MS, RED_MS] {
        rig.answer(other_ms);
        rig.answer_times(2, SOFT_RED_MS);
        assert_eq!(rig.download().zone, Zone::Yellow, "after {other_ms} ms");
        rig.answer(SOFT_RED_MS);
        assert_eq!(rig.download().zone, Zone::SoftRed, "after {other_ms} ms");
    }
}

#[test]
fn soft_red_cuts_down_to_its_own_floor() {
    let mut rig = Rig::new(yellow_holds());
    rig.answer_times(2, SOFT_RED_MS);
    assert_eq!(rig.download().wanted, mbps(940));
    rig.answer(SOFT_RED_MS);
    assert_eq!(rig.download().wanted, mbps(799));
    rig.answer_times(30, SOFT_RED_MS);
    assert_eq!(rig.download().wanted, mbps(275));
}

#[test]
fn with_a_single_floor_soft_red_still_cuts() {
    let mut classic = Profile::from(unfiltered());
    classic.shapers.download.floors = ZoneFloors::all(mbps(100));
    let mut rig = Rig::new(classic);
    rig.answer_times(40, SOFT_RED_MS);
    assert_eq!(rig.download().wanted, mbps(100));
}

#[test]
fn in_the_reference_soft_red_and_yellow_hold_the_rate() {
    let mut classic = Profile::from(reference());
    classic.shapers.download.factor_down_yellow = Ratio::ONE;
    let mut rig = Rig::new(classic);
    rig.answer_times(50, SOFT_RED_MS);
    assert_eq!(rig.download().wanted, mbps(940));
}

#[test]
fn floors_never_lift_a_rate() {
    let mut rig = Rig::new(unfiltered());
    rig.answer_times(30, RED_MS);
    for milder_ms in [SOFT_RED_MS, SOFT_RED_MS, SOFT_RED_MS, YELLOW_MS, GREEN_MS] {
        rig.answer(milder_ms);
        assert_eq!(rig.download().wanted, mbps(200), "at {milder_ms} ms");
    }
}

#[test]
fn in_the_reference_each_zone_lifts_the_rate_to_its_floor() {
    let mut rig = Rig::new(reference());
    rig.answer_times(30, RED_MS);
    assert_eq!(rig.download().wanted, mbps(200));
    rig.answer(YELLOW_MS);
    assert_eq!(rig.download().wanted, mbps(350));
    rig.answer(GREEN_MS);
    assert_eq!(rig.download().wanted, mbps(550));
}

#[test]
fn each_change_of_zone_is_told_once_per_direction() {
    let mut rig = Rig::new(unfiltered());
    rig.answer(GREEN_MS);
    assert!(!rig.told(|event| matches!(event, Event::ZoneChanged { .. })));
    rig.answer(RED_MS);
    let is_change = |event: &Event| {
        matches!(event, Event::ZoneChanged { from: Zone::Green, to: Zone::Red, delay, .. }
            if *delay == millis(95))
    };
    assert_eq!(rig.out.events.iter().filter(|event| is_change(event)).count(), 2);
    rig.answer(RED_MS);
    assert!(!rig.told(|event| matches!(event, Event::ZoneChanged { .. })));
}

#[test]
fn the_load_filter_always_moves_and_alpha_one_copies_the_input() {
    let mut rig = Rig::new(example::classic());
    rig.answer(125);
    assert_eq!(rig.wan().load.as_micros_rounded(), 45_000); // 25 + 100 / 5
    let mut rig = Rig::new(unfiltered());
    rig.answer_nanos(33_333_333);
    assert_eq!(rig.wan().load, MicrosQ32::from_nanos(33_333_333));
}

#[test]
fn the_baseline_follows_raw_samples_below_the_freeze_delay_and_stops_at_it() {
    let mut rig = Rig::new(unfiltered());
    rig.answer(28);
    assert_eq!(rig.wan().baseline, millis(25), "a delay equal to the freeze delay freezes");
    assert!(rig.told(|event| matches!(event, Event::BaselineFrozen { .. })));
    rig.answer(27);
    assert_eq!(rig.wan().baseline.as_micros_rounded(), 25_040); // 25 ms + 2 ms / 50
    assert!(rig.told(|event| matches!(event, Event::BaselineReleased { .. })));
}

#[test]
fn a_hundred_loaded_samples_do_not_move_the_baseline_by_a_bit() {
    let mut rig = Rig::new(unfiltered());
    rig.answer_times(10, 26);
    let before = rig.wan().baseline;
    for rtt_ms in (0..100).map(|index| 60 + index % 50) {
        rig.answer(rtt_ms);
        assert_eq!(rig.wan().baseline, before);
    }
}

#[test]
fn a_single_spike_below_a_slow_load_filter_leaks_into_the_baseline() {
    let mut classic = example::classic();
    classic.load_time_constant = TimeConstant::from_millis(10_000);
    let mut rig = Rig::new(classic);
    rig.answer(125);
    assert_eq!(rig.wan().baseline.as_micros_rounded(), 27_000); // 100 ms / 50
}

#[test]
fn the_baseline_may_stand_at_its_bounds_but_not_beyond() {
    let mut classic = unfiltered();
    classic.baseline_time_constant = TimeConstant::from_millis(50);
    let mut rig = Rig::new(classic);
    rig.answer(10);
    assert_eq!(rig.wan().baseline, millis(10));
    let is_refusal = |event: &Event| matches!(event, Event::BaselineOutOfBounds { .. });
    rig.answer_nanos(9_999_999);
    assert_eq!(rig.wan().baseline, millis(10));
    assert!(rig.told(is_refusal));
    rig.answer_nanos(9_999_999);
    assert!(!rig.told(is_refusal), "told once per episode");
}

#[test]
fn a_baseline_frozen_for_too_long_anchors_at_the_lowest_sample_of_that_time() {
    let mut classic = unfiltered();
    classic.baseline_freeze_max = Duration::from_secs(1);
    let mut rig = Rig::new(classic);
    rig.answer_times(19, 55);
    assert_eq!(rig.wan().baseline, millis(25));
    rig.answer(53);
    assert_eq!(rig.wan().baseline, millis(53));
    assert!(rig.told(|event| matches!(event, Event::BaselineReanchored { from, to, .. }
        if *from == millis(25) && *to == millis(53))));
    rig.answer(53);
    assert_eq!(rig.download().zone, Zone::Green);
}

#[test]
fn a_queue_that_drained_once_does_not_move_the_baseline() {
    let mut classic = example::classic();
    classic.baseline_freeze_max = Duration::from_secs(1);
    let mut rig = Rig::new(classic);
    rig.answer_times(10, 55);
    rig.answer(24);
    assert!(rig.wan().delay > millis(3), "the load filter hides the dip");
    let before = rig.wan().baseline;
    rig.answer_times(15, 55);
    assert_eq!(rig.wan().baseline, before);
}

#[test]
fn the_anchor_stays_within_the_bounds_of_the_baseline() {
    let mut classic = unfiltered();
    classic.baseline_freeze_max = Duration::from_secs(1);
    // Thresholds so high that nothing is cut: at the floor there is no new anchor.
    classic.target_delay = Duration::from_millis(300);
    classic.warn_delay = Duration::from_millis(400);
    classic.hard_red_delay = Duration::from_millis(500);
    let mut rig = Rig::new(classic);
    rig.answer_times(20, 200);
    assert_eq!(rig.wan().baseline, millis(60));
}

#[test]
fn in_the_reference_the_baseline_stays_frozen_for_ever() {
    let mut classic = reference();
    classic.baseline_freeze_max = Duration::from_secs(1);
    let mut rig = Rig::new(classic);
    rig.answer_times(200, 55);
    assert_eq!(rig.wan().baseline, millis(25));
}

#[test]
fn without_an_initial_baseline_the_first_sample_seeds_both_filters() {
    for (rtt_ms, baseline_ms) in [(40, 40), (90, 60), (3, 10)] {
        let mut rig = Rig::new(ClassicConfig { baseline_initial: None, ..example::classic() });
        rig.answer(rtt_ms);
        assert_eq!(rig.wan().load, millis(rtt_ms));
        assert_eq!(rig.wan().baseline, millis(baseline_ms), "within the bounds");
    }
}

#[test]
fn the_sample_is_the_median_of_three_the_mean_of_two_or_the_only_one() {
    for (rtts_ms, sample_us) in
        [(&[90, 26, 31][..], 31_000), (&[26, 31][..], 28_500), (&[77][..], 77_000)]
    {
        let mut rig = Rig::new(unfiltered());
        for (reflector, rtt_ms) in (0..).zip(rtts_ms) {
            rig.push(reflector, RttNanos::from_micros(rtt_ms * 1000), 0);
        }
        rig.step();
        assert_eq!(rig.wan().latest_rtt_us, Some(sample_us));
    }
}

#[test]
fn of_several_samples_of_a_reflector_the_latest_counts() {
    let mut rig = Rig::new(unfiltered());
    rig.push(0, RttNanos::from_micros(90_000), 40_000);
    rig.push(0, RttNanos::from_micros(30_000), 1000);
    rig.step();
    assert_eq!(rig.wan().latest_rtt_us, Some(30_000));
    assert_eq!(rig.wan().counters.samples, 2);
}

#[test]
fn a_stale_sample_and_one_of_an_unknown_reflector_are_not_used() {
    for (reflector, age_us, reason) in
        [(0, 500_001, SampleRejection::Stale), (3, 0, SampleRejection::UnknownSource)]
    {
        let mut rig = Rig::new(unfiltered());
        rig.push(reflector, RttNanos::from_micros(90_000), age_us);
        rig.step();
        assert_eq!(rig.wan().result, TickResult::Waiting);
        assert!(rig.told(|event| matches!(event, Event::SampleRejected { why, .. }
            if *why == reason)));
    }
    let mut rig = Rig::new(unfiltered());
    rig.push(0, RttNanos::from_micros(90_000), 500_000);
    rig.step();
    assert_eq!(rig.wan().result, TickResult::Controlled);
}

#[test]
fn a_stall_full_of_stale_samples_leaves_room_to_tell_of_the_cut() {
    let mut rig = Rig::new(unfiltered());
    rig.answer(GREEN_MS);
    for index in 0..60 {
        rig.push(index % 3, RttNanos::from_micros(25_000), 600_000);
    }
    rig.answer(RED_MS);
    assert_eq!(rig.out.outputs_dropped, 0);
    assert!(rig.told(|event| matches!(event, Event::RateChanged { .. })));
    assert!(rig.told(|event| matches!(event, Event::SampleRejected { .. })));
}

#[test]
fn a_delay_that_equals_the_freeze_threshold_on_paper_freezes() {
    // 20 % of a step of 15 ms is 3 ms, whatever the binary fraction of 0.2 makes of it.
    let mut rig = Rig::new(example::classic());
    rig.answer_times(20, 25);
    rig.answer(40);
    assert_eq!(rig.wan().baseline, millis(25));
}

#[test]
fn a_standing_queue_at_the_floor_is_not_taken_for_a_new_path() {
    let mut classic = unfiltered();
    classic.baseline_freeze_max = Duration::from_secs(5);
    let mut rig = Rig::new(classic);
    rig.answer_times(20, GREEN_MS);
    rig.answer_times(400, RED_MS);
    assert_eq!(rig.download().wanted, mbps(200));
    assert!(rig.wan().baseline < millis(26), "{:?}", rig.wan().baseline);
}
