//! The life of a link, one story per test.

use std::vec::Vec;

use super::*;
use crate::fixed::MicrosQ32;

const TICK_MS: u64 = 50;

fn limit(delay_ms: u64, loss_percent: u64) -> LinkQuality {
    LinkQuality {
        delay: MicrosQ32::from_micros(delay_ms * 1000),
        loss: PpmQ32::from_ppm(loss_percent * 10_000),
        jitter: MicrosQ32::MAX,
        throughput_deviation: PpmQ32::from_ppm(2_000_000_000),
    }
}

fn config() -> LinkConfig {
    let seconds = Duration::from_secs;
    LinkConfig {
        limits: QualityLimits { good: limit(15, 2), bad: limit(60, 10) },
        answers: 5,
        warm_up: seconds(2),
        degrade_after: seconds(3),
        improve_after: seconds(5),
        cooldown: seconds(4),
        outage_after: seconds(2),
        reset_pause: seconds(1),
        ramp_start: PpmQ32::from_ppm(500_000),
        ramp: seconds(10),
    }
}

/// A link with its own clock.
struct Story {
    link: Link,
    now_ms: u64,
    edges: Vec<(u64, LinkEdge)>,
}

impl Story {
    fn new() -> Self {
        Self {
            link: Link::new(config(), Duration::from_millis(TICK_MS)),
            now_ms: 0,
            edges: Vec::new(),
        }
    }

    fn step(&mut self, inputs: LinkInputs) {
        self.now_ms += TICK_MS;
        let change = self.link.step(Instant::from_millis(self.now_ms), &inputs);
        self.edges.extend(change.map(|change| (self.now_ms, change.edge)));
    }

    fn run(&mut self, seconds: u64, inputs: LinkInputs) -> LinkState {
        (0..seconds * 1000 / TICK_MS).for_each(|_| self.step(inputs));
        self.link.state()
    }

    fn live(&mut self) {
        assert_eq!(self.run(12, good()), LinkState::Live);
        self.edges.clear();
    }

    fn edges(&self) -> Vec<LinkEdge> {
        self.edges.iter().map(|(_, edge)| *edge).collect()
    }
}

fn good() -> LinkInputs {
    LinkInputs { answered: true, quality: limit(5, 0), ..LinkInputs::default() }
}

fn bad() -> LinkInputs {
    LinkInputs { answered: true, quality: limit(90, 0), ..LinkInputs::default() }
}

fn silent() -> LinkInputs {
    LinkInputs::default()
}

#[test]
fn a_good_link_goes_live_in_the_time_of_answers_and_warm_up() {
    let mut story = Story::new();
    assert_eq!(story.run(5, good()), LinkState::Live);
    // Found at once, five answers later heard, two seconds later live.
    assert_eq!(
        story.edges,
        [(50, LinkEdge::Found), (300, LinkEdge::Heard), (2300, LinkEdge::WentLive)]
    );
}

#[test]
fn a_short_bad_time_does_not_degrade_and_a_long_one_does() {
    let mut story = Story::new();
    story.live();
    assert_eq!(story.run(2, bad()), LinkState::Live);
    story.run(1, good());
    assert_eq!(story.run(2, bad()), LinkState::Live);
    assert_eq!(story.run(2, bad()), LinkState::Degrade);
    assert_eq!(story.edges(), [LinkEdge::Degraded]);
}

#[test]
fn recovery_takes_good_time_and_then_a_cooldown() {
    let mut story = Story::new();
    story.live();
    story.run(4, bad());
    story.edges.clear();
    let began = story.now_ms;
    assert_eq!(story.run(12, good()), LinkState::Live);
    let times: Vec<_> = story.edges.iter().map(|(at, edge)| (at - began, *edge)).collect();
    assert_eq!(times, [(5050, LinkEdge::Improved), (9050, LinkEdge::Settled)]);
}

#[test]
fn a_bad_moment_in_the_cooldown_is_a_relapse() {
    let mut story = Story::new();
    story.live();
    story.run(4, bad());
    assert_eq!(story.run(6, good()), LinkState::Cooldown);
    story.run(1, bad());
    assert_eq!(story.link.state(), LinkState::Degrade);
    assert_eq!(story.edges(), [LinkEdge::Degraded, LinkEdge::Improved, LinkEdge::Relapsed]);
}

#[test]
fn between_the_limits_nothing_changes() {
    let between = LinkInputs { quality: limit(30, 5), ..good() };
    let mut story = Story::new();
    story.live();
    assert_eq!(story.run(60, between), LinkState::Live);
    story.run(4, bad());
    assert_eq!(story.run(60, between), LinkState::Degrade);
}

