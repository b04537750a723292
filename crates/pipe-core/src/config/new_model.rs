//! The shape of a model that is trained from scratch, in the words of its future `config.json`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Complaint, in_range, known_name};

/// Keys are those of transformers' `BertConfig` for every family; what is left out is as the family's own class has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NewModelConfig {
    /// The family.
    pub model_type: ModelType,
    /// Absent: as many as the tokenizer has.
    pub vocab_size: Option<u64>,
    /// Of hidden states; a multiple of `num_attention_heads`.
    pub hidden_size: u64,
    /// Absent: 12; 6 for distilbert.
    pub num_hidden_layers: Option<u64>,
    pub num_attention_heads: u64,
    /// Heads of keys and values, each shared by several of queries; for llama. Absent: `num_attention_heads`.
    pub num_key_value_heads: Option<u64>,
    /// Of the feed-forward layers.
    pub intermediate_size: u64,
    /// Absent: gelu; gelu_new for gpt2, silu for llama.
    #[schemars(schema_with = "activation_schema")]
    pub hidden_act: Option<String>,
    /// Absent: 0.1. Not for llama, which has none.
    pub hidden_dropout_prob: Option<f64>,
    /// Absent: 0.1; 0 for llama.
    pub attention_probs_dropout_prob: Option<f64>,
    /// Absent: as `hidden_dropout_prob`; 0.2 for distilbert. Not for gpt2 and llama, which have none.
    pub classifier_dropout: Option<f64>,
    /// The most tokens of a row, at least `max_length` of the tokenize stage; roberta needs as many more as its padding token's
    /// id and one. Absent: 512; 514 for roberta, 1024 for gpt2, 2048 for llama.
    pub max_position_embeddings: Option<u64>,
    /// How many texts a row may consist of; for bert and roberta. Absent: 2.
    pub type_vocab_size: Option<u64>,
    /// The base of the rotary embeddings' wavelengths; for llama. Absent: 10000.
    pub rope_theta: Option<f64>,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
    /// Absent: 1e-12; 1e-5 for gpt2, 1e-6 for llama's RMS norms. distilbert's cannot be set.
    pub layer_norm_eps: Option<f64>,
    /// Absent: the tokenizer's.
    pub pad_token_id: Option<u64>,
}

/// Families that can be trained from scratch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelType {
    #[default]
    Bert,
    Roberta,
    Distilbert,
    Gpt2,
    Llama,
}

const ACTIVATIONS: [&str; 6] = ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish"];

/// Far above any model there is, and low enough that no product of sizes overflows.
const LARGEST: f64 = 1_048_576.0;

fn activation_schema(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<Value> = ACTIVATIONS.into_iter().map(Value::from).chain([Value::Null]).collect();
    json_schema!({"enum": names})
}

impl Default for NewModelConfig {
    fn default() -> Self {
        NewModelConfig {
            model_type: ModelType::Bert,
            vocab_size: None,
            hidden_size: 768,
            num_hidden_layers: None,
            num_attention_heads: 12,
            num_key_value_heads: None,
            intermediate_size: 3072,
            hidden_act: None,
            hidden_dropout_prob: None,
            attention_probs_dropout_prob: None,
            classifier_dropout: None,
            max_position_embeddings: None,
            type_vocab_size: None,
            rope_theta: None,
            initializer_range: 0.02,
            layer_norm_eps: None,
            pad_token_id: None,
        }
    }
}

