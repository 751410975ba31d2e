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
use super::looks::Looks;
use super::memory::Memory;
use super::target::{Target, tell_finding, tell_found};
use super::wire::Qdisc;
use crate::clock;
use crate::config::show_rate;
use crate::shaping::{Accord, BackendStatus, Desk, Identity, Waiting, Work};

/// The pause after a failure: of one direction's orders, or of everything when nothing can be listed.
const PAUSE: Duration = Duration::from_millis(200);
/// A correction that failed is tried again after so long.
const REFUSAL_PAUSE: Duration = Duration::from_secs(5);
/// A rate that is held counts as the one that was asked for if it is off by no more than this part of it.
const ROUNDING: u64 = 100;
/// So often a final rate is tried.
const LAST_TRIES: u32 = 3;

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
    memory: Memory,
    looks: Looks,
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
        memory: Memory,
    ) -> Self {
        let pair = |wan: PerDirection<String>| PerDirection {
            download: Target::new(wan.download),
            upload: Target::new(wan.upload),
        };
        let targets = interfaces.into_iter().map(pair).collect();
        Self {
            kernel,
            targets,
            desk,
            memory,
            looks: Looks::new(interval, Instant::now()),
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
                all.push((wan, direction, target.name.clone(), found));
            }
        }
        for (wan, direction, name, found) in all {
            self.note_found(wan, direction, &name, &found);
        }
        self.note_success();
        Ok(())
    }

    /// Notes which rate comes back in the end.
    fn note_found(&mut self, wan: WanId, direction: Direction, name: &str, found: &Found) {
        let rate = self.memory.meet(name, found);
        if rate != found.cake.rate() {
            let (left, rate) = (show_rate(found.cake.rate()), show_rate(rate));
            tracing::info!(
                "{name}: {left} is what a wanctl that was killed has left; the rate it had found, {rate}, counts \
                 as found"
            );
        }
        self.desk.note_found((wan, direction, rate));
    }

    /// Carries out orders, and looks at the qdiscs between them, until the thread shall end.
    fn serve(&mut self) -> Result<(), CakeError> {
        while let Some(work) = self.desk.next_work(self.looks.due) {
            match work {
                Work::Write(waiting) => self.carry_out(&waiting)?,
                // The configuration allows no steering here.
                Work::Steer(waiting) => self.desk.reply_steering(waiting.reply(false)),
                // There is no login to a kernel.
                Work::Renew(_) => {}
                Work::Look if self.looks.may_begin(Instant::now()) => self.look(),
                Work::Look => {}
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
                // The other directions go on.
                self.desk.rest(order.wan, order.direction, Some(Instant::now() + PAUSE));
            }
        }
        Ok(())
    }

    /// Writes one rate and returns what was read back.
    fn write(
        &mut self,
        wan: WanId,
        direction: Direction,
        rate: BitsPerSecond,
    ) -> Result<BitsPerSecond, CakeError> {
        let written = self.try_write(wan, direction, rate);
        if let Some(target) = self.target(wan, direction) {
            target.refusal = written.as_ref().err().map(|error| (error.clone(), Instant::now()));
        }
        if written.is_ok() {
            self.has_written = true;
            self.note_success();
        }
        written
    }

    /// Writes one rate. A qdisc that was made anew is looked up again, once.
    fn try_write(
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
        let mut written = self.send(&name, id, rate);
        if let Err(CakeError::Gone { .. }) = written {
            if let Some(target) = self.target(wan, direction) {
                target.id = None;
            }
            let id = self.look_up(wan, direction)?;
            written = self.send(&name, id, rate);
        }
        let cake = written?;
        let held = cake.rate();
        tracing::debug!(interface = name, wanted = rate.get(), held = held.get(), "written");
        if is_other(rate, held) {
            return Err(CakeError::OtherRate { interface: name, asked: rate, held });
        }
        self.count(wan, direction, &cake);
        Ok(held)
    }

    fn send(&mut self, name: &str, id: (u32, u32), rate: BitsPerSecond) -> Result<Cake, CakeError> {
        self.memory.before_write(name, rate);
        let written = self.call(|kernel| kernel.set_rate(name, id, rate));
        if let Ok(cake) = &written {
            self.memory.after_write(name, cake.rate());
        }
        written
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
        (target.id, target.before, target.refusal) = (id, None, None);
        // Whatever was disputed, was the one before.
        target.accord = Accord::holding(target.accord.held);
        let (name, held) = (target.name.clone(), target.accord.held);
        tell_found(&name, direction, found);
        self.desk.rest(wan, direction, None);
        if held == Some(found.cake.rate()) {
            self.memory.follow(&name, (found.interface, found.handle));
        } else {
            self.note_found(wan, direction, &name, found);
        }
    }

    /// Reads all qdiscs: counters for the core, and what others have changed.
    fn look(&mut self) {
        let begin = Instant::now();
        let qdiscs = self.call(K::qdiscs);
        self.looks.note(begin, begin.elapsed());
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
        if target.refusal.as_ref().is_some_and(|(_, at)| at.elapsed() < REFUSAL_PAUSE) {
            return;
        }
        let Some(ours) = target.accord.settle(&target.name, found) else { return };
        if let Err(error) = self.write(wan, direction, ours) {
            if let Some(target) = self.target(wan, direction) {
                target.accord.not_corrected();
            }
            self.note_failure(&error);
        }
    }

    /// A qdisc that is missing is a failure that lasts until it is back, one that refuses a rate until
    /// it takes one.
    fn judge_findings(&mut self) {
        let both = self.targets.iter().flat_map(|wan| [&wan.download, &wan.upload]);
        let trouble = both.filter_map(Target::trouble).next().cloned();
        match trouble {
            Some(trouble) => self.set_failing(&trouble),
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
    fn write_final_rates(mut self) {
        let Some((rates, deadline)) = self.desk.final_rates() else { return };
        let mut open = Vec::new();
        for (wan, direction, rate) in rates {
            match self.write_final_rate(wan, direction, rate, deadline) {
                Some(held) => self.desk.confirm((wan, direction, held)),
                None => open.extend(self.target(wan, direction).map(|target| target.name.clone())),
            }
        }
        if self.desk.is_finishing() {
            self.memory.finish(&open);
        }
    }

    fn write_final_rate(
        &mut self,
        wan: WanId,
        direction: Direction,
        rate: BitsPerSecond,
        deadline: Instant,
    ) -> Option<BitsPerSecond> {
        for _ in 0..LAST_TRIES {
            if Instant::now() >= deadline {
                return None;
            }
            match self.write(wan, direction, rate) {
                Ok(held) => return Some(held),
                Err(error) => {
                    let interface = self.target(wan, direction).map(|target| &target.name);
                    tracing::warn!(interface, %error, "the final rate is not confirmed");
                }
            }
        }
        None
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
        let mut both = self.targets.iter().flat_map(|wan| [&wan.download, &wan.upload]);
        if both.any(|target| target.trouble().is_some()) {
            return; // another one is missing, or refuses
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
