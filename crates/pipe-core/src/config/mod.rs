//! The settings of every stage, typed: one file per stage kind.
//!
//! All of them live here so that a machine without libtorch or ONNX Runtime validates, plans, explains and keys
//! the same file. A setting that equals its default stays out of the key, so adding one invalidates nothing.

mod base;
mod columns;
mod evaluate;
mod export;
mod ingest;
mod kept;
mod new_model;
mod predict;
mod run;
mod scrub;
mod source;
mod split;
mod sql;
mod tokenize;
mod train;
mod units;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::file::{Node, Problem, from_node, suggestion};
use kept::{distinct_columns, kept_columns};

pub use base::{Base, NewModel, Scratch};
pub use columns::{ColumnType, ColumnsConfig, ExtraColumn, LabelsConfig, ROLES, Unmapped};
pub use evaluate::{ConfidenceConfig, EvaluateConfig, EvaluateOf, Gate, GateOperator, TextTokenizer};
pub use export::{ExportConfig, ExportFormat, ParityConfig};
pub use ingest::{DriftAction, DriftConfig, IngestConfig, RejectsConfig};
pub use new_model::{ModelType, NewModelConfig};
pub use predict::PredictConfig;
pub use run::{NotifyConfig, Outcome, Overlap, Resources, RunConfig};
pub use scrub::{ColumnScrub, ENTITIES, EntityRule, KeySource, NerConfig, Operator, OperatorConfig, POLICIES, ScrubConfig, is_policy_file};
pub use source::{Compression, SourceConfig, SourceFormat};
pub use split::{Conflicts, Dedup, NearAction, NearConfig, SPLITS, SplitBy, SplitConfig};
pub use sql::{SqlConfig, SqlSplit};
pub use tokenize::{Padding, TokenizeConfig, TokenizerKind, TrainTokenizerConfig, Truncation};
pub use train::{
    ClassWeights, Device, FreezeConfig, IntervalStrategy, OptimizerArgs, OptimizerName, RampType, SamplingStrategy, SaveStrategy, SchedulerArgs,
    SchedulerType, ThresholdMode, TrainConfig,
};
pub use units::{ByteSize, HumanDuration};

/// The kinds of stage, as `uses:` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// Reads source files, scrubs personal data, drops duplicates, splits.
    Ingest,
    /// Turns texts into token ids with the model's tokenizer.
    Tokenize,
    /// Fine-tunes a model.
    Train,
    /// Measures a model on a split, and holds it to gates.
    Evaluate,
    /// Writes the trained model as ONNX.
    Export,
    /// Scores rows with an exported or a trained model, or has it write texts.
    Predict,
    /// Queries the rows of other stages.
    Sql,
}

impl StageKind {
    pub const ALL: [StageKind; 7] =
        [StageKind::Ingest, StageKind::Tokenize, StageKind::Train, StageKind::Evaluate, StageKind::Export, StageKind::Predict, StageKind::Sql];

    pub fn name(self) -> &'static str {
        match self {
            StageKind::Ingest => "ingest",
            StageKind::Tokenize => "tokenize",
            StageKind::Train => "train",
            StageKind::Evaluate => "evaluate",
            StageKind::Export => "export",
            StageKind::Predict => "predict",
            StageKind::Sql => "sql",
        }
    }

    /// All settings of this kind with their defaults, as they stand in keys.
    pub fn default_settings(self) -> Value {
        let to_value = |result: serde_json::Result<Value>| result.expect("settings are plain data");
        match self {
            StageKind::Ingest => to_value(serde_json::to_value(IngestConfig::default())),
            StageKind::Tokenize => to_value(serde_json::to_value(TokenizeConfig::default())),
            StageKind::Train => to_value(serde_json::to_value(TrainConfig::default())),
            StageKind::Evaluate => to_value(serde_json::to_value(EvaluateConfig::default())),
            StageKind::Export => to_value(serde_json::to_value(ExportConfig::default())),
            StageKind::Predict => to_value(serde_json::to_value(PredictConfig::default())),
            StageKind::Sql => to_value(serde_json::to_value(SqlConfig::default())),
        }
    }

    /// Part of every key. Bump when the same inputs and settings give other bytes than before.
    pub fn version(self) -> u32 {
        match self {
            StageKind::Ingest => 4,
            StageKind::Tokenize => 5,
            StageKind::Train => 5,
            StageKind::Evaluate => 2,
            StageKind::Export => 2,
            StageKind::Predict => 4,
            StageKind::Sql => 1,
        }
    }
}

