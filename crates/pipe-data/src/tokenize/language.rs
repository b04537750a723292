//! Language modelling: documents, prompts with completions, and chats.

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use pipe_core::{Error, Result};
use rayon::prelude::*;

use super::chat::{ChatTemplate, Turn};
use super::encoder::PlacedTokens;
use super::row::{IGNORED, Target, TokenRow};
use super::{EncodedRow, TextEncoder, strings};

/// How texts become rows.
pub(super) struct LanguageModelling<'l> {
    pub(super) encoder: &'l TextEncoder,
    /// For chats.
    pub(super) template: Option<&'l ChatTemplate>,
    pub(super) completion_only: bool,
}

/// Tokens of a text, and for each whether it is to be learned.
struct Learned {
    ids: Vec<i32>,
    learned: Vec<bool>,
}

impl LanguageModelling<'_> {
    /// Rows of whatever the batch has: `messages`, `prompt` and `completion`, or `text`. Rows of which truncation leaves
    /// nothing to learn are named in `skipped`.
    pub(super) fn rows(&self, batch: &RecordBatch, skipped: &mut Vec<usize>) -> Result<Vec<TokenRow>> {
        let has = |column: &str| batch.column_by_name(column).is_some();
        if has("messages") {
            let chats = messages(batch)?;
            let ids = strings(batch, "id")?;
            return self.tuned(chats.into_par_iter().zip(ids).map(|(chat, id)| self.chat(&chat).map_err(|error| error.of_row(&id))), skipped);
        }
        if has("prompt") {
            let (prompts, completions) = (strings(batch, "prompt")?, strings(batch, "completion")?);
            return self.tuned(prompts.into_par_iter().zip(completions).map(|(prompt, completion)| self.pair(&prompt, &completion)), skipped);
        }
        let texts = strings(batch, "text")?;
        let rows: Vec<Vec<TokenRow>> = texts.into_par_iter().enumerate().map(|(source, text)| self.document(source, &text)).collect::<Result<_>>()?;
        skipped.extend(rows.iter().enumerate().filter(|(_, pieces)| pieces.is_empty()).map(|(source, _)| source));
        Ok(rows.into_iter().flatten().collect())
    }

    /// A document in as many rows as it needs: nothing of it is lost.
    fn document(&self, source: usize, text: &str) -> Result<Vec<TokenRow>> {
        let ids = self.encoder.document(text)?;
        // Of like lengths: one token alone would have nothing before it.
        let pieces = ids.len().div_ceil(self.encoder.tokenization().max_length).max(1);
        Ok(ids
            .chunks(ids.len().div_ceil(pieces).max(1))
            .filter(|piece| piece.len() > 1)
            .map(|piece| TokenRow { source, tokens: encoded(piece.to_vec(), 0), target: Target::Tokens(piece.to_vec()) })
            .collect())
    }

    fn pair(&self, prompt: &str, completion: &str) -> Result<Learned> {
        let given = self.encoder.prompt(prompt)?;
        // Together, since what the prompt ends with and the completion begins with may be one token.
        let ids = self.encoder.document(&format!("{prompt}{completion}"))?;
        let prefix = ids.iter().zip(&given).take_while(|(a, b)| a == b).count();
        let learned = (0..ids.len()).map(|at| !self.completion_only || at >= prefix).collect();
        Ok(Learned { ids, learned })
    }

    fn chat(&self, turns: &[Turn]) -> Result<Learned> {
        let template = self.template.ok_or_else(|| Error::internal("chats without a template"))?;
        if !self.completion_only {
            // Its special tokens are the template's.
            let ids = self.encoder.ids(&template.render(turns, false)?, false)?;
            return Ok(Learned { learned: vec![true; ids.len()], ids });
        }
        let (text, answers) = template.render_with_answers(turns)?;
        let PlacedTokens { ids, places } = self.encoder.ids_with_offsets(&text)?;
        let learned = places.iter().map(|&(start, end)| end > start && answers.iter().any(|&(from, to)| start >= from && end <= to)).collect();
        Ok(Learned { ids, learned })
    }

    fn tuned(&self, texts: impl IndexedParallelIterator<Item = Result<Learned>>, skipped: &mut Vec<usize>) -> Result<Vec<TokenRow>> {
        let max_length = self.encoder.tokenization().max_length;
        let made: Vec<Option<TokenRow>> = texts
            .enumerate()
            .map(|(source, text)| {
                let Learned { mut ids, mut learned } = text?;
                let lost = ids.len().saturating_sub(max_length);
                ids.truncate(max_length);
                learned.truncate(max_length);
                if !learned.iter().skip(1).any(|&learned| learned) {
                    return Ok(None);
                }
                let labels = ids.iter().zip(&learned).map(|(&id, &learned)| if learned { id } else { IGNORED }).collect();
                Ok(Some(TokenRow { source, tokens: encoded(ids, lost), target: Target::Tokens(labels) }))
            })
            .collect::<Result<_>>()?;
        skipped.extend(made.iter().enumerate().filter(|(_, row)| row.is_none()).map(|(source, _)| source));
        Ok(made.into_iter().flatten().collect())
    }
}

fn encoded(ids: Vec<i32>, lost: usize) -> EncodedRow {
    EncodedRow { type_ids: vec![0; ids.len()], mask: vec![1; ids.len()], ids, lost }
}

/// The chats of a column as ingest writes it.
pub(crate) fn messages(batch: &RecordBatch) -> Result<Vec<Vec<Turn>>> {
    let other = || Error::input("the column `messages` of the rows that it reads is not as ingest writes it");
    let lists = batch.column_by_name("messages").and_then(|array| array.as_list_opt::<i32>()).ok_or_else(other)?;
    (0..lists.len())
        .map(|row| {
            let list = lists.value(row);
            let turns = list.as_struct_opt().ok_or_else(other)?;
            let text = |name: &str| turns.column_by_name(name).and_then(|column| column.as_string_opt::<i32>()).ok_or_else(other);
            let (roles, contents) = (text("role")?, text("content")?);
            Ok((0..turns.len()).map(|at| Turn { role: roles.value(at).to_owned(), content: contents.value(at).to_owned() }).collect())
        })
        .collect()
}
