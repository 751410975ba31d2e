//! Recorded capacities: Mahimahi packet-delivery files and tables of time and Mbit/s.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use wanctl_core::units::PerDirection;

use super::capacity::{BIN_MS, Capacity};
use super::input::{self, InputError};
use super::scenario::{CapacitySpec, Limits, LineSpec, PathSpec, Purpose, Scenario, TrafficSpec};
use super::suite;

/// One delivery opportunity of a Mahimahi trace: 1500 bytes.
const MAHIMAHI_BITS: u64 = 1500 * 8;
/// Longer traces than this are cut off, in s.
const SECONDS_MAX: u64 = 21_600;
/// What is scored of one trace at most, in s.
const SCORED_MAX_S: u64 = 300;
/// Endings of files in a folder that are not traces.
const IGNORED: [&str; 4] = ["md", "txt~", "json", "svg"];
/// The highest rate that is believed, in Mbit/s.
const MBPS_MAX: f64 = 100_000.0;

/// Reads a trace, whatever its format.
///
/// # Errors
///
/// An [`InputError`] with the line that is not as expected.
pub fn read(path: &Path) -> Result<Capacity> {
    let bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| InputError::whole(path, "this is not text; expected a capacity trace"))?;
    parse(path, &text).map_err(Into::into)
}

/// Reads the text of a trace: one number per line is Mahimahi's, two or three are a table.
///
/// # Errors
///
/// With the line that is not as expected.
pub fn parse(path: &Path, text: &str) -> Result<Capacity, InputError> {
    let text = input::without_mark(text);
    let first = lines(text).find(|(_, line)| !is_header(line));
    let Some((number, line)) = first else {
        return Err(InputError::whole(path, "it holds no data; expected a capacity trace"));
    };
    let is_named = fields(line).next().is_some_and(is_header);
    match fields(line).count() {
        1 => mahimahi(path, text),
        2 => table(path, text),
        3 if is_named => series(path, text),
        _ => Err(InputError::at(
            path,
            number,
            "expected `milliseconds` (Mahimahi), `t_s,mbit_s` or `kind,t_s,value`, numbers with a point",
        )),
    }
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split([',', ';', '\t', ' ']).map(str::trim).filter(|field| !field.is_empty())
}

/// A header names columns: no field of it is a number.
fn is_header(line: &str) -> bool {
    fields(line).all(|field| field.parse::<f64>().is_err())
}

/// The lines behind the header, if there is one.
fn data(text: &str) -> impl Iterator<Item = (usize, &str)> {
    lines(text).skip_while(|(_, line)| is_header(line))
}

fn mahimahi(path: &Path, text: &str) -> Result<Capacity, InputError> {
    let mut bits: Vec<u64> = Vec::new();
    let mut last = 0;
    for (number, line) in data(text) {
        let expected = "expected one whole number of milliseconds, not below the line before";
        let ms: u64 = line.parse().map_err(|_| InputError::at(path, number, expected))?;
        if ms < last {
            return Err(InputError::at(path, number, expected));
        }
        last = ms;
        if ms >= SECONDS_MAX * 1000 {
            break;
        }
        let bin = (ms / BIN_MS) as usize;
        bits.resize(bits.len().max(bin + 1), 0);
        bits[bin] += MAHIMAHI_BITS;
    }
    finish(path, bits.into_iter().map(|bits| bits * 1000 / BIN_MS).collect())
}

fn table(path: &Path, text: &str) -> Result<Capacity, InputError> {
    let mut points = Vec::new();
    for (number, line) in data(text) {
        points.push(point(path, number, line, &mut fields(line), points.last().copied())?);
    }
    hold(path, &points)
}

/// `kind,t_s,value` with series of several kinds: the one in Mbit/s is taken.
fn series(path: &Path, text: &str) -> Result<Capacity, InputError> {
    let mut points = Vec::new();
    for (number, line) in data(text) {
        let mut fields = fields(line);
        let kind = fields.next().unwrap_or_default();
        if kind.contains("mbit") || kind.contains("mbps") {
            points.push(point(path, number, line, &mut fields, points.last().copied())?);
        }
    }
    hold(path, &points)
}

