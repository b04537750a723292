//! Evaluation: one function over any [`Predictor`] and any [`BatchSource`], for every task.

mod parts;
mod units;

use std::collections::BTreeMap;

use crate::answers::{AnswerSearch, characters};
use crate::batch::{Batch, BatchSource, Labels, Logits, Predictor, argmax, batches_by_length, softmax};
use crate::config::ConfidenceConfig;
use crate::error::{Error, Result};
use crate::metrics::{
    ClassReport, ClassificationMetrics, EntityMetrics, EntityTypeReport, LanguageModelMetrics, MetricFamily, MultiLabelMetrics, RegressionMetrics,
    SquadMetrics, SquadVersion, family,
};
use crate::progress::Progress;
use crate::report::Report;
use crate::task::Task;

pub use parts::{Confidence, Slice, SliceColumn, add_parts};
use units::{Unit, Units};

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
    /// Columns beside the tokens by whose values all is measured too.
    pub by: &'e [String],
    /// Intervals are wanted.
    pub confidence: Option<ConfidenceConfig>,
}

impl Evaluation<'_> {
    /// What each row was scored is asked for again.
    fn has_parts(&self) -> bool {
        !self.by.is_empty() || self.confidence.is_some()
    }
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
    if rows.is_empty() {
        return Err(Error::input("there are no rows to evaluate on").hint("give the split a larger share in ingest's `split:`, or more rows"));
    }
    // Before any work: a column may not be there.
    let columns = evaluation.by.iter().map(|name| Ok((name, source.column(name)?))).collect::<Result<Vec<_>>>()?;
    for (name, values) in &columns {
        SliceColumn::new(name, rows.iter().map(|&row| values[row].clone()).collect())?;
    }
    let mut units = evaluation.has_parts().then(Units::default);
    let max_tokens = if evaluation.task == Task::CausalLm { LANGUAGE_MODEL_TOKENS } else { usize::MAX };
    let mut tally = Tally::new(evaluation);
    let mut done = 0;
    for batch_rows in batches_by_length(lengths, rows, evaluation.batch_size, max_tokens) {
        progress.check()?;
        let batch = source.batch(&batch_rows)?;
        if batch.labels.is_none() {
            return Err(unlabelled("evaluate", evaluation.task));
        }
        if let Labels::Classes(classes) = &batch.labels
            && evaluation.task.has_classes()
            && let Some(at) = classes.iter().position(|&label| label < 0 || label as usize >= evaluation.labels.len())
        {
            let row = batch.slots.as_ref().map_or(at, |slots| slots[at] as usize / batch.length);
            return Err(unknown_label(&source.row_id(batch_rows[row]), classes[at], evaluation.labels.len()));
        }
        tally.add(predictor, source, &batch, evaluation, units.as_mut())?;
        done += batch_rows.len() as u64;
        progress.advance(done, rows.len() as u64, "rows", "");
    }
    let mut answered = BTreeMap::new();
    if let Tally::Answers { found, .. } = &tally {
        answered = answers(found, source)?;
        units.as_mut().map_or(Ok(()), |units| units.finish_answers(found, source))?;
    }
    let mut report = tally.report(answered, evaluation);
    report.task = evaluation.task;
    // A question may be several rows.
    if evaluation.task != Task::QuestionAnswering {
        report.rows = rows.len() as u64;
    }
    if let Some(units) = units {
        let (of_rows, units) = units.into_list();
        let values = |column: &[Option<String>]| of_rows.iter().map(|&row| column[row].clone()).collect();
        let columns = columns.iter().map(|(name, column)| SliceColumn::new(name, values(column))).collect::<Result<Vec<_>>>()?;
        let measure = |picked: &[usize]| units::measure(evaluation, picked.iter().map(|&unit| &units[unit]));
        add_parts(&mut report, units.len(), &columns, evaluation.confidence, &measure, progress)?;
    }
    Ok(report)
}

/// What is kept of the batches so far.
enum Tally {
    Classes(Box<ClassificationMetrics>),
    Flags(MultiLabelMetrics),
    Values(RegressionMetrics),
    /// With the loss of its tokens.
    Entities {
        metrics: EntityMetrics,
        loss: Mean,
    },
    Answers {
        /// By the number of the question.
        found: BTreeMap<usize, AnswerSearch>,
        loss: Mean,
    },
    Tokens(LanguageModelMetrics),
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn merge(&mut self, other: Mean) {
        self.sum += other.sum;
        self.count += other.count;
    }

    fn value(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }
}

/// −log of the softmax at `class`.
fn cross_entropy(scores: &[f32], class: usize) -> f64 {
    -softmax(scores)[class].max(f64::MIN_POSITIVE).ln()
}

