//! A picture of a training: its loss and its learning rate over the steps, as SVG. Its bytes follow from the log alone.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Pixels of the picture, and of the frame that curves are drawn in.
const WIDTH: f64 = 720.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
/// Top and height of the two frames.
const LOSS: (f64, f64) = (44.0, 250.0);
const RATE: (f64, f64) = (352.0, 110.0);
const HEIGHT: f64 = 510.0;
/// More points than pixels show nothing.
const MOST_POINTS: usize = 1400;

/// Text and lines take the reader's colours: dark on light, light on dark.
const STYLE: &str = "svg{font:12px system-ui,sans-serif}.page{fill:#fff}text{fill:#333}.axis{stroke:#999}.grid{stroke:#ddd}\
.train{stroke:#1f6feb;fill:none;stroke-width:1.6}.eval{stroke:#d1570c;fill:none;stroke-width:1.6}.dot{fill:#d1570c}.rate{stroke:#2a8a4a;fill:none;stroke-width:1.6}\
@media(prefers-color-scheme:dark){.page{fill:#0d1117}text{fill:#d0d7de}.axis{stroke:#6e7681}.grid{stroke:#2d333b}\
.train{stroke:#58a6ff}.eval{stroke:#f0883e}.dot{fill:#f0883e}.rate{stroke:#56d364}}";

/// One curve: (step, value).
type Points = Vec<(f64, f64)>;

/// The rows of `log_history` as a picture; absent where nothing was logged that could be drawn.
pub(crate) fn training(log: &[Map<String, Value>]) -> Option<String> {
    let (loss, eval, rate) = (points(log, "loss"), points(log, "eval_loss"), points(log, "learning_rate"));
    let last = [&loss, &eval].into_iter().flatten().map(|point| point.0).fold(0.0, f64::max);
    if last == 0.0 {
        return None;
    }
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" \
         aria-label=\"Loss and learning rate over the steps of a training\">\n<style>{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n"
    );
    let steps = Axis::new(0.0, last);
    let values: Vec<f64> = loss.iter().chain(&eval).map(|point| point.1).collect();
    let mut frame = Frame::new(LOSS, steps.clone(), &values);
    frame.draw_axes(&mut svg, "loss");
    legend(&mut svg, !loss.is_empty(), !eval.is_empty());
    frame.draw_line(&mut svg, "train", &loss);
    frame.draw_line(&mut svg, "eval", &eval);
    frame.draw_dots(&mut svg, &eval);
    if !rate.is_empty() {
        let values: Vec<f64> = rate.iter().map(|point| point.1).chain([0.0]).collect();
        frame = Frame::new(RATE, steps, &values);
        frame.draw_axes(&mut svg, "learning rate");
        frame.draw_line(&mut svg, "rate", &rate);
    }
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">step</text>\n</svg>", HEIGHT - 10.0);
    Some(svg)
}

fn points(log: &[Map<String, Value>], name: &str) -> Points {
    let all: Points = log.iter().filter_map(|row| Some((row.get("step")?.as_f64()?, row.get(name)?.as_f64()?))).collect();
    let stride = all.len().div_ceil(MOST_POINTS).max(1);
    let last = all.len().saturating_sub(1);
    all.into_iter().enumerate().filter(|(at, _)| at.is_multiple_of(stride) || *at == last).map(|(_, point)| point).collect()
}

/// Says which curve is which, above the first frame.
fn legend(svg: &mut String, train: bool, eval: bool) {
    let mut x = WIDTH - RIGHT - 150.0;
    for (class, name, shown) in [("train", "train", train), ("eval", "validation", eval)] {
        if shown {
            let _ = writeln!(svg, "<path class=\"{class}\" d=\"M{x} 26h18\"/><text x=\"{}\" y=\"30\">{name}</text>", x + 24.0);
            x += 72.0;
        }
    }
}

/// A range of values with round ticks.
#[derive(Debug, Clone)]
struct Axis {
    low: f64,
    high: f64,
    tick: f64,
}

