//! A made-up line that answers a controller at once: long recordings without waiting for them.
//!
//! Two WANs whose capacity drops to a third for two of every ten minutes, with a fluid queue, some
//! jitter and some loss, and a router whose counters are read once a second (five times under the
//! adaptive law). Integers and a fixed
//! seed only: every run is the same.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use embassy_time::{Duration, Instant};
use wanctl_core::config::{Config, LawConfig, WanConfig, ZoneFloors};
use wanctl_core::controller::Controller;
use wanctl_core::example;
use wanctl_core::fixed::ticks_covering;
use wanctl_core::outputs::{Action, Outputs};
use wanctl_core::steering::{ConfidenceConfig, SteeringConfig};
use wanctl_core::tick::{
    CheckKind, ConnectivityReport, CounterReading, MAX_WANS, Outcome, ProbeLoss, Reply, RttSample,
    SteeringReply, Tick,
};
use wanctl_core::trace::{self, STATE_INTERVAL};
use wanctl_core::units::{BitsPerSecond, Direction, PerDirection, ReflectorId, RttNanos, WanId};

use crate::hostile::{self, HostileLine};

/// The round-trip time of the idle line.
const BASE_RTT_US: u64 = 20_000;
/// The provider's buffer in each direction.
const BUFFER_BITS: u64 = 4_000_000;
/// Capacity on a good day.
const FULL_BPS: PerDirection<u64> = PerDirection { download: 100_000_000, upload: 20_000_000 };
/// The size of a packet, for counters.
const PACKET_BITS: u64 = 12_000;
/// One probe in so many is lost.
const LOSS_ONE_IN: u64 = 500;

/// How often counters are read.
const COUNTER_INTERVAL: Duration = Duration::from_secs(1);
/// How often they are read for the adaptive law.
const ADAPTIVE_COUNTER_INTERVAL: Duration = Duration::from_millis(200);

/// Options of `wanctl-sim synthesize`.
#[derive(Debug, clap::Args)]
pub struct SynthesizeArgs {
    /// The recording to write
    file: PathBuf,
    /// How many seconds of line it covers
    #[arg(long, default_value_t = 86_400)]
    seconds: u64,
    /// How many WANs
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=MAX_WANS as i64))]
    wans: u8,
    /// What decides on the rates
    #[arg(long, value_enum, default_value_t = Law::Classic)]
    law: Law,
    /// Let everything go wrong, in several sessions with different configurations
    #[arg(long)]
    hostile: bool,
}

/// A law of the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Law {
    /// The classic one.
    Classic,
    /// The adaptive one, with counters read five times a second.
    Adaptive,
}

/// Writes a recording.
///
/// # Errors
///
/// When the file cannot be written.
pub fn run(args: &SynthesizeArgs, out: &mut impl Write) -> Result<()> {
    let name = args.file.display();
    let file = std::fs::File::create(&args.file).with_context(|| format!("{name}"))?;
    let steps = args.seconds.saturating_mul(20);
    let mut file = std::io::BufWriter::new(file);
    let mut config = config_of(args.wans.into());
    if args.law == Law::Adaptive {
        for wan in &mut config.wans {
            wan.law = LawConfig::Adaptive(example::adaptive());
        }
    }
    if args.hostile {
        for (session, first) in (0..).zip((0..steps).step_by(hostile::SESSION_STEPS as usize)) {
            let config = hostile::config(&config, session);
            let steps = hostile::SESSION_STEPS.min(steps - first);
            record(&config, steps, &mut HostileLine::new(&config, session), &mut file)?;
        }
    } else {
        write_recording(&config, steps, &mut file)?;
    }
    writeln!(out, "{name}: {steps} steps of {} WANs", config.wans.len())?;
    Ok(())
}

/// Returns the configuration of both lines.
#[must_use]
pub fn config() -> Config {
    config_of(2)
}

/// Returns the configuration of so many lines, all alike, with steering between them.
#[must_use]
pub fn config_of(wans: usize) -> Config {
    let mut config = example::config();
    if let Some(wan) = config.wans.first_mut() {
        let mbps = BitsPerSecond::from_mbps;
        let PerDirection { download, upload } = &mut wan.shapers;
        (download.ceiling, download.floors) = (mbps(95), ZoneFloors::all(mbps(25)));
        (upload.ceiling, upload.floors) = (mbps(19), ZoneFloors::all(mbps(5)));
        (download.step_up, upload.step_up) = (mbps(1), BitsPerSecond::new(200_000));
        let wan = *wan;
        config.wans = std::iter::repeat_n(wan, wans.min(MAX_WANS)).collect();
    }
    if wans > 1 {
        let ids: Vec<WanId> = (0..).map(WanId).take(config.wans.len()).collect();
        let mut steering = SteeringConfig::new(&ids, config.tick);
        steering.confidence =
            Some(ConfidenceConfig { dry_run: false, ..ConfidenceConfig::DEFAULT });
        config.steering = Some(steering);
    }
    config
}

