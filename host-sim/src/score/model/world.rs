//! A whole scenario: both directions, probes and the router, tick by tick.

use std::sync::Arc;

use embassy_time::Instant;
use wanctl_core::tick::{CheckKind, ConnectivityReport, CounterReading, Tick};
use wanctl_core::units::{CommandId, Direction, PerDirection, WanId};

use super::STEP_US;
use super::line::{Left, Line, MarkerKind, Mix, StepInput};
use super::probes::Probes;
use super::router::{Command, Router};
use crate::score::capacity::Capacity;
use crate::score::contender::Asks;
use crate::score::metrics::{Moment, Recorder};
use crate::score::recording::WINDOW_MS;
use crate::score::rng::Rng;
use crate::score::scenario::{Scenario, TrafficSpec};

/// The usual tick.
pub const TICK_US: u64 = 50_000;
/// How often the delay is looked at.
const LOOK_US: u64 = 10_000;
/// Bytes of a full packet and of an acknowledgement.
const ACK_BYTES: (u64, u64) = (1500, 52);

/// What a tick does not tell.
#[derive(Debug, Clone, Copy)]
pub struct Truth<'w> {
    /// The mean capacity of the tick that begins, in bit/s. Only the oracle knows it.
    pub capacity: PerDirection<u64>,
    /// The one-way delays of the tick's samples, in µs, for laws that measure them.
    pub one_way: &'w [PerDirection<u64>],
}

/// When a direction's flows are on.
#[derive(Debug, Clone)]
struct Switch {
    spec: TrafficSpec,
    active: Option<Arc<[bool]>>,
    rng: Rng,
    is_on: bool,
    until_us: u64,
}

impl Switch {
    fn new(spec: TrafficSpec, active: Option<Arc<[bool]>>, rng: Rng) -> Self {
        Self { spec, active, rng, is_on: false, until_us: spec.from_ms * 1000 }
    }

    /// Moves on to `now_us`; returns whether new connections begin.
    fn advance(&mut self, now_us: u64) -> bool {
        if self.spec.flows == 0 || now_us < self.until_us {
            return false;
        }
        if let Some(active) = &self.active {
            let window = (now_us / 1000 / WINDOW_MS) as usize;
            let before = self.is_on;
            self.is_on = active.get(window).copied().unwrap_or_default();
            return self.is_on && !before;
        }
        self.is_on = !self.is_on;
        let mean_ms = if self.is_on { self.spec.on_ms } else { self.spec.off_ms };
        self.until_us = if self.spec.on_ms == 0 {
            u64::MAX
        } else {
            now_us + self.rng.exponential(mean_ms).max(50) * 1000
        };
        self.is_on
    }
}

/// The state of a run.
#[derive(Debug)]
pub struct World<'a> {
    scenario: &'a Scenario,
    capacity: &'a PerDirection<Capacity>,
    lines: PerDirection<Line>,
    switches: PerDirection<Switch>,
    rates: PerDirection<u64>,
    router: Router,
    probes: Probes,
    packets: Rng,
    tick_us: u64,
    /// Download bits per bit of acknowledgements in the other direction.
    ack_ratio: u64,
    step: u64,
    ticks: u64,
    next_id: u32,
    checks: [bool; 2],
    left: Vec<Left>,
    /// Everything that is measured.
    pub recorder: Recorder,
}

/// The capacity and the rate of one direction in one step.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    /// Mean capacity around now, in bit/s.
    around_bps: u64,
    /// Mean capacity of the time ahead, in bits per step.
    ahead: u64,
    capacity: u64,
    rate: u64,
    constant: u64,
}

const fn per_step(bps: u64) -> u64 {
    bps * STEP_US / 1_000_000
}

