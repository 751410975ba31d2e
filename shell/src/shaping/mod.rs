//! Moving shapers: what the daemon asks for, and who may do it.
//!
//! The tick thread owns a [`Worker`] and never waits for it. The worker's thread runs a [`Backend`]: a
//! router over the network ([`crate::routeros`]) or CAKE in this machine's kernel
//! ([`crate::linux_cake`]).

mod accord;
mod desk;
mod orders;
mod worker;

use std::sync::Arc;

pub(crate) use accord::{Accord, CORRECTIONS_MAX, TRUCE, Verdict};
pub use desk::Desk;
pub(crate) use desk::{Waiting, Work};
pub(crate) use orders::WaitingSteering;
pub use orders::{Complaint, FinalRate, QueueCounters, RateOrder, Renewal, SteeringOrder, Waited};
pub use worker::{BackendStatus, BackendView, FinishReport, Identity, RequestCounters, Worker};

/// Somebody who holds shapers and can be told their rates.
pub trait Backend: Send + 'static {
    /// Returns the name of its thread.
    fn thread_name(&self) -> &'static str;

    /// Returns whether steering rules have to be switched off at the end.
    fn leaves_steering(&self) -> bool {
        false
    }

    /// Looks up every shaper, then carries out what lies on the desk until it says stop; writes the
    /// final rates and says that it has ended. Nothing is written unless everything was found.
    fn run(self, desk: Arc<Desk>);
}
