//! Which weights stay as they are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Complaint;

/// Weights that are not trained.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FreezeConfig {
    /// Those of words, positions and token types.
    pub embeddings: bool,
    /// This many layers, from the lowest on.
    pub layers: usize,
    /// Names of parameters, such as `bert.encoder.layer.0.*`; `*` stands for anything.
    pub patterns: Vec<String>,
}

impl FreezeConfig {
    pub(super) fn check(&self) -> Result<(), Complaint> {
        match self.patterns.iter().find(|pattern| pattern.chars().all(|c| c == '*')) {
            Some(pattern) => Err(Complaint::new("freeze.patterns", format!("`{pattern}` would freeze every weight, so that nothing is trained"))),
            None => Ok(()),
        }
    }
}
