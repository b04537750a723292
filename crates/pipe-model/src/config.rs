//! `config.json` of a Hugging Face model folder: the fields that change what is computed.

use std::path::Path;

use pipe_core::provenance::Tokenization;
use pipe_core::{Error, IoContext, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Activation;

/// Families, by `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    Bert,
}

/// A model's shape, and the whole `config.json` for writing it back.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    pub architecture: Architecture,
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub layers: usize,
    pub heads: i64,
    pub intermediate_size: i64,
    pub max_positions: i64,
    pub type_vocab_size: i64,
    pub activation: Activation,
    pub layer_norm_eps: f64,
    pub hidden_dropout: f64,
    pub attention_dropout: f64,
    /// Dropout before the classifier.
    pub classifier_dropout: f64,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
    pub pad_token_id: i64,
    /// Everything the file says, known here or not.
    pub raw: Map<String, Value>,
}

#[derive(Deserialize)]
struct BertFields {
    vocab_size: i64,
    hidden_size: i64,
    num_hidden_layers: usize,
    num_attention_heads: i64,
    intermediate_size: i64,
    #[serde(default = "default_positions")]
    max_position_embeddings: i64,
    #[serde(default = "default_type_vocab")]
    type_vocab_size: i64,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default = "default_eps")]
    layer_norm_eps: f64,
    #[serde(default = "default_dropout")]
    hidden_dropout_prob: f64,
    #[serde(default = "default_dropout")]
    attention_probs_dropout_prob: f64,
    #[serde(default)]
    classifier_dropout: Option<f64>,
    #[serde(default = "default_range")]
    initializer_range: f64,
    #[serde(default)]
    pad_token_id: Option<i64>,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
    #[serde(default)]
    add_cross_attention: bool,
}

// The defaults of transformers' BertConfig.
fn default_positions() -> i64 {
    512
}
fn default_type_vocab() -> i64 {
    2
}
fn default_activation() -> String {
    "gelu".into()
}
fn default_eps() -> f64 {
    1e-12
}
fn default_dropout() -> f64 {
    0.1
}
fn default_range() -> f64 {
    0.02
}

fn read_json(path: &Path) -> Result<Map<String, Value>> {
    let bytes = std::fs::read(path).doing("read", path)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::input(format!("{} is not valid JSON: {e}", path.display())))
}

impl ModelConfig {
    /// Reads `folder/config.json`.
    pub fn read(folder: &Path) -> Result<ModelConfig> {
        let path = folder.join("config.json");
        if !path.exists() {
            return Err(Error::input(format!("{} is not a model folder: it has no config.json", folder.display()))
                .hint("give a Hugging Face model folder with config.json, model.safetensors and tokenizer.json"));
        }
        ModelConfig::from_json(read_json(&path)?).map_err(|e| Error { message: format!("{}: {}", path.display(), e.message), ..e })
    }

    /// For a model from scratch that will read what `tokens` describes: what `raw` leaves open is the tokenizer's.
    pub fn for_tokenizer(mut raw: Map<String, Value>, tokens: &Tokenization) -> Result<ModelConfig> {
        if let Some(id) = raw.get("pad_token_id").and_then(Value::as_u64).filter(|id| *id != u64::from(tokens.pad_token_id)) {
            return Err(Error::usage(format!("`pad_token_id` is {id}, the tokenizer's padding token has the id {}", tokens.pad_token_id))
                .hint("remove `pad_token_id`: it is taken from the tokenizer"));
        }
        raw.insert("pad_token_id".into(), tokens.pad_token_id.into());
        raw.entry("vocab_size").or_insert_with(|| tokens.vocab_size.into());
        raw.entry("model_type").or_insert_with(|| "bert".into());
        let config = ModelConfig::from_json(raw)?;
        let sizes = [config.vocab_size, config.hidden_size, config.intermediate_size, config.max_positions, config.type_vocab_size];
        if sizes.iter().any(|size| !(1..=1 << 20).contains(size)) || config.layers > 1000 {
            return Err(Error::input("a size of the model is out of range"));
        }
        if config.vocab_size < tokens.vocab_size as i64 {
            return Err(Error::usage(format!("`vocab_size` is {}, the tokenizer has {} tokens", config.vocab_size, tokens.vocab_size))
                .hint("remove `vocab_size`: it is taken from the tokenizer"));
        }
        if config.max_positions < tokens.max_length as i64 {
            let message =
                format!("`max_position_embeddings` is {}, the rows are cut to `max_length` {} tokens", config.max_positions, tokens.max_length);
            return Err(Error::usage(message).hint("raise `max_position_embeddings`, or lower `max_length` of the tokenize stage"));
        }
        Ok(config)
    }

