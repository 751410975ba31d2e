//! The whole controller: all WANs, one step per tick.

use embassy_time::{Duration, Instant};
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::config::{Config, ConfigError};
use crate::histories::Histories;
use crate::outputs::{Event, Outputs, SampleRejection};
use crate::persist::{PersistedState, Restoration, StateRefusal};
use crate::places::Places;
use crate::recent::{Recent, RecentFigures};
use crate::snapshot::Snapshot;
use crate::steering::{Steering, WanSignals};
use crate::tick::{MAX_WANS, RttSample, Tick};
use crate::units::{CommandId, WanId};
use crate::wan::Wan;

/// Decides, tick by tick, what the shapers of up to `WANS` lines should carry.
///
/// It owns no clock and does no I/O: everything it knows is in the [`Tick`], everything it wants
/// is in the [`Outputs`]. The same ticks give the same outputs, bit for bit, on every machine.
///
/// `STEERINGS` is 1, or 0 for a controller that has no room for steering and leaves it out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Controller<const WANS: usize = MAX_WANS, const STEERINGS: usize = 1> {
    #[serde(with = "crate::micros")]
    tick: Duration,
    wans: Places<Wan, WANS>,
    histories: Histories<WANS>,
    #[serde(with = "crate::micros")]
    last_now: Option<Instant>,
    next_id: CommandId,
    ticks: u64,
    outputs_dropped: u64,
    config: u32,
    /// None or one. An `Option` of it would not be all zeros when it is empty.
    steering: Vec<Steering, STEERINGS>,
    restoration: Restoration,
}

impl<const WANS: usize> Controller<WANS> {
    /// Makes a controller that has not seen a tick yet.
    ///
    /// # Errors
    ///
    /// Returns what [`Config::check`] finds, or [`ConfigError::TooManyWans`].
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let mut controller = Self::empty();
        controller.begin(config)?;
        Ok(controller)
    }
}

impl<const WANS: usize, const STEERINGS: usize> Controller<WANS, STEERINGS> {
    /// As a constant this leaves all of steering out of an image that has no room for it.
    const CAN_STEER: bool = STEERINGS > 0;

