//! Compares an exported model with the trained one, on rows whose logits the worker wrote down.

use std::collections::BTreeSet;
use std::path::Path;

use pipe_core::config::ParityConfig;
use pipe_core::{Batch, Error, Predictor, Progress, Result};
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use crate::scores::Scores;
use crate::weights::{map, parse};

/// How many slots of padding are added to see that padding changes nothing.
const EXTRA_PADDING: usize = 3;

/// What was compared; `parity.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Parity {
    /// Rows of the reference.
    pub(crate) rows: usize,
    /// Lengths that rows were padded to, in tokens.
    pub(crate) lengths: BTreeSet<usize>,
    /// The largest absolute difference of any logit, to two digits: the last ones differ between kinds of CPU.
    pub(crate) max_abs_diff: f64,
    pub(crate) tolerance: f64,
}

/// What rows are padded with and how long they may become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) pad_token_id: i64,
    pub(crate) pad_token_type_id: i64,
    pub(crate) max_positions: usize,
}

/// Runs the model over every batch of the file as it is, over the same rows with more padding, and over each batch's
/// row with the least tokens alone and without padding. Fails where a logit is further off than the tolerance; those of padding
/// mean nothing and are not compared.
pub(crate) fn compare(
    predictor: &mut dyn Predictor,
    reference: &Path,
    scores: Scores,
    config: &ParityConfig,
    room: Room,
    progress: &dyn Progress,
) -> Result<Parity> {
    let bytes = map(reference)?;
    let file = parse(&bytes, reference)?;
    let batches = (0..).take_while(|at| file.tensor(&format!("batch{at}.input_ids")).is_ok()).count();
    if batches == 0 {
        return Err(Error::stage(format!("{} holds no rows to compare", reference.display())));
    }
    let mut parity = Parity { rows: 0, lengths: BTreeSet::new(), max_abs_diff: 0.0, tolerance: config.max_abs_diff };
    let mut worst = String::new();
    for at in 0..batches {
        progress.check()?;
        let (batch, logits) = reference_batch(&file, reference, at, scores)?;
        parity.rows += batch.rows.len();
        parity.lengths.insert(batch.length);
        for form in [Form::AsItIs, Form::Padded, Form::Alone] {
            let Some((first, given)) = form.of(&batch, room) else { continue };
            let ours = predictor.predict(&given)?;
            for row in 0..given.rows.len() {
                let width = |length: usize| if scores.are_of_tokens() { length } else { 1 } * scores.count;
                let (ours, theirs) = (&ours.values[row * width(given.length)..], &logits[(first + row) * width(batch.length)..]);
                for place in 0..width(given.length.min(batch.length)) / scores.count {
                    if scores.are_of_tokens() && given.attention_mask[row * given.length + place] == 0 {
                        continue;
                    }
                    let part = place * scores.count..(place + 1) * scores.count;
                    let difference = largest_difference(&ours[part.clone()], &theirs[part]);
                    if difference > parity.max_abs_diff {
                        parity.max_abs_diff = difference;
                        let token = if scores.are_of_tokens() { format!("token {place} of ") } else { String::new() };
                        worst = format!("{token}row {} of batch {at}{}", first + row, form.name());
                    }
                }
            }
        }
        progress.advance(at as u64 + 1, batches as u64, "batches", "parity");
    }
    if parity.max_abs_diff.is_infinite() {
        return Err(Error::stage(format!("the exported or the trained model gives a score that is no number ({worst})"))
            .hint("the model's weights are damaged or its training diverged"));
    }
    if parity.max_abs_diff > config.max_abs_diff {
        return Err(Error::stage(format!(
            "the exported model is not the trained one: logits differ by up to {:.2e} ({worst}), the tolerance is {:.2e}",
            parity.max_abs_diff, config.max_abs_diff
        ))
        .hint("a wider tolerance is `parity: { max_abs_diff: … }` of the export stage"));
    }
    parity.max_abs_diff = two_digits(parity.max_abs_diff);
    Ok(parity)
}

