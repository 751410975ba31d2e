//! What always holds, whatever the ticks say.

mod common;

use std::collections::VecDeque;
use std::mem::discriminant;

use embassy_time::{Duration, Instant};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use wanctl_core::config::{
    Config, LawConfig, Quirks, ShaperConfig, WanConfig, WriteBudgetConfig, WriteLimit,
};
use wanctl_core::controller::Controller;
use wanctl_core::fixed::{MicrosQ32, ticks_covering};
use wanctl_core::link::LinkState;
use wanctl_core::outputs::{Event, Outputs};
use wanctl_core::snapshot::{Snapshot, TickResult, WanSnapshot};
use wanctl_core::tick::{
    CheckKind, ConnectivityReport, MAX_WANS, Outcome, ProbeLoss, Reply, RttSample, Tick,
};
use wanctl_core::units::{
    CommandId, Direction, PerDirection, Permille, ReflectorId, RttNanos, WanId,
};
use wanctl_core::zone::Zone;

use self::common::dialogue::{Commanded, End, Tokens};
use self::common::hostile::HostileShell;
use self::common::random::{self, Random};
use self::common::steering_watch::{SteeringWatch, is_of_steering};
use self::common::{SetRate, set_rates};

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
    tick: Duration,
    green_ticks: u32,
    commanded: PerDirection<Commanded>,
    /// Of the latest window, the last one always.
    written: VecDeque<Instant>,
    tokens: Tokens,
    has_decided: bool,
    next_id: CommandId,
}

