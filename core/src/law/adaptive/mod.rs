//! The adaptive law: the delay all reflectors share, the capacity met, and who has met it.
//!
//! | part | question |
//! |---|---|
//! | `baseline`, `signal` | how long did the probes of one tick wait, or how long have they been waiting? |
//! | `noise`, `evidence` | is that a queue? |
//! | `flow`, `inflow`, `one_way`, `blame` | whose queue? |
//! | `drain` | what does the line carry, and is the queue going? |
//! | `path` | is it not a queue, but a longer path? |
//! | `blind` | is there a queue that pings do not see? |
//! | `shaper` | what may this direction send? |
//!
//! A direction *climbs* while no queue stands and it presses against its rate: slowly at first, faster
//! and faster, and fastest up to what the line usually carries. Where reflectors tell one-way delays, only
//! its own queue matters; otherwise any. When a queue stands it *drains*: the
//! rate is the capacity met, less what empties the predicted queue in [`AdaptiveGains::drain_us`]. The
//! prediction counts everything that was let in since the newest probe left, so a cut is not repeated
//! while its effect is still on the way. `docs/control-law.md` has the reasons and the scores, those of the
//! constants here and in the parts included.

mod arith;
mod baseline;
mod blame;
mod blind;
mod drain;
mod evidence;
mod flow;
mod gains;
mod inflow;
mod noise;
mod one_way;
mod path;
mod shaper;
mod signal;

use embassy_time::{Duration, Instant};
use serde::{Deserialize, Serialize};

use self::arith::{follow, micros};
use self::drain::Look;
use self::evidence::Evidence;
use self::flow::Load;
pub use self::gains::AdaptiveGains;
use self::noise::{Noise, Threshold};
use self::one_way::OneWay;
use self::path::Standing;
use self::shaper::{AdaptiveShaper, Mode};
use self::signal::{Round, Signal};
use crate::config::{AdaptiveConfig, WanConfig};
use crate::divide::quotient;
use crate::fixed::{MicrosQ32, PpmQ32};
use crate::governor::Wanted;
use crate::places::Empty;
use crate::tick::{CounterReading, RttSample};
use crate::units::{BitsPerSecond, Direction, PerDirection, ReflectorId};

/// Share of the shaper rate from which on a direction presses against it.
const PRESSING_PPM: i64 = 900_000;
/// The delay that zones are made of follows the rounds with this time constant.
const SHOWN_TAU_US: i64 = 150_000;
/// How long one direction climbs before it is the other one's turn.
const TURN_US: i64 = 1_500_000;
/// The least share of the capacity while draining where writes are limited. There a queue is also drained
/// twice as long: a deep cut has to be taken back by a second write, and until there is one for it, the
/// line is not used.
const DEAR_LEAST_PPM: u32 = 500_000;
/// The share of the capacity to run at there: each step upwards is a write.
const DEAR_RUN_AT_PPM: u32 = 1_000_000;
/// The longest step of time that is believed at once.
const STEP_MAX_US: i64 = 200_000;

/// What the law is told once per tick besides samples and counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LawInputs {
    pub(crate) now: Instant,
    pub(crate) held: PerDirection<Option<BitsPerSecond>>,
    /// Whether the line is up and its probes mean anything.
    pub(crate) is_usable: bool,
}

/// One WAN under the adaptive law.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AdaptiveLaw {
    config: AdaptiveConfig,
    signal: Signal,
    one_way: OneWay,
    noise: Noise,
    evidence: PerDirection<Evidence>,
    shapers: PerDirection<AdaptiveShaper>,
    /// From a command to its confirmation.
    write_us: i64,
    last_us: Option<i64>,
    shown_us: i64,
    standing: Option<Standing>,
    /// Whose turn it is to climb while both directions are loaded.
    turn: Direction,
    turn_us: i64,
    /// Whose queue it was last.
    culprit: Option<Direction>,
    /// How often the blame has changed sides in this episode.
    flips: u8,
    /// Whether pings have seen a queue on this path.
    has_seen: bool,
    /// Whether the download fell short in the last tick, and whether it did before the delay grew.
    was_short: bool,
    was_short_first: bool,
}

