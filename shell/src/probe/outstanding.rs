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

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It measures by an echo request; its loss is one.
    Measure,
    /// The same by a timestamp request.
    Stamped,
    /// It tries whether timestamps are answered. An answer measures as well; its loss is none.
    Trial,
    /// It looks whether a spare answers.
    Scout,
}

impl Purpose {
    /// Returns whether it is a timestamp request.
    pub(crate) const fn is_stamped(self) -> bool {
        matches!(self, Self::Stamped | Self::Trial)
    }
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    sequence: u16,
    purpose: Purpose,
    sent_ns: u64,
    state: State,
}

/// An answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timely {
    pub(crate) rtt: RttNanos,
    pub(crate) sent_ns: u64,
    pub(crate) purpose: Purpose,
}

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The first one, in time.
    InTime(Timely),
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
    /// How many wait: the tables of spares need no look.
    waiting: usize,
}

impl Outstanding {
    pub(crate) const fn new(first_sequence: u16, timeout_ns: u64) -> Self {
        let slots = [None; OUTSTANDING_MAX];
        Self { slots, next_sequence: first_sequence, timeout_ns, waiting: 0 }
    }

    /// Notes a probe that leaves now. Returns its sequence number, and the oldest probe if it had to
    /// give way while it waited: it is lost.
    pub(crate) fn open(&mut self, purpose: Purpose, now_ns: u64) -> (u16, Option<Purpose>) {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        let probe = Probe { sequence, purpose, sent_ns: now_ns, state: State::Waiting };
        let evicted = self.slots[slot_of(sequence)].replace(probe);
        let waiting = evicted.filter(|probe| probe.state == State::Waiting);
        if waiting.is_none() {
            self.waiting += 1;
        }
        (sequence, waiting.map(|probe| probe.purpose))
    }

    /// Takes an answer that arrived then, of the kind that was asked for. A late one is noted when the probe expires.
    pub(crate) fn answer(&mut self, sequence: u16, is_stamped: bool, received_ns: u64) -> Answer {
        let timeout_ns = self.timeout_ns;
        let probe = self.find(sequence).filter(|probe| probe.purpose.is_stamped() == is_stamped);
        let Some(probe) = probe else { return Answer::Unknown };
        // Clocks of two processors may differ by some ns: an answer is not older than its probe.
        let rtt_ns = received_ns.saturating_sub(probe.sent_ns);
        match probe.state {
            State::Waiting if rtt_ns < timeout_ns => {}
            State::Waiting | State::Lost => return Answer::Late,
            State::Answered => return Answer::Duplicate,
        }
        probe.state = State::Answered;
        let Probe { sent_ns, purpose, .. } = *probe;
        self.waiting -= 1;
        Answer::InTime(Timely { rtt: RttNanos::new(rtt_ns), sent_ns, purpose })
    }

    /// Gives up a probe because of an error; returns it if it was waiting.
    pub(crate) fn give_up(&mut self, sequence: u16) -> Option<Purpose> {
        let probe = self.find(sequence).filter(|probe| probe.state == State::Waiting)?;
        probe.state = State::Lost;
        let purpose = probe.purpose;
        self.waiting -= 1;
        Some(purpose)
    }

    /// Gives up one probe whose time is over, if there is any.
    pub(crate) fn expire(&mut self, now_ns: u64) -> Option<Purpose> {
        if self.waiting == 0 {
            return None;
        }
        let timeout_ns = self.timeout_ns;
        let is_over = |probe: &&mut Probe| {
            probe.state == State::Waiting && now_ns.saturating_sub(probe.sent_ns) >= timeout_ns
        };
        let probe = self.slots.iter_mut().flatten().find(is_over)?;
        probe.state = State::Lost;
        let purpose = probe.purpose;
        self.waiting -= 1;
        Some(purpose)
    }

