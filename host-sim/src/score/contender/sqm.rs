//! `sqm`: our model of sqm-autorate's rules (the Lua one), written from a description of them.
//!
//! One-way delays, every 0.5 s; per reflector and direction a slow average (half-life 135 s) that
//! falls with the fast one (0.4 s); the delay of a direction is the third smallest of five
//! reflectors, the second smallest of our three. Below 15 ms and above 80 % load it grows; above
//! 15 ms it falls to 0.9 of what was achieved, or to a random rate that was safe before.
//!
//! It has no ceiling of its own; here it is held to that of the scenario, as all laws are.

use wanctl_core::tick::Tick;
use wanctl_core::units::{Direction, PerDirection};

use super::{Asks, Contender, RateAsk};
use crate::score::model::Truth;
use crate::score::model::probes::REFLECTORS;
use crate::score::rng::Rng;
use crate::score::scenario::{Limits, Scenario};

const TICK_US: u64 = 500_000;
const DELAY_US: i64 = 15_000;
const SAFE_RATES: usize = 100;
/// Part of the gap that remains after a tick of 0.5 s, in parts per million: 2^(-0.5 / half-life).
const SLOW_KEEP_PPM: i64 = 997_436;
const FAST_KEEP_PPM: i64 = 420_448;

#[derive(Debug, Clone, Copy, Default)]
struct Average {
    slow_us: i64,
    fast_us: i64,
    heard: bool,
}

impl Average {
    fn hear(&mut self, owd_us: i64) {
        if !std::mem::replace(&mut self.heard, true) {
            (self.slow_us, self.fast_us) = (owd_us, owd_us);
            return;
        }
        let mix = |old: i64, keep: i64| (old * keep + owd_us * (1_000_000 - keep)) / 1_000_000;
        self.fast_us = mix(self.fast_us, FAST_KEEP_PPM);
        self.slow_us = mix(self.slow_us, SLOW_KEEP_PPM).min(self.fast_us);
    }
}

#[derive(Debug, Clone)]
struct Way {
    limits: Limits,
    rate: u64,
    safe: [u64; SAFE_RATES],
    next_safe: usize,
    averages: [Average; REFLECTORS as usize],
    latest: [Option<i64>; REFLECTORS as usize],
    bytes: Option<u64>,
    latest_bytes: u64,
}

impl Way {
    fn new(limits: Limits, rng: &mut Rng) -> Self {
        let base = limits.ceiling;
        Self {
            limits,
            rate: (base * 6 / 10).max(limits.floor),
            safe: [0; SAFE_RATES].map(|_| base * (750 + rng.below(200)) / 1000),
            next_safe: 0,
            averages: [Average::default(); REFLECTORS as usize],
            latest: [None; REFLECTORS as usize],
            bytes: None,
            latest_bytes: 0,
        }
    }

    /// Returns the delay of the second fastest reflector heard in this tick.
    fn delay_us(&mut self) -> Option<i64> {
        let mut deltas = [i64::MAX; REFLECTORS as usize];
        for ((latest, average), delta) in
            self.latest.iter_mut().zip(&mut self.averages).zip(&mut deltas)
        {
            if let Some(owd_us) = latest.take() {
                average.hear(owd_us);
                *delta = average.fast_us - average.slow_us;
            }
        }
        deltas.sort_unstable();
        deltas.get(1).copied().filter(|&delta| delta < i64::MAX)
    }

    fn decide(&mut self, passed_us: u64, rng: &mut Rng) {
        let before = self.bytes.replace(self.latest_bytes);
        let bits = self.latest_bytes.saturating_sub(before.unwrap_or(self.latest_bytes)) * 8;
        let achieved = bits * 1_000_000 / passed_us.max(1);
        let next = match self.delay_us() {
            None => self.limits.floor,
            Some(delay) if delay > DELAY_US => {
                let safe = self.safe[rng.below(SAFE_RATES as u64) as usize];
                (achieved * 9 / 10).min(safe)
            }
            Some(delay) if delay < DELAY_US && achieved * 10 > self.rate * 8 => {
                self.safe[self.next_safe % SAFE_RATES] = achieved;
                self.next_safe += 1;
                let most = self.safe.iter().max().copied().unwrap_or(1).max(1);
                let room = most.saturating_sub(self.rate);
                let step = (u128::from(self.rate) * u128::from(room) / u128::from(most)) as u64;
                self.rate + step / 10 + self.limits.ceiling * 3 / 100
            }
            Some(_) => self.rate,
        };
        self.rate = next.clamp(self.limits.floor, self.limits.ceiling);
    }
}

/// sqm-autorate's rules.
#[derive(Debug)]
pub struct Sqm {
    ways: PerDirection<Way>,
    rng: Rng,
    last_us: Option<u64>,
    written: PerDirection<Option<u64>>,
}

impl Sqm {
    /// Begins at 60 % of the ceilings of a scenario.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let mut rng = Rng::new(1, 0x7371_6d00);
        let ways = PerDirection {
            download: Way::new(scenario.lines.download.limits, &mut rng),
            upload: Way::new(scenario.lines.upload.limits, &mut rng),
        };
        Self { ways, rng, last_us: None, written: PerDirection::default() }
    }
}

impl Contender for Sqm {
    fn step(&mut self, tick: &Tick, truth: &Truth<'_>, asks: &mut Asks) {
        let now_us = tick.now.as_micros();
        for reading in &tick.counters {
            self.ways.get_mut(reading.direction).latest_bytes = reading.delivered_bytes;
        }
        for (sample, one_way) in tick.samples.iter().zip(truth.one_way) {
            for direction in Direction::BOTH {
                let latest = &mut self.ways.get_mut(direction).latest;
                if let Some(latest) = latest.get_mut(usize::from(sample.reflector.0)) {
                    *latest = Some(*one_way.get(direction) as i64);
                }
            }
        }
        let passed_us = self.last_us.map_or(TICK_US, |last| now_us - last);
        if passed_us < TICK_US {
            return;
        }
        // Nothing was sent before the first tick, so nothing can have been heard.
        let is_first = self.last_us.replace(now_us).is_none();
        asks.probes = (1 << REFLECTORS) - 1;
        for direction in Direction::BOTH {
            let way = self.ways.get_mut(direction);
            if !is_first {
                way.decide(passed_us, &mut self.rng);
            }
            if self.written.get_mut(direction).replace(way.rate) != Some(way.rate) {
                *asks.rates.get_mut(direction) = Some(RateAsk { rate: way.rate, id: None });
            }
        }
    }
}
