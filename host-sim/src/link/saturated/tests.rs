use super::*;
use crate::link::NANOS_PER_SECOND;

const MS: Nanos = 1_000_000;
const BASE: Nanos = 20 * MS;

fn link(download_bps: u64, upload_bps: u64) -> SaturatedLink {
    let constant = CapacitySchedule::constant;
    SaturatedLink::new(SaturatedLinkOptions::new(constant(download_bps), constant(upload_bps)))
}

/// Advances in steps of 1 ms with a probe every 50 ms; returns the replies.
fn run(link: &mut SaturatedLink, from: Nanos, to: Nanos) -> Vec<ProbeReply> {
    let mut replies = Vec::new();
    for now in (from..to).step_by(MS as usize) {
        if (now / MS).is_multiple_of(50) {
            link.send_probe(now, now);
        }
        link.advance(now);
        replies.extend(std::iter::from_fn(|| link.pop_reply(now)));
    }
    replies
}

fn max_rtt(replies: &[ProbeReply]) -> Nanos {
    replies.iter().map(ProbeReply::rtt).max().unwrap_or(0)
}

fn delivered_bps(link: &mut SaturatedLink, from: Nanos, seconds: u64) -> u64 {
    let before = link.stats(Direction::Download).delivered_bytes;
    run(link, from, from + seconds * NANOS_PER_SECOND);
    (link.stats(Direction::Download).delivered_bytes - before) * 8 / seconds
}

#[test]
fn an_idle_line_answers_after_the_base_rtt_and_two_packet_times() {
    let replies = run(&mut link(8_000_000, 8_000_000), 0, NANOS_PER_SECOND);
    assert_eq!(replies.len(), 20);
    assert!(replies.iter().all(|reply| reply.rtt() == BASE + 2 * 84_000));
}

#[test]
fn a_shaper_below_capacity_keeps_the_rtt_at_base() {
    let mut link = link(50_000_000, 20_000_000);
    for (direction, rate) in [(Direction::Download, 45_000_000), (Direction::Upload, 18_000_000)] {
        link.set_shaper_rate(0, direction, rate);
        link.set_load(0, direction, true);
    }
    // The first probe meets bulk flows that are as new as itself.
    run(&mut link, 0, 50 * MS);
    let replies = run(&mut link, 50 * MS, 10 * NANOS_PER_SECOND);
    assert_eq!(replies.len(), 199);
    // Per direction: one packet being paid for, and one being sent. 0.24 + 0.27 + 0.6 + 0.67 ms.
    assert!(max_rtt(&replies) < BASE + 2 * MS, "{} ns", max_rtt(&replies));
    assert!(link.stats(Direction::Download).fifo_delay < MS);
    assert!(link.stats(Direction::Download).shaper_queued_bytes > 0);
}

#[test]
fn a_shaper_above_capacity_fills_the_fifo_and_the_rtt_shows_it() {
    for shaper_bps in [0, 45_000_000] {
        let mut link = link(15_000_000, 100_000_000);
        link.set_shaper_rate(0, Direction::Download, shaper_bps);
        link.set_load(0, Direction::Download, true);
        run(&mut link, 0, 2 * NANOS_PER_SECOND);
        let replies = run(&mut link, 2 * NANOS_PER_SECOND, 10 * NANOS_PER_SECOND);
        let full = 1_000_000 * 8 * NANOS_PER_SECOND / 15_000_000; // 533 ms
        let last = replies.last().map_or(0, ProbeReply::rtt);
        assert!(last.abs_diff(BASE + full) < 5 * MS, "shaper {shaper_bps}: {last} ns");
        assert!(replies.len() > 140, "a full FIFO must not swallow the probes");
        assert!(link.stats(Direction::Download).fifo_delay.abs_diff(full) < 3 * MS);
        assert_eq!(link.stats(Direction::Upload).fifo_delay, 0);
    }
}

