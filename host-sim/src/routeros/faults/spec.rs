//! Faults as text, as the option `--fault` takes them.

use std::str::FromStr;
use std::time::Duration;

use super::super::message::Request;
use super::super::seed::Policy;
use super::super::value::parse_time_us;
use super::{
    BadBody, CounterWidth, Fault, ForeignWrite, LatencyProfile, LyingWrite, Removal, RoundedValue,
    RuleChange, ServiceFault, TlsFault, WrongShape,
};

/// The names of all faults, in the order of [`Fault`], with the details each can have; the first
/// detail is the default.
pub const FAULT_NAMES: [(&str, &[&str]); 27] = [
    ("slow-login", &["TIME"]),
    ("latency", &["rb5009", "chr", "loaded"]),
    ("tls-handshake", &["TIME", "expired", "other-name", "no-certificate"]),
    ("shared-user", &["TIME"]),
    ("abort-damage", &[]),
    ("idle-close", &["TIME"]),
    ("overload", &[]),
    ("login-refused", &[]),
    ("permission-loss", &["write", "read", "api", "rest-api"]),
    ("address-filter", &[]),
    ("service-change", &["off", "rest-off"]),
    ("reboot", &[]),
    ("bad-body", &["truncated", "half", "control", "not-utf8", "empty", "html"]),
    ("wrong-shape", &["numbers", "swapped", "missing-keys", "extra-keys", "yes-no"]),
    ("renamed", &[]),
    ("removed", &["queue", "type", "parent"]),
    ("rule-change", &["toggled", "moved", "duplicated", "recreated"]),
    ("foreign-write", &["once", "rollback"]),
    ("counters-reset", &[]),
    ("counter-width", &["wrap", "saturate"]),
    ("stale-counters", &[]),
    ("lying-write", &["refused", "lost-reply"]),
    ("rounded-value", &["rounded", "ignored"]),
    ("cpu-saturation", &[]),
    ("fasttrack", &[]),
    ("clock-jump", &[]),
    ("log-growth", &[]),
];

/// Time of a login, and after which it is forgotten, as on a real router.
const LOGIN: (Duration, Duration) = (Duration::from_millis(125), Duration::from_secs(600));
/// The slowest handshake that has been reported.
const HANDSHAKE: Duration = Duration::from_secs(8);
/// The longest request of a real router.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// Idle time unless given.
const IDLE: Duration = Duration::from_secs(5);
/// Wrong replies after a reboot.
const WRONG_REPLIES: u32 = 3;

impl Fault {
    /// Makes a fault from its name and a detail of [`FAULT_NAMES`].
    fn parse(name: &str, detail: Option<&str>) -> Option<Self> {
        let time = || detail.and_then(parse_time_us).map(Duration::from_micros);
        let time_or = |default| if detail.is_none() { Some(default) } else { time() };
        let (_, details) = FAULT_NAMES.iter().find(|(known, _)| *known == name)?;
        let is_detail = |detail: &str| details.contains(&detail) || details.contains(&"TIME");
        if detail.is_some_and(|detail| !is_detail(detail)) {
            return None;
        }
        let detail = detail.or(details.first().copied()).unwrap_or_default();
        Some(match name {
            "slow-login" => Self::SlowLogin { takes: time_or(LOGIN.0)?, every: LOGIN.1 },
            "latency" => Self::Latency(match detail {
                "chr" => LatencyProfile::Chr,
                "loaded" => LatencyProfile::Loaded,
                _ => LatencyProfile::Rb5009,
            }),
            "tls-handshake" => Self::TlsHandshake(match detail {
                "expired" => TlsFault::Expired,
                "other-name" => TlsFault::OtherName,
                "no-certificate" => TlsFault::NoCertificate,
                _ => TlsFault::Slow(time_or(HANDSHAKE)?),
            }),
            "shared-user" => Self::SharedUser { limit: time_or(REQUEST_MAX)? },
            "abort-damage" => Self::AbortDamage,
            "idle-close" => Self::IdleClose { after: time_or(IDLE)? },
            "overload" => Self::Overload,
            "login-refused" => Self::LoginRefused,
            "permission-loss" => Self::PermissionLoss {
                lost: match detail {
                    "read" => Policy::Read,
                    "api" => Policy::Api,
                    "rest-api" => Policy::RestApi,
                    _ => Policy::Write,
                },
            },
            "address-filter" => Self::AddressFilter,
            "service-change" if detail == "off" => Self::ServiceChange(ServiceFault::Off),
            "service-change" => Self::ServiceChange(ServiceFault::RestOff),
            "reboot" => Self::Reboot { wrong_replies: WRONG_REPLIES },
            "bad-body" => Self::BadBody(match detail {
                "half" => BadBody::Half,
                "control" => BadBody::Control,
                "not-utf8" => BadBody::NotUtf8,
                "empty" => BadBody::Empty,
                "html" => BadBody::Html,
                _ => BadBody::Truncated,
            }),
            "wrong-shape" => Self::WrongShape(match detail {
                "swapped" => WrongShape::Swapped,
                "missing-keys" => WrongShape::MissingKeys,
                "extra-keys" => WrongShape::ExtraKeys,
                "yes-no" => WrongShape::YesNo,
                _ => WrongShape::Numbers,
            }),
            _ => return Self::parse_model_fault(name, detail),
        })
    }

