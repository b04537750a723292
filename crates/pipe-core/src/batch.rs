//! Batches of token rows, and the two boundaries that they cross. Arrow ends before them, tensors begin after:
//! everything here is plain vectors.

use crate::error::{Error, Result};

/// Token rows padded to one length. All matrices are row-major `[rows, length]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Length of every row, padding included.
    pub length: usize,
    /// Index of each row in its [`BatchSource`].
    pub rows: Vec<usize>,
    pub input_ids: Vec<i64>,
    /// 0 for padding; for a token 1, or the number of its document where a row holds several, from 1 on: a token sees those
    /// of its own number.
    pub attention_mask: Vec<i64>,
    pub token_type_ids: Vec<i64>,
    pub labels: Labels,
    /// Where scores are wanted, as `row · length + position`, ascending; absent: for rows as a whole, or everywhere.
    pub slots: Option<Vec<i64>>,
}

/// What a model is to give for the rows of a [`Batch`].
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Labels {
    /// Nothing is known.
    #[default]
    None,
    /// A class for each row, or for each of the batch's slots.
    Classes(Vec<i64>),
    /// 1 for each class that a row has, 0 for the others, row-major `[rows, classes]`.
    Flags(Vec<f32>),
    /// A number for each row.
    Values(Vec<f32>),
    /// The first and the last token of each row's answer.
    Spans(Vec<[i64; 2]>),
}

impl Labels {
    pub fn is_none(&self) -> bool {
        *self == Labels::None
    }
}

/// Rows of tokens that can be put together to batches in any order.
pub trait BatchSource {
    /// Tokens of each row, padding not counted.
    fn lengths(&self) -> &[u32];

    /// The rows at `rows`, padded to the longest of them.
    fn batch(&self, rows: &[usize]) -> Result<Batch>;

    /// The id of a row, for messages.
    fn row_id(&self, row: usize) -> String;

    /// A column that was kept beside the tokens: the value of each row, as text.
    fn column(&self, name: &str) -> Result<Vec<Option<String>>> {
        Err(Error::usage(format!("there is no column `{name}` beside these rows")))
    }

    /// Of question answering: what a row is a window of.
    fn window(&self, _row: usize) -> Option<Window> {
        None
    }

    /// Of question answering: some question of the data, in whichever split, has no answer.
    fn knows_no_answer(&self) -> bool {
        false
    }

    /// Of question answering: a question by its number.
    fn question(&self, _question: usize) -> Result<Question> {
        Err(Error::internal("these rows have no questions"))
    }
}

/// A part of a context, with its question.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The number of its question.
    pub question: usize,
    /// Start and end of each token in the context, in characters; −1 twice for what is no token of the context.
    pub offsets: Vec<[i32; 2]>,
}

/// What is asked about. No `Debug`: raw text.
pub struct Question {
    pub id: String,
    pub context: String,
    /// The answers that are right; none where the context has none.
    pub answers: Vec<String>,
}

/// Scores per class, row-major `[rows, classes]`, before softmax. Where the batch names slots, a row is one of those; where
/// tokens are scored and it names none, each position is a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    pub classes: usize,
    pub values: Vec<f32>,
}

impl Logits {
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.classes.max(1))
    }
}

/// A model that can be asked: libtorch in the worker, ONNX Runtime in `pipe`.
pub trait Predictor {
    fn predict(&mut self, batch: &Batch) -> Result<Logits>;

    /// How likely the classes that the batch's labels name are: for language models, whose scores are too many to hand over.
    fn token_scores(&mut self, batch: &Batch) -> Result<TokenScores> {
        let Labels::Classes(classes) = &batch.labels else { return Err(Error::internal("tokens to be scored without labels")) };
        let logits = self.predict(batch)?;
        let mut scores = TokenScores::default();
        for (row, &class) in logits.rows().zip(classes) {
            scores.log_probabilities.push(softmax(row)[class as usize].ln() as f32);
            scores.hits.push(argmax(row) == class as usize);
        }
        Ok(scores)
    }
}

/// What a language model makes of tokens that are known.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenScores {
    /// Of each token, natural logarithms.
    pub log_probabilities: Vec<f32>,
    /// Whether each was the likeliest one.
    pub hits: Vec<bool>,
}

/// Index of the largest value; the first of equals.
pub fn argmax(values: &[f32]) -> usize {
    values.iter().enumerate().fold(0, |best, (at, value)| if *value > values[best] { at } else { best })
}

/// Softmax in double precision.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = logits.iter().map(|x| f64::from(x - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|x| x / sum).collect()
}

/// Splits `rows` into batches of similar length: sorted by length, at most `max_rows` rows and `max_tokens`
/// slots (rows × longest) each. Padding is what batch inference wastes most on.
pub fn batches_by_length(lengths: &[u32], rows: &[usize], max_rows: usize, max_tokens: usize) -> Vec<Vec<usize>> {
    let mut sorted = rows.to_vec();
    // The row number breaks ties, so that the same rows always share a batch.
    sorted.sort_by_key(|&row| (lengths[row], row));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for row in sorted {
        // Sorted, so this row is the longest of its batch.
        let longest = lengths[row] as usize;
        match batches.last_mut() {
            Some(batch) if batch.len() < max_rows && (batch.len() + 1) * longest <= max_tokens => batch.push(row),
            _ => batches.push(vec![row]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_row_once_within_the_budget() {
        let lengths: Vec<u32> = (0..100u32).map(|i| i * 37 % 61 + 1).collect();
        let rows: Vec<usize> = (0..100).collect();
        let batches = batches_by_length(&lengths, &rows, 16, 128);
        let mut seen: Vec<usize> = batches.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, rows);
        for batch in &batches {
            let longest = batch.iter().map(|&row| lengths[row]).max().unwrap() as usize;
            assert!(batch.len() <= 16 && (batch.len() == 1 || batch.len() * longest <= 128));
        }
        // A row above the budget still goes, alone.
        assert_eq!(batches_by_length(&[500], &[0], 16, 128), vec![vec![0]]);
    }

    #[test]
    fn softmax_sums_to_one_even_for_large_logits() {
        let p = softmax(&[1000.0, 999.0, -1000.0]);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((p[0] / p[1] - std::f64::consts::E).abs() < 1e-9);
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
    }
}
