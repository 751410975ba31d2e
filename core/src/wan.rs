//! One WAN: first look at everything that came in, then decide once.

mod gather;
mod mirror;
mod take_over;

use embassy_time::{Duration, Instant};
use heapless::Vec;
use serde::{Deserialize, Serialize};

use self::gather::Evidence;
use crate::config::{LawConfig, WanConfig};
use crate::delivery::Delivery;
use crate::estimate::DelayEstimate;
use crate::fallback::{Ask, BlindVerdict, Fallback};
use crate::fixed::{MicrosQ32, ticks_covering};
use crate::governor::{Governor, Moment, Wanted};
use crate::law::adaptive::{AdaptiveLaw, LawInputs};
use crate::law::classic::ClassicShaper;
use crate::link::{Link, LinkChange, LinkEdge, LinkInputs, LinkState};
use crate::outputs::{Action, Event, Outputs};
use crate::places::{Empty, Places};
use crate::quality::QualityEstimate;
use crate::recent::{Recent, WanHistory};
use crate::snapshot::{TickResult, WanCounters};
use crate::steering::{Sight, WanSignals};
use crate::tick::{OperState, Outcome, Tick};
use crate::units::{BitsPerSecond, CommandId, Direction, PerDirection, ReflectorId, WanId};

/// The state of one WAN.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Wan {
    id: WanId,
    reflectors: u8,
    #[serde(with = "crate::micros")]
    tick: Duration,
    is_reference: bool,
    /// None or one, as the law.
    link: Vec<Link, 1>,
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
    /// None or one. An `Option` of it would not be all zeros when it is empty.
    adaptive: Places<AdaptiveLaw, 1>,
    /// How many steps a raise may gather before it is written.
    raise_ticks: u32,
    governor: Governor,
    has_decided: bool,
    result: TickResult,
    counters: WanCounters,
    sight: Sight,
}

impl Empty for Wan {
    const EMPTY: Self = Self {
        id: WanId(0),
        reflectors: 0,
        tick: Duration::MIN,
        is_reference: false,
        link: Vec::new(),
        oper_state: OperState::Unknown,
        quality: QualityEstimate::EMPTY,
        deliveries: PerDirection { download: Delivery::EMPTY, upload: Delivery::EMPTY },
        estimate: DelayEstimate::EMPTY,
        fallback: Fallback::EMPTY,
        blind_after: Duration::MIN,
        last_sample: None,
        is_blind_told: false,
        shapers: PerDirection { download: ClassicShaper::EMPTY, upload: ClassicShaper::EMPTY },
        adaptive: Places::new(),
        raise_ticks: 0,
        governor: Governor::EMPTY,
        has_decided: false,
        result: TickResult::Waiting,
        counters: WanCounters::ZERO,
        sight: Sight::EMPTY,
    };
}

impl Wan {
    /// Forgets everything and begins with a configuration.
    #[inline(never)]
    pub(crate) fn begin(&mut self, id: WanId, config: &WanConfig, tick: Duration) {
        let classic = &config.classic;
        (self.id, self.reflectors, self.tick) = (id, config.reflectors, tick);
        self.begin_law(config);
        self.begin_shapers(config);
        self.link.clear();
        if let Some(link) = config.link {
            let _full = self.link.push(Link::new(link, tick));
        }
        self.oper_state = OperState::Unknown;
        self.quality = QualityEstimate::new(tick);
        self.deliveries = PerDirection::default();
        self.estimate = DelayEstimate::new(classic, tick);
        self.fallback = Fallback::new(&classic.blind, tick);
        self.blind_after = classic.blind.after;
        self.last_sample = None;
        self.is_blind_told = false;
        self.raise_ticks = ticks_covering(classic.write_limit.spacing(), tick);
        self.has_decided = false;
        self.result = TickResult::Waiting;
        self.counters = WanCounters::default();
        self.sight = Sight::new(config.link.map(|link| link.outage_after));
    }

    #[inline(never)]
    fn begin_law(&mut self, config: &WanConfig) {
        self.adaptive.clear();
        let classic = &config.classic;
        match &config.law {
            LawConfig::Classic => {
                self.is_reference = classic.quirks.limiter_delays_cuts;
                self.governor = Governor::new(self.id, classic.write_limit, self.is_reference);
            }
            LawConfig::Adaptive(adaptive) => {
                if let Some(law) = self.adaptive.take() {
                    law.begin(adaptive, config, self.tick);
                }
                self.is_reference = false;
                self.governor = Governor::with_budget(self.id, adaptive.write_budget);
            }
        }
    }

