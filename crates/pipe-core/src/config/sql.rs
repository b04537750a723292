//! Settings of `sql`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Complaint;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SqlConfig {
    /// One `SELECT`. Its tables are the stages of `from:`: `ingest`, or one split of it: `ingest.train`.
    pub query: String,
    /// Whether each split of the first stage of `from:` is queried by itself, or all rows together.
    pub split: SqlSplit,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SqlSplit {
    /// Once per split, whose rows are what the stage's name stands for; the output has the same splits.
    #[default]
    Each,
    /// Once over all rows, whose split is in a column `split`; the output is one table.
    All,
}

impl SqlConfig {
    pub(super) fn check(&self) -> Result<(), Complaint> {
        if self.query.trim().is_empty() {
            return Err(Complaint::missing("query", "\"SELECT * FROM ingest\""));
        }
        Ok(())
    }
}
