//! What observers are told about steering and about the latest past.

use embassy_time::Duration;
use serde_json::{Value, json};
use wanctl_core::recent::{DirectionFigures, RecentFigures, Spread};
use wanctl_core::snapshot::WanSnapshot;
use wanctl_core::steering::{SteeringSnapshot, SteeringWanSnapshot};
use wanctl_core::units::{BitsPerSecond, Direction, PerDirection, Permille, WanId};

use super::metrics::{Page, Wan, zone_number};
use super::report::micros;
use crate::explain::{decision_text, steering_refusal_text};

/// Returns steering for programs, `null` when it is not configured.
pub(super) fn json(steering: Option<&SteeringSnapshot>, names: &[String]) -> Value {
    let Some(steering) = steering else { return Value::Null };
    let name = |wan: WanId| names.get(usize::from(wan.0)).map_or("?", String::as_str);
    let left = |left: Option<Duration>| left.map(|left| left.as_micros());
    let wan = |wan: &SteeringWanSnapshot| {
        json!({
            "name": name(wan.wan),
            "zone": wan.zone.name(),
            "score": wan.score,
            "outage": wan.outage,
            "delay_us": micros(wan.delay),
            "backlog_packets": wan.backlog.rounded().0,
            "drops_useless": wan.drops_useless,
        })
    };
    json!({
        "primary": steering.wans().first().map(|primary| name(primary.wan)),
        "traffic": carrier(steering).map(name),
        "confirmed": steering.is_confirmed,
        "in_flight": steering.is_in_flight,
        "changes": steering.changes,
        "failures": steering.failures,
        "decision": steering.decision.map(|decision| decision_text(&decision, name)),
        "refused": steering.refused.map(steering_refusal_text),
        "hold_down_left_us": left(steering.hold_down_left),
        "penalty_left_us": left(steering.penalty_left),
        "would_steer_to": steering.would_steer_to.map(name),
        "wans": steering.wans().iter().map(wan).collect::<Vec<_>>(),
    })
}

/// Returns the WAN that steered traffic takes, as far as the router confirmed it.
fn carrier(steering: &SteeringSnapshot) -> Option<WanId> {
    steering.steered_to.or_else(|| steering.wans().first().map(|primary| primary.wan))
}

/// Returns the latest past of a WAN for programs.
pub(super) fn recent_json(recent: Option<&RecentFigures>) -> Value {
    let Some(recent) = recent else { return Value::Null };
    let PerDirection { download, upload } = &recent.directions;
    json!({
        "delay_us": spread(recent.delay, micros),
        "download": direction_json(download),
        "upload": direction_json(upload),
    })
}

fn direction_json(direction: &DirectionFigures) -> Value {
    let ppm = |share: Permille| u32::from(share.get()) * 1000;
    json!({
        "green_ppm": ppm(direction.green),
        "yellow_ppm": ppm(direction.yellow),
        "soft_red_ppm": ppm(direction.soft_red),
        "red_ppm": ppm(direction.red),
        "wanted_bps": spread(direction.rate, BitsPerSecond::get),
        "dropped_packets": spread(direction.drops, u64::from),
        "backlog_packets": spread(direction.backlog_packets, u64::from),
        "queue_delay_us": direction.queue_delay_us,
    })
}

fn spread<T, N: Into<Value>>(spread: Option<Spread<T>>, show: impl Fn(T) -> N) -> Value {
    spread.map_or(
        Value::Null,
        |Spread { p50, p95 }| json!({ "p50": show(p50).into(), "p95": show(p95).into() }),
    )
}

