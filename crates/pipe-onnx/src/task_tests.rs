//! The export of every task that scores rows or tokens, against transformers: models and what it computes with them are in
//! `tests/fixtures/tasks`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipe_core::provenance::Provenance;
use pipe_core::{Batch, Class, Predictor, Task};
use pipe_model::ModelConfig;
use prost::Message;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::proto::{DimensionValue, GraphProto, ModelProto};
use crate::testing::{export, native, provenance};
use crate::write::MODEL_FILE;
use crate::{OrtPredictor, TokenClassifier};

const FAMILIES: [&str; 7] = ["bert", "roberta", "distilbert", "gpt2", "llama", "mistral", "qwen2"];

/// Type, shape and bytes of tensors by their names.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// A model folder as transformers saves it, with a `pipe.json`, and what it computes.
struct Case {
    family: &'static str,
    task: Task,
    folder: TempDir,
    reference: Tensors,
}

fn cases() -> impl Iterator<Item = Case> {
    let all = FAMILIES.into_iter().flat_map(|family| Task::ALL.into_iter().map(move |task| (family, task)));
    all.filter(|(family, task)| *task != Task::CausalLm && files(family).join(format!("{}.json", task.name())).exists())
        .map(|(family, task)| Case::new(family, task))
}

fn files(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tasks").join(family)
}

impl Case {
    fn new(family: &'static str, task: Task) -> Case {
        let (from, folder) = (files(family), tempfile::tempdir().unwrap());
        let reference = read(&from.join(format!("{}.safetensors", task.name())));
        let case = Case { family, task, folder, reference };
        for dir in [case.model(), case.out()] {
            std::fs::create_dir(dir).unwrap();
        }
        let old = task == Task::QuestionAnswering && ["llama", "qwen2"].contains(&family);
        let base = read(&from.join("base.safetensors")).into_iter();
        let mut weights: Tensors = base.map(|(name, tensor)| (if old { name.replacen("model.", "transformer.", 1) } else { name }, tensor)).collect();
        weights.extend(case.reference.iter().filter_map(|(name, tensor)| Some((name.strip_prefix("weight.")?.to_owned(), tensor.clone()))));
        write(&case.model().join("model.safetensors"), &weights);
        std::fs::copy(from.join(format!("{}.json", task.name())), case.model().join("config.json")).unwrap();
        std::fs::write(case.model().join("tokenizer.json"), "{}").unwrap();
        case.provenance().write(&case.model()).unwrap();
        case
    }

