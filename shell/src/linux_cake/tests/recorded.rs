//! The files of `../recorded` are what the kernel of Debian's user-mode-linux 6.1.176 was sent and
//! answered, in hexadecimal. `wan0`, interface 2, had `cake bandwidth 20mbit diffserv4 dual-srchost
//! nat docsis` with a TCP upload through it; `ifb4wan`, 3, had `cake bandwidth 50mbit besteffort
//! ingress autorate-ingress`. They are of a little-endian machine.
#![cfg(target_endian = "little")]

use nix::errno::Errno;

use super::super::delay;
use super::super::error::CakeError;
use super::super::events::tells;
use super::super::find::find;
use super::super::wire::{self, Envelope, Message, Qdisc};
use super::{other, qdisc};
use crate::shaping::Waited;

const WAN: (u32, u32) = (2, 0x8001_0000);
const IFB: (u32, u32) = (3, 0x8002_0000);
/// The number of every recorded request.
const SEQUENCE: u32 = 7;

macro_rules! recorded {
    ($name:literal) => {
        bytes(include_str!(concat!("../recorded/", $name, ".hex")))
    };
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u8> = hexadecimal.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn qdiscs(bytes: &[u8]) -> Vec<Qdisc> {
    let envelopes = wire::read(bytes).unwrap();
    let qdisc = |envelope: Envelope| match envelope.message {
        Message::Qdisc(qdisc) => Some(qdisc),
        _ => None,
    };
    envelopes.into_iter().filter_map(qdisc).collect()
}

#[test]
fn requests_are_the_bytes_that_the_kernel_understood() {
    assert_eq!(wire::list_request(SEQUENCE), recorded!("list-request"));
    let (interface, handle) = WAN;
    let request = wire::rate_request(SEQUENCE, interface, handle, 1_875_000);
    assert_eq!(request, recorded!("set-request"));
}

#[test]
fn a_list_is_read_with_rates_options_counters_and_delays() {
    let bytes = recorded!("list");
    let list = qdiscs(&bytes);
    let kinds: Vec<_> = list.iter().map(|qdisc| (qdisc.interface, &*qdisc.kind)).collect();
    assert_eq!(kinds, [(1, "noqueue"), (2, "cake"), (3, "cake")]);
    assert_eq!(wire::read(&bytes).unwrap().last().unwrap().message, Message::End(0));

    let wan = find("wan0", Some(2), &list).unwrap();
    assert_eq!((wan.interface, wan.handle), WAN);
    let cake = &wan.cake;
    assert_eq!(cake.rate_bytes, 2_500_000);
    assert!(!cake.is_autorate && !cake.is_ingress);
    let counters = cake.counters.unwrap();
    assert_eq!((counters.bytes, counters.dropped), (8_652_585, 11));
    assert_eq!((counters.queued_bytes, counters.queued_packets), (0, 0));
    // Bulk, Best Effort, Video, Voice, as `tc -s qdisc` showed them at that moment.
    let delays = cake.tins.iter().map(|tin| (tin.peak_delay_us, tin.average_delay_us));
    assert_eq!(delays.collect::<Vec<_>>(), [(0, 0), (14_000, 7_789), (0, 0), (1, 0)]);
    let packets = cake.tins.iter().map(|tin| (tin.packets, tin.dropped_packets, tin.dropped_acks));
    assert_eq!(packets.collect::<Vec<_>>(), [(0, 0, 0), (5741, 11, 0), (0, 0, 0), (1, 0, 0)]);

    let ifb = find("ifb4wan", Some(3), &list).unwrap();
    assert_eq!((ifb.interface, ifb.handle), IFB);
    assert_eq!(ifb.cake.rate_bytes, 6_250_000);
    assert!(ifb.cake.is_autorate && ifb.cake.is_ingress);
}

#[test]
fn the_answer_to_another_rate_has_the_new_state_and_the_end() {
    let envelopes = wire::read(&recorded!("set-reply")).unwrap();
    let [state, end] = envelopes.as_slice() else { panic!("{envelopes:?}") };
    let Message::Qdisc(qdisc) = &state.message else { panic!("{state:?}") };
    let cake = qdisc.cake.as_ref().unwrap();
    assert_eq!((qdisc.interface, qdisc.handle, cake.rate_bytes), (WAN.0, WAN.1, 1_875_000));
    assert!(cake.counters.is_some());
    assert_eq!(
        (state.sequence, end.sequence, &end.message),
        (SEQUENCE, SEQUENCE, &Message::End(0))
    );
}

#[test]
fn two_readings_tell_how_long_the_packets_between_them_waited() {
    let cake = |bytes: &[u8]| {
        let wan = qdiscs(bytes).into_iter().find(|it| it.interface == WAN.0).unwrap();
        wan.cake.unwrap()
    };
    let now = cake(&recorded!("list"));
    assert_eq!(
        delay::waited(&now, &cake(&recorded!("set-reply"))),
        Waited::default(),
        "no packets"
    );
    let mut before = now.clone();
    before.tins[1].packets -= 100;
    before.tins[1].average_delay_us = 2_000;
    // 100 packets leave (255/256)^100 = 0.676 of the old average: (7789 - 2000 x 0.676) / 0.324.
    let waited = delay::waited(&before, &now);
    assert_eq!((waited.packets, waited.mean_us().unwrap().div_ceil(100)), (100, 199));
}

/// How the kernel ended a request.
fn end_of(bytes: &[u8]) -> Errno {
    match wire::read(bytes).unwrap().as_slice() {
        [Envelope { sequence: SEQUENCE, message: Message::End(error), .. }] => {
            Errno::from_raw(*error)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn refusals_carry_the_error_of_the_system() {
    assert_eq!(end_of(&recorded!("gone-reply")), Errno::ENOENT);
    assert_eq!(end_of(&recorded!("deleted-reply")), Errno::ENOENT);
    assert_eq!(end_of(&recorded!("kind-reply")), Errno::EINVAL);
    assert_eq!(end_of(&recorded!("permission-reply")), Errno::ENODEV);
    assert_eq!(end_of(&recorded!("not-permitted-reply")), Errno::EPERM);
}

#[test]
fn changes_by_others_are_news_and_our_own_are_none() {
    let event = recorded!("set-event");
    let port = wire::read(&event).unwrap()[0].port;
    assert!(tells(&event, port + 1));
    assert!(!tells(&event, port));
    assert!(tells(&recorded!("deleted-event"), port));
    assert!(tells(&event[..event.len() / 2], port), "what was cut counts as a change");
}

#[test]
fn cake_that_interfaces_have_by_default_cannot_be_changed() {
    let list = qdiscs(&recorded!("default-list"));
    let tap = list.iter().find(|qdisc| qdisc.kind == "cake" && qdisc.handle == 0).unwrap();
    let error = find("tap0", Some(tap.interface), &list).unwrap_err();
    assert_eq!(error, CakeError::DefaultCake { interface: "tap0".to_owned() });
}

#[test]
fn other_kinds_and_several_cakes_are_told_apart() {
    let list = [other(4, 0x1_0000, "htb"), qdisc(5, 0x1_0000, 1), qdisc(5, 0xa_0000, 1)];
    let none = find("eth0", Some(4), &list).unwrap_err().to_string();
    assert!(none.starts_with("interface eth0 has no CAKE qdisc but htb"), "{none}");
    let several = find("eth1", Some(5), &list).unwrap_err().to_string();
    assert!(several.contains("has 2 CAKE qdiscs (1:, a:)"), "{several}");
    // Children of a qdisc for several hardware queues have no handle, as those of `mq`.
    let queues = [other(6, 0x1_0000, "cake_mq"), qdisc(6, 0, 1), qdisc(6, 0, 1)];
    let queues = find("eth3", Some(6), &queues).unwrap_err().to_string();
    assert!(
        queues.starts_with("interface eth3 has cake_mq, which is one CAKE for each"),
        "{queues}"
    );
    let nothing = find("eth2", None, &list).unwrap_err().to_string();
    assert!(nothing.contains("no interface \"eth2\"; hint: there are"), "{nothing}");
}

#[test]
fn messages_that_are_cut_or_spoilt_do_no_harm() {
    for whole in [recorded!("set-reply"), recorded!("list"), recorded!("gone-reply")] {
        for length in 0..whole.len() {
            let _ = wire::read(&whole[..length]);
            let mut spoilt = whole.clone();
            spoilt[length] ^= 0xff;
            let _ = wire::read(&spoilt);
        }
    }
}
