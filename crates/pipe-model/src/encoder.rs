//! Bidirectional encoders: BERT. What distinguishes its relatives are config fields, not files.

use pipe_core::Result;

use crate::{AttentionSpec, Backend, EncoderInputs, ModelConfig};

/// Token ids to hidden states `[B, L, H]`. Devlin et al. 2019, post-norm as in the original.
pub fn encode<B: Backend>(backend: &B, config: &ModelConfig, inputs: &EncoderInputs<B::Tensor>) -> Result<B::Tensor> {
    let mut hidden = embed(backend, config, inputs)?;
    let mask = backend.padding_mask(&inputs.attention_mask)?;
    for layer in 0..config.layers {
        hidden = encoder_layer(backend, config, &format!("bert.encoder.layer.{layer}"), &hidden, &mask)?;
    }
    Ok(hidden)
}

fn embed<B: Backend>(backend: &B, config: &ModelConfig, inputs: &EncoderInputs<B::Tensor>) -> Result<B::Tensor> {
    let words = backend.embedding("bert.embeddings.word_embeddings", &inputs.input_ids)?;
    let types = backend.embedding("bert.embeddings.token_type_embeddings", &inputs.token_type_ids)?;
    let positions = backend.position_embedding("bert.embeddings.position_embeddings", &inputs.input_ids, 0)?;
    // The order of the two additions is transformers', so that sums round the same.
    let sum = backend.add(&backend.add(&words, &types)?, &positions)?;
    let normed = backend.layer_norm("bert.embeddings.LayerNorm", &sum, config.layer_norm_eps)?;
    backend.dropout(&normed, config.hidden_dropout)
}

fn encoder_layer<B: Backend>(backend: &B, config: &ModelConfig, layer: &str, hidden: &B::Tensor, mask: &B::Tensor) -> Result<B::Tensor> {
    let spec = AttentionSpec { heads: config.heads, head_dim: config.head_dim(), dropout: config.attention_dropout };
    let q = backend.linear(&format!("{layer}.attention.self.query"), hidden)?;
    let k = backend.linear(&format!("{layer}.attention.self.key"), hidden)?;
    let v = backend.linear(&format!("{layer}.attention.self.value"), hidden)?;
    let context = backend.attention(&q, &k, &v, mask, &spec)?;
    let projected = backend.linear(&format!("{layer}.attention.output.dense"), &context)?;
    let (p, eps) = (config.hidden_dropout, config.layer_norm_eps);
    let attended = backend.residual_dropout_norm(&format!("{layer}.attention.output.LayerNorm"), &projected, hidden, p, eps)?;
    let wide = backend.linear_activation(&format!("{layer}.intermediate.dense"), &attended, config.activation)?;
    let narrow = backend.linear(&format!("{layer}.output.dense"), &wide)?;
    backend.residual_dropout_norm(&format!("{layer}.output.LayerNorm"), &narrow, &attended, p, eps)
}
