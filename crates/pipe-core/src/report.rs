//! What an evaluation found: `metrics.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext, Result};
use crate::evaluate::{Confidence, Slice};
use crate::metrics::{CalibrationBin, ClassReport, ClassificationReport, Interval};
use crate::task::Task;
use crate::worker::Summary;

/// `metrics.json`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub task: Task,
    pub rows: u64,
    /// What training minimises, without smoothing and weights: the mean over rows, tokens or numbers.
    pub loss: Option<f64>,
    /// By name; one that is not defined for these rows is not there.
    pub metrics: BTreeMap<String, f64>,
    /// In the order of the model's labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassReport>,
    /// `[label][prediction]`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confusion_matrix: Vec<Vec<u64>>,
    /// What `ece` sums up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calibration: Vec<CalibrationBin>,
    /// Where `confidence:` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// By the column that `by:` names, in the order of their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slices: BTreeMap<String, Vec<Slice>>,
}

impl Report {
    pub const FILE_NAME: &str = "metrics.json";

    /// Writes `metrics.json` into `folder`.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(Self::FILE_NAME);
        std::fs::write(&path, serde_json::to_vec_pretty(self).expect("plain data")).doing("write", &path)
    }

    pub fn read(folder: &Path) -> Result<Report> {
        let path = folder.join(Self::FILE_NAME);
        let bytes = std::fs::read(&path).doing("read", &path)?;
        serde_json::from_slice(&bytes).map_err(|e| Error::internal(format!("{} cannot be read: {e}", path.display())))
    }

    /// A metric, or the loss, by its name.
    pub fn value(&self, name: &str) -> Option<f64> {
        if name == "loss" { self.loss } else { self.metrics.get(name).copied() }
    }

    /// The named metrics in a line, everything in a table.
    pub fn summary(&self, metrics: &[String]) -> Summary {
        let figures = self.metrics.iter().map(|(name, value)| (name.clone(), (*value).into())).collect();
        let line = format!("{} on {} rows", self.line(metrics), self.rows);
        Summary { rows: self.rows, line, table: self.table() + &self.confidence_table() + &self.slice_tables(metrics), figures, ..Summary::default() }
    }

    /// Some metrics by name and value.
    pub fn line<N: AsRef<str>>(&self, metrics: &[N]) -> String {
        let named: Vec<String> = metrics.iter().filter_map(|name| Some(format!("{} {:.4}", name.as_ref(), self.value(name.as_ref())?))).collect();
        named.join(", ")
    }

    /// Scores of classes and the confusion matrix, or all metrics, aligned for a terminal.
    fn table(&self) -> String {
        if self.classes.is_empty() {
            let width = self.metrics.keys().map(String::len).max().unwrap_or(0);
            return self.metrics.iter().map(|(name, value)| format!("{name:width$}  {value:10.4}\n")).collect();
        }
        let width = self.classes.iter().map(|class| class.label.chars().count()).max().unwrap_or(0).max("weighted avg".len());
        let mut out = format!("{:width$}  precision  recall      f1  support\n", "");
        for class in &self.classes {
            out.push_str(&format!("{:width$}  {:9.4}  {:6.4}  {:6.4}  {:7}\n", class.label, class.precision, class.recall, class.f1, class.support));
        }
        let support: u64 = self.classes.iter().map(|class| class.support).sum();
        for (name, kind) in [("micro avg", "micro"), ("macro avg", "macro"), ("weighted avg", "weighted")] {
            let value = |metric: &str| self.metrics.get(&format!("{metric}_{kind}")).copied();
            // Of one class per row the micro average is the accuracy.
            if let (Some(precision), Some(recall), Some(f1)) = (value("precision"), value("recall"), value("f1"))
                && (kind != "micro" || self.confusion_matrix.is_empty())
            {
                out.push_str(&format!("{name:width$}  {precision:9.4}  {recall:6.4}  {f1:6.4}  {support:7}\n"));
            }
        }
        if let Some(accuracy) = self.metrics.get("accuracy") {
            out.push_str(&format!("{:width$}  {accuracy:>25.4}\n", "accuracy"));
        }
        // Beyond this many classes the matrix no longer fits a terminal; metrics.json has it.
        if !self.confusion_matrix.is_empty() && self.classes.len() <= 8 {
            out.push_str("\nlabel ↓ predicted →\n");
            for (class, row) in self.classes.iter().zip(&self.confusion_matrix) {
                let cells: Vec<String> = row.iter().map(|count| format!("{count:7}")).collect();
                out.push_str(&format!("{:width$} {}\n", class.label, cells.join(" ")));
            }
        }
        out
    }
}

impl Report {
    /// Every metric with where it lies, in all but the outermost resamples.
    fn confidence_table(&self) -> String {
        let Some(confidence) = &self.confidence else { return String::new() };
        let width = confidence.intervals.keys().map(String::len).max().unwrap_or(0);
        let mut out = format!("\n{:width$}  {:>10}  {}% confidence\n", "", "value", 100.0 * confidence.made.confidence_level);
        for (name, Interval { low, high }) in &confidence.intervals {
            let value = self.value(name).map_or_else(String::new, |value| format!("{value:.4}"));
            out.push_str(&format!("{name:width$}  {value:>10}  {low:.4} to {high:.4}\n"));
        }
        out
    }

    /// The named metrics of each slice.
    fn slice_tables(&self, metrics: &[String]) -> String {
        let mut out = String::new();
        for (column, slices) in &self.slices {
            let name = |slice: &Slice| slice.value.clone().unwrap_or_else(|| "(none)".to_owned());
            let width = slices.iter().map(|slice| name(slice).chars().count()).chain([column.chars().count()]).max().unwrap_or(0);
            out.push_str(&format!("\n{column:width$}  {:>7}", "rows"));
            for metric in metrics {
                out.push_str(&format!("  {metric:>10}"));
            }
            out.push('\n');
            for slice in slices {
                out.push_str(&format!("{:width$}  {:>7}", name(slice), slice.rows));
                for metric in metrics {
                    let value = if metric == "loss" { slice.loss } else { slice.metrics.get(metric).copied() };
                    let value = value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
                    let interval = slice.confidence.get(metric).map(|Interval { low, high }| format!(" ({low:.4} to {high:.4})"));
                    out.push_str(&format!("  {value:>width$}{}", interval.unwrap_or_default(), width = metric.len().max(10)));
                }
                out.push('\n');
            }
        }
        out
    }
}

impl From<ClassificationReport> for Report {
    fn from(of: ClassificationReport) -> Report {
        let ClassificationReport { rows, loss, metrics, classes, confusion_matrix, calibration } = of;
        Report { task: Task::SequenceClassification, rows, loss: Some(loss), metrics, classes, confusion_matrix, calibration, ..Report::default() }
    }
}
