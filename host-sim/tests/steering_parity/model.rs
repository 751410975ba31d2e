//! The steering of the reference (wanctl v1.1) in plain doubles: as naive as its description.

/// The cycle that the reference's confidence timers count with, whatever the real one, in s.
const CYCLE_SECONDS: f64 = 0.05;

/// The reference's settings, in its own units.
#[derive(Debug, Clone)]
pub(crate) struct Parameters {
    pub(crate) yellow_rtt_ms: f64,
    pub(crate) red_rtt_ms: f64,
    pub(crate) min_drops_red: i64,
    pub(crate) min_queue_yellow: f64,
    pub(crate) min_queue_red: f64,
    pub(crate) rtt_ewma_alpha: f64,
    pub(crate) queue_ewma_alpha: f64,
    pub(crate) red_samples_required: u64,
    pub(crate) green_samples_required: u64,
    pub(crate) baseline_min_ms: f64,
    pub(crate) baseline_max_ms: f64,
    /// Whether a failed ping is replaced by the last good one. The reference does so once its state
    /// was loaded from a file, and never in a first run.
    pub(crate) rtt_history: bool,
    pub(crate) confidence: Option<ConfidenceParameters>,
}

#[derive(Debug, Clone)]
pub(crate) struct ConfidenceParameters {
    pub(crate) steer_threshold: u32,
    pub(crate) recovery_threshold: u32,
    pub(crate) sustain_duration_sec: f64,
    pub(crate) recovery_sustain_sec: f64,
    pub(crate) hold_down_duration_sec: f64,
    pub(crate) flap_detection_enabled: bool,
    pub(crate) flap_window_minutes: f64,
    pub(crate) max_toggles: usize,
    pub(crate) penalty_duration_sec: f64,
    pub(crate) dry_run: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            yellow_rtt_ms: 15.0,
            red_rtt_ms: 15.0,
            min_drops_red: 1,
            min_queue_yellow: 10.0,
            min_queue_red: 50.0,
            rtt_ewma_alpha: 0.3,
            queue_ewma_alpha: 0.4,
            red_samples_required: 2,
            green_samples_required: 15,
            baseline_min_ms: 10.0,
            baseline_max_ms: 60.0,
            rtt_history: false,
            confidence: None,
        }
    }
}

impl Default for ConfidenceParameters {
    fn default() -> Self {
        Self {
            steer_threshold: 55,
            recovery_threshold: 20,
            sustain_duration_sec: 2.0,
            recovery_sustain_sec: 3.0,
            hold_down_duration_sec: 30.0,
            flap_detection_enabled: true,
            flap_window_minutes: 5.0,
            max_toggles: 4,
            penalty_duration_sec: 60.0,
            dry_run: true,
        }
    }
}

/// What a cycle reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input {
    pub(crate) rtt_ms: Option<f64>,
    /// The queue's drop counter and its packets; `None` is a failed read.
    pub(crate) queue: Option<(i64, f64)>,
    pub(crate) baseline_ms: Option<f64>,
    pub(crate) router_ok: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assessment {
    Green,
    Yellow,
    Red,
}

/// A router command, or a decision of the confidence mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toggle {
    Enable,
    Disable,
}

/// The reference's steering daemon; its public fields are what the expected files show.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    parameters: Parameters,
    pub(crate) ok: bool,
    pub(crate) degraded: bool,
    pub(crate) assessment: Assessment,
    pub(crate) red_count: u64,
    pub(crate) good_count: u64,
    pub(crate) rtt_delta_ewma: f64,
    pub(crate) queue_ewma: f64,
    pub(crate) cake_read_failures: u64,
    /// The router command of this cycle, whether it succeeded or not.
    pub(crate) call: Option<Toggle>,
    pub(crate) confidence: Option<Confidence>,
    baseline_ms: Option<f64>,
    previous_drops: i64,
    history_rtt: Vec<f64>,
    history_drops: Vec<i64>,
    history_queue: Vec<f64>,
    router_ok: bool,
}

impl Model {
    pub(crate) fn new(parameters: &Parameters) -> Self {
        Self {
            ok: false,
            degraded: false,
            assessment: Assessment::Green,
            red_count: 0,
            good_count: 0,
            rtt_delta_ewma: 0.0,
            queue_ewma: 0.0,
            cake_read_failures: 0,
            call: None,
            confidence: parameters.confidence.as_ref().map(Confidence::new),
            baseline_ms: None,
            previous_drops: 0,
            history_rtt: Vec::new(),
            history_drops: Vec::new(),
            history_queue: Vec::new(),
            router_ok: true,
            parameters: parameters.clone(),
        }
    }

