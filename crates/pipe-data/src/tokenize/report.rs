//! The truncation and padding ledger of a tokenize stage.

use std::collections::BTreeMap;

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
}

impl SplitTokens {
    pub(super) fn add(&mut self, other: &SplitTokens) {
        self.rows += other.rows;
        self.tokens += other.tokens;
        self.longest = self.longest.max(other.longest);
        self.truncated_rows += other.truncated_rows;
        self.lost_tokens += other.lost_tokens;
    }

    pub(super) fn add_row(&mut self, row: &EncodedRow) {
        let length = row.mask.iter().filter(|&&bit| bit == 1).count() as u64;
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

    pub(super) fn line(&self) -> String {
        let sum = |value: fn(&SplitTokens) -> u64| self.splits.values().map(value).sum::<u64>();
        let (rows, tokens) = (sum(|split| split.rows), sum(|split| split.tokens));
        let mean = tokens as f64 / rows.max(1) as f64;
        match sum(|split| split.truncated_rows) {
            0 => format!("{rows} rows, {mean:.1} tokens on average, none truncated"),
            truncated => format!("{rows} rows, {mean:.1} tokens on average, {truncated} truncated ({} tokens lost)", sum(|split| split.lost_tokens)),
        }
    }
}
