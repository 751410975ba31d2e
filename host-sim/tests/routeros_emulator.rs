//! The emulated router over real sockets, seen by the HTTP client the daemon uses.

use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use wanctl_sim::routeros::{
    Emulator, EmulatorOptions, Latency, MenuName, QueueTraffic, RouterOptions, User,
    basic_credentials, properties_of,
};

/// Longest wait for something that must happen; a test that passes does not wait.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone)]
struct Client {
    agent: Agent,
    base: String,
    credentials: String,
}

impl Client {
    fn new(emulator: &Emulator, user: &str) -> Self {
        let ca = Certificate::from_pem(emulator.ca_pem().as_bytes()).expect("CA certificate");
        let roots = RootCerts::Specific(Arc::new(vec![ca]));
        Self::with_roots(&emulator.https_url(), user, roots)
    }

    fn with_roots(url: &str, user: &str, roots: RootCerts) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Self {
            agent: config.new_agent(),
            base: format!("{url}/rest/"),
            credentials: basic_credentials(user, "secret"),
        }
    }

    fn try_send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Authorization", &self.credentials);
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        match body {
            Some(_) => self.agent.run(request.body(text).expect("request")),
            None => self.agent.run(request.body(()).expect("request")),
        }
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut response = self.try_send(method, path, body).expect("a reply");
        let text = response.body_mut().read_to_string().expect("a text body");
        let value = if text.is_empty() { Value::Null } else { text.parse().expect("JSON") };
        (response.status().as_u16(), value)
    }

    fn set_rate(&self, id: &str, rate_bps: u64) -> (u16, Value) {
        let path = format!("queue/tree/{id}");
        self.send("PATCH", &path, Some(&json!({"max-limit": rate_bps.to_string()})))
    }
}

fn users() -> Vec<User> {
    vec![
        User::full("control", "secret"),
        User::full("other", "secret"),
        User::read_only("viewer", "secret"),
    ]
}

fn emulator() -> Emulator {
    let router = RouterOptions::default().with_users(users());
    Emulator::start(&EmulatorOptions { router, ..EmulatorOptions::default() }).expect("starts")
}

#[test]
fn all_verbs_work_over_https_with_the_ca() {
    let emulator = emulator();
    let client = Client::new(&emulator, "control");
    let (status, row) = client.set_rate("*1000000", 123_000_000);
    assert_eq!((status, &row["max-limit"]), (200, &json!("123000000")));
    assert_eq!(emulator.max_limit_bps("WAN-Download"), Some(123_000_000));
    assert_eq!(emulator.writes().len(), 1);

    let new = json!({"name": "q", "parent": "global"});
    let response = client.try_send("PUT", "queue/tree", Some(&new)).expect("a reply");
    assert_eq!(response.status(), 201);
    let location = response.headers().get("Location").expect("location").to_str().expect("text");
    assert_eq!(location, format!("{}/rest/queue/tree/*1000002", emulator.https_url()));

    let steer = json!({".id": "*1"});
    assert_eq!(client.send("POST", "ip/firewall/mangle/enable", Some(&steer)), (200, json!([])));
    assert_eq!(
        client.send("GET", "ip/firewall/mangle?disabled=false&.proplist=disabled", None),
        (200, json!([{".id": "*1", "disabled": "false"}]))
    );
    assert_eq!(client.send("DELETE", "queue/tree/*1000002", None), (204, Value::Null));
    let gone = json!({"error": 404, "message": "Not Found"});
    assert_eq!(client.send("DELETE", "queue/tree/*1000002", None), (404, gone));

    let record = emulator.requests().into_iter().next().expect("a request");
    assert_eq!((record.method.as_str(), record.status), ("PATCH", 200));
    assert_eq!(record.path, "/rest/queue/tree/*1000000");
    assert_eq!(emulator.request_count(), 6);
}

#[test]
fn connections_are_kept_alive_and_closed_on_request() {
    let emulator = emulator();
    let client = Client::new(&emulator, "control");
    for _ in 0..5 {
        assert_eq!(client.send("GET", "queue/tree", None).0, 200);
        assert!(emulator.wait_until(PATIENCE, |view| view.connection_count == 1));
    }
    let mut stream = TcpStream::connect(plain_address(&emulator)).expect("connects");
    use std::io::{Read, Write};
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("sends");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("reads to the end the router makes");
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
    assert_eq!(text.matches("Connection: close").count(), 1, "{text}");
}

