//! A line, a router and a clock that do everything they should not: recordings that try the core.
//!
//! Several sessions with different configurations; in each the made-up line of [`synthetic`] in
//! many moods, from loss and queues of seconds over a router that answers nonsense to full lists of
//! any values at all. Integers and a fixed seed only: every run is the same.
//!
//! [`synthetic`]: crate::synthetic

use embassy_time::{Duration, Instant};
use wanctl_core::config::{BlindMode, Checks, Config, Quirks};
use wanctl_core::outputs::{Action, Outputs};
use wanctl_core::steering::SteeringQuirks;
use wanctl_core::tick::{
    CheckKind, ConnectivityReport, CounterReading, LinkFact, MAX_LOSSES, MAX_REPLIES, MAX_SAMPLES,
    OperState, Outcome, ProbeLoss, Reply, RttSample, SteeringReply, Tick,
};
use wanctl_core::units::{
    BitsPerSecond, CommandId, Direction, ReflectorId, RelativeOwd, RttNanos, WanId,
};

use crate::synthetic::{Line, Random, SyntheticLine};

/// Steps of one session: long enough for full histories and a baseline that re-anchors.
pub const SESSION_STEPS: u64 = 10_000;
/// The longest mood but the queue, which has to outlast the time a baseline stays frozen.
const MOOD_STEPS: u64 = 400;
/// How long the queue stays: more than `baseline_freeze_max` at 50 ms.
const QUEUE_STEPS: u64 = 2_600;

/// What goes wrong for a while.
#[derive(Debug, Clone, Copy)]
enum Mood {
    /// Nothing.
    Calm,
    /// A queue of up to four seconds.
    Queue,
    /// Every probe is lost.
    Silence,
    /// Ticks without anything in them.
    Nothing,
    /// The router fails, holds something else, answers twice or to commands nobody gave.
    Router,
    /// Links go up and down and change their addresses.
    Links,
    /// Time jumps, to and fro.
    Clock,
    /// All lists are full of anything.
    Flood,
}

const MOODS: [Mood; 8] = [
    Mood::Calm,
    Mood::Queue,
    Mood::Silence,
    Mood::Nothing,
    Mood::Router,
    Mood::Links,
    Mood::Clock,
    Mood::Flood,
];

/// The line of one session.
#[derive(Debug)]
pub struct HostileLine {
    line: SyntheticLine,
    random: Random,
    mood: Mood,
    mood_steps: u64,
    steps: u64,
    /// The drop counters of this session stand still, as they do on some routers.
    has_no_drops: bool,
    /// The rules of this session's router can hardly be switched.
    has_bad_rules: bool,
    /// The router says nothing at all while it misbehaves.
    is_mute: bool,
    /// How far the clock of the ticks has run away from the line's.
    ahead: i64,
    tick: Tick,
}

impl HostileLine {
    /// Makes the line of one session.
    #[must_use]
    pub fn new(config: &Config, session: u64) -> Self {
        Self {
            line: SyntheticLine::new(config),
            random: Random::new(session + 1),
            mood: Mood::Queue,
            mood_steps: QUEUE_STEPS,
            steps: 0,
            has_no_drops: session.is_multiple_of(2),
            has_bad_rules: session.is_multiple_of(3),
            is_mute: false,
            ahead: 0,
            tick: Tick::new(Instant::MIN),
        }
    }

    fn change_mood(&mut self) {
        self.mood_steps -= 1;
        if self.mood_steps == 0 {
            self.mood = *self.random.of(&MOODS);
            self.is_mute = self.random.below(2) == 0;
            self.mood_steps = match self.mood {
                Mood::Queue => QUEUE_STEPS,
                _ => 1 + self.random.below(MOOD_STEPS),
            };
        }
    }

    fn spoil(&mut self, outputs: &Outputs) {
        if self.has_bad_rules {
            self.tick.steering_replies.clear();
            if !self.is_mute {
                self.answer_steering(outputs);
            }
        }
        match self.mood {
            Mood::Calm => self.read_counters(0),
            Mood::Queue => {
                self.read_counters(2000);
                let queue = self.random.below(4_000_000_000);
                for sample in &mut self.tick.samples {
                    sample.rtt = RttNanos::new(sample.rtt.get() + queue);
                }
            }
            Mood::Silence => self.silence(),
            Mood::Nothing => self.tick.reset(self.tick.now),
            Mood::Router => self.answer_wrongly(outputs),
            Mood::Links => self.move_links(),
            Mood::Clock => self.jump(),
            Mood::Flood => {
                self.flood();
                self.answer_steering(outputs);
            }
        }
    }

