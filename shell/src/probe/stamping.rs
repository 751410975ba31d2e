//! Whether a reflector's ICMP timestamps can be used, found out by asking.
//!
//! Each reflector is tried: one of several probes is a timestamp request, whose loss nobody is told
//! of. Answers that make sense often enough turn all its probes into timestamp requests; a trial that
//! fails is repeated after an hour, for a host does not often learn it.

use wanctl_core::units::RelativeOwd;

use super::icmp::Stamps;

/// One of so many probes is a trial.
const TRIAL_EVERY: u32 = 10;
/// So many answers that make sense end a trial.
const TRIAL_ANSWERS: u32 = 10;
/// So many of another kind, or none at all, end it as well.
const TRIAL_FAILURES: u32 = 4;
/// A failed trial is repeated after this.
const AGAIN_NS: u64 = 3_600_000_000_000;
/// So many timestamp requests in a row without an answer: echo is tried, and a trial made soon.
const SILENT: u32 = 10;
const SOON_NS: u64 = 60_000_000_000;
/// A day: timestamps begin again at midnight, Universal Time.
const DAY_MS: u32 = 86_400_000;
const DAY_US: i64 = 86_400_000_000;
/// A host that takes longer for its answer does not measure the path.
const ANSWER_MAX_MS: u32 = 100;
/// What a one-way delay may vary beyond the round-trip time: two clocks of whole milliseconds.
const SLACK_US: i64 = 10_000;

/// How a probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// By an echo request.
    Echo,
    /// By a timestamp request.
    Timestamp,
    /// By a timestamp request that may well be ignored.
    Trial,
}

/// What has been found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Timestamps are used from now on.
    Usable,
    /// They are not.
    Useless,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Trial { probes: u32, good: u32, failed: u32 },
    Used { unanswered: u32 },
    Echo { until_ns: u64 },
}

/// The least and the most of what was seen.
#[derive(Debug, Clone, Copy)]
struct Range {
    least: i64,
    most: i64,
}

impl Range {
    const NONE: Self = Self { least: i64::MAX, most: i64::MIN };

    fn take(&mut self, value: i64) -> i64 {
        self.least = self.least.min(value);
        self.most = self.most.max(value);
        self.most.saturating_sub(self.least)
    }
}

/// The timestamps of one reflector.
#[derive(Debug)]
pub(crate) struct Stamping {
    state: State,
    /// The reflector's clock less ours when a one-way delay counts as zero, within a day.
    origin_us: Option<i64>,
    seen_owd: Range,
    seen_rtt: Range,
}

impl Stamping {
    pub(crate) const fn new() -> Self {
        Self {
            state: State::Trial { probes: 0, good: 0, failed: 0 },
            origin_us: None,
            seen_owd: Range::NONE,
            seen_rtt: Range::NONE,
        }
    }

    /// Returns whether timestamps are used.
    pub(crate) const fn is_used(&self) -> bool {
        matches!(self.state, State::Used { .. })
    }

    /// Returns how the next probe asks.
    pub(crate) fn next(&mut self, now_ns: u64) -> Manner {
        if matches!(self.state, State::Echo { until_ns } if now_ns >= until_ns) {
            *self = Self::new();
        }
        match &mut self.state {
            State::Used { .. } => Manner::Timestamp,
            State::Echo { .. } => Manner::Echo,
            State::Trial { probes, .. } => {
                *probes = probes.wrapping_add(1);
                if probes.is_multiple_of(TRIAL_EVERY) { Manner::Trial } else { Manner::Echo }
            }
        }
    }

