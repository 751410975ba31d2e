//! Lines at the corners: not in the default suite and its means, but tried before a law changes.

use super::scenario::{CapacitySpec, PathSpec, Scenario};
use super::suite::{Way, fixed, load, lte_path, quiet_path, starlink_path, wander};

const MBPS: u64 = 1_000_000;

/// Returns lines on which pings overtake the queues (nothing but counters tells that TCP waits), a line
/// on which a packet takes 24 ms, a route that changes under load, and the course of a day in ten minutes.
#[must_use]
pub(super) fn corners_suite() -> Vec<Scenario> {
    let mut suite = blind();
    let slow = |way: Way| way.buffer(1_500).floor(20);
    suite.push(load(
        "slow-dsl",
        slow(wander(3, 2, 80, 5_000)).flows(2),
        slow(half()),
        quiet_path(30),
    ));
    let changes = vec![(30_000, 18_000), (50_000, -12_000), (70_000, 30_000)];
    suite.push(load(
        "route-change",
        wander(100, 80, 120, 6_000).flows(4),
        fixed(20),
        PathSpec { route_changes: changes, ..quiet_path(20) },
    ));
    let day = CapacitySpec::Diurnal { night: 240 * MBPS, evening: 70 * MBPS, day_s: 600 };
    let mut diurnal = load("diurnal", fixed(250).flows(6).capacity(day), fixed(40), quiet_path(15));
    diurnal.seconds = 600;
    suite.push(diurnal);
    suite
}

/// An upload of 500 kbit/s with one flow.
fn half() -> Way {
    let mut way = fixed(1).flows(1).capacity(CapacitySpec::Constant(MBPS / 2));
    way.plan = MBPS / 2;
    way
}

fn blind() -> Vec<Scenario> {
    let blind = |path| PathSpec { is_blind: true, ..path };
    vec![
        load(
            "blind-lte",
            wander(60, 28, 450, 1_500).flows(4).buffer(600).floor(10),
            wander(20, 10, 350, 2_500).buffer(1000).floor(10),
            blind(lte_path()),
        ),
        load(
            "blind-lte-upload",
            wander(60, 28, 450, 1_500).buffer(600).floor(10),
            wander(20, 10, 450, 1_500).flows(3).buffer(1000).floor(10),
            blind(lte_path()),
        ),
        load(
            "blind-starlink",
            wander(220, 130, 280, 2_500).flows(8).buffer(250).floor(10),
            wander(25, 15, 280, 2_500).flows(2).buffer(400).floor(10),
            blind(starlink_path()),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::laws::Law;
    use crate::score::model::router::Backend;
    use crate::score::run::{self, Setup};

    #[test]
    fn a_law_of_pings_does_not_see_a_queue_that_pings_overtake() {
        let mut scenario = corners_suite().remove(1);
        assert_eq!(scenario.name, "blind-lte-upload");
        let mut p95_ms = |is_blind| {
            scenario.path.is_blind = is_blind;
            let capacity = run::capacities(&scenario, 1);
            let setup = Setup::of(Backend::Linux);
            let score =
                run::run(&scenario, &capacity, Law::Autorate, &setup, &[], 1, None).unwrap();
            score.p95_us / 1000
        };
        let (blind, seeing) = (p95_ms(true), p95_ms(false));
        assert!(blind > 400 && seeing < 300, "{blind} and {seeing} ms");
    }
}
