//! The head and the loss of every task against transformers. The models and what transformers computes with them are in
//! `tests/fixtures/tasks`; tolerances are those of `parity_tests`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pipe_core::config::TrainConfig;
use pipe_core::{Batch, Labels, Predictor, Task};
use pipe_model::{ModelConfig, Part, canonical_name, parameters};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::loss::Loss;
use crate::model::Model;
use crate::optimizer::{Optimizer, Rates};
use crate::schedule::Schedule;
use crate::testing::{alone, check_gradients, drop_as_transformers, fixture, norm, read_json, sample_tokens, tensors, unlabelled};
use crate::{kernels, recompute, weights};

const FAMILIES: [&str; 7] = ["bert", "roberta", "distilbert", "gpt2", "llama", "mistral", "qwen2"];

/// Families and tasks of which there is a model.
fn cases() -> impl Iterator<Item = Case> {
    FAMILIES.into_iter().flat_map(|family| {
        let path = move |task: Task| fixture("tasks").join(family).join(format!("{}.json", task.name()));
        Task::ALL.into_iter().filter(move |task| path(*task).exists()).map(move |task| Case::new(family, task))
    })
}

/// A model folder as transformers saves it, and what it computes.
struct Case {
    family: &'static str,
    task: Task,
    folder: tempfile::TempDir,
    reference: BTreeMap<String, Tensor>,
}

impl Case {
    fn new(family: &'static str, task: Task) -> Case {
        let (from, folder) = (fixture("tasks").join(family), tempfile::tempdir().unwrap());
        std::fs::copy(from.join(format!("{}.json", task.name())), folder.path().join("config.json")).unwrap();
        let mut reference = tensors(&from.join(format!("{}.safetensors", task.name())));
        let mut weights = tensors(&from.join("base.safetensors"));
        if task == Task::QuestionAnswering && ["llama", "qwen2"].contains(&family) {
            weights = weights.into_iter().map(|(name, tensor)| (name.replacen("model.", "transformer.", 1), tensor)).collect();
        }
        weights.extend(reference.iter().filter_map(|(name, tensor)| Some((name.strip_prefix("weight.")?.to_owned(), tensor.shallow_clone()))));
        weights::save(&weights, &folder.path().join("model.safetensors")).unwrap();
        let config = ModelConfig::read(folder.path()).unwrap();
        reference = reference
            .into_iter()
            .map(|(name, tensor)| match name.strip_prefix("grad.") {
                Some(parameter) => (format!("grad.{}", canonical_name(&config, parameter).unwrap()), tensor),
                None => (name, tensor),
            })
            .collect();
        Case { family, task, folder, reference }
    }

    fn name(&self) -> String {
        format!("{} {}", self.family, self.task.name())
    }

    fn open(&self) -> Model {
        let model = Model::open(self.folder.path(), Device::Cpu, false).unwrap();
        for parameter in model.parameters.values() {
            let _ = parameter.set_requires_grad(true);
        }
        model
    }

    fn labels(&self) -> Vec<String> {
        ModelConfig::read(self.folder.path()).unwrap().labels().unwrap_or_default()
    }

    fn loss(&self) -> Loss {
        Loss::new(&TrainConfig::default(), self.task, &self.labels(), &[]).unwrap()
    }

    fn batch(&self, prefix: &str) -> Batch {
        labelled(&self.reference, prefix, self.task)
    }

    /// One row of a batch that is padded on the right, without its padding.
    fn row(&self, prefix: &str, row: i64) -> Batch {
        let mask = &self.reference[&format!("{prefix}.attention_mask")];
        let length = mask.get(row).sum(Kind::Int64).int64_value(&[]);
        let width = mask.size()[1];
        let part = |name: &str, tensor: &Tensor| {
            let row = tensor.narrow(0, row, 1);
            let row = if row.dim() > 1 && row.size()[1] == width { row.narrow(1, 0, length) } else { row };
            (name.to_owned(), row)
        };
        let wanted = ["input_ids", "attention_mask", "token_type_ids", "labels"].map(|name| format!("{prefix}.{name}"));
        labelled(&wanted.iter().map(|name| part(name, &self.reference[name])).collect(), prefix, self.task)
    }

