//! What goes into the core: everything it may know, once per tick.

use embassy_time::{Duration, Instant};
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::units::{
    BitsPerSecond, CommandId, Direction, ReflectorId, RelativeOwd, RttNanos, WanId,
};

/// The most WANs one controller serves.
pub const MAX_WANS: usize = 4;
/// The most reflectors of a WAN; each is probed once per tick.
pub const MAX_REFLECTORS: usize = 3;
/// The most round-trip times one tick carries, over all WANs.
pub const MAX_SAMPLES: usize = 64;
/// The most lost probes one tick carries, over all WANs.
pub const MAX_LOSSES: usize = 64;
/// The most counter readings one tick carries.
pub const MAX_COUNTERS: usize = 8;
/// The most command replies one tick carries.
pub const MAX_REPLIES: usize = 16;
/// The most replies to steering commands one tick carries; one waits at a time.
pub const MAX_STEERING_REPLIES: usize = 2;
/// The most reflectors that are replaced in one tick, over all WANs.
pub const MAX_REPLACED: usize = MAX_WANS * MAX_REFLECTORS;

/// One answered probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(deny_unknown_fields)]
pub struct RttSample {
    /// The WAN the probe left by.
    pub wan: WanId,
    /// The reflector that answered.
    pub reflector: ReflectorId,
    /// How long the answer took.
    pub rtt: RttNanos,
    /// How long before this tick's `now` the answer arrived, in µs.
    pub age_us: u32,
    /// How long the probe took to the reflector, if that told the time of arrival (ICMP timestamp).
    #[serde(default)]
    pub upload_owd: Option<RelativeOwd>,
}

/// A tick on a board has room for many.
const _: () = assert!(size_of::<RttSample>() == 16, "a sample has become larger");

/// Another host answers under this number from now on: what was learned about the old one is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(deny_unknown_fields)]
pub struct ReplacedReflector {
    /// The WAN it is pinged by.
    pub wan: WanId,
    /// The number.
    pub reflector: ReflectorId,
}

/// One probe that will not be answered any more: the time limit passed, or it could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(deny_unknown_fields)]
pub struct ProbeLoss {
    /// The WAN the probe left by.
    pub wan: WanId,
    /// The reflector that stayed silent.
    pub reflector: ReflectorId,
}

/// What a check of the line other than the usual probes has found; the answer to one
/// [`crate::outputs::Action::CheckGateway`] or [`crate::outputs::Action::CheckTcp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(deny_unknown_fields)]
pub struct ConnectivityReport {
    /// The WAN that was checked.
    pub wan: WanId,
    /// What was asked.
    pub kind: CheckKind,
    /// Whether it answered.
    pub connected: bool,
}

/// A way to see whether a line works although no reflector answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum CheckKind {
    /// A ping to the gateway. It answers for itself, not for the provider behind it.
    Gateway,
    /// A TCP connection to a host on the internet.
    Tcp,
}

/// What the operating system says about a link, told when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(deny_unknown_fields)]
pub struct LinkFact {
    /// The WAN whose link is meant.
    pub wan: WanId,
    /// Whether its interface can carry traffic.
    pub oper_state: OperState,
    /// Whether it has another address than before.
    pub address_changed: bool,
}

/// Whether an interface can carry traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum OperState {
    /// Nobody has said anything; the link counts as up.
    #[default]
    Unknown,
    /// It can.
    Up,
    /// It cannot.
    Down,
}

/// The counters of one shaper, as the router gave them. They may wrap, and begin again at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(deny_unknown_fields)]
pub struct CounterReading {
    /// The WAN.
    pub wan: WanId,
    /// The direction.
    pub direction: Direction,
    /// Bytes delivered since the counter began.
    pub delivered_bytes: u64,
    /// Packets dropped since the counter began; 32 bits wide, and always 0 under CAKE on some
    /// RouterOS versions.
    pub dropped_packets: u32,
    /// Bytes waiting now.
    pub backlog_bytes: u32,
    /// Packets waiting now.
    pub backlog_packets: u32,
    /// How long before this tick's `now` the counters were read, in µs.
    pub age_us: u32,
    /// How long the packets that left the shaper since the reading before had waited in it, in the
    /// mean, in µs. `None` if none has left, or the router does not tell: RouterOS does not, and of CAKE on
    /// Linux it is taken from what it keeps for each of its priority classes.
    #[serde(default)]
    pub queue_delay_us: Option<u32>,
}

/// How a command to the router ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Outcome {
    /// The router holds this rate now: it was read back from its reply.
    Applied(BitsPerSecond),
    /// The router refused, or its answer never came; what it holds is not known.
    Failed,
    /// A newer command of the same direction took its place before it was sent.
    Superseded,
}

/// The answer to one [`crate::outputs::Action::SetRate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// The WAN of the command.
    pub wan: WanId,
    /// The direction of the command.
    pub direction: Direction,
    /// The command that is answered.
    pub id: CommandId,
    /// How it ended.
    pub outcome: Outcome,
    /// From handing the command over to its end, in µs.
    pub took_us: u32,
}

