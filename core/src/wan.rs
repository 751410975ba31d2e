//! One WAN: first look at everything that came in, then decide once.

use embassy_time::{Duration, Instant};
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::config::WanConfig;
use crate::delivery::Delivery;
use crate::estimate::DelayEstimate;
use crate::fallback::{Ask, BlindVerdict, Fallback};
use crate::fixed::{MicrosQ32, ticks_covering};
use crate::governor::{Governor, Moment};
use crate::law::classic::ClassicShaper;
use crate::link::{Link, LinkChange, LinkInputs, LinkState};
use crate::outputs::{Action, Event, Outputs, SampleRejection};
use crate::persist::PersistedWan;
use crate::quality::QualityEstimate;
use crate::recent::{Recent, WanHistory};
use crate::snapshot::{DirectionSnapshot, TickResult, WanCounters, WanSnapshot};
use crate::steering::{Sight, WanSignals};
use crate::tick::{MAX_REFLECTORS, OperState, ProbeLoss, RttSample, SAMPLE_AGE_MAX, Tick};
use crate::units::{CommandId, Direction, PerDirection, ReflectorId, WanId};

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
    #[serde(with = "crate::micros")]
    tick: Duration,
    is_reference: bool,
    link: Option<Link>,
    oper_state: OperState,
    quality: QualityEstimate,
    deliveries: PerDirection<Delivery>,
    estimate: DelayEstimate,
    fallback: Fallback,
    #[serde(with = "crate::micros")]
    blind_after: Duration,
    #[serde(with = "crate::micros")]
    last_sample: Option<Instant>,
    is_blind_told: bool,
    shapers: PerDirection<ClassicShaper>,
    /// How many steps a raise may gather before it is written.
    raise_ticks: u32,
    governor: Governor,
    has_decided: bool,
    result: TickResult,
    counters: WanCounters,
    history: WanHistory,
    sight: Sight,
}

impl Wan {
    pub(crate) fn new(id: WanId, config: &WanConfig, tick: Duration) -> Self {
        let classic = &config.classic;
        let is_reference = classic.quirks.limiter_delays_cuts;
        Self {
            id,
            reflectors: config.reflectors,
            tick,
            is_reference,
            link: config.link.map(|link| Link::new(link, tick)),
            oper_state: OperState::Unknown,
            quality: QualityEstimate::new(tick),
            deliveries: PerDirection::default(),
            estimate: DelayEstimate::new(classic, tick),
            fallback: Fallback::new(&classic.blind, tick),
            blind_after: classic.blind.after,
            last_sample: None,
            is_blind_told: false,
            shapers: PerDirection {
                download: ClassicShaper::new(Direction::Download, config, tick),
                upload: ClassicShaper::new(Direction::Upload, config, tick),
            },
            raise_ticks: ticks_covering(classic.write_limit.spacing(), tick),
            governor: Governor::new(id, classic.write_limit, is_reference),
            has_decided: false,
            result: TickResult::Waiting,
            counters: WanCounters::default(),
            history: WanHistory::new(&PerDirection {
                download: config.shapers.download.ceiling,
                upload: config.shapers.upload.ceiling,
            }),
            sight: Sight::new(config.link.map(|link| link.outage_after)),
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
        self.take_counters(tick, now);
        let evidence = self.gather(tick, now, out);
        let is_answered = matches!(evidence, Evidence::Sample(_));
        let is_usable = self.live(tick, now, is_answered, out);
        let works = is_answered || self.fallback.is_connected(now);
        self.sight.look(now, works, self.oper_state == OperState::Down);
        self.result = match evidence {
            Evidence::Sample(sample) if is_usable => self.go_on(sample, now, out),
            Evidence::Lost { connected } => self.go_on_blind(connected, now, out),
            Evidence::Sample(_) | Evidence::Nothing => TickResult::Waiting,
        };
        let controlled = self.result == TickResult::Controlled;
        if controlled || (self.has_decided && !self.is_reference) {
            self.govern(now, next_id, out);
        }
        self.probe(out);
        self.remember();
    }

    /// Adds zones and wanted rates to the histories, from the first decision on.
    fn remember(&mut self) {
        if self.has_decided {
            let PerDirection { download, upload } = &self.shapers;
            let zones = PerDirection { download: download.zone(), upload: upload.zone() };
            let wanted = PerDirection { download: download.rate(), upload: upload.rate() };
            self.history.decided(&zones, &wanted);
        }
    }

    /// Returns the latest past.
    pub(crate) const fn recent(&self) -> Recent<'_> {
        Recent::new(&self.estimate, &self.history)
    }