pub(crate) fn two_digits(x: f64) -> f64 {
    format!("{x:.1e}").parse().expect("a number just printed")
}

/// How the rows of the reference are laid out for a run.
#[derive(Debug, Clone, Copy)]
enum Form {
    AsItIs,
    /// With more padding.
    Padded,
    /// One row, without padding.
    Alone,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Form::AsItIs => "",
            Form::Padded => ", padded longer",
            Form::Alone => ", alone",
        }
    }

    /// The batch in this form and its first row; nothing where the model is too short for it.
    fn of(self, batch: &Batch, room: Room) -> Option<(usize, Batch)> {
        let (rows, length) = (batch.rows.len(), batch.length);
        match self {
            Form::AsItIs => Some((0, batch.clone())),
            Form::Padded if length + EXTRA_PADDING > room.max_positions => None,
            Form::Padded => Some((0, cut(batch, 0..rows, length + EXTRA_PADDING, room))),
            Form::Alone => {
                // Up to the last token, so that padding on the left keeps its place.
                let tokens =
                    |row: usize| batch.attention_mask[row * length..][..length].iter().rposition(|&kept| kept != 0).map_or(1, |last| last + 1);
                let row = (0..rows).min_by_key(|&row| tokens(row))?;
                Some((row, cut(batch, row..row + 1, tokens(row), room)))
            }
        }
    }
}

/// Some rows of a batch, cut or padded to `length`.
fn cut(batch: &Batch, rows: std::ops::Range<usize>, length: usize, room: Room) -> Batch {
    let lay_out = |values: &[i64], padding: i64| -> Vec<i64> {
        let row = |row: usize| values[row * batch.length..][..batch.length].iter().copied().chain(std::iter::repeat(padding)).take(length);
        rows.clone().flat_map(row).collect()
    };
    Batch {
        length,
        rows: batch.rows[rows.clone()].to_vec(),
        input_ids: lay_out(&batch.input_ids, room.pad_token_id),
        attention_mask: lay_out(&batch.attention_mask, 0),
        token_type_ids: lay_out(&batch.token_type_ids, room.pad_token_type_id),
        ..Batch::default()
    }
}

/// The largest absolute difference; infinite where either is no number.
fn largest_difference(ours: &[f32], theirs: &[f32]) -> f64 {
    let differences = ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    differences.map(|difference| if difference.is_nan() { f64::INFINITY } else { difference }).fold(0.0, f64::max)
}

fn reference_batch(file: &SafeTensors<'_>, path: &Path, at: usize, scores: Scores) -> Result<(Batch, Vec<f32>)> {
    let tensor = |part: &str, dtype: Dtype| {
        let name = format!("batch{at}.{part}");
        match file.tensor(&name) {
            Ok(tensor) if tensor.dtype() == dtype && tensor.shape().len() >= 2 => Ok(tensor),
            _ => Err(Error::internal(format!("{}: {name} is no matrix of {dtype}", path.display()))),
        }
    };
    let ids = tensor("input_ids", Dtype::I64)?;
    let (rows, length) = (ids.shape()[0], ids.shape()[1]);
    let integers = |part: &str| {
        let tensor = tensor(part, Dtype::I64)?;
        if tensor.shape() != [rows, length] {
            return Err(Error::internal(format!("{}: batch{at}.{part} is not [{rows}, {length}]", path.display())));
        }
        Ok(tensor.data().as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
    };
    let logits = tensor("logits", Dtype::F32)?;
    let expected = if scores.are_of_tokens() { vec![rows, length, scores.count] } else { vec![rows, scores.count] };
    if logits.shape() != expected {
        return Err(Error::stage(format!("the trained model gives scores of the shape {:?}, its task asks for {expected:?}", logits.shape())));
    }
    let batch = Batch {
        length,
        rows: (0..rows).collect(),
        input_ids: integers("input_ids")?,
        attention_mask: integers("attention_mask")?,
        token_type_ids: integers("token_type_ids")?,
        ..Batch::default()
    };
    Ok((batch, logits.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
}
