//! Reflectors that tell one-way delays: whose a queue is, and who is spared.

use wanctl_core::config::WriteBudgetConfig;
use wanctl_core::units::{BitsPerSecond, Direction};

use crate::fluid::{Line, Scene};
use crate::{BACKENDS, SEEDS, config, pick, until};

/// Returns how often a direction was cut, but for the first six seconds.
fn cuts(line: &Line, direction: Direction) -> usize {
    line.cuts.iter().filter(|cut| cut.0 > 6.0 && cut.1 == direction).count()
}

/// The cuts of download and upload in two minutes, where a reflector tells and the upload's ceiling is 20 Mbit/s.
fn cuts_in_two_minutes(
    (budget, every_ms): (Option<WriteBudgetConfig>, i64),
    demand: fn(Direction, f64) -> f64,
    capacity: fn(Direction, f64) -> f64,
    seed: u64,
) -> (usize, usize) {
    let mut config = config(budget);
    config.wans[0].shapers.upload.ceiling = BitsPerSecond::from_mbps(20);
    let (counters_ms, tells_one_way) = (Some(every_ms), true);
    let scene = Scene { capacity, demand, counters_ms, tells_one_way, ..Scene::default() };
    let mut line = Line::new(&config, scene, seed);
    line.run(120.0);
    (cuts(&line, Direction::Download), cuts(&line, Direction::Upload))
}

/// Both directions are loaded, there are no counters, and only the upload becomes slower.
#[test]
fn one_way_delays_spare_the_direction_that_has_no_queue() {
    let capacity = |direction, t| pick(direction, 90.0, if t < 20.0 { 20.0 } else { 8.0 });
    let wrongly_cut = |tells_one_way, seed| {
        let (counters_ms, demand) =
            (None, |direction, _: f64| pick(direction, 30.0, f64::INFINITY));
        let scene = Scene { capacity, demand, counters_ms, tells_one_way, ..Scene::default() };
        let mut line = Line::new(&config(None), scene, seed);
        line.run(40.0);
        line.cuts.iter().filter(|cut| cut.0 > 1.0 && cut.1 == Direction::Download).count()
    };
    let without: usize = SEEDS.map(|seed| wrongly_cut(false, seed)).sum();
    let with: usize = SEEDS.map(|seed| wrongly_cut(true, seed)).sum();
    assert!(without > 20 && with * 4 < without, "{with} instead of {without}");
}

/// The upload is full for 0.9 s of every 6 s; then the download begins, on a line that carries less every other
/// time. Counters that are read four times a second still tell that it is the upload that is full.
#[test]
fn one_way_delays_spare_a_direction_that_old_counters_accuse() {
    let demand = |direction, t: f64| match direction {
        Direction::Download if (1.0..4.0).contains(&(t % 6.0)) => 80.0,
        Direction::Upload if t % 6.0 < 0.9 => 30.0,
        _ => 0.2,
    };
    let capacity =
        |direction, t: f64| pick(direction, if t % 12.0 < 6.0 { 40.0 } else { 36.0 }, 20.0);
    let [_, router] = BACKENDS;
    for seed in SEEDS {
        let (right, wrong) = cuts_in_two_minutes(router, demand, capacity, seed);
        assert!(right > 20 && wrong == 0, "seed {seed}: {wrong} beside {right}");
    }
}

/// The upload uses a fourteenth of its shaper, and then the line becomes too slow for that.
#[test]
fn a_line_too_slow_for_the_little_it_carries_is_noticed_where_one_way_delays_are_told() {
    let demand = |direction, _: f64| pick(direction, 20.0, 2.9);
    let capacity = |direction, t| pick(direction, 50.0, if t < 20.0 { 20.0 } else { 2.2 });
    for seed in SEEDS {
        let scene = Scene { capacity, demand, tells_one_way: true, ..Scene::default() };
        let mut line = Line::new(&config(None), scene, seed);
        line.run(20.0);
        let cut = until(&mut line, 5.0, |line| line.held_mbps(Direction::Upload) < 2.9);
        assert!(cut < 1.0, "seed {seed}: cut after {cut} s");
        assert!(line.cuts.iter().all(|cut| cut.0 < 1.0 || cut.1 == Direction::Upload));
    }
}

/// Both directions are loaded, and both lines carry twice as much from 20 s on.
#[test]
fn where_one_way_delays_are_told_neither_direction_waits_for_the_other_to_climb() {
    let capacity = |direction, t| pick(direction, 30.0, 10.0) * if t < 20.0 { 1.0 } else { 2.0 };
    let found = |tells_one_way, seed| {
        let scene = Scene { capacity, tells_one_way, ..Scene::default() };
        let mut line = Line::new(&config(None), scene, seed);
        line.run(20.0);
        until(&mut line, 30.0, |line| {
            line.held_mbps(Direction::Download) > 54.0 && line.held_mbps(Direction::Upload) > 18.0
        })
    };
    for seed in SEEDS {
        let (with, without) = (found(true, seed), found(false, seed));
        assert!(with < 4.0 && with < without, "seed {seed}: {with} s instead of {without} s");
    }
}