    /// The faults that change what the router holds or counts.
    fn parse_model_fault(name: &str, detail: &str) -> Option<Self> {
        Some(match name {
            "renamed" => Self::Renamed,
            "removed" => Self::Removed(match detail {
                "type" => Removal::Type,
                "parent" => Removal::Parent,
                _ => Removal::Queue,
            }),
            "rule-change" => Self::RuleChange(match detail {
                "moved" => RuleChange::Moved,
                "duplicated" => RuleChange::Duplicated,
                "recreated" => RuleChange::Recreated,
                _ => RuleChange::Toggled,
            }),
            "foreign-write" if detail == "once" => Self::ForeignWrite(ForeignWrite::Once),
            "foreign-write" => Self::ForeignWrite(ForeignWrite::Rollback),
            "counters-reset" => Self::CountersReset,
            "counter-width" if detail == "wrap" => Self::CounterWidth(CounterWidth::Wrap),
            "counter-width" => Self::CounterWidth(CounterWidth::Saturate),
            "stale-counters" => Self::StaleCounters,
            "lying-write" if detail == "refused" => Self::LyingWrite(LyingWrite::Refused),
            "lying-write" => Self::LyingWrite(LyingWrite::LostReply),
            "rounded-value" if detail == "rounded" => Self::RoundedValue(RoundedValue::Rounded),
            "rounded-value" => Self::RoundedValue(RoundedValue::Ignored),
            "cpu-saturation" => Self::CpuSaturation,
            "fasttrack" => Self::FastTrack,
            "clock-jump" => Self::ClockJump,
            "log-growth" => Self::LogGrowth,
            _ => return None,
        })
    }
}

/// A fault, and which requests it touches if it touches requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultSpec {
    /// What goes wrong.
    pub fault: Fault,
    /// Only requests of this method, if given.
    pub method: Option<String>,
    /// Only requests whose path begins with this.
    pub path: String,
    /// How many of a hundred of these requests are touched.
    pub percent: u8,
    /// How many requests are touched at most, if limited.
    pub times: Option<u32>,
    /// When the fault begins, since the start; used by the command line.
    pub from: Duration,
    /// When it ends; never without it. Used by the command line.
    pub until: Option<Duration>,
}

impl From<Fault> for FaultSpec {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            method: None,
            path: String::new(),
            percent: 100,
            times: None,
            from: Duration::ZERO,
            until: None,
        }
    }
}

impl FaultSpec {
    /// Tells whether the fault may touch a request.
    pub(crate) fn fits(&self, request: &Request) -> bool {
        self.times != Some(0)
            && self
                .method
                .as_ref()
                .is_none_or(|method| [&request.method, request.verb()].contains(&&**method))
            && request.path().starts_with(&self.path)
    }
}

impl FromStr for FaultSpec {
    type Err = String;

    /// Reads `NAME[:DETAIL][,method=M][,path=P][,percent=N][,times=N][,every=TIME][,from=TIME]
    /// [,until=TIME]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let head = words.next().unwrap_or_default();
        let (name, detail) =
            head.split_once(':').map_or((head, None), |(name, detail)| (name, Some(detail)));
        let fault = Fault::parse(name, detail).ok_or_else(|| unknown(name))?;
        let mut spec = Self::from(fault);
        for word in words {
            let (key, value) = word.split_once('=').ok_or(format!("{word:?} has no value"))?;
            let bad = || format!("{value:?} is no value for {key}");
            let time = || parse_time_us(value).map(Duration::from_micros).ok_or_else(bad);
            match (key, &mut spec.fault) {
                ("method", _) => spec.method = Some(value.to_ascii_uppercase()),
                ("path", _) => spec.path = value.to_owned(),
                ("percent", _) => {
                    spec.percent =
                        value.parse().ok().filter(|percent| *percent <= 100).ok_or_else(bad)?;
                }
                ("times", _) => spec.times = Some(value.parse().map_err(|_| bad())?),
                ("from", _) => spec.from = time()?,
                ("until", _) => spec.until = Some(time()?),
                ("every", Fault::SlowLogin { every, .. }) => *every = time()?,
                _ => return Err(format!("{key:?} is unknown here")),
            }
        }
        Ok(spec)
    }
}

fn unknown(name: &str) -> String {
    match FAULT_NAMES.iter().find(|(known, _)| *known == name) {
        Some((_, [])) => format!("{name} has no details"),
        Some((_, details)) => format!("the details of {name} are {}", details.join(", ")),
        None => {
            let names: Vec<_> = FAULT_NAMES.iter().map(|(name, _)| *name).collect();
            format!("{name:?} is no fault; there are {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_every_detail_is_a_fault_of_its_own() {
        let mut seen = Vec::new();
        for (name, details) in FAULT_NAMES {
            let mut texts = vec![name.to_owned()];
            texts.extend(
                details.iter().map(|detail| format!("{name}:{}", detail.replace("TIME", "3s"))),
            );
            for text in texts {
                let fault =
                    text.parse::<FaultSpec>().unwrap_or_else(|error| panic!("{error}")).fault;
                if !text.contains(':') || text.ends_with(":3s") || !seen.contains(&fault) {
                    seen.push(fault);
                } else {
                    // The default is the first detail.
                    assert_eq!(text, format!("{name}:{}", details[0]));
                }
            }
        }
    }

    #[test]
    fn filters_are_read_and_nonsense_is_named() {
        let text =
            "bad-body:html,method=patch,path=/rest/queue,percent=50,times=3,from=1s,until=2s";
        let spec: FaultSpec = text.parse().expect("valid");
        assert_eq!(spec.fault, Fault::BadBody(BadBody::Html));
        assert_eq!(
            (spec.percent, spec.times, spec.until),
            (50, Some(3), Some(Duration::from_secs(2)))
        );
        for (text, problem) in [
            ("fire", "is no fault"),
            ("bad-body:red", "details of bad-body are"),
            ("overload:red", "has no details"),
            ("overload,percent=101", "is no value for percent"),
            ("overload,every=1s", "is unknown here"),
            ("overload,times", "has no value"),
        ] {
            let error = text.parse::<FaultSpec>().expect_err(text);
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
