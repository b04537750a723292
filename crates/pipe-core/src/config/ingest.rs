//! Settings of `ingest`: which records, which columns, what is scrubbed, how rows are split.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ColumnsConfig, Complaint, Conflicts, Dedup, LabelsConfig, NearConfig, ScrubConfig, SourceConfig, SplitConfig, in_range};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Which files.
    pub source: SourceConfig,
    /// Which column plays which role; all others are dropped.
    pub columns: ColumnsConfig,
    /// What personal data is replaced by a placeholder.
    pub scrub: ScrubConfig,
    /// Names of classes.
    pub labels: LabelsConfig,
    /// Whether rows of equal text are kept.
    pub dedup: Dedup,
    /// With `dedup: near`.
    pub near: NearConfig,
    /// What happens to rows of equal text whose labels differ.
    pub conflicts: Conflicts,
    /// Absent: one split named `all`.
    pub split: Option<SplitConfig>,
    /// How many bad records are too many.
    pub rejects: RejectsConfig,
    /// Compares what came in with the last good run.
    pub drift: DriftConfig,
    /// About so many rows are in one file of a split: what later stages make again when a row in it changes.
    pub shard_rows: usize,
}

impl Default for IngestConfig {
    fn default() -> Self {
        IngestConfig {
            source: SourceConfig::default(),
            columns: ColumnsConfig::default(),
            scrub: ScrubConfig::default(),
            labels: LabelsConfig::default(),
            dedup: Dedup::default(),
            near: NearConfig::default(),
            conflicts: Conflicts::default(),
            split: None,
            rejects: RejectsConfig::default(),
            drift: DriftConfig::default(),
            shard_rows: 32_768,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RejectsConfig {
    /// More rejected rows than this share fail the stage.
    pub max_ratio: f64,
    /// More rejected rows than this fail the stage.
    pub max_count: Option<u64>,
    /// The public key that raw bytes of rejected records are sealed to, as `pipe keygen --recipient` prints it; absent: they are dropped.
    pub recipient: Option<String>,
}

impl Default for RejectsConfig {
    fn default() -> Self {
        RejectsConfig { max_ratio: 0.2, max_count: None, recipient: None }
    }
}

/// How far an ingest may stray from that of the last good run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DriftConfig {
    /// Largest change of the number of rows, as a share of the last good run's: 0.5 allows half as many more or fewer.
    pub max_row_change: Option<f64>,
    /// Tell of columns that came or went.
    pub columns: bool,
    /// What drift does: a note, or an end with exit code 11 before anything reads the rows.
    pub action: DriftAction,
}

impl Default for DriftConfig {
    fn default() -> Self {
        DriftConfig { max_row_change: Some(0.5), columns: true, action: DriftAction::Warn }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DriftAction {
    #[default]
    Warn,
    Gate,
}

impl IngestConfig {
    /// The splits of the output.
    pub fn split_names(&self) -> Vec<&'static str> {
        self.split.as_ref().map_or_else(|| vec!["all"], |split| split.shares().into_iter().map(|(name, _)| name).collect())
    }

    pub(super) fn check(&self) -> Result<(), Complaint> {
        self.source.check()?;
        self.columns.check(&self.labels)?;
        self.scrub.check()?;
        self.near.check()?;
        in_range("rejects.max_ratio", self.rejects.max_ratio, 0.0..=1.0)?;
        if self.rejects.recipient.is_some() && self.scrub.key.is_none() {
            return Err(Complaint::new("rejects.recipient", "sealing needs a key of your own too, so that equal input gives equal bytes")
                .hint("make one with `pipe keygen FILE` and add `scrub: { key: { file: FILE } }`"));
        }
        in_range("drift.max_row_change", self.drift.max_row_change.unwrap_or(0.0), 0.0..=f64::INFINITY)?;
        // Fewer rows would be more files than a file system likes, more would not be held in memory at once.
        in_range("shard_rows", self.shard_rows as f64, 16.0..=f64::from(1 << 20))?;
        if self.conflicts == Conflicts::Drop && self.columns.target().is_none() {
            return Err(Complaint::new("conflicts", "there are no labels that could differ").hint("add `columns: { label: … }`"));
        }
        if let Some(split) = &self.split {
            split.check(self.columns.target().map(|(role, _)| role), self.columns.time.is_some())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stratified_split_and_conflicts_need_what_they_go_by() {
        let complaint = |columns: serde_json::Value, by: &str| {
            let split = json!({"train": 0.8, "test": 0.2, "by": by});
            let config: IngestConfig =
                serde_json::from_value(json!({"source": {"paths": ["a.csv"]}, "columns": columns, "conflicts": "drop", "split": split})).unwrap();
            config.check().err().map(|complaint| (complaint.setting, complaint.message))
        };
        let error = |setting: &str, message: &str| Some((setting.to_owned(), message.to_owned()));
        for columns in [json!({"labels": "l"}), json!({"value": "v"}), json!({"tokens": "w", "tags": "t"})] {
            let role = if columns.get("tags").is_some() { "tags" } else { columns.as_object().unwrap().keys().next().unwrap() };
            assert_eq!(complaint(columns.clone(), "hash"), None);
            let expected = format!("a stratified split needs one class per row, which `{role}` is not");
            assert_eq!(complaint(columns.clone(), "stratified"), error("split.by", &expected));
        }
        assert_eq!(complaint(json!({"label": "l"}), "stratified"), None);
        assert_eq!(complaint(json!({"tokens": "w"}), "hash"), error("conflicts", "there are no labels that could differ"));
    }
}
