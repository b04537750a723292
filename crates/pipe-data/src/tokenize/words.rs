//! Token classification: labels of words, put to their tokens.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use pipe_core::{Error, Result};
use rayon::prelude::*;

use super::TextEncoder;
use super::row::{IGNORED, Target, TokenRow};

/// Rows of words with their tags, or without where there are none.
pub(super) fn rows(encoder: &TextEncoder, batch: &RecordBatch, labels: &[String], all_tokens: bool) -> Result<Vec<TokenRow>> {
    let words = lists(batch, "tokens")?;
    let tags = batch.column_by_name("tags").map(|_| lists(batch, "tags")).transpose()?;
    words
        .into_par_iter()
        .enumerate()
        .map(|(source, words)| {
            let (tokens, word_of) = encoder.words(&words)?;
            let Some(tags) = &tags else { return Ok(TokenRow { source, tokens, target: Target::None }) };
            let tags = &tags[source];
            if tags.len() != words.len() {
                return Err(Error::input("a row has not as many tags as words").hint("each word in `tokens` needs its tag in `tags`"));
            }
            let mut ids = Vec::with_capacity(word_of.len());
            for (at, word) in word_of.iter().enumerate() {
                let first = at == 0 || word_of[at - 1] != *word;
                ids.push(match word {
                    Some(word) if first => class_id(labels, &tags[*word])?,
                    Some(word) if all_tokens => class_id(labels, &inside(labels, &tags[*word]))?,
                    _ => IGNORED,
                });
            }
            Ok(TokenRow { source, tokens, target: Target::Tokens(ids) })
        })
        .collect()
}

/// The tag of the rest of a word: a second `B-` would begin another entity.
fn inside<'t>(labels: &[String], tag: &'t str) -> Cow<'t, str> {
    match tag.strip_prefix("B-").map(|kind| format!("I-{kind}")) {
        Some(inside) if labels.contains(&inside) => inside.into(),
        _ => tag.into(),
    }
}

pub(super) fn class_id(labels: &[String], name: &str) -> Result<i32> {
    let id = labels.iter().position(|label| label == name);
    id.map(|id| id as i32).ok_or_else(|| Error::internal("a row has a label that labels.json does not list"))
}

/// A column of lists of texts.
pub(crate) fn lists(batch: &RecordBatch, column: &str) -> Result<Vec<Vec<String>>> {
    let other = || Error::input(format!("the rows that it reads have no column `{column}` with lists of texts"));
    let lists = batch.column_by_name(column).and_then(|array| array.as_list_opt::<i32>()).ok_or_else(other)?;
    (0..lists.len())
        .map(|row| {
            let list = lists.value(row);
            let texts = list.as_string_opt::<i32>().ok_or_else(other)?;
            Ok(texts.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
        })
        .collect()
}