#[test]
fn a_full_fifo_drains_in_its_size_over_the_spare_capacity() {
    let mut link = link(10_000_000, 100_000_000);
    link.set_load(0, Direction::Download, true);
    run(&mut link, 0, 2 * NANOS_PER_SECOND);
    let (fixed, spare_bps) = (2 * NANOS_PER_SECOND, 40_000_000 - 20_000_000);
    link.set_capacity(fixed, Direction::Download, 40_000_000);
    link.set_shaper_rate(fixed, Direction::Download, 20_000_000);
    let queued = link.stats(Direction::Download).fifo_queued_bytes;
    let drain = queued * 8 * NANOS_PER_SECOND / spare_bps; // 0.4 s
    link.advance(fixed + drain - 20 * MS);
    assert!(link.stats(Direction::Download).fifo_delay > 5 * MS);
    link.advance(fixed + drain + 20 * MS);
    assert!(link.stats(Direction::Download).fifo_delay < MS);
}

#[test]
fn the_line_delivers_the_smaller_of_shaper_and_capacity() {
    for (shaper_bps, capacity_bps) in [
        (45_000_000, 50_000_000),
        (0, 50_000_000),
        (60_000_000, 50_000_000),
        (1_000_000, 4_000_000),
    ] {
        let mut link = link(capacity_bps, 20_000_000);
        link.set_shaper_rate(0, Direction::Download, shaper_bps);
        link.set_load(0, Direction::Download, true);
        run(&mut link, 0, NANOS_PER_SECOND);
        let rate = delivered_bps(&mut link, NANOS_PER_SECOND, 5);
        let expected = if shaper_bps == 0 { capacity_bps } else { shaper_bps.min(capacity_bps) };
        assert!(rate.abs_diff(expected) <= expected / 100, "{rate} instead of {expected}");
    }
}

#[test]
fn probes_survive_an_outage_and_come_back_late() {
    let ms = Duration::from_millis;
    let upload = CapacitySchedule::steps(&[(ms(0), 8_000_000), (ms(100), 0), (ms(400), 8_000_000)]);
    let download = CapacitySchedule::constant(8_000_000);
    let mut link = SaturatedLink::new(SaturatedLinkOptions::new(download, upload));
    link.send_probe(200 * MS, 7);
    assert_eq!(link.next_event(), Some(400 * MS + 84_000));
    link.advance(NANOS_PER_SECOND);
    let reply = link.pop_reply(NANOS_PER_SECOND).map(|reply| (reply.token, reply.rtt()));
    assert_eq!(reply, Some((7, 200 * MS + BASE + 2 * 84_000)));
}

#[test]
fn the_result_does_not_depend_on_how_often_time_is_advanced() {
    let outcome = |step: Nanos| {
        let mut options = SaturatedLinkOptions::new(
            CapacitySchedule::steps(&[
                (Duration::ZERO, 20_000_000),
                (Duration::from_millis(333), 5_000_000),
            ]),
            CapacitySchedule::constant(5_000_000),
        );
        options.jitter = Duration::from_millis(3);
        options.seed = 42;
        let mut link = SaturatedLink::new(options);
        link.set_shaper_rate(0, Direction::Download, 18_000_000);
        Direction::BOTH.into_iter().for_each(|direction| link.set_load(0, direction, true));
        for now in (0..=NANOS_PER_SECOND).step_by(step as usize) {
            if now.is_multiple_of(100 * MS) {
                link.send_probe(now, now);
            }
            link.advance(now);
        }
        let late = 9 * NANOS_PER_SECOND;
        link.advance(late);
        let replies: Vec<_> = std::iter::from_fn(|| link.pop_reply(late)).collect();
        (replies, link.stats(Direction::Download), link.stats(Direction::Upload))
    };
    let coarse = outcome(100 * MS);
    assert_eq!(coarse.0.len(), 11);
    assert_eq!(coarse, outcome(MS));
    assert_eq!(coarse, outcome(100_000));
}

#[test]
fn jitter_stays_within_its_bound_and_follows_the_seed() {
    let rtts = |seed| {
        let constant = CapacitySchedule::constant;
        let mut options =
            SaturatedLinkOptions::new(constant(1_000_000_000), constant(1_000_000_000));
        options.jitter = Duration::from_millis(5);
        options.seed = seed;
        let replies = run(&mut SaturatedLink::new(options), 0, 5 * NANOS_PER_SECOND);
        replies.iter().map(ProbeReply::rtt).collect::<Vec<_>>()
    };
    let first = rtts(1);
    assert!(first.iter().all(|&rtt| (BASE..BASE + 6 * MS).contains(&rtt)));
    assert!(first.iter().max() > first.iter().min());
    assert_eq!(first, rtts(1));
    assert_ne!(first, rtts(2));
}
