//! Single-label classification, from a confusion matrix.
//!
//! Definitions are scikit-learn's with `zero_division=0` over all classes of the model. Counts need O(classes²) memory,
//! whatever the number of rows; `auroc` needs every row's scores as well: 4 bytes per row and class (8 per row where
//! there are two classes). [`ClassificationMetrics::counts_only`] does without.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::counts::{self, Counts, MEASURES, ratio};
use super::{Calibration, CalibrationBin, auroc, named};
use crate::batch::{Logits, argmax, softmax};

/// Counts of (label, prediction) pairs, the summed cross-entropy, and the scores by which rows are ranked.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassificationMetrics {
    classes: usize,
    /// Row-major `[label, prediction]`.
    confusion: Vec<u64>,
    loss_sum: f64,
    rows: u64,
    calibration: Calibration,
    ranked: Option<Ranked>,
}

/// What [`ClassificationMetrics`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassificationReport {
    pub rows: u64,
    pub loss: f64,
    /// By the names of [`METRIC_NAMES`](super::METRIC_NAMES).
    pub metrics: BTreeMap<String, f64>,
    /// In the order of the model's labels.
    pub classes: Vec<ClassReport>,
    /// `[label][prediction]`
    pub confusion_matrix: Vec<Vec<u64>>,
    /// What `ece` sums up. Reports of earlier versions have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calibration: Vec<CalibrationBin>,
}

/// Scores of one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    pub label: String,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// Rows with this label.
    pub support: u64,
    /// Of this class against all others, where both have rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auroc: Option<f64>,
}

/// The scores of every row, row-major, one for each curve.
#[derive(Debug, Clone, PartialEq, Default)]
struct Ranked {
    scores: Vec<f32>,
    labels: Vec<u32>,
}

impl ClassificationMetrics {
    pub fn new(classes: usize) -> Self {
        ClassificationMetrics { ranked: Some(Ranked::default()), ..ClassificationMetrics::counts_only(classes) }
    }

    /// Keeps nothing per row, so that the report has no `auroc`.
    pub fn counts_only(classes: usize) -> Self {
        ClassificationMetrics {
            classes,
            confusion: vec![0; classes * classes],
            loss_sum: 0.0,
            rows: 0,
            calibration: Calibration::new(),
            ranked: None,
        }
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Adds a batch; every label must be below the number of classes.
    pub fn add(&mut self, logits: &Logits, labels: &[i64]) {
        for (row, &label) in logits.rows().zip(labels) {
            let (label, prediction, probabilities) = (label as usize, argmax(row), softmax(row));
            self.add_pair(label, prediction);
            self.loss_sum -= probabilities[label].max(f64::MIN_POSITIVE).ln();
            self.calibration.add(probabilities[prediction], prediction == label);
            if let Some(ranked) = &mut self.ranked {
                ranked.add(row, label);
            }
        }
    }

    /// Adds what was counted elsewhere, of a model with as many classes.
    pub fn merge(&mut self, other: &ClassificationMetrics) {
        assert_eq!(self.classes, other.classes, "metrics of models with other numbers of classes");
        self.confusion.iter_mut().zip(&other.confusion).for_each(|(count, other)| *count += other);
        self.loss_sum += other.loss_sum;
        self.rows += other.rows;
        self.calibration.merge(&other.calibration);
        // Of rows that only one of the two has kept, there is no curve.
        self.ranked = self.ranked.take().zip(other.ranked.as_ref()).map(|(mut ranked, other)| {
            ranked.scores.extend(&other.scores);
            ranked.labels.extend(&other.labels);
            ranked
        });
    }

    fn add_pair(&mut self, label: usize, prediction: usize) {
        self.confusion[label * self.classes + prediction] += 1;
        self.rows += 1;
    }

    /// Everything computed from the counts. `labels` are the class names.
    pub fn report(&self, labels: &[String]) -> ClassificationReport {
        let counts = self.counts();
        let curves: Vec<Option<f64>> = (0..self.classes).map(|class| self.ranked.as_ref()?.auroc(class, self.classes)).collect();
        let mut metrics: BTreeMap<String, f64> = counts::micro(&counts).chain(counts::macro_and_weighted(&counts)).collect();
        if let [_, positive] = counts.as_slice() {
            metrics.extend(MEASURES.map(|(name, measure)| (name.to_owned(), measure(positive))));
        }
        metrics.extend(named([
            ("accuracy", Some(ratio(counts::total(&counts).hits, self.rows))),
            ("balanced_accuracy", Some(balanced_accuracy(&counts))),
            ("mcc", Some(matthews_correlation(&counts, self.rows))),
            ("auroc", mean_of_known(&curves)),
            ("ece", self.calibration.expected_error()),
        ]));
        let classes = counts.iter().zip(&curves).enumerate();
        ClassificationReport {
            rows: self.rows,
            loss: self.loss_sum / self.rows.max(1) as f64,
            metrics,
            classes: classes.map(|(class, (counts, auroc))| ClassReport::new(labels.get(class), class, counts, *auroc)).collect(),
            confusion_matrix: self.confusion.chunks(self.classes.max(1)).map(<[u64]>::to_vec).collect(),
            calibration: self.calibration.report(),
        }
    }

    fn counts(&self) -> Vec<Counts> {
        let n = self.classes;
        let cell = |label: usize, prediction: usize| self.confusion[label * n + prediction];
        let of = |class: usize| Counts {
            hits: cell(class, class),
            predicted: (0..n).map(|other| cell(other, class)).sum(),
            support: (0..n).map(|other| cell(class, other)).sum(),
        };
        (0..n).map(of).collect()
    }
}

impl ClassReport {
    /// `number` names a class that has no label.
    pub(super) fn new(label: Option<&String>, number: usize, counts: &Counts, auroc: Option<f64>) -> Self {
        ClassReport {
            label: label.cloned().unwrap_or_else(|| number.to_string()),
            precision: counts.precision(),
            recall: counts.recall(),
            f1: counts.f1(),
            support: counts.support,
            auroc,
        }
    }
}

impl Ranked {
    /// Keeps log-odds, whose order is that of the probabilities: these are all alike in f32 once they are near 1.
    fn add(&mut self, logits: &[f32], label: usize) {
        self.labels.push(label as u32);
        if let [negative, positive] = logits {
            self.scores.push((f64::from(*positive) - f64::from(*negative)) as f32);
            return;
        }
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exps: Vec<f64> = logits.iter().map(|x| f64::from(x - max).exp()).collect();
        // What the others sum up to, from both sides: a difference to the total would lose what is small.
        let mut after = vec![0.0; exps.len() + 1];
        for at in (0..exps.len()).rev() {
            after[at] = after[at + 1] + exps[at];
        }
        let mut before = 0.0;
        for (at, logit) in logits.iter().enumerate() {
            let others: f64 = before + after[at + 1];
            self.scores.push((f64::from(logit - max) - others.ln()) as f32);
            before += exps[at];
        }
    }

