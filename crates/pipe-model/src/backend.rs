//! The operations that architectures are made of.

use pipe_core::Result;

/// Computes or records the operations of a forward pass. `module` is the Hugging Face name of the module whose
/// weights are used, such as `bert.encoder.layer.0.attention.self.query`; LoRA and quantised weights hide behind it.
///
/// Shapes: `B` rows, `L` tokens, `H` hidden size.
pub trait Backend {
    type Tensor: Clone;

    /// Rows of `{module}.weight` at `ids` `[B, L]` → `[B, L, H]`.
    fn embedding(&self, module: &str, ids: &Self::Tensor) -> Result<Self::Tensor>;

    /// Rows `offset..offset + L` of `{module}.weight`, where `L` is the length of `ids` `[B, L]` → `[1, L, H]`.
    fn position_embedding(&self, module: &str, ids: &Self::Tensor, offset: i64) -> Result<Self::Tensor>;

    /// `x · weightᵀ + bias` over the last axis; without a bias where the module has none.
    fn linear(&self, module: &str, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// Over the last axis.
    fn layer_norm(&self, module: &str, x: &Self::Tensor, eps: f64) -> Result<Self::Tensor>;

    /// Multi-head attention over `q`, `k`, `v` `[B, L, H]` → `[B, L, H]`. `mask` is what
    /// [`padding_mask`](Backend::padding_mask) gave.
    fn attention(&self, q: &Self::Tensor, k: &Self::Tensor, v: &Self::Tensor, mask: &Self::Tensor, spec: &AttentionSpec) -> Result<Self::Tensor>;

    /// From an attention mask `[B, L]` of ones and zeros to what `attention` adds to its scores; made once per pass.
    fn padding_mask(&self, attention_mask: &Self::Tensor) -> Result<Self::Tensor>;

    /// Zeroes a share `p` and scales the rest while training; the identity otherwise.
    fn dropout(&self, x: &Self::Tensor, p: f64) -> Result<Self::Tensor>;

    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;

    fn activation(&self, x: &Self::Tensor, kind: Activation) -> Result<Self::Tensor>;

    /// `x[:, 0]`: `[B, L, H]` → `[B, H]`.
    fn first_token(&self, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// `layer_norm(module, dropout(x, p) + residual)`.
    fn residual_dropout_norm(&self, module: &str, x: &Self::Tensor, residual: &Self::Tensor, p: f64, eps: f64) -> Result<Self::Tensor> {
        let sum = self.add(&self.dropout(x, p)?, residual)?;
        self.layer_norm(module, &sum, eps)
    }

    /// `activation(linear(module, x))`.
    fn linear_activation(&self, module: &str, x: &Self::Tensor, kind: Activation) -> Result<Self::Tensor> {
        self.activation(&self.linear(module, x)?, kind)
    }
}

/// What attention needs to know beside its inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionSpec {
    pub heads: i64,
    /// Size of each head; scores are scaled by its inverse square root.
    pub head_dim: i64,
    /// Dropout on the attention probabilities.
    pub dropout: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Exact, with erf.
    Gelu,
    /// The tanh approximation (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    Relu,
    Silu,
    Tanh,
}

/// What an encoder reads, each `[B, L]`.
#[derive(Debug, Clone)]
pub struct EncoderInputs<T> {
    pub input_ids: T,
    pub attention_mask: T,
    pub token_type_ids: T,
}
