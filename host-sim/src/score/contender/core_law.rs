//! Our core with a configuration: `classic`, `adaptive` and whatever a file says.

use embassy_time::Duration;
use wanctl_core::config::{
    BlindConfig, BlindMode, Checks, Config, ConfigError, LawConfig, Quirks, WriteBudgetConfig,
    WriteLimit, ZoneFloors,
};
use wanctl_core::controller::Controller;
use wanctl_core::example;
use wanctl_core::fixed::Ratio;
use wanctl_core::outputs::{Action, Outputs};
use wanctl_core::tick::Tick;
use wanctl_core::units::{BitsPerSecond, PerDirection, TimeConstant};

use super::budget::Budget;
use super::{Asks, Contender, Insight, RateAsk};
use crate::score::model::Truth;
use crate::score::model::router::Backend;
use crate::score::scenario::{Limits, Scenario};

/// The core as a contender.
#[derive(Debug)]
pub struct CoreLaw {
    controller: Box<Controller<1>>,
    outputs: Outputs,
}

impl CoreLaw {
    /// Makes a controller with one WAN.
    ///
    /// # Errors
    ///
    /// When the configuration does not work.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        Ok(Self { controller: Box::new(Controller::new(config)?), outputs: Outputs::new() })
    }
}

impl Contender for CoreLaw {
    fn step(&mut self, tick: &Tick, _truth: &Truth<'_>, asks: &mut Asks) {
        self.controller.step(tick, &mut self.outputs);
        for action in &self.outputs.actions {
            match *action {
                Action::SendProbe { reflector, .. } => asks.probes |= 1 << (reflector.0 & 7),
                Action::SetRate { id, direction, rate, .. } => {
                    let ask = RateAsk { rate: rate.get(), id: Some(id) };
                    *asks.rates.get_mut(direction) = Some(ask);
                }
                Action::CheckGateway { .. } => asks.checks[0] = true,
                Action::CheckTcp { .. } => asks.checks[1] = true,
                // A scenario has one line: there is nothing to steer to.
                Action::SetSteering { .. } => {}
            }
        }
    }

    fn insight(&self) -> Insight {
        let snapshot = self.controller.snapshot();
        let Some(wan) = snapshot.wans().first() else { return Insight::default() };
        Insight {
            delay_us: Some(wan.delay.as_micros_rounded()),
            baseline_us: Some(wan.baseline.as_micros_rounded()),
            wanted: PerDirection {
                download: Some(wan.directions.download.wanted.get()),
                upload: Some(wan.directions.upload.wanted.get()),
            },
        }
    }
}

/// Returns a configuration for a scenario that differs from the example in limits and writes only.
fn for_scenario(scenario: &Scenario, backend: Backend, budget: Option<Budget>) -> Config {
    let mut config = example::config();
    for wan in &mut config.wans {
        wan.link = None;
        wan.classic.write_limit = match (backend, budget) {
            // As good as unlimited: one per tick.
            (_, None) => WriteLimit { writes: 64, window: Duration::from_secs(1) },
            (_, Some(budget)) => write_limit(budget),
        };
        for (shaper, limits) in [
            (&mut wan.shapers.download, &scenario.lines.download.limits),
            (&mut wan.shapers.upload, &scenario.lines.upload.limits),
        ] {
            shaper.ceiling = BitsPerSecond::new(limits.ceiling);
            shaper.floors = ZoneFloors::all(BitsPerSecond::new(limits.floor));
        }
    }
    config
}

/// A minute's budget as a bucket for the core: a sixth of it within ten seconds.
fn write_limit(budget: Budget) -> WriteLimit {
    let writes = u8::try_from(budget.per_minute / 6).unwrap_or(u8::MAX).clamp(1, 64);
    WriteLimit { writes, window: Duration::from_secs(10) }
}

/// The reference at its 50 ms production settings: alpha 0.005 for the load and 0.0005 for the
/// baseline per 50 ms cycle, 15/45/80 ms, 10 writes a minute, all of its quirks. Floors above the
/// scenario's own and the step up keep the production line's shares of the ceiling.
#[must_use]
pub fn classic(scenario: &Scenario) -> Config {
    let mut config = for_scenario(scenario, Backend::Linux, None);
    for wan in &mut config.wans {
        let classic = &mut wan.classic;
        classic.load_time_constant = TimeConstant::from_millis(10_000);
        classic.baseline_time_constant = TimeConstant::from_millis(100_000);
        classic.baseline_initial = None;
        classic.baseline_min = Duration::from_millis(1);
        classic.baseline_max = Duration::from_millis(1000);
        classic.write_limit = WriteLimit { writes: 10, window: Duration::from_secs(60) };
        classic.quirks = Quirks::REFERENCE;
        classic.blind = BlindConfig {
            mode: BlindMode::Graceful,
            after: Duration::MIN,
            limit: Duration::from_millis(150),
            checks: Checks::Asked { gateway: true, tcp_targets: 2, every: Duration::from_secs(5) },
        };
        let PerDirection { download, upload } = &mut wan.shapers;
        let limits = &scenario.lines.download.limits;
        download.floors = production_floors(limits);
        download.step_up = BitsPerSecond::new((limits.ceiling * 10 / 940).max(1));
        download.factor_down_yellow = Ratio::ONE;
        let limits = &scenario.lines.upload.limits;
        upload.step_up = BitsPerSecond::new((limits.ceiling / 38).max(1));
    }
    config
}

fn production_floors(limits: &Limits) -> ZoneFloors {
    let share = |of_940: u64| {
        BitsPerSecond::new((limits.ceiling * of_940 / 940).clamp(limits.floor, limits.ceiling))
    };
    ZoneFloors {
        green: share(550),
        yellow: share(350),
        soft_red: share(275),
        red: BitsPerSecond::new(limits.floor),
    }
}

/// The classic law without its quirks and with filters of our own: 250 ms and 2.5 s.
#[must_use]
pub fn tuned_classic(scenario: &Scenario, backend: Backend, budget: Option<Budget>) -> Config {
    let mut config = for_scenario(scenario, backend, budget);
    for wan in &mut config.wans {
        wan.classic.baseline_initial = None;
        wan.classic.baseline_min = Duration::from_millis(1);
        wan.classic.baseline_max = Duration::from_millis(1000);
        let limits = (&scenario.lines.download.limits, &scenario.lines.upload.limits);
        wan.shapers.download.step_up = BitsPerSecond::new((limits.0.ceiling / 94).max(1));
        wan.shapers.upload.step_up = BitsPerSecond::new((limits.1.ceiling / 38).max(1));
    }
    config
}

/// The adaptive law.
#[must_use]
pub fn adaptive(scenario: &Scenario, backend: Backend, budget: Option<Budget>) -> Config {
    let mut config = for_scenario(scenario, backend, budget);
    for wan in &mut config.wans {
        let mut adaptive = example::adaptive();
        adaptive.write_budget = budget.map(|budget| WriteBudgetConfig {
            per_minute: u16::try_from(budget.per_minute).unwrap_or(u16::MAX),
            per_second: u8::try_from(budget.per_second).unwrap_or(u8::MAX),
        });
        wan.law = LawConfig::Adaptive(adaptive);
    }
    config
}