    /// Takes the answer to a timestamp request. Returns the one-way delay if it means anything.
    pub(crate) fn answered(
        &mut self,
        stamps: Stamps,
        sent_ns: u64,
        rtt_ns: u64,
        now_ns: u64,
    ) -> (Option<RelativeOwd>, Option<Finding>) {
        let owd_us = self.owd_us(stamps, sent_ns);
        let rtt_us = i64::try_from(rtt_ns / 1000).unwrap_or(i64::MAX);
        let is_good = owd_us.is_some_and(|owd_us| {
            // Neither way can vary more than the round trip, but for what the clocks add.
            let most_us = self.seen_rtt.take(rtt_us).saturating_add(SLACK_US);
            self.is_used() || self.seen_owd.take(owd_us) <= most_us
        });
        let owd = owd_us.and_then(|owd_us| self.relative(owd_us)).filter(|_| is_good);
        let finding = match &mut self.state {
            State::Trial { good, .. } if is_good => {
                *good += 1;
                let is_enough = *good >= TRIAL_ANSWERS;
                is_enough.then(|| self.become_used())
            }
            State::Used { unanswered } if is_good => {
                *unanswered = 0;
                None
            }
            _ => self.failed(now_ns),
        };
        (owd.filter(|_| self.is_used()), finding)
    }

    /// Takes note that a timestamp request was not answered.
    pub(crate) fn unanswered(&mut self, now_ns: u64) -> Option<Finding> {
        self.failed(now_ns)
    }

    fn become_used(&mut self) -> Finding {
        self.state = State::Used { unanswered: 0 };
        Finding::Usable
    }

    fn failed(&mut self, now_ns: u64) -> Option<Finding> {
        let until_ns = match &mut self.state {
            State::Trial { failed, .. } => {
                *failed += 1;
                (*failed >= TRIAL_FAILURES).then_some(now_ns.saturating_add(AGAIN_NS))
            }
            State::Used { unanswered } => {
                *unanswered += 1;
                (*unanswered >= SILENT).then_some(now_ns.saturating_add(SOON_NS))
            }
            State::Echo { .. } => None,
        }?;
        *self = Self { state: State::Echo { until_ns }, ..Self::new() };
        Some(Finding::Useless)
    }

    /// Returns the reflector's time of arrival less our time of departure, from the origin, if its
    /// stamps are what RFC 792 says.
    fn owd_us(&mut self, stamps: Stamps, sent_ns: u64) -> Option<i64> {
        let Stamps { receive_ms, transmit_ms } = stamps;
        // Other units than milliseconds since midnight have the highest bit set.
        if receive_ms >= DAY_MS || transmit_ms >= DAY_MS {
            return None;
        }
        let took_ms = (transmit_ms + DAY_MS - receive_ms) % DAY_MS;
        if took_ms > ANSWER_MAX_MS {
            return None;
        }
        let sent_us = i64::try_from(sent_ns / 1000).unwrap_or_default();
        let raw_us = (i64::from(receive_ms) * 1000).saturating_sub(sent_us);
        let origin_us = *self.origin_us.get_or_insert(raw_us);
        let from_origin_us = raw_us.saturating_sub(origin_us).rem_euclid(DAY_US);
        let is_before = from_origin_us > DAY_US / 2;
        Some(if is_before { from_origin_us - DAY_US } else { from_origin_us })
    }

