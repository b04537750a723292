//! Evaluation: one function over any [`Predictor`] and any [`BatchSource`].

use crate::batch::{BatchSource, Predictor, batches_by_length};
use crate::error::{Error, Result};
use crate::metrics::{ClassificationMetrics, ClassificationReport};
use crate::progress::Progress;

/// Runs the model over `rows` (all if absent), in batches of similar length.
pub fn evaluate(
    predictor: &mut dyn Predictor,
    source: &dyn BatchSource,
    labels: &[String],
    batch_size: usize,
    rows: Option<&[usize]>,
    progress: &dyn Progress,
) -> Result<ClassificationReport> {
    let lengths = source.lengths();
    let all: Vec<usize>;
    let rows = match rows {
        Some(rows) => rows,
        None => {
            all = (0..lengths.len()).collect();
            &all
        }
    };
    let mut metrics = ClassificationMetrics::new(labels.len());
    let mut done = 0;
    for batch_rows in batches_by_length(lengths, rows, batch_size, usize::MAX) {
        progress.check()?;
        let batch = source.batch(&batch_rows)?;
        if batch.labels.len() != batch_rows.len() {
            return Err(Error::input("the rows to evaluate on have no labels").hint("name the label column in ingest's `columns: { label: … }`"));
        }
        if let Some(at) = batch.labels.iter().position(|&label| label < 0 || label as usize >= labels.len()) {
            return Err(unknown_label(&source.row_id(batch_rows[at]), batch.labels[at], labels.len()));
        }
        let logits = predictor.predict(&batch)?;
        if logits.classes != labels.len() || logits.values.len() != batch_rows.len() * labels.len() {
            return Err(Error::stage(format!("the model scores {} classes, the data has {}", logits.classes, labels.len())));
        }
        if let Some(at) = logits.rows().position(|row| row.iter().any(|x| !x.is_finite())) {
            return Err(Error::stage(format!("the model gives a score that is not a number for row {}", source.row_id(batch_rows[at])))
                .hint("the model's weights are damaged or its training diverged"));
        }
        metrics.add(&logits, &batch.labels);
        done += batch_rows.len() as u64;
        progress.advance(done, rows.len() as u64, "rows", "");
    }
    Ok(metrics.report(labels))
}

/// The message for a label that the model has no class for.
pub fn unknown_label(row_id: &str, label: i64, classes: usize) -> Error {
    Error::input(format!("row {row_id} has the label id {label}, the model knows 0 to {}", classes.saturating_sub(1)))
}
