//! What was measured, and the table that is printed of it: medians, ratios, and the machine.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::thread;

/// What is measured, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Measure {
    Ingest,
    Tokenize,
    Train,
    Predict,
    Accuracy,
    Cached,
}

impl Measure {
    const ALL: [Self; 6] = [Self::Ingest, Self::Tokenize, Self::Train, Self::Predict, Self::Accuracy, Self::Cached];

    fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest, MB/s",
            Self::Tokenize => "tokenize, rows/s",
            Self::Train => "train, samples/s",
            Self::Predict => "predict, rows/s",
            Self::Accuracy => "test accuracy",
            Self::Cached => "all cached, ms",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Accuracy => format!("{value:.4}"),
            _ if value < 100.0 => format!("{value:.1}"),
            _ => format!("{value:.0}"),
        }
    }

    /// How many times as fast ours is. An accuracy is no speed.
    fn ratio(self, ours: f64, peer: f64) -> String {
        match self {
            Self::Accuracy => format!("{:+.4}", ours - peer),
            _ => format!("{:.2}x", ours / peer),
        }
    }
}

/// Under this name our own figures are added.
pub(super) const US: &str = "pipe";

pub(super) struct Report {
    rounds: u32,
    samples: BTreeMap<(Measure, String), Vec<f64>>,
}

impl Report {
    pub(super) fn new(rounds: u32) -> Self {
        Self { rounds, samples: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, measure: Measure, who: &str, value: f64) {
        self.samples.entry((measure, who.to_owned())).or_default().push(value);
    }

    fn median(&self, measure: Measure, who: &str) -> Option<f64> {
        let mut values = self.samples.get(&(measure, who.to_owned()))?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        Some(if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) })
    }

    fn peers(&self, measure: Measure) -> impl Iterator<Item = &str> {
        let of_measure = self.samples.keys().filter(move |(of, who)| *of == measure && who != US);
        of_measure.map(|(_, who)| who.as_str())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = if self.rounds == 1 { "1 round".to_owned() } else { format!("{} rounds, medians", self.rounds) };
        writeln!(f, "{}; {rounds}\n", machine())?;
        writeln!(f, "{:18}{US:>10}{:>10}{:>9}", "", "peer", "ratio")?;
        for measure in Measure::ALL {
            let Some(ours) = self.median(measure, US) else { continue };
            let shown = measure.show(ours);
            let mut alone = true;
            for peer in self.peers(measure) {
                let Some(theirs) = self.median(measure, peer) else { continue };
                let ratio = measure.ratio(ours, theirs);
                let theirs = measure.show(theirs);
                writeln!(f, "{:18}{shown:>10}{theirs:>10}{ratio:>9}  {peer}", measure.name())?;
                alone = false;
            }
            if alone {
                writeln!(f, "{:18}{shown:>10}", measure.name())?;
            }
        }
        Ok(())
    }
}

/// What the figures were measured on.
fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.trim_start().strip_prefix(": "));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} cores", model.unwrap_or("unknown CPU"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_medians_and_ratios() {
        let mut report = Report::new(3);
        for (ours, theirs) in [(10.0, 100.0), (30.0, 5.0), (20.0, 8.0)] {
            report.add(Measure::Ingest, US, ours);
            report.add(Measure::Ingest, "pandas", theirs);
        }
        report.add(Measure::Accuracy, US, 0.71);
        report.add(Measure::Accuracy, "transformers", 0.7012);
        for ms in [4.0, 6.0] {
            report.add(Measure::Cached, US, ms);
        }
        let table = report.to_string();
        let rows: Vec<&str> = table.lines().skip(3).collect();
        assert_eq!(
            rows,
            [
                "ingest, MB/s            20.0       8.0    2.50x  pandas",
                "test accuracy         0.7100    0.7012  +0.0088  transformers",
                "all cached, ms           5.0",
            ]
        );
    }
}
