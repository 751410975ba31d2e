//! The adaptive law on a line that answers: what it must do whatever the seed.

#[path = "common/fluid.rs"]
mod fluid;
#[path = "adaptive_law/longer_path.rs"]
mod longer_path;
#[path = "adaptive_law/one_way.rs"]
mod one_way;

use embassy_time::Duration;
use proptest::prelude::*;
use wanctl_core::config::{Config, LawConfig, WriteBudgetConfig, ZoneFloors};
use wanctl_core::example;
use wanctl_core::outputs::{Action, Event, RateReason};
use wanctl_core::units::{BitsPerSecond, Direction};

use self::fluid::{Line, Scene};

const SEEDS: std::ops::Range<u64> = 1..6;

/// Limits of writes, and how often counters are read: on this machine, and on a router.
const BACKENDS: [(Option<WriteBudgetConfig>, i64); 2] =
    [(None, 50), (Some(WriteBudgetConfig { per_second: 6, per_minute: 120 }), 250)];

/// A line of 100/40 Mbit/s, with floors of 5/2.
fn config(budget: Option<WriteBudgetConfig>) -> Config {
    let mut config = example::config();
    let wan = &mut config.wans[0];
    let mut adaptive = example::adaptive();
    adaptive.write_budget = budget;
    (wan.link, wan.law) = (None, LawConfig::Adaptive(adaptive));
    wan.shapers.download.ceiling = BitsPerSecond::from_mbps(100);
    wan.shapers.upload.ceiling = BitsPerSecond::from_mbps(40);
    wan.shapers.download.floors = ZoneFloors::all(BitsPerSecond::from_mbps(5));
    wan.shapers.upload.floors = ZoneFloors::all(BitsPerSecond::from_mbps(2));
    config
}

const fn pick(direction: Direction, download: f64, upload: f64) -> f64 {
    match direction {
        Direction::Download => download,
        Direction::Upload => upload,
    }
}

/// Only the download is loaded.
fn downloads(direction: Direction, _: f64) -> f64 {
    pick(direction, f64::INFINITY, 1.0)
}

/// 60 Mbit/s, and from 20 s on half of it.
fn halved(direction: Direction, t: f64) -> f64 {
    pick(direction, if t < 20.0 { 60.0 } else { 30.0 }, 20.0)
}

/// 30 Mbit/s, and from 20 s on twice as much.
fn doubled(direction: Direction, t: f64) -> f64 {
    pick(direction, if t < 20.0 { 30.0 } else { 60.0 }, 20.0)
}

fn steady(direction: Direction, _: f64) -> f64 {
    pick(direction, 50.0, 20.0)
}

/// Returns after how many seconds a condition holds, at most `limit`.
fn until(line: &mut Line, limit: f64, is_met: impl Fn(&Line) -> bool) -> f64 {
    let begin = line.seconds();
    while line.seconds() - begin < limit && !is_met(line) {
        line.tick();
    }
    line.seconds() - begin
}

#[test]
fn half_of_the_capacity_is_noticed_at_once_and_settled_within_a_second() {
    for seed in SEEDS {
        let scene = Scene { demand: downloads, capacity: halved, ..Scene::default() };
        let mut line = Line::new(&config(None), scene, seed);
        line.run(20.0);
        let cuts = line.cuts.len();
        until(&mut line, 1.0, |line| line.true_ms(Direction::Download) > 15.0);
        // Two ticks and one base round trip.
        let detected = until(&mut line, 1.0, |line| line.cuts.len() > cuts);
        assert!(detected <= 0.12, "seed {seed}: cut after {detected} s");
        line.run(21.0 - line.seconds());
        let worst = (0..60).map(|_| {
            line.tick();
            line.true_ms(Direction::Download)
        });
        let worst = worst.fold(0.0, f64::max);
        // This traffic does not back off; the simulator's does, and is held to 15 ms.
        assert!(worst < 40.0, "seed {seed}: {worst} ms after a second");
    }
}

