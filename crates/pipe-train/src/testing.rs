//! Fixtures that tests share: tiny models, the sample tweets as tokens, and trainings of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use pipe_core::config::{TokenizeConfig, TrainConfig};
use pipe_core::{Batch, Class, Error, Labels, Progress, Result, Silent, Summary, Task};
use pipe_model::Head;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::model::Model;
use crate::trainer::{TrainPaths, train};

/// libtorch has one random generator for the process, which loading a model seeds, and tests run side by side.
static GENERATOR: Mutex<()> = Mutex::new(());

pub(crate) fn alone() -> MutexGuard<'static, ()> {
    tch::set_num_threads(1);
    GENERATOR.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// All tensors of a file, integers as integers.
pub(crate) fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |view: safetensors::tensor::TensorView<'_>| {
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        let kind = if view.dtype() == Dtype::I64 { Kind::Int64 } else { Kind::Float };
        Tensor::from_data_size(view.data(), &shape, kind)
    };
    file.iter().map(|(name, view)| (name.to_owned(), tensor(view))).collect()
}

pub(crate) fn model(name: &str) -> Model {
    let labels = pipe_model::ModelConfig::read(&fixture(name)).unwrap().labels().unwrap();
    let (model, loaded) = Model::for_training(&fixture(name), Task::SequenceClassification, &labels, Device::Cpu, false, 1).unwrap();
    assert!(loaded.new_modules.is_empty(), "the fixture has a head of its own");
    model
}

pub(crate) fn norm(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).norm().double_value(&[])
}

/// Rates of dropout as `dropout.logits` of the fixtures have them. An encoder that classifies rows computes one position of its last
/// layer and transformers all of them, so that a generator of random numbers is in step for what its head drops alone.
pub(crate) fn drop_as_transformers(model: &mut Model) {
    match model.head {
        Head::SequenceClassification { .. } if !model.config.is_decoder() => model.config.classifier_dropout = 0.2,
        _ => model.config.set_dropout(0.2),
    }
}

/// A batch of classified rows.
pub(crate) fn batch(reference: &BTreeMap<String, Tensor>, prefix: &str) -> Batch {
    let labels = &reference[&format!("{prefix}.labels")];
    Batch { labels: Labels::Classes(Vec::try_from(labels.reshape([-1])).unwrap()), ..unlabelled(reference, prefix) }
}

pub(crate) fn unlabelled(reference: &BTreeMap<String, Tensor>, prefix: &str) -> Batch {
    let get = |name: &str| &reference[&format!("{prefix}.{name}")];
    let ints = |name: &str| Vec::<i64>::try_from(get(name).reshape([-1])).unwrap();
    let size = get("input_ids").size();
    Batch {
        length: size[1] as usize,
        rows: (0..size[0] as usize).collect(),
        input_ids: ints("input_ids"),
        attention_mask: ints("attention_mask"),
        token_type_ids: ints("token_type_ids"),
        labels: Labels::None,
        slots: None,
    }
}

/// The classes of a batch that has some.
pub(crate) fn classes(batch: &Batch) -> &[i64] {
    let Labels::Classes(classes) = &batch.labels else { panic!("a batch without classes") };
    classes
}

/// Every gradient of the model against `grad.<parameter>` of the reference.
pub(crate) fn check_gradients(model: &Model, reference: &BTreeMap<String, Tensor>, name: &str) {
    let gradients: BTreeMap<&str, &Tensor> = reference.iter().filter_map(|(name, tensor)| Some((name.strip_prefix("grad.")?, tensor))).collect();
    assert_eq!(gradients.len(), model.parameters.len(), "a gradient for every parameter");
    let all = gradients.values().map(|gradient| norm(gradient).powi(2)).sum::<f64>().sqrt();
    for (parameter, tensor) in &model.parameters {
        let expected = gradients[parameter.as_str()];
        let error = norm(&(tensor.grad() - expected));
        assert!(error <= 1e-4 * norm(expected) + 1e-7 * all, "{name}: gradient of {parameter} differs by {error:e}");
    }
}

/// Logits relative to the largest of them, and a loss relative to itself.
pub(crate) fn check_outputs(logits: &Tensor, loss: &Tensor, reference: &BTreeMap<String, Tensor>, prefix: &str, name: &str) {
    let expected = &reference[&format!("{prefix}.logits")];
    let error = (logits - expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[]);
    assert!(error < 1e-5, "{name} {prefix}: logits differ by {error:e}");
    let expected = reference[&format!("{prefix}.loss")].double_value(&[]);
    assert!((loss.double_value(&[]) - expected).abs() < 1e-5 * expected, "{name} {prefix}: loss");
}

