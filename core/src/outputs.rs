//! What comes out of the core: actions for the shell and events for everybody who watches.

use embassy_time::Duration;
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::fixed::MicrosQ32;
use crate::link::{LinkEdge, LinkState};
use crate::persist::StateRefusal;
use crate::quality::LinkQuality;
use crate::steering::{SteeringDecision, SteeringRefusal};
use crate::tick::CheckKind;
use crate::units::{BitsPerSecond, CommandId, Direction, ReflectorId, WanId};
use crate::zone::Zone;

/// The most actions one tick brings: three probes and two rates for each of four WANs, and room.
pub const MAX_ACTIONS: usize = 40;
/// The most events one tick brings.
pub const MAX_EVENTS: usize = 48;

/// Something the shell must do. It is done once, off the tick, and commands are answered by a
/// [`crate::tick::Reply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// Ping one reflector. Ends as a sample or a loss.
    SendProbe {
        /// The WAN the probe must leave by.
        wan: WanId,
        /// The reflector to ping.
        reflector: ReflectorId,
    },
    /// Write one shaper rate to the router. A newer command of the same direction replaces an
    /// older one that has not been sent yet.
    SetRate {
        /// Names the command in its reply.
        id: CommandId,
        /// The WAN whose shaper is meant.
        wan: WanId,
        /// The direction whose shaper is meant.
        direction: Direction,
        /// The shaper rate to write.
        rate: BitsPerSecond,
        /// Whether this lowers the rate, or may lower it because it is not known what the router
        /// holds; cuts overtake raises.
        is_cut: bool,
    },
    /// See whether the WAN's gateway answers a ping. Ends as a connectivity report.
    CheckGateway {
        /// The WAN.
        wan: WanId,
    },
    /// See whether a TCP connection to one of the WAN's configured targets can be made. Ends as a
    /// connectivity report.
    CheckTcp {
        /// The WAN.
        wan: WanId,
        /// The target, by its position in the configuration.
        target: u8,
    },
    /// Steer traffic from the primary to an alternate, or back: the router's rule for `to`, and only
    /// that one, must be enabled. There is one such command at a time, answered by a
    /// [`crate::tick::SteeringReply`].
    SetSteering {
        /// Names the command in its reply.
        id: CommandId,
        /// The primary.
        from: WanId,
        /// The alternate that takes its traffic; `None` leaves it with the primary.
        to: Option<WanId>,
    },
}

/// Why a shaper rate was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RateReason {
    /// The first write: what the router held before is not known.
    Start,
    /// The zone is RED.
    Red,
    /// The zone is SOFT_RED.
    SoftRed,
    /// The zone is YELLOW.
    Yellow,
    /// The line has been GREEN for long enough to try more.
    Green,
    /// The floor of the new zone is above the rate (quirk `floors-lift-rate` only).
    FloorLift,
    /// The last write failed, so the rate is written again.
    Again,
    /// The link was lost: its new path is tried at a start rate that rises gradually.
    Ramp,
    /// A queue stands before this direction, or something speaks for one: it is drained, and what the line
    /// carries is tracked.
    Queue,
    /// The queue has gone: on just below the capacity that was met, on an unsteady line nearer to the usual one;
    /// and from there back up to the capacity met.
    Drained,
    /// The direction presses against its rate and no queue stands: a little more is tried.
    Probe,
    /// It was cut by mistake: the queue was the other direction's, or the path has become longer.
    Acquitted,
}

/// Why a sample was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SampleRejection {
    /// It names a WAN or reflector that is not configured.
    UnknownSource,
    /// It is older than [`crate::tick::SAMPLE_AGE_MAX`].
    Stale,
}

