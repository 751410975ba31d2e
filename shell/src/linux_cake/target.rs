//! What the server knows of one qdisc, and what it tells about it.

use std::time::Instant;

use wanctl_core::units::Direction;

use super::cake::Cake;
use super::error::CakeError;
use super::find::Found;
use crate::config::show_rate;
use crate::shaping::Accord;

/// The CAKE qdisc of one direction.
#[derive(Debug)]
pub(super) struct Target {
    /// The interface.
    pub(super) name: String,
    /// The index of the interface and the handle of the qdisc, while they are known.
    pub(super) id: Option<(u32, u32)>,
    pub(super) accord: Accord,
    /// The reading before.
    pub(super) before: Option<Cake>,
    /// What was wrong at the last look.
    pub(super) finding: Option<CakeError>,
    /// What was wrong with the last write, and when that was.
    pub(super) refusal: Option<(CakeError, Instant)>,
}

impl Target {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            id: None,
            accord: Accord::default(),
            before: None,
            finding: None,
            refusal: None,
        }
    }

    /// Returns what keeps it from being controlled.
    pub(super) fn trouble(&self) -> Option<&CakeError> {
        self.finding.as_ref().or(self.refusal.as_ref().map(|(error, _)| error))
    }
}

/// Reports a qdisc that was found.
pub(super) fn tell_found(interface: &str, direction: Direction, found: &Found) {
    let (rate, handle) = (show_rate(found.cake.rate()), format!("{:x}:", found.handle >> 16));
    let direction = direction.name();
    tracing::info!(interface, direction, handle, rate, "CAKE found");
    if found.cake.is_autorate {
        tracing::warn!(interface, "{}", super::AUTORATE);
    }
}

/// Reports what is wrong with a qdisc when that changes.
pub(super) fn tell_finding(target: &mut Target, finding: Option<&CakeError>) {
    if target.finding.as_ref() == finding {
        return;
    }
    match finding {
        Some(error) => tracing::warn!(%error, "a shaper is missing"),
        None => tracing::info!(interface = target.name, "the shaper is back"),
    }
    target.finding = finding.cloned();
}