/// The settings of one stage, by its kind.
#[derive(Debug, Clone, PartialEq)]
pub enum StageConfig {
    Ingest(Box<IngestConfig>),
    Tokenize(TokenizeConfig),
    Train(Box<TrainConfig>),
    Evaluate(EvaluateConfig),
    Export(ExportConfig),
    Predict(PredictConfig),
    Sql(SqlConfig),
}

/// A local file or folder whose content is part of the key, while its path is not.
#[derive(Debug, Clone, PartialEq)]
pub struct Asset {
    /// The setting that names it, for messages and `explain`.
    pub setting: &'static str,
    pub path: PathBuf,
    pub kind: AssetKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssetKind {
    /// `config.json` and the weights of a model folder.
    Model,
    /// A `config.json` alone.
    ModelConfig,
    /// The tokenizer's files of a model folder.
    Tokenizer,
    /// A folder written by the export stage.
    Export,
    /// `pipe.json` of a model folder: labels, scrub policy, tokenization.
    Provenance,
    /// A scrub policy's file.
    Policy,
    /// A folder with a token-classification model in ONNX.
    EntityModel,
}

impl StageConfig {
    /// Reads `with:` according to `uses:`.
    pub fn read(kind: StageKind, node: &Node) -> Result<Self, Problem> {
        let config = match kind {
            StageKind::Ingest => StageConfig::Ingest(Box::new(from_node(node)?)),
            StageKind::Tokenize => StageConfig::Tokenize(from_node(node)?),
            StageKind::Train => StageConfig::Train(Box::new(from_node(node)?)),
            StageKind::Evaluate => StageConfig::Evaluate(from_node(node)?),
            StageKind::Export => StageConfig::Export(from_node(node)?),
            StageKind::Predict => StageConfig::Predict(from_node(node)?),
            StageKind::Sql => StageConfig::Sql(from_node(node)?),
        };
        config.check().map_err(|complaint| complaint.at(node))?;
        Ok(config)
    }

    pub fn kind(&self) -> StageKind {
        match self {
            StageConfig::Ingest(_) => StageKind::Ingest,
            StageConfig::Tokenize(_) => StageKind::Tokenize,
            StageConfig::Train(_) => StageKind::Train,
            StageConfig::Evaluate(_) => StageKind::Evaluate,
            StageConfig::Export(_) => StageKind::Export,
            StageConfig::Predict(_) => StageKind::Predict,
            StageConfig::Sql(_) => StageKind::Sql,
        }
    }

    fn check(&self) -> Result<(), Complaint> {
        match self {
            StageConfig::Ingest(config) => config.check(),
            StageConfig::Tokenize(config) => config.check(),
            StageConfig::Train(config) => config.check(),
            StageConfig::Evaluate(config) => config.check(),
            StageConfig::Export(config) => config.check(),
            StageConfig::Predict(config) => config.check(),
            StageConfig::Sql(config) => config.check(),
        }
    }

