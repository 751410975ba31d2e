//! What happens to the lines, and what users do meanwhile.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// Rates in Mbit/s, download first.
pub(crate) type Rates = (f64, f64);

/// One WAN: the router's shapers with their limits, and the ISP behind them.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// What the ISP lets through at the start.
    pub(crate) capacity: Rates,
    /// Depth of the ISP's FIFOs.
    pub(crate) fifo_kb: u32,
    /// What netem does at the far end, in its own words.
    pub(crate) path: &'static str,
    /// What the access network does to uploads, in netem's words.
    pub(crate) slots: Option<&'static str>,
    pub(crate) floor: Rates,
    pub(crate) ceiling: Rates,
    /// What CAKE shapes to before a controller starts.
    pub(crate) start: Rates,
}

/// A command of `xtask/rig/lib.sh` and when it is given, in seconds after the start.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) at: f64,
    pub(crate) command: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) lines: Vec<Line>,
    pub(crate) steps: Vec<Step>,
    /// When the plan ends, in seconds after the start.
    pub(crate) end: f64,
    /// Seconds left out at the begin of each phase; a phase of idleness leaves out one.
    pub(crate) settle: f64,
}

/// Names of all scenarios, in the order of a whole run.
pub(crate) const NAMES: [&str; 8] = [
    "drop-and-rise",
    "download-only",
    "on-off",
    "docsis-upload",
    "lte",
    "dual-failing",
    "idle-noise",
    "fast",
];

/// A short one for CI, which is not part of a whole run.
pub(crate) const SMOKE: &str = "smoke";

/// Seconds for the controller to start in.
const WARM: f64 = 4.0;
/// Seconds of the idle phase after them.
const IDLE: f64 = 5.0;
/// Begin of the load.
const BEGIN: f64 = WARM + IDLE;
/// A load lasts this much longer than its begin and its length say: connections are made first.
const SLACK: f64 = 0.4;
/// A token bucket needs some rate; a radio link may stand still.
const CAPACITY_MIN: f64 = 0.1;
/// Length of a step of a recorded capacity, in s.
const TRACE_STEP: f64 = 0.1;
/// What is played of a trace, in s.
const TRACE_LENGTH: f64 = 60.0;
/// A shorter one shows nothing: the first 2 s of a phase are left out.
const TRACE_LEAST: f64 = 5.0;
/// More than the rig carries, in Mbit/s.
const CAPACITY_MAX: f64 = 1000.0;

impl Default for Line {
    /// The line of `drop-and-rise`, with the limits every controller there is given.
    fn default() -> Self {
        Self {
            capacity: (50.0, 20.0),
            fifo_kb: 1000,
            path: "delay 20ms",
            slots: None,
            floor: (5.0, 2.0),
            ceiling: (60.0, 25.0),
            start: (20.0, 8.0),
        }
    }
}

impl Scenario {
    /// Makes a scenario of [`NAMES`]; `trace` replaces the capacities of `lte`.
    pub(crate) fn named(name: &str, trace: &Path) -> Result<Self> {
        Ok(match name {
            "drop-and-rise" => drop_and_rise(true),
            "download-only" => drop_and_rise(false),
            "on-off" => on_off(),
            "docsis-upload" => docsis_upload(),
            "lte" => lte(trace)?,
            "dual-failing" => dual_failing(),
            "idle-noise" => idle_noise(),
            "fast" => fast(),
            SMOKE => smoke(),
            _ => bail!("there is no scenario \"{name}\"; there are {}", NAMES.join(", ")),
        })
    }

    fn new(name: &'static str, about: &'static str, lines: Vec<Line>) -> Self {
        let scenario = Self { name, about, lines, steps: Vec::new(), end: BEGIN, settle: 2.0 };
        scenario
            .step(WARM, "controller_lives \"before the load\"")
            .step(WARM, "observe 1")
            .mark(WARM, "idle")
    }

    fn step(mut self, at: f64, command: impl Into<String>) -> Self {
        self.steps.push(Step { at, command: command.into() });
        self
    }

    fn mark(self, at: f64, text: &str) -> Self {
        self.step(at, format!("mark {text}"))
    }

    fn capacity(self, at: f64, line: usize, (down, up): Rates) -> Self {
        let kbit = |mbit: f64| (mbit.max(CAPACITY_MIN) * 1000.0).round();
        self.step(at, format!("capacity {line} {} {}", kbit(down), kbit(up)))
    }

