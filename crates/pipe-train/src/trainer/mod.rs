//! The training loop.
//!
//! One optimizer step is one *effective batch* of `per_device_train_batch_size × gradient_accumulation_steps` rows.
//! The loss is the sum over its items divided by what they count, however many micro-batches they are cut into, so
//! accumulation equals the full batch.
//!
//! `setup.rs` makes what the loop works with, `step.rs` is one step, `evaluation.rs` judges, `finish.rs` writes the model.

mod evaluation;
mod finish;
mod setup;
mod step;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{Duration, Instant};

use pipe_core::config::TrainConfig;
use pipe_core::{BatchSource, Progress, Result, Summary, Task};
use pipe_data::TokenSource;
use serde_json::{Value, json};
use tch::Device;

use crate::checkpoint::Checkpoints;
use crate::intervals::Intervals;
use crate::loss::Loss;
use crate::model::Model;
use crate::optimizer::Optimizer;
use crate::sampler;
use crate::schedule::Schedule;
use crate::state::TrainerState;
use crate::tensorboard::EventFile;

/// Where a training reads and writes.
pub struct TrainPaths<'p> {
    /// The pretrained model's folder, or the new one's `config.json`; absent where the settings have all of it.
    pub model: Option<&'p Path>,
    /// The token artifact.
    pub tokens: &'p Path,
    /// Becomes the fine-tuned model's folder.
    pub out: &'p Path,
    /// Checkpoints and decoded tokens.
    pub scratch: &'p Path,
    /// Timed records of this run.
    pub record: &'p Path,
}

/// What the loop works with.
struct Trainer<'t> {
    started: Instant,
    config: &'t TrainConfig,
    progress: &'t dyn Progress,
    model: Model,
    task: Task,
    labels: Vec<String>,
    train: TokenSource,
    /// With the rows that are evaluated while training.
    validation: Option<(TokenSource, Vec<usize>)>,
    /// Rows of the training split that are used.
    rows: Vec<usize>,
    loss: Loss,
    optimizer: Optimizer,
    schedule: Schedule,
    intervals: Intervals,
    checkpoints: Checkpoints,
    events: EventFile,
    state: TrainerState,
    steps_per_epoch: u64,
    /// How long each evaluation of this run took, for its record.
    evaluations: Vec<Value>,
    /// How long it took to load, to resume and to make the first optimizer step of this run.
    first_step: Option<Duration>,
}

/// Fine-tunes a model for the task of its tokens.
pub fn train(config: &TrainConfig, paths: &TrainPaths<'_>, device: Device, progress: &dyn Progress) -> Result<Summary> {
    let config = &config.canonical();
    let mut trainer = Trainer::new(config, paths, device, progress)?;
    let loaded = trainer.started.elapsed();
    let resumed_at = trainer.resume()?;
    let rows_before = trainer.state.ledger.rows;
    let training = trainer.run()?;
    trainer.finish(paths)?;
    let (rows, steps) = (trainer.state.ledger.rows - rows_before, trainer.state.global_step - resumed_at);
    let mut record = json!({
        "train_runtime": trainer.started.elapsed().as_secs_f64(), "load_seconds": loaded.as_secs_f64(),
        "first_step_seconds": trainer.first_step.map(|first| first.as_secs_f64()), "step_seconds": training.as_secs_f64(),
        "resumed_at_step": resumed_at, "train_samples_per_second": rows as f64 / training.as_secs_f64(),
        "train_steps_per_second": steps as f64 / training.as_secs_f64(),
        "steps": trainer.state.global_step, "threads": tch::get_num_threads(), "device": format!("{device:?}"),
    });
    record["ledger"] = trainer.ledger(paths.tokens);
    let mut with_evaluations = record.clone();
    with_evaluations["evaluations"] = std::mem::take(&mut trainer.evaluations).into();
    finish::write_json(&paths.record.join("train.json"), &with_evaluations)?;
    Ok(trainer.summary(rows, record))
}

impl Trainer<'_> {
    /// Goes on from the newest whole checkpoint; the step it was at, or 0.
    fn resume(&mut self) -> Result<u64> {
        if let Some(state) = self.checkpoints.resume(&self.model.parameters, &mut self.optimizer, self.config.load_best_model_at_end)? {
            self.progress.note(&format!("going on from the checkpoint at step {} of {}", state.global_step, state.max_steps));
            self.state = state;
        }
        Ok(self.state.global_step)
    }

    /// All steps that are left; the time in them without evaluations and checkpoints.
    fn run(&mut self) -> Result<Duration> {
        let mut training = Duration::ZERO;
        let rows_before = self.state.ledger.rows;
        self.evaluate_first()?;
        while !self.is_done() {
            let batches = self.epoch();
            let first = (self.state.global_step % self.steps_per_epoch) as usize;
            for batch in &batches[first..] {
                if let Err(stop) = self.progress.check() {
                    self.save()?;
                    return Err(stop);
                }
                let started = Instant::now();
                let loss = self.step(batch)?;
                training += started.elapsed();
                self.first_step.get_or_insert_with(|| self.started.elapsed());
                let rate = (self.state.ledger.rows - rows_before) as f64 / training.as_secs_f64();
                self.progress.advance(self.state.global_step, self.state.max_steps, "steps", &format!("loss {loss:.3}, {rate:.0} rows/s"));
                self.evaluate_and_save()?;
                if self.is_done() {
                    break;
                }
            }
        }
        Ok(training)
    }

    fn is_done(&self) -> bool {
        self.state.global_step >= self.state.max_steps || self.is_out_of_patience()
    }

    /// The effective batches of the epoch that the next step is in.
    fn epoch(&self) -> Vec<Vec<usize>> {
        let (config, effective) = (self.config, self.effective_batch());
        let epoch = self.state.global_step / self.steps_per_epoch;
        let mut batches = sampler::epoch(&self.rows, self.train.lengths(), effective, config.train_sampling_strategy, config.order_seed(), epoch);
        batches.truncate(self.steps_per_epoch as usize);
        batches
    }

    fn effective_batch(&self) -> usize {
        self.config.per_device_train_batch_size * self.config.gradient_accumulation_steps
    }

    fn epoch_now(&self) -> f64 {
        self.state.global_step as f64 / self.steps_per_epoch as f64
    }

    fn save(&self) -> Result<()> {
        self.checkpoints.save(&self.model.parameters, &self.optimizer, &self.state)
    }

    /// Logs values of this step, to the state and to TensorBoard.
    fn log(&mut self, values: impl IntoIterator<Item = (String, Value)>) -> Result<()> {
        let epoch = self.epoch_now();
        let row = self.state.log(epoch, values);
        self.events.add(row)
    }
}
