//! What steering is told once, before the first tick.

use embassy_time::Duration;
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::steering::flap::MAX_TOGGLES;
use crate::steering::score::SCORE_MAX;
use crate::tick::MAX_WANS;
use crate::units::{Packets, TimeConstant, WanId};

/// The parameters of [`crate::steering::Steering`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SteeringConfig {
    /// Time between two ticks.
    #[serde(with = "crate::micros")]
    pub tick: Duration,
    /// The WANs that take part: the primary first, then its alternates. At least two.
    pub wans: Vec<WanId, MAX_WANS>,
    /// Whether nothing is commanded: every change counts as done at once, and is only told.
    pub dry_run: bool,
    /// From which values on a WAN is YELLOW or RED.
    pub thresholds: SteeringThresholds,
    /// Time constant of the delay filter.
    pub delay_time_constant: TimeConstant,
    /// Time constant of the backlog filter.
    pub backlog_time_constant: TimeConstant,
    /// How long a WAN must be RED without interruption before traffic leaves it.
    #[serde(with = "crate::micros")]
    pub on_after: Duration,
    /// How long the primary must be GREEN without interruption before traffic returns to it.
    #[serde(with = "crate::micros")]
    pub off_after: Duration,
    /// How long traffic stays with an alternate that works, whatever the primary does meanwhile.
    #[serde(with = "crate::micros")]
    pub hold_down: Duration,
    /// What to do when steering goes back and forth; `None` lets it.
    pub flap_guard: Option<FlapGuardConfig>,
    /// Confidence scoring; `None` leaves every decision to `on_after` and `off_after`.
    pub confidence: Option<ConfidenceConfig>,
    /// Known defects of the reference to reproduce. None by default.
    pub quirks: SteeringQuirks,
}

/// From which values on a WAN is YELLOW or RED. Delays are compared strictly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SteeringThresholds {
    /// A filtered delay above this is YELLOW.
    #[serde(with = "crate::micros")]
    pub yellow_delay: Duration,
    /// A filtered delay above this is RED if the queue says so too, otherwise SOFT_RED.
    #[serde(with = "crate::micros")]
    pub red_delay: Duration,
    /// A filtered delay above this is RED whatever the queue says: it then stands beyond the shaper.
    #[serde(with = "crate::micros")]
    pub severe_delay: Duration,
    /// RED needs at least so many packets dropped between two readings of the counter.
    pub red_drops: Packets,
    /// A backlog of at least this is YELLOW.
    pub yellow_backlog: Packets,
    /// RED needs a backlog of at least this.
    pub red_backlog: Packets,
}

/// When steering counts as flapping, and what then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FlapGuardConfig {
    /// Changes longer ago than this do not count.
    #[serde(with = "crate::micros")]
    pub window: Duration,
    /// More changes than this within the window are flapping; below
    /// [`crate::steering::MAX_TOGGLES`].
    pub max_toggles: u8,
    /// How long traffic then leaves the primary for an outage or a higher score only.
    #[serde(with = "crate::micros")]
    pub penalty: Duration,
    /// What is added to [`ConfidenceConfig::steer_score`] meanwhile. Without confidence scoring
    /// traffic does not leave the primary for its delay at all.
    pub added_score: u8,
}

/// The parameters of confidence scoring; scores are 0 ..= 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ConfidenceConfig {
    /// A score of at least this speaks for leaving the primary.
    pub steer_score: u8,
    /// A score of at most this speaks for returning, together with a quiet line.
    pub recovery_score: u8,
    /// How long the score must speak for leaving.
    #[serde(with = "crate::micros")]
    pub sustain: Duration,
    /// How long everything must speak for returning.
    #[serde(with = "crate::micros")]
    pub recovery_sustain: Duration,
    /// Whether it only tells what it would do, from a state of its own, while `on_after` and
    /// `off_after` go on deciding.
    pub dry_run: bool,
}

