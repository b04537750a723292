//! Regression: one number for each row.
//!
//! Definitions are scikit-learn's (`mse`, `rmse`, `mae`, `r2`) and SciPy's (`pearson`, `spearman`). Ranks need all values,
//! so every (prediction, target) is kept, 8 bytes per row; all sums are then taken in two passes, which loses nothing to
//! cancellation. Where the targets are all one value, `r2` is not there (scikit-learn gives 0 or 1); where the
//! predictions are, or there are fewer than two rows, neither are the correlations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{average_ranks, mean, named};

/// Every prediction with its target.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RegressionMetrics {
    predictions: Vec<f32>,
    targets: Vec<f32>,
}

/// What [`RegressionMetrics`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegressionReport {
    pub rows: u64,
    /// By the names of the family, and `loss`, which is `mse`.
    pub metrics: BTreeMap<String, f64>,
}

impl RegressionMetrics {
    pub fn new() -> Self {
        RegressionMetrics::default()
    }

    /// Adds a batch: as many targets as predictions.
    pub fn add(&mut self, predictions: &[f32], targets: &[f32]) {
        assert_eq!(predictions.len(), targets.len(), "as many targets as predictions");
        self.predictions.extend(predictions);
        self.targets.extend(targets);
    }

    /// Adds rows that were collected elsewhere.
    pub fn merge(&mut self, other: &RegressionMetrics) {
        self.add(&other.predictions, &other.targets);
    }

    pub fn report(&self) -> RegressionReport {
        let rows = self.targets.len() as u64;
        let of = |values: &[f32]| -> Vec<f64> { values.iter().map(|&value| value.into()).collect() };
        let (predictions, targets) = (of(&self.predictions), of(&self.targets));
        let errors = || predictions.iter().zip(&targets).map(|(prediction, target)| prediction - target);
        let squares: f64 = errors().map(|error| error * error).sum();
        let mse = mean(squares, rows);
        let metrics = named([
            ("mse", mse),
            ("rmse", mse.map(f64::sqrt)),
            ("mae", mean(errors().map(f64::abs).sum(), rows)),
            ("r2", spread(&targets).map(|around_mean| 1.0 - squares / around_mean)),
            ("pearson", correlation(&predictions, &targets)),
            ("spearman", correlation(&average_ranks(&predictions), &average_ranks(&targets))),
            ("loss", mse),
        ]);
        RegressionReport { rows, metrics }
    }
}

/// The sum of squares around the mean; nothing where all values are one.
fn spread(values: &[f64]) -> Option<f64> {
    let first = *values.first()?;
    values.iter().any(|&value| value != first).then(|| deviations(values).map(|deviation| deviation * deviation).sum())
}

/// Pearson's correlation; nothing where one side is constant.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let (of_a, of_b) = (spread(a)?, spread(b)?);
    let together: f64 = deviations(a).zip(deviations(b)).map(|(a, b)| a * b).sum();
    // Rounding may lead beyond what a correlation can be.
    Some((together / of_a.sqrt() / of_b.sqrt()).clamp(-1.0, 1.0))
}

fn deviations(values: &[f64]) -> impl Iterator<Item = f64> {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    values.iter().map(move |value| value - mean)
}

#[cfg(test)]
mod tests {
    use super::super::MetricFamily;
    use super::super::reference::{Reference, logit};
    use super::*;

    #[test]
    fn equals_scikit_learn_and_scipy() {
        let mut reference = Reference::load("regression", MetricFamily::Regression);
        for (case, mut rng) in reference.cases() {
            let (rows, kind) = (rng.below(50), rng.below(6));
            let mut metrics = RegressionMetrics::new();
            for _ in 0..rows {
                let target = if kind == 1 { 1.5 } else { logit(&mut rng, kind == 0) };
                let prediction = match kind {
                    2 => -0.5,
                    3 => target,
                    4 => target / 2.0 + logit(&mut rng, false) / 4.0,
                    _ => logit(&mut rng, kind == 0),
                };
                metrics.add(&[prediction], &[target]);
            }
            reference.check(case, &metrics.report().metrics);
        }
        reference.finish();
    }

    #[test]
    fn what_is_not_defined_is_not_there() {
        let mut metrics = RegressionMetrics::new();
        assert!(metrics.report().metrics.is_empty());
        metrics.add(&[1.0], &[2.0]);
        let report = metrics.report();
        assert_eq!(report.metrics.keys().collect::<Vec<_>>(), ["loss", "mae", "mse", "rmse"]);
        metrics.add(&[f32::NAN], &[1.0]);
        assert!(metrics.report().metrics.values().all(|value| value.is_finite()));
    }
}
