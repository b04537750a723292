//! One match from a stage's config to the function that does it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipe_core::cache::{Artifact, PendingArtifact, Shards};
use pipe_core::config::{EvaluateConfig, EvaluateOf, ExportConfig, NewModel, PredictConfig, StageConfig, StageKind, TrainConfig};
use pipe_core::key::Components;
use pipe_core::provenance::Provenance;
use pipe_core::source::SourceFile;
use pipe_core::worker::{Command, PredictRequest, Request, ResolvedDevice};
use pipe_core::{Error, IoContext, Progress, Result, Step, Summary, Task};
use pipe_data::TokenSource;
use pipe_data::ingest::{self, IngestPlaces, IngestSource};
use pipe_data::predict::{self, Engine, PREDICTIONS, Scorer, TextPipeline};
use pipe_data::tokenize;
use pipe_onnx::{OrtGenerator, OrtPredictor, export};
use serde_json::json;

use crate::keys::KeyContext;
use crate::names;
use crate::signals::Signals;
use crate::worker::Worker;

/// Everything a stage may read, and where it writes.
pub(crate) struct StageContext<'c> {
    pub(crate) root: &'c Path,
    pub(crate) step: &'c Step<'c>,
    /// The step's settings, with local folders in the place of URLs.
    pub(crate) config: &'c StageConfig,
    /// Artifacts in the order of the step's inputs.
    pub(crate) inputs: Vec<&'c Artifact>,
    /// Ingest's source files; their digests are in `components`, in the same order.
    pub(crate) sources: Vec<SourceFile>,
    pub(crate) components: &'c Components,
    pub(crate) keys: &'c KeyContext<'c>,
    pub(crate) pending: &'c PendingArtifact,
    /// Folder for this run's timed records of the stage.
    pub(crate) record: PathBuf,
    pub(crate) signals: &'c Signals,
    pub(crate) progress: &'c dyn Progress,
}

pub(crate) fn run(context: &StageContext<'_>) -> Result<Summary> {
    let (out, shards) = (context.pending.out(), context.pending.shards());
    match context.config {
        StageConfig::Ingest(config) => {
            let digests = context.components.sources.iter().cloned();
            let sources: Vec<IngestSource> =
                context.sources.iter().cloned().zip(digests).map(|(file, digest)| IngestSource { file, digest }).collect();
            let names = config.scrub.ner.as_ref().map(|ner| names::open(&context.root.join(&ner.model), context.keys.native()?)).transpose()?;
            let scratch = context.pending.scratch();
            let places = IngestPlaces { root: context.root, out: &out, scratch: &scratch, shards: &shards, names: names.as_ref() };
            ingest::run(config, &places, &sources, context.progress)
        }
        StageConfig::Tokenize(config) => tokenize::run(config, context.root, context.inputs[0], &context.splits(0), &out, &shards, context.progress),
        StageConfig::Train(config) => train(config, context, out),
        StageConfig::Evaluate(config) => evaluate(config, context, out),
        StageConfig::Export(config) => export_onnx(config, context, &out),
        StageConfig::Predict(config) => predict_rows(config, context, &out, &shards),
        StageConfig::Sql(config) => crate::sql::run(config, context, &out),
    }
}

impl StageContext<'_> {
    /// Rows of the splits that the step reads of its input at `at`.
    pub(crate) fn splits(&self, at: usize) -> BTreeMap<String, u64> {
        let wanted = &self.step.inputs[at].splits;
        let splits = &self.inputs[at].manifest.splits;
        splits
            .iter()
            .filter(|(name, _)| wanted.as_ref().is_none_or(|wanted| wanted.contains(name)))
            .map(|(name, rows)| (name.clone(), *rows))
            .collect()
    }

    /// The one split that the step reads of its input at `at`.
    fn split(&self, at: usize) -> Result<String> {
        let split = self.splits(at).into_keys().next();
        split.ok_or_else(|| Error::usage(format!("stage `{}` reads a split that its input does not have", self.step.stage.name)))
    }

    fn ask_worker(&self, command: Command, device: ResolvedDevice, threads: Option<usize>) -> Result<Summary> {
        let cuda_libraries = if device == ResolvedDevice::Cuda { self.keys.native()?.cuda_libraries() } else { None };
        let request = Request { command, device, threads, cuda_libraries };
        Worker::start(&request, self.pending.lock(), &self.record)?.wait(self.signals, self.progress)
    }
}

fn train(config: &TrainConfig, context: &StageContext<'_>, out: PathBuf) -> Result<Summary> {
    let device = context.keys.native()?.resolve_device(config.device)?;
    let model = match config.model.new_model() {
        Some(NewModel::File(path)) => Some(path),
        Some(NewModel::Inline(_)) => None,
        None => config.model.folder(),
    };
    let command = Command::Train {
        config: Box::new(config.clone()),
        model: model.map(|path| context.root.join(path)),
        tokens: context.inputs[0].path.clone(),
        out,
        scratch: context.pending.scratch(),
        record: context.record.clone(),
    };
    context.ask_worker(command, device, config.torch_threads)
}