    /// Loads one direction; each load has a server of its own.
    fn load(mut self, at: f64, seconds: f64, line: usize, direction: &str, flows: u32) -> Self {
        let port =
            5201 + self.steps.iter().filter(|step| step.command.starts_with("load ")).count();
        self.end = self.end.max(at + seconds + SLACK);
        self.step(at, format!("load {line} {port} {direction} {flows} {seconds}"))
    }

    /// Writes the plan of one run; `controller` is a script in the folder of results.
    pub(crate) fn plan(&self, has_controller: bool) -> String {
        let mut lines =
            vec!["# Written by cargo xtask rig.".to_owned(), ". \"$RIG/lib.sh\"".to_owned()];
        lines.push("home".to_owned());
        let kbit = |(down, up): Rates| format!("{} {}", down * 1000.0, up * 1000.0);
        for (line, number) in self.lines.iter().zip(1..) {
            let Line { capacity, fifo_kb, path, start, .. } = line;
            lines.push(format!("line {number} {} {fifo_kb} {path}", kbit(*capacity)));
            if let Some(slots) = line.slots {
                lines.push(format!("upstream_slots {number} {slots}"));
            }
            lines.push(format!("shapers {number} {}", kbit(*start)));
        }
        for step in &self.steps {
            if let ["load", line, port, ..] = *step.command.split(' ').collect::<Vec<_>>() {
                lines.push(format!("servers {line} {port}"));
            }
        }
        lines.push("watch".to_owned());
        if has_controller {
            lines.push("controller bash \"$OUT/controller.sh\"".to_owned());
        }
        let mut steps = self.steps.clone();
        steps.sort_by(|a, b| a.at.total_cmp(&b.at));
        for Step { at, command } in steps {
            lines.push(format!("at {at}\n{command}"));
        }
        lines.push(format!("at {}\nfinish\n", self.end));
        lines.join("\n")
    }
}

/// The scenario that the rivals were measured in.
fn drop_and_rise(both: bool) -> Scenario {
    let (name, about) = if both {
        ("drop-and-rise", "50/20, 15/6, 40/16 Mbit/s for 20 s each, both directions loaded")
    } else {
        ("download-only", "the same line, the download alone loaded")
    };
    let scenario = Scenario::new(name, about, vec![Line::default()])
        .mark(BEGIN, "50/20")
        .load(BEGIN, 60.0, 1, "down", 2)
        .capacity(BEGIN + 20.0, 1, (15.0, 6.0))
        .mark(BEGIN + 20.0, "15/6")
        .capacity(BEGIN + 40.0, 1, (40.0, 16.0))
        .mark(BEGIN + 40.0, "40/16");
    if both { scenario.load(BEGIN, 60.0, 1, "up", 2) } else { scenario }
}

fn on_off() -> Scenario {
    let line = Line { capacity: (40.0, 16.0), ..Line::default() };
    let about = "40/16 Mbit/s; a download for 6 s in every 10, an upload for 6 s in every 14";
    let mut scenario = Scenario { settle: 0.0, ..Scenario::new("on-off", about, vec![line]) };
    scenario = scenario.mark(BEGIN, "on and off");
    for round in 0..5 {
        scenario = scenario.load(BEGIN + 10.0 * f64::from(round), 6.0, 1, "down", 4);
    }
    for round in 0..3 {
        scenario = scenario.load(BEGIN + 5.0 + 14.0 * f64::from(round), 6.0, 1, "up", 2);
    }
    scenario
}

fn docsis_upload() -> Scenario {
    let line = Line {
        capacity: (60.0, 12.0),
        slots: Some("slot 2ms 8ms"),
        floor: (10.0, 2.0),
        ceiling: (70.0, 15.0),
        start: (30.0, 6.0),
        fifo_kb: 500,
        ..Line::default()
    };
    let about = "60/12, 60/6, 60/10 Mbit/s; the upload waits 2 to 8 ms for its slot";
    Scenario::new("docsis-upload", about, vec![line])
        .mark(BEGIN, "60/12")
        .load(BEGIN, 45.0, 1, "down", 2)
        .load(BEGIN, 45.0, 1, "up", 2)
        .capacity(BEGIN + 15.0, 1, (60.0, 6.0))
        .mark(BEGIN + 15.0, "60/6")
        .capacity(BEGIN + 30.0, 1, (60.0, 10.0))
        .mark(BEGIN + 30.0, "60/10")
}

