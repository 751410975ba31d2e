//! The RouterOS objects this program reads, and how their values are spelt.

use serde_json::{Map, Value};
use wanctl_core::units::BitsPerSecond;

pub(crate) use crate::shaping::QueueCounters;
use crate::shaping::Waited;

/// One record of a reply.
pub(crate) type Record = Map<String, Value>;

/// Who the router says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterIdentity {
    /// The name its owner gave it.
    pub name: String,
    /// The RouterOS version, as `7.20.1 (stable)`; empty if not told.
    pub version: String,
    /// The model; empty if not told.
    pub board: String,
}

impl std::fmt::Display for RouterIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, RouterOS {})", self.name, self.board, self.version)
    }
}

/// One queue of `/queue/tree`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The router's id, as `*1000001`. It changes when the queue is removed and made again.
    pub id: String,
    /// The name.
    pub name: String,
    /// The shaper rate; zero means unlimited.
    pub max_limit: BitsPerSecond,
    /// The name of the queue type, as `cake-down`; empty if not told.
    pub queue_type: String,
    /// The interface or queue it hangs below; empty if not told.
    pub parent: String,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Whether it does nothing because something it refers to is gone.
    pub invalid: bool,
    /// What it has counted, if that was asked for.
    pub counters: Option<QueueCounters>,
}

/// What the router says about a queue after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The shaper rate it holds now.
    pub held: BitsPerSecond,
    /// What the queue has counted, if the reply says so.
    pub counters: Option<QueueCounters>,
}

impl QueueCounters {
    /// Reads the counters of a record; `None` without a readable byte counter.
    pub(crate) fn from_record(record: &Record) -> Option<Self> {
        let number = |key| text(record, key).and_then(|value| value.parse::<u64>().ok());
        let limited = |key| number(key).map_or(0, |value| u32::try_from(value).unwrap_or(u32::MAX));
        Some(Self {
            bytes: number("bytes")?,
            // Should a version count further, its low bits go on as those of the others do.
            dropped: (number("dropped").unwrap_or_default() & u64::from(u32::MAX)) as u32,
            queued_bytes: limited("queued-bytes"),
            queued_packets: limited("queued-packets"),
            waited: Waited::default(),
        })
    }
}

impl Queue {
    /// Reads a record; `Err` names what is missing or malformed.
    pub(crate) fn from_record(record: &Record) -> Result<Self, String> {
        Ok(Self {
            id: id(record).map_err(|what| format!("a queue {what}"))?,
            name: text(record, "name").ok_or("a queue without name")?,
            max_limit: max_limit(record)?.unwrap_or(BitsPerSecond::ZERO),
            queue_type: text(record, "queue").unwrap_or_default(),
            parent: text(record, "parent").unwrap_or_default(),
            disabled: flag(record, "disabled"),
            invalid: flag(record, "invalid"),
            counters: QueueCounters::from_record(record),
        })
    }
}

/// One rule of `/ip/firewall/mangle`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MangleRule {
    /// The router's id, as `*1`.
    pub id: String,
    /// The comment; rules have no names. Empty if there is none.
    pub comment: String,
    /// Where it stands, as `prerouting`; empty if not told.
    pub chain: String,
    /// What it does, as `mark-connection`; empty if not told.
    pub action: String,
    /// Whether it is switched off.
    pub disabled: bool,
    /// Whether it does nothing because something it refers to is gone.
    pub invalid: bool,
}

impl MangleRule {
    /// Reads a record; `Err` names what is missing or malformed.
    pub(crate) fn from_record(record: &Record) -> Result<Self, String> {
        Ok(Self {
            id: id(record).map_err(|what| format!("a rule {what}"))?,
            comment: text(record, "comment").unwrap_or_default(),
            chain: text(record, "chain").unwrap_or_default(),
            action: text(record, "action").unwrap_or_default(),
            disabled: flag(record, "disabled"),
            invalid: flag(record, "invalid"),
        })
    }
}

/// Reads the id of a record; `Err` says what is wrong with it.
fn id(record: &Record) -> Result<String, String> {
    let id = text(record, ".id").ok_or("without .id")?;
    // It becomes part of a URL.
    let digits = id.strip_prefix('*').unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("with a malformed .id {id:?}"));
    }
    Ok(id)
}