fn point<'t>(
    path: &Path,
    number: usize,
    line: &str,
    fields: &mut impl Iterator<Item = &'t str>,
    before: Option<(u64, u64)>,
) -> Result<(u64, u64), InputError> {
    let error = || {
        let what = format!(
            "expected `t_s,mbit_s`, times that never fall and rates from 0 to 100000, not `{line:.60}`"
        );
        InputError::at(path, number, what)
    };
    let mut next = || fields.next().and_then(|field| field.parse::<f64>().ok());
    let (Some(seconds), Some(mbps)) = (next(), next()) else { return Err(error()) };
    let is_sound = (0.0..=1e9).contains(&seconds) && (0.0..=MBPS_MAX).contains(&mbps);
    // Both are finite, not negative and far from the end of u64.
    let (ms, bps) = ((seconds * 1000.0).round() as u64, (mbps * 1e6).round() as u64);
    let is_more = fields.next().is_some();
    if !is_sound || is_more || before.is_some_and(|(last, _)| ms < last) {
        return Err(error());
    }
    Ok((ms, bps))
}

/// Each rate holds until the next point; times count from the first one.
fn hold(path: &Path, points: &[(u64, u64)]) -> Result<Capacity, InputError> {
    let Some(&(first, _)) = points.first() else {
        return Err(InputError::whole(path, "it holds no series in Mbit/s"));
    };
    let mut rates = Vec::new();
    for (index, &(from, rate)) in points.iter().enumerate() {
        let step = || from.saturating_sub(points[index.saturating_sub(1)].0);
        let to = points.get(index + 1).map_or_else(|| from + step().max(BIN_MS), |next| next.0);
        let end = ((to - first).min(SECONDS_MAX * 1000) / BIN_MS) as usize;
        rates.resize(rates.len().max(end), rate);
    }
    finish(path, rates)
}

fn finish(path: &Path, rates: Vec<u64>) -> Result<Capacity, InputError> {
    if rates.iter().all(|&rate| rate == 0) {
        return Err(InputError::whole(path, "the capacity is zero throughout"));
    }
    Ok(Capacity::new(rates))
}

/// Makes scenarios of every trace in a folder. `NAME.down` and `NAME.up` belong together.
///
/// # Errors
///
/// When the folder or a trace in it cannot be read.
pub fn folder(folder: &Path) -> Result<Vec<Scenario>> {
    let name = || format!("{}", folder.display());
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(name)? {
        let path = entry.with_context(name)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if path.is_file() && !IGNORED.contains(&ending) {
            files.push(path);
        }
    }
    files.sort();
    let mut scenarios = Vec::new();
    for path in &files {
        let stem = path.file_stem().map_or(String::new(), |s| s.to_string_lossy().into_owned());
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let is_up = ending == "up";
        if is_path_trace(path) {
            continue;
        }
        let other = path.with_extension(if is_up { "down" } else { "up" });
        let other = (matches!(ending, "up" | "down") && files.contains(&other)).then_some(other);
        let trace = Arc::new(read(path)?);
        let other = other.map(|other| read(&other)).transpose()?.map(Arc::new);
        let name = if is_up { format!("{stem}-up") } else { stem };
        scenarios.push(scenario(name, &trace, other.as_ref(), is_up));
    }
    Ok(scenarios)
}

/// A file of latencies is no capacity.
fn is_path_trace(path: &Path) -> bool {
    std::fs::read_to_string(path)
        .is_ok_and(|text| text.lines().next().is_some_and(|line| line.contains("latency_ms")))
}

