//! Another configuration while running: what was learned and what the router holds stay known.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed expectation ends a test"
)]

use embassy_time::Instant;
use wanctl_core::config::{Config, ConfigError, LawConfig};
use wanctl_core::controller::Controller;
use wanctl_core::example;
use wanctl_core::outputs::{Action, Event, Outputs};
use wanctl_core::tick::{Outcome, Reply, RttSample, Tick};
use wanctl_core::trace;
use wanctl_core::units::{BitsPerSecond, Direction, ReflectorId, RttNanos, WanId};

/// A controller with a router that does everything at once.
struct Bench {
    controller: Controller,
    replies: Vec<Reply>,
}

impl Bench {
    fn new(config: &Config) -> Self {
        Self { controller: Controller::new(config).unwrap(), replies: Vec::new() }
    }

    fn step(&mut self, rtt_us: u64) -> Outputs {
        let mut tick = Tick::new(Instant::from_millis(50 * (self.controller.ticks() + 1)));
        for wan in 0..self.controller.snapshot().wans().len() {
            let (wan, reflector) = (WanId(u8::try_from(wan).unwrap()), ReflectorId(0));
            let rtt = RttNanos::from_micros(rtt_us);
            tick.push_sample(RttSample { wan, reflector, rtt, age_us: 0, upload_owd: None });
        }
        self.replies.drain(..).for_each(|reply| tick.push_reply(reply));
        let mut outputs = Outputs::new();
        self.controller.step(&tick, &mut outputs);
        for action in &outputs.actions {
            if let Action::SetRate { id, wan, direction, rate, .. } = *action {
                let outcome = Outcome::Applied(rate);
                self.replies.push(Reply { wan, direction, id, outcome, took_us: 9 });
            }
        }
        outputs
    }

    /// Warm, then congested, then quiet again.
    fn with_a_past(config: &Config) -> Self {
        let mut bench = Self::new(config);
        for number in 0..1200 {
            bench.step(if (200..240).contains(&number) { 120_000 } else { 25_000 });
        }
        bench
    }

    fn reconfigure(&mut self, old: &Config, new: &Config, is_same_path: bool) {
        let before = self.controller.clone();
        self.controller = Controller::new(new).unwrap();
        self.controller.take_over(&before, (old, new), |_| is_same_path).unwrap();
    }

    fn wanted(&self) -> BitsPerSecond {
        self.controller.snapshot().wans()[0].directions.download.wanted
    }
}

fn configs() -> [Config; 3] {
    let mut configs = [example::config(), example::config(), example::two_wans()];
    configs[1].wans[0].law = LawConfig::Adaptive(example::adaptive());
    for wan in configs.iter_mut().flat_map(|config| &mut config.wans) {
        wan.classic.baseline_initial = None;
    }
    configs
}

#[test]
fn the_same_configuration_changes_nothing_but_the_number_of_a_step() {
    for config in configs() {
        let mut bench = Bench::with_a_past(&config);
        let mut twin = Bench::with_a_past(&config);
        bench.reconfigure(&config, &config, true);
        assert_eq!(bench.controller.ticks(), twin.controller.ticks() + 1);
        for number in 0..300 {
            let mut tick = Tick::new(Instant::from_millis(50 * (1300 + number)));
            let (wan, reflector) = (WanId(0), ReflectorId(0));
            let rtt = RttNanos::from_micros(25_000 + number % 3 * 20_000);
            tick.push_sample(RttSample { wan, reflector, rtt, age_us: 0, upload_owd: None });
            let [mut is, mut should] = [Outputs::new(), Outputs::new()];
            bench.controller.step(&tick, &mut is);
            twin.controller.step(&tick, &mut should);
            if number == 0 {
                let told = is.events.iter().position(|event| *event == Event::Reconfigured);
                is.events.remove(told.unwrap());
            }
            assert_eq!(is, should, "step {number}");
        }
    }
}

