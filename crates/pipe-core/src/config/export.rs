//! Settings of `export`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Complaint, in_range};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExportConfig {
    /// What is written.
    pub format: ExportFormat,
    /// How closely the export must score as the trained model does.
    pub parity: ParityConfig,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    #[default]
    Onnx,
}

/// How far the exported graph may stray from the trained model, and on how much that is checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ParityConfig {
    /// Largest absolute difference of any logit.
    pub max_abs_diff: f64,
    /// Rows compared, spread over the lengths that occur.
    pub rows: usize,
}

impl Default for ParityConfig {
    fn default() -> Self {
        ParityConfig { max_abs_diff: 1e-4, rows: 64 }
    }
}

impl ExportConfig {
    pub(super) fn check(&self) -> Result<(), Complaint> {
        in_range("parity.max_abs_diff", self.parity.max_abs_diff, 0.0..=f64::INFINITY)?;
        if self.parity.rows == 0 {
            return Err(Complaint::new("parity.rows", "parity is checked on at least one row"));
        }
        Ok(())
    }
}
