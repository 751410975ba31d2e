//! A recording of the daemon as a scenario: a user's own bad evening, for every law to meet.
//!
//! A recording does not hold the capacity, only what was delivered and how long probes took. While
//! a queue stands and a direction is loaded, what it delivers is the capacity; at other times the
//! last such estimate holds, raised to what was delivered. So a capacity that no traffic ever
//! filled is only a lower bound. Without counters the load is not known either: the download is
//! taken for loaded throughout, and a queue that grows tells how far the shaper was above the
//! capacity.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use embassy_time::Instant;
use wanctl::trace_file::TraceReader;
use wanctl_core::config::Config;
use wanctl_core::tick::{Outcome, Tick};
use wanctl_core::trace::{self, Record};
use wanctl_core::units::{Direction, PerDirection, WanId};

use super::capacity::{BIN_MS, Capacity};
use super::input::InputError;
use super::scenario::{CapacitySpec, Limits, LineSpec, PathSpec, Purpose, Scenario, TrafficSpec};

/// Everything is looked at in windows of this length, in ms.
pub const WINDOW_MS: u64 = 500;
/// From here on a queue stands, in µs above the baseline.
const STANDING_US: u64 = 10_000;
/// The least a recording must hold, in windows: 20 s.
const WINDOWS_MIN: usize = 40;
/// The most that is used: six hours.
const WINDOWS_MAX: usize = 43_200;
/// Long flows that stand for whatever traffic there was.
const FLOWS: u32 = 4;
/// The provider's buffer is not known: so many ms at the ceiling.
const BUFFER_MS: u64 = 500;

/// What half a second of one WAN shows.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    min_rtt_us: Option<u64>,
    /// Mean above the minimum of the first reflector, in µs.
    spread_us: u64,
    samples: u64,
    losses: u64,
    delivered: PerDirection<Option<u64>>,
    rate: PerDirection<Option<u64>>,
}

/// One WAN while it is read.
#[derive(Debug)]
struct Wan {
    id: WanId,
    windows: Vec<Window>,
    rates: PerDirection<Option<u64>>,
    bytes: PerDirection<Option<u64>>,
    first: PerDirection<Option<u64>>,
    rtts: Vec<u64>,
    now: Window,
}

/// Makes a scenario of each WAN in a recording.
///
/// # Errors
///
/// An [`InputError`] when there is nothing of use in the file.
pub fn read(path: &Path) -> Result<Vec<Scenario>> {
    let name = || format!("{}", path.display());
    let file = std::fs::File::open(path).with_context(name)?;
    let mut reader = TraceReader::new(file);
    let mut config: Option<Config> = None;
    let mut wans: Vec<Wan> = Vec::new();
    let mut clock = Clock::default();
    while let Some(payload) = reader.next_payload().with_context(name)? {
        match trace::parse(payload) {
            Ok(Record::Header(header)) if config.is_none() => {
                let read = trace::decode_config(header.config).ok();
                let Some(read) = read.filter(|config| config.check().is_ok()) else {
                    return Err(InputError::whole(path, "its configuration is damaged").into());
                };
                wans = (0..).zip(&read.wans).map(|(id, _)| Wan::new(WanId(id))).collect();
                config = Some(read);
            }
            Ok(Record::Step { body, .. }) if config.is_some() => {
                // A damaged step is one that is missing.
                let Ok((tick, _)) = trace::decode_tick(body) else { continue };
                let is_over = clock.advance(tick.now);
                for wan in &mut wans {
                    wan.take(&tick);
                    if is_over {
                        wan.close();
                    }
                }
            }
            _ => {}
        }
    }
    let expected = "expected a recording of `wanctl run --record` of at least 20 s";
    let config = config.ok_or_else(|| InputError::whole(path, expected))?;
    let stem = path.file_stem().map_or(String::new(), |s| s.to_string_lossy().into_owned());
    let mut scenarios = Vec::new();
    for (wan, settings) in wans.iter().zip(&config.wans) {
        let limits = |direction| {
            let shaper = settings.shapers.get(direction);
            Limits::new(shaper.floors.red.get(), shaper.ceiling.get())
        };
        let limits = PerDirection {
            download: limits(Direction::Download),
            upload: limits(Direction::Upload),
        };
        let name = format!("{stem}-wan{}", wan.id.0);
        scenarios.extend(wan.scenario(name, &limits));
    }
    if scenarios.is_empty() {
        return Err(InputError::whole(path, expected).into());
    }
    Ok(scenarios)
}