    /// Returns the delay as the core takes it. A clock that has run away gets a new origin.
    fn relative(&mut self, owd_us: i64) -> Option<RelativeOwd> {
        let owd = RelativeOwd::from_micros(owd_us);
        if owd.is_none() {
            self.origin_us = None;
        }
        owd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u64 = 50_000_000;

    /// A reflector whose clock is off by `offset_ms`, 8 ms away.
    struct Host {
        stamping: Stamping,
        now_ns: u64,
        offset_ms: u64,
    }

    impl Host {
        fn new(offset_ms: u64) -> Self {
            Self { stamping: Stamping::new(), now_ns: 86_000_000_000_000, offset_ms }
        }

        fn stamps(&self, upload_ns: u64) -> Stamps {
            let at_ms = (self.now_ns + upload_ns) / 1_000_000 + self.offset_ms;
            let receive_ms = u32::try_from(at_ms % u64::from(DAY_MS)).unwrap();
            Stamps { receive_ms, transmit_ms: receive_ms }
        }

        /// Sends one probe with this upload's delay beside 8 ms; returns what it finds.
        fn probe(&mut self, queue_ms: u64) -> (Manner, Option<RelativeOwd>, Option<Finding>) {
            self.now_ns += TICK_NS + 300_000;
            let manner = self.stamping.next(self.now_ns);
            if manner == Manner::Echo {
                return (manner, None, None);
            }
            let upload_ns = (8 + queue_ms) * 1_000_000;
            let (stamps, rtt_ns) = (self.stamps(upload_ns), upload_ns + 8_000_000);
            let (owd, finding) = self.stamping.answered(stamps, self.now_ns, rtt_ns, self.now_ns);
            (manner, owd, finding)
        }

        fn until_used(&mut self) -> u32 {
            for probes in 1..1000 {
                if self.probe(0).2 == Some(Finding::Usable) {
                    return probes;
                }
            }
            panic!("never used");
        }
    }

    #[test]
    fn ten_good_answers_turn_every_probe_into_a_timestamp_request() {
        let mut host = Host::new(0);
        assert_eq!(host.until_used(), TRIAL_EVERY * TRIAL_ANSWERS);
        assert_eq!(host.probe(0).0, Manner::Timestamp);
    }

    #[test]
    fn a_queue_shows_in_the_one_way_delay_whatever_the_clock_and_across_midnight() {
        for offset_ms in [0, 1, 43_000_000, 86_000_000, 86_399_999] {
            let mut host = Host::new(offset_ms);
            // Midnight of the reflector comes in the middle.
            host.now_ns = (86_400_000 * 3 - offset_ms) * 1_000_000 - 20 * 1_000_000_000;
            host.until_used();
            let rest = host.probe(0).1.unwrap().as_micros();
            for _ in 0..1200 {
                let owd = host.probe(40).1.unwrap().as_micros();
                assert!((39_000..=41_000).contains(&(owd - rest)), "{offset_ms}: {owd} {rest}");
            }
        }
    }

    #[test]
    fn a_host_that_ignores_timestamps_is_asked_again_after_an_hour() {
        let mut host = Host::new(0);
        let mut asked = 0;
        for _ in 0..72_000 {
            host.now_ns += TICK_NS;
            if host.stamping.next(host.now_ns) != Manner::Echo {
                asked += 1;
                host.stamping.unanswered(host.now_ns);
            }
        }
        assert_eq!(asked, TRIAL_FAILURES);
        host.now_ns += AGAIN_NS;
        host.until_used();
    }

    #[test]
    fn stamps_that_make_no_sense_are_not_used() {
        let liars: [fn(Stamps) -> Stamps; 5] = [
            |_| Stamps { receive_ms: 0, transmit_ms: 0 },
            |_| Stamps { receive_ms: 77_000, transmit_ms: 77_000 },
            |good| Stamps { receive_ms: good.receive_ms | 0x8000_0000, ..good },
            |good| Stamps { receive_ms: good.receive_ms.swap_bytes(), ..good },
            |good| Stamps { transmit_ms: (good.transmit_ms + 500) % DAY_MS, ..good },
        ];
        for (number, lie) in liars.iter().enumerate() {
            let mut host = Host::new(0);
            let mut findings = Vec::new();
            for _ in 0..300 {
                host.now_ns += TICK_NS;
                if host.stamping.next(host.now_ns) != Manner::Echo {
                    let stamps = lie(host.stamps(8_000_000));
                    let answered =
                        host.stamping.answered(stamps, host.now_ns, 16_000_000, host.now_ns);
                    assert_eq!(answered.0, None, "liar {number}");
                    findings.extend(answered.1);
                }
            }
            assert_eq!(findings, [Finding::Useless], "liar {number}");
        }
    }

    #[test]
    fn one_that_stops_answering_goes_back_to_echo_and_is_tried_soon() {
        let mut host = Host::new(0);
        host.until_used();
        let findings: Vec<_> =
            (0..20).filter_map(|_| host.stamping.unanswered(host.now_ns)).collect();
        assert_eq!(findings, [Finding::Useless]);
        assert_eq!(host.probe(0).0, Manner::Echo);
        host.now_ns += SOON_NS;
        host.until_used();
    }

    #[test]
    fn a_clock_that_was_set_goes_on_from_another_origin() {
        let mut host = Host::new(0);
        host.until_used();
        host.offset_ms = 50_000_000;
        assert_eq!(host.probe(0).1, None);
        let owd = host.probe(0).1.unwrap().as_micros();
        assert!(owd.abs() < 2_000, "{owd}");
    }
}
