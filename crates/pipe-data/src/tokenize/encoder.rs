//! Texts to token ids with a model's own tokenizer, truncated and padded as configured.

use std::path::Path;

use pipe_core::config::{Padding, TokenizeConfig, Truncation};
use pipe_core::provenance::Tokenization;
use pipe_core::{Error, IoContext, Result, digest};
use pipe_model::ModelConfig;
use rayon::prelude::*;
use serde_json::Value;
use tokenizers::{Encoding, PostProcessor, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};
use unicode_normalization::char::is_combining_mark;

/// All that the library reads; the others say how it is used.
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// The files that make up a tokenizer in a model folder; `tokenizer.json` alone is required.
const FILES: [&str; 8] = [
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "chat_template.jinja",
];

/// Above this a `model_max_length` is transformers' "not known".
const NO_LIMIT: u64 = 1 << 30;

/// Names of the tokenizer's files that are in `folder`; without a `tokenizer.json` a GGUF file is one of them.
pub fn tokenizer_files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = FILES.iter().filter(|name| folder.join(name).is_file()).map(|&name| name.to_owned()).collect();
    if !folder.join(TOKENIZER).is_file() {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        names.extend(entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.ends_with(".gguf")));
        names.sort();
    }
    names
}

/// One row of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedRow {
    pub ids: Vec<i32>,
    pub type_ids: Vec<i8>,
    /// 0 for padding; for a token 1, or the number of its document.
    pub mask: Vec<i16>,
    /// Tokens that truncation cut off.
    pub lost: usize,
}

/// A part of a context with its question before it.
pub struct WindowTokens {
    pub tokens: EncodedRow,
    /// Start and end of each token in the context, in characters; −1 twice for what is no token of the context.
    pub offsets: Vec<i32>,
}

/// Tokens, and where in their text each stands, in bytes.
pub(super) struct PlacedTokens {
    pub(super) ids: Vec<i32>,
    pub(super) places: Vec<(usize, usize)>,
}

/// A tokenizer with its settings. No `Debug` on what it is given: that is raw text.
pub struct TextEncoder {
    tokenizer: Tokenizer,
    /// The same without truncation.
    whole: Tokenizer,
    tokenization: Tokenization,
    /// What ends a text of a language model: the tokenizer's own ending, else the token that its config names.
    eos: Option<i32>,
    /// Tokens that the tokenizer itself puts after a text.
    ending: usize,
    /// A byte-level tokenizer that sees words where they begin with a space: words by themselves are given one.
    spaced_words: bool,
}

impl TextEncoder {
    /// For the tokenize stage: settings from the pipeline file, the rest from the model's folder.
    pub fn open(folder: &Path, config: &TokenizeConfig, text_pair: bool) -> Result<TextEncoder> {
        let bytes = read(folder)?;
        let tokenizer = parse(folder, &bytes)?;
        let limit = length_limit(folder);
        let max_length = match (config.max_length, limit) {
            (Some(length), Some(limit)) if length > limit => {
                return Err(Error::usage(format!("`max_length: {length}` is more than the {limit} positions of the model in {}", folder.display()))
                    .hint(format!("set `max_length` to {limit} or less")));
            }
            (Some(length), _) => length,
            (None, Some(limit)) => limit,
            (None, None) => {
                return Err(Error::usage(format!("{} does not say how long its inputs may be", folder.display()))
                    .hint("set `max_length` in the tokenize stage"));
            }
        };
        let (pad_token_id, pad_token_type_id) = padding_ids(&tokenizer, folder)?;
        let names = tokenizer_files(folder);
        let mut content = Vec::new();
        for name in &names {
            content.extend_from_slice(name.as_bytes());
            // Of the very bytes that were parsed, even if the file changes meanwhile.
            let digest = if name == TOKENIZER { digest::of_bytes(&bytes) } else { digest::of_file(&folder.join(name))? };
            content.extend_from_slice(digest.as_bytes());
        }
        let tokenization = Tokenization {
            max_length,
            truncation: config.truncation,
            padding: config.padding,
            pad_token_id,
            pad_token_type_id,
            vocab_size: tokenizer.get_vocab_size(true),
            text_pair,
            doc_stride: None,
            no_answers: false,
            eos_token_id: None,
            chat: false,
            chat_template: config.chat_template.clone(),
            tokenizer: digest::of_bytes(&content),
        };
        TextEncoder::with(folder, tokenizer, tokenization)
    }

