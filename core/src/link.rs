//! The life of a link, and the thresholds and times that move it on.
//!
//! ```text
//!        found         heard         went_live
//!  INIT ───────► PROBE ───────► WARM ─────────► LIVE ◄──────────────┐
//!   ▲                            │               │                  │ settled
//!   │ began_again                │ degraded      │ degraded         │
//!   │                            └───────┬───────┘                  │
//!   │                                    ▼        improved          │
//!   │                                 DEGRADE ─────────────────► COOLDOWN
//!   │                                    ▲                          │
//!   │                                    └──────────────────────────┘
//!   │                                               relapsed
//! RESET ◄─── lost (outage, link down, new address), from every state but INIT
//! ```
//!
//! *Degradation* (the line answers, badly) and *outage* (nothing answers) are different things:
//! they have different inputs and different clocks, and neither counts towards the other.
//!
//! After a loss the path may be another one. Until the new one has been heard for the time of the
//! ramp, [`Link::cap`] bounds its rates: a start rate first, then a gradual rise to the ceiling.

use embassy_time::{Duration, Instant};

use crate::fixed::PpmQ32;
use crate::quality::LinkQuality;
use crate::tick::OperState;

/// Where a link is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LinkState {
    /// The link is down, or nothing is known about it.
    #[default]
    Init,
    /// Probes are out and the first answers are awaited.
    Probe,
    /// Answers come; the filters fill.
    Warm,
    /// All is well.
    Live,
    /// The line answers, but badly.
    Degrade,
    /// The line is good again and has to stay so for a while.
    Cooldown,
    /// The link was lost, and with it what was learned about its path.
    Reset,
}

impl LinkState {
    /// Returns the state's name as users know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Probe => "PROBE",
            Self::Warm => "WARM",
            Self::Live => "LIVE",
            Self::Degrade => "DEGRADE",
            Self::Cooldown => "COOLDOWN",
            Self::Reset => "RESET",
        }
    }
}

/// Why a link went from one state to another: the edges of the diagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LinkEdge {
    /// The link is up, as far as anybody knows.
    Found,
    /// Enough probes were answered.
    Heard,
    /// The warm-up is over and the line is good.
    WentLive,
    /// The line has been bad for too long.
    Degraded,
    /// The line has been good for long enough.
    Improved,
    /// The line became bad again.
    Relapsed,
    /// The line stayed good.
    Settled,
    /// Lost: nothing has answered for too long.
    Outage,
    /// Lost: the interface went down.
    LinkDown,
    /// Lost: the line got another address, so its path is another one.
    NewAddress,
    /// The pause after a loss is over.
    BeganAgain,
}

/// Limits of quality. A line is good while everything is at or below `good`, and bad while
/// anything is above `bad`; in between nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QualityLimits {
    /// The limits that promote.
    pub good: LinkQuality,
    /// The limits that demote.
    pub bad: LinkQuality,
}

/// Thresholds and times of a link's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkConfig {
    /// The limits of quality.
    pub limits: QualityLimits,
    /// Ticks with an answer that end PROBE.
    pub answers: u32,
    /// How long WARM lasts at least.
    pub warm_up: Duration,
    /// How long the line must be bad before it counts as degraded.
    pub degrade_after: Duration,
    /// How long the line must be good before DEGRADE ends.
    pub improve_after: Duration,
    /// How long COOLDOWN lasts.
    pub cooldown: Duration,
    /// How long nothing must answer before the link counts as lost.
    pub outage_after: Duration,
    /// How long RESET lasts.
    pub reset_pause: Duration,
    /// What a new link may carry, as a share of the way from floor to ceiling.
    pub ramp_start: PpmQ32,
    /// How long the rise from there to the ceiling takes, from WARM on.
    pub ramp: Duration,
}

/// What one tick says about a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LinkInputs {
    pub(crate) oper_state: OperState,
    pub(crate) address_changed: bool,
    /// Whether any probe was answered.
    pub(crate) answered: bool,
    pub(crate) quality: LinkQuality,
}

/// A state change that has just happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkChange {
    pub(crate) from: LinkState,
    pub(crate) to: LinkState,
    pub(crate) edge: LinkEdge,
}

/// One link.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    config: LinkConfig,
    state: LinkState,
    /// When the current state began.
    since: Option<Instant>,
    /// Ticks with an answer in PROBE.
    answers: u32,
    last_answer: Option<Instant>,
    /// Since when the line has been bad without interruption.
    bad_since: Option<Instant>,
    /// Since when it has been good without interruption.
    good_since: Option<Instant>,
    ramp: Ramp,
}

