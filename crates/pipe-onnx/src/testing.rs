//! A tiny BERT with random weights, and its forward pass as plain loops in double precision: what the recorded
//! graph is compared with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipe_core::config::{ExportConfig, Padding, ParityConfig, Truncation};
use pipe_core::native::NativeLibraries;
use pipe_core::provenance::{Provenance, Tokenization};
use pipe_core::{Batch, Silent, Summary, Task};
use pipe_model::{Head, ModelConfig};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};
use serde_json::json;
use tempfile::TempDir;

pub(crate) const LABELS: [&str; 3] = ["negative", "neutral", "positive"];
const HEAD: Head = Head::SequenceClassification { classes: LABELS.len() };
pub(crate) const MAX_POSITIONS: usize = 16;
const VOCABULARY: i64 = 31;

/// A trained model folder, a reference beside it, and room for the export.
pub(crate) struct Tiny {
    pub(crate) folder: TempDir,
    pub(crate) config: ModelConfig,
    pub(crate) weights: BTreeMap<String, Vec<f32>>,
    pub(crate) batches: Vec<Batch>,
}

/// Uniform in -1..1, the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn below(&mut self, end: i64) -> i64 {
        ((f64::from(self.next()) + 1.0) / 2.0 * end as f64) as i64
    }
}