#[test]
fn new_bounds_move_the_rates_and_nothing_is_learned_anew() {
    for config in configs() {
        let mut bench = Bench::with_a_past(&config);
        let before = bench.controller.snapshot().wans()[0];
        assert!(bench.wanted() > BitsPerSecond::from_mbps(300), "{}", bench.wanted().get());
        let mut lower = config.clone();
        let shaper = &mut lower.wans[0].shapers.download;
        shaper.ceiling = BitsPerSecond::from_mbps(300);
        for floor in [&mut shaper.floors.green, &mut shaper.floors.yellow] {
            *floor = BitsPerSecond::from_mbps(280);
        }
        bench.reconfigure(&config, &lower, true);
        assert_eq!(bench.wanted(), BitsPerSecond::from_mbps(300));
        let after = bench.controller.snapshot().wans()[0];
        assert_eq!((after.baseline, after.link), (before.baseline, before.link));
        assert_eq!(after.directions.upload.confirmed, before.directions.upload.confirmed);
        let outputs = bench.step(25_000);
        let writes: Vec<(WanId, Direction, BitsPerSecond)> = outputs
            .actions
            .iter()
            .filter_map(|action| match *action {
                Action::SetRate { wan, direction, rate, .. } => Some((wan, direction, rate)),
                _ => None,
            })
            .collect();
        let cut = (WanId(0), Direction::Download, BitsPerSecond::from_mbps(300));
        assert_eq!(writes, [cut], "only what has changed is written, and at once");
    }
}

#[test]
fn other_reflectors_keep_the_rates_and_forget_the_delays() {
    for config in configs() {
        let mut bench = Bench::with_a_past(&config);
        let (wanted, before) = (bench.wanted(), bench.controller.snapshot().wans()[0]);
        bench.reconfigure(&config, &config, false);
        assert_eq!(bench.wanted(), wanted);
        let after = bench.controller.snapshot().wans()[0];
        assert_eq!(after.link, before.link);
        // Reflectors that are farther away are no queue.
        for _ in 0..40 {
            bench.step(60_000);
        }
        assert!(bench.wanted() >= wanted, "{:?}", bench.controller.snapshot().wans()[0]);
    }
}

#[test]
fn another_number_of_wans_is_refused() {
    let (one, two) = (example::config(), example::two_wans());
    let mut controller = Controller::<4>::new(&two).unwrap();
    let before = Controller::new(&one).unwrap();
    let refused = controller.take_over(&before, (&one, &two), |_| true);
    assert_eq!(refused, Err(ConfigError::TooManyWans));
}

#[test]
fn a_replay_begins_again_with_the_state_behind_a_change() {
    let config = example::config();
    let mut bench = Bench::with_a_past(&config);
    bench.reconfigure(&config, &config, false);
    let mut buffer = vec![0; trace::MAX_STATE_BYTES];
    let frame = trace::encode_state(&bench.controller, &mut buffer).unwrap();
    let inner = frame.len() - 1;
    let payload = trace::open(&mut frame[1..inner]).unwrap();
    let Ok(trace::Record::State { body, .. }) = trace::parse(payload) else { panic!("no state") };
    let mut twin =
        Bench { controller: trace::decode_state(body).unwrap(), replies: bench.replies.clone() };
    for number in 0..100 {
        let rtt_us = 25_000 + number % 5 * 9_000;
        assert_eq!(bench.step(rtt_us), twin.step(rtt_us));
    }
}

#[test]
fn a_marked_incident_is_told_and_changes_nothing() {
    let config = example::config();
    let [mut plain, mut marked] = [Bench::new(&config), Bench::new(&config)];
    let mut outputs = [Outputs::new(), Outputs::new()];
    let mut tick = Tick::new(Instant::from_millis(50));
    plain.controller.step(&tick, &mut outputs[0]);
    tick.incident = Some(3);
    marked.controller.step(&tick, &mut outputs[1]);
    assert_eq!(outputs[1].events.remove(0), Event::IncidentMarked { number: 3 });
    assert_eq!(outputs[0], outputs[1]);
    tick.reset(Instant::from_millis(100));
    assert_eq!(tick.incident, None);
}