/// How far a link's rates have risen after a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ramp {
    /// They are not bounded: there was no loss, or it is long ago.
    Over,
    /// Waiting for the first answers.
    Waiting,
    /// Rising since then.
    Rising(Instant),
}

impl Link {
    pub(crate) const fn new(config: LinkConfig) -> Self {
        Self {
            config,
            state: LinkState::Init,
            since: None,
            answers: 0,
            last_answer: None,
            bad_since: None,
            good_since: None,
            ramp: Ramp::Over,
        }
    }

    pub(crate) const fn state(&self) -> LinkState {
        self.state
    }

    /// Looks at one tick; returns the change it made, at most one.
    pub(crate) fn step(&mut self, now: Instant, inputs: &LinkInputs) -> Option<LinkChange> {
        self.observe(now, inputs);
        let edge = self.loss(now, inputs).or_else(|| self.progress(now, inputs))?;
        let from = self.state;
        match edge {
            LinkEdge::Found => self.found(now),
            LinkEdge::Heard => self.heard(now),
            LinkEdge::WentLive | LinkEdge::Settled => self.went_live(now),
            LinkEdge::Degraded | LinkEdge::Relapsed => self.degraded(now),
            LinkEdge::Improved => self.improved(now),
            LinkEdge::Outage | LinkEdge::LinkDown | LinkEdge::NewAddress => self.lost(now),
            LinkEdge::BeganAgain => self.began_again(now),
        }
        Some(LinkChange { from, to: self.state, edge })
    }

    /// Keeps the clocks of answers and of quality, which know nothing of each other.
    fn observe(&mut self, now: Instant, inputs: &LinkInputs) {
        self.since.get_or_insert(now);
        if !inputs.answered {
            return;
        }
        self.last_answer = Some(now);
        self.answers = self.answers.saturating_add(1);
        let limits = &self.config.limits;
        keep_since(&mut self.bad_since, exceeds_any(&inputs.quality, &limits.bad), now);
        keep_since(&mut self.good_since, !exceeds_any(&inputs.quality, &limits.good), now);
    }

    /// Returns the edge to RESET, if the link is lost.
    fn loss(&self, now: Instant, inputs: &LinkInputs) -> Option<LinkEdge> {
        if matches!(self.state, LinkState::Init | LinkState::Reset) {
            return None;
        }
        if inputs.oper_state == OperState::Down {
            return Some(LinkEdge::LinkDown);
        }
        if inputs.address_changed {
            return Some(LinkEdge::NewAddress);
        }
        // In PROBE nothing has been heard yet that could be lost.
        let silent_since = self.last_answer.max(self.since);
        let silent = passed(silent_since, self.config.outage_after, now);
        (silent && self.state != LinkState::Probe).then_some(LinkEdge::Outage)
    }

    /// Returns the edge that the current state takes by itself.
    fn progress(&self, now: Instant, inputs: &LinkInputs) -> Option<LinkEdge> {
        let config = &self.config;
        let lasted = |duration| passed(self.since, duration, now);
        let is_good = self.good_since.is_some();
        let bad_for = |duration| passed(self.bad_since, duration, now);
        match self.state {
            LinkState::Init if inputs.oper_state != OperState::Down => Some(LinkEdge::Found),
            LinkState::Probe if self.answers >= config.answers => Some(LinkEdge::Heard),
            LinkState::Warm | LinkState::Live if bad_for(config.degrade_after) => {
                Some(LinkEdge::Degraded)
            }
            LinkState::Warm if lasted(config.warm_up) && is_good => Some(LinkEdge::WentLive),
            LinkState::Degrade if passed(self.good_since, config.improve_after, now) => {
                Some(LinkEdge::Improved)
            }
            LinkState::Cooldown if self.bad_since.is_some() => Some(LinkEdge::Relapsed),
            LinkState::Cooldown if lasted(config.cooldown) => Some(LinkEdge::Settled),
            LinkState::Reset if lasted(config.reset_pause) => Some(LinkEdge::BeganAgain),
            LinkState::Init
            | LinkState::Probe
            | LinkState::Warm
            | LinkState::Live
            | LinkState::Degrade
            | LinkState::Cooldown
            | LinkState::Reset => None,
        }
    }

    fn found(&mut self, now: Instant) {
        self.answers = 0;
        self.enter(LinkState::Probe, now);
    }

    fn heard(&mut self, now: Instant) {
        if self.ramp == Ramp::Waiting {
            self.ramp = Ramp::Rising(now);
        }
        self.enter(LinkState::Warm, now);
    }

    fn went_live(&mut self, now: Instant) {
        self.enter(LinkState::Live, now);
    }

    fn degraded(&mut self, now: Instant) {
        self.enter(LinkState::Degrade, now);
    }