/// The sample tweets as a token artifact.
pub(crate) fn sample_tokens(folder: &Path) -> PathBuf {
    use pipe_core::cache::Cache;
    use pipe_core::config::{ColumnsConfig, IngestConfig, SourceConfig, SourceFormat, SplitConfig, StageKind};
    use pipe_core::key::{Components, Key};
    let path = fixture("tweets-sample.csv");
    let config = IngestConfig {
        source: SourceConfig { encoding: "mac-roman".into(), ..SourceConfig::default() },
        columns: ColumnsConfig { label: Some("sentiment".into()), ..ColumnsConfig::default() },
        split: Some(SplitConfig { train: 0.8, validation: 0.2, test: 0.0, seed: 42, by: Default::default(), files: Default::default() }),
        ..IngestConfig::default()
    };
    let digest = pipe_core::digest::of_file(&path).unwrap();
    let source = pipe_data::ingest::IngestSource { file: pipe_core::source::SourceFile::new(path, SourceFormat::Csv), digest };
    let tokens = folder.join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let cache = Cache::open(&folder.join("cache")).unwrap();
    let components = Components {
        stage: StageKind::Ingest,
        version: StageKind::Ingest.version(),
        with: serde_json::json!({}),
        inputs: Vec::new(),
        sources: vec![source.digest.clone()],
        assets: BTreeMap::new(),
        environment: BTreeMap::new(),
    };
    let pending = cache.begin(&Key::of(&components), "").unwrap();
    let shards = pending.shards();
    let summary = pipe_data::ingest::run(
        &config,
        &pipe_data::ingest::IngestPlaces { root: folder, out: &pending.out(), scratch: &pending.scratch(), shards: &shards, names: None },
        &[source],
        &Silent,
    )
    .unwrap();
    let rows = pending.commit(&components, Vec::new(), summary.splits.clone()).unwrap();
    let config = TokenizeConfig { tokenizer: fixture("tiny-bert").into(), ..TokenizeConfig::default() };
    pipe_data::tokenize::run(&config, folder, &rows, &summary.splits, &tokens, &shards, &Silent).unwrap();
    tokens
}

/// Trains on the sample into `folder/out`, with checkpoints in `folder/scratch`.
pub(crate) fn attempt(tokens: &Path, folder: &Path, config: &TrainConfig, progress: &dyn Progress) -> Result<Summary> {
    let (out, scratch, record) = (folder.join("out"), folder.join("scratch"), folder.join("record"));
    for dir in [&out, &scratch] {
        std::fs::create_dir_all(dir).unwrap();
    }
    let paths = TrainPaths { model: Some(&fixture("tiny-bert")), tokens, out: &out, scratch: &scratch, record: &record };
    train(config, &paths, Device::Cpu, progress)
}

/// Trains on the sample; the losses logged and the weights.
pub(crate) fn trained(tokens: &Path, folder: &Path, config: &TrainConfig) -> (Vec<f64>, BTreeMap<String, Tensor>) {
    attempt(tokens, folder, config, &Silent).unwrap();
    let losses = log(folder).iter().filter_map(|row| row["loss"].as_f64()).collect();
    (losses, tensors(&folder.join("out/model.safetensors")))
}

/// `log_history` of a training in `folder`.
pub(crate) fn log(folder: &Path) -> Vec<Value> {
    read_json(&folder.join("out/trainer_state.json"))["log_history"].as_array().unwrap().clone()
}

pub(crate) fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What a training left, by file name.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder.join("out")).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

/// The checkpoints of a training in `folder`, by step.
pub(crate) fn checkpoints(folder: &Path) -> BTreeMap<u64, PathBuf> {
    let entries = std::fs::read_dir(folder.join("scratch")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter_map(|path| Some((path.file_name()?.to_str()?.strip_prefix("checkpoint-")?.parse().ok()?, path.clone()))).collect()
}

/// Ends a training in the middle.
pub(crate) enum Interruption {
    /// As SIGKILL does: without a word, once this step is made.
    KilledAt(u64),
    /// As SIGTERM does: asks to stop once this step is made.
    StoppedAt(u64, AtomicU64),
}

impl Interruption {
    pub(crate) fn stopped_at(step: u64) -> Interruption {
        Interruption::StoppedAt(step, AtomicU64::new(0))
    }
}

impl Progress for Interruption {
    fn advance(&self, done: u64, _: u64, _: &str, _: &str) {
        match self {
            Interruption::KilledAt(step) => assert!(done < *step, "killed"),
            Interruption::StoppedAt(_, now) => now.store(done, Ordering::Relaxed),
        }
    }

    fn note(&self, _: &str) {}

    fn check(&self) -> Result<()> {
        match self {
            Interruption::StoppedAt(step, now) if now.load(Ordering::Relaxed) >= *step => Err(Error::new(Class::Terminated, "asked to stop")),
            _ => Ok(()),
        }
    }
}

/// Trains until `interruption` ends it.
pub(crate) fn interrupted(tokens: &Path, folder: &Path, config: &TrainConfig, interruption: &Interruption) {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attempt(tokens, folder, config, interruption)));
    assert!(!matches!(result, Ok(Ok(_))), "the training was to be interrupted");
}