fn lte(trace: &Path) -> Result<Scenario> {
    let rates = read_trace(trace)?;
    let line = Line {
        capacity: rates.first().copied().unwrap_or((10.0, 5.0)),
        path: "delay 45ms 4ms distribution normal",
        floor: (1.0, 0.5),
        ceiling: (60.0, 30.0),
        start: (10.0, 5.0),
        ..Line::default()
    };
    let about = "the capacity of a radio link, from a file, every 100 ms; both directions loaded";
    let mut scenario = Scenario::new("lte", about, vec![line]).mark(BEGIN, "trace");
    let mut before = None;
    for (rate, step) in rates.iter().zip(0_u32..) {
        if before != Some(rate) {
            scenario = scenario.capacity(BEGIN + f64::from(step) * TRACE_STEP, 1, *rate);
        }
        before = Some(rate);
    }
    let seconds = (rates.len() as f64 * TRACE_STEP).floor();
    Ok(scenario.load(BEGIN, seconds, 1, "down", 2).load(BEGIN, seconds, 1, "up", 2))
}

/// Reads `seconds,down,up` with rates in Mbit/s, each holding until the next time.
fn read_trace(path: &Path) -> Result<Vec<Rates>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read the trace {}", path.display()))?;
    let mut points: Vec<(f64, Rates)> = Vec::new();
    let text = text.trim_start_matches('\u{feff}');
    let lines = text.lines().map(str::trim).enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let Some((at, rates)) = read_point(line) else {
            if points.is_empty() && !line.contains(|letter: char| letter.is_ascii_digit()) {
                continue; // it names the columns
            }
            let name = path.display();
            bail!("{name}:{}: expected `seconds,down,up` in Mbit/s, not `{line:.60}`", index + 1)
        };
        ensure!(
            points.last().is_none_or(|(last, _)| *last < at),
            "{}:{}: expected a later time than {} s, not `{line:.60}`",
            path.display(),
            index + 1,
            points.last().map_or(0.0, |(last, _)| *last)
        );
        points.push((at, rates));
    }
    let last = points.last().map_or(0.0, |(at, _)| *at);
    ensure!(
        last >= TRACE_LEAST,
        "{}: expected a trace of {TRACE_LEAST} s or more; its last time is when it ends",
        path.display()
    );
    let steps = (last.min(TRACE_LENGTH) / TRACE_STEP) as u32;
    let held = |step: u32| {
        let at = f64::from(step) * TRACE_STEP;
        let so_far = points.iter().take_while(|(from, _)| *from < at + TRACE_STEP / 100.0);
        so_far.last().or(points.first()).map(|(_, rates)| *rates)
    };
    Ok((0..steps).filter_map(held).collect())
}

fn read_point(line: &str) -> Option<(f64, Rates)> {
    let mut fields = line.split(',').map(|field| field.trim().parse::<f64>().ok());
    let mut next = |most: f64| fields.next()?.filter(|value| (0.0..=most).contains(value));
    let point = (next(1e9)?, (next(CAPACITY_MAX)?, next(CAPACITY_MAX)?));
    fields.next().is_none().then_some(point)
}

fn dual_failing() -> Scenario {
    let second = Line {
        capacity: (20.0, 10.0),
        path: "delay 35ms",
        ceiling: (25.0, 12.0),
        ..Line::default()
    };
    let about = "40/16 and 20/10 Mbit/s; the second line lets nothing through from 15 s to 30 s";
    let first = Line { capacity: (40.0, 16.0), ..Line::default() };
    Scenario::new("dual-failing", about, vec![first, second])
        .step(WARM, "observe 2")
        .mark(BEGIN, "both")
        .load(BEGIN, 45.0, 1, "down", 2)
        .load(BEGIN, 45.0, 1, "up", 2)
        .load(BEGIN, 45.0, 2, "down", 2)
        .step(BEGIN + 15.0, "fails 2")
        .mark(BEGIN + 15.0, "2 fails")
        .step(BEGIN + 30.0, "works 2")
        .mark(BEGIN + 30.0, "both again")
}

fn idle_noise() -> Scenario {
    let path = "delay 20ms 2ms distribution paretonormal loss 0.5%";
    let about =
        "ten minutes without load; pings vary by 2 ms, with a long tail, and 0.5 % are lost";
    let line = Line { path, ..Line::default() };
    let scenario = Scenario { settle: 0.0, ..Scenario::new("idle-noise", about, vec![line]) };
    Scenario { end: BEGIN + 600.0, ..scenario }.mark(BEGIN, "ten minutes")
}

