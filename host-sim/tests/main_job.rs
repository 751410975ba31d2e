//! The main job, start to end: the built `wanctl` keeps the queues of a real line short.
//!
//! Two namespaces, a line with a deep FIFO between them, real TCP flows, real ICMP, the emulated
//! router over HTTPS. A twin of the line without control shows what would happen otherwise.

mod common;

use std::io::Write as _;
use std::time::Duration;

use wanctl_core::units::{Direction, PerDirection};
use wanctl_core::zone::Zone;
use wanctl_sim::demo::{Episode, LineProfile, LineSample, NetRecording, Phase, QUEUES};
use wanctl_sim::netns::usable_or_skip;

/// Long enough for half a minute of TCP: the queue builds, is drained, and the rate returns.
const LENGTH: Duration = Duration::from_secs(24);
/// A queue of this delay counts as built. The line's idle round-trip time is 20 ms.
const QUEUE_BUILT_MS: f64 = 60.0;
/// Once the daemon has had time, at most this part of the uncontrolled delay may be left.
const DELAY_LEFT_MAX: f64 = 0.5;
/// The part of a phase, from its end, in which the daemon has had time.
const SETTLED: f64 = 0.4;
/// Congestion must bring the shaper at least this close to the capacity that is left.
const CUT_TO_TIMES_CAPACITY: f64 = 1.6;
/// When the capacity is back, the rate must rise by at least this factor.
const CLIMB_MIN: f64 = 1.3;

#[test]
fn queues_that_build_on_a_congested_line_are_drained_and_the_rate_returns() {
    if !usable_or_skip("queues_that_build_on_a_congested_line_are_drained_and_the_rate_returns") {
        return;
    }
    let episode = Episode::new(LENGTH, LineProfile::SLOW);
    let (recording, table) = common::play_undisturbed(episode);
    // Straight to the process's standard output: it is worth seeing when the test passes, too.
    let mut stdout = std::io::stdout();
    let _closed = stdout.write_all(&table).and_then(|()| stdout.flush());

    queue_builds_when_the_capacity_drops(&recording);
    zone_leaves_green_and_returns(&recording);
    router_gets_lower_rates_and_the_shaper_follows(&recording);
    delay_falls_below_that_of_the_twin(&recording);
    rate_climbs_back(&recording);
}

fn queue_builds_when_the_capacity_drops(recording: &NetRecording) {
    for samples in [&recording.with, &recording.without] {
        let most = of_phase(recording, samples, Phase::Congested, 1.0).map(added_ms);
        let most = most.fold(0.0, f64::max);
        assert!(most > QUEUE_BUILT_MS, "the queue never added more than {most} ms");
    }
}

fn zone_leaves_green_and_returns(recording: &NetRecording) {
    let path = &recording.log.zone_path;
    let mut download = path.iter().filter(|(direction, _)| *direction == Direction::Download);
    let left = download.any(|(_, zone)| matches!(zone, Zone::SoftRed | Zone::Red));
    assert!(left, "the download was never SOFT_RED or RED: {path:?}");
    assert!(download.any(|(_, zone)| *zone == Zone::Green), "never GREEN again: {path:?}");
}

fn router_gets_lower_rates_and_the_shaper_follows(recording: &NetRecording) {
    let PerDirection { download, .. } = recording.episode.line.ceiling_bps;
    let lowest = rates(recording, QUEUES.0).min().expect("the download was written");
    assert!(lowest < download, "no write below the ceiling: {:?}", recording.writes);
    let capacity = recording.episode.line.congested_bps.download;
    let reached = ratio(lowest, capacity);
    assert!(reached < CUT_TO_TIMES_CAPACITY, "{lowest} bit/s over {capacity} bit/s");
    for direction in Direction::BOTH {
        let queue = if direction == Direction::Download { QUEUES.0 } else { QUEUES.1 };
        let shaped = recording.with.iter().map(|sample| *sample.shaper_bps.get(direction));
        let shaped = shaped.min().expect("the line was looked at");
        assert!(
            shaped < *recording.episode.line.ceiling_bps.get(direction)
                && rates(recording, queue).any(|rate| rate == shaped),
            "the {} shaper was lowered to {shaped} bit/s, the router was told {:?}",
            direction.name(),
            recording.writes
        );
    }
}

fn delay_falls_below_that_of_the_twin(recording: &NetRecording) {
    let settled =
        |samples| mean(of_phase(recording, samples, Phase::Congested, SETTLED).map(added_ms));
    let (with, without) = (settled(&recording.with), settled(&recording.without));
    assert!(with < without * DELAY_LEFT_MAX, "{with:.1} ms with control, {without:.1} ms without");
}

fn rate_climbs_back(recording: &NetRecording) {
    let shaped = |phase| {
        let samples = of_phase(recording, &recording.with, phase, SETTLED);
        samples.map(|sample| sample.shaper_bps.download)
    };
    let congested = shaped(Phase::Congested).min().expect("samples of the congestion");
    let last = shaped(Phase::Recovered).last().expect("samples after the congestion");
    let climbed = ratio(last, congested);
    assert!(climbed > CLIMB_MIN, "from {congested} to {last} bit/s only");
}

/// The samples of the last `part` of a phase.
fn of_phase<'a>(
    recording: &NetRecording,
    samples: &'a [LineSample],
    phase: Phase,
    part: f64,
) -> impl Iterator<Item = &'a LineSample> {
    let episode = recording.episode;
    let of_phase = move |sample: &&LineSample| episode.phase(sample.at) == phase;
    let first = samples.iter().find(of_phase).expect("every phase has samples").at;
    let last = samples.iter().rev().find(of_phase).expect("every phase has samples").at;
    let from = last - (last - first).mul_f64(part);
    samples.iter().filter(of_phase).filter(move |sample| sample.at >= from)
}

fn rates(recording: &NetRecording, queue: &str) -> impl Iterator<Item = u64> {
    let writes = recording.writes.iter().filter(move |write| write.queue == queue);
    writes.map(|write| write.max_limit_bps)
}

fn added_ms(sample: &LineSample) -> f64 {
    Duration::from_nanos(sample.added_delay()).as_secs_f64() * 1e3
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52")]
fn ratio(rate: u64, other: u64) -> f64 {
    rate as f64 / other as f64
}
