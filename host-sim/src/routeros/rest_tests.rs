//! The REST rules, one table per rule.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::routeros::{QueueTraffic, RouterOptions, basic_credentials, properties_of};

fn router() -> Router {
    Router::new(&RouterOptions::default()).expect("default rows are valid")
}

fn send(router: &mut Router, method: &str, target: &str, body: Option<Value>) -> (u16, Value) {
    let user = User::full("wanctl", "wanctl");
    let body = body.map(|body| body.to_string());
    let request = Request::new(&user, method, &format!("/rest/{target}"), body.as_deref());
    unpack(handle(router, &request))
}

fn unpack(response: Response) -> (u16, Value) {
    let body = match response.body {
        Body::Json(value) => value,
        Body::Empty | Body::Html(_) | Body::Raw(_) => Value::Null,
    };
    (response.status, body)
}

fn error(status: u16, detail: &str) -> (u16, Value) {
    let message = match status {
        400 => "Bad Request",
        404 => "Not Found",
        _ => "Internal Server Error",
    };
    if detail.is_empty() {
        return (status, json!({"error": status, "message": message}));
    }
    (status, json!({"detail": detail, "error": status, "message": message}))
}

fn names(rows: &Value) -> Vec<&str> {
    rows.as_array().into_iter().flatten().filter_map(|row| row["name"].as_str()).collect()
}

#[test]
fn tree_row_has_the_recorded_keys_as_strings_in_ascii_order() {
    let (status, row) = send(&mut router(), "GET", "queue/tree/WAN-Download", None);
    assert_eq!(status, 200);
    let row = row.as_object().expect("one object");
    let keys: Vec<&str> = row.keys().map(String::as_str).collect();
    let expected = ".id bucket-size burst-limit burst-threshold burst-time bytes disabled dropped \
                    invalid limit-at max-limit name packet-mark packet-rate packets parent \
                    priority queue queued-bytes queued-packets rate";
    assert_eq!(keys, expected.split_whitespace().collect::<Vec<_>>());
    assert!(row.values().all(Value::is_string));
    assert_eq!(row[".id"], "*1000000");
    assert_eq!(row["max-limit"], "500000000");
}

#[test]
fn reads_select_rows_and_properties() {
    let down = json!({".id": "*1000000", "name": "WAN-Download"});
    let cases = [
        ("queue/tree?.proplist=name&name=WAN-Download", json!([down])),
        ("queue/tree?.proplist=name&.id=*1000000", json!([down])),
        ("queue/tree?.proplist=name&disabled=yes", json!([])),
        ("queue/tree?.proplist=name&parent=ether3&disabled=no", json!([down])),
        ("queue/tree?name=none", json!([])),
        ("queue/tree?comment=", json!([])),
        ("queue/tree/*1000000?.proplist=name", json!({"name": "WAN-Download"})),
        (
            "queue/tree/WAN-Download?.proplist=name,max-limit,nothing",
            json!({"max-limit": "500000000", "name": "WAN-Download"}),
        ),
        ("system/identity", json!({"name": "MikroTik"})),
        ("system/resource?.proplist=version", json!({"version": "7.23.2 (stable)"})),
        (
            "ip/firewall/mangle?comment=ADAPTIVE%3A%20steer&.proplist=disabled",
            json!([{".id": "*1", "disabled": "true"}]),
        ),
        ("ip/firewall/mangle?disabled=false", json!([])),
        (
            "queue/type?default=false&.proplist=name",
            json!([{".id": "*1", "name": "cake-down"}, {".id": "*2", "name": "cake-up"}]),
        ),
        ("queue/type/*FFFFFFFA?.proplist=name", json!({"name": "pcq-upload-default"})),
    ];
    for (target, expected) in cases {
        assert_eq!(send(&mut router(), "GET", target, None), (200, expected), "{target}");
    }
}

#[test]
fn print_has_no_id_unless_asked_and_counts() {
    let cases = [
        (
            "queue/tree",
            json!({".proplist": "name"}),
            json!([{"name": "WAN-Download"}, {"name": "WAN-Upload"}]),
        ),
        (
            "queue/tree",
            json!({".proplist": [".id", "name"], ".query": ["name=WAN-Upload"]}),
            json!([{".id": "*1000001", "name": "WAN-Upload"}]),
        ),
        ("queue/tree", json!({"count-only": ""}), json!({"ret": "2"})),
        ("queue/tree", json!({"count-only": "", ".query": ["name=x"]}), json!({"ret": "0"})),
        (
            "queue/tree",
            json!({"stats": "", "detail": "", ".proplist": "parent"}),
            json!([{"parent": "ether3"}, {"parent": "ether1"}]),
        ),
        ("system/identity", json!({}), json!([{"name": "MikroTik"}])),
    ];
    for (menu, body, expected) in cases {
        let reply = send(&mut router(), "POST", &format!("{menu}/print"), Some(body.clone()));
        assert_eq!(reply, (200, expected), "{menu} {body}");
    }
}