/// The download comes in bursts, every third onto a slower line, and the upload is full most of the time: 20 ms of
/// queue stand before the only reflector that tells has answered.
#[test]
fn where_either_may_have_made_a_queue_the_reflector_that_tells_is_waited_for() {
    let demand = |direction, t: f64| match direction {
        Direction::Download if t % 3.0 < 1.5 => 80.0,
        Direction::Upload if t % 1.9 < 1.3 => 30.0,
        _ => 0.2,
    };
    let capacity =
        |direction, t: f64| pick(direction, if t % 9.0 < 6.0 { 40.0 } else { 28.0 }, 25.0);
    for backend in BACKENDS {
        for seed in SEEDS {
            let (right, wrong) = cuts_in_two_minutes(backend, demand, capacity, seed);
            assert!(right > 50 && wrong == 0, "seed {seed}: {wrong} beside {right}");
        }
    }
}

/// The line of the download becomes slower faster than that is cut. The upload uses a quarter of its shaper: it carries
/// enough to have a queue, but is told to have none of it.
#[test]
fn a_queue_that_does_not_shrink_is_not_held_against_a_direction_that_is_told_to_have_none() {
    let demand = |direction, _: f64| pick(direction, f64::INFINITY, 10.0);
    let capacity = |direction, t: f64| {
        let download = match (t % 4.0 * 10.0) as u32 {
            0..5 => 60.0,
            5..9 => 45.0,
            9..14 => 33.0,
            14..17 => 25.0,
            _ => 90.0,
        };
        pick(direction, download, 40.0)
    };
    for (budget, every_ms) in BACKENDS {
        for seed in SEEDS {
            let (counters_ms, tells_one_way) = (Some(every_ms), true);
            let scene = Scene { capacity, demand, counters_ms, tells_one_way, ..Scene::default() };
            let scene = Scene { jitter_ms: 2.0, is_common: true, ..scene };
            let mut line = Line::new(&config(budget), scene, seed);
            line.run(400.0);
            let (right, wrong) = (cuts(&line, Direction::Download), cuts(&line, Direction::Upload));
            assert!(right > 200 && wrong == 0, "seed {seed}: {wrong} beside {right}");
        }
    }
}

/// Both are full; from 20 s on the upload's line carries a tenth. The download's carries more than its ceiling.
#[test]
fn a_line_that_breaks_down_is_cut_before_the_first_probe_has_crossed_its_queue() {
    let capacity = |direction, t| pick(direction, 60.0, if t < 20.0 { 25.0 } else { 2.5 });
    for (budget, every_ms) in BACKENDS {
        let mut config = config(budget);
        config.wans[0].shapers.download.ceiling = BitsPerSecond::from_mbps(50);
        config.wans[0].shapers.upload.ceiling = BitsPerSecond::from_mbps(20);
        for seed in SEEDS {
            let (counters_ms, tells_one_way) = (Some(every_ms), true);
            let scene = Scene { capacity, counters_ms, tells_one_way, ..Scene::default() };
            let mut line = Line::new(&config, scene, seed);
            line.run(20.0);
            let cut = until(&mut line, 5.0, |line| line.held_mbps(Direction::Upload) < 19.0);
            line.run(5.0);
            let wrong =
                line.cuts.iter().filter(|cut| cut.0 > 20.0 && cut.1 == Direction::Download).count();
            assert!(cut < 0.2 && wrong == 0, "seed {seed}, {every_ms} ms: {cut} s, {wrong} wrong");
        }
    }
}

/// The reflector that tells is 110 ms farther away than the others; the upload's line carries half from 20 s on.
#[test]
fn a_word_that_comes_after_three_ticks_is_not_held_against_who_it_spares() {
    let capacity = |direction, t| pick(direction, 60.0, if t < 20.0 { 25.0 } else { 10.0 });
    let mut config = config(None);
    config.wans[0].shapers.download.ceiling = BitsPerSecond::from_mbps(50);
    config.wans[0].shapers.upload.ceiling = BitsPerSecond::from_mbps(20);
    for seed in SEEDS {
        let scene = Scene {
            capacity,
            base_ms: [20.0, 22.0, 130.0],
            tells_one_way: true,
            ..Scene::default()
        };
        let mut line = Line::new(&config, scene, seed);
        line.run(30.0);
        let wrong: Vec<_> =
            line.cuts.iter().filter(|cut| cut.0 > 20.0 && cut.1 == Direction::Download).collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
    }
}

/// A reflector that answers every 400 ms; the upload uses a quarter of its shaper and its line becomes too slow.
#[test]
fn a_reflector_that_tells_now_and_then_does_not_hide_a_queue() {
    let capacity = |direction, t| pick(direction, 60.0, if t < 20.0 { 25.0 } else { 4.5 });
    let demand = |direction, _: f64| pick(direction, f64::INFINITY, 5.0);
    let mut config = config(None);
    config.wans[0].shapers.download.ceiling = BitsPerSecond::from_mbps(50);
    config.wans[0].shapers.upload.ceiling = BitsPerSecond::from_mbps(20);
    for seed in SEEDS {
        let scene = Scene {
            capacity,
            demand,
            tells_one_way: true,
            tells: |r, s| r == 2 && s / 50_000 % 8 == 0,
            ..Scene::default()
        };
        let mut line = Line::new(&config, scene, seed);
        line.run(20.0);
        let cut = until(&mut line, 10.0, |line| line.held_mbps(Direction::Upload) < 5.0);
        assert!(cut < 3.0, "seed {seed}: {cut} s, queue {} ms", line.true_ms(Direction::Upload));
    }
}
