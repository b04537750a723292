//! Bidirectional encoders: BERT, RoBERTa, DistilBERT. They differ in names and in how positions are counted.

use pipe_core::Result;

use crate::{Architecture, AttentionSpec, Backend, ModelConfig, ModelInputs};

/// What the modules of an encoder are called; those of a layer are below `{layers}.{index}`.
pub(crate) struct EncoderNames {
    pub embeddings: &'static str,
    pub layers: &'static str,
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub attention_output: &'static str,
    pub attention_norm: &'static str,
    /// The feed-forward layer that widens, and the one that narrows.
    pub wide: &'static str,
    pub narrow: &'static str,
    pub output_norm: &'static str,
}

const BERT: EncoderNames = EncoderNames {
    embeddings: "bert.embeddings",
    layers: "bert.encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    wide: "intermediate.dense",
    narrow: "output.dense",
    output_norm: "output.LayerNorm",
};

const ROBERTA: EncoderNames = EncoderNames { embeddings: "roberta.embeddings", layers: "roberta.encoder.layer", ..BERT };

const DISTILBERT: EncoderNames = EncoderNames {
    embeddings: "distilbert.embeddings",
    layers: "distilbert.transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    wide: "ffn.lin1",
    narrow: "ffn.lin2",
    output_norm: "output_layer_norm",
};

impl EncoderNames {
    pub(crate) fn of(architecture: Architecture) -> &'static EncoderNames {
        match architecture {
            Architecture::Roberta => &ROBERTA,
            Architecture::DistilBert => &DISTILBERT,
            _ => &BERT,
        }
    }
}

/// The positions whose hidden states are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Positions {
    All,
    /// The first alone: the last layer has no other to compute, beyond their keys and values.
    First,
}

/// Token ids to hidden states `[B, L, H]`, or `[B, 1, H]` of the first. Devlin et al. 2019, post-norm as in the original.
pub(crate) fn encode<B: Backend>(backend: &B, config: &ModelConfig, inputs: &ModelInputs<B::Tensor>, wanted: Positions) -> Result<B::Tensor> {
    let names = EncoderNames::of(config.architecture);
    let mut hidden = embed(backend, config, names, inputs)?;
    let mask = backend.padding_mask(&inputs.attention_mask)?;
    for layer in 0..config.layers {
        let wanted = if layer + 1 == config.layers { wanted } else { Positions::All };
        hidden = encoder_layer(backend, config, names, layer, &hidden, &mask, wanted)?;
    }
    Ok(hidden)
}

fn embed<B: Backend>(backend: &B, config: &ModelConfig, names: &EncoderNames, inputs: &ModelInputs<B::Tensor>) -> Result<B::Tensor> {
    let of = |name: &str| format!("{}.{name}", names.embeddings);
    let words = backend.embedding(&of("word_embeddings"), &inputs.input_ids, config.pad_token_id)?;
    // The order of the two additions is transformers', so that sums round the same.
    let sum = match (&inputs.token_type_ids, config.type_vocab_size) {
        (_, 0) => words,
        (Some(types), _) => backend.add(&words, &backend.embedding(&of("token_type_embeddings"), types, None)?)?,
        (None, _) => backend.add(&words, &backend.embedding_row(&of("token_type_embeddings"), 0)?)?,
    };
    let positions = match (config.architecture, config.pad_token_id) {
        (Architecture::Roberta, Some(pad)) => {
            backend.embedding(&of("position_embeddings"), &backend.positions_from_padding(&inputs.input_ids, pad)?, Some(pad))?
        }
        _ => backend.position_embedding(&of("position_embeddings"), &inputs.input_ids)?,
    };
    let normed = backend.layer_norm(&of("LayerNorm"), &backend.add(&sum, &positions)?, config.norm_eps)?;
    backend.dropout(&normed, config.embedding_dropout)
}

fn encoder_layer<B: Backend>(
    backend: &B,
    config: &ModelConfig,
    names: &EncoderNames,
    layer: usize,
    hidden: &B::Tensor,
    mask: &B::Tensor,
    wanted: Positions,
) -> Result<B::Tensor> {
    let of = |name: &str| format!("{}.{layer}.{name}", names.layers);
    let spec = AttentionSpec {
        heads: config.heads,
        kv_heads: config.heads,
        head_dim: config.head_dim,
        scale: (config.head_dim as f64).powf(-0.5),
        dropout: config.attention_dropout,
    };
    let asking = match wanted {
        Positions::All => hidden.clone(),
        Positions::First => backend.tokens(hidden, 0..1)?,
    };
    let q = backend.linear(&of(names.query), &asking)?;
    let k = backend.linear(&of(names.key), hidden)?;
    let v = backend.linear(&of(names.value), hidden)?;
    let context = backend.attention(&q, &k, &v, mask, &spec)?;
    let projected = backend.linear(&of(names.attention_output), &context)?;
    let (p, eps) = (config.hidden_dropout, config.norm_eps);
    // DistilBERT drops nothing here.
    let after_attention = if config.architecture == Architecture::DistilBert { 0.0 } else { p };
    let attended = backend.residual_dropout_norm(&of(names.attention_norm), &projected, &asking, after_attention, eps)?;
    let wide = backend.linear_activation(&of(names.wide), &attended, config.activation)?;
    let narrow = backend.linear(&of(names.narrow), &wide)?;
    backend.residual_dropout_norm(&of(names.output_norm), &narrow, &attended, p, eps)
}
