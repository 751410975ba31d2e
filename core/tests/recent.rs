//! The latest past: zones, rates, drops and backlog over the latest 2400 values.

mod common;

use wanctl_core::fixed::MicrosQ32;
use wanctl_core::history::HISTORY_SAMPLES;
use wanctl_core::recent::Recent;
use wanctl_core::tick::CounterReading;
use wanctl_core::units::{Direction, Permille, WanId};
use wanctl_core::zone::Zone;

use self::common::{Rig, WAN, mbps, unfiltered};

const P50: Permille = Permille::new(500);
const P95: Permille = Permille::new(950);

fn zones(recent: &Recent<'_>, direction: Direction) -> [u16; 4] {
    let zones = [Zone::Green, Zone::Yellow, Zone::SoftRed, Zone::Red];
    zones.map(|zone| recent.time_in(direction, zone).get())
}

fn read_counters(rig: &mut Rig, direction: Direction, dropped_packets: u32, backlog_packets: u32) {
    rig.tick.push_counters(CounterReading {
        wan: WAN,
        direction,
        delivered_bytes: 0,
        dropped_packets,
        backlog_bytes: 0,
        backlog_packets,
        age_us: 0,
        queue_delay_us: None,
    });
    rig.answer(25);
}

#[test]
fn before_anything_happened_there_is_no_past() {
    let rig = Rig::new(unfiltered());
    let figures = rig.recent().figures();
    assert_eq!(figures.delay, None);
    for direction in Direction::BOTH {
        assert_eq!(zones(&rig.recent(), direction), [0; 4]);
        assert_eq!(figures.directions.get(direction).rate, None);
        assert_eq!(figures.directions.get(direction).drops, None);
    }
    assert!(rig.controller().recent(WanId(1)).is_none());
}

#[test]
fn the_share_of_time_in_each_zone_counts_ticks() {
    let mut rig = Rig::new(unfiltered());
    rig.answer_times(500, 25); // GREEN
    rig.answer_times(300, 55); // 30 ms: YELLOW
    rig.answer_times(200, 200); // 175 ms: RED
    assert_eq!(zones(&rig.recent(), Direction::Download), [500, 300, 0, 200]);
    assert_eq!(zones(&rig.recent(), Direction::Upload), [500, 300, 0, 200]);
    // Losses decide nothing, but time passes in the zone that was.
    (0..1000).for_each(|_| rig.lose_unchecked());
    assert_eq!(zones(&rig.recent(), Direction::Download), [250, 150, 0, 600]);
    // What is older than the latest 2400 ticks is forgotten.
    rig.answer_times(HISTORY_SAMPLES, 25);
    assert_eq!(zones(&rig.recent(), Direction::Download), [1000, 0, 0, 0]);
}

#[test]
fn both_directions_have_zones_of_their_own() {
    let mut rig = Rig::new(unfiltered());
    // 60 ms above the baseline is SOFT_RED for the download and RED for the upload.
    rig.answer_times(1000, 85);
    let [_, _, soft_red, red] = zones(&rig.recent(), Direction::Download);
    assert!(soft_red > 950 && red == 0, "{soft_red} {red}");
    assert_eq!(zones(&rig.recent(), Direction::Upload), [0, 0, 0, 1000]);
}

#[test]
fn delays_are_unfiltered_samples_above_the_baseline_of_now() {
    let mut rig = Rig::new(unfiltered());
    rig.answer_times(900, 25);
    rig.answer_times(100, 125);
    let baseline = rig.wan().baseline;
    let recent = rig.recent();
    let above = |ms: u64| MicrosQ32::from_micros(ms * 1000).saturating_sub(baseline);
    assert_eq!(recent.samples(), 1000);
    assert_eq!(recent.delay(P50), Some(above(25).max(MicrosQ32::ZERO)));
    assert_eq!(recent.delay(Permille::new(900)), Some(above(25).max(MicrosQ32::ZERO)));
    assert_eq!(recent.delay(P95), Some(above(125)));
}

#[test]
fn rates_are_the_wanted_ones() {
    let mut rig = Rig::new(unfiltered());
    let ceiling = rig.wan().directions.download.wanted;
    rig.answer_times(600, 25);
    rig.answer_times(400, 200);
    let (wanted, recent) = (rig.download().wanted, rig.recent());
    assert!(wanted < ceiling);
    assert_eq!(recent.rate(Direction::Download, P50), Some(ceiling));
    assert_eq!(recent.rate(Direction::Download, Permille::new(1000)), Some(ceiling));
    let lowest = recent.rate(Direction::Download, Permille::new(0)).unwrap();
    assert!(lowest.get().abs_diff(wanted.get()) < mbps(1).get() / 100, "{lowest:?} {wanted:?}");
}

#[test]
fn drops_and_backlog_are_those_of_the_readings() {
    let mut rig = Rig::new(unfiltered());
    // The first reading tells nothing about now; then 7 drops per reading, and twice 500.
    let totals = (0..38).map(|reading| 1_000_000 + 7 * reading);
    for total in totals.chain([1_000_759, 1_001_259]) {
        read_counters(&mut rig, Direction::Download, total, total % 100);
    }
    read_counters(&mut rig, Direction::Upload, 5, u32::MAX);
    let recent = rig.recent();
    let drops = |share| recent.drops(Direction::Download, Permille::new(share));
    assert_eq!([drops(0), drops(25), drops(26)], [Some(0), Some(0), Some(7)]);
    assert_eq!([drops(500), drops(950), drops(951)], [Some(7), Some(7), Some(500)]);
    // The highest of the forty are 98, 96 and 91.
    assert_eq!(recent.backlog_packets(Direction::Download, P95), Some(91));
    assert_eq!(recent.drops(Direction::Upload, P95), Some(0));
    assert_eq!(recent.backlog_packets(Direction::Upload, P95), Some(u16::MAX));
}

#[test]
fn the_figures_are_what_was_asked_for_one_by_one() {
    let mut rig = Rig::new(unfiltered());
    rig.answer_times(300, 25);
    rig.answer_times(100, 100);
    for total in 0..100 {
        read_counters(&mut rig, Direction::Download, total * total, total);
    }
    let (recent, download) = (rig.recent(), Direction::Download);
    let figures = recent.figures();
    let of_download = &figures.directions.download;
    assert_eq!(
        figures.delay.map(|delay| (delay.p50, delay.p95)),
        recent.delay(P50).zip(recent.delay(P95))
    );
    let rate = recent.rate(download, P50).zip(recent.rate(download, P95));
    assert_eq!(of_download.rate.map(|rate| (rate.p50, rate.p95)), rate);
    assert_eq!(of_download.drops.map(|drops| (drops.p50, drops.p95)), Some((97, 187)));
    assert_eq!(of_download.backlog_packets.map(|spread| (spread.p50, spread.p95)), Some((49, 94)));
    let shares = [of_download.green, of_download.yellow, of_download.soft_red, of_download.red];
    assert_eq!(shares.map(Permille::get), zones(&recent, download));
    // The snapshot has them when it is told.
    let mut snapshot = rig.controller().snapshot();
    assert_eq!(snapshot.wans()[0].recent, None);
    snapshot.set_recent(&rig.controller().figures());
    assert_eq!(snapshot.wans()[0].recent, Some(figures));
}