    /// Of `class` against the others.
    fn auroc(&self, class: usize, classes: usize) -> Option<f64> {
        let truth = self.labels.iter().map(|&label| label as usize == class);
        match classes {
            // One score per row, that of the second class; the first's curve is the same, turned round.
            2 => auroc(self.scores.iter().map(|&score| if class == 0 { -score } else { score }).zip(truth)),
            _ => auroc(self.scores.iter().skip(class).step_by(classes.max(1)).copied().zip(truth)),
        }
    }
}

/// The mean recall of the classes that have rows (scikit-learn's `balanced_accuracy_score`).
fn balanced_accuracy(classes: &[Counts]) -> f64 {
    let there = || classes.iter().filter(|class| class.support > 0);
    there().map(Counts::recall).sum::<f64>() / there().count().max(1) as f64
}

/// Gorodkin's generalisation of Matthews' correlation to any number of classes (2004); 0 where all rows have one label or
/// one prediction, as in scikit-learn. Sums of products of counts are whole, so nothing cancels.
fn matthews_correlation(classes: &[Counts], rows: u64) -> f64 {
    let sum = |term: fn(&Counts) -> i128| classes.iter().map(term).sum::<i128>();
    let (rows, hits) = (i128::from(rows), sum(|class| class.hits.into()));
    let covariance = hits * rows - sum(|class| i128::from(class.predicted) * i128::from(class.support));
    let of_predictions = rows * rows - sum(|class| i128::from(class.predicted).pow(2));
    let of_labels = rows * rows - sum(|class| i128::from(class.support).pow(2));
    if of_predictions == 0 || of_labels == 0 { 0.0 } else { covariance as f64 / (of_predictions as f64 * of_labels as f64).sqrt() }
}

/// The mean of what is there: a class without rows does not hide the others' value.
pub(super) fn mean_of_known(values: &[Option<f64>]) -> Option<f64> {
    let known = || values.iter().flatten();
    super::mean(known().sum(), known().count() as u64)
}

#[cfg(test)]
mod tests {
    use super::super::MetricFamily;
    use super::super::reference::{Reference, logit};
    use super::*;

