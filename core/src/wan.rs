//! One WAN: first look at everything that came in, then decide once.

use embassy_time::{Duration, Instant};
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::command::{Ended, RateCommand};
use crate::config::WanConfig;
use crate::estimate::DelayEstimate;
use crate::fallback::{BlindVerdict, Fallback};
use crate::fixed::{MicrosQ32, ticks_covering};
use crate::governor::WriteLimiter;
use crate::law::classic::ClassicShaper;
use crate::outputs::{Action, Event, Outputs, RateReason, SampleRejection};
use crate::persist::PersistedWan;
use crate::snapshot::{DirectionSnapshot, TickResult, WanCounters, WanSnapshot};
use crate::tick::{MAX_REFLECTORS, ProbeLoss, RttSample, SAMPLE_AGE_MAX, Tick};
use crate::units::{BitsPerSecond, CommandId, Direction, PerDirection, ReflectorId, WanId};

/// What one tick says about the line.
enum Evidence {
    /// At least one reflector answered.
    Sample(MicrosQ32),
    /// Probes ended, and all of them were lost.
    Lost { connected: bool },
    /// Nothing came in: probes are still on their way.
    Nothing,
}

/// The state of one WAN.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Wan {
    id: WanId,
    reflectors: u8,
    limiter_delays_cuts: bool,
    estimate: DelayEstimate,
    fallback: Fallback,
    #[serde(with = "crate::micros")]
    blind_after: Duration,
    #[serde(with = "crate::micros")]
    last_sample: Option<Instant>,
    blind_since_told: bool,
    shapers: PerDirection<ClassicShaper>,
    commands: PerDirection<RateCommand>,
    held: PerDirection<bool>,
    limiter: WriteLimiter,
    /// How many steps a raise may gather before it is written.
    raise_ticks: u32,
    has_decided: bool,
    result: TickResult,
    counters: WanCounters,
}

impl Wan {
    pub(crate) fn new(id: WanId, config: &WanConfig, tick: Duration) -> Self {
        let classic = &config.classic;
        Self {
            id,
            reflectors: config.reflectors,
            limiter_delays_cuts: classic.quirks.limiter_delays_cuts,
            estimate: DelayEstimate::new(classic, tick),
            fallback: Fallback::new(&classic.blind, tick),
            blind_after: classic.blind.after,
            last_sample: None,
            blind_since_told: false,
            shapers: PerDirection {
                download: ClassicShaper::new(Direction::Download, config, tick),
                upload: ClassicShaper::new(Direction::Upload, config, tick),
            },
            commands: PerDirection::default(),
            held: PerDirection::default(),
            limiter: WriteLimiter::new(classic.write_limit),
            raise_ticks: ticks_covering(classic.write_limit.spacing(), tick),
            has_decided: false,
            result: TickResult::Waiting,
            counters: WanCounters::default(),
        }
    }

    /// Runs one tick of this WAN.
    pub(crate) fn step(
        &mut self,
        tick: &Tick,
        now: Instant,
        next_id: &mut CommandId,
        out: &mut Outputs,
    ) {
        self.take_replies(tick, now, out);
        let evidence = self.gather(tick, now, out);
        match evidence {
            Evidence::Sample(sample) => {
                self.leave_blindness(out);
                self.last_sample = Some(now);
                let may_reanchor = !self.is_at_floor();
                self.estimate.update(self.id, sample, may_reanchor, out);
                self.control(out);
                self.result = TickResult::Controlled;
            }
            Evidence::Lost { connected } => self.go_on_blind(connected, out),
            Evidence::Nothing => self.result = TickResult::Waiting,
        }
        let controlled = self.result == TickResult::Controlled;
        if controlled || (self.has_decided && !self.limiter_delays_cuts) {
            self.govern(now, next_id, out);
        }
        for reflector in 0..self.reflectors {
            out.act(Action::SendProbe { wan: self.id, reflector: ReflectorId(reflector) });
        }
    }

    fn take_replies(&mut self, tick: &Tick, now: Instant, out: &mut Outputs) {
        let wan = self.id;
        for reply in tick.replies.iter().filter(|reply| reply.wan == wan) {
            let direction = reply.direction;
            match self.commands.get_mut(direction).answer(reply.id, reply.outcome) {
                Ended::Confirmed(rate) => {
                    let took_us = reply.took_us;
                    out.tell(Event::RateConfirmed { wan, direction, rate, took_us });
                }
                Ended::Failed(rate) => {
                    self.counters.writes_failed = self.counters.writes_failed.saturating_add(1);
                    out.tell(Event::WriteFailed { wan, direction, rate });
                }
                Ended::Ignored => {}
            }
        }
        for direction in Direction::BOTH {
            if let Some(rate) = self.commands.get_mut(direction).expire(now) {
                self.counters.writes_failed = self.counters.writes_failed.saturating_add(1);
                out.tell(Event::WriteTimedOut { wan, direction, rate });
            }
        }
    }

