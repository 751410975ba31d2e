//! Which direction a delay comes from, where reflectors tell when a probe reached them.
//!
//! Their clocks are not ours, so a one-way delay means nothing by itself, but its rise above the lowest
//! of the last half minute does: an offset cancels out, and a drift of 50 ppm adds 1.5 ms at most.
//! What both directions have risen must be what the round trip has risen; otherwise a clock was set
//! or is being slewed, and that reflector has no say until it makes sense again.

use serde::{Deserialize, Serialize};

use super::signal::Round;
use crate::divide::quotient;
use crate::places::Empty;
use crate::tick::{MAX_REFLECTORS, RttSample};
use crate::units::{Direction, PerDirection, ReflectorId};

/// Number of parts of the window of lowest delays.
const PARTS: usize = 3;
/// Length of one part.
const PART_US: i64 = 10_000_000;
/// An answer older than this says nothing about the queue of now.
const RECENT_US: i64 = 200_000;
/// How far the sum of both rises may be from the rise of the round trip: a reflector's clock counts
/// whole milliseconds, twice, and drifts.
const ODD_US: i64 = 4_000;
/// A direction is told apart by this much at least; less has no proportion.
const APART_US: i64 = 4_000;
/// So many odd answers in a row are a clock that was set: the lowest delays are void.
const ODD_MAX: u8 = 10;

/// The lowest of the last half minute, per ten seconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Lowest([i32; PARTS]);

impl Lowest {
    const fn new() -> Self {
        Self([i32::MAX; PARTS])
    }

    /// Takes a delay; returns by how much it is above the lowest.
    fn rise(&mut self, delay_us: i64, part: usize) -> i64 {
        let delay = i32::try_from(delay_us).unwrap_or(i32::MAX);
        if let Some(part) = self.0.get_mut(part) {
            *part = delay.min(*part);
        }
        let lowest = self.0.iter().copied().min().unwrap_or(delay);
        i64::from(delay).saturating_sub(i64::from(lowest))
    }

    fn forget(&mut self, part: usize) {
        if let Some(part) = self.0.get_mut(part) {
            *part = i32::MAX;
        }
    }
}

/// One reflector.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Reflector {
    lowest: PerDirection<Lowest>,
    round_trip: Lowest,
    part: u8,
    since_us: Option<i64>,
    odd: u8,
    /// What the newest answer that makes sense says, and when it came.
    rise_us: PerDirection<i32>,
    arrived_us: Option<i64>,
}

impl Empty for Reflector {
    const EMPTY: Self = {
        let none = Lowest([0; PARTS]);
        Self {
            lowest: PerDirection { download: none, upload: none },
            round_trip: none,
            part: 0,
            since_us: None,
            odd: 0,
            rise_us: PerDirection { download: 0, upload: 0 },
            arrived_us: None,
        }
    };
}

impl Reflector {
    const fn new() -> Self {
        let none = Lowest::new();
        Self {
            lowest: PerDirection { download: none, upload: none },
            round_trip: none,
            part: 0,
            since_us: None,
            odd: 0,
            rise_us: PerDirection { download: 0, upload: 0 },
            arrived_us: None,
        }
    }

    fn take(&mut self, rtt_us: i64, upload_us: i64, arrived_us: i64) {
        self.turn(arrived_us);
        let part = usize::from(self.part);
        let upload = self.lowest.upload.rise(upload_us, part);
        let download = self.lowest.download.rise(rtt_us.saturating_sub(upload_us), part);
        let round_trip = self.round_trip.rise(rtt_us, part);
        let odd_us = upload.saturating_add(download).saturating_sub(round_trip);
        if odd_us.abs() > ODD_US {
            self.odd = self.odd.saturating_add(1);
            if self.odd >= ODD_MAX {
                *self = Self::new();
            }
            return;
        }
        self.odd = 0;
        let micros = |us: i64| i32::try_from(us).unwrap_or(i32::MAX);
        self.rise_us = PerDirection { download: micros(download), upload: micros(upload) };
        self.arrived_us = Some(arrived_us);
    }

    /// Begins the next part of the window when it is time.
    fn turn(&mut self, now_us: i64) {
        let since_us = *self.since_us.get_or_insert(now_us);
        if now_us.saturating_sub(since_us) < PART_US {
            return;
        }
        self.since_us = Some(now_us);
        let next = usize::from(self.part).saturating_add(1).checked_rem(PARTS).unwrap_or(0);
        self.part = u8::try_from(next).unwrap_or(0);
        for lowest in [&mut self.lowest.download, &mut self.lowest.upload, &mut self.round_trip] {
            lowest.forget(next);
        }
    }
}

/// The one-way delays of one WAN.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct OneWay {
    reflectors: [Reflector; MAX_REFLECTORS],
}

