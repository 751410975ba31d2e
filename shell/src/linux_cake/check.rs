//! What `wanctl check` says about the qdiscs. Nothing is changed.

use wanctl_core::units::{Direction, PerDirection};

use super::error::CakeError;
use super::find::{Found, find};
use super::kernel::{Kernel, Qdiscs};
use crate::config::show_rate;

/// What was found.
#[derive(Debug)]
pub struct CakeReport {
    /// Lines for the user.
    pub lines: Vec<String>,
    /// The first thing that keeps wanctl from working.
    pub outcome: Result<(), CakeError>,
}

/// Looks for the CAKE qdisc of every direction, and finds out whether they may be changed.
#[must_use]
pub fn check(interfaces: &[PerDirection<String>]) -> CakeReport {
    let mut lines = Vec::new();
    let outcome = look(interfaces, &mut lines);
    CakeReport { lines, outcome }
}

fn look(interfaces: &[PerDirection<String>], lines: &mut Vec<String>) -> Result<(), CakeError> {
    let mut kernel = Kernel::open()?;
    let qdiscs = kernel.qdiscs()?;
    let mut first = Ok(());
    for wan in interfaces {
        for direction in Direction::BOTH {
            let name = wan.get(direction);
            match find(name, kernel.index(name), &qdiscs) {
                Ok(found) => tell(name, direction, &found, lines),
                Err(error) if first.is_ok() => first = Err(error),
                Err(error) => lines.push(format!("error: {error}")),
            }
        }
    }
    first.and_then(|()| kernel.check_permission())
}

fn tell(name: &str, direction: Direction, found: &Found, lines: &mut Vec<String>) {
    let Found { cake, handle, .. } = found;
    let rate = match cake.rate_bytes {
        0 => "unlimited".to_owned(),
        _ => show_rate(cake.rate()),
    };
    let marks = cake.tins.iter().fold(0_u32, |sum, tin| sum.wrapping_add(tin.marked_packets));
    let peak = cake.tins.iter().map(|tin| tin.peak_delay_us).max().unwrap_or_default();
    let average = cake.tins.iter().map(|tin| tin.average_delay_us).max().unwrap_or_default();
    let drops = cake.counters.map_or(0, |counters| counters.dropped);
    lines.push(format!(
        "{} {name}: CAKE {:x}:, {rate}, {drops} drops, {marks} marks, delay {average} us on average, {peak} us at \
         the peak",
        direction.name(),
        handle >> 16,
    ));
    if cake.is_autorate {
        lines.push(format!("warning: {name}: {}", super::AUTORATE));
    }
    if direction == Direction::Download && !cake.is_ingress {
        lines.push(format!(
            "note: {name}: without `ingress` dropped packets do not count, and the line carries more \
             than the rate; hint: tc qdisc change dev {name} root cake ingress"
        ));
    }
}
