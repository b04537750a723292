//! The shape of a model that is trained from scratch, in the words of its future `config.json`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Complaint, in_range, known_name};

/// Keys and defaults are those of transformers' `BertConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewModelConfig {
    /// The family.
    pub model_type: ModelType,
    /// Absent: as many as the tokenizer has.
    pub vocab_size: Option<u64>,
    /// Of hidden states; a multiple of `num_attention_heads`.
    pub hidden_size: u64,
    pub num_hidden_layers: u64,
    pub num_attention_heads: u64,
    /// Of the feed-forward layers.
    pub intermediate_size: u64,
    #[schemars(schema_with = "activation_schema")]
    pub hidden_act: String,
    pub hidden_dropout_prob: f64,
    pub attention_probs_dropout_prob: f64,
    /// Absent: as `hidden_dropout_prob`.
    pub classifier_dropout: Option<f64>,
    /// The most tokens of a row; at least `max_length` of the tokenize stage.
    pub max_position_embeddings: u64,
    /// How many texts a row may consist of.
    pub type_vocab_size: u64,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
    pub layer_norm_eps: f64,
    /// Absent: the tokenizer's.
    pub pad_token_id: Option<u64>,
}

/// Families that can be trained from scratch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelType {
    #[default]
    Bert,
}

const ACTIVATIONS: [&str; 6] = ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish"];

/// Far above any encoder there is, and low enough that no product of sizes overflows.
const LARGEST: f64 = 1_048_576.0;

fn activation_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ACTIVATIONS})
}

impl Default for NewModelConfig {
    fn default() -> Self {
        NewModelConfig {
            model_type: ModelType::Bert,
            vocab_size: None,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: "gelu".into(),
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            classifier_dropout: None,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: None,
        }
    }
}

impl NewModelConfig {
    /// As `config.json` has it, without what is left to the tokenizer.
    pub fn to_json(&self) -> Map<String, Value> {
        let Ok(Value::Object(mut map)) = serde_json::to_value(self) else { return Map::new() };
        map.retain(|_, value| !value.is_null());
        map
    }

    /// Bytes of the weights in f32, about; for what a vocabulary will take BERT's own is assumed.
    pub fn weights_size(&self) -> u64 {
        let embeddings = self.hidden_size.saturating_mul(self.vocab_size.unwrap_or(30_522) + self.max_position_embeddings);
        let layer = self.hidden_size.saturating_mul(4 * self.hidden_size + 2 * self.intermediate_size);
        embeddings.saturating_add(layer.saturating_mul(self.num_hidden_layers)).saturating_mul(4)
    }

    /// `place` is the dotted path of this mapping below `with:`.
    pub(super) fn check(&self, place: &str) -> Result<(), Complaint> {
        let of = |name: &str| format!("{place}.{name}");
        let sizes = [
            ("vocab_size", self.vocab_size.unwrap_or(1)),
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (name, size) in sizes {
            in_range(&of(name), size as f64, 1.0..=LARGEST)?;
        }
        in_range(&of("num_hidden_layers"), self.num_hidden_layers as f64, 1.0..=1000.0)?;
        in_range(&of("type_vocab_size"), self.type_vocab_size as f64, 2.0..=127.0)?;
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let message = format!("`hidden_size` {} is no multiple of `num_attention_heads` {}", self.hidden_size, self.num_attention_heads);
            return Err(Complaint::new(of("hidden_size"), message));
        }
        if self.pad_token_id.is_some_and(|id| id as f64 >= LARGEST || self.vocab_size.is_some_and(|size| id >= size)) {
            return Err(Complaint::new(of("pad_token_id"), "`pad_token_id` must be below `vocab_size`"));
        }
        known_name(&of("hidden_act"), &self.hidden_act, &ACTIVATIONS)?;
        in_range(&of("hidden_dropout_prob"), self.hidden_dropout_prob, 0.0..=0.99)?;
        in_range(&of("attention_probs_dropout_prob"), self.attention_probs_dropout_prob, 0.0..=0.99)?;
        in_range(&of("classifier_dropout"), self.classifier_dropout.unwrap_or(0.0), 0.0..=0.99)?;
        in_range(&of("initializer_range"), self.initializer_range, 0.0..=10.0)?;
        in_range(&of("layer_norm_eps"), self.layer_norm_eps, 0.0..=1.0)
    }
}
