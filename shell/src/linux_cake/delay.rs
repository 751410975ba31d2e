//! How long packets have been waiting in CAKE: from the averages it keeps to those packets that left
//! between two readings.
//!
//! CAKE keeps an average per tin that moves by 1/256 of each packet that leaves (`cake_ewma` in
//! `sch_cake.c`). A tin that carries little keeps its average for seconds, one without packets for ever. But of
//! two readings with `n` packets between them the newer one is `old x kept + mean x (1 - kept)` with `kept` =
//! (255/256)^n, whatever these packets waited; so their mean, in which the latest ones count most, can be told.

use super::cake::{Cake, Tin};
use crate::shaping::Waited;

/// One, with 32 fraction bits.
const ONE: u64 = 1 << 32;
/// By so many packets an average is renewed but for a ten-millionth.
const RENEWED: u32 = 4096;
/// More packets than this have not left between two readings: the counters have begun again.
const PACKETS_MAX: u32 = 1 << 30;

/// Returns what the packets that left between two readings had waited; no packets if that cannot be
/// told.
pub(super) fn waited(before: &Cake, now: &Cake) -> Waited {
    if before.tins.len() != now.tins.len() {
        return Waited::default();
    }
    let mut waited = Waited::default();
    for (old, new) in before.tins.iter().zip(&now.tins) {
        let packets = left(now, new).wrapping_sub(left(before, old));
        if packets <= PACKETS_MAX {
            let mean_us = mean_us(old.average_delay_us, new.average_delay_us, packets);
            waited.add(Waited { packets, total_us: mean_us.saturating_mul(packets.into()) });
        }
    }
    waited
}

/// Returns how many packets of a tin have left, from an arbitrary origin: those that came, without
/// what was dropped and what still waits.
fn left(cake: &Cake, tin: &Tin) -> u32 {
    let counters = cake.counters.unwrap_or_default();
    // CAKE tells how many packets wait in all tins, and how many bytes in each.
    let of_tin = u64::from(tin.backlog_bytes) * u64::from(counters.queued_packets);
    let waiting = of_tin.checked_div(counters.queued_bytes.into()).unwrap_or_default();
    let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
    let lost = tin.dropped_packets.wrapping_add(tin.dropped_acks);
    tin.packets.wrapping_sub(lost).wrapping_sub(waiting)
}

/// Returns the mean of the `packets` that have moved an average.
fn mean_us(old: u32, new: u32, packets: u32) -> u64 {
    let mut kept = ONE;
    for _ in 0..packets.min(RENEWED) {
        kept -= kept >> 8;
    }
    let (old, new) = (u64::from(old) * kept, u64::from(new) * ONE);
    new.saturating_sub(old).checked_div(ONE - kept).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaping::QueueCounters;

    /// CAKE as the kernel keeps it, in ns.
    struct Kernel {
        cake: Cake,
        averages_ns: Vec<u64>,
    }

    impl Kernel {
        fn new(tins: usize) -> Self {
            let cake = Cake {
                rate_bytes: 0,
                is_autorate: false,
                is_ingress: true,
                counters: Some(QueueCounters::default()),
                tins: vec![Tin::default(); tins],
            };
            Self { cake, averages_ns: vec![0; tins] }
        }

        fn leaves(&mut self, tin: usize, waited_us: u64) {
            let average = &mut self.averages_ns[tin];
            *average -= *average >> 8;
            *average += (waited_us * 1000) >> 8;
            let average_us = u32::try_from(*average / 1000).unwrap();
            let tin = &mut self.cake.tins[tin];
            tin.packets = tin.packets.wrapping_add(1);
            tin.average_delay_us = average_us;
        }
    }

    fn mean(before: &Cake, kernel: &Kernel) -> Option<u32> {
        waited(before, &kernel.cake).mean_us()
    }

    #[test]
    fn the_packets_between_two_readings_count_and_those_before_do_not() {
        let mut kernel = Kernel::new(1);
        for _ in 0..5000 {
            kernel.leaves(0, 20_000);
        }
        let busy = kernel.cake.clone();
        assert!(busy.tins[0].average_delay_us > 19_000);
        assert_eq!(mean(&busy, &kernel), None, "nothing has left");
        for _ in 0..10 {
            kernel.leaves(0, 100);
        }
        assert!(
            kernel.cake.tins[0].average_delay_us > 18_000,
            "the average is still that of before"
        );
        let now = mean(&busy, &kernel).unwrap();
        assert!((50..=150).contains(&now), "{now}");
        let calm = kernel.cake.clone();
        for _ in 0..10 {
            kernel.leaves(0, 8_000);
        }
        let now = mean(&calm, &kernel).unwrap();
        assert!((7_900..=8_100).contains(&now), "{now}");
    }

    #[test]
    fn tins_count_by_their_packets_and_one_without_does_not() {
        let mut kernel = Kernel::new(3);
        for _ in 0..3000 {
            kernel.leaves(0, 50_000);
        }
        let before = kernel.cake.clone();
        for _ in 0..30 {
            kernel.leaves(1, 9_000);
        }
        for _ in 0..10 {
            kernel.leaves(2, 1_000);
        }
        let now = mean(&before, &kernel).unwrap();
        assert!((6_900..=7_100).contains(&now), "{now}");
    }

    #[test]
    fn what_was_dropped_or_still_waits_has_not_left() {
        let mut kernel = Kernel::new(1);
        kernel.cake.tins[0].packets = u32::MAX - 3;
        let before = kernel.cake.clone();
        for _ in 0..20 {
            kernel.leaves(0, 4_000);
        }
        let tin = &mut kernel.cake.tins[0];
        tin.packets = tin.packets.wrapping_add(7 + 2 + 11);
        (tin.dropped_packets, tin.dropped_acks, tin.backlog_bytes) = (7, 2, 11_000);
        let counters =
            QueueCounters { queued_bytes: 11_000, queued_packets: 11, ..QueueCounters::default() };
        kernel.cake.counters = Some(counters);
        assert_eq!(waited(&before, &kernel.cake).packets, 20);
        let now = mean(&before, &kernel).unwrap();
        assert!((3_900..=4_100).contains(&now), "{now}");
    }

    #[test]
    fn counters_that_begin_again_tell_nothing() {
        let mut kernel = Kernel::new(1);
        for _ in 0..500 {
            kernel.leaves(0, 4_000);
        }
        let fresh = Kernel::new(1);
        assert_eq!(mean(&kernel.cake, &fresh), None);
        assert_eq!(mean(&kernel.cake, &Kernel::new(4)), None, "another set of tins");
    }
}