impl ModelType {
    /// As `model_type` has it.
    pub fn name(self) -> &'static str {
        match self {
            ModelType::Bert => "bert",
            ModelType::Roberta => "roberta",
            ModelType::Distilbert => "distilbert",
            ModelType::Gpt2 => "gpt2",
            ModelType::Llama => "llama",
        }
    }

    /// What the family's own `config.json` calls a setting; absent where it has no such thing.
    fn own_name(self, setting: &'static str) -> Option<&'static str> {
        use ModelType::{Bert, Distilbert, Gpt2, Llama, Roberta};
        match (self, setting) {
            (Distilbert, "hidden_size") => Some("dim"),
            (Distilbert, "num_hidden_layers") => Some("n_layers"),
            (Distilbert, "num_attention_heads") => Some("n_heads"),
            (Distilbert, "intermediate_size") => Some("hidden_dim"),
            (Distilbert, "hidden_act") => Some("activation"),
            (Distilbert, "hidden_dropout_prob") => Some("dropout"),
            (Distilbert | Llama, "attention_probs_dropout_prob") => Some("attention_dropout"),
            (Distilbert, "classifier_dropout") => Some("seq_classif_dropout"),
            (Gpt2, "hidden_size") => Some("n_embd"),
            (Gpt2, "num_hidden_layers") => Some("n_layer"),
            (Gpt2, "num_attention_heads") => Some("n_head"),
            (Gpt2, "intermediate_size") => Some("n_inner"),
            (Gpt2, "hidden_act") => Some("activation_function"),
            (Gpt2, "hidden_dropout_prob") => Some("resid_pdrop"),
            (Gpt2, "attention_probs_dropout_prob") => Some("attn_pdrop"),
            (Gpt2, "max_position_embeddings") => Some("n_positions"),
            (Gpt2, "layer_norm_eps") => Some("layer_norm_epsilon"),
            (Llama, "layer_norm_eps") => Some("rms_norm_eps"),
            (Distilbert, "layer_norm_eps") | (Llama, "hidden_dropout_prob") | (Gpt2 | Llama, "classifier_dropout") => None,
            (Distilbert | Gpt2 | Llama, "type_vocab_size") => None,
            (Bert | Roberta | Distilbert | Gpt2, "num_key_value_heads" | "rope_theta") => None,
            _ => Some(setting),
        }
    }
}

