//! A shell that is not to be trusted.

use std::collections::VecDeque;

use embassy_time::{Duration, Instant};
use wanctl_core::outputs::Outputs;
use wanctl_core::tick::{
    CheckKind, ConnectivityReport, CounterReading, LinkFact, MAX_COUNTERS, MAX_LOSSES, MAX_REPLIES,
    MAX_SAMPLES, MAX_WANS, OperState, Outcome, ProbeLoss, ReplacedReflector, Reply, RttSample,
    SteeringReply, Tick,
};
use wanctl_core::units::{
    BitsPerSecond, CommandId, Direction, ReflectorId, RelativeOwd, RttNanos, WanId,
};

use super::random::Random;
use super::{SetRate, set_rates, steering_watch};

/// Makes ticks that no honest shell would send.
#[derive(Debug)]
pub(crate) struct HostileShell {
    random: Random,
    now: Instant,
    interval: Duration,
    level_us: u64,
    unanswered: VecDeque<SetRate>,
    steering: Option<CommandId>,
}

impl HostileShell {
    /// Makes a shell that is not to be trusted.
    pub(crate) fn new(random: Random, interval: Duration) -> Self {
        let now = Instant::from_ticks(0);
        Self {
            random,
            now,
            interval,
            level_us: 25_000,
            unanswered: VecDeque::new(),
            steering: None,
        }
    }

    /// Fills the next tick.
    pub(crate) fn fill(&mut self, tick: &mut Tick) {
        self.pass_time();
        tick.reset(self.now);
        match self.random.range(0, 99) {
            0..=69 => self.push_samples(tick, 4),
            70..=84 => self.push_losses(tick, 4),
            85..=94 => {}
            95..=97 => self.overfill(tick),
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
        self.push_steering_replies(tick);
    }

    /// Some answers come at once, some late, some never, and some to nothing.
    fn push_steering_replies(&mut self, tick: &mut Tick) {
        let late = self.random.once_in(3);
        let answered = self.steering.take_if(|_| !late);
        let stray = self.random.once_in(50).then_some(CommandId(7));
        for id in answered.into_iter().chain(stray) {
            if !self.random.once_in(30) {
                let succeeded = !self.random.once_in(4);
                tick.push_steering_reply(SteeringReply { id, succeeded, took_us: u32::MAX });
            }
        }
    }

    /// Fills every list to its end and beyond.
    fn overfill(&mut self, tick: &mut Tick) {
        self.push_samples(tick, MAX_SAMPLES as u64 + 4);
        self.push_losses(tick, MAX_LOSSES as u64 + 4);
        (0..MAX_COUNTERS + 1).for_each(|_| self.push_counters(tick));
        for _ in 0..self.random.range(0, MAX_REPLIES as u64 + 1) {
            self.push_foreign_reply(tick);
        }
        // Rarely, as a link that is down ends everything else.
        let links = if self.random.once_in(20) { MAX_WANS + 1 } else { 0 };
        (0..links).for_each(|_| self.push_link(tick));
    }

    fn push_facts(&mut self, tick: &mut Tick) {
        if self.random.once_in(200) {
            self.push_link(tick);
        }
        while self.random.once_in(4) {
            self.push_counters(tick);
        }
    }

    fn push_link(&mut self, tick: &mut Tick) {
        let states = [OperState::Unknown, OperState::Up, OperState::Up, OperState::Down];
        let oper_state = self.random.pick(&states);
        let (wan, address_changed) = (self.wan(), self.random.once_in(3));
        tick.push_link(LinkFact { wan, oper_state, address_changed });
    }

    fn push_counters(&mut self, tick: &mut Tick) {
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
            queue_delay_us: (low & 1 == 1).then_some(low),
        });
    }

    /// Goes to where time soon ends.
    pub(crate) fn go_to_the_end_of_time(&mut self) {
        self.now = Instant::from_ticks(u64::MAX - 600_000_000);
    }

    fn pass_time(&mut self) {
        let random = &mut self.random;
        let ticks = match random.range(0, 999) {
            0..=5 => self.now.as_ticks().saturating_sub(random.range(0, 5_000_000)),
            6..=20 => self.now.as_ticks().saturating_add(random.range(0, 90_000_000)),
            21..=40 => self.now.as_ticks(),
            _ => self.now.as_ticks().saturating_add(self.interval.as_ticks()),
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
            let [low, high, ..] = self.random.bits().to_le_bytes();
            let owd = RelativeOwd::from(i16::from_le_bytes([low, high]));
            let (rtt, upload_owd) = (RttNanos::new(nanos), self.random.once_in(2).then_some(owd));
            tick.push_sample(RttSample { wan, reflector, rtt, age_us, upload_owd });
            if self.random.once_in(200) {
                tick.push_replaced(ReplacedReflector { wan, reflector });
            }
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
            self.push_foreign_reply(tick);
        }
    }

    /// Answers what nobody has asked, or somebody long ago.
    fn push_foreign_reply(&mut self, tick: &mut Tick) {
        let id = CommandId(u32::try_from(self.random.range(0, 1000)).expect("small"));
        let direction = self.random.pick(&Direction::BOTH);
        let wan = self.wan();
        tick.push_reply(Reply { wan, direction, id, outcome: Outcome::Failed, took_us: 0 });
    }

    /// Takes commands, to answer some of them.
    pub(crate) fn take_commands(&mut self, out: &Outputs) {
        for set in set_rates(out) {
            if !self.random.once_in(20) {
                self.unanswered.push_back(set);
            }
        }
        self.unanswered.truncate(20);
        if let Some((id, _)) = steering_watch::commands(out).first() {
            self.steering = Some(*id);
        }
    }
}