/// On the trained model in the worker, on an export right here.
fn evaluate(config: &EvaluateConfig, context: &StageContext<'_>, out: PathBuf) -> Result<Summary> {
    if config.of == EvaluateOf::Predictions {
        let report = predict::evaluate_texts(&context.inputs[0].path.join(PREDICTIONS), config, context.progress)?;
        report.write(&out)?;
        let metrics = config.metrics.clone().unwrap_or_else(|| ["bleu", "rougeL", "chrf", "exact_match"].map(str::to_owned).to_vec());
        return Ok(report.summary(&metrics));
    }
    let (model, tokens_at) = match &config.model {
        Some(model) => (context.root.join(model), 0),
        None => (context.inputs[0].path.clone(), 1),
    };
    let (model, tokens, split) = (&model, &context.inputs[tokens_at].path, context.split(tokens_at)?);
    if context.step.inputs[0].kind == StageKind::Train {
        let device = context.keys.native()?.resolve_device(config.device)?;
        let command = Command::Evaluate {
            config: config.clone(),
            model: model.clone(),
            tokens: tokens.clone(),
            split,
            out,
            scratch: context.pending.scratch(),
        };
        return context.ask_worker(command, device, config.torch_threads);
    }
    let mut predictor = OrtPredictor::open(model, context.keys.native()?, config.torch_threads)?;
    let data = Provenance::read(tokens)?;
    Provenance::read(model)?.check_data(&data)?;
    let source = TokenSource::open(tokens, &split, &context.pending.scratch())?;
    let evaluation = config.evaluation(data.task, &data.labels);
    let report = pipe_core::evaluate(&mut predictor, &source, &evaluation, context.progress)?;
    report.write(&out)?;
    Ok(report.summary(&config.metrics(data.task, &data.labels)))
}

/// The worker scores some real rows, then the graph is recorded and must score them the same.
fn export_onnx(config: &ExportConfig, context: &StageContext<'_>, out: &Path) -> Result<Summary> {
    let (model, tokens) = (&context.inputs[0].path, &context.inputs[1].path);
    let scratch = context.pending.scratch();
    let reference = scratch.join("reference.safetensors");
    let command = Command::Reference {
        model: model.clone(),
        tokens: tokens.clone(),
        split: context.split(1)?,
        rows: config.parity.rows,
        out: reference.clone(),
        scratch,
    };
    // One thread: the measured difference is part of the artifact and must not depend on the number of cores.
    context.ask_worker(command, ResolvedDevice::Cpu, Some(1))?;
    if Provenance::read(model)?.task == Task::CausalLm {
        return export::run_causal_lm(config, model, &reference, context.keys.native()?, out, context.progress);
    }
    export::run(config, model, &reference, context.keys.native()?, out, context.progress)
}

/// With the trained model in the worker, with an export right here.
fn predict_rows(config: &PredictConfig, context: &StageContext<'_>, out: &Path, shards: &Shards) -> Result<Summary> {
    let (model, rows_at) = match &config.model {
        Some(model) => (context.root.join(model), 0),
        None => (context.inputs[0].path.clone(), 1),
    };
    let (rows, components) = (context.inputs[rows_at], context.components);
    let identity = json!({
        "model": components.assets.get("model").map_or_else(|| json!(components.inputs[0].parts), |digest| json!(digest)),
        "with": components.with,
        "environment": components.environment,
        "scrubbed": predict::scrubbed_by(rows)?,
    });
    std::fs::create_dir_all(out).doing("make the folder", out)?;
    let (native, splits) = (context.keys.native()?, context.splits(rows_at));
    if context.step.predicts_with_torch() {
        let (root, rows, out) = (context.root.to_owned(), rows.path.clone(), out.to_owned());
        let request = PredictRequest { config: config.clone(), root, model, rows, splits, identity, shards: shards.share(), out };
        return context.ask_worker(Command::Predict(Box::new(request)), native.resolve_device(config.device)?, config.threads);
    }
    let names = config.ner.as_ref().map(|folder| names::open(&context.root.join(folder), native)).transpose()?;
    let pipeline = TextPipeline::of_stage(&model, config, context.root, rows, names)?;
    let (mut predictor, mut writer);
    let engine = if pipeline.task() == Task::CausalLm {
        writer = OrtGenerator::open(&model, native, config.threads)?;
        Engine::Writes { model: &mut writer, generation: &config.generation }
    } else {
        predictor = OrtPredictor::open(&model, native, config.threads)?;
        Engine::Scores(&mut predictor)
    };
    // What is kept under the model's name must be its own: it may have been replaced since its key was computed.
    if !context.keys.unchanged(context.step, &context.inputs, components, context.progress)? {
        return Err(Error::input("the model changed while it was read").hint("run again once it is complete"));
    }
    let scorer = Scorer { pipeline: &pipeline, engine, identity, keep_columns: &config.keep_columns };
    let counts = predict::run(scorer, rows, &splits, &out.join(PREDICTIONS), shards, context.progress)?;
    Ok(predict::summary(pipeline.task(), &counts, shards))
}