impl SteeringConfig {
    /// Makes a configuration with the defaults: away after 16 s of RED, back after 30 s of GREEN,
    /// held for 30 s, no more than 4 changes in 5 minutes, no confidence scoring.
    ///
    /// The first WAN is the primary; those beyond [`MAX_WANS`] are left out.
    #[must_use]
    pub fn new(wans: &[WanId], tick: Duration) -> Self {
        Self {
            tick,
            wans: bounded::collect(wans.iter().copied()),
            dry_run: false,
            thresholds: SteeringThresholds::DEFAULT,
            delay_time_constant: TimeConstant::from_millis(500),
            backlog_time_constant: TimeConstant::from_millis(500),
            on_after: Duration::from_secs(16),
            off_after: Duration::from_secs(30),
            hold_down: Duration::from_secs(30),
            flap_guard: Some(FlapGuardConfig::DEFAULT),
            confidence: None,
            quirks: SteeringQuirks::NONE,
        }
    }
}

/// Why a steering configuration cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SteeringError {
    /// Fewer than two WANs, one that does not exist, or one twice.
    Wans,
    /// Another tick than the controller's.
    Tick,
    /// Not `yellow <= red <= severe`, or `yellow <= red` for the backlog, or a zero time constant.
    Thresholds,
    /// The number of changes is not 1 to [`MAX_TOGGLES`] - 1.
    FlapGuard,
    /// Not `recovery < steer <= 100`.
    Scores,
}

impl core::fmt::Display for SteeringError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Wans => f.write_str("it needs two or more different WANs that exist"),
            Self::Tick => f.write_str("its tick must be the controller's"),
            Self::Thresholds => f.write_str(
                "thresholds must rise from yellow to red to severe, and time constants be above zero",
            ),
            Self::FlapGuard => {
                let most = MAX_TOGGLES.saturating_sub(1);
                write!(f, "the flap guard counts 1 to {most} changes")
            }
            Self::Scores => {
                f.write_str("the score to return must be below the score to leave, that at most 100")
            }
        }
    }
}

impl SteeringConfig {
    /// Checks every invariant steering relies on, for a controller of so many WANs.
    ///
    /// # Errors
    ///
    /// Returns the first violation.
    pub fn check(&self, tick: Duration, wan_count: usize) -> Result<(), SteeringError> {
        let exist = self.wans.iter().all(|wan| usize::from(wan.0) < wan_count);
        let are_different =
            self.wans.iter().enumerate().all(|(index, wan)| {
                !self.wans.iter().skip(index.saturating_add(1)).any(|w| w == wan)
            });
        if self.wans.len() < 2 || !exist || !are_different {
            return Err(SteeringError::Wans);
        }
        if self.tick != tick {
            return Err(SteeringError::Tick);
        }
        let limits = &self.thresholds;
        let delays = limits.yellow_delay <= limits.red_delay;
        let is_severe_last = limits.red_delay <= limits.severe_delay;
        let backlogs = limits.yellow_backlog <= limits.red_backlog;
        let zero = TimeConstant::from_nanos(0);
        let filters = self.delay_time_constant > zero && self.backlog_time_constant > zero;
        if !delays || !is_severe_last || !backlogs || !filters {
            return Err(SteeringError::Thresholds);
        }
        let most = self.flap_guard.map_or(1, |guard| usize::from(guard.max_toggles));
        if most == 0 || most >= MAX_TOGGLES {
            return Err(SteeringError::FlapGuard);
        }
        let is_scored = self.confidence.is_none_or(|confidence| {
            confidence.recovery_score < confidence.steer_score
                && confidence.steer_score <= SCORE_MAX
        });
        if is_scored { Ok(()) } else { Err(SteeringError::Scores) }
    }
}

impl SteeringThresholds {
    /// The reference's thresholds; severe is its hard-red delay.
    pub const DEFAULT: Self = Self {
        yellow_delay: Duration::from_millis(15),
        red_delay: Duration::from_millis(15),
        severe_delay: Duration::from_millis(80),
        red_drops: Packets(1),
        yellow_backlog: Packets(10),
        red_backlog: Packets(50),
    };
}

