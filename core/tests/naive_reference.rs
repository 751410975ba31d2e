//! The core with all quirks on against a naive model of the reference in plain doubles.
//!
//! The model follows the words of the reference (wanctl v1.1), not the code of the core.

mod common;

use embassy_time::Duration;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use wanctl_core::config::{BlindConfig, BlindMode, Checks, ClassicConfig, Quirks, WriteLimit};
use wanctl_core::fixed::MicrosQ32;
use wanctl_core::snapshot::{DirectionSnapshot, TickResult};
use wanctl_core::units::{BitsPerSecond, PerDirection, RttNanos, TimeConstant};

use self::common::random::{Random, ShaperFigures};
use self::common::{Profile, Rig};

/// The tick of the reference.
const CYCLE_MS: f64 = 50.0;

/// The parameters of the reference.
#[derive(Debug, Clone)]
struct Figures {
    download: ShaperFigures,
    upload: ShaperFigures,
    target_us: u64,
    warn_us: u64,
    hard_us: u64,
    freeze_us: u64,
    initial_us: u64,
    min_us: u64,
    max_us: u64,
    load_tau_ns: u64,
    baseline_tau_ns: u64,
    mode: BlindMode,
    fallback_cycles: u64,
    max_changes: u64,
    window_ms: u64,
}

impl Figures {
    fn random(random: &mut Random) -> Self {
        let target_us = random.range(1000, 20_000);
        let warn_us = target_us + random.range(1000, 40_000);
        let min_us = random.range(1000, 20_000);
        let max_us = min_us + random.range(1000, 60_000);
        // YELLOW never decays in the reference.
        let shaper = |random: &mut Random| ShaperFigures {
            factor_down_yellow_ppm: 1_000_000,
            ..ShaperFigures::random(random)
        };
        Self {
            download: shaper(random),
            upload: shaper(random),
            target_us,
            warn_us,
            hard_us: warn_us + random.range(1000, 60_000),
            freeze_us: random.range(500, 6000),
            // Now and then outside the bounds: then the reference's baseline is stuck.
            initial_us: if random.once_in(10) { 90_000 } else { random.range(min_us, max_us) },
            min_us,
            max_us,
            load_tau_ns: random.range(50_000_000, 2_000_000_000),
            baseline_tau_ns: random.range(500_000_000, 100_000_000_000),
            mode: random.pick(&[BlindMode::Graceful, BlindMode::Freeze, BlindMode::UseLastRtt]),
            fallback_cycles: random.range(1, 5),
            max_changes: random.range(1, 20),
            window_ms: random.range(100, 20_000),
        }
    }

    fn core(&self) -> Profile {
        let micros = Duration::from_micros;
        let shapers =
            PerDirection { download: self.download.config(), upload: self.upload.config() };
        let classic = ClassicConfig {
            target_delay: micros(self.target_us),
            warn_delay: micros(self.warn_us),
            hard_red_delay: micros(self.hard_us),
            load_time_constant: TimeConstant::from_nanos(self.load_tau_ns),
            baseline_time_constant: TimeConstant::from_nanos(self.baseline_tau_ns),
            baseline_initial: Some(micros(self.initial_us)),
            baseline_min: micros(self.min_us),
            baseline_max: micros(self.max_us),
            baseline_freeze_delay: micros(self.freeze_us),
            baseline_freeze_max: Duration::from_secs(120),
            green_hold: Duration::from_millis(250),
            soft_red_confirm: Duration::from_millis(150),
            blind: BlindConfig {
                mode: self.mode,
                after: Duration::MIN,
                checks: Checks::Given,
                limit: Duration::from_millis(50 * self.fallback_cycles),
            },
            write_limit: WriteLimit {
                writes: u8::try_from(self.max_changes).expect("at most 20"),
                window: Duration::from_millis(self.window_ms),
            },
            quirks: Quirks::REFERENCE,
        };
        Profile { shapers, classic }
    }
}

/// One queue of the reference.
#[derive(Debug, Clone)]
struct Queue {
    current_rate: u64,
    green_streak: u32,
    soft_red_streak: u32,
    red_streak: u32,
    zone: &'static str,
}

impl Queue {
    const fn new(ceiling: u64) -> Self {
        let zone = "GREEN";
        Self { current_rate: ceiling, green_streak: 0, soft_red_streak: 0, red_streak: 0, zone }
    }

    fn adjust_4state(&mut self, figures: &Figures, delta: f64) {
        let shaper = &figures.download;
        let raw = if delta > ms(figures.hard_us) {
            "RED"
        } else if delta > ms(figures.warn_us) {
            "SOFT_RED"
        } else if delta > ms(figures.target_us) {
            "YELLOW"
        } else {
            "GREEN"
        };
        let (green, soft, red) = (self.green_streak, self.soft_red_streak, self.red_streak);
        (self.green_streak, self.soft_red_streak, self.red_streak) = match raw {
            "RED" => (0, 0, red + 1),
            "SOFT_RED" => (0, soft + 1, 0),
            "YELLOW" => (0, 0, 0),
            _ => (green + 1, 0, 0),
        };
        self.zone = if raw == "SOFT_RED" && self.soft_red_streak < 3 { "YELLOW" } else { raw };
        let (proposed, floor) = if self.red_streak >= 1 {
            (decayed(self.current_rate, shaper.factor_down_ppm), shaper.red)
        } else if self.zone == "SOFT_RED" {
            (self.current_rate, shaper.soft_red)
        } else if self.green_streak >= 5 {
            (self.current_rate + shaper.step_up, shaper.green)
        } else if self.zone == "YELLOW" {
            (self.current_rate, shaper.yellow)
        } else {
            (self.current_rate, shaper.green)
        };
        self.current_rate = bounds(proposed, floor, shaper.ceiling);
    }