    fn rows(&self, prefix: &str) -> Vec<Batch> {
        (0..self.reference[&format!("{prefix}.input_ids")].size()[0]).map(|row| self.row(prefix, row)).collect()
    }
}

/// A batch with the labels of a task, as `pipe-data` makes it.
fn labelled(reference: &BTreeMap<String, Tensor>, prefix: &str, task: Task) -> Batch {
    let labels = &reference[&format!("{prefix}.labels")];
    let floats = || Vec::<f32>::try_from(labels.reshape(-1)).unwrap();
    let mut batch = unlabelled(reference, prefix);
    batch.labels = match task {
        Task::MultiLabelClassification => Labels::Flags(floats()),
        Task::Regression => Labels::Values(floats()),
        Task::QuestionAnswering => Labels::Spans(Vec::<i64>::try_from(labels.reshape(-1)).unwrap().as_chunks::<2>().0.to_vec()),
        Task::SequenceClassification => Labels::Classes(Vec::try_from(labels).unwrap()),
        Task::TokenClassification | Task::CausalLm => {
            let labels = Vec::<i64>::try_from(labels.reshape(-1)).unwrap();
            // A language model's scores of a place are of the token after it.
            let back = usize::from(task == Task::CausalLm);
            let wanted = || (0..labels.len()).filter(|&at| labels[at] != -100);
            batch.slots = Some(wanted().map(|at| (at - back) as i64).collect());
            Labels::Classes(wanted().map(|at| labels[at]).collect())
        }
    };
    batch
}

/// Of scores of tokens those of padding as zeros.
fn without_padding(logits: &Tensor, batch: &Batch) -> Tensor {
    if logits.dim() == 2 {
        return logits.shallow_clone();
    }
    logits * Tensor::from_slice(&batch.attention_mask).view([batch.rows.len() as i64, batch.length as i64, 1])
}

/// The largest difference relative to the largest value.
fn relative(ours: &Tensor, theirs: &Tensor) -> f64 {
    (ours - theirs).abs().max().double_value(&[]) / theirs.abs().max().double_value(&[])
}

fn mean(case: &Case, model: &Model, batch: &Batch) -> Tensor {
    let loss = case.loss();
    loss.sum(&model.forward(batch, true).unwrap(), batch).unwrap() / loss.items(&batch.labels)
}

fn gradients(model: &Model) -> BTreeMap<String, Tensor> {
    model.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.grad().copy())).collect()
}

fn forget(model: &Model) {
    for parameter in model.parameters.values() {
        let mut parameter = parameter.shallow_clone();
        parameter.zero_grad();
    }
}

#[test]
fn logits_loss_and_gradients_are_those_of_transformers() {
    let mut compared = BTreeSet::new();
    for case in cases() {
        let (name, model) = (case.name(), case.open());
        let mut worst: [f64; 2] = [0.0; 2];
        for prefix in ["batch0", "batch1"] {
            let batch = case.batch(prefix);
            let everywhere = Batch { slots: None, ..batch.clone() };
            let all = model.forward(&everywhere, true).unwrap();
            let expected = &case.reference[&format!("{prefix}.logits")];
            let error = relative(&without_padding(&all, &batch), &without_padding(expected, &batch));
            assert!(error < 1e-5, "{name} {prefix}: logits differ by {error:e}");
            if let Some(slots) = &batch.slots {
                let picked = all.flatten(0, 1).index_select(0, &Tensor::from_slice(slots));
                assert!(relative(&model.forward(&batch, true).unwrap(), &picked) < 1e-6, "{name} {prefix}: scores of slots");
            }
            let loss = mean(&case, &model, &batch);
            let expected = case.reference[&format!("{prefix}.loss")].double_value(&[]);
            let difference = (loss.double_value(&[]) - expected).abs() / expected;
            assert!(difference < 1e-5, "{name} {prefix}: loss is {loss}, transformers has {expected}");
            worst = [worst[0].max(error), worst[1].max(difference)];
            loss.backward();
        }
        check_gradients(&model, &case.reference, &name);
        let expected = |name: &str| &case.reference[&format!("grad.{name}")];
        let all = model.parameters.keys().map(|name| norm(expected(name)).powi(2)).sum::<f64>().sqrt();
        let gradient = model.parameters.iter().map(|(name, tensor)| norm(&(tensor.grad() - expected(name))) / (norm(expected(name)) + 1e-3 * all));
        println!("{name}: logits {:.1e}, loss {:.1e}, gradients {:.1e}", worst[0], worst[1], gradient.fold(0.0, f64::max));
        compared.insert(case.task);
    }
    assert_eq!(compared.len(), 5);
}