    /// Returns when the next probe expires.
    pub(crate) fn next_expiry_ns(&self) -> Option<u64> {
        if self.waiting == 0 {
            return None;
        }
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

    /// An answer to a probe sent at 100 or 110.
    fn in_time(ns: u64, sent_ns: u64) -> Answer {
        Answer::InTime(Timely { rtt: RttNanos::new(ns), sent_ns, purpose: Purpose::Measure })
    }

    #[test]
    fn the_first_answer_counts_and_the_next_is_a_duplicate() {
        let mut table = table();
        let (sequence, _) = table.open(Purpose::Measure, 100);
        assert_eq!(table.answer(sequence, false, 350), in_time(250, 100));
        assert_eq!(table.answer(sequence, false, 360), Answer::Duplicate);
        assert_eq!(table.expire(10_000), None, "answered is not lost");
    }

    #[test]
    fn answers_out_of_order_find_their_probe() {
        let mut table = table();
        let (first, _) = table.open(Purpose::Measure, 100);
        let (second, _) = table.open(Purpose::Measure, 110);
        assert_eq!(table.answer(second, false, 200), in_time(90, 110));
        assert_eq!(table.answer(first, false, 200), in_time(100, 100));
    }

    #[test]
    fn an_unknown_sequence_changes_nothing() {
        let mut table = table();
        let (sequence, _) = table.open(Purpose::Measure, 100);
        assert_eq!(
            table.answer(sequence.wrapping_add(128), false, 200),
            Answer::Unknown,
            "same slot"
        );
        assert_eq!(table.answer(sequence, false, 200), in_time(100, 100));
    }

    #[test]
    fn silence_is_one_loss_at_the_timeout_and_an_answer_after_it_is_late() {
        let mut table = table();
        let (sequence, _) = table.open(Purpose::Measure, 100);
        assert_eq!(table.expire(1_099), None);
        assert_eq!(table.expire(1_100), Some(Purpose::Measure));
        assert_eq!(table.expire(1_200), None, "lost once");
        assert_eq!(table.answer(sequence, false, 1_300), Answer::Late);
    }

    #[test]
    fn a_late_answer_is_a_loss_even_before_the_sweep() {
        let mut table = table();
        let (sequence, _) = table.open(Purpose::Measure, 100);
        assert_eq!(table.answer(sequence, false, 1_100), Answer::Late);
        assert_eq!(table.expire(1_100), Some(Purpose::Measure));
    }

    #[test]
    fn an_error_ends_a_waiting_probe_once() {
        let mut table = table();
        let (sequence, _) = table.open(Purpose::Measure, 100);
        assert_eq!(table.give_up(sequence), Some(Purpose::Measure));
        assert_eq!(table.give_up(sequence), None);
        assert_eq!(table.expire(10_000), None);
        let (answered, _) = table.open(Purpose::Measure, 100);
        table.answer(answered, false, 200);
        assert_eq!(table.give_up(answered), None);
    }

    #[test]
    fn a_full_table_gives_up_its_oldest_probe_if_it_waits() {
        let mut table = table();
        let (oldest, _) = table.open(Purpose::Measure, 0);
        let (second, _) = table.open(Purpose::Measure, 0);
        table.answer(second, false, 1);
        for now_ns in 2..128 {
            assert_eq!(
                table.open(Purpose::Measure, now_ns),
                (65_534_u16.wrapping_add(now_ns as u16), None)
            );
        }
        assert_eq!(table.open(Purpose::Measure, 128).1, Some(Purpose::Measure));
        assert_eq!(
            table.open(Purpose::Measure, 129).1,
            None,
            "answered probes give way without a loss"
        );
        assert_eq!(table.answer(oldest, false, 300), Answer::Unknown);
    }

    #[test]
    fn the_next_expiry_belongs_to_the_oldest_waiting_probe() {
        let mut table = table();
        assert_eq!(table.next_expiry_ns(), None);
        let (first, _) = table.open(Purpose::Measure, 100);
        table.open(Purpose::Measure, 200);
        assert_eq!(table.next_expiry_ns(), Some(1_100));
        table.answer(first, false, 300);
        assert_eq!(table.next_expiry_ns(), Some(1_200));
    }

    #[test]
    fn a_probe_is_answered_only_in_the_manner_it_asks() {
        let mut table = table();
        let (echo, _) = table.open(Purpose::Scout, 100);
        let (stamped, _) = table.open(Purpose::Trial, 100);
        assert_eq!(table.answer(echo, true, 200), Answer::Unknown);
        assert_eq!(table.answer(stamped, false, 200), Answer::Unknown);
        let purpose = Purpose::Trial;
        let timely = Timely { rtt: RttNanos::new(100), sent_ns: 100, purpose };
        assert_eq!(table.answer(stamped, true, 200), Answer::InTime(timely));
        assert_eq!(table.give_up(echo), Some(Purpose::Scout));
    }
}
