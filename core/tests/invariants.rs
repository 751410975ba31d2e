//! What always holds, whatever the ticks say.

mod common;

use std::collections::VecDeque;

use embassy_time::{Duration, Instant};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use wanctl_core::command::COMMAND_TIMEOUT;
use wanctl_core::config::{Config, LawConfig, Quirks, ShaperConfig, WanConfig, WriteBudgetConfig};
use wanctl_core::controller::Controller;
use wanctl_core::fixed::{MicrosQ32, ticks_covering};
use wanctl_core::outputs::{Event, Outputs};
use wanctl_core::snapshot::{Snapshot, TickResult, WanSnapshot};
use wanctl_core::tick::{
    CheckKind, ConnectivityReport, CounterReading, LinkFact, MAX_LOSSES, MAX_SAMPLES, OperState,
    Outcome, ProbeLoss, Reply, RttSample, Tick,
};
use wanctl_core::units::{
    BitsPerSecond, CommandId, Direction, PerDirection, ReflectorId, RttNanos, WanId,
};
use wanctl_core::zone::Zone;

use self::common::random::{self, Random};
use self::common::{SetRate, set_rates};

/// Makes ticks that no honest shell would send.
#[derive(Debug)]
struct HostileShell {
    random: Random,
    now: Instant,
    interval: Duration,
    level_us: u64,
    unanswered: VecDeque<SetRate>,
}

impl HostileShell {
    fn new(random: Random, interval: Duration) -> Self {
        let now = Instant::from_ticks(0);
        Self { random, now, interval, level_us: 25_000, unanswered: VecDeque::new() }
    }

    /// Fills the next tick.
    fn fill(&mut self, tick: &mut Tick) {
        self.pass_time();
        tick.reset(self.now);
        match self.random.range(0, 99) {
            0..=69 => self.push_samples(tick, 4),
            70..=84 => self.push_losses(tick, 4),
            85..=94 => {}
            95..=97 => {
                self.push_samples(tick, MAX_SAMPLES as u64 + 4);
                self.push_losses(tick, MAX_LOSSES as u64 + 4);
            }
            _ => tick.inputs_dropped = u16::MAX,
        }
        for _ in 0..self.random.range(0, 5) {
            let connected = !self.random.once_in(3);
            let wan = self.wan();
            let kind = self.random.pick(&[CheckKind::Gateway, CheckKind::Tcp]);
            tick.push_connectivity(ConnectivityReport { wan, kind, connected });
        }
        self.push_facts(tick);
        self.push_replies(tick);
    }

    fn push_facts(&mut self, tick: &mut Tick) {
        if self.random.once_in(200) {
            let states = [OperState::Unknown, OperState::Up, OperState::Up, OperState::Down];
            let oper_state = self.random.pick(&states);
            let (wan, address_changed) = (self.wan(), self.random.once_in(3));
            tick.push_link(LinkFact { wan, oper_state, address_changed });
        }
        while self.random.once_in(4) {
            let (wan, direction) = (self.wan(), self.random.pick(&Direction::BOTH));
            let [delivered_bytes, rest] =
                [(); 2].map(|()| self.random.bits() >> self.random.range(0, 63));
            let low = u32::try_from(rest & 0xffff_ffff).expect("32 bits");
            tick.push_counters(CounterReading {
                wan,
                direction,
                delivered_bytes,
                dropped_packets: low,
                backlog_bytes: low,
                backlog_packets: low,
                age_us: low,
            });
        }
    }

    fn pass_time(&mut self) {
        let random = &mut self.random;
        let ticks = match random.range(0, 999) {
            0..=5 => self.now.as_ticks().saturating_sub(random.range(0, 5_000_000)),
            6..=20 => self.now.as_ticks() + random.range(0, 90_000_000),
            21..=40 => self.now.as_ticks(),
            _ => self.now.as_ticks() + self.interval.as_ticks(),
        };
        self.now = Instant::from_ticks(ticks);
    }

    fn wan(&mut self) -> WanId {
        WanId(self.random.pick(&[0, 0, 0, 1, 2, 3, 4, 255]))
    }

