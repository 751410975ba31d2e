//! `autorate`: our model of cake-autorate's rules, written from a description of them.
//!
//! One reply per 50 ms, reflectors in turn; OWD = RTT / 2 in both directions; per reflector a
//! baseline that falls at once and rises with 0.001 per sample; bufferbloat when 3 of the last 6
//! deltas exceed 30 ms (and one packet time); cuts of 1 to 25 % by the mean delta, 300 ms apart;
//! growth of at most 4 % per load sample of 200 ms under high load; otherwise 1 % per second back
//! to the base rate. Load is counted over the nominal interval. Answers older than 500 ms are
//! dropped.
//!
//! `adapt` is cake-adapt: the same law with its attribution. The delay is split by the shares of
//! both queues, which it estimates from TCP timestamps and this model takes from the line, and only
//! a direction with at least a quarter of the queue may be cut.

use wanctl_core::tick::Tick;
use wanctl_core::units::{Direction, PerDirection};

use super::{Asks, Contender, Insight, RateAsk};
use crate::score::model::Truth;
use crate::score::model::probes::REFLECTORS;
use crate::score::scenario::{Limits, Scenario};

/// Deltas in the detection window.
const WINDOW: usize = 6;
/// How many of them must be high.
const DETECT: usize = 3;
/// A delta above this is high, in µs one way; cuts grow from here to [`CUT_MAX_US`].
const DELAY_US: i64 = 30_000;
/// Mean delta of the largest cut.
const CUT_MAX_US: i64 = 60_000;
/// Mean delta up to which growth is largest; none at [`DELAY_US`].
const GROW_MAX_US: i64 = 10_000;
/// Factors in parts per million.
const CUT_PPM: (i64, i64) = (990_000, 750_000);
const GROW_PPM: (i64, i64) = (1_040_000, 1_000_000);
const DECAY_PPM: (u64, u64) = (990_000, 1_010_000);
const REFRACTORY_US: u64 = 300_000;
const DECAY_EVERY_US: u64 = 1_000_000;
const LOAD_INTERVAL_US: u64 = 200_000;
/// High load: more than this part of the shaper rate, in parts per million.
const HIGH_LOAD_PPM: u64 = 750_000;
/// Where the baselines begin, in µs one way.
const BASELINE_START_US: i64 = 100_000;
const STALE_US: u64 = 500_000;
/// Each direction's share of the delay without attribution.
const HALF_PPM: i64 = 500_000;
/// With attribution, the share of the queue from which on a direction may be cut.
const SHARE_MIN_PPM: i64 = 250_000;
/// Queues shorter than this have no shares.
const SHARED_US: u64 = 2_000;

#[derive(Debug, Clone)]
struct Way {
    limits: Limits,
    rate: u64,
    /// Baselines with 16 fraction bits.
    baselines: [i64; REFLECTORS as usize],
    deltas: [i64; WINDOW],
    cut_us: u64,
    decay_us: u64,
    load_us: u64,
    bytes: Option<u64>,
    latest_bytes: u64,
    achieved: u64,
    is_load_new: bool,
    may_cut: bool,
    commanded: Option<u64>,
}

impl Way {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            rate: limits.base(),
            baselines: [BASELINE_START_US << 16; REFLECTORS as usize],
            deltas: [0; WINDOW],
            cut_us: 0,
            decay_us: 0,
            load_us: 0,
            bytes: None,
            latest_bytes: 0,
            achieved: 0,
            is_load_new: false,
            may_cut: true,
            commanded: None,
        }
    }

    /// Δbytes over the nominal interval, whatever really passed.
    fn sample_load(&mut self, now_us: u64) {
        if now_us < self.load_us + LOAD_INTERVAL_US {
            return;
        }
        self.load_us = now_us;
        if let Some(before) = self.bytes.replace(self.latest_bytes) {
            let bits = self.latest_bytes.saturating_sub(before) * 8;
            self.achieved = bits * 1_000_000 / LOAD_INTERVAL_US;
        }
        self.is_load_new = true;
    }

    /// Takes a one-way delay; of the delay above the baseline `share_ppm` is this direction's.
    fn learn(&mut self, reflector: usize, owd_us: i64, share_ppm: i64, slot: usize) {
        let Some(baseline) = self.baselines.get_mut(reflector) else { return };
        let gap = (owd_us << 16) - *baseline;
        // alpha 0.001 up, 0.9 down
        *baseline += if gap > 0 { gap / 1000 } else { gap * 9 / 10 };
        // Half of the round trip's delay is what a half share makes.
        let delta = owd_us - (*baseline >> 16);
        self.deltas[slot % WINDOW] = delta * share_ppm / HALF_PPM;
        self.may_cut = share_ppm >= SHARE_MIN_PPM;
    }

    fn mean_delta(&self) -> i64 {
        self.deltas.iter().sum::<i64>() / WINDOW as i64
    }

    fn decide(&mut self, now_us: u64) {
        let packet_us = (1500 * 8 * 1_000_000 / self.rate.max(1)) as i64;
        let threshold = DELAY_US + packet_us;
        let high = self.deltas.iter().filter(|&&delta| delta > threshold).count();
        let mean = self.mean_delta();
        let is_refractory = now_us < self.cut_us + REFRACTORY_US && self.cut_us > 0;
        let is_loaded = self.achieved * 1_000_000 > self.rate * HIGH_LOAD_PPM;
        let is_load_new = std::mem::take(&mut self.is_load_new);
        let (least, most) = CUT_PPM;
        if high >= DETECT {
            if !is_refractory && self.may_cut {
                let factor = between(mean, (threshold, least), (CUT_MAX_US + packet_us, most));
                self.scale(factor as u64);
                self.cut_us = now_us;
                self.decay_us = now_us;
            }
        } else if is_loaded {
            if !is_refractory && is_load_new {
                let (most, least) = GROW_PPM;
                let factor = between(mean, (GROW_MAX_US, most), (threshold, least));
                self.scale(factor as u64);
                self.decay_us = now_us;
            }
        } else if now_us >= self.decay_us + DECAY_EVERY_US {
            self.decay_us = now_us;
            let base = self.limits.base();
            let (down, up) = DECAY_PPM;
            if self.rate > base {
                self.rate = scaled(self.rate, down).max(base);
            } else {
                self.rate = scaled(self.rate, up).min(base);
            }
        }
    }

    fn scale(&mut self, ppm: u64) {
        self.rate = scaled(self.rate, ppm).clamp(self.limits.floor, self.limits.ceiling);
    }
}

