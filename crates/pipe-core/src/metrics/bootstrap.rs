//! Percentile bootstrap confidence intervals (Efron and Tibshirani 1993, chapter 13) of any statistic over rows.
//!
//! The same seed gives the same interval everywhere: rows are drawn by SplitMix, and nothing depends on threads.

use serde::{Deserialize, Serialize};

use crate::SplitMix;

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

impl Bootstrap {
    /// The interval of `statistic`, which is given the rows of a sample: indices below `rows`, some of them more than once.
    ///
    /// Samples for which the statistic is not defined (`None`, or not finite) are left out. Nothing without rows, or where
    /// no sample has a value.
    pub fn interval(&self, rows: usize, mut statistic: impl FnMut(&[usize]) -> Option<f64>) -> Option<Interval> {
        if rows == 0 {
            return None;
        }
        let mut rng = SplitMix::from_state(self.seed);
        let mut sample = vec![0; rows];
        let mut values: Vec<f64> = Vec::with_capacity(self.resamples);
        for _ in 0..self.resamples {
            sample.fill_with(|| rng.below(rows));
            values.extend(statistic(&sample).filter(|value| value.is_finite()));
        }
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

    #[test]
    fn quantiles_are_numpy_s() {
        // np.quantile([1, 2, 4, 8], [0.025, 0.5, 0.975])
        let values = [1.0, 2.0, 4.0, 8.0];
        let found: Vec<f64> = [0.025, 0.5, 0.975].iter().map(|&at| quantile(&values, at).unwrap()).collect();
        assert!(found.iter().zip([1.075, 3.0, 7.7]).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }
}