fn plain_address(emulator: &Emulator) -> String {
    emulator.http_url().trim_start_matches("http://").to_owned()
}

#[test]
fn plain_http_serves_the_same_router() {
    let emulator = emulator();
    let client = Client::with_roots(&emulator.http_url(), "control", RootCerts::WebPki);
    assert_eq!(client.set_rate("WAN-Upload", 9_000_000).0, 200);
    assert_eq!(emulator.max_limit_bps("WAN-Upload"), Some(9_000_000));
}

#[test]
fn the_certificate_is_refused_without_the_ca_or_by_another_name() {
    let emulator = emulator();
    let stranger = self::emulator();
    let ca = Certificate::from_pem(stranger.ca_pem().as_bytes()).expect("CA certificate");
    let roots = RootCerts::Specific(Arc::new(vec![ca]));
    let client = Client::with_roots(&emulator.https_url(), "control", roots);
    assert!(client.try_send("GET", "queue/tree", None).is_err());

    let options = EmulatorOptions {
        certificate_names: vec!["router.example".to_owned()],
        ..EmulatorOptions::default()
    };
    let named = Emulator::start(&options).expect("starts");
    assert!(Client::new(&named, "control").try_send("GET", "queue/tree", None).is_err());
    assert_eq!(named.request_count() + emulator.request_count(), 0);
}

#[test]
fn logins_and_rights_are_checked() {
    let emulator = emulator();
    let stranger = Client::new(&emulator, "stranger");
    let response = stranger.try_send("GET", "queue/tree", None).expect("a reply");
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers().get("WWW-Authenticate").expect("header"), "Basic");

    let viewer = Client::new(&emulator, "viewer");
    assert_eq!(viewer.send("GET", "queue/tree", None).0, 200);
    assert_eq!(viewer.set_rate("*1000000", 1).0, 400);
    let body = json!({".id": "*1000000", "max-limit": "1"});
    assert_eq!(viewer.send("POST", "queue/tree/set", Some(&body)).0, 500);
    assert_eq!(emulator.max_limit_bps("WAN-Download"), Some(500_000_000));
}

#[test]
fn head_and_options_leave_the_connection_usable() {
    let emulator = emulator();
    let client = Client::new(&emulator, "control");
    assert_eq!(client.send("HEAD", "queue/tree", None).0, 501);
    assert_eq!(client.send("OPTIONS", "queue/tree", None).0, 503);
    assert_eq!(client.send("GET", "system/identity", None).0, 200);
    assert!(emulator.wait_until(PATIENCE, |view| view.connection_count == 1));
}

#[test]
fn requests_of_one_user_wait_for_each_other_and_not_for_another_user() {
    let emulator = emulator();
    let hold = emulator.hold_replies();
    let send = |user: &str, rate_bps: u64| {
        let client = Client::new(&emulator, user);
        thread::spawn(move || client.set_rate("*1000000", rate_bps).0)
    };
    let first = send("control", 1_000_000);
    assert!(emulator.wait_until(PATIENCE, |view| view.writes.len() == 1));
    let second = send("control", 2_000_000);
    assert!(emulator.wait_until(PATIENCE, |view| view.arrived_count == 2));
    // The second request of the same user has arrived, but only the other user's takes effect.
    let third = send("other", 3_000_000);
    assert!(emulator.wait_until(PATIENCE, |view| view.writes.len() == 2));
    let rates = |emulator: &Emulator| -> Vec<u64> {
        emulator.writes().iter().map(|write| write.max_limit_bps).collect()
    };
    assert_eq!(rates(&emulator), [1_000_000, 3_000_000]);
    assert_eq!((emulator.arrived_count(), emulator.request_count()), (3, 0));
    drop(hold);
    for thread in [first, second, third] {
        assert_eq!(thread.join().expect("no panic"), 200);
    }
    assert_eq!(rates(&emulator), [1_000_000, 3_000_000, 2_000_000]);
}