impl Axis {
    /// Widened to whole ticks, of which there are at most seven.
    fn new(low: f64, high: f64) -> Axis {
        let span = if high > low { high - low } else { high.abs().max(1e-12) };
        let rough = span / 5.0;
        let decade = 10f64.powf(rough.log10().floor());
        let tick = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * decade).find(|tick| *tick >= rough * 0.999).unwrap_or(decade * 10.0);
        Axis { low: (low / tick).floor() * tick, high: ((low + span) / tick).ceil() * tick, tick }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let count = ((self.high - self.low) / self.tick).round() as u32;
        (0..=count).map(|at| self.low + f64::from(at) * self.tick)
    }

    /// 0 at the low end, 1 at the high one.
    fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// Two axes and where they are in the picture.
struct Frame {
    top: f64,
    height: f64,
    steps: Axis,
    values: Axis,
}

impl Frame {
    fn new((top, height): (f64, f64), steps: Axis, values: &[f64]) -> Frame {
        let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)));
        // From zero where that costs little: a loss that looks halved should be.
        let low = if low > 0.0 && low < 0.6 * high { 0.0 } else { low };
        Frame { top, height, steps, values: Axis::new(low, high) }
    }

    fn x(&self, step: f64) -> f64 {
        LEFT + self.steps.place(step) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + (1.0 - self.values.place(value)) * self.height
    }

    fn draw_axes(&self, svg: &mut String, title: &str) {
        let (bottom, right) = (self.top + self.height, WIDTH - RIGHT);
        let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"600\">{title}</text>", self.top - 14.0);
        for tick in self.values.ticks() {
            let y = self.y(tick);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                number(tick)
            );
        }
        for tick in self.steps.ticks() {
            let x = self.x(tick);
            let _ = writeln!(
                svg,
                "<path class=\"axis\" d=\"M{x:.1} {bottom}v5\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                number(tick)
            );
        }
        let _ = writeln!(svg, "<path class=\"axis\" fill=\"none\" d=\"M{LEFT} {}V{bottom}H{right}\"/>", self.top);
    }

    fn draw_line(&self, svg: &mut String, class: &str, points: &Points) {
        if points.len() < 2 {
            return;
        }
        let places: Vec<String> = points.iter().map(|&(step, value)| format!("{:.1} {:.1}", self.x(step), self.y(value))).collect();
        let _ = writeln!(svg, "<path class=\"{class}\" d=\"M{}\"/>", places.join("L"));
    }

    fn draw_dots(&self, svg: &mut String, points: &Points) {
        for &(step, value) in points {
            let _ = writeln!(svg, "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>", self.x(step), self.y(value));
        }
    }
}

/// Short, and without the noise of binary fractions.
fn number(value: f64) -> String {
    if value.abs() < 1e-12 {
        return "0".into();
    }
    if value.abs() < 1e-3 || value.abs() >= 1e6 {
        return format!("{:e}", format!("{value:.3e}").parse::<f64>().unwrap_or(value));
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Vec<Map<String, Value>> {
        let train = (1..=10).map(|step| serde_json::json!({"step": step * 10, "loss": 1.0 / f64::from(step) + 0.2, "learning_rate": 5e-5 * (1.0 - f64::from(step) / 10.0)}));
        let eval = [50, 100].map(|step| serde_json::json!({"step": step, "eval_loss": 0.6}));
        train.chain(eval).map(|row| row.as_object().unwrap().clone()).collect()
    }

    #[test]
    fn a_picture_has_curves_axes_and_names_and_is_the_same_again() {
        let svg = training(&log()).unwrap();
        assert_eq!(svg, training(&log()).unwrap());
        for part in [
            "class=\"train\" d=\"M",
            "class=\"eval\" d=\"M",
            "class=\"rate\" d=\"M",
            ">loss<",
            ">learning rate<",
            ">step<",
            ">validation<",
            ">100<",
            ">5e-5<",
            "prefers-color-scheme:dark",
        ] {
            assert!(svg.contains(part), "{part}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert!(training(&[]).is_none());
    }

    #[test]
    fn ticks_are_round_and_few() {
        for (low, high) in [(0.0, 1.1), (0.0, 5e-5), (0.0, 1862.0), (0.31, 0.32), (2.0, 2.0), (0.0, 3.0)] {
            let axis = Axis::new(low, high);
            let ticks: Vec<f64> = axis.ticks().collect();
            assert!((2..=8).contains(&ticks.len()) && ticks[0] <= low && *ticks.last().unwrap() >= high * 0.999_999, "{low} to {high}: {ticks:?}");
        }
        assert_eq!([number(0.30000000000000004), number(2e-5), number(1500.0)], ["0.3", "2e-5", "1500"]);
    }
}