    fn gather(&mut self, tick: &Tick, now: Instant, out: &mut Outputs) -> Evidence {
        let mut latest: [Option<MicrosQ32>; MAX_REFLECTORS] = [None; MAX_REFLECTORS];
        let mut has_rejected = false;
        for sample in tick.samples.iter().filter(|sample| sample.wan == self.id) {
            match self.accept(sample) {
                Ok(()) => {
                    self.counters.samples = self.counters.samples.saturating_add(1);
                    if let Some(slot) = latest.get_mut(usize::from(sample.reflector.0)) {
                        *slot = Some(sample.rtt.into());
                    }
                }
                Err(_) if has_rejected => {}
                Err(why) => {
                    has_rejected = true;
                    let reflector = sample.reflector;
                    out.tell(Event::SampleRejected { wan: self.id, reflector, why });
                }
            }
        }
        let is_ours = |loss: &&ProbeLoss| loss.wan == self.id && loss.reflector.0 < self.reflectors;
        let lost = tick.losses.iter().filter(is_ours).count();
        let lost = u64::try_from(lost).unwrap_or(u64::MAX);
        self.counters.losses = self.counters.losses.saturating_add(lost);
        if let Some(sample) = median(&latest) {
            Evidence::Sample(sample)
        } else if lost > 0 && self.is_silent(now) {
            let report = tick.connectivity.iter().find(|report| report.wan == self.id);
            Evidence::Lost { connected: report.is_some_and(|report| report.connected) }
        } else {
            Evidence::Nothing
        }
    }

    /// Returns whether the last sample is so long ago that losses mean blindness. One silent
    /// reflector among others that answer does not.
    fn is_silent(&self, now: Instant) -> bool {
        let last = self.last_sample.and_then(|last| now.checked_duration_since(last));
        last.is_none_or(|silence| silence >= self.blind_after)
    }

    fn accept(&self, sample: &RttSample) -> Result<(), SampleRejection> {
        if sample.reflector.0 >= self.reflectors {
            Err(SampleRejection::UnknownSource)
        } else if u64::from(sample.age_us) > SAMPLE_AGE_MAX.as_micros() {
            Err(SampleRejection::Stale)
        } else {
            Ok(())
        }
    }

    fn go_on_blind(&mut self, connected: bool, out: &mut Outputs) {
        let wan = self.id;
        if !self.blind_since_told {
            self.blind_since_told = true;
            out.tell(Event::BlindBegan { wan, connected });
        }
        let verdict = self.fallback.judge(connected);
        if connected && self.fallback.just_passed_limit() {
            out.tell(Event::BlindLimitReached { wan, ticks: self.fallback.ticks() });
        }
        self.result = match verdict {
            BlindVerdict::ReuseLoad if self.can_reuse_load() => {
                self.estimate.reuse_load(wan, out);
                self.control(out);
                TickResult::Controlled
            }
            BlindVerdict::Freeze => TickResult::Frozen,
            BlindVerdict::ReuseLoad | BlindVerdict::Fail => TickResult::Failed,
        };
    }

    /// Returns whether a direction has been cut as far as it may be.
    fn is_at_floor(&self) -> bool {
        Direction::BOTH.iter().any(|&direction| self.shapers.get(direction).is_at_floor())
    }

    /// Before the first sample there is nothing to reuse; only the reference takes its configured
    /// initial value for a measurement.
    fn can_reuse_load(&self) -> bool {
        self.last_sample.is_some() || (self.limiter_delays_cuts && self.estimate.is_seeded())
    }

    fn leave_blindness(&mut self, out: &mut Outputs) {
        let ticks = self.fallback.end();
        if self.blind_since_told {
            self.blind_since_told = false;
            out.tell(Event::BlindEnded { wan: self.id, ticks });
        }
    }

    /// Lets the law decide on both directions.
    fn control(&mut self, out: &mut Outputs) {
        let wan = self.id;
        let delay = self.estimate.delay();
        for direction in Direction::BOTH {
            // The reference does not look at what the router was told.
            let command = self.commands.get(direction);
            let held = if self.limiter_delays_cuts { None } else { command.presumed() };
            let shaper = self.shapers.get_mut(direction);
            let from = shaper.zone();
            shaper.step(delay, held, self.raise_ticks);
            let to = shaper.zone();
            if from != to {
                out.tell(Event::ZoneChanged { wan, direction, from, to, delay });
            }
        }
        self.has_decided = true;
    }