impl Tally {
    fn new(evaluation: &Evaluation<'_>) -> Tally {
        let classes = evaluation.labels.len();
        match evaluation.task {
            Task::SequenceClassification => Tally::Classes(Box::new(ClassificationMetrics::new(classes))),
            Task::TokenClassification if family(evaluation.task, evaluation.labels) == MetricFamily::Entities => {
                Tally::Entities { metrics: EntityMetrics::new(), loss: Mean::default() }
            }
            // Of tokens there are too many to rank them.
            Task::TokenClassification => Tally::Classes(Box::new(ClassificationMetrics::counts_only(classes))),
            Task::MultiLabelClassification => Tally::Flags(MultiLabelMetrics::new(classes)),
            Task::Regression => Tally::Values(RegressionMetrics::new()),
            Task::QuestionAnswering => Tally::Answers { found: BTreeMap::new(), loss: Mean::default() },
            Task::CausalLm => Tally::Tokens(LanguageModelMetrics::new()),
        }
    }

    /// Adds a batch, and what each of its rows was scored to `units`.
    fn add(
        &mut self,
        predictor: &mut dyn Predictor,
        source: &dyn BatchSource,
        batch: &Batch,
        evaluation: &Evaluation<'_>,
        mut units: Option<&mut Units>,
    ) -> Result<()> {
        match (self, &batch.labels) {
            (Tally::Classes(metrics), Labels::Classes(classes)) => {
                let logits = scored(predictor, source, batch, evaluation.labels.len())?;
                metrics.add(&logits, classes);
                if let Some(units) = units {
                    units.add_classes(batch, &logits, classes);
                }
            }
            (Tally::Flags(metrics), Labels::Flags(flags)) => {
                let truth: Vec<bool> = flags.iter().map(|&flag| flag > 0.5).collect();
                let logits = scored(predictor, source, batch, evaluation.labels.len())?;
                metrics.add(&logits, &truth);
                if let Some(units) = units {
                    let of_rows = logits.rows().zip(truth.chunks(logits.classes.max(1)));
                    units.extend(batch, of_rows.map(|(scores, truth)| Unit::Flags { scores: scores.to_vec(), truth: truth.to_vec() }));
                }
            }
            (Tally::Values(metrics), Labels::Values(values)) => {
                let logits = scored(predictor, source, batch, 1)?;
                metrics.add(&logits.values, values);
                if let Some(units) = units {
                    units.extend(batch, logits.values.iter().zip(values).map(|(&score, &value)| Unit::Value { score, value }));
                }
            }
            (Tally::Entities { metrics, loss }, Labels::Classes(classes)) => {
                let logits = scored(predictor, source, batch, evaluation.labels.len())?;
                let slots = batch.slots.as_deref().unwrap_or_default();
                let mut sentences: BTreeMap<usize, (Vec<usize>, Vec<usize>, Mean)> = BTreeMap::new();
                for ((scores, &class), slot) in logits.rows().zip(classes).zip(slots) {
                    let (gold, predicted, of_sentence) = sentences.entry(*slot as usize / batch.length).or_default();
                    gold.push(class as usize);
                    predicted.push(argmax(scores));
                    let of_token = cross_entropy(scores, class as usize);
                    of_sentence.add(of_token);
                    loss.add(of_token);
                }
                for (row, (gold, predicted, loss)) in sentences {
                    metrics.add_ids(&gold, &predicted, evaluation.labels);
                    if let Some(units) = units.as_deref_mut() {
                        let mut metrics = EntityMetrics::new();
                        metrics.add_ids(&gold, &predicted, evaluation.labels);
                        units.add(batch.rows[row], Unit::Sentence { metrics, loss });
                    }
                }
            }
            (Tally::Answers { found, loss }, Labels::Spans(spans)) => {
                let logits = every_token(predictor, source, batch)?;
                for ((at, &row), span) in batch.rows.iter().enumerate().zip(spans) {
                    let scores = &logits[2 * at * batch.length..2 * (at + 1) * batch.length];
                    let window = source.window(row).ok_or_else(|| Error::internal("a row of question answering that is no window"))?;
                    // Padding is no place for an answer, in training neither.
                    let scores = &scores[..2 * window.offsets.len()];
                    for (end, &token) in span.iter().enumerate() {
                        let of_end: Vec<f32> = scores.iter().skip(end).step_by(2).copied().collect();
                        let of_end = cross_entropy(&of_end, token as usize);
                        loss.add(of_end);
                        if let Some(units) = units.as_deref_mut() {
                            units.add_window(row, window.question, of_end);
                        }
                    }
                    found.entry(window.question).or_default().add(scores, &window.offsets);
                }
            }
            (Tally::Tokens(metrics), Labels::Classes(_)) => {
                let scores = predictor.token_scores(batch)?;
                if let Some(at) = scores.log_probabilities.iter().position(|value| !value.is_finite()) {
                    let row = batch.slots.as_ref().map_or(0, |slots| slots[at] as usize / batch.length);
                    return Err(not_a_number(&source.row_id(batch.rows[row])));
                }
                let loss = -scores.log_probabilities.iter().map(|&value| f64::from(value)).sum::<f64>();
                metrics.add(loss, scores.log_probabilities.len() as u64, scores.hits.iter().filter(|&&hit| hit).count() as u64);
                if let Some(units) = units {
                    units.add_tokens(batch, &scores);
                }
            }
            _ => return Err(Error::internal("labels of another task than the one that is evaluated")),
        }
        Ok(())
    }

