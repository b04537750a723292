//! What `pipe` and its worker `pipe-train` say to each other.
//!
//! `pipe` writes one line of JSON, a [`Request`], to the worker's standard input and keeps it open: the worker
//! ends when it closes. The worker answers with one [`Event`] per line on descriptor [`EVENT_FD`], the first of
//! which is `hello` with its build id. SIGTERM asks it to save a checkpoint and end.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cache::SharedShards;
use crate::config::{EvaluateConfig, PredictConfig, TrainConfig};
use crate::error::Error;

/// The descriptor that events are written to.
pub const EVENT_FD: i32 = 3;
/// The descriptor on which the worker inherits the key's lock.
pub const LOCK_FD: i32 = 4;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub command: Command,
    /// Resolved: never `auto`.
    pub device: ResolvedDevice,
    /// Absent: one per core.
    pub threads: Option<usize>,
    /// Folder with `libtorch_cuda.so`, when a GPU is asked for.
    pub cuda_libraries: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolvedDevice {
    Cpu,
    Cuda,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Fine-tune: writes a model folder to `out`, checkpoints to `scratch`, timed records to `record`.
    /// `model` is the pretrained model's folder or the new one's `config.json`; absent where `config` has all of it.
    Train { config: Box<TrainConfig>, model: Option<PathBuf>, tokens: PathBuf, out: PathBuf, scratch: PathBuf, record: PathBuf },
    /// Write `metrics.json` for one split to `out`.
    Evaluate { config: EvaluateConfig, model: PathBuf, tokens: PathBuf, split: String, out: PathBuf, scratch: PathBuf },
    /// Write `predictions.parquet` for some rows to `out`.
    Predict(Box<PredictRequest>),
    /// Write logits of some rows of one split to the safetensors file `out`: `batch{i}.input_ids`,
    /// `.attention_mask`, `.token_type_ids` (i64 `[rows, length]`) and `.logits` (f32 `[rows, classes]`).
    Reference { model: PathBuf, tokens: PathBuf, split: String, rows: usize, out: PathBuf, scratch: PathBuf },
}

/// What a trained model is to say of rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PredictRequest {
    pub config: PredictConfig,
    /// The pipeline's root, which the path of a key is relative to.
    pub root: PathBuf,
    pub model: PathBuf,
    /// The folder of an artifact of rows, and which of its splits are meant.
    pub rows: PathBuf,
    pub splits: BTreeMap<String, u64>,
    /// All that scores follow from beside the rows, as shards are known by it.
    pub identity: Value,
    pub shards: SharedShards,
    pub out: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Always the first.
    Hello {
        build: String,
    },
    Progress {
        done: u64,
        total: u64,
        unit: String,
        detail: String,
    },
    Note {
        text: String,
    },
    Done(Summary),
    Error(Error),
}

/// What a stage says of its result, beside the result itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows per split of the artifact; empty for artifacts that are not rows.
    #[serde(default)]
    pub splits: BTreeMap<String, u64>,
    /// Rows worked on.
    pub rows: u64,
    /// One short line for the terminal.
    pub line: String,
    /// Several lines for the terminal, such as a table of metrics.
    #[serde(default)]
    pub table: String,
    /// Figures for `run.json`.
    #[serde(default)]
    pub figures: BTreeMap<String, Value>,
}
