//! The status line: the whole state of the daemon in one line of log.

use std::fmt::Write as _;

use wanctl_core::snapshot::{DirectionSnapshot, Snapshot, WanSnapshot};
use wanctl_core::steering::SteeringSnapshot;
use wanctl_core::units::WanId;

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
        "{name}: download {}, upload {}, delay {} over {} ms, {} writes ({} cuts, {} raises, \
         {} failed), {} of {} probes lost",
        direction_part(&wan.directions.download),
        direction_part(&wan.directions.upload),
        show_millis(wan.delay),
        show_millis(wan.baseline),
        counters.writes,
        counters.cuts,
        counters.raises,
        counters.writes_failed,
        counters.losses,
        counters.samples + counters.losses,
    )
}

/// Returns where steering sends traffic, as text.
fn steering_part(steering: &SteeringSnapshot, names: &[String]) -> String {
    let name = |wan: WanId| names.get(usize::from(wan.0)).map_or("?", String::as_str);
    let primary = steering.wans().first();
    let way = steering.steered_to.map_or("the primary", name);
    let doubt = if steering.is_confirmed { "" } else { " (not confirmed)" };
    let seen = primary.map_or(String::new(), |primary| {
        let zone = if primary.outage { "OUTAGE" } else { primary.zone.name() };
        format!(", {} {zone} score {}", name(primary.wan), primary.score)
    });
    format!(
        "steering to {way}{doubt}{seen}, {} changes ({} failed)",
        steering.changes, steering.failures
    )
}

fn direction_part(direction: &DirectionSnapshot) -> String {
    let confirmed = direction.confirmed.map_or_else(|| "unconfirmed".to_owned(), show_rate);
    format!("{confirmed} {}", direction.zone.name())
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
    use super::*;

    #[test]
    fn pacing_is_one_phrase() {
        let pacing = Pacing { ticks: 1200, late: 1, missed: 0, worst_us: 12_345 };
        assert_eq!(
            pacing_part(&pacing),
            "1200 ticks, 1 late (>10 ms), 0 missed, worst 12.3 ms late"
        );
    }
}
