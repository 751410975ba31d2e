//! What steering does, seen from outside.

#![allow(clippy::unwrap_used, reason = "a failed expectation ends a test")]

use embassy_time::{Duration, Instant};
use wanctl_core::command::COMMAND_TIMEOUT;
use wanctl_core::fixed::MicrosQ32;
use wanctl_core::outputs::{Action, Event, Outputs};
use wanctl_core::steering::{
    ConfidenceConfig, QueueSignal, RETRY_PAUSE, Steering, SteeringConfig, SteeringReason,
    SteeringRefusal, SteeringSnapshot, WanSignals,
};
use wanctl_core::tick::SteeringReply;
use wanctl_core::units::{CommandId, Packets, WanId};
use wanctl_core::zone::Zone;

const TICK: Duration = Duration::from_millis(50);
/// The delay filter's way down from a high delay, and some room.
const SETTLING: u64 = 3;

/// What the router does with a command.
#[derive(Clone, Copy, PartialEq)]
enum Router {
    Obeys,
    Refuses,
    IsSilent,
}

/// Steering with everything around it.
struct Bench {
    steering: Steering,
    now: Instant,
    next_id: CommandId,
    router: Router,
    waiting: Option<CommandId>,
    commands: Vec<(Instant, Option<WanId>)>,
    events: Vec<Event>,
}