#[test]
fn wrong_requests_get_the_recorded_errors() {
    let set = json!({"max-limit": "1M"});
    let no_resource = "missing or invalid resource identifier";
    let cases = [
        ("GET", "nonexistent/path", None, error(400, "no such command or directory (nonexistent)")),
        ("GET", "queue/none", None, error(400, "no such command or directory (none)")),
        ("GET", "queue/tree/none", None, error(400, "no such command or directory (none)")),
        ("GET", "queue/tree/print", None, error(400, "no such command")),
        ("GET", "queue/tree/*FFF", None, error(404, "")),
        ("GET", "queue/tree/%2A1000000", None, error(400, "no such command prefix")),
        ("GET", "ip/firewall/mangle/steer", None, error(400, "no such command prefix")),
        (
            "POST",
            "interface/remove",
            Some(json!({".id": "ether1"})),
            error(400, "no such command or directory (remove)"),
        ),
        (
            "POST",
            "queue/tree/move",
            Some(json!({})),
            error(400, "no such command or directory (move)"),
        ),
        ("PUT", "interface", Some(json!({"name": "x"})), error(400, no_resource)),
        ("PUT", "system/identity", Some(json!({"name": "x"})), error(400, no_resource)),
        ("DELETE", "interface/ether1", None, error(400, no_resource)),
        ("DELETE", "queue/type/default", None, error(400, no_resource)),
        ("DELETE", "queue/tree/*FFF", None, error(404, "")),
        ("PATCH", "queue/tree/*FFF", Some(set.clone()), error(404, "")),
        ("PATCH", "queue/tree", Some(set.clone()), error(400, no_resource)),
        ("PATCH", "system/identity", Some(json!({"name": "x"})), error(400, no_resource)),
        (
            "PATCH",
            "queue/tree/*1000000",
            Some(json!({"max-limit": "fast"})),
            error(400, no_resource),
        ),
        (
            "PATCH",
            "queue/tree/*1000000",
            Some(json!({"bytes": "1"})),
            error(400, "unknown parameter bytes"),
        ),
        ("POST", "queue/tree/set", Some(set.clone()), error(400, "missing =.id=")),
        ("POST", "queue/tree/set", Some(json!({".id": "*FFF", "max-limit": 1})), error(404, "")),
        (
            "POST",
            "queue/tree/print",
            Some(json!({"fast": ""})),
            error(400, "unknown parameter fast"),
        ),
        (
            "POST",
            "queue/tree/enable",
            Some(json!({".id": "*1000000", "x": ""})),
            error(400, "unknown parameter x"),
        ),
        ("POST", "system/identity/set", Some(json!({"x": ""})), error(400, "unknown parameter x")),
    ];
    for (method, target, body, expected) in cases {
        let reply = send(&mut router(), method, target, body);
        assert_eq!(reply, expected, "{method} {target}");
    }
}

#[test]
fn refused_values_name_the_reason() {
    let row = |change: Value| {
        let mut row = json!({"name": "q", "parent": "global"});
        for (name, value) in change.as_object().into_iter().flatten() {
            row[name] = value.clone();
        }
        row
    };
    let cases = [
        (row(json!({"nonexistent": "1"})), "unknown parameter nonexistent"),
        (row(json!({"parent": "nowhere"})), "input does not match any value of parent"),
        (row(json!({"parent": "q"})), "input does not match any value of parent"),
        (row(json!({"queue": "nothing"})), "input does not match any value of queue"),
        (row(json!({"priority": 9})), "value of priority out of range (1..8)"),
        (row(json!({"max-limit": "fast"})), "invalid value for argument max-limit"),
        (
            row(json!({"max-limit": "9Mbps"})),
            "value of max-limit contains invalid trailing characters",
        ),
        (row(json!({"name": "WAN-Upload"})), "failure: already have such name"),
        (json!({"name": "q"}), "missing =parent="),
    ];
    for (body, detail) in cases {
        let mut router = router();
        let before = router.rows(MenuName::QueueTree);
        let reply = send(&mut router, "PUT", "queue/tree", Some(body.clone()));
        assert_eq!(reply, error(400, detail), "{body}");
        assert_eq!(router.rows(MenuName::QueueTree), before, "{body}");
    }
    let taken = json!({"name": "cake-up", "kind": "cake"});
    let reply = send(&mut router(), "PUT", "queue/type", Some(taken));
    assert_eq!(reply, error(400, "failure: name already used"));
}