impl Empty for AdaptiveLaw {
    const EMPTY: Self = Self {
        config: AdaptiveConfig {
            target_delay: Duration::MIN,
            write_budget: None,
            gains: AdaptiveGains::EMPTY,
        },
        signal: Signal::EMPTY,
        one_way: OneWay::EMPTY,
        noise: Noise::EMPTY,
        evidence: PerDirection { download: Evidence::EMPTY, upload: Evidence::EMPTY },
        shapers: PerDirection { download: AdaptiveShaper::EMPTY, upload: AdaptiveShaper::EMPTY },
        write_us: 0,
        last_us: None,
        shown_us: 0,
        standing: None,
        turn: Direction::Download,
        turn_us: 0,
        culprit: Some(Direction::Download),
        flips: 0,
        has_seen: false,
        was_short: false,
        was_short_first: false,
    };
}

impl AdaptiveLaw {
    /// Forgets everything and begins with a configuration.
    #[inline(never)]
    pub(crate) fn begin(&mut self, config: &AdaptiveConfig, wan: &WanConfig, tick: Duration) {
        self.config = *config;
        if config.write_budget.is_some() {
            let gains = &mut self.config.gains;
            gains.drain_us = gains.drain_us.saturating_mul(2);
            gains.drain_least_ppm = gains.drain_least_ppm.max(DEAR_LEAST_PPM);
            // A cut comes late as it is: no dip is waited out.
            gains.tolerance_us = 0;
            gains.run_at_ppm = gains.run_at_ppm.max(DEAR_RUN_AT_PPM);
        }
        self.signal = Signal::new(tick);
        self.one_way = OneWay::new();
        self.noise = Noise::new();
        self.clear_evidence();
        for direction in Direction::BOTH {
            let shaper = self.shapers.get_mut(direction);
            shaper.begin(direction, wan.shapers.get(direction));
            shaper.is_dear = config.write_budget.is_some();
        }
        self.write_us = 0;
        self.last_us = None;
        self.shown_us = 0;
        self.standing = None;
        self.turn = Direction::Download;
        self.turn_us = 0;
        self.culprit = None;
        self.flips = 0;
        self.has_seen = false;
        (self.was_short, self.was_short_first) = (false, false);
    }

    pub(crate) fn wanted(&self, direction: Direction) -> Wanted {
        self.shapers.get(direction).wanted()
    }

    /// Returns the baseline.
    pub(crate) fn baseline(&self) -> Option<MicrosQ32> {
        self.signal.baseline_us().map(to_q32)
    }

    /// Returns the filtered delay above it.
    pub(crate) fn delay(&self) -> MicrosQ32 {
        to_q32(self.shown_us)
    }

    pub(crate) fn is_at_floor(&self, direction: Direction) -> bool {
        self.shapers.get(direction).is_at_floor()
    }

    pub(crate) fn accepts(&self, direction: Direction, rate: BitsPerSecond) -> bool {
        self.shapers.get(direction).accepts(rate)
    }

    pub(crate) fn restore(&mut self, direction: Direction, rate: BitsPerSecond) {
        self.shapers.get_mut(direction).restore(rate);
    }

    /// Starts at a rate from under another configuration, within the bounds of this one.
    pub(crate) fn start_at(&mut self, direction: Direction, rate: BitsPerSecond) {
        self.shapers.get_mut(direction).start_at(rate);
    }

    /// Takes over what was learned about the same path under another configuration.
    pub(crate) fn take_over(&mut self, before: &Self) {
        let mut learned = before.clone();
        learned.config = self.config;
        for direction in Direction::BOTH {
            learned.shapers.get_mut(direction).bound_like(self.shapers.get(direction));
        }
        *self = learned;
    }

