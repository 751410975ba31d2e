//! The server's decisions, against a kernel of the test's own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use wanctl_core::tick::{Outcome, Tick};
use wanctl_core::units::{BitsPerSecond, CommandId, Direction, PerDirection, WanId};

use super::super::cake::Cake;
use super::super::error::CakeError;
use super::super::kernel::Qdiscs;
use super::super::memory::{Memory, Role};
use super::super::serve::Server;
use super::super::wire::Qdisc;
use super::{other, qdisc};
use crate::exit::ExitReason;
use crate::shaping::{Backend, BackendStatus, Desk, FinalRate, RateOrder, Worker};
use Direction::{Download, Upload};

pub(super) const IFB: u32 = 3;
pub(super) const WAN: u32 = 2;
pub(super) const HANDLE: u32 = 0x8001_0000;
/// More than any of these tests takes.
const AMPLE: Duration = Duration::from_secs(60);

/// What the fake kernel has.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) interfaces: BTreeMap<String, u32>,
    pub(super) qdiscs: Vec<Qdisc>,
    pub(super) is_forbidden: bool,
    pub(super) refusal: Option<Errno>,
    /// What it makes of rates, in bytes per second.
    rounding: u64,
    /// Rates that were set, in Mbit/s, by interface index.
    writes: Vec<(u32, u64)>,
    looks: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Fake(pub(super) Arc<Mutex<State>>);

