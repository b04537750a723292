//! Settings of `train`, spelled as in Hugging Face's `TrainingArguments`; v4 and v5 spellings that mean the same
//! are both accepted.

mod check;
mod freeze;
mod intervals;
mod loss;
mod optimizer;
mod schedule;

use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Base;
use crate::error::{Error, Result};
use crate::metrics::{all_names, is_lower_better};
use crate::task::Task;

pub use freeze::FreezeConfig;
pub use intervals::{IntervalStrategy, SaveStrategy};
pub use loss::ClassWeights;
pub use optimizer::{OptimizerArgs, OptimizerName};
pub use schedule::{RampType, SchedulerArgs, SchedulerType, ThresholdMode};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// What is learnt; absent: what the rows were tokenized for.
    pub task: Option<Task>,
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

    /// Leaves out the last rows of an epoch where they do not fill an effective batch.
    pub dataloader_drop_last: bool,
    /// Halves the rows of a forward pass when memory runs out, and makes as many more of them: the effective batch stays.
    pub auto_find_batch_size: bool,

    /// How the learning rate changes over the steps.
    pub lr_scheduler_type: SchedulerType,
    /// What the schedule takes beside warm-up.
    pub lr_scheduler_kwargs: SchedulerArgs,
    /// A number of steps; below 1 a share of all steps.
    pub warmup_steps: f64,
    /// Warm-up as a share of all steps.
    pub warmup_ratio: f64,

    /// What turns gradients into steps.
    pub optim: OptimizerName,
    /// Settings of `sgd` and `adafactor`.
    pub optim_args: OptimizerArgs,
    /// Not for biases and norms.
    pub weight_decay: f64,
    /// Of AdamW and Lion.
    pub adam_beta1: f64,
    /// Of AdamW and Lion.
    pub adam_beta2: f64,
    /// Of AdamW.
    pub adam_epsilon: f64,
    /// 0 switches clipping off.
    pub max_grad_norm: f64,
    /// The learning rate of the layers below the classifier: each one's is this many times that of the one above it.
    pub layerwise_lr_decay: Option<f64>,
    /// The learning rate of the classifier alone.
    pub head_learning_rate: Option<f64>,
    /// Weights that stay as they are.
    pub freeze: FreezeConfig,

    /// The share of the target that is spread over all classes.
    pub label_smoothing_factor: f64,
    /// `balanced`, or a weight for each label.
    pub class_weights: Option<ClassWeights>,
    /// Above 0: rows that are classified well already count less (focal loss).
    pub focal_gamma: f64,
    /// Uniform noise on the embeddings while training, of this size over the root of tokens times hidden size.
    pub neftune_noise_alpha: Option<f64>,
    /// Overrides the dropout rates of the model's config.
    pub dropout: Option<f64>,
    /// Of new weights, dropout and the order of rows.
    pub seed: u64,
    /// Of the order of rows alone; absent: `seed`.
    pub data_seed: Option<u64>,

    /// When the model is evaluated on the split `validation`.
    #[serde(alias = "evaluation_strategy")]
    pub eval_strategy: IntervalStrategy,
    /// With `eval_strategy: steps`; below 1 a share of all steps.
    pub eval_steps: Option<f64>,
    /// Evaluates once before the first step.
    pub eval_on_start: bool,
    /// No evaluation before this epoch; with `eval_strategy: steps`, before this step.
    pub eval_delay: f64,
    /// Absent: as `eval_strategy`, so that every evaluated model can be the best one.
    pub save_strategy: Option<SaveStrategy>,
    /// With `save_strategy: steps`; absent: as `eval_steps`; below 1 a share of all steps.
    pub save_steps: Option<f64>,
    /// How many of the newest checkpoints are kept while training, beside the best one; absent: 2.
    pub save_total_limit: Option<usize>,
    /// When the loss is told.
    pub logging_strategy: IntervalStrategy,
    /// With `logging_strategy: steps`; below 1 a share of all steps.
    pub logging_steps: f64,
    /// Tells the loss of the first step too.
    pub logging_first_step: bool,
    /// Keeps the best evaluated model instead of the last.
    pub load_best_model_at_end: bool,
    /// `loss` or a metric of `evaluate`, with or without `eval_` before it.
    #[schemars(schema_with = "best_metric_schema")]
    pub metric_for_best_model: Option<String>,
    /// Absent: false for `loss` and other errors, true for the rest.
    pub greater_is_better: Option<bool>,
    /// Stops after this many evaluations without an improvement above `early_stopping_threshold`.
    pub early_stopping_patience: Option<u32>,
    /// What counts as an improvement.
    pub early_stopping_threshold: f64,

    /// Matrix products in bfloat16.
    pub bf16: bool,
    /// Matrix products in half precision, with a loss scale that follows the gradients; on a GPU alone.
    pub fp16: bool,
    /// Matrix products of f32 in TF32; on a GPU alone.
    pub tf32: bool,
    /// Computes each layer's inner values again in the backward pass instead of keeping them: the same result in less memory.
    pub gradient_checkpointing: bool,
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
            task: None,
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
            dataloader_drop_last: false,
            auto_find_batch_size: false,
            lr_scheduler_type: SchedulerType::Linear,
            lr_scheduler_kwargs: SchedulerArgs::default(),
            warmup_steps: 0.0,
            warmup_ratio: 0.0,
            optim: OptimizerName::AdamwTorch,
            optim_args: OptimizerArgs::default(),
            weight_decay: 0.0,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            max_grad_norm: 1.0,
            layerwise_lr_decay: None,
            head_learning_rate: None,
            freeze: FreezeConfig::default(),
            label_smoothing_factor: 0.0,
            class_weights: None,
            focal_gamma: 0.0,
            neftune_noise_alpha: None,
            dropout: None,
            seed: 42,
            data_seed: None,
            eval_strategy: IntervalStrategy::No,
            eval_steps: None,
            eval_on_start: false,
            eval_delay: 0.0,
            save_strategy: None,
            save_steps: None,
            save_total_limit: None,
            logging_strategy: IntervalStrategy::Steps,
            logging_steps: 50.0,
            logging_first_step: false,
            load_best_model_at_end: false,
            metric_for_best_model: None,
            greater_is_better: None,
            early_stopping_patience: None,
            early_stopping_threshold: 0.0,
            bf16: false,
            fp16: false,
            tf32: false,
            gradient_checkpointing: false,
            train_sampling_strategy: SamplingStrategy::Random,
            group_by_length: false,
            torch_threads: None,
        }
    }
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
pub enum SamplingStrategy {
    #[default]
    Random,
    /// Rows of similar length share an (effective) batch, so that little is padded.
    GroupByLength,
    Sequential,
}

fn best_metric_schema(_: &mut SchemaGenerator) -> Schema {
    let bare = || std::iter::once("loss").chain(all_names());
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
        config.optim = match config.optim {
            OptimizerName::AdamwTorchFused => OptimizerName::AdamwTorch,
            OptimizerName::AdamwBnb8bit => OptimizerName::Adamw8bit,
            OptimizerName::Lion32bit => OptimizerName::Lion,
            other => other,
        };
        config
    }

    /// The metric that picks the best model, without `eval_`.
    pub fn best_metric(&self) -> String {
        self.canonical().metric_for_best_model.unwrap_or_else(|| "loss".into())
    }

    pub fn best_is_greater(&self) -> bool {
        self.greater_is_better.unwrap_or_else(|| !is_lower_better(&self.best_metric()))
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

    pub fn effective_save_strategy(&self) -> SaveStrategy {
        self.save_strategy.unwrap_or(self.eval_strategy.into())
    }

    /// The seed of the order of rows.
    pub fn order_seed(&self) -> u64 {
        self.data_seed.unwrap_or(self.seed)
    }
}
