//! Which CAKE qdisc is meant, and what is wrong when none or several may be.

use std::collections::BTreeSet;
use std::path::Path;

use nix::net::if_::if_nameindex;

use super::cake::Cake;
use super::error::CakeError;
use super::wire::Qdisc;

/// The kind of a root qdisc whose children are CAKE, one for each hardware queue.
const MULTI_QUEUE: &str = "cake_mq";

/// A CAKE qdisc that can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The index of its interface.
    pub(super) interface: u32,
    /// Its handle.
    pub(super) handle: u32,
    /// Its state.
    pub(super) cake: Cake,
}

/// Finds the CAKE qdisc of an interface among all qdiscs.
pub(super) fn find(name: &str, index: Option<u32>, qdiscs: &[Qdisc]) -> Result<Found, CakeError> {
    let interface = name.to_owned();
    let Some(index) = index else {
        return Err(CakeError::NoSuchInterface { interface, existing: interfaces() });
    };
    let here = || qdiscs.iter().filter(|qdisc| qdisc.interface == index);
    if here().any(|qdisc| qdisc.kind == MULTI_QUEUE) {
        return Err(CakeError::SeveralQueues { interface });
    }
    let cakes: Vec<(&Qdisc, &Cake)> =
        here().filter_map(|qdisc| Some((qdisc, qdisc.cake.as_ref()?))).collect();
    match cakes.as_slice() {
        [] => {
            let kinds: BTreeSet<String> = here().map(|qdisc| qdisc.kind.clone()).collect();
            let found = kinds.into_iter().collect();
            Err(CakeError::NoCake { interface, found, is_in_kernel: is_cake_in_kernel() })
        }
        all if all.iter().all(|(qdisc, _)| qdisc.handle == 0) => {
            Err(CakeError::DefaultCake { interface })
        }
        [(qdisc, cake)] => {
            Ok(Found { interface: index, handle: qdisc.handle, cake: (*cake).clone() })
        }
        several => {
            let handle = |(qdisc, _): &(&Qdisc, &Cake)| format!("{:x}:", qdisc.handle >> 16);
            Err(CakeError::SeveralCakes {
                interface,
                handles: several.iter().map(handle).collect(),
            })
        }
    }
}

/// Lists the names of the interfaces.
fn interfaces() -> Vec<String> {
    let Ok(all) = if_nameindex() else { return Vec::new() };
    all.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect()
}

/// Returns whether the running kernel has CAKE, as a module or built in; `None` if that cannot be seen.
fn is_cake_in_kernel() -> Option<bool> {
    if Path::new("/sys/module/sch_cake").exists() {
        return Some(true);
    }
    let release = rustix::system::uname();
    let folder = Path::new("/lib/modules").join(release.release().to_str().ok()?);
    let mut is_known = false;
    for list in ["modules.dep", "modules.builtin"] {
        let Ok(text) = std::fs::read_to_string(folder.join(list)) else { continue };
        is_known = true;
        if text.contains("/sch_cake.ko") {
            return Some(true);
        }
    }
    is_known.then_some(false)
}
