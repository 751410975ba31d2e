//! What the tick works on, and how it changes hands.

use core::cell::Cell;

use critical_section::Mutex;
use embassy_time::Instant;
use wanctl_core::controller::Controller;
use wanctl_core::outputs::Outputs;
use wanctl_core::tick::Tick;

use crate::meter::Meter;
use crate::{SNAPSHOT, STEERINGS, WANS};

/// Controller, inputs and outputs. Whoever holds it may use all of it.
pub(crate) struct Desk {
    pub(crate) controller: Controller<WANS, STEERINGS>,
    /// The controller has a configuration and is in step with the recording.
    pub(crate) is_ready: bool,
    pub(crate) tick: Tick,
    pub(crate) outputs: Outputs,
    /// Counts the instructions of a step.
    pub(crate) meter: Option<Meter>,
    /// What the last step took, as [`Meter::measure`] tells it.
    pub(crate) cost: u32,
}

impl Desk {
    pub(crate) const fn new() -> Self {
        let tick = Tick::new(Instant::from_ticks(0));
        Self {
            controller: Controller::empty(),
            is_ready: false,
            tick,
            outputs: Outputs::new(),
            meter: None,
            cost: 0,
        }
    }

    /// Returns whether the controller's next step is number `seq`.
    pub(crate) fn is_at(&self, seq: u64) -> bool {
        self.is_ready && self.controller.ticks() == seq
    }

    /// Runs the step that is prepared here. This and the next use the same stack one after the other.
    #[inline(never)]
    pub(crate) fn step(&mut self) {
        let Self { controller, tick, outputs, meter, cost, .. } = self;
        let mut work = || controller.step(tick, outputs);
        match meter {
            Some(meter) => *cost = meter.measure(work),
            None => work(),
        }
        #[cfg(feature = "canary")]
        assert!(self.tick.inputs_dropped < u16::MAX, "only the linker sees this");
    }

    /// Shows observers what the step has led to.
    #[inline(never)]
    pub(crate) fn publish(&self) {
        SNAPSHOT.publish(self.controller.snapshot());
    }
}

/// A place where a [`Desk`] waits for its next holder.
pub(crate) struct Handover(Mutex<Cell<Option<&'static mut Desk>>>);

impl Handover {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Cell::new(None)))
    }

    pub(crate) fn put(&self, desk: &'static mut Desk) {
        critical_section::with(|section| self.0.borrow(section).set(Some(desk)));
    }

    pub(crate) fn take(&self) -> Option<&'static mut Desk> {
        critical_section::with(|section| self.0.borrow(section).take())
    }
}
