//! Against transformers: logits, loss, every gradient, and ten steps of its Trainer. The references and the script
//! that made them are in `tests/fixtures`.
//!
//! Tolerances: logits relative to the largest of them; gradients ‖a−b‖ ≤ 1e-4·‖b‖ + 1e-7·‖all gradients‖, because
//! the gradient of a key's bias is truly zero and has no relative error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use pipe_core::config::{SamplingStrategy, TokenizeConfig, TrainConfig};
use pipe_core::{Batch, Silent};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use tch::{Device, Kind, Reduction, Tensor};

use crate::model::Model;
use crate::optimizer::AdamW;
use crate::schedule::Schedule;
use crate::trainer::{TrainPaths, train};

/// libtorch has one random generator for the process, and tests run side by side.
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

pub(crate) fn batch(reference: &BTreeMap<String, Tensor>, prefix: &str) -> Batch {
    let get = |name: &str| &reference[&format!("{prefix}.{name}")];
    let ints = |name: &str| Vec::<i64>::try_from(get(name).reshape([-1])).unwrap();
    let size = get("input_ids").size();
    Batch {
        length: size[1] as usize,
        rows: (0..size[0] as usize).collect(),
        input_ids: ints("input_ids"),
        attention_mask: ints("attention_mask"),
        token_type_ids: ints("token_type_ids"),
        labels: ints("labels"),
    }
}

fn model(name: &str) -> Model {
    let labels = pipe_model::ModelConfig::read(&fixture(name)).unwrap().labels().unwrap();
    let (model, loaded) = Model::for_training(&fixture(name), &labels, Device::Cpu, false, 1).unwrap();
    assert!(loaded.new_modules.is_empty(), "the fixture has a head of its own");
    model
}

pub(crate) fn norm(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).norm().double_value(&[])
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

fn mean_loss(model: &Model, batch: &Batch) -> (Tensor, Tensor) {
    let logits = model.forward(batch, true).unwrap();
    let loss = logits.cross_entropy_loss::<Tensor>(&Tensor::from_slice(&batch.labels), None, Reduction::Mean, -100, 0.0);
    (logits, loss)
}

#[test]
fn logits_loss_and_gradients_are_those_of_transformers() {
    for name in ["tiny-bert-cls", "tiny-bert-relu", "tiny-bert-gelu-new"] {
        let mut model = model(name);
        model.config.set_dropout(0.0);
        let reference = tensors(&fixture(&format!("{name}.reference.safetensors")));
        for prefix in ["batch1", "batch0"] {
            let (logits, loss) = mean_loss(&model, &batch(&reference, prefix));
            check_outputs(&logits, &loss, &reference, prefix, name);
            if prefix == "batch0" {
                loss.backward();
            }
        }
        check_gradients(&model, &reference, name);
    }
}

#[test]
fn ten_steps_follow_the_trainer_of_transformers() {
    let recorded: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture("adamw.reference.json")).unwrap()).unwrap();
    let reference = tensors(&fixture("adamw.reference.safetensors"));
    let config = TrainConfig { learning_rate: 1e-3, weight_decay: 0.01, warmup_steps: 3.0, ..TrainConfig::default() };
    let mut model = model("tiny-bert-cls");
    model.config.set_dropout(0.0);
    let (mut optimizer, schedule) = (AdamW::new(&model.parameters, &config), Schedule::new(&config, 10));
    let steps = recorded["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 10);
    for (step, expected) in steps.iter().enumerate() {
        let (_, loss) = mean_loss(&model, &batch(&reference, &format!("step{step}")));
        loss.backward();
        let rate = schedule.rate(step as u64);
        let norm = optimizer.step(step as u64, rate).unwrap();
        for (what, ours, theirs) in
            [("loss", loss.double_value(&[]), &expected["loss"]), ("grad_norm", norm, &expected["grad_norm"]), ("lr", rate, &expected["lr"])]
        {
            let theirs = theirs.as_f64().unwrap();
            assert!((ours - theirs).abs() <= 1e-4 * theirs.abs(), "step {step}: {what} is {ours}, transformers has {theirs}");
        }
    }
    for (name, expected) in reference.iter().filter_map(|(name, tensor)| Some((name.strip_prefix("final.")?, tensor))) {
        let error = norm(&(&model.parameters[name] - expected)) / norm(expected);
        assert!(error < 1e-5, "{name} differs by {error:e} after ten steps");
    }
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

/// Trains on the sample; the losses logged and the weights.
fn trained(tokens: &Path, folder: &Path, config: &TrainConfig) -> (Vec<f64>, BTreeMap<String, Tensor>) {
    let (out, scratch, record) = (folder.join("out"), folder.join("scratch"), folder.join("record"));
    for dir in [&out, &scratch] {
        std::fs::create_dir_all(dir).unwrap();
    }
    let paths = TrainPaths { model: Some(&fixture("tiny-bert")), tokens, out: &out, scratch: &scratch, record: &record };
    train(config, &paths, Device::Cpu, &Silent).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(out.join("trainer_state.json")).unwrap()).unwrap();
    let losses = state["log_history"].as_array().unwrap().iter().filter_map(|row| row["loss"].as_f64()).collect();
    (losses, tensors(&out.join("model.safetensors")))
}