    fn reflector(&mut self) -> ReflectorId {
        ReflectorId(self.random.pick(&[0, 0, 0, 1, 1, 2, 3, 255]))
    }

    fn push_samples(&mut self, tick: &mut Tick, most: u64) {
        for _ in 0..self.random.range(1, most) {
            let (wan, reflector) = (self.wan(), self.reflector());
            if self.random.once_in(30) {
                self.level_us = self.random.range(5000, 150_000);
            }
            let nanos = match self.random.range(0, 199) {
                0 => 0,
                1 => u64::MAX,
                2 => self.random.bits() >> self.random.range(0, 63),
                _ => self.level_us * 1000 + self.random.range(0, 2_000_000),
            };
            let age_us = match self.random.range(0, 49) {
                0 => u32::MAX,
                1 => 500_001,
                _ => 500_000,
            };
            tick.push_sample(RttSample { wan, reflector, rtt: RttNanos::new(nanos), age_us });
        }
    }

    fn push_losses(&mut self, tick: &mut Tick, most: u64) {
        for _ in 0..self.random.range(1, most) {
            let (wan, reflector) = (self.wan(), self.reflector());
            tick.push_loss(ProbeLoss { wan, reflector });
        }
    }

    fn push_replies(&mut self, tick: &mut Tick) {
        while let Some(set) = self.unanswered.front().copied() {
            if self.random.once_in(3) {
                break;
            }
            let rate = BitsPerSecond::new(self.random.bits());
            let outcome = match self.random.range(0, 19) {
                0..=3 => Outcome::Failed,
                4 => Outcome::Superseded,
                5 => Outcome::Applied(rate),
                _ => Outcome::Applied(set.rate),
            };
            let SetRate { id, wan, direction, .. } = set;
            let reply = Reply { wan, direction, id, outcome, took_us: u32::MAX };
            tick.push_reply(reply);
            // Some answers come twice, some never.
            if !self.random.once_in(5) {
                self.unanswered.pop_front();
            }
        }
        if self.random.once_in(10) {
            let id = CommandId(u32::try_from(self.random.range(0, 1000)).expect("small"));
            let direction = self.random.pick(&Direction::BOTH);
            let wan = self.wan();
            tick.push_reply(Reply { wan, direction, id, outcome: Outcome::Failed, took_us: 0 });
        }
    }

    fn take_commands(&mut self, out: &Outputs) {
        for set in set_rates(out) {
            if !self.random.once_in(20) {
                self.unanswered.push_back(set);
            }
        }
        self.unanswered.truncate(20);
    }
}

/// What is known from outside about one direction's commands.
#[derive(Debug, Clone, Copy, Default)]
struct Commanded {
    rate: Option<BitsPerSecond>,
    confirmed: Option<BitsPerSecond>,
    /// The highest rate the router may hold while `rate` is unknown.
    highest: Option<BitsPerSecond>,
    in_flight: Option<(CommandId, BitsPerSecond, Instant)>,
}

impl Commanded {
    fn take(&mut self, reply: &Reply) {
        if let Outcome::Applied(rate) = reply.outcome {
            self.confirmed = Some(rate);
        }
        let Some((_, rate, _)) = self.in_flight.take_if(|(id, ..)| *id == reply.id) else { return };
        match reply.outcome {
            Outcome::Applied(_) => self.highest = None,
            Outcome::Failed | Outcome::Superseded => self.lose(rate),
        }
    }

    fn expire(&mut self, now: Instant) {
        let expired = |(_, _, since): &mut (_, _, Instant)| now - *since >= COMMAND_TIMEOUT;
        if let Some((_, rate, _)) = self.in_flight.take_if(expired) {
            self.lose(rate);
        }
    }

    fn lose(&mut self, rate: BitsPerSecond) {
        self.rate = None;
        self.highest = self.highest.max(self.confirmed.map(|confirmed| confirmed.max(rate)));
    }

    fn may_be_lowered_by(&self, wanted: BitsPerSecond) -> bool {
        self.rate.or(self.highest).is_none_or(|held| wanted < held)
    }
}

