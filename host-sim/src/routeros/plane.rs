//! A real data plane below the emulated router: CAKE qdiscs of this machine carry what its tree queues say.

use std::fmt::Debug;
use std::str::FromStr;

use wanctl::linux_cake::CakeShaper;
use wanctl_core::units::BitsPerSecond;

use super::counters::QueueTraffic;
use super::menus::MenuName;
use super::store::Router;

/// Bytes of a packet, for counting packets: the qdisc's own count of them is not read.
const FULL_PACKET: u64 = 1_514;

/// What a shaper has done so far, and holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShaperReading {
    /// The rate it shapes to, in bits per second; 0 is unlimited.
    pub rate_bps: u64,
    /// Bytes sent since it was made.
    pub bytes: u64,
    /// Packets dropped since it was made; wraps.
    pub dropped: u32,
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

impl Shaper for CakeShaper {
    fn set_rate(&mut self, rate_bps: u64) -> anyhow::Result<()> {
        Ok(CakeShaper::set_rate(self, BitsPerSecond::new(rate_bps))?)
    }

    fn read(&mut self) -> anyhow::Result<ShaperReading> {
        let (rate, counters) = CakeShaper::read(self)?;
        Ok(ShaperReading {
            rate_bps: rate.get(),
            bytes: counters.bytes,
            dropped: counters.dropped,
            queued_bytes: counters.queued_bytes.into(),
            queued_packets: counters.queued_packets.into(),
        })
    }
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

/// Refuses what cannot both be true: two interfaces below one queue, or one below two.
pub(super) fn check_bonds(all: &[QueueInterface]) -> anyhow::Result<()> {
    for (index, one) in all.iter().enumerate() {
        for other in &all[..index] {
            let name = if one.queue == other.queue { &one.queue } else { &one.interface };
            anyhow::ensure!(
                one.queue != other.queue && one.interface != other.interface,
                "--tc names {name:?} twice; expected one interface for each queue, and each once"
            );
        }
    }
    Ok(())
}

/// One tree queue and its shaper.
#[derive(Debug)]
struct Bond {
    queue: String,
    shaper: Box<dyn Shaper>,
    /// What the shaper was told last, or was found with.
    rate_bps: u64,
    found_bps: u64,
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
        let bond = Bond { queue, shaper, rate_bps, found_bps: rate_bps, seen, is_failing: false };
        self.bonds.push(bond);
        Ok(())
    }

    /// Gives the shapers the rates they were found with, and lets go of them.
    pub fn release(&mut self) {
        for mut bond in self.bonds.drain(..) {
            let set = bond.shaper.set_rate(bond.found_bps);
            bond.succeeded(set);
        }
    }