    fn read_counters(&mut self, backlog_packets: u32) {
        if self.has_no_drops {
            self.tick.counters.clear();
        }
        let delivered_bytes = self.steps.wrapping_mul(60_000);
        for wan in (0..4).map(WanId) {
            let direction = self.random.direction();
            let age_us = self.random.any32();
            let (dropped_packets, backlog_bytes) = (0, 0);
            self.tick.push_counters(CounterReading {
                wan,
                direction,
                delivered_bytes,
                dropped_packets,
                backlog_bytes,
                backlog_packets,
                age_us,
                queue_delay_us: None,
            });
        }
    }

    fn silence(&mut self) {
        let samples = std::mem::take(&mut self.tick.samples);
        for RttSample { wan, reflector, .. } in samples {
            self.tick.push_loss(ProbeLoss { wan, reflector });
        }
        if self.random.below(3) == 0 {
            self.report();
        }
    }

    fn answer_wrongly(&mut self, outputs: &Outputs) {
        self.tick.replies.clear();
        self.tick.steering_replies.clear();
        if self.is_mute {
            return;
        }
        for action in &outputs.actions {
            if let Action::SetRate { id, wan, direction, .. } = *action {
                for _ in 0..self.random.below(3) {
                    let (outcome, took_us) = (self.random.outcome(), self.random.any32());
                    self.tick.push_reply(Reply { wan, direction, id, outcome, took_us });
                }
            }
        }
        self.reply();
        self.answer_steering(outputs);
    }

    /// Says anything about steering: nothing, twice, or about a command that nobody gave.
    fn answer_steering(&mut self, outputs: &Outputs) {
        let commanded = outputs.actions.iter().find_map(|action| match *action {
            Action::SetSteering { id, .. } => Some(id),
            _ => None,
        });
        for _ in 0..self.random.below(4) {
            let any = CommandId(u32::try_from(self.random.below(2000)).unwrap_or_default());
            let id = commanded.filter(|_| self.random.below(4) > 0).unwrap_or(any);
            let (succeeded, took_us) = (self.random.below(2) == 0, self.random.any32());
            self.tick.push_steering_reply(SteeringReply { id, succeeded, took_us });
        }
    }

    fn move_links(&mut self) {
        for _ in 0..self.random.below(4) {
            let fact = LinkFact {
                wan: self.random.wan(),
                oper_state: *self.random.of(&[OperState::Unknown, OperState::Up, OperState::Down]),
                address_changed: self.random.below(8) == 0,
            };
            self.tick.push_link(fact);
        }
    }

    fn jump(&mut self) {
        if self.random.below(10) == 0 {
            let hour_us = 3_600_000_000;
            let by = i64::try_from(self.random.below(2 * hour_us)).unwrap_or_default();
            self.ahead += by - 3_600_000_000;
        }
    }

    fn flood(&mut self) {
        for _ in 0..self.random.below(MAX_SAMPLES as u64 + 9) {
            let (wan, reflector) = (self.random.wan(), self.random.reflector());
            let rtt = self.random.any();
            let sample = RttSample {
                wan,
                reflector,
                rtt: RttNanos::new(rtt),
                age_us: self.random.any32(),
                upload_owd: any_owd(rtt),
            };
            self.tick.push_sample(sample);
        }
        for _ in 0..self.random.below(MAX_LOSSES as u64 + 9) {
            let (wan, reflector) = (self.random.wan(), self.random.reflector());
            self.tick.push_loss(ProbeLoss { wan, reflector });
        }
        for _ in 0..self.random.below(MAX_REPLIES as u64 + 3) {
            self.reply();
        }
        for _ in 0..self.random.below(10) {
            let (wan, direction) = (self.random.wan(), self.random.direction());
            let delivered_bytes = self.random.any();
            let reading = CounterReading {
                wan,
                direction,
                delivered_bytes,
                dropped_packets: self.random.any32(),
                backlog_bytes: self.random.any32(),
                backlog_packets: self.random.any32(),
                age_us: self.random.any32(),
                queue_delay_us: any_delay(delivered_bytes),
            };
            self.tick.push_counters(reading);
        }
        self.move_links();
        self.report();
    }

