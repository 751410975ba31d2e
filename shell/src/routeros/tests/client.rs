//! The client alone.

use std::net::TcpListener;

use wanctl_core::units::BitsPerSecond;

use super::super::RouterError;
use super::server::{Answer, FakeRouter, Request};
use super::*;

const QUEUES: [(&str, &str); 3] = [("*1", "down"), ("*2", "up"), ("*3", "up")];
const RATE: BitsPerSecond = BitsPerSecond::from_mbps(25);

fn healthy(_: &Request) -> Answer {
    Answer::Healthy
}

fn router_saying(status: u16, body: &'static str) -> FakeRouter {
    FakeRouter::start(&QUEUES, move |_| Answer::Status(status, body.to_owned()))
}

/// Asks a router that gives every request this answer.
fn error_of(status: u16, body: &'static str) -> RouterError {
    let router = router_saying(status, body);
    client(&router.url()).set_max_limit("*1", "down", RATE).unwrap_err()
}

#[test]
fn queue_is_found_by_its_exact_name() {
    let router = FakeRouter::start(&QUEUES, healthy);
    let queue = client(&router.url()).find_queue("down").unwrap();
    assert_eq!((queue.id.as_str(), queue.max_limit), ("*1", BitsPerSecond::new(1)));
    assert!(router.seen.recv().unwrap().path.contains("?.proplist=.id,name,max-limit"));
}

#[test]
fn missing_queue_names_those_that_exist() {
    let router = FakeRouter::start(&QUEUES, healthy);
    let error = client(&router.url()).find_queue("Down").unwrap_err();
    assert!(error.is_fatal());
    assert!(error.to_string().contains("\"Down\"") && error.to_string().contains("down, up, up"));
}

#[test]
fn ambiguous_queue_names_the_ids() {
    let router = FakeRouter::start(&QUEUES, healthy);
    let error = client(&router.url()).find_queue("up").unwrap_err();
    let ids = vec!["*2".to_owned(), "*3".to_owned()];
    assert_eq!(error, RouterError::AmbiguousQueue { name: "up".to_owned(), ids });
    assert!(error.is_fatal());
}

#[test]
fn write_is_one_patch_with_the_rate_alone() {
    let router = FakeRouter::start(&QUEUES, healthy);
    let written = client(&router.url()).set_max_limit("*1", "down", RATE).unwrap();
    assert_eq!(written.held, RATE);
    let request = router.seen.recv().unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("PATCH", "/rest/queue/tree/*1"));
    assert_eq!(request.body, r#"{"max-limit":"25000000"}"#);
    assert_eq!(request.authorization, format!("Basic {ENCODED}"));
    assert!(router.methods_seen().is_empty());
}

