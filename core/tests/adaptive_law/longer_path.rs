//! A path that becomes longer, and what looks like one: neither may cost the line much.

use wanctl_core::config::WriteBudgetConfig;
use wanctl_core::outputs::Event;
use wanctl_core::units::Direction;

use crate::fluid::{Line, Scene};
use crate::{BACKENDS, SEEDS, config, downloads, pick, steady, until};

/// A path that is longer by so much from 20 s on.
const LONGER: [fn(f64) -> f64; 3] = [
    |t| if t < 20.0 { 0.0 } else { 12.0 },
    |t| if t < 20.0 { 0.0 } else { 25.0 },
    |t| if t < 20.0 { 0.0 } else { 50.0 },
];

/// Returns lines with each of these paths on each backend, 20 s old.
fn lines(tells_one_way: bool, demand: fn(Direction, f64) -> f64) -> impl Iterator<Item = Line> {
    let each = LONGER.into_iter().flat_map(|path_ms| BACKENDS.map(|backend| (path_ms, backend)));
    let each = each.flat_map(|(path_ms, backend)| SEEDS.map(move |seed| (path_ms, backend, seed)));
    each.map(move |(path_ms, (budget, every_ms), seed)| {
        let counters_ms = Some(every_ms);
        let scene = Scene { demand, capacity: steady, path_ms, ..Scene::default() };
        let scene = Scene { counters_ms, tells_one_way, ..scene };
        let mut line = Line::new(&config(budget), scene, seed);
        line.run(20.0);
        line.forget_stats();
        line
    })
}

/// Small cuts that follow each other slowly let a delay stand as well.
#[test]
fn a_download_gets_its_rate_back_soon_after_its_path_became_longer() {
    for mut line in lines(false, downloads) {
        let mut low_ticks = 0;
        while line.seconds() < 60.0 {
            line.tick();
            low_ticks += u32::from(line.held_mbps(Direction::Download) < 30.0);
        }
        assert!(low_ticks <= 60, "{low_ticks} ticks");
        let stats = &line.stats.download;
        assert!(stats.utilisation() > 0.92, "{}", stats.utilisation());
        assert!(stats.percentile(0.95) < 30.0, "{} ms", stats.percentile(0.95));
    }
}

#[test]
fn where_one_way_delays_are_told_an_upload_does_not_pay_for_a_longer_way_back() {
    for mut line in lines(true, |direction, _| pick(direction, 1.0, f64::INFINITY)) {
        let back = |line: &Line| line.held_mbps(Direction::Download) > 50.0;
        line.run(3.0);
        assert!(until(&mut line, 20.0, back) < 20.0, "the download is not held down either");
        line.run(30.0);
        let stats = &line.stats.upload;
        assert!(stats.utilisation() > 0.93, "{}", stats.utilisation());
        assert!(stats.percentile(0.95) < 30.0, "{} ms", stats.percentile(0.95));
    }
}

#[test]
fn two_loaded_directions_get_over_a_longer_path() {
    for mut line in lines(false, |_, _| f64::INFINITY) {
        line.run(20.0);
        for stats in [&line.stats.download, &line.stats.upload] {
            assert!(stats.utilisation() > 0.5, "meanwhile {}", stats.utilisation());
        }
        line.forget_stats();
        line.run(20.0);
        for stats in [&line.stats.download, &line.stats.upload] {
            assert!(stats.utilisation() > 0.6, "afterwards {}", stats.utilisation());
        }
    }
}

/// The way there becomes longer while a call, or something more, is all that the upload carries.
#[test]
fn where_one_way_delays_are_told_a_longer_path_is_found_by_the_direction_that_has_it() {
    let path_ms = |t| if t < 20.0 { 0.0 } else { 50.0 };
    let little: fn(Direction, f64) -> f64 = |direction, _| pick(direction, 20.0, 1.0);
    let more: fn(Direction, f64) -> f64 = |direction, _| pick(direction, 20.0, 6.0);
    for (demand, seed) in [little, more].into_iter().flat_map(|way| SEEDS.map(move |s| (way, s))) {
        let line = Scene { demand, capacity: steady, path_ms, ..Scene::default() };
        let scene = Scene { is_path_of_upload: true, tells_one_way: true, ..line };
        let mut line = Line::new(&config(None), scene, seed);
        line.run(20.0);
        let cut = until(&mut line, 5.0, |line| line.held_mbps(Direction::Upload) < 10.0);
        let back = until(&mut line, 20.0, |line| line.held_mbps(Direction::Upload) > 20.0);
        assert!(cut < 1.0 && back < 2.0, "seed {seed}: cut after {cut} s, back after {back} s");
        assert!(line.cuts.iter().all(|cut| cut.0 < 1.0 || cut.1 == Direction::Upload));
    }
}

