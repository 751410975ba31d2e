//! Made-up lines and settings, from calm to hostile.

use proptest::prelude::*;
use proptest::sample::select;

use crate::files::trace_text;
use crate::model::{ConfidenceParameters, Input, Parameters};

/// Baselines within the reference's bounds and, at the ends, beyond them.
const BASELINES_US: [u64; 10] =
    [9_999, 10_000, 25_000, 25_000, 25_000, 25_000, 25_000, 25_300, 60_000, 60_001];

/// Where the drop counter wraps.
const WRAP: i64 = 1 << 32;

/// A counter goes on, begins again, or is about to wrap.
const JUMPS: [Option<i64>; 6] = [None, None, None, Some(0), Some(2), Some(WRAP - 40)];

/// A stretch of a line that behaves in one way.
#[derive(Debug, Clone)]
struct Stretch {
    rows: usize,
    rtt_us: u64,
    jitter_us: u64,
    queued: u64,
    drops: i64,
    /// Of 100 rows, how many have no reply, no queue, no baseline, and a router that fails.
    lost: u64,
    unread: u64,
    no_baseline: u64,
    router_fails: u64,
    baseline_us: u64,
    /// Where the drop counter jumps to at the beginning.
    jump: Option<i64>,
}

fn stretch() -> impl Strategy<Value = Stretch> {
    let calm = (select(vec![20_000_u64, 25_000, 26_000]), Just(0_u64), Just(0_i64));
    let busy = (select(vec![86_000_u64, 106_000, 147_000]), select(vec![51_u64, 300]), 4..9_i64);
    let odd = (
        select(vec![25_300_u64, 36_000, 41_000, 106_000, 900_000]),
        select(vec![4_u64, 10, 49, 50, 51, 1000]),
        select(vec![0_i64, 1, 2]),
    );
    let line = prop_oneof![calm, busy, odd];
    let jitter_us = select(vec![0_u64, 1, 900, 20_000]);
    let percent = || select(vec![0, 0, 0, 0, 0, 0, 0, 10, 50, 100]);
    let failures = (percent(), percent(), percent(), percent());
    let rest = (1..80_usize, jitter_us, select(BASELINES_US.to_vec()), select(JUMPS.to_vec()));
    (line, failures, rest).prop_map(|(line, failures, rest)| Stretch {
        rows: rest.0,
        rtt_us: line.0,
        jitter_us: rest.1,
        queued: line.1,
        drops: line.2,
        lost: failures.0,
        unread: failures.1,
        no_baseline: failures.2,
        router_fails: failures.3,
        baseline_us: rest.2,
        jump: rest.3,
    })
}

/// The rows of a line; shown as the trace they make.
pub(crate) struct Line(pub(crate) Vec<Input>);

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\n{}", trace_text(&self.0))
    }
}

/// Makes the rows of a line.
pub(crate) fn line() -> impl Strategy<Value = Line> {
    (any::<u64>(), prop::collection::vec(stretch(), 1..25)).prop_map(|(seed, stretches)| {
        let mut noise = Noise(seed);
        let mut counter = noise.below(5) as i64;
        let rows = stretches.iter().flat_map(|stretch| rows(stretch, &mut noise, &mut counter));
        Line(rows.collect())
    })
}

fn rows(stretch: &Stretch, noise: &mut Noise, counter: &mut i64) -> Vec<Input> {
    *counter = stretch.jump.unwrap_or(*counter);
    let mut row = || {
        let rtt_us = stretch.rtt_us + noise.below(stretch.jitter_us + 1);
        *counter += if noise.below(3) == 0 { 0 } else { stretch.drops };
        *counter %= WRAP;
        let queued = stretch.queued.saturating_sub(noise.below(2)) as f64;
        Input {
            rtt_ms: (noise.below(100) >= stretch.lost).then_some(rtt_us as f64 / 1e3),
            queue: (noise.below(100) >= stretch.unread).then_some((*counter, queued)),
            baseline_ms: (noise.below(100) >= stretch.no_baseline)
                .then_some(stretch.baseline_us as f64 / 1e3),
            router_ok: noise.below(100) >= stretch.router_fails,
        }
    };
    (0..stretch.rows).map(|_| row()).collect()
}

/// The splitmix64 generator.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

/// Makes settings without confidence scoring.
pub(crate) fn parameters() -> impl Strategy<Value = Parameters> {
    let thresholds = (5_u64..40, 0_u64..40, 1_i64..5, 0_u64..30, 0_u64..80);
    let alphas = || select(vec![0.004, 0.05, 0.3, 0.4, 0.5, 0.7, 1.0]);
    let counts = (select(vec![1_u64, 2, 5, 40, 320, 320]), select(vec![1_u64, 3, 15, 60, 600]));
    (thresholds, alphas(), alphas(), counts, any::<bool>()).prop_map(
        |(thresholds, rtt_alpha, queue_alpha, counts, rtt_history)| Parameters {
            yellow_rtt_ms: thresholds.0 as f64,
            red_rtt_ms: (thresholds.0 + thresholds.1) as f64,
            min_drops_red: thresholds.2,
            min_queue_yellow: thresholds.3 as f64,
            min_queue_red: thresholds.4 as f64,
            rtt_ewma_alpha: rtt_alpha,
            queue_ewma_alpha: queue_alpha,
            red_samples_required: counts.0,
            green_samples_required: counts.1,
            rtt_history,
            ..Parameters::default()
        },
    )
}

/// Makes settings of confidence scoring.
pub(crate) fn confidence(dry_run: bool) -> impl Strategy<Value = ConfidenceParameters> {
    let scores = (select(vec![10_u32, 25, 55, 55, 70]), select(vec![0_u32, 5, 9]));
    let seconds = || select(vec![0.05, 0.05, 0.05, 0.1, 0.15, 0.4, 1.23, 2.0, 3.0]);
    let is_guarded = select(vec![true, true, true, false]);
    let guard = (is_guarded, select(vec![0.005, 0.02, 0.1, 5.0]), 1_usize..3, seconds());
    (scores, seconds(), seconds(), seconds(), guard).prop_map(
        move |((steer_threshold, recovery_threshold), sustain, recovery, hold_down, guard)| {
            ConfidenceParameters {
                steer_threshold,
                recovery_threshold,
                sustain_duration_sec: sustain,
                recovery_sustain_sec: recovery,
                hold_down_duration_sec: hold_down,
                flap_detection_enabled: guard.0,
                flap_window_minutes: guard.1,
                max_toggles: guard.2,
                penalty_duration_sec: guard.3,
                dry_run,
            }
        },
    )
}
