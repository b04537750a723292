//! Logits of real rows, for the exporter to compare its graph with.

use std::collections::BTreeMap;
use std::path::Path;

use pipe_core::generate::{LanguageModel, PaddedPrompts};
use pipe_core::provenance::Provenance;
use pipe_core::{Batch, BatchSource, Error, Predictor, Result, Summary, argmax};
use pipe_data::TokenSource;
use pipe_model::Head;
use tch::Tensor;

use crate::generator::TorchGenerator;
use crate::model::Model;
use crate::weights;

/// Rows per reference batch: small, so that the batches have many different lengths.
const BATCH_ROWS: usize = 8;

/// Picks `count` rows spread evenly over the lengths that occur, and writes their batches and logits to `out`: `[B, C]`, or
/// `[B, L, C]` of tasks that score tokens.
pub(crate) fn write(model: &mut Model, tokens: &Path, split: &str, count: usize, out: &Path, scratch: &Path) -> Result<Summary> {
    let is_of_tokens = match model.head {
        Head::SequenceClassification { .. } => false,
        Head::TokenClassification { .. } | Head::QuestionAnswering => true,
        // Gigabytes, and generation is what an export of it is compared on.
        Head::CausalLm => return Err(Error::usage("language models are exported to generate, not to score rows")),
    };
    let source = TokenSource::open(tokens, split, scratch)?;
    model.check_rows(source.lengths(), Provenance::read(tokens)?.tokenize.vocab_size)?;
    let mut rows: Vec<usize> = (0..source.rows()).collect();
    rows.sort_by_key(|&row| (source.lengths()[row], row));
    let count = count.min(rows.len());
    let picked: Vec<usize> = (0..count).map(|at| rows[at * (rows.len() - 1) / count.saturating_sub(1).max(1)]).collect();
    let mut tensors = BTreeMap::new();
    for (at, rows) in picked.chunks(BATCH_ROWS).enumerate() {
        // Of tokens that no label is of, too.
        let batch = Batch { slots: None, ..source.batch(rows)? };
        let logits = model.predict(&batch)?;
        let shape = [rows.len() as i64, batch.length as i64];
        for (name, values) in [("input_ids", &batch.input_ids), ("attention_mask", &batch.attention_mask), ("token_type_ids", &batch.token_type_ids)]
        {
            tensors.insert(format!("batch{at}.{name}"), Tensor::from_slice(values).view(shape));
        }
        let classes = logits.classes as i64;
        let shape = if is_of_tokens { vec![shape[0], shape[1], classes] } else { vec![shape[0], classes] };
        tensors.insert(format!("batch{at}.logits"), Tensor::from_slice(&logits.values).view(shape.as_slice()));
    }
    weights::save(&tensors, out)?;
    Ok(Summary { rows: count as u64, ..Summary::default() })
}

/// Tokens that are generated after each prompt.
pub(crate) const STEPS: usize = 8;
/// Scores of a vocabulary are many: more prompts would make the file hundreds of megabytes.
const MOST_PROMPTS: usize = 16;
/// The most tokens of a prompt.
const PROMPT_TOKENS: usize = 64;

/// Beginnings of rows of different lengths, up to what they are to give.
pub(crate) fn prompts(tokens: &Path, split: &str, rows: usize, scratch: &Path) -> Result<Vec<Vec<u32>>> {
    let source = TokenSource::open(tokens, split, scratch)?;
    let count = rows.min(MOST_PROMPTS).min(source.rows());
    let mut prompts = Vec::with_capacity(count);
    for at in 0..count {
        let row = at * source.rows() / count;
        let batch = source.batch(&[row])?;
        // Of one document, where a row holds several.
        let document = batch.attention_mask.iter().take_while(|&&number| number == batch.attention_mask[0]).count();
        let learned = batch.slots.as_ref().and_then(|slots| slots.first()).map_or(document, |&slot| slot as usize + 1);
        // Whole texts are learned from their first token on: of those prompts of all lengths.
        let length = if learned > 1 { learned.min(document) } else { 1 + at * document.saturating_sub(1) / count };
        let length = length.clamp(1, PROMPT_TOKENS);
        prompts.push(batch.input_ids[..length].iter().map(|&id| id as u32).collect());
    }
    Ok(prompts)
}

/// Generates `steps` tokens for each of `prompts`, the likeliest each time and through every token that ends a text, and writes to `out`
/// what an export is compared with:
///
/// ```text
/// batch{i}.input_ids, batch{i}.attention_mask   int64 [B, L], padded on the left
/// batch{i}.tokens                               int64 [B, N], what was generated
/// batch{i}.logits                               f32 [B, N, V], the scores before each
/// ```
pub fn write_generation(model: &mut TorchGenerator, prompts: &[Vec<u32>], steps: usize, out: &Path) -> Result<Summary> {
    let mut by_length: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).filter(|ids| !ids.is_empty()).collect();
    by_length.sort_by_key(|ids| ids.len());
    let mut tensors = BTreeMap::new();
    for (at, prompts) in by_length.chunks(BATCH_ROWS).enumerate() {
        let padded = PaddedPrompts::new(prompts.iter().copied());
        let (rows, length) = (padded.rows(), padded.length());
        let steps = steps.min((model.max_length() + 1).saturating_sub(length));
        let mut logits = model.begin(&padded)?;
        let (mut tokens, mut scores) = (Vec::new(), Vec::new());
        for step in 0..steps {
            let next: Vec<u32> = logits.rows().map(|row| argmax(row) as u32).collect();
            let size = [rows as i64, 1, logits.classes as i64];
            scores.push(Tensor::from_slice(&logits.values).view(size));
            tokens.push(Tensor::from_slice(&next.iter().map(|&id| i64::from(id)).collect::<Vec<_>>()).view([-1, 1]));
            if step + 1 < steps {
                logits = model.advance(&next)?;
            }
        }
        if steps == 0 {
            return Err(Error::input(format!("a prompt has {length} tokens, the model has {} positions", model.max_length())));
        }
        let shape = [rows as i64, length as i64];
        let mask = padded.slots.attention_mask(length);
        for (name, tensor) in [
            ("input_ids", Tensor::from_slice(&padded.input_ids).view(shape)),
            ("attention_mask", Tensor::from_slice(&mask).view(shape)),
            ("tokens", Tensor::cat(&tokens, 1)),
            ("logits", Tensor::cat(&scores, 1)),
        ] {
            tensors.insert(format!("batch{at}.{name}"), tensor);
        }
    }
    weights::save(&tensors, out)?;
    Ok(Summary { rows: by_length.len() as u64, ..Summary::default() })
}
