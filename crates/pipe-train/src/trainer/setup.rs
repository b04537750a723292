//! From settings, tokens and a model to a [`Trainer`].

use std::path::Path;
use std::time::Instant;

use pipe_core::config::{IntervalStrategy, NewModel, TrainConfig};
use pipe_core::metrics::{family, names};
use pipe_core::provenance::{Provenance, Tokenization};
use pipe_core::{BatchSource, Error, Progress, Result, Task, unlabelled};
use pipe_data::TokenSource;
use pipe_model::ModelConfig;
use tch::Device;

use super::{TrainPaths, Trainer};
use crate::backend::TrainingOptions;
use crate::checkpoint::Checkpoints;
use crate::intervals::Intervals;
use crate::loss::Loss;
use crate::loss_scale::LossScale;
use crate::model::Model;
use crate::optimizer::{Optimizer, Rates, freeze};
use crate::schedule::{Plateau, Schedule};
use crate::state::TrainerState;
use crate::tensorboard::EventFile;
use crate::weights::Loaded;
use crate::{sampler, shim};

impl<'t> Trainer<'t> {
    pub(super) fn new(config: &'t TrainConfig, paths: &TrainPaths<'_>, device: Device, progress: &'t dyn Progress) -> Result<Trainer<'t>> {
        let started = Instant::now();
        check_device(config, device)?;
        let provenance = Provenance::read(paths.tokens)?;
        let (task, labels) = (task_of(config, provenance.task)?, provenance.labels);
        if task == Task::SequenceClassification && labels.len() < 2 {
            return Err(unlabelled("train", task));
        }
        check_metric(config, task, &labels)?;
        let train = TokenSource::open(paths.tokens, "train", paths.scratch)?;
        let validation = validation(config, paths)?;
        if train.rows() == 0 || validation.as_ref().is_some_and(|(_, rows)| rows.is_empty()) {
            return Err(Error::input("a split to train or evaluate on is empty")
                .hint("give ingest's `split:` larger shares, `by: stratified` where there are few rows, or more rows"));
        }
        if train.labels_of(&[0]).is_none() {
            return Err(unlabelled("train", task));
        }
        let rows = train.rows_of(sampler::subset(train.items(), config.max_train_samples, config.seed));
        let counts = if task.has_classes() { train.class_counts(&rows)? } else { Vec::new() };
        let (mut model, loaded) = start(config, paths.model, task, &provenance.tokenize, &labels, device, progress)?;
        model.config.pad_with(i64::from(provenance.tokenize.pad_token_id))?;
        if let Some(p) = config.dropout {
            model.config.set_dropout(p);
        }
        model.options = TrainingOptions { fp16: config.fp16, neftune_noise_alpha: config.neftune_noise_alpha.unwrap_or(0.0) };
        for source in std::iter::once(&train).chain(validation.as_ref().map(|(source, _)| source)) {
            model.check_rows(source.lengths(), provenance.tokenize.vocab_size)?;
        }
        if !loaded.new_modules.is_empty() {
            let names: Vec<&str> = loaded.new_modules.iter().map(String::as_str).collect();
            let classes = if task.has_classes() { format!(" ({} classes)", labels.len()) } else { String::new() };
            progress.note(&format!("new layers, to be learned: {}{classes}", names.join(", ")));
        }
        let frozen = freeze(&model.parameters, &config.freeze)?;
        let rates = Rates::new(config, &model.parameters, model.head_names());
        let optimizer = Optimizer::new(&model.parameters, &model.marks, config, &rates);
        if frozen > 0 {
            progress.note(&format!(
                "{:.1} of {:.1} million weights are trained, the others are frozen",
                millions(optimizer.size()),
                millions(model.size())
            ));
        }
        let steps_per_epoch = steps_per_epoch(config, rows.len())?;
        let total = if config.max_steps > 0 { config.max_steps as u64 } else { (steps_per_epoch as f64 * config.num_train_epochs).ceil() as u64 };
        let intervals = Intervals::new(config, steps_per_epoch, total);
        // The last step is evaluated, unless the delay goes beyond it.
        if config.eval_strategy != IntervalStrategy::No && !intervals.evaluates_at(total) {
            return Err(Error::usage(format!(
                "`eval_delay` is {}, and the training ends before that: no model would be evaluated",
                config.eval_delay
            ))
            .hint(format!("lower it (the training has {total} steps of {steps_per_epoch} an epoch), or set `eval_strategy: no`")));
        }
        Ok(Trainer {
            loss: Loss::new(config, task, &labels, &counts)?,
            optimizer,
            schedule: Schedule::new(config, total),
            intervals,
            checkpoints: Checkpoints::new(paths.scratch, config.save_total_limit),
            events: EventFile::create(&paths.record.join("tensorboard"))?,
            state: TrainerState {
                max_steps: total,
                plateau: Plateau::new(config),
                loss_scale: config.fp16.then(LossScale::new),
                ..TrainerState::default()
            },
            config,
            progress,
            model,
            task,
            labels,
            train,
            validation,
            rows,
            steps_per_epoch,
            evaluations: Vec::new(),
            first_step: None,
            started,
        })
    }
}

/// What is learned of tokens that were made for `tokens`.
fn task_of(config: &TrainConfig, tokens: Task) -> Result<Task> {
    match config.task.filter(|task| !task.covers(tokens)) {
        Some(task) => Err(Error::usage(format!("`task` is {}, the rows were tokenized for {}", task.name(), tokens.name()))
            .hint(format!("set `task: {}` in the tokenize stage, or map the columns that it needs in ingest", task.name()))),
        None => Ok(tokens),
    }
}

/// What picks the best model must be measured, and not be found missing after an epoch.
fn check_metric(config: &TrainConfig, task: Task, labels: &[String]) -> Result<()> {
    let (name, known) = (config.best_metric(), names(family(task, labels)));
    if name == "loss" || known.contains(&name.as_str()) || config.eval_strategy == IntervalStrategy::No {
        return Ok(());
    }
    Err(Error::usage(format!("`metric_for_best_model: {name}` is not measured for {}", task.name()))
        .hint(format!("measured are loss, {}", known.join(", "))))
}

fn millions(count: usize) -> f64 {
    count as f64 / 1e6
}

/// What only a GPU can do is refused, never done otherwise in silence.
fn check_device(config: &TrainConfig, device: Device) -> Result<()> {
    for (setting, wanted) in [("fp16", config.fp16), ("tf32", config.tf32)] {
        if wanted && !device.is_cuda() {
            return Err(Error::usage(format!("`{setting}: true` needs a GPU, and this run computes on the CPU"))
                .hint(format!("remove `{setting}`, or use `bf16: true`, which a CPU can do")));
        }
    }
    if config.tf32 {
        shim::allow_tf32();
    }
    Ok(())
}

/// The rows to evaluate on while training: drawn, not the first ones, for files are often sorted by class.
fn validation(config: &TrainConfig, paths: &TrainPaths<'_>) -> Result<Option<(TokenSource, Vec<usize>)>> {
    if config.eval_strategy == IntervalStrategy::No {
        return Ok(None);
    }
    let source = TokenSource::open(paths.tokens, "validation", paths.scratch)?;
    let rows = source.rows_of(sampler::subset(source.items(), config.max_eval_samples, config.seed));
    Ok(Some((source, rows)))
}

fn steps_per_epoch(config: &TrainConfig, rows: usize) -> Result<u64> {
    let effective = config.per_device_train_batch_size * config.gradient_accumulation_steps;
    if !config.dataloader_drop_last {
        return Ok(rows.div_ceil(effective) as u64);
    }
    match rows / effective {
        0 => Err(Error::usage(format!("`dataloader_drop_last` leaves nothing: there are {rows} rows, an effective batch has {effective}"))
            .hint("remove `dataloader_drop_last`, or lower `per_device_train_batch_size` or `gradient_accumulation_steps`")),
        steps => Ok(steps as u64),
    }
}

/// The model that training begins with: a pretrained one, or one whose weights are drawn.
fn start(
    config: &TrainConfig,
    path: Option<&Path>,
    task: Task,
    tokens: &Tokenization,
    labels: &[String],
    device: Device,
    progress: &dyn Progress,
) -> Result<(Model, Loaded)> {
    let path = || path.ok_or_else(|| Error::internal("a training without its model"));
    let shape = match config.model.new_model() {
        None => return Model::for_training(path()?, task, labels, device, config.bf16, config.seed),
        Some(NewModel::Inline(shape)) => ModelConfig::for_tokenizer(shape.to_json(), tokens)?,
        Some(NewModel::File(_)) => ModelConfig::from_file_for_tokenizer(path()?, tokens)?,
    };
    let model = Model::from_scratch(shape, task, labels, device, config.bf16, config.seed)?;
    let classes = if task.has_classes() { format!(" ({} classes)", labels.len()) } else { String::new() };
    progress.note(&format!("a new model of {:.1} million parameters{classes}", millions(model.size())));
    Ok((model, Loaded::default()))
}
