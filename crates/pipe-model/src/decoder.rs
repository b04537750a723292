//! Causal decoders: GPT-2 and the Llama family. Both normalise before each half of a layer and add what it gives.

use std::collections::BTreeMap;

use pipe_core::{Error, Result};

use crate::{Angles, AttentionSpec, Backend, ModelConfig, ModelInputs};

impl ModelConfig {
    fn attention_spec(&self, layer: usize) -> AttentionSpec {
        AttentionSpec {
            heads: self.heads,
            kv_heads: self.decoder.kv_heads,
            head_dim: self.head_dim,
            scale: self.decoder.score_scales[layer],
            dropout: self.attention_dropout,
        }
    }
}

fn causal_mask<B: Backend>(backend: &B, inputs: &ModelInputs<B::Tensor>, window: Option<i64>) -> Result<B::Tensor> {
    match inputs.position_ids {
        Some(_) => backend.cached_causal_mask(&inputs.attention_mask, &inputs.input_ids, window),
        None => backend.causal_mask(&inputs.attention_mask, window),
    }
}

/// Token ids to hidden states `[B, L, H]`. Radford et al. 2019.
pub(crate) fn gpt2<B: Backend>(backend: &B, config: &ModelConfig, inputs: &ModelInputs<B::Tensor>) -> Result<B::Tensor> {
    let words = backend.embedding("transformer.wte", &inputs.input_ids, None)?;
    let positions = match &inputs.position_ids {
        Some(ids) => backend.embedding("transformer.wpe", ids, None)?,
        None => backend.position_embedding("transformer.wpe", &inputs.input_ids)?,
    };
    let mut hidden = backend.dropout(&backend.add(&words, &positions)?, config.embedding_dropout)?;
    let mask = causal_mask(backend, inputs, None)?;
    for layer in 0..config.layers {
        hidden = gpt2_layer(backend, config, layer, &hidden, &mask)?;
    }
    backend.layer_norm("transformer.ln_f", &hidden, config.norm_eps)
}

fn gpt2_layer<B: Backend>(backend: &B, config: &ModelConfig, layer: usize, hidden: &B::Tensor, mask: &B::Tensor) -> Result<B::Tensor> {
    let of = |name: &str| format!("transformer.h.{layer}.{name}");
    let (p, eps, size) = (config.hidden_dropout, config.norm_eps, config.hidden_size);
    // One matrix gives queries, keys and values side by side.
    let qkv = backend.conv1d(&of("attn.c_attn"), &backend.layer_norm(&of("ln_1"), hidden, eps)?)?;
    let [q, k, v] = [0, 1, 2].map(|part| backend.columns(&qkv, part * size..(part + 1) * size));
    let context = backend.cached_attention(layer, &q?, &k?, &v?, mask, &config.attention_spec(layer))?;
    let projected = backend.conv1d(&of("attn.c_proj"), &context)?;
    let hidden = backend.add(&backend.dropout(&projected, p)?, hidden)?;

    let wide = backend.conv1d(&of("mlp.c_fc"), &backend.layer_norm(&of("ln_2"), &hidden, eps)?)?;
    let narrow = backend.conv1d(&of("mlp.c_proj"), &backend.activation(&wide, config.activation)?)?;
    backend.add(&hidden, &backend.dropout(&narrow, p)?)
}

/// Token ids to hidden states `[B, L, H]`. Touvron et al. 2023; Mistral and Qwen2 differ in windows and biases.
pub(crate) fn llama<B: Backend>(backend: &B, config: &ModelConfig, inputs: &ModelInputs<B::Tensor>) -> Result<B::Tensor> {
    let rotary = config.decoder.rotary.as_ref().ok_or_else(|| Error::internal("a Llama without rotary embeddings"))?;
    let angles = match &inputs.position_ids {
        Some(ids) => backend.rotary_angles_at(ids, rotary)?,
        None => backend.rotary_angles(&inputs.input_ids, rotary)?,
    };
    let mut masks = BTreeMap::new();
    for window in &config.decoder.windows {
        if !masks.contains_key(window) {
            masks.insert(*window, causal_mask(backend, inputs, *window)?);
        }
    }
    let mut hidden = backend.embedding("model.embed_tokens", &inputs.input_ids, config.decoder.embedding_padding)?;
    for layer in 0..config.layers {
        hidden = llama_layer(backend, config, layer, &hidden, &masks[&config.decoder.windows[layer]], &angles)?;
    }
    backend.rms_norm("model.norm", &hidden, config.norm_eps)
}

fn llama_layer<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    layer: usize,
    hidden: &B::Tensor,
    mask: &B::Tensor,
    angles: &Angles<B::Tensor>,
) -> Result<B::Tensor> {
    let of = |name: &str| format!("model.layers.{layer}.{name}");
    let normed = backend.rms_norm(&of("input_layernorm"), hidden, config.norm_eps)?;
    let q = backend.rotate(&backend.linear(&of("self_attn.q_proj"), &normed)?, angles)?;
    let k = backend.rotate(&backend.linear(&of("self_attn.k_proj"), &normed)?, angles)?;
    let v = backend.linear(&of("self_attn.v_proj"), &normed)?;
    let context = backend.cached_attention(layer, &q, &k, &v, mask, &config.attention_spec(layer))?;
    let hidden = backend.add(hidden, &backend.linear(&of("self_attn.o_proj"), &context)?)?;

    let normed = backend.rms_norm(&of("post_attention_layernorm"), &hidden, config.norm_eps)?;
    let wide = backend.gated_linear(&of("mlp.gate_proj"), &of("mlp.up_proj"), &normed, config.activation)?;
    backend.add(&hidden, &backend.linear(&of("mlp.down_proj"), &wide)?)
}
