//! Evaluation: one function over any [`Predictor`] and any [`BatchSource`], for every task.

use crate::batch::{Batch, BatchSource, Labels, Logits, Predictor, batches_by_length};
use crate::error::{Error, Result};
use crate::metrics::ClassificationMetrics;
use crate::progress::Progress;
use crate::report::Report;
use crate::task::Task;

/// Scores of a language model are this many times its vocabulary: more positions in one batch would be gigabytes.
const LANGUAGE_MODEL_TOKENS: usize = 2048;

/// What is evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Evaluation<'e> {
    pub task: Task,
    /// Names of the classes, of tasks that have classes.
    pub labels: &'e [String],
    /// Most rows in a batch.
    pub batch_size: usize,
    /// The rows that are scored; all if absent.
    pub rows: Option<&'e [usize]>,
}

/// Runs the model over the rows, in batches of similar length.
pub fn evaluate(predictor: &mut dyn Predictor, source: &dyn BatchSource, evaluation: &Evaluation<'_>, progress: &dyn Progress) -> Result<Report> {
    let lengths = source.lengths();
    let all: Vec<usize>;
    let rows = match evaluation.rows {
        Some(rows) => rows,
        None => {
            all = (0..lengths.len()).collect();
            &all
        }
    };
    let max_tokens = if evaluation.task == Task::CausalLm { LANGUAGE_MODEL_TOKENS } else { usize::MAX };
    let mut tally = Tally::new(evaluation);
    let mut done = 0;
    for batch_rows in batches_by_length(lengths, rows, evaluation.batch_size, max_tokens) {
        progress.check()?;
        let batch = source.batch(&batch_rows)?;
        if batch.labels.is_none() {
            return Err(Error::input("the rows to evaluate on have no labels").hint("name the label column in ingest's `columns: { label: … }`"));
        }
        if let Labels::Classes(classes) = &batch.labels
            && evaluation.task.has_classes()
            && let Some(at) = classes.iter().position(|&label| label < 0 || label as usize >= evaluation.labels.len())
        {
            let row = batch.slots.as_ref().map_or(at, |slots| slots[at] as usize / batch.length);
            return Err(unknown_label(&source.row_id(batch_rows[row]), classes[at], evaluation.labels.len()));
        }
        tally.add(predictor, source, &batch)?;
        done += batch_rows.len() as u64;
        progress.advance(done, rows.len() as u64, "rows", "");
    }
    let mut report = tally.report(source, evaluation)?;
    (report.task, report.rows) = (evaluation.task, rows.len() as u64);
    Ok(report)
}

/// What is kept of the batches so far.
enum Tally {
    Classes(ClassificationMetrics),
    Tokens { loss: f64, tokens: u64, hits: u64 },
}

impl Tally {
    fn new(evaluation: &Evaluation<'_>) -> Tally {
        match evaluation.task {
            Task::CausalLm => Tally::Tokens { loss: 0.0, tokens: 0, hits: 0 },
            _ => Tally::Classes(ClassificationMetrics::new(evaluation.labels.len())),
        }
    }

    fn add(&mut self, predictor: &mut dyn Predictor, source: &dyn BatchSource, batch: &Batch) -> Result<()> {
        match (self, &batch.labels) {
            (Tally::Classes(metrics), Labels::Classes(classes)) => {
                let logits = scored(predictor, source, batch, metrics.classes())?;
                metrics.add(&logits, classes);
            }
            (Tally::Tokens { loss, tokens, hits }, Labels::Classes(_)) => {
                let scores = predictor.token_scores(batch)?;
                if let Some(at) = scores.log_probabilities.iter().position(|value| !value.is_finite()) {
                    let row = batch.slots.as_ref().map_or(0, |slots| slots[at] as usize / batch.length);
                    return Err(not_a_number(&source.row_id(batch.rows[row])));
                }
                *loss -= scores.log_probabilities.iter().map(|&value| f64::from(value)).sum::<f64>();
                *tokens += scores.log_probabilities.len() as u64;
                *hits += scores.hits;
            }
            _ => return Err(Error::internal("labels of another task than the one that is evaluated")),
        }
        Ok(())
    }

    fn report(self, _source: &dyn BatchSource, evaluation: &Evaluation<'_>) -> Result<Report> {
        Ok(match self {
            Tally::Classes(metrics) => metrics.report(evaluation.labels).into(),
            Tally::Tokens { loss, tokens, hits } => {
                let of = |sum: f64| sum / tokens.max(1) as f64;
                let metrics = [("perplexity", of(loss).exp()), ("accuracy", of(hits as f64))];
                Report { loss: Some(of(loss)), metrics: metrics.map(|(name, value)| (name.to_owned(), value)).into(), ..Report::default() }
            }
        })
    }
}

/// The scores of a batch, `classes` for each of its rows or slots, all of them numbers.
fn scored(predictor: &mut dyn Predictor, source: &dyn BatchSource, batch: &Batch, classes: usize) -> Result<Logits> {
    let logits = predictor.predict(batch)?;
    let items = batch.slots.as_ref().map_or(batch.rows.len(), Vec::len);
    if logits.classes != classes || logits.values.len() != items * classes {
        return Err(Error::stage(format!("the model scores {} classes, the data has {classes}", logits.classes)));
    }
    if let Some(at) = logits.rows().position(|row| row.iter().any(|x| !x.is_finite())) {
        let row = batch.slots.as_ref().map_or(at, |slots| slots[at] as usize / batch.length);
        return Err(not_a_number(&source.row_id(batch.rows[row])));
    }
    Ok(logits)
}

fn not_a_number(row_id: &str) -> Error {
    Error::stage(format!("the model gives a score that is not a number for row {row_id}"))
        .hint("the model's weights are damaged or its training diverged")
}

/// The message for a label that the model has no class for.
pub fn unknown_label(row_id: &str, label: i64, classes: usize) -> Error {
    Error::input(format!("row {row_id} has the label id {label}, the model knows 0 to {}", classes.saturating_sub(1)))
}