#[test]
fn rate_of_the_reply_is_what_counts() {
    let router = router_saying(200, r#"{".id":"*1","name":"down","max-limit":24000000}"#);
    let written = client(&router.url()).set_max_limit("*1", "down", RATE).unwrap();
    assert_eq!(written.held, BitsPerSecond::from_mbps(24));
}

#[test]
fn reply_of_another_queue_is_noticed() {
    let error = error_of(200, r#"{".id":"*1","name":"guest","max-limit":"25000000"}"#);
    let (expected, found) = ("down".to_owned(), "guest".to_owned());
    assert_eq!(error, RouterError::OtherQueue { expected, found });
}

#[test]
fn identity_is_read_even_as_an_array() {
    let router = FakeRouter::start(&QUEUES, |request| match request.path.as_str() {
        "/rest/system/identity" => Answer::Status(200, r#"[{"name":"home"}]"#.to_owned()),
        _ => Answer::Status(200, "{}".to_owned()),
    });
    let identity = client(&router.url()).identify().unwrap();
    assert_eq!((identity.name.as_str(), identity.version.as_str()), ("home", ""));
}

#[test]
fn statuses_are_sorted_by_whether_waiting_helps() {
    let permissions = r#"{"error":500,"detail":"not enough permissions (9)"}"#;
    let fatal = [
        error_of(401, r#"{"error":401,"message":"Unauthorized"}"#),
        error_of(500, permissions),
        error_of(500, r#"{"error":500,"detail":"std failure: not allowed (9)"}"#),
    ];
    assert!(matches!(fatal[0], RouterError::Unauthorized { .. }));
    assert!(fatal.iter().all(RouterError::is_fatal), "{fatal:?}");
    let transient = [
        error_of(404, r#"{"error":404,"message":"Not Found"}"#),
        error_of(400, r#"{"error":400,"detail":"missing or invalid resource identifier"}"#),
        error_of(500, r#"{"error":500,"detail":"action timed out"}"#),
        error_of(503, "busy"),
        error_of(302, ""),
    ];
    assert_eq!(transient[0], RouterError::NoSuchId { request: "PATCH /queue/tree/*1".to_owned() });
    assert!(!transient.iter().any(RouterError::is_fatal), "{transient:?}");
    assert!(transient[1].to_string().contains("missing or invalid resource identifier"));
}

#[test]
fn senseless_replies_are_told_as_such() {
    let bodies = [
        "<html><body>WebFig</body></html>",
        "",
        "[]",
        "7",
        r#"[{"name":"down"},{"name":"down"}]"#,
        r#"{".id":"*1","name":"down"}"#,
        r#"{".id":"*1","name":"down","max-limit":"fast"}"#,
        r#"{".id":"*1","max-limit":"1"}"#,
    ];
    for body in bodies {
        let error = error_of(200, body);
        assert!(matches!(error, RouterError::BadReply { .. }), "{body}: {error:?}");
        assert!(!error.is_fatal());
    }
    let text = error_of(200, bodies[0]).to_string();
    assert!(text.contains("not JSON") && text.contains("WebFig"), "{text}");
}

#[test]
fn truncated_reply_is_told_as_such() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"name\":";
    let router = FakeRouter::start(&QUEUES, move |_| Answer::Raw(cut.to_owned()));
    let error = client(&router.url()).identify().unwrap_err();
    assert!(matches!(&error, RouterError::BadReply { detail, .. } if detail.contains("cut short")));
}

#[test]
fn control_characters_in_a_comment_do_no_harm() {
    let rate = RATE.get();
    let body = "{\".id\":\"*1\",\"name\":\"down\",\"comment\":\"a\u{1}b\",\"max-limit\":\"RATE\"}";
    let body: &'static str = body.replace("RATE", &rate.to_string()).leak();
    let router = router_saying(200, body);
    let written = client(&router.url()).set_max_limit("*1", "down", RATE).unwrap();
    assert_eq!(written.held, RATE);
}

#[test]
fn connection_closed_without_an_answer_is_unreachable() {
    let router = FakeRouter::start(&QUEUES, |_| Answer::Raw(String::new()));
    let error = client(&router.url()).identify().unwrap_err();
    assert!(matches!(&error, RouterError::Unreachable { detail, .. } if detail.contains("closed")));
    assert_eq!(router.methods_seen(), ["GET"], "a new connection is not tried twice");
}

#[test]
fn kept_connection_that_is_gone_costs_one_repetition() {
    let router = FakeRouter::start(&QUEUES, |request| match request.method.as_str() {
        "PATCH" if request.connection < 2 => Answer::Raw(String::new()),
        _ => Answer::Healthy,
    });
    let client = client(&router.url());
    client.find_queue("down").unwrap();
    let error = client.set_max_limit("*1", "down", RATE).unwrap_err();
    assert!(matches!(error, RouterError::Unreachable { .. }), "{error:?}");
    client.find_queue("down").unwrap();
    assert_eq!(client.set_max_limit("*1", "down", RATE).unwrap().held, RATE);
    let seen: Vec<_> = router.seen.try_iter().map(|r| (r.connection, r.method)).collect();
    let seen: Vec<_> = seen.iter().map(|(at, method)| (*at, method.as_str())).collect();
    assert_eq!(seen, [(0, "GET"), (0, "PATCH"), (1, "PATCH"), (2, "GET"), (2, "PATCH")]);
}

#[test]
fn refused_connection_is_unreachable() {
    // An address of its own, so that no other test takes the port meanwhile.
    let listener = TcpListener::bind("127.0.0.78:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&url).identify().unwrap_err();
    assert!(matches!(error, RouterError::Unreachable { .. }), "{error:?}");
}

#[test]
fn one_connection_serves_all_requests() {
    let router = FakeRouter::start(&QUEUES, healthy);
    let client = client(&router.url());
    client.identify().unwrap();
    client.find_queue("down").unwrap();
    client.set_max_limit("*9", "down", RATE).unwrap_err();
    client.set_max_limit("*1", "down", RATE).unwrap();
    let connections: Vec<usize> = router.seen.try_iter().map(|r| r.connection).collect();
    assert_eq!(connections, [0; 5]);
}

#[test]
fn unusable_targets_are_refused_without_repeating_them() {
    for url in [
        "",
        "router",
        "ftp://router",
        "https://",
        "https://router/rest",
        "https://router?x=1",
        "https://admin:correct horse battery@router",
    ] {
        let error = Client::new(target(url)).unwrap_err();
        assert!(matches!(error, RouterError::BadTarget(_)), "{url}");
        assert!(!error.to_string().contains(PASSWORD));
    }
    let mut colon = target("http://router");
    colon.user = "a:b".to_owned();
    assert!(Client::new(colon).unwrap_err().is_fatal());
    for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
        let mut with_ca = target("https://router");
        with_ca.trust = TlsTrust::Ca(pem.as_bytes().to_vec());
        assert!(Client::new(with_ca).unwrap_err().is_fatal(), "{pem}");
    }
    assert!(Client::new(target("https://192.168.88.1:8443/")).is_ok());
}

#[test]
fn password_is_in_no_error_and_no_debug_text() {
    let target = target("http://127.0.0.1:1");
    let mut texts = vec![format!("{target:?}"), format!("{:?}", target.password)];
    let client = Client::new(target).unwrap();
    texts.push(format!("{client:?}"));
    for error in [client.identify().unwrap_err(), error_of(401, "{}"), error_of(200, "x")] {
        texts.push(format!("{error} {error:?}"));
    }
    for text in texts {
        assert!(!text.contains(PASSWORD) && !text.contains(ENCODED), "{text}");
    }
}