    #[inline(never)]
    fn begin_shapers(&mut self, config: &WanConfig) {
        for direction in Direction::BOTH {
            *self.shapers.get_mut(direction) = ClassicShaper::new(direction, config, self.tick);
        }
    }

    pub(crate) const fn id(&self) -> WanId {
        self.id
    }

    /// Runs one tick of this WAN.
    pub(crate) fn step(
        &mut self,
        tick: &Tick,
        now: Instant,
        next_id: &mut CommandId,
        history: &mut WanHistory,
        out: &mut Outputs,
    ) {
        self.take_replies(tick, now, out);
        let held = self.held();
        if let Some(law) = self.adaptive.first_mut() {
            law.hold(&held, now);
        }
        self.take_counters(tick, now, history);
        let evidence = self.gather(tick, now, out);
        let is_answered = matches!(evidence, Evidence::Sample(_));
        let is_usable = self.live(tick, now, is_answered, history, out);
        let works = is_answered || self.fallback.is_connected(now);
        self.sight.look(now, works, self.oper_state == OperState::Down);
        self.result = match evidence {
            Evidence::Sample(sample) if is_usable => self.go_on(sample, now, history, out),
            Evidence::Lost { connected } => self.go_on_blind(connected, now, out),
            Evidence::Sample(_) | Evidence::Nothing => TickResult::Waiting,
        };
        self.decide(now, is_usable, out);
        let controlled = self.result == TickResult::Controlled;
        if controlled || (self.has_decided && !self.is_reference) {
            self.govern(now, next_id, out);
        }
        self.probe(out);
        self.remember(history);
    }

    /// Adds zones and wanted rates to the histories, from the first decision on.
    fn remember(&self, history: &mut WanHistory) {
        if self.has_decided {
            let PerDirection { download, upload } = &self.shapers;
            let zones = PerDirection { download: download.zone(), upload: upload.zone() };
            let wanted = |direction| self.wanted(direction).rate;
            let wanted = PerDirection {
                download: wanted(Direction::Download),
                upload: wanted(Direction::Upload),
            };
            history.decided(&zones, &wanted);
        }
    }