#[test]
fn held_requests_have_no_effect_until_released() {
    let emulator = emulator();
    let client = Client::new(&emulator, "control");
    let hold = emulator.hold_requests();
    let thread = thread::spawn(move || client.set_rate("*1000000", 1_000_000).0);
    assert!(emulator.wait_until(PATIENCE, |view| view.arrived_count == 1));
    assert_eq!(emulator.max_limit_bps("WAN-Download"), Some(500_000_000));
    drop(hold);
    assert_eq!(thread.join().expect("no panic"), 200);
    assert_eq!(emulator.max_limit_bps("WAN-Download"), Some(1_000_000));
}

#[test]
fn latency_is_spent_per_kind_of_request() {
    let emulator = emulator();
    let client = Client::new(&emulator, "control");
    let rate = json!({"max-limit": "1M"});
    let get = ("GET", "queue/tree", None);
    let print = ("POST", "queue/tree/print", Some(json!({})));
    let patch = ("PATCH", "queue/tree/*1000001", Some(rate));
    // Far longer than the client waits: only the power-off ends the slow kind.
    let never = PATIENCE * 10;
    let slow_reads = Latency { read: never, write: Duration::ZERO };
    let slow_writes = Latency { read: Duration::ZERO, write: never };
    let cases =
        [(slow_reads, &patch, &get), (slow_reads, &patch, &print), (slow_writes, &get, &patch)];
    for (latency, fast, slow) in cases {
        emulator.set_latency(latency);
        assert_eq!(client.send(fast.0, fast.1, fast.2.as_ref()).0, 200, "{latency:?}");
        let (arrived, writes) = (emulator.arrived_count(), emulator.writes());
        let (slow_client, slow) = (client.clone(), slow.clone());
        let waiting =
            thread::spawn(move || slow_client.try_send(slow.0, slow.1, slow.2.as_ref()).is_err());
        assert!(emulator.wait_until(PATIENCE, |view| view.arrived_count == arrived + 1));
        emulator.power_off();
        assert!(waiting.join().expect("no panic"), "power-off ends a request in progress");
        assert_eq!(emulator.writes(), writes);
        emulator.power_on().expect("same port");
    }
}

#[test]
fn router_goes_down_and_comes_back_on_the_same_port() {
    let emulator = emulator();
    let client = Client::new(&emulator, "control");
    assert_eq!(client.set_rate("*1000000", 7_000_000).0, 200);
    for _ in 0..3 {
        emulator.power_off();
        let refused = TcpStream::connect(plain_address(&emulator)).expect_err("refused");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(client.try_send("GET", "queue/tree", None).is_err());
        emulator.power_on().expect("same port");
        emulator.power_on().expect("nothing to do");
        let (status, row) = client.send("GET", "queue/tree/*1000000", None);
        assert_eq!((status, &row["max-limit"]), (200, &json!("7000000")));
    }
}

#[test]
fn clones_share_the_router_and_the_last_one_stops_it() {
    let emulator = emulator();
    let address = plain_address(&emulator);
    let clone = emulator.clone();
    drop(emulator);
    let client = Client::new(&clone, "control");
    clone.account("WAN-Upload", QueueTraffic { bytes: 1500, packets: 1, ..Default::default() });
    let twin = properties_of(&[("name", "WAN-Upload"), ("parent", "global")]);
    clone.with_router(|router| router.insert_unchecked(MenuName::QueueTree, twin));
    let (_, rows) = client.send("GET", "queue/tree?name=WAN-Upload&.proplist=bytes", None);
    let expected = json!([{".id": "*1000001", "bytes": "1500"}, {".id": "*1000002", "bytes": "0"}]);
    assert_eq!(rows, expected);
    drop(clone);
    let refused = TcpStream::connect(address).expect_err("refused");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn connections_over_the_limit_are_closed() {
    let options = EmulatorOptions { connections_max: 1, ..EmulatorOptions::default() };
    let emulator = Emulator::start(&options).expect("starts");
    let first = TcpStream::connect(plain_address(&emulator)).expect("connects");
    assert!(emulator.wait_until(PATIENCE, |view| view.connection_count == 1));
    let mut second = TcpStream::connect(plain_address(&emulator)).expect("connects");
    let mut byte = [0_u8];
    let read = std::io::Read::read(&mut second, &mut byte);
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    drop(first);
    assert!(emulator.wait_until(PATIENCE, |view| view.connection_count == 0));
}
