//! From round-trip times to a delay above the baseline.
//!
//! Two filters run on the same samples. *Load* follows every sample within a fraction of a
//! second. *Baseline* is the idle round-trip time: it follows slowly, and only while the line
//! looks unloaded; otherwise it is frozen. The delay that zones are made of is load minus baseline.

use embassy_time::Duration;
use serde::{Deserialize, Serialize};

use crate::config::ClassicConfig;
use crate::ewma::Ewma;
use crate::fixed::{Alpha, MicrosQ32, ticks_covering};
use crate::outputs::{Event, Outputs};
use crate::persist::LOAD_MAX;
use crate::places::Empty;
use crate::recent::WanHistory;
use crate::units::WanId;

/// A delay this close below the freeze threshold counts as equal to it: 1 ns. Whether a delay that
/// is equal on paper comes out a few bits above or below depends on how the filter's coefficient is
/// rounded, and an equal delay freezes.
const TIE: MicrosQ32 = MicrosQ32::from_bits(1 << 22);

/// The filters of one WAN.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DelayEstimate {
    load: Ewma,
    baseline: Ewma,
    baseline_min: MicrosQ32,
    baseline_max: MicrosQ32,
    freeze_delay: MicrosQ32,
    /// `None` reproduces the reference: frozen without limit.
    freeze_max_ticks: Option<u32>,
    is_seeded: bool,
    frozen_ticks: u32,
    out_of_bounds: bool,
    /// The latest sample in whole µs.
    latest_us: Option<u32>,
}

impl Empty for DelayEstimate {
    const EMPTY: Self = Self {
        load: Ewma::new(MicrosQ32::ZERO, Alpha::ZERO),
        baseline: Ewma::new(MicrosQ32::ZERO, Alpha::ZERO),
        baseline_min: MicrosQ32::ZERO,
        baseline_max: MicrosQ32::ZERO,
        freeze_delay: MicrosQ32::ZERO,
        freeze_max_ticks: None,
        is_seeded: false,
        frozen_ticks: 0,
        out_of_bounds: false,
        latest_us: None,
    };
}

impl DelayEstimate {
    pub(crate) fn new(config: &ClassicConfig, tick: Duration) -> Self {
        let initial = config.baseline_initial.map_or(MicrosQ32::ZERO, MicrosQ32::from);
        let limit = ticks_covering(config.baseline_freeze_max, tick);
        Self {
            load: Ewma::new(initial, Alpha::per_tick(tick, config.load_time_constant)),
            baseline: Ewma::new(initial, Alpha::per_tick(tick, config.baseline_time_constant)),
            baseline_min: config.baseline_min.into(),
            baseline_max: config.baseline_max.into(),
            freeze_delay: MicrosQ32::from(config.baseline_freeze_delay).saturating_sub(TIE),
            freeze_max_ticks: (!config.quirks.baseline_freezes_for_ever).then_some(limit),
            is_seeded: config.baseline_initial.is_some(),
            frozen_ticks: 0,
            out_of_bounds: false,
            latest_us: None,
        }
    }

    /// Forgets everything: the path is another one. The next sample starts both filters.
    pub(crate) fn forget(&mut self) {
        self.is_seeded = false;
        self.load.set(MicrosQ32::ZERO);
        self.baseline.set(MicrosQ32::ZERO);
        self.frozen_ticks = 0;
        self.out_of_bounds = false;
        self.latest_us = None;
    }

    /// Returns whether the filters hold anything yet.
    pub(crate) const fn is_seeded(&self) -> bool {
        self.is_seeded
    }

    /// Returns the load filter's value.
    pub(crate) const fn load(&self) -> MicrosQ32 {
        self.load.value()
    }

    /// Returns the baseline.
    pub(crate) const fn baseline(&self) -> MicrosQ32 {
        self.baseline.value()
    }

    /// Returns load minus baseline; below zero when the line got faster.
    pub(crate) const fn delay(&self) -> MicrosQ32 {
        self.load().saturating_sub(self.baseline())
    }