/// Reads `max-limit` of a record; `Err` if it is there but not a rate.
pub(crate) fn max_limit(record: &Record) -> Result<Option<BitsPerSecond>, String> {
    let Some(value) = text(record, "max-limit") else { return Ok(None) };
    rate(&value).map(Some).ok_or_else(|| format!("max-limit {value:?} is not a rate"))
}

/// Returns a value as text, whether the router sent a string, a number or a bool.
pub(crate) fn text(record: &Record, key: &str) -> Option<String> {
    match record.get(key)? {
        Value::String(value) => Some(value.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns whether a value is there and true.
pub(crate) fn flag(record: &Record, key: &str) -> bool {
    matches!(text(record, key).as_deref(), Some("true" | "yes"))
}

/// Reads a rate in bit/s: an integer, with a decimal `k`, `M` or `G` as people write it.
fn rate(value: &str) -> Option<BitsPerSecond> {
    let (digits, factor) = match value.as_bytes().last()? {
        b'k' => (value.strip_suffix('k')?, 1_000),
        b'M' => (value.strip_suffix('M')?, 1_000_000),
        b'G' => (value.strip_suffix('G')?, 1_000_000_000),
        _ => (value, 1_u64),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).map(BitsPerSecond::new)
}

/// Returns the records of a reply, which is an array or a single object depending on the path.
pub(crate) fn records(reply: Value) -> Option<Vec<Record>> {
    let object = |value| match value {
        Value::Object(record) => Some(record),
        _ => None,
    };
    match reply {
        Value::Array(values) => values.into_iter().map(object).collect(),
        single => object(single).map(|record| vec![record]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(json: &str) -> Record {
        records(serde_json::from_str(json).unwrap()).unwrap().remove(0)
    }

    #[test]
    fn queue_is_read_from_strings_numbers_and_bools() {
        let strings = r#"{".about":"x",".id":"*1A","name":"12","max-limit":"5000000","queue":"cake",
            "parent":"global","disabled":"false","invalid":"true"}"#;
        let typed = r#"[{".id":"*1A","name":12,"max-limit":5000000,"queue":"cake",
            "parent":"global","disabled":false,"invalid":true}]"#;
        let queue = Queue::from_record(&record(strings)).unwrap();
        assert_eq!(queue.max_limit, BitsPerSecond::from_mbps(5));
        assert!(queue.invalid && !queue.disabled);
        assert_eq!(Queue::from_record(&record(typed)).unwrap(), queue);
    }

    #[test]
    fn queue_without_optional_keys_is_read() {
        let queue = Queue::from_record(&record(r#"{".id":"*1","name":"q"}"#)).unwrap();
        assert_eq!(queue.max_limit, BitsPerSecond::ZERO);
        assert!(!queue.disabled && !queue.invalid);
    }

    #[test]
    fn counters_are_as_wide_as_the_router_gives_them() {
        let counters = |json: &str| Queue::from_record(&record(json)).unwrap().counters;
        let read = counters(
            r#"{".id":"*1","name":"q","bytes":"272603902153","dropped":"4294967297",
                "queued-bytes":"99999999999","queued-packets":7}"#,
        );
        let expected = QueueCounters {
            bytes: 272_603_902_153,
            dropped: 1,
            queued_bytes: u32::MAX,
            queued_packets: 7,
            waited: Waited::default(),
        };
        assert_eq!(read, Some(expected));
        assert_eq!(counters(r#"{".id":"*1","name":"q"}"#), None);
        assert_eq!(counters(r#"{".id":"*1","name":"q","bytes":"-1"}"#), None);
    }

    #[test]
    fn malformed_queues_are_refused() {
        for json in [
            r#"{"name":"q"}"#,
            r#"{".id":"*1"}"#,
            r#"{".id":"*","name":"q"}"#,
            r#"{".id":"*1/../x","name":"q"}"#,
            r#"{".id":"*1","name":"q","max-limit":"fast"}"#,
        ] {
            assert!(Queue::from_record(&record(json)).is_err(), "{json}");
        }
    }

    #[test]
    fn rates_are_decimal() {
        for (text, bits) in
            [("0", 0), ("64k", 64_000), ("300M", 300_000_000), ("2G", 2_000_000_000)]
        {
            assert_eq!(rate(text), Some(BitsPerSecond::new(bits)), "{text}");
        }
        for text in ["", "M", "1.5M", "-1", "99999999999999999999", "20000000000G", "5 000"] {
            assert_eq!(rate(text), None, "{text}");
        }
    }
}