    fn improved(&mut self, now: Instant) {
        self.enter(LinkState::Cooldown, now);
    }

    fn lost(&mut self, now: Instant) {
        self.ramp = Ramp::Waiting;
        self.last_answer = None;
        self.enter(LinkState::Reset, now);
    }

    fn began_again(&mut self, now: Instant) {
        self.enter(LinkState::Init, now);
    }

    fn enter(&mut self, state: LinkState, now: Instant) {
        self.state = state;
        self.since = Some(now);
        self.bad_since = None;
        self.good_since = None;
    }

    /// Returns how far up from floor to ceiling the rates may go now; `None` is all the way.
    pub(crate) fn cap(&self, now: Instant) -> Option<PpmQ32> {
        let config = &self.config;
        let begun = match self.ramp {
            Ramp::Over => return None,
            Ramp::Waiting => return Some(config.ramp_start),
            Ramp::Rising(begun) => begun,
        };
        let risen = now.checked_duration_since(begun).unwrap_or(Duration::MIN);
        if risen >= config.ramp {
            return None;
        }
        let start = config.ramp_start.as_ppm_rounded().min(1_000_000);
        let span = 1_000_000_u64.saturating_sub(start);
        let share = span.saturating_mul(risen.as_micros().min(u64::from(u32::MAX)));
        let risen_ppm = share.checked_div(config.ramp.as_micros()).unwrap_or(span);
        Some(PpmQ32::from_ppm(start.saturating_add(risen_ppm)))
    }
}

/// Returns whether anything of `quality` is above its limit.
fn exceeds_any(quality: &LinkQuality, limits: &LinkQuality) -> bool {
    quality.delay > limits.delay
        || quality.loss > limits.loss
        || quality.jitter > limits.jitter
        || quality.throughput_deviation > limits.throughput_deviation
}

/// Notes since when a condition has held without interruption.
fn keep_since(since: &mut Option<Instant>, holds: bool, now: Instant) {
    if !holds {
        *since = None;
    } else if since.is_none() {
        *since = Some(now);
    }
}