impl Empty for OneWay {
    const EMPTY: Self = Self { reflectors: [Reflector::EMPTY; MAX_REFLECTORS] };
}

impl OneWay {
    pub(super) const fn new() -> Self {
        Self { reflectors: [Reflector::new(); MAX_REFLECTORS] }
    }

    /// Takes one answer.
    pub(super) fn answer(&mut self, sample: &RttSample, now_us: i64) {
        let reflector = self.reflectors.get_mut(usize::from(sample.reflector.0));
        let (Some(reflector), Some(upload)) = (reflector, sample.upload_owd) else { return };
        let rtt_us = i64::try_from(quotient(sample.rtt.get(), 1000)).unwrap_or(i64::MAX);
        let arrived_us = now_us.saturating_sub(i64::from(sample.age_us));
        reflector.take(rtt_us, i64::from(upload.as_micros()), arrived_us);
    }

    /// Forgets a reflector: another host answers in its place.
    pub(super) fn replace(&mut self, reflector: ReflectorId) {
        if let Some(reflector) = self.reflectors.get_mut(usize::from(reflector.0)) {
            *reflector = Reflector::new();
        }
    }

    /// Returns how much of a delay stands in the upload, if what reflectors have told lately explains
    /// that delay. A queue on the line meets every probe, so the least rise of either direction counts.
    /// Probes that are overdue meet the queue told last, if it was clearly one direction's.
    #[inline(never)]
    pub(super) fn upload_share(&self, round: &Round, now_us: i64) -> Option<u8> {
        let delay_us = round.delay_us;
        let is_recent = |reflector: &&Reflector| {
            let arrived_us = reflector.arrived_us;
            arrived_us.is_some_and(|arrived| now_us.saturating_sub(arrived) <= RECENT_US)
        };
        let recent = || self.reflectors.iter().filter(is_recent);
        let least = |rise: fn(&Reflector) -> i32| recent().map(rise).min().map(i64::from);
        let download_us = least(|reflector| reflector.rise_us.download)?;
        let upload_us = least(|reflector| reflector.rise_us.upload)?;
        let sum_us = download_us.saturating_add(upload_us);
        let odd_us = delay_us.saturating_sub(sum_us).abs();
        let is_explained = odd_us <= sum_us.max(ODD_US);
        if round.is_bound && !is_explained {
            return match told_apart(download_us, upload_us)? {
                Direction::Download => Some(0),
                Direction::Upload => Some(Round::WHOLE),
            };
        }
        let (share_us, whole_us) = if sum_us >= APART_US {
            (upload_us, sum_us)
        } else {
            // Too little for a proportion: what is not told is shared.
            let more_us = upload_us.saturating_sub(download_us);
            let upload_us = delay_us.saturating_add(more_us) / 2;
            (upload_us.max(0).min(delay_us), delay_us.max(1))
        };
        let share = share_us.saturating_mul(i64::from(Round::WHOLE)).checked_div(whole_us)?;
        u8::try_from(share).ok().filter(|_| is_explained)
    }
}

