//! A tokenizer trained on the rows: what `train_tokenizer:` asks for.
//!
//! Its bytes follow from the rows and the settings alone. The library's trainers go through hash maps whose order is another
//! one in every process, and of equally good pieces they take the one met first; so the words are counted here, byte pairs are
//! merged here ([`merges`]), and what the library's unigram trainer leaves to chance is put in order ([`unigram`]).
//! Normalisation, splitting, models and templates are the library's.

mod alphabet;
mod files;
mod merges;
#[cfg(test)]
mod tests;
mod unigram;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::RecordBatch;
use pipe_core::cache::Artifact;
use pipe_core::config::{TokenizerKind, TrainTokenizerConfig};
use pipe_core::{Error, Progress, Result};
use serde::Serialize;

use super::{lists, messages, strings};
use crate::parquet_io::TableReader;
use crate::parts::parts_of;
use alphabet::Alphabet;
use words::WordCounts;

/// Special tokens of BERT, in the order of their ids.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// As many positions as BERT has, where `max_length` does not say.
const DEFAULT_MAX_LENGTH: usize = 512;

/// What `report.json` says of a tokenizer that was trained.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TrainedTokenizer {
    pub(super) kind: TokenizerKind,
    pub(super) split: String,
    pub(super) rows: u64,
    pub(super) words: u64,
    pub(super) characters: usize,
    pub(super) vocab_size: usize,
}

/// A vocabulary in the order of its ids, special tokens first, and what else the model of its kind consists of.
enum Pieces {
    Wordpiece(Vec<String>),
    Bpe(Vec<String>, Vec<(String, String)>),
    Unigram(Vec<(String, f64)>),
}

impl Pieces {
    fn len(&self) -> usize {
        match self {
            Pieces::Wordpiece(names) | Pieces::Bpe(names, _) => names.len(),
            Pieces::Unigram(pieces) => pieces.len(),
        }
    }
}

/// Trains on the split for training of the ingest artifact `rows`, and writes the tokenizer's files to `folder`.
pub(super) fn train(
    config: &TrainTokenizerConfig,
    max_length: Option<usize>,
    rows: &Artifact,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<TrainedTokenizer> {
    let split = split_to_train_on(&rows.manifest.splits)?;
    let total = rows.manifest.splits[split];
    let mut counts = WordCounts::new(files::skeleton(config)?);
    let mut done = 0;
    for part in parts_of(rows, &BTreeMap::from([(split.to_owned(), total)])) {
        part.verify()?;
        for batch in TableReader::open(&part.path)? {
            progress.check()?;
            let batch = batch?;
            for texts in texts(&batch)? {
                counts.add(&texts)?;
            }
            done += batch.num_rows() as u64;
            progress.advance(done, total, "rows", "counting words");
        }
    }
    let words = counts.finish();
    let different = words.len() as u64;
    let (pieces, characters) = learn(config, words, progress)?;
    files::write(config, &pieces, max_length.unwrap_or(DEFAULT_MAX_LENGTH), folder)?;
    let trained = TrainedTokenizer { kind: config.kind, split: split.to_owned(), rows: done, words: different, characters, vocab_size: pieces.len() };
    progress.note(&format!("a new tokenizer of {} tokens, from {different} different words of {done} rows", trained.vocab_size));
    Ok(trained)
}

/// The texts of all columns that a model will read.
fn texts(batch: &RecordBatch) -> Result<Vec<Vec<String>>> {
    let has = |column: &&str| batch.column_by_name(column).is_some();
    let mut texts = Vec::new();
    for column in ["text", "text_pair", "question", "context", "prompt", "completion"].iter().filter(|column| has(column)) {
        texts.push(strings(batch, column)?);
    }
    if has(&"tokens") {
        texts.extend(lists(batch, "tokens")?);
    }
    if has(&"messages") {
        texts.extend(messages(batch)?.into_iter().map(|chat| chat.into_iter().map(|turn| turn.content).collect()));
    }
    if texts.is_empty() && batch.num_rows() > 0 {
        return Err(Error::input("the rows to train a tokenizer on have no column of texts").hint("map one in ingest's `columns:`"));
    }
    Ok(texts)
}

/// Never rows that a model is judged by.
pub fn split_to_train_on(splits: &BTreeMap<String, u64>) -> Result<&str> {
    ["train", "all"].into_iter().find(|split| splits.contains_key(*split)).ok_or_else(|| {
        Error::input("a tokenizer is trained on the split `train`, which the input does not have")
            .hint("give ingest's `split:` a share for `train`, or name a given tokenizer")
    })
}

/// The pieces, and how many characters they are made of.
fn learn(config: &TrainTokenizerConfig, words: Vec<(String, u64)>, progress: &dyn Progress) -> Result<(Pieces, usize)> {
    let alphabet = Alphabet::of(&words, config);
    let words: Vec<(String, u64)> = words.into_iter().filter(|(word, _)| alphabet.spells(word)).collect();
    if words.is_empty() {
        return Err(Error::input("there are no words to train a tokenizer on").hint("the split `train` is empty, or its texts are"));
    }
    let pieces = match config.kind {
        TokenizerKind::Wordpiece | TokenizerKind::Bpe => {
            let mut vocabulary = merges::Vocabulary::new(SPECIAL.iter().map(|token| (*token).to_owned()).chain(alphabet.forms().iter().cloned()));
            let merged = merges::merge(config, &words, &mut vocabulary, progress)?;
            match config.kind {
                TokenizerKind::Bpe => Pieces::Bpe(vocabulary.into_names(), merged),
                _ => Pieces::Wordpiece(vocabulary.into_names()),
            }
        }
        TokenizerKind::Unigram => Pieces::Unigram(unigram::train(config, words)?),
    };
    Ok((pieces, alphabet.len()))
}