    /// For prediction: exactly as a model was trained.
    pub fn reopen(folder: &Path, tokenization: &Tokenization) -> Result<TextEncoder> {
        TextEncoder::with(folder, parse(folder, &read(folder)?)?, tokenization.clone())
    }

    /// For question answering: windows of a context share this many tokens.
    pub(super) fn with_doc_stride(mut self, stride: usize) -> TextEncoder {
        self.tokenization.doc_stride = Some(stride);
        self
    }

    fn with(folder: &Path, mut tokenizer: Tokenizer, tokenization: Tokenization) -> Result<TextEncoder> {
        // A tokenizer.json may come with a padding and a truncation of its own; only ours counts.
        tokenizer.with_padding(None);
        let mut whole = tokenizer.clone();
        whole.with_truncation(None).map_err(|_| Error::internal("truncation cannot be switched off"))?;
        let strategy = match tokenization.truncation {
            Truncation::LongestFirst | Truncation::DoNotTruncate => TruncationStrategy::LongestFirst,
            Truncation::OnlyFirst => TruncationStrategy::OnlyFirst,
            Truncation::OnlySecond => TruncationStrategy::OnlySecond,
        };
        let truncation = TruncationParams { max_length: tokenization.max_length, strategy, stride: 0, direction: TruncationDirection::Right };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|e| Error::usage(format!("this tokenizer cannot cut rows to {} tokens: {e}", tokenization.max_length)))?;
        let ids = |special| whole.encode_fast("a", special).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default();
        let (bare, full) = (ids(false), ids(true));
        let begins = full.windows(bare.len().max(1)).position(|window| window == bare).unwrap_or(0);
        let ending = full.get(begins + bare.len()..).unwrap_or_default();
        let named = || named_token(folder, "eos_token").and_then(|token| tokenizer.token_to_id(&token));
        let (eos, ending) = (ending.last().copied().or_else(named).map(|id| id as i32), ending.len());
        let spaced_words = tokenizer.get_pre_tokenizer().is_some_and(|splits| {
            let splits = serde_json::to_value(splits).unwrap_or_default();
            let parts = splits["pretokenizers"].as_array().cloned().unwrap_or_else(|| vec![splits]);
            parts.iter().any(|part| part["type"] == "ByteLevel" && part["add_prefix_space"] == false)
        });
        Ok(TextEncoder { tokenizer, whole, tokenization, eos, ending, spaced_words })
    }

    pub fn tokenization(&self) -> &Tokenization {
        &self.tokenization
    }

    pub fn refuses_long_rows(&self) -> bool {
        self.tokenization.truncation == Truncation::DoNotTruncate
    }

    /// All tokens of a text that goes on: with what the tokenizer puts before it, without what it puts after it.
    pub fn prompt(&self, text: &str) -> Result<Vec<i32>> {
        let mut ids = self.ids(text, true)?;
        ids.truncate(ids.len().saturating_sub(self.ending));
        Ok(ids)
    }

    /// All tokens of a text that is whole, with the one that ends it.
    pub fn document(&self, text: &str) -> Result<Vec<i32>> {
        let mut ids = self.ids(text, true)?;
        if self.ending == 0 {
            ids.extend(self.eos);
        }
        Ok(ids)
    }

    /// The first special token of a text.
    pub(super) fn first_special(&self, text: &str) -> Option<i32> {
        let special = |id: &i32| self.whole.id_to_token(*id as u32).is_some_and(|token| self.whole.get_added_vocabulary().is_special_token(&token));
        self.ids(text, false).ok()?.into_iter().find(special)
    }

    /// The token that ends a text, where the tokenizer has or names one.
    pub fn eos(&self) -> Option<i32> {
        self.eos
    }

    /// All tokens of a text, whatever their number. `special`: with those that the tokenizer puts around a text.
    pub fn ids(&self, text: &str, special: bool) -> Result<Vec<i32>> {
        let encoding = self.whole.encode_fast(text, special).map_err(|_| cannot_encode())?;
        Ok(encoding.get_ids().iter().map(|&id| id as i32).collect())
    }

    /// All tokens of a text without any around it, and where in it each stands, in bytes.
    pub(super) fn ids_with_offsets(&self, text: &str) -> Result<PlacedTokens> {
        let encoding = self.whole.encode(text, false).map_err(|_| cannot_encode())?;
        Ok(PlacedTokens { ids: encoding.get_ids().iter().map(|&id| id as i32).collect(), places: encoding.get_offsets().to_vec() })
    }

    /// A text of tokens, special ones left out unless `special`.
    pub fn decode(&self, ids: &[u32], special: bool) -> Result<String> {
        self.whole.decode(ids, !special).map_err(|_| Error::stage("the tokenizer cannot decode what the model wrote"))
    }

    /// A row of given words, and the word that each of its tokens is of.
    pub fn words(&self, words: &[String]) -> Result<(EncodedRow, Vec<Option<usize>>)> {
        let spaced: Vec<String>;
        let words = if self.spaced_words {
            spaced = words.iter().map(|word| format!(" {word}")).collect();
            &spaced
        } else {
            words
        };
        let whole = self.whole.encode(words, false).map_err(|_| cannot_encode())?;
        let tokens = whole.len() + self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        let encoding = self.tokenizer.post_process(whole, None, true).map_err(|_| cannot_encode())?;
        let mut row = encoded_row(&encoding, tokens - encoding.len());
        let mut word_of: Vec<Option<usize>> = encoding.get_word_ids().iter().map(|word| word.map(|word| word as usize)).collect();
        self.pad(&mut row);
        word_of.resize(row.ids.len(), None);
        Ok((row, word_of))
    }

    /// Windows over `context`, each with the question before it, that share the tokens of `doc_stride`; and where in the context
    /// each token stands, in characters, −1 twice for what is none of it. Nothing where the question leaves no room.
    pub fn windows(&self, question: &str, context: &str) -> Result<Option<Vec<WindowTokens>>> {
        let whole = |text: &str| self.whole.encode_char_offsets(text, false).map_err(|_| cannot_encode());
        let text: Vec<char> = context.chars().collect();
        let (question, context) = (whole(question)?, whole(context)?);
        let ends = ends_of_letters(&text, context.get_offsets());
        let special = self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(true));
        let (length, stride) = (self.tokenization.max_length, self.tokenization.doc_stride.unwrap_or(0));
        let room = length.saturating_sub(question.len() + special);
        if room <= stride {
            return Ok(None);
        }
        let mut context = context;
        let longer = context.len() > room;
        context.truncate(room.min(context.len().max(1)), if longer { stride } else { 0 }, TruncationDirection::Right);
        let pieces: Vec<Encoding> = context.take_overflowing();
        let mut windows = Vec::with_capacity(1 + pieces.len());
        for piece in std::iter::once(context).chain(pieces) {
            let encoding = self.whole.post_process(question.clone(), Some(piece), true).map_err(|_| cannot_encode())?;
            let sequences = encoding.get_sequence_ids();
            let mut offsets = Vec::with_capacity(2 * encoding.len());
            for (&(start, end), sequence) in encoding.get_offsets().iter().zip(sequences) {
                offsets.extend(if sequence == Some(1) { [start as i32, if end > start { ends[end] as i32 } else { end as i32 }] } else { [-1, -1] });
            }
            let mut row = encoded_row(&encoding, 0);
            self.pad(&mut row);
            offsets.resize(2 * row.ids.len(), -1);
            windows.push(WindowTokens { tokens: row, offsets });
        }
        Ok(Some(windows))
    }

    /// Encodes rows on all cores, in order.
    pub fn encode(&self, texts: Vec<String>, pairs: Option<Vec<String>>) -> Result<Vec<EncodedRow>> {
        let encoded: Result<Vec<EncodedRow>, tokenizers::Error> = match pairs {
            None => texts.into_par_iter().map(|text| self.row(&text, None)).collect(),
            Some(pairs) => texts.into_par_iter().zip(pairs).map(|(text, pair)| self.row(&text, Some(&pair))).collect(),
        };
        // The library's message may quote the text.
        encoded.map_err(|_| {
            Error::stage("the tokenizer cannot encode a row")
                .hint("with `truncation: only_first` or `only_second` the other text may alone be too long")
        })
    }

    fn row(&self, text: &str, pair: Option<&str>) -> Result<EncodedRow, tokenizers::Error> {
        // First without truncation, so that what it takes away can be counted.
        let whole = |text: &str| self.whole.encode_fast(text, false);
        let (first, second) = (whole(text)?, pair.map(whole).transpose()?);
        let special = self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(pair.is_some()));
        let tokens = first.len() + second.as_ref().map_or(0, Encoding::len) + special;
        let encoding = self.tokenizer.post_process(first, second, true)?;
        let mut row = encoded_row(&encoding, tokens - encoding.len());
        self.pad(&mut row);
        Ok(row)
    }

    fn pad(&self, row: &mut EncodedRow) {
        if self.tokenization.padding == Padding::MaxLength {
            row.ids.resize(self.tokenization.max_length, self.tokenization.pad_token_id as i32);
            row.type_ids.resize(self.tokenization.max_length, self.tokenization.pad_token_type_id as i8);
            row.mask.resize(self.tokenization.max_length, 0);
        }
    }
}

