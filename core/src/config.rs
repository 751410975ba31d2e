//! What the controller is told once, before the first tick.
//!
//! Plain data. The shell checks it while reading a file and explains what is wrong; the core checks
//! every invariant again ([`Config::check`]) because it relies on them.

use embassy_time::Duration;
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::divide::quotient;
use crate::fixed::Ratio;
pub use crate::law::adaptive::AdaptiveGains;
use crate::link::LinkConfig;
use crate::steering::{SteeringConfig, SteeringError};
use crate::tick::{MAX_REFLECTORS, MAX_WANS};
use crate::units::{BitsPerSecond, Direction, PerDirection, TimeConstant, WanId};

/// The shortest tick.
pub const TICK_MIN: Duration = Duration::from_millis(10);
/// The longest tick.
pub const TICK_MAX: Duration = Duration::from_millis(1000);
/// The most writes the limiter can be told to allow per window.
pub const MAX_WRITES_PER_WINDOW: usize = 64;

/// The most writes per minute a budget can be told to allow.
pub const MAX_WRITES_PER_MINUTE: u16 = 1200;
/// The most writes per second a budget can be told to allow.
pub const MAX_WRITES_PER_SECOND: u8 = 20;

/// Everything a [`crate::controller::Controller`] needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// Time between two ticks, [`TICK_MIN`] ..= [`TICK_MAX`].
    #[serde(with = "crate::micros")]
    pub tick: Duration,
    /// The WANs, at least one.
    pub wans: Vec<WanConfig, MAX_WANS>,
    /// Steering between them; `None` leaves the router's rules alone.
    pub steering: Option<SteeringConfig>,
}

/// One WAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WanConfig {
    /// How many reflectors the shell knows for this WAN, 1 ..= [`MAX_REFLECTORS`].
    pub reflectors: u8,
    /// The shapers.
    pub shapers: PerDirection<ShaperConfig>,
    /// The thresholds and times of the link's life; `None` lets it be LIVE for ever.
    pub link: Option<LinkConfig>,
    /// Zones, blindness and, under [`LawConfig::Classic`], the parameters of the classic law.
    pub classic: ClassicConfig,
    /// What decides on the rates.
    pub law: LawConfig,
}

/// What decides on the rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LawConfig {
    /// The classic law, see [`crate::law::classic`].
    #[default]
    Classic,
    /// The adaptive law, see [`crate::law::adaptive`].
    Adaptive(AdaptiveConfig),
}

/// The parameters of the adaptive law, see [`crate::law::adaptive`]. Floor and ceiling are the
/// shaper's: `floors.red` and `ceiling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct AdaptiveConfig {
    /// The most delay above the baseline that may stand on a steady line.
    #[serde(with = "crate::micros")]
    pub target_delay: Duration,
    /// Limit on router writes, both directions together; `None` where a write costs nothing.
    pub write_budget: Option<WriteBudgetConfig>,
    /// How the law behaves, chosen by sweeps.
    pub gains: AdaptiveGains,
}

/// A hard limit on router writes, cuts included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WriteBudgetConfig {
    /// The most writes in any minute, 6 ..= [`MAX_WRITES_PER_MINUTE`].
    pub per_minute: u16,
    /// The most writes in any second, 2 ..= [`MAX_WRITES_PER_SECOND`].
    pub per_second: u8,
}

/// The parameters of the classic law, see [`crate::law::classic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ClassicConfig {
    /// Delay above the baseline at which GREEN ends.
    #[serde(with = "crate::micros")]
    pub target_delay: Duration,
    /// Delay above the baseline at which YELLOW ends.
    #[serde(with = "crate::micros")]
    pub warn_delay: Duration,
    /// Delay above the baseline at which SOFT_RED ends (download only).
    #[serde(with = "crate::micros")]
    pub hard_red_delay: Duration,
    /// Time constant of the load filter.
    pub load_time_constant: TimeConstant,
    /// Time constant of the baseline filter.
    pub baseline_time_constant: TimeConstant,
    /// Where both filters start; `None` starts them at the first sample.
    #[serde(with = "crate::micros")]
    pub baseline_initial: Option<Duration>,
    /// The lowest believable baseline.
    #[serde(with = "crate::micros")]
    pub baseline_min: Duration,
    /// The highest believable baseline.
    #[serde(with = "crate::micros")]
    pub baseline_max: Duration,
    /// Filtered delay from which on the baseline is frozen.
    #[serde(with = "crate::micros")]
    pub baseline_freeze_delay: Duration,
    /// How long the baseline stays frozen before the path counts as changed, in samples at the
    /// configured tick. It then re-anchors at the lowest of them, or of the latest
    /// [`crate::history::HISTORY_SAMPLES`] if that is fewer.
    #[serde(with = "crate::micros")]
    pub baseline_freeze_max: Duration,
    /// How long a direction must be GREEN before its rate rises.
    #[serde(with = "crate::micros")]
    pub green_hold: Duration,
    /// How long the delay must be above `warn_delay` before the download counts as SOFT_RED.
    #[serde(with = "crate::micros")]
    pub soft_red_confirm: Duration,
    /// What to do when no reflector answers.
    pub blind: BlindConfig,
    /// The limit on router writes.
    pub write_limit: WriteLimit,
    /// Known defects of the reference to reproduce. None by default.
    pub quirks: Quirks,
}