/// Everything one step showed about one WAN.
struct Step<'a> {
    tick: &'a Tick,
    before: &'a WanSnapshot,
    after: &'a WanSnapshot,
    out: &'a Outputs,
    now: Instant,
    id: WanId,
}

/// Watches one WAN and checks each step.
#[derive(Debug)]
struct Watch {
    config: WanConfig,
    green_ticks: u32,
    commanded: PerDirection<Commanded>,
    written: Vec<Instant>,
}

impl Watch {
    fn new(config: &Config, wan: &WanConfig) -> Self {
        let green_ticks = ticks_covering(wan.classic.green_hold, config.tick);
        let commanded = PerDirection::default();
        Self { config: *wan, green_ticks, commanded, written: Vec::new() }
    }

    fn has_quirks(&self) -> bool {
        self.config.classic.quirks == Quirks::REFERENCE
    }

    fn budget(&self) -> Option<WriteBudgetConfig> {
        match self.config.law {
            LawConfig::Adaptive(adaptive) => adaptive.write_budget,
            LawConfig::Classic => None,
        }
    }

    fn shaper(&self, direction: Direction) -> &ShaperConfig {
        match direction {
            Direction::Download => &self.config.shapers.download,
            Direction::Upload => &self.config.shapers.upload,
        }
    }

    fn check(&mut self, step: &Step<'_>) -> TestCaseResult {
        for reply in step.tick.replies.iter().filter(|reply| reply.wan == step.id) {
            self.commanded.get_mut(reply.direction).take(reply);
        }
        for direction in Direction::BOTH {
            self.commanded.get_mut(direction).expire(step.now);
        }
        let commands = set_rates(step.out);
        for set in commands.iter().filter(|set| set.wan == step.id) {
            self.check_command(step, set)?;
        }
        let count = commands.iter().filter(|set| set.wan == step.id).count();
        if let Some(budget) = self.budget() {
            // Every command is a write of its own.
            self.written.extend(std::iter::repeat_n(step.now, count));
            self.check_budget(step.now, budget)?;
        } else if count > 0 {
            self.written.push(step.now);
        }
        for direction in Direction::BOTH {
            self.check_wanted(step, direction)?;
        }
        self.check_baseline(step)
    }

    fn check_command(&mut self, step: &Step<'_>, set: &SetRate) -> TestCaseResult {
        let shaper = self.shaper(set.direction);
        prop_assert!(shaper.floors.red <= set.rate && set.rate <= shaper.ceiling, "{set:?}");
        let commanded = *self.commanded.get(set.direction);
        prop_assert_ne!(commanded.rate, Some(set.rate), "written twice");
        prop_assert_eq!(set.is_cut, commanded.may_be_lowered_by(set.rate));
        if !set.is_cut && !self.has_quirks() {
            prop_assert!(commanded.in_flight.is_none(), "a raise overtook an answer");
            self.check_raise(step)?;
        }
        let in_flight = Some((set.id, set.rate, step.now));
        let rate = Some(set.rate);
        *self.commanded.get_mut(set.direction) = Commanded { rate, in_flight, ..commanded };
        Ok(())
    }

    fn check_budget(&self, now: Instant, budget: WriteBudgetConfig) -> TestCaseResult {
        let within = |window| {
            let is_recent = |at: &&Instant| now - **at < Duration::from_secs(window);
            self.written.iter().filter(is_recent).count()
        };
        prop_assert!(within(60) <= usize::from(budget.per_minute), "{} in a minute", within(60));
        prop_assert!(within(1) <= usize::from(budget.per_second), "{} in a second", within(1));
        Ok(())
    }

    fn check_raise(&self, step: &Step<'_>) -> TestCaseResult {
        let limit = self.config.classic.write_limit;
        let spacing = limit.window / u32::from(limit.writes);
        if let (None, Some(&last)) = (self.budget(), self.written.last()) {
            prop_assert!(step.now - last >= spacing, "raised {:?} after a write", step.now - last);
        }
        let is_blind = matches!(step.after.result, TickResult::Frozen | TickResult::Failed);
        prop_assert!(!is_blind, "raised while blind");
        Ok(())
    }

