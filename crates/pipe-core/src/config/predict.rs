//! Settings of `predict`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Complaint, Device, KeySource, kept_columns};
use crate::generate::GenerationConfig;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PredictConfig {
    /// A folder written by `export`; absent: the export or train stage named in `from:`.
    pub model: Option<PathBuf>,
    /// Upper bound of rows × longest row in one batch, in tokens: caps memory, and padding is what costs time.
    pub tokens_per_batch: usize,
    /// Apply the scrub policy the model was trained with.
    pub scrub: bool,
    /// The key that the model's scrub policy needs, where it has keyed operators.
    pub key: Option<KeySource>,
    /// The model that the scrub policy finds names with: the folder that `scrub.ner.model` of the ingest named.
    pub ner: Option<PathBuf>,
    /// How a language model writes.
    pub generation: GenerationConfig,
    /// Columns of the rows that are written beside what the model says of them: `group`, `time` or those of `columns.extra`.
    pub keep_columns: Vec<String>,
    /// Matrix products in bfloat16; of a trained model, not of an export.
    pub bf16: bool,
    /// Of a trained model; an export runs on the CPU.
    pub device: Device,
    /// Threads of ONNX Runtime, or of libtorch for a trained model; absent: one per core.
    pub threads: Option<usize>,
}

impl Default for PredictConfig {
    fn default() -> Self {
        PredictConfig {
            model: None,
            tokens_per_batch: 1024,
            scrub: true,
            key: None,
            ner: None,
            generation: GenerationConfig::default(),
            keep_columns: Vec::new(),
            bf16: false,
            device: Device::Auto,
            threads: None,
        }
    }
}

impl PredictConfig {
    pub(super) fn check(&self) -> Result<(), Complaint> {
        if self.tokens_per_batch == 0 {
            return Err(Complaint::new("tokens_per_batch", "a batch holds at least one token"));
        }
        kept_columns(&self.keep_columns)?;
        self.generation.check("generation")?;
        self.key.as_ref().map_or(Ok(()), |key| key.check("key"))
    }
}