/// The generator of libtorch's dropout draws the same numbers only if the same things are dropped in the same order.
#[test]
fn dropout_is_where_transformers_has_it() {
    let _alone = alone();
    for case in cases() {
        let (mut model, batch) = (case.open(), Batch { slots: None, ..case.batch("batch0") });
        drop_as_transformers(&mut model);
        tch::manual_seed(7);
        let logits = kernels::with_libtorch_alone(|| model.forward(&batch, true)).unwrap();
        let error = relative(&without_padding(&logits, &batch), &without_padding(&case.reference["dropout.logits"], &batch));
        assert!(error < 1e-5, "{}: {error:e}", case.name());
    }
}

#[test]
fn recomputed_layers_have_the_gradients_of_kept_ones_bit_for_bit() {
    let _alone = alone();
    for case in cases() {
        let (mut model, batch, loss) = (case.open(), case.batch("batch0"), case.loss());
        model.config.set_dropout(0.2);
        let sum = |logits: &Tensor| loss.sum(logits, &batch);
        tch::manual_seed(7);
        let kept = sum(&model.forward(&batch, true).unwrap()).unwrap();
        kept.backward();
        let expected = gradients(&model);
        forget(&model);
        tch::manual_seed(7);
        let value = recompute::backward(&model, &batch, &sum, 1.0).unwrap();
        assert_eq!(value, f64::try_from(kept).unwrap(), "{}", case.name());
        for (name, gradient) in gradients(&model) {
            assert!(gradient == expected[&name], "{}: {name}", case.name());
        }
    }
}

/// Rows of different lengths, each alone and without padding, against all of them at once.
#[test]
fn accumulation_equals_the_full_batch() {
    for case in cases() {
        let (model, full, loss) = (case.open(), case.batch("batch0"), case.loss());
        mean(&case, &model, &full).backward();
        let expected = gradients(&model);
        forget(&model);
        let items = loss.items(&full.labels);
        for row in case.rows("batch0") {
            (loss.sum(&model.forward(&row, true).unwrap(), &row).unwrap() / items).backward();
        }
        let all = expected.values().map(|gradient| norm(gradient).powi(2)).sum::<f64>().sqrt();
        let mut worst: f64 = 0.0;
        for (name, gradient) in gradients(&model) {
            let difference = norm(&(gradient - &expected[&name]));
            assert!(difference <= 1e-5 * norm(&expected[&name]) + 1e-7 * all, "{}: {name} differs by {difference:e}", case.name());
            worst = worst.max(difference / all);
        }
        println!("{}: accumulation {worst:.1e}", case.name());
    }
}

#[test]
fn ten_steps_follow_the_trainer_of_transformers() {
    let _alone = alone();
    let trainings = read_json(&fixture("tasks/trainings.json"));
    for training in trainings["trainings"].as_array().unwrap() {
        let case = cases().find(|case| training["family"] == case.family && training["task"] == case.task.name()).unwrap();
        let config: TrainConfig = serde_json::from_value(training["settings"].clone()).unwrap();
        let (config, model) = (config.canonical(), case.open());
        let mut optimizer = Optimizer::new(&model.parameters, &model.marks, &config, &Rates::new(&config, &model.parameters, BTreeSet::new()));
        let schedule = Schedule::new(&config, 10);
        let batches = match case.task {
            Task::QuestionAnswering => [case.rows("batch0"), case.rows("batch1")].concat(),
            _ => ["batch0", "batch1"].map(|prefix| case.batch(prefix)).to_vec(),
        };
        let mut worst: f64 = 0.0;
        for (step, theirs) in training["steps"].as_array().unwrap().iter().enumerate() {
            let loss = mean(&case, &model, &batches[step % batches.len()]);
            loss.backward();
            let rate = schedule.rate(step as u64, None);
            let grad_norm = optimizer.step(step as u64, rate, 1.0).unwrap();
            for (value, ours) in [("loss", loss.double_value(&[])), ("grad_norm", grad_norm), ("lr", rate)] {
                let theirs = theirs[value].as_f64().unwrap();
                worst = worst.max((ours - theirs).abs() / theirs.abs().max(1e-9));
                assert!((ours - theirs).abs() <= 1e-4 * theirs.abs(), "{}, step {step}: {value} is {ours}, transformers has {theirs}", case.name());
            }
        }
        println!("{}: ten steps {worst:.1e}", case.name());
    }
}

