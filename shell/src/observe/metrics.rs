//! The Prometheus text format (version 0.0.4).

use std::fmt::Write as _;

use wanctl_core::snapshot::{DirectionSnapshot, WanSnapshot};
use wanctl_core::units::{BitsPerSecond, Direction};
use wanctl_core::zone::Zone;

use super::health::{self, HealthState};
use super::report::{micros, uptime};
use super::{notices, reflectors, steering};
use crate::clock;
use crate::probe::ProbeCounters;
use crate::published::Published;

/// One WAN with its name.
pub(super) struct Wan<'a> {
    pub(super) name: &'a str,
    pub(super) snapshot: &'a WanSnapshot,
    pub(super) probes: ProbeCounters,
}

/// Writes metrics one after the other.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// Begins a metric; its samples follow.
    pub(super) fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible =
            writeln!(self.0, "# HELP wanctl_{name} {help}\n# TYPE wanctl_{name} {kind}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escape(text))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _infallible = writeln!(self.0, "wanctl_{name}{labels} {value}");
    }

    /// Writes a metric without labels.
    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.metric(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Writes a metric of every WAN that has it.
    fn per_wan(
        &mut self,
        wans: &[Wan<'_>],
        (name, kind, help): (&str, &str, &str),
        value: impl Fn(&Wan<'_>) -> Option<f64>,
    ) {
        self.metric(name, kind, help);
        for wan in wans {
            if let Some(value) = value(wan) {
                self.sample(name, &[("wan", wan.name)], value);
            }
        }
    }

    /// Writes a rate of every direction that has it.
    fn per_direction(
        &mut self,
        wans: &[Wan<'_>],
        (name, help): (&str, &str),
        value: impl Fn(&DirectionSnapshot) -> Option<f64>,
    ) {
        self.metric(name, "gauge", help);
        for wan in wans {
            for direction in Direction::BOTH {
                if let Some(value) = value(wan.snapshot.directions.get(direction)) {
                    let labels = [("wan", wan.name), ("direction", direction.name())];
                    self.sample(name, &labels, value);
                }
            }
        }
    }
}

/// Returns all metrics.
pub(super) fn text(published: &Published) -> String {
    let mut page = Page::default();
    let health = health::judge(published, clock::now());
    let health = match health.state {
        HealthState::Ok => 0,
        HealthState::Degraded => 1,
        HealthState::Failing => 2,
    };
    page.single("health", "gauge", "0 ok, 1 degraded, 2 failing.", f64::from(health));
    let (Some(about), Some(snapshot)) = (published.about(), published.snapshot()) else {
        return page.0;
    };
    page.single("uptime_seconds", "gauge", "Since the start.", uptime(about).as_secs_f64());
    let pacing = published.pacing();
    page.single("ticks_total", "counter", "Control steps begun.", count(pacing.ticks));
    let help = "Control steps begun more than 10 ms late.";
    page.single("ticks_late_total", "counter", help, count(pacing.late));
    let help = "Deadlines that passed without a control step.";
    page.single("ticks_missed_total", "counter", help, count(pacing.missed));
    let requests = about.router.counters();
    let help = "Requests to the router that ended.";
    page.single("router_requests_total", "counter", help, count(requests.requests));
    let help = "Requests to the router that failed.";
    page.single("router_request_failures_total", "counter", help, count(requests.failures));
    let help = "How long the latest request to the router took.";
    page.single("router_request_last_seconds", "gauge", help, f64::from(requests.last_us) / 1e6);
    let disputed = about.router.disputed().len() as u64;
    let help = "Queues and steering rules that somebody else keeps changing.";
    page.single("router_disputed_queues", "gauge", help, count(disputed));
    notices::metrics(&mut page, &published.notices());
    let probes = published.probes();
    let named = about.names.iter().map(String::as_str).zip(snapshot.wans()).zip(probes);
    let wan = |((name, snapshot), probes)| Wan { name, snapshot, probes };
    let wans: Vec<Wan<'_>> = named.map(wan).collect();
    lines(&mut page, &wans);
    reflectors::metrics(&mut page, &wans);
    rates(&mut page, &wans);
    steering::recent_metrics(&mut page, &wans);
    steering::metrics(&mut page, snapshot.steering.as_ref(), &about.names);
    page.0
}

fn lines(page: &mut Page, wans: &[Wan<'_>]) {
    let help = "The line's state: 1 for the one it is in.";
    page.metric("link_state", "gauge", help);
    for wan in wans {
        let labels = [("wan", wan.name), ("state", wan.snapshot.link.name())];
        page.sample("link_state", &labels, 1.0);
    }
    let seconds = |us: i64| Some(us as f64 / 1e6);
    let gauge = |name, help| (name, "gauge", help);
    page.per_wan(wans, gauge("rtt_seconds", "The latest round-trip time used."), |wan| {
        wan.snapshot.latest_rtt_us.map(|us| f64::from(us) / 1e6)
    });
    page.per_wan(wans, gauge("baseline_seconds", "Round-trip time of the idle line."), |wan| {
        seconds(micros(wan.snapshot.baseline))
    });
    page.per_wan(wans, gauge("delay_seconds", "Filtered delay above the baseline."), |wan| {
        seconds(micros(wan.snapshot.delay))
    });
    page.per_wan(wans, gauge("jitter_seconds", "Mean step between samples."), |wan| {
        seconds(micros(wan.snapshot.quality.jitter))
    });
    page.per_wan(wans, gauge("loss_ratio", "Filtered share of probes lost."), |wan| {
        Some(wan.snapshot.quality.loss.as_ppm_rounded() as f64 / 1e6)
    });
    type Counter = (&'static str, &'static str, fn(&Wan<'_>) -> u64);
    let counters: [Counter; 11] = [
        ("samples_total", "Probes answered in time.", |wan| wan.snapshot.counters.samples),
        ("losses_total", "Probes lost.", |wan| wan.snapshot.counters.losses),
        ("late_answers_total", "Answers to probes given up.", |wan| wan.probes.late),
        ("duplicate_answers_total", "Further answers to one probe.", |wan| wan.probes.duplicates),
        ("icmp_errors_total", "Probes ended by an ICMP error.", |wan| wan.probes.errors),
        ("reflectors_replaced_total", "Reflectors replaced by others.", |wan| wan.probes.replaced),
        ("writes_total", "Shaper rates sent.", |wan| wan.snapshot.counters.writes),
        ("cuts_total", "Shaper rates lowered.", |wan| wan.snapshot.counters.cuts),
        ("raises_total", "Shaper rates raised.", |wan| wan.snapshot.counters.raises),
        ("write_failures_total", "Writes that failed.", |wan| wan.snapshot.counters.writes_failed),
        ("blind_ticks_total", "Steps without an answer.", |wan| wan.snapshot.counters.blind_raw),
    ];
    for (name, help, value) in counters {
        page.per_wan(wans, (name, "counter", help), |wan| Some(count(value(wan))));
    }
}

fn rates(page: &mut Page, wans: &[Wan<'_>]) {
    let bps = |rate: BitsPerSecond| count(rate.get());
    let help = "0 GREEN, 1 YELLOW, 2 SOFT_RED, 3 RED.";
    page.per_direction(wans, ("zone", help), |direction| Some(zone_number(direction.zone)));
    let help = "Shaper rate the law wants.";
    page.per_direction(wans, ("rate_wanted_bps", help), |direction| Some(bps(direction.wanted)));
    let help = "Shaper rate the router holds.";
    page.per_direction(wans, ("rate_confirmed_bps", help), |way| way.confirmed.map(bps));
    let help = "Rate the queue delivers.";
    page.per_direction(wans, ("rate_delivered_bps", help), |way| way.delivered.map(bps));
}

/// Returns a zone as a number: the order of severity.
pub(super) fn zone_number(zone: Zone) -> f64 {
    match zone {
        Zone::Green => 0.0,
        Zone::Yellow => 1.0,
        Zone::SoftRed => 2.0,
        Zone::Red => 3.0,
    }
}

/// Returns a count as Prometheus has it: exact up to 2^53.
pub(super) fn count(value: u64) -> f64 {
    value as f64
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
