//! The probes of one WAN that wait for their answer.

use std::net::Ipv4Addr;

use wanctl_core::units::{ReflectorId, RttNanos};

/// The most probes of one WAN that can wait at once: three reflectors at 20 Hz for four seconds.
/// A power of two, so that sequence numbers fall into slots without a gap at their wrap.
pub(crate) const OUTSTANDING_MAX: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Probe {
    sequence: u16,
    reflector: ReflectorId,
    address: Ipv4Addr,
    sent_ns: u64,
}

/// A table of fixed size; time is passed in, in ns of [`crate::clock::now_nanos`].
#[derive(Debug)]
pub(crate) struct Outstanding {
    slots: [Option<Probe>; OUTSTANDING_MAX],
    next_sequence: u16,
    timeout_ns: u64,
}

impl Outstanding {
    pub(crate) const fn new(first_sequence: u16, timeout_ns: u64) -> Self {
        Self { slots: [None; OUTSTANDING_MAX], next_sequence: first_sequence, timeout_ns }
    }

    /// Notes a probe that leaves now. Returns its sequence number, and the reflector of the oldest
    /// probe if that had to give way: it is lost.
    pub(crate) fn open(
        &mut self,
        reflector: ReflectorId,
        address: Ipv4Addr,
        now_ns: u64,
    ) -> (u16, Option<ReflectorId>) {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        let probe = Probe { sequence, reflector, address, sent_ns: now_ns };
        let evicted = self.slots[slot_of(sequence)].replace(probe);
        (sequence, evicted.map(|probe| probe.reflector))
    }

    /// Closes the probe with this answer: returns the reflector and the round-trip time. `None`
    /// for everything nobody waits for: unknown, answered before, from a wrong address, too late.
    pub(crate) fn answer(
        &mut self,
        sequence: u16,
        from: Ipv4Addr,
        now_ns: u64,
    ) -> Option<(ReflectorId, RttNanos)> {
        let slot = &mut self.slots[slot_of(sequence)];
        let probe = slot.filter(|probe| probe.sequence == sequence && probe.address == from)?;
        let rtt_ns = now_ns.saturating_sub(probe.sent_ns);
        if rtt_ns >= self.timeout_ns {
            return None;
        }
        *slot = None;
        Some((probe.reflector, RttNanos::new(rtt_ns)))
    }

    /// Forgets a probe that could not be sent.
    pub(crate) fn cancel(&mut self, sequence: u16) {
        let slot = &mut self.slots[slot_of(sequence)];
        if slot.is_some_and(|probe| probe.sequence == sequence) {
            *slot = None;
        }
    }

    /// Removes every probe whose time is over and names its reflector, oldest first.
    pub(crate) fn expire(&mut self, now_ns: u64, mut lost: impl FnMut(ReflectorId)) {
        for age in 0..OUTSTANDING_MAX {
            let slot = &mut self.slots[(slot_of(self.next_sequence) + age) % OUTSTANDING_MAX];
            let is_over = |probe: &Probe| now_ns.saturating_sub(probe.sent_ns) >= self.timeout_ns;
            if let Some(probe) = slot.take_if(|probe| is_over(probe)) {
                lost(probe.reflector);
            }
        }
    }

    /// Returns when the next probe expires.
    pub(crate) fn next_expiry_ns(&self) -> Option<u64> {
        let oldest = self.slots.iter().flatten().map(|probe| probe.sent_ns).min()?;
        Some(oldest.saturating_add(self.timeout_ns))
    }
}

