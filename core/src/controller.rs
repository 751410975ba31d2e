//! The whole controller: all WANs, one step per tick.

use embassy_time::{Duration, Instant};
use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::config::{Config, ConfigError};
use crate::outputs::{Event, Outputs, SampleRejection};
use crate::persist::{PersistedState, Restoration, StateRefusal};
use crate::snapshot::Snapshot;
use crate::tick::{MAX_WANS, RttSample, Tick};
use crate::units::{CommandId, WanId};
use crate::wan::Wan;

/// Decides, tick by tick, what the shapers of up to `WANS` lines should carry.
///
/// It owns no clock and does no I/O: everything it knows is in the [`Tick`], everything it wants
/// is in the [`Outputs`]. The same ticks give the same outputs, bit for bit, on every machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Controller<const WANS: usize = MAX_WANS> {
    #[serde(with = "crate::micros")]
    tick: Duration,
    wans: Vec<Wan, WANS>,
    #[serde(with = "crate::micros")]
    last_now: Option<Instant>,
    next_id: CommandId,
    ticks: u64,
    outputs_dropped: u64,
    config: u32,
    restoration: Option<Restoration>,
}

impl<const WANS: usize> Controller<WANS> {
    /// Makes a controller that has not seen a tick yet.
    ///
    /// # Errors
    ///
    /// Returns what [`Config::check`] finds, or [`ConfigError::TooManyWans`].
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        config.check()?;
        let mut wans = Vec::new();
        for (id, wan) in (0..).map(WanId).zip(&config.wans) {
            wans.push(Wan::new(id, wan, config.tick)).map_err(|_| ConfigError::TooManyWans)?;
        }
        Ok(Self {
            tick: config.tick,
            wans,
            last_now: None,
            next_id: CommandId(0),
            ticks: 0,
            outputs_dropped: 0,
            config: config.fingerprint(),
            restoration: None,
        })
    }

    /// Runs one tick. `out` is emptied first.
    ///
    /// It cannot fail: what is wrong with an input is told as an [`Event`].
    pub fn step(&mut self, tick: &Tick, out: &mut Outputs) {
        out.clear();
        let now = self.advance_time(tick, out);
        match self.restoration.take() {
            Some(Restoration::Restored) => out.tell(Event::StateRestored),
            Some(Restoration::Refused(why)) => out.tell(Event::StateRefused { why }),
            None => {}
        }
        if tick.inputs_dropped > 0 {
            out.tell(Event::InputsDropped { count: tick.inputs_dropped });
        }
        self.reject_strangers(tick, out);
        for wan in &mut self.wans {
            wan.step(tick, now, &mut self.next_id, out);
        }
        self.ticks = self.ticks.saturating_add(1);
        self.outputs_dropped = self.outputs_dropped.saturating_add(out.outputs_dropped.into());
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
        PersistedState { config: self.config, wans: self.wans.iter().map(Wan::persist).collect() }
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
        self.restoration = Some(Restoration::Restored);
        Ok(())
    }

    /// Notes that a state was there and could not be used, to be told with the next step.
    pub const fn refuse_state(&mut self, why: StateRefusal) {
        self.restoration = Some(Restoration::Refused(why));
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

    /// Returns a read-only mirror of the controller for observers.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new(self.last_now, self.ticks, self.outputs_dropped);
        for wan in &self.wans {
            snapshot.push(wan.snapshot());
        }
        snapshot
    }
}
