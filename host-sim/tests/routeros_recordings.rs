//! The emulated router against replies and property types recorded from real ones.
//!
//! The recordings are not part of the repository; without them the tests pass and say so.

use std::path::PathBuf;

use serde_json::{Value, json};
use wanctl_sim::routeros::{Body, MenuName, Policy, Request, Router, RouterOptions, User, rest};

/// Reads one recording, or says that it is not there.
fn recording(name: &str) -> Option<Value> {
    let folder = std::env::var_os("WANCTL_SHARED_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/routeros"),
        PathBuf::from,
    );
    let path = folder.join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprint(&format!("skipped: no {}", path.display()));
        return None;
    };
    Some(serde_json::from_str(&text).expect("a recording is JSON"))
}

#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn eprint(text: &str) {
    eprintln!("{text}");
}

/// The default router with a simple queue, a plain rule and one queue type of every kind.
fn router() -> Router {
    let mut options = RouterOptions::default()
        .with_row(MenuName::QueueSimple, &[("name", "simple"), ("target", "10.0.0.0/24")])
        .with_row(MenuName::Mangle, &[("chain", "forward")]);
    for kind in ["bfifo", "codel", "fq-codel", "mq-pfifo", "none", "pcq", "pfifo", "red", "sfq"] {
        options = options.with_row(MenuName::QueueType, &[("name", kind), ("kind", kind)]);
    }
    Router::new(&options).expect("valid rows")
}

fn send(router: &mut Router, method: &str, target: &str, body: Option<&Value>) -> (u16, Value) {
    let text = body.map(Value::to_string);
    let user = User::full("wanctl", "wanctl");
    let request = Request::new(&user, method, target, text.as_deref());
    let response = rest::handle(router, &request);
    let body = match response.body {
        Body::Json(value) => value,
        Body::Empty | Body::Html(_) | Body::Raw(_) => Value::Null,
    };
    (response.status, body)
}

/// Reads a recorded range such as `0..255`; other texts are not ranges of numbers.
fn range(field: &Value) -> Option<(i128, i128)> {
    let ranges = field["r"].as_array()?;
    let [Value::String(range)] = ranges.as_slice() else { return None };
    let (min, max) = range.split_once("..")?;
    Some((number(min)?, number(max)?))
}

/// A number as RouterOS prints it: decimal, or a mask in hexadecimal digits, whose prefix the
/// recorded ranges leave out.
fn number(text: &str) -> Option<i128> {
    text.parse().ok().or_else(|| {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        i128::from_str_radix(digits, 16).ok()
    })
}

fn fits(field: &Value, text: &str) -> bool {
    let in_range = |text: &str| {
        let (min, max) = range(field).unwrap_or((i128::MIN, i128::MAX));
        number(text).is_some_and(|value| (min..=max).contains(&value))
    };
    match field["t"].as_str() {
        Some("bool") => matches!(text, "true" | "false"),
        // Both directions of a simple queue have the recorded type.
        Some("integer number") => text.split('/').all(in_range),
        Some("decimal number") => text.split('/').all(|part| part.parse::<f64>().is_ok()),
        _ => true,
    }
}

#[test]
fn every_property_shown_is_recorded_with_its_type() {
    let Some(types) = recording("types-7.23.2.json") else { return };
    let router = router();
    for menu in MenuName::ALL {
        let path = match menu {
            // The recorded keys of mangle rules hold for all rules of the firewall.
            MenuName::Filter => "ip/firewall/mangle",
            // No types of these were recorded.
            MenuName::Certificate | MenuName::Logging => continue,
            _ => menu.path(),
        };
        let fields = &types["menus"][format!("/{path}")]["fields"];
        let rows = router.rows(menu);
        assert!(!rows.is_empty(), "{}", menu.path());
        for (name, text) in rows.iter().flatten().filter(|(name, _)| *name != ".id") {
            let field = &fields[name];
            assert!(!field.is_null(), "{} {name} is not recorded", menu.path());
            assert!(fits(field, text), "{} {name}={text} is no {field}", menu.path());
        }
    }
}

/// Writable properties that are recorded and not emulated, besides `priority` of mangle rules.
const LEFT_OUT: [&str; 26] = [
    "address-list-timeout",
    "connection-limit",
    "connection-type",
    "copy-from",
    "dst-limit",
    "fragment",
    "hotspot",
    "icmp-options",
    "in-bridge-port",
    "in-bridge-port-list",
    "ingress-priority",
    "ipsec-policy",
    "ipv4-options",
    "layer7-protocol",
    "nth",
    "out-bridge-port",
    "out-bridge-port-list",
    "p2p",
    "place-before",
    "psd",
    "realm",
    "route-dst",
    "sniff-id",
    "sniff-target",
    "sniff-target-port",
    "tos",
];

