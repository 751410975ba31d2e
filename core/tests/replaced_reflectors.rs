//! Another host under the number of a reflector: what was learned about the old one is void.

use embassy_time::Instant;
use wanctl_core::config::{Config, LawConfig};
use wanctl_core::controller::Controller;
use wanctl_core::example;
use wanctl_core::outputs::Outputs;
use wanctl_core::tick::{ReplacedReflector, RttSample, Tick};
use wanctl_core::units::{ReflectorId, RttNanos, WanId};

/// Feeds ten seconds of samples at `before` and a quarter of one at `after`, with or without being told between them
/// that all reflectors are others; returns delay and baseline in whole ms.
fn run(config: &Config, is_told: bool, before: u64, after: u64) -> (i64, i64) {
    let mut controller = Controller::<1>::new(config).unwrap();
    let mut out = Outputs::new();
    let reflectors = config.wans[0].reflectors;
    for step in 1..=205_u64 {
        let mut tick = Tick::new(Instant::from_millis(step * 50));
        let rtt = RttNanos::from_micros(if step <= 200 { before } else { after } * 1000);
        for reflector in (0..reflectors).map(ReflectorId) {
            let wan = WanId(0);
            if step == 201 && is_told {
                tick.push_replaced(ReplacedReflector { wan, reflector });
            }
            tick.push_sample(RttSample { wan, reflector, rtt, age_us: 0, upload_owd: None });
        }
        controller.step(&tick, &mut out);
    }
    let wan = controller.snapshot().wans()[0];
    (wan.delay.as_micros_floor() / 1000, wan.baseline.as_micros_floor() / 1000)
}

fn config(law: LawConfig, reflectors: u8) -> Config {
    let mut config = example::config();
    (config.wans[0].law, config.wans[0].reflectors) = (law, reflectors);
    config
}

#[test]
fn the_adaptive_law_begins_with_a_new_baseline() {
    let config = config(LawConfig::Adaptive(example::adaptive()), 3);
    assert_eq!(run(&config, true, 20, 50), (0, 50));
    let (delay, baseline) = run(&config, false, 20, 50);
    assert!(delay > 15 && baseline == 20, "{delay} over {baseline}: no difference to a queue");
}

#[test]
fn the_classic_law_begins_anew_only_when_its_single_reflector_is_another() {
    let single = config(LawConfig::Classic, 1);
    assert_eq!(run(&single, true, 20, 50), (0, 50));
    let (delay, _) = run(&single, false, 20, 50);
    assert!(delay > 5, "{delay}");
    // The middle of three hardly moves when one of them is replaced, so its filters go on.
    let three = config(LawConfig::Classic, 3);
    assert_eq!(run(&three, true, 20, 50), run(&three, false, 20, 50));
}