/// Something that answers a controller, tick by tick.
pub trait Line {
    /// Answers the outputs of the last step with the next tick.
    fn next(&mut self, outputs: &Outputs) -> &Tick;
}

/// Runs a controller against the made-up line and records all of it.
///
/// # Errors
///
/// When the configuration does not work or the target cannot be written.
pub fn write_recording(config: &Config, steps: u64, target: &mut impl Write) -> Result<()> {
    record(config, steps, &mut SyntheticLine::new(config), target)
}

/// Records one session of a controller with a line.
///
/// # Errors
///
/// When the configuration does not work or the target cannot be written.
pub fn record(
    config: &Config,
    steps: u64,
    line: &mut impl Line,
    target: &mut impl Write,
) -> Result<()> {
    let mut controller: Box<Controller> = Box::new(Controller::new(config)?);
    let mut outputs = Outputs::new();
    let mut buffer = vec![0; trace::MAX_STATE_BYTES];
    let state_ticks = u64::from(ticks_covering(STATE_INTERVAL, config.tick));
    for seq in 0..steps {
        if seq.is_multiple_of(state_ticks) {
            target.write_all(trace::encode_header(config, &mut buffer)?)?;
            target.write_all(trace::encode_state(&controller, &mut buffer)?)?;
        }
        let tick = line.next(&outputs);
        controller.step(tick, &mut outputs);
        target.write_all(trace::encode_step(seq, tick, &outputs, &mut buffer)?)?;
    }
    target.flush()?;
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Wan {
    reflectors: u8,
    rates: PerDirection<u64>,
    backlog_bits: PerDirection<u64>,
    delivered_bits: PerDirection<u64>,
    dropped_bits: PerDirection<u64>,
}

/// The line of every WAN of a configuration, tick by tick.
#[derive(Debug)]
pub struct SyntheticLine {
    interval: Duration,
    counter_ticks: u64,
    wans: Vec<Wan>,
    random: Random,
    ticks: u64,
    tick: Tick,
}

impl SyntheticLine {
    /// Makes idle lines.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let wan = |reflectors| Wan {
            reflectors,
            rates: FULL_BPS,
            backlog_bits: PerDirection::default(),
            delivered_bits: PerDirection::default(),
            dropped_bits: PerDirection::default(),
        };
        let is_adaptive = |wan: &WanConfig| matches!(wan.law, LawConfig::Adaptive(_));
        let counter_interval = if config.wans.iter().any(is_adaptive) {
            ADAPTIVE_COUNTER_INTERVAL
        } else {
            COUNTER_INTERVAL
        };
        Self {
            interval: config.tick,
            counter_ticks: ticks_covering(counter_interval, config.tick).into(),
            wans: config.wans.iter().map(|config| wan(config.reflectors)).collect(),
            random: Random::new(1),
            ticks: 0,
            tick: Tick::new(Instant::from_ticks(0)),
        }
    }

    fn answer(&mut self, outputs: &Outputs) {
        self.tick.reset(self.tick.now + self.interval);
        for action in &outputs.actions {
            if let Action::SetRate { id, wan, direction, rate, .. } = *action {
                if let Some(line) = self.wans.get_mut(usize::from(wan.0)) {
                    *line.rates.get_mut(direction) = rate.get();
                }
                let outcome = Outcome::Applied(rate);
                self.tick.push_reply(Reply { wan, direction, id, outcome, took_us: 20_000 });
            }
            if let Action::SetSteering { id, .. } = *action {
                let reply = SteeringReply { id, succeeded: true, took_us: 40_000 };
                self.tick.push_steering_reply(reply);
            }
        }
        for (id, index) in (0..).map(WanId).zip(0..self.wans.len()) {
            self.probe(id, index);
            if self.ticks.is_multiple_of(self.counter_ticks) {
                self.read_counters(id, index);
            }
        }
        self.ticks += 1;
    }

    fn probe(&mut self, wan: WanId, index: usize) {
        let second = self.ticks * self.interval.as_micros() / 1_000_000 + 300 * index as u64;
        let line = &mut self.wans[index];
        let queue_us = Direction::BOTH.map(|way| line.queue_us(way, second, self.interval));
        let reflectors = line.reflectors;
        let mut lost = 0;
        for reflector in (0..reflectors).map(ReflectorId) {
            let jitter_ns = self.random.below(2_000_000);
            if self.random.below(LOSS_ONE_IN) == 0 {
                lost += 1;
                self.tick.push_loss(ProbeLoss { wan, reflector });
                continue;
            }
            let micros = BASE_RTT_US + queue_us.iter().sum::<u64>();
            let rtt = RttNanos::new(micros * 1000 + jitter_ns);
            let age_us = u32::try_from(self.random.below(50_000)).unwrap_or_default();
            self.tick.push_sample(RttSample { wan, reflector, rtt, age_us, upload_owd: None });
        }
        if lost == reflectors {
            self.tick.push_connectivity(ConnectivityReport {
                wan,
                kind: CheckKind::Tcp,
                connected: true,
            });
        }
    }
    fn read_counters(&mut self, wan: WanId, index: usize) {
        let line = &self.wans[index];
        for direction in Direction::BOTH {
            let packets = |bits: u64| u32::try_from(bits / PACKET_BITS).unwrap_or(u32::MAX);
            let backlog_bits = *line.backlog_bits.get(direction);
            let delay_us = backlog_bits * 1_000_000 / FULL_BPS.get(direction);
            self.tick.push_counters(CounterReading {
                wan,
                direction,
                delivered_bytes: line.delivered_bits.get(direction) / 8,
                dropped_packets: packets(*line.dropped_bits.get(direction)),
                backlog_bytes: u32::try_from(backlog_bits / 8).unwrap_or(u32::MAX),
                backlog_packets: packets(backlog_bits),
                age_us: 20_000,
                queue_delay_us: u32::try_from(delay_us).ok(),
            });
        }
    }
}

