//! One run: a scenario, a seed, a law.

use anyhow::Result;
use embassy_time::Instant;
use wanctl_core::tick::Tick;
use wanctl_core::units::{Direction, PerDirection};

use super::capacity::Capacity;
use super::contender::budget::Budget;
use super::contender::fixed::Fixed;
use super::contender::{Asks, Contender};
use super::laws::{self, Law};
use super::metrics::Score;
use super::model::World;
use super::model::router::{Backend, Router};
use super::model::world::TICK_US;
use super::overrides::Override;
use super::rng::Rng;
use super::scenario::Scenario;

/// A fixed rate in hindsight may add this much delay in the mean, in µs.
const STATIC_MEAN_US: u64 = 15_000;

/// Somebody who watches a run, tick by tick.
pub trait Watch {
    /// Looks at a tick after the law has decided and before anything is done.
    ///
    /// # Errors
    ///
    /// When what was seen cannot be written down.
    fn look(&mut self, world: &World<'_>, tick: &Tick, contender: &dyn Contender) -> Result<()>;
}

/// What all runs have in common.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Where the shaper is.
    pub backend: Backend,
    /// What may be written; nothing for no limit.
    pub budget: Option<Budget>,
    /// How often RouterOS is asked for counters, in µs.
    pub counter_interval_us: u64,
}

impl Setup {
    /// The usual setup of a backend.
    #[must_use]
    pub const fn of(backend: Backend) -> Self {
        let budget = match backend {
            Backend::Linux => None,
            Backend::Routeros => Some(Budget::ROUTEROS),
        };
        Self { backend, budget, counter_interval_us: 250_000 }
    }
}

/// Makes the capacities of a scenario for a seed; all laws meet the same.
#[must_use]
pub fn capacities(scenario: &Scenario, seed: u64) -> PerDirection<Capacity> {
    let make = |direction, stream| {
        let spec = &scenario.lines.get(direction).capacity;
        Capacity::generate(spec, scenario.seconds, Rng::new(seed, stream))
    };
    PerDirection {
        download: make(Direction::Download, 0x6361_7031),
        upload: make(Direction::Upload, 0x6361_7032),
    }
}

/// Runs a law through a scenario.
///
/// # Errors
///
/// When the law cannot be configured for the scenario, or whoever watches
/// cannot write.
pub fn run(
    scenario: &Scenario,
    capacity: &PerDirection<Capacity>,
    law: Law,
    setup: &Setup,
    overrides: &[Override],
    seed: u64,
    watch: Option<&mut dyn Watch>,
) -> Result<Score> {
    if law == Law::Static {
        let rates = best_static(scenario, capacity, setup, seed)?;
        return drive(scenario, capacity, &mut Fixed::new(rates), setup, seed, watch);
    }
    let mut contender = law.contender(scenario, setup, overrides)?;
    drive(scenario, capacity, contender.as_mut(), setup, seed, watch)
}

/// The fixed rate with the best utilisation among those that add at most 15 ms in the mean, or
/// else the one that adds least.
fn best_static(
    scenario: &Scenario,
    capacity: &PerDirection<Capacity>,
    setup: &Setup,
    seed: u64,
) -> Result<PerDirection<u64>> {
    let mut best: Option<((bool, u64), PerDirection<u64>)> = None;
    for rates in laws::static_candidates(scenario, capacity) {
        let score = drive(scenario, capacity, &mut Fixed::new(rates), setup, seed, None)?;
        let is_good = score.mean_us <= STATIC_MEAN_US;
        let merit = if is_good {
            score.utilisation_ppm.unwrap_or_default()
        } else {
            u64::MAX - score.mean_us
        };
        if best.as_ref().is_none_or(|(than, _)| (is_good, merit) > *than) {
            best = Some(((is_good, merit), rates));
        }
    }
    Ok(best.map(|(_, rates)| rates).unwrap_or_default())
}

/// Runs a contender through a scenario.
///
/// # Errors
///
/// When whoever watches cannot write.
pub fn drive(
    scenario: &Scenario,
    capacity: &PerDirection<Capacity>,
    contender: &mut dyn Contender,
    setup: &Setup,
    seed: u64,
    watch: Option<&mut dyn Watch>,
) -> Result<Score> {
    let router = Router::new(setup.backend, setup.counter_interval_us, seed);
    let mut world = Box::new(World::new(scenario, capacity, router, seed));
    let mut watch = watch;
    let mut tick = Tick::new(Instant::from_ticks(0));
    for _ in 0..scenario.seconds * 1_000_000 / TICK_US {
        world.observe(&mut tick);
        let mut asks = Asks::default();
        contender.step(&tick, &world.truth(), &mut asks);
        if let Some(watch) = watch.as_deref_mut() {
            watch.look(&world, &tick, contender)?;
        }
        world.obey(&asks);
        world.advance();
    }
    Ok(world.recorder.score())
}
