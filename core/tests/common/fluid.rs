//! A line as a fluid: two shapers, two deep queues, senders that react a round trip later.

use std::collections::VecDeque;

use embassy_time::Instant;
use wanctl_core::config::Config;
use wanctl_core::controller::Controller;
use wanctl_core::outputs::{Action, Outputs};
use wanctl_core::tick::{CounterReading, Outcome, ProbeLoss, Reply, RttSample, Tick};
use wanctl_core::units::{
    BitsPerSecond, CommandId, Direction, PerDirection, ReflectorId, RelativeOwd, RttNanos, WanId,
};

/// Time of one step.
const STEP_US: i64 = 1_000;

/// What happens on a line.
pub(crate) struct Scene {
    pub(crate) capacity: fn(Direction, f64) -> f64,
    /// Mbit/s offered; infinite for greedy senders.
    pub(crate) demand: fn(Direction, f64) -> f64,
    pub(crate) base_ms: [f64; 3],
    /// Mean of the gamma-like jitter.
    pub(crate) jitter_ms: f64,
    /// Whether all reflectors have that jitter in common, as an upload's that waits for its turn to send.
    pub(crate) is_common: bool,
    pub(crate) spikes: f64,
    pub(crate) path_ms: fn(f64) -> f64,
    /// Whether it is on the way there that the path is longer, and not on the way back.
    pub(crate) is_path_of_upload: bool,
    pub(crate) loss: f64,
    /// How often counters are read; `None` never.
    pub(crate) counters_ms: Option<i64>,
    pub(crate) write_ms: f64,
    /// Without any load at first.
    pub(crate) quiet_s: f64,
    /// Whether a reflector tells when probes reach it: the farthest, which answers last, if `tells` does not say otherwise.
    pub(crate) tells_one_way: bool,
    /// Which probe's answer does, by reflector and time in µs.
    pub(crate) tells: fn(usize, i64) -> bool,
    /// Whether probes overtake the queues.
    pub(crate) is_blind: bool,
    /// Whether what a download's shaper holds up waits in it, a third of what leaves is dropped meanwhile,
    /// and that the shaper tells how long packets wait. Otherwise it is nobody's.
    pub(crate) cake: Option<bool>,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            capacity: |_, _| 50.0,
            demand: |_, _| f64::INFINITY,
            base_ms: [20.0, 22.0, 27.0],
            jitter_ms: 0.3,
            is_common: false,
            spikes: 0.0,
            path_ms: |_| 0.0,
            is_path_of_upload: false,
            loss: 0.0,
            counters_ms: Some(50),
            write_ms: 2.0,
            quiet_s: 2.0,
            tells_one_way: false,
            tells: |reflector, _| reflector == 2,
            is_blind: false,
            cake: None,
        }
    }
}

struct Probe {
    reflector: usize,
    sent_us: i64,
    arrives_us: i64,
    upload_us: i64,
    lost: bool,
}

struct Way {
    direction: Direction,
    held: f64,
    queue_bits: f64,
    bytes: f64,
    rates: VecDeque<f64>,
    waits: bool,
    cake_bits: f64,
}

pub(crate) struct Line {
    controller: Controller<1>,
    scene: Scene,
    ways: [Way; 2],
    probes: Vec<Probe>,
    writes: Vec<(i64, Direction, BitsPerSecond, CommandId)>,
    tick_us: i64,
    now_us: i64,
    seed: u64,
    pub(crate) out: Outputs,
    pub(crate) stats: PerDirection<Stats>,
    pub(crate) write_times: Vec<i64>,
    replies: Vec<Reply>,
    read_us: i64,
    /// Whether no answer arrives any more.
    pub(crate) is_deaf: bool,
    /// Time in s, direction and rate.
    pub(crate) cuts: Vec<(f64, Direction, BitsPerSecond)>,
}

#[derive(Default, Clone)]
pub(crate) struct Stats {
    pub(crate) delivered: f64,
    pub(crate) possible: f64,
    pub(crate) delays: Vec<f64>,
}

impl Stats {
    pub(crate) fn utilisation(&self) -> f64 {
        self.delivered / self.possible
    }

    pub(crate) fn mean(&self) -> f64 {
        self.delays.iter().sum::<f64>() / self.delays.len() as f64
    }

    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.delays.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * share) as usize]
    }
}

