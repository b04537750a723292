//! The truncation and padding ledger of a tokenize stage.

use std::collections::BTreeMap;

use pipe_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::EncodedRow;
use super::train::TrainedTokenizer;

#[derive(Debug, Clone, Serialize)]
pub(super) struct TokenReport {
    pub(super) max_length: usize,
    pub(super) splits: BTreeMap<String, SplitTokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trained_tokenizer: Option<TrainedTokenizer>,
}

/// Special tokens are counted as tokens, padding is not.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct SplitTokens {
    pub(super) rows: u64,
    pub(super) tokens: u64,
    pub(super) longest: u64,
    pub(super) truncated_rows: u64,
    pub(super) lost_tokens: u64,
    /// Rows of the input that are not in the output: nothing can be learned of them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) skipped_rows: u64,
    /// Ids of the first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) skipped_ids: Vec<String>,
    /// Questions without an answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) unanswered: u64,
    /// Rows of the input where one may become several, or several one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) rows_in: u64,
}

/// How many ids of rows that were left out are told.
const SKIPPED_IDS: usize = 20;

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl SplitTokens {
    /// Rows of the input.
    pub(super) fn rows_in(&self) -> u64 {
        self.rows_in
    }

    pub(super) fn add_skipped<'i>(&mut self, ids: impl Iterator<Item = &'i str>) {
        for id in ids {
            self.skipped_rows += 1;
            if self.skipped_ids.len() < SKIPPED_IDS {
                self.skipped_ids.push(id.to_owned());
            }
        }
    }

    pub(super) fn add(&mut self, other: &SplitTokens) {
        self.rows += other.rows;
        self.tokens += other.tokens;
        self.longest = self.longest.max(other.longest);
        self.truncated_rows += other.truncated_rows;
        self.lost_tokens += other.lost_tokens;
        self.rows_in += other.rows_in;
        self.unanswered += other.unanswered;
        self.skipped_rows += other.skipped_rows;
        let room = SKIPPED_IDS.saturating_sub(self.skipped_ids.len());
        self.skipped_ids.extend(other.skipped_ids.iter().take(room).cloned());
    }

    pub(super) fn add_row(&mut self, row: &EncodedRow) {
        let length = row.mask.iter().filter(|&&bit| bit != 0).count() as u64;
        self.rows += 1;
        self.tokens += length;
        self.longest = self.longest.max(length);
        self.truncated_rows += u64::from(row.lost > 0);
        self.lost_tokens += row.lost as u64;
    }
}

impl TokenReport {
    pub(super) fn new(max_length: usize) -> TokenReport {
        TokenReport { max_length, splits: BTreeMap::new(), trained_tokenizer: None }
    }

    /// Fails where too much of a split was left out.
    pub(super) fn check_skipped(&self, most: f64) -> Result<()> {
        for (split, tokens) in &self.splits {
            if tokens.skipped_rows as f64 > most * tokens.rows_in as f64 {
                return Err(Error::input(format!(
                    "{} of {} rows of `{split}` leave nothing to learn: {}{}",
                    tokens.skipped_rows,
                    tokens.rows_in,
                    tokens.skipped_ids.join(", "),
                    if tokens.skipped_rows > tokens.skipped_ids.len() as u64 { ", …" } else { "" }
                ))
                .hint("prompts and questions need room beside them: raise `max_length`, or lower `doc_stride`; chats need turns of the role `assistant` that the template writes; `max_skipped_ratio` allows more"));
            }
        }
        Ok(())
    }

    pub(super) fn line(&self) -> String {
        let sum = |value: fn(&SplitTokens) -> u64| self.splits.values().map(value).sum::<u64>();
        let (rows, tokens) = (sum(|split| split.rows), sum(|split| split.tokens));
        let mean = tokens as f64 / rows.max(1) as f64;
        let truncated = match sum(|split| split.truncated_rows) {
            0 => "none truncated".to_owned(),
            truncated => format!("{truncated} truncated ({} tokens lost)", sum(|split| split.lost_tokens)),
        };
        let skipped = match sum(|split| split.skipped_rows) {
            0 => String::new(),
            skipped => format!(", {skipped} left out"),
        };
        format!("{rows} rows, {mean:.1} tokens on average, {truncated}{skipped}")
    }
}