#[test]
fn patch_refusal_can_be_specific() {
    let mut router = router();
    router.quirks.generic_patch_refusal = false;
    let body = json!({"priority": "9"});
    let reply = send(&mut router, "PATCH", "queue/tree/WAN-Upload", Some(body));
    assert_eq!(reply, error(400, "value of priority out of range (1..8)"));
}

#[test]
fn rates_are_echoed_as_integers_and_logged() {
    for (value, expected) in
        [(json!("250M"), 250_000_000), (json!("64k"), 64_000), (json!(250000000), 250_000_000)]
    {
        let mut router = router();
        router.advance_to(Duration::from_secs(3));
        let body = json!({"max-limit": value});
        let (status, row) = send(&mut router, "PATCH", "queue/tree/*1000000", Some(body));
        assert_eq!((status, &row["max-limit"]), (200, &json!(expected.to_string())));
        assert_eq!(router.max_limit_bps("WAN-Download"), Some(expected));
        let write = router.writes().back().expect("logged");
        assert_eq!((write.at, write.max_limit_bps), (Duration::from_secs(3), expected));
        assert_eq!(write.queue, "WAN-Download");
    }
}

#[test]
fn one_set_writes_several_records_or_none() {
    let mut router = router();
    let both = json!({".id": "*1000000,*1000001", "max-limit": "7M"});
    assert_eq!(send(&mut router, "POST", "queue/tree/set", Some(both)), (200, json!([])));
    assert_eq!(router.max_limit_bps("WAN-Upload"), Some(7_000_000));
    assert_eq!(router.max_limit_bps("WAN-Download"), Some(7_000_000));
    let half = json!({"numbers": "WAN-Upload,nothing", "max-limit": "8M"});
    assert_eq!(send(&mut router, "POST", "queue/tree/set", Some(half)).0, 404);
    assert_eq!(router.max_limit_bps("WAN-Upload"), Some(7_000_000));
}

#[test]
fn records_are_added_once_and_removed_once() {
    let mut router = router();
    let user = User::full("wanctl", "wanctl");
    let body = r#"{"name":"q","parent":"global","queue":"cake-up","max-limit":"1M"}"#;
    let mut request = Request::new(&user, "PUT", "/rest/queue/tree", Some(body));
    request.host = Some("10.0.0.1".to_owned());
    let response = handle(&mut router, &request);
    let location = response.location.clone();
    assert_eq!(location.as_deref(), Some("https://10.0.0.1/rest/queue/tree/*1000002"));
    let (status, row) = unpack(response);
    assert_eq!((status, &row[".id"], &row["priority"]), (201, &json!("*1000002"), &json!("8")));
    assert_eq!(send(&mut router, "DELETE", "queue/tree/*1000002", None), (204, Value::Null));
    assert_eq!(send(&mut router, "DELETE", "queue/tree/*1000002", None), error(404, ""));
    let again = send(&mut router, "POST", "queue/tree/add", Some(json!({"parent": "global"})));
    assert_eq!(again, (200, json!({"ret": "*1000003"})));
    assert_eq!(router.row(MenuName::QueueTree, "*1000003").expect("row")["name"], "queue1");
    assert_eq!(send(&mut router, "POST", "queue/tree", Some(json!({}))), (200, json!([])));
}

#[test]
fn mangle_keys_appear_only_when_written() {
    let mut router = router();
    let (_, rule) =
        send(&mut router, "PUT", "ip/firewall/mangle", Some(json!({"chain": "forward"})));
    let bare = json!({".id": "*3", "action": "accept", "bytes": "0", "chain": "forward",
                      "dynamic": "false", "invalid": "false", "packets": "0"});
    assert_eq!(rule, bare);
    for (command, expected) in [("disable", "true"), ("enable", "false")] {
        let body = json!({".id": "*3"});
        let reply = send(&mut router, "POST", &format!("ip/firewall/mangle/{command}"), Some(body));
        assert_eq!(reply, (200, json!([])));
        assert_eq!(router.row(MenuName::Mangle, "*3").expect("rule")["disabled"], expected);
    }
    let (_, rule) =
        send(&mut router, "PATCH", "ip/firewall/mangle/*3", Some(json!({"comment": "x"})));
    assert_eq!(rule["comment"], "x");
    let (_, rule) =
        send(&mut router, "PATCH", "ip/firewall/mangle/*3", Some(json!({"comment": ""})));
    assert_eq!(rule.get("comment"), None);
}