    /// Pings every reflector, unless the link is known to be down.
    fn probe(&self, out: &mut Outputs) {
        if self.oper_state == OperState::Down {
            return;
        }
        for reflector in 0..self.reflectors {
            out.act(Action::SendProbe { wan: self.id, reflector: ReflectorId(reflector) });
        }
    }

    fn take_replies(&mut self, tick: &Tick, now: Instant, out: &mut Outputs) {
        for reply in tick.replies.iter().filter(|reply| reply.wan == self.id) {
            self.governor.take(reply, &mut self.counters, out);
        }
        self.governor.expire(now, &mut self.counters, out);
        for report in tick.connectivity.iter().filter(|report| report.wan == self.id) {
            if let Some(finding) = self.fallback.take(report, now) {
                let (wan, kind, connected) = (self.id, finding.kind, finding.connected);
                out.tell(Event::ConnectivityChecked { wan, kind, connected });
            }
        }
    }

    /// Follows the delivered rates. Only a loaded direction says how steady the line is: one that
    /// delivers at least half of what its shaper lets through.
    fn take_counters(&mut self, tick: &Tick, now: Instant) {
        for reading in tick.counters.iter().filter(|reading| reading.wan == self.id) {
            self.history.read(reading);
            let age = Duration::from_micros(u64::from(reading.age_us));
            let at = now.checked_sub(age).unwrap_or(Instant::MIN);
            let delivery = self.deliveries.get_mut(reading.direction);
            let Some((rate, over)) = delivery.read(reading.delivered_bytes, at) else { continue };
            let held = self.governor.command(reading.direction).presumed();
            if held.is_some_and(|held| rate.saturating_mul(2) >= held) {
                self.quality.delivered(reading.direction, rate, over);
            }
        }
        for direction in Direction::BOTH {
            self.deliveries.get_mut(direction).expire(now);
        }
    }

    /// Moves the link's life on; returns whether its samples mean anything now.
    fn live(&mut self, tick: &Tick, now: Instant, answered: bool, out: &mut Outputs) -> bool {
        let mut address_changed = false;
        for fact in tick.links.iter().filter(|fact| fact.wan == self.id) {
            self.oper_state = fact.oper_state;
            address_changed |= fact.address_changed;
        }
        let quality = self.quality.quality(self.estimate.delay());
        let Some(link) = &mut self.link else { return true };
        let oper_state = self.oper_state;
        let connected = self.fallback.is_connected(now);
        let inputs = LinkInputs { oper_state, address_changed, answered, connected, quality };
        let change = link.step(now, &inputs);
        let state = link.state();
        if let Some(LinkChange { from, to, edge }) = change {
            out.tell(Event::LinkChanged { wan: self.id, from, to, edge, quality });
            if to == LinkState::Reset {
                self.forget(now);
            }
        }
        !matches!(state, LinkState::Init | LinkState::Reset)
    }

    /// Forgets what was learned about a path that is gone, and begins again from the start rate.
    fn forget(&mut self, now: Instant) {
        self.estimate.forget();
        self.quality = QualityEstimate::new(self.tick);
        self.deliveries = PerDirection::default();
        self.last_sample = None;
        self.cap_rates(now);
    }

    fn cap_rates(&mut self, now: Instant) {
        if let Some(share) = self.link.as_ref().and_then(|link| link.cap(now)) {
            for direction in Direction::BOTH {
                self.shapers.get_mut(direction).cap(share);
            }
        }
    }

