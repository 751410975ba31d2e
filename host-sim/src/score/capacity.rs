//! The capacity of one direction over time, and the generators that make it.

use super::rng::Rng;
use super::scenario::{CapacitySpec, WanderSpec};

/// Length of a bin of generated capacities.
pub const BIN_MS: u64 = 10;
/// How often a wandering capacity moves.
const WANDER_STEP_MS: u64 = 50;

/// Over this much of the time ahead a capacity is averaged for the delay of a queue.
const AHEAD_BINS: usize = 10;
/// Over this much time on either side it is averaged to tell an outage from a short gap.
const AROUND_BINS: usize = 25;

/// A capacity in bins of [`BIN_MS`]; after the last one it begins again.
///
/// Radio links deliver in bursts: a bin of 10 ms may be empty on a line that works. Whatever needs
/// more than the bits of a moment takes one of the averages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    rates: Vec<u64>,
    ahead: Vec<u64>,
    around: Vec<u64>,
}

/// The capacity of one bin, in bit/s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bin {
    /// In the bin itself.
    pub rate: u64,
    /// Mean over the next 100 ms.
    pub ahead: u64,
    /// Mean over the 500 ms around.
    pub around: u64,
}

impl Capacity {
    /// Makes a capacity that never changes.
    #[must_use]
    pub fn constant(rate: u64) -> Self {
        Self::new(vec![rate])
    }

    /// Makes a capacity from the rates of its bins, in bit/s.
    #[must_use]
    pub fn new(rates: Vec<u64>) -> Self {
        let mut sums = Vec::with_capacity(rates.len() + 1);
        let mut sum = 0_u128;
        sums.push(sum);
        for rate in &rates {
            sum += u128::from(*rate);
            sums.push(sum);
        }
        let mean = |from: usize, to: usize| {
            let to = to.min(rates.len());
            ((sums[to] - sums[from]) / (to - from).max(1) as u128) as u64
        };
        let ahead = (0..rates.len()).map(|bin| mean(bin, bin + AHEAD_BINS)).collect();
        let around = |bin: usize| mean(bin.saturating_sub(AROUND_BINS), bin + AROUND_BINS);
        let around = (0..rates.len()).map(around).collect();
        Self { rates, ahead, around }
    }

    /// Returns the capacity at a time.
    #[must_use]
    pub fn at_ms(&self, ms: u64) -> Bin {
        let bins = self.rates.len();
        let bin = (ms / BIN_MS) as usize;
        let bin = if bin < bins { bin } else { bin % bins.max(1) };
        let get = |rates: &[u64]| rates.get(bin).copied().unwrap_or_default();
        Bin { rate: get(&self.rates), ahead: get(&self.ahead), around: get(&self.around) }
    }

    /// Returns the mean rate over `ms` from a time on: what an oracle would know.
    #[must_use]
    pub fn mean_from_ms(&self, from_ms: u64, ms: u64) -> u64 {
        let bins = (ms / BIN_MS).max(1);
        let sum: u64 = (0..bins).map(|bin| self.at_ms(from_ms + bin * BIN_MS).rate).sum();
        sum / bins
    }

    /// Returns the rates of the bins, each averaged over the 500 ms around.
    #[must_use]
    pub fn smooth(&self) -> &[u64] {
        &self.around
    }

    /// Returns how long it lasts before it begins again, in ms.
    #[must_use]
    pub const fn length_ms(&self) -> u64 {
        self.rates.len() as u64 * BIN_MS
    }

    /// Makes the capacity a specification asks for.
    #[must_use]
    pub fn generate(spec: &CapacitySpec, seconds: u64, mut rng: Rng) -> Self {
        let bins = (seconds * 1000).div_ceil(BIN_MS).max(1);
        let times = (0..bins).map(|bin| bin * BIN_MS);
        let rates = match spec {
            CapacitySpec::Constant(rate) => return Self::constant(*rate),
            CapacitySpec::Trace(trace) => return (**trace).clone(),
            CapacitySpec::Steps(steps) => times.map(|ms| step_at(steps, ms)).collect(),
            CapacitySpec::Ramps(points) => times.map(|ms| ramp_at(points, ms)).collect(),
            CapacitySpec::Wander(wander) => wander_rates(wander, bins, &mut rng),
            &CapacitySpec::Markov { high, low, high_ms, low_ms } => {
                let (mut is_high, mut until) = (true, rng.exponential(high_ms));
                times
                    .map(|ms| {
                        while ms >= until {
                            is_high = !is_high;
                            let mean = if is_high { high_ms } else { low_ms };
                            until += rng.exponential(mean).max(BIN_MS);
                        }
                        if is_high { high } else { low }
                    })
                    .collect()
            }
            &CapacitySpec::Diurnal { night, evening, day_s } => {
                let day_ms = (day_s * 1000).max(1);
                times.map(|ms| diurnal_at(night, evening, ms % day_ms, day_ms)).collect()
            }
        };
        Self::new(rates)
    }
}

fn step_at(steps: &[(u64, u64)], ms: u64) -> u64 {
    let index = steps.partition_point(|&(from, _)| from <= ms).saturating_sub(1);
    steps.get(index).map_or(0, |&(_, rate)| rate)
}

fn ramp_at(points: &[(u64, u64)], ms: u64) -> u64 {
    let next = points.partition_point(|&(from, _)| from <= ms);
    let Some(&(from_ms, from)) = points.get(next.saturating_sub(1)) else { return 0 };
    let Some(&(to_ms, to)) = points.get(next) else { return from };
    let (passed, whole) = (ms.saturating_sub(from_ms), (to_ms - from_ms).max(1));
    let share = |rate: u64, part: u64| u128::from(rate) * u128::from(part) / u128::from(whole);
    (share(from, whole - passed.min(whole)) + share(to, passed.min(whole))) as u64
}

