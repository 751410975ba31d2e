//! The backend's thread: first look, serving orders, looking at the qdiscs between them, the last writes.

use std::mem::Discriminant;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wanctl_core::tick::Outcome;
use wanctl_core::units::{BitsPerSecond, Direction, PerDirection, WanId};

use super::cake::Cake;
use super::delay;
use super::error::CakeError;
use super::find::{Found, find};
use super::kernel::Qdiscs;
use super::wire::Qdisc;
use crate::clock;
use crate::config::show_rate;
use crate::shaping::{Accord, BackendStatus, Desk, Identity, Waiting, Work};

/// The pause after a failure; the next order or event ends it no sooner.
const PAUSE: Duration = Duration::from_millis(200);
/// A look is followed by so many times its duration without one: a machine with hundreds of qdiscs shall
/// not spend its time listing them.
const REST_FACTOR: u32 = 9;
/// A rate that is held counts as the one that was asked for if it is off by no more than this part of it.
const ROUNDING: u64 = 100;
/// So often a final rate is tried.
const LAST_TRIES: u32 = 3;

/// The CAKE qdisc of one direction.
#[derive(Debug)]
struct Target {
    /// The interface.
    name: String,
    /// The index of the interface and the handle of the qdisc, while they are known.
    id: Option<(u32, u32)>,
    accord: Accord,
    /// The reading before.
    before: Option<Cake>,
    /// What was wrong at the last look.
    finding: Option<CakeError>,
}

/// An episode of failures.
#[derive(Debug)]
struct Failing {
    since: embassy_time::Instant,
    /// What kind of failure was told last.
    kind: Discriminant<CakeError>,
}

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Server<K> {
    kernel: K,
    targets: Vec<PerDirection<Target>>,
    desk: Arc<Desk>,
    interval: Duration,
    look_due: Instant,
    /// Whether any write has ever succeeded.
    has_written: bool,
    failing: Option<Failing>,
    /// Whether the status has said once that everything was found.
    is_ready: bool,
}

impl<K: Qdiscs> Server<K> {
    pub(super) fn new(
        kernel: K,
        interfaces: Vec<PerDirection<String>>,
        interval: Duration,
        desk: Arc<Desk>,
    ) -> Self {
        let accord = Accord::default;
        let target =
            |name| Target { name, id: None, accord: accord(), before: None, finding: None };
        let targets = interfaces
            .into_iter()
            .map(|wan| PerDirection { download: target(wan.download), upload: target(wan.upload) })
            .collect();
        Self {
            kernel,
            targets,
            desk,
            interval,
            look_due: Instant::now(),
            has_written: false,
            failing: None,
            is_ready: false,
        }
    }

    /// Runs until the desk says stop or an error shows that control is impossible.
    pub(super) fn run(mut self) {
        match self.contact().and_then(|()| self.serve()) {
            Ok(()) => self.write_final_rates(),
            Err(error) => {
                tracing::error!(%error, "the shapers cannot be controlled");
                self.desk.set_fatal(error.into());
            }
        }
    }

