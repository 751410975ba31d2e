//! Suites of the user's own, as TOML.

use std::num::NonZeroU8;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use toml::Spanned;
use wanctl_core::units::{Direction, PerDirection};

use super::input::{self, InputError, Place};
use super::run;
use super::scenario::{
    CapacitySpec, Limits, LineSpec, PACKETS_PER_ACK, PathSpec, Purpose, STAMPING, Scenario,
    StepSpec, TrafficSpec, WanderSpec,
};
use super::traces;

/// The longest scenario, in s: six hours.
const SECONDS_MAX: u64 = 21_600;
/// The fastest line, in Mbit/s.
const MBPS_MAX: f64 = 100_000.0;
/// The longest delay and the deepest buffer, in ms: a minute.
const DELAY_MS_MAX: u64 = 60_000;
/// The longest time of anything that comes again and again, in ms: a week.
const PERIOD_MS_MAX: u64 = 604_800_000;
/// The most flows: they are one fluid, which means little when hardly a packet is left for each.
const FLOWS_MAX: u32 = 1_000;
/// Everything, in parts per million.
const ALL_PPM: u32 = 1_000_000;
/// The largest spread, in per mille of the mean.
const SPREAD_MAX: u64 = 5_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    scenario: Vec<Spanned<Entry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    name: String,
    #[serde(default = "ninety")]
    seconds: u64,
    #[serde(default = "ten")]
    warm_up: u64,
    download: Spanned<Way>,
    upload: Spanned<Way>,
    #[serde(default = "default_path")]
    path: Spanned<PathEntry>,
    step: Option<Step>,
    #[serde(default)]
    idle: bool,
}

const fn ninety() -> u64 {
    90
}

const fn ten() -> u64 {
    10
}