/// The folder that `PIPE_FAMILIES` names keeps what is saved, for `tests/parity/roundtrip.py`.
fn kept(name: &str, temporary: &tempfile::TempDir) -> PathBuf {
    let folder = std::env::var_os("PIPE_FAMILIES").map_or_else(|| temporary.path().to_owned(), PathBuf::from).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_saved_folder_is_what_transformers_saves() {
    let temporary = tempfile::tempdir().unwrap();
    for case in cases() {
        let (name, model) = (case.name(), case.open());
        let folder = kept(&format!("task-{}-{}", case.family, case.task.name()), &temporary);
        model.save(&folder.join("model.safetensors")).unwrap();
        let config = model.config.with_task(case.task, &case.labels());
        let theirs = read_json(&case.folder.path().join("config.json"));
        for field in ["architectures", "problem_type", "id2label", "label2id", "num_labels"] {
            assert_eq!(config.get(field), theirs.get(field), "{name}: {field}");
        }
        std::fs::write(folder.join("config.json"), serde_json::to_vec(&Value::Object(config)).unwrap()).unwrap();
        let names = |folder: &Path| tensors(&folder.join("model.safetensors")).into_keys().collect::<Vec<_>>();
        assert_eq!(names(&folder), names(case.folder.path()), "{name}");

        // What it gives here, which transformers must give too.
        let mut again = Model::open(&folder, Device::Cpu, false).unwrap();
        let mut outputs = BTreeMap::new();
        for prefix in ["batch0", "batch1"] {
            let batch = Batch { slots: None, ..case.batch(prefix) };
            let expected = &case.reference[&format!("{prefix}.logits")];
            let logits = Tensor::from_slice(&again.predict(&batch).unwrap().values).view(expected.size().as_slice());
            assert!(relative(&without_padding(&logits, &batch), &without_padding(expected, &batch)) < 1e-5, "{name}");
            outputs.insert(format!("{prefix}.logits"), logits);
            for input in ["input_ids", "attention_mask", "token_type_ids"].map(|input| format!("{prefix}.{input}")) {
                outputs.insert(input.clone(), case.reference[&input].shallow_clone());
            }
        }
        weights::save(&outputs, &folder.with_extension("reference.safetensors")).unwrap();
    }
}

/// The exporter compares every token of a row, also those that no label is of.
#[test]
fn a_reference_has_the_scores_of_rows_or_of_every_token() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (tokens, out) = (sample_tokens(folder.path()), folder.path().join("reference.safetensors"));
    let config = ModelConfig::read(&fixture("tiny-bert")).unwrap();
    for (task, scores) in [(Task::TokenClassification, 3), (Task::QuestionAnswering, 2), (Task::MultiLabelClassification, 3), (Task::Regression, 1)] {
        let labels = ["x", "y", "z"].map(String::from);
        let mut model = Model::from_scratch(config.clone(), task, &labels, Device::Cpu, false, 1).unwrap();
        let summary = crate::reference::write(&mut model, &tokens, "validation", 5, &out, folder.path()).unwrap();
        assert_eq!(summary.rows, 5);
        let (written, ids) = (tensors(&out), tensors(&out)["batch0.input_ids"].size());
        let expected = if task.scores_rows() { vec![ids[0], scores] } else { vec![ids[0], ids[1], scores] };
        assert_eq!(written["batch0.logits"].size(), expected, "{}", task.name());
    }
}

