//! What stands on top of an encoder.

use pipe_core::Result;

use crate::{Activation, Backend, EncoderInputs, ModelConfig, encode};

/// Logits `[B, classes]`: pooled first token, dropout, linear.
pub fn sequence_classification<B: Backend>(backend: &B, config: &ModelConfig, inputs: &EncoderInputs<B::Tensor>) -> Result<B::Tensor> {
    let hidden = encode(backend, config, inputs)?;
    let pooled = backend.linear_activation("bert.pooler.dense", &backend.first_token(&hidden)?, Activation::Tanh)?;
    backend.linear("classifier", &backend.dropout(&pooled, config.classifier_dropout)?)
}