/// One direction's shaper. The three-zone upload uses no floor but `floors.red`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ShaperConfig {
    /// The rate is never cut below the floor of the zone it is cut in.
    pub floors: ZoneFloors,
    /// The rate never exceeds this.
    pub ceiling: BitsPerSecond,
    /// Added per [`crate::law::classic::STEP`] once GREEN has lasted.
    pub step_up: BitsPerSecond,
    /// The rate is multiplied by this per [`crate::law::classic::STEP`] in RED (and in SOFT_RED).
    pub factor_down: Ratio,
    /// The rate is multiplied by this per [`crate::law::classic::STEP`] in YELLOW; 1 holds it.
    pub factor_down_yellow: Ratio,
}

/// The lowest rate per zone: `red <= soft_red <= yellow <= green <= ceiling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ZoneFloors {
    /// In GREEN.
    pub green: BitsPerSecond,
    /// In YELLOW.
    pub yellow: BitsPerSecond,
    /// In SOFT_RED.
    pub soft_red: BitsPerSecond,
    /// In RED.
    pub red: BitsPerSecond,
}

impl ZoneFloors {
    /// Makes one floor for all zones.
    #[must_use]
    pub const fn all(floor: BitsPerSecond) -> Self {
        Self { green: floor, yellow: floor, soft_red: floor, red: floor }
    }

    fn are_ordered(&self) -> bool {
        self.red <= self.soft_red && self.soft_red <= self.yellow && self.yellow <= self.green
    }
}

/// What to do when no reflector answers although the line works otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BlindMode {
    /// The first blind tick reuses the load filter's value, then the rates are frozen until
    /// [`BlindConfig::limit`], then the tick counts as failed.
    Graceful,
    /// The rates are frozen for as long as it lasts.
    Freeze,
    /// Every blind tick reuses the load filter's value.
    UseLastRtt,
}

/// Behaviour without answers from reflectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BlindConfig {
    /// The mode.
    pub mode: BlindMode,
    /// How long no reflector must have answered before losses count as blindness.
    #[serde(with = "crate::micros")]
    pub after: Duration,
    /// How long [`BlindMode::Graceful`] lasts.
    #[serde(with = "crate::micros")]
    pub limit: Duration,
    /// How the core learns whether the line works all the same.
    pub checks: Checks,
}

/// Where connectivity reports come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Checks {
    /// They stand in the blind tick itself, as the reference's blocking checks do.
    Given,
    /// The core asks for them, one at a time.
    Asked {
        /// Whether the gateway can be pinged.
        gateway: bool,
        /// How many TCP targets the shell knows.
        tcp_targets: u8,
        /// How long a finding is believed.
        #[serde(with = "crate::micros")]
        every: Duration,
    },
}

/// At most `writes` router writes within `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WriteLimit {
    /// Number of writes, 1 ..= [`MAX_WRITES_PER_WINDOW`]. Both directions of a WAN written in
    /// one tick count as one.
    pub writes: u8,
    /// Length of the sliding window.
    #[serde(with = "crate::micros")]
    pub window: Duration,
}

impl WriteLimit {
    /// Returns the distance that raises keep from the last write: `window / writes`.
    #[must_use]
    pub fn spacing(&self) -> Duration {
        let writes = u64::from(self.writes.max(1));
        Duration::from_ticks(quotient(self.window.as_ticks(), writes))
    }
}

/// Defects of the reference controller (v1.1) that golden parity needs, each by name.
///
/// All are off unless asked for; `wanctl-sim parity` switches all of them on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Quirks {
    /// A zone's floor lifts a lower rate at once, so leaving RED jumps the rate up. Without the
    /// quirk floors only bound cuts.
    pub floors_lift_rate: bool,
    /// SOFT_RED never cuts. Without the quirk it cuts like RED, down to its own floor.
    pub soft_red_holds: bool,
    /// The reference's write path: the limiter counts and delays cuts and raises alike, and nothing
    /// is written in a tick without a sample. Without the quirk a cut is never delayed, and raises
    /// keep `window / writes` of distance and wait for the answer to the last command.
    pub limiter_delays_cuts: bool,
    /// A frozen baseline stays frozen for as long as the delay lasts, even after a path change.
    /// Without the quirk it re-anchors after [`ClassicConfig::baseline_freeze_max`].
    pub baseline_freezes_for_ever: bool,
}

