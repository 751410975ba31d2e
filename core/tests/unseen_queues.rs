//! The adaptive law on lines whose pings overtake the queues, and on lines that only look like them.

#[path = "common/fluid.rs"]
mod fluid;

use wanctl_core::config::{Config, LawConfig, ZoneFloors};
use wanctl_core::example;
use wanctl_core::outputs::Event;
use wanctl_core::units::{BitsPerSecond, Direction};

use self::fluid::{Line, Scene};

/// A line of 100/40 Mbit/s, with floors of 5/2.
fn config() -> Config {
    let mut config = example::config();
    let wan = &mut config.wans[0];
    (wan.link, wan.law) = (None, LawConfig::Adaptive(example::adaptive()));
    wan.shapers.download.ceiling = BitsPerSecond::from_mbps(100);
    wan.shapers.upload.ceiling = BitsPerSecond::from_mbps(40);
    wan.shapers.download.floors = ZoneFloors::all(BitsPerSecond::from_mbps(5));
    wan.shapers.upload.floors = ZoneFloors::all(BitsPerSecond::from_mbps(2));
    config
}

/// 30 to 70 Mbit/s within seconds, as a cell does.
fn moving(_: Direction, t: f64) -> f64 {
    50.0 + 15.0 * (t / 1.3).sin() + 5.0 * (t / 0.7).sin()
}

/// Next to nothing goes up.
const fn down(direction: Direction, mbps: f64) -> f64 {
    match direction {
        Direction::Download => mbps,
        Direction::Upload => 1.0,
    }
}

/// Runs a line; returns when it was told that pings are blind, and that they see.
fn told(line: &mut Line, seconds: f64) -> (Vec<f64>, Vec<f64>) {
    let (mut blind, mut sees) = (Vec::new(), Vec::new());
    let end = line.seconds() + seconds;
    while line.seconds() < end {
        line.tick();
        for event in &line.out.events {
            match event {
                Event::SignalBlind { direction, .. } => {
                    assert_eq!(*direction, Direction::Download);
                    blind.push(line.seconds());
                }
                Event::SignalSees { .. } => sees.push(line.seconds()),
                _ => {}
            }
        }
    }
    (blind, sees)
}

#[test]
fn a_queue_that_pings_overtake_is_kept_short_by_counters() {
    let demand = |direction, _: f64| down(direction, f64::INFINITY);
    let scene = Scene { capacity: moving, demand, is_blind: true, ..Scene::default() };
    let mut line = Line::new(&config(), scene, 1);
    let (blind, _) = told(&mut line, 10.0);
    assert!(blind.first().is_some_and(|at| *at < 8.0), "{blind:?}");
    line.run(10.0);
    line.forget_stats();
    line.run(60.0);
    let stats = &line.stats.download;
    let (used, p95_ms) = (stats.utilisation(), stats.percentile(0.95));
    assert!(used > 0.6 && p95_ms < 200.0, "{used} with {p95_ms} ms");
    let (mean_ms, true_ms) = (stats.mean(), line.true_ms(Direction::Download));
    assert!(mean_ms < 60.0 && true_ms < 300.0, "{mean_ms} and {true_ms} ms");
}

/// Of 100 Mbit/s: a stream of 20 is never looked at. One of 45 is tried for some seconds and then left
/// alone.
#[test]
fn a_steady_stream_is_not_held_back_for_long() {
    let stream = |demand, seed| {
        let scene = Scene { capacity: |_, _| 100.0, demand, ..Scene::default() };
        let mut line = Line::new(&config(), scene, seed);
        let (blind, sees) = told(&mut line, 40.0);
        let (blind_later, _) = told(&mut line, 60.0);
        assert!(blind_later.is_empty(), "{blind_later:?}");
        (blind, sees, line.held_mbps(Direction::Download))
    };
    for seed in 1..4 {
        let (blind, sees, held) = stream(|direction, _| down(direction, 20.0), seed);
        assert_eq!((blind.len(), sees.len(), held), (0, 0, 100.0));
        let (blind, sees, held) = stream(|direction, _| down(direction, 45.0), seed);
        assert_eq!((blind.len(), sees.len()), (1, 1));
        assert!(sees[0] - blind[0] < 20.0 && held > 45.0, "{blind:?}, {sees:?}, {held}");
    }
}

/// What pings have shown to see is never taken from them.
#[test]
fn pings_that_have_seen_a_queue_are_believed() {
    let capacity = |_: Direction, t: f64| if t < 30.0 { 50.0 } else { 100.0 };
    let demand = |direction, t: f64| down(direction, if t < 30.0 { f64::INFINITY } else { 45.0 });
    let mut line = Line::new(&config(), Scene { capacity, demand, ..Scene::default() }, 1);
    let (blind, _) = told(&mut line, 90.0);
    assert!(blind.is_empty(), "{blind:?}");
}