#[test]
fn ordered_menus_place_and_move() {
    let mut router = router();
    let ids = |router: &Router| -> Vec<String> {
        router.rows(MenuName::Mangle).iter().map(|row| row[".id"].clone()).collect()
    };
    let body = json!({"chain": "forward", "place-before": "*2"});
    assert_eq!(send(&mut router, "PUT", "ip/firewall/mangle", Some(body)).0, 201);
    assert_eq!(ids(&router), ["*1", "*3", "*2"]);
    let cases = [
        (json!({".id": "*2", "destination": "*1"}), ["*2", "*1", "*3"]),
        (json!({"numbers": "*2"}), ["*1", "*3", "*2"]),
        (json!({".id": "*2,*1", "destination": "*3"}), ["*2", "*1", "*3"]),
    ];
    for (body, expected) in cases {
        let reply = send(&mut router, "POST", "ip/firewall/mangle/move", Some(body.clone()));
        assert_eq!(reply, (200, json!([])), "{body}");
        assert_eq!(ids(&router), expected, "{body}");
    }
}

#[test]
fn references_follow_a_rename_and_dangle_after_removal() {
    let mut router = router();
    let rename = json!({"name": "down2"});
    assert_eq!(send(&mut router, "PATCH", "queue/type/cake-down", Some(rename)).0, 200);
    assert_eq!(router.row(MenuName::QueueTree, "WAN-Download").expect("row")["queue"], "down2");
    assert_eq!(send(&mut router, "DELETE", "queue/type/down2", None).0, 204);
    let row = router.row(MenuName::QueueTree, "WAN-Download").expect("row");
    assert_eq!((row["queue"].as_str(), row["invalid"].as_str()), ("*1", "true"));
    let repair = json!({"queue": "cake-up"});
    let (_, row) = send(&mut router, "PATCH", "queue/tree/WAN-Download", Some(repair));
    assert_eq!(row["invalid"], "false");
}

#[test]
fn cake_schemes_set_what_they_stand_for() {
    let mut router = router();
    let body =
        json!({"cake-rtt-scheme": "regional", "cake-overhead-scheme": "ethernet,ether-vlan"});
    let (_, row) = send(&mut router, "PATCH", "queue/type/cake-up", Some(body));
    assert_eq!(row["cake-rtt"], "30ms");
    assert_eq!((&row["cake-overhead"], &row["cake-mpu"]), (&json!("42"), &json!("84")));
    let body = json!({"name": "p", "kind": "pfifo", "cake-nat": "yes"});
    let (_, row) = send(&mut router, "PUT", "queue/type", Some(body));
    let expected = json!({".id": "*3", "default": "false", "kind": "pfifo", "name": "p",
                          "pfifo-limit": "50"});
    assert_eq!(row, expected);
}

#[test]
fn counters_follow_the_traffic_and_can_be_reset() {
    let mut router = router();
    let traffic = QueueTraffic {
        bytes: 5_000_000_000,
        packets: u64::from(u32::MAX) + 2,
        dropped: 3,
        queued_bytes: 5_000_000_000,
        queued_packets: 9,
    };
    assert!(router.account("WAN-Upload", traffic));
    assert!(!router.account("nothing", traffic));
    router.advance_to(Duration::from_millis(500));
    let row = router.row(MenuName::QueueTree, "WAN-Upload").expect("row");
    let values = ["bytes", "packets", "dropped", "queued-bytes", "queued-packets", "rate"];
    let values = values.map(|name| row[name].clone());
    assert_eq!(values, ["5000000000", "1", "3", "4294967295", "9", "4294967295"]);
    let pair = [QueueTraffic { bytes: 7, ..traffic }, QueueTraffic { bytes: 8, ..traffic }];
    assert!(router.account_pair(MenuName::Interface, "ether1", pair));
    assert_eq!(router.row(MenuName::Interface, "ether1").expect("row")["tx-byte"], "8");
    let body = json!({".id": "WAN-Upload"});
    let reply = send(&mut router, "POST", "queue/tree/reset-counters", Some(body));
    assert_eq!(reply, (200, json!([])));
    assert_eq!(router.row(MenuName::QueueTree, "WAN-Upload").expect("row")["bytes"], "0");
    router.account("WAN-Upload", traffic);
    let reply = send(&mut router, "POST", "queue/tree/reset-counters-all", Some(json!({})));
    assert_eq!(reply, (200, json!([])));
    assert_eq!(router.row(MenuName::QueueTree, "WAN-Upload").expect("row")["bytes"], "0");
}