    fn adjust_3state(&mut self, figures: &Figures, delta: f64) {
        let shaper = &figures.upload;
        if delta > ms(figures.warn_us) {
            self.zone = "RED";
            self.red_streak += 1;
            self.green_streak = 0;
        } else if delta > ms(figures.target_us) {
            self.zone = "YELLOW";
            self.green_streak = 0;
            self.red_streak = 0;
        } else {
            self.zone = "GREEN";
            self.green_streak += 1;
            self.red_streak = 0;
        }
        let proposed = if self.red_streak >= 1 {
            decayed(self.current_rate, shaper.factor_down_ppm)
        } else if self.green_streak >= 5 {
            self.current_rate + shaper.step_up
        } else {
            self.current_rate
        };
        self.current_rate = bounds(proposed, shaper.red, shaper.ceiling);
    }
}

fn ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// `int(rate * factor)`.
fn decayed(rate: u64, factor_ppm: u32) -> u64 {
    (rate as f64 * (f64::from(factor_ppm) / 1e6)) as u64
}

/// The reference's bounds function: the ceiling wins, fractions are cut off.
fn bounds(rate: u64, floor: u64, ceiling: u64) -> u64 {
    (rate as f64).max(floor as f64).min(ceiling as f64) as u64
}

/// What a row came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowEnd {
    /// A normal row.
    Done,
    /// Too near to a threshold to say more about this trace.
    TooClose,
}

/// One WAN of the reference.
#[derive(Debug, Clone)]
struct Model {
    figures: Figures,
    load: f64,
    baseline: f64,
    download: Queue,
    upload: Queue,
    cycles_without_icmp: u64,
    changes_ms: Vec<u64>,
    now_ms: u64,
    last_applied: Option<(u64, u64)>,
    router_written: bool,
    result: TickResult,
}

impl Model {
    fn new(figures: &Figures) -> Self {
        Self {
            load: ms(figures.initial_us),
            baseline: ms(figures.initial_us),
            download: Queue::new(figures.download.ceiling),
            upload: Queue::new(figures.upload.ceiling),
            figures: figures.clone(),
            cycles_without_icmp: 0,
            changes_ms: Vec::new(),
            now_ms: 0,
            last_applied: None,
            router_written: false,
            result: TickResult::Waiting,
        }
    }

    fn row(&mut self, rtt: Option<f64>, connected: bool) -> RowEnd {
        self.now_ms += 50;
        self.router_written = false;
        let sample = match rtt {
            Some(rtt) => {
                self.cycles_without_icmp = 0;
                Ok(rtt)
            }
            None => self.sample_without_icmp(connected),
        };
        match sample {
            Ok(sample) => {
                self.result = TickResult::Controlled;
                self.cycle(sample)
            }
            Err(result) => {
                self.result = result;
                RowEnd::Done
            }
        }
    }

    fn sample_without_icmp(&mut self, connected: bool) -> Result<f64, TickResult> {
        if !connected {
            return Err(TickResult::Failed);
        }
        self.cycles_without_icmp += 1;
        match self.figures.mode {
            BlindMode::Graceful => match self.cycles_without_icmp {
                1 => Ok(self.load),
                n if n <= self.figures.fallback_cycles => Err(TickResult::Frozen),
                _ => Err(TickResult::Failed),
            },
            BlindMode::Freeze => Err(TickResult::Frozen),
            BlindMode::UseLastRtt => Ok(self.load),
        }
    }

    fn cycle(&mut self, rtt: f64) -> RowEnd {
        let figures = self.figures.clone();
        let alpha_load = CYCLE_MS * 1e6 / figures.load_tau_ns as f64;
        let alpha_baseline = CYCLE_MS * 1e6 / figures.baseline_tau_ns as f64;
        self.load = (1.0 - alpha_load) * self.load + alpha_load * rtt;
        let mut too_close = false;
        let delta = self.load - self.baseline;
        too_close |= is_close(delta, ms(figures.freeze_us), 0.002);
        if delta < ms(figures.freeze_us) {
            let candidate = (1.0 - alpha_baseline) * self.baseline + alpha_baseline * rtt;
            for bound in [figures.min_us, figures.max_us] {
                too_close |= is_close(candidate, ms(bound), 0.000_1);
            }
            if ms(figures.min_us) <= candidate && candidate <= ms(figures.max_us) {
                self.baseline = candidate;
            }
        }
        let delta = self.load - self.baseline;
        for threshold in [figures.target_us, figures.warn_us, figures.hard_us] {
            too_close |= is_close(delta, ms(threshold), 0.002);
        }
        self.download.adjust_4state(&figures, delta);
        self.upload.adjust_3state(&figures, delta);
        self.apply();
        if too_close { RowEnd::TooClose } else { RowEnd::Done }
    }

