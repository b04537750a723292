//! What each row was scored, kept so that any of them can be measured again.

use std::collections::BTreeMap;

use super::{Evaluation, Mean, Tally, add_answer, squad_version};
use crate::answers::AnswerSearch;
use crate::batch::{Batch, BatchSource, Logits, TokenScores};
use crate::error::Result;
use crate::metrics::{EntityMetrics, SquadMetrics};

/// One thing that is drawn and sliced.
pub(super) enum Unit {
    /// A text with its class, or a sentence whose tokens have one each.
    Classes {
        logits: Logits,
        classes: Vec<i64>,
    },
    Flags {
        scores: Vec<f32>,
        truth: Vec<bool>,
    },
    Value {
        score: f32,
        value: f32,
    },
    Sentence {
        metrics: EntityMetrics,
        loss: Mean,
    },
    /// All windows of a question.
    Question {
        metrics: SquadMetrics,
        loss: Mean,
    },
    Tokens {
        loss: f64,
        tokens: u64,
        hits: u64,
    },
}

/// Units by their row; of question answering by the first row of the question.
#[derive(Default)]
pub(super) struct Units {
    by_row: BTreeMap<usize, Unit>,
    /// The first row of each question that was met.
    questions: BTreeMap<usize, (usize, Mean)>,
}

impl Units {
    pub(super) fn add(&mut self, row: usize, unit: Unit) {
        self.by_row.insert(row, unit);
    }

    /// One for each row of the batch.
    pub(super) fn extend(&mut self, batch: &Batch, units: impl Iterator<Item = Unit>) {
        self.by_row.extend(batch.rows.iter().copied().zip(units));
    }

    /// Classes of rows, or of slots.
    pub(super) fn add_classes(&mut self, batch: &Batch, logits: &Logits, classes: &[i64]) {
        for (at, (scores, &class)) in logits.rows().zip(classes).enumerate() {
            let row = batch.rows[batch.slots.as_ref().map_or(at, |slots| slots[at] as usize / batch.length)];
            let none = || Unit::Classes { logits: Logits { classes: logits.classes, values: Vec::new() }, classes: Vec::new() };
            if let Unit::Classes { logits, classes } = self.by_row.entry(row).or_insert_with(none) {
                logits.values.extend_from_slice(scores);
                classes.push(class);
            }
        }
    }

    /// Tokens of a language model.
    pub(super) fn add_tokens(&mut self, batch: &Batch, scores: &TokenScores) {
        for (at, (&log_probability, &hit)) in scores.log_probabilities.iter().zip(&scores.hits).enumerate() {
            let row = batch.rows[batch.slots.as_ref().map_or(at, |slots| slots[at] as usize / batch.length)];
            if let Unit::Tokens { loss, tokens, hits } = self.by_row.entry(row).or_insert(Unit::Tokens { loss: 0.0, tokens: 0, hits: 0 }) {
                *loss -= f64::from(log_probability);
                *tokens += 1;
                *hits += u64::from(hit);
            }
        }
    }

    /// The loss of one end of the answer in a window.
    pub(super) fn add_window(&mut self, row: usize, question: usize, loss: f64) {
        let (first, of_question) = self.questions.entry(question).or_insert((row, Mean::default()));
        *first = row.min(*first);
        of_question.add(loss);
    }

    /// Questions, once all of their windows were scored.
    pub(super) fn finish_answers(&mut self, found: &BTreeMap<usize, AnswerSearch>, source: &dyn BatchSource) -> Result<()> {
        let version = squad_version(found, source)?;
        for (question, search) in found {
            let Some(&(row, loss)) = self.questions.get(question) else { continue };
            let mut metrics = SquadMetrics::new(version);
            add_answer(&mut metrics, *question, search, source)?;
            self.add(row, Unit::Question { metrics, loss });
        }
        Ok(())
    }

    /// The row of each unit, and the units, in the order of the rows.
    pub(super) fn into_list(self) -> (Vec<usize>, Vec<Unit>) {
        self.by_row.into_iter().unzip()
    }
}

/// The metrics of some units, and their `loss`.
pub(super) fn measure<'u>(evaluation: &Evaluation<'_>, units: impl Iterator<Item = &'u Unit>) -> BTreeMap<String, f64> {
    let mut tally = Tally::new(evaluation);
    let mut questions: Option<SquadMetrics> = None;
    for unit in units {
        match (&mut tally, unit) {
            (Tally::Classes(metrics), Unit::Classes { logits, classes }) => metrics.add(logits, classes),
            (Tally::Flags(metrics), Unit::Flags { scores, truth }) => {
                metrics.add(&Logits { classes: truth.len(), values: scores.clone() }, truth);
            }
            (Tally::Values(metrics), Unit::Value { score, value }) => metrics.add(&[*score], &[*value]),
            (Tally::Entities { metrics, loss }, Unit::Sentence { metrics: of_sentence, loss: of_tokens }) => {
                metrics.merge(of_sentence);
                loss.merge(*of_tokens);
            }
            (Tally::Answers { loss, .. }, Unit::Question { metrics, loss: of_windows }) => {
                match &mut questions {
                    Some(questions) => questions.merge(metrics),
                    None => questions = Some(metrics.clone()),
                }
                loss.merge(*of_windows);
            }
            (Tally::Tokens(metrics), Unit::Tokens { loss, tokens, hits }) => metrics.add(*loss, *tokens, *hits),
            _ => {}
        }
    }
    let answered = questions.map_or_else(BTreeMap::new, |questions| questions.report().metrics);
    let report = tally.report(answered, evaluation);
    let mut metrics = report.metrics;
    metrics.extend(report.loss.map(|loss| ("loss".to_owned(), loss)));
    metrics
}
