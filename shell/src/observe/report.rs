//! The state of a daemon for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};
use wanctl_core::fixed::{MicrosQ32, PpmQ32};
use wanctl_core::snapshot::{DirectionSnapshot, TickResult, WanSnapshot};
use wanctl_core::units::BitsPerSecond;

use super::{health, notices, reflectors, steering};
use crate::clock;
use crate::config::show_rate;
use crate::explain::show_millis;
use crate::probe::ProbeCounters;
use crate::published::{About, Published};
use crate::shaping::BackendStatus;
use crate::status::{pacing_part, recent_text, steering_part};

/// The version of the JSON document; a change that a reader would not understand gets a new number.
pub(super) const JSON_VERSION: u32 = 1;

/// Returns the state for people: some lines.
pub(super) fn text(published: &Published) -> String {
    let health = health::judge(published, clock::now());
    let mut text = format!("{}, {}", crate::VERSION, health.state.name());
    if let Some(about) = published.about() {
        let _infallible = write!(text, ", up {}", humantime::format_duration(uptime(about)));
    }
    text.push('\n');
    for reason in &health.reasons {
        let _infallible = writeln!(text, "  ! {reason}");
    }
    let (Some(about), Some(snapshot)) = (published.about(), published.snapshot()) else {
        return text;
    };
    let probes = published.probes();
    for ((name, wan), probes) in about.names.iter().zip(snapshot.wans()).zip(&probes) {
        text.push_str(&wan_text(name, wan));
        if let Some(reflectors) = reflectors::text(probes) {
            let _infallible = writeln!(text, "  reflectors {reflectors}");
        }
    }
    if let Some(steering) = &snapshot.steering {
        let _infallible = writeln!(text, "{}", steering_part(steering, &about.names));
    }
    let requests = about.router.counters();
    let _infallible = writeln!(
        text,
        "router: {}; {} requests, {} failed, last {} ms, slowest {} ms",
        about.router,
        requests.requests,
        requests.failures,
        requests.last_us / 1000,
        requests.worst_us / 1000
    );
    let _infallible = writeln!(text, "ticks: {}", pacing_part(&published.pacing()));
    text.push_str(&notices::text(&published.notices()));
    text
}

fn wan_text(name: &str, wan: &WanSnapshot) -> String {
    let (delay, baseline) = (show_millis(wan.delay), show_millis(wan.baseline));
    let jitter = show_millis(wan.quality.jitter);
    let loss = permille(wan.quality.loss);
    let mut text = format!(
        "{name}: {}, delay {delay} over {baseline} ms, loss {}.{} %, jitter {jitter} ms\n",
        wan.link.name(),
        loss / 10,
        loss % 10
    );
    for (way, direction) in
        [("download", &wan.directions.download), ("upload", &wan.directions.upload)]
    {
        let rate = |rate: Option<BitsPerSecond>| rate.map_or_else(|| "?".to_owned(), show_rate);
        let _infallible = writeln!(
            text,
            "  {way:<8} {} {}, wanted {}, carrying {}",
            rate(direction.confirmed),
            direction.zone.name(),
            show_rate(direction.wanted),
            rate(direction.delivered)
        );
    }
    if let Some(recent) = recent_text(wan) {
        let _infallible = writeln!(text, "  lately {recent}");
    }
    text
}

/// Returns the state for programs. `docs/observing.md` describes it.
pub(super) fn json(published: &Published) -> Value {
    let health = health::judge(published, clock::now());
    let mut document = json!({
        "version": JSON_VERSION,
        "program": crate::VERSION,
        "health": health.to_json(),
    });
    let (Some(about), Some(snapshot)) = (published.about(), published.snapshot()) else {
        return document;
    };
    let pacing = published.pacing();
    let probes = published.probes();
    let wans = about.names.iter().zip(snapshot.wans()).zip(&probes);
    let wans: Vec<Value> = wans.map(|((name, wan), probes)| wan_json(name, wan, probes)).collect();
    if let Some(fields) = document.as_object_mut() {
        fields.insert("uptime_s".to_owned(), json!(uptime(about).as_secs()));
        fields.insert(
            "ticks".to_owned(),
            json!({
                "begun": pacing.ticks,
                "late": pacing.late,
                "missed": pacing.missed,
                "worst_us": pacing.worst_us,
                "outputs_dropped": snapshot.outputs_dropped,
            }),
        );
        fields.insert("router".to_owned(), router_json(about));
        fields.insert("wans".to_owned(), Value::Array(wans));
        let notices = published.notices();
        fields.insert("recording".to_owned(), notices::recording_json(&notices));
        fields.insert("incidents".to_owned(), notices::incidents_json(&notices));
        fields.insert("reloads".to_owned(), notices::reloads_json(&notices));
        let steering = steering::json(snapshot.steering.as_ref(), &about.names);
        fields.insert("steering".to_owned(), steering);
    }
    document
}