fn slot_of(sequence: u16) -> usize {
    usize::from(sequence) % OUTSTANDING_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT_NS: u64 = 1_000;
    const FIRST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    const R0: ReflectorId = ReflectorId(0);
    const R1: ReflectorId = ReflectorId(1);

    fn table() -> Outstanding {
        Outstanding::new(65_534, TIMEOUT_NS)
    }

    fn lost_at(table: &mut Outstanding, now_ns: u64) -> Vec<u8> {
        let mut lost = Vec::new();
        table.expire(now_ns, |reflector| lost.push(reflector.0));
        lost
    }

    #[test]
    fn answer_is_matched_once() {
        let mut table = table();
        let (sequence, _) = table.open(R1, FIRST, 100);
        assert_eq!(table.answer(sequence, FIRST, 350), Some((R1, RttNanos::new(250))));
        assert_eq!(table.answer(sequence, FIRST, 360), None, "a duplicate");
        assert!(lost_at(&mut table, 10_000).is_empty(), "answered is not lost");
    }

    #[test]
    fn answers_out_of_order_find_their_probe() {
        let mut table = table();
        let (first, _) = table.open(R0, FIRST, 100);
        let (second, _) = table.open(R1, OTHER, 110);
        assert_eq!(table.answer(second, OTHER, 200), Some((R1, RttNanos::new(90))));
        assert_eq!(table.answer(first, FIRST, 200), Some((R0, RttNanos::new(100))));
    }

    #[test]
    fn wrong_sender_and_unknown_sequence_change_nothing() {
        let mut table = table();
        let (sequence, _) = table.open(R0, FIRST, 100);
        assert_eq!(table.answer(sequence, OTHER, 200), None);
        assert_eq!(table.answer(sequence.wrapping_add(256), FIRST, 200), None, "same slot");
        assert!(table.answer(sequence, FIRST, 200).is_some());
    }

    #[test]
    fn silence_is_one_loss_at_the_timeout() {
        let mut table = table();
        let (sequence, _) = table.open(R0, FIRST, 100);
        assert!(lost_at(&mut table, 1_099).is_empty());
        assert_eq!(lost_at(&mut table, 1_100), [0]);
        assert!(lost_at(&mut table, 1_200).is_empty(), "lost once");
        assert_eq!(table.answer(sequence, FIRST, 1_300), None, "an answer after the loss");
    }

    #[test]
    fn late_answer_is_a_loss_even_before_the_sweep() {
        let mut table = table();
        let (sequence, _) = table.open(R0, FIRST, 100);
        assert_eq!(table.answer(sequence, FIRST, 1_100), None);
        assert_eq!(lost_at(&mut table, 1_100), [0]);
    }

    #[test]
    fn cancelled_probe_is_neither_answered_nor_lost() {
        let mut table = table();
        let (sequence, _) = table.open(R0, FIRST, 100);
        table.cancel(sequence);
        assert_eq!(table.answer(sequence, FIRST, 200), None);
        assert!(lost_at(&mut table, 10_000).is_empty());
    }

    #[test]
    fn losses_come_oldest_first_across_the_wrap_of_the_sequence() {
        let mut table = table();
        for reflector in 0..4 {
            table.open(ReflectorId(reflector), FIRST, 100);
        }
        assert_eq!(lost_at(&mut table, 1_100), [0, 1, 2, 3]);
    }

    #[test]
    fn full_table_gives_up_its_oldest_probe() {
        let mut table = table();
        let (oldest, _) = table.open(R1, FIRST, 0);
        for now_ns in 1..256 {
            assert_eq!(table.open(R0, FIRST, now_ns).1, None);
        }
        assert_eq!(table.open(R0, FIRST, 256).1, Some(R1));
        assert_eq!(table.answer(oldest, FIRST, 300), None);
    }

    #[test]
    fn next_expiry_belongs_to_the_oldest_probe() {
        let mut table = table();
        assert_eq!(table.next_expiry_ns(), None);
        let (first, _) = table.open(R0, FIRST, 100);
        table.open(R0, FIRST, 200);
        assert_eq!(table.next_expiry_ns(), Some(1_100));
        table.answer(first, FIRST, 300);
        assert_eq!(table.next_expiry_ns(), Some(1_200));
    }
}
