//! Settings of `tokenize`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Complaint;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizeConfig {
    /// A folder with `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// In tokens, special ones included. Absent: what the tokenizer's own files say.
    pub max_length: Option<usize>,
    /// How a row that is too long is cut.
    pub truncation: Truncation,
    /// Where short rows are filled up.
    pub padding: Padding,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    #[default]
    LongestFirst,
    OnlyFirst,
    OnlySecond,
    /// A row that is too long is an error, not silently cut.
    DoNotTruncate,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Padded per training batch, to its longest row.
    #[default]
    Longest,
    /// Padded on disk, to `max_length`.
    MaxLength,
}

impl TokenizeConfig {
    pub(super) fn check(&self) -> Result<(), Complaint> {
        if self.tokenizer.as_os_str().is_empty() {
            return Err(Complaint::missing("tokenizer", "path/to/model"));
        }
        if self.max_length.is_some_and(|length| length < 4) {
            return Err(Complaint::new("max_length", "`max_length` must be at least 4: the special tokens alone take up to 3"));
        }
        Ok(())
    }
}