impl Line for SyntheticLine {
    fn next(&mut self, outputs: &Outputs) -> &Tick {
        self.answer(outputs);
        &self.tick
    }
}

/// xorshift64: plenty for jitter.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Begins with a seed other than 0.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `limit`, which is not 0.
    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Returns one of a few.
    pub(crate) fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[usize::try_from(self.below(choices.len() as u64)).unwrap_or_default()]
    }
}

impl Wan {
    /// Moves one direction's queue by one interval and returns its delay.
    fn queue_us(&mut self, direction: Direction, second: u64, interval: Duration) -> u64 {
        let phase = second % 600;
        let full = *FULL_BPS.get(direction);
        let capacity = if (200..320).contains(&phase) { full / 3 } else { full };
        let offered = if phase < 60 { full / 20 } else { *self.rates.get(direction) };
        let bits = |bps: u64| bps * interval.as_micros() / 1_000_000;
        let backlog = self.backlog_bits.get_mut(direction);
        let arrived = *backlog + bits(offered);
        let delivered = arrived.min(bits(capacity));
        *backlog = (arrived - delivered).min(BUFFER_BITS);
        *self.delivered_bits.get_mut(direction) += delivered;
        *self.dropped_bits.get_mut(direction) += arrived - delivered - *backlog;
        *backlog * 1_000_000 / capacity
    }
}

/// Steps of a controller over the same ten minutes again and again, for measuring.
#[derive(Debug)]
pub struct RepeatedSteps {
    fresh: Box<Controller>,
    controller: Box<Controller>,
    ticks: Vec<Tick>,
    outputs: Outputs,
    next: usize,
}

impl RepeatedSteps {
    /// Makes the ticks for one WAN or two.
    ///
    /// # Errors
    ///
    /// When the configuration does not work.
    pub fn new(wans: usize) -> Result<Self> {
        let config = config_of(wans);
        let fresh: Box<Controller> = Box::new(Controller::new(&config)?);
        let (mut controller, mut outputs) = (fresh.clone(), Outputs::new());
        let mut line = SyntheticLine::new(&config);
        let mut ticks = Vec::new();
        for _ in 0..12_000 {
            ticks.push(line.next(&outputs).clone());
            controller.step(&line.tick, &mut outputs);
        }
        Ok(Self { controller: fresh.clone(), fresh, ticks, outputs, next: 0 })
    }

    /// Runs one step.
    pub fn step(&mut self) -> &Outputs {
        if self.next == self.ticks.len() {
            self.next = 0;
            self.controller.clone_from(&self.fresh);
        }
        self.controller.step(&self.ticks[self.next], &mut self.outputs);
        self.next += 1;
        &self.outputs
    }
}
