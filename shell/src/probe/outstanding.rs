//! The probes of one reflector that wait for their answer.

use wanctl_core::units::RttNanos;

/// The most probes of one reflector that are remembered: at 20 Hz more than six seconds.
/// A power of two, so that sequence numbers fall into slots without a gap at their wrap.
pub(crate) const OUTSTANDING_MAX: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Answered,
    Lost,
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    sequence: u16,
    sent_ns: u64,
    state: State,
}

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The first one, in time.
    InTime(RttNanos),
    /// One to a probe that was given up.
    Late,
    /// One more to a probe that was answered.
    Duplicate,
    /// One to a probe that was never sent or is long forgotten.
    Unknown,
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

    /// Notes a probe that leaves now. Returns its sequence number, and whether the oldest probe
    /// had to give way while it waited: it is lost.
    pub(crate) fn open(&mut self, now_ns: u64) -> (u16, bool) {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        let probe = Probe { sequence, sent_ns: now_ns, state: State::Waiting };
        let evicted = self.slots[slot_of(sequence)].replace(probe);
        (sequence, evicted.is_some_and(|probe| probe.state == State::Waiting))
    }

    /// Takes an answer that arrived then. A late one is noted when the probe expires.
    pub(crate) fn answer(&mut self, sequence: u16, received_ns: u64) -> Answer {
        let timeout_ns = self.timeout_ns;
        let Some(probe) = self.find(sequence) else { return Answer::Unknown };
        // Clocks of two processors may differ by some ns: an answer is not older than its probe.
        let rtt_ns = received_ns.saturating_sub(probe.sent_ns);
        match probe.state {
            State::Waiting if rtt_ns < timeout_ns => {}
            State::Waiting | State::Lost => return Answer::Late,
            State::Answered => return Answer::Duplicate,
        }
        probe.state = State::Answered;
        Answer::InTime(RttNanos::new(rtt_ns))
    }

    /// Gives up a probe because of an error; returns whether it was waiting.
    pub(crate) fn give_up(&mut self, sequence: u16) -> bool {
        match self.find(sequence) {
            Some(probe) if probe.state == State::Waiting => {
                probe.state = State::Lost;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Gives up every probe whose time is over; returns how many.
    pub(crate) fn expire(&mut self, now_ns: u64) -> usize {
        let is_over = |probe: &Probe| {
            probe.state == State::Waiting && now_ns.saturating_sub(probe.sent_ns) >= self.timeout_ns
        };
        let over = self.slots.iter_mut().flatten().filter(|probe| is_over(probe));
        over.map(|probe| probe.state = State::Lost).count()
    }

    /// Returns when the next probe expires.
    pub(crate) fn next_expiry_ns(&self) -> Option<u64> {
        let waiting = self.slots.iter().flatten().filter(|probe| probe.state == State::Waiting);
        let oldest = waiting.map(|probe| probe.sent_ns).min()?;
        Some(oldest.saturating_add(self.timeout_ns))
    }

    fn find(&mut self, sequence: u16) -> Option<&mut Probe> {
        self.slots[slot_of(sequence)].as_mut().filter(|probe| probe.sequence == sequence)
    }
}

fn slot_of(sequence: u16) -> usize {
    usize::from(sequence) % OUTSTANDING_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT_NS: u64 = 1_000;

    fn table() -> Outstanding {
        Outstanding::new(65_534, TIMEOUT_NS)
    }

    fn in_time(ns: u64) -> Answer {
        Answer::InTime(RttNanos::new(ns))
    }

    #[test]
    fn the_first_answer_counts_and_the_next_is_a_duplicate() {
        let mut table = table();
        let (sequence, _) = table.open(100);
        assert_eq!(table.answer(sequence, 350), in_time(250));
        assert_eq!(table.answer(sequence, 360), Answer::Duplicate);
        assert_eq!(table.expire(10_000), 0, "answered is not lost");
    }

    #[test]
    fn answers_out_of_order_find_their_probe() {
        let mut table = table();
        let (first, _) = table.open(100);
        let (second, _) = table.open(110);
        assert_eq!(table.answer(second, 200), in_time(90));
        assert_eq!(table.answer(first, 200), in_time(100));
    }

    #[test]
    fn an_unknown_sequence_changes_nothing() {
        let mut table = table();
        let (sequence, _) = table.open(100);
        assert_eq!(table.answer(sequence.wrapping_add(128), 200), Answer::Unknown, "same slot");
        assert_eq!(table.answer(sequence, 200), in_time(100));
    }

    #[test]
    fn silence_is_one_loss_at_the_timeout_and_an_answer_after_it_is_late() {
        let mut table = table();
        let (sequence, _) = table.open(100);
        assert_eq!(table.expire(1_099), 0);
        assert_eq!(table.expire(1_100), 1);
        assert_eq!(table.expire(1_200), 0, "lost once");
        assert_eq!(table.answer(sequence, 1_300), Answer::Late);
    }

    #[test]
    fn a_late_answer_is_a_loss_even_before_the_sweep() {
        let mut table = table();
        let (sequence, _) = table.open(100);
        assert_eq!(table.answer(sequence, 1_100), Answer::Late);
        assert_eq!(table.expire(1_100), 1);
    }

    #[test]
    fn an_error_ends_a_waiting_probe_once() {
        let mut table = table();
        let (sequence, _) = table.open(100);
        assert!(table.give_up(sequence));
        assert!(!table.give_up(sequence));
        assert_eq!(table.expire(10_000), 0);
        let (answered, _) = table.open(100);
        table.answer(answered, 200);
        assert!(!table.give_up(answered));
    }

    #[test]
    fn a_full_table_gives_up_its_oldest_probe_if_it_waits() {
        let mut table = table();
        let (oldest, _) = table.open(0);
        let (second, _) = table.open(0);
        table.answer(second, 1);
        for now_ns in 2..128 {
            assert_eq!(table.open(now_ns), (65_534_u16.wrapping_add(now_ns as u16), false));
        }
        assert!(table.open(128).1);
        assert!(!table.open(129).1, "answered probes give way without a loss");
        assert_eq!(table.answer(oldest, 300), Answer::Unknown);
    }

    #[test]
    fn the_next_expiry_belongs_to_the_oldest_waiting_probe() {
        let mut table = table();
        assert_eq!(table.next_expiry_ns(), None);
        let (first, _) = table.open(100);
        table.open(200);
        assert_eq!(table.next_expiry_ns(), Some(1_100));
        table.answer(first, 300);
        assert_eq!(table.next_expiry_ns(), Some(1_200));
    }
}
