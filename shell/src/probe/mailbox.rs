//! What the tick thread and the probe thread hand to each other: bounded, and never allocating.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wanctl_core::tick::{MAX_LOSSES, MAX_REFLECTORS, MAX_REPLACED, MAX_SAMPLES, MAX_WANS};
use wanctl_core::tick::{ProbeLoss, ReplacedReflector, RttSample, Tick};
use wanctl_core::units::{ReflectorId, RelativeOwd, RttNanos, WanId};

use super::status::ProbeCounters;

/// The most probes that wait for the probe thread: four ticks with every reflector of every WAN.
const REQUESTS_MAX: usize = 4 * MAX_WANS * MAX_REFLECTORS;

/// An answered probe with the time of its arrival.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) wan: WanId,
    pub(crate) reflector: ReflectorId,
    pub(crate) rtt: RttNanos,
    pub(crate) received_ns: u64,
    pub(crate) upload_owd: Option<RelativeOwd>,
}

#[derive(Debug)]
struct Boxes {
    requests: VecDeque<(WanId, ReflectorId)>,
    arrivals: VecDeque<Arrival>,
    losses: VecDeque<ProbeLoss>,
    replaced: VecDeque<ReplacedReflector>,
    dropped: u16,
    /// WANs whose sockets shall be opened anew.
    renewals: [bool; MAX_WANS],
    counters: [ProbeCounters; MAX_WANS],
    stop: bool,
}

/// The mailboxes of both directions behind one lock, which is never held across a system call.
#[derive(Debug)]
pub(crate) struct Mailbox(Mutex<Boxes>);