#[test]
fn simple_queues_carry_pairs() {
    let mut router = router();
    let body = json!({"name": "s", "target": "10.0.0.0/24", "max-limit": "300M/150M"});
    let (status, row) = send(&mut router, "PUT", "queue/simple", Some(body));
    assert_eq!((status, &row[".id"]), (201, &json!("*1")));
    assert_eq!(row["max-limit"], "300000000/150000000");
    assert_eq!((&row["bytes"], &row["total-bytes"]), (&json!("0/0"), &json!("0")));
}

#[test]
fn policies_decide_what_a_user_may_do() {
    let all = [Policy::Read, Policy::Write, Policy::Api, Policy::RestApi];
    let without = |missing: Policy| -> Vec<Policy> {
        all.into_iter().filter(|policy| *policy != missing).collect()
    };
    let body = Some(r#"{"max-limit":"1M",".id":"*1000000"}"#);
    let patch = Some(r#"{"max-limit":"1M"}"#);
    let denied = error(500, "not enough permissions (9)");
    let unauthorized = (401, json!({"error": 401, "message": "Unauthorized"}));
    let hidden = error(400, "missing or invalid resource identifier");
    let cases = [
        (without(Policy::RestApi), "GET", "queue/tree", None, unauthorized),
        (
            without(Policy::Api),
            "GET",
            "queue/tree",
            None,
            error(500, "std failure: not allowed (9)"),
        ),
        (without(Policy::Read), "GET", "queue/tree", None, denied.clone()),
        (without(Policy::Read), "POST", "queue/tree/print", Some("{}"), denied.clone()),
        (without(Policy::Write), "POST", "queue/tree/set", body, denied.clone()),
        (without(Policy::Write), "PUT", "queue/tree", patch, denied),
        (without(Policy::Write), "PATCH", "queue/tree/*1000000", patch, hidden.clone()),
        (without(Policy::Write), "DELETE", "queue/tree/*1000000", None, hidden),
    ];
    for (policies, method, target, body, expected) in cases {
        let mut router = router();
        let user = User { policies, ..User::full("u", "p:w") };
        router.users = vec![user.clone()];
        let request = Request::new(&user, method, &format!("/rest/{target}"), body);
        assert_eq!(unpack(handle(&mut router, &request)), expected, "{user:?} {method}");
        assert_eq!(router.max_limit_bps("WAN-Download"), Some(500_000_000));
    }
}

#[test]
fn wrong_credentials_methods_and_bodies_are_refused() {
    let user = User::full("wanctl", "wanctl");
    let request = |method, body| Request::new(&user, method, "/rest/queue/tree", body);
    let mut wrong = request("GET", None);
    wrong.authorization = Some(basic_credentials("wanctl", "guess"));
    let nobody = Request { authorization: None, ..request("GET", None) };
    let plain =
        Request { content_type: Some("text/plain".to_owned()), ..request("PUT", Some("{}")) };
    let typed_get =
        Request { content_type: Some("application/json".to_owned()), ..request("GET", None) };
    let cases = [
        (wrong, 401),
        (nobody, 401),
        (plain, 415),
        (typed_get, 200),
        (request("HEAD", None), 501),
        (request("OPTIONS", None), 503),
        (request("PUT", Some("{")), 400),
        (Request { target: "/".to_owned(), authorization: None, ..request("GET", None) }, 200),
        (Request { target: "/restful".to_owned(), ..request("GET", None) }, 404),
    ];
    for (request, status) in cases {
        assert_eq!(handle(&mut router(), &request).status, status, "{request:?}");
    }
    let exponent = request("PUT", Some(r#"{"max-limit":1e6}"#));
    let reply = unpack(handle(&mut router(), &exponent));
    assert_eq!(reply, error(400, "Failed to parse json"));
}

#[test]
fn tests_can_break_the_rules() {
    let mut router = router();
    let twin = properties_of(&[("name", "WAN-Upload"), ("parent", "global"), ("max-limit", "1")]);
    assert_eq!(router.insert_unchecked(MenuName::QueueTree, twin), "*1000002");
    let (_, rows) = send(&mut router, "GET", "queue/tree?name=WAN-Upload", None);
    assert_eq!(names(&rows), ["WAN-Upload", "WAN-Upload"]);
    assert!(router.set_unchecked(MenuName::QueueTree, "*1000002", "name", Some("x")));
    assert!(router.remove_unchecked(MenuName::QueueTree, "x"));
    assert!(!router.remove_unchecked(MenuName::QueueTree, "x"));
    router.advance_to(Duration::from_secs(90));
    router.reboot();
    router.advance_to(Duration::from_secs(100));
    assert_eq!(router.row(MenuName::Resource, "").expect("row")["uptime"], "10s");
}
