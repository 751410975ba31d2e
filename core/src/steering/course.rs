//! Where traffic goes, and what holds a change back.

use embassy_time::{Duration, Instant};
use serde::{Deserialize, Serialize};

use crate::fixed::ticks_covering;
use crate::steering::assess::WanState;
use crate::steering::config::SteeringConfig;
use crate::steering::decision::{SteeringReason, SteeringRefusal};
use crate::steering::flap::FlapGuard;
use crate::steering::hysteresis::Wish;
use crate::steering::timer::Countdown;
use crate::units::WanId;
use crate::zone::Zone;

/// A change to be made: where to (`None` is the primary), and why.
pub(super) type Change = (Option<WanId>, SteeringReason);

/// A course that traffic takes, really or virtually.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Course {
    steered_to: Option<WanId>,
    hold_down: Countdown,
    flap: FlapGuard,
    red_needed: u32,
    alternate_is_believed: bool,
    has_reference_hold_down: bool,
}

impl Course {
    pub(super) fn new(config: &SteeringConfig) -> Self {
        let has_reference_hold_down = config.quirks.timers_in_doubles;
        Self {
            steered_to: None,
            hold_down: if has_reference_hold_down {
                Countdown::in_doubles(config.hold_down, config.tick)
            } else {
                Countdown::new(config.hold_down)
            },
            flap: FlapGuard::new(config),
            red_needed: ticks_covering(config.on_after, config.tick),
            alternate_is_believed: config.quirks.alternate_is_believed,
            has_reference_hold_down,
        }
    }

    pub(super) const fn steered_to(&self) -> Option<WanId> {
        self.steered_to
    }

    pub(super) const fn flap(&self) -> &FlapGuard {
        &self.flap
    }

    pub(super) fn hold_down_left(&self) -> Option<Duration> {
        self.hold_down.left()
    }

    /// Runs and starts the flap guard's penalty as the reference does; returns whether it begins.
    pub(super) fn reconsider_flapping(&mut self, tick: Duration) -> bool {
        self.flap.reconsider(tick)
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, time: Duration) {
        if !self.has_reference_hold_down && self.hold_down.pass(time) {
            self.hold_down.stop();
        }
        self.flap.pass(time);
    }

    /// Lets the reference's hold-down run for one tick; returns whether it goes on.
    pub(super) fn is_held(&mut self, tick: Duration) -> bool {
        if self.hold_down.pass(tick) {
            self.hold_down.stop();
        }
        self.hold_down.is_started()
    }

    /// Notes that traffic takes another way now; returns whether that is flapping.
    pub(super) fn arrive(&mut self, to: Option<WanId>, now: Instant) -> bool {
        self.steered_to = to;
        self.note(to.is_some(), now)
    }

    /// Starts what follows from a change, without making it.
    pub(super) fn note(&mut self, is_steered: bool, now: Instant) -> bool {
        if is_steered {
            self.hold_down.start();
        } else if !self.has_reference_hold_down {
            self.hold_down.stop();
        }
        self.flap.record(now)
    }

    /// Returns the change that is due, if any, or what holds it back. `wans` begins with the
    /// primary. The wish is that of the authority in charge; outages need none.
    pub(super) fn plan(
        &self,
        wish: Option<Wish>,
        wans: &[WanState],
    ) -> Result<Option<Change>, SteeringRefusal> {
        let Some((primary, alternates)) = wans.split_first() else { return Ok(None) };
        if self.alternate_is_believed {
            return Ok(match (wish, self.steered_to, alternates.first()) {
                (Some(Wish::Leave(why)), None, Some(first)) => Some((Some(first.id()), why)),
                (Some(Wish::Return(why)), Some(_), _) => Some((None, why)),
                _ => None,
            });
        }
        let current = self.steered_to.and_then(|id| alternates.iter().find(|wan| wan.id() == id));
        match current {
            None => self.plan_leaving(wish, primary, alternates),
            Some(current) => self.plan_moving(wish, primary, current, alternates),
        }
    }

    fn plan_leaving(
        &self,
        wish: Option<Wish>,
        primary: &WanState,
        alternates: &[WanState],
    ) -> Result<Option<Change>, SteeringRefusal> {
        let (best, why) = match wish {
            _ if primary.is_out() => {
                (best_of(alternates, WanState::is_usable), SteeringReason::Outage)
            }
            Some(Wish::Leave(SteeringReason::Red)) if self.flap.is_penalised() => {
                return Err(SteeringRefusal::FlapGuard);
            }
            Some(Wish::Leave(why)) => (best_of(alternates, WanState::is_healthy), why),
            Some(Wish::Return(_)) | None => return Ok(None),
        };
        let best = best.ok_or(SteeringRefusal::NoAlternate)?;
        Ok(Some((Some(best.id()), why)))
    }

    fn plan_moving(
        &self,
        wish: Option<Wish>,
        primary: &WanState,
        current: &WanState,
        alternates: &[WanState],
    ) -> Result<Option<Change>, SteeringRefusal> {
        let is_other = |wan: &WanState| wan.id() != current.id();
        let healthy = best_of(alternates, |wan| is_other(wan) && wan.is_healthy());
        let usable = best_of(alternates, |wan| is_other(wan) && wan.is_usable());
        let is_held = self.hold_down.is_started();
        let is_worn = current.red_ticks() >= self.red_needed;
        if current.is_out() {
            // The hold-down protects an alternate that works; this one does not.
            let why = SteeringReason::AlternateOutage;
            let to = match (primary.is_out(), healthy, usable) {
                (false, _, _) if primary.zone() < Zone::Red => None,
                (_, Some(best), _) | (true, None, Some(best)) => Some(best.id()),
                (false, None, _) => None,
                (true, None, None) => return Err(SteeringRefusal::NoAlternate),
            };
            return Ok(Some((to, why)));
        }
        let to = match wish {
            Some(Wish::Return(why)) if !primary.is_out() => Some((None, why)),
            _ if is_worn => {
                let why = SteeringReason::AlternateRed;
                let back = primary.is_healthy().then_some((None, why));
                healthy.map(|best| (Some(best.id()), why)).or(back)
            }
            _ => None,
        };
        if to.is_some() && is_held { Err(SteeringRefusal::HoldDown) } else { Ok(to) }
    }
}

/// Returns the best of those that are good enough: the mildest zone, then the lowest score, then the
/// lowest delay, then the first.
fn best_of(wans: &[WanState], is_good: impl Fn(&WanState) -> bool) -> Option<&WanState> {
    let good = wans.iter().filter(|wan| is_good(wan));
    good.min_by_key(|wan| (wan.zone(), wan.score(), wan.filtered_delay()))
}