impl Tiny {
    pub(crate) fn new(activation: &str) -> Tiny {
        let raw = json!({
            "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 20, "max_position_embeddings": MAX_POSITIONS, "type_vocab_size": 2, "hidden_act": activation,
        });
        let config = ModelConfig::from_json(raw.as_object().unwrap().clone()).unwrap();
        let raw = config.with_task(Task::SequenceClassification, &LABELS.map(String::from));
        let config = ModelConfig::from_json(raw).unwrap();

        let mut random = Random(7);
        let mut weights = BTreeMap::new();
        for spec in pipe_model::parameters(&config, HEAD) {
            let size: i64 = spec.shape.iter().product();
            let (middle, spread) = match &*spec.name {
                name if name.ends_with("LayerNorm.weight") => (1.0, 0.2),
                name if name.ends_with(".bias") => (0.0, 0.2),
                _ => (0.0, 0.8),
            };
            weights.insert(spec.name, (0..size).map(|_| middle + spread * random.next()).collect());
        }
        // Several lengths, one row alone, the longest that the model takes.
        let batches = [vec![5, 9, 3], vec![1], vec![MAX_POSITIONS, 2], vec![7; 4]].map(|lengths| {
            let length = *lengths.iter().max().unwrap();
            let slots = || lengths.iter().flat_map(|&tokens| (0..length).map(move |at| at < tokens));
            Batch {
                length,
                rows: (0..lengths.len()).collect(),
                input_ids: slots().map(|kept| if kept { 1 + random.below(VOCABULARY - 1) } else { 0 }).collect(),
                attention_mask: slots().map(i64::from).collect(),
                token_type_ids: slots().map(|kept| if kept { random.below(2) } else { 0 }).collect(),
                ..Batch::default()
            }
        });
        let tiny = Tiny { folder: tempfile::tempdir().unwrap(), config, weights, batches: batches.into() };
        for dir in [tiny.model(), tiny.out()] {
            std::fs::create_dir(dir).unwrap();
        }
        std::fs::write(tiny.model().join("config.json"), serde_json::to_vec(&tiny.config.raw).unwrap()).unwrap();
        std::fs::write(tiny.model().join("tokenizer.json"), "{}").unwrap();
        provenance().write(&tiny.model()).unwrap();
        tiny.write_weights();
        tiny.write_reference(0.0);
        tiny
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    pub(crate) fn reference(&self) -> PathBuf {
        self.folder.path().join("reference.safetensors")
    }

    pub(crate) fn export(&self, out: &Path) -> pipe_core::Result<Summary> {
        export(&self.model(), &self.reference(), out)
    }

    pub(crate) fn write_weights(&self) {
        let shapes = pipe_model::parameters(&self.config, HEAD).into_iter().map(|spec| (spec.name, spec.shape));
        let tensors = shapes.filter_map(|(name, shape)| Some((self.weights.get(&name)?, name, shape)));
        let tensors = tensors.map(|(values, name, shape)| {
            (name, shape.iter().map(|&size| size as usize).collect(), values.iter().flat_map(|x| x.to_le_bytes()).collect())
        });
        write_safetensors(&self.model().join("model.safetensors"), Dtype::F32, tensors.collect());
    }

    /// What the worker would write; one logit is off by `error`.
    pub(crate) fn write_reference(&self, error: f32) {
        let mut tensors = vec![];
        for (at, batch) in self.batches.iter().enumerate() {
            let shape = vec![batch.rows.len(), batch.length];
            for (part, values) in
                [("input_ids", &batch.input_ids), ("attention_mask", &batch.attention_mask), ("token_type_ids", &batch.token_type_ids)]
            {
                tensors.push((
                    format!("batch{at}.{part}"),
                    Dtype::I64,
                    shape.clone(),
                    values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
                ));
            }
            let mut logits: Vec<f32> = self.logits(batch).into_iter().map(|x| x as f32).collect();
            if at == 2 {
                logits[4] += error;
            }
            tensors.push((
                format!("batch{at}.logits"),
                Dtype::F32,
                vec![batch.rows.len(), LABELS.len()],
                logits.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ));
        }
        let views = tensors.iter().map(|(name, dtype, shape, data)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
        serialize_to_file(views, None, &self.reference()).unwrap();
    }

    /// `[rows, classes]`, one row after the other.
    pub(crate) fn logits(&self, batch: &Batch) -> Vec<f64> {
        let row = |values: &[i64], row: usize| values[row * batch.length..][..batch.length].to_vec();
        (0..batch.rows.len())
            .flat_map(|at| self.row_logits(&row(&batch.input_ids, at), &row(&batch.attention_mask, at), &row(&batch.token_type_ids, at)))
            .collect()
    }

    fn row_logits(&self, ids: &[i64], mask: &[i64], types: &[i64]) -> Vec<f64> {
        let (width, heads) = (self.config.hidden_size as usize, self.config.heads as usize);
        let table = |name: &str, row: usize| self.floats(&format!("bert.embeddings.{name}.weight"))[row * width..][..width].to_vec();
        let mut hidden: Vec<Vec<f64>> = (0..ids.len())
            .map(|at| {
                let parts = [
                    table("word_embeddings", ids[at] as usize),
                    table("position_embeddings", at),
                    table("token_type_embeddings", types[at] as usize),
                ];
                self.norm("bert.embeddings.LayerNorm", (0..width).map(|i| parts.iter().map(|part| part[i]).sum()).collect())
            })
            .collect();
        for layer in 0..self.config.layers {
            let module = |name: &str| format!("bert.encoder.layer.{layer}.{name}");
            let of_all = |name: &str| -> Vec<Vec<f64>> { hidden.iter().map(|x| self.linear(&module(name), x)).collect() };
            let (q, k, v) = (of_all("attention.self.query"), of_all("attention.self.key"), of_all("attention.self.value"));
            hidden = (0..ids.len())
                .map(|at| {
                    let mut context = vec![0.0; width];
                    for head in 0..heads {
                        let part = head * width / heads..(head + 1) * width / heads;
                        // Padding takes no part at all: what the finite mask must come to.
                        let score = |to: usize| {
                            q[at][part.clone()].iter().zip(&k[to][part.clone()]).map(|(a, b)| a * b).sum::<f64>() / (part.len() as f64).sqrt()
                        };
                        let shares: Vec<f64> = (0..ids.len()).map(|to| if mask[to] == 1 { score(to).exp() } else { 0.0 }).collect();
                        let total: f64 = shares.iter().sum();
                        for i in part.clone() {
                            context[i] = (0..ids.len()).map(|to| shares[to] / total * v[to][i]).sum();
                        }
                    }
                    let attended =
                        self.norm(&module("attention.output.LayerNorm"), sum(&self.linear(&module("attention.output.dense"), &context), &hidden[at]));
                    let wide = self.linear(&module("intermediate.dense"), &attended).into_iter().map(|x| self.activation(x)).collect::<Vec<_>>();
                    self.norm(&module("output.LayerNorm"), sum(&self.linear(&module("output.dense"), &wide), &attended))
                })
                .collect();
        }
        let pooled: Vec<f64> = self.linear("bert.pooler.dense", &hidden[0]).into_iter().map(f64::tanh).collect();
        self.linear("classifier", &pooled)
    }

    fn floats(&self, name: &str) -> Vec<f64> {
        self.weights[name].iter().map(|&x| x.into()).collect()
    }

    fn linear(&self, module: &str, x: &[f64]) -> Vec<f64> {
        let (weight, bias) = (self.floats(&format!("{module}.weight")), self.floats(&format!("{module}.bias")));
        weight.chunks(x.len()).zip(bias).map(|(row, bias)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias).collect()
    }

    fn norm(&self, module: &str, x: Vec<f64>) -> Vec<f64> {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let (weight, bias) = (self.floats(&format!("{module}.weight")), self.floats(&format!("{module}.bias")));
        x.iter().zip(weight.iter().zip(bias)).map(|(x, (w, b))| (x - mean) / (variance + 1e-12).sqrt() * w + b).collect()
    }

    fn activation(&self, x: f64) -> f64 {
        match self.config.raw["hidden_act"].as_str().unwrap() {
            "gelu" => x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2)),
            "gelu_new" => x * 0.5 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
            "relu" => x.max(0.0),
            "silu" => x / (1.0 + (-x).exp()),
            other => panic!("{other}"),
        }
    }
}