fn encoded_row(encoding: &Encoding, lost: usize) -> EncodedRow {
    EncodedRow {
        ids: encoding.get_ids().iter().map(|&id| id as i32).collect(),
        type_ids: encoding.get_type_ids().iter().map(|&id| id as i8).collect(),
        mask: vec![1; encoding.len()],
        lost,
    }
}

/// The library's message may quote the text.
fn cannot_encode() -> Error {
    Error::stage("the tokenizer cannot encode a row")
}

/// The text of a special token that a tokenizer's config names.
fn named_token(folder: &Path, name: &str) -> Option<String> {
    let config = json(&folder.join("tokenizer_config.json"))?;
    let token = config.get(name)?;
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}

fn read(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join(TOKENIZER);
    if !path.is_file() {
        return Err(Error::input(format!("{} has no tokenizer.json", folder.display()))
            .hint("a model folder saved by transformers with a fast tokenizer has one; the example model comes with `cargo xtask setup`"));
    }
    std::fs::read(&path).doing("read", &path)
}

fn parse(folder: &Path, bytes: &[u8]) -> Result<Tokenizer> {
    Tokenizer::from_bytes(bytes).map_err(|_| Error::input(format!("{} is not a tokenizer that can be read", folder.join(TOKENIZER).display())))
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// The smaller of what the tokenizer's and the model's config allow.
pub fn length_limit(folder: &Path) -> Option<usize> {
    let tokenizer =
        json(&folder.join("tokenizer_config.json")).and_then(|config| config.get("model_max_length")?.as_u64()).filter(|&limit| limit < NO_LIMIT);
    // A family that pipe knows may call it otherwise, or leave some positions to itself.
    let model = ModelConfig::read(folder).map(|config| config.max_length() as u64).ok();
    let model = model.or_else(|| json(&folder.join("config.json")).and_then(|config| config.get("max_position_embeddings")?.as_u64()));
    tokenizer.into_iter().chain(model).min().map(|limit| limit as usize)
}

/// From the tokenizer's own padding settings, else from the name of its padding token.
fn padding_ids(tokenizer: &Tokenizer, folder: &Path) -> Result<(u32, u32)> {
    if let Some(padding) = tokenizer.get_padding() {
        return Ok((padding.pad_id, padding.pad_type_id));
    }
    let candidates = named_token(folder, "pad_token").into_iter().chain(["[PAD]", "<pad>", "<|endoftext|>", "</s>"].map(str::to_owned));
    let found = candidates.into_iter().find_map(|token| tokenizer.token_to_id(&token));
    found.map(|id| (id, 0)).ok_or_else(|| Error::input(format!("the tokenizer in {} has no padding token", folder.display())))
}

/// For each place in a text where a token may end, where what it wrote ends: marks that the tokenizer takes off letters are
/// in no token, and belong to the one before them.
fn ends_of_letters(text: &[char], tokens: &[(usize, usize)]) -> Vec<usize> {
    let mut is_read = vec![false; text.len()];
    for &(start, end) in tokens {
        is_read[start.min(text.len())..end.min(text.len())].fill(true);
    }
    let mut ends: Vec<usize> = (0..=text.len()).collect();
    for at in (0..text.len()).rev() {
        if !is_read[at] && is_combining_mark(text[at]) {
            ends[at] = ends[at + 1];
        }
    }
    ends
}
