//! Suites of the user's own, as TOML.

use std::num::NonZeroU8;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use toml::Spanned;
use wanctl_core::units::{Direction, PerDirection};

use super::input::{self, InputError};
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
    #[serde(default)]
    path: PathEntry,
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
    let file: File = toml::from_str(&text).map_err(|error| input::of_toml(path, &text, &error))?;
    let mut scenarios: Vec<Scenario> = Vec::new();
    for entry in &file.scenario {
        let line = input::line_of(&text, entry.span().start);
        let entry = entry.get_ref();
        let way_line = |way: &Spanned<Way>| input::line_of(&text, way.span().start);
        let download = way(path, way_line(&entry.download), entry.download.get_ref())?;
        let upload = way(path, way_line(&entry.upload), entry.upload.get_ref())?;
        let scenario = entry.scenario(download, upload);
        entry.check(path, line)?;
        if scenarios.iter().any(|other| other.name == scenario.name) {
            let what = format!("expected a name of its own, `{}` is taken", scenario.name);
            return Err(InputError::at(path, line, what).into());
        }
        let lines =
            PerDirection { download: way_line(&entry.download), upload: way_line(&entry.upload) };
        check(path, &lines, &scenario)?;
        scenarios.push(scenario);
    }
    Ok(scenarios)
}

/// Refuses limits with which nothing can be won.
fn check(path: &Path, lines: &PerDirection<usize>, scenario: &Scenario) -> Result<()> {
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
        return Err(InputError::at(path, *lines.get(direction), what).into());
    }
    Ok(())
}

fn bits(mbps: f64) -> u64 {
    (mbps * 1e6).round() as u64
}

fn micros(millis: f64) -> u64 {
    (millis.max(0.0) * 1e3).round() as u64
}

fn way(path: &Path, line: usize, way: &Way) -> Result<LineSpec, InputError> {
    let error = |what: &str| Err(InputError::at(path, line, what));
    let is_rate = |mbps: f64| (0.0..=MBPS_MAX).contains(&mbps);
    if !is_rate(way.ceiling_mbps) || !is_rate(way.constant_mbps) {
        return error("expected rates from 0 to 100000 Mbit/s");
    }
    let (floor, ceiling) = (bits(way.floor_mbps), bits(way.ceiling_mbps));
    if floor == 0 || floor > ceiling {
        return error("expected a floor above zero and not above the ceiling");
    }
    if way.on_ms > 0 && way.off_ms == 0 || way.buffer_ms == 0 || way.buffer_ms > 60_000 {
        return error("expected a buffer of 1 to 60000 ms, and off-ms with on-ms");
    }
    let capacity = match &way.capacity {
        None => CapacitySpec::Constant(ceiling),
        Some(shape) => shape.spec(path, line)?,
    };
    Ok(LineSpec {
        capacity,
        fifo_bytes: ceiling / 8 * way.buffer_ms / 1000,
        limits: Limits::new(floor, ceiling),
        traffic: TrafficSpec {
            flows: way.flows,
            from_ms: way.from_ms,
            on_ms: way.on_ms,
            off_ms: way.off_ms,
            constant_bps: bits(way.constant_mbps),
        },
        active: None,
    })
}

impl Shape {
    fn spec(&self, path: &Path, line: usize) -> Result<CapacitySpec, InputError> {
        let error = |what: &str| InputError::at(path, line, what);
        let points = |points: &[(f64, f64)]| {
            let sound = |&(s, mbps): &(f64, f64)| {
                (0.0..=1e7).contains(&s) && (0.0..=MBPS_MAX).contains(&mbps)
            };
            let is_sorted = points.is_sorted_by(|a, b| a.0 < b.0);
            if points.is_empty() || !is_sorted || !points.iter().all(sound) {
                return Err(error("expected points [seconds, Mbit/s] with rising times"));
            }
            Ok(points.iter().map(|&(s, mbps)| (micros(s * 1e3) / 1000, bits(mbps))).collect())
        };
        Ok(match self {
            Self::Constant { mbps } => CapacitySpec::Constant(bits(*mbps)),
            Self::Steps { points: all } => CapacitySpec::Steps(points(all)?),
            Self::Ramps { points: all } => CapacitySpec::Ramps(points(all)?),
            &Self::Markov { high_mbps, low_mbps, high_ms, low_ms } => {
                CapacitySpec::Markov { high: bits(high_mbps), low: bits(low_mbps), high_ms, low_ms }
            }
            &Self::Diurnal { night_mbps, evening_mbps, day_s } => CapacitySpec::Diurnal {
                night: bits(night_mbps),
                evening: bits(evening_mbps),
                day_s,
            },
            &Self::Wander {
                mean_mbps,
                min_mbps,
                max_mbps,
                sigma_permille,
                tau_ms,
                flutter_permille,
                redraw_ms,
                outage_every_ms,
                outage_ms,
            } => {
                let (min, max) = (bits(min_mbps), bits(max_mbps));
                if min > max || sigma_permille > 5_000 || flutter_permille > 5_000 || tau_ms == 0 {
                    return Err(error(
                        "expected min-mbps <= max-mbps, a tau-ms, spreads up to 5000",
                    ));
                }
                CapacitySpec::Wander(WanderSpec {
                    mean: bits(mean_mbps),
                    sigma_permille,
                    tau_ms,
                    min,
                    max,
                    redraw_ms,
                    outage_every_ms,
                    outage_ms,
                    flutter_permille,
                })
            }
            Self::Trace { file } => {
                let file = path.parent().unwrap_or(Path::new("")).join(file);
                let trace = traces::read(&file)
                    .map_err(|error| InputError::at(path, line, format!("{error:#}")))?;
                CapacitySpec::Trace(Arc::new(trace))
            }
        })
    }
}

