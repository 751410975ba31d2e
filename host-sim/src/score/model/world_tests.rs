//! Tests of whole runs: coupling, the quiet path, outages, and who is blamed.

use super::*;
use crate::score::contender::{Contender, RateAsk};
use crate::score::metrics::Score;
use crate::score::model::router::Backend;
use crate::score::run::{self, Setup};
use crate::score::scenario::{CapacitySpec, Limits, LineSpec, PathSpec, Purpose};

const MBPS: u64 = 1_000_000;

fn line(rate: u64, flows: u32) -> LineSpec {
    LineSpec {
        capacity: CapacitySpec::Constant(rate * MBPS),
        fifo_bytes: 1_000_000,
        limits: Limits::new(MBPS, rate * 2 * MBPS),
        traffic: TrafficSpec { flows, ..TrafficSpec::default() },
        active: None,
    }
}

fn scenario(download: LineSpec, upload: LineSpec) -> Scenario {
    Scenario {
        name: "test".to_owned(),
        purpose: Purpose::Load,
        seconds: 20,
        warm_up_s: 5,
        lines: PerDirection { download, upload },
        path: PathSpec { base_rtt_us: 20_000, ..PathSpec::default() },
        phases: Vec::new(),
    }
}

/// Sets the rates it is given at the times it is given them, and keeps all RTTs.
#[derive(Default)]
struct Script {
    rates: Vec<(u64, Direction, u64)>,
    rtts_us: Vec<(u64, u64)>,
    losses: usize,
}

impl Contender for Script {
    fn step(&mut self, tick: &Tick, _: &Truth<'_>, asks: &mut Asks) {
        let now_us = tick.now.as_micros();
        asks.probes = 1;
        for &(_, direction, rate) in self.rates.iter().filter(|(at, ..)| *at == now_us / 1000) {
            *asks.rates.get_mut(direction) = Some(RateAsk { rate: rate * MBPS, id: None });
        }
        self.losses += tick.losses.len();
        for sample in &tick.samples {
            let arrived_us = now_us - u64::from(sample.age_us);
            self.rtts_us.push((arrived_us, sample.rtt.get() / 1000));
        }
    }
}

impl run::Watch for Vec<(u64, u64)> {
    fn look(&mut self, world: &World<'_>, _: &Tick, _: &dyn Contender) -> anyhow::Result<()> {
        self.push((
            world.line(Direction::Download).queue_us(),
            world.line(Direction::Upload).queue_us(),
        ));
        Ok(())
    }
}

fn drive(scenario: &Scenario, script: &mut Script, setup: &Setup) -> (Score, Vec<(u64, u64)>) {
    let capacity = run::capacities(scenario, 1);
    let mut queues = Vec::new();
    let score = run::drive(scenario, &capacity, script, setup, 1, Some(&mut queues)).unwrap();
    (score, queues)
}

#[test]
fn a_probe_sees_both_queues_whichever_direction_is_loaded() {
    let linux = Setup::of(Backend::Linux);
    for (down, up) in [(4, 0), (0, 4), (4, 4)] {
        let mut script = Script::default();
        let (_, queues) = drive(&scenario(line(40, down), line(10, up)), &mut script, &linux);
        let (_, rtt_us) = *script.rtts_us.last().unwrap();
        let (download, upload) = queues[queues.len() - 10];
        let expected = 20_000 + download + upload;
        // With both loaded the download's acknowledgements wait so long that it builds no queue.
        assert!(download > 30_000 || down == 0 || up > 0, "{download}");
        assert!(upload > 30_000 || up == 0, "{upload}");
        assert!(rtt_us.abs_diff(expected) < expected / 5, "{rtt_us} and {expected}");
    }
}