impl Line {
    pub(crate) fn new(config: &Config, scene: Scene, seed: u64) -> Self {
        let way = |direction| Way {
            direction,
            held: config.wans[0].shapers.get(direction).ceiling.get() as f64,
            queue_bits: 0.0,
            bytes: 0.0,
            rates: VecDeque::new(),
            waits: false,
            cake_bits: 0.0,
        };
        Self {
            controller: Controller::new(config).expect("valid"),
            scene,
            ways: [way(Direction::Download), way(Direction::Upload)],
            probes: Vec::new(),
            writes: Vec::new(),
            tick_us: i64::try_from(config.tick.as_micros()).unwrap(),
            now_us: 0,
            seed: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            out: Outputs::new(),
            stats: PerDirection::default(),
            write_times: Vec::new(),
            replies: Vec::new(),
            read_us: 0,
            is_deaf: false,
            cuts: Vec::new(),
        }
    }

    fn random(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn jitter_ms(&mut self) -> f64 {
        let (a, b) = (self.random().max(1e-12), self.random().max(1e-12));
        let spike = if self.random() < self.scene.spikes { 40.0 * self.random() } else { 0.0 };
        -self.scene.jitter_ms / 2.0 * (a.ln() + b.ln()) + spike
    }

    fn step_line(&mut self) {
        let t = self.now_us as f64 / 1e6;
        let lag = (self.scene.base_ms[0] / 1.0) as usize;
        for way in &mut self.ways {
            let capacity = (self.scene.capacity)(way.direction, t) * 1e6;
            let demand = if t < self.scene.quiet_s {
                0.0
            } else {
                (self.scene.demand)(way.direction, t) * 1e6
            };
            way.rates.push_back(way.held);
            // Senders of a download notice a round trip later.
            let lag = if way.direction == Direction::Download { lag } else { 0 };
            while way.rates.len() > lag + 1 {
                way.rates.pop_front();
            }
            let seen = way.rates[0];
            let inflow = demand.min(seen);
            way.waits = demand > seen;
            let step = STEP_US as f64 / 1e6;
            way.queue_bits += inflow * step;
            let out = way.queue_bits.min(capacity * step);
            way.queue_bits -= out;
            let limit = capacity.max(1e6) * 2.0;
            way.queue_bits = way.queue_bits.min(limit);
            // The shaper of a download stands behind the queue.
            let counted = match way.direction {
                Direction::Download => out.min(way.held * step),
                Direction::Upload => inflow * step,
            };
            let is_cake = way.direction == Direction::Download && self.scene.cake.is_some();
            let counted = if is_cake {
                way.cake_bits += out;
                let served = way.cake_bits.min(way.held * step);
                way.cake_bits -= served;
                if way.cake_bits > 0.0 { served * 0.7 } else { served }
            } else {
                counted
            };
            way.bytes += counted / 8.0;
            // What the line holds back does not wait in the shaper.
            way.waits &= !self.scene.is_blind || counted >= 0.999 * seen * step;
            let stats = self.stats.get_mut(way.direction);
            stats.delivered += out;
            stats.possible += capacity.min(demand) * step;
            if demand > 0.0 && self.now_us % 10_000 == 0 {
                stats.delays.push(way.queue_bits / capacity.max(1e3) * 1e3);
            }
        }
        self.now_us += STEP_US;
    }

    fn queue_ms(&self, index: usize) -> f64 {
        let t = self.now_us as f64 / 1e6;
        let capacity = (self.scene.capacity)(self.ways[index].direction, t) * 1e6;
        self.ways[index].queue_bits / capacity.max(1e3) * 1e3
    }

    fn send(&mut self, reflector: usize, common_ms: f64) {
        let own = self.jitter_ms();
        let jitter = if self.scene.is_common { common_ms } else { own };
        let t = self.now_us as f64 / 1e6;
        let queues_ms = if self.scene.is_blind { 0.0 } else { self.queue_ms(0) + self.queue_ms(1) };
        let path_ms = (self.scene.path_ms)(t);
        let rtt_ms = self.scene.base_ms[reflector] + path_ms + jitter + queues_ms;
        let lost = self.random() < self.scene.loss;
        let sent_us = self.now_us;
        let arrives_us = sent_us + (rtt_ms * 1e3) as i64;
        let path_ms = if self.scene.is_path_of_upload { path_ms } else { 0.0 };
        let jitter_ms = if self.scene.is_common { jitter } else { 0.0 };
        let upload_ms =
            self.scene.base_ms[reflector] / 2.0 + path_ms + jitter_ms + self.queue_ms(1);
        let upload_us = (upload_ms * 1e3) as i64;
        self.probes.push(Probe { reflector, sent_us, arrives_us, upload_us, lost });
    }

    /// A clock that is more than a second ahead, and counts whole milliseconds.
    fn upload_owd(&self, probe: &Probe) -> Option<RelativeOwd> {
        let reached_us = probe.sent_us + probe.upload_us + 1_234_567;
        let owd = RelativeOwd::from_micros(reached_us / 1000 * 1000 - probe.sent_us);
        let tells = (self.scene.tells)(probe.reflector, probe.sent_us);
        owd.filter(|_| self.scene.tells_one_way && tells)
    }

    /// Runs one tick.
    pub(crate) fn tick(&mut self) {
        for _ in 0..self.tick_us / STEP_US {
            self.step_line();
            self.hold_written();
        }
        let mut tick = Tick::new(Instant::from_micros(self.now_us as u64));
        for reply in self.replies.drain(..) {
            tick.push_reply(reply);
        }
        self.hear(&mut tick);
        self.count(&mut tick);
        let mut out = std::mem::take(&mut self.out);
        self.controller.step(&tick, &mut out);
        let common_ms = self.jitter_ms();
        for action in &out.actions {
            self.act(action, common_ms);
        }
        self.out = out;
    }

    /// Writes reach the shapers.
    fn hold_written(&mut self) {
        let now = self.now_us;
        let due: Vec<_> = self.writes.iter().filter(|write| write.0 <= now).copied().collect();
        self.writes.retain(|write| write.0 > now);
        for (_, direction, rate, id) in due {
            self.ways[usize::from(direction == Direction::Upload)].held = rate.get() as f64;
            let took_us = (self.scene.write_ms * 1e3) as u32;
            let outcome = Outcome::Applied(rate);
            self.replies.push(Reply { wan: WanId(0), direction, id, outcome, took_us });
        }
    }

    /// Answers come back, or are given up.
    fn hear(&mut self, tick: &mut Tick) {
        let now = self.now_us;
        for probe in &self.probes {
            let reflector = ReflectorId(probe.reflector as u8);
            if probe.lost && now - probe.sent_us > 1_000_000 {
                tick.push_loss(ProbeLoss { wan: WanId(0), reflector });
            } else if !probe.lost && !self.is_deaf && probe.arrives_us <= now {
                tick.push_sample(RttSample {
                    wan: WanId(0),
                    reflector,
                    rtt: RttNanos::from_micros((probe.arrives_us - probe.sent_us) as u64),
                    age_us: (now - probe.arrives_us) as u32,
                    upload_owd: self.upload_owd(probe),
                });
            }
        }
        self.probes.retain(|probe| {
            if probe.lost { now - probe.sent_us <= 1_000_000 } else { probe.arrives_us > now }
        });
    }

    /// Counters are read, if it is time.
    fn count(&mut self, tick: &mut Tick) {
        let every_ms = self.scene.counters_ms.unwrap_or(i64::MAX / 1000);
        if self.now_us - self.read_us < every_ms * 1000 {
            return;
        }
        self.read_us = self.now_us;
        let tells_delay = self.scene.cake == Some(true);
        for way in &self.ways {
            tick.push_counters(CounterReading {
                wan: WanId(0),
                direction: way.direction,
                delivered_bytes: way.bytes as u64,
                dropped_packets: 0,
                backlog_bytes: if way.waits || way.cake_bits > 0.0 { 3000 } else { 0 },
                backlog_packets: u32::from(way.waits) * 2,
                age_us: 0,
                queue_delay_us: tells_delay.then_some((way.cake_bits / way.held * 1e6) as u32),
            });
        }
    }

    fn act(&mut self, action: &Action, common_ms: f64) {
        match *action {
            Action::SendProbe { reflector, .. } => self.send(reflector.0.into(), common_ms),
            Action::SetRate { id, direction, rate, is_cut, .. } => {
                let at = self.now_us + (self.scene.write_ms * 1e3) as i64;
                self.writes.push((at, direction, rate, id));
                self.write_times.push(self.now_us);
                if is_cut {
                    self.cuts.push((self.seconds(), direction, rate));
                }
            }
            Action::CheckGateway { .. } | Action::CheckTcp { .. } | Action::SetSteering { .. } => {}
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.now_us as f64 / 1e6
    }

    pub(crate) fn forget_stats(&mut self) {
        self.stats = PerDirection::default();
    }

    pub(crate) fn held_mbps(&self, direction: Direction) -> f64 {
        self.ways[usize::from(direction == Direction::Upload)].held / 1e6
    }

    /// True queueing delay of a direction.
    pub(crate) fn true_ms(&self, direction: Direction) -> f64 {
        self.queue_ms(usize::from(direction == Direction::Upload))
    }

    pub(crate) fn run(&mut self, seconds: f64) {
        let end = self.now_us + (seconds * 1e6) as i64;
        while self.now_us < end {
            self.tick();
        }
    }
}