#[test]
fn a_baseline_that_follows_a_longer_path_is_told_and_no_other() {
    for (longer_ms, path_ms) in
        [(0.0, (|_| 0.0) as fn(f64) -> f64), (25.0, |t| if t < 20.0 { 0.0 } else { 25.0 })]
    {
        let scene = Scene { demand: downloads, capacity: steady, path_ms, ..Scene::default() };
        let mut line = Line::new(&config(None), scene, 1);
        let mut risen_us = 0;
        while line.seconds() < 40.0 {
            line.tick();
            for event in &line.out.events {
                if let Event::BaselineReanchored { from, to, .. } = event {
                    risen_us += to.as_micros_rounded() - from.as_micros_rounded();
                }
            }
        }
        let risen_ms = risen_us as f64 / 1e3;
        assert!((risen_ms - longer_ms).abs() < 6.0, "{risen_ms} ms told of {longer_ms} ms");
    }
}

/// Cut as fast as its line slows down, a direction keeps its queue for a while.
#[test]
fn a_line_that_slows_down_as_fast_as_it_is_cut_is_not_taken_for_a_longer_path() {
    let upload: [fn(Direction, f64) -> f64; 2] = [
        |direction, _| pick(direction, 1.0, f64::INFINITY),
        |direction, t| pick(direction, 90.0, 30.0 + 7.0 * (t * 0.8).sin()),
    ];
    let download: [fn(Direction, f64) -> f64; 2] =
        [downloads, |direction, t| pick(direction, 30.0 + 7.0 * (t * 0.8).sin(), 35.0)];
    let budget = Some(WriteBudgetConfig { per_second: 6, per_minute: 120 });
    for ([demand, capacity], seed) in
        [upload, download].into_iter().flat_map(|line| SEEDS.map(move |seed| (line, seed)))
    {
        let scene = Scene { capacity, demand, counters_ms: Some(250), ..Scene::default() };
        let mut line = Line::new(&config(budget), scene, seed);
        while line.seconds() < 120.0 {
            line.tick();
            let is_told = |event: &Event| matches!(event, Event::BaselineReanchored { .. });
            assert!(!line.out.events.iter().any(is_told), "seed {seed}: {} s", line.seconds());
        }
    }
}

/// The upload uses less than a tenth of its shaper, and then its line becomes too slow for that, by far or by
/// little.
#[test]
fn a_line_slower_than_the_floor_is_not_taken_for_a_longer_path() {
    let far: [fn(Direction, f64) -> f64; 2] = [
        |direction, _| pick(direction, 20.0, 2.9),
        |direction, t| pick(direction, 50.0, if t < 20.0 { 20.0 } else { 1.7 }),
    ];
    let little: [fn(Direction, f64) -> f64; 2] = [
        |direction, _| pick(direction, 20.0, 2.05),
        |direction, t| pick(direction, 50.0, if t < 20.0 { 20.0 } else { 1.93 }),
    ];
    for ([demand, capacity], seed) in
        [far, little].into_iter().flat_map(|line| SEEDS.map(move |seed| (line, seed)))
    {
        let scene = Scene { capacity, demand, tells_one_way: true, ..Scene::default() };
        let mut line = Line::new(&config(None), scene, seed);
        while line.seconds() < 40.0 {
            line.tick();
            let is_told = |event: &Event| matches!(event, Event::BaselineReanchored { .. });
            assert!(!line.out.events.iter().any(is_told), "seed {seed}: {} s", line.seconds());
        }
    }
}

/// The path is longer by 40 ms from 20 s on; then the upload wants less than its floor.
#[test]
fn a_longer_path_is_found_although_the_upload_wants_less_than_its_floor() {
    let demand = |direction, t: f64| {
        pick(
            direction,
            if t < 30.0 { 1.0 } else { f64::INFINITY },
            if t < 20.3 { f64::INFINITY } else { 1.2 },
        )
    };
    for (budget, every_ms) in BACKENDS {
        for seed in SEEDS {
            let scene = Scene {
                counters_ms: Some(every_ms),
                demand,
                capacity: |direction, _| pick(direction, 50.0, 20.0),
                path_ms: |t| if t < 20.0 { 0.0 } else { 40.0 },
                is_path_of_upload: true,
                ..Scene::default()
            };
            let mut line = Line::new(&config(budget), scene, seed);
            line.run(60.0);
            let held = line.held_mbps(Direction::Download);
            assert!(held > 30.0, "seed {seed}, {every_ms} ms: {held} Mbit/s of 50");
        }
    }
}