    #[test]
    fn equals_scikit_learn_on_random_cases() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/metrics.reference.json");
        let reference: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let cases = reference["cases"].as_array().unwrap();
        assert!(cases.len() >= 50);
        let mut compared = 0;
        for case in cases {
            let classes = case["classes"].as_u64().unwrap() as usize;
            let ints = |name: &str| case[name].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect::<Vec<_>>();
            let mut metrics = ClassificationMetrics::new(classes);
            for (label, prediction) in ints("labels").into_iter().zip(ints("predictions")) {
                metrics.add_pair(label, prediction);
            }
            let report = metrics.report(&[]);
            for name in super::super::METRIC_NAMES {
                if let Some(expected) = case[*name].as_f64() {
                    assert!((report.metrics[*name] - expected).abs() < 1e-12, "{name}: {} and {expected}", report.metrics[*name]);
                    compared += 1;
                }
            }
            for (at, class) in report.classes.iter().enumerate() {
                for (name, value) in [("precision", class.precision), ("recall", class.recall), ("f1", class.f1)] {
                    let expected = case["per_class"][name][at].as_f64().unwrap();
                    assert!((value - expected).abs() < 1e-12, "class {at} {name}: {value} and {expected}");
                }
            }
            assert_eq!(serde_json::json!(report.confusion_matrix), case["confusion_matrix"]);
        }
        assert!(compared >= 5 * cases.len());
    }

    #[test]
    fn equals_scikit_learn_on_a_thousand_cases_of_logits() {
        let mut reference = Reference::load("classification", MetricFamily::Classification);
        for (case, mut rng) in reference.cases() {
            let (classes, rows, kind) = (rng.below(5) + 1, rng.below(40), rng.below(4));
            let mut metrics = ClassificationMetrics::new(classes);
            let mut halves = [ClassificationMetrics::new(classes), ClassificationMetrics::new(classes)];
            for row in 0..rows {
                let values: Vec<f32> = (0..classes).map(|_| logit(&mut rng, kind == 0)).collect();
                let label = match kind {
                    2 => 0,
                    3 => argmax(&values),
                    _ => rng.below(classes),
                };
                let logits = Logits { classes, values };
                metrics.add(&logits, &[label as i64]);
                halves[usize::from(row >= rows / 2)].add(&logits, &[label as i64]);
            }
            let report = metrics.report(&[]);
            reference.check(case, &report.metrics);
            reference.check_value("loss", case, Some(report.loss));
            for (at, class) in report.classes.iter().enumerate() {
                reference.check_at("class_auroc", case, at, class.auroc);
            }
            let [mut first, second] = halves;
            first.merge(&second);
            let merged = first.report(&[]);
            assert_eq!((&merged.confusion_matrix, &merged.classes), (&report.confusion_matrix, &report.classes));
        }
        reference.finish();
    }

    #[test]
    fn confident_scores_are_still_ranked_and_counts_alone_have_no_curve() {
        // Each of these is 1 as an f32 probability.
        let rows = [([0.0, 40.0], 0), ([0.0, 41.0], 1), ([0.0, 42.0], 0), ([0.0, 43.0], 1)];
        let (mut metrics, mut counts) = (ClassificationMetrics::new(2), ClassificationMetrics::counts_only(2));
        for (values, label) in rows {
            let logits = Logits { classes: 2, values: values.to_vec() };
            metrics.add(&logits, &[label]);
            counts.add(&logits, &[label]);
        }
        let report = metrics.report(&[]);
        assert_eq!(report.metrics["auroc"], 0.75);
        assert_eq!(report.classes.iter().map(|class| class.auroc).collect::<Vec<_>>(), [Some(0.75); 2]);
        let mut expected = report.metrics.clone();
        expected.remove("auroc");
        assert_eq!(counts.report(&[]).metrics, expected);
        metrics.merge(&counts);
        assert!(!metrics.report(&[]).metrics.contains_key("auroc"));
    }

    #[test]
    fn no_rows_and_no_classes_are_reports_of_zeros() {
        for classes in 0..3 {
            let report = ClassificationMetrics::new(classes).report(&[]);
            assert!(report.metrics.len() >= 12 && report.metrics.values().all(|value| *value == 0.0));
            assert_eq!(report.loss, 0.0);
        }
    }

    #[test]
    fn reads_a_report_of_an_earlier_version() {
        let earlier = r#"{"rows": 1, "loss": 0.5, "metrics": {"accuracy": 1.0}, "confusion_matrix": [[1]],
            "classes": [{"label": "a", "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}]}"#;
        let report: ClassificationReport = serde_json::from_str(earlier).unwrap();
        assert_eq!((report.classes[0].auroc, report.calibration.len()), (None, 0));
        assert!(!serde_json::to_string(&report).unwrap().contains("auroc"));
    }

    #[test]
    fn loss_does_not_depend_on_the_batch_size() {
        let logits: Vec<f32> = (0..30).map(|i| (i * 7 % 11) as f32 / 3.0).collect();
        let labels: Vec<i64> = (0..10).map(|i| i % 3).collect();
        let mut whole = ClassificationMetrics::new(3);
        whole.add(&Logits { classes: 3, values: logits.clone() }, &labels);
        let mut single = ClassificationMetrics::new(3);
        for (row, label) in logits.chunks(3).zip(&labels) {
            single.add(&Logits { classes: 3, values: row.to_vec() }, &[*label]);
        }
        assert_eq!(whole, single);
    }
}
