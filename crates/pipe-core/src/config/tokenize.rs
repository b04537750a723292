//! Settings of `tokenize`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Base, Complaint, in_range};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizeConfig {
    /// A folder with `tokenizer.json`; or `{ train_tokenizer: … }`, another spelling of the setting of that name.
    pub tokenizer: Base,
    /// Trains a tokenizer on the split `train` of the input, in the place of `tokenizer`.
    pub train_tokenizer: Option<TrainTokenizerConfig>,
    /// In tokens, special ones included. Absent: what the tokenizer's own files say.
    pub max_length: Option<usize>,
    /// How a row that is too long is cut.
    pub truncation: Truncation,
    /// Where short rows are filled up.
    pub padding: Padding,
}

/// A new tokenizer, with the normalisation, the special tokens and the template of BERT's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainTokenizerConfig {
    /// How words are cut to pieces.
    pub kind: TokenizerKind,
    /// The most tokens, special ones included.
    pub vocab_size: usize,
    /// Pieces that are met less often together are not joined. Not for `unigram`.
    pub min_frequency: u64,
    /// The most different characters; rarer ones become `[UNK]`. Absent: as many as there is room for.
    pub limit_alphabet: Option<usize>,
    pub lowercase: bool,
    /// Absent: as `lowercase`.
    pub strip_accents: Option<bool>,
    /// Each Chinese character is a word.
    pub tokenize_chinese_chars: bool,
}

/// Kinds of tokenizer that can be trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// BERT's: longest match first, `##` before what does not begin a word.
    #[default]
    Wordpiece,
    /// Byte-pair encoding over characters, `</w>` after what ends a word.
    Bpe,
    /// A unigram language model, `▁` before a word.
    Unigram,
}

impl Default for TrainTokenizerConfig {
    fn default() -> Self {
        TrainTokenizerConfig {
            kind: TokenizerKind::Wordpiece,
            vocab_size: 30_000,
            min_frequency: 2,
            limit_alphabet: None,
            lowercase: true,
            strip_accents: None,
            tokenize_chinese_chars: true,
        }
    }
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
    /// How a tokenizer is to be trained, whichever way it is spelled; absent where one is given.
    pub fn training(&self) -> Option<&TrainTokenizerConfig> {
        self.train_tokenizer.as_ref().or_else(|| self.tokenizer.train_tokenizer())
    }

    /// One spelling for what has two.
    #[must_use]
    pub fn canonical(&self) -> TokenizeConfig {
        let mut config = self.clone();
        if let Some(training) = self.training() {
            config.train_tokenizer = Some(training.clone());
            config.tokenizer = Base::default();
        }
        config
    }

    pub(super) fn check(&self) -> Result<(), Complaint> {
        match (&self.tokenizer, &self.train_tokenizer) {
            (base, None) if base.is_missing() => {
                return Err(Complaint::new("tokenizer", "no tokenizer is named")
                    .hint("add `tokenizer: path/to/model`, or `train_tokenizer: { kind: wordpiece, vocab_size: 8000 }` to train one on the rows"));
            }
            (base, Some(_)) if !base.is_missing() => {
                return Err(Complaint::new("train_tokenizer", "`tokenizer` and `train_tokenizer` are both there")
                    .hint("keep one: `tokenizer` takes a given one, `train_tokenizer` makes one"));
            }
            (Base::Scratch(scratch), None) if scratch.train_tokenizer.is_none() => {
                return Err(Complaint::new("tokenizer", "this mapping has no `train_tokenizer`, which is what a tokenize stage takes of it")
                    .hint("add `train_tokenizer: { kind: wordpiece, vocab_size: 8000 }` to it"));
            }
            _ => {}
        }
        if let Some(training) = self.training() {
            training.check(if self.train_tokenizer.is_some() { "train_tokenizer" } else { "tokenizer.train_tokenizer" })?;
        }
        if self.max_length.is_some_and(|length| length < 4) {
            return Err(Complaint::new("max_length", "`max_length` must be at least 4: the special tokens alone take up to 3"));
        }
        Ok(())
    }
}

impl TrainTokenizerConfig {
    /// `place` is the dotted path of this mapping below `with:`.
    fn check(&self, place: &str) -> Result<(), Complaint> {
        in_range(&format!("{place}.vocab_size"), self.vocab_size as f64, 16.0..=1_000_000.0)?;
        in_range(&format!("{place}.limit_alphabet"), self.limit_alphabet.unwrap_or(1) as f64, 1.0..=1_000_000.0)?;
        in_range(&format!("{place}.min_frequency"), self.min_frequency as f64, 1.0..=f64::INFINITY)?;
        if self.kind == TokenizerKind::Unigram && self.min_frequency != TrainTokenizerConfig::default().min_frequency {
            return Err(Complaint::new(format!("{place}.min_frequency"), "a unigram tokenizer joins no pieces, so it has no `min_frequency`")
                .hint("remove it"));
        }
        Ok(())
    }
}
