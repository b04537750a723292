//! Texts from a causal language model: [`generate`] asks a [`LanguageModel`] for one token after the other. libtorch and
//! ONNX Runtime each have one, so that both generate the same.
//!
//! ```text
//! begin    prompts, padded on the left      → scores of what comes next, row by row
//! advance  the token that each row takes    → scores of what comes next
//! keep     rows whose text is not finished
//! ```

mod config;
mod processors;
mod slots;

use crate::batch::Logits;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::random::SplitMix;

pub use config::GenerationConfig;
pub use slots::{PaddedPrompts, Slots};

/// A model that remembers what it read, as keys and values of attention.
pub trait LanguageModel {
    /// The most tokens that a row may have, prompt included.
    fn max_length(&self) -> usize;

    /// The tokens that end a text where the settings name none.
    fn eos_token_ids(&self) -> &[u32];

    /// Forgets what it knew and reads `prompts`: the scores of each row's next token, `[rows, vocabulary]`.
    fn begin(&mut self, prompts: &PaddedPrompts) -> Result<Logits>;

    /// Reads one more token of each row: the scores of the next one.
    fn advance(&mut self, next: &[u32]) -> Result<Logits>;

    /// Goes on with these rows alone, in this order.
    fn keep(&mut self, rows: &[usize]) -> Result<()>;
}

/// What a text is to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// A number of its own among all rows of a run: draws depend on it and not on the batch.
    pub row: u64,
    pub ids: Vec<u32>,
}

/// A text, as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// What follows the prompt, with the token that ended it.
    pub tokens: Vec<u32>,
    pub finish_reason: FinishReason,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// With a token that ends texts.
    Eos,
    /// With one of `stop_strings`.
    StopString,
    /// At `max_new_tokens`, or where the model has no further positions.
    Length,
}

impl FinishReason {
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::Eos => "eos",
            FinishReason::StopString => "stop_string",
            FinishReason::Length => "length",
        }
    }
}

/// Tokens decoded to look for a stop string, beside one for each of its bytes: room for tokens that give no text, and
/// for a decoder that treats the first one in a way of its own.
const STOP_CONTEXT: usize = 32;

/// Generates a text for each of `prompts`, all in one batch, in their order. `decode` gives the text of some tokens; it is
/// asked only where there are stop strings.
pub fn generate(
    model: &mut dyn LanguageModel,
    prompts: &[Prompt],
    config: &GenerationConfig,
    decode: &mut dyn FnMut(&[u32]) -> String,
    progress: &dyn Progress,
) -> Result<Vec<Generation>> {
    let max_length = model.max_length();
    let eos = config.eos_token_id.clone().unwrap_or_else(|| model.eos_token_ids().to_vec());
    for prompt in prompts {
        if prompt.ids.is_empty() {
            return Err(Error::input("a prompt has no token").hint("a text needs something to follow, if only the token that begins texts"));
        }
        if prompt.ids.len() > max_length {
            return Err(
                Error::input(format!("a prompt has {} tokens, the model has {max_length} positions", prompt.ids.len())).hint("cut the prompts")
            );
        }
    }
    let mut rows: Vec<Row> = prompts.iter().enumerate().map(|(at, prompt)| Row::new(at, prompt, config.seed)).collect();
    let mut texts: Vec<Option<Generation>> = vec![None; prompts.len()];
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut logits = model.begin(&PaddedPrompts::new(prompts.iter().map(|prompt| prompt.ids.as_slice())))?;
    loop {
        progress.check()?;
        if logits.values.len() != rows.len() * logits.classes {
            return Err(Error::internal("a language model gave scores of another number of rows"));
        }
        for (row, scores) in rows.iter_mut().zip(logits.values.chunks_exact_mut(logits.classes)) {
            row.ids.push(processors::next_token(config, &row.ids, scores, &mut row.random)?);
            let reason = row.finish_reason(config, &eos, max_length, decode);
            texts[row.at] = reason.map(|finish_reason| Generation { tokens: row.new_tokens().to_vec(), finish_reason });
        }
        let unfinished: Vec<usize> = (0..rows.len()).filter(|&slot| texts[rows[slot].at].is_none()).collect();
        if unfinished.is_empty() {
            return Ok(texts.into_iter().flatten().collect());
        }
        if unfinished.len() < rows.len() {
            model.keep(&unfinished)?;
            rows.retain(|row| texts[row.at].is_none());
        }
        // Each row has at least its prompt.
        let next: Vec<u32> = rows.iter().filter_map(|row| row.ids.last().copied()).collect();
        logits = model.advance(&next)?;
    }
}

/// A text that is being generated.
struct Row {
    /// Its place among the prompts.
    at: usize,
    /// The prompt, and what follows it.
    ids: Vec<u32>,
    prompt_length: usize,
    random: SplitMix,
}

impl Row {
    fn new(at: usize, prompt: &Prompt, seed: u64) -> Row {
        Row { at, ids: prompt.ids.clone(), prompt_length: prompt.ids.len(), random: SplitMix::new(&[seed, prompt.row]) }
    }

    fn new_tokens(&self) -> &[u32] {
        &self.ids[self.prompt_length..]
    }

    /// After its last token; absent where it goes on.
    fn finish_reason(
        &self,
        config: &GenerationConfig,
        eos: &[u32],
        max_length: usize,
        decode: &mut dyn FnMut(&[u32]) -> String,
    ) -> Option<FinishReason> {
        let tokens = self.new_tokens();
        if tokens.last().is_some_and(|last| eos.contains(last)) {
            return Some(FinishReason::Eos);
        }
        if let Some(longest) = config.stop_strings.iter().map(String::len).max() {
            // What is further back was looked at when it came.
            let end = decode(&tokens[tokens.len().saturating_sub(longest + STOP_CONTEXT)..]);
            if config.stop_strings.iter().any(|stop| end.contains(stop.as_str())) {
                return Some(FinishReason::StopString);
            }
        }
        // The last token itself needs a position to be read.
        (tokens.len() >= config.max_new_tokens || self.ids.len() > max_length).then_some(FinishReason::Length)
    }
}

#[cfg(test)]
mod tests;