    /// Turns wanted rates into writes, as far as the limiter lets them through. Cuts go first;
    /// nothing is raised while the line is blind.
    fn govern(&mut self, now: Instant, next_id: &mut CommandId, out: &mut Outputs) {
        let room = self.limiter.wait_for_room(now);
        let spacing = self.limiter.wait_for_spacing(now);
        let is_blind = matches!(self.result, TickResult::Frozen | TickResult::Failed);
        let mut written = false;
        for want_cut in [true, false] {
            for direction in Direction::BOTH {
                let wanted = self.shapers.get(direction).rate();
                let command = self.commands.get(direction);
                let is_cut = command.is_cut(wanted);
                if command.commanded() == Some(wanted) {
                    *self.held.get_mut(direction) = false;
                    continue;
                }
                if is_cut != want_cut || (is_blind && !is_cut) {
                    continue;
                }
                let answer_due = command.is_in_flight() && !is_cut;
                let wait = match (self.limiter_delays_cuts, is_cut) {
                    (true, _) => room,
                    (false, true) => Duration::MIN,
                    (false, false) => spacing,
                };
                if wait > Duration::MIN {
                    self.hold(direction, wanted, wait, out);
                } else if self.limiter_delays_cuts || !answer_due {
                    self.write(direction, wanted, is_cut, now, next_id, out);
                    written = true;
                }
            }
        }
        if written {
            self.limiter.record(now);
        }
    }

    fn hold(
        &mut self,
        direction: Direction,
        wanted: BitsPerSecond,
        wait: Duration,
        out: &mut Outputs,
    ) {
        if !core::mem::replace(self.held.get_mut(direction), true) {
            out.tell(Event::WriteHeld { wan: self.id, direction, wanted, wait });
        }
    }

    fn write(
        &mut self,
        direction: Direction,
        to: BitsPerSecond,
        is_cut: bool,
        now: Instant,
        next_id: &mut CommandId,
        out: &mut Outputs,
    ) {
        let (wan, id) = (self.id, *next_id);
        next_id.0 = next_id.0.wrapping_add(1);
        let command = self.commands.get_mut(direction);
        let from = command.commanded();
        let reason = match from {
            Some(_) => self.shapers.get(direction).reason(),
            None if command.was_ever_issued() => RateReason::Again,
            None => RateReason::Start,
        };
        command.issue(id, to, now);
        *self.held.get_mut(direction) = false;
        self.counters.count_write(from, to);
        let (delay, baseline) = (self.estimate.delay(), self.estimate.baseline());
        out.act(Action::SetRate { id, wan, direction, rate: to, is_cut });
        out.tell(Event::RateChanged { wan, direction, from, to, reason, delay, baseline });
    }

    /// Returns what is worth keeping over a restart, if anything was measured yet.
    pub(crate) fn persist(&self) -> Option<PersistedWan> {
        let wanted = PerDirection {
            download: self.shapers.download.rate(),
            upload: self.shapers.upload.rate(),
        };
        let (baseline, load) = (self.estimate.baseline(), self.estimate.load());
        self.estimate.is_seeded().then_some(PersistedWan { baseline, load, wanted })
    }

    /// Returns whether this WAN could have been in that state.
    pub(crate) fn accepts(&self, kept: &PersistedWan) -> bool {
        let mut shapers = Direction::BOTH.into_iter();
        self.estimate.accepts(kept.baseline, kept.load)
            && shapers.all(|way| self.shapers.get(way).accepts(*kept.wanted.get(way)))
    }

    /// Goes on from a state that was accepted.
    pub(crate) fn restore(&mut self, kept: &PersistedWan) {
        self.estimate.restore(kept.baseline, kept.load);
        for direction in Direction::BOTH {
            self.shapers.get_mut(direction).restore(*kept.wanted.get(direction));
        }
    }

    /// Returns the read-only mirror of this WAN.
    pub(crate) fn snapshot(&self) -> WanSnapshot {
        let direction = |direction: Direction| DirectionSnapshot {
            zone: self.shapers.get(direction).zone(),
            streaks: self.shapers.get(direction).streaks(),
            wanted: self.shapers.get(direction).rate(),
            commanded: self.commands.get(direction).commanded(),
            confirmed: self.commands.get(direction).confirmed(),
        };
        WanSnapshot {
            result: self.result,
            latest_rtt_us: self.estimate.latest_sample_us(),
            load: self.estimate.load(),
            baseline: self.estimate.baseline(),
            delay: self.estimate.delay(),
            blind_ticks: self.fallback.ticks(),
            directions: PerDirection {
                download: direction(Direction::Download),
                upload: direction(Direction::Upload),
            },
            counters: self.counters,
        }
    }
}

/// Returns the median of one value per reflector: the middle of three, the mean of two, or the one.
fn median(values: &[Option<MicrosQ32>]) -> Option<MicrosQ32> {
    let mut sorted: Vec<MicrosQ32, MAX_REFLECTORS> = values.iter().flatten().copied().collect();
    sorted.sort_unstable();
    match sorted.as_slice() {
        [] => None,
        [one] => Some(*one),
        [low, high] => Some(low.midpoint(*high)),
        [_, middle, ..] => Some(*middle),
    }
}