impl Entry {
    fn check(&self, path: &Path, line: usize) -> Result<(), InputError> {
        let error = |what: &str| Err(InputError::at(path, line, what));
        if self.seconds == 0 || self.seconds > SECONDS_MAX || self.warm_up >= self.seconds {
            return error("expected 1 to 21600 seconds, more than warm-up");
        }
        let base = self.path.base_ms;
        if !(1.0..=5_000.0).contains(&base) {
            return error("expected a base-ms of 1 to 5000");
        }
        let within = |step: &Step| {
            step.at_s >= 0.0 && step.window_s > 0.0 && step.at_s < self.seconds as f64
        };
        if !self.step.as_ref().is_none_or(within) {
            return error("expected a step within the scenario's seconds");
        }
        Ok(())
    }

    fn scenario(&self, download: LineSpec, upload: LineSpec) -> Scenario {
        let path = &self.path;
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
            lines: PerDirection { download, upload },
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
mod tests {
    use super::*;

    const GOOD: &str = "[[scenario]]\nname = 'a'\nseconds = 60\nwarm-up = 5\n\
        [scenario.download]\nceiling-mbps = 50\nfloor-mbps = 5\nflows = 4\n\
        capacity = { kind = 'steps', points = [[0, 50], [30.5, 20]] }\n\
        [scenario.upload]\nceiling-mbps = 10\nfloor-mbps = 1\n\
        [scenario.path]\nbase-ms = 12.5\n";

    fn read_text(text: &str) -> Result<Vec<Scenario>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.toml");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| {
            assert!(error.downcast_ref::<InputError>().is_some(), "{error:#}");
            format!("{error:#}").replace(&format!("{}/", folder.path().display()), "")
        })
    }

    #[test]
    fn a_suite_is_read() {
        let scenarios = read_text(GOOD).unwrap();
        let scenario = &scenarios[0];
        assert_eq!((scenario.seconds, scenario.path.base_rtt_us), (60, 12_500));
        let capacity = run::capacities(scenario, 1);
        assert_eq!(capacity.download.at_ms(30_490).rate, 50_000_000);
        assert_eq!(capacity.download.at_ms(30_500).rate, 20_000_000);
        assert_eq!(capacity.upload.at_ms(0).rate, 10_000_000);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_line() {
        for (from, to, expected) in [
            ("seconds = 60", "secnds = 60", "s.toml:3: unknown field"),
            ("seconds = 60", "seconds = 0", "s.toml:1: expected 1 to 21600 seconds"),
            ("floor-mbps = 5", "floor-mbps = 55", "s.toml:5: expected a floor above zero"),
            ("floor-mbps = 5", "floor-mbps = 0", "s.toml:5: expected a floor above zero"),
            ("[[0, 50], [30.5, 20]]", "[[9, 50], [3, 20]]", "s.toml:5: expected points"),
            ("[[0, 50], [30.5, 20]]", "[[0, 0]]", "s.toml:5: download: the capacity is zero"),
            ("[[0, 50], [30.5, 20]]", "[[0, 4]]", "s.toml:5: download: the floor is above"),
            ("kind = 'steps'", "kind = 'step'", "s.toml:9: unknown variant"),
            ("base-ms = 12.5", "base-ms = 0", "s.toml:1: expected a base-ms"),
            ("[scenario.upload]", "[scenario.upload", "s.toml:10: "),
        ] {
            let error = read_text(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.starts_with(expected), "{error} does not start with {expected}");
        }
        let error = read_text(&format!("{GOOD}{GOOD}")).unwrap_err();
        assert!(error.starts_with("s.toml:15: expected a name of its own"), "{error}");
    }
}
