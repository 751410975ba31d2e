//! One CAKE qdisc for programs other than the daemon, such as the emulated router.

use wanctl_core::units::BitsPerSecond;

use super::error::CakeError;
use super::find::{Found, find};
use super::kernel::{Kernel, Qdiscs as _};
use crate::shaping::QueueCounters;

/// The CAKE qdisc of one interface. It is looked up anew each time, for it may be replaced.
#[derive(Debug)]
pub struct CakeShaper {
    kernel: Kernel,
    interface: String,
}

impl CakeShaper {
    /// Opens the CAKE qdisc of an interface in this thread's network namespace.
    ///
    /// # Errors
    /// There is no netlink, no such interface, or not exactly one CAKE qdisc on it.
    pub fn open(interface: &str) -> Result<Self, CakeError> {
        let mut shaper = Self { kernel: Kernel::open()?, interface: interface.to_owned() };
        shaper.find()?;
        Ok(shaper)
    }

    /// Returns the shaper rate, 0 being unlimited, and the counters.
    ///
    /// # Errors
    /// As [`CakeShaper::open`].
    pub fn read(&mut self) -> Result<(BitsPerSecond, QueueCounters), CakeError> {
        let Found { cake, .. } = self.find()?;
        Ok((cake.rate(), cake.counters.unwrap_or_default()))
    }

    /// Sets the shaper rate; 0 is unlimited.
    ///
    /// # Errors
    /// As [`CakeShaper::open`], or the kernel refuses the rate.
    pub fn set_rate(&mut self, rate: BitsPerSecond) -> Result<(), CakeError> {
        let Found { interface, handle, .. } = self.find()?;
        self.kernel.set_rate(&self.interface, (interface, handle), rate).map(drop)
    }

    fn find(&mut self) -> Result<Found, CakeError> {
        let qdiscs = self.kernel.qdiscs()?;
        find(&self.interface, self.kernel.index(&self.interface), &qdiscs)
    }
}
