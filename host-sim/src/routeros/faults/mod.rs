//! Faults that can be switched on while the emulator runs: one [`Fault`] per kind of misbehaviour
//! that has been seen on RouterOS or must be expected of it.

mod active;
mod profile;
mod reply;
mod rows;
mod script;
mod spec;

pub(crate) use active::{Delivery, Fate, Faults};
pub use profile::LatencyProfile;
pub(crate) use script::FaultScript;
pub use spec::{FAULT_NAMES, FaultSpec};

use std::time::Duration;

use super::seed::Policy;

/// What can go wrong, numbered from 1 in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The first request takes longer, and every first one after the router has forgotten the login.
    SlowLogin {
        /// Time the login takes.
        takes: Duration,
        /// Time after which the router forgets it; 10 minutes on a real one.
        every: Duration,
    },
    /// Requests take as long as they do on a certain device.
    Latency(LatencyProfile),
    /// The TLS handshake is slow or fails. HTTP is not touched.
    TlsHandshake(TlsFault),
    /// Another client of the same user has a request in work that does not end: ours wait behind it.
    SharedUser {
        /// Time after which a request that waits is answered with 400 `Session closed`; 60 s on a
        /// real router.
        limit: Duration,
    },
    /// Once a client has given up a request, the next completed one brings resets and answers meant
    /// for others to everybody, for a while.
    AbortDamage,
    /// Connections that are silent for so long are closed.
    IdleClose {
        /// That time.
        after: Duration,
    },
    /// All sessions are taken: connections are accepted and closed.
    Overload,
    /// Every login is refused: the password was changed or the user disabled.
    LoginRefused,
    /// The group of every user loses a policy.
    PermissionLoss {
        /// The policy.
        lost: Policy,
    },
    /// The address of the client is not allowed: connections are accepted and closed.
    AddressFilter,
    /// The service is switched off, or REST on it.
    ServiceChange(ServiceFault),
    /// The router is off until the fault ends. Then it starts with all counters at zero and answers
    /// some requests with the record of another menu.
    Reboot {
        /// How many requests get a wrong record after the start.
        wrong_replies: u32,
    },
    /// The body of a reply is damaged.
    BadBody(BadBody),
    /// The body is JSON, but not shaped as usual.
    WrongShape(WrongShape),
    /// Another admin renames the first queue of the tree; it gets its name back when the fault ends.
    Renamed,
    /// Another admin removes what a queue is or needs.
    Removed(Removal),
    /// Another admin changes the first mangle rule that has a comment.
    RuleChange(RuleChange),
    /// Another client or a safe mode that ends changes the rate of the first queue.
    ForeignWrite(ForeignWrite),
    /// All counters begin again at zero, once.
    CountersReset,
    /// The counters are about to reach their width, or stand at it.
    CounterWidth(CounterWidth),
    /// Counters are refreshed once a second, and `dropped` stays 0.
    StaleCounters,
    /// A write takes effect and does not say so.
    LyingWrite(LyingWrite),
    /// A rate that is written is stored as another one.
    RoundedValue(RoundedValue),
    /// The router's processor is busy: requests take 100 to 500 ms.
    CpuSaturation,
    /// FastTrack is on: queue and mangle counters stay at 0, and there is a dummy rule.
    FastTrack,
    /// The clock and its formats are those of an old version, and the uptime jumps.
    ClockJump,
    /// Every write leaves a line in `log` and `system/history`, which can be read then.
    LogGrowth,
}

impl Fault {
    /// Tells whether nobody listens while it lasts.
    pub(crate) const fn is_off(self) -> bool {
        matches!(self, Self::ServiceChange(ServiceFault::Off) | Self::Reboot { .. })
    }
}

/// What happens to the TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    /// It takes so long.
    Slow(Duration),
    /// The certificate has expired.
    Expired,
    /// The certificate is for another name.
    OtherName,
    /// There is no certificate: the handshake fails.
    NoCertificate,
}

/// What is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceFault {
    /// The whole service, as when its port is moved: connections are refused.
    Off,
    /// REST: 403 with an HTML page.
    RestOff,
}

/// How a body is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadBody {
    /// Half of the announced length arrives, then the connection ends.
    Truncated,
    /// Half of it arrives, with a length that fits.
    Half,
    /// Every record has a text with a raw control character.
    Control,
    /// Every record has a text with a byte that is not UTF-8.
    NotUtf8,
    /// Nothing, with status 200.
    Empty,
    /// An HTML page with status 200.
    Html,
}

/// How JSON differs from the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongShape {
    /// Numbers and booleans instead of texts.
    Numbers,
    /// An array instead of a single object, and for one row the reverse.
    Swapped,
    /// `disabled`, `comment`, `invalid` and `dynamic` are left out.
    MissingKeys,
    /// `.about` and other unknown keys.
    ExtraKeys,
    /// `yes` and `no` instead of `true` and `false`.
    YesNo,
}

/// What is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The first queue of the tree; it is made anew, under a new id, when the fault ends.
    Queue,
    /// Its queue type: the queue shows the id of what is gone.
    Type,
    /// Its parent: the queue is invalid.
    Parent,
}

/// What happens to a mangle rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleChange {
    /// It is switched over, once.
    Toggled,
    /// It moves to the end, once.
    Moved,
    /// A second one with the same comment appears until the fault ends.
    Duplicated,
    /// It is removed and made anew, under a new id, once.
    Recreated,
}

/// Who changes the rate of the first queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignWrite {
    /// Another client writes 3 Mbit/s, once.
    Once,
    /// When the fault ends, all rates are again what they were when it began.
    Rollback,
}

/// What the counters do at their width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterWidth {
    /// All counters stand just below their width and begin again at 0.
    Wrap,
    /// The 32-bit counters stay at their largest value.
    Saturate,
}

/// What a write that took effect answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LyingWrite {
    /// 400.
    Refused,
    /// Nothing: the connection is reset.
    LostReply,
}

/// What is stored instead of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundedValue {
    /// The rate rounded down to whole Mbit/s.
    Rounded,
    /// The rate as it was before.
    Ignored,
}
