//! Multi-label classification: any number of labels for a row, each decided by its own sigmoid.
//!
//! Definitions are scikit-learn's with `zero_division=0`. The areas under curves need every score: 4 bytes per row and label,
//! and one for the truth. A label that all rows have, or none, has no curve; `auroc_macro` is the mean over the others,
//! where scikit-learn gives NaN.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::classification::mean_of_known;
use super::counts::{self, Counts, MEASURES};
use super::{ClassReport, auroc, mean, named};
use crate::batch::Logits;

/// Counts per label and per row, the summed loss, and the scores by which rows are ranked.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiLabelMetrics {
    threshold: f64,
    counts: Vec<Counts>,
    /// Sums over the rows of each row's own measures, in the order of [`MEASURES`].
    samples: [f64; 3],
    /// Rows whose labels are all right.
    exact: u64,
    /// Labels that are wrong, of all rows.
    wrong: u64,
    loss_sum: f64,
    rows: u64,
    /// Row-major `[row, label]`, as the next.
    scores: Vec<f32>,
    truth: Vec<bool>,
}

/// What [`MultiLabelMetrics`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MultiLabelReport {
    pub rows: u64,
    /// By the names of the family, and `loss`: the mean binary cross-entropy over rows and labels.
    pub metrics: BTreeMap<String, f64>,
    /// In the order of the model's labels.
    pub labels: Vec<ClassReport>,
}

impl MultiLabelMetrics {
    /// For a model of `labels` labels, of which a row is given those with a probability above one half.
    pub fn new(labels: usize) -> Self {
        MultiLabelMetrics::with_threshold(labels, 0.5)
    }

    /// A label is given where its probability is above `threshold`.
    pub fn with_threshold(labels: usize, threshold: f64) -> Self {
        MultiLabelMetrics {
            threshold,
            counts: vec![Counts::default(); labels],
            samples: [0.0; 3],
            exact: 0,
            wrong: 0,
            loss_sum: 0.0,
            rows: 0,
            scores: Vec::new(),
            truth: Vec::new(),
        }
    }

    /// Adds a batch. `truth` is row-major `[row, label]` as the logits are, and as long.
    pub fn add(&mut self, logits: &Logits, truth: &[bool]) {
        assert!(logits.classes == self.counts.len() && logits.values.len() == truth.len(), "logits, truth and labels of different sizes");
        for (logits, truth) in logits.rows().zip(truth.chunks(self.counts.len().max(1))) {
            self.add_row(logits, truth);
        }
    }

    fn add_row(&mut self, logits: &[f32], truth: &[bool]) {
        let (mut row, mut wrong) = (Counts::default(), 0);
        for ((logit, &truth), counts) in logits.iter().map(|&logit| f64::from(logit)).zip(truth).zip(&mut self.counts) {
            let predicted = sigmoid(logit) > self.threshold;
            let one = Counts { hits: u64::from(predicted && truth), predicted: predicted.into(), support: truth.into() };
            counts.add(&one);
            row.add(&one);
            wrong += u64::from(predicted != truth);
            self.loss_sum += binary_cross_entropy(logit, truth);
        }
        self.samples.iter_mut().zip(MEASURES).for_each(|(sum, (_, measure))| *sum += measure(&row));
        self.exact += u64::from(wrong == 0);
        self.wrong += wrong;
        self.rows += 1;
        self.scores.extend(logits);
        self.truth.extend(truth);
    }

    /// Adds what was counted elsewhere, of a model with as many labels.
    pub fn merge(&mut self, other: &MultiLabelMetrics) {
        assert_eq!(self.counts.len(), other.counts.len(), "metrics of models with other numbers of labels");
        self.counts.iter_mut().zip(&other.counts).for_each(|(counts, other)| counts.add(other));
        self.samples.iter_mut().zip(other.samples).for_each(|(sum, other)| *sum += other);
        self.exact += other.exact;
        self.wrong += other.wrong;
        self.loss_sum += other.loss_sum;
        self.rows += other.rows;
        self.scores.extend(&other.scores);
        self.truth.extend(&other.truth);
    }

