//! Compares an exported language model with the trained one, on texts that libtorch generated.

use std::collections::BTreeSet;
use std::path::Path;

use pipe_core::config::ParityConfig;
use pipe_core::generate::{LanguageModel, PaddedPrompts};
use pipe_core::{Error, Progress, Result, argmax};
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use crate::parity::two_digits;
use crate::weights::{map, parse};

/// What was compared; `parity.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Parity {
    /// Prompts of the reference.
    pub(super) rows: usize,
    /// Lengths that prompts were padded to, in tokens.
    pub(super) lengths: BTreeSet<usize>,
    /// Tokens generated after them, the likeliest each time.
    pub(super) tokens: usize,
    /// The largest absolute difference of any score, to two digits: the last ones differ between kinds of CPU.
    pub(super) max_abs_diff: f64,
    pub(super) tolerance: f64,
}

/// Some prompts, and what the trained model said after them.
struct Texts {
    prompts: Vec<Vec<u32>>,
    /// `[rows][steps]`.
    tokens: Vec<Vec<u32>>,
    /// `[rows, steps, vocabulary]`.
    logits: Vec<f32>,
    vocabulary: usize,
}

impl Texts {
    fn steps(&self) -> usize {
        self.tokens.first().map_or(0, Vec::len)
    }

    fn scores(&self, row: usize, step: usize) -> &[f32] {
        &self.logits[(row * self.steps() + step) * self.vocabulary..][..self.vocabulary]
    }
}

/// What was seen so far.
struct Seen {
    largest: f64,
    /// Where that was.
    place: String,
    /// Where another token was chosen than the scores' closeness explains.
    other_token: Option<String>,
    tolerance: f64,
}

/// Generates along the reference twice: all prompts of a batch together, from prefill to the last token; and again with all but the
/// shortest prompt's row left out after the first token.
pub(super) fn compare(model: &mut dyn LanguageModel, reference: &Path, config: &ParityConfig, progress: &dyn Progress) -> Result<Parity> {
    let bytes = map(reference)?;
    let file = parse(&bytes, reference)?;
    let batches = (0..).take_while(|at| file.tensor(&format!("batch{at}.input_ids")).is_ok()).count();
    if batches == 0 {
        return Err(Error::stage(format!("{} holds no texts to compare", reference.display())));
    }
    let mut parity = Parity { rows: 0, lengths: BTreeSet::new(), tokens: 0, max_abs_diff: 0.0, tolerance: config.max_abs_diff };
    let mut seen = Seen { largest: 0.0, place: String::new(), other_token: None, tolerance: config.max_abs_diff };
    for at in 0..batches {
        progress.check()?;
        let texts = read(&file, reference, at)?;
        let rows: Vec<usize> = (0..texts.prompts.len()).collect();
        parity.rows += rows.len();
        parity.tokens += rows.len() * texts.steps();
        parity.lengths.extend(texts.prompts.iter().map(Vec::len).max());
        follow(model, &texts, &rows, &format!("batch {at}"), &mut seen)?;
        if let Some(shortest) = rows.iter().copied().min_by_key(|&row| texts.prompts[row].len()) {
            follow(model, &texts, &[shortest], &format!("batch {at}, alone"), &mut seen)?;
        }
        progress.advance(at as u64 + 1, batches as u64, "batches", "parity");
    }
    if seen.largest.is_infinite() {
        return Err(Error::stage(format!("the exported or the trained model gives a score that is no number ({})", seen.place))
            .hint("the model's weights are damaged or its training diverged"));
    }
    if seen.largest > config.max_abs_diff {
        return Err(Error::stage(format!(
            "the exported model is not the trained one: scores differ by up to {:.2e} ({}), the tolerance is {:.2e}",
            seen.largest, seen.place, config.max_abs_diff
        ))
        .hint("a wider tolerance is `parity: { max_abs_diff: … }` of the export stage"));
    }
    if let Some(place) = seen.other_token {
        return Err(Error::stage(format!("the exported model generates another token than the trained one ({place})")));
    }
    parity.max_abs_diff = two_digits(seen.largest);
    Ok(parity)
}