    fn gather(&mut self, tick: &Tick, now: Instant, out: &mut Outputs) -> Evidence {
        let mut latest: [Option<MicrosQ32>; MAX_REFLECTORS] = [None; MAX_REFLECTORS];
        let (mut has_rejected, mut accepted) = (false, 0_usize);
        for sample in tick.samples.iter().filter(|sample| sample.wan == self.id) {
            match self.accept(sample) {
                Ok(()) => {
                    accepted = accepted.saturating_add(1);
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
        let answered = u32::try_from(accepted).unwrap_or(u32::MAX);
        self.quality.probes(answered, u32::try_from(lost).unwrap_or(u32::MAX));
        let losses = u64::try_from(lost).unwrap_or(u64::MAX);
        self.counters.losses = self.counters.losses.saturating_add(losses);
        if let Some(sample) = median(&latest) {
            Evidence::Sample(sample)
        } else if lost > 0 && self.is_silent(now) {
            Evidence::Lost { connected: self.fallback.is_connected(now) }
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

    fn go_on(&mut self, sample: MicrosQ32, now: Instant, out: &mut Outputs) -> TickResult {
        self.leave_blindness(out);
        self.last_sample = Some(now);
        self.quality.sample(sample);
        let may_reanchor = !self.is_at_floor();
        self.estimate.update(self.id, sample, may_reanchor, out);
        self.sight.measure(sample.saturating_sub(self.estimate.baseline()));
        self.control(now, out);
        TickResult::Controlled
    }

    fn go_on_blind(&mut self, connected: bool, now: Instant, out: &mut Outputs) -> TickResult {
        let wan = self.id;
        if !self.is_blind_told {
            self.is_blind_told = true;
            out.tell(Event::BlindBegan { wan, connected });
        }
        match self.fallback.ask(now) {
            Some(Ask::Gateway) => out.act(Action::CheckGateway { wan }),
            Some(Ask::Tcp(target)) => out.act(Action::CheckTcp { wan, target }),
            None => {}
        }
        let verdict = self.fallback.judge(connected);
        if connected && self.fallback.just_passed_limit() {
            out.tell(Event::BlindLimitReached { wan, ticks: self.fallback.ticks() });
        }
        self.counters.blind_raw = self.counters.blind_raw.saturating_add(1);
        if verdict == BlindVerdict::ReuseLoad && self.can_reuse_load() {
            self.estimate.reuse_load(wan, out);
            self.control(now, out);
            return TickResult::Controlled;
        }
        self.counters.blind_effective = self.counters.blind_effective.saturating_add(1);
        match verdict {
            BlindVerdict::Freeze => TickResult::Frozen,
            BlindVerdict::ReuseLoad | BlindVerdict::Fail => TickResult::Failed,
        }
    }

    /// Returns whether a direction has been cut as far as it may be.
    fn is_at_floor(&self) -> bool {
        Direction::BOTH.iter().any(|&direction| self.shapers.get(direction).is_at_floor())
    }

    /// Before the first sample there is nothing to reuse; only the reference takes its configured
    /// initial value for a measurement.
    fn can_reuse_load(&self) -> bool {
        self.last_sample.is_some() || (self.is_reference && self.estimate.is_seeded())
    }

    fn leave_blindness(&mut self, out: &mut Outputs) {
        let ticks = self.fallback.end();
        if self.is_blind_told {
            self.is_blind_told = false;
            out.tell(Event::BlindEnded { wan: self.id, ticks });
        }
    }

    /// Lets the law decide on both directions.
    fn control(&mut self, now: Instant, out: &mut Outputs) {
        let wan = self.id;
        let delay = self.estimate.delay();
        for direction in Direction::BOTH {
            // The reference does not look at what the router was told.
            let held = self.governor.command(direction).presumed();
            let held = held.filter(|_| !self.is_reference);
            let shaper = self.shapers.get_mut(direction);
            let from = shaper.zone();
            shaper.step(delay, held, self.raise_ticks);
            let to = shaper.zone();
            if from != to {
                out.tell(Event::ZoneChanged { wan, direction, from, to, delay });
            }
        }
        self.cap_rates(now);
        self.has_decided = true;
    }

    fn govern(&mut self, now: Instant, next_id: &mut CommandId, out: &mut Outputs) {
        let wanted = PerDirection {
            download: self.shapers.download.wanted(),
            upload: self.shapers.upload.wanted(),
        };
        let moment = Moment {
            now,
            delay: self.estimate.delay(),
            baseline: self.estimate.baseline(),
            is_blind: matches!(self.result, TickResult::Frozen | TickResult::Failed),
        };
        self.governor.govern(&wanted, &moment, next_id, &mut self.counters, out);
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

    /// Returns what this tick says to steering.
    pub(crate) fn steering_signals(&self, tick: &Tick) -> WanSignals {
        self.sight.signals(self.id, tick)
    }

    /// Returns the read-only mirror of this WAN.
    pub(crate) fn snapshot(&self) -> WanSnapshot {
        let direction = |direction: Direction| DirectionSnapshot {
            zone: self.shapers.get(direction).zone(),
            streaks: self.shapers.get(direction).streaks(),
            wanted: self.shapers.get(direction).rate(),
            commanded: self.governor.command(direction).commanded(),
            confirmed: self.governor.command(direction).confirmed(),
            delivered: self.deliveries.get(direction).rate(),
        };
        WanSnapshot {
            result: self.result,
            link: self.link.as_ref().map_or(LinkState::Live, Link::state),
            quality: self.quality.quality(self.estimate.delay()),
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
            recent: None,
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
