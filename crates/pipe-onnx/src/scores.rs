//! What the graph of a task gives, by the names and axes that optimum has for it.
//!
//! ```text
//! rows      logits                    [batch_size, scores]
//! tokens    logits                    [batch_size, sequence_length, scores]
//! answers   start_logits, end_logits  [batch_size, sequence_length]
//! ```

use std::path::Path;

use ort::session::{Session, SessionOutputs};
use ort::value::TensorElementType;
use pipe_core::provenance::{self, Provenance};
use pipe_core::{Batch, Error, Logits, Result, Task};

/// The scores of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scores {
    task: Task,
    /// For a row or a token.
    pub(crate) count: usize,
}

impl Scores {
    pub(crate) fn of(provenance: &Provenance) -> Result<Scores> {
        let count = match provenance.task {
            Task::SequenceClassification | Task::MultiLabelClassification | Task::TokenClassification => provenance.labels.len(),
            Task::Regression => 1,
            Task::QuestionAnswering => 2,
            Task::CausalLm => {
                return Err(Error::usage("a language model gives texts, and is not asked for the scores of rows")
                    .hint("generate with it, or evaluate the folder that the train stage made"));
            }
        };
        Ok(Scores { task: provenance.task, count })
    }

    pub(crate) fn names(self) -> &'static [&'static str] {
        match self.task {
            Task::QuestionAnswering => &["start_logits", "end_logits"],
            _ => &["logits"],
        }
    }

    /// Whether each token has scores, and not the row as a whole.
    pub(crate) fn are_of_tokens(self) -> bool {
        !self.task.scores_rows()
    }

    /// The axes of each output over `rows` rows of `length` tokens.
    pub(crate) fn shape(self, rows: usize, length: usize) -> Vec<usize> {
        match self.task {
            Task::QuestionAnswering => vec![rows, length],
            Task::TokenClassification => vec![rows, length, self.count],
            _ => vec![rows, self.count],
        }
    }

    /// Refuses a graph that gives something else.
    pub(crate) fn check(self, session: &Session, path: &Path) -> Result<()> {
        for name in self.names() {
            let output = session.outputs().iter().find(|outlet| outlet.name() == *name);
            let Some(output) = output.filter(|outlet| outlet.dtype().tensor_type() == Some(TensorElementType::Float32)) else {
                return Err(Error::input(format!("{} gives no float32 output `{name}`, which {} has", path.display(), self.task.name())));
            };
            let expected = self.shape(1, 1);
            let shape = output.dtype().tensor_shape().map(|shape| &shape[..]).unwrap_or_default();
            if shape.len() != expected.len() {
                let axes = if self.are_of_tokens() { "rows, tokens" } else { "rows" };
                let scores = if expected.len() == 2 && self.are_of_tokens() { "" } else { ", scores" };
                return Err(Error::input(format!("{}: `{name}` is not [{axes}{scores}]", path.display())));
            }
            // Below zero is a symbolic axis.
            let last = shape.last().copied().unwrap_or(-1);
            if self.task != Task::QuestionAnswering && last >= 0 && last != self.count as i64 {
                let what = if self.task == Task::Regression { "numbers" } else { "classes" };
                let (path, file) = (path.display(), provenance::FILE_NAME);
                return Err(Error::input(format!("{path} scores {last} {what}, {file} names {}", self.count)));
            }
        }
        Ok(())
    }

    /// What the model gave for a batch: of its slots where it names some, else of every row or token.
    pub(crate) fn read(self, outputs: &SessionOutputs<'_>, batch: &Batch) -> Result<Logits> {
        let (rows, length) = (batch.rows.len(), batch.length);
        let expected = self.shape(rows, length);
        let mut parts = Vec::new();
        for name in self.names() {
            let (shape, values) = outputs[*name]
                .try_extract_tensor::<f32>()
                .map_err(|e| Error::stage(format!("`{name}` of the model cannot be read: {}", crate::session::reason(&e.to_string()))))?;
            if !shape.iter().map(|&size| size as usize).eq(expected.iter().copied()) {
                return Err(Error::stage(format!("the model gave `{name}` of shape {shape} for {rows} rows of {length} tokens, not {expected:?}")));
            }
            parts.push(values);
        }
        let width = self.count / parts.len();
        let places: Box<dyn Iterator<Item = usize>> = match &batch.slots {
            Some(slots) if self.are_of_tokens() => {
                if let Some(slot) = slots.iter().find(|slot| !(0..(rows * length) as i64).contains(slot)) {
                    return Err(Error::internal(format!("slot {slot} of {rows} rows of {length} tokens")));
                }
                Box::new(slots.iter().map(|&slot| slot as usize))
            }
            _ => Box::new(0..parts[0].len() / width),
        };
        let values = places.flat_map(|at| parts.iter().flat_map(move |part| &part[at * width..][..width])).copied().collect();
        Ok(Logits { classes: self.count, values })
    }
}