fn scaled(rate: u64, ppm: u64) -> u64 {
    (u128::from(rate) * u128::from(ppm) / 1_000_000) as u64
}

/// Returns a direction's share of what both one-way delays have above the shorter path.
fn share_ppm(one_way: &PerDirection<u64>, direction: Direction) -> i64 {
    let shortest = one_way.download.min(one_way.upload);
    let queue = one_way.get(direction) - shortest;
    let both = one_way.download + one_way.upload - 2 * shortest;
    if both < SHARED_US {
        return HALF_PPM;
    }
    (queue * 1_000_000 / both) as i64
}

/// A straight line between two points, level beyond them.
fn between(x: i64, (x0, y0): (i64, i64), (x1, y1): (i64, i64)) -> i64 {
    y0 + (y1 - y0) * (x.clamp(x0, x1) - x0) / (x1 - x0).max(1)
}

/// cake-autorate's rules.
#[derive(Debug)]
pub struct Autorate {
    has_attribution: bool,
    ways: PerDirection<Way>,
    next_reflector: u8,
    next_slot: usize,
}

impl Autorate {
    /// Begins at the base rates of a scenario; with attribution it is `adapt`.
    #[must_use]
    pub fn new(scenario: &Scenario, has_attribution: bool) -> Self {
        let ways = PerDirection {
            download: Way::new(scenario.lines.download.limits),
            upload: Way::new(scenario.lines.upload.limits),
        };
        Self { has_attribution, ways, next_reflector: 0, next_slot: 0 }
    }
}

impl Contender for Autorate {
    fn step(&mut self, tick: &Tick, truth: &Truth<'_>, asks: &mut Asks) {
        let now_us = tick.now.as_micros();
        for reading in &tick.counters {
            self.ways.get_mut(reading.direction).latest_bytes = reading.delivered_bytes;
        }
        for direction in Direction::BOTH {
            self.ways.get_mut(direction).sample_load(now_us);
        }
        for (sample, one_way) in tick.samples.iter().zip(truth.one_way) {
            if u64::from(sample.age_us) > STALE_US {
                continue;
            }
            let owd_us = (sample.rtt.get() / 2000) as i64;
            let slot = self.next_slot;
            self.next_slot += 1;
            for direction in Direction::BOTH {
                let way = self.ways.get_mut(direction);
                let share =
                    if self.has_attribution { share_ppm(one_way, direction) } else { HALF_PPM };
                way.learn(usize::from(sample.reflector.0), owd_us, share, slot);
                way.decide(now_us);
            }
        }
        asks.probes |= 1 << self.next_reflector;
        self.next_reflector = (self.next_reflector + 1) % REFLECTORS;
        for direction in Direction::BOTH {
            let way = self.ways.get_mut(direction);
            if way.commanded != Some(way.rate) {
                way.commanded = Some(way.rate);
                *asks.rates.get_mut(direction) = Some(RateAsk { rate: way.rate, id: None });
            }
        }
    }

    fn insight(&self) -> Insight {
        let rate = |direction| Some(self.ways.get(direction).rate);
        Insight {
            delay_us: u64::try_from(self.ways.download.mean_delta()).ok(),
            baseline_us: self.ways.download.baselines.iter().map(|b| (b >> 16) as u64).min(),
            wanted: PerDirection {
                download: rate(Direction::Download),
                upload: rate(Direction::Upload),
            },
        }
    }
}
