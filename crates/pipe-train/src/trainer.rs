//! The training loop.
//!
//! One optimizer step is one *effective batch* of `per_device_train_batch_size × gradient_accumulation_steps` rows.
//! The loss is the sum over its rows divided by their number, however many micro-batches they are cut into, so
//! accumulation equals the full batch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pipe_core::config::{IntervalStrategy, NewModel, TrainConfig};
use pipe_core::metrics::ClassificationReport;
use pipe_core::provenance::{Provenance, Tokenization};
use pipe_core::{BatchSource, Error, IoContext, Progress, Result, Summary, unknown_label};
use pipe_data::TokenSource;
use pipe_model::ModelConfig;
use serde_json::{Value, json};
use tch::{Device, Reduction, Tensor};

use crate::backend::torch_error;
use crate::checkpoint::Checkpoints;
use crate::model::Model;
use crate::optimizer::AdamW;
use crate::sampler::{self, SplitMix};
use crate::schedule::Schedule;
use crate::state::TrainerState;
use crate::weights::{self, Loaded};

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
    config: &'t TrainConfig,
    progress: &'t dyn Progress,
    model: Model,
    labels: Vec<String>,
    train: TokenSource,
    /// With the rows that are evaluated while training.
    validation: Option<(TokenSource, Vec<usize>)>,
    /// Rows of the training split that are used.
    rows: Vec<usize>,
    optimizer: AdamW,
    schedule: Schedule,
    checkpoints: Checkpoints,
    state: TrainerState,
    steps_per_epoch: u64,
}