/// Whatever a model was trained for, it is a start for every other task: the base is kept, the head is new and named.
#[test]
fn a_model_of_one_task_begins_another() {
    let _alone = alone();
    let labels = ["x", "y", "z"].map(String::from);
    for case in cases() {
        let (_, loaded) = Model::for_training(case.folder.path(), case.task, &case.labels(), Device::Cpu, false, 1).unwrap();
        assert!(loaded.new_modules.is_empty(), "{}: its own head is kept", case.name());
        for task in Task::ALL.into_iter().filter(|task| *task != case.task) {
            let name = format!("{} for {}", case.name(), task.name());
            let started = Model::for_training(case.folder.path(), task, &labels, Device::Cpu, false, 1);
            if task == Task::CausalLm && !model_is_decoder(case.family) {
                assert!(started.err().unwrap().message.contains("no causal language model"), "{name}");
                continue;
            }
            let (model, loaded) = started.unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut new = BTreeSet::new();
            let original = case.open();
            for spec in parameters(&model.config, model.head) {
                let kept = original.parameters.get(&spec.name).is_some_and(|tensor| *tensor == model.parameters[&spec.name]);
                assert!(kept || spec.part != Part::Base, "{name}: {}", spec.name);
                if !kept {
                    new.insert(spec.name.rsplit_once('.').unwrap().0.to_owned());
                }
            }
            assert_eq!(loaded.new_modules, new, "{name}");
            let names = model.config.with_task(task, &labels).get("id2label").map(|names| names.as_object().unwrap().len());
            let expected = if task.has_classes() { Some(3) } else { (task == Task::Regression).then_some(1) };
            assert_eq!(names, expected, "{name}: of labels");
            // Tied to its table of tokens, a language model has nothing new.
            assert_eq!(new.is_empty(), task == Task::CausalLm && model.config.decoder.tied_embeddings, "{name}");
        }
    }
}

fn model_is_decoder(family: &str) -> bool {
    ["gpt2", "llama", "mistral", "qwen2"].contains(&family)
}

#[test]
fn answers_of_another_shape_are_learned_anew_and_refused_in_use() {
    let _alone = alone();
    let case = Case::new("bert", Task::QuestionAnswering);
    let path = case.folder.path().join("model.safetensors");
    let mut weights = tensors(&path);
    // As BERT's class makes them of a config that names three labels.
    weights.insert("qa_outputs.weight".into(), Tensor::zeros([3, 8], (Kind::Float, Device::Cpu)));
    weights.insert("qa_outputs.bias".into(), Tensor::zeros([3], (Kind::Float, Device::Cpu)));
    weights::save(&weights, &path).unwrap();
    let (model, loaded) = Model::for_training(case.folder.path(), case.task, &[], Device::Cpu, false, 1).unwrap();
    assert_eq!(loaded.new_modules, BTreeSet::from(["qa_outputs".to_owned()]));
    assert_eq!(model.parameters["qa_outputs.weight"].size(), [2, 8]);
    let error = Model::open(case.folder.path(), Device::Cpu, false).err().unwrap();
    assert!(error.message.contains("config.json asks for [2"), "{error}");
}

#[test]
fn the_head_of_a_language_model_may_be_missing_only_where_it_is_none() {
    let _alone = alone();
    let case = Case::new("qwen2", Task::CausalLm);
    let path = case.folder.path().join("model.safetensors");
    let mut weights = tensors(&path);
    let _ = weights.remove("lm_head.weight").unwrap();
    weights::save(&weights, &path).unwrap();
    let start = || Model::for_training(case.folder.path(), Task::CausalLm, &[], Device::Cpu, false, 1);
    assert!(start().err().unwrap().message.contains("lack `lm_head.weight`"));
    let mut config = read_json(&case.folder.path().join("config.json"));
    config["architectures"] = json!(["Qwen2Model"]);
    std::fs::write(case.folder.path().join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
    assert_eq!(start().unwrap().1.new_modules, BTreeSet::from(["lm_head".to_owned()]));
}

#[test]
fn a_classifier_of_tokens_may_be_without_bias() {
    let case = Case::new("llama", Task::TokenClassification);
    let (folder, path) = (case.folder.path(), case.folder.path().join("model.safetensors"));
    let mut config = read_json(&folder.join("config.json"));
    config["token_classification_bias"] = false.into();
    std::fs::write(folder.join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
    let mut weights = tensors(&path);
    let bias = weights.remove("score.bias").unwrap();
    weights::save(&weights, &path).unwrap();
    let batch = Batch { slots: None, ..case.batch("batch0") };
    let logits = case.open().forward(&batch, false).unwrap() + bias;
    assert!(relative(&logits, &case.reference["batch0.logits"]) < 1e-5);
}
