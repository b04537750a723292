//! A Llama in the words of GGUF, and in those of Hugging Face.

use pipe_core::{Error, Result};
use serde_json::{Map, Value, json};

use super::{Gguf, Tensor};
use crate::config::Fields;
use crate::{ModelConfig, Rotary};

/// A parameter of the model under its Hugging Face name.
pub struct GgufParameter<'g, 'm> {
    pub name: String,
    tensor: &'g Tensor<'m>,
    /// In how many heads its rows have another order.
    permuted_heads: Option<i64>,
}

impl GgufParameter<'_, '_> {
    pub fn shape(&self) -> &[i64] {
        &self.tensor.shape
    }

    /// Its values, row-major, in Hugging Face's order.
    pub fn to_f32(&self) -> Vec<f32> {
        let values = self.tensor.to_f32();
        let Some(heads) = self.permuted_heads else { return values };
        let rows = self.tensor.shape[0] as usize;
        let (width, half) = (values.len() / rows.max(1), rows / heads as usize / 2);
        let mut turned = Vec::with_capacity(values.len());
        // llama.cpp turns neighbours, transformers the halves of a head.
        for head in 0..heads as usize {
            for part in 0..2 {
                for pair in 0..half {
                    let row = head * 2 * half + 2 * pair + part;
                    turned.extend_from_slice(&values[row * width..][..width]);
                }
            }
        }
        turned
    }
}

/// Modules of a layer: GGUF's name below `blk.N`, ours below `model.layers.N`.
const LAYER: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

fn name(tensor: &str) -> Option<String> {
    match tensor {
        "token_embd.weight" => return Some("model.embed_tokens.weight".into()),
        "output_norm.weight" => return Some("model.norm.weight".into()),
        "output.weight" => return Some("lm_head.weight".into()),
        _ => {}
    }
    let (layer, rest) = tensor.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (module, parameter) = rest.rsplit_once('.')?;
    let (_, ours) = LAYER.iter().find(|(theirs, _)| *theirs == module)?;
    Some(format!("model.layers.{layer}.{ours}.{parameter}"))
}