    /// Everything computed from the counts. `labels` are the names.
    pub fn report(&self, labels: &[String]) -> MultiLabelReport {
        let n = self.counts.len();
        let pairs = || self.scores.iter().copied().zip(self.truth.iter().copied());
        let curves: Vec<Option<f64>> = (0..n).map(|label| auroc(pairs().skip(label).step_by(n))).collect();
        let decisions = self.rows * n as u64;
        let mut metrics: BTreeMap<String, f64> = counts::micro(&self.counts).chain(counts::macro_and_weighted(&self.counts)).collect();
        metrics.extend(MEASURES.iter().zip(self.samples).map(|((name, _), sum)| (format!("{name}_samples"), sum / self.rows.max(1) as f64)));
        metrics.extend(named([
            ("accuracy", Some(counts::ratio(self.exact, self.rows))),
            ("hamming_loss", Some(counts::ratio(self.wrong, decisions))),
            ("auroc_macro", mean_of_known(&curves)),
            ("auroc_micro", auroc(pairs())),
            ("loss", mean(self.loss_sum, decisions)),
        ]));
        let tables = self.counts.iter().zip(&curves).enumerate();
        MultiLabelReport {
            rows: self.rows,
            metrics,
            labels: tables.map(|(at, (counts, auroc))| ClassReport::new(labels.get(at), at, counts, *auroc)).collect(),
        }
    }
}

/// The probability of a label.
fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// The loss of one decision, from the logit: a probability of 1 would have no logarithm of the rest.
fn binary_cross_entropy(logit: f64, truth: bool) -> f64 {
    let towards = if truth { logit } else { 0.0 };
    logit.max(0.0) - towards + (-logit.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::super::MetricFamily;
    use super::super::reference::{Reference, logit};
    use super::*;

    #[test]
    fn equals_scikit_learn() {
        let mut reference = Reference::load("multilabel", MetricFamily::MultiLabel);
        for (case, mut rng) in reference.cases() {
            let (labels, rows, kind) = (rng.below(5) + 2, rng.below(30), rng.below(4));
            let mut metrics = MultiLabelMetrics::new(labels);
            let mut halves = [MultiLabelMetrics::new(labels), MultiLabelMetrics::new(labels)];
            for row in 0..rows {
                let values: Vec<f32> = (0..labels).map(|_| logit(&mut rng, kind == 0)).collect();
                let truth: Vec<bool> = (0..labels)
                    .map(|label| match kind {
                        2 => label == 0,
                        3 => values[label] > 0.0,
                        _ => rng.below(3) == 0,
                    })
                    .collect();
                let logits = Logits { classes: labels, values };
                metrics.add(&logits, &truth);
                halves[usize::from(row >= rows / 2)].add(&logits, &truth);
            }
            let report = metrics.report(&[]);
            reference.check(case, &report.metrics);
            for (at, label) in report.labels.iter().enumerate() {
                reference.check_at("label_auroc", case, at, label.auroc);
            }
            let [mut first, second] = halves;
            first.merge(&second);
            assert_eq!(first.counts, metrics.counts);
            assert_eq!(first.report(&[]).metrics["hamming_loss"], report.metrics["hamming_loss"]);
        }
        reference.finish();
    }

    #[test]
    fn a_large_logit_has_a_finite_loss() {
        let mut metrics = MultiLabelMetrics::new(2);
        metrics.add(&Logits { classes: 2, values: vec![1e30, -1e30] }, &[true, true]);
        assert!(metrics.report(&[]).metrics["loss"] > 1e29);
        assert!(MultiLabelMetrics::new(0).report(&[]).metrics.values().all(|value| *value == 0.0));
    }
}
