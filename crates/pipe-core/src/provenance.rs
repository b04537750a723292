//! `pipe.json` in a model folder: what must be done to a text before this model sees it.
//!
//! Written by tokenize, carried along by train and export, read by predict, so that what was scrubbed and cut in
//! training is scrubbed and cut in use.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, IoContext, Result};
use crate::task::Task;

pub const FILE_NAME: &str = "pipe.json";
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    pub version: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub task: Task,
    /// Class names in the order of the model's outputs; empty for unlabelled data.
    pub labels: Vec<String>,
    pub tokenize: Tokenization,
    /// The scrub policy's settings, as `scrub.json` of ingest has them.
    pub scrub: Value,
    pub scrub_digest: String,
}

/// How rows became tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tokenization {
    pub max_length: usize,
    pub truncation: crate::config::Truncation,
    pub padding: crate::config::Padding,
    pub pad_token_id: u32,
    pub pad_token_type_id: u32,
    pub vocab_size: usize,
    /// Rows are pairs of texts.
    pub text_pair: bool,
    /// Question answering: tokens of the context that a window shares with the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doc_stride: Option<usize>,
    /// Question answering: some questions have no answer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub no_answers: bool,
    /// Language models: what ended the texts that were learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos_token_id: Option<u32>,
    /// Language models: texts were chats.
    #[serde(default, skip_serializing_if = "is_default")]
    pub chat: bool,
    /// Language models of chats: the Jinja template of a text, where it is not the tokenizer's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// Digest of the tokenizer's files.
    pub tokenizer: String,
}

impl Provenance {
    pub fn new(task: Task, labels: Vec<String>, tokenize: Tokenization, scrub: Value, scrub_digest: String) -> Self {
        Provenance { version: VERSION, task, labels, tokenize, scrub, scrub_digest }
    }

    pub fn read(folder: &Path) -> Result<Provenance> {
        let path = folder.join(FILE_NAME);
        let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::input(format!("{} has no {FILE_NAME}", folder.display()))
                .hint("give a folder that pipe's export (or train) stage made: it says how texts are scrubbed and cut for this model"),
            _ => Error::io("read", &path, error),
        })?;
        let provenance: Provenance = serde_json::from_slice(&bytes)
            .map_err(|e| Error::input(format!("{} cannot be read (line {}, column {})", path.display(), e.line(), e.column())))?;
        if provenance.version != VERSION {
            return Err(Error::input(format!("{} has version {}, this pipe reads {VERSION}", path.display(), provenance.version)));
        }
        Ok(provenance)
    }

    /// Refuses data that were made with other classes or another tokenizer than this model.
    pub fn check_data(&self, data: &Provenance) -> Result<()> {
        if self.task != data.task {
            return Err(Error::input(format!("the model was trained for {}, these tokens are for {}", self.task.name(), data.task.name()))
                .hint("use tokens of its own pipeline"));
        }
        if (&self.labels, &self.tokenize.tokenizer) != (&data.labels, &data.tokenize.tokenizer) {
            return Err(Error::input("the model was trained with other classes or another tokenizer than these tokens")
                .hint("use tokens of its own pipeline"));
        }
        Ok(())
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE_NAME);
        std::fs::write(&path, serde_json::to_vec_pretty(self).expect("plain data")).doing("write", &path)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
