//! One run as a drawing: the added round-trip time, and for each direction capacity, shaper and goodput.

use std::fmt::Write as _;

use super::results::{Goodput, Lane, Results, Steps};
use super::summary::median_rtt;

const WIDTH: f64 = 1100.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const PANEL: f64 = 180.0;
const GAP: f64 = 48.0;
/// Delays above this are drawn at the edge, in ms.
const DELAY_MAX_MS: f64 = 150.0;
const STYLE: &str = "polyline{fill:none;stroke-width:1.3}polygon{fill:#dfe7f5}\
    .axis{stroke:#444;fill:none}.grid{stroke:#e8e8e8}.mark{stroke:#999;stroke-dasharray:4 3}\
    .rtt{stroke:#d62728}.shaper{stroke:#1f4fd8}.load{stroke:#2ca02c}.title{font-size:13px;font-weight:bold}";

/// A panel: its place, and what its axes mean.
struct Panel {
    top: f64,
    from: f64,
    to: f64,
    max: f64,
}

/// Draws a run.
pub(crate) fn draw(title: &str, results: &Results) -> String {
    let used: Vec<_> =
        results.lines.iter().zip(1..).filter(|(line, _)| !line.rtt.is_empty()).collect();
    let height = GAP + 3.0 * used.len() as f64 * (PANEL + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let ([(from, _), (begin, _), ..], Some((to, _))) = (&results.marks[..], results.marks.last())
    else {
        return svg + "</svg>\n";
    };
    let mut top = GAP;
    for (line, number) in used {
        let base = median_rtt(line, *from, *begin);
        let name = if number == 1 { title.to_owned() } else { format!("{title}, line {number}") };
        let panel = Panel { top, from: *from, to: *to, max: DELAY_MAX_MS };
        panel.frame(
            &format!("{name}: round-trip time above the idle line's {base:.1} ms"),
            "ms",
            results,
            &mut svg,
        );
        let added: Vec<(f64, f64)> =
            line.rtt.iter().filter_map(|(at, rtt)| Some((*at, (*rtt)? - base))).collect();
        panel.line("rtt", &added, &mut svg);
        top += PANEL + GAP;
        for (direction, lane) in [("download", &line.down), ("upload", &line.up)] {
            let highest = |steps: &Steps| steps.iter().map(|(_, mbps)| *mbps).fold(1.0, f64::max);
            let max = highest(&lane.capacity).max(highest(&lane.shaper)) * 1.05;
            let panel = Panel { top, from: *from, to: *to, max };
            panel.area(&lane.capacity, &mut svg);
            let title = format!("{name}: {direction}; area: the ISP, blue: shaper, green: goodput");
            panel.frame(&title, "Mbit/s", results, &mut svg);
            panel.lane(lane, &mut svg);
            top += PANEL + GAP;
        }
    }
    svg + "</svg>\n"
}

impl Panel {
    fn x(&self, at: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * ((at - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PANEL - PANEL * (value / self.max).clamp(0.0, 1.0)
    }

    fn points(&self, values: &[(f64, f64)]) -> String {
        let mut text = String::new();
        for (at, value) in values {
            let _fits = write!(text, "{:.1},{:.1} ", self.x(*at), self.y(*value));
        }
        text
    }

    fn line(&self, class: &str, values: &[(f64, f64)], svg: &mut String) {
        let _fits =
            writeln!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", self.points(values));
    }

    /// The corners of a value that holds until the next one.
    fn corners(&self, steps: &Steps) -> Vec<(f64, f64)> {
        let ends = steps.iter().skip(1).map(|(at, _)| *at).chain([self.to]);
        let shown = steps.iter().zip(ends).filter(|(_, end)| *end >= self.from);
        shown.flat_map(|((at, value), end)| [(*at, *value), (end, *value)]).collect()
    }

    fn area(&self, steps: &Steps, svg: &mut String) {
        let (bottom, right) = (self.top + PANEL, WIDTH - RIGHT);
        let points = self.points(&self.corners(steps));
        let _fits = writeln!(svg, "<polygon points=\"{LEFT},{bottom} {points}{right},{bottom}\"/>");
    }

    fn lane(&self, lane: &Lane, svg: &mut String) {
        self.line("shaper", &self.corners(&lane.shaper), svg);
        for load in &lane.loads {
            let middle = |interval: &Goodput| ((interval.from + interval.to) / 2.0, interval.mbps);
            self.line("load", &load.iter().map(middle).collect::<Vec<_>>(), svg);
        }
    }

    fn frame(&self, title: &str, unit: &str, results: &Results, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, self.top + PANEL);
        for part in 0..=4 {
            let value = self.max * f64::from(part) / 4.0;
            let y = self.y(value);
            let _fits = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{right}\" class=\"grid\"/><text x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{value:.0} {unit}</text>",
                LEFT - 4.0,
                y + 4.0
            );
        }
        for (at, name) in &results.marks {
            let x = self.x(*at);
            let _fits = writeln!(
                svg,
                "<path d=\"M{x:.1} {}V{bottom}\" class=\"mark\"/><text x=\"{:.1}\" y=\"{}\">{:.0} s {}</text>",
                self.top,
                x + 3.0,
                bottom + 14.0,
                at - self.from,
                if name == "end" { "" } else { name }
            );
        }
        let _fits = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{}\" class=\"title\">{title}</text><path d=\"M{LEFT} {}V{bottom}H{right}\" \
             class=\"axis\"/>",
            self.top - 9.0,
            self.top
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_shows_each_line_that_was_measured() {
        let marks = [(0.0, "idle"), (5.0, "load"), (9.0, "end")]
            .map(|(at, name)| (at, name.to_owned()))
            .to_vec();
        let mut results = Results { marks, ..Results::default() };
        results.lines[0].rtt = vec![(1.0, Some(20.0)), (2.0, None), (6.0, Some(95.0))];
        results.lines[0].down.shaper = vec![(0.0, 20.0), (6.0, 30.0)];
        let svg = draw("x", &results);
        assert_eq!(svg.matches("<polyline").count(), 3, "{svg}");
        // Added 75 of 150 ms: half-way up the first panel, at two thirds of the time.
        let half = GAP + PANEL / 2.0;
        assert!(svg.contains(&format!(",{half:.1} ")), "{svg}");
        assert!(svg.contains("5 s load"), "{svg}");
    }
}