fn router_json(about: &About) -> Value {
    let requests = about.router.counters();
    let (state, error, identity) = match about.router.status() {
        BackendStatus::Connecting => ("connecting", None, None),
        BackendStatus::Ready { identity } => ("ready", None, Some(identity)),
        BackendStatus::Failing { error, .. } => ("failing", Some(error), None),
        BackendStatus::Failed { error } => ("failed", Some(error), None),
    };
    json!({
        "state": state,
        "error": error,
        "name": identity.as_ref().map(|identity| &identity.name),
        "version": identity.as_ref().map(|identity| &identity.version),
        "board": identity.as_ref().map(|identity| &identity.board),
        "requests": requests.requests,
        "failures": requests.failures,
        "last_us": requests.last_us,
        "worst_us": requests.worst_us,
        "disputed_queues": about.router.disputed(),
        "complaints": about.router.complaints().iter().map(|it| &it.text).collect::<Vec<_>>(),
    })
}

fn wan_json(name: &str, wan: &WanSnapshot, probes: &ProbeCounters) -> Value {
    let result = match wan.result {
        TickResult::Waiting => "waiting",
        TickResult::Controlled => "controlled",
        TickResult::Frozen => "frozen",
        TickResult::Failed => "failed",
    };
    json!({
        "name": name,
        "result": result,
        "link": wan.link.name(),
        "rtt_us": wan.latest_rtt_us,
        "baseline_us": micros(wan.baseline),
        "delay_us": micros(wan.delay),
        "jitter_us": micros(wan.quality.jitter),
        "loss_ppm": wan.quality.loss.as_ppm_rounded(),
        "download": direction_json(&wan.directions.download),
        "upload": direction_json(&wan.directions.upload),
        "samples": wan.counters.samples,
        "losses": wan.counters.losses,
        "late_answers": probes.late,
        "duplicate_answers": probes.duplicates,
        "icmp_errors": probes.errors,
        "reflectors": reflectors::list(probes),
        "reflectors_replaced": probes.replaced,
        "writes": wan.counters.writes,
        "cuts": wan.counters.cuts,
        "raises": wan.counters.raises,
        "writes_failed": wan.counters.writes_failed,
        "blind_ticks": wan.counters.blind_raw,
        "recent": steering::recent_json(wan.recent.as_ref()),
    })
}

fn direction_json(direction: &DirectionSnapshot) -> Value {
    let rate = |rate: Option<BitsPerSecond>| rate.map(BitsPerSecond::get);
    json!({
        "zone": direction.zone.name(),
        "wanted_bps": direction.wanted.get(),
        "commanded_bps": rate(direction.commanded),
        "confirmed_bps": rate(direction.confirmed),
        "delivered_bps": rate(direction.delivered),
    })
}

/// Returns a time in µs; a delay may be negative.
pub(super) fn micros(time: MicrosQ32) -> i64 {
    time.as_micros_floor()
}

fn permille(share: PpmQ32) -> u64 {
    (share.as_ppm_rounded() + 500) / 1000
}

/// Returns for how long the daemon has run, in whole seconds.
pub(super) fn uptime(about: &About) -> std::time::Duration {
    let passed = clock::now().checked_duration_since(about.started);
    std::time::Duration::from_secs(passed.map_or(0, |passed| passed.as_secs()))
}