#[test]
fn accumulation_equals_the_full_batch() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(folder.path());
    for train_sampling_strategy in [SamplingStrategy::Random, SamplingStrategy::GroupByLength] {
        let config = |batch, accumulate| TrainConfig {
            per_device_train_batch_size: batch,
            gradient_accumulation_steps: accumulate,
            learning_rate: 1e-3,
            weight_decay: 0.01,
            num_train_epochs: 2.0,
            dropout: Some(0.0),
            logging_steps: 1,
            train_sampling_strategy,
            ..TrainConfig::default()
        };
        let (full_losses, full) = trained(&tokens, &folder.path().join(format!("full-{train_sampling_strategy:?}")), &config(16, 1));
        // The last effective batch of an epoch is smaller, and its micro-batches are uneven.
        for (batch, accumulate) in [(4, 4), (8, 2)] {
            let (losses, weights) =
                trained(&tokens, &folder.path().join(format!("{batch}x{accumulate}-{train_sampling_strategy:?}")), &config(batch, accumulate));
            assert_eq!(losses.len(), full_losses.len());
            for (step, (ours, theirs)) in losses.iter().zip(&full_losses).enumerate() {
                assert!((ours - theirs).abs() < 1e-5, "{batch} × {accumulate}, step {step}: loss {ours} and {theirs}");
            }
            // A key's bias shifts all scores of a row alike: its true gradient is zero, and Adam steps on its rounding noise.
            for (name, expected) in full.iter().filter(|(name, _)| !name.ends_with("attention.self.key.bias")) {
                let error = norm(&(&weights[name] - expected)) / (norm(expected) + 1e-3);
                assert!(error < 1e-4, "{batch} × {accumulate}: {name} differs by {error:e}");
            }
        }
    }
}

#[test]
fn dropout_changes_training_and_the_same_seed_repeats_it() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let tokens = sample_tokens(folder.path());
    let config = |seed, dropout| TrainConfig { seed, dropout, max_steps: 4, logging_steps: 1, learning_rate: 1e-3, ..TrainConfig::default() };
    let mut runs = Vec::new();
    for (at, config) in [config(1, None), config(1, None), config(1, Some(0.0)), config(2, None)].iter().enumerate() {
        runs.push(trained(&tokens, &folder.path().join(at.to_string()), config).0);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
    assert_ne!(runs[0], runs[3]);
}

#[test]
fn bf16_stays_close_to_f32() {
    let reference = tensors(&fixture("tiny-bert-cls.reference.safetensors"));
    let mut model = model("tiny-bert-cls");
    model.bf16 = true;
    let (logits, loss) = mean_loss(&model, &batch(&reference, "batch0"));
    let expected = &reference["batch0.logits"];
    let error = (&logits - expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[]);
    // Eight bits of mantissa, and not bit for bit the f32 result.
    assert!(error < 0.1 && error > 1e-6, "bf16 logits differ by {error:e}");
    loss.backward();
    assert!(model.parameters.values().all(|parameter| parameter.grad().isfinite().all().double_value(&[]) == 1.0));
}