/// The Maclaurin series; beyond 4 the rest is below 2e-8.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    let mut power = x;
    let mut total = x;
    for n in 1..120 {
        power *= -x * x / f64::from(n);
        total += power / f64::from(2 * n + 1);
    }
    total * 2.0 / std::f64::consts::PI.sqrt()
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

pub(crate) fn provenance() -> Provenance {
    let tokenize = Tokenization {
        max_length: MAX_POSITIONS,
        truncation: Truncation::LongestFirst,
        padding: Padding::Longest,
        pad_token_id: 0,
        pad_token_type_id: 0,
        vocab_size: VOCABULARY as usize,
        text_pair: false,
        tokenizer: "digest of the tokenizer".into(),
        doc_stride: None,
        no_answers: false,
        eos_token_id: None,
        chat: false,
        chat_template: None,
    };
    Provenance::new(
        Task::SequenceClassification,
        LABELS.map(String::from).into(),
        tokenize,
        json!({ "policy": "standard" }),
        "digest of the policy".into(),
    )
}

/// Exports with a tolerance of 1e-5.
pub(crate) fn export(model: &Path, reference: &Path, out: &Path) -> pipe_core::Result<Summary> {
    let config = ExportConfig { parity: ParityConfig { max_abs_diff: 1e-5, rows: 64 }, ..Default::default() };
    crate::export::run(&config, model, reference, &native(), out, &Silent)
}

/// ONNX Runtime as `cargo xtask setup` put it.
pub(crate) fn native() -> NativeLibraries {
    NativeLibraries::locate().expect("`cargo xtask setup` was run")
}

pub(crate) fn write_safetensors(path: &Path, dtype: Dtype, tensors: Vec<(String, Vec<usize>, Vec<u8>)>) {
    let views = tensors.iter().map(|(name, shape, data)| (name, TensorView::new(dtype, shape.clone(), data).unwrap()));
    serialize_to_file(views, None, path).unwrap();
}