/// Writes the metrics of steering, if it is configured.
pub(super) fn metrics(page: &mut Page, steering: Option<&SteeringSnapshot>, names: &[String]) {
    let Some(steering) = steering else { return };
    let mut per_wan = |name: &str, help: &str, value: &dyn Fn(&SteeringWanSnapshot) -> f64| {
        page.metric(name, "gauge", help);
        for wan in steering.wans() {
            let label = names.get(usize::from(wan.wan.0)).map_or("?", String::as_str);
            page.sample(name, &[("wan", label)], value(wan));
        }
    };
    let help = "1 for the line that steered traffic takes.";
    per_wan("steering_traffic", help, &|wan| flag(carrier(steering) == Some(wan.wan)));
    let help = "What steering makes of the line: 0 GREEN, 1 YELLOW, 2 SOFT_RED, 3 RED.";
    per_wan("steering_zone", help, &|wan| zone_number(wan.zone));
    per_wan("steering_score", "0 is best, 100 worst.", &|wan| f64::from(wan.score));
    per_wan("steering_outage", "1 while the line carries nothing.", &|wan| flag(wan.outage));
    let help = "1 if the router confirmed where traffic goes.";
    page.single("steering_confirmed", "gauge", help, flag(steering.is_confirmed));
    let help = "Changes of the way that were confirmed.";
    page.single("steering_changes_total", "counter", help, steering.changes as f64);
    let help = "Steering commands that failed or were never answered.";
    page.single("steering_failures_total", "counter", help, steering.failures as f64);
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// Writes the metrics of the latest past.
pub(super) fn recent_metrics(page: &mut Page, wans: &[Wan<'_>]) {
    let recent = |wan: &WanSnapshot| wan.recent.unwrap_or_default();
    let quantiles = |spread: Spread<f64>| [("0.5", spread.p50), ("0.95", spread.p95)];
    let help = "Unfiltered delay above the baseline in the latest 2400 samples.";
    page.metric("recent_delay_seconds", "gauge", help);
    for wan in wans {
        let delay = recent(wan.snapshot).delay.map(|it| it_as(it, |us| micros(us) as f64 / 1e6));
        for (quantile, value) in delay.into_iter().flat_map(quantiles) {
            let labels = [("wan", wan.name), ("quantile", quantile)];
            page.sample("recent_delay_seconds", &labels, value);
        }
    }
    let mut per_direction =
        |name: &str, help: &str, values: &dyn Fn(&DirectionFigures) -> Option<Spread<f64>>| {
            page.metric(name, "gauge", help);
            for wan in wans {
                for direction in Direction::BOTH {
                    let spread = values(recent(wan.snapshot).directions.get(direction));
                    for (quantile, value) in spread.into_iter().flat_map(quantiles) {
                        let way = ("direction", direction.name());
                        page.sample(name, &[("wan", wan.name), way, ("quantile", quantile)], value);
                    }
                }
            }
        };
    let help = "Shaper rate the law wanted in the latest 2400 steps.";
    per_direction("recent_rate_wanted_bps", help, &|is| {
        is.rate.map(|it| it_as(it, |rate| rate.get() as f64))
    });
    let help = "Packets dropped between two of the latest 2400 readings of the queue.";
    per_direction("recent_dropped_packets", help, &|is| is.drops.map(|it| it_as(it, f64::from)));
    let help = "Packets waiting in the latest 2400 readings of the queue.";
    per_direction("recent_backlog_packets", help, &|is| {
        is.backlog_packets.map(|it| it_as(it, f64::from))
    });
    let help = "Mean wait in the queue between its latest two readings, where it tells (CAKE of this machine).";
    page.metric("queue_delay_seconds", "gauge", help);
    for wan in wans {
        for direction in Direction::BOTH {
            if let Some(us) = recent(wan.snapshot).directions.get(direction).queue_delay_us {
                let labels = [("wan", wan.name), ("direction", direction.name())];
                page.sample("queue_delay_seconds", &labels, f64::from(us) / 1e6);
            }
        }
    }
    zone_metrics(page, wans);
}

fn zone_metrics(page: &mut Page, wans: &[Wan<'_>]) {
    let help = "Share of the latest 2400 steps in a zone.";
    page.metric("recent_zone_ratio", "gauge", help);
    for wan in wans {
        let Some(recent) = wan.snapshot.recent else { continue };
        for direction in Direction::BOTH {
            let is = recent.directions.get(direction);
            let shares = [
                ("GREEN", is.green),
                ("YELLOW", is.yellow),
                ("SOFT_RED", is.soft_red),
                ("RED", is.red),
            ];
            for (zone, share) in shares {
                let labels = [("wan", wan.name), ("direction", direction.name()), ("zone", zone)];
                page.sample("recent_zone_ratio", &labels, f64::from(share.get()) / 1e3);
            }
        }
    }
}

fn it_as<T>(spread: Spread<T>, show: impl Fn(T) -> f64) -> Spread<f64> {
    Spread { p50: show(spread.p50), p95: show(spread.p95) }
}
