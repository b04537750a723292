//! Whether a model is right as often as it says.
//!
//! The expected calibration error of Guo et al. 2017, "On Calibration of Modern Neural Networks": rows are put in 15 bins of
//! equal width by the confidence in the class that was predicted; each bin's gap between mean confidence and accuracy
//! is weighted by its share of the rows. A bin is open below and closed above, as in the authors' program.

use serde::{Deserialize, Serialize};

use super::mean;

/// Bins of the confidence, as in the paper.
const BINS: usize = 15;

/// Counts by confidence; of constant size.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calibration {
    bins: [Bin; BINS],
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Bin {
    rows: u64,
    hits: u64,
    confidence: f64,
}

/// One bar of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Confidences in this bin are above this one …
    pub above: f64,
    /// … and at most this one.
    pub up_to: f64,
    pub rows: u64,
    /// Mean confidence of the rows; 0 without any.
    pub confidence: f64,
    /// Share of the rows that were right; 0 without any.
    pub accuracy: f64,
}

impl Calibration {
    pub fn new() -> Self {
        Calibration::default()
    }

    /// Adds a row: the probability of the predicted class, and whether it is the row's.
    pub fn add(&mut self, confidence: f64, right: bool) {
        let at = (1..BINS).find(|&bin| confidence <= edge(bin)).unwrap_or(BINS) - 1;
        let bin = &mut self.bins[at];
        bin.rows += 1;
        bin.hits += u64::from(right);
        bin.confidence += confidence;
    }

    pub fn merge(&mut self, other: &Calibration) {
        for (bin, other) in self.bins.iter_mut().zip(&other.bins) {
            bin.rows += other.rows;
            bin.hits += other.hits;
            bin.confidence += other.confidence;
        }
    }

    /// The expected calibration error, 0 to 1; nothing without rows.
    pub fn expected_error(&self) -> Option<f64> {
        let gaps = self.bins.iter().map(|bin| (bin.confidence - bin.hits as f64).abs()).sum();
        mean(gaps, self.bins.iter().map(|bin| bin.rows).sum())
    }

    /// The bins that have rows, by confidence.
    pub fn report(&self) -> Vec<CalibrationBin> {
        let filled = self.bins.iter().enumerate().filter(|(_, bin)| bin.rows > 0);
        filled
            .map(|(at, bin)| CalibrationBin {
                above: edge(at),
                up_to: edge(at + 1),
                rows: bin.rows,
                confidence: bin.confidence / bin.rows as f64,
                accuracy: bin.hits as f64 / bin.rows as f64,
            })
            .collect()
    }
}

fn edge(bin: usize) -> f64 {
    bin as f64 / BINS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_is_closed_above_and_no_confidence_falls_out() {
        let mut calibration = Calibration::new();
        assert_eq!(calibration.expected_error(), None);
        for confidence in [0.0, 1.0 / 15.0, 0.2, 0.21, 1.0, 1.0 + 1e-9] {
            calibration.add(confidence, true);
        }
        let rows: Vec<(f64, u64)> = calibration.report().iter().map(|bin| (bin.up_to, bin.rows)).collect();
        assert_eq!(rows, [(edge(1), 2), (edge(3), 1), (edge(4), 1), (1.0, 2)]);
    }

    #[test]
    fn parts_put_together_are_the_whole() {
        let (mut whole, mut one, mut other) = (Calibration::new(), Calibration::new(), Calibration::new());
        for at in 0..40 {
            let confidence = f64::from(at) / 64.0;
            whole.add(confidence, at % 3 == 0);
            if at < 20 { &mut one } else { &mut other }.add(confidence, at % 3 == 0);
        }
        one.merge(&other);
        assert_eq!(one, whole);
    }
}