    /// Returns the latest sample, in whole µs.
    pub(crate) const fn latest_sample_us(&self) -> Option<u32> {
        self.latest_us
    }

    /// Returns whether the filters can hold these values.
    pub(crate) fn accepts(&self, baseline: MicrosQ32, load: MicrosQ32) -> bool {
        let bounds = self.baseline_min..=self.baseline_max;
        bounds.contains(&baseline) && (MicrosQ32::ZERO..=LOAD_MAX).contains(&load)
    }

    /// Starts the filters at values from before a restart.
    pub(crate) const fn restore(&mut self, baseline: MicrosQ32, load: MicrosQ32) {
        self.is_seeded = true;
        self.load.set(load);
        self.baseline.set(baseline);
    }

    /// Feeds one sample to both filters.
    ///
    /// `may_reanchor` tells whether a delay that never goes away can be the path's own: not while a
    /// shaper stands at its floor, because then the line may carry even less than that.
    ///
    /// The load moves first; whether the baseline may follow is decided on the new load and the
    /// old baseline; the baseline is fed with the raw sample.
    pub(crate) fn update(
        &mut self,
        wan: WanId,
        sample: MicrosQ32,
        may_reanchor: bool,
        history: &mut WanHistory,
        out: &mut Outputs,
    ) {
        history.sampled(sample);
        self.latest_us = Some(u32::try_from(sample.as_micros_rounded()).unwrap_or(u32::MAX));
        if !self.is_seeded {
            self.is_seeded = true;
            self.load.set(sample);
            self.baseline.set(sample.max(self.baseline_min).min(self.baseline_max));
        }
        self.load.update(sample);
        if self.delay() < self.freeze_delay {
            self.follow(wan, sample, out);
        } else {
            self.freeze(wan, may_reanchor, history, out);
        }
    }

    /// Goes on without a sample: the baseline follows the load filter's value as if it were one.
    ///
    /// Nothing was measured, so this neither enters the history nor counts as time frozen.
    pub(crate) fn reuse_load(&mut self, wan: WanId, out: &mut Outputs) {
        if self.delay() < self.freeze_delay {
            self.follow(wan, self.load(), out);
        }
    }

    fn follow(&mut self, wan: WanId, sample: MicrosQ32, out: &mut Outputs) {
        if self.frozen_ticks > 0 {
            self.frozen_ticks = 0;
            out.tell(Event::BaselineReleased { wan, baseline: self.baseline() });
        }
        let candidate = self.baseline.candidate(sample);
        if candidate >= self.baseline_min && candidate <= self.baseline_max {
            self.baseline.set(candidate);
            self.out_of_bounds = false;
        } else if !self.out_of_bounds {
            self.out_of_bounds = true;
            out.tell(Event::BaselineOutOfBounds { wan, candidate });
        }
    }

    fn freeze(&mut self, wan: WanId, may_reanchor: bool, history: &WanHistory, out: &mut Outputs) {
        if self.frozen_ticks == 0 {
            let (baseline, delay) = (self.baseline(), self.delay());
            out.tell(Event::BaselineFrozen { wan, baseline, delay });
        }
        self.frozen_ticks = self.frozen_ticks.saturating_add(1);
        if may_reanchor && self.freeze_max_ticks.is_some_and(|limit| self.frozen_ticks >= limit) {
            self.reanchor(wan, history, out);
        }
    }

    /// Ends a freeze that has lasted too long. A queue would have drained at least once in all
    /// that time, so the lowest sample of the period is the idle time of a changed path.
    fn reanchor(&mut self, wan: WanId, history: &WanHistory, out: &mut Outputs) {
        let frozen = usize::try_from(self.frozen_ticks).unwrap_or(usize::MAX);
        // The next freeze period begins; that it is frozen has been told already.
        self.frozen_ticks = 1;
        let Some(lowest) = history.lowest_sample(frozen) else { return };
        let (from, to) = (self.baseline(), lowest.min(self.baseline_max));
        if to > from {
            self.baseline.set(to);
            out.tell(Event::BaselineReanchored { wan, from, to });
        }
    }
}