/// Time that only goes on: gaps and restarts are left out.
#[derive(Debug, Default)]
struct Clock {
    last: Option<Instant>,
    within_us: u64,
}

impl Clock {
    /// Returns whether a window is over.
    fn advance(&mut self, now: Instant) -> bool {
        let passed = self.last.replace(now).and_then(|last| now.checked_duration_since(last));
        let passed_us = passed.map_or(0, |passed| passed.as_micros());
        self.within_us += if passed_us <= 1_000_000 { passed_us } else { 0 };
        let is_over = self.within_us >= WINDOW_MS * 1000;
        if is_over {
            self.within_us -= WINDOW_MS * 1000;
        }
        is_over
    }
}

impl Wan {
    fn new(id: WanId) -> Self {
        Self {
            id,
            windows: Vec::new(),
            rates: PerDirection::default(),
            bytes: PerDirection::default(),
            first: PerDirection::default(),
            rtts: Vec::new(),
            now: Window::default(),
        }
    }

    fn take(&mut self, tick: &Tick) {
        for sample in tick.samples.iter().filter(|sample| sample.wan == self.id) {
            let rtt_us = sample.rtt.get() / 1000;
            self.now.samples += 1;
            self.now.min_rtt_us = Some(self.now.min_rtt_us.map_or(rtt_us, |min| min.min(rtt_us)));
            if sample.reflector.0 == 0 {
                self.rtts.push(rtt_us);
            }
        }
        self.now.losses += tick.losses.iter().filter(|loss| loss.wan == self.id).count() as u64;
        for reading in tick.counters.iter().filter(|reading| reading.wan == self.id) {
            *self.bytes.get_mut(reading.direction) = Some(reading.delivered_bytes);
        }
        for reply in tick.replies.iter().filter(|reply| reply.wan == self.id) {
            if let Outcome::Applied(rate) = reply.outcome {
                *self.rates.get_mut(reply.direction) = Some(rate.get());
            }
        }
    }

    fn close(&mut self) {
        let mut window = std::mem::take(&mut self.now);
        window.rate = self.rates;
        for direction in Direction::BOTH {
            let bytes = *self.bytes.get(direction);
            let before = std::mem::replace(self.first.get_mut(direction), bytes);
            // A counter that went back has begun again.
            let gained = bytes.zip(before).and_then(|(now, before)| now.checked_sub(before));
            *window.delivered.get_mut(direction) =
                gained.map(|bytes| bytes.saturating_mul(8 * 1000 / WINDOW_MS));
        }
        let count = self.rtts.len() as u64;
        if let Some(&min) = self.rtts.iter().min() {
            window.spread_us = (self.rtts.iter().sum::<u64>() / count).saturating_sub(min);
        }
        self.rtts.clear();
        if self.windows.len() < WINDOWS_MAX {
            self.windows.push(window);
        }
    }

