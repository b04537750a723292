//! The exported model against what transformers generates: the fixtures that libtorch is compared with too, so that both give the
//! same tokens. `tests/parity/make_generation.py` makes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipe_core::Silent;
use pipe_core::config::{ExportConfig, ParityConfig};
use pipe_core::generate::{GenerationConfig, LanguageModel, PaddedPrompts, Prompt, generate};
use pipe_model::ModelConfig;
use prost::Message;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize_to_file};
use tempfile::TempDir;

use super::OrtGenerator;
use crate::proto::{DimensionValue, ModelProto};
use crate::testing::{native, provenance};

const MODELS: [&str; 5] = ["gpt2-lm", "llama-lm", "qwen2-lm", "mistral-lm", "llama-bias-lm"];

/// Named tensors as bytes.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

struct Case {
    folder: TempDir,
    tensors: Tensors,
}

impl Case {
    fn new(name: &str) -> Case {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
        let bytes = std::fs::read(fixtures.join("generation").join(format!("{name}.safetensors"))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect();
        let case = Case { folder: tempfile::tempdir().unwrap(), tensors };
        for dir in [case.model(), case.out()] {
            std::fs::create_dir(dir).unwrap();
        }
        std::fs::write(case.model().join("tokenizer.json"), "{}").unwrap();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(fixtures.join("families").join(name).join(file), case.model().join(file)).unwrap();
        }
        provenance().write(&case.model()).unwrap();
        let mut written = BTreeMap::new();
        for (from, to) in [("input_ids", "input_ids"), ("attention_mask", "attention_mask"), ("greedy.tokens", "tokens"), ("greedy.logits", "logits")]
        {
            written.insert(format!("batch0.{to}"), case.tensors[from].clone());
        }
        case.write_reference(&written);
        case
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn reference(&self) -> PathBuf {
        self.folder.path().join("reference.safetensors")
    }

    fn write_reference(&self, tensors: &Tensors) {
        let views = tensors.iter().map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
        serialize_to_file(views, None, &self.reference()).unwrap();
    }

    fn export(&self, tolerance: f64) -> pipe_core::Result<pipe_core::Summary> {
        let config = ExportConfig { parity: ParityConfig { max_abs_diff: tolerance, rows: 64 }, ..Default::default() };
        crate::export::run_causal_lm(&config, &self.model(), &self.reference(), &native(), &self.out(), &Silent)
    }

    fn integers(&self, name: &str) -> Vec<Vec<i64>> {
        let (_, shape, data) = &self.tensors[name];
        let values: Vec<i64> = data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
        values.chunks(*shape.last().unwrap()).map(<[i64]>::to_vec).collect()
    }

    fn prompts(&self) -> Vec<Prompt> {
        let rows = self.integers("input_ids").into_iter().zip(self.integers("attention_mask")).enumerate();
        let ids = |(ids, mask): (Vec<i64>, Vec<i64>)| ids.into_iter().zip(mask).filter(|(_, kept)| *kept == 1).map(|(id, _)| id as u32).collect();
        rows.map(|(row, both)| Prompt { row: row as u64, ids: ids(both) }).collect()
    }

    /// Up to the first -1.
    fn expected(&self, name: &str) -> Vec<Vec<u32>> {
        self.integers(name).into_iter().map(|row| row.into_iter().map_while(|id| u32::try_from(id).ok()).collect()).collect()
    }
}

fn greedy() -> GenerationConfig {
    GenerationConfig { max_new_tokens: 9, eos_token_id: Some(vec![]), ..GenerationConfig::default() }
}

fn tokens(model: &mut OrtGenerator, prompts: &[Prompt], config: &GenerationConfig) -> Vec<Vec<u32>> {
    let texts = generate(model, prompts, config, &mut |_| String::new(), &Silent).unwrap();
    texts.into_iter().map(|text| text.tokens).collect()
}

#[test]
fn tokens_are_those_of_transformers_and_libtorch() {
    for name in MODELS {
        let case = Case::new(name);
        let summary = case.export(1e-4).unwrap_or_else(|e| panic!("{name}: {e}"));
        if let Some(folder) = std::env::var_os("PIPE_EXPORTS") {
            // For tests/parity/check_generation.py.
            std::fs::create_dir_all(Path::new(&folder).join(name)).unwrap();
            for file in ["config.json", "model.onnx"] {
                std::fs::copy(case.out().join(file), Path::new(&folder).join(name).join(file)).unwrap();
            }
        }
        assert_eq!(summary.rows, 4);
        let mut model = OrtGenerator::open(&case.out(), &native(), Some(1)).unwrap();
        let penalty = GenerationConfig { repetition_penalty: 1.3, no_repeat_ngram_size: Some(2), ..greedy() };
        let eos = case.integers("eos")[0].iter().map(|&id| id as u32).collect();
        let ending = GenerationConfig { eos_token_id: Some(eos), ..greedy() };
        for tokens_per_pass in [4096, 8, 1] {
            model.set_tokens_per_pass(tokens_per_pass);
            for (config, expected) in [(&greedy(), "greedy.tokens"), (&penalty, "penalty.tokens"), (&ending, "eos.tokens")] {
                assert_eq!(tokens(&mut model, &case.prompts(), config), case.expected(expected), "{name}: {expected}");
            }
        }
        for (prompt, expected) in case.prompts().iter().zip(case.expected("greedy.tokens")) {
            assert_eq!(tokens(&mut model, std::slice::from_ref(prompt), &greedy()), [expected], "{name}: alone");
        }
    }
}

#[test]
fn the_graph_has_the_names_and_axes_of_optimum() {
    for (name, kv_heads, dim, vocabulary) in [("gpt2-lm", 4, 4, 40), ("llama-lm", 2, 6, 40)] {
        let case = Case::new(name);
        std::fs::write(case.model().join("generation_config.json"), r#"{"eos_token_id": [4, 9]}"#).unwrap();
        case.export(1e-4).unwrap();
        assert_eq!(OrtGenerator::open(&case.out(), &native(), None).unwrap().eos_token_ids(), [4, 9]);
        let model = ModelProto::decode(&*std::fs::read(case.out().join("model.onnx")).unwrap()).unwrap();
        let graph = model.graph.unwrap();
        let axes = |values: &[crate::proto::ValueInfoProto]| -> Vec<(String, String)> {
            let dims = |value: &crate::proto::ValueInfoProto| {
                let shape = value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().shape.as_ref().unwrap();
                let dim = |dim: &crate::proto::DimensionProto| match dim.value.as_ref().unwrap() {
                    DimensionValue::Size(size) => size.to_string(),
                    DimensionValue::Symbol(name) => name.clone(),
                };
                shape.dim.iter().map(dim).collect::<Vec<_>>().join(", ")
            };
            values.iter().map(|value| (value.name.clone(), dims(value))).collect()
        };
        let of = |name: &str, axes: &str| (name.to_owned(), axes.to_owned());
        let past = format!("batch_size, {kv_heads}, past_sequence_length, {dim}");
        let total = "past_sequence_length + sequence_length";
        let mut inputs = vec![
            of("input_ids", "batch_size, sequence_length"),
            of("attention_mask", &format!("batch_size, {total}")),
            of("position_ids", "batch_size, sequence_length"),
        ];
        let mut outputs = vec![of("logits", &format!("batch_size, sequence_length, {vocabulary}"))];
        for layer in 0..2 {
            for part in ["key", "value"] {
                inputs.push(of(&format!("past_key_values.{layer}.{part}"), &past));
                outputs.push(of(&format!("present.{layer}.{part}"), &format!("batch_size, {kv_heads}, {total}, {dim}")));
            }
        }
        assert_eq!((axes(&graph.input), axes(&graph.output)), (inputs, outputs), "{name}");
        let shaped: Vec<_> = graph.value_info.iter().chain(&graph.output).map(|value| &value.name).collect();
        assert!(graph.node.iter().flat_map(|node| &node.output).all(|output| shaped.contains(&output)));
        // Looked up and scored with: the table is there once.
        assert_eq!(graph.initializer.iter().filter(|tensor| tensor.dims == [40, 16]).count(), 1, "{name}");
        let metadata: BTreeMap<_, _> = model.metadata_props.iter().map(|entry| (&*entry.key, &*entry.value)).collect();
        assert_eq!((metadata["task"], metadata["padding_side"]), ("text-generation-with-past", "left"));
        let parity: serde_json::Value = serde_json::from_str(metadata["parity"]).unwrap();
        assert_eq!((&parity["rows"], &parity["tokens"], &parity["lengths"]), (&4.into(), &36.into(), &serde_json::json!([6])));
    }
}

#[test]
fn a_model_that_generates_otherwise_is_not_exported() {
    let case = Case::new("llama-lm");
    let reference = || {
        let mut tensors = Tensors::new();
        let bytes = std::fs::read(case.reference()).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
            tensors.insert(name.into(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
        }
        tensors
    };
    let whole = reference();
    let refused = |change: &dyn Fn(&mut Tensors), message: &str| {
        let mut tensors = whole.clone();
        change(&mut tensors);
        case.write_reference(&tensors);
        let error = case.export(1e-4).unwrap_err();
        assert!(error.message.contains(message), "{error}");
        assert!(OrtGenerator::open(&case.out(), &native(), None).is_err(), "what failed does not pass for a finished export");
    };
    // The score of token 7 before token 5 of row 2.
    let score = 4 * ((2 * 9 + 5) * 40 + 7);
    let set = |tensors: &mut Tensors, to: f32| tensors.get_mut("batch0.logits").unwrap().2[score..score + 4].copy_from_slice(&to.to_le_bytes());
    refused(&|tensors| set(tensors, 1e3), "(token 5 of row 2 of batch 0)");
    refused(&|tensors| set(tensors, f32::NAN), "no number");
    // Another token at the end, which no later one is generated after.
    refused(&|tensors| tensors.get_mut("batch0.tokens").unwrap().2[8 * 8] ^= 1, "another token than the trained one (token 8 of row 0");
    refused(&|tensors| tensors.clear(), "no texts to compare");
    case.write_reference(&whole);
    case.export(1e-4).unwrap();
}

#[test]
fn other_models_are_refused() {
    let case = Case::new("llama-lm");
    case.export(1e-4).unwrap();
    let open = || OrtGenerator::open(&case.out(), &native(), None).unwrap_err().message;
    let config = std::fs::read(case.out().join("config.json")).unwrap();
    let mut deeper: serde_json::Value = serde_json::from_slice(&config).unwrap();
    deeper["num_hidden_layers"] = 3.into();
    std::fs::write(case.out().join("config.json"), deeper.to_string()).unwrap();
    assert!(open().contains("has no input `past_key_values.2.key`"));
    deeper["num_hidden_layers"] = 1.into();
    std::fs::write(case.out().join("config.json"), deeper.to_string()).unwrap();
    assert!(open().contains("reads 7 values where 5 are known"));
    std::fs::write(case.out().join("config.json"), config).unwrap();
    let mut other = provenance();
    other.tokenize.tokenizer = "another".into();
    other.write(&case.out()).unwrap();
    assert!(open().contains("different tokenizers"));
    provenance().write(&case.out()).unwrap();
    let mut model = OrtGenerator::open(&case.out(), &native(), None).unwrap();
    let outside = model.begin(&PaddedPrompts::new([[1000].as_slice()].into_iter())).unwrap_err();
    assert!(outside.message.starts_with("ONNX Runtime failed on 1 rows of 1 tokens: ") && !outside.message.contains('\n'), "{outside}");

    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    assert!(ModelConfig::read(&fixtures.join("tiny-bert")).unwrap().check_generates().is_err());
}

/// Tokens per second of the model that the test of this name in `pipe-train` left: `PIPE_SPEED_MODEL=DIR cargo test --release -p
/// pipe-onnx --lib speed -- --ignored --nocapture`.
#[test]
#[ignore = "measures tokens per second and asserts nothing; its doc comment has the command"]
fn speed() {
    let model = PathBuf::from(std::env::var_os("PIPE_SPEED_MODEL").expect("a folder of the test `speed` of pipe-train"));
    std::fs::write(model.join("tokenizer.json"), "{}").unwrap();
    provenance().write(&model).unwrap();
    let out = tempfile::tempdir().unwrap();
    let started = std::time::Instant::now();
    let summary =
        crate::export::run_causal_lm(&ExportConfig::default(), &model, &model.join("reference.safetensors"), &native(), out.path(), &Silent);
    println!("export in {:.1} s: {}", started.elapsed().as_secs_f64(), summary.unwrap().line);
    let mut model = OrtGenerator::open(out.path(), &native(), Some(2)).unwrap();
    for rows in [1, 8] {
        let ids = |row: u32| (0..64).map(|at| (row * 977 + at * 131) % 49152).collect();
        let prompts: Vec<Prompt> = (0..rows).map(|row| Prompt { row: row.into(), ids: ids(row) }).collect();
        let mut run = |tokens_after: usize| {
            let started = std::time::Instant::now();
            tokens(&mut model, &prompts, &GenerationConfig { max_new_tokens: tokens_after, ..greedy() });
            started.elapsed().as_secs_f64()
        };
        run(2);
        let (prefill, all) = (run(1), run(65));
        println!("batch {rows}: prompts of 64 in {prefill:.2} s, {:.1} tokens/s", f64::from(rows) * 64.0 / (all - prefill));
    }
}
