//! The operations that architectures are made of.

use std::ops::Range;

use pipe_core::Result;

use crate::Rotary;

/// Computes or records the operations of a forward pass. `module` is the Hugging Face name of the module whose
/// weights are used, such as `bert.encoder.layer.0.attention.self.query`; LoRA and quantised weights hide behind it.
///
/// Shapes: `B` rows, `L` tokens, `H` hidden size.
pub trait Backend {
    type Tensor: Clone;

    /// Rows of `{module}.weight` at `ids` `[B, L]` → `[B, L, H]`. The row `padding` learns nothing.
    fn embedding(&self, module: &str, ids: &Self::Tensor, padding: Option<i64>) -> Result<Self::Tensor>;

    /// One row of `{module}.weight` for every token → `[1, 1, H]`.
    fn embedding_row(&self, module: &str, row: i64) -> Result<Self::Tensor>;

    /// Rows `0..L` of `{module}.weight`, where `L` is the length of `ids` `[B, L]` → `[1, L, H]`.
    fn position_embedding(&self, module: &str, ids: &Self::Tensor) -> Result<Self::Tensor>;

    /// Positions as RoBERTa counts them, `[B, L]`: `pad` where the token is `pad`, and on from `pad + 1` elsewhere.
    fn positions_from_padding(&self, ids: &Self::Tensor, pad: i64) -> Result<Self::Tensor>;

