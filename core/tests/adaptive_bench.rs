#![allow(warnings, clippy::all, clippy::pedantic)]
#[path = "common/fluid.rs"]
mod fluid;
use fluid::*;
use wanctl_core::config::*;
use wanctl_core::example;
use wanctl_core::units::*;

fn config(ceiling: [u64; 2], floor: [u64; 2], budget: Option<u16>) -> Config {
    let mut config = example::config();
    let wan = &mut config.wans[0];
    wan.link = None;
    let mut a = example::adaptive();
    a.write_budget = budget.map(|b| WriteBudgetConfig { per_minute: b, per_second: 6 });
    wan.law = LawConfig::Adaptive(a);
    wan.shapers.download.ceiling = BitsPerSecond::from_mbps(ceiling[0]);
    wan.shapers.upload.ceiling = BitsPerSecond::from_mbps(ceiling[1]);
    wan.shapers.download.floors = ZoneFloors::all(BitsPerSecond::from_mbps(floor[0]));
    wan.shapers.upload.floors = ZoneFloors::all(BitsPerSecond::from_mbps(floor[1]));
    config
}
fn one(d: Direction, a: f64, b: f64) -> f64 {
    if d == Direction::Download { a } else { b }
}
fn noise(t: f64, n: f64) -> f64 {
    let x = (t * n).floor();
    let mut h = (x as i64 as u64).wrapping_mul(0x9E3779B97F4A7C15);
    h ^= h >> 29;
    h = h.wrapping_mul(0xBF58476D1CE4E5B9);
    h ^= h >> 32;
    (h >> 11) as f64 / (1u64 << 53) as f64
}
fn scenes() -> Vec<(&'static str, Scene)> {
    let dl = |d, _t| if d == Direction::Download { f64::INFINITY } else { 1.0 };
    vec![
        ("steady", Scene { demand: dl, capacity: |d, _| one(d, 50.0, 20.0), ..Scene::default() }),
        (
            "step down",
            Scene {
                demand: dl,
                capacity: |d, t| one(d, if t % 20.0 < 10.0 { 60.0 } else { 30.0 }, 20.0),
                ..Scene::default()
            },
        ),
        (
            "step 4x",
            Scene {
                demand: dl,
                capacity: |d, t| one(d, if t % 30.0 < 15.0 { 15.0 } else { 60.0 }, 20.0),
                ..Scene::default()
            },
        ),
        (
            "upload",
            Scene {
                demand: |d, _| one(d, 3.0, f64::INFINITY),
                capacity: |d, t| one(d, 60.0, if t % 20.0 < 10.0 { 10.0 } else { 5.0 }),
                ..Scene::default()
            },
        ),
        (
            "docsis",
            Scene {
                demand: dl,
                jitter_ms: 5.0,
                spikes: 0.01,
                is_common: true,
                capacity: |d, t| one(d, if t % 40.0 < 20.0 { 60.0 } else { 45.0 }, 20.0),
                ..Scene::default()
            },
        ),
        (
            "lte",
            Scene {
                demand: dl,
                jitter_ms: 3.0,
                base_ms: [40.0, 42.0, 47.0],
                capacity: |d, t| {
                    one(
                        d,
                        5.0 + 50.0
                            * (0.5 * noise(t, 0.5) + 0.3 * noise(t, 2.0) + 0.2 * noise(t, 7.0)),
                        20.0,
                    )
                },
                ..Scene::default()
            },
        ),
        (
            "both dl drop",
            Scene {
                capacity: |d, t| one(d, if t % 20.0 < 10.0 { 60.0 } else { 30.0 }, 15.0),
                ..Scene::default()
            },
        ),
        (
            "both ul drop",
            Scene {
                capacity: |d, t| one(d, 60.0, if t % 20.0 < 10.0 { 15.0 } else { 8.0 }),
                ..Scene::default()
            },
        ),
        (
            "starlink",
            Scene {
                demand: dl,
                jitter_ms: 3.0,
                path_ms: |t| 20.0 * noise(t, 1.0 / 15.0),
                capacity: |d, t| one(d, 40.0 + 60.0 * noise(t, 1.0 / 15.0), 20.0),
                ..Scene::default()
            },
        ),
        (
            "no counters",
            Scene {
                demand: dl,
                counters_ms: None,
                capacity: |d, t| one(d, if t % 20.0 < 10.0 { 60.0 } else { 30.0 }, 20.0),
                ..Scene::default()
            },
        ),
        (
            "router",
            Scene {
                demand: dl,
                counters_ms: Some(1000),
                write_ms: 25.0,
                capacity: |d, t| one(d, if t % 20.0 < 10.0 { 60.0 } else { 30.0 }, 20.0),
                ..Scene::default()
            },
        ),
    ]
}
#[test]
fn bench() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let dump = std::env::var("DUMP").is_ok();
    let budget = std::env::var("BUDGET").ok().map(|b| b.parse().unwrap());
    for (name, scene) in scenes() {
        if !name.contains(&only) {
            continue;
        }
        let mut line = Line::new(&config([100, 40], [5, 2], budget), scene, 1);
        let s = std::env::var("SECS").map(|s| s.parse().unwrap()).unwrap_or(60.0);
        if dump {
            while (line.now_us as f64) < s * 1e6 {
                line.tick();
                let w = line.wan();
                println!(
                    "{:7.2} dl {:6.2} q{:6.1} | ul {:6.2} q{:6.1} | shown {:6.1} {}",
                    line.now_us as f64 / 1e6,
                    line.held_mbps(Direction::Download),
                    line.true_ms(Direction::Download),
                    line.held_mbps(Direction::Upload),
                    line.true_ms(Direction::Upload),
                    w.delay.as_micros_rounded() as f64 / 1e3,
                    line.controller.debug()
                );
            }
        } else {
            line.run(s);
        }
        print!("{name:14}");
        for d in Direction::BOTH {
            let st = line.stats.get(d);
            print!(
                " util {:.3} mean {:6.1} p95 {:6.1} p99 {:6.1} cuts {:3} |",
                st.utilisation(),
                st.mean(),
                st.percentile(0.95),
                st.percentile(0.99),
                line.cuts.iter().filter(|c| c.1 == d).count()
            );
        }
        println!(" writes {}", line.write_times.len());
    }
}
