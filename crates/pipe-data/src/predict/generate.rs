//! Texts that a language model writes.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, StringArray};
use pipe_core::generate::{GenerationConfig, LanguageModel, Prompt, generate};
use pipe_core::{Error, Result, batches_by_length};
use rayon::prelude::*;

use super::{PredictionCounts, Scoring, TextPipeline, Texts};
use crate::tokenize::Turn;

/// Most rows that are written at once.
const ROWS: usize = 32;
/// Slots of a batch for each that `tokens_per_batch` allows where all rows are scored at once: what is kept of a token that was
/// read is far less than what reading it takes.
const SLOTS: usize = 8;

impl TextPipeline {
    /// Chats up to where the assistant is to answer.
    fn rendered(&self, ids: &[String], chats: Vec<Vec<Turn>>) -> Result<Vec<String>> {
        let template = self.template.as_ref().ok_or_else(|| Error::usage("the model was not tuned on chats, and these rows are some"))?;
        let text = |(id, chat): (&String, Vec<Turn>)| template.render(&chat, true).map_err(|error| error.of_row(id));
        ids.iter().zip(chats).map(text).collect()
    }

    /// The tokens that a text is to follow, and whether its beginning was cut off for want of room.
    fn prompt(&self, text: &str, is_chat: bool, longest: usize) -> Result<(Vec<u32>, bool)> {
        let ids = if is_chat { self.encoder.ids(text, false)? } else { self.encoder.prompt(text)? };
        let mut ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
        let cut = ids.len().saturating_sub(longest);
        // What is asked stands at the end.
        ids.drain(..cut);
        Ok((ids, cut > 0))
    }
}

impl Scoring<'_> {
    /// Writes a text for each prompt.
    pub(super) fn texts(
        &mut self,
        model: &mut dyn LanguageModel,
        config: &GenerationConfig,
        ids: Vec<String>,
        texts: Texts,
        counts: &mut PredictionCounts,
    ) -> Result<Vec<ArrayRef>> {
        let pipeline = self.pipeline;
        // What ended the texts that it learned from ends those that it writes, whatever else does.
        let mut eos: Vec<u32> = model.eos_token_ids().to_vec();
        let learned = [pipeline.provenance.tokenize.eos_token_id, pipeline.encoder.eos().map(|id| id as u32)];
        for id in learned.into_iter().flatten() {
            if !eos.contains(&id) {
                eos.push(id);
            }
        }
        let config = &GenerationConfig { eos_token_id: config.eos_token_id.clone().or(Some(eos)), ..config.clone() };
        let (prompts, is_chat, references) = match texts {
            // A model of chats is asked as in a chat.
            Texts::Single(texts) if pipeline.template.is_some() => {
                let references = vec![None; texts.len()];
                let asked = |text| vec![Turn { role: "user".into(), content: text }];
                (pipeline.rendered(&ids, texts.into_iter().map(asked).collect())?, true, references)
            }
            Texts::Single(prompts) => {
                let references = vec![None; prompts.len()];
                (prompts, false, references)
            }
            Texts::Prompts { prompts, references } => (prompts, false, references),
            Texts::Chats { chats, references } => (pipeline.rendered(&ids, chats)?, true, references),
            _ => return Err(Error::usage("the model writes texts, and these rows are no prompts")),
        };
        // Room for what is written, but never all of it.
        let longest = model.max_length().saturating_sub(config.max_new_tokens).max(model.max_length() / 2).max(1);
        let prompts: Vec<(Vec<u32>, bool)> = prompts.par_iter().map(|text| pipeline.prompt(text, is_chat, longest)).collect::<Result<_>>()?;
        counts.truncated += prompts.iter().filter(|(_, cut)| *cut).count() as u64;
        if let Some(at) = prompts.iter().position(|(ids, _)| ids.is_empty()) {
            return Err(Error::input(format!("the prompt of row {} has no token", ids[at])));
        }
        let lengths: Vec<u32> =
            prompts.iter().map(|(ids, _)| ids.len().saturating_add(config.max_new_tokens).min(model.max_length()) as u32).collect();
        let order: Vec<usize> = (0..prompts.len()).collect();
        let mut written: Vec<Option<(String, &'static str, i32)>> = vec![None; prompts.len()];
        for rows in batches_by_length(&lengths, &order, ROWS, pipeline.tokens_per_batch * SLOTS) {
            let batch: Vec<Prompt> = rows.iter().map(|&row| Prompt { row: row_number(&ids[row]), ids: prompts[row].0.clone() }).collect();
            // A stop string may be a special token.
            let mut decode = |tokens: &[u32]| pipeline.encoder.decode(tokens, true).unwrap_or_default();
            let made = generate(model, &batch, config, &mut decode, self.progress)?;
            for (&row, generation) in rows.iter().zip(made) {
                let text = pipeline.encoder.decode(&generation.tokens, false)?;
                written[row] = Some((text, generation.finish_reason.name(), generation.tokens.len() as i32));
            }
            self.done += rows.len() as u64;
            self.progress.advance(self.done, self.total, "rows", "");
        }
        let written: Vec<(String, &'static str, i32)> = written.into_iter().flatten().collect();
        let written_text = StringArray::from_iter_values(written.iter().map(|(text, ..)| text));
        Ok(vec![
            Arc::new(StringArray::from(ids)),
            Arc::new(written_text),
            Arc::new(StringArray::from_iter_values(written.iter().map(|(_, reason, _)| reason))),
            Arc::new(Int32Array::from_iter_values(written.iter().map(|(.., tokens)| *tokens))),
            Arc::new(StringArray::from(references)),
        ])
    }
}

/// Draws follow from a row's id, whatever it is written with.
fn row_number(id: &str) -> u64 {
    let bytes = *blake3::hash(id.as_bytes()).as_bytes();
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}