    fn scenario(&self, name: String, limits: &PerDirection<Limits>) -> Option<Scenario> {
        let mut minima: Vec<u64> = self.windows.iter().filter_map(|w| w.min_rtt_us).collect();
        if self.windows.len() < WINDOWS_MIN || minima.is_empty() {
            return None;
        }
        minima.sort_unstable();
        let base_us = minima[minima.len() / 20].max(1_000);
        let standing: Vec<Option<u64>> = self
            .windows
            .iter()
            .map(|window| window.min_rtt_us.map(|rtt| rtt.saturating_sub(base_us)))
            .collect();
        let line = |direction| self.line(direction, limits.get(direction), &standing);
        let lines =
            PerDirection { download: line(Direction::Download), upload: line(Direction::Upload) };
        let quiet = || {
            let is_quiet = |delay: &Option<u64>| delay.is_some_and(|us| us < STANDING_US);
            self.windows.iter().zip(&standing).filter(move |(_, delay)| is_quiet(delay))
        };
        let count = quiet().count().max(1) as u64;
        let jitter_us = quiet().map(|(window, _)| window.spread_us).sum::<u64>() / count;
        let losses: u64 = quiet().map(|(window, _)| window.losses).sum();
        let answers: u64 = quiet().map(|(window, _)| window.samples).sum();
        let loss_ppm = (losses * 1_000_000).checked_div(losses + answers).unwrap_or_default();
        Some(Scenario {
            name,
            purpose: Purpose::Load,
            seconds: self.windows.len() as u64 * WINDOW_MS / 1000,
            warm_up_s: 10,
            lines,
            path: PathSpec {
                base_rtt_us: base_us,
                jitter_us,
                loss_ppm: u32::try_from(loss_ppm.min(200_000)).unwrap_or_default(),
                ..PathSpec::default()
            },
            phases: Vec::new(),
        })
    }

    fn line(&self, direction: Direction, limits: &Limits, delays: &[Option<u64>]) -> LineSpec {
        let has_counters = self.windows.iter().any(|w| w.delivered.get(direction).is_some());
        let (mut rates, mut active) = (Vec::new(), Vec::new());
        let (mut known, mut idle_bits, mut idle_windows) = (limits.ceiling, 0_u64, 0_u64);
        let mut is_known = false;
        let mut before_us = 0;
        for (window, delay) in self.windows.iter().zip(delays) {
            let rate = window.rate.get(direction).unwrap_or(limits.ceiling);
            let delivered = *window.delivered.get(direction);
            let delay_us = delay.unwrap_or(before_us);
            let is_loaded = match delivered {
                Some(delivered) => delivered * 2 >= rate,
                None => !has_counters && direction == Direction::Download,
            };
            let estimate = estimate(direction, delivered, rate, delay_us, before_us);
            let is_out = delay.is_none() && window.losses > 0 && delivered.unwrap_or(0) == 0;
            if is_loaded && delay_us >= STANDING_US && !is_out {
                (known, is_known) = (estimate.max(1), true);
            } else if is_known {
                known = known.max(delivered.unwrap_or_default());
            }
            if !is_loaded {
                idle_bits += delivered.unwrap_or_default();
                idle_windows += 1;
            }
            before_us = delay_us;
            let bins = (WINDOW_MS / BIN_MS) as usize;
            rates.extend(std::iter::repeat_n(if is_out { 0 } else { known }, bins));
            active.push(is_loaded);
        }
        let flows = if active.contains(&true) { FLOWS } else { 0 };
        LineSpec {
            capacity: CapacitySpec::Trace(Arc::new(Capacity::new(rates))),
            fifo_bytes: (limits.ceiling / 8 * BUFFER_MS / 1000).max(64_000),
            limits: *limits,
            traffic: TrafficSpec {
                flows,
                constant_bps: idle_bits.checked_div(idle_windows).unwrap_or_default(),
                ..TrafficSpec::default()
            },
            active: Some(active.into()),
        }
    }
}

/// What a direction with a standing queue carries: the download delivers just that; the upload's
/// counters, and a shaper without counters, show what goes into the queue, and the queue grows by
/// the rest.
fn estimate(
    direction: Direction,
    delivered: Option<u64>,
    rate: u64,
    delay_us: u64,
    before_us: u64,
) -> u64 {
    let inflow = delivered.unwrap_or(rate);
    if delivered.is_some() && direction == Direction::Download {
        return inflow;
    }
    // inflow / (1 + slope of the delay)
    let window_us = WINDOW_MS * 1000;
    let stretched =
        (window_us + delay_us).saturating_sub(before_us).clamp(window_us / 2, window_us * 4);
    (u128::from(inflow) * u128::from(window_us) / u128::from(stretched)) as u64
}

#[cfg(test)]
#[path = "recording_tests.rs"]
mod tests;
