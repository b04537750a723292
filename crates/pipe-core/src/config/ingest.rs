//! Settings of `ingest`: which records, which columns, what is scrubbed, how rows are split.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{Complaint, HumanDuration, in_range, known_name};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Which files.
    pub source: SourceConfig,
    /// Which column plays which role; all others are dropped.
    pub columns: ColumnsConfig,
    /// What personal data is replaced by a placeholder.
    pub scrub: ScrubConfig,
    /// Whether rows of equal text are kept.
    pub dedup: Dedup,
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
            dedup: Dedup::default(),
            split: None,
            rejects: RejectsConfig::default(),
            drift: DriftConfig::default(),
            shard_rows: 32_768,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConfig {
    /// Files or glob patterns, relative to the pipeline's root; or `file://`, `http(s)://`, `s3://` and `hf://` URLs.
    pub paths: Vec<String>,
    /// Absent: by the file's extension.
    pub format: Option<SourceFormat>,
    /// A WHATWG label (`utf-8`, `gb18030`, `windows-1252`, …) or `mac-roman`.
    pub encoding: String,
    /// CSV and TSV: one byte; absent: `,` for CSV and tab for TSV.
    pub delimiter: Option<String>,
    /// Refuses files that were written to less than this long ago: they may still be arriving.
    pub settle: Option<HumanDuration>,
    /// Refuses to start with fewer files than this.
    pub min_files: Option<usize>,
}

impl Default for SourceConfig {
    fn default() -> Self {
        SourceConfig { paths: Vec::new(), format: None, encoding: "utf-8".into(), delimiter: None, settle: None, min_files: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceFormat {
    Csv,
    Tsv,
    Jsonl,
    Parquet,
}

impl SourceFormat {
    /// By extension; what `pipe predict` and a source without `format:` go by.
    pub fn of_path(path: &std::path::Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(SourceFormat::Csv),
            "tsv" => Some(SourceFormat::Tsv),
            "jsonl" | "ndjson" => Some(SourceFormat::Jsonl),
            "parquet" => Some(SourceFormat::Parquet),
            _ => None,
        }
    }
}

/// Which column of the source plays which role. Columns not named here are dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ColumnsConfig {
    /// The column with the text.
    pub text: String,
    /// The column with the second text, for pairs.
    pub text_pair: Option<String>,
    /// The column with the class; absent: rows to be scored.
    pub label: Option<String>,
    /// The column with each row's id, written as it is: no personal data. Absent: file digest and record number.
    pub id: Option<String>,
}

impl Default for ColumnsConfig {
    fn default() -> Self {
        ColumnsConfig { text: "text".into(), text_pair: None, label: None, id: None }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScrubConfig {
    /// `standard`, `strict`, `minimal` or `none`.
    #[schemars(schema_with = "policy_schema")]
    pub policy: String,
    /// Exactly these entity types instead of the policy's.
    #[schemars(schema_with = "entities_schema")]
    pub entities: Option<Vec<String>>,
    /// Take the policy that a finished model was trained with.
    pub model: Option<PathBuf>,
}

impl Default for ScrubConfig {
    fn default() -> Self {
        ScrubConfig { policy: "standard".into(), entities: None, model: None }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dedup {
    /// Rows of equal raw text: the first one stays.
    #[default]
    Exact,
    /// All rows stay.
    None,
}

/// Shares of the splits. A row's place follows from a keyed hash of its text alone: new rows never move old ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// Share of the rows that train.
    pub train: f64,
    /// Share of the rows that are evaluated while training.
    #[serde(default)]
    pub validation: f64,
    /// Share of the rows that are kept for the end.
    #[serde(default)]
    pub test: f64,
    /// Another one gives other splits.
    #[serde(default = "default_seed")]
    pub seed: u64,
}

fn default_seed() -> u64 {
    42
}

impl SplitConfig {
    /// Split names with their shares, in the order that thresholds are laid out; empty ones left out.
    pub fn shares(&self) -> Vec<(&'static str, f64)> {
        let all = [("train", self.train), ("validation", self.validation), ("test", self.test)];
        all.into_iter().filter(|(_, share)| *share > 0.0).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RejectsConfig {
    /// More rejected rows than this share fail the stage.
    pub max_ratio: f64,
    /// More rejected rows than this fail the stage.
    pub max_count: Option<u64>,
}

impl Default for RejectsConfig {
    fn default() -> Self {
        RejectsConfig { max_ratio: 0.2, max_count: None }
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

/// The names `scrub.policy` knows.
const POLICIES: [&str; 4] = ["standard", "strict", "minimal", "none"];
/// The names `scrub.entities` knows.
const ENTITIES: [&str; 6] = ["email", "phone", "url", "user_handle", "ip_address", "card_number"];

fn policy_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": POLICIES})
}

fn entities_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["array", "null"], "items": {"enum": ENTITIES}})
}

impl IngestConfig {
    /// The splits of the output.
    pub fn split_names(&self) -> Vec<&'static str> {
        self.split.as_ref().map_or_else(|| vec!["all"], |split| split.shares().into_iter().map(|(name, _)| name).collect())
    }

    pub(super) fn check(&self) -> Result<(), Complaint> {
        if self.source.paths.is_empty() {
            return Err(Complaint::missing("source", "{ paths: [\"data/*.csv\"] }"));
        }
        if let Some(delimiter) = &self.source.delimiter
            && delimiter.len() != 1
        {
            return Err(Complaint::new("source.delimiter", "the delimiter must be one ASCII character"));
        }
        known_name("scrub.policy", &self.scrub.policy, &POLICIES)?;
        for entity in self.scrub.entities.iter().flatten() {
            known_name("scrub.entities", entity, &ENTITIES)?;
        }
        in_range("rejects.max_ratio", self.rejects.max_ratio, 0.0..=1.0)?;
        in_range("drift.max_row_change", self.drift.max_row_change.unwrap_or(0.0), 0.0..=f64::INFINITY)?;
        // Fewer rows would be more files than a file system likes, more would not be held in memory at once.
        in_range("shard_rows", self.shard_rows as f64, 16.0..=f64::from(1 << 20))?;
        let columns = &self.columns;
        let mut roles = BTreeMap::new();
        for (role, column) in
            [("text", Some(&columns.text)), ("text_pair", columns.text_pair.as_ref()), ("label", columns.label.as_ref()), ("id", columns.id.as_ref())]
        {
            if let Some(column) = column
                && let Some(other) = roles.insert(column, role)
            {
                return Err(Complaint::new(format!("columns.{role}"), format!("the column `{column}` is both `{other}` and `{role}`")));
            }
        }
        if let Some(split) = &self.split {
            for (name, share) in [("train", split.train), ("validation", split.validation), ("test", split.test)] {
                in_range(&format!("split.{name}"), share, 0.0..=1.0)?;
            }
            let sum = split.train + split.validation + split.test;
            if (sum - 1.0).abs() > 1e-6 {
                return Err(Complaint::new("split", format!("the shares add up to {sum}, not to 1")));
            }
        }
        Ok(())
    }
}
