//! Messages against those a Linux 6.1 kernel sent (`recorded`), and the server against a fake kernel.

mod recorded;
mod restarted;
mod served;

use super::cake::Cake;
use super::wire::Qdisc;
use crate::shaping::QueueCounters;

/// A CAKE qdisc as a list has it.
pub(super) fn qdisc(interface: u32, handle: u32, rate_mbps: u64) -> Qdisc {
    let cake = Cake {
        rate_bytes: rate_mbps * 125_000,
        is_autorate: false,
        is_ingress: false,
        counters: Some(QueueCounters {
            bytes: 1,
            dropped: 2,
            queued_bytes: 3,
            queued_packets: 4,
            ..QueueCounters::default()
        }),
        tins: Vec::new(),
    };
    Qdisc { interface, handle, kind: "cake".to_owned(), cake: Some(cake) }
}

/// A qdisc of another kind.
fn other(interface: u32, handle: u32, kind: &str) -> Qdisc {
    Qdisc { interface, handle, kind: kind.to_owned(), cake: None }
}