fn default_path() -> Spanned<PathEntry> {
    Spanned::new(0..0, PathEntry::default())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Step {
    at_s: f64,
    window_s: f64,
    down: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Way {
    ceiling_mbps: f64,
    floor_mbps: f64,
    #[serde(default = "buffer")]
    buffer_ms: u64,
    capacity: Option<Shape>,
    #[serde(default)]
    flows: u32,
    #[serde(default)]
    from_ms: u64,
    #[serde(default)]
    on_ms: u64,
    #[serde(default)]
    off_ms: u64,
    #[serde(default)]
    constant_mbps: f64,
}

const fn buffer() -> u64 {
    250
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
enum Shape {
    Constant {
        mbps: f64,
    },
    Steps {
        points: Vec<(f64, f64)>,
    },
    Ramps {
        points: Vec<(f64, f64)>,
    },
    #[serde(rename_all = "kebab-case")]
    Markov {
        high_mbps: f64,
        low_mbps: f64,
        high_ms: u64,
        low_ms: u64,
    },
    #[serde(rename_all = "kebab-case")]
    Diurnal {
        night_mbps: f64,
        evening_mbps: f64,
        day_s: u64,
    },
    #[serde(rename_all = "kebab-case")]
    Wander {
        mean_mbps: f64,
        min_mbps: f64,
        max_mbps: f64,
        sigma_permille: u64,
        tau_ms: u64,
        #[serde(default)]
        flutter_permille: u64,
        #[serde(default)]
        redraw_ms: u64,
        #[serde(default)]
        outage_every_ms: u64,
        #[serde(default)]
        outage_ms: u64,
    },
    Trace {
        file: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct PathEntry {
    base_ms: f64,
    extra_ms: [f64; 3],
    jitter_ms: f64,
    common_jitter_ms: f64,
    spike_ms: f64,
    spike_ppm: u32,
    common_spike_ppm: u32,
    loss_ppm: u32,
    hop_every_ms: u64,
    hop_ms: f64,
    route_changes: Vec<(f64, f64)>,
    packets_per_ack: NonZeroU8,
    blind: bool,
    timestamps: u8,
}

impl Default for PathEntry {
    fn default() -> Self {
        Self {
            base_ms: 20.0,
            extra_ms: [0.0, 3.0, 9.0],
            jitter_ms: 0.5,
            common_jitter_ms: 0.0,
            spike_ms: 15.0,
            spike_ppm: 0,
            common_spike_ppm: 0,
            loss_ppm: 0,
            hop_every_ms: 0,
            hop_ms: 0.0,
            route_changes: Vec::new(),
            packets_per_ack: NonZeroU8::new(PACKETS_PER_ACK).unwrap_or(NonZeroU8::MIN),
            blind: false,
            timestamps: STAMPING,
        }
    }
}

/// Reads a suite.
///
/// # Errors
///
/// An [`InputError`] with the line, also for limits that make no sense.
pub fn read(path: &Path) -> Result<Vec<Scenario>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let text = input::without_mark(&text);
    let file: File = toml::from_str(text).map_err(|error| input::of_toml(path, text, &error))?;
    let place =
        |span: std::ops::Range<usize>| Place { file: path, line: input::line_of(text, span.start) };
    let mut scenarios: Vec<Scenario> = Vec::new();
    for entry in &file.scenario {
        let here = place(entry.span());
        let entry = entry.get_ref();
        let (down, up) = (place(entry.download.span()), place(entry.upload.span()));
        let lines = PerDirection {
            download: entry.download.get_ref().line(down)?,
            upload: entry.upload.get_ref().line(up)?,
        };
        entry.check(here)?;
        entry.path.get_ref().check(place(entry.path.span()))?;
        let scenario = entry.scenario(lines);
        if scenarios.iter().any(|other| other.name == scenario.name) {
            let what = format!("expected a name of its own, `{}` is taken", scenario.name);
            return Err(here.error(what).into());
        }
        check(&PerDirection { download: down, upload: up }, &scenario)?;
        scenarios.push(scenario);
    }
    Ok(scenarios)
}

/// Refuses limits with which nothing can be won.
fn check(places: &PerDirection<Place<'_>>, scenario: &Scenario) -> Result<(), InputError> {
    let capacity = run::capacities(scenario, 1);
    for direction in Direction::BOTH {
        let highest = capacity.get(direction).smooth().iter().max().copied().unwrap_or_default();
        let floor = scenario.lines.get(direction).limits.floor;
        let name = direction.name();
        let what = if highest == 0 {
            format!("{name}: the capacity is zero throughout")
        } else if floor > highest {
            format!("{name}: the floor is above the capacity all the time; expected a lower floor")
        } else {
            continue;
        };
        return Err(places.get(direction).error(what));
    }
    Ok(())
}

fn bits(mbps: f64) -> u64 {
    (mbps * 1e6).round() as u64
}

fn micros(millis: f64) -> u64 {
    (millis.max(0.0) * 1e3).round() as u64
}

fn mbps(place: Place<'_>, key: &str, value: f64) -> Result<u64, InputError> {
    place.within(key, value, 0.0..=MBPS_MAX).map(bits)
}

impl Way {
    fn line(&self, place: Place<'_>) -> Result<LineSpec, InputError> {
        let ceiling = mbps(place, "ceiling-mbps", self.ceiling_mbps)?;
        let floor = mbps(place, "floor-mbps", self.floor_mbps)?;
        if floor == 0 || floor > ceiling {
            return Err(place.error("expected a floor above zero and not above the ceiling"));
        }
        place.within("buffer-ms", self.buffer_ms, 1..=DELAY_MS_MAX)?;
        let period = |key: &str, ms: u64| place.within(key, ms, 0..=PERIOD_MS_MAX);
        if (self.on_ms > 0) != (self.off_ms > 0) {
            return Err(place.error("expected on-ms and off-ms together, both above zero"));
        }
        let capacity = match &self.capacity {
            None => CapacitySpec::Constant(ceiling),
            Some(shape) => shape.spec(place)?,
        };
        Ok(LineSpec {
            capacity,
            fifo_bytes: ceiling / 8 * self.buffer_ms / 1000,
            limits: Limits::new(floor, ceiling),
            traffic: TrafficSpec {
                flows: place.within("flows", self.flows, 0..=FLOWS_MAX)?,
                from_ms: period("from-ms", self.from_ms)?,
                on_ms: period("on-ms", self.on_ms)?,
                off_ms: period("off-ms", self.off_ms)?,
                constant_bps: mbps(place, "constant-mbps", self.constant_mbps)?,
            },
            active: None,
        })
    }
}

impl Shape {
    fn spec(&self, place: Place<'_>) -> Result<CapacitySpec, InputError> {
        let rate = |key: &str, value: f64| mbps(place, key, value);
        Ok(match self {
            Self::Constant { mbps } => CapacitySpec::Constant(rate("mbps", *mbps)?),
            Self::Steps { points: all } => CapacitySpec::Steps(points(place, all)?),
            Self::Ramps { points: all } => CapacitySpec::Ramps(points(place, all)?),
            &Self::Markov { high_mbps, low_mbps, high_ms, low_ms } => CapacitySpec::Markov {
                high: rate("high-mbps", high_mbps)?,
                low: rate("low-mbps", low_mbps)?,
                high_ms: place.within("high-ms", high_ms, 1..=PERIOD_MS_MAX)?,
                low_ms: place.within("low-ms", low_ms, 1..=PERIOD_MS_MAX)?,
            },
            &Self::Diurnal { night_mbps, evening_mbps, day_s } => {
                if evening_mbps > night_mbps {
                    return Err(place.error("expected an evening-mbps not above night-mbps"));
                }
                CapacitySpec::Diurnal {
                    night: rate("night-mbps", night_mbps)?,
                    evening: rate("evening-mbps", evening_mbps)?,
                    day_s: place.within("day-s", day_s, 1..=PERIOD_MS_MAX / 1000)?,
                }
            }
            Self::Wander { .. } => CapacitySpec::Wander(self.wander(place)?),
            Self::Trace { file } => {
                let file = place.file.parent().unwrap_or(Path::new("")).join(file);
                let trace =
                    traces::read(&file).map_err(|error| place.error(format!("{error:#}")))?;
                CapacitySpec::Trace(Arc::new(trace))
            }
        })
    }

    fn wander(&self, place: Place<'_>) -> Result<WanderSpec, InputError> {
        let &Self::Wander {
            mean_mbps,
            min_mbps,
            max_mbps,
            sigma_permille,
            tau_ms,
            flutter_permille,
            redraw_ms,
            outage_every_ms,
            outage_ms,
        } = self
        else {
            return Err(place.error("expected a capacity that wanders"));
        };
        let (min, max) = (mbps(place, "min-mbps", min_mbps)?, mbps(place, "max-mbps", max_mbps)?);
        if min > max {
            return Err(place.error("expected a min-mbps not above max-mbps"));
        }
        let spread = |key: &str, value: u64| place.within(key, value, 0..=SPREAD_MAX);
        let period = |key: &str, ms: u64| place.within(key, ms, 0..=PERIOD_MS_MAX);
        Ok(WanderSpec {
            mean: mbps(place, "mean-mbps", mean_mbps)?,
            sigma_permille: spread("sigma-permille", sigma_permille)?,
            tau_ms: place.within("tau-ms", tau_ms, 1..=PERIOD_MS_MAX)?,
            min,
            max,
            redraw_ms: period("redraw-ms", redraw_ms)?,
            outage_every_ms: period("outage-every-ms", outage_every_ms)?,
            outage_ms: period("outage-ms", outage_ms)?,
            flutter_permille: spread("flutter-permille", flutter_permille)?,
        })
    }
}

fn points(place: Place<'_>, points: &[(f64, f64)]) -> Result<Vec<(u64, u64)>, InputError> {
    let sound =
        |&(s, mbps): &(f64, f64)| (0.0..=1e7).contains(&s) && (0.0..=MBPS_MAX).contains(&mbps);
    let read = |&(s, mbps): &(f64, f64)| (micros(s * 1e3) / 1000, bits(mbps));
    let read: Vec<(u64, u64)> = points.iter().filter(|point| sound(point)).map(read).collect();
    if read.is_empty() || read.len() < points.len() || !read.is_sorted_by(|a, b| a.0 < b.0) {
        let what = "expected points [seconds, Mbit/s] with times that rise by 1 ms or more";
        return Err(place.error(what));
    }
    Ok(read)
}

impl PathEntry {
    fn check(&self, place: Place<'_>) -> Result<(), InputError> {
        let most = DELAY_MS_MAX as f64;
        let delay = |key: &str, ms: f64| place.within(key, ms, 0.0..=most).map(drop);
        let share = |key: &str, ppm: u32| place.within(key, ppm, 0..=ALL_PPM).map(drop);
        place.within("base-ms", self.base_ms, 1.0..=5_000.0)?;
        for ms in self.extra_ms {
            delay("extra-ms", ms)?;
        }
        delay("jitter-ms", self.jitter_ms)?;
        delay("common-jitter-ms", self.common_jitter_ms)?;
        delay("spike-ms", self.spike_ms)?;
        delay("hop-ms", self.hop_ms)?;
        share("spike-ppm", self.spike_ppm)?;
        share("common-spike-ppm", self.common_spike_ppm)?;
        share("loss-ppm", self.loss_ppm)?;
        place.within("hop-every-ms", self.hop_every_ms, 0..=PERIOD_MS_MAX)?;
        place.within("timestamps", self.timestamps, 0..=3)?;
        for &(seconds, ms) in &self.route_changes {
            place.within("seconds of route-changes", seconds, 0.0..=1e7)?;
            place.within("ms of route-changes", ms, -most..=most)?;
        }
        Ok(())
    }
}

impl Entry {
    fn check(&self, place: Place<'_>) -> Result<(), InputError> {
        if self.seconds == 0 || self.seconds > SECONDS_MAX || self.warm_up >= self.seconds {
            return Err(place.error("expected 1 to 21600 seconds, more than warm-up"));
        }
        let end = self.seconds as f64;
        let Some(step) = &self.step else { return Ok(()) };
        if self.idle {
            return Err(place.error("expected either idle or a step, not both"));
        }
        let is_within = step.at_s >= 0.0 && step.window_s > 0.0 && step.at_s + step.window_s <= end;
        if is_within {
            Ok(())
        } else {
            Err(place.error("expected a step with its window within the scenario's seconds"))
        }
    }

    fn scenario(&self, lines: PerDirection<LineSpec>) -> Scenario {
        let path = self.path.get_ref();
        let purpose = match &self.step {
            Some(step) => Purpose::Step(StepSpec {
                at_ms: micros(step.at_s),
                window_ms: micros(step.window_s),
                down: step.down,
            }),
            None if self.idle => Purpose::Idle,
            None => Purpose::Load,
        };
        Scenario {
            name: self.name.clone(),
            purpose,
            seconds: self.seconds,
            warm_up_s: self.warm_up,
            lines,
            path: PathSpec {
                base_rtt_us: micros(path.base_ms),
                extra_us: path.extra_ms.map(micros),
                jitter_us: micros(path.jitter_ms),
                common_jitter_us: micros(path.common_jitter_ms),
                spike_ppm: path.spike_ppm,
                common_spike_ppm: path.common_spike_ppm,
                spike_us: micros(path.spike_ms),
                loss_ppm: path.loss_ppm,
                hop_every_ms: path.hop_every_ms,
                hop_us: micros(path.hop_ms),
                route_changes: path
                    .route_changes
                    .iter()
                    .map(|&(s, ms)| (micros(s * 1e3) / 1000, (ms * 1e3) as i64))
                    .collect(),
                packets_per_ack: path.packets_per_ack.get().into(),
                is_blind: path.blind,
                stamping: path.timestamps,
            },
            phases: Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "suite_file_tests.rs"]
mod tests;