/// A row of each menu whose properties can be written.
const WRITABLE_ROWS: [(MenuName, &str); 5] = [
    (MenuName::QueueTree, "*1000000"),
    (MenuName::QueueSimple, "simple"),
    (MenuName::QueueType, "cake-down"),
    (MenuName::Mangle, "*3"),
    (MenuName::Interface, "ether5"),
];

#[test]
fn writable_properties_take_the_recorded_values_and_no_others() {
    let Some(types) = recording("types-7.23.2.json") else { return };
    let mut checked = 0;
    for (menu, key) in WRITABLE_ROWS {
        let fields = types["menus"][format!("/{}", menu.path())]["fields"].as_object();
        for (name, field) in fields.expect("recorded menu") {
            let mut write = |value: &str| {
                let target = format!("/rest/{}/set", menu.path());
                let body = json!({".id": key, name: value});
                send(&mut router(), "POST", &target, Some(&body))
            };
            let (_, junk) = write("\u{1}junk");
            let unknown = junk["detail"] == format!("unknown parameter {name}");
            let left_out = LEFT_OUT.contains(&name.as_str())
                || (menu == MenuName::Mangle && name == "priority");
            let read_only = field["acc"] == "ro";
            assert_eq!(unknown, read_only || left_out, "{} {name}: {junk}", menu.path());
            if unknown {
                continue;
            }
            checked += 1;
            check_values(name, field, &mut write);
        }
    }
    assert!(checked > 100, "only {checked} properties");
}

/// Tries the recorded words and the ends of the recorded range.
fn check_values(name: &str, field: &Value, write: &mut impl FnMut(&str) -> (u16, Value)) {
    let words = field["v"].as_array().into_iter().flatten().filter_map(Value::as_str);
    // Interfaces and queue types of the probed router, and marks of list syntax.
    let literal = |word: &&str| !word.contains(['!', ',']) && field["t"] == "enum";
    for word in words.filter(literal) {
        if name != "mtu" && name != "parent" {
            assert_eq!(write(word).0, 200, "{name}={word}");
        }
    }
    let (Some((min, max)), true) = (range(field), field["t"] == "integer number") else { return };
    if name == "connection-bytes" {
        return; // A range, kept as text.
    }
    for inside in [min, max] {
        assert_eq!(write(&inside.to_string()).0, 200, "{name}={inside}");
    }
    for outside in [min - 1, max + 1] {
        let (status, body) = write(&outside.to_string());
        let detail = format!("value of {name} out of range ({min}..{max})");
        assert_eq!((status, &body["detail"]), (400, &json!(detail)), "{name}={outside}");
    }
}

#[test]
fn plain_rule_has_the_recorded_keys() {
    let Some(shapes) = recording("lab-shapes-7.23.7.json") else { return };
    let row = router().row(MenuName::Mangle, "*3").expect("the plain rule");
    let recorded = &shapes["menus"]["ip/firewall/{filter,nat,mangle,raw}"]["S"];
    let mut recorded: Vec<&str> =
        recorded.as_array().expect("keys").iter().filter_map(Value::as_str).collect();
    recorded.sort_unstable();
    assert_eq!(row.keys().collect::<Vec<_>>(), recorded);
}

/// Start of a recorded case, the request that provokes it here, and the word that differs.
type ErrorCase = (&'static str, &'static str, &'static str, Option<Value>, [&'static str; 2]);

fn error_cases() -> Vec<ErrorCase> {
    let same = ["", ""];
    vec![
        ("PATCH or DELETE without", "PATCH", "system/identity", Some(json!({"name": "x"})), same),
        ("GET /rest/<menu>/*FFF", "GET", "queue/tree/*FFF", None, same),
        ("DELETE of an id already gone", "DELETE", "queue/tree/*FFF", None, same),
        ("GET /rest/nonexistent/path", "GET", "nonexistent/path", None, same),
        ("POST /rest/interface/remove", "POST", "interface/remove", Some(json!({})), same),
        ("GET on a command path", "GET", "ip/firewall/mangle/print", None, same),
        ("GET /rest/ip/firewall/filter/<c", "GET", "ip/firewall/mangle/steer", None, same),
        (
            "PUT/PATCH/POST with an unknown",
            "PUT",
            "queue/tree",
            Some(json!({"nonexistent": "1", "parent": "global"})),
            same,
        ),
        (
            "PUT/PATCH/POST with an unknown",
            "PATCH",
            "queue/tree/*1000000",
            Some(json!({"nonexistent": "1"})),
            same,
        ),
        (
            "enum/reference value unknown",
            "PUT",
            "queue/tree",
            Some(json!({"parent": "nowhere"})),
            ["mode", "parent"],
        ),
        (
            "integer out of range",
            "PUT",
            "queue/tree",
            Some(json!({"parent": "global", "priority": 0})),
            ["1..254", "1..8"],
        ),
        (
            "missing mandatory parameter",
            "PUT",
            "queue/tree",
            Some(json!({})),
            ["account", "parent"],
        ),
        (
            "duplicate name in /queue/tree",
            "PUT",
            "queue/tree",
            Some(json!({"name": "WAN-Upload", "parent": "global"})),
            same,
        ),
        (
            "duplicate name in /queue/tree",
            "PUT",
            "queue/simple",
            Some(json!({"name": "simple"})),
            same,
        ),
        (
            "duplicate name in /queue/type",
            "PUT",
            "queue/type",
            Some(json!({"name": "default", "kind": "cake"})),
            same,
        ),
        ("bad JSON", "PUT", "queue/tree", Some(json!({"a": {}})), same),
    ]
}