    pub(crate) fn cap(&mut self, share: PpmQ32) {
        let ppm = i64::try_from(share.as_ppm_rounded()).unwrap_or(i64::MAX);
        for direction in Direction::BOTH {
            self.shapers.get_mut(direction).cap(ppm);
        }
    }

    /// Forgets what was learned about a path that is gone.
    pub(crate) fn forget(&mut self) {
        self.signal.forget();
        self.one_way = OneWay::new();
        self.noise = Noise::new();
        self.clear_evidence();
        self.standing = None;
        self.shown_us = 0;
        self.has_seen = false;
    }

    /// Takes an answered probe.
    pub(crate) fn answer(&mut self, sample: &RttSample, now: Instant) {
        self.signal.answer(sample, micros(now));
        self.one_way.answer(sample, micros(now));
    }

    /// Forgets what was learned about a reflector: another host answers in its place.
    pub(crate) fn replace(&mut self, reflector: ReflectorId) {
        self.signal.replace(reflector);
        self.one_way.replace(reflector);
    }

    /// Takes a reading of counters.
    pub(crate) fn counters(&mut self, reading: &CounterReading, now: Instant) {
        let shaper = self.shapers.get_mut(reading.direction);
        let lag_us = shaper.lag_us();
        shaper.flow.read(reading, now, &shaper.inflow, lag_us);
    }

    /// Learns how long a write takes.
    pub(crate) fn write_took(&mut self, took_us: u32) {
        self.write_us = follow(self.write_us, i64::from(took_us.min(1_000_000)), 1, 8);
    }

    /// Notes what the routers hold; before samples and counters of a tick.
    pub(crate) fn hold(&mut self, held: &PerDirection<Option<BitsPerSecond>>, now: Instant) {
        let base_us = self.signal.baseline_us().unwrap_or(0);
        for direction in Direction::BOTH {
            let held = *held.get(direction);
            self.shapers.get_mut(direction).hold(held, self.write_us, base_us, micros(now));
        }
    }

    /// Decides on both directions. Returns the baseline before, if the path has changed.
    pub(crate) fn step(&mut self, inputs: &LawInputs) -> Option<MicrosQ32> {
        let now_us = micros(inputs.now);
        let passed_us = self.last_us.map_or(0, |last| now_us.saturating_sub(last));
        self.last_us = Some(now_us);
        let dt_us = passed_us.clamp(0, STEP_MAX_US);
        let idle = self.idle_direction();
        let round = self.signal.close(now_us, &self.one_way, idle);
        let round = round.filter(|_| inputs.is_usable)?;
        let before = self.baseline();
        // Spikes are smoothed; that a queue has gone shows at once.
        let tau_us = if round.delay_us < self.shown_us { SHOWN_TAU_US / 3 } else { SHOWN_TAU_US };
        self.shown_us = follow(self.shown_us, round.delay_us, dt_us, tau_us);
        let limit = self.noise.threshold(&self.config.gains, self.packet_us());
        self.learn(&round, &limit, dt_us);
        self.notice(&round, &limit, now_us);
        let mut is_longer =
            self.is_draining() && self.go_on_draining(&round, &limit, now_us, dt_us);
        is_longer |= self.watch_path(&round, &limit, now_us, dt_us);
        self.acquit(&round, &limit);
        self.look_behind(inputs, dt_us);
        self.climb(inputs, round.upload_share.is_some(), now_us, dt_us);
        before.filter(|_| is_longer)
    }