    fn check_wanted(&self, step: &Step<'_>, direction: Direction) -> TestCaseResult {
        let shaper = self.shaper(direction);
        let before = step.before.directions.get(direction);
        let after = step.after.directions.get(direction);
        prop_assert!(shaper.floors.red <= after.wanted && after.wanted <= shaper.ceiling);
        prop_assert_eq!(after.commanded, self.commanded.get(direction).rate);
        if self.has_quirks() || self.budget().is_some() {
            return Ok(());
        }
        if after.wanted < before.wanted && step.after.result == TickResult::Controlled {
            let waits = self.commanded.get(direction).may_be_lowered_by(after.wanted);
            prop_assert!(!waits, "a cut waits");
        }
        if let Some(commanded) = after.commanded {
            prop_assert!(commanded <= after.wanted, "the router is told more than wanted");
        }
        if after.wanted > before.wanted {
            prop_assert_eq!(after.zone, Zone::Green);
            prop_assert!(after.streaks.green >= self.green_ticks, "raised before the hold");
            prop_assert!(after.wanted <= before.wanted.saturating_add(shaper.step_up));
        } else if after.zone != Zone::Green && step.after.result == TickResult::Controlled {
            let pending = after.commanded.is_some_and(|commanded| commanded < after.wanted);
            prop_assert!(!pending, "a raise is pending in trouble");
        }
        Ok(())
    }

    fn check_baseline(&self, step: &Step<'_>) -> TestCaseResult {
        if self.budget().is_some() {
            return Ok(());
        }
        let classic = &self.config.classic;
        let (before, after) = (step.before.baseline, step.after.baseline);
        let is_seeded = classic.baseline_initial.is_some() || step.before.latest_rtt_us.is_some();
        // A lost link forgets its baseline; the next sample starts another one.
        let is_forgotten = before == MicrosQ32::ZERO || after == MicrosQ32::ZERO;
        if !is_seeded || is_forgotten || before == after {
            return Ok(());
        }
        let bounds = MicrosQ32::from(classic.baseline_min)..=classic.baseline_max.into();
        prop_assert!(bounds.contains(&after), "the baseline left its bounds");
        let delay = step.after.load.saturating_sub(before);
        let is_frozen = delay >= MicrosQ32::from(classic.baseline_freeze_delay);
        let was_reanchored = step.out.events.iter().any(|event| {
            matches!(event, Event::BaselineReanchored { wan, from, to }
                if *wan == step.id && *from == before && *to == after)
        });
        prop_assert!(!is_frozen || was_reanchored, "a frozen baseline moved");
        prop_assert!(!was_reanchored || !self.has_quirks());
        Ok(())
    }
}

/// Runs two controllers on the same hostile ticks and checks every step.
fn run_hostile(seed: u64, ticks: usize, quirks: Quirks) -> TestCaseResult {
    let mut random = Random::new(seed);
    let wan_count = random.pick(&[1, 1, 2, 3, 4]);
    let config = random::config(&mut random, wan_count, quirks);
    let mut controller = Controller::<4>::new(&config).expect("the configuration is valid");
    let mut twin = Controller::<4>::new(&config).expect("the configuration is valid");
    let mut watches: Vec<Watch> = config.wans.iter().map(|wan| Watch::new(&config, wan)).collect();
    let mut shell = HostileShell::new(random, config.tick);
    let (mut out, mut twin_out) = (Outputs::new(), Outputs::new());
    let mut tick = Tick::new(Instant::from_ticks(0));
    let mut before = controller.snapshot();
    for _ in 0..ticks {
        shell.fill(&mut tick);
        controller.step(&tick, &mut out);
        twin.step(&tick, &mut twin_out);
        prop_assert_eq!(&out, &twin_out);
        let after = controller.snapshot();
        prop_assert_eq!(after, twin.snapshot());
        prop_assert_eq!(out.outputs_dropped, 0, "no list of inputs can overfill the outputs");
        check_wans(&tick, (&before, &after), &out, &mut watches)?;
        shell.take_commands(&out);
        before = after;
    }
    Ok(())
}