    fn report(&mut self) {
        let kind = *self.random.of(&[CheckKind::Gateway, CheckKind::Tcp]);
        let (wan, connected) = (self.random.wan(), self.random.below(2) == 0);
        self.tick.push_connectivity(ConnectivityReport { wan, kind, connected });
    }

    fn reply(&mut self) {
        let reply = Reply {
            wan: self.random.wan(),
            direction: self.random.direction(),
            id: CommandId(u32::try_from(self.random.below(2000)).unwrap_or_default()),
            outcome: self.random.outcome(),
            took_us: self.random.any32(),
        };
        self.tick.push_reply(reply);
    }
}

impl Line for HostileLine {
    fn next(&mut self, outputs: &Outputs) -> &Tick {
        self.change_mood();
        self.tick.clone_from(self.line.next(outputs));
        self.spoil(outputs);
        self.steps += 1;
        let now = self.tick.now.as_micros().saturating_add_signed(self.ahead);
        // Once the time is at its end it stays there, so that comes last.
        let is_end = self.steps > SESSION_STEPS - 50;
        self.tick.now = Instant::from_micros(if is_end { u64::MAX } else { now });
        &self.tick
    }
}

/// Returns the configuration of a session: that of the made-up line with other ways to behave.
#[must_use]
pub fn config(base: &Config, session: u64) -> Config {
    let mut config = base.clone();
    config.tick = Duration::from_millis(pick(&[50, 10, 50, 1000, 50], session));
    for wan in &mut config.wans {
        let classic = &mut wan.classic;
        wan.reflectors = pick(&[3, 2, 1], session);
        let modes = [BlindMode::Graceful, BlindMode::Freeze, BlindMode::UseLastRtt];
        classic.blind.mode = pick(&modes, session);
        if session % 4 == 1 {
            classic.blind.checks = Checks::Given;
            classic.baseline_initial = None;
            wan.link = None;
        }
        classic.quirks = Quirks {
            floors_lift_rate: session % 6 == 5,
            soft_red_holds: session % 6 == 4,
            limiter_delays_cuts: session % 6 == 5,
            baseline_freezes_for_ever: session % 6 == 4,
        };
    }
    if let Some(steering) = &mut config.steering {
        steering.tick = config.tick;
        steering.dry_run = session % 6 == 3;
        if let Some(confidence) = &mut steering.confidence {
            confidence.dry_run = session % 6 == 1;
        }
        if session % 3 == 2 {
            steering.confidence = None;
        }
        if session % 6 == 5 {
            steering.quirks = SteeringQuirks::REFERENCE;
        }
    }
    config
}

/// Returns the one of a few choices that a session gets.
fn pick<T: Copy>(choices: &[T], session: u64) -> T {
    choices[usize::try_from(session).unwrap_or_default() % choices.len()]
}

impl Random {
    /// Any number, the ends of the range more often than the rest.
    fn any(&mut self) -> u64 {
        let shift = self.below(64);
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => u64::from(u32::MAX),
            _ => self.next() >> shift,
        }
    }

    fn any32(&mut self) -> u32 {
        let any = self.any();
        u32::try_from(any).unwrap_or(u32::MAX)
    }

    fn tiny(&mut self, below: u8) -> u8 {
        u8::try_from(self.below(below.into())).unwrap_or_default()
    }

    fn wan(&mut self) -> WanId {
        WanId(if self.below(8) == 0 { u8::MAX } else { self.tiny(4) })
    }

    fn reflector(&mut self) -> ReflectorId {
        ReflectorId(if self.below(8) == 0 { u8::MAX } else { self.tiny(3) })
    }

    fn direction(&mut self) -> Direction {
        *self.of(&Direction::BOTH)
    }

    fn outcome(&mut self) -> Outcome {
        match self.below(3) {
            0 => Outcome::Applied(BitsPerSecond::new(self.any())),
            1 => Outcome::Failed,
            _ => Outcome::Superseded,
        }
    }
}

/// Makes an arbitrary one-way delay, or none, of arbitrary bits.
/// A time in a queue for every other reading, made of its bytes.
fn any_delay(bytes: u64) -> Option<u32> {
    (bytes % 2 == 1).then_some(u32::try_from(bytes).unwrap_or(u32::MAX))
}

fn any_owd(bits: u64) -> Option<RelativeOwd> {
    let [low, high, has_owd, ..] = bits.to_le_bytes();
    has_owd.is_multiple_of(2).then(|| i16::from_le_bytes([low, high]).into())
}
