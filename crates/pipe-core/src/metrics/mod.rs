//! Metrics of every task: streaming, and the same whatever the batch size.
//!
//! Each family has an accumulator (`new`, `add`, `merge` where parts can be put together, `report`) whose report holds the
//! named metrics in a map and whatever is a table beside it. [`names`] lists the names of a family; they are the field's own.
//!
//! Two rules hold for all of them. A ratio of counts over nothing is 0, as with `zero_division=0` in scikit-learn and
//! seqeval; so an input of no rows has zeros there. A statistic that is not defined (the area under a curve of one class, a
//! correlation with a constant, a mean over no rows) is not in the map: no value is ever NaN or infinite.
//!
//! | family | accumulator | equal to |
//! |---|---|---|
//! | classification | [`ClassificationMetrics`] | scikit-learn |
//! | multi-label | [`MultiLabelMetrics`] | scikit-learn |
//! | regression | [`RegressionMetrics`] | scikit-learn, SciPy |
//! | entities | [`EntityMetrics`] | seqeval |
//! | question answering | [`SquadMetrics`] | the official scripts of SQuAD 1.1 and 2.0 |
//! | language model | [`LanguageModelMetrics`] | its definition |
//! | generated text | [`GeneratedTextMetrics`] | sacrebleu, rouge-score |

mod bootstrap;
mod calibration;
mod classification;
mod counts;
mod entities;
mod language_model;
mod multilabel;
mod names;
mod ranking;
#[cfg(test)]
mod reference;
mod regression;
mod squad;
pub mod text;

pub use bootstrap::{Bootstrap, Interval};
pub use calibration::{Calibration, CalibrationBin};
pub use classification::{ClassReport, ClassificationMetrics, ClassificationReport};
pub use entities::{Entity, EntityMetrics, EntityReport, EntityTypeReport, entities};
pub use language_model::{LanguageModelMetrics, LanguageModelReport};
pub use multilabel::{MultiLabelMetrics, MultiLabelReport};
pub use names::{METRIC_NAMES, MetricFamily, all_names, family, headline, is_lower_better, names};
pub use ranking::{auroc, average_ranks};
pub use regression::{RegressionMetrics, RegressionReport};
pub use squad::{SquadMetrics, SquadReport, SquadScore, SquadVersion, normalize_answer};
pub use text::{GeneratedTextMetrics, GeneratedTextReport};

use std::collections::BTreeMap;

/// The map of a report: what is not defined is not in it.
fn named<N: Into<String>>(values: impl IntoIterator<Item = (N, Option<f64>)>) -> BTreeMap<String, f64> {
    values.into_iter().filter_map(|(name, value)| Some((name.into(), value.filter(|value| value.is_finite())?))).collect()
}

/// The mean over `count` items of what sums up to `sum`; nothing over nothing.
fn mean(sum: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}