fn check_wans(
    tick: &Tick,
    (before, after): (&Snapshot, &Snapshot),
    out: &Outputs,
    watches: &mut [Watch],
) -> TestCaseResult {
    let now = after.now.expect("a tick has passed");
    prop_assert!(before.now.is_none_or(|earlier| earlier <= now), "time went back inside");
    for (index, watch) in watches.iter_mut().enumerate() {
        let id = WanId(u8::try_from(index).expect("at most four"));
        let (before, after) = (&before.wans()[index], &after.wans()[index]);
        watch.check(&Step { tick, before, after, out, now, id })?;
    }
    Ok(())
}

/// Four WANs, every probe answered or lost, every command answered: at most as many inputs as the
/// core's own actions can bring. Returns how much did not fit into the outputs.
fn run_busy(seed: u64, ticks: usize, quirks: Quirks) -> u64 {
    let mut random = Random::new(seed);
    let mut config = random::config(&mut random, 4, quirks);
    config.wans.iter_mut().for_each(|wan| wan.reflectors = 3);
    let mut controller = Controller::<4>::new(&config).expect("the configuration is valid");
    let mut out = Outputs::new();
    let mut tick = Tick::new(Instant::from_ticks(0));
    for _ in 0..ticks {
        let pause = if random.once_in(10) { 3 } else { 1 };
        tick.reset(tick.now + config.tick * pause);
        tick.inputs_dropped = u16::from(random.once_in(10));
        for set in set_rates(&out) {
            let outcome =
                if random.once_in(3) { Outcome::Failed } else { Outcome::Applied(set.rate) };
            let SetRate { id, wan, direction, .. } = set;
            tick.push_reply(Reply { wan, direction, id, outcome, took_us: 0 });
        }
        // All WANs change together, so that all have something to tell in the same tick.
        let is_lost = random.once_in(4);
        let rtt = RttNanos::from_micros(random.pick(&[0, 20_000, 60_000, 200_000]));
        for wan in (0..4).map(WanId) {
            for reflector in (0..3).map(ReflectorId) {
                if is_lost {
                    tick.push_loss(ProbeLoss { wan, reflector });
                } else {
                    tick.push_sample(RttSample { wan, reflector, rtt, age_us: 0 });
                }
            }
            tick.push_connectivity(ConnectivityReport {
                wan,
                kind: CheckKind::Tcp,
                connected: random.once_in(2),
            });
        }
        controller.step(&tick, &mut out);
    }
    controller.snapshot().outputs_dropped
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn nothing_shakes_the_invariants(
        seed in any::<u64>().no_shrink(),
        ticks in 1..600_usize,
    ) {
        run_hostile(seed, ticks, Quirks::default())?;
    }

    #[test]
    fn nothing_shakes_the_invariants_of_the_reference(
        seed in any::<u64>().no_shrink(),
        ticks in 1..600_usize,
    ) {
        run_hostile(seed, ticks, Quirks::REFERENCE)?;
    }

    #[test]
    fn four_busy_wans_have_room_for_all_they_have_to_say(
        seed in any::<u64>().no_shrink(),
        ticks in 1..300_usize,
        with_quirks in any::<bool>(),
    ) {
        let quirks = if with_quirks { Quirks::REFERENCE } else { Quirks::default() };
        prop_assert_eq!(run_busy(seed, ticks, quirks), 0);
    }
}

#[test]
fn the_end_of_time_is_not_the_end_of_the_controller() {
    let mut random = Random::new(7);
    let config = random::config(&mut random, 1, Quirks::default());
    let mut controller = Controller::<1>::new(&config).expect("the configuration is valid");
    let (mut tick, mut out) = (Tick::new(Instant::from_ticks(0)), Outputs::new());
    for now in [0, u64::MAX, 5, u64::MAX - 1, u64::MAX] {
        for rtt_ms in [25, 900] {
            tick.reset(Instant::from_ticks(now));
            let (wan, reflector) = (WanId(0), ReflectorId(0));
            let rtt = RttNanos::from_micros(rtt_ms * 1000);
            tick.push_sample(RttSample { wan, reflector, rtt, age_us: 0 });
            controller.step(&tick, &mut out);
        }
    }
    assert_eq!(controller.snapshot().now, Some(Instant::MAX));
}
