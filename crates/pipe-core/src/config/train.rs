//! Settings of `train`, spelled as in Hugging Face's `TrainingArguments`; v4 and v5 spellings that mean the same
//! are both accepted.

use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Base, Complaint, NewModel, in_range, known_name};
use crate::error::{Error, Result};
use crate::metrics::METRIC_NAMES;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// What is learnt.
    pub task: Task,
    /// A Hugging Face model folder with safetensors; or `{ config: … }` for a model from scratch.
    pub model: Base,
    pub device: Device,

    /// The highest one; the schedule starts or ends below it.
    pub learning_rate: f64,
    /// How often every row is seen.
    pub num_train_epochs: f64,
    /// Above zero: overrides `num_train_epochs`.
    pub max_steps: i64,
    /// Trains on a random subset of this size, drawn with `seed`.
    pub max_train_samples: Option<usize>,
    /// Evaluates on a random subset of this size while training, drawn with `seed`.
    pub max_eval_samples: Option<usize>,
    /// Rows of one forward pass.
    pub per_device_train_batch_size: usize,
    /// Rows scored at once.
    pub per_device_eval_batch_size: usize,
    /// Forward passes of one step: the effective batch is this many times larger.
    pub gradient_accumulation_steps: usize,

    /// How the learning rate changes over the steps.
    pub lr_scheduler_type: SchedulerType,
    /// A number of steps; below 1 a share of all steps.
    pub warmup_steps: f64,
    /// Warm-up as a share of all steps.
    pub warmup_ratio: f64,
    /// Of AdamW; not for biases and layer norms.
    pub weight_decay: f64,
    /// Of AdamW.
    pub adam_beta1: f64,
    /// Of AdamW.
    pub adam_beta2: f64,
    /// Of AdamW.
    pub adam_epsilon: f64,
    /// 0 switches clipping off.
    pub max_grad_norm: f64,
    /// Overrides the dropout rates of the model's config.
    pub dropout: Option<f64>,
    /// Of new weights, dropout and the order of rows.
    pub seed: u64,

    /// When the model is evaluated on the split `validation`.
    #[serde(alias = "evaluation_strategy")]
    pub eval_strategy: IntervalStrategy,
    /// With `eval_strategy: steps`.
    pub eval_steps: Option<u64>,
    /// Absent: as `eval_strategy`, so that every evaluated model can be the best one.
    pub save_strategy: Option<IntervalStrategy>,
    /// With `save_strategy: steps`; absent: as `eval_steps`.
    pub save_steps: Option<u64>,
    /// How often the loss is told.
    pub logging_steps: u64,
    /// Keeps the best evaluated model instead of the last.
    pub load_best_model_at_end: bool,
    /// `loss` or a metric of `evaluate`, with or without `eval_` before it.
    #[schemars(schema_with = "best_metric_schema")]
    pub metric_for_best_model: Option<String>,
    /// Absent: false for `loss`, true for the rest.
    pub greater_is_better: Option<bool>,
    /// Stops after this many evaluations without an improvement above `early_stopping_threshold`.
    pub early_stopping_patience: Option<u32>,
    /// What counts as an improvement.
    pub early_stopping_threshold: f64,

    /// Matrix products in bfloat16.
    pub bf16: bool,
    /// In which order rows are seen.
    pub train_sampling_strategy: SamplingStrategy,
    /// The v4 spelling of `train_sampling_strategy: group_by_length`.
    pub group_by_length: bool,
    /// Threads of libtorch; recorded, not keyed.
    pub torch_threads: Option<usize>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            task: Task::SequenceClassification,
            model: Base::default(),
            device: Device::Auto,
            learning_rate: 5e-5,
            num_train_epochs: 3.0,
            max_steps: -1,
            max_train_samples: None,
            max_eval_samples: None,
            per_device_train_batch_size: 8,
            per_device_eval_batch_size: 8,
            gradient_accumulation_steps: 1,
            lr_scheduler_type: SchedulerType::Linear,
            warmup_steps: 0.0,
            warmup_ratio: 0.0,
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            dropout: None,
            seed: 42,
            eval_strategy: IntervalStrategy::No,
            eval_steps: None,
            save_strategy: None,
            save_steps: None,
            logging_steps: 50,
            load_best_model_at_end: false,
            metric_for_best_model: None,
            greater_is_better: None,
            early_stopping_patience: None,
            early_stopping_threshold: 0.0,
            bf16: false,
            train_sampling_strategy: SamplingStrategy::Random,
            group_by_length: false,
            torch_threads: None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    #[default]
    SequenceClassification,
}

