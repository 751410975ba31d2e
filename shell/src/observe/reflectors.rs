//! Who is pinged, and how good they are.

use serde_json::{Value, json};

use super::metrics::{Page, Wan};
use crate::probe::{ProbeCounters, ReflectorStatus};

/// Returns the line for people, if there is anything to tell.
pub(super) fn text(probes: &ProbeCounters) -> Option<String> {
    let all: Vec<String> = probes.reflectors.iter().flatten().map(one).collect();
    (!all.is_empty()).then(|| format!("{} ({} replaced)", all.join(", "), probes.replaced))
}

fn one(reflector: &ReflectorStatus) -> String {
    let least =
        reflector.least_rtt_us().map_or_else(|| "?".to_owned(), |us| millis(us).to_string());
    let one_way = if reflector.has_timestamps { " one-way" } else { "" };
    format!("{} {least} ms{one_way}", reflector.address)
}

fn millis(us: u64) -> f64 {
    us.div_ceil(100) as f64 / 10.0
}

/// Returns the list for programs.
pub(super) fn list(probes: &ProbeCounters) -> Value {
    let all = probes.reflectors.iter().flatten().map(|reflector| {
        json!({
            "address": reflector.address.to_string(),
            "timestamps": reflector.has_timestamps,
            "loss_permille": reflector.loss_permille(),
            "least_rtt_us": reflector.least_rtt_us(),
            "jitter_us": reflector.jitter_us(),
        })
    });
    all.collect()
}

/// Writes the metrics.
pub(super) fn metrics(page: &mut Page, wans: &[Wan<'_>]) {
    type Gauge = (&'static str, &'static str, fn(&ReflectorStatus) -> Option<f64>);
    let gauges: [Gauge; 4] = [
        ("reflector_timestamps", "Whether the reflector tells one-way delays.", |reflector| {
            Some(if reflector.has_timestamps { 1.0 } else { 0.0 })
        }),
        ("reflector_loss_ratio", "Share of probes the reflector left unanswered.", |reflector| {
            reflector.loss_permille().map(|share| f64::from(share) / 1e3)
        }),
        ("reflector_rtt_least_seconds", "Least round-trip time of ten seconds.", |reflector| {
            reflector.least_rtt_us().map(|us| us as f64 / 1e6)
        }),
        ("reflector_jitter_seconds", "Mean step between round-trip times.", |reflector| {
            reflector.jitter_us().map(|us| us as f64 / 1e6)
        }),
    ];
    for (name, help, value) in gauges {
        page.metric(name, "gauge", help);
        for wan in wans {
            for reflector in wan.probes.reflectors.iter().flatten() {
                let address = reflector.address.to_string();
                if let Some(value) = value(reflector) {
                    page.sample(name, &[("wan", wan.name), ("reflector", &address)], value);
                }
            }
        }
    }
}