    /// Finds every qdisc before the first write; nothing is written unless all are there.
    fn contact(&mut self) -> Result<(), CakeError> {
        while let Err(error) = self.look_up_everything() {
            if error.is_fatal() {
                return Err(error);
            }
            self.note_failure(&error);
            if self.desk.pause(PAUSE) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn look_up_everything(&mut self) -> Result<(), CakeError> {
        self.kernel.check_permission()?;
        let qdiscs = self.call(K::qdiscs)?;
        let mut all = Vec::new();
        for (wan, targets) in ids().zip(&mut self.targets) {
            for direction in Direction::BOTH {
                let target = targets.get_mut(direction);
                let index = self.kernel.index(&target.name);
                let found = find(&target.name, index, &qdiscs)?;
                target.id = Some((found.interface, found.handle));
                tell_found(&target.name, direction, &found);
                all.push((wan, direction, found.cake.rate()));
            }
        }
        for rate in all {
            self.desk.note_found(rate);
        }
        self.note_success();
        Ok(())
    }

    /// Carries out orders, and looks at the qdiscs between them, until the thread shall end.
    fn serve(&mut self) -> Result<(), CakeError> {
        while let Some(work) = self.desk.next_work(self.look_due) {
            match work {
                Work::Write(waiting) => self.carry_out(&waiting)?,
                // The configuration allows no steering here.
                Work::Steer(waiting) => self.desk.reply_steering(waiting.reply(false)),
                // There is no login to a kernel.
                Work::Renew(_) => {}
                Work::Look => self.look(),
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, waiting: &Waiting) -> Result<(), CakeError> {
        let order = waiting.order;
        let written = self.write(order.wan, order.direction, order.rate);
        if let Some(target) = self.target(order.wan, order.direction) {
            target.accord.held = written.as_ref().ok().copied();
        }
        match written {
            Ok(held) => self.desk.reply(waiting, Outcome::Applied(held)),
            Err(error) => {
                self.desk.reply(waiting, Outcome::Failed);
                if error.is_fatal() && !self.has_written {
                    return Err(error);
                }
                self.note_failure(&error);
                self.desk.pause(PAUSE);
            }
        }
        Ok(())
    }

    /// Writes one rate and returns what was read back. A qdisc that was made anew is looked up again,
    /// once.
    fn write(
        &mut self,
        wan: WanId,
        direction: Direction,
        rate: BitsPerSecond,
    ) -> Result<BitsPerSecond, CakeError> {
        let Some(target) = self.target(wan, direction) else { return Err(CakeError::BadReply) };
        let (name, known) = (target.name.clone(), target.id);
        let id = match known {
            Some(id) => id,
            None => self.look_up(wan, direction)?,
        };
        let mut written = self.call(|kernel| kernel.set_rate(&name, id, rate));
        if let Err(CakeError::Gone { .. }) = written {
            if let Some(target) = self.target(wan, direction) {
                target.id = None;
            }
            let id = self.look_up(wan, direction)?;
            written = self.call(|kernel| kernel.set_rate(&name, id, rate));
        }
        let cake = written?;
        let held = cake.rate();
        tracing::debug!(interface = name, wanted = rate.get(), held = held.get(), "written");
        if is_other(rate, held) {
            return Err(CakeError::OtherRate { interface: name, asked: rate, held });
        }
        self.has_written = true;
        self.count(wan, direction, &cake);
        self.note_success();
        Ok(held)
    }

    fn look_up(&mut self, wan: WanId, direction: Direction) -> Result<(u32, u32), CakeError> {
        let qdiscs = self.call(K::qdiscs)?;
        let found = self.find(wan, direction, &qdiscs)?;
        self.met(wan, direction, &found);
        Ok((found.interface, found.handle))
    }

    fn find(&self, wan: WanId, direction: Direction, qdiscs: &[Qdisc]) -> Result<Found, CakeError> {
        let target = self.targets.get(usize::from(wan.0)).ok_or(CakeError::BadReply)?;
        let name = &target.get(direction).name;
        find(name, self.kernel.index(name), qdiscs)
    }

    /// Takes note of a qdisc; of one made anew, its rate is the one to be left at the end.
    fn met(&mut self, wan: WanId, direction: Direction, found: &Found) {
        let Some(target) = self.target(wan, direction) else { return };
        let id = Some((found.interface, found.handle));
        if target.id == id {
            return;
        }
        (target.id, target.before) = (id, None);
        // Whatever was disputed, was the one before.
        target.accord = Accord::holding(target.accord.held);
        let (name, held) = (target.name.clone(), target.accord.held);
        tell_found(&name, direction, found);
        if held != Some(found.cake.rate()) {
            self.desk.note_found((wan, direction, found.cake.rate()));
        }
    }

    /// Reads all qdiscs: counters for the core, and what others have changed.
    fn look(&mut self) {
        let begin = Instant::now();
        let qdiscs = self.call(K::qdiscs);
        let took = begin.elapsed();
        self.look_due = begin + self.interval.max(took.saturating_mul(REST_FACTOR + 1));
        let qdiscs = match qdiscs {
            Ok(qdiscs) => qdiscs,
            Err(error) => {
                self.note_failure(&error);
                self.desk.pause(PAUSE);
                return;
            }
        };
        for wan in ids().take(self.targets.len()) {
            for direction in Direction::BOTH {
                let found = self.find(wan, direction, &qdiscs);
                let Some(target) = self.target(wan, direction) else { continue };
                tell_finding(target, found.as_ref().err());
                match found {
                    Ok(found) => {
                        self.met(wan, direction, &found);
                        self.count(wan, direction, &found.cake);
                        self.compare(wan, direction, found.cake.rate());
                    }
                    Err(_) => target.id = None,
                }
            }
        }
        self.judge_findings();
        let both = self.targets.iter().flat_map(|wan| [&wan.download, &wan.upload]);
        let disputed = both.filter(|target| target.accord.is_truce());
        self.desk.set_disputed(disputed.map(|target| target.name.clone()).collect());
    }

    fn compare(&mut self, wan: WanId, direction: Direction, found: BitsPerSecond) {
        if self.desk.is_waiting(wan, direction) {
            return; // whatever it is now, a newer rate takes its place
        }
        let Some(target) = self.target(wan, direction) else { return };
        let Some(ours) = target.accord.settle(&target.name, found) else { return };
        if let Err(error) = self.write(wan, direction, ours) {
            if let Some(target) = self.target(wan, direction) {
                target.accord.not_corrected();
            }
            self.note_failure(&error);
        }
    }

    /// A qdisc that is missing is a failure that lasts until it is back.
    fn judge_findings(&mut self) {
        let both = self.targets.iter().flat_map(|wan| [&wan.download, &wan.upload]);
        let finding = both.filter_map(|target| target.finding.clone()).next();
        match finding {
            Some(finding) => self.set_failing(&finding),
            None => self.note_success(),
        }
    }

    fn count(&mut self, wan: WanId, direction: Direction, cake: &Cake) {
        let Some(mut counters) = cake.counters else { return };
        let target = self.target(wan, direction);
        if let Some(before) = target.and_then(|target| target.before.replace(cake.clone())) {
            counters.waited = delay::waited(&before, cake);
        }
        self.desk.counted(usize::from(wan.0), direction, counters, clock::now_nanos());
    }

    /// Writes each final rate until it is read back or the time is over.
    fn write_final_rates(&mut self) {
        let Some((rates, deadline)) = self.desk.final_rates() else { return };
        for (wan, direction, rate) in rates {
            for _ in 0..LAST_TRIES {
                if Instant::now() >= deadline {
                    return;
                }
                match self.write(wan, direction, rate) {
                    Ok(held) => {
                        self.desk.confirm((wan, direction, held));
                        break;
                    }
                    Err(error) => {
                        let interface = self.target(wan, direction).map(|target| &target.name);
                        tracing::warn!(interface, %error, "the final rate is not confirmed");
                    }
                }
            }
        }
    }

    fn target(&mut self, wan: WanId, direction: Direction) -> Option<&mut Target> {
        self.targets.get_mut(usize::from(wan.0)).map(|wan| wan.get_mut(direction))
    }

    /// Makes one request and counts it.
    fn call<T>(
        &mut self,
        request: impl FnOnce(&mut K) -> Result<T, CakeError>,
    ) -> Result<T, CakeError> {
        let begin = Instant::now();
        let result = request(&mut self.kernel);
        self.desk.count_request(begin.elapsed(), result.is_err());
        result
    }

    fn note_failure(&mut self, error: &CakeError) {
        // Once per episode, and again when the cause is another one.
        let kind = std::mem::discriminant(error);
        if self.failing.as_ref().is_none_or(|failing| failing.kind != kind) {
            tracing::warn!(%error, "a shaper cannot be controlled, trying again");
        } else {
            tracing::debug!(%error, "a shaper still cannot be controlled");
        }
        self.set_failing(error);
    }

    fn set_failing(&mut self, error: &CakeError) {
        let kind = std::mem::discriminant(error);
        let since = self.failing.as_ref().map_or_else(clock::now, |failing| failing.since);
        self.failing = Some(Failing { since, kind });
        self.desk.set_status(BackendStatus::Failing { since, error: error.to_string() });
    }

    fn note_success(&mut self) {
        let both = self.targets.iter().flat_map(|wan| [&wan.download, &wan.upload]);
        if both.filter(|target| target.finding.is_some()).count() > 0 {
            return; // another one is missing
        }
        if self.failing.take().is_some() {
            tracing::info!("the shapers can be controlled again");
        } else if self.is_ready {
            return;
        }
        self.is_ready = true;
        self.desk.set_status(BackendStatus::Ready { identity: identity() });
    }
}

/// Returns whether a rate is another than it was told, rounding aside.
fn is_other(asked: BitsPerSecond, held: BitsPerSecond) -> bool {
    asked.get().abs_diff(held.get()) > asked.get() / ROUNDING
}

fn ids() -> impl Iterator<Item = WanId> {
    (0..=u8::MAX).map(WanId)
}

/// Returns who moves the shapers: this machine's kernel.
pub(super) fn identity() -> Identity {
    let system = rustix::system::uname();
    Identity {
        name: "CAKE".to_owned(),
        version: format!("Linux {}", system.release().to_string_lossy()),
        board: system.nodename().to_string_lossy().into_owned(),
    }
}

fn tell_found(interface: &str, direction: Direction, found: &Found) {
    let (rate, handle) = (show_rate(found.cake.rate()), format!("{:x}:", found.handle >> 16));
    let direction = direction.name();
    tracing::info!(interface, direction, handle, rate, "CAKE found");
    if found.cake.is_autorate {
        tracing::warn!(interface, "{}", super::AUTORATE);
    }
}

/// Reports what is wrong with a qdisc when that changes.
fn tell_finding(target: &mut Target, finding: Option<&CakeError>) {
    if target.finding.as_ref() == finding {
        return;
    }
    match finding {
        Some(error) => tracing::warn!(%error, "a shaper is missing"),
        None => tracing::info!(interface = target.name, "the shaper is back"),
    }
    target.finding = finding.cloned();
}