    /// `answered` are the metrics of answers, which are found before.
    fn report(self, answered: BTreeMap<String, f64>, evaluation: &Evaluation<'_>) -> Report {
        match self {
            Tally::Classes(metrics) => metrics.report(evaluation.labels).into(),
            Tally::Flags(metrics) => {
                let mut report = metrics.report(evaluation.labels);
                Report { loss: report.metrics.remove("loss"), metrics: report.metrics, classes: report.labels, ..Report::default() }
            }
            Tally::Values(metrics) => {
                let mut metrics = metrics.report().metrics;
                let loss = metrics.remove("loss").or_else(|| metrics.get("mse").copied());
                Report { loss, metrics, ..Report::default() }
            }
            Tally::Entities { metrics, loss } => {
                let report = metrics.report();
                let class = |kind: EntityTypeReport| ClassReport {
                    label: kind.kind,
                    precision: kind.precision,
                    recall: kind.recall,
                    f1: kind.f1,
                    support: kind.support,
                    auroc: None,
                };
                let classes = report.types.into_iter().map(class).collect();
                Report { loss: Some(loss.value()), metrics: report.metrics, classes, ..Report::default() }
            }
            Tally::Answers { found, loss } => {
                let rows = found.len() as u64;
                Report { rows, loss: Some(loss.value()), metrics: answered, ..Report::default() }
            }
            Tally::Tokens(metrics) => {
                let mut metrics = metrics.report().metrics;
                Report { loss: metrics.remove("loss"), metrics, ..Report::default() }
            }
        }
    }
}

/// Answers held against those that are known: as SQuAD 2.0 does where some question has none.
fn answers(found: &BTreeMap<usize, AnswerSearch>, source: &dyn BatchSource) -> Result<BTreeMap<String, f64>> {
    let version = squad_version(found, source)?;
    let mut metrics = SquadMetrics::new(version);
    for (&question, search) in found {
        add_answer(&mut metrics, question, search, source)?;
    }
    Ok(metrics.report().metrics)
}

fn squad_version(found: &BTreeMap<usize, AnswerSearch>, source: &dyn BatchSource) -> Result<SquadVersion> {
    let mut some_unanswered = false;
    for &question in found.keys() {
        some_unanswered |= source.question(question)?.answers.is_empty();
    }
    Ok(if some_unanswered { SquadVersion::V2 } else { SquadVersion::V1 })
}

fn add_answer(metrics: &mut SquadMetrics, question: usize, search: &AnswerSearch, source: &dyn BatchSource) -> Result<()> {
    let question = source.question(question)?;
    // As predict decides it: by what the model learned from.
    let text = search.finish(source.knows_no_answer()).span.map_or("", |(start, end)| characters(&question.context, start, end));
    metrics.add(text, &question.answers);
    Ok(())
}

/// The scores of all positions of a batch, both ends of an answer for each, all of them numbers.
fn every_token(predictor: &mut dyn Predictor, source: &dyn BatchSource, batch: &Batch) -> Result<Vec<f32>> {
    let logits = predictor.predict(batch)?;
    if logits.classes != 2 || logits.values.len() != 2 * batch.rows.len() * batch.length {
        return Err(Error::stage(format!("the model gives {} scores for a token, an answer has 2", logits.classes)));
    }
    if let Some(at) = logits.values.iter().position(|x| !x.is_finite()) {
        return Err(not_a_number(&source.row_id(batch.rows[at / (2 * batch.length)])));
    }
    Ok(logits.values)
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

/// The message for rows that do not say what a model is to give for them; `doing` is what they are for.
pub fn unlabelled(doing: &str, task: Task) -> Error {
    let column = match task {
        Task::MultiLabelClassification => "labels",
        Task::Regression => "value",
        Task::TokenClassification => "tags",
        Task::QuestionAnswering => "answers",
        Task::SequenceClassification | Task::CausalLm => "label",
    };
    Error::input(format!("the rows to {doing} on have no labels")).hint(format!("name their column in ingest's `columns: {{ {column}: … }}`"))
}

/// The message for a label that the model has no class for.
pub fn unknown_label(row_id: &str, label: i64, classes: usize) -> Error {
    Error::input(format!("row {row_id} has the label id {label}, the model knows 0 to {}", classes.saturating_sub(1)))
}