fn fast() -> Scenario {
    let line = Line {
        capacity: (500.0, 50.0),
        fifo_kb: 8000,
        path: "delay 12ms",
        floor: (50.0, 10.0),
        ceiling: (550.0, 55.0),
        start: (250.0, 25.0),
        ..Line::default()
    };
    Scenario::new("fast", "500/50, 250/50, 400/50 Mbit/s for 8 s each, download loaded", vec![line])
        .mark(BEGIN, "500/50")
        .load(BEGIN, 24.0, 1, "down", 4)
        .capacity(BEGIN + 8.0, 1, (250.0, 50.0))
        .mark(BEGIN + 8.0, "250/50")
        .capacity(BEGIN + 16.0, 1, (400.0, 50.0))
        .mark(BEGIN + 16.0, "400/50")
}

fn smoke() -> Scenario {
    Scenario::new(
        SMOKE,
        "20/10, then 10/5 Mbit/s for 5 s each, both directions loaded",
        vec![Line { capacity: (20.0, 10.0), ..Line::default() }],
    )
    .mark(BEGIN, "20/10")
    .load(BEGIN, 10.0, 1, "down", 1)
    .load(BEGIN, 10.0, 1, "up", 1)
    .capacity(BEGIN + 5.0, 1, (10.0, 5.0))
    .mark(BEGIN + 5.0, "10/5")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_plan_in_the_order_of_time() {
        let trace = crate::run::root().join("xtask/rig/lte.csv");
        for name in NAMES.iter().chain([&SMOKE]) {
            let plan = Scenario::named(name, &trace).unwrap().plan(true);
            let times: Vec<f64> =
                plan.lines().filter_map(|line| line.strip_prefix("at ")?.parse().ok()).collect();
            assert!(times.is_sorted() && times.len() > 2, "{name}: {times:?}");
            assert!(plan.ends_with("finish\n"), "{name}");
            for load in plan.lines().filter_map(|line| line.strip_prefix("load ")) {
                let server: Vec<&str> = load.split(' ').take(2).collect();
                assert!(
                    plan.contains(&format!("\nservers {}\n", server.join(" "))),
                    "{name}: {load}"
                );
            }
        }
        assert!(Scenario::named("drop", &trace).is_err());
    }

    fn read(text: &str) -> Result<Vec<Rates>, String> {
        let name = format!("wanctl-rig-{}-{:?}", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        let rates = read_trace(&path).map_err(|error| format!("{error:#}"));
        std::fs::remove_file(&path).unwrap();
        rates.map_err(|error| error.replace(&path.display().to_string(), "t"))
    }

    #[test]
    fn a_trace_holds_each_rate_until_the_next_time() {
        let plain = "# made up\nseconds,down,up\n0,20,5\n0.25,10,5\n0.4,0,1\n6,1,1\n";
        let windows =
            format!("\u{feff}{}", plain.replace('\n', "\r\n\r\n").replace("seconds", "t_s"));
        for text in [plain, &windows] {
            let rates = read(text).unwrap();
            assert_eq!(rates.len(), 60);
            assert_eq!(
                rates[..5],
                [(20.0, 5.0), (20.0, 5.0), (20.0, 5.0), (10.0, 5.0), (0.0, 1.0)]
            );
        }
    }

    #[test]
    fn a_malformed_trace_is_refused_before_anything_is_booted() {
        for (text, expected) in [
            ("0,20\n", "t:1: expected `seconds,down,up`"),
            ("0,20,5\n1,20,x\n", "t:2: expected `seconds,down,up` in Mbit/s, not `1,20,x`"),
            ("0,20,5,7\n", "t:1: expected"),
            ("0,nan,5\n", "t:1: expected"),
            ("0,20,5\n\n1,inf,5\n", "t:3: expected"),
            ("0,-20,5\n", "t:1: expected"),
            ("0,20,5\n4,20,5\n4,10,5\n", "t:3: expected a later time than 4 s"),
            ("0,20,5\nseconds,down,up\n", "t:2: expected"),
            ("0,20,5\n4,20,5\n", "t: expected a trace of 5 s or more"),
            ("", "t: expected a trace of 5 s or more"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.starts_with(expected), "{refused}");
        }
    }
}