impl FlapGuardConfig {
    /// More than 4 changes in 5 minutes cost 60 s at 15 points more.
    pub const DEFAULT: Self = Self {
        window: Duration::from_secs(300),
        max_toggles: 4,
        penalty: Duration::from_secs(60),
        added_score: 15,
    };
}

impl ConfidenceConfig {
    /// Away at 55 points for 2 s, back at 20 points for 3 s, dry.
    pub const DEFAULT: Self = Self {
        steer_score: 55,
        recovery_score: 20,
        sustain: Duration::from_secs(2),
        recovery_sustain: Duration::from_secs(3),
        dry_run: true,
    };
}

/// Defects of the reference's steering (v1.1) that golden parity needs, each by name.
///
/// All are off unless asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SteeringQuirks {
    /// The first reading of a drop counter counts as drops. Without the quirk it is 0.
    pub first_reading_counts: bool,
    /// A counter that begins again makes a negative number of drops, and one that wraps too.
    /// Without the quirk both are recognised.
    pub resets_count_negative: bool,
    /// A failed reading means no drops and no backlog. Without the quirk the queue is then unknown
    /// and the delay decides.
    pub failed_reading_is_empty_queue: bool,
    /// Nothing is RED without drops, however high the delay and even if the counter never moves,
    /// and SOFT_RED does not exist.
    pub red_needs_drops: bool,
    /// The latest backlog decides. Without the quirk it is the filtered one.
    pub backlog_unfiltered: bool,
    /// A filter that was only ever fed zeros copies its next input. Without the quirk only the
    /// first input is copied.
    pub zeros_do_not_start_filter: bool,
    /// Confidence scoring looks at the zone of the tick before.
    pub score_from_last_zone: bool,
    /// Confidence timers count down in doubles by 0.05 per tick, so 3 s are 61 ticks, and the first
    /// tick only starts them. A measurement counts as one tick, however long the one before is ago. The hold-down runs in such ticks too, and only while traffic is
    /// steered.
    pub timers_in_doubles: bool,
    /// `on_after` and `off_after` decide even when confidence scoring does not want a change, so two
    /// authorities control one rule.
    pub two_authorities: bool,
    /// The flap guard and the hold-down hold nothing back but confidence scoring's return, toggles
    /// leave the guard's list only when another one comes, its penalty runs in scored ticks only, and
    /// a flapping score needs no more than any other.
    pub guards_without_effect: bool,
    /// Confidence scoring's dry run has no state of its own but looks at the real one.
    pub dry_run_sees_real_state: bool,
    /// Hold-down and toggles are noted when confidence scoring decides. Without the quirk a change
    /// counts when it is confirmed.
    pub decisions_count_unconfirmed: bool,
    /// A failed command is repeated in the next tick, and what the router holds is never doubted:
    /// not at start, and not after a failure.
    pub router_is_believed: bool,
    /// Traffic is sent to the alternate whatever its state.
    pub alternate_is_believed: bool,
}

impl SteeringQuirks {
    /// Nothing as the reference does it.
    pub const NONE: Self = Self {
        first_reading_counts: false,
        resets_count_negative: false,
        failed_reading_is_empty_queue: false,
        red_needs_drops: false,
        backlog_unfiltered: false,
        zeros_do_not_start_filter: false,
        score_from_last_zone: false,
        timers_in_doubles: false,
        two_authorities: false,
        guards_without_effect: false,
        dry_run_sees_real_state: false,
        decisions_count_unconfirmed: false,
        router_is_believed: false,
        alternate_is_believed: false,
    };

    /// Everything as the reference does it.
    pub const REFERENCE: Self = Self {
        first_reading_counts: true,
        resets_count_negative: true,
        failed_reading_is_empty_queue: true,
        red_needs_drops: true,
        backlog_unfiltered: true,
        zeros_do_not_start_filter: true,
        score_from_last_zone: true,
        timers_in_doubles: true,
        two_authorities: true,
        guards_without_effect: true,
        dry_run_sees_real_state: true,
        decisions_count_unconfirmed: true,
        router_is_believed: true,
        alternate_is_believed: true,
    };
}
