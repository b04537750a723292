//! BERT, RoBERTa and DistilBERT, with the defaults of transformers' configuration classes.

use pipe_core::{Error, Result};
use serde_json::Map;

use super::{Architecture, DecoderConfig, Fields, ModelConfig};
use crate::Activation;

fn head_dim(hidden_size: i64, heads: i64, names: (&str, &str)) -> Result<i64> {
    if hidden_size % heads == 0 {
        return Ok(hidden_size / heads);
    }
    Err(Error::input(format!("`{}` {hidden_size} is no multiple of `{}` {heads}", names.0, names.1)))
}

/// `BertConfig`, `RobertaConfig` and `XLMRobertaConfig`.
pub(super) fn bert(architecture: Architecture, fields: &Fields<'_>) -> Result<ModelConfig> {
    if fields.text("position_embedding_type")?.is_some_and(|kind| kind != "absolute") {
        return Err(fields.unsupported("position_embedding_type", "absolute"));
    }
    let default_padding = if architecture == Architecture::Roberta { 1 } else { 0 };
    let (vocab_size, hidden_size, heads) =
        (fields.size("vocab_size", None)?, fields.size("hidden_size", None)?, fields.size("num_attention_heads", None)?);
    let hidden_dropout = fields.share("hidden_dropout_prob", 0.1)?;
    Ok(ModelConfig {
        architecture,
        vocab_size,
        hidden_size,
        layers: fields.layers("num_hidden_layers", None)?,
        heads,
        head_dim: head_dim(hidden_size, heads, ("hidden_size", "num_attention_heads"))?,
        intermediate_size: fields.size("intermediate_size", None)?,
        max_positions: fields.size("max_position_embeddings", Some(512))?,
        type_vocab_size: fields.size("type_vocab_size", Some(2))?,
        activation: fields.activation("hidden_act", Activation::Gelu)?,
        norm_eps: fields.small("layer_norm_eps", 1e-12)?,
        embedding_dropout: hidden_dropout,
        hidden_dropout,
        attention_dropout: fields.share("attention_probs_dropout_prob", 0.1)?,
        classifier_dropout: fields.share("classifier_dropout", hidden_dropout)?,
        token_dropout: fields.share("classifier_dropout", hidden_dropout)?,
        answer_dropout: 0.0,
        initializer_range: fields.small("initializer_range", 0.02)?,
        pad_token_id: Some(fields.token("pad_token_id", vocab_size)?.unwrap_or(default_padding)),
        decoder: DecoderConfig::default(),
        raw: Map::new(),
    })
}

/// `DistilBertConfig`, which has names of its own and no token types.
pub(super) fn distilbert(fields: &Fields<'_>) -> Result<ModelConfig> {
    let (dim, n_heads) = (fields.either("dim", "hidden_size"), fields.either("n_heads", "num_attention_heads"));
    let (vocab_size, hidden_size, heads) = (fields.size("vocab_size", Some(30_522))?, fields.size(dim, Some(768))?, fields.size(n_heads, Some(12))?);
    let dropout = fields.share("dropout", 0.1)?;
    Ok(ModelConfig {
        architecture: Architecture::DistilBert,
        vocab_size,
        hidden_size,
        layers: fields.layers(fields.either("n_layers", "num_hidden_layers"), Some(6))?,
        heads,
        head_dim: head_dim(hidden_size, heads, (dim, n_heads))?,
        intermediate_size: fields.size("hidden_dim", Some(3072))?,
        max_positions: fields.size("max_position_embeddings", Some(512))?,
        type_vocab_size: 0,
        activation: fields.activation("activation", Activation::Gelu)?,
        // Written into its code.
        norm_eps: 1e-12,
        embedding_dropout: dropout,
        hidden_dropout: dropout,
        attention_dropout: fields.share("attention_dropout", 0.1)?,
        classifier_dropout: fields.share("seq_classif_dropout", 0.2)?,
        token_dropout: dropout,
        answer_dropout: fields.share("qa_dropout", 0.1)?,
        initializer_range: fields.small("initializer_range", 0.02)?,
        pad_token_id: Some(fields.token("pad_token_id", vocab_size)?.unwrap_or(0)),
        decoder: DecoderConfig::default(),
        raw: Map::new(),
    })
}