    /// Returns the latest past.
    pub(crate) fn recent<'a>(&self, history: &'a WanHistory) -> Recent<'a> {
        Recent::new(self.baseline(), history)
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
            if let (Some(law), Outcome::Applied(_)) = (self.adaptive.first_mut(), reply.outcome) {
                law.write_took(reply.took_us);
            }
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
    fn take_counters(&mut self, tick: &Tick, now: Instant, history: &mut WanHistory) {
        for reading in tick.counters.iter().filter(|reading| reading.wan == self.id) {
            history.read(reading);
            if let Some(law) = self.adaptive.first_mut() {
                law.counters(reading, now);
            }
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
    fn live(
        &mut self,
        tick: &Tick,
        now: Instant,
        answered: bool,
        history: &mut WanHistory,
        out: &mut Outputs,
    ) -> bool {
        let mut address_changed = false;
        for fact in tick.links.iter().filter(|fact| fact.wan == self.id) {
            self.oper_state = fact.oper_state;
            address_changed |= fact.address_changed;
        }
        let quality = self.quality.quality(self.delay());
        let Some(link) = self.link.first_mut() else { return true };
        let oper_state = self.oper_state;
        let connected = self.fallback.is_connected(now);
        let inputs = LinkInputs { oper_state, address_changed, answered, connected, quality };
        let change = link.step(now, &inputs);
        let state = link.state();
        if let Some(LinkChange { from, to, edge }) = change {
            out.tell(Event::LinkChanged { wan: self.id, from, to, edge, quality });
            if to == LinkState::Reset {
                self.forget(now, history);
            } else if edge == LinkEdge::Heard {
                // What was lost before says nothing about the line that answers now.
                self.quality = QualityEstimate::new(self.tick);
            }
        }
        !matches!(state, LinkState::Init | LinkState::Reset)
    }

    /// Forgets what was learned about a path that is gone, and begins again from the start rate.
    fn forget(&mut self, now: Instant, history: &mut WanHistory) {
        self.estimate.forget();
        history.forget_samples();
        self.quality = QualityEstimate::new(self.tick);
        self.deliveries = PerDirection::default();
        self.last_sample = None;
        if let Some(law) = self.adaptive.first_mut() {
            law.forget();
        }
        self.cap_rates(now);
    }

    fn cap_rates(&mut self, now: Instant) {
        if let Some(share) = self.link.first().and_then(|link| link.cap(now)) {
            for direction in Direction::BOTH {
                self.shapers.get_mut(direction).cap(share);
            }
            if let Some(law) = self.adaptive.first_mut() {
                law.cap(share);
            }
        }
    }

    fn go_on(
        &mut self,
        sample: MicrosQ32,
        now: Instant,
        history: &mut WanHistory,
        out: &mut Outputs,
    ) -> TickResult {
        self.leave_blindness(out);
        self.last_sample = Some(now);
        self.quality.sample(sample);
        let may_reanchor = !self.is_at_floor();
        self.estimate.update(self.id, sample, may_reanchor, history, out);
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
        Direction::BOTH.iter().any(|&direction| match self.adaptive.first() {
            Some(law) => law.is_at_floor(direction),
            None => self.shapers.get(direction).is_at_floor(),
        })
    }

    /// Returns what the router holds, as far as known.
    fn held(&self) -> PerDirection<Option<BitsPerSecond>> {
        PerDirection {
            download: self.governor.command(Direction::Download).presumed(),
            upload: self.governor.command(Direction::Upload).presumed(),
        }
    }

    /// Returns the delay above the baseline that zones are made of.
    fn delay(&self) -> MicrosQ32 {
        self.adaptive.first().map_or_else(|| self.estimate.delay(), AdaptiveLaw::delay)
    }

    fn baseline(&self) -> MicrosQ32 {
        let adaptive = self.adaptive.first().and_then(AdaptiveLaw::baseline);
        adaptive.unwrap_or_else(|| self.estimate.baseline())
    }

    /// Returns what the law wants for a direction.
    fn wanted(&self, direction: Direction) -> Wanted {
        let classic = || self.shapers.get(direction).wanted();
        self.adaptive.first().map_or_else(classic, |law| law.wanted(direction))
    }

    /// Lets the adaptive law decide. It runs in every tick: answers that are overdue are evidence too.
    fn decide(&mut self, now: Instant, is_usable: bool, out: &mut Outputs) {
        let held = self.held();
        let Some(law) = self.adaptive.first_mut() else { return };
        let wan = self.id;
        let were_blind = Direction::BOTH.map(|way| law.is_blind(way));
        if let (Some(from), to) = (law.step(&LawInputs { now, held, is_usable }), law.baseline()) {
            let to = to.unwrap_or(from);
            out.tell(Event::BaselineReanchored { wan, from, to });
        }
        for (direction, was_blind) in Direction::BOTH.into_iter().zip(were_blind) {
            if law.is_blind(direction) != was_blind {
                let rate = law.wanted(direction).rate;
                out.tell(if was_blind {
                    Event::SignalSees { wan, direction }
                } else {
                    Event::SignalBlind { wan, direction, rate }
                });
            }
        }
        let delay = law.delay();
        for direction in Direction::BOTH {
            let shaper = self.shapers.get_mut(direction);
            let from = shaper.zone();
            let to = shaper.classify(delay);
            if from != to {
                out.tell(Event::ZoneChanged { wan, direction, from, to, delay });
            }
        }
        self.cap_rates(now);
        self.has_decided |= self.last_sample.is_some();
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
        if !self.adaptive.is_empty() {
            return;
        }
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
            download: self.wanted(Direction::Download),
            upload: self.wanted(Direction::Upload),
        };
        let moment = Moment {
            now,
            delay: self.delay(),
            baseline: self.baseline(),
            is_blind: matches!(self.result, TickResult::Frozen | TickResult::Failed),
        };
        self.governor.govern(&wanted, &moment, next_id, &mut self.counters, out);
    }

    fn wanted_rates(&self) -> PerDirection<BitsPerSecond> {
        PerDirection {
            download: self.wanted(Direction::Download).rate,
            upload: self.wanted(Direction::Upload).rate,
        }
    }

    /// Returns what this tick says to steering.
    pub(crate) fn steering_signals(&self, tick: &Tick) -> WanSignals {
        self.sight.signals(self.id, tick)
    }
}