#[test]
fn silence_is_an_outage_and_never_a_degradation() {
    let mut story = Story::new();
    story.live();
    story.run(3, silent());
    assert_eq!(story.edges()[0], LinkEdge::Outage);
    story.run(5, silent());
    assert_eq!(story.link.state(), LinkState::Probe);
    assert!(!story.edges().contains(&LinkEdge::Degraded));
}

#[test]
fn bad_times_do_not_count_towards_an_outage_nor_silence_towards_degradation() {
    let mut story = Story::new();
    story.live();
    // Two and a half bad seconds, one and a half silent ones, again and again.
    for _ in 0..3 {
        for _ in 0..5 {
            story.run(1, bad());
            story.run(1, good());
        }
        story.run(1, silent());
    }
    assert_eq!(story.edges(), []);
}

#[test]
fn silence_within_a_bad_time_does_not_make_it_longer() {
    let mut story = Story::new();
    story.live();
    // Each gap is shorter than an outage; together with the bad times around it, it would degrade.
    story.run(1, bad());
    for _ in 0..30 {
        story.step(silent());
    }
    assert_eq!(story.run(1, bad()), LinkState::Live);
    assert_eq!(story.run(2, bad()), LinkState::Degrade);
}

#[test]
fn silence_neither_improves_nor_settles_a_line() {
    let mut story = Story::new();
    story.live();
    story.run(4, bad());
    // 4.8 s of good answers are not 5 s, whatever follows them.
    for _ in 0..96 {
        story.step(good());
    }
    for _ in 0..38 {
        story.step(silent());
    }
    assert_eq!(story.link.state(), LinkState::Degrade);
    assert_eq!(story.run(1, good()), LinkState::Cooldown);
    for _ in 0..3 {
        story.run(1, good());
        for _ in 0..38 {
            story.step(silent());
        }
    }
    assert_eq!(story.link.state(), LinkState::Cooldown, "good for less than 4 s");
    assert_eq!(story.run(2, good()), LinkState::Live);
}

#[test]
fn answers_that_come_in_every_other_tick_are_no_silence() {
    let mut story = Story::new();
    story.live();
    for _ in 0..40 {
        story.step(bad());
        story.step(silent());
    }
    assert_eq!(story.link.state(), LinkState::Degrade, "bad for 3 s of 4");
}

#[test]
fn a_link_is_heard_after_as_long_a_time_at_every_tick() {
    for (tick_ms, heard_ms) in [(10, 250), (25, 250), (50, 250), (125, 250), (1000, 1000)] {
        let mut link = Link::new(config(), Duration::from_millis(tick_ms));
        let mut now_ms = 0;
        // Found in the first tick.
        link.step(Instant::from_millis(now_ms), &silent());
        while link.state() == LinkState::Probe {
            now_ms += tick_ms;
            link.step(Instant::from_millis(now_ms), &good());
        }
        assert_eq!((link.state(), now_ms), (LinkState::Warm, heard_ms), "{tick_ms} ms");
    }
}

#[test]
fn a_link_that_goes_down_waits_in_init_and_comes_back() {
    let down = LinkInputs { oper_state: OperState::Down, ..silent() };
    let mut story = Story::new();
    story.live();
    assert_eq!(story.run(10, down), LinkState::Init);
    assert_eq!(story.edges(), [LinkEdge::LinkDown, LinkEdge::BeganAgain]);
    assert_eq!(story.run(5, good()), LinkState::Live);
}

#[test]
fn a_new_address_resets_at_once() {
    let mut story = Story::new();
    story.live();
    let changed = LinkInputs { address_changed: true, ..good() };
    story.link.step(Instant::from_millis(story.now_ms + 50), &changed);
    assert_eq!(story.link.state(), LinkState::Reset);
}

#[test]
fn after_a_loss_the_cap_rises_from_its_start_to_the_ceiling() {
    let mut story = Story::new();
    let cap = |story: &Story| {
        let cap = story.link.cap(Instant::from_millis(story.now_ms));
        cap.map(PpmQ32::as_ppm_rounded)
    };
    story.live();
    assert_eq!(cap(&story), None);
    story.run(4, silent()); // PROBE again
    assert_eq!(cap(&story), Some(500_000));
    story.run(1, good()); // WARM since 750 ms
    assert_eq!(story.edges().last(), Some(&LinkEdge::Heard));
    assert_eq!(cap(&story), Some(500_000 + 500_000 * 750 / 10_000));
    story.run(5, good());
    assert_eq!(cap(&story), Some(500_000 + 500_000 * 5_750 / 10_000));
    story.run(6, good());
    assert_eq!(cap(&story), None);
}
