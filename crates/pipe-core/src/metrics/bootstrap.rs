//! Percentile bootstrap confidence intervals (Efron and Tibshirani 1993, chapter 13) of any statistic over rows.
//!
//! The same seed gives the same interval everywhere: rows are drawn by SplitMix, and nothing depends on threads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::ConfidenceConfig;
use crate::{Result, SplitMix};

/// How intervals are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Samples drawn, each of as many rows as there are.
    pub resamples: usize,
    /// The share of intervals that are to hold the true value, such as 0.95.
    pub confidence: f64,
    pub seed: u64,
}

/// Where the statistic lies in all but the outermost resamples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Bootstrap { resamples: 1000, confidence: 0.95, seed: 0 }
    }
}

impl From<ConfidenceConfig> for Bootstrap {
    fn from(config: ConfidenceConfig) -> Bootstrap {
        Bootstrap { resamples: config.n_resamples, confidence: config.confidence_level, seed: config.seed }
    }
}

impl Bootstrap {
    /// The interval of `statistic`, which is given the rows of a sample: indices below `rows`, some of them more than once.
    ///
    /// Samples for which the statistic is not defined (`None`, or not finite) are left out. Nothing without rows, or where
    /// no sample has a value.
    pub fn interval(&self, rows: usize, mut statistic: impl FnMut(&[usize]) -> Option<f64>) -> Option<Interval> {
        let mut values: Vec<f64> = Vec::with_capacity(self.resamples);
        self.samples(rows, |sample| {
            values.extend(statistic(sample).filter(|value| value.is_finite()));
            Ok(())
        })
        .ok()?;
        self.percentiles(values)
    }

    /// The intervals of several statistics, by name, over the same samples. A failure ends it.
    pub fn intervals(
        &self,
        rows: usize,
        mut statistics: impl FnMut(&[usize]) -> Result<BTreeMap<String, f64>>,
    ) -> Result<BTreeMap<String, Interval>> {
        let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        self.samples(rows, |sample| {
            for (name, value) in statistics(sample)?.into_iter().filter(|(_, value)| value.is_finite()) {
                values.entry(name).or_default().push(value);
            }
            Ok(())
        })?;
        Ok(values.into_iter().filter_map(|(name, values)| Some((name, self.percentiles(values)?))).collect())
    }

    /// Draws the samples; none where there are no rows.
    fn samples(&self, rows: usize, mut each: impl FnMut(&[usize]) -> Result<()>) -> Result<()> {
        let mut rng = SplitMix::from_state(self.seed);
        let mut sample = vec![0; rows];
        for _ in 0..if rows == 0 { 0 } else { self.resamples } {
            sample.fill_with(|| rng.below(rows));
            each(&sample)?;
        }
        Ok(())
    }

    fn percentiles(&self, mut values: Vec<f64>) -> Option<Interval> {
        values.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        Some(Interval { low: quantile(&values, tail)?, high: quantile(&values, 1.0 - tail)? })
    }

    /// The interval of a statistic of sums, from what each row adds to them: counts for precision, the matches of
    /// n-grams for BLEU, a score and 1 for a mean. Nothing is computed from texts again.
    pub fn interval_of_sums<R, S: Default>(
        &self,
        rows: &[R],
        mut add: impl FnMut(&mut S, &R),
        mut statistic: impl FnMut(&S) -> Option<f64>,
    ) -> Option<Interval> {
        self.interval(rows.len(), |sample| {
            let mut sum = S::default();
            sample.iter().for_each(|&row| add(&mut sum, &rows[row]));
            statistic(&sum)
        })
    }

    /// The interval of a mean.
    pub fn interval_of_mean(&self, values: &[f64]) -> Option<Interval> {
        self.interval_of_sums(values, |sum: &mut f64, value| *sum += value, |sum| Some(sum / values.len() as f64))
    }
}