/// After a cut the provider's queue goes into CAKE, which drops a part of it: for a while less comes through
/// than both the shaper and the line let.
#[test]
fn what_cake_drops_of_a_download_is_not_taken_for_the_capacity_where_its_delay_is_told() {
    for seed in SEEDS {
        let [told, untold] = [Some(true), Some(false)].map(|cake| {
            let scene = Scene { demand: downloads, capacity: halved, cake, ..Scene::default() };
            let mut line = Line::new(&config(None), scene, seed);
            line.run(20.0);
            let ticks = 40;
            let held = (0..ticks).map(|_| {
                line.tick();
                line.held_mbps(Direction::Download)
            });
            held.sum::<f64>() / f64::from(ticks)
        });
        assert!(
            told > 28.0 && told > untold + 4.0,
            "seed {seed}: {told} of 30, and {untold} Mbit/s where it is not, in the two seconds after"
        );
    }
}

#[test]
fn twice_the_capacity_is_found_within_five_seconds_without_much_delay() {
    for seed in SEEDS {
        let scene = Scene { demand: downloads, capacity: doubled, ..Scene::default() };
        let mut line = Line::new(&config(None), scene, seed);
        line.run(20.0);
        line.forget_stats();
        let found = until(&mut line, 10.0, |line| line.held_mbps(Direction::Download) > 54.0);
        line.run(5.0);
        let p95 = line.stats.download.percentile(0.95);
        assert!(found <= 5.0, "seed {seed}: found after {found} s");
        assert!(p95 <= 30.0, "seed {seed}: {p95} ms");
    }
}

#[test]
fn a_steady_line_is_used_with_hardly_any_delay_and_the_upload_left_alone() {
    for seed in SEEDS {
        let scene = Scene { demand: downloads, capacity: steady, ..Scene::default() };
        let mut line = Line::new(&config(None), scene, seed);
        line.run(5.0);
        line.forget_stats();
        line.run(60.0);
        let stats = &line.stats.download;
        assert!(stats.utilisation() > 0.95, "seed {seed}: {}", stats.utilisation());
        assert!(stats.percentile(0.95) < 15.0, "seed {seed}: {} ms", stats.percentile(0.95));
        let is_upload = |cut: &&(f64, Direction, BitsPerSecond)| cut.1 == Direction::Upload;
        // The first write counts as a cut: what the router held before is not known.
        assert_eq!(line.cuts.iter().filter(is_upload).count(), 1, "seed {seed}");
    }
}

/// A write for every raise there is would go to the download, which is asked first.
#[test]
fn where_writes_are_limited_both_directions_get_their_share_of_the_raises() {
    let budget = WriteBudgetConfig { per_second: 6, per_minute: 60 };
    let capacity = |direction, _: f64| pick(direction, 50.0, 20.0);
    let scene = Scene { capacity, tells_one_way: true, ..Scene::default() };
    let mut line = Line::new(&config(Some(budget)), scene, 1);
    line.run(10.0);
    let mut raises = [0_u32; 2];
    while line.seconds() < 130.0 {
        line.tick();
        for event in &line.out.events {
            let Event::RateChanged { direction, from: Some(from), to, .. } = event else {
                continue;
            };
            raises[usize::from(*direction == Direction::Upload)] += u32::from(to > from);
        }
    }
    let [download, upload] = raises;
    assert!(upload * 2 >= download && download * 2 >= upload, "{download} and {upload} raises");
}

#[test]
fn without_counters_the_delay_is_bounded_and_the_line_is_used() {
    for seed in SEEDS {
        let scene =
            Scene { demand: downloads, capacity: steady, counters_ms: None, ..Scene::default() };
        let mut line = Line::new(&config(None), scene, seed);
        line.run(10.0);
        line.forget_stats();
        line.run(60.0);
        let stats = &line.stats.download;
        assert!(stats.utilisation() > 0.9, "seed {seed}: {}", stats.utilisation());
        assert!(stats.mean() < 25.0, "seed {seed}: {} ms", stats.mean());
    }
}

