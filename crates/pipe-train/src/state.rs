//! What a training has done so far: part of every checkpoint, and the content of `trainer_state.json`.

use pipe_core::config::TrainConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::intervals::Intervals;
use crate::loss_scale::LossScale;
use crate::schedule::Plateau;

/// What the trainer has logged and decided so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrainerState {
    pub global_step: u64,
    /// Steps that changed the weights: all, but for those that overflowed in fp16.
    pub updates: u64,
    pub max_steps: u64,
    pub log_history: Vec<Map<String, Value>>,
    pub best_metric: Option<f64>,
    pub best_step: Option<u64>,
    /// Evaluations since the best one.
    pub evaluations_without_gain: u32,
    /// Loss since the last log line: summed over optimizer steps.
    pub window_loss: f64,
    pub window_steps: u64,
    /// Loss over all steps, for the final line.
    pub total_loss: f64,
    /// The evaluation of this step was broken off, and comes first on resuming.
    pub evaluation_due: bool,
    /// The evaluation before the first step is made.
    pub evaluated_on_start: bool,
    /// Rows of a forward pass, once memory ran out for as many as the settings ask.
    pub micro_batch: Option<usize>,
    /// Of `reduce_lr_on_plateau`.
    pub plateau: Option<Plateau>,
    /// Of fp16.
    pub loss_scale: Option<LossScale>,
    pub ledger: Ledger,
}

/// What was computed, and how much of it was padding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub rows: u64,
    /// Without padding.
    pub tokens: u64,
    /// With it.
    pub slots: u64,
}

impl Ledger {
    pub(crate) fn add(&mut self, rows: usize, tokens: u64, slots: usize) {
        self.rows += rows as u64;
        self.tokens += tokens;
        self.slots += slots as u64;
    }

    /// The share of what was computed that was padding.
    pub(crate) fn padding(&self) -> f64 {
        1.0 - self.tokens as f64 / self.slots.max(1) as f64
    }
}

impl TrainerState {
    /// Adds a row to the log, and gives it.
    pub(crate) fn log(&mut self, epoch: f64, values: impl IntoIterator<Item = (String, Value)>) -> &Map<String, Value> {
        let mut row: Map<String, Value> = values.into_iter().collect();
        row.insert("epoch".into(), json!(epoch));
        row.insert("step".into(), json!(self.global_step));
        self.log_history.push(row);
        &self.log_history[self.log_history.len() - 1]
    }

    /// The content of `trainer_state.json`, as transformers writes it, without its timed fields: those go to the run's
    /// record. `total_flos` is its estimate: 6 per token and weight that is no embedding.
    pub(crate) fn to_json(&self, config: &TrainConfig, intervals: &Intervals, epochs: f64, total_flos: f64) -> Value {
        json!({
            "best_global_step": self.best_step,
            "best_metric": self.best_metric,
            "best_model_checkpoint": self.best_step.map(|step| format!("checkpoint-{step}")),
            "epoch": epochs,
            "eval_steps": intervals.eval_steps(),
            "global_step": self.global_step,
            "is_hyper_param_search": false,
            "is_local_process_zero": true,
            "is_world_process_zero": true,
            "log_history": self.log_history,
            "logging_steps": intervals.logging_steps(),
            "max_steps": self.max_steps,
            "num_input_tokens_seen": self.ledger.tokens,
            "num_train_epochs": config.num_train_epochs.ceil() as u64,
            "save_steps": intervals.save_steps(),
            "stateful_callbacks": self.callbacks(config),
            "total_flos": total_flos,
            "train_batch_size": config.per_device_train_batch_size,
            "trial_name": null,
            "trial_params": null,
        })
    }

    fn callbacks(&self, config: &TrainConfig) -> Value {
        let mut callbacks = json!({
            "TrainerControl": {
                "args": {"should_epoch_stop": false, "should_evaluate": false, "should_log": false, "should_save": true, "should_training_stop": true},
                "attributes": {},
            },
        });
        if let Some(patience) = config.early_stopping_patience {
            callbacks["EarlyStoppingCallback"] = json!({
                "args": {"early_stopping_patience": patience, "early_stopping_threshold": config.early_stopping_threshold},
                "attributes": {"early_stopping_patience_counter": self.evaluations_without_gain},
            });
        }
        callbacks
    }
}