/// A parabola up and down stands in for the cosine: same ends, same smoothness for our purpose.
fn diurnal_at(night: u64, evening: u64, ms: u64, day_ms: u64) -> u64 {
    let half = (day_ms / 2).max(1);
    let from_middle = ms.abs_diff(half).min(half); // half at the ends, 0 in the middle
    let square = u128::from(from_middle) * u128::from(from_middle);
    let gap = u128::from(night.saturating_sub(evening));
    evening + (gap * square / (u128::from(half) * u128::from(half))) as u64
}

/// x += (mean - x) dt/tau + sigma sqrt(2 dt/tau) noise, in parts per million of the mean.
fn wander_rates(spec: &WanderSpec, bins: u64, rng: &mut Rng) -> Vec<u64> {
    let step_ms = WANDER_STEP_MS;
    let sigma_ppm = spec.sigma_permille as i64 * 1000;
    let root_milli = (2_000_000 * step_ms / spec.tau_ms.max(1)).isqrt() as i64;
    let mut offset_ppm = sigma_ppm * rng.bell_milli() / 1000;
    let mut next_redraw = if spec.redraw_ms > 0 { spec.redraw_ms } else { u64::MAX };
    let mut outage = Outage::new(spec, rng);
    let mut rates = Vec::with_capacity(bins as usize);
    for bin in 0..bins {
        let ms = bin * BIN_MS;
        if ms.is_multiple_of(step_ms) && ms > 0 {
            offset_ppm -= offset_ppm * step_ms as i64 / spec.tau_ms.max(1) as i64;
            offset_ppm += sigma_ppm * root_milli / 1000 * rng.bell_milli() / 1000;
        }
        if ms >= next_redraw {
            next_redraw += spec.redraw_ms;
            offset_ppm = sigma_ppm * rng.bell_milli() / 1000;
        }
        let factor = u64::try_from(1_000_000 + offset_ppm).unwrap_or(0);
        let rate = (u128::from(spec.mean) * u128::from(factor) / 1_000_000) as u64;
        let is_out = outage.is_at(ms, spec, rng);
        let rate = if is_out { 0 } else { rate.clamp(spec.min, spec.max) };
        rates.push(flutter(rate, spec.flutter_permille, rng));
    }
    rates
}

/// One bin may carry more or less than the mean: frames, grants and retransmissions of the link.
fn flutter(rate: u64, permille: u64, rng: &mut Rng) -> u64 {
    if permille == 0 {
        return rate;
    }
    let factor = 1_000_000 + permille as i64 * rng.bell_milli();
    (u128::from(rate) * u128::from(u64::try_from(factor).unwrap_or(0)) / 1_000_000) as u64
}

struct Outage {
    begin: u64,
    end: u64,
}

impl Outage {
    fn new(spec: &WanderSpec, rng: &mut Rng) -> Self {
        let mut outage = Self { begin: u64::MAX, end: u64::MAX };
        outage.plan(0, spec, rng);
        outage
    }

    fn plan(&mut self, from: u64, spec: &WanderSpec, rng: &mut Rng) {
        if spec.outage_every_ms > 0 {
            self.begin = from + rng.exponential(spec.outage_every_ms);
            self.end = self.begin + rng.exponential(spec.outage_ms).max(BIN_MS);
        }
    }

    fn is_at(&mut self, ms: u64, spec: &WanderSpec, rng: &mut Rng) -> bool {
        while ms >= self.end {
            self.plan(self.end, spec, rng);
        }
        ms >= self.begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_ramps_pass_through_their_points() {
        let spec = CapacitySpec::Steps(vec![(0, 10), (500, 20)]);
        let capacity = Capacity::generate(&spec, 1, Rng::new(1, 1));
        assert_eq!((capacity.at_ms(499).rate, capacity.at_ms(500).rate), (10, 20));
        let spec = CapacitySpec::Ramps(vec![(0, 100), (1000, 300)]);
        let capacity = Capacity::generate(&spec, 1, Rng::new(1, 1));
        assert_eq!((capacity.at_ms(0).rate, capacity.at_ms(500).rate), (100, 200));
    }

    #[test]
    fn a_wandering_capacity_keeps_its_mean_and_its_bounds() {
        let wander = WanderSpec {
            mean: 50_000_000,
            sigma_permille: 200,
            tau_ms: 2000,
            min: 20_000_000,
            max: 90_000_000,
            redraw_ms: 0,
            outage_every_ms: 0,
            outage_ms: 0,
            flutter_permille: 0,
        };
        let capacity = Capacity::generate(&CapacitySpec::Wander(wander), 2000, Rng::new(5, 1));
        let mean = capacity.rates.iter().sum::<u64>() / capacity.rates.len() as u64;
        assert!((48_000_000..52_000_000).contains(&mean), "{mean}");
        assert!(capacity.rates.iter().all(|rate| (20_000_000..=90_000_000).contains(rate)));
        let square = |rate: u64| (rate.abs_diff(mean) / 1000).pow(2);
        let variance =
            capacity.rates.iter().map(|&r| square(r)).sum::<u64>() / capacity.rates.len() as u64;
        assert!((8_000..11_500).contains(&variance.isqrt()), "{}", variance.isqrt());
    }
}