    /// The settings that decide the output's bytes: defaults, paths, worker counts and gates left out.
    pub fn semantic(&self) -> Value {
        match self {
            StageConfig::Ingest(config) => {
                let mut left_out = vec!["source.paths", "source.settle", "source.min_files", "scrub.model", "scrub.key", "scrub.ner.model", "drift"];
                // A file's content counts, as an asset.
                left_out.extend(is_policy_file(&config.scrub.policy).then_some("scrub.policy"));
                semantic(config.as_ref(), &IngestConfig::default(), &left_out)
            }
            StageConfig::Tokenize(config) => {
                let mut value = semantic(&config.canonical(), &TokenizeConfig::default(), &["tokenizer", "max_skipped_ratio"]);
                strip_inner_defaults(&mut value, "/train_tokenizer", &TrainTokenizerConfig::default());
                value
            }
            StageConfig::Train(config) => {
                // A recomputed layer gives the bytes of a kept one, and which checkpoints are kept decides nothing.
                let mut left_out = vec!["model.train_tokenizer", "device", "torch_threads", "gradient_checkpointing", "save_total_limit"];
                // Tokens of another task are refused, so it decides nothing.
                left_out.push("task");
                // A path is keyed by what is there.
                if !matches!(config.model.new_model(), Some(NewModel::Inline(_))) {
                    left_out.push("model");
                }
                let mut value = semantic(&config.canonical(), &TrainConfig::default(), &left_out);
                strip_inner_defaults(&mut value, "/model/config", &NewModelConfig::default());
                value
            }
            StageConfig::Evaluate(config) => semantic(config, &EvaluateConfig::default(), &["model", "metrics", "gate", "device", "torch_threads"]),
            StageConfig::Export(config) => semantic(config, &ExportConfig::default(), &[]),
            StageConfig::Predict(config) => semantic(config, &PredictConfig::default(), &["model", "key", "ner", "device", "threads"]),
            StageConfig::Sql(config) => semantic(config, &SqlConfig::default(), &[]),
        }
    }

    /// Puts another path in the place of an asset's: where what a URL names was brought to.
    pub fn set_asset(&mut self, setting: &str, path: PathBuf) {
        match (self, setting) {
            (StageConfig::Ingest(config), "scrub.model") => config.scrub.model = Some(path),
            (StageConfig::Ingest(config), "scrub.policy") => config.scrub.policy = path.to_string_lossy().into_owned(),
            (StageConfig::Ingest(config), "scrub.ner.model") => {
                if let Some(ner) = &mut config.scrub.ner {
                    ner.model = path;
                }
            }
            (StageConfig::Tokenize(config), "tokenizer") => config.tokenizer = Base::Folder(path),
            (StageConfig::Train(config), "model") => config.model = Base::Folder(path),
            (StageConfig::Train(config), "model.config") => {
                config.model = Base::Scratch(Box::new(Scratch { train_tokenizer: None, config: Some(NewModel::File(path)) }));
            }
            (StageConfig::Predict(config), "model") => config.model = Some(path),
            (StageConfig::Predict(config), "ner") => config.ner = Some(path),
            (StageConfig::Evaluate(config), "model") => config.model = Some(path),
            _ => {}
        }
    }