    fn name(&self) -> String {
        format!("{} {}", self.family, self.task.name())
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn provenance(&self) -> Provenance {
        let mut provenance = provenance();
        let config = ModelConfig::read(&self.model()).unwrap();
        provenance.task = self.task;
        provenance.labels = if self.task.has_classes() { config.labels().unwrap() } else { Vec::new() };
        provenance.tokenize.pad_token_id = config.pad_token_id.unwrap() as u32;
        provenance
    }

    fn export(&self) -> pipe_core::Result<pipe_core::Summary> {
        let path = self.folder.path().join("reference.safetensors");
        write(&path, &self.reference);
        export(&self.model(), &path, &self.out())
    }

    fn open(&self) -> OrtPredictor {
        OrtPredictor::open(&self.out(), &native(), Some(1)).unwrap()
    }

    fn graph(&self) -> GraphProto {
        ModelProto::decode(&*std::fs::read(self.out().join(MODEL_FILE)).unwrap()).unwrap().graph.unwrap()
    }

    fn batch(&self, at: usize) -> Batch {
        let ints = |name: &str| {
            let (_, shape, data) = &self.reference[&format!("batch{at}.{name}")];
            (shape.clone(), data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect::<Vec<_>>())
        };
        let (shape, input_ids) = ints("input_ids");
        Batch {
            length: shape[1],
            rows: (0..shape[0]).collect(),
            input_ids,
            attention_mask: ints("attention_mask").1,
            token_type_ids: ints("token_type_ids").1,
            ..Batch::default()
        }
    }

    fn logits(&self, at: usize) -> Vec<f32> {
        let (_, _, data) = &self.reference[&format!("batch{at}.logits")];
        data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

/// Names and axes of a graph's outputs.
fn outputs(graph: &GraphProto) -> Vec<(String, Vec<String>)> {
    let axis = |value: &Option<DimensionValue>| match value {
        Some(DimensionValue::Size(size)) => size.to_string(),
        Some(DimensionValue::Symbol(name)) => name.clone(),
        None => String::new(),
    };
    let shape = |output: &crate::proto::ValueInfoProto| {
        let tensor = output.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
        tensor.shape.as_ref().unwrap().dim.iter().map(|dim| axis(&dim.value)).collect()
    };
    graph.output.iter().map(|output| (output.name.clone(), shape(output))).collect()
}

#[test]
fn every_task_scores_as_transformers_does_under_optimum_s_names() {
    let mut count = 0;
    for case in cases() {
        let name = case.name();
        let summary = case.export().unwrap_or_else(|e| panic!("{name}: {e}"));
        println!("{name}: {}", summary.line);
        assert_eq!(summary.rows, 7);
        let of = |axes: &[&str]| axes.iter().map(|axis| (*axis).to_owned()).collect::<Vec<_>>();
        let expected = match case.task {
            Task::QuestionAnswering => ["start_logits", "end_logits"].map(|name| (name.to_owned(), of(&["batch_size", "sequence_length"]))).to_vec(),
            Task::TokenClassification => vec![("logits".to_owned(), of(&["batch_size", "sequence_length", "4"]))],
            Task::Regression => vec![("logits".to_owned(), of(&["batch_size", "1"]))],
            _ => vec![("logits".to_owned(), of(&["batch_size", "3"]))],
        };
        let graph = case.graph();
        assert_eq!(outputs(&graph), expected, "{name}");
        let shaped: Vec<_> = graph.value_info.iter().chain(&graph.output).map(|value| &value.name).collect();
        assert!(graph.node.iter().flat_map(|node| &node.output).all(|output| shaped.contains(&output)), "{name}");
        count += 1;
    }
    assert_eq!(count, 18);
}

/// What a batch asks for is what it gets, as from the trained model.
#[test]
fn scores_are_of_the_slots_that_a_batch_names() {
    for case in cases() {
        case.export().unwrap();
        let (mut predictor, mut batch, expected) = (case.open(), case.batch(0), case.logits(0));
        let all = predictor.predict(&batch).unwrap();
        assert_eq!(all.values.len(), expected.len());
        let places = all.values.len() / all.classes;
        let close = |ours: &[f32], theirs: &[f32]| ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-5);
        for slots in [vec![], vec![3], vec![0, 2, 9, 28]] {
            // The rows are scored as a whole, whatever is named.
            let picked: Vec<usize> = if case.task.scores_rows() { (0..places).collect() } else { slots.iter().map(|&slot| slot as usize).collect() };
            batch.slots = Some(slots);
            let some = predictor.predict(&batch).unwrap();
            let expected: Vec<f32> = picked.iter().flat_map(|at| &expected[at * all.classes..][..all.classes]).copied().collect();
            assert!(some.classes == all.classes && close(&some.values, &expected), "{}", case.name());
        }
        if !case.task.scores_rows() {
            batch.slots = Some(vec![places as i64]);
            assert!(predictor.predict(&batch).is_err());
        }
    }
}

/// What finds names in a scrub takes a classifier of tokens that pipe trained.
#[test]
fn an_export_is_a_model_that_finds_names() {
    let case = Case::new("bert", Task::TokenClassification);
    case.export().unwrap();
    let (found, batch) = (TokenClassifier::open(&case.out(), &native(), 4).unwrap(), case.batch(0));
    assert_eq!(found.score(&batch).unwrap(), case.open().predict(&batch).unwrap());
}

#[test]
fn scores_of_padding_are_not_compared_and_those_of_tokens_are() {
    for task in [Task::TokenClassification, Task::QuestionAnswering] {
        let mut case = Case::new("distilbert", task);
        let (batch, shape) = (case.batch(0), case.reference["batch0.logits"].1.clone());
        let change = |case: &mut Case, place: usize| {
            let (_, _, data) = case.reference.get_mut("batch0.logits").unwrap();
            data[place * shape[2] * 4..][..4].copy_from_slice(&1e4f32.to_le_bytes());
        };
        // The second row has six tokens of nine.
        assert_eq!(&batch.attention_mask[9..18], [1, 1, 1, 1, 1, 1, 0, 0, 0]);
        change(&mut case, 9 + 7);
        case.export().unwrap();
        change(&mut case, 9 + 5);
        let error = case.export().unwrap_err();
        assert!(error.class == Class::Stage && error.message.contains("(token 5 of row 1 of batch 0"), "{error}");
    }
}

#[test]
fn files_of_two_tasks_are_refused() {
    let case = Case::new("bert", Task::TokenClassification);
    let mut other = case.provenance();
    other.task = Task::QuestionAnswering;
    other.write(&case.model()).unwrap();
    let error = case.export().unwrap_err();
    assert!(error.message.contains("config.json is of a model for token-classification, pipe.json of one for question-answering"), "{error}");

    case.provenance().write(&case.model()).unwrap();
    case.export().unwrap();
    other.write(&case.out()).unwrap();
    let error = OrtPredictor::open(&case.out(), &native(), Some(1)).unwrap_err();
    assert!(error.class == Class::Input && error.message.contains("is a model for token-classification"), "{error}");

    other = case.provenance();
    other.labels.swap(0, 1);
    other.write(&case.model()).unwrap();
    assert!(case.export().unwrap_err().message.contains("name different labels"));

    let path = case.model().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["architectures"] = json!(["BertModel"]);
    std::fs::write(&path, config.to_string()).unwrap();
    assert!(case.export().unwrap_err().message.contains("names no task"));

    other.task = Task::CausalLm;
    other.write(&case.model()).unwrap();
    assert_eq!(case.export().unwrap_err().class, Class::Usage);
}

#[test]
fn a_reference_of_another_shape_is_refused() {
    let mut case = Case::new("bert", Task::Regression);
    let logits = case.reference.get_mut("batch1.logits").unwrap();
    *logits = (Dtype::F32, vec![3, 2], vec![0; 24]);
    let error = case.export().unwrap_err();
    assert!(error.message.contains("scores of the shape [3, 2], its task asks for [3, 1]"), "{error}");
}