/// Returns whether at least `duration` has passed since an instant, if there is one.
fn passed(since: Option<Instant>, duration: Duration, now: Instant) -> bool {
    since.and_then(|since| now.checked_duration_since(since)).is_some_and(|age| age >= duration)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::fixed::MicrosQ32;

    const TICK_MS: u64 = 50;

    fn limit(delay_ms: u64, loss_percent: u64) -> LinkQuality {
        LinkQuality {
            delay: MicrosQ32::from_micros(delay_ms * 1000),
            loss: PpmQ32::from_ppm(loss_percent * 10_000),
            jitter: MicrosQ32::MAX,
            throughput_deviation: PpmQ32::from_ppm(2_000_000_000),
        }
    }

    fn config() -> LinkConfig {
        let seconds = Duration::from_secs;
        LinkConfig {
            limits: QualityLimits { good: limit(15, 2), bad: limit(60, 10) },
            answers: 5,
            warm_up: seconds(2),
            degrade_after: seconds(3),
            improve_after: seconds(5),
            cooldown: seconds(4),
            outage_after: seconds(2),
            reset_pause: seconds(1),
            ramp_start: PpmQ32::from_ppm(500_000),
            ramp: seconds(10),
        }
    }

    /// A link with its own clock.
    struct Story {
        link: Link,
        now_ms: u64,
        edges: Vec<(u64, LinkEdge)>,
    }

    impl Story {
        fn new() -> Self {
            Self { link: Link::new(config()), now_ms: 0, edges: Vec::new() }
        }

        fn run(&mut self, seconds: u64, inputs: LinkInputs) -> LinkState {
            for _ in 0..seconds * 1000 / TICK_MS {
                self.now_ms += TICK_MS;
                let change = self.link.step(Instant::from_millis(self.now_ms), &inputs);
                self.edges.extend(change.map(|change| (self.now_ms, change.edge)));
            }
            self.link.state()
        }

        fn live(&mut self) {
            assert_eq!(self.run(12, good()), LinkState::Live);
            self.edges.clear();
        }

        fn edges(&self) -> Vec<LinkEdge> {
            self.edges.iter().map(|(_, edge)| *edge).collect()
        }
    }

    fn good() -> LinkInputs {
        LinkInputs { answered: true, quality: limit(5, 0), ..LinkInputs::default() }
    }

    fn bad() -> LinkInputs {
        LinkInputs { answered: true, quality: limit(90, 0), ..LinkInputs::default() }
    }

    fn silent() -> LinkInputs {
        LinkInputs::default()
    }

    #[test]
    fn a_good_link_goes_live_in_the_time_of_answers_and_warm_up() {
        let mut story = Story::new();
        assert_eq!(story.run(5, good()), LinkState::Live);
        // Found at once, five answers later heard, two seconds later live.
        assert_eq!(
            story.edges,
            [(50, LinkEdge::Found), (300, LinkEdge::Heard), (2300, LinkEdge::WentLive)]
        );
    }

    #[test]
    fn a_short_bad_time_does_not_degrade_and_a_long_one_does() {
        let mut story = Story::new();
        story.live();
        assert_eq!(story.run(2, bad()), LinkState::Live);
        story.run(1, good());
        assert_eq!(story.run(2, bad()), LinkState::Live);
        assert_eq!(story.run(2, bad()), LinkState::Degrade);
        assert_eq!(story.edges(), [LinkEdge::Degraded]);
    }

    #[test]
    fn recovery_takes_good_time_and_then_a_cooldown() {
        let mut story = Story::new();
        story.live();
        story.run(4, bad());
        story.edges.clear();
        let began = story.now_ms;
        assert_eq!(story.run(12, good()), LinkState::Live);
        let times: Vec<_> = story.edges.iter().map(|(at, edge)| (at - began, *edge)).collect();
        assert_eq!(times, [(5050, LinkEdge::Improved), (9050, LinkEdge::Settled)]);
    }

    #[test]
    fn a_bad_moment_in_the_cooldown_is_a_relapse() {
        let mut story = Story::new();
        story.live();
        story.run(4, bad());
        assert_eq!(story.run(6, good()), LinkState::Cooldown);
        story.run(1, bad());
        assert_eq!(story.link.state(), LinkState::Degrade);
        assert_eq!(story.edges(), [LinkEdge::Degraded, LinkEdge::Improved, LinkEdge::Relapsed]);
    }

    #[test]
    fn between_the_limits_nothing_changes() {
        let between = LinkInputs { quality: limit(30, 5), ..good() };
        let mut story = Story::new();
        story.live();
        assert_eq!(story.run(60, between), LinkState::Live);
        story.run(4, bad());
        assert_eq!(story.run(60, between), LinkState::Degrade);
    }

    #[test]
    fn silence_is_an_outage_and_never_a_degradation() {
        let mut story = Story::new();
        story.live();
        story.run(3, silent());
        assert_eq!(story.edges()[0], LinkEdge::Outage);
        story.run(5, silent());
        assert_eq!(story.link.state(), LinkState::Probe);
        assert!(!story.edges().contains(&LinkEdge::Degraded));
    }

    #[test]
    fn bad_times_do_not_count_towards_an_outage_nor_silence_towards_degradation() {
        let mut story = Story::new();
        story.live();
        // Two and a half bad seconds, one and a half silent ones, again and again.
        for _ in 0..3 {
            for _ in 0..5 {
                story.run(1, bad());
                story.run(1, good());
            }
            story.run(1, silent());
        }
        assert_eq!(story.edges(), []);
    }

    #[test]
    fn a_link_that_goes_down_waits_in_init_and_comes_back() {
        let down = LinkInputs { oper_state: OperState::Down, ..silent() };
        let mut story = Story::new();
        story.live();
        assert_eq!(story.run(10, down), LinkState::Init);
        assert_eq!(story.edges(), [LinkEdge::LinkDown, LinkEdge::BeganAgain]);
        assert_eq!(story.run(5, good()), LinkState::Live);
    }

    #[test]
    fn a_new_address_resets_at_once() {
        let mut story = Story::new();
        story.live();
        let changed = LinkInputs { address_changed: true, ..good() };
        story.link.step(Instant::from_millis(story.now_ms + 50), &changed);
        assert_eq!(story.link.state(), LinkState::Reset);
    }

    #[test]
    fn after_a_loss_the_cap_rises_from_its_start_to_the_ceiling() {
        let mut story = Story::new();
        let cap = |story: &Story| {
            let cap = story.link.cap(Instant::from_millis(story.now_ms));
            cap.map(PpmQ32::as_ppm_rounded)
        };
        story.live();
        assert_eq!(cap(&story), None);
        story.run(4, silent()); // PROBE again
        assert_eq!(cap(&story), Some(500_000));
        story.run(1, good()); // WARM since 750 ms
        assert_eq!(story.edges().last(), Some(&LinkEdge::Heard));
        assert_eq!(cap(&story), Some(500_000 + 500_000 * 750 / 10_000));
        story.run(5, good());
        assert_eq!(cap(&story), Some(500_000 + 500_000 * 5_750 / 10_000));
        story.run(6, good());
        assert_eq!(cap(&story), None);
    }
}