impl Bench {
    fn new(config: &SteeringConfig) -> Self {
        Self {
            steering: Steering::new(config),
            now: Instant::from_secs(1000),
            next_id: CommandId(u32::MAX),
            router: Router::Obeys,
            waiting: None,
            commands: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Runs one tick; the router answers in the next one.
    fn step(&mut self, signals: &[WanSignals]) {
        let mut out = Outputs::new();
        self.now += TICK;
        if let Some(id) = self.waiting.take_if(|_| self.router != Router::IsSilent) {
            let succeeded = self.router == Router::Obeys;
            let reply = SteeringReply { id, succeeded, took_us: 20_000 };
            self.steering.answer(self.now, &reply, &mut out);
        }
        self.steering.step(self.now, signals, &mut self.next_id, &mut out);
        for action in &out.actions {
            let Action::SetSteering { id, from, to } = *action else { panic!("{action:?}") };
            assert_eq!(from, WanId(0));
            self.waiting = Some(id);
            self.commands.push((self.now, to));
        }
        self.events.extend(out.events);
    }

    fn run(&mut self, seconds: u64, signals: &[WanSignals]) {
        for _ in 0..seconds * 20 {
            self.step(signals);
        }
    }

    /// Forgets what was commanded and told so far.
    fn forget(&mut self) {
        self.commands.clear();
        self.events.clear();
    }

    /// Runs until a command leaves; returns how long that took and where to.
    fn until_command(&mut self, signals: &[WanSignals]) -> (Duration, Option<WanId>) {
        self.forget();
        let start = self.now;
        while self.commands.is_empty() {
            self.step(signals);
            assert!(self.now - start < Duration::from_secs(300), "no command");
        }
        (self.commands[0].0 - start, self.commands[0].1)
    }

    fn snapshot(&self) -> SteeringSnapshot {
        self.steering.snapshot()
    }

    fn reasons(&self) -> Vec<SteeringReason> {
        let reason = |event: &Event| match event {
            Event::SteeringCommanded { decision } => Some(decision.reason),
            _ => None,
        };
        self.events.iter().filter_map(reason).collect()
    }

    fn refusals(&self) -> Vec<SteeringRefusal> {
        let why = |event: &Event| match event {
            Event::SteeringRefused { why } => Some(*why),
            _ => None,
        };
        self.events.iter().filter_map(why).collect()
    }
}

fn config(wans: u8) -> SteeringConfig {
    let wans: Vec<WanId> = (0..wans).map(WanId).collect();
    SteeringConfig::new(&wans, TICK)
}

fn delay(millis: u64) -> WanSignals {
    WanSignals { delay: Some(MicrosQ32::from_micros(millis * 1000)), ..WanSignals::default() }
}

fn queue(millis: u64, dropped: u64, backlog: u64) -> WanSignals {
    let (dropped, backlog) = (Packets(dropped), Packets(backlog));
    WanSignals { queue: QueueSignal::Read { dropped, backlog }, ..delay(millis) }
}

fn outage() -> WanSignals {
    WanSignals { outage: true, ..WanSignals::default() }
}

/// Steering whose start is over, both lines quiet.
fn settled(config: &SteeringConfig) -> Bench {
    let mut bench = Bench::new(config);
    bench.run(1, &[delay(1), delay(1), delay(1), delay(1)]);
    bench.forget();
    bench
}

fn steered(config: &SteeringConfig) -> Bench {
    let mut bench = settled(config);
    bench.until_command(&[delay(60), delay(1)]);
    bench.step(&[delay(60), delay(1)]);
    assert_eq!(bench.snapshot().steered_to, Some(WanId(1)));
    bench.forget();
    bench
}

#[test]
fn the_first_command_leaves_all_traffic_with_the_primary() {
    let mut bench = Bench::new(&config(2));
    bench.step(&[]);
    assert_eq!(bench.commands, [(bench.now, None)]);
    assert_eq!(bench.reasons(), [SteeringReason::Start]);
    assert!(!bench.snapshot().is_confirmed);
    bench.step(&[]);
    assert!(bench.snapshot().is_confirmed);
    assert_eq!(bench.commands.len(), 1);
    assert_eq!(bench.snapshot().changes, 0);
}

#[test]
fn sixteen_seconds_of_red_steer_and_thirty_of_green_return() {
    let mut bench = settled(&config(2));
    let (waited, to) = bench.until_command(&[delay(60), delay(1)]);
    assert_eq!(to, Some(WanId(1)));
    let seconds = 16..17; // and a few ticks until the filter is above the threshold
    assert!(seconds.contains(&waited.as_secs()), "{} ms", waited.as_millis());
    assert_eq!(bench.snapshot().steered_to, None, "not before it is confirmed");
    bench.step(&[delay(60), delay(1)]);
    assert_eq!(bench.snapshot().steered_to, Some(WanId(1)));

    let (waited, to) = bench.until_command(&[delay(1), delay(1)]);
    assert_eq!(to, None);
    assert!((30..30 + SETTLING).contains(&waited.as_secs()), "{} ms", waited.as_millis());
    assert_eq!(bench.reasons(), [SteeringReason::Green]);
}

#[test]
fn the_decision_says_what_it_was_made_of() {
    let mut bench = settled(&config(2));
    bench.until_command(&[delay(60), delay(3)]);
    let decision = bench.snapshot().decision.unwrap();
    assert_eq!((decision.from, decision.to), (None, Some(WanId(1))));
    assert_eq!(decision.reason, SteeringReason::Red);
    assert_eq!(decision.primary.zone, Zone::Red);
    assert_eq!(decision.primary.delay.map(MicrosQ32::as_micros_rounded), Some(60_000));
    assert_eq!(decision.primary.drops, None, "the queue was never read");
    assert_eq!(decision.alternate.zone, Zone::Green);
}

#[test]
fn a_command_that_fails_is_decided_again_after_a_pause() {
    let mut bench = settled(&config(2));
    bench.router = Router::Refuses;
    bench.until_command(&[delay(60), delay(1)]);
    let first = bench.commands[0].0;
    bench.run(12, &[delay(60), delay(1)]);
    let times: Vec<u64> = bench.commands.iter().map(|(at, _)| (*at - first).as_millis()).collect();
    let pause = RETRY_PAUSE.as_millis() + 2 * TICK.as_millis();
    assert_eq!(times.len(), 3);
    assert!(
        times
            .windows(2)
            .all(|pair| (RETRY_PAUSE.as_millis()..=pause).contains(&(pair[1] - pair[0]))),
        "{times:?}"
    );
    assert_eq!(bench.snapshot().steered_to, None);
    assert_eq!(bench.snapshot().changes, 0);
}

#[test]
fn a_failed_command_nobody_wants_any_more_is_undone() {
    let mut bench = settled(&config(2));
    bench.router = Router::Refuses;
    bench.until_command(&[delay(60), delay(1)]);
    bench.step(&[delay(1), delay(1)]);
    bench.router = Router::Obeys;
    let (_, to) = bench.until_command(&[delay(1), delay(1)]);
    assert_eq!(to, None);
    assert_eq!(bench.reasons(), [SteeringReason::Again]);
    bench.run(1, &[delay(1), delay(1)]);
    assert!(bench.snapshot().is_confirmed);
    assert_eq!(bench.commands.len(), 1);
}

#[test]
fn there_is_one_command_at_a_time_and_every_command_ends() {
    let mut bench = settled(&config(2));
    bench.router = Router::IsSilent;
    bench.until_command(&[delay(60), delay(1)]);
    let first = bench.commands[0].0;
    bench.run(59, &[delay(60), delay(1)]);
    assert_eq!(bench.commands.len(), 1);
    assert!(bench.snapshot().is_in_flight);
    bench.waiting = None;
    bench.run(10, &[delay(60), delay(1)]);
    assert!(bench.events.contains(&Event::SteeringTimedOut { to: Some(WanId(1)) }));
    let again = bench.commands[1];
    assert!(again.0 - first >= COMMAND_TIMEOUT + RETRY_PAUSE - TICK);
    assert_eq!(again.1, Some(WanId(1)));
}

#[test]
fn a_reply_to_another_command_changes_nothing() {
    let mut bench = settled(&config(2));
    bench.router = Router::IsSilent;
    bench.until_command(&[delay(60), delay(1)]);
    let mut out = Outputs::new();
    let reply = SteeringReply { id: CommandId(4711), succeeded: true, took_us: 1 };
    bench.steering.answer(bench.now, &reply, &mut out);
    assert!(out.events.is_empty());
    assert!(bench.snapshot().is_in_flight);
    assert_eq!(bench.snapshot().steered_to, None);
}

#[test]
fn an_outage_steers_at_once_and_shares_no_counter_with_red() {
    let mut bench = settled(&config(2));
    bench.run(15, &[delay(60), delay(1)]);
    let (waited, to) = bench.until_command(&[outage(), delay(1)]);
    assert_eq!((waited, to), (TICK, Some(WanId(1))));
    assert_eq!(bench.reasons(), [SteeringReason::Outage]);
    // 15 s of RED before, and an outage without measurements behind: not 16 s of RED.
    assert!(bench.snapshot().red_ticks < 320);
}

#[test]
fn traffic_does_not_return_before_the_hold_down_ends() {
    let mut config = config(2);
    config.off_after = Duration::from_secs(2);
    let mut bench = steered(&config);
    bench.run(25, &[delay(1), delay(1)]);
    assert!(bench.commands.is_empty());
    assert_eq!(bench.refusals(), [SteeringRefusal::HoldDown], "told once");
    let left = bench.snapshot().hold_down_left.unwrap();
    assert!((4..=5).contains(&left.as_secs()), "{} s", left.as_secs());
    let (waited, to) = bench.until_command(&[delay(1), delay(1)]);
    assert_eq!(to, None);
    assert!((4..=5).contains(&waited.as_secs()));
}

#[test]
fn flapping_costs_a_pause_but_an_outage_does_not_wait() {
    let mut config = config(2);
    config.on_after = Duration::from_secs(1);
    config.off_after = Duration::from_secs(1);
    config.hold_down = Duration::from_secs(1);
    let mut bench = settled(&config);
    for _ in 0..3 {
        bench.until_command(&[delay(60), delay(1)]);
        bench.until_command(&[delay(1), delay(1)]);
    }
    bench.run(1, &[delay(1), delay(1)]);
    assert!(bench.events.iter().any(|event| matches!(event, Event::SteeringFlapping { .. })));
    bench.forget();
    bench.run(30, &[delay(60), delay(1)]);
    assert!(bench.commands.is_empty());
    assert_eq!(bench.refusals(), [SteeringRefusal::FlapGuard]);
    assert!(bench.snapshot().penalty_left.is_some());
    let (waited, to) = bench.until_command(&[outage(), delay(1)]);
    assert_eq!((waited, to), (TICK, Some(WanId(1))));
}

#[test]
fn a_dry_run_commands_nothing_and_has_a_state_of_its_own() {
    let mut config = config(2);
    config.dry_run = true;
    let mut bench = settled(&config);
    bench.run(20, &[delay(60), delay(1)]);
    assert_eq!(bench.snapshot().steered_to, Some(WanId(1)));
    bench.run(35, &[delay(1), delay(1)]);
    assert_eq!(bench.snapshot().steered_to, None);
    assert!(bench.commands.is_empty());
    let would = |event: &&Event| matches!(event, Event::SteeringWouldChange { .. });
    assert_eq!(bench.events.iter().filter(would).count(), 2);
}

#[test]
fn confidence_in_its_dry_run_tells_what_it_would_do_while_hysteresis_decides() {
    let mut config = config(2);
    config.confidence = Some(ConfidenceConfig::DEFAULT);
    let mut bench = settled(&config);
    // 50 points for RED and 15 for the spike: confidence would be quicker.
    bench.run(10, &[delay(100), delay(1)]);
    assert_eq!(bench.snapshot().would_steer_to, Some(WanId(1)));
    assert_eq!(bench.snapshot().steered_to, None);
    assert!(bench.commands.is_empty());
    bench.run(10, &[delay(100), delay(1)]);
    assert_eq!(bench.snapshot().steered_to, Some(WanId(1)));
    let would = |event: &&Event| matches!(event, Event::SteeringWouldChange { .. });
    assert_eq!(bench.events.iter().filter(would).count(), 1, "not one every two seconds");
}

#[test]
fn confidence_in_charge_is_the_only_authority() {
    let mut config = config(2);
    config.confidence = Some(ConfidenceConfig { dry_run: false, ..ConfidenceConfig::DEFAULT });
    let mut bench = settled(&config);
    // RED, but only 50 points.
    bench.run(60, &[delay(60), delay(1)]);
    assert!(bench.commands.is_empty());
    let (waited, to) = bench.until_command(&[delay(100), delay(1)]);
    assert_eq!((waited, to), (Duration::from_secs(2), Some(WanId(1))));
    assert_eq!(bench.reasons(), [SteeringReason::HighScore]);
    // The hold-down lasts longer than 3 quiet seconds.
    let (waited, to) = bench.until_command(&[delay(1), delay(1)]);
    assert_eq!(to, None);
    assert_eq!(waited.as_secs(), 30);
    assert_eq!(bench.reasons(), [SteeringReason::LowScore]);
}

#[test]
fn traffic_goes_to_the_best_healthy_alternate() {
    let mut bench = settled(&config(4));
    // The second drops out, the third is worse than the fourth.
    let signals = [delay(60), outage(), delay(12), delay(2)];
    assert_eq!(bench.until_command(&signals).1, Some(WanId(3)));
    // One that is YELLOW is worse than one that is GREEN, whatever its place.
    let mut bench = settled(&config(3));
    assert_eq!(bench.until_command(&[delay(60), queue(1, 0, 20), delay(9)]).1, Some(WanId(2)));
}

#[test]
fn without_a_better_alternate_traffic_stays() {
    let mut bench = settled(&config(3));
    bench.run(40, &[delay(60), delay(70), outage()]);
    assert!(bench.commands.is_empty());
    assert_eq!(bench.refusals(), [SteeringRefusal::NoAlternate]);
    // One that was never measured is not known to be healthy.
    let mut bench = Bench::new(&config(2));
    bench.run(40, &[delay(60)]);
    assert_eq!(bench.refusals(), [SteeringRefusal::NoAlternate]);
    // Nothing at all is worse than RED.
    let (_, to) = bench.until_command(&[outage(), delay(70)]);
    assert_eq!(to, Some(WanId(1)));
}

#[test]
fn an_alternate_that_drops_out_is_left_at_once() {
    let mut bench = steered(&config(3));
    let (waited, to) = bench.until_command(&[delay(60), outage(), delay(1)]);
    assert_eq!((waited, to), (TICK, Some(WanId(2))), "even in the hold-down");
    assert_eq!(bench.reasons(), [SteeringReason::AlternateOutage]);
    let mut bench = steered(&config(2));
    assert_eq!(bench.until_command(&[delay(60), outage()]), (TICK, None));
    // When everything is out there is nowhere to go.
    let mut bench = steered(&config(2));
    bench.run(5, &[outage(), outage()]);
    assert!(bench.commands.is_empty());
    assert_eq!(bench.refusals(), [SteeringRefusal::NoAlternate]);
}

#[test]
fn an_alternate_that_stays_red_is_left_after_the_hold_down() {
    let mut bench = steered(&config(3));
    let (waited, to) = bench.until_command(&[delay(60), delay(60), delay(1)]);
    assert_eq!(to, Some(WanId(2)));
    assert!((29..=30).contains(&waited.as_secs()), "{} s", waited.as_secs());
    assert_eq!(bench.reasons(), [SteeringReason::AlternateRed]);
}

#[test]
fn a_drop_counter_that_never_moves_does_not_make_red_unreachable() {
    let mut bench = settled(&config(2));
    let signals = [queue(60, 0, 200), delay(1)];
    bench.run(4, &signals);
    assert_eq!(bench.snapshot().wans()[0].zone, Zone::SoftRed);
    let (_, to) = bench.until_command(&signals);
    assert_eq!(to, Some(WanId(1)));
    assert!(bench.events.contains(&Event::SteeringDropsUseless { wan: WanId(0) }));
    assert!(bench.snapshot().wans()[0].drops_useless);
}

#[test]
fn red_needs_drops_where_they_are_counted() {
    let mut bench = settled(&config(2));
    bench.step(&[queue(1, 70_000, 0), delay(1)]);
    bench.step(&[queue(1, 70_001, 0), delay(1)]);
    bench.run(60, &[queue(60, 70_001, 200), delay(1)]);
    assert_eq!(bench.snapshot().wans()[0].zone, Zone::SoftRed);
    for drops in 70_002..70_700 {
        bench.step(&[queue(60, drops, 200), delay(1)]);
    }
    assert_eq!(bench.commands.first().map(|(_, to)| *to), Some(Some(WanId(1))));
}

#[test]
fn a_severe_delay_is_red_although_the_shaper_is_empty() {
    let mut bench = settled(&config(2));
    bench.run(5, &[queue(79, 0, 0), delay(1)]);
    assert_eq!(bench.snapshot().wans()[0].zone, Zone::SoftRed);
    bench.run(5, &[queue(90, 0, 0), delay(1)]);
    assert_eq!(bench.snapshot().wans()[0].zone, Zone::Red);
}

#[test]
fn a_queue_that_cannot_be_read_leaves_the_decision_to_the_delay() {
    let mut bench = settled(&config(2));
    bench.step(&[queue(60, 0, 0), delay(1)]);
    let failed = WanSignals { queue: QueueSignal::Failed, ..delay(60) };
    bench.run(3, &[failed, delay(1)]);
    assert_eq!(bench.snapshot().wans()[0].zone, Zone::SoftRed, "the last reading is still good");
    assert_eq!(bench.snapshot().wans()[0].failed_readings, 60);
    bench.run(3, &[failed, delay(1)]);
    assert_eq!(bench.snapshot().wans()[0].zone, Zone::Red);
}

#[test]
fn what_was_counted_before_a_silence_does_not_count_after_it() {
    let mut bench = settled(&config(2));
    bench.run(15, &[delay(60), delay(1)]);
    bench.run(6, &[WanSignals::default(), delay(1)]);
    assert_eq!(bench.snapshot().red_ticks, 0);
    let (waited, _) = bench.until_command(&[delay(60), delay(1)]);
    assert_eq!(waited.as_secs(), 16);
}

#[test]
fn a_line_that_loses_probes_is_left_and_returned_to_after_the_same_seconds() {
    let none = WanSignals::default();
    for confidence in [None, Some(ConfidenceConfig { dry_run: false, ..ConfidenceConfig::DEFAULT })]
    {
        // A measurement in every third tick only.
        let seconds = |bench: &mut Bench, delay_ms: u64| {
            bench.forget();
            let start = bench.now;
            while bench.commands.is_empty() {
                for signals in [none, none, delay(delay_ms)] {
                    bench.step(&[signals, delay(1)]);
                }
                assert!(bench.now - start < Duration::from_secs(300), "no command");
            }
            (bench.commands[0].0 - start).as_secs()
        };
        let config = SteeringConfig { confidence, hold_down: Duration::MIN, ..config(2) };
        let mut bench = settled(&config);
        let (away, back) = (seconds(&mut bench, 200), seconds(&mut bench, 1));
        let expected = if confidence.is_none() { (16..=17, 30..=31) } else { (2..=3, 3..=4) };
        assert!(expected.0.contains(&away), "away after {away} s");
        assert!(expected.1.contains(&back), "back after {back} s");
    }
}

#[test]
fn a_pause_in_measuring_is_not_time_of_a_zone() {
    let mut bench = settled(&config(2));
    bench.run(10, &[delay(60), delay(1)]);
    let counted = bench.snapshot().red_ticks;
    (0..60).for_each(|_| bench.step(&[WanSignals::default(), delay(1)]));
    bench.step(&[delay(60), delay(1)]);
    assert_eq!(bench.snapshot().red_ticks, counted + 1);
}
