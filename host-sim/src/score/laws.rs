//! The laws by name.

use anyhow::{Result, bail};
use wanctl_core::config::Config;
use wanctl_core::units::PerDirection;

use super::capacity::Capacity;
use super::contender::Contender;
use super::contender::autorate::Autorate;
use super::contender::budget::{Budget, Budgeted};
use super::contender::core_law::{self, CoreLaw};
use super::contender::fixed::{Fixed, Oracle};
use super::contender::sqm::Sqm;
use super::overrides::{self, Override};
use super::run::Setup;
use super::scenario::Scenario;

/// Something that can be scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// The reference at its 50 ms production settings.
    Classic,
    /// The classic law without its defects.
    ClassicTuned,
    /// cake-autorate's rules.
    Autorate,
    /// sqm-autorate's rules.
    Sqm,
    /// cake-adapt: cake-autorate's rules with attribution.
    Adapt,
    /// The best fixed rate in hindsight.
    Static,
    /// 95 % of the true capacity in each tick.
    Oracle,
    /// Ours.
    Adaptive,
    /// The shaper stands at its ceiling.
    None,
    /// The shaper stands at the base rate.
    Base,
}

/// Quantiles of the capacity, in per cent, that `static` tries.
const STATIC_QUANTILES: [usize; 8] = [2, 10, 20, 30, 40, 50, 65, 85];

impl Law {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 10] = [
        Self::Classic,
        Self::ClassicTuned,
        Self::Autorate,
        Self::Sqm,
        Self::Adapt,
        Self::Static,
        Self::Oracle,
        Self::Adaptive,
        Self::None,
        Self::Base,
    ];

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::ClassicTuned => "classic-tuned",
            Self::Autorate => "autorate",
            Self::Sqm => "sqm",
            Self::Adapt => "adapt",
            Self::Static => "static",
            Self::Oracle => "oracle",
            Self::Adaptive => "adaptive",
            Self::None => "none",
            Self::Base => "base",
        }
    }

    /// Finds a law by its name.
    ///
    /// # Errors
    ///
    /// When there is none of that name; the message lists the known ones.
    pub fn find(name: &str) -> Result<Self> {
        let known = Self::ALL.map(Self::name).join(", ");
        match Self::ALL.into_iter().find(|law| law.name() == name) {
            Some(law) => Ok(law),
            None => bail!("there is no law `{name}`; known are: {known}"),
        }
    }

    /// Returns whether `overrides` can say anything to it.
    #[must_use]
    pub const fn is_core(self) -> bool {
        matches!(self, Self::Classic | Self::ClassicTuned | Self::Adaptive)
    }

    /// Returns the names of those that have parameters.
    #[must_use]
    pub fn names_of_core() -> String {
        let core = Self::ALL.into_iter().filter(|law| law.is_core());
        core.map(Self::name).collect::<Vec<_>>().join(", ")
    }

    /// Makes a contender; `static` is made from a rate instead.
    ///
    /// # Errors
    ///
    /// When the configuration does not work for this scenario.
    pub fn contender(
        self,
        scenario: &Scenario,
        setup: &Setup,
        overrides: &[Override],
    ) -> Result<Box<dyn Contender>> {
        let (backend, budget) = (setup.backend, setup.budget);
        let core = |config: Config| -> Result<Box<dyn Contender>> {
            Ok(Box::new(CoreLaw::new(&overrides::apply(&config, overrides)?)?))
        };
        let ceilings = PerDirection {
            download: scenario.lines.download.limits.ceiling,
            upload: scenario.lines.upload.limits.ceiling,
        };
        Ok(match self {
            Self::Classic => core(core_law::classic(scenario))?,
            Self::ClassicTuned => core(core_law::tuned_classic(scenario, backend, budget))?,
            Self::Adaptive => core(core_law::adaptive(scenario, backend, budget))?,
            Self::Autorate => budgeted(Autorate::new(scenario, false), budget),
            Self::Adapt => budgeted(Autorate::new(scenario, true), budget),
            Self::Sqm => budgeted(Sqm::new(scenario), budget),
            Self::Oracle => Box::new(Oracle::new(scenario)),
            Self::Static | Self::None => Box::new(Fixed::new(ceilings)),
            Self::Base => Box::new(Fixed::new(PerDirection {
                download: scenario.lines.download.limits.base(),
                upload: scenario.lines.upload.limits.base(),
            })),
        })
    }
}

fn budgeted(law: impl Contender + 'static, budget: Option<Budget>) -> Box<dyn Contender> {
    match budget {
        Some(budget) => Box::new(Budgeted::new(law, budget)),
        None => Box::new(law),
    }
}

/// Returns the fixed rates that `static` tries for a capacity.
#[must_use]
pub fn static_candidates(
    scenario: &Scenario,
    capacity: &PerDirection<Capacity>,
) -> Vec<PerDirection<u64>> {
    let sorted = |capacity: &Capacity| {
        let mut rates = capacity.smooth().to_vec();
        rates.sort_unstable();
        rates
    };
    let (download, upload) = (sorted(&capacity.download), sorted(&capacity.upload));
    let rate = |sorted: &[u64], per_cent: usize, limits: &super::scenario::Limits| {
        let quantile = sorted.get(sorted.len() * per_cent / 100).copied().unwrap_or_default();
        (quantile * 95 / 100).clamp(limits.floor, limits.ceiling)
    };
    let lines = &scenario.lines;
    let candidates = STATIC_QUANTILES.map(|per_cent| PerDirection {
        download: rate(&download, per_cent, &lines.download.limits),
        upload: rate(&upload, per_cent, &lines.upload.limits),
    });
    let mut candidates = candidates.to_vec();
    candidates.dedup();
    candidates
}