#[test]
fn errors_have_the_recorded_bodies() {
    let Some(errors) = recording("errors.json") else { return };
    let rows = errors["rows"].as_array().expect("rows");
    for (start, method, target, body, [recorded_word, our_word]) in error_cases() {
        let row =
            rows.iter().find(|row| row["case"].as_str().is_some_and(|c| c.starts_with(start)));
        let row = row.unwrap_or_else(|| panic!("no recorded case {start:?}"));
        let mut expected = row["body"].clone();
        if let Some(detail) = expected["detail"].as_str().map(str::to_owned) {
            expected["detail"] = json!(detail.replace(recorded_word, our_word));
        }
        let (status, reply) =
            send(&mut router(), method, &format!("/rest/{target}"), body.as_ref());
        assert_eq!(json!(status), row["status"], "{start}");
        // A status that carries no detail is compared without the key the line above added.
        assert_eq!(without_null(&reply), without_null(&expected), "{start}: {method} {target}");
    }
}

fn without_null(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(body) = body.as_object_mut() {
        body.retain(|_, value| !value.is_null());
    }
    body
}

#[test]
fn logins_without_rights_have_the_recorded_bodies() {
    let Some(errors) = recording("errors.json") else { return };
    let policies = |user: User, drop: Policy| User {
        policies: user.policies.into_iter().filter(|policy| *policy != drop).collect(),
        ..user
    };
    let full = User::full("wanctl", "wanctl");
    let cases = [
        ("any, group without rest-api", "GET", policies(full.clone(), Policy::RestApi)),
        ("any, group has rest-api but not api", "GET", policies(full.clone(), Policy::Api)),
        ("POST/PUT without the needed", "PUT", policies(full.clone(), Policy::Write)),
        ("PATCH or DELETE without write", "DELETE", policies(full, Policy::Write)),
    ];
    for (start, method, user) in cases {
        let options = RouterOptions::default().with_users(vec![user]);
        let mut router = Router::new(&options).expect("valid rows");
        let rows = errors["rows"].as_array().expect("rows");
        let row =
            rows.iter().find(|row| row["case"].as_str().is_some_and(|c| c.starts_with(start)));
        let row = row.unwrap_or_else(|| panic!("no recorded case {start:?}"));
        let target =
            if method == "DELETE" { "/rest/queue/tree/*1000000" } else { "/rest/queue/tree" };
        let (status, reply) = send(&mut router, method, target, None);
        assert_eq!((json!(status), &reply), (row["status"].clone(), &row["body"]), "{start}");
    }
}

/// Describes a value by its JSON type and, for objects, its keys; lists by their first item.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(items) => Value::Array(items.iter().take(1).map(shape).collect()),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), shape(value))).collect())
        }
    }
}

#[test]
fn replies_have_the_shape_of_the_official_samples() {
    let Some(samples) = recording("official-doc-samples.json") else { return };
    let ours = ["/rest/interface", "/rest/system/resource", "/rest/system/identity"];
    let mut router = router();
    router.set_unchecked(MenuName::Interface, "ether2", "running", Some("true"));
    let mut checked = 0;
    for sample in samples["samples"].as_array().expect("samples") {
        let request = sample["req"].as_str().expect("request line");
        let (method, target) = request.split_once(' ').expect("method and target");
        let oid = sample["send"].get("oid").is_some();
        let old = request.contains("(old page");
        let emulated = ours.iter().any(|menu| target.starts_with(menu));
        if !emulated || old || oid || target.contains("monitor-traffic") {
            continue;
        }
        let sent = Some(&sample["send"]).filter(|body| !body.is_null());
        let (status, reply) = send(&mut router, method, target, sent);
        assert_eq!(json!(status), sample["status"], "{request}");
        assert_eq!(shape(&reply), shape(&sample["body"]), "{request}");
        checked += 1;
    }
    assert!(checked >= 6, "only {checked} samples");
}