impl<'m> Gguf<'m> {
    /// The `config.json` that transformers would have for this model.
    pub fn config(&self) -> Result<Map<String, Value>> {
        match self.text("general.architecture")? {
            Some("llama") => {}
            other => {
                return Err(Error::input(format!(
                    "`general.architecture: {}` is not supported in GGUF; supported: llama",
                    other.unwrap_or("(missing)")
                )));
            }
        }
        let size = |key: &str| {
            let key = format!("llama.{key}");
            self.integer(&key)?.ok_or_else(|| Error::input(format!("`{key}` is missing")))
        };
        let heads = size("attention.head_count")?;
        let vocabulary = match self.integer("llama.vocab_size")? {
            Some(size) => size,
            None => self.texts("tokenizer.ggml.tokens")?.map_or(0, |tokens| tokens.len() as i64),
        };
        let mut config = json!({
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": vocabulary,
            "hidden_size": size("embedding_length")?,
            "intermediate_size": size("feed_forward_length")?,
            "num_hidden_layers": size("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": self.integer("llama.attention.head_count_kv")?.unwrap_or(heads),
            "max_position_embeddings": size("context_length")?,
            "rms_norm_eps": round(self.float("llama.attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6)),
            "hidden_act": "silu",
            "rope_theta": self.float("llama.rope.freq_base")?.unwrap_or(10_000.0),
            "rope_scaling": self.rope_scaling()?,
            "tie_word_embeddings": !self.tensors.contains_key("output.weight"),
            "attention_bias": self.tensors.contains_key("blk.0.attn_q.bias"),
            "mlp_bias": self.tensors.contains_key("blk.0.ffn_gate.bias"),
            "dtype": "float32",
        });
        if let Some(size) = self.integer("llama.attention.key_length")? {
            config["head_dim"] = size.into();
        }
        for (key, theirs) in [("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding")] {
            config[key] = json!(self.integer(&format!("tokenizer.ggml.{theirs}_token_id"))?);
        }
        let Value::Object(raw) = config else { return Err(Error::internal("a config that is no mapping")) };
        let config = ModelConfig::from_json(raw)?;
        if let Some(dim) = self.integer("llama.rope.dimension_count")?.filter(|&dim| dim != config.head_dim) {
            return Err(Error::input(format!("`llama.rope.dimension_count` is {dim}, only the whole head's {} is supported", config.head_dim)));
        }
        Ok(config.raw)
    }

    fn rope_scaling(&self) -> Result<Value> {
        if let Some(factors) = self.tensors.get("rope_freqs.weight") {
            return self.llama3_scaling(&factors.to_f32());
        }
        let key = |name: &str| format!("llama.rope.scaling.{name}");
        if let Some(factor) = self.float(&key("attn_factor"))?.filter(|factor| *factor != 1.0) {
            return Err(Error::input(format!("`{}` is {factor}, only 1 is supported", key("attn_factor"))));
        }
        Ok(match self.text(&key("type"))? {
            // The key of older files.
            None => match self.float("llama.rope.scale_linear")?.filter(|factor| *factor != 1.0) {
                Some(factor) => json!({"rope_type": "linear", "factor": factor}),
                None => Value::Null,
            },
            Some("none") => Value::Null,
            Some(kind) => json!({
                "rope_type": kind,
                "factor": self.float(&key("factor"))?,
                "original_max_position_embeddings": self.integer(&key("original_context_length"))?,
            }),
        })
    }

    /// The settings of Llama 3.1's scaling, of which GGUF keeps only what each frequency is divided by. Its constants are the same
    /// in every model but for the factor, which is that of the longest wavelength.
    fn llama3_scaling(&self, factors: &[f32]) -> Result<Value> {
        let scaling = |factor: f64| json!({"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
        let factor = factors.last().copied().unwrap_or(1.0);
        let frequencies = |scaling: Value| {
            let raw = json!({"rope_theta": self.float("llama.rope.freq_base")?, "rope_scaling": scaling});
            let raw = raw.as_object().cloned().unwrap_or_default();
            Rotary::read(&Fields::new(&raw, ""), 2 * factors.len() as i64, 8192).map(|rotary| rotary.inv_freq)
        };
        let (plain, scaled) = (frequencies(Value::Null)?, frequencies(scaling(f64::from(factor)))?);
        let same = |((plain, scaled), factor): ((&f32, &f32), &f32)| (plain / scaled - factor).abs() <= 1e-3 * factor.abs();
        if factor > 1.0 && plain.iter().zip(&scaled).zip(factors).all(same) {
            return Ok(scaling(f64::from(factor)));
        }
        Err(Error::input("`rope_freqs.weight`: only the factors of Llama 3.1's rotary embeddings are supported in GGUF")
            .hint("give the model as safetensors: its config.json names the scaling"))
    }

    /// Every parameter, with `config` as [`config`](Gguf::config) gives it.
    pub fn parameters(&self, config: &ModelConfig) -> Result<Vec<GgufParameter<'_, 'm>>> {
        let parameter = |(theirs, tensor)| {
            let name = name(theirs).ok_or_else(|| Error::input(format!("the tensor `{theirs}` is not known in a llama model")))?;
            let permuted_heads = match name.split('.').nth_back(1) {
                Some("q_proj") => Some(config.heads),
                Some("k_proj") => Some(config.decoder.kv_heads),
                _ => None,
            };
            let parameter = GgufParameter { name, tensor, permuted_heads };
            // Checked before rows are moved: the loader compares shapes only after.
            match permuted_heads {
                Some(heads) if tensor.shape.first() != Some(&(heads * config.head_dim)) => Err(Error::input(format!(
                    "the tensor `{theirs}` has the shape {:?}, {heads} heads of {} do not fit",
                    tensor.shape, config.head_dim
                ))),
                _ => Ok(parameter),
            }
        };
        // Part of the config.
        self.tensors().filter(|(name, _)| *name != "rope_freqs.weight").map(parameter).collect()
    }
}

/// The shortest decimal of an f32, as the model's config had it before.
fn round(x: f64) -> f64 {
    (x as f32).to_string().parse().unwrap_or(x)
}