    fn apply(&mut self) {
        let wanted = (self.download.current_rate, self.upload.current_rate);
        if self.last_applied == Some(wanted) {
            return;
        }
        let (now_ms, window_ms) = (self.now_ms, self.figures.window_ms);
        self.changes_ms.retain(|&at| at + window_ms >= now_ms);
        if self.changes_ms.len() as u64 >= self.figures.max_changes {
            return;
        }
        self.changes_ms.push(now_ms);
        self.last_applied = Some(wanted);
        self.router_written = true;
    }
}

fn is_close(a: f64, b: f64, margin: f64) -> bool {
    (a - b).abs() < margin
}

/// Makes round-trip times: walks, steps, spikes and silence.
#[derive(Debug)]
struct Line {
    random: Random,
    level_us: u64,
    silent_rows: u64,
    connected: bool,
}

impl Line {
    fn row(&mut self) -> (Option<RttNanos>, bool) {
        let random = &mut self.random;
        if self.silent_rows > 0 {
            self.silent_rows -= 1;
            if random.once_in(5) {
                self.connected = !self.connected;
            }
            return (None, self.connected);
        }
        match random.range(0, 99) {
            0..=2 => self.level_us = random.range(500, 200_000),
            3..=8 => self.level_us = random.range(5000, 60_000),
            9..=10 => {
                self.silent_rows = random.range(0, 8);
                self.connected = !random.once_in(4);
                return (None, self.connected);
            }
            11..=13 => return (Some(RttNanos::new(random.range(0, 2_000_000_000))), true),
            _ => {
                let walked = self.level_us + random.range(0, 2000);
                self.level_us = walked.saturating_sub(1000);
            }
        }
        let nanos = self.level_us * 1000 + random.range(0, 500_000);
        (Some(RttNanos::new(nanos)), true)
    }
}

fn micros(value: MicrosQ32) -> f64 {
    value.to_bits() as f64 / 4_294_967_296.0
}

fn compare_queue(row: usize, model: &Queue, core: &DirectionSnapshot) -> TestCaseResult {
    prop_assert_eq!(core.zone.name(), model.zone, "row {}", row);
    let streaks = (core.streaks.green, core.streaks.soft_red, core.streaks.red);
    let expected = (model.green_streak, model.soft_red_streak, model.red_streak);
    prop_assert_eq!(streaks, expected, "row {}", row);
    let difference = core.wanted.get().abs_diff(model.current_rate);
    prop_assert!(
        difference <= 10,
        "row {row}: {} against {}",
        core.wanted.get(),
        model.current_rate
    );
    Ok(())
}

fn compare(row: usize, model: &Model, rig: &Rig) -> TestCaseResult {
    let wan = rig.wan();
    prop_assert_eq!(wan.result, model.result, "row {}", row);
    let (load, baseline) = (micros(wan.load), micros(wan.baseline));
    prop_assert!(is_close(load, model.load * 1000.0, 1.0), "row {row}: load {load}");
    prop_assert!(is_close(baseline, model.baseline * 1000.0, 1.0), "row {row}: base {baseline}");
    compare_queue(row, &model.download, &wan.directions.download)?;
    compare_queue(row, &model.upload, &wan.directions.upload)?;
    prop_assert_eq!(u64::from(wan.blind_ticks), model.cycles_without_icmp, "row {}", row);
    prop_assert_eq!(!rig.commands().is_empty(), model.router_written, "row {}", row);
    let rate = |direction: &DirectionSnapshot| direction.commanded.map_or(0, BitsPerSecond::get);
    let applied = (rate(&wan.directions.download), rate(&wan.directions.upload));
    let expected = model.last_applied.unwrap_or_default();
    let differences = (applied.0.abs_diff(expected.0), applied.1.abs_diff(expected.1));
    prop_assert!(differences.0 <= 10 && differences.1 <= 10, "row {row}: {applied:?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn the_core_does_what_the_words_of_the_reference_say(
        seed in any::<u64>().no_shrink(),
        rows in 1..1200_usize,
    ) {
        let mut random = Random::new(seed);
        let figures = Figures::random(&mut random);
        let mut model = Model::new(&figures);
        let mut rig = Rig::with_reflectors(figures.core(), 1);
        let level_us = figures.initial_us;
        let mut line = Line { random, level_us, silent_rows: 0, connected: true };
        for row in 0..rows {
            let (rtt, connected) = line.row();
            let end = model.row(rtt.map(|rtt| rtt.get() as f64 / 1e6), connected);
            match rtt {
                Some(rtt) => rig.answer_nanos(rtt.get()),
                None => rig.lose(connected),
            }
            // After such a row the two may differ and still both be right.
            if end == RowEnd::TooClose {
                break;
            }
            compare(row, &model, &rig)?;
        }
    }
}
