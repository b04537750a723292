//! Settings of `tokenize`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Base, Complaint, in_range, kept_columns};
use crate::task::Task;

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
    /// What the tokens are for; absent: what the columns of the rows say.
    pub task: Option<Task>,
    /// Token classification: every token of a word has the word's label, and not its first one alone.
    pub label_all_tokens: bool,
    /// Question answering: how many tokens of its context a window shares with the one before; absent: 128, or a third of
    /// `max_length` where that is less.
    pub doc_stride: Option<usize>,
    /// Language modelling: several documents share a row, none of which sees another.
    pub packing: bool,
    /// Supervised fine-tuning: the prompt, and what is not the assistant's in a chat, is not learned.
    pub completion_only_loss: Option<bool>,
    /// The Jinja template that makes a text of a chat; absent: the tokenizer's own.
    pub chat_template: Option<String>,
    /// Rows that cannot be learned from, such as a prompt that leaves no room for its completion, are left out and counted;
    /// more than this share of a split is an error.
    pub max_skipped_ratio: Option<f64>,
    /// Columns of the rows that are kept beside the tokens, for evaluate's `by:`: `group`, `time` or those of `columns.extra`.
    pub keep_columns: Vec<String>,
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

/// The share of rows that may be left out, unless the settings say otherwise.
const MAX_SKIPPED_RATIO: f64 = 0.1;

impl TokenizeConfig {
    pub fn max_skipped_ratio(&self) -> f64 {
        self.max_skipped_ratio.unwrap_or(MAX_SKIPPED_RATIO)
    }

    /// How a tokenizer is to be trained, whichever way it is spelled; absent where one is given.
    pub fn training(&self) -> Option<&TrainTokenizerConfig> {
        self.train_tokenizer.as_ref().or_else(|| self.tokenizer.train_tokenizer())
    }

    /// One spelling for what has two.
    #[must_use]
    pub fn canonical(&self) -> TokenizeConfig {
        let mut config = self.clone();
        // The default.
        config.completion_only_loss = config.completion_only_loss.filter(|only| !only);
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
        in_range("max_skipped_ratio", self.max_skipped_ratio.unwrap_or(0.0), 0.0..=1.0)?;
        if let (Some(stride), Some(length)) = (self.doc_stride, self.max_length)
            && stride + 4 > length
        {
            return Err(Complaint::new("doc_stride", format!("`doc_stride: {stride}` leaves no room in windows of {length} tokens"))
                .hint("it is what two windows share: set it well below `max_length`"));
        }
        kept_columns(&self.keep_columns)?;
        if self.packing && !self.keep_columns.is_empty() {
            return Err(
                Complaint::new("keep_columns", "a row of several documents has no value of its own").hint("leave out `packing` or `keep_columns`")
            );
        }
        self.task.map_or(Ok(()), |task| self.check_task(task))
    }

    /// Settings that have no meaning for a task are refused, not passed over.
    pub fn check_task(&self, task: Task) -> Result<(), Complaint> {
        for (setting, set, of) in [
            ("label_all_tokens", self.label_all_tokens, Task::TokenClassification),
            ("doc_stride", self.doc_stride.is_some(), Task::QuestionAnswering),
            ("packing", self.packing, Task::CausalLm),
            ("completion_only_loss", self.completion_only_loss.is_some(), Task::CausalLm),
            ("chat_template", self.chat_template.is_some(), Task::CausalLm),
        ] {
            if set && task != of {
                return Err(Complaint::new(setting, format!("`{setting}` is for the task {}, these rows are for {}", of.name(), task.name()))
                    .hint(format!("remove `{setting}`")));
            }
        }
        if task == Task::CausalLm && self.padding == Padding::MaxLength {
            return Err(Complaint::new("padding", "language models are padded per batch").hint("remove `padding`"));
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