impl Watch {
    fn new(config: &Config, wan: &WanConfig) -> Self {
        let green_ticks = ticks_covering(wan.classic.green_hold, config.tick);
        let commanded = PerDirection::default();
        let tokens = Tokens::new(wan.classic.write_limit);
        let (written, next_id) = (VecDeque::new(), CommandId(0));
        Self {
            config: *wan,
            tick: config.tick,
            green_ticks,
            commanded,
            written,
            tokens,
            has_decided: false,
            next_id,
        }
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
        self.has_decided |= step.after.result == TickResult::Controlled;
        self.tokens.pass_time(step.now);
        self.check_ends(step)?;
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
            self.count_write(step.now)?;
        }
        for direction in Direction::BOTH {
            self.check_wanted(step, direction)?;
            self.check_cut(step, direction)?;
        }
        self.check_baseline(step)
    }

    /// Every command ends, and each end is told once.
    fn check_ends(&mut self, step: &Step<'_>) -> TestCaseResult {
        let mut ends = Vec::new();
        for reply in step.tick.replies.iter().filter(|reply| reply.wan == step.id) {
            ends.extend(self.commanded.get_mut(reply.direction).take(reply));
        }
        for direction in Direction::BOTH {
            ends.extend(self.commanded.get_mut(direction).expire(direction, step.now));
        }
        let events = step.out.events.iter();
        let told: Vec<End> = events.filter_map(|event| End::told_by(event, step.id)).collect();
        prop_assert_eq!(told, ends);
        Ok(())
    }

    /// Both directions of a tick are one write.
    fn count_write(&mut self, now: Instant) -> TestCaseResult {
        let WriteLimit { writes, window } = self.config.classic.write_limit;
        self.tokens.take_one();
        self.written.push_back(now);
        while self.written.front().is_some_and(|&at| now - at > window) {
            self.written.pop_front();
        }
        let is_full = self.written.len() > usize::from(writes);
        prop_assert!(!self.has_quirks() || !is_full, "more writes than the window allows");
        Ok(())
    }

    /// What lowers, or may lower, the router's rate is on its way before the tick is over.
    fn check_cut(&self, step: &Step<'_>, direction: Direction) -> TestCaseResult {
        // The adaptive law's budget holds for cuts as well.
        if self.has_decided && !self.has_quirks() && self.budget().is_none() {
            let wanted = step.after.directions.get(direction).wanted;
            let waits = self.commanded.get(direction).may_be_lowered_by(wanted);
            prop_assert!(!waits, "a cut waits");
        }
        Ok(())
    }

    fn check_command(&mut self, step: &Step<'_>, set: &SetRate) -> TestCaseResult {
        let shaper = self.shaper(set.direction);
        prop_assert!(shaper.floors.red <= set.rate && set.rate <= shaper.ceiling, "{set:?}");
        let commanded = *self.commanded.get(set.direction);
        prop_assert_ne!(commanded.rate, Some(set.rate), "written twice");
        prop_assert!(set.id >= self.next_id, "an identifier came twice");
        self.next_id = CommandId(set.id.0 + 1);
        prop_assert_eq!(set.is_cut, commanded.may_be_lowered_by(set.rate));
        if !set.is_cut && !self.has_quirks() {
            prop_assert!(commanded.in_flight.is_none(), "a raise overtook an answer");
            self.check_raise(step)?;
        }
        let commanded = self.commanded.get_mut(set.direction);
        commanded.in_flight = Some((set.id, set.rate, step.now));
        commanded.rate = Some(set.rate);
        Ok(())
    }

    fn check_budget(&mut self, now: Instant, budget: WriteBudgetConfig) -> TestCaseResult {
        while self.written.front().is_some_and(|&at| now - at >= Duration::from_secs(60)) {
            self.written.pop_front();
        }
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
        if self.budget().is_some() {
            return self.check_not_blind(step);
        }
        if let Some(&last) = self.written.back() {
            prop_assert!(step.now - last >= spacing, "raised {:?} after a write", step.now - last);
        }
        prop_assert!(self.tokens.can_raise(), "raised beyond the budget");
        self.check_not_blind(step)
    }

    fn check_not_blind(&self, step: &Step<'_>) -> TestCaseResult {
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
        if let Some(commanded) = after.commanded {
            prop_assert!(commanded <= after.wanted, "the router is told more than wanted");
        }
        if after.wanted > before.wanted {
            prop_assert_eq!(after.zone, Zone::Green);
            prop_assert!(after.streaks.green >= self.green_ticks, "raised before the hold");
            // Its share of the step, to the nearest bit.
            let step = u128::from(shaper.step_up.get()) * u128::from(self.tick.as_micros());
            let most = u64::try_from(step.div_ceil(50_000)).unwrap_or(u64::MAX);
            prop_assert!(after.wanted.get() - before.wanted.get() <= most);
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
        // Another host in the place of the only reflector is another path.
        let is_other_path = self.config.reflectors == 1
            && step.tick.replaced.iter().any(|replaced| replaced.wan == step.id);
        if is_other_path || !is_seeded || before == MicrosQ32::ZERO || before == after {
            return Ok(());
        }
        // A lost link forgets its baseline; the next sample starts another one.
        if after == MicrosQ32::ZERO {
            let was_lost = step.out.events.iter().any(|event| {
                matches!(event, Event::LinkChanged { wan, to: LinkState::Reset, .. }
                    if *wan == step.id)
            });
            prop_assert!(was_lost, "a baseline was forgotten");
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

/// Ticks between two looks at the histories, and before the end of a run at which time ends.
const HISTORY_TICKS: usize = 1000;

/// Two controllers on the same hostile ticks, and everybody who watches them.
struct Trial {
    controller: Box<Controller<4>>,
    twin: Box<Controller<4>>,
    config: Config,
    watches: Vec<Watch>,
    steering: SteeringWatch,
    shell: HostileShell,
    /// One of each kind that was told.
    events: Vec<Event>,
}

impl Trial {
    fn new(mut random: Random, wan_count: usize, quirks: Quirks) -> Self {
        let config = random::config(&mut random, wan_count, quirks);
        Self::of(config, random)
    }

    fn of(config: Config, random: Random) -> Self {
        let controller = Controller::new(&config).map(Box::new).expect("it is valid");
        let twin = controller.clone();
        let watches = config.wans.iter().map(|wan| Watch::new(&config, wan)).collect();
        let steering = SteeringWatch::new(config.steering.as_ref());
        let shell = HostileShell::new(random, config.tick);
        Self { controller, twin, config, watches, steering, shell, events: Vec::new() }
    }

    /// Checks every step.
    fn run(&mut self, ticks: usize) -> TestCaseResult {
        let (mut out, mut twin_out) = (Outputs::new(), Outputs::new());
        let mut tick = Tick::new(Instant::from_ticks(0));
        let mut before = self.controller.snapshot();
        for _ in 0..ticks {
            self.shell.fill(&mut tick);
            self.controller.step(&tick, &mut out);
            self.twin.step(&tick, &mut twin_out);
            prop_assert_eq!(&out, &twin_out);
            let after = self.controller.snapshot();
            prop_assert_eq!(after, self.twin.snapshot());
            prop_assert_eq!(out.outputs_dropped, 0, "no list of inputs can overfill the outputs");
            check_wans(&tick, (&before, &after), &out, &mut self.watches)?;
            self.steering.check(&tick, &out, &after)?;
            if after.ticks.is_multiple_of(HISTORY_TICKS as u64) {
                self.check_histories()?;
            }
            self.shell.take_commands(&out);
            self.note(&out);
            before = after;
        }
        Ok(())
    }

    fn check_histories(&self) -> TestCaseResult {
        for (id, wan) in (0..).map(WanId).zip(&self.config.wans) {
            let recent = self.controller.recent(id).expect("the WAN is there");
            for direction in Direction::BOTH {
                let zones = [Zone::Green, Zone::Yellow, Zone::SoftRed, Zone::Red];
                let shares = zones.map(|zone| recent.time_in(direction, zone).get());
                let sum: u16 = shares.iter().sum();
                let shaper = wan.shapers.get(direction);
                let Some(lowest) = recent.rate(direction, Permille::new(0)) else { continue };
                prop_assert!((997..=1000).contains(&sum), "{:?}", shares);
                let resolution = shaper.ceiling.get() / 65_000 + 1;
                prop_assert!(lowest.get() + resolution >= shaper.floors.red.get());
                let highest = recent.rate(direction, Permille::new(1000));
                prop_assert!(highest <= Some(shaper.ceiling));
            }
        }
        Ok(())
    }

    fn note(&mut self, out: &Outputs) {
        for event in &out.events {
            if !self.events.iter().any(|known| discriminant(known) == discriminant(event)) {
                self.events.push(*event);
            }
        }
    }
}

fn run_hostile(seed: u64, ticks: usize, quirks: Quirks) -> TestCaseResult {
    let mut random = Random::new(seed);
    let wan_count = random.pick(&[1, 1, 2, 3, 4]);
    Trial::new(random, wan_count, quirks).run(ticks)
}

/// Runs four WANs for a million ticks, the last thousand of them where time ends; returns how many
/// kinds of events were told, but for those of steering, which depend on its random configuration.
fn run_a_million(seed: u64, quirks: Quirks) -> usize {
    let mut random = Random::new(seed);
    let mut config = random::config(&mut random, MAX_WANS, quirks);
    config.steering.iter_mut().for_each(|steering| steering.dry_run = false);
    let mut trial = Trial::of(config, random);
    let run = trial.run(1_000_000 - HISTORY_TICKS).and_then(|()| {
        trial.shell.go_to_the_end_of_time();
        trial.run(HISTORY_TICKS)
    });
    if let Err(error) = run {
        panic!("tick {}: {error}", trial.controller.ticks());
    }
    assert_eq!(trial.controller.ticks(), 1_000_000);
    assert!(trial.steering.changes > 100, "only {} changes", trial.steering.changes);
    trial.events.iter().filter(|event| !is_of_steering(event)).count()
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
                    tick.push_sample(RttSample {
                        wan,
                        reflector,
                        rtt,
                        age_us: 0,
                        upload_owd: None,
                    });
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

/// Kinds of events that hostile ticks bring about; the other two tell of a restored state.
const HOSTILE_KINDS: usize = 18;

#[test]
fn a_million_hostile_ticks_shake_no_invariant() {
    assert_eq!(run_a_million(5, Quirks::default()), HOSTILE_KINDS);
}

#[test]
fn a_million_hostile_ticks_shake_no_invariant_of_the_reference() {
    // It never anchors its baseline anew.
    assert_eq!(run_a_million(5, Quirks::REFERENCE), HOSTILE_KINDS - 1);
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
            tick.push_sample(RttSample { wan, reflector, rtt, age_us: 0, upload_owd: None });
            controller.step(&tick, &mut out);
        }
    }
    assert_eq!(controller.snapshot().now, Some(Instant::MAX));
}
