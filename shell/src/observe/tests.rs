//! Questions and answers, without sockets.

use std::io::{self, Cursor, Read, Write};

use embassy_time::{Duration, Instant};
use serde_json::Value;
use wanctl_core::controller::Controller;
use wanctl_core::outputs::Outputs;
use wanctl_core::tick::{MAX_REFLECTORS, MAX_WANS, RttSample, Tick};
use wanctl_core::units::{PerDirection, ReflectorId, RttNanos, WanId};

use super::health::{self, HealthState};
use super::http;
use crate::pacer::Pacing;
use crate::probe::{ProbeCounters, ReflectorStatus};
use crate::published::{About, Published};
use crate::routeros::{Client, RouterOs, RouterTarget, Secret, SteeringRules, TlsTrust};
use crate::shaping::Worker;

/// Somebody who asks, and what he is answered.
struct Asker {
    question: Cursor<Vec<u8>>,
    answer: Vec<u8>,
}

impl Read for Asker {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // In pieces, as on a real socket.
        let room = buffer.len().min(7);
        self.question.read(&mut buffer[..room])
    }
}

impl Write for Asker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn ask(question: &str, published: &Published) -> (u16, String) {
    let mut asker =
        Asker { question: Cursor::new(question.as_bytes().to_vec()), answer: Vec::new() };
    http::serve(&mut asker, published).unwrap();
    let answer = String::from_utf8(asker.answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    assert_eq!(length.parse(), Ok(body.len()));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn get(path: &str, published: &Published) -> (u16, String) {
    ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"), published)
}

/// A daemon whose router does not exist, after a few answered ticks that end now.
fn ticking() -> Published {
    let config = wanctl_core::example::two_wans();
    let mut controller: Box<Controller> = Box::new(Controller::new(&config).unwrap());
    let mut outputs = Box::new(Outputs::new());
    let now = crate::clock::now();
    for ago in (0..100).rev() {
        let mut tick = Tick::new(now - Duration::from_millis(50 * ago));
        let rtt = RttNanos::from_micros(20_000);
        for wan in [WanId(0), WanId(1)] {
            tick.push_sample(RttSample {
                wan,
                reflector: ReflectorId(0),
                rtt,
                age_us: 0,
                upload_owd: None,
            });
        }
        controller.step(&tick, &mut outputs);
    }
    let target = RouterTarget {
        url: "http://127.0.0.78:1".to_owned(),
        transport: crate::routeros::TransportKind::Rest,
        user: "wanctl".to_owned(),
        password: Secret::new(String::new()),
        trust: TlsTrust::PublicRoots,
    };
    let queues =
        |number| PerDirection { download: format!("down{number}"), upload: format!("up{number}") };
    let hour = std::time::Duration::from_secs(3600);
    let client = Client::new(target).unwrap();
    let (queues, steering) = (vec![queues(1), queues(2)], SteeringRules::default());
    let worker = Worker::start(RouterOs::new(client, queues, steering, hour)).unwrap();
    let published = Published::new();
    published.begin(About {
        names: vec!["ca\"ble".to_owned(), "lte".to_owned()],
        interval: config.tick,
        started: now - Duration::from_secs(7),
        router: worker.view(),
    });
    let pacing = Pacing { ticks: 100, late: 2, missed: 1, worst_us: 12_000 };
    let mut probes = [ProbeCounters::default(); MAX_WANS];
    let mut reflectors = [None; MAX_REFLECTORS];
    let address = "2001:db8::9".parse().unwrap();
    reflectors[1] = Some(ReflectorStatus::new(address, true, (12, 20_150_000, 300_000)));
    probes[0] = ProbeCounters { late: 3, duplicates: 4, errors: 5, replaced: 6, reflectors };
    let mut snapshot = controller.snapshot();
    snapshot.set_recent(&controller.figures());
    published.publish(snapshot, pacing, probes);
    published
}

#[test]
fn a_daemon_that_has_not_begun_is_not_well() {
    let (status, body) = get("/health", &Published::new());
    assert_eq!(status, 503);
    assert!(body.contains("the daemon is starting"), "{body}");
    for path in ["/status", "/status.json", "/metrics"] {
        assert_eq!(get(path, &Published::new()).0, 200, "{path}");
    }
}

#[test]
fn what_is_no_question_gets_an_answer_as_well() {
    let published = Published::new();
    for (question, status) in [
        ("GET /secret HTTP/1.1\r\n\r\n", 404),
        ("POST /health HTTP/1.1\r\n\r\n", 405),
        ("GET /health", 400),
        ("\0\0\0\r\n\r\n", 400),
        ("", 400),
    ] {
        assert_eq!(ask(question, &published).0, status, "{question:?}");
    }
    let endless = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(5000));
    assert_eq!(ask(&endless, &published).0, 400);
}

#[test]
fn the_state_for_programs_has_every_value_with_its_unit() {
    let (status, body) = get("/status.json", &ticking());
    assert_eq!(status, 200);
    let state: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(state["version"], 1);
    assert_eq!(state["uptime_s"], 7);
    assert_eq!(state["ticks"]["missed"], 1);
    let wan = &state["wans"][0];
    assert_eq!((&wan["name"], &wan["rtt_us"]), (&"ca\"ble".into(), &20_000.into()));
    assert_eq!((&wan["samples"], &wan["icmp_errors"]), (&100.into(), &5.into()));
    let reflector = &wan["reflectors"][0];
    assert_eq!(
        (&reflector["address"], &reflector["timestamps"]),
        (&"2001:db8::9".into(), &true.into())
    );
    assert_eq!(
        (&reflector["least_rtt_us"], &reflector["jitter_us"]),
        (&20_150.into(), &300.into())
    );
    assert_eq!((&reflector["loss_permille"], &wan["reflectors_replaced"]), (&12.into(), &6.into()));
    assert_eq!(wan["download"]["zone"], "GREEN");
    assert_eq!(wan["download"]["confirmed_bps"], Value::Null);
    assert!(wan["download"]["wanted_bps"].as_u64().unwrap() > 0);
}

#[test]
fn the_state_for_programs_has_the_latest_past_and_steering() {
    let (_, body) = get("/status.json", &ticking());
    let state: Value = serde_json::from_str(&body).unwrap();
    let recent = &state["wans"][1]["recent"];
    assert_eq!(recent["delay_us"]["p95"], 0);
    let download = &recent["download"];
    assert_eq!((&download["green_ppm"], &download["red_ppm"]), (&1_000_000.into(), &0.into()));
    assert_eq!(download["wanted_bps"]["p50"], 940_000_000);
    assert_eq!(download["backlog_packets"], Value::Null, "nothing was read yet");
    assert_eq!(download["queue_delay_us"], Value::Null);
    let steering = &state["steering"];
    assert_eq!(
        (&steering["primary"], &steering["traffic"]),
        (&"ca\"ble".into(), &"ca\"ble".into())
    );
    assert_eq!((&steering["confirmed"], &steering["in_flight"]), (&false.into(), &true.into()));
    assert_eq!((&steering["changes"], &steering["failures"]), (&0.into(), &0.into()));
    assert_eq!(steering["decision"], "traffic stays with the primary, first write");
    assert_eq!(
        (&steering["refused"], &steering["hold_down_left_us"]),
        (&Value::Null, &Value::Null)
    );
    let lte = &steering["wans"][1];
    assert_eq!(
        (&lte["name"], &lte["zone"], &lte["score"]),
        (&"lte".into(), &"GREEN".into(), &0.into())
    );
}

#[test]
fn the_state_for_people_names_lines_rates_and_router() {
    let (_, text) = get("/status", &ticking());
    for piece in [
        "up 7s",
        "ca\"ble: ",
        "delay 0.0 over 20.7 ms, loss 0.0 %",
        "  download ? GREEN, wanted ",
        "  reflectors 2001:db8::9 20.2 ms one-way (6 replaced)",
        "  lately half of the samples up to 0.0 ms, 95 % up to 0.0 ms; GREEN 100 % and 100 % of the time",
        "steering to the primary (not confirmed), ca\"ble GREEN score 0, lte GREEN score 0, 0 changes (0 failed)",
        "router: ",
        "ticks: 100 ticks, 2 late (>10 ms), 1 missed",
    ] {
        assert!(text.contains(piece), "{piece:?} in\n{text}");
    }
}

#[test]
fn every_metric_has_help_type_and_readable_samples() {
    let (_, page) = get("/metrics", &ticking());
    let mut described = std::collections::BTreeSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.ends_with('.') && described.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(described.contains(name) && ["gauge", "counter"].contains(&kind), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(described.contains(name.split('{').next().unwrap()), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    for line in [
        "wanctl_ticks_total 100",
        "wanctl_rtt_seconds{wan=\"ca\\\"ble\"} 0.02",
        "wanctl_late_answers_total{wan=\"ca\\\"ble\"} 3",
        "wanctl_reflectors_replaced_total{wan=\"ca\\\"ble\"} 6",
        "wanctl_reflector_timestamps{wan=\"ca\\\"ble\",reflector=\"2001:db8::9\"} 1",
        "wanctl_reflector_loss_ratio{wan=\"ca\\\"ble\",reflector=\"2001:db8::9\"} 0.012",
        "wanctl_zone{wan=\"ca\\\"ble\",direction=\"upload\"} 0",
        "wanctl_recent_delay_seconds{wan=\"lte\",quantile=\"0.95\"} 0",
        "wanctl_recent_zone_ratio{wan=\"lte\",direction=\"download\",zone=\"GREEN\"} 1",
        "wanctl_recent_rate_wanted_bps{wan=\"lte\",direction=\"upload\",quantile=\"0.5\"} 38000000",
        "wanctl_steering_traffic{wan=\"lte\"} 0",
        "wanctl_steering_confirmed 0",
        "wanctl_steering_score{wan=\"lte\"} 0",
        "wanctl_steering_changes_total 0",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} in\n{page}");
    }
}

#[test]
fn a_control_loop_that_stands_still_is_not_well() {
    let published = ticking();
    let last = published.snapshot().unwrap().now.unwrap();
    let judge = |after_ms| health::judge(&published, last + Duration::from_millis(after_ms));
    assert!(!judge(1_000).reasons.iter().any(|reason| reason.contains("stands still")));
    let late = judge(1_001);
    assert_eq!(late.state, HealthState::Failing);
    assert!(late.reasons.contains(&"the control loop stands still".to_owned()), "{late:?}");
}

#[test]
fn a_router_that_fails_for_a_while_is_a_failing_daemon() {
    let published = ticking();
    let now = published.snapshot().unwrap().now.unwrap();
    let states: Vec<HealthState> = [Duration::from_ticks(0), Duration::from_secs(30)]
        .map(|passed: Duration| health::judge(&published, now.max(Instant::MIN) + passed).state)
        .to_vec();
    // Nobody listens there; the first look may come before the first failure.
    assert!(states[0] <= HealthState::Degraded, "{states:?}");
    assert_eq!(states[1], HealthState::Failing);
}