/// Feeds the reference's own tokens, so that one that differs does not make all after it differ. From the second step on with the
/// rows `kept` alone.
fn follow(model: &mut dyn LanguageModel, texts: &Texts, kept: &[usize], place: &str, seen: &mut Seen) -> Result<()> {
    let mut rows: Vec<usize> = (0..texts.prompts.len()).collect();
    let mut logits = model.begin(&PaddedPrompts::new(texts.prompts.iter().map(Vec::as_slice)))?;
    for step in 0..texts.steps() {
        if logits.classes != texts.vocabulary || logits.rows().count() != rows.len() {
            return Err(Error::stage(format!("the trained model scores {} tokens, the exported one {}", texts.vocabulary, logits.classes)));
        }
        for (ours, &row) in logits.rows().zip(&rows) {
            seen.look(ours, texts.scores(row, step), texts.tokens[row][step], || format!("token {step} of row {row} of {place}"));
        }
        if step + 1 == texts.steps() {
            break;
        }
        if step == 0 && kept.len() < rows.len() {
            model.keep(kept)?;
            rows = kept.to_vec();
        }
        logits = model.advance(&rows.iter().map(|&row| texts.tokens[row][step]).collect::<Vec<u32>>())?;
    }
    Ok(())
}

impl Seen {
    fn look(&mut self, ours: &[f32], theirs: &[f32], token: u32, place: impl Fn() -> String) {
        let differences = ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
        let largest = differences.map(|d| if d.is_nan() { f64::INFINITY } else { d }).fold(0.0, f64::max);
        if largest > self.largest {
            (self.largest, self.place) = (largest, place());
        }
        let best = argmax(ours);
        // Two tokens that score the same within the tolerance are both right.
        let gap = theirs.get(token as usize).zip(theirs.get(best)).map_or(f64::INFINITY, |(a, b)| f64::from(*a) - f64::from(*b));
        if best != token as usize && gap.abs() > 2.0 * self.tolerance {
            self.other_token.get_or_insert_with(place);
        }
    }
}

fn read(file: &SafeTensors<'_>, path: &Path, at: usize) -> Result<Texts> {
    let wrong = |name: &str| Error::internal(format!("{}: {name} is not as a reference of generation has it", path.display()));
    let tensor = |part: &str, dtype: Dtype, axes: usize| {
        let name = format!("batch{at}.{part}");
        let found = file.tensor(&name).ok().filter(|tensor| tensor.dtype() == dtype && tensor.shape().len() == axes);
        found.ok_or_else(|| wrong(&name))
    };
    let integers = |part: &str| {
        let tensor = tensor(part, Dtype::I64, 2)?;
        let values: Vec<i64> = tensor.data().as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
        Ok::<_, Error>((tensor.shape().to_vec(), values))
    };
    let ((shape, ids), (mask_shape, mask), (steps, tokens)) = (integers("input_ids")?, integers("attention_mask")?, integers("tokens")?);
    let logits = tensor("logits", Dtype::F32, 3)?;
    let vocabulary = logits.shape()[2];
    if mask_shape != shape || steps[0] != shape[0] || logits.shape()[..2] != steps || shape.contains(&0) || steps.contains(&0) || vocabulary == 0 {
        return Err(wrong(&format!("batch{at}")));
    }
    let id = |&id: &i64| u32::try_from(id).map_err(|_| wrong(&format!("batch{at}: the token {id}")));
    let row = |(ids, mask): (&[i64], &[i64])| ids.iter().zip(mask).filter(|(_, kept)| **kept != 0).map(|(token, _)| id(token)).collect();
    Ok(Texts {
        prompts: ids.chunks(shape[1]).zip(mask.chunks(shape[1])).map(row).collect::<Result<_>>()?,
        tokens: tokens.chunks(steps[1]).map(|row| row.iter().map(id).collect()).collect::<Result<_>>()?,
        logits: logits.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        vocabulary,
    })
}