/// Returns in which direction nearly all of a delay stands.
pub(super) fn told_apart(download_us: i64, upload_us: i64) -> Option<Direction> {
    let is_more = |one: i64, other: i64| {
        one.saturating_sub(other) >= APART_US && one >= other.saturating_mul(2)
    };
    match (is_more(download_us, upload_us), is_more(upload_us, download_us)) {
        (true, _) => Some(Direction::Download),
        (_, true) => Some(Direction::Upload),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::{RelativeOwd, RttNanos, WanId};

    const TICK_US: i64 = 50_000;

    /// Reflectors whose clocks are off and drift.
    struct Clocks {
        one_way: OneWay,
        now_us: i64,
        offset_us: [i64; MAX_REFLECTORS],
        drift_ppm: i64,
        delay_us: i64,
    }

    impl Clocks {
        fn new(offset_us: [i64; MAX_REFLECTORS], drift_ppm: i64) -> Self {
            Self { one_way: OneWay::new(), now_us: 7_000_000, offset_us, drift_ppm, delay_us: 0 }
        }

        /// Lets time pass with queues of these lengths; answers wobble below 1 ms.
        fn pass(&mut self, ticks: i64, upload_us: i64, download_us: i64) {
            self.delay_us = upload_us + download_us;
            for _ in 0..ticks {
                self.now_us += TICK_US;
                for (number, offset_us) in (0..).zip(self.offset_us) {
                    let wobble_us = self.now_us / 7 * (i64::from(number) + 3) % 900;
                    let there_us = 8_000 + 3_000 * i64::from(number) + upload_us + wobble_us;
                    let rtt_us = there_us + 12_000 + download_us;
                    let sent_us = self.now_us - rtt_us;
                    let clock_us = (sent_us + there_us) * self.drift_ppm / 1_000_000 + offset_us;
                    let read_us = (sent_us + there_us + clock_us).div_euclid(1000) * 1000;
                    let upload_owd = RelativeOwd::from_micros(read_us - sent_us);
                    assert!(upload_owd.is_some(), "{read_us} {sent_us}");
                    let (wan, reflector) = (WanId(0), ReflectorId(number));
                    let rtt = RttNanos::from_micros(u64::try_from(rtt_us).unwrap());
                    let sample = RttSample { wan, reflector, rtt, age_us: 0, upload_owd };
                    self.one_way.answer(&sample, self.now_us);
                }
            }
        }

        fn culprit(&self) -> Option<Direction> {
            self.culprit_at(self.now_us)
        }

        fn culprit_at(&self, now_us: i64) -> Option<Direction> {
            let (sent_us, delay_us) = (now_us, self.delay_us);
            let mut round =
                Round { sent_us, delay_us, voices: 3, is_bound: false, upload_share: None };
            round.upload_share = self.one_way.upload_share(&round, now_us);
            round.culprit()
        }
    }

    fn offsets() -> impl Strategy<Value = [i64; MAX_REFLECTORS]> {
        [-2_000_000..2_000_000_i64, -2_000_000..2_000_000_i64, -2_000_000..2_000_000_i64]
    }

    proptest! {
        /// Against drifts the window is half a minute; the queue comes at its worst moment.
        #[test]
        fn a_queue_is_told_from_one_of_the_other_direction_whatever_the_clocks(
            offset_us in offsets(),
            drift_ppm in -50..=50_i64,
            queue_us in 9_000..400_000_i64,
            quiet in 20..700_i64,
        ) {
            for direction in Direction::BOTH {
                let mut clocks = Clocks::new(offset_us, drift_ppm);
                clocks.pass(quiet, 0, 0);
                prop_assert_eq!(clocks.culprit(), None);
                match direction {
                    Direction::Upload => clocks.pass(2, queue_us, 0),
                    Direction::Download => clocks.pass(2, 0, queue_us),
                }
                prop_assert_eq!(clocks.culprit(), Some(direction));
                clocks.pass(2, queue_us, queue_us);
                prop_assert_eq!(clocks.culprit(), None, "both");
            }
        }

        /// Nobody is accused because a clock was set, be it a reflector's or ours, and soon a queue
        /// is told again.
        #[test]
        fn a_clock_that_is_set_accuses_nobody(
            offset_us in offsets(),
            step_us in prop_oneof![-500_000..-9_000_i64, 9_000..500_000_i64],
            queue_us in 9_000..400_000_i64,
        ) {
            let mut clocks = Clocks::new(offset_us, 0);
            clocks.pass(200, 0, 0);
            clocks.offset_us[1] += step_us;
            for _ in 0..100 {
                clocks.pass(1, 0, 0);
                prop_assert_eq!(clocks.culprit(), None);
            }
            clocks.offset_us.iter_mut().for_each(|offset| *offset += step_us);
            for _ in 0..20 {
                clocks.pass(1, 0, 0);
                prop_assert_eq!(clocks.culprit(), None);
            }
            clocks.pass(2, 0, queue_us);
            prop_assert_eq!(clocks.culprit(), Some(Direction::Download));
        }
    }

    #[test]
    fn reflectors_that_do_not_tell_or_have_not_told_for_long_have_no_say() {
        let mut clocks = Clocks::new([0; MAX_REFLECTORS], 0);
        clocks.pass(100, 0, 0);
        clocks.pass(3, 20_000, 0);
        assert_eq!(clocks.culprit(), Some(Direction::Upload));
        let later_us = clocks.now_us + RECENT_US + 1;
        assert_eq!(clocks.culprit_at(later_us), None);
        let (wan, reflector, rtt) = (WanId(0), ReflectorId(0), RttNanos::from_micros(90_000));
        let sample = RttSample { wan, reflector, rtt, age_us: 0, upload_owd: None };
        clocks.one_way.answer(&sample, later_us);
        assert_eq!(clocks.culprit_at(later_us), None);
    }

    #[test]
    fn a_replaced_reflector_begins_anew() {
        let mut clocks = Clocks::new([0; MAX_REFLECTORS], 0);
        clocks.pass(100, 0, 0);
        clocks.one_way.replace(ReflectorId(1));
        clocks.offset_us[1] = 1_000_000;
        clocks.pass(2, 0, 0);
        clocks.pass(2, 0, 20_000);
        assert_eq!(clocks.culprit(), Some(Direction::Download));
    }
}