    /// `x · weightᵀ + bias` over the last axis; without a bias where the module has none.
    fn linear(&self, module: &str, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// `x · weight + bias` over the last axis: what transformers calls Conv1D, a linear layer with its weight `[in, out]`.
    fn conv1d(&self, module: &str, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// Over the last axis.
    fn layer_norm(&self, module: &str, x: &Self::Tensor, eps: f64) -> Result<Self::Tensor>;

    /// `weight · x / sqrt(mean(x²) + eps)` over the last axis.
    fn rms_norm(&self, module: &str, x: &Self::Tensor, eps: f64) -> Result<Self::Tensor>;

    /// Multi-head attention over `q` `[B, M, heads · dim]` and `k`, `v` `[B, L, kv_heads · dim]` → `[B, M, heads · dim]`. Where fewer
    /// positions ask than are asked about, the mask has to say nothing of who asks.
    /// `mask` is what [`padding_mask`](Backend::padding_mask) or [`causal_mask`](Backend::causal_mask) gave.
    fn attention(&self, q: &Self::Tensor, k: &Self::Tensor, v: &Self::Tensor, mask: &Self::Tensor, spec: &AttentionSpec) -> Result<Self::Tensor>;

    /// [`attention`](Backend::attention) in a decoder's layer. A backend that keeps a cache puts the keys and values that it saw before in
    /// this layer in front of `k` and `v`, and `mask` is of all of them; without one there is nothing in front.
    fn cached_attention(
        &self,
        layer: usize,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        mask: &Self::Tensor,
        spec: &AttentionSpec,
    ) -> Result<Self::Tensor> {
        let _ = layer;
        self.attention(q, k, v, mask, spec)
    }

    /// From an attention mask `[B, L]` of ones and zeros to what `attention` adds to its scores; made once per pass.
    fn padding_mask(&self, attention_mask: &Self::Tensor) -> Result<Self::Tensor>;

    /// The same where a token sees itself and those before it, at most `window` of them together.
    fn causal_mask(&self, attention_mask: &Self::Tensor, window: Option<i64>) -> Result<Self::Tensor>;

    /// The same for the last `L` of `T` tokens, where `ids` is `[B, L]` and `attention_mask` `[B, T]` covers what a cache holds too →
    /// `[B, 1, L, T]`. In training the mask may hold the numbers of documents, and a token sees those of its own.
    fn cached_causal_mask(&self, attention_mask: &Self::Tensor, ids: &Self::Tensor, window: Option<i64>) -> Result<Self::Tensor>;

    /// The rotations of positions `0..L`, where `L` is the length of `ids` `[B, L]`; made once per pass.
    fn rotary_angles(&self, ids: &Self::Tensor, rotary: &Rotary) -> Result<Angles<Self::Tensor>>;

    /// The rotations of the positions `position_ids` `[B, L]`.
    fn rotary_angles_at(&self, position_ids: &Self::Tensor, rotary: &Rotary) -> Result<Angles<Self::Tensor>>;

    /// Turns each head of `x` `[B, L, heads · dim]` by its position's angles: element `i` together with `i + dim / 2`.
    fn rotate(&self, x: &Self::Tensor, angles: &Angles<Self::Tensor>) -> Result<Self::Tensor>;

    /// Zeroes a share `p` and scales the rest while training; the identity otherwise.
    fn dropout(&self, x: &Self::Tensor, p: f64) -> Result<Self::Tensor>;

    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;

    /// Element by element.
    fn mul(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor>;

    fn activation(&self, x: &Self::Tensor, kind: Activation) -> Result<Self::Tensor>;

    /// Some columns of the last axis.
    fn columns(&self, x: &Self::Tensor, columns: Range<i64>) -> Result<Self::Tensor>;

    /// Some positions of all rows: `[B, L, H]` → `[B, tokens, H]`.
    fn tokens(&self, x: &Self::Tensor, tokens: Range<i64>) -> Result<Self::Tensor>;

    /// `x[:, 0]`: `[B, L, H]` → `[B, H]`.
    fn first_token(&self, x: &Self::Tensor) -> Result<Self::Tensor>;

    /// `x` `[B, L, H]` at the rightmost position where `values` `[B, L]` is not `skip` (the first where all are) → `[B, H]`.
    fn last_token(&self, x: &Self::Tensor, values: &Self::Tensor, skip: i64) -> Result<Self::Tensor>;

    /// `x` `[B, L, H]` at `slots` `[N]`, which count the positions of all rows → `[N, H]`.
    fn slots(&self, x: &Self::Tensor, slots: &Self::Tensor) -> Result<Self::Tensor>;

    /// `layer_norm(module, dropout(x, p) + residual)`.
    fn residual_dropout_norm(&self, module: &str, x: &Self::Tensor, residual: &Self::Tensor, p: f64, eps: f64) -> Result<Self::Tensor> {
        let sum = self.add(&self.dropout(x, p)?, residual)?;
        self.layer_norm(module, &sum, eps)
    }

    /// `activation(linear(module, x))`.
    fn linear_activation(&self, module: &str, x: &Self::Tensor, kind: Activation) -> Result<Self::Tensor> {
        self.activation(&self.linear(module, x)?, kind)
    }

    /// `activation(linear(gate, x)) · linear(up, x)`: SwiGLU where the activation is SiLU (Shazeer 2020).
    fn gated_linear(&self, gate: &str, up: &str, x: &Self::Tensor, kind: Activation) -> Result<Self::Tensor> {
        self.mul(&self.linear_activation(gate, x, kind)?, &self.linear(up, x)?)
    }
}

/// What attention needs to know beside its inputs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionSpec {
    pub heads: i64,
    /// Heads of keys and values, each shared by `heads / kv_heads` consecutive heads of queries (Ainslie et al. 2023).
    pub kv_heads: i64,
    pub head_dim: i64,
    /// What scores are multiplied by.
    pub scale: f64,
    /// Dropout on the attention probabilities.
    pub dropout: f64,
}

/// Cosines and sines of each position and element of a head, `[1, L, 1, dim]`, or `[B, L, 1, dim]` where rows differ.
#[derive(Debug, Clone)]
pub struct Angles<T> {
    pub cos: T,
    pub sin: T,
    /// The size of each head.
    pub head_dim: i64,
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

/// What a model reads, each `[B, L]` unless it says otherwise.
#[derive(Debug, Clone)]
pub struct ModelInputs<T> {
    pub input_ids: T,
    /// With `position_ids` `[B, T]`: of the tokens in a cache, and of these after them.
    pub attention_mask: T,
    /// Absent for a model that has no use for them: [`ModelConfig::reads_token_types`](crate::ModelConfig::reads_token_types).
    pub token_type_ids: Option<T>,
    /// `[N]`: the positions that a head is to score, of all rows one after the other; absent: every one.
    pub slots: Option<T>,
    /// Where generation goes on after a cache: how many tokens of its row precede each one, as padding on the left and what is in the
    /// cache make it; where a row holds several documents, how many of its own. Absent: positions are counted from the first place of a row. For decoders.
    pub position_ids: Option<T>,
}