    /// One cycle of the daemon.
    pub(crate) fn cycle(&mut self, input: &Input) {
        self.call = None;
        self.router_ok = input.router_ok;
        if let Some(confidence) = &mut self.confidence {
            confidence.cycle += 1;
        }
        self.ok = self.cycle_succeeds(input).is_some();
    }

    fn cycle_succeeds(&mut self, input: &Input) -> Option<()> {
        let bounds = self.parameters.baseline_min_ms..=self.parameters.baseline_max_ms;
        if let Some(baseline) = input.baseline_ms.filter(|baseline| bounds.contains(baseline)) {
            self.baseline_ms = Some(baseline);
        }
        let baseline_ms = self.baseline_ms?;
        let (drops, queued) = self.read_cake(input.queue);
        let rtt_ms = self.measure_rtt(input.rtt_ms)?;
        let delta = (rtt_ms - baseline_ms).max(0.0);
        let parameters = &self.parameters;
        self.rtt_delta_ewma = ewma(self.rtt_delta_ewma, delta, parameters.rtt_ewma_alpha);
        self.queue_ewma = ewma(self.queue_ewma, queued, parameters.queue_ewma_alpha);
        let decision = self.evaluate_confidence(delta, drops);
        self.assessment = self.assess(drops, queued);
        match decision {
            Some(toggle) => self.switch(toggle),
            None => self.count_samples(),
        }
        Some(())
    }

    /// Reads the queue; a failed read counts as no drops and no packets and is not remembered.
    fn read_cake(&mut self, queue: Option<(i64, f64)>) -> (i64, f64) {
        let Some((counter, queued)) = queue else {
            self.cake_read_failures += 1;
            return (0, 0.0);
        };
        self.cake_read_failures = 0;
        // The first difference is the whole counter, and that of a reset counter is negative.
        let drops = counter - self.previous_drops;
        self.previous_drops = counter;
        self.history_drops.push(drops);
        self.history_queue.push(queued);
        (drops, queued)
    }

    fn measure_rtt(&mut self, rtt_ms: Option<f64>) -> Option<f64> {
        if let Some(rtt_ms) = rtt_ms {
            self.history_rtt.push(rtt_ms);
            return Some(rtt_ms);
        }
        // The replacement is a measurement like any other, and the newest one again.
        self.history_rtt.last().copied().filter(|_| self.parameters.rtt_history)
    }

    fn assess(&self, drops: i64, queued: f64) -> Assessment {
        let parameters = &self.parameters;
        if self.rtt_delta_ewma > parameters.red_rtt_ms
            && drops >= parameters.min_drops_red
            && queued >= parameters.min_queue_red
        {
            Assessment::Red
        } else if self.rtt_delta_ewma > parameters.yellow_rtt_ms
            || queued >= parameters.min_queue_yellow
        {
            Assessment::Yellow
        } else {
            Assessment::Green
        }
    }

    /// The hysteresis over counted samples.
    fn count_samples(&mut self) {
        match (self.degraded, self.assessment) {
            (false, Assessment::Red) => {
                self.red_count += 1;
                self.good_count = 0;
                if self.red_count >= self.parameters.red_samples_required {
                    self.switch(Toggle::Enable);
                }
            }
            (false, _) => self.red_count = 0,
            (true, Assessment::Green) => {
                self.good_count += 1;
                self.red_count = 0;
                if self.good_count >= self.parameters.green_samples_required {
                    self.switch(Toggle::Disable);
                }
            }
            (true, _) => self.good_count = 0,
        }
    }

    /// Commands the router; only a success changes the state, and with it ends the counting.
    fn switch(&mut self, toggle: Toggle) {
        self.call = Some(toggle);
        if self.router_ok {
            self.degraded = toggle == Toggle::Enable;
            (self.red_count, self.good_count) = (0, 0);
        }
    }