/// Where libtorch computes. `auto` is CUDA where a device and its libraries are present, else the CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    #[default]
    Auto,
    Cpu,
    Cuda,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntervalStrategy {
    #[default]
    No,
    Steps,
    Epoch,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerType {
    #[default]
    Linear,
    Cosine,
    Constant,
    ConstantWithWarmup,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SamplingStrategy {
    #[default]
    Random,
    /// Rows of similar length share an (effective) batch, so that little is padded.
    GroupByLength,
    Sequential,
}

fn best_metric_schema(_: &mut SchemaGenerator) -> Schema {
    let bare = || std::iter::once("loss").chain(METRIC_NAMES.iter().copied());
    let names: Vec<Option<String>> = bare().map(str::to_owned).chain(bare().map(|name| format!("eval_{name}"))).map(Some).chain([None]).collect();
    json_schema!({"enum": names})
}

impl TrainConfig {
    /// One spelling for what has two.
    #[must_use]
    pub fn canonical(&self) -> TrainConfig {
        let mut config = self.clone();
        if config.group_by_length {
            config.group_by_length = false;
            config.train_sampling_strategy = SamplingStrategy::GroupByLength;
        }
        if let Some(metric) = &mut config.metric_for_best_model
            && let Some(bare) = metric.strip_prefix("eval_")
        {
            *metric = bare.to_owned();
        }
        config
    }

    /// The metric that picks the best model, without `eval_`.
    pub fn best_metric(&self) -> String {
        self.canonical().metric_for_best_model.unwrap_or_else(|| "loss".into())
    }

    pub fn best_is_greater(&self) -> bool {
        self.greater_is_better.unwrap_or_else(|| self.best_metric() != "loss")
    }

    /// The measure of the model in a train artifact's folder: `metric_for_best_model` as its own evaluations found it.
    pub fn final_metric(&self, folder: &Path) -> Result<f64> {
        let path = folder.join("trainer_state.json");
        let state: Value = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let name = format!("eval_{}", self.best_metric());
        let value = if self.load_best_model_at_end {
            state["best_metric"].as_f64()
        } else {
            state["log_history"].as_array().and_then(|rows| rows.iter().rev().find_map(|row| row[&name].as_f64()))
        };
        value.ok_or_else(|| {
            Error::stage(format!("{} does not say how good its model is ({name})", path.display())).hint("run the train stage again with --force")
        })
    }

    pub fn effective_save_strategy(&self) -> IntervalStrategy {
        self.save_strategy.unwrap_or(self.eval_strategy)
    }

    pub(super) fn check(&self) -> Result<(), Complaint> {
        if self.model.is_missing() {
            return Err(Complaint::missing("model", "path/to/model"));
        }
        if let Base::Scratch(scratch) = &self.model {
            match &scratch.config {
                Some(NewModel::Inline(config)) => config.check("model.config")?,
                Some(NewModel::File(path)) if !path.as_os_str().is_empty() => {}
                _ => {
                    return Err(Complaint::new("model", "this mapping has no `config`, which is what a train stage takes of it")
                        .hint("add `config: { hidden_size: 128, … }` to it, or give the path of a pretrained model"));
                }
            }
        }
        in_range("learning_rate", self.learning_rate, 0.0..=f64::INFINITY)?;
        in_range("num_train_epochs", self.num_train_epochs, 0.0..=f64::INFINITY)?;
        in_range("weight_decay", self.weight_decay, 0.0..=f64::INFINITY)?;
        in_range("max_grad_norm", self.max_grad_norm, 0.0..=f64::INFINITY)?;
        in_range("warmup_steps", self.warmup_steps, 0.0..=f64::INFINITY)?;
        in_range("warmup_ratio", self.warmup_ratio, 0.0..=1.0)?;
        in_range("adam_beta1", self.adam_beta1, 0.0..=0.999_999_9)?;
        in_range("adam_beta2", self.adam_beta2, 0.0..=0.999_999_9)?;
        in_range("adam_epsilon", self.adam_epsilon, 0.0..=1.0)?;
        in_range("dropout", self.dropout.unwrap_or(0.0), 0.0..=0.99)?;
        for (setting, value) in [
            ("per_device_train_batch_size", self.per_device_train_batch_size),
            ("per_device_eval_batch_size", self.per_device_eval_batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("max_train_samples", self.max_train_samples.unwrap_or(1)),
            ("max_eval_samples", self.max_eval_samples.unwrap_or(1)),
            ("torch_threads", self.torch_threads.unwrap_or(1)),
            ("logging_steps", self.logging_steps as usize),
        ] {
            if value == 0 {
                return Err(Complaint::new(setting, format!("`{setting}` must be at least 1")));
            }
        }
        if self.max_steps <= 0 && self.num_train_epochs == 0.0 {
            return Err(Complaint::new("num_train_epochs", "nothing to train: `num_train_epochs` is 0 and `max_steps` is not set"));
        }
        if let Some(metric) = &self.metric_for_best_model {
            let mut known = vec!["loss"];
            known.extend(METRIC_NAMES);
            known_name("metric_for_best_model", metric.strip_prefix("eval_").unwrap_or(metric), &known)?;
        }
        if self.eval_strategy == IntervalStrategy::Steps && self.eval_steps.is_none_or(|steps| steps == 0) {
            return Err(Complaint::missing("eval_steps", "100"));
        }
        if self.save_strategy == Some(IntervalStrategy::Steps) && self.save_steps.or(self.eval_steps).is_none_or(|steps| steps == 0) {
            return Err(Complaint::missing("save_steps", "100"));
        }
        for (setting, wanted) in
            [("load_best_model_at_end", self.load_best_model_at_end), ("early_stopping_patience", self.early_stopping_patience.is_some())]
        {
            if wanted && self.eval_strategy == IntervalStrategy::No {
                return Err(Complaint::new(setting, format!("`{setting}` needs evaluations to compare")).hint("add `eval_strategy: epoch`"));
            }
        }
        Ok(())
    }
}