impl Mailbox {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Boxes {
            requests: VecDeque::with_capacity(REQUESTS_MAX),
            arrivals: VecDeque::with_capacity(MAX_SAMPLES),
            losses: VecDeque::with_capacity(MAX_LOSSES),
            replaced: VecDeque::with_capacity(MAX_REPLACED),
            dropped: 0,
            renewals: [false; MAX_WANS],
            counters: [ProbeCounters::default(); MAX_WANS],
            stop: false,
        }))
    }

    /// A panic elsewhere leaves the boxes whole: every change to them is one push or pop.
    fn lock(&self) -> MutexGuard<'_, Boxes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn request(&self, wan: WanId, reflector: ReflectorId) {
        let mut boxes = self.lock();
        if boxes.requests.len() == REQUESTS_MAX {
            boxes.dropped = boxes.dropped.saturating_add(1);
        } else {
            boxes.requests.push_back((wan, reflector));
        }
    }

    pub(crate) fn next_request(&self) -> Option<(WanId, ReflectorId)> {
        self.lock().requests.pop_front()
    }

    /// Hands over an answer. Of too many the newest are worth most, so the oldest is dropped.
    pub(crate) fn arrived(&self, arrival: Arrival) {
        let mut boxes = self.lock();
        if boxes.arrivals.len() == MAX_SAMPLES {
            boxes.arrivals.pop_front();
            boxes.dropped = boxes.dropped.saturating_add(1);
        }
        boxes.arrivals.push_back(arrival);
    }

    /// Hands over a loss; drops the oldest of too many.
    pub(crate) fn lost(&self, wan: WanId, reflector: ReflectorId) {
        let mut boxes = self.lock();
        if boxes.losses.len() == MAX_LOSSES {
            boxes.losses.pop_front();
            boxes.dropped = boxes.dropped.saturating_add(1);
        }
        boxes.losses.push_back(ProbeLoss { wan, reflector });
    }

    /// Tells that another host answers under this number: what the old one has said is void.
    pub(crate) fn replaced(&self, wan: WanId, reflector: ReflectorId) {
        let replaced = ReplacedReflector { wan, reflector };
        let mut boxes = self.lock();
        boxes.arrivals.retain(|arrival| (arrival.wan, arrival.reflector) != (wan, reflector));
        boxes.losses.retain(|loss| (loss.wan, loss.reflector) != (wan, reflector));
        if !boxes.replaced.contains(&replaced) {
            boxes.replaced.push_back(replaced);
        }
    }

    pub(crate) fn drain(&self, tick: &mut Tick) {
        let mut boxes = self.lock();
        while let Some(replaced) = boxes.replaced.pop_front() {
            tick.push_replaced(replaced);
        }
        while let Some(arrival) = boxes.arrivals.pop_front() {
            let age_us = tick.now.as_micros().saturating_sub(arrival.received_ns / 1000);
            tick.push_sample(RttSample {
                wan: arrival.wan,
                reflector: arrival.reflector,
                rtt: arrival.rtt,
                age_us: u32::try_from(age_us).unwrap_or(u32::MAX),
                upload_owd: arrival.upload_owd,
            });
        }
        while let Some(loss) = boxes.losses.pop_front() {
            tick.push_loss(loss);
        }
        tick.inputs_dropped = tick.inputs_dropped.saturating_add(boxes.dropped);
        boxes.dropped = 0;
    }

    /// Asks for a new socket of a WAN.
    pub(crate) fn renew(&self, wan: WanId) {
        if let Some(renewal) = self.lock().renewals.get_mut(usize::from(wan.0)) {
            *renewal = true;
        }
    }

    /// Returns whether a new socket was asked for, once.
    pub(crate) fn take_renewal(&self, wan: WanId) -> bool {
        let mut boxes = self.lock();
        let renewal = boxes.renewals.get_mut(usize::from(wan.0));
        renewal.is_some_and(std::mem::take)
    }

    /// Changes the counters of a WAN.
    pub(crate) fn count(&self, wan: WanId, change: impl FnOnce(&mut ProbeCounters)) {
        if let Some(counters) = self.lock().counters.get_mut(usize::from(wan.0)) {
            change(counters);
        }
    }

    /// Returns the counters of all WANs.
    pub(crate) fn counters(&self) -> [ProbeCounters; MAX_WANS] {
        self.lock().counters
    }

    pub(crate) fn stop(&self) {
        self.lock().stop = true;
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stop
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use embassy_time::Instant;

    use super::*;

    const WAN: WanId = WanId(1);

    fn arrival(received_ns: u64) -> Arrival {
        Arrival {
            wan: WAN,
            reflector: ReflectorId(2),
            rtt: RttNanos::new(7),
            received_ns,
            upload_owd: None,
        }
    }

    #[test]
    fn samples_carry_their_age_and_come_once() {
        let mailbox = Mailbox::new();
        mailbox.arrived(arrival(1_000_000));
        mailbox.arrived(arrival(4_000_000)); // after the tick's time was taken
        let mut tick = Tick::new(Instant::from_micros(3_000));
        mailbox.drain(&mut tick);
        let ages: Vec<u32> = tick.samples.iter().map(|sample| sample.age_us).collect();
        assert_eq!(ages, [2_000, 0]);
        let mut next = Tick::new(Instant::from_micros(5_000));
        mailbox.drain(&mut next);
        assert_eq!(next, Tick::new(Instant::from_micros(5_000)));
    }

    #[test]
    fn overflow_keeps_the_newest_and_is_counted_once() {
        let mailbox = Mailbox::new();
        for number in 0..MAX_SAMPLES + 2 {
            mailbox.arrived(arrival(number as u64 * 1000));
            mailbox.lost(WAN, ReflectorId(0));
        }
        for _ in 0..=REQUESTS_MAX {
            mailbox.request(WAN, ReflectorId(0));
        }
        let now = Instant::from_micros(MAX_SAMPLES as u64 + 1);
        let mut tick = Tick::new(now);
        mailbox.drain(&mut tick);
        assert_eq!(tick.inputs_dropped, 5);
        assert_eq!(tick.samples.last().unwrap().age_us, 0, "the newest is there");
        tick.reset(now);
        mailbox.drain(&mut tick);
        assert_eq!(tick.inputs_dropped, 0);
    }

    #[test]
    fn what_a_replaced_reflector_has_said_is_void() {
        let mailbox = Mailbox::new();
        mailbox.arrived(arrival(1_000));
        mailbox.arrived(Arrival { reflector: ReflectorId(1), ..arrival(1_000) });
        mailbox.lost(WAN, ReflectorId(2));
        mailbox.replaced(WAN, ReflectorId(2));
        mailbox.replaced(WAN, ReflectorId(2));
        let mut tick = Tick::new(Instant::from_micros(5));
        mailbox.drain(&mut tick);
        let replaced = ReplacedReflector { wan: WAN, reflector: ReflectorId(2) };
        assert_eq!(tick.replaced.as_slice(), [replaced]);
        let from: Vec<u8> = tick.samples.iter().map(|sample| sample.reflector.0).collect();
        assert_eq!((from, tick.losses.len()), (vec![1], 0));
    }

    #[test]
    fn poisoned_lock_still_serves() {
        let mailbox = Arc::new(Mailbox::new());
        let other = Arc::clone(&mailbox);
        let panicked = std::thread::spawn(move || {
            let _guard = other.lock();
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        mailbox.request(WAN, ReflectorId(0));
        assert_eq!(mailbox.next_request(), Some((WAN, ReflectorId(0))));
    }
}
