//! `trainer_state.json`, as transformers writes it, without its timed fields: those go to the run's record.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What the trainer has logged and decided so far; part of every checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrainerState {
    pub global_step: u64,
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
    #[serde(default)]
    pub evaluation_due: bool,
}

impl TrainerState {
    pub(crate) fn log(&mut self, epoch: f64, values: impl IntoIterator<Item = (String, Value)>) {
        let mut row: Map<String, Value> = values.into_iter().collect();
        row.insert("epoch".into(), json!(epoch));
        row.insert("step".into(), json!(self.global_step));
        self.log_history.push(row);
    }

    /// The file's content.
    pub(crate) fn to_json(&self, config: &pipe_core::config::TrainConfig, epochs: f64) -> Value {
        json!({
            "best_global_step": self.best_step,
            "best_metric": self.best_metric,
            "best_model_checkpoint": self.best_step.map(|step| format!("checkpoint-{step}")),
            "epoch": epochs,
            "eval_steps": config.eval_steps.unwrap_or(500),
            "global_step": self.global_step,
            "is_hyper_param_search": false,
            "is_local_process_zero": true,
            "is_world_process_zero": true,
            "log_history": self.log_history,
            "logging_steps": config.logging_steps,
            "max_steps": self.max_steps,
            "num_train_epochs": config.num_train_epochs.ceil() as u64,
            "save_steps": config.save_steps.or(config.eval_steps).unwrap_or(500),
            "train_batch_size": config.per_device_train_batch_size,
            "trial_name": null,
            "trial_params": null,
        })
    }
}