    /// The same, of a `config.json`.
    pub fn from_file_for_tokenizer(path: &Path, tokens: &Tokenization) -> Result<ModelConfig> {
        let mut raw = read_json(path)?;
        // Classes of another task; training names its own.
        for name in ["id2label", "label2id", "num_labels"] {
            raw.remove(name);
        }
        ModelConfig::for_tokenizer(raw, tokens).map_err(|e| Error { message: format!("{}: {}", path.display(), e.message), ..e })
    }

    /// Reads a config that is already parsed.
    pub fn from_json(raw: Map<String, Value>) -> Result<ModelConfig> {
        match raw.get("model_type").and_then(Value::as_str) {
            Some("bert") => {}
            Some(other) => return Err(Error::input(format!("the model type `{other}` is not supported; supported: bert"))),
            None => return Err(Error::input("`model_type` is missing")),
        }
        let fields: BertFields = serde_json::from_value(Value::Object(raw.clone())).map_err(|e| Error::input(e.to_string()))?;
        if fields.position_embedding_type.as_deref().is_some_and(|kind| kind != "absolute") {
            return Err(Error::input("only absolute position embeddings are supported"));
        }
        if fields.is_decoder || fields.add_cross_attention {
            return Err(Error::input("a BERT used as a decoder is not supported"));
        }
        if fields.num_attention_heads <= 0 || fields.hidden_size % fields.num_attention_heads != 0 {
            return Err(Error::input(format!(
                "hidden_size {} is no multiple of num_attention_heads {}",
                fields.hidden_size, fields.num_attention_heads
            )));
        }
        let activation = match fields.hidden_act.as_str() {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            other => return Err(Error::input(format!("hidden_act `{other}` is not supported"))),
        };
        Ok(ModelConfig {
            architecture: Architecture::Bert,
            vocab_size: fields.vocab_size,
            hidden_size: fields.hidden_size,
            layers: fields.num_hidden_layers,
            heads: fields.num_attention_heads,
            intermediate_size: fields.intermediate_size,
            max_positions: fields.max_position_embeddings,
            type_vocab_size: fields.type_vocab_size,
            activation,
            layer_norm_eps: fields.layer_norm_eps,
            hidden_dropout: fields.hidden_dropout_prob,
            attention_dropout: fields.attention_probs_dropout_prob,
            classifier_dropout: fields.classifier_dropout.unwrap_or(fields.hidden_dropout_prob),
            initializer_range: fields.initializer_range,
            pad_token_id: fields.pad_token_id.unwrap_or(0),
            raw,
        })
    }

    pub fn head_dim(&self) -> i64 {
        self.hidden_size / self.heads
    }

    /// One rate for all dropouts, as the setting `dropout:` asks.
    pub fn set_dropout(&mut self, p: f64) {
        (self.hidden_dropout, self.attention_dropout, self.classifier_dropout) = (p, p, p);
    }

    /// `id2label` in the order of the ids, if the config has it.
    pub fn labels(&self) -> Option<Vec<String>> {
        let map = self.raw.get("id2label")?.as_object()?;
        (0..map.len()).map(|id| map.get(&id.to_string())?.as_str().map(str::to_owned)).collect()
    }

    /// The `config.json` of this model with a classifier over `labels`.
    pub fn with_classifier(&self, labels: &[String]) -> Map<String, Value> {
        let mut raw = self.raw.clone();
        // Notes of whoever saved it last; they would name another machine or version.
        for name in ["_name_or_path", "transformers_version", "torch_dtype", "gradient_checkpointing"] {
            raw.remove(name);
        }
        raw.insert("architectures".into(), serde_json::json!(["BertForSequenceClassification"]));
        raw.insert("dtype".into(), "float32".into());
        raw.insert("problem_type".into(), "single_label_classification".into());
        raw.insert("id2label".into(), labels.iter().enumerate().map(|(id, label)| (id.to_string(), Value::from(label.as_str()))).collect());
        raw.insert("label2id".into(), labels.iter().enumerate().map(|(id, label)| (label.clone(), Value::from(id))).collect());
        raw
    }
}
