//! What faults make of an answer.

use serde_json::{Map, Value, json};

use super::super::menus::MenuName;
use super::super::message::{Body, Request, Response, row_json};
use super::super::store::Router;
use super::active::Delivery;
use super::{BadBody, CounterWidth, Fault, WrongShape};

/// The counters of a queue that are 32 bits wide.
const U32_COUNTERS: [&str; 4] = ["dropped", "packets", "queued-bytes", "queued-packets"];

/// Answers with the record of another menu, as seen for a moment after a boot.
pub(super) fn of_another_menu(request: &Request, router: &Router) -> Response {
    let other = if request.path() == "/rest/system/resource" {
        MenuName::Identity
    } else {
        MenuName::Resource
    };
    let row = router.rows(other).pop().unwrap_or_default();
    Response::json(200, row_json(row))
}

/// Damages the body of an answer.
pub(super) fn damage(response: Response, bad: BadBody) -> (Response, Delivery) {
    let Body::Json(body) = &response.body else { return (response, Delivery::Whole) };
    let text = body.to_string();
    let raw = |bytes: Vec<u8>| Response { body: Body::Raw(bytes), ..response.clone() };
    // RouterOS sends comments as they are; a property of its own does not disturb a search.
    let with_text = |byte: u8| {
        let property = [b"{\"note\":\"a", &[byte][..], b"b\","].concat();
        let pieces: Vec<&[u8]> = text.as_bytes().split(|one| *one == b'{').collect();
        pieces.join(&property[..])
    };
    let spoilt = match bad {
        BadBody::Truncated => return (response, Delivery::Half),
        BadBody::Half => raw(text.as_bytes()[..text.len() / 2].to_vec()),
        BadBody::Control => raw(with_text(0x07)),
        BadBody::NotUtf8 => raw(with_text(0xE4)),
        BadBody::Empty => raw(Vec::new()),
        BadBody::Html => Response {
            status: 200,
            location: None,
            body: Body::Html("<!doctype html><title>RouterOS</title>"),
        },
    };
    (spoilt, Delivery::Whole)
}

/// Changes the records of an answer.
pub(super) fn reshape(fault: Fault, path: &str, body: &mut Value) {
    match fault {
        Fault::WrongShape(WrongShape::Swapped) => swap(body),
        Fault::WrongShape(shape) => for_each_record(body, |record| wrong_shape(shape, record)),
        Fault::CounterWidth(CounterWidth::Saturate) if path.starts_with("/rest/queue/") => {
            for_each_record(body, |record| set_present(record, &U32_COUNTERS, "4294967295"));
        }
        Fault::StaleCounters => {
            for_each_record(body, |record| set_present(record, &["dropped"], "0"));
        }
        Fault::CpuSaturation => {
            for_each_record(body, |record| set_present(record, &["cpu-load"], "100"));
        }
        Fault::FastTrack => fast_track(path, body),
        Fault::ClockJump => for_each_record(body, |record| {
            set_present(record, &["build-time"], "Aug/30/2022 09:25:53");
            set_present(record, &["uptime"], "7w1h11m24s");
        }),
        _ => {}
    }
}

fn for_each_record(body: &mut Value, mut change: impl FnMut(&mut Map<String, Value>)) {
    match body {
        Value::Array(rows) => rows.iter_mut().filter_map(Value::as_object_mut).for_each(change),
        Value::Object(record) => change(record),
        _ => {}
    }
}

fn set_present(record: &mut Map<String, Value>, keys: &[&str], value: &str) {
    for key in keys {
        if let Some(present) = record.get_mut(*key) {
            *present = json!(value);
        }
    }
}

fn wrong_shape(shape: WrongShape, record: &mut Map<String, Value>) {
    match shape {
        WrongShape::Numbers => {
            for value in record.values_mut() {
                let text = value.as_str().unwrap_or_default();
                if let Ok(number) = text.parse::<u64>() {
                    *value = json!(number);
                } else if let Ok(flag) = text.parse::<bool>() {
                    *value = json!(flag);
                }
            }
        }
        WrongShape::YesNo => {
            for value in record.values_mut() {
                match value.as_str() {
                    Some("true") => *value = json!("yes"),
                    Some("false") => *value = json!("no"),
                    _ => {}
                }
            }
        }
        WrongShape::MissingKeys => {
            for key in ["comment", "disabled", "dynamic", "invalid"] {
                record.remove(key);
            }
        }
        WrongShape::ExtraKeys => {
            record.insert(".about".to_owned(), json!("CAKE type with bandwidth setting detected"));
            record.insert(".nextid".to_owned(), json!("*FFFFFFFF"));
            record.insert("future-thing".to_owned(), json!({"nested": [1, null]}));
        }
        WrongShape::Swapped => {}
    }
}

fn swap(body: &mut Value) {
    *body = match std::mem::take(body) {
        Value::Array(mut rows) if rows.len() == 1 => rows.remove(0),
        record @ Value::Object(_) => Value::Array(vec![record]),
        other => other,
    };
}

fn fast_track(path: &str, body: &mut Value) {
    if path.starts_with("/rest/queue/") || path.starts_with("/rest/ip/firewall/") {
        for_each_record(body, |record| set_present(record, &["bytes", "packets", "rate"], "0"));
    }
    if path == "/rest/ip/firewall/mangle"
        && let Value::Array(rows) = body
    {
        rows.insert(
            0,
            json!({
                ".id": "*FFFFFF", "action": "passthrough", "bytes": "3071457536530",
                "chain": "forward", "comment": "special dummy rule to show fasttrack counters",
                "dynamic": "true", "packets": "2421844624"
            }),
        );
    }
}