#[test]
fn an_idle_line_answers_after_its_base_rtt_quietly_or_not() {
    let linux = Setup::of(Backend::Linux);
    let mut quiet = scenario(line(40, 0), line(10, 0));
    quiet.path.jitter_us = 3_000;
    quiet.path.loss_ppm = 20_000;
    let mut busy = quiet.clone();
    // Traffic of more than half of the capacity keeps the steps running and makes no queue.
    busy.lines.upload.traffic.constant_bps = 6 * MBPS;
    let (mut a, mut b) = (Script::default(), Script::default());
    drive(&quiet, &mut a, &linux);
    drive(&busy, &mut b, &linux);
    assert!(a.rtts_us.len() > 350 && a.losses > 0);
    assert_eq!(a.losses, b.losses);
    // A packet of the traffic may be in the way for 0.6 ms.
    let differences = a.rtts_us.iter().zip(&b.rtts_us).map(|(a, b)| b.1 - a.1);
    assert!(differences.clone().all(|us| us <= 600) && differences.max() > Some(0));
    assert!(a.rtts_us.iter().all(|&(_, rtt)| rtt >= 20_000));
}

#[test]
fn a_line_without_any_capacity_is_an_outage_and_no_division_by_zero() {
    let mut dead = scenario(line(40, 4), line(10, 0));
    dead.lines.download.capacity = CapacitySpec::Constant(0);
    dead.lines.upload.capacity = CapacitySpec::Constant(0);
    for backend in [Backend::Linux, Backend::Routeros] {
        let (score, _) = drive(&dead, &mut Script::default(), &Setup::of(backend));
        assert_eq!(score.utilisation_ppm, None);
        assert_eq!((score.mean_us, score.p95_us), (0, 0));
        assert_eq!(score.outage_us, score.scored_us);
    }
}

#[test]
fn cuts_are_told_apart_by_who_was_congested() {
    let linux = Setup::of(Backend::Linux);
    // The download stands above its capacity from the start, the upload carries nothing.
    let loaded = scenario(line(40, 4), line(10, 0));
    let cut = |at, direction, rate| (at, direction, rate);
    let mut script = Script {
        rates: vec![
            cut(100, Direction::Upload, 15),
            cut(100, Direction::Download, 60),
            cut(8_000, Direction::Upload, 9),
            cut(8_500, Direction::Upload, 8),
            cut(9_000, Direction::Download, 30),
            cut(18_000, Direction::Download, 20),
            cut(19_000, Direction::Download, 25),
        ],
        ..Script::default()
    };
    let (score, _) = drive(&loaded, &mut script, &linux);
    assert_eq!(score.cuts, 4);
    assert_eq!(score.misblamed_cuts, 2, "the upload's while the download was congested");
    assert_eq!(score.innocent_cuts, 1, "the download's at 18 s");
    assert_eq!(score.writes, 5);
    assert_eq!(score.writes_max_second, 2);
}

#[test]
fn a_router_behind_rest_applies_later_than_one_on_the_same_machine() {
    let delay = |setup: &Setup| {
        let scenario = scenario(line(40, 0), line(10, 0));
        let capacity = run::capacities(&scenario, 1);
        let router = Router::new(setup.backend, setup.counter_interval_us, 1);
        let mut world = World::new(&scenario, &capacity, router, TICK_US, 1);
        let mut tick = Tick::new(Instant::from_ticks(0));
        let mut counters = 0;
        for index in 0..40 {
            world.observe(&mut tick);
            counters += tick.counters.len();
            if let Some(reply) = tick.replies.first() {
                return (reply.took_us, counters);
            }
            let mut asks = Asks::default();
            if index == 20 {
                asks.rates.download = Some(RateAsk { rate: 30 * MBPS, id: None });
            }
            world.obey(&asks);
            world.advance();
        }
        (0, counters)
    };
    let (linux, all) = delay(&Setup::of(Backend::Linux));
    let (routeros, few) = delay(&Setup::of(Backend::Routeros));
    assert!(linux < 5_000, "{linux}");
    assert!((6_000..300_000).contains(&routeros), "{routeros}");
    assert!(all > 40 && few > 4 && few < 20, "{all} and {few} readings");
}
