//! One drawing per scenario: capacity and rates of each loaded direction, and the added delay.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use wanctl_core::tick::Tick;
use wanctl_core::units::{Direction, PerDirection};

use super::board::Plan;
use super::contender::Contender;
use super::model::World;
use super::run::{self, Watch};
use super::scenario::{Purpose, Scenario};

const WIDTH: f64 = 1100.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 130.0;
const PANEL: f64 = 190.0;
const GAP: f64 = 46.0;
/// Points of a line; longer runs are thinned out.
const POINTS: usize = 910;
/// Delays above this are drawn at the edge, in ms.
const DELAY_MAX_MS: f64 = 200.0;
const COLOURS: [&str; 8] =
    ["#b8860b", "#d62728", "#7f7f7f", "#2ca02c", "#1f4fd8", "#9467bd", "#17becf", "#e377c2"];

/// What is drawn of one run, one value per tick.
#[derive(Debug, Default)]
struct Series {
    capacity: PerDirection<Vec<f64>>,
    rate: PerDirection<Vec<f64>>,
    delay_ms: Vec<f64>,
}

impl Watch for Series {
    fn look(&mut self, world: &World<'_>, _tick: &Tick, _law: &dyn Contender) -> Result<()> {
        let mbps = |bps: u64| bps as f64 / 1e6;
        let truth = world.truth();
        let mut delay_us = 0;
        for direction in Direction::BOTH {
            self.capacity.get_mut(direction).push(mbps(*truth.capacity.get(direction)));
            self.rate.get_mut(direction).push(mbps(*world.rates().get(direction)));
            delay_us += world.line(direction).queue_us();
        }
        self.delay_ms.push(delay_us as f64 / 1e3);
        Ok(())
    }
}

/// Draws every scenario of a plan that is scored for load.
///
/// # Errors
///
/// When the folder or a file cannot be written.
pub fn write(plan: &Plan, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    for (scenario, _) in plan.scenarios.iter().filter(|(s, _)| s.purpose != Purpose::Idle) {
        let capacity = run::capacities(scenario, plan.first_seed);
        let mut all = Vec::new();
        for entry in &plan.entries {
            let mut series = Series::default();
            let (setup, overrides, seed) = (&entry.setup, &entry.overrides, plan.first_seed);
            run::run(scenario, &capacity, entry.law, setup, overrides, seed, Some(&mut series))?;
            all.push((entry.name.as_str(), series));
        }
        let name = scenario.name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
        let path = folder.join(format!("{name}.svg"));
        std::fs::write(&path, draw(scenario, &all))
            .with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}

/// One panel of a drawing.
struct Panel {
    top: f64,
    seconds: f64,
    max: f64,
}

impl Panel {
    fn x(&self, index: usize, count: usize) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * index as f64 / count.max(1) as f64
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PANEL - PANEL * (value / self.max).clamp(0.0, 1.0)
    }

    /// Whole pixels, and no point inside a level stretch: drawings stay small.
    fn points(&self, values: &[f64]) -> String {
        let every = values.len().div_ceil(POINTS).max(1);
        let pixel = |(index, value): (usize, &f64)| {
            (self.x(index, values.len()).round() as i64, self.y(*value).round() as i64)
        };
        let pixels: Vec<(i64, i64)> = values.iter().enumerate().step_by(every).map(pixel).collect();
        let mut text = String::new();
        for (index, &(x, y)) in pixels.iter().enumerate() {
            let is_level = |other: Option<&(i64, i64)>| other.is_some_and(|other| other.1 == y);
            let before = index.checked_sub(1).and_then(|index| pixels.get(index));
            if !(is_level(before) && is_level(pixels.get(index + 1))) {
                // Writing to a string cannot fail.
                let _ok = write!(text, "{x},{y} ");
            }
        }
        text
    }

    fn frame(&self, title: &str, unit: &str, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, self.top + PANEL);
        let _ok = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.0}\" class=\"title\">{title}</text>\n\
             <path d=\"M{LEFT} {:.0}V{bottom:.0}H{right:.0}\" class=\"axis\"/>",
            self.top - 8.0,
            self.top
        );
        for part in 0..=4 {
            let value = self.max * f64::from(part) / 4.0;
            let y = self.y(value);
            let _ok = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{right:.0}\" class=\"grid\"/>\
                 <text x=\"{:.0}\" y=\"{:.1}\" class=\"tick\" text-anchor=\"end\">{value:.0} {unit}</text>",
                LEFT - 4.0,
                y + 4.0
            );
        }
        for part in 0..=6 {
            let x = LEFT + (right - LEFT) * f64::from(part) / 6.0;
            let seconds = self.seconds * f64::from(part) / 6.0;
            let _ok = writeln!(
                svg,
                "<text x=\"{x:.0}\" y=\"{:.0}\" class=\"tick\" text-anchor=\"middle\">{seconds:.0} s</text>",
                bottom + 14.0
            );
        }
    }

    fn line(&self, values: &[f64], colour: &str, svg: &mut String) {
        let points = self.points(values);
        let _ok = writeln!(svg, "<polyline points=\"{points}\" style=\"stroke:{colour}\"/>");
    }
}