    /// Looks for a queue that is not being drained: where reflectors tell, in each direction.
    #[inline(never)]
    fn notice(&mut self, round: &Round, limit: &Threshold, now_us: i64) {
        let (is_told, is_draining) = (round.upload_share.is_some(), self.is_draining());
        if is_draining && !is_told {
            return;
        }
        let gains = self.config.gains;
        let was_suspicious = self.is_suspicious();
        let mut is_alarm = false;
        for direction in Direction::BOTH {
            if self.drains(direction) {
                continue;
            }
            let limit = limit.for_unsteady(self.unsteady_ppm(direction, is_told), &gains);
            let alarms = self.evidence.get_mut(direction).take(&round.of(direction), &limit);
            if alarms && is_told {
                self.accuse(direction, round, &limit, now_us);
            }
            is_alarm |= alarms;
        }
        self.note_order(was_suspicious, now_us);
        if is_alarm && !is_told {
            self.blame(round, limit, now_us);
        }
    }

    /// Returns how unsteady the line is that a delay is of: where nobody tells, of either direction that
    /// carries anything.
    fn unsteady_ppm(&self, direction: Direction, is_told: bool) -> i64 {
        let is_of = |way: &Direction| {
            if is_told { *way == direction } else { self.shapers.get(*way).flow.carries() }
        };
        let unsteady = |way: Direction| self.shapers.get(way).unsteady_ppm();
        Direction::BOTH.into_iter().filter(is_of).map(unsteady).max().unwrap_or(0)
    }

    /// Returns whether anything speaks for a queue.
    fn is_suspicious(&self) -> bool {
        Direction::BOTH.iter().any(|way| self.evidence.get(*way).is_suspicious())
    }

    #[inline(never)]
    fn clear_evidence(&mut self) {
        self.evidence = PerDirection { download: Evidence::EMPTY, upload: Evidence::EMPTY };
    }

    /// Returns the direction that carries nothing, if the other one does.
    fn idle_direction(&self) -> Option<Direction> {
        let carries = |way| self.shapers.get(way).flow.carries();
        match (carries(Direction::Download), carries(Direction::Upload)) {
            (true, false) => Some(Direction::Upload),
            (false, true) => Some(Direction::Download),
            _ => None,
        }
    }

    fn drains(&self, direction: Direction) -> bool {
        matches!(self.shapers.get(direction).mode(), Mode::Drain(_))
    }

    #[inline(never)]
    fn is_draining(&self) -> bool {
        Direction::BOTH.iter().any(|way| self.drains(*way))
    }

    /// Returns how long a full packet of each direction takes at the rates of now.
    fn packet_us(&self) -> i64 {
        let of = |direction: Direction| {
            let rate = self.shapers.get(direction).rate().get();
            quotient(12_000_000_000, rate)
        };
        let sum = of(Direction::Download).saturating_add(of(Direction::Upload));
        i64::try_from(sum).unwrap_or(i64::MAX).min(1_000_000)
    }

    fn target_us(&self) -> i64 {
        i64::try_from(self.config.target_delay.as_micros()).unwrap_or(i64::MAX)
    }

    /// Learns the noise while nothing can queue: nobody is loaded, or nobody has reached the
    /// capacity. Under load it learns slowly and nothing above the target.
    fn learn(&mut self, round: &Round, limit: &Threshold, dt_us: i64) {
        if round.is_bound || self.is_draining() {
            return;
        }
        let is_idle = Direction::BOTH.iter().all(|&direction| {
            let flow = &self.shapers.get(direction).flow;
            flow.load() != Load::Unknown && !flow.carries()
        });
        if is_idle {
            self.noise.learn(round.delay_us, dt_us, 3_000_000);
        } else if !self.is_suspicious() || round.delay_us < limit.expected_us {
            self.noise.learn(round.delay_us.min(self.target_us()), dt_us, 20_000_000);
        }
    }

