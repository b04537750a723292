//! GPT-2 and the Llama family, with the defaults of transformers' configuration classes.

use pipe_core::{Error, Result};
use serde_json::Map;

use super::{Architecture, DecoderConfig, Fields, ModelConfig};
use crate::{Activation, Rotary};

/// `GPT2Config`.
pub(super) fn gpt2(fields: &Fields<'_>) -> Result<ModelConfig> {
    let (n_embd, n_head) = (fields.either("n_embd", "hidden_size"), fields.either("n_head", "num_attention_heads"));
    let (vocab_size, hidden_size, heads) =
        (fields.size("vocab_size", Some(50_257))?, fields.size(n_embd, Some(768))?, fields.size(n_head, Some(12))?);
    if hidden_size % heads != 0 {
        return Err(Error::input(format!("`{n_embd}` {hidden_size} is no multiple of `{n_head}` {heads}")));
    }
    let head_dim = hidden_size / heads;
    let layers = fields.layers(fields.either("n_layer", "num_hidden_layers"), Some(12))?;
    let scale = if fields.flag("scale_attn_weights", true)? { (head_dim as f64).powf(-0.5) } else { 1.0 };
    let by_layer = fields.flag("scale_attn_by_inverse_layer_idx", false)?;
    Ok(ModelConfig {
        architecture: Architecture::Gpt2,
        vocab_size,
        hidden_size,
        layers,
        heads,
        head_dim,
        intermediate_size: fields.optional_size("n_inner")?.unwrap_or(4 * hidden_size),
        max_positions: fields.size(fields.either("n_positions", "max_position_embeddings"), Some(1024))?,
        type_vocab_size: 0,
        activation: fields.activation("activation_function", Activation::GeluTanh)?,
        norm_eps: fields.small("layer_norm_epsilon", 1e-5)?,
        embedding_dropout: fields.share("embd_pdrop", 0.1)?,
        hidden_dropout: fields.share("resid_pdrop", 0.1)?,
        attention_dropout: fields.share("attn_pdrop", 0.1)?,
        classifier_dropout: 0.0,
        token_dropout: token_dropout(fields)?,
        answer_dropout: 0.0,
        initializer_range: fields.small("initializer_range", 0.02)?,
        pad_token_id: fields.token("pad_token_id", vocab_size)?,
        decoder: DecoderConfig {
            embedding_padding: fields.token("pad_token_id", vocab_size)?,
            kv_heads: heads,
            rotary: None,
            windows: vec![None; layers],
            qkv_bias: true,
            output_bias: true,
            mlp_bias: true,
            tied_embeddings: fields.flag("tie_word_embeddings", true)?,
            score_scales: (1..=layers).map(|layer| if by_layer { scale / layer as f64 } else { scale }).collect(),
        },
        raw: Map::new(),
    })
}

/// `LlamaConfig`, `MistralConfig` and `Qwen2Config`.
pub(super) fn llama(model_type: &str, fields: &Fields<'_>) -> Result<ModelConfig> {
    let vocab_size = fields.size("vocab_size", None)?;
    let (hidden_size, heads) = (fields.size("hidden_size", None)?, fields.size("num_attention_heads", None)?);
    let layers = fields.layers("num_hidden_layers", None)?;
    // Grouped in Mistral even where the file leaves it to the default.
    let kv_heads = fields.size("num_key_value_heads", Some(if model_type == "mistral" { 8 } else { heads }))?;
    if heads % kv_heads != 0 {
        return Err(Error::input(format!("`num_attention_heads` {heads} is no multiple of `num_key_value_heads` {kv_heads}")));
    }
    let head_dim = match fields.optional_size("head_dim")? {
        Some(size) => size,
        None if hidden_size % heads == 0 => hidden_size / heads,
        None => return Err(Error::input(format!("`hidden_size` {hidden_size} is no multiple of `num_attention_heads` {heads}"))),
    };
    let default_positions = match model_type {
        "mistral" => 131_072,
        "qwen2" => 32_768,
        _ => 2048,
    };
    let max_positions = fields.size("max_position_embeddings", Some(default_positions))?;
    // The others have it in their code, whatever the file says.
    let attention_bias = model_type == "llama" && fields.flag("attention_bias", false)?;
    Ok(ModelConfig {
        architecture: Architecture::Llama,
        vocab_size,
        hidden_size,
        layers,
        heads,
        head_dim,
        intermediate_size: fields.size("intermediate_size", None)?,
        max_positions,
        type_vocab_size: 0,
        activation: fields.activation("hidden_act", Activation::Silu)?,
        norm_eps: fields.small("rms_norm_eps", 1e-6)?,
        embedding_dropout: 0.0,
        hidden_dropout: 0.0,
        attention_dropout: fields.share("attention_dropout", 0.0)?,
        classifier_dropout: 0.0,
        token_dropout: token_dropout(fields)?,
        answer_dropout: 0.0,
        initializer_range: fields.small("initializer_range", 0.02)?,
        pad_token_id: fields.token("pad_token_id", vocab_size)?,
        decoder: DecoderConfig {
            embedding_padding: fields.token("pad_token_id", vocab_size)?,
            kv_heads,
            rotary: Some(Rotary::read(fields, head_dim, max_positions)?),
            windows: windows(model_type, fields, layers)?,
            qkv_bias: attention_bias || model_type == "qwen2",
            output_bias: attention_bias,
            mlp_bias: model_type == "llama" && fields.flag("mlp_bias", false)?,
            tied_embeddings: fields.flag("tie_word_embeddings", false)?,
            score_scales: vec![(head_dim as f64).powf(-0.5); layers],
        },
        raw: Map::new(),
    })
}

/// Every layer of Mistral slides; of Qwen2 those that `layer_types` or `max_window_layers` say, and only if switched on.
fn windows(model_type: &str, fields: &Fields<'_>, layers: usize) -> Result<Vec<Option<i64>>> {
    let window = fields.optional_size("sliding_window")?;
    match model_type {
        "mistral" if fields.is_absent("sliding_window") => Ok(vec![Some(4096); layers]),
        "mistral" => Ok(vec![window; layers]),
        "qwen2" if fields.flag("use_sliding_window", false)? => {
            let window = if fields.is_absent("sliding_window") { Some(4096) } else { window };
            let Some(types) = fields.list("layer_types")? else {
                let first = fields.number("max_window_layers", Some(28.0))?.unwrap_or_default() as usize;
                return Ok((0..layers).map(|layer| window.filter(|_| layer >= first)).collect());
            };
            if types.len() != layers {
                return Err(Error::input(format!("`layer_types` names {} layers, the model has {layers}", types.len())));
            }
            let of = |kind: &serde_json::Value| match kind.as_str() {
                Some("full_attention") => Ok(None),
                Some("sliding_attention") => Ok(window),
                _ => Err(fields.unsupported("layer_types", "full_attention, sliding_attention")),
            };
            types.iter().map(of).collect()
        }
        _ => Ok(vec![None; layers]),
    }
}

/// Before a classifier of tokens, by whichever name the config has for it.
fn token_dropout(fields: &Fields<'_>) -> Result<f64> {
    fields.share(fields.either("classifier_dropout", "hidden_dropout"), 0.1)
}