    /// Files and folders whose content counts: paths relative to the pipeline's root, or URLs.
    pub fn assets(&self) -> Vec<Asset> {
        let asset = |setting, path: &PathBuf, kind| Asset { setting, path: path.clone(), kind };
        match self {
            StageConfig::Ingest(config) => {
                let scrub = &config.scrub;
                let policy = is_policy_file(&scrub.policy).then(|| asset("scrub.policy", &PathBuf::from(&scrub.policy), AssetKind::Policy));
                let model = scrub.model.iter().map(|path| asset("scrub.model", path, AssetKind::Provenance));
                let ner = scrub.ner.iter().map(|ner| asset("scrub.ner.model", &ner.model, AssetKind::EntityModel));
                policy.into_iter().chain(model).chain(ner).collect()
            }
            StageConfig::Tokenize(config) => {
                config.tokenizer.folder().map(|path| asset("tokenizer", path, AssetKind::Tokenizer)).into_iter().collect()
            }
            StageConfig::Train(config) => match (&config.model, config.model.new_model()) {
                (_, Some(NewModel::File(path))) => vec![asset("model.config", path, AssetKind::ModelConfig)],
                (Base::Folder(path), _) => vec![asset("model", path, AssetKind::Model)],
                (Base::Scratch(_), _) => Vec::new(),
            },
            StageConfig::Predict(config) => {
                let model = config.model.iter().map(|path| asset("model", path, AssetKind::Export));
                model.chain(config.ner.iter().map(|path| asset("ner", path, AssetKind::EntityModel))).collect()
            }
            StageConfig::Evaluate(config) => config.model.iter().map(|path| asset("model", path, AssetKind::Export)).collect(),
            StageConfig::Export(_) | StageConfig::Sql(_) => Vec::new(),
        }
    }
}

/// A setting with an impossible value: which one, why, and what to do.
#[derive(Debug)]
pub struct Complaint {
    /// Dotted path of the setting below `with:`.
    pub setting: String,
    pub message: String,
    pub hint: Option<String>,
}

impl Complaint {
    pub fn new(setting: impl Into<String>, message: impl Into<String>) -> Self {
        Complaint { setting: setting.into(), message: message.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn missing(setting: &str, example: &str) -> Self {
        Complaint::new(setting, format!("`{setting}` is missing")).hint(format!("add `{setting}: {example}`"))
    }

    /// Points at the setting if it was written down, else at the whole `with:`.
    pub(crate) fn at(self, node: &Node) -> Problem {
        let mut place = node;
        for part in self.setting.split('.') {
            match place.get(part) {
                Some(inner) => place = inner,
                None => break,
            }
        }
        Problem::new(place.span, self.message).maybe_hint(self.hint)
    }
}

/// Checks that a number lies in a range, for the many settings that need it.
pub(crate) fn in_range(setting: &str, value: f64, range: std::ops::RangeInclusive<f64>) -> Result<(), Complaint> {
    if range.contains(&value) {
        return Ok(());
    }
    let bound = match (*range.start(), *range.end()) {
        (low, high) if high == f64::INFINITY => format!("at least {low}"),
        (low, high) => format!("between {low} and {high}"),
    };
    Err(Complaint::new(setting, format!("`{setting}` must be {bound}")))
}

/// A name from a fixed list, with the nearest one as the hint.
pub(crate) fn known_name(setting: &str, name: &str, known: &[&str]) -> Result<(), Complaint> {
    if known.contains(&name) {
        return Ok(());
    }
    let mut complaint = Complaint::new(setting, format!("`{name}` is not known here"));
    complaint.hint = suggestion(name, known);
    Err(complaint)
}

fn semantic<C: Serialize>(config: &C, default: &C, left_out: &[&str]) -> Value {
    let to_value = |config| serde_json::to_value(config).expect("settings are plain data");
    let mut value = to_value(config);
    for path in left_out {
        remove(&mut value, path);
    }
    strip_defaults(&mut value, &to_value(default));
    value
}

/// The same for a mapping whose being there says something: it stays, even if all in it is left out.
fn strip_inner_defaults<C: Serialize>(value: &mut Value, pointer: &str, default: &C) {
    if let Some(inner) = value.pointer_mut(pointer) {
        strip_defaults(inner, &serde_json::to_value(default).expect("settings are plain data"));
    }
}

fn remove(value: &mut Value, path: &str) {
    match path.split_once('.') {
        Some((first, rest)) => {
            if let Some(inner) = value.get_mut(first) {
                remove(inner, rest);
            }
        }
        None => {
            if let Value::Object(map) = value {
                map.remove(path);
            }
        }
    }
}

/// Removes what equals the default, and mappings that are left empty by that.
fn strip_defaults(value: &mut Value, default: &Value) {
    if let (Value::Object(map), Value::Object(defaults)) = (value, default) {
        map.retain(|name, item| {
            let Some(default) = defaults.get(name) else { return true };
            if item == default {
                return false;
            }
            strip_defaults(item, default);
            !matches!(item, Value::Object(inner) if inner.is_empty())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_paths_stay_out_of_the_key() {
        let written = TrainConfig { model: "a/b".into(), learning_rate: 5e-5, seed: 42, ..TrainConfig::default() };
        assert_eq!(StageConfig::Train(Box::new(written)).semantic(), serde_json::json!({}));
        let other = TrainConfig { learning_rate: 3e-5, ..TrainConfig::default() };
        assert_eq!(StageConfig::Train(Box::new(other)).semantic(), serde_json::json!({"learning_rate": 3e-5}));
    }

    #[test]
    fn both_spellings_of_a_setting_give_one_key() {
        let v4 = TrainConfig { group_by_length: true, ..TrainConfig::default() };
        let v5 = TrainConfig { train_sampling_strategy: SamplingStrategy::GroupByLength, ..TrainConfig::default() };
        assert_eq!(StageConfig::Train(Box::new(v4)).semantic(), StageConfig::Train(Box::new(v5)).semantic());
    }
}