/// Makes a scenario of a trace: one direction loaded, limits from the trace itself.
#[must_use]
pub fn scenario(
    name: String,
    trace: &Arc<Capacity>,
    other: Option<&Arc<Capacity>>,
    is_up: bool,
) -> Scenario {
    let loaded = line(trace, 4);
    let other = other.map_or_else(
        || {
            let rate = loaded.limits.ceiling / if is_up { 1 } else { 4 };
            let constant = Arc::new(Capacity::constant(rate.max(1_000_000)));
            line(&constant, 0)
        },
        |other| line(other, 0),
    );
    let seconds = (trace.length_ms() / 1000).clamp(20, SCORED_MAX_S);
    let is_fast = loaded.limits.ceiling > 300_000_000;
    let path: PathSpec = if is_fast { suite::docsis_path() } else { suite::lte_path() };
    let (download, upload) = if is_up { (other, loaded) } else { (loaded, other) };
    Scenario {
        name,
        purpose: Purpose::Load,
        seconds,
        warm_up_s: 10,
        lines: PerDirection { download, upload },
        path,
        phases: Vec::new(),
    }
}

/// The plan's rate is taken for the 98th percentile of the capacity, the floor for a tenth of it.
fn line(trace: &Arc<Capacity>, flows: u32) -> LineSpec {
    let mut sorted = trace.smooth().to_vec();
    sorted.sort_unstable();
    let ceiling = sorted.get(sorted.len() * 98 / 100).copied().unwrap_or_default().max(500_000);
    LineSpec {
        capacity: CapacitySpec::Trace(Arc::clone(trace)),
        fifo_bytes: (ceiling / 8 / 2).max(64_000),
        limits: Limits::new(ceiling / 10, ceiling),
        traffic: TrafficSpec { flows, from_ms: 2_000, ..TrafficSpec::default() },
        active: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<Capacity, String> {
        parse(Path::new("t"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_mahimahi_line_is_one_packet() {
        let capacity = parse_text("0\n0\n5\n12\n29\n").unwrap();
        let rate = |ms| capacity.at_ms(ms).rate;
        assert_eq!((rate(0), rate(10), rate(20)), (3_600_000, 1_200_000, 1_200_000));
        assert_eq!(rate(30), 3_600_000, "it begins again");
    }

    #[test]
    fn tables_hold_each_rate_until_the_next_time() {
        for text in [
            "t_s,mbit_s\n10,4\n10.5,2.5\n",
            "# made\n10.0 4\n10.5\t2.5",
            "10;4\n10.5;2.5",
            "\u{feff}10,4\r\n10.5,2.5\r\n",
            "10,9\n10,4\n10.5,2.5\n",
        ] {
            let capacity = parse_text(text).unwrap();
            assert_eq!(capacity.length_ms(), 1000);
            assert_eq!(capacity.at_ms(490).rate, 4_000_000);
            assert_eq!(capacity.at_ms(500).rate, 2_500_000);
        }
        let capacity =
            parse_text("kind,t_s,value\nrtt_ms,0,9\ndl_mbit_s,0,8\ndl_mbit_s,1,9").unwrap();
        assert_eq!(capacity.at_ms(0).rate, 8_000_000);
    }

    #[test]
    fn a_malformed_trace_is_named_by_its_line() {
        for (text, expected) in [
            ("5\n3\n", "t:2: expected one whole number of milliseconds"),
            ("5\nfive\n", "t:2: expected one whole number"),
            ("0,5\n1,-2\n", "t:2: expected `t_s,mbit_s`"),
            ("0,5\n1,nan\n", "t:2: expected `t_s,mbit_s`"),
            ("0,5\n\n# x\n1,1e300\n", "t:4: expected `t_s,mbit_s`"),
            ("0,5\nx,y\n", "t:2: expected `t_s,mbit_s`"),
            ("2,5\n1,5\n", "t:2: expected `t_s,mbit_s`, times that never fall"),
            ("0,5\n10,6,7\n", "t:2: expected `t_s,mbit_s`"),
            ("0;5,5\n10;6,7\n", "t:1: expected `milliseconds`"),
            ("dl_mbit_s,0,5,5\n", "t:1: expected `milliseconds`"),
            ("dl_mbit_s,0,5\ndl_mbit_s,1,5,5\n", "t:2: expected `t_s,mbit_s`"),
            ("1,2,3,4\n", "t:1: expected `milliseconds`"),
            ("t_s,mbit_s\n", "t: it holds no data"),
            ("rtt_ms,0,5\n", "t: it holds no series in Mbit/s"),
            ("0,0\n1,0\n", "t: the capacity is zero throughout"),
        ] {
            let error = parse_text(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