impl Fake {
    /// 20 Mbit/s down, 8 up.
    pub(super) fn new() -> Self {
        let interfaces = [("ifb4wan".to_owned(), IFB), ("wan".to_owned(), WAN)].into();
        let qdiscs = vec![qdisc(IFB, HANDLE, 20), qdisc(WAN, HANDLE, 8)];
        let state = State { interfaces, qdiscs, rounding: 1, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn start(&self) -> Worker {
        Worker::start(FakeCake(self.clone(), None)).unwrap()
    }

    pub(super) fn mbps(&self, interface: u32) -> u64 {
        let state = self.state();
        let found = state.qdiscs.iter().find(|qdisc| qdisc.interface == interface).unwrap();
        found.cake.as_ref().unwrap().rate_bytes / 125_000
    }

    pub(super) fn set_mbps(&self, interface: u32, mbps: u64) {
        let mut state = self.state();
        let found = state.qdiscs.iter_mut().find(|qdisc| qdisc.interface == interface).unwrap();
        found.cake.as_mut().unwrap().rate_bytes = mbps * 125_000;
    }

    fn wait(&self, is_so: impl Fn(&State) -> bool) {
        while !is_so(&self.state()) {
            std::thread::yield_now();
        }
    }
}

impl Qdiscs for Fake {
    fn index(&self, interface: &str) -> Option<u32> {
        self.state().interfaces.get(interface).copied()
    }

    fn check_permission(&mut self) -> Result<(), CakeError> {
        if self.state().is_forbidden { Err(CakeError::NotPermitted) } else { Ok(()) }
    }

    fn qdiscs(&mut self) -> Result<Vec<Qdisc>, CakeError> {
        let mut state = self.state();
        state.looks += 1;
        Ok(state.qdiscs.clone())
    }

    fn set_rate(
        &mut self,
        name: &str,
        (index, handle): (u32, u32),
        rate: BitsPerSecond,
    ) -> Result<Cake, CakeError> {
        let interface = name.to_owned();
        let mut state = self.state();
        if let Some(errno) = state.refusal {
            return Err(CakeError::Refused { interface, rate, errno });
        }
        let rounding = state.rounding;
        let found = state.qdiscs.iter_mut().find(|it| (it.interface, it.handle) == (index, handle));
        let Some(cake) = found.and_then(|found| found.cake.as_mut()) else {
            return Err(CakeError::Gone { interface });
        };
        cake.rate_bytes = rate.get() / 8 / rounding * rounding;
        let cake = cake.clone();
        state.writes.push((index, rate.get() / 1_000_000));
        Ok(cake)
    }
}

/// The second is the folder with the rates that were found, if any is kept.
#[derive(Debug)]
pub(super) struct FakeCake(pub(super) Fake, pub(super) Option<(PathBuf, Role)>);

impl Backend for FakeCake {
    fn thread_name(&self) -> &'static str {
        "fake-cake"
    }

    fn run(self, desk: Arc<Desk>) {
        let interfaces = PerDirection { download: "ifb4wan".to_owned(), upload: "wan".to_owned() };
        let interval = Duration::from_millis(1);
        let memory = match self.1 {
            Some((folder, role)) => Memory::open(&folder, role),
            None => Memory::none(Role::Daemon),
        };
        Server::new(self.0, vec![interfaces], interval, Arc::clone(&desk), memory).run();
        desk.end();
    }
}

pub(super) fn order(id: u32, direction: Direction, mbps: u64) -> RateOrder {
    let rate = BitsPerSecond::from_mbps(mbps);
    RateOrder { id: CommandId(id), wan: WanId(0), direction, rate, is_cut: false }
}

/// Waits for the reply to an order.
pub(super) fn reply(worker: &Worker, id: u32) -> Outcome {
    loop {
        let mut tick = Tick::new(crate::clock::now());
        worker.drain(&mut tick);
        if let Some(reply) = tick.replies.iter().find(|reply| reply.id == CommandId(id)) {
            return reply.outcome;
        }
        assert_eq!(worker.fatal(), None, "no further reply will come");
        std::thread::yield_now();
    }
}

fn wait_for(worker: &Worker, is_so: impl Fn(&BackendStatus) -> bool) {
    while !is_so(&worker.status()) {
        std::thread::yield_now();
    }
}

pub(super) fn finish(worker: Worker, rates: Vec<FinalRate>) -> String {
    worker.finish(rates, Instant::now() + AMPLE).to_string()
}

pub(super) const fn rate(direction: Direction, mbps: u64) -> FinalRate {
    (WanId(0), direction, BitsPerSecond::from_mbps(mbps))
}

#[test]
fn a_rate_is_written_read_back_and_the_ones_found_are_put_back() {
    let fake = Fake::new();
    let worker = fake.start();
    worker.set_rate(order(1, Download, 30));
    assert_eq!(reply(&worker, 1), Outcome::Applied(BitsPerSecond::from_mbps(30)));
    worker.set_rate(order(2, Upload, 9));
    reply(&worker, 2);
    assert_eq!((fake.mbps(IFB), fake.mbps(WAN)), (30, 9));
    let found = worker.found();
    assert_eq!(found, [rate(Download, 20), rate(Upload, 8)]);
    let ended = finish(worker, found);
    assert_eq!(ended, "the router holds download 20 Mbit/s, upload 8 Mbit/s");
    assert_eq!((fake.mbps(IFB), fake.mbps(WAN)), (20, 8));
}

#[test]
fn a_rate_that_the_kernel_rounds_is_confirmed_as_it_is_held() {
    let fake = Fake::new();
    fake.state().rounding = 11_000;
    let worker = fake.start();
    worker.set_rate(order(1, Download, 30));
    let held = BitsPerSecond::new(3_740_000 * 8);
    assert_eq!(reply(&worker, 1), Outcome::Applied(held));
    let looks = fake.state().looks;
    fake.wait(|state| state.looks > looks + 3);
    assert_eq!(fake.state().writes.len(), 1, "a rounded rate is not somebody else's");
}

#[test]
fn a_rate_that_the_kernel_makes_another_of_is_a_failure() {
    let fake = Fake::new();
    fake.state().rounding = 1_000_000;
    let worker = fake.start();
    worker.set_rate(order(1, Download, 30));
    assert_eq!(reply(&worker, 1), Outcome::Failed);
    wait_for(&worker, |status| {
        status.to_string().contains("was told 30 Mbit/s and holds 24 Mbit/s")
    });
}

#[test]
fn nothing_is_written_when_anything_is_missing_at_the_start() {
    type Spoil = fn(&mut State);
    let cases: [(Spoil, ExitReason); 4] = [
        (|state| state.is_forbidden = true, ExitReason::NetAdmin),
        (|state| _ = state.interfaces.remove("wan"), ExitReason::InterfaceMissing),
        (|state| state.qdiscs[1] = other(WAN, HANDLE, "htb"), ExitReason::CakeMissing),
        (|state| state.qdiscs.push(qdisc(WAN, 0xa_0000, 1)), ExitReason::CakeMissing),
    ];
    for (spoil, reason) in cases {
        let fake = Fake::new();
        spoil(&mut fake.state());
        let worker = fake.start();
        worker.set_rate(order(1, Download, 30));
        wait_for(&worker, |status| matches!(status, BackendStatus::Failed { .. }));
        assert_eq!(worker.fatal().unwrap().reason, reason);
        drop(worker);
        assert_eq!(fake.state().writes, []);
    }
}

#[test]
fn a_qdisc_that_is_made_anew_takes_our_rate_and_gets_its_own_back_at_the_end() {
    let fake = Fake::new();
    let worker = fake.start();
    worker.set_rate(order(1, Download, 30));
    reply(&worker, 1);
    fake.state().qdiscs.remove(0);
    wait_for(&worker, |status| matches!(status, BackendStatus::Failing { .. }));
    // Another interface index and handle, and another rate than before.
    fake.state().interfaces.insert("ifb4wan".to_owned(), 9);
    fake.state().qdiscs.push(qdisc(9, 0x8005_0000, 25));
    fake.wait(|state| state.writes.contains(&(9, 30)));
    wait_for(&worker, |status| matches!(status, BackendStatus::Ready { .. }));
    let found = worker.found();
    assert!(found.contains(&rate(Download, 25)) && found.contains(&rate(Upload, 8)), "{found:?}");
}

#[test]
fn an_order_for_a_qdisc_that_is_gone_fails_and_a_later_one_succeeds() {
    let fake = Fake::new();
    let worker = fake.start();
    worker.set_rate(order(1, Upload, 9));
    reply(&worker, 1);
    let kept = fake.state().qdiscs.remove(1);
    worker.set_rate(order(2, Upload, 10));
    assert_eq!(reply(&worker, 2), Outcome::Failed);
    fake.state().qdiscs.push(kept);
    worker.set_rate(order(3, Upload, 11));
    assert_eq!(reply(&worker, 3), Outcome::Applied(BitsPerSecond::from_mbps(11)));
    assert_eq!(worker.fatal(), None);
}

#[test]
fn a_qdisc_that_is_gone_does_not_hold_up_the_others() {
    let fake = Fake::new();
    let worker = fake.start();
    worker.set_rate(order(1, Upload, 9));
    reply(&worker, 1);
    let gone = fake.state().qdiscs.remove(1);
    // The upload's order comes first and rests after a failure; only a stall of this thread for as long as
    // that lets it be tried again before the download's is given.
    let is_overtaken = |round: u32| {
        worker.set_rate(order(round, Upload, 9));
        worker.set_rate(order(round + 1, Download, 20 + u64::from(round)));
        loop {
            let mut tick = Tick::new(crate::clock::now());
            worker.drain(&mut tick);
            let mut ended = tick.replies.iter().map(|reply| reply.id);
            if let Some(id) = ended.find(|id| (round..=round + 1).contains(&id.0)) {
                return id.0 == round + 1;
            }
            std::thread::yield_now();
        }
    };
    worker.set_rate(order(2, Upload, 9));
    assert_eq!(reply(&worker, 2), Outcome::Failed);
    assert!((1..20).any(|round| is_overtaken(round * 10)), "the download always waits");
    // Once it is back nothing rests.
    fake.state().qdiscs.push(gone);
    worker.set_rate(order(900, Upload, 12));
    assert_eq!(reply(&worker, 900), Outcome::Applied(BitsPerSecond::from_mbps(12)));
}

#[test]
fn a_refused_rate_fails_and_is_not_taken_for_held() {
    let fake = Fake::new();
    let worker = fake.start();
    fake.state().refusal = Some(Errno::EINVAL);
    worker.set_rate(order(1, Download, 30));
    assert_eq!(reply(&worker, 1), Outcome::Failed);
    assert_eq!(worker.fatal(), None, "others may be accepted");
    let ended = finish(worker, vec![rate(Download, 20)]);
    assert_eq!(ended, "not confirmed by the router: download 20 Mbit/s");
}

#[test]
fn a_shaper_that_refuses_its_rates_is_failing_until_it_takes_one() {
    let fake = Fake::new();
    let worker = fake.start();
    worker.set_rate(order(1, Download, 30));
    reply(&worker, 1);
    fake.state().refusal = Some(Errno::EINVAL);
    worker.set_rate(order(2, Download, 31));
    assert_eq!(reply(&worker, 2), Outcome::Failed);
    // The qdiscs can still be read, which says nothing about writing.
    for _ in 0..3 {
        let looks = fake.state().looks;
        fake.wait(|state| state.looks > looks + 1);
        assert!(matches!(worker.status(), BackendStatus::Failing { .. }), "{}", worker.status());
    }
    fake.state().refusal = None;
    worker.set_rate(order(3, Download, 32));
    reply(&worker, 3);
    wait_for(&worker, |status| matches!(status, BackendStatus::Ready { .. }));
}

#[test]
fn a_correction_that_is_refused_is_not_tried_again_with_every_look() {
    let fake = Fake::new();
    let worker = fake.start();
    worker.set_rate(order(1, Download, 30));
    reply(&worker, 1);
    fake.state().refusal = Some(Errno::EINVAL);
    fake.set_mbps(IFB, 40);
    wait_for(&worker, |status| matches!(status, BackendStatus::Failing { .. }));
    let failures = worker.counters().failures;
    let looks = fake.state().looks;
    fake.wait(|state| state.looks > looks + 20);
    assert_eq!(worker.counters().failures, failures);
    // A decision is not held up by that.
    fake.state().refusal = None;
    worker.set_rate(order(2, Download, 31));
    assert_eq!(reply(&worker, 2), Outcome::Applied(BitsPerSecond::from_mbps(31)));
}

#[test]
fn a_rate_that_somebody_else_changes_is_corrected_three_times_in_a_minute() {
    let fake = Fake::new();
    let worker = fake.start();
    worker.set_rate(order(1, Download, 30));
    reply(&worker, 1);
    for corrections in 1..=3 {
        fake.set_mbps(IFB, 40);
        fake.wait(|state| state.writes.len() > corrections);
        assert_eq!(fake.mbps(IFB), 30);
    }
    fake.set_mbps(IFB, 40);
    while worker.view().disputed() != ["ifb4wan"] {
        std::thread::yield_now();
    }
    assert_eq!((fake.mbps(IFB), fake.state().writes.len()), (40, 4));
    worker.set_rate(order(2, Download, 35));
    reply(&worker, 2);
    assert_eq!(fake.mbps(IFB), 35, "a new decision is written all the same");

    fake.state().qdiscs[0] = qdisc(IFB, 0xb_0000, 20);
    fake.wait(|state| state.writes.len() == 6);
    assert_eq!(fake.mbps(IFB), 35, "a qdisc made anew is nobody's quarrel");
    while !worker.view().disputed().is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn counters_reach_the_tick() {
    let fake = Fake::new();
    let worker = fake.start();
    let mut tick = Tick::new(crate::clock::now());
    while tick.counters.len() < 2 {
        tick.reset(crate::clock::now());
        worker.drain(&mut tick);
    }
    let reading = tick.counters.first().unwrap();
    assert_eq!((reading.wan, reading.direction), (WanId(0), Download));
    assert_eq!((reading.delivered_bytes, reading.dropped_packets), (1, 2));
    assert_eq!((reading.backlog_bytes, reading.backlog_packets), (3, 4));
}