impl<'a> World<'a> {
    /// Makes the line of a scenario; shapers stand at their ceilings. A tick is a whole number of
    /// steps, at least one.
    #[must_use]
    pub fn new(
        scenario: &'a Scenario,
        capacity: &'a PerDirection<Capacity>,
        router: Router,
        tick_us: u64,
        seed: u64,
    ) -> Self {
        let line = |direction| {
            let spec = scenario.lines.get(direction);
            Line::new(direction == Direction::Upload, spec.fifo_bytes * 8, spec.traffic.flows)
        };
        let switch = |direction, stream| {
            let line = scenario.lines.get(direction);
            Switch::new(line.traffic, line.active.clone(), Rng::new(seed, stream))
        };
        let limits = |direction| scenario.lines.get(direction).limits.ceiling;
        Self {
            scenario,
            capacity,
            lines: PerDirection {
                download: line(Direction::Download),
                upload: line(Direction::Upload),
            },
            switches: PerDirection {
                download: switch(Direction::Download, 0x006f_6e31),
                upload: switch(Direction::Upload, 0x006f_6e32),
            },
            rates: PerDirection {
                download: limits(Direction::Download),
                upload: limits(Direction::Upload),
            },
            router,
            probes: Probes::new(&scenario.path, seed),
            packets: Rng::new(seed, 0x7061_636b),
            tick_us: (tick_us / STEP_US).max(1) * STEP_US,
            ack_ratio: ACK_BYTES.0 * scenario.path.packets_per_ack.max(1) / ACK_BYTES.1,
            step: 0,
            ticks: 0,
            next_id: 0,
            checks: [false; 2],
            left: Vec::with_capacity(256),
            recorder: Recorder::new(scenario),
        }
    }

    /// Returns the time, in µs.
    #[must_use]
    pub const fn now_us(&self) -> u64 {
        self.step * STEP_US
    }

    /// Returns the length of a tick, in µs.
    #[must_use]
    pub const fn tick_us(&self) -> u64 {
        self.tick_us
    }

