//! The status line: the whole state of the daemon in one line of log.

use std::fmt::Write as _;

use wanctl_core::snapshot::{DirectionSnapshot, Snapshot, WanSnapshot};
use wanctl_core::steering::SteeringSnapshot;
use wanctl_core::units::{PerDirection, WanId};

use crate::config::show_rate;
use crate::explain::show_millis;
use crate::pacer::Pacing;

/// Returns the status line.
#[must_use]
pub fn line(names: &[String], snapshot: &Snapshot, pacing: &Pacing, router: &str) -> String {
    let mut line = String::new();
    for (index, wan) in snapshot.wans().iter().enumerate() {
        let name = names.get(index).map_or("?", String::as_str);
        line.push_str(&wan_part(name, wan));
        line.push_str("; ");
    }
    if let Some(steering) = &snapshot.steering {
        line.push_str(&steering_part(steering, names));
        line.push_str("; ");
    }
    // Writing to a String cannot fail.
    let _infallible = write!(line, "{}; router {router}", pacing_part(pacing));
    line
}

fn wan_part(name: &str, wan: &WanSnapshot) -> String {
    let counters = &wan.counters;
    format!(
        "{name}: download {}, upload {}, delay {} over {} ms{}, {} writes ({} cuts, {} raises, \
         {} failed), {} of {} probes lost",
        direction_part(&wan.directions.download),
        direction_part(&wan.directions.upload),
        show_millis(wan.delay),
        show_millis(wan.baseline),
        recent_part(wan),
        counters.writes,
        counters.cuts,
        counters.raises,
        counters.writes_failed,
        counters.losses,
        counters.samples + counters.losses,
    )
}

/// Returns where steering sends traffic, as text.
pub(crate) fn steering_part(steering: &SteeringSnapshot, names: &[String]) -> String {
    let name = |wan: WanId| names.get(usize::from(wan.0)).map_or("?", String::as_str);
    let way = steering.steered_to.map_or("the primary", name);
    let doubt = if steering.is_confirmed { "" } else { " (not confirmed)" };
    let seen = steering.wans().iter().map(|wan| {
        let zone = if wan.outage { "OUTAGE" } else { wan.zone.name() };
        format!(", {} {zone} score {}", name(wan.wan), wan.score)
    });
    let seen: String = seen.collect();
    format!(
        "steering to {way}{doubt}{seen}, {} changes ({} failed)",
        steering.changes, steering.failures
    )
}

/// Returns how the latest two minutes (at a tick of 50 ms) were, as soon as there is something.
fn recent_part(wan: &WanSnapshot) -> String {
    recent_text(wan).map_or_else(String::new, |text| format!(" (lately: {text})"))
}

/// The same without its frame.
pub(crate) fn recent_text(wan: &WanSnapshot) -> Option<String> {
    let recent = wan.recent?;
    let delay = recent.delay?;
    let PerDirection { download, upload } = recent.directions;
    Some(format!(
        "half of the samples up to {} ms, 95 % up to {} ms; GREEN {} % and {} % of the time",
        show_millis(delay.p50),
        show_millis(delay.p95),
        download.green.get() / 10,
        upload.green.get() / 10,
    ))
}

fn direction_part(direction: &DirectionSnapshot) -> String {
    let confirmed = direction.confirmed.map_or_else(|| "unconfirmed".to_owned(), show_rate);
    let carrying = direction
        .delivered
        .map_or_else(String::new, |rate| format!(" carrying {}", show_rate(rate)));
    format!("{confirmed} {}{carrying}", direction.zone.name())
}

/// Returns how well tick deadlines were met, as text.
#[must_use]
pub fn pacing_part(pacing: &Pacing) -> String {
    let Pacing { ticks, late, missed, worst_us } = pacing;
    let worst = worst_us / 100;
    let (whole, tenth) = (worst / 10, worst % 10);
    format!("{ticks} ticks, {late} late (>10 ms), {missed} missed, worst {whole}.{tenth} ms late")
}

#[cfg(test)]
mod tests {
    use wanctl_core::fixed::MicrosQ32;
    use wanctl_core::recent::{DirectionFigures, RecentFigures, Spread};
    use wanctl_core::units::Permille;

    use super::*;

    #[test]
    fn the_latest_past_is_told_once_there_is_one() {
        assert_eq!(recent_part(&WanSnapshot::default()), "");
        let green =
            |permille| DirectionFigures { green: Permille::new(permille), ..Default::default() };
        let millis = |ms: u64| MicrosQ32::from_micros(ms * 1000);
        let recent = RecentFigures {
            delay: Some(Spread { p50: millis(2), p95: millis(31) }),
            directions: PerDirection { download: green(874), upload: green(1000) },
        };
        assert_eq!(
            recent_part(&WanSnapshot { recent: Some(recent), ..Default::default() }),
            " (lately: half of the samples up to 2.0 ms, 95 % up to 31.0 ms; \
             GREEN 87 % and 100 % of the time)"
        );
    }

    #[test]
    fn pacing_is_one_phrase() {
        let pacing = Pacing { ticks: 1200, late: 1, missed: 0, worst_us: 12_345 };
        assert_eq!(
            pacing_part(&pacing),
            "1200 ticks, 1 late (>10 ms), 0 missed, worst 12.3 ms late"
        );
    }
}