impl NewModelConfig {
    /// Every setting but `model_type`, with its value if it has one.
    fn settings(&self) -> [(&'static str, Value); 15] {
        [
            ("vocab_size", json!(self.vocab_size)),
            ("hidden_size", json!(self.hidden_size)),
            ("num_hidden_layers", json!(self.layers())),
            ("num_attention_heads", json!(self.num_attention_heads)),
            ("num_key_value_heads", json!(self.num_key_value_heads)),
            ("intermediate_size", json!(self.intermediate_size)),
            ("hidden_act", json!(self.hidden_act)),
            ("hidden_dropout_prob", json!(self.hidden_dropout_prob)),
            ("attention_probs_dropout_prob", json!(self.attention_probs_dropout_prob)),
            ("classifier_dropout", json!(self.classifier_dropout)),
            ("max_position_embeddings", json!(self.positions())),
            ("type_vocab_size", json!(self.type_vocab_size)),
            ("rope_theta", json!(self.rope_theta)),
            ("initializer_range", json!(self.initializer_range)),
            ("layer_norm_eps", json!(self.layer_norm_eps)),
        ]
    }

    fn layers(&self) -> u64 {
        self.num_hidden_layers.unwrap_or(if self.model_type == ModelType::Distilbert { 6 } else { 12 })
    }

    fn positions(&self) -> u64 {
        self.max_position_embeddings.unwrap_or(match self.model_type {
            ModelType::Bert | ModelType::Distilbert => 512,
            // Two are left to the padding token of the usual id 1.
            ModelType::Roberta => 514,
            ModelType::Gpt2 => 1024,
            ModelType::Llama => 2048,
        })
    }

    /// As the family's `config.json` has it, without what is left to the tokenizer.
    pub fn to_json(&self) -> Map<String, Value> {
        let settings = self.settings().into_iter().chain([("pad_token_id", json!(self.pad_token_id))]);
        let named = settings.filter_map(|(name, value)| Some((self.model_type.own_name(name)?, value)));
        let mut map: Map<String, Value> = named.filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)).collect();
        // One rate for both of GPT-2's.
        if let (ModelType::Gpt2, Some(p)) = (self.model_type, self.hidden_dropout_prob) {
            map.insert("embd_pdrop".into(), p.into());
        }
        map.insert("model_type".into(), self.model_type.name().into());
        map
    }

    /// Bytes of the weights in f32, about; for what a vocabulary will take BERT's own is assumed.
    pub fn weights_size(&self) -> u64 {
        let positions = if self.model_type == ModelType::Llama { 0 } else { self.positions() };
        let embeddings = self.hidden_size.saturating_mul(self.vocab_size.unwrap_or(30_522) + positions);
        let matrices = if self.model_type == ModelType::Llama { 3 } else { 2 };
        let layer = self.hidden_size.saturating_mul(4 * self.hidden_size + matrices * self.intermediate_size);
        embeddings.saturating_add(layer.saturating_mul(self.layers())).saturating_mul(4)
    }

    /// `place` is the dotted path of this mapping below `with:`.
    pub(super) fn check(&self, place: &str) -> Result<(), Complaint> {
        let of = |name: &str| format!("{place}.{name}");
        for (name, value) in self.settings() {
            if !value.is_null() && self.model_type.own_name(name).is_none() {
                return Err(Complaint::new(of(name), format!("`{name}` is no setting of a {} model", self.model_type.name())));
            }
        }
        let sizes = [
            ("vocab_size", self.vocab_size.unwrap_or(1)),
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads.unwrap_or(1)),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.positions()),
        ];
        for (name, size) in sizes {
            in_range(&of(name), size as f64, 1.0..=LARGEST)?;
        }
        in_range(&of("num_hidden_layers"), self.layers() as f64, 1.0..=1000.0)?;
        let fewest_types = if self.model_type == ModelType::Roberta { 1.0 } else { 2.0 };
        in_range(&of("type_vocab_size"), self.type_vocab_size.unwrap_or(2) as f64, fewest_types..=127.0)?;
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let message = format!("`hidden_size` {} is no multiple of `num_attention_heads` {}", self.hidden_size, self.num_attention_heads);
            return Err(Complaint::new(of("hidden_size"), message));
        }
        if self.model_type == ModelType::Llama && !(self.hidden_size / self.num_attention_heads).is_multiple_of(2) {
            let message = format!("`hidden_size` {} gives heads of an odd size, which cannot turn by positions", self.hidden_size);
            return Err(Complaint::new(of("hidden_size"), message));
        }
        if let Some(shared) = self.num_key_value_heads.filter(|&shared| !self.num_attention_heads.is_multiple_of(shared)) {
            let message = format!("`num_attention_heads` {} is no multiple of `num_key_value_heads` {shared}", self.num_attention_heads);
            return Err(Complaint::new(of("num_key_value_heads"), message));
        }
        if self.pad_token_id.is_some_and(|id| id as f64 >= LARGEST || self.vocab_size.is_some_and(|size| id >= size)) {
            return Err(Complaint::new(of("pad_token_id"), "`pad_token_id` must be below `vocab_size`"));
        }
        if let Some(activation) = &self.hidden_act {
            known_name(&of("hidden_act"), activation, &ACTIVATIONS)?;
        }
        let shares = [
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            ("attention_probs_dropout_prob", self.attention_probs_dropout_prob),
            ("classifier_dropout", self.classifier_dropout),
        ];
        for (name, share) in shares {
            in_range(&of(name), share.unwrap_or(0.0), 0.0..=0.99)?;
        }
        in_range(&of("rope_theta"), self.rope_theta.unwrap_or(1.0), 1.0..=1e12)?;
        in_range(&of("initializer_range"), self.initializer_range, 0.0..=10.0)?;
        in_range(&of("layer_norm_eps"), self.layer_norm_eps.unwrap_or(0.0), 0.0..=1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_own_words() {
        let json = |yaml: Value| Value::Object(serde_json::from_value::<NewModelConfig>(yaml).unwrap().to_json());
        let common =
            json!({"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "num_hidden_layers": 3, "hidden_dropout_prob": 0.2});
        let of = |model_type: &str| {
            let mut config = common.clone();
            config["model_type"] = model_type.into();
            json(config)
        };
        assert_eq!(
            of("distilbert"),
            json!({
                "model_type": "distilbert", "dim": 64, "n_heads": 4, "hidden_dim": 128, "n_layers": 3, "dropout": 0.2,
                "max_position_embeddings": 512, "initializer_range": 0.02,
            })
        );
        assert_eq!(
            of("gpt2"),
            json!({
                "model_type": "gpt2", "n_embd": 64, "n_head": 4, "n_inner": 128, "n_layer": 3, "resid_pdrop": 0.2, "embd_pdrop": 0.2,
                "n_positions": 1024, "initializer_range": 0.02,
            })
        );
        assert_eq!((&of("roberta")["max_position_embeddings"], &of("bert")["max_position_embeddings"]), (&json!(514), &json!(512)));
        let llama = json(json!({"model_type": "llama", "num_key_value_heads": 4, "layer_norm_eps": 1e-5, "attention_probs_dropout_prob": 0.1}));
        assert_eq!((&llama["rms_norm_eps"], &llama["attention_dropout"], &llama["num_key_value_heads"]), (&json!(1e-5), &json!(0.1), &json!(4)));
    }
}