/// Something that happened, with the figures that explain it.
///
/// Events are the log, the metrics and the explanation at once. Those that could repeat on every
/// tick are emitted once per episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event {
    /// A direction's zone changed.
    ZoneChanged {
        /// The WAN.
        wan: WanId,
        /// The direction.
        direction: Direction,
        /// The zone before.
        from: Zone,
        /// The zone now.
        to: Zone,
        /// Filtered delay above the baseline.
        delay: MicrosQ32,
    },
    /// A new shaper rate is on its way to the router.
    RateChanged {
        /// The WAN.
        wan: WanId,
        /// The direction.
        direction: Direction,
        /// The rate commanded before, if any.
        from: Option<BitsPerSecond>,
        /// The rate commanded now.
        to: BitsPerSecond,
        /// Why.
        reason: RateReason,
        /// Filtered delay above the baseline at this moment.
        delay: MicrosQ32,
        /// The baseline at this moment.
        baseline: MicrosQ32,
    },
    /// The router confirmed a rate.
    RateConfirmed {
        /// The WAN.
        wan: WanId,
        /// The direction.
        direction: Direction,
        /// What the router holds now.
        rate: BitsPerSecond,
        /// From the command to its confirmation, in µs.
        took_us: u32,
    },
    /// A write failed. The controller goes on and writes its then-wanted rate again.
    WriteFailed {
        /// The WAN.
        wan: WanId,
        /// The direction.
        direction: Direction,
        /// The rate that was not confirmed.
        rate: BitsPerSecond,
    },
    /// A write had no answer within [`crate::command::COMMAND_TIMEOUT`] and is given up.
    WriteTimedOut {
        /// The WAN.
        wan: WanId,
        /// The direction.
        direction: Direction,
        /// The rate that was not confirmed.
        rate: BitsPerSecond,
    },
    /// The write limiter holds a change back. Once per episode.
    WriteHeld {
        /// The WAN.
        wan: WanId,
        /// The direction.
        direction: Direction,
        /// The rate that waits; a later one takes its place.
        wanted: BitsPerSecond,
        /// When the limiter opens again.
        #[serde(with = "crate::micros")]
        wait: Duration,
    },
    /// The baseline stopped following because the line is loaded.
    BaselineFrozen {
        /// The WAN.
        wan: WanId,
        /// The frozen value.
        baseline: MicrosQ32,
        /// Filtered delay above it.
        delay: MicrosQ32,
    },
    /// The baseline follows again.
    BaselineReleased {
        /// The WAN.
        wan: WanId,
        /// Its value.
        baseline: MicrosQ32,
    },
    /// The baseline would leave its configured bounds and is held. Once per episode.
    BaselineOutOfBounds {
        /// The WAN.
        wan: WanId,
        /// The refused value.
        candidate: MicrosQ32,
    },
    /// The path itself must have changed, and the baseline with it. Under the classic law: it was
    /// frozen for so long that it now stands at the lowest round-trip time of that period. Under the
    /// adaptive law: a delay stood on an idle line, or did not respond to cuts at all.
    BaselineReanchored {
        /// The WAN.
        wan: WanId,
        /// The value before.
        from: MicrosQ32,
        /// The value now.
        to: MicrosQ32,
    },
    /// No reflector answers any more.
    BlindBegan {
        /// The WAN.
        wan: WanId,
        /// Whether another check says the line still works.
        connected: bool,
    },
    /// Blindness has lasted longer than configured; the rates stay where they are.
    BlindLimitReached {
        /// The WAN.
        wan: WanId,
        /// Ticks without an answer although the line was connected.
        ticks: u32,
    },
    /// A reflector answers again.
    BlindEnded {
        /// The WAN.
        wan: WanId,
        /// Ticks without an answer although the line was connected; 0 after a pure outage.
        ticks: u32,
    },
    /// A sample was not used. At most one of each WAN per tick, and one of WANs that do not exist.
    SampleRejected {
        /// The WAN named by the sample.
        wan: WanId,
        /// The reflector named by the sample.
        reflector: ReflectorId,
        /// Why.
        why: SampleRejection,
    },
    /// The time between two ticks was not the tick interval: late by more than one, or backwards
    /// (then `gap` is zero and the controller's own time stands still).
    TickGap {
        /// Time since the last tick.
        #[serde(with = "crate::micros")]
        gap: Duration,
    },
    /// The shell had more inputs than one tick can carry.
    InputsDropped {
        /// How many were lost.
        count: u16,
    },
    /// Filters and rates go on from before the restart.
    StateRestored,
    /// What was kept from before the restart is not believed: a fresh start.
    StateRefused {
        /// Why.
        why: StateRefusal,
    },
    /// A link's life has moved on, see [`crate::link`].
    LinkChanged {
        /// The WAN.
        wan: WanId,
        /// The state before.
        from: LinkState,
        /// The state now.
        to: LinkState,
        /// Why.
        edge: LinkEdge,
        /// The line's quality at this moment.
        quality: LinkQuality,
    },
    /// While blind: another check has found out whether the line works.
    ConnectivityChecked {
        /// The WAN.
        wan: WanId,
        /// What was asked last.
        kind: CheckKind,
        /// Whether the line works.
        connected: bool,
    },
    /// Traffic is to take another way, or what the router holds is to be made certain; the command is
    /// on its way.
    SteeringCommanded {
        /// Where to, and why.
        decision: SteeringDecision,
    },
    /// The router confirmed where traffic goes.
    SteeringConfirmed {
        /// Where to; `None` is the primary.
        to: Option<WanId>,
        /// From the command to its confirmation, in µs.
        took_us: u32,
    },
    /// A steering command failed. What is right then is commanded again.
    SteeringFailed {
        /// Where traffic should have gone; `None` is the primary.
        to: Option<WanId>,
    },
    /// A steering command had no answer within [`crate::command::COMMAND_TIMEOUT`] and is given up.
    SteeringTimedOut {
        /// Where traffic should have gone; `None` is the primary.
        to: Option<WanId>,
    },
    /// A change is held back. Once per episode.
    SteeringRefused {
        /// By what.
        why: SteeringRefusal,
    },
    /// Traffic went back and forth too often: a penalty begins.
    SteeringFlapping {
        /// How long it lasts.
        #[serde(with = "crate::micros")]
        penalty: Duration,
    },
    /// A WAN's drop counter never moves although its queue stands; it is judged without from now on.
    SteeringDropsUseless {
        /// The WAN.
        wan: WanId,
    },
    /// In a dry run: what would have been commanded.
    SteeringWouldChange {
        /// Where to, and why.
        decision: SteeringDecision,
    },
    /// Somebody has marked this moment.
    IncidentMarked {
        /// Its number, as [`crate::tick::Tick::incident`] has it.
        number: u32,
    },
    /// The configuration was replaced; what was learned is kept where it still holds.
    Reconfigured,
    /// A loaded direction has not reached its shaper's rate for seconds, and pings show no queue: they
    /// may not see the one that TCP waits in. Counters decide from now on (adaptive law).
    SignalBlind {
        /// The WAN.
        wan: WanId,
        /// The direction.
        direction: Direction,
        /// The rate it falls back to, below what comes through.
        rate: BitsPerSecond,
    },
    /// Pings decide on that direction again: they have seen a queue, or the same comes through
    /// every time, as an application wants it.
    SignalSees {
        /// The WAN.
        wan: WanId,
        /// The direction.
        direction: Direction,
    },
}

/// Everything the core wants done and has to say after one tick.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Outputs {
    /// To be done.
    pub actions: Vec<Action, MAX_ACTIONS>,
    /// To be told, in the order of their happening.
    pub events: Vec<Event, MAX_EVENTS>,
    /// Actions and events that did not fit.
    pub outputs_dropped: u16,
}

impl Outputs {
    /// Makes empty outputs.
    #[must_use]
    pub const fn new() -> Self {
        Self { actions: Vec::new(), events: Vec::new(), outputs_dropped: 0 }
    }

    /// Empties both lists, to reuse the memory.
    pub fn clear(&mut self) {
        self.actions.clear();
        self.events.clear();
        self.outputs_dropped = 0;
    }

    #[inline(never)]
    pub(crate) fn act(&mut self, action: Action) {
        if self.actions.push(action).is_err() {
            self.outputs_dropped = self.outputs_dropped.saturating_add(1);
        }
    }

    #[inline(never)] // From dozens of places.
    pub(crate) fn tell(&mut self, event: Event) {
        if self.events.push(event).is_err() {
            self.outputs_dropped = self.outputs_dropped.saturating_add(1);
        }
    }
}