    /// Runs the confidence mode; returns what it wants done, which in a dry run is nothing.
    fn evaluate_confidence(&mut self, delta: f64, drops: i64) -> Option<Toggle> {
        let confidence = self.confidence.as_mut()?;
        // The assessment still is that of the cycle before.
        let assessment = self.assessment;
        let mut score = match assessment {
            Assessment::Red => 50,
            Assessment::Yellow => 10,
            Assessment::Green => 0,
        };
        if delta > 120.0 {
            score += 25;
        } else if delta > 80.0 {
            score += 15;
        }
        if let [.., first, _, last] = self.history_drops[..]
            && last > first
            && last > 0
        {
            score += 10;
        }
        if let [.., before, last] = self.history_queue[..]
            && before > 50.0
            && last > 50.0
        {
            score += 10;
        }
        let calm = assessment == Assessment::Green && delta < 10.0 && (drops as f64) < 0.001;
        let decision = confidence.evaluate(score, self.degraded, calm);
        decision.filter(|_| !confidence.parameters.dry_run)
    }
}

/// The first value replaces a zero, also a true one.
fn ewma(current: f64, input: f64, alpha: f64) -> f64 {
    if current == 0.0 { input } else { (1.0 - alpha) * current + alpha * input }
}

/// Timers and flap guard of the confidence mode.
#[derive(Debug, Clone)]
pub(crate) struct Confidence {
    parameters: ConfidenceParameters,
    pub(crate) score: u32,
    pub(crate) degrade_timer: Option<f64>,
    pub(crate) hold_down_timer: Option<f64>,
    pub(crate) recovery_timer: Option<f64>,
    pub(crate) penalty: Option<f64>,
    /// The cycles of the latest toggles.
    toggles: Vec<u64>,
    cycle: u64,
}

impl Confidence {
    fn new(parameters: &ConfidenceParameters) -> Self {
        Self {
            parameters: parameters.clone(),
            score: 0,
            degrade_timer: None,
            hold_down_timer: None,
            recovery_timer: None,
            penalty: None,
            toggles: Vec::new(),
            cycle: 0,
        }
    }

    fn evaluate(&mut self, score: u32, degraded: bool, calm: bool) -> Option<Toggle> {
        self.score = score.min(100);
        self.guard_flapping();
        if degraded {
            let _ended = run_down(&mut self.hold_down_timer);
            if self.hold_down_timer.is_some() {
                return None;
            }
            let eligible = calm && self.score <= self.parameters.recovery_threshold;
            let sustain = self.parameters.recovery_sustain_sec;
            if sustained(&mut self.recovery_timer, eligible, sustain) {
                self.record_toggle();
                return Some(Toggle::Disable);
            }
        } else {
            // The threshold raised by the penalty is thrown away.
            let eligible = self.score >= self.parameters.steer_threshold;
            let sustain = self.parameters.sustain_duration_sec;
            if sustained(&mut self.degrade_timer, eligible, sustain) {
                self.hold_down_timer = Some(self.parameters.hold_down_duration_sec);
                self.record_toggle();
                return Some(Toggle::Enable);
            }
        }
        None
    }

    fn guard_flapping(&mut self) {
        if !self.parameters.flap_detection_enabled {
            return;
        }
        let _ended = run_down(&mut self.penalty);
        if self.penalty.is_none() && self.toggles.len() > self.parameters.max_toggles {
            self.penalty = Some(self.parameters.penalty_duration_sec);
        }
    }

    fn record_toggle(&mut self) {
        let age = |at: u64| (self.cycle - at) as f64 * CYCLE_SECONDS;
        let window = self.parameters.flap_window_minutes * 60.0;
        self.toggles.push(self.cycle);
        self.toggles.retain(|at| age(*at) < window);
        let excess = self.toggles.len().saturating_sub(20);
        self.toggles.drain(..excess);
    }
}

/// Arms a timer that is not running, otherwise lets it run; returns whether it ended.
fn sustained(timer: &mut Option<f64>, eligible: bool, duration: f64) -> bool {
    if !eligible {
        *timer = None;
    } else if timer.is_none() {
        *timer = Some(duration);
    } else {
        return run_down(timer);
    }
    false
}

/// Takes one cycle off a running timer; returns whether that ended it.
fn run_down(timer: &mut Option<f64>) -> bool {
    let Some(left) = *timer else { return false };
    let left = left - CYCLE_SECONDS;
    *timer = (left > 0.0).then_some(left);
    left <= 0.0
}

/// Returns after how many cycles a timer ends.
pub(crate) fn cycles_of(duration: f64) -> u32 {
    let mut timer = Some(duration);
    let mut cycles = 1;
    while !run_down(&mut timer) {
        cycles += 1;
    }
    cycles
}