#[test]
fn an_idle_noisy_line_is_never_cut() {
    let idle = |direction, _| pick(direction, 0.3, 0.1);
    for is_common in [true, false] {
        let scene = Scene {
            demand: idle,
            jitter_ms: 6.0,
            is_common,
            spikes: 0.02,
            loss: 0.01,
            ..Scene::default()
        };
        let mut line = Line::new(&config(None), scene, 7);
        line.run(1800.0);
        assert_eq!(line.cuts.len(), 2, "only the first writes: {:?}", line.cuts);
    }
}

/// A call uses a little of the line, so no queue can be its own unless the line has become very slow.
#[test]
fn a_call_on_a_noisy_line_is_not_cut_but_a_line_too_slow_for_it_is() {
    let calls = |_, _| 6.0;
    for seed in SEEDS {
        let scene = || Scene { demand: calls, jitter_ms: 6.0, is_common: true, ..Scene::default() };
        let mut line = Line::new(&config(None), scene(), seed);
        line.run(600.0);
        assert_eq!(line.cuts.len(), 2, "seed {seed}: only the first writes: {:?}", line.cuts);

        let capacity = |direction, t| pick(direction, 50.0, if t < 20.0 { 20.0 } else { 4.0 });
        let mut line = Line::new(&config(None), Scene { capacity, ..scene() }, seed);
        line.run(20.0);
        let cut = until(&mut line, 3.0, |line| line.held_mbps(Direction::Upload) < 4.5);
        assert!(cut < 1.0, "seed {seed}: cut after {cut} s");
    }
}

#[test]
fn a_queue_learned_as_baseline_at_a_cold_start_is_found_out() {
    for seed in SEEDS {
        let scene = Scene { demand: downloads, capacity: steady, quiet_s: 0.0, ..Scene::default() };
        let mut line = Line::new(&config(None), scene, seed);
        line.run(30.0);
        line.forget_stats();
        line.run(30.0);
        let p95 = line.stats.download.percentile(0.95);
        assert!(p95 < 20.0, "seed {seed}: {p95} ms");
    }
}

#[test]
fn the_floor_is_left_within_seconds() {
    // Nothing gets through for five seconds.
    let capacity = |direction, t: f64| {
        pick(direction, if (20.0..25.0).contains(&t) { 0.5 } else { 50.0 }, 20.0)
    };
    for seed in SEEDS {
        let scene = Scene { demand: downloads, capacity, ..Scene::default() };
        let mut line = Line::new(&config(None), scene, seed);
        line.run(25.0);
        assert!(line.held_mbps(Direction::Download) < 6.0, "seed {seed}");
        let back = until(&mut line, 20.0, |line| line.held_mbps(Direction::Download) > 40.0);
        assert!(back < 10.0, "seed {seed}: {back} s");
    }
}

#[test]
fn the_write_budget_is_never_exceeded() {
    let capacity = |direction, t: f64| pick(direction, 20.0 + 30.0 * (t * 3.0).sin().abs(), 10.0);
    let budget = WriteBudgetConfig { per_minute: 120, per_second: 6 };
    let scene = Scene { capacity, write_ms: 20.0, ..Scene::default() };
    let mut line = Line::new(&config(Some(budget)), scene, 3);
    line.run(200.0);
    let most = |within_us: i64| {
        let count =
            |&at: &i64| line.write_times.iter().filter(|&&t| t > at - within_us && t <= at).count();
        line.write_times.iter().map(count).max().unwrap()
    };
    assert!(most(60_000_000) <= 120, "{} in a minute", most(60_000_000));
    assert!(most(1_000_000) <= 6, "{} in a second", most(1_000_000));
    assert!(line.write_times.len() > 200, "it is used");
}

