//! How sure it is that a WAN is bad: 0 ..= 100 points.
//!
//! | evidence | points |
//! |---|---|
//! | RED | 50 |
//! | SOFT_RED for three measurements | 25 |
//! | YELLOW | 10 |
//! | unfiltered delay above 120 ms; else above 80 ms | 25; 15 |
//! | the latest three numbers of drops rise | 10 |
//! | the latest two backlogs are above 50 packets | 10 |
//!
//! The items and their points are those of the reference.

use crate::fixed::MicrosQ32;
use crate::steering::assess::Recent;
use crate::zone::Zone;

/// An unfiltered delay above this is a spike.
const SPIKE: MicrosQ32 = MicrosQ32::from_micros(80_000);
/// An unfiltered delay above this is a severe spike.
const SEVERE_SPIKE: MicrosQ32 = MicrosQ32::from_micros(120_000);
/// More packets than this are a standing queue.
const STANDING_BACKLOG: u64 = 50;
/// The highest score.
pub(super) const SCORE_MAX: u8 = 100;

/// Adds up the points of one WAN.
pub(super) fn score(zone: Zone, delay: MicrosQ32, recent: &Recent) -> u8 {
    let zone = match zone {
        Zone::Red => 50,
        Zone::SoftRed if recent.zones.iter().all(|zone| *zone == Some(Zone::SoftRed)) => 25,
        Zone::Yellow => 10,
        Zone::Green | Zone::SoftRed => 0,
    };
    let spike = if delay > SEVERE_SPIKE {
        25
    } else if delay > SPIKE {
        15
    } else {
        0
    };
    let [oldest_drops, _, drops] = recent.drops;
    let has_rising_drops =
        oldest_drops.zip(drops).is_some_and(|(first, last)| last > first && last.0 > 0);
    let has_standing_queue = recent
        .backlogs
        .iter()
        .all(|backlog| backlog.is_some_and(|backlog| backlog.0 > STANDING_BACKLOG));
    let points = |is_true| if is_true { 10_u8 } else { 0 };
    let queue = points(has_rising_drops).saturating_add(points(has_standing_queue));
    queue.saturating_add(zone).saturating_add(spike).min(SCORE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steering::counters::Drops;
    use crate::units::Packets;

    const CALM: MicrosQ32 = MicrosQ32::ZERO;

    fn with_drops(drops: [i64; 3]) -> Recent {
        Recent { drops: drops.map(|drops| Some(Drops(drops))), ..Recent::default() }
    }

    fn with_backlogs(backlogs: [u64; 2]) -> Recent {
        Recent { backlogs: backlogs.map(|backlog| Some(Packets(backlog))), ..Recent::default() }
    }

    #[test]
    fn every_item_counts_on_its_own() {
        let none = Recent::default();
        assert_eq!(score(Zone::Green, CALM, &none), 0);
        assert_eq!(score(Zone::Yellow, CALM, &none), 10);
        assert_eq!(score(Zone::Red, CALM, &none), 50);
        let ms = |ms: u64| MicrosQ32::from_micros(ms * 1000);
        assert_eq!(score(Zone::Green, ms(80), &none), 0);
        assert_eq!(score(Zone::Green, ms(81), &none), 15);
        assert_eq!(score(Zone::Green, ms(120), &none), 15);
        assert_eq!(score(Zone::Green, ms(121), &none), 25);
        assert_eq!(score(Zone::Green, CALM, &with_drops([1, 0, 2])), 10);
        assert_eq!(score(Zone::Green, CALM, &with_backlogs([51, 51])), 10);
    }

    #[test]
    fn drops_that_fall_or_stay_or_are_too_few_do_not_count() {
        for drops in [[2, 5, 2], [3, 3, 2], [0, 0, 0], [-5, 0, 0]] {
            assert_eq!(score(Zone::Green, CALM, &with_drops(drops)), 0, "{drops:?}");
        }
        let drops = [None, Some(Drops(1)), Some(Drops(2))];
        assert_eq!(score(Zone::Green, CALM, &Recent { drops, ..Recent::default() }), 0);
    }

    #[test]
    fn a_queue_that_does_not_stand_does_not_count() {
        for backlogs in [[50, 51], [51, 50], [0, 900]] {
            assert_eq!(score(Zone::Green, CALM, &with_backlogs(backlogs)), 0, "{backlogs:?}");
        }
    }

    #[test]
    fn soft_red_must_last_three_measurements() {
        let lasting = Recent { zones: [Some(Zone::SoftRed); 3], ..Recent::default() };
        assert_eq!(score(Zone::SoftRed, CALM, &lasting), 25);
        let zones = [Some(Zone::Yellow), Some(Zone::SoftRed), Some(Zone::SoftRed)];
        assert_eq!(score(Zone::SoftRed, CALM, &Recent { zones, ..Recent::default() }), 0);
    }

    #[test]
    fn everything_together_is_95_points() {
        let backlogs = [Some(Packets(60)); 2];
        let all = Recent { backlogs, ..with_drops([0, 1, 2]) };
        assert_eq!(score(Zone::Red, MicrosQ32::from_micros(121_000), &all), 95);
    }
}
