//! CAKE in this machine's own kernel: shaper rates over rtnetlink, without any `tc` process.

mod cake;
mod check;
mod delay;
mod error;
mod events;
mod find;
mod kernel;
mod looks;
mod memory;
mod serve;
mod shaper;
mod target;
#[cfg(test)]
mod tests;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wanctl_core::units::PerDirection;

pub use check::{CakeReport, check};
pub use error::CakeError;
pub use memory::Role;
pub use shaper::CakeShaper;

use self::events::EventWatcher;
use self::kernel::Kernel;
use self::memory::Memory;
use self::serve::Server;
use crate::shaping::{Backend, Desk};

/// The shortest time between two looks at the counters.
pub const COUNTER_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// The longest time between two looks: a delivered rate that is older is of no use.
pub const COUNTER_INTERVAL_MAX: Duration = Duration::from_secs(2);

/// What is wrong with a qdisc that sets its rate itself.
const AUTORATE: &str = "autorate-ingress is on: CAKE changes its rate itself and works against wanctl; \
     hint: tc qdisc change dev INTERFACE root cake bandwidth 20mbit switches it off";

/// The CAKE qdiscs of this machine.
#[derive(Debug)]
pub struct LinuxCake {
    interfaces: Vec<PerDirection<String>>,
    counter_interval: Duration,
    folder: PathBuf,
    role: Role,
}

impl LinuxCake {
    /// `interfaces` holds the names of the interfaces with the qdiscs per WAN, the position being
    /// the [`wanctl_core::units::WanId`]. Their counters are read about every `counter_interval`. The
    /// rates found are kept in `folder` against crashes; nobody else may use it meanwhile.
    #[must_use]
    pub const fn new(
        interfaces: Vec<PerDirection<String>>,
        counter_interval: Duration,
        folder: PathBuf,
        role: Role,
    ) -> Self {
        Self { interfaces, counter_interval, folder, role }
    }
}

impl Backend for LinuxCake {
    fn thread_name(&self) -> &'static str {
        "cake"
    }

    fn run(self, desk: Arc<Desk>) {
        match Kernel::open() {
            Ok(kernel) => {
                let events = EventWatcher::start(Arc::clone(&desk), kernel.port()).inspect_err(
                    |error| tracing::warn!(%error, "changes by others are seen later"),
                );
                let (interfaces, interval) = (self.interfaces, self.counter_interval);
                let memory = Memory::open(&self.folder, self.role);
                Server::new(kernel, interfaces, interval, Arc::clone(&desk), memory).run();
                drop(events);
            }
            Err(error) => desk.set_fatal(error.into()),
        }
        desk.end();
    }
}
