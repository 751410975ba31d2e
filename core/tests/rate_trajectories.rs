//! Rates move in time, not in ticks: another tick neither hastens nor slows cuts and raises.

#![allow(clippy::unwrap_used, reason = "a failed expectation ends a test")]

use embassy_time::{Duration, Instant};
use proptest::prelude::*;
use wanctl_core::config::{Config, WriteLimit, ZoneFloors};
use wanctl_core::controller::Controller;
use wanctl_core::example;
use wanctl_core::fixed::Ratio;
use wanctl_core::link::LinkState;
use wanctl_core::outputs::{Action, Outputs};
use wanctl_core::tick::{Outcome, Reply, RttSample, Tick};
use wanctl_core::units::{BitsPerSecond, Direction, PerDirection, ReflectorId, RttNanos, WanId};

const TICKS_MS: [u64; 4] = [25, 50, 100, 250];
/// Rates are compared this often, a whole number of every tick.
const GRID_MS: u64 = 500;
/// A point may also be that of 50 ms one point earlier or later: a longer tick sees a change later,
/// and its filter has fewer inputs.
const SHIFT: usize = 1;
/// The idle round-trip time.
const BASELINE_MS: u64 = 25;

/// So many milliseconds of a delay above the baseline.
#[derive(Debug, Clone, Copy)]
struct Span {
    delay_ms: u64,
    lasts_ms: u64,
}

/// The example's line with a wide range of rates, so that nothing ends at a floor at once.
fn config(tick_ms: u64) -> Config {
    let mut config = example::config();
    config.tick = Duration::from_millis(tick_ms);
    let wan = &mut config.wans[0];
    wan.link = None;
    // Plenty: at a shorter tick a cut is made of more writes, and raises wait for those.
    wan.classic.write_limit = WriteLimit { writes: 64, window: Duration::from_secs(1) };
    for direction in Direction::BOTH {
        let shaper = wan.shapers.get_mut(direction);
        shaper.floors = ZoneFloors::all(BitsPerSecond::new(1_000_000));
        shaper.ceiling = BitsPerSecond::from_mbps(1000);
        shaper.step_up = BitsPerSecond::from_mbps(2);
        shaper.factor_down = Ratio::from_ppm(990_000);
        shaper.factor_down_yellow = Ratio::from_ppm(998_000);
    }
    config
}

/// Returns the wanted rates at every point of the grid, with a router that obeys within a tick.
fn trajectory(tick_ms: u64, spans: &[Span]) -> Vec<PerDirection<BitsPerSecond>> {
    let mut controller = Controller::<1>::new(&config(tick_ms)).unwrap();
    let (mut tick, mut out) = (Tick::new(Instant::MIN), Outputs::new());
    let (mut rates, mut begin_ms, wan) = (Vec::new(), 0, WanId(0));
    for span in spans {
        for now_ms in (begin_ms..begin_ms + span.lasts_ms).step_by(tick_ms as usize) {
            let now_ms = now_ms + tick_ms;
            tick.reset(Instant::from_millis(now_ms));
            for action in &out.actions {
                if let Action::SetRate { id, direction, rate, .. } = *action {
                    let outcome = Outcome::Applied(rate);
                    tick.push_reply(Reply { wan, direction, id, outcome, took_us: 1 });
                }
            }
            let rtt = RttNanos::from_micros((BASELINE_MS + span.delay_ms) * 1000);
            tick.push_sample(RttSample {
                wan,
                reflector: ReflectorId(0),
                rtt,
                age_us: 0,
                upload_owd: None,
            });
            controller.step(&tick, &mut out);
            if now_ms.is_multiple_of(GRID_MS) {
                let is = controller.snapshot().wans()[0];
                assert_eq!(is.link, LinkState::Live);
                let PerDirection { download, upload } = is.directions;
                rates.push(PerDirection { download: download.wanted, upload: upload.wanted });
            }
        }
        begin_ms += span.lasts_ms;
    }
    rates
}

/// Checks that a trajectory at one tick is that of 50 ms, give or take [`SHIFT`] points of the grid
/// and two cuts, one for each end of a bad time: 1 % per 50 ms.
fn check_trajectory(tick_ms: u64, spans: &[Span]) -> Result<(), TestCaseError> {
    let (fine, other) = (trajectory(50, spans), trajectory(tick_ms, spans));
    prop_assert_eq!(fine.len(), other.len());
    let tolerance = |rate: u64| rate / 100 * 2 * tick_ms.max(50) / 50;
    for (at, rates) in other.iter().enumerate() {
        let near = fine.iter().skip(at.saturating_sub(SHIFT)).take(at.min(SHIFT) + 1 + SHIFT);
        for direction in Direction::BOTH {
            let rate = rates.get(direction).get();
            let all = near.clone().map(|rates| rates.get(direction).get());
            let (least, most) = (all.clone().min().unwrap(), all.max().unwrap());
            prop_assert!(
                rate >= least - tolerance(least) && rate <= most + tolerance(most),
                "{} at {tick_ms} ms after {} ms: {rate}, not {least} to {most}",
                direction.name(),
                (at as u64 + 1) * GRID_MS
            );
        }
    }
    Ok(())
}

fn spans() -> impl Strategy<Value = Vec<Span>> {
    // Well inside their zones: the filter's own shape is the business of `time_constants`.
    let bad = prop_oneof![Just(30), Just(62), Just(150_u64)];
    let span = |delay_ms, halves: u64| Span { delay_ms, lasts_ms: halves * GRID_MS };
    (bad, 1_u64..5, 4_u64..30)
        .prop_map(move |(delay_ms, bad, good)| vec![span(0, 6), span(delay_ms, bad), span(0, good)])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn rates_fall_and_rise_as_fast_at_every_tick(spans in spans()) {
        for tick_ms in TICKS_MS {
            check_trajectory(tick_ms, &spans)?;
        }
    }
}