#[test]
fn silence_is_no_evidence() {
    let scene = Scene { demand: downloads, capacity: steady, ..Scene::default() };
    let mut line = Line::new(&config(None), scene, 1);
    line.run(20.0);
    line.is_deaf = true;
    line.run(1.5);
    let writes = line.write_times.len();
    line.run(20.0);
    assert_eq!(line.write_times.len(), writes, "no cut and no raise without answers");
}

#[test]
fn nothing_is_tried_while_the_delay_is_above_the_target() {
    for seed in SEEDS {
        let scene = Scene { capacity: halved, ..Scene::default() };
        let mut line = Line::new(&config(None), scene, seed);
        while line.seconds() < 40.0 {
            line.tick();
            let target = Duration::from_millis(15).into();
            for event in &line.out.events {
                if let Event::RateChanged { reason: RateReason::Probe, delay, from, to, .. } = event
                {
                    assert!(from.is_none_or(|from| from < *to));
                    assert!(*delay <= target, "seed {seed}, {} s: {delay:?}", line.seconds());
                }
            }
        }
    }
}

#[test]
fn the_tick_does_not_change_the_time_constants() {
    let outcome = |tick_ms| {
        let mut config = config(None);
        config.tick = Duration::from_millis(tick_ms);
        let scene = Scene { demand: downloads, capacity: halved, ..Scene::default() };
        let mut line = Line::new(&config, scene, 2);
        line.run(20.0);
        let steady = line.stats.download.utilisation();
        line.run(1.5);
        let settled = line.true_ms(Direction::Download);
        line.forget_stats();
        line.run(20.0);
        (steady, settled, line.stats.download.utilisation())
    };
    let outcomes = [25, 50, 100].map(outcome);
    for (before, settled, after) in outcomes {
        assert!(settled < 40.0, "{outcomes:?}");
        assert!((before - outcomes[1].0).abs() < 0.05, "{outcomes:?}");
        assert!((after - outcomes[1].2).abs() < 0.05, "{outcomes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rates_stay_within_their_limits_and_the_same_seed_gives_the_same_writes(
        seed: u64,
        jitter in 0.0_f64..8.0,
        loss in 0.0_f64..0.2,
        counters in prop::option::of(prop::sample::select(vec![50_i64, 250, 1000])),
    ) {
        let run = || {
            let capacity =
                |direction, t: f64| pick(direction, 3.0 + 60.0 * (t * 0.7).sin().abs(), 12.0);
            let scene = Scene {
                capacity,
                jitter_ms: jitter,
                loss,
                counters_ms: counters,
                ..Scene::default()
            };
            let mut line = Line::new(&config(None), scene, seed);
            let mut rates = Vec::new();
            while line.seconds() < 20.0 {
                line.tick();
                for action in &line.out.actions {
                    if let Action::SetRate { direction, rate, .. } = *action {
                        rates.push((direction, rate));
                    }
                }
            }
            rates
        };
        let rates = run();
        for (direction, rate) in &rates {
            let mbps = rate.get() as f64 / 1e6;
            let (floor, ceiling) = (pick(*direction, 5.0, 2.0), pick(*direction, 100.0, 40.0));
            prop_assert!((floor..=ceiling).contains(&mbps), "{direction:?} {mbps}");
        }
        prop_assert_eq!(run(), rates);
    }
}

/// Where nobody tells whose the first queue is, one direction is cut by mistake and waits for it to go.
#[test]
fn a_queue_that_was_blamed_on_both_directions_goes_altogether_and_both_get_on() {
    let budget = Some(WriteBudgetConfig { per_second: 6, per_minute: 120 });
    for seed in SEEDS {
        let scene = Scene { capacity: steady, counters_ms: Some(250), ..Scene::default() };
        let mut line = Line::new(&config(budget), scene, seed);
        line.run(20.0);
        line.forget_stats();
        line.run(40.0);
        for stats in [&line.stats.download, &line.stats.upload] {
            assert!(stats.utilisation() > 0.7, "seed {seed}: {}", stats.utilisation());
            assert!(stats.percentile(0.5) < 10.0, "seed {seed}: {} ms", stats.percentile(0.5));
        }
    }
}
