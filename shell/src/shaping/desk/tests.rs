use embassy_time::Instant as Now;
use wanctl_core::units::{BitsPerSecond, CommandId};

use super::*;
use crate::shaping::Waited;

fn order(id: u32, wan: u8, direction: Direction, is_cut: bool) -> RateOrder {
    let rate = BitsPerSecond::from_mbps(10);
    RateOrder { id: CommandId(id), wan: WanId(wan), direction, rate, is_cut }
}

fn taken(desk: &Desk) -> Vec<u32> {
    let next = || desk.lock().most_urgent(Instant::now())?.take().map(|it| it.order.id.0);
    std::iter::from_fn(next).collect()
}

fn drained(desk: &Desk) -> Vec<(u32, Outcome)> {
    let mut tick = Tick::new(Now::from_micros(0));
    desk.drain(&mut tick);
    assert_eq!(tick.inputs_dropped, 0);
    tick.replies.iter().map(|reply| (reply.id.0, reply.outcome)).collect()
}

#[test]
fn cuts_come_first_then_the_oldest() {
    let desk = Desk::new();
    desk.give(order(1, 0, Direction::Download, false));
    desk.give(order(2, 0, Direction::Upload, false));
    desk.give(order(3, 1, Direction::Download, true));
    desk.give(order(4, 1, Direction::Upload, true));
    assert_eq!(taken(&desk), [3, 4, 1, 2]);
}

#[test]
fn newer_order_replaces_keeps_the_place_and_answers_the_older() {
    let desk = Desk::new();
    desk.give(order(1, 0, Direction::Download, false));
    desk.give(order(2, 0, Direction::Upload, false));
    desk.give(order(3, 0, Direction::Download, false));
    assert_eq!(drained(&desk), [(1, Outcome::Superseded)]);
    assert_eq!(taken(&desk), [3, 2]);
}

#[test]
fn raise_that_replaces_an_unsent_cut_stays_as_urgent() {
    let desk = Desk::new();
    desk.give(order(1, 0, Direction::Upload, false));
    desk.give(order(2, 0, Direction::Download, true));
    desk.give(order(3, 0, Direction::Download, false));
    assert_eq!(taken(&desk), [3, 1]);
}

#[test]
fn waiting_orders_are_left_alone_after_the_stop() {
    let desk = Desk::new();
    desk.give(order(1, 0, Direction::Download, true));
    desk.stop(Vec::new(), Instant::now());
    assert!(desk.next_work(Instant::now()).is_none());
    assert!(desk.pause(Duration::MAX), "no pause outlasts the stop");
}

#[test]
fn steering_waits_for_cuts_but_not_for_raises() {
    let desk = Desk::new();
    desk.give(order(1, 0, Direction::Download, false));
    desk.give(order(2, 0, Direction::Upload, true));
    desk.give_steering(SteeringOrder { id: CommandId(3), to: Some(WanId(1)) });
    let next = || match desk.next_work(Instant::now()) {
        Some(Work::Write(waiting)) => waiting.order.id.0,
        Some(Work::Steer(waiting)) => waiting.order.id.0,
        other => panic!("{other:?}"),
    };
    assert_eq!([next(), next(), next()], [2, 3, 1]);
}

#[test]
fn an_order_of_a_slot_that_rests_holds_up_neither_the_others_nor_steering() {
    let desk = Desk::new();
    desk.give(order(1, 0, Direction::Upload, true));
    desk.give(order(2, 1, Direction::Download, false));
    desk.give_steering(SteeringOrder { id: CommandId(3), to: None });
    desk.rest(WanId(0), Direction::Upload, Some(Instant::now() + Duration::from_secs(3600)));
    let next = || match desk.next_work(Instant::now()) {
        Some(Work::Write(waiting)) => waiting.order.id.0,
        Some(Work::Steer(waiting)) => waiting.order.id.0,
        Some(Work::Look) => 0,
        other => panic!("{other:?}"),
    };
    assert_eq!([next(), next(), next()], [3, 2, 0]);
    desk.rest(WanId(0), Direction::Upload, Some(Instant::now() + Duration::from_millis(20)));
    // The look is due in an hour: it is the end of the rest that wakes the worker.
    let look_due = Instant::now() + Duration::from_secs(3600);
    assert!(matches!(desk.next_work(look_due), Some(Work::Write(it)) if it.order.id.0 == 1));
}

#[test]
fn a_steering_order_that_is_replaced_is_answered() {
    let desk = Desk::new();
    desk.give_steering(SteeringOrder { id: CommandId(1), to: Some(WanId(1)) });
    desk.give_steering(SteeringOrder { id: CommandId(2), to: None });
    let mut tick = Tick::new(Now::from_micros(0));
    desk.drain(&mut tick);
    let [reply] = tick.steering_replies.as_slice() else { panic!("{tick:?}") };
    assert_eq!((reply.id, reply.succeeded), (CommandId(1), false));
}

#[test]
fn what_has_to_be_written_goes_before_a_look_that_is_due() {
    let desk = Desk::new();
    let due = Instant::now();
    desk.give(order(1, 0, Direction::Download, false));
    assert!(matches!(desk.next_work(due), Some(Work::Write(_))));
    assert!(matches!(desk.next_work(due), Some(Work::Look)));
}

#[test]
fn a_tick_gets_the_latest_counters_once_with_their_age() {
    let desk = Desk::new();
    let counters = |bytes| {
        let waited = Waited { packets: 2, total_us: bytes };
        QueueCounters { bytes, dropped: 2, queued_bytes: 3, queued_packets: 4, waited }
    };
    desk.counted(1, Direction::Upload, counters(10), 1_000_000);
    desk.counted(1, Direction::Upload, counters(11), 2_000_000);
    desk.counted(MAX_WANS, Direction::Upload, counters(12), 2_000_000);
    let mut tick = Tick::new(Now::from_micros(7_500));
    desk.drain(&mut tick);
    let expected = CounterReading {
        wan: WanId(1),
        direction: Direction::Upload,
        delivered_bytes: 11,
        dropped_packets: 2,
        backlog_bytes: 3,
        backlog_packets: 4,
        age_us: 5_500,
        queue_delay_us: Some((10 + 11) / 4),
    };
    assert_eq!(tick.counters.as_slice(), [expected]);
    tick.reset(Now::from_micros(9_000));
    desk.drain(&mut tick);
    assert!(tick.counters.is_empty());
}

#[test]
fn order_for_an_unknown_wan_fails_at_once() {
    let desk = Desk::new();
    desk.give(order(1, 200, Direction::Download, true));
    assert_eq!(drained(&desk), [(1, Outcome::Failed)]);
}

#[test]
fn replies_beyond_one_tick_come_with_the_next() {
    let desk = Desk::new();
    for id in 0..=20 {
        desk.give(order(id, 0, Direction::Download, false));
    }
    assert_eq!(drained(&desk).len(), 16);
    assert_eq!(drained(&desk).len(), 4);
}

#[test]
fn too_many_replies_are_counted() {
    let desk = Desk::new();
    for id in 0..=u32::try_from(REPLIES_MAX).unwrap() + 3 {
        desk.give(order(id, 0, Direction::Download, false));
    }
    let mut tick = Tick::new(Now::from_micros(0));
    desk.drain(&mut tick);
    assert_eq!(tick.inputs_dropped, 3);
}