/// The answer to one [`crate::outputs::Action::SetSteering`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(deny_unknown_fields)]
pub struct SteeringReply {
    /// The command that is answered.
    pub id: CommandId,
    /// Whether the router was seen to hold what was commanded. Otherwise it may hold anything.
    pub succeeded: bool,
    /// From handing the command over to its end, in µs.
    pub took_us: u32,
}

/// Everything the core learns in one tick.
///
/// A sample, a loss and a reply each appear in exactly one tick. Lists are bounded; what did not
/// fit is counted in [`Tick::inputs_dropped`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(deny_unknown_fields)]
pub struct Tick {
    /// Monotonic time of this tick, from an arbitrary origin. Never wall-clock time.
    #[serde(with = "crate::micros")]
    pub now: Instant,
    /// Probes answered since the last tick, oldest first.
    #[serde(default)]
    pub samples: Vec<RttSample, MAX_SAMPLES>,
    /// Probes given up since the last tick.
    #[serde(default)]
    pub losses: Vec<ProbeLoss, MAX_LOSSES>,
    /// Results of connectivity checks since the last tick.
    #[serde(default)]
    pub connectivity: Vec<ConnectivityReport, MAX_WANS>,
    /// What changed about links since the last tick.
    #[serde(default)]
    pub links: Vec<LinkFact, MAX_WANS>,
    /// Shaper counters read since the last tick.
    #[serde(default)]
    pub counters: Vec<CounterReading, MAX_COUNTERS>,
    /// Commands that ended since the last tick.
    #[serde(default)]
    pub replies: Vec<Reply, MAX_REPLIES>,
    /// Inputs that did not fit into the lists.
    #[serde(default)]
    pub inputs_dropped: u16,
    /// Steering commands that ended since the last tick.
    #[serde(default)]
    pub steering_replies: Vec<SteeringReply, MAX_STEERING_REPLIES>,
    /// Reflectors that were replaced since the last tick. They count before the samples: those are
    /// of the new ones.
    #[serde(default)]
    pub replaced: Vec<ReplacedReflector, MAX_REPLACED>,
    /// The number of an incident that somebody has marked since the last tick, to find this moment
    /// in a recording; it changes nothing else.
    #[serde(default)]
    pub incident: Option<u32>,
}

impl Tick {
    /// Makes a tick without any input.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            now,
            samples: Vec::new(),
            losses: Vec::new(),
            connectivity: Vec::new(),
            links: Vec::new(),
            counters: Vec::new(),
            replies: Vec::new(),
            inputs_dropped: 0,
            steering_replies: Vec::new(),
            replaced: Vec::new(),
            incident: None,
        }
    }

    /// Empties all lists and sets the time, to reuse the memory for the next tick.
    pub fn reset(&mut self, now: Instant) {
        self.now = now;
        self.samples.clear();
        self.losses.clear();
        self.connectivity.clear();
        self.links.clear();
        self.counters.clear();
        self.replies.clear();
        self.inputs_dropped = 0;
        self.steering_replies.clear();
        self.replaced.clear();
        self.incident = None;
    }

    /// Adds an answered probe, or counts it as dropped.
    pub fn push_sample(&mut self, sample: RttSample) {
        let full = self.samples.push(sample).is_err();
        self.count_dropped(full);
    }

    /// Adds a lost probe, or counts it as dropped.
    pub fn push_loss(&mut self, loss: ProbeLoss) {
        let full = self.losses.push(loss).is_err();
        self.count_dropped(full);
    }

    /// Adds a command's end, or counts it as dropped.
    pub fn push_reply(&mut self, reply: Reply) {
        let full = self.replies.push(reply).is_err();
        self.count_dropped(full);
    }

    /// Adds the result of a connectivity check, or counts it as dropped.
    pub fn push_connectivity(&mut self, report: ConnectivityReport) {
        let full = self.connectivity.push(report).is_err();
        self.count_dropped(full);
    }

    /// Adds what changed about a link, or counts it as dropped.
    pub fn push_link(&mut self, fact: LinkFact) {
        let full = self.links.push(fact).is_err();
        self.count_dropped(full);
    }

    /// Adds a reading of counters, or counts it as dropped.
    pub fn push_counters(&mut self, reading: CounterReading) {
        let full = self.counters.push(reading).is_err();
        self.count_dropped(full);
    }

    /// Adds a steering command's end, or counts it as dropped.
    pub fn push_steering_reply(&mut self, reply: SteeringReply) {
        let full = self.steering_replies.push(reply).is_err();
        self.count_dropped(full);
    }

    /// Adds a replaced reflector, or counts it as dropped.
    pub fn push_replaced(&mut self, replaced: ReplacedReflector) {
        let full = self.replaced.push(replaced).is_err();
        self.count_dropped(full);
    }

    const fn count_dropped(&mut self, full: bool) {
        if full {
            self.inputs_dropped = self.inputs_dropped.saturating_add(1);
        }
    }
}

/// A sample older than this when its tick runs says nothing about the queue of now and is refused.
pub const SAMPLE_AGE_MAX: Duration = Duration::from_millis(500);
