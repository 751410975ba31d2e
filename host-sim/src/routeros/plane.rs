//! A real data plane below the emulated router: CAKE qdiscs of this machine carry what its tree queues say.

use std::fmt::Debug;
use std::str::FromStr;

use super::counters::QueueTraffic;
use super::menus::MenuName;
use super::store::Router;

/// What a shaper has done so far, and holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShaperReading {
    /// The rate it shapes to, in bits per second; 0 is unlimited.
    pub rate_bps: u64,
    /// Bytes sent since it was made.
    pub bytes: u64,
    /// Packets sent since it was made.
    pub packets: u64,
    /// Packets dropped since it was made.
    pub dropped: u64,
    /// Bytes waiting now.
    pub queued_bytes: u64,
    /// Packets waiting now.
    pub queued_packets: u64,
}

/// Something that shapes real traffic.
pub trait Shaper: Debug + Send {
    /// Changes the rate, in bits per second; 0 is unlimited.
    ///
    /// # Errors
    /// The kernel refuses, or there is no such shaper any more.
    fn set_rate(&mut self, rate_bps: u64) -> anyhow::Result<()>;

    /// Reads rate and counters.
    ///
    /// # Errors
    /// As [`Shaper::set_rate`].
    fn read(&mut self) -> anyhow::Result<ShaperReading>;
}

/// A tree queue and the interface whose root qdisc stands for it: `WAN-Download=ifb0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueInterface {
    /// Name of the tree queue.
    pub queue: String,
    /// Name of the interface.
    pub interface: String,
}

impl FromStr for QueueInterface {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((queue, interface)) if !queue.is_empty() && !interface.is_empty() => {
                Ok(Self { queue: queue.to_owned(), interface: interface.to_owned() })
            }
            _ => Err("expected QUEUE=INTERFACE, such as WAN-Download=ifb0".to_owned()),
        }
    }
}

/// One tree queue and its shaper.
#[derive(Debug)]
struct Bond {
    queue: String,
    shaper: Box<dyn Shaper>,
    /// What the shaper was told last, or was found with.
    rate_bps: u64,
    /// What the router has accounted for.
    seen: ShaperReading,
    is_failing: bool,
}

/// The shapers below a router.
#[derive(Debug, Default)]
pub struct DataPlane {
    bonds: Vec<Bond>,
}

impl DataPlane {
    /// Puts a shaper below a tree queue; the queue takes over its rate.
    ///
    /// # Errors
    /// The router has no such queue, or the shaper cannot be read.
    pub fn bind(
        &mut self,
        router: &mut Router,
        queue: &str,
        mut shaper: Box<dyn Shaper>,
    ) -> anyhow::Result<()> {
        let seen = shaper.read()?;
        let rate = seen.rate_bps.to_string();
        let known = router.set_unchecked(MenuName::QueueTree, queue, "max-limit", Some(&rate));
        anyhow::ensure!(known, "the emulated router has no tree queue \"{queue}\"");
        let (queue, rate_bps) = (queue.to_owned(), seen.rate_bps);
        self.bonds.push(Bond { queue, shaper, rate_bps, seen, is_failing: false });
        Ok(())
    }

    /// Brings the router's counters up to date.
    pub(crate) fn count(&mut self, router: &mut Router) {
        for bond in &mut self.bonds {
            let reading = bond.shaper.read();
            let Some(now) = bond.succeeded(reading) else { continue };
            let traffic = QueueTraffic {
                // A shaper that was made anew counts from zero.
                bytes: now.bytes.checked_sub(bond.seen.bytes).unwrap_or(now.bytes),
                packets: now.packets.checked_sub(bond.seen.packets).unwrap_or(now.packets),
                dropped: now.dropped.checked_sub(bond.seen.dropped).unwrap_or(now.dropped),
                queued_bytes: now.queued_bytes,
                queued_packets: now.queued_packets,
            };
            bond.seen = now;
            router.account(&bond.queue, traffic);
        }
    }

    /// Gives the shapers the rates the router holds.
    pub(crate) fn shape(&mut self, router: &Router) {
        for bond in &mut self.bonds {
            let Some(rate_bps) = router.max_limit_bps(&bond.queue) else { continue };
            if rate_bps != bond.rate_bps {
                let set = bond.shaper.set_rate(rate_bps);
                if bond.succeeded(set).is_some() {
                    bond.rate_bps = rate_bps;
                }
            }
        }
    }
}

impl Bond {
    /// Reports the first of several failures in a row.
    fn succeeded<T>(&mut self, result: anyhow::Result<T>) -> Option<T> {
        let failed = result.as_ref().err();
        if let Some(error) = failed.filter(|_| !self.is_failing) {
            tracing::error!(queue = self.queue, "the data plane fails: {error:#}");
        }
        self.is_failing = failed.is_some();
        result.ok()
    }
}