impl Quirks {
    /// Everything as the reference does it.
    pub const REFERENCE: Self = Self {
        floors_lift_rate: true,
        soft_red_holds: true,
        limiter_delays_cuts: true,
        baseline_freezes_for_ever: true,
    };
}

/// Why a configuration cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ConfigError {
    /// No WAN at all.
    NoWan,
    /// More WANs than the controller has room for.
    TooManyWans,
    /// The tick is outside [`TICK_MIN`] ..= [`TICK_MAX`].
    Tick,
    /// The number of reflectors is not 1 ..= [`MAX_REFLECTORS`].
    Reflectors(WanId),
    /// A floor is zero, above the floor of a milder zone, or above the ceiling.
    Floors(WanId, Direction),
    /// Not `target < warn < hard red`.
    Thresholds(WanId),
    /// Not `min <= max` for the baseline, or a zero time constant.
    Baseline(WanId),
    /// The write limit is zero or above [`MAX_WRITES_PER_WINDOW`].
    WriteLimit(WanId),
    /// A limit that promotes a link is above the one that demotes it, or the ramp starts above its end.
    Link(WanId),
    /// Steering cannot work as configured.
    Steering(SteeringError),
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoWan => write!(f, "no WAN is configured"),
            Self::TooManyWans => write!(f, "more WANs are configured than this build serves"),
            Self::Tick => write!(f, "the tick must be 10 ms to 1 s"),
            Self::Reflectors(wan) => {
                write!(f, "WAN {}: it needs 1 to {MAX_REFLECTORS} reflectors", wan.0)
            }
            Self::Floors(wan, direction) => write!(
                f,
                "WAN {}, {}: floors must rise from RED to GREEN, be above zero and not above \
                 the ceiling",
                wan.0,
                direction.name()
            ),
            Self::Thresholds(wan) => {
                write!(f, "WAN {}: delays must rise from target to warn to hard red", wan.0)
            }
            Self::Baseline(wan) => write!(
                f,
                "WAN {}: the baseline's bounds must be ordered and time constants be above zero",
                wan.0
            ),
            Self::WriteLimit(wan) => write!(
                f,
                "WAN {}: the write limit must be 1 to {MAX_WRITES_PER_WINDOW} per window",
                wan.0
            ),
            Self::Link(wan) => write!(
                f,
                "WAN {}: a link's good limits must not be above its bad ones, nor its ramp start \
                 above 1",
                wan.0
            ),
            Self::Steering(error) => write!(f, "steering: {error}"),
        }
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Checks every invariant the core relies on.
    ///
    /// # Errors
    ///
    /// Returns the first violation.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.wans.is_empty() {
            return Err(ConfigError::NoWan);
        }
        if self.tick < TICK_MIN || self.tick > TICK_MAX {
            return Err(ConfigError::Tick);
        }
        let ids = (0..).map(WanId);
        ids.zip(&self.wans).try_for_each(|(id, wan)| wan.check(id))?;
        let steering = self.steering.as_ref();
        steering
            .map_or(Ok(()), |steering| steering.check(self.tick, self.wans.len()))
            .map_err(ConfigError::Steering)
    }
}

impl WanConfig {
    fn check(&self, id: WanId) -> Result<(), ConfigError> {
        let classic = &self.classic;
        if self.reflectors == 0 || usize::from(self.reflectors) > MAX_REFLECTORS {
            return Err(ConfigError::Reflectors(id));
        }
        for direction in Direction::BOTH {
            let shaper = self.shapers.get(direction);
            let floors = &shaper.floors;
            let positive = floors.red > BitsPerSecond::ZERO;
            if !positive || !floors.are_ordered() || floors.green > shaper.ceiling {
                return Err(ConfigError::Floors(id, direction));
            }
        }
        if classic.target_delay >= classic.warn_delay
            || classic.warn_delay >= classic.hard_red_delay
        {
            return Err(ConfigError::Thresholds(id));
        }
        let within = classic.baseline_min <= classic.baseline_max;
        let filters = classic.load_time_constant > TimeConstant::from_nanos(0)
            && classic.baseline_time_constant > TimeConstant::from_nanos(0);
        if !within || !filters {
            return Err(ConfigError::Baseline(id));
        }
        let limit = &classic.write_limit;
        let counted = limit.writes > 0 && usize::from(limit.writes) <= MAX_WRITES_PER_WINDOW;
        if !counted || limit.window == Duration::MIN {
            return Err(ConfigError::WriteLimit(id));
        }
        if self.link.is_none_or(|link| link.is_consistent()) {
            Ok(())
        } else {
            Err(ConfigError::Link(id))
        }
    }
}
