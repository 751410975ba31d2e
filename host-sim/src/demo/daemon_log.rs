//! Reading a daemon's log back: what a person would see there, as data.

use wanctl_core::units::{Direction, PerDirection};
use wanctl_core::zone::Zone;

/// What the log of a daemon with one WAN has said so far.
#[derive(Debug, Clone, Default)]
pub struct DaemonLog {
    /// All lines, oldest first.
    pub lines: Vec<String>,
    /// The current zones.
    pub zones: PerDirection<Zone>,
    /// Every zone a direction has been in, in order.
    pub zone_path: Vec<(Direction, Zone)>,
    /// Filtered delay and baseline as last mentioned, in ms.
    pub delay_and_baseline_ms: Option<(f64, f64)>,
}

impl DaemonLog {
    /// Takes the next line.
    pub fn take(&mut self, line: String) {
        for direction in Direction::BOTH {
            if let Some(zone) = zone_change(&line, direction) {
                *self.zones.get_mut(direction) = zone;
                self.zone_path.push((direction, zone));
            }
        }
        if let Some(mentioned) = delay_and_baseline(&line) {
            self.delay_and_baseline_ms = Some(mentioned);
        }
        self.lines.push(line);
    }

    /// Returns the filtered round-trip time as last mentioned, in ms.
    #[must_use]
    pub fn rtt_ms(&self) -> f64 {
        self.delay_and_baseline_ms.map_or(0.0, |(delay, baseline)| delay + baseline)
    }
}

/// Reads "NAME download: GREEN -> RED, ...".
fn zone_change(line: &str, direction: Direction) -> Option<Zone> {
    let (_, change) = line.split_once(&format!("{}: ", direction.name()))?;
    let (from, rest) = change.split_once(" -> ")?;
    let (to, _) = rest.split_once(',')?;
    zone(from).and(zone(to))
}

fn zone(name: &str) -> Option<Zone> {
    [Zone::Green, Zone::Yellow, Zone::SoftRed, Zone::Red].into_iter().find(|z| z.name() == name)
}

/// Reads "delay 3.2 over 20.1 ms" of a status line and "delay +3.2 ms over a baseline of 20.1 ms"
/// of a rate change.
fn delay_and_baseline(line: &str) -> Option<(f64, f64)> {
    let (_, rest) = line.split_once(" delay ")?;
    let (delay, rest) = rest.split_once(" over ")?;
    let rest = rest.strip_prefix("a baseline of ").unwrap_or(rest);
    let (baseline, _) = rest.split_once(" ms")?;
    Some((delay.trim_end_matches(" ms").parse().ok()?, baseline.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_and_delays_are_found_in_the_lines() {
        let mut log = DaemonLog::default();
        log.take("DEBUG cable download: GREEN -> SOFT_RED, delay +46.0 ms".to_owned());
        let change = " INFO cable upload: 9 Mbit/s -> 8 Mbit/s, cut: RED; \
                      delay +50.5 ms over a baseline of 20.0 ms";
        log.take(change.to_owned());
        assert_eq!(log.delay_and_baseline_ms, Some((50.5, 20.0)));
        let status = " INFO cable: download 8 Mbit/s GREEN, upload 2 Mbit/s RED, \
                      delay 3.2 over 20.1 ms, 4 writes";
        log.take(status.to_owned());
        assert_eq!(log.zone_path, [(Direction::Download, Zone::SoftRed)]);
        assert_eq!(log.zones.download, Zone::SoftRed);
        assert_eq!(log.delay_and_baseline_ms, Some((3.2, 20.1)));
    }
}
