//! The model folder, and what is told of the training.
//!
//! ```text
//! model.safetensors, config.json, tokenizer files, pipe.json    the model
//! trainer_state.json                                            as transformers writes it
//! train_results.json, all_results.json                          the same figures as its `save_metrics` has, without times
//! training.svg                                                  loss and learning rate over the steps
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipe_core::provenance;
use pipe_core::{IoContext, Result, Summary, Task};
use pipe_model::GENERATION_CONFIG_FILE;
use serde_json::{Map, Value, json};

use super::{TrainPaths, Trainer};
use crate::optimizer::is_embedding;
use crate::plot;

impl Trainer<'_> {
    /// Loads the best model if asked to, and writes the model folder.
    pub(super) fn finish(&mut self, paths: &TrainPaths<'_>) -> Result<()> {
        if self.config.load_best_model_at_end
            && let Some(best) = self.state.best_step
            && best != self.state.global_step
        {
            self.checkpoints.load_model(best, &self.model.parameters)?;
        }
        let (epoch, total_flos, mean) = (self.epoch_now(), self.total_flos(), self.mean_loss());
        self.log([("total_flos", total_flos), ("train_loss", mean)].map(|(name, value)| (name.to_owned(), json!(value))))?;
        self.model.save(&paths.out.join("model.safetensors"))?;
        write_json(&paths.out.join("config.json"), &Value::Object(self.model.config.with_task(self.task, &self.labels)))?;
        write_json(&paths.out.join("trainer_state.json"), &self.state.to_json(self.config, &self.intervals, epoch, total_flos))?;
        self.write_results(paths.out, epoch, total_flos, mean)?;
        if let Some(picture) = plot::training(&self.state.log_history) {
            let path = paths.out.join("training.svg");
            std::fs::write(&path, picture).doing("write", &path)?;
        }
        // It may name more tokens that end a text than config.json does.
        if let Some(settings) =
            paths.model.map(|model| model.join(GENERATION_CONFIG_FILE)).filter(|path| self.task == Task::CausalLm && path.is_file())
        {
            std::fs::copy(&settings, paths.out.join(GENERATION_CONFIG_FILE)).doing("copy", &settings)?;
        }
        let tokenizer = paths.tokens.join(pipe_data::tokenize::TOKENIZER_FOLDER);
        let files: Vec<PathBuf> = pipe_data::tokenize::tokenizer_files(&tokenizer).into_iter().map(PathBuf::from).collect();
        for (folder, name) in
            files.iter().map(|name| (&tokenizer, name.as_path())).chain([(&paths.tokens.to_owned(), Path::new(provenance::FILE_NAME))])
        {
            std::fs::copy(folder.join(name), paths.out.join(name)).doing("copy", &folder.join(name))?;
        }
        Ok(())
    }

    fn write_results(&self, out: &Path, epoch: f64, total_flos: f64, mean: f64) -> Result<()> {
        let train = json!({"epoch": epoch, "total_flos": total_flos, "train_loss": mean, "train_samples": self.rows.len()});
        write_json(&out.join("train_results.json"), &train)?;
        let Value::Object(mut all) = train else { return Ok(()) };
        all.extend(
            self.evaluation_of_the_model()
                .into_iter()
                .flatten()
                .filter(|(name, _)| name.starts_with("eval_"))
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        write_json(&out.join("all_results.json"), &Value::Object(all))
    }

    /// The evaluation of the model that is kept.
    fn evaluation_of_the_model(&self) -> Option<&Map<String, Value>> {
        let is_kept = |row: &&Map<String, Value>| {
            let step = row.get("step").and_then(Value::as_u64);
            row.contains_key("eval_loss") && (!self.config.load_best_model_at_end || step == self.state.best_step)
        };
        self.state.log_history.iter().rev().find(is_kept)
    }

    fn mean_loss(&self) -> f64 {
        self.state.total_loss / self.state.global_step.max(1) as f64
    }

    /// As transformers estimates it: 6 floating point operations per token, padding included, and weight that is no embedding
    /// (Kaplan et al. 2020).
    fn total_flos(&self) -> f64 {
        let weights: usize =
            self.model.parameters.iter().filter(|(name, tensor)| !is_embedding(name, tensor)).map(|(_, tensor)| tensor.numel()).sum();
        6.0 * self.state.ledger.slots as f64 * weights as f64
    }

    /// What was truncated before training, and padded in it.
    pub(super) fn ledger(&self, tokens: &Path) -> Value {
        let state = &self.state.ledger;
        let mut ledger = json!({"rows": state.rows, "tokens": state.tokens, "slots": state.slots, "padding": state.padding()});
        let report: Value = std::fs::read(tokens.join("report.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        for name in ["truncated_rows", "lost_tokens"] {
            if let Some(count) = report["splits"]["train"].get(name) {
                ledger[name] = count.clone();
            }
        }
        ledger
    }

    pub(super) fn summary(&self, rows_trained: u64, record: Value) -> Summary {
        let best = match (self.state.best_metric, self.state.best_step) {
            (Some(value), Some(step)) => format!(", best {} {value:.4} at step {step}", self.config.best_metric()),
            _ => String::new(),
        };
        let truncated = match record["ledger"]["truncated_rows"].as_u64() {
            None | Some(0) => String::new(),
            Some(rows) => format!(", {rows} rows truncated"),
        };
        let line = format!("{} rows, {} steps, loss {:.3}{best}{truncated}", self.rows.len(), self.state.global_step, self.mean_loss());
        Summary { rows: rows_trained, line, figures: BTreeMap::from([("train".to_owned(), record)]), ..Summary::default() }
    }
}

pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    std::fs::write(path, serde_json::to_vec_pretty(value).expect("plain data")).doing("write", path)
}