    /// Brings the router's counters up to date.
    pub(crate) fn count(&mut self, router: &mut Router) {
        for bond in &mut self.bonds {
            let reading = bond.shaper.read();
            let Some(now) = bond.succeeded(reading) else { continue };
            // A shaper that was made anew counts from zero.
            let is_new = now.bytes < bond.seen.bytes;
            let bytes = if is_new { now.bytes } else { now.bytes - bond.seen.bytes };
            let traffic = QueueTraffic {
                bytes,
                // The daemon does not look at them.
                packets: bytes.div_ceil(FULL_PACKET),
                dropped: if is_new {
                    now.dropped
                } else {
                    now.dropped.wrapping_sub(bond.seen.dropped)
                }
                .into(),
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::routeros::RouterOptions;

    #[derive(Debug, Clone, Default)]
    struct Fake(Arc<Mutex<(ShaperReading, bool)>>);

    impl Fake {
        fn change(&self, change: impl FnOnce(&mut ShaperReading)) {
            change(&mut self.0.lock().expect("lock").0);
        }

        fn rate_bps(&self) -> u64 {
            self.0.lock().expect("lock").0.rate_bps
        }
    }

    impl Shaper for Fake {
        fn set_rate(&mut self, rate_bps: u64) -> anyhow::Result<()> {
            let mut held = self.0.lock().expect("lock");
            anyhow::ensure!(!held.1, "gone");
            held.0.rate_bps = rate_bps;
            Ok(())
        }

        fn read(&mut self) -> anyhow::Result<ShaperReading> {
            let held = self.0.lock().expect("lock");
            anyhow::ensure!(!held.1, "gone");
            Ok(held.0)
        }
    }

    fn bound() -> (Router, DataPlane, Fake) {
        let mut router = Router::new(&RouterOptions::default()).expect("router");
        let (mut plane, shaper) = (DataPlane::default(), Fake::default());
        shaper.change(|held| *held = ShaperReading { rate_bps: 7_000_000, bytes: 500, ..*held });
        plane.bind(&mut router, "WAN-Upload", Box::new(shaper.clone())).expect("binds");
        (router, plane, shaper)
    }

    fn shown(router: &Router, key: &str) -> String {
        router.row(MenuName::QueueTree, "WAN-Upload").expect("row")[key].clone()
    }

    #[test]
    fn the_queue_takes_over_the_rate_that_the_shaper_has() {
        let (mut router, mut plane, _) = bound();
        assert_eq!(router.max_limit_bps("WAN-Upload"), Some(7_000_000));
        let error =
            plane.bind(&mut router, "WAN-Uplaod", Box::<Fake>::default()).expect_err("unknown");
        assert!(error.to_string().contains("WAN-Uplaod"), "{error}");
    }

    #[test]
    fn the_rate_that_was_found_comes_back_at_the_end() {
        let (mut router, mut plane, shaper) = bound();
        router.set_unchecked(MenuName::QueueTree, "WAN-Upload", "max-limit", Some("9000000"));
        plane.shape(&router);
        assert_eq!(shaper.rate_bps(), 9_000_000);
        plane.release();
        assert_eq!(shaper.rate_bps(), 7_000_000);
        plane.shape(&router);
        assert_eq!(shaper.rate_bps(), 7_000_000, "a late request changes nothing");
    }

    #[test]
    fn a_queue_or_an_interface_named_twice_is_refused() {
        let check = |text: &str| {
            let all: Vec<QueueInterface> =
                text.split(',').map(|one| one.parse().expect("parses")).collect();
            check_bonds(&all).map_err(|error| error.to_string())
        };
        assert_eq!(check("a=eth0,b=eth1"), Ok(()));
        assert!(check("a=eth0,a=eth1").expect_err("a").contains("\"a\" twice"));
        assert!(check("a=eth0,b=eth0").expect_err("eth0").contains("\"eth0\" twice"));
    }

    #[test]
    fn a_rate_reaches_the_shaper_and_is_tried_again_until_it_does() {
        let (mut router, mut plane, shaper) = bound();
        shaper.0.lock().expect("lock").1 = true;
        router.set_unchecked(MenuName::QueueTree, "WAN-Upload", "max-limit", Some("9000000"));
        plane.shape(&router);
        assert_eq!(shaper.rate_bps(), 7_000_000);
        shaper.0.lock().expect("lock").1 = false;
        plane.shape(&router);
        assert_eq!(shaper.rate_bps(), 9_000_000);
    }

    #[test]
    fn what_the_shaper_counts_is_what_the_queue_counts_also_when_it_is_made_anew() {
        let (mut router, mut plane, shaper) = bound();
        shaper.change(|held| {
            *held = ShaperReading { bytes: 2_500, dropped: 3, queued_bytes: 90, ..*held }
        });
        plane.count(&mut router);
        plane.count(&mut router);
        let figures = ["bytes", "dropped", "queued-bytes"].map(|key| shown(&router, key));
        assert_eq!(figures, ["2000", "3", "90"]);
        shaper.change(|held| {
            *held = ShaperReading { bytes: 100, dropped: 1, ..ShaperReading::default() }
        });
        plane.count(&mut router);
        assert_eq!(["bytes", "dropped"].map(|key| shown(&router, key)), ["2100", "4"]);
    }
}