/// Names are the user's, who may have written anything.
fn escaped(name: &str) -> String {
    name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn draw(scenario: &Scenario, all: &[(&str, Series)]) -> String {
    let is_loaded = |direction: &Direction| scenario.lines.get(*direction).traffic.flows > 0;
    let loaded: Vec<Direction> = Direction::BOTH.into_iter().filter(is_loaded).collect();
    let panels = loaded.len() + 1;
    let height = GAP + panels as f64 * (PANEL + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<style>\
         polyline{{fill:none;stroke-width:1.2;stroke-linejoin:round;opacity:.85}}\
         .axis{{stroke:#444;fill:none}}.grid{{stroke:#e4e4e4}}.tick{{fill:#555}}\
         .title{{font-size:13px;font-weight:bold}}.capacity{{fill:#dfe7f5;stroke:none;opacity:1}}\
         </style>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let seconds = scenario.seconds as f64;
    let name = escaped(&scenario.name);
    let mut top = GAP;
    for direction in loaded {
        let ceiling = scenario.lines.get(direction).limits.ceiling as f64 / 1e6;
        let panel = Panel { top, seconds, max: ceiling * 1.05 };
        let title = format!("{name}: {} shaper rate over capacity", direction.name());
        if let Some((_, first)) = all.first() {
            let area = panel.points(first.capacity.get(direction));
            let bottom = top + PANEL;
            let _ok = writeln!(
                svg,
                "<polygon class=\"capacity\" points=\"{LEFT},{bottom} {area}{},{bottom}\"/>",
                WIDTH - RIGHT
            );
        }
        panel.frame(&title, "Mbit/s", &mut svg);
        for ((_, series), colour) in all.iter().zip(COLOURS.iter().cycle()) {
            panel.line(series.rate.get(direction), colour, &mut svg);
        }
        top += PANEL + GAP;
    }
    let panel = Panel { top, seconds, max: DELAY_MAX_MS };
    panel.frame(&format!("{name}: added delay, both directions"), "ms", &mut svg);
    for ((_, series), colour) in all.iter().zip(COLOURS.iter().cycle()) {
        panel.line(&series.delay_ms, colour, &mut svg);
    }
    for (index, ((name, _), colour)) in all.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let y = GAP + 14.0 + 18.0 * index as f64;
        let x = WIDTH - RIGHT + 12.0;
        let _ok = writeln!(
            svg,
            "<path d=\"M{x} {:.0}h18\" stroke=\"{colour}\" stroke-width=\"3\"/>\
             <text x=\"{:.0}\" y=\"{y:.0}\">{name}</text>",
            y - 4.0,
            x + 24.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}