/// Fine-tunes a sequence classifier.
pub fn train(config: &TrainConfig, paths: &TrainPaths<'_>, device: Device, progress: &dyn Progress) -> Result<Summary> {
    let config = &config.canonical();
    let started = Instant::now();
    let mut trainer = Trainer::new(config, paths, device, progress)?;
    let loaded = started.elapsed();
    let resumed_at = trainer.resume()?;
    let (rows_trained, training) = trainer.run()?;
    trainer.finish(paths)?;
    let record = json!({
        "train_runtime": started.elapsed().as_secs_f64(), "load_seconds": loaded.as_secs_f64(), "step_seconds": training.as_secs_f64(),
        "resumed_at_step": resumed_at, "train_samples_per_second": rows_trained as f64 / training.as_secs_f64(),
        "steps": trainer.state.global_step, "threads": tch::get_num_threads(), "device": format!("{device:?}"),
    });
    std::fs::create_dir_all(paths.record).doing("make the folder", paths.record)?;
    let path = paths.record.join("train.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&record).expect("plain data")).doing("write", &path)?;
    Ok(trainer.summary(rows_trained, record))
}

impl<'t> Trainer<'t> {
    fn new(config: &'t TrainConfig, paths: &TrainPaths<'_>, device: Device, progress: &'t dyn Progress) -> Result<Trainer<'t>> {
        let provenance = Provenance::read(paths.tokens)?;
        let labels = provenance.labels;
        if labels.len() < 2 {
            return Err(Error::input("the rows to train on have no labels").hint("name the label column in ingest's `columns: { label: … }`"));
        }
        let train = TokenSource::open(paths.tokens, "train", paths.scratch)?;
        let validation =
            if config.eval_strategy == IntervalStrategy::No { None } else { Some(TokenSource::open(paths.tokens, "validation", paths.scratch)?) };
        // Drawn, not the first ones: files are often sorted by class.
        let validation = validation.map(|source| {
            let rows = sampler::subset(source.rows(), config.max_eval_samples, config.seed);
            (source, rows)
        });
        if train.rows() == 0 || validation.as_ref().is_some_and(|(_, rows)| rows.is_empty()) {
            return Err(Error::input("a split to train or evaluate on is empty").hint("give ingest's `split:` larger shares, or more rows"));
        }
        if let Some(row) = train.labels().iter().position(|&label| label < 0 || label as usize >= labels.len()) {
            return Err(unknown_label(&train.row_id(row), train.labels()[row], labels.len()));
        }
        let (mut model, loaded) = start(config, paths.model, &provenance.tokenize, &labels, device, progress)?;
        if let Some(p) = config.dropout {
            model.config.set_dropout(p);
        }
        for source in std::iter::once(&train).chain(validation.as_ref().map(|(source, _)| source)) {
            model.check_rows(source.lengths(), provenance.tokenize.vocab_size)?;
        }
        if !loaded.new_modules.is_empty() {
            let names: Vec<&str> = loaded.new_modules.iter().map(String::as_str).collect();
            progress.note(&format!("new layers, to be learned: {} ({} classes)", names.join(", "), labels.len()));
        }
        let rows = sampler::subset(train.rows(), config.max_train_samples, config.seed);
        let effective = config.per_device_train_batch_size * config.gradient_accumulation_steps;
        let steps_per_epoch = rows.len().div_ceil(effective) as u64;
        let total = if config.max_steps > 0 { config.max_steps as u64 } else { (steps_per_epoch as f64 * config.num_train_epochs).ceil() as u64 };
        Ok(Trainer {
            optimizer: AdamW::new(&model.parameters, config),
            schedule: Schedule::new(config, total),
            checkpoints: Checkpoints::new(paths.scratch),
            state: TrainerState { max_steps: total, ..TrainerState::default() },
            config,
            progress,
            model,
            labels,
            train,
            validation,
            rows,
            steps_per_epoch,
        })
    }

    /// Goes on from the newest whole checkpoint; the step it was at, or 0.
    fn resume(&mut self) -> Result<u64> {
        if let Some(state) = self.checkpoints.resume(&self.model.parameters, &mut self.optimizer, self.config.load_best_model_at_end)? {
            self.progress.note(&format!("going on from the checkpoint at step {} of {}", state.global_step, state.max_steps));
            self.state = state;
        }
        Ok(self.state.global_step)
    }

    /// All steps that are left; the number of rows they trained on, and the time in them without evaluations and
    /// checkpoints.
    fn run(&mut self) -> Result<(u64, Duration)> {
        let effective = self.config.per_device_train_batch_size * self.config.gradient_accumulation_steps;
        let (mut training, mut rows_trained) = (Duration::ZERO, 0u64);
        if self.state.evaluation_due {
            self.evaluate_and_save()?;
        }
        while self.state.global_step < self.state.max_steps && !self.out_of_patience() {
            let epoch = self.state.global_step / self.steps_per_epoch;
            let batches = sampler::epoch(&self.rows, self.train.lengths(), effective, self.config.train_sampling_strategy, self.config.seed, epoch);
            let first = (self.state.global_step % self.steps_per_epoch) as usize;
            for batch in &batches[first..] {
                if let Err(stop) = self.progress.check() {
                    self.checkpoints.save(&self.model.parameters, &self.optimizer, &self.state)?;
                    return Err(stop);
                }
                let started = Instant::now();
                let lr = self.schedule.rate(self.state.global_step);
                let loss = self.accumulate(batch)?;
                let norm = self.optimizer.step(self.state.global_step, lr)?;
                self.check_finite("gradient norm", norm, batch)?;
                self.state.global_step += 1;
                self.log_step(loss, norm, lr);
                rows_trained += batch.len() as u64;
                training += started.elapsed();
                let rate = rows_trained as f64 / training.as_secs_f64();
                self.progress.advance(self.state.global_step, self.state.max_steps, "steps", &format!("loss {loss:.3}, {rate:.0} rows/s"));
                self.evaluate_and_save()?;
                if self.state.global_step >= self.state.max_steps || self.out_of_patience() {
                    break;
                }
            }
        }
        Ok((rows_trained, training))
    }

    /// Gradients of the mean loss over `batch`, micro-batch by micro-batch; that loss.
    fn accumulate(&self, batch: &[usize]) -> Result<f64> {
        // Sorted, so that each micro-batch is padded to no more than it needs.
        let mut rows = batch.to_vec();
        rows.sort_by_key(|&row| (self.train.lengths()[row], row));
        let mut total = 0.0;
        for (micro, rows) in rows.chunks(self.config.per_device_train_batch_size).enumerate() {
            // Dropout's generator is seeded here each time: nothing to save, and resume is exact.
            tch::manual_seed(SplitMix::new(&[self.config.seed, self.state.global_step, micro as u64]).next() as i64);
            let micro_batch = self.train.batch(rows)?;
            let labels = Tensor::from_slice(&micro_batch.labels).to_device(self.model.device);
            let logits = self.model.forward(&micro_batch, true)?;
            let loss = logits
                .f_cross_entropy_loss::<Tensor>(&labels, None, Reduction::Sum, -100, 0.0)
                .and_then(|sum| sum.f_div_scalar(batch.len() as f64))
                .map_err(torch_error)?;
            let value = f64::try_from(&loss).map_err(torch_error)?;
            self.check_finite("loss", value, rows)?;
            loss.f_backward().map_err(torch_error)?;
            total += value;
        }
        Ok(total)
    }

    fn check_finite(&self, what: &str, value: f64, rows: &[usize]) -> Result<()> {
        if value.is_finite() {
            return Ok(());
        }
        let ids: Vec<String> = rows.iter().take(8).map(|&row| self.train.row_id(row)).collect();
        let more = if rows.len() > ids.len() { format!(" and {} more", rows.len() - ids.len()) } else { String::new() };
        Err(Error::stage(format!("the {what} is not a number at step {} (rows {}{more})", self.state.global_step + 1, ids.join(", ")))
            .hint("lower `learning_rate`, add `warmup_steps`, or check these rows; the last checkpoint is kept"))
    }

    fn epoch_now(&self) -> f64 {
        self.state.global_step as f64 / self.steps_per_epoch as f64
    }

    fn log_step(&mut self, loss: f64, norm: f64, lr: f64) {
        self.state.window_loss += loss;
        self.state.total_loss += loss;
        self.state.window_steps += 1;
        if self.state.global_step.is_multiple_of(self.config.logging_steps) {
            let mean = self.state.window_loss / self.state.window_steps as f64;
            let values = [("loss", mean), ("grad_norm", norm), ("learning_rate", lr)].map(|(name, value)| (name.to_owned(), json!(value)));
            let epoch = self.epoch_now();
            self.state.log(epoch, values);
            (self.state.window_loss, self.state.window_steps) = (0.0, 0);
        }
    }

    fn is_due(&self, strategy: IntervalStrategy, every: Option<u64>) -> bool {
        let step = self.state.global_step;
        match strategy {
            IntervalStrategy::No => false,
            // The last step counts, so that what was trained is what is judged.
            IntervalStrategy::Steps => every.is_some_and(|every| step.is_multiple_of(every)) || step == self.state.max_steps,
            IntervalStrategy::Epoch => step.is_multiple_of(self.steps_per_epoch) || step == self.state.max_steps,
        }
    }

    fn evaluate_and_save(&mut self) -> Result<()> {
        let mut best = false;
        if self.is_due(self.config.eval_strategy, self.config.eval_steps) {
            self.state.evaluation_due = true;
            let report = match self.evaluate() {
                Err(stop) if stop.class.is_stop() => {
                    // What was trained is kept; the evaluation is made again as a whole.
                    self.checkpoints.save(&self.model.parameters, &self.optimizer, &self.state)?;
                    return Err(stop);
                }
                report => report?,
            };
            self.state.evaluation_due = false;
            best = self.judge(&report)?;
        }
        let save = self.is_due(self.config.effective_save_strategy(), self.config.save_steps.or(self.config.eval_steps));
        if save || (best && self.config.load_best_model_at_end) {
            self.checkpoints.save(&self.model.parameters, &self.optimizer, &self.state)?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ClassificationReport> {
        let (validation, rows) = self.validation.as_ref().ok_or_else(|| Error::internal("an evaluation without a validation split"))?;
        let quiet = Quiet(self.progress);
        pipe_core::evaluate(&mut self.model, validation, &self.labels, self.config.per_device_eval_batch_size, Some(rows), &quiet)
    }

    /// Logs an evaluation; true if it is the best so far.
    fn judge(&mut self, report: &ClassificationReport) -> Result<bool> {
        let values = std::iter::once(("eval_loss".to_owned(), json!(report.loss)))
            .chain(report.metrics.iter().map(|(name, value)| (format!("eval_{name}"), json!(value))));
        let epoch = self.epoch_now();
        let values: Vec<(String, Value)> = values.collect();
        self.state.log(epoch, values);
        let name = self.config.best_metric();
        let value = if name == "loss" { Some(report.loss) } else { report.metrics.get(&name).copied() };
        let value = value.ok_or_else(|| Error::internal(format!("no metric `{name}`")))?;
        self.progress.note(&format!(
            "step {}: eval_loss {:.4}, accuracy {:.4}, f1_macro {:.4}",
            self.state.global_step, report.loss, report.metrics["accuracy"], report.metrics["f1_macro"]
        ));
        let gain = match self.state.best_metric {
            None => f64::INFINITY,
            Some(best) if self.config.best_is_greater() => value - best,
            Some(best) => best - value,
        };
        if gain > self.config.early_stopping_threshold {
            self.state.evaluations_without_gain = 0;
        } else {
            self.state.evaluations_without_gain += 1;
        }
        if gain > 0.0 {
            (self.state.best_metric, self.state.best_step) = (Some(value), Some(self.state.global_step));
        }
        Ok(gain > 0.0)
    }

    fn out_of_patience(&self) -> bool {
        self.config.early_stopping_patience.is_some_and(|patience| self.state.evaluations_without_gain >= patience)
    }

    /// Loads the best model if asked to, and writes the model folder.
    fn finish(&mut self, paths: &TrainPaths<'_>) -> Result<()> {
        if self.config.load_best_model_at_end
            && let Some(best) = self.state.best_step
            && best != self.state.global_step
        {
            self.checkpoints.load_model(best, &self.model.parameters)?;
        }
        let epoch = self.epoch_now();
        let mean = self.state.total_loss / self.state.global_step.max(1) as f64;
        self.state.log(epoch, [("train_loss".to_owned(), json!(mean))]);
        weights::save(&self.model.parameters, &paths.out.join("model.safetensors"))?;
        write_json(&paths.out.join("config.json"), &Value::Object(self.model.config.with_classifier(&self.labels)))?;
        write_json(&paths.out.join("trainer_state.json"), &self.state.to_json(self.config, epoch))?;
        let tokenizer = paths.tokens.join(pipe_data::tokenize::TOKENIZER_FOLDER);
        let files: Vec<PathBuf> = pipe_data::tokenize::tokenizer_files(&tokenizer).into_iter().map(PathBuf::from).collect();
        for (folder, name) in
            files.iter().map(|name| (&tokenizer, name.as_path())).chain([(&paths.tokens.to_owned(), Path::new(pipe_core::provenance::FILE_NAME))])
        {
            std::fs::copy(folder.join(name), paths.out.join(name)).doing("copy", &folder.join(name))?;
        }
        Ok(())
    }

    fn summary(&self, rows_trained: u64, record: Value) -> Summary {
        let best = match (self.state.best_metric, self.state.best_step) {
            (Some(value), Some(step)) => format!(", best {} {value:.4} at step {step}", self.config.best_metric()),
            _ => String::new(),
        };
        let loss = self.state.total_loss / self.state.global_step.max(1) as f64;
        let line = format!("{} rows, {} steps, loss {loss:.3}{best}", self.rows.len(), self.state.global_step);
        Summary { rows: rows_trained, line, figures: BTreeMap::from([("train".to_owned(), record)]), ..Summary::default() }
    }
}

/// The model that training begins with: a pretrained one, or one whose weights are drawn.
fn start(
    config: &TrainConfig,
    path: Option<&Path>,
    tokens: &Tokenization,
    labels: &[String],
    device: Device,
    progress: &dyn Progress,
) -> Result<(Model, Loaded)> {
    let path = || path.ok_or_else(|| Error::internal("a training without its model"));
    let shape = match config.model.new_model() {
        None => return Model::for_training(path()?, labels, device, config.bf16, config.seed),
        Some(NewModel::Inline(shape)) => ModelConfig::for_tokenizer(shape.to_json(), tokens)?,
        Some(NewModel::File(_)) => ModelConfig::from_file_for_tokenizer(path()?, tokens)?,
    };
    let model = Model::from_scratch(shape, labels, device, config.bf16, config.seed)?;
    progress.note(&format!("a new model of {:.1} million parameters ({} classes)", model.size() as f64 / 1e6, labels.len()));
    Ok((model, Loaded::default()))
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    std::fs::write(path, serde_json::to_vec_pretty(value).expect("plain data")).doing("write", path)
}

/// Evaluation within training keeps the bar at the training step.
struct Quiet<'p>(&'p dyn Progress);

impl Progress for Quiet<'_> {
    fn advance(&self, _: u64, _: u64, _: &str, _: &str) {}

    fn note(&self, text: &str) {
        self.0.note(text);
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }
}