/// Between the two values that are nearest, as NumPy does by default.
fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let place = at.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Logits;
    use crate::metrics::{ClassificationMetrics, RegressionMetrics};

    #[test]
    fn the_generator_is_the_published_one() {
        let mut rng = SplitMix::from_state(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| rng.next_u64()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn intervals_of_a_mean_hold_it_as_often_as_they_say() {
        let bootstrap = Bootstrap { resamples: 300, ..Bootstrap::default() };
        let mut rng = SplitMix::from_state(5);
        let (trials, mut held) = (400, 0);
        for seed in 0..trials {
            let values: Vec<f64> = (0..60).map(|_| f64::from(rng.next_unit() < 0.3)).collect();
            let interval = Bootstrap { seed, ..bootstrap }.interval_of_mean(&values).unwrap();
            held += u64::from(interval.low <= 0.3 && 0.3 <= interval.high);
        }
        // 0.95, give or take three standard deviations of 400 trials, and a little below it as is known of small samples.
        let share = held as f64 / trials as f64;
        assert!((0.90..=0.98).contains(&share), "{share}");
    }

    #[test]
    fn one_seed_gives_one_interval_and_nothing_undefined_gets_in() {
        let rows: Vec<(f64, f64)> = (0..20).map(|at| (f64::from(at).sqrt(), 1.0)).collect();
        let mean = |sum: &(f64, f64)| (sum.1 > 0.0).then(|| sum.0 / sum.1);
        let add = |sum: &mut (f64, f64), row: &(f64, f64)| *sum = (sum.0 + row.0, sum.1 + row.1);
        let bootstrap = Bootstrap { seed: 7, ..Bootstrap::default() };
        let interval = bootstrap.interval_of_sums(&rows, add, mean).unwrap();
        assert_eq!(bootstrap.interval_of_sums(&rows, add, mean), Some(interval));
        assert_ne!(Bootstrap::default().interval_of_sums(&rows, add, mean), Some(interval));
        assert!(interval.low < 2.85 && 2.85 < interval.high);
        assert_eq!(bootstrap.interval_of_mean(&[]), None);
        assert_eq!(bootstrap.interval(3, |_| Some(f64::NAN)), None);
        assert_eq!(bootstrap.interval_of_mean(&[2.5]), Some(Interval { low: 2.5, high: 2.5 }));
    }

    /// What `tests/fixtures/make_bootstrap.py` prints: 20 000 resamples of SciPy's generator.
    const SCIPY: [(&str, f64, f64, f64); 8] = [
        ("accuracy", 0.95, 0.5800, 0.7267),
        ("f1_macro", 0.95, 0.5623, 0.7170),
        ("auroc", 0.95, 0.7131, 0.8599),
        ("mse", 0.95, 0.2107, 0.2977),
        ("accuracy", 0.8, 0.6067, 0.7067),
        ("f1_macro", 0.8, 0.5895, 0.6925),
        ("auroc", 0.8, 0.7416, 0.8384),
        ("mse", 0.8, 0.2247, 0.2817),
    ];

    #[test]
    fn intervals_are_scipy_s() {
        let truth: Vec<i64> = (0..150).map(|row| row * 7 % 3 % 2).collect();
        let scores: Vec<f32> = (0..150).map(|row| (row * 37 % 101) as f32 / 101.0 + 0.35 * truth[row] as f32).collect();
        let measure = |sample: &[usize]| {
            let (mut classes, mut numbers) = (ClassificationMetrics::new(2), RegressionMetrics::new());
            for &row in sample {
                classes.add(&Logits { classes: 2, values: vec![0.0, scores[row] - 0.6] }, &truth[row..=row]);
                numbers.add(&scores[row..=row], &[truth[row] as f32]);
            }
            let mut metrics = classes.report(&[]).metrics;
            metrics.extend(numbers.report().metrics);
            Ok(metrics)
        };
        for confidence in [0.95, 0.8] {
            let found = Bootstrap { resamples: 2000, confidence, seed: 3 }.intervals(150, measure).unwrap();
            for (name, _, low, high) in SCIPY.into_iter().filter(|(_, level, ..)| *level == confidence) {
                let Interval { low: own_low, high: own_high } = found[name];
                assert!((own_low - low).abs() < 0.01 && (own_high - high).abs() < 0.01, "{name}: {own_low} to {own_high}, SciPy {low} to {high}");
            }
        }
    }

    #[test]
    fn quantiles_are_numpy_s() {
        // np.quantile([1, 2, 4, 8], [0.025, 0.5, 0.975])
        let values = [1.0, 2.0, 4.0, 8.0];
        let found: Vec<f64> = [0.025, 0.5, 0.975].iter().map(|&at| quantile(&values, at).unwrap()).collect();
        assert!(found.iter().zip([1.075, 3.0, 7.7]).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }
}