    fn go_on_draining(
        &mut self,
        round: &Round,
        limit: &Threshold,
        now_us: i64,
        dt_us: i64,
    ) -> bool {
        let before_us = round.sent_us.saturating_sub(150_000);
        let is_recent = |past: &&Round| past.sent_us >= before_us;
        let oldest = self.signal.newest_first().take_while(is_recent).last();
        let oldest = oldest.copied().unwrap_or(*round);
        let truth = self.signal.newest_first().find(|past| !past.is_bound);
        let truth = truth.copied().unwrap_or(*round);
        if self.notice_longer_path(round, limit) {
            return true;
        }
        self.reconsider(round, &truth, limit, now_us);
        let look = Look { newest: *round, truth, oldest, now_us, dt_us };
        let gains = self.config.gains;
        for direction in Direction::BOTH {
            let shaper = self.shapers.get_mut(direction);
            let look = look.of(direction);
            if matches!(shaper.mode(), Mode::Drain(_)) && shaper.drain(&look, limit, &gains) {
                let mode = shaper.mode();
                shaper.resume(&gains);
                if let Mode::Drain(drain) = mode {
                    self.note_seen(&drain);
                }
                self.culprit = Some(direction);
                self.evidence.get_mut(direction).clear();
            }
        }
        false
    }

    /// Gives back what was taken by mistake once the queue has gone, or is told to stand elsewhere.
    fn acquit(&mut self, round: &Round, limit: &Threshold) {
        let is_over = !self.is_draining();
        for direction in Direction::BOTH {
            let part = round.of(direction);
            if is_over || (part.upload_share.is_some() && part.delay_us <= limit.expected_us) {
                self.shapers.get_mut(direction).acquit();
            }
        }
    }

    /// Returns whether nothing speaks against trying more: where nobody tells whose a queue is, in
    /// either direction.
    #[inline(never)]
    fn may_try(&self, direction: Direction, is_told: bool) -> bool {
        let is_clear =
            |way: Direction| !self.evidence.get(way).is_suspicious() && !self.drains(way);
        if is_told {
            is_clear(direction) && self.shapers.get(direction).mode() == Mode::Climb
        } else {
            Direction::BOTH.into_iter().all(is_clear)
        }
    }

    /// Lets the directions grow that press against their rate; one at a time, where nobody tells whose
    /// a queue is.
    fn climb(&mut self, inputs: &LawInputs, is_told: bool, now_us: i64, dt_us: i64) {
        let gains = self.config.gains;
        let is_falling = self.signal.is_falling(now_us);
        let presses =
            |law: &Self, direction| law.shapers.get(direction).flow.presses_now(PRESSING_PPM);
        let (down, up) = (presses(self, Direction::Download), presses(self, Direction::Upload));
        let takes_turns = down && up && !is_told;
        let is_quiet = self.may_try(Direction::Download, false);
        if takes_turns && !is_falling && self.may_try(Direction::Download, is_told) {
            self.turn_us = self.turn_us.saturating_add(dt_us);
            if self.turn_us > TURN_US || self.shapers.get(self.turn).is_at_ceiling() {
                self.turn_us = 0;
                self.turn = match self.turn {
                    Direction::Download => Direction::Upload,
                    Direction::Upload => Direction::Download,
                };
            }
        }
        for (direction, presses) in [(Direction::Download, down), (Direction::Upload, up)] {
            let may_try = self.may_try(direction, is_told);
            let held = *inputs.held.get(direction);
            let shaper = self.shapers.get_mut(direction);
            if !may_try {
                shaper.withdraw(held);
                continue;
            }
            if is_falling {
                if is_quiet {
                    shaper.deepen();
                }
                continue;
            }
            if presses {
                shaper.prove(held.map_or(0, BitsPerSecond::get), dt_us);
            }
            let waits = takes_turns && self.turn != direction;
            let is_idle_and_low = !presses && shaper.is_low();
            if (presses && !waits) || is_idle_and_low {
                shaper.climb(&gains, dt_us, held);
            }
        }
    }
}

fn to_q32(micros: i64) -> MicrosQ32 {
    MicrosQ32::from_micros(u64::try_from(micros).unwrap_or(0))
}
