//! Settings of `predict`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Complaint, KeySource};
use crate::generate::GenerationConfig;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PredictConfig {
    /// A folder written by `export`; absent: the export stage named in `from:`.
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
    /// Threads of ONNX Runtime; absent: one per core.
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
            threads: None,
        }
    }
}

impl PredictConfig {
    pub(super) fn check(&self) -> Result<(), Complaint> {
        if self.tokens_per_batch == 0 {
            return Err(Complaint::new("tokens_per_batch", "a batch holds at least one token"));
        }
        self.generation.check("generation")?;
        self.key.as_ref().map_or(Ok(()), |key| key.check("key"))
    }
}
