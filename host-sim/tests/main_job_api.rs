//! The main job over RouterOS's binary API: the same congested line as in `main_job`, for less time.

mod common;

use std::time::Duration;

use wanctl::routeros::TransportKind;
use wanctl_core::units::Direction;
use wanctl_core::zone::Zone;
use wanctl_sim::demo::{Episode, LineProfile, LineSample, Phase, QUEUES};
use wanctl_sim::netns::usable_or_skip;

const LENGTH: Duration = Duration::from_secs(20);
/// Once the daemon has had time, at most this part of the uncontrolled delay may be left.
const DELAY_LEFT_MAX: f64 = 0.5;

#[test]
fn over_the_api_the_shaper_follows_and_the_queue_is_drained_as_well() {
    if !usable_or_skip("over_the_api_the_shaper_follows_and_the_queue_is_drained_as_well") {
        return;
    }
    let transport = TransportKind::Api;
    let episode = Episode { transport, ..Episode::new(LENGTH, LineProfile::SLOW) };
    let (recording, table) = common::play_undisturbed(episode);
    assert!(String::from_utf8_lossy(&table).contains("binary API with TLS"));
    let path = &recording.log.zone_path;
    let left = |way: &(Direction, Zone)| way.0 == Direction::Download && way.1 != Zone::Green;
    assert!(path.iter().any(left), "the download was always GREEN: {path:?}");
    let written = recording.writes.iter().filter(|write| write.queue == QUEUES.0);
    let lowest = written.map(|write| write.max_limit_bps).min().expect("the download was written");
    assert!(lowest < episode.line.ceiling_bps.download, "{:?}", recording.writes);
    let shaped = recording.with.iter().map(|sample| sample.shaper_bps.download).min();
    assert_eq!(shaped, Some(lowest));
    // The later part of the congestion, when the daemon has had time.
    let settled = |samples: &[LineSample]| {
        let congested = |sample: &&LineSample| episode.phase(sample.at) == Phase::Congested;
        let all: Vec<f64> = samples
            .iter()
            .filter(congested)
            .map(|sample| Duration::from_nanos(sample.added_delay()).as_secs_f64())
            .collect();
        let late = &all[all.len() * 6 / 10..];
        late.iter().sum::<f64>() / late.len() as f64
    };
    let (with, without) = (settled(&recording.with), settled(&recording.without));
    assert!(with < without * DELAY_LEFT_MAX, "{with:.3} s with control, {without:.3} s without");
}