    /// Returns what the tick does not tell.
    #[must_use]
    pub fn truth(&self) -> Truth<'_> {
        let (now_ms, tick_ms) = (self.now_us() / 1000, self.tick_us / 1000);
        let at = |direction| self.capacity.get(direction).mean_from_ms(now_ms, tick_ms);
        let capacity =
            PerDirection { download: at(Direction::Download), upload: at(Direction::Upload) };
        Truth { capacity, one_way: self.probes.one_way() }
    }

    /// Returns the shaper rates in force, in bit/s.
    #[must_use]
    pub const fn rates(&self) -> &PerDirection<u64> {
        &self.rates
    }

    /// Returns a direction.
    #[must_use]
    pub const fn line(&self, direction: Direction) -> &Line {
        self.lines.get(direction)
    }

    /// Tells a tick what has happened since the last one.
    pub fn observe(&mut self, tick: &mut Tick) {
        let now_us = self.now_us();
        tick.reset(Instant::from_micros(now_us));
        self.probes.report(now_us, tick);
        let delays = PerDirection {
            download: self.lines.download.cake.take_wait_us(),
            upload: self.lines.upload.cake.take_wait_us(),
        };
        let lines = &self.lines;
        self.router.report(now_us, tick, |direction| CounterReading {
            queue_delay_us: *delays.get(direction),
            ..reading(lines, direction)
        });
        let truth = self.truth();
        let connected = truth.capacity.download > 0 && truth.capacity.upload > 0;
        for (asked, kind) in self.checks.iter_mut().zip([CheckKind::Gateway, CheckKind::Tcp]) {
            if std::mem::take(asked) {
                let connected = connected || kind == CheckKind::Gateway;
                tick.push_connectivity(ConnectivityReport { wan: WanId(0), kind, connected });
            }
        }
    }

    /// Does what a law asks for.
    pub fn obey(&mut self, asks: &Asks) {
        let now_us = self.now_us();
        self.checks = asks.checks;
        for direction in Direction::BOTH {
            if let Some(ask) = *asks.rates.get(direction) {
                let limits = &self.scenario.lines.get(direction).limits;
                let rate = ask.rate.max(1).min(limits.ceiling.saturating_mul(4));
                let id = ask.id.unwrap_or_else(|| {
                    self.next_id = self.next_id.wrapping_add(1);
                    CommandId(self.next_id)
                });
                let from = self.recorder.commanded(direction);
                let is_cut = from.is_some_and(|from| rate < from);
                self.recorder.command(direction, rate, now_us);
                self.router.command(direction, Command { id, rate, is_cut, at_us: now_us });
            }
        }
        for reflector in 0..super::probes::REFLECTORS {
            if asks.probes & (1 << reflector) != 0 {
                let number = self.probes.send(now_us, self.ticks, reflector);
                let fifo = &mut self.lines.upload.fifo;
                if self.scenario.path.is_blind {
                    self.probes.pass_upload(number, 0);
                    self.probes.pass_download(number, 0);
                } else if fifo.is_full() || !fifo.enter(now_us, MarkerKind::Probe(number)) {
                    self.probes.lose(number);
                }
            }
        }
    }

    /// Lets one tick of time pass.
    pub fn advance(&mut self) {
        self.ticks += 1;
        let now_us = self.now_us();
        for direction in Direction::BOTH {
            if self.switches.get_mut(direction).advance(now_us) {
                self.lines.get_mut(direction).begin_flows();
            }
        }
        let mut paces = self.paces();
        if self.is_quiet(&paces) {
            self.pass_quietly(&paces);
            return;
        }
        let base_us = self.probes.base_us(now_us);
        for step in 0..self.tick_us / STEP_US {
            let is_look = self.now_us().is_multiple_of(LOOK_US);
            if is_look && step > 0 {
                paces = self.paces();
            }
            self.run_router(&mut paces);
            if is_look {
                self.look(&paces);
            }
            self.step_lines(&mut paces, base_us);
        }
    }

    fn run_router(&mut self, paces: &mut PerDirection<Pace>) {
        let now_us = self.now_us();
        let lines = &self.lines;
        while self.router.is_due(now_us) {
            let writes = self.router.writes();
            let applied = self.router.run(now_us, |direction| reading(lines, direction));
            if self.router.writes() > writes {
                self.recorder.write(now_us);
            }
            if let Some(applied) = applied {
                *self.rates.get_mut(applied.direction) = applied.rate;
                paces.get_mut(applied.direction).rate = per_step(applied.rate);
            }
        }
    }

    fn paces(&self) -> PerDirection<Pace> {
        let ms = self.now_us() / 1000;
        let pace = |direction| {
            let bin = self.capacity.get(direction).at_ms(ms);
            Pace {
                around_bps: bin.around,
                ahead: per_step(bin.ahead),
                capacity: per_step(bin.rate),
                rate: per_step(*self.rates.get(direction)),
                constant: per_step(self.scenario.lines.get(direction).traffic.constant_bps),
            }
        };
        PerDirection { download: pace(Direction::Download), upload: pace(Direction::Upload) }
    }

    fn step_lines(&mut self, paces: &mut PerDirection<Pace>, base_us: u64) {
        // Acknowledgements and probes wait for the packet that CAKE is sending.
        let held_up_us = |line: &Line| line.queue_us() + line.cake.packet_us() / 2;
        let queues = PerDirection {
            download: held_up_us(&self.lines.download),
            upload: held_up_us(&self.lines.upload),
        };
        let mut acks = 0;
        for direction in Direction::BOTH {
            let pace = *paces.get(direction);
            let limits = &self.scenario.lines.get(direction).limits;
            let other = match direction {
                Direction::Download => queues.upload,
                Direction::Upload => queues.download,
            };
            let is_on = self.switches.get(direction).is_on;
            let input = StepInput {
                step: self.step,
                capacity: pace.capacity,
                ahead: pace.ahead,
                rate: pace.rate,
                constant: pace.constant + acks,
                is_on,
                base_us: base_us + other,
                is_up: pace.around_bps >= limits.floor,
            };
            self.left.clear();
            let line = self.lines.get_mut(direction);
            let delivered = line.step(&input, &mut self.left);
            let is_backlogged = is_on || line.fifo.queued() > 0 || line.cake.queued() > 0;
            let offered = if is_backlogged { pace.capacity } else { input.constant };
            let possible = offered.min(pace.capacity);
            self.recorder.deliver(direction, self.step * STEP_US, delivered, possible);
            if direction == Direction::Download {
                acks = delivered.total() / self.ack_ratio;
            }
            self.pass_markers(direction);
        }
        self.step += 1;
    }

    fn pass_markers(&mut self, direction: Direction) {
        let now_us = (self.step + 1) * STEP_US;
        for index in 0..self.left.len() {
            let left = self.left[index];
            let fifo = &mut self.lines.download.fifo;
            match (left.kind, direction) {
                (MarkerKind::Probe(number), Direction::Upload) => {
                    let packet_us = packet_wait_us(&self.lines.upload, &self.packets, number);
                    self.probes.pass_upload(number, left.waited_us + packet_us);
                    if fifo.is_full() || !fifo.enter(now_us, left.kind) {
                        self.probes.lose(number);
                    }
                }
                (MarkerKind::Probe(number), Direction::Download) => {
                    let packet_us = packet_wait_us(&self.lines.download, &self.packets, !number);
                    self.probes.pass_download(number, left.waited_us + packet_us);
                }
                (MarkerKind::Sample(before), Direction::Upload) => {
                    // A full list of markers only makes the sample coarser.
                    let _entered = fifo.enter(now_us, MarkerKind::Sample(before + left.queued_us));
                }
                (MarkerKind::Sample(before), Direction::Download) => {
                    self.recorder.delay(now_us, before + left.queued_us);
                }
            }
        }
    }

    /// Looks at the true delay, and sends a ping of the scorer while anything is loaded.
    fn look(&mut self, paces: &PerDirection<Pace>) {
        let now_us = self.now_us();
        let added_us = self.lines.download.queue_us() + self.lines.upload.queue_us();
        let (mut is_any_loaded, mut is_any_out) = (false, false);
        for direction in Direction::BOTH {
            let pace = paces.get(direction);
            let spec = self.scenario.lines.get(direction);
            let is_up = pace.around_bps >= spec.limits.floor;
            let is_heavy = pace.constant > 0 && pace.constant * 2 >= pace.capacity;
            let is_loaded = self.switches.get(direction).is_on || is_heavy;
            is_any_loaded |= is_loaded;
            is_any_out |= is_loaded && !is_up;
            let moment = Moment {
                now_us,
                queue_us: self.lines.get(direction).queue_us(),
                added_us,
                capacity_bps: pace.around_bps,
                ahead_bps: pace.ahead * (1_000_000 / STEP_US),
                rate_bps: *self.rates.get(direction),
                is_loaded,
            };
            self.recorder.look(direction, &moment);
        }
        if is_any_out {
            self.recorder.outage(now_us, LOOK_US);
        } else if is_any_loaded {
            // A full list of markers only makes the sample coarser.
            let _entered = self.lines.upload.fifo.enter(now_us, MarkerKind::Sample(0));
        }
    }

    /// Returns whether nothing but constant traffic, which fits, will happen in this tick.
    fn is_quiet(&self, paces: &PerDirection<Pace>) -> bool {
        Direction::BOTH.iter().all(|&direction| {
            let (pace, line) = (paces.get(direction), self.lines.get(direction));
            let fits = pace.constant * 2 < pace.capacity.min(pace.rate);
            // A probe that was just sent waits behind nothing: it is no reason to run all steps.
            fits && !self.switches.get(direction).is_on && line.is_quiet_but_for_probes()
        })
    }

    /// Lets a tick pass in which no queue can build.
    fn pass_quietly(&mut self, paces: &PerDirection<Pace>) {
        let steps = self.tick_us / STEP_US;
        let now_us = self.now_us();
        for direction in [Direction::Upload, Direction::Download] {
            self.left.clear();
            let bits = paces.get(direction).constant * steps;
            self.lines.get_mut(direction).pass_quietly(bits, steps, now_us, &mut self.left);
            self.recorder.deliver(direction, now_us, Mix { bulk: 0, constant: bits }, bits);
            self.pass_markers(direction);
        }
        // pass_markers puts probes into the download's empty FIFO after it was emptied.
        self.left.clear();
        self.lines.download.pass_quietly(0, 0, now_us, &mut self.left);
        self.pass_markers(Direction::Download);
        let mut paces = *paces;
        for _ in 0..steps {
            self.run_router(&mut paces);
            self.step += 1;
        }
    }
}

/// How long a probe waits in CAKE for the packet that is being sent: CAKE lets it go next, but does
/// not interrupt.
fn packet_wait_us(line: &Line, packets: &Rng, number: u64) -> u64 {
    let mut rng = packets.at(number);
    if rng.chance(line.cake.busy_ppm()) { rng.below(line.cake.packet_us().max(1)) } else { 0 }
}

/// Reads the counters of a shaper. CAKE's drops are told as Linux tells them, its delay is not in it:
/// RouterOS does not tell it.
fn reading(lines: &PerDirection<Line>, direction: Direction) -> CounterReading {
    let cake = &lines.get(direction).cake;
    let queued = cake.queued() / 8;
    CounterReading {
        wan: WanId(0),
        direction,
        delivered_bytes: cake.delivered() / 8,
        dropped_packets: cake.dropped() as u32,
        backlog_bytes: queued as u32,
        backlog_packets: queued.div_ceil(1500) as u32,
        age_us: 0,
        queue_delay_us: None,
    }
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
