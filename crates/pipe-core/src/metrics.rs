//! Classification metrics in O(classes²) memory, whatever the number of rows or the batch size.
//!
//! Definitions are scikit-learn's with `zero_division=0` over all classes of the model.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::batch::{Logits, argmax, softmax};
use crate::error::{Error, IoContext, Result};
use crate::task::Task;
use crate::worker::Summary;

/// What `metrics:`, `gate:` and `metric_for_best_model:` may name.
pub const METRIC_NAMES: &[&str] =
    &["accuracy", "f1_macro", "f1_weighted", "precision_macro", "recall_macro", "precision_weighted", "recall_weighted"];

/// What is told of an evaluation in a line.
pub fn headline(task: Task) -> &'static [&'static str] {
    match task {
        Task::SequenceClassification => &["accuracy", "f1_macro"],
        Task::MultiLabelClassification => &["f1_micro", "f1_macro"],
        Task::Regression => &["mse", "pearson", "spearman"],
        Task::TokenClassification => &["precision", "recall", "f1", "accuracy"],
        Task::QuestionAnswering => &["exact_match", "f1"],
        Task::CausalLm => &["perplexity", "accuracy"],
    }
}

/// Counts of (label, prediction) pairs, and the summed cross-entropy.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassificationMetrics {
    classes: usize,
    /// Row-major `[label, prediction]`.
    confusion: Vec<u64>,
    loss_sum: f64,
    rows: u64,
}

/// `metrics.json`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassificationReport {
    pub rows: u64,
    pub loss: f64,
    /// By the names of [`METRIC_NAMES`].
    pub metrics: BTreeMap<String, f64>,
    /// In the order of the model's labels.
    pub classes: Vec<ClassReport>,
    /// `[label][prediction]`
    pub confusion_matrix: Vec<Vec<u64>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    pub label: String,
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    /// Rows with this label.
    pub support: u64,
}

impl ClassificationMetrics {
    pub fn new(classes: usize) -> Self {
        ClassificationMetrics { classes, confusion: vec![0; classes * classes], loss_sum: 0.0, rows: 0 }
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Adds a batch; every label must be below the number of classes.
    pub fn add(&mut self, logits: &Logits, labels: &[i64]) {
        for (row, &label) in logits.rows().zip(labels) {
            self.add_pair(label as usize, argmax(row));
            self.loss_sum -= softmax(row)[label as usize].max(f64::MIN_POSITIVE).ln();
        }
    }

    fn add_pair(&mut self, label: usize, prediction: usize) {
        self.confusion[label * self.classes + prediction] += 1;
        self.rows += 1;
    }

    /// Everything computed from the counts. `labels` are the class names.
    pub fn report(&self, labels: &[String]) -> ClassificationReport {
        let n = self.classes;
        let cell = |label: usize, prediction: usize| self.confusion[label * n + prediction];
        let classes: Vec<ClassReport> = (0..n)
            .map(|class| {
                let support: u64 = (0..n).map(|other| cell(class, other)).sum();
                let predicted: u64 = (0..n).map(|other| cell(other, class)).sum();
                let hits = cell(class, class);
                ClassReport {
                    label: labels.get(class).cloned().unwrap_or_else(|| class.to_string()),
                    precision: ratio(hits, predicted),
                    recall: ratio(hits, support),
                    f1: ratio(2 * hits, support + predicted),
                    support,
                }
            })
            .collect();
        let hits: u64 = (0..n).map(|class| cell(class, class)).sum();
        let macro_mean = |value: fn(&ClassReport) -> f64| classes.iter().map(value).sum::<f64>() / n.max(1) as f64;
        let weighted =
            |value: fn(&ClassReport) -> f64| classes.iter().map(|class| value(class) * class.support as f64).sum::<f64>() / self.rows.max(1) as f64;
        let metrics = [
            ("accuracy", ratio(hits, self.rows)),
            ("f1_macro", macro_mean(|class| class.f1)),
            ("f1_weighted", weighted(|class| class.f1)),
            ("precision_macro", macro_mean(|class| class.precision)),
            ("recall_macro", macro_mean(|class| class.recall)),
            ("precision_weighted", weighted(|class| class.precision)),
            ("recall_weighted", weighted(|class| class.recall)),
        ];
        ClassificationReport {
            rows: self.rows,
            loss: self.loss_sum / self.rows.max(1) as f64,
            metrics: metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            classes,
            confusion_matrix: self.confusion.chunks(n.max(1)).map(<[u64]>::to_vec).collect(),
        }
    }
}

impl ClassificationReport {
    pub const FILE_NAME: &str = "metrics.json";

    /// Writes `metrics.json` into `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(Self::FILE_NAME);
        std::fs::write(&path, serde_json::to_vec_pretty(self).expect("plain data")).doing("write", &path)
    }

    pub fn read(folder: &Path) -> Result<ClassificationReport> {
        let path = folder.join(Self::FILE_NAME);
        let bytes = std::fs::read(&path).doing("read", &path)?;
        serde_json::from_slice(&bytes).map_err(|e| Error::internal(format!("{} cannot be read: {e}", path.display())))
    }

    /// The named metrics in a line, everything in a table.
    pub fn summary(&self, metrics: &[String]) -> Summary {
        let named: Vec<String> = metrics.iter().filter_map(|name| Some(format!("{name} {:.4}", self.metrics.get(name)?))).collect();
        let figures = self.metrics.iter().map(|(name, value)| (name.clone(), (*value).into())).collect();
        Summary { rows: self.rows, line: format!("{} on {} rows", named.join(", "), self.rows), table: self.table(), figures, ..Summary::default() }
    }

    /// Per-class scores and the confusion matrix, aligned for a terminal.
    fn table(&self) -> String {
        let width = self.classes.iter().map(|class| class.label.chars().count()).max().unwrap_or(0).max("weighted avg".len());
        let mut out = format!("{:width$}  precision  recall      f1  support\n", "");
        for class in &self.classes {
            out.push_str(&format!("{:width$}  {:9.4}  {:6.4}  {:6.4}  {:7}\n", class.label, class.precision, class.recall, class.f1, class.support));
        }
        for (name, kind) in [("macro avg", "macro"), ("weighted avg", "weighted")] {
            let value = |metric: &str| self.metrics.get(&format!("{metric}_{kind}")).copied().unwrap_or(f64::NAN);
            out.push_str(&format!("{name:width$}  {:9.4}  {:6.4}  {:6.4}  {:7}\n", value("precision"), value("recall"), value("f1"), self.rows));
        }
        out.push_str(&format!("{:width$}  {:>25.4}\n", "accuracy", self.metrics.get("accuracy").copied().unwrap_or(f64::NAN)));
        // Beyond this many classes the matrix no longer fits a terminal; metrics.json has it.
        if self.classes.len() <= 8 {
            out.push_str("\nlabel ↓ predicted →\n");
            for (class, row) in self.classes.iter().zip(&self.confusion_matrix) {
                let cells: Vec<String> = row.iter().map(|count| format!("{count:7}")).collect();
                out.push_str(&format!("{:width$} {}\n", class.label, cells.join(" ")));
            }
        }
        out
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
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
            for name in METRIC_NAMES {
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
