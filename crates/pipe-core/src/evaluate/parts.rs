//! What an evaluation says beside the whole: slices by the values of columns, and intervals of confidence.
//!
//! Both are made of units, which are what rows stand for: a text, a sentence, a question with all of its windows. Units are in
//! the order of the rows, whatever batches they were scored in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::ConfidenceConfig;
use crate::error::{Error, Result};
use crate::metrics::{Bootstrap, Interval};
use crate::progress::Progress;
use crate::report::Report;

/// A column of more values is no class of rows: nobody reads so many slices, and what is in each is next to nothing.
const MAX_SLICES: usize = 100;

/// `confidence` of `metrics.json`: how the intervals were made, and those of all rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    #[serde(flatten)]
    pub made: ConfidenceConfig,
    /// By the name of the metric, or `loss`.
    pub intervals: BTreeMap<String, Interval>,
}

/// The rows that have one value in a column.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// Absent for rows that have none.
    pub value: Option<String>,
    pub rows: u64,
    pub loss: Option<f64>,
    pub metrics: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub confidence: BTreeMap<String, Interval>,
}

/// A column by whose values units are told apart.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceColumn {
    pub name: String,
    /// Of each unit.
    pub values: Vec<Option<String>>,
}

impl SliceColumn {
    /// Refuses a column that has too many values for slices.
    pub fn new(name: &str, values: Vec<Option<String>>) -> Result<SliceColumn> {
        let column = SliceColumn { name: name.to_owned(), values };
        match column.slices().len() {
            0..=MAX_SLICES => Ok(column),
            values => Err(Error::input(format!("`by` names the column `{name}`, which has {values} values; at most {MAX_SLICES} are told apart"))
                .hint("name a column of classes, such as a language or a source; a query can make one of finer values")),
        }
    }

    /// The units of each value, those without one first.
    fn slices(&self) -> BTreeMap<Option<&str>, Vec<usize>> {
        let mut slices: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
        for (unit, value) in self.values.iter().enumerate() {
            slices.entry(value.as_deref()).or_default().push(unit);
        }
        slices
    }
}

/// Adds slices and intervals to a report. `measure` gives the metrics of some of the `units`, with `loss` among them.
pub fn add_parts(
    report: &mut Report,
    units: usize,
    columns: &[SliceColumn],
    confidence: Option<ConfidenceConfig>,
    measure: &dyn Fn(&[usize]) -> BTreeMap<String, f64>,
    progress: &dyn Progress,
) -> Result<()> {
    let intervals = |of: &[usize]| match confidence {
        None => Ok(BTreeMap::new()),
        Some(confidence) => Bootstrap::from(confidence).intervals(of.len(), |sample| {
            progress.check()?;
            Ok(measure(&sample.iter().map(|&at| of[at]).collect::<Vec<_>>()))
        }),
    };
    if let Some(made) = confidence {
        report.confidence = Some(Confidence { made, intervals: intervals(&(0..units).collect::<Vec<_>>())? });
    }
    for column in columns {
        let mut slices = Vec::new();
        for (value, units) in column.slices() {
            let mut metrics = measure(&units);
            let loss = metrics.remove("loss");
            slices.push(Slice { value: value.map(str::to_owned), rows: units.len() as u64, loss, metrics, confidence: intervals(&units)? });
        }
        report.slices.insert(column.name.clone(), slices);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn values(values: &[Option<&str>]) -> Vec<Option<String>> {
        values.iter().map(|value| value.map(str::to_owned)).collect()
    }

    #[test]
    fn every_unit_is_in_one_slice_of_a_column_and_a_value_may_be_missing() {
        let scores = [1.0, 0.0, 1.0, 1.0];
        let measure = |units: &[usize]| {
            let mean = units.iter().map(|&unit| scores[unit]).sum::<f64>() / units.len() as f64;
            BTreeMap::from([("accuracy".to_owned(), mean), ("loss".to_owned(), 1.0 - mean)])
        };
        let column = SliceColumn::new("language", values(&[Some("en"), Some("de"), Some("de"), None])).unwrap();
        let confidence = ConfidenceConfig::default();
        let mut report = Report::default();
        add_parts(&mut report, 4, std::slice::from_ref(&column), Some(confidence), &measure, &Silent).unwrap();
        let found: Vec<(Option<&str>, u64, f64, Option<f64>)> =
            report.slices["language"].iter().map(|slice| (slice.value.as_deref(), slice.rows, slice.metrics["accuracy"], slice.loss)).collect();
        assert_eq!(found, [(None, 1, 1.0, Some(0.0)), (Some("de"), 2, 0.5, Some(0.5)), (Some("en"), 1, 1.0, Some(0.0))]);
        let of_de = report.slices["language"][1].confidence["accuracy"];
        assert_eq!((of_de.low, of_de.high), (0.0, 1.0));
        assert_eq!(report.confidence.as_ref().unwrap().intervals.keys().collect::<Vec<_>>(), ["accuracy", "loss"]);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        let mut plain = Report::default();
        add_parts(&mut plain, 4, &[], None, &measure, &Silent).unwrap();
        assert_eq!(plain, Report::default());
    }

    #[test]
    fn a_column_of_too_many_values_is_refused() {
        let many: Vec<Option<String>> = (0..=MAX_SLICES).map(|at| Some(at.to_string())).collect();
        assert!(SliceColumn::new("id", many[1..].to_vec()).is_ok());
        let error = SliceColumn::new("id", many).unwrap_err();
        assert!(error.message.contains("`id`, which has 101 values"), "{}", error.message);
    }
}