    /// Makes a controller without any WAN, for [`Self::begin`]. It is all zeros, so that a static one
    /// takes no room in a board's flash.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            tick: Duration::from_ticks(0),
            wans: Places::new(),
            histories: Histories::empty(),
            last_now: None,
            next_id: CommandId(0),
            ticks: 0,
            outputs_dropped: 0,
            config: 0,
            steering: Vec::new(),
            restoration: Restoration::NotDue,
        }
    }

    /// Forgets everything and begins with a configuration, where this controller is: the stack of a
    /// board has no room for a second one.
    ///
    /// # Errors
    ///
    /// As [`Self::new`]. The controller is empty then.
    pub fn begin(&mut self, config: &Config) -> Result<(), ConfigError> {
        self.wans.clear();
        self.steering.clear();
        (self.last_now, self.next_id) = (None, CommandId(0));
        (self.ticks, self.outputs_dropped) = (0, 0);
        self.restoration = Restoration::NotDue;
        config.check()?;
        if config.wans.len() > WANS {
            return Err(ConfigError::TooManyWans);
        }
        self.tick = config.tick;
        self.config = config.fingerprint();
        for (id, wan) in (0..).map(WanId).zip(&config.wans) {
            // There is room for all of them.
            if let Some(place) = self.wans.take() {
                place.begin(id, wan, config.tick);
            }
        }
        self.histories.begin(config);
        if let Some(steering) = config.steering.as_ref().filter(|_| Self::CAN_STEER) {
            let _full = self.steering.push(Steering::new(steering));
        }
        Ok(())
    }

    /// Runs one tick. `out` is emptied first.
    ///
    /// It cannot fail: what is wrong with an input is told as an [`Event`].
    pub fn step(&mut self, tick: &Tick, out: &mut Outputs) {
        out.clear();
        let now = self.advance_time(tick, out);
        match core::mem::replace(&mut self.restoration, Restoration::NotDue) {
            Restoration::NotDue => {}
            Restoration::Restored => out.tell(Event::StateRestored),
            Restoration::Refused(why) => out.tell(Event::StateRefused { why }),
            Restoration::Reconfigured => out.tell(Event::Reconfigured),
        }
        if let Some(number) = tick.incident {
            out.tell(Event::IncidentMarked { number });
        }
        if tick.inputs_dropped > 0 {
            out.tell(Event::InputsDropped { count: tick.inputs_dropped });
        }
        self.reject_strangers(tick, out);
        for (wan, history) in self.wans.iter_mut().zip(self.histories.iter_mut()) {
            wan.step(tick, now, &mut self.next_id, history, out);
        }
        self.steer(tick, now, out);
        self.ticks = self.ticks.saturating_add(1);
        self.outputs_dropped = self.outputs_dropped.saturating_add(out.outputs_dropped.into());
    }

    /// Lets steering look at what all WANs have seen.
    fn steer(&mut self, tick: &Tick, now: Instant, out: &mut Outputs) {
        let steering = self.steering.first_mut().filter(|_| Self::CAN_STEER);
        let Some(steering) = steering else { return };
        for reply in &tick.steering_replies {
            steering.answer(now, reply, out);
        }
        let wans = &self.wans;
        let seen = |id: WanId| wans.get(usize::from(id.0)).map(|wan| wan.steering_signals(tick));
        let signals: Vec<WanSignals, MAX_WANS> =
            bounded::collect(steering.wans().map(|id| seen(id).unwrap_or_default()));
        steering.step(now, &signals, &mut self.next_id, out);
    }

    /// Returns the time of this tick, which never goes back.
    fn advance_time(&mut self, tick: &Tick, out: &mut Outputs) -> Instant {
        let Some(last) = self.last_now else {
            self.last_now = Some(tick.now);
            return tick.now;
        };
        let gap = tick.now.checked_duration_since(last);
        let late = gap.is_some_and(|gap| gap.as_ticks() > self.tick.as_ticks().saturating_mul(2));
        if gap.is_none() || late {
            out.tell(Event::TickGap { gap: gap.unwrap_or(Duration::MIN) });
        }
        let now = tick.now.max(last);
        self.last_now = Some(now);
        now
    }

    fn reject_strangers(&self, tick: &Tick, out: &mut Outputs) {
        let is_stranger = |sample: &&RttSample| usize::from(sample.wan.0) >= self.wans.len();
        if let Some(sample) = tick.samples.iter().find(is_stranger) {
            let (wan, reflector) = (sample.wan, sample.reflector);
            let why = SampleRejection::UnknownSource;
            out.tell(Event::SampleRejected { wan, reflector, why });
        }
    }

    /// Returns the number of steps so far.
    #[must_use]
    pub const fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Returns whether this controller was made with that configuration.
    #[must_use]
    pub fn fits(&self, config: &Config) -> bool {
        self.config == config.fingerprint()
    }

    /// Returns what is worth keeping over a restart.
    #[must_use]
    pub fn persist(&self) -> PersistedState {
        let wans = bounded::collect(self.wans.iter().map(Wan::persist));
        PersistedState { config: self.config, wans }
    }

    /// Goes on from a state that was kept. Meant for a controller before its first step, whose
    /// outputs then tell [`Event::StateRestored`] or [`Event::StateRefused`].
    ///
    /// # Errors
    ///
    /// When the state is not believed; nothing is changed then.
    pub fn restore(&mut self, state: &PersistedState) -> Result<(), StateRefusal> {
        if let Err(why) = self.check_state(state) {
            self.refuse_state(why);
            return Err(why);
        }
        for (wan, kept) in self.wans.iter_mut().zip(&state.wans) {
            if let Some(kept) = kept {
                wan.restore(kept);
            }
        }
        self.restoration = Restoration::Restored;
        Ok(())
    }

    /// Goes on in the place of another controller, under another configuration: `configs` are its own
    /// and this one's. Meant for a controller before its first step, which then tells
    /// [`Event::Reconfigured`].
    ///
    /// A WAN whose configuration and path are the same goes on as if nothing had happened. Otherwise it
    /// keeps its rates, moved into the new bounds, what the router holds, and the state of its link; if
    /// probes still go the same way (`is_same_path`), also baseline, filters and what its law has
    /// learned. Steering goes on if its configuration is the same, and else begins with the
    /// primary. The number of a step is left out, so that a reader of a recording begins again with
    /// the state behind.
    ///
    /// # Errors
    ///
    /// [`ConfigError::TooManyWans`] when the number of WANs is not the same; nothing is changed then.
    pub fn take_over(
        &mut self,
        before: &Self,
        configs: (&Config, &Config),
        is_same_path: impl Fn(WanId) -> bool,
    ) -> Result<(), ConfigError> {
        if before.wans.len() != self.wans.len() {
            return Err(ConfigError::TooManyWans);
        }
        let (old, new) = configs;
        let is_same_tick = before.tick == self.tick;
        for (wan, past) in self.wans.iter_mut().zip(before.wans.iter()) {
            let is_same_path = is_same_tick && is_same_path(wan.id());
            let id = usize::from(wan.id().0);
            if is_same_path && old.wans.get(id) == new.wans.get(id) {
                wan.clone_from(past);
            } else {
                wan.take_over(past, is_same_path);
            }
        }
        if is_same_tick {
            self.histories.take_over(&before.histories, configs);
        }
        if is_same_tick && old.steering == new.steering {
            self.steering.clone_from(&before.steering);
        }
        (self.last_now, self.next_id) = (before.last_now, before.next_id);
        self.ticks = before.ticks.saturating_add(1);
        self.outputs_dropped = before.outputs_dropped;
        self.restoration = Restoration::Reconfigured;
        Ok(())
    }

    /// Notes that a state was there and could not be used, to be told with the next step.
    pub const fn refuse_state(&mut self, why: StateRefusal) {
        self.restoration = Restoration::Refused(why);
    }

    fn check_state(&self, state: &PersistedState) -> Result<(), StateRefusal> {
        if state.config != self.config || state.wans.len() != self.wans.len() {
            return Err(StateRefusal::OtherConfig);
        }
        let mut pairs = self.wans.iter().zip(&state.wans);
        if pairs.all(|(wan, kept)| kept.is_none_or(|kept| wan.accepts(&kept))) {
            Ok(())
        } else {
            Err(StateRefusal::OutOfRange)
        }
    }

    /// Returns the latest past of one WAN, if there is such a WAN.
    #[must_use]
    pub fn recent(&self, wan: WanId) -> Option<Recent<'_>> {
        self.pasts().nth(usize::from(wan.0))
    }

    /// Returns what the latest past of every WAN looked like, for [`Snapshot::set_recent`]. It looks
    /// at every history several times: for once a second.
    #[must_use]
    pub fn figures(&self) -> Vec<RecentFigures, WANS> {
        bounded::collect(self.pasts().map(|past| past.figures()))
    }

    fn pasts(&self) -> impl Iterator<Item = Recent<'_>> {
        self.wans.iter().zip(self.histories.iter()).map(|(wan, history)| wan.recent(history))
    }

    /// Returns a read-only mirror of the controller for observers, without its latest past.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new(self.last_now, self.ticks, self.outputs_dropped);
        for wan in self.wans.iter() {
            snapshot.push(wan.snapshot());
        }
        let steering = self.steering.first().filter(|_| Self::CAN_STEER);
        snapshot.steering = steering.map(Steering::snapshot);
        snapshot
    }
}
