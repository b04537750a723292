//! [`TorchBackend`]: the operations of the architectures, computed and differentiated by libtorch.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use pipe_core::{Error, Result};
use pipe_model::{Activation, Angles, AttentionSpec, Backend, Rotary};
use tch::{Kind, Tensor};

use crate::cache::KvCache;
use crate::step::Marks;
use crate::{kernels, step};

/// Parameters by their Hugging Face names.
pub(crate) type Parameters = BTreeMap<String, Tensor>;

/// A view of the parameters for one forward pass.
pub(crate) struct TorchBackend<'p> {
    parameters: &'p Parameters,
    /// Dropout is on.
    training: bool,
    /// Matrix products in bfloat16; norms, softmax and the residual stream stay in f32.
    bf16: bool,
    options: TrainingOptions,
    generation: Option<GenerationState<'p>>,
    /// Where rows of tables that get a gradient are marked.
    marks: &'p Marks,
}

/// What a pass of generation has beside the parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GenerationState<'g> {
    pub cache: &'g RefCell<KvCache>,
    /// Parameters of matrix products in the type that they are computed in: cast once, not for every token.
    pub cast: &'g Parameters,
}

/// What training alone asks of a forward pass.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TrainingOptions {
    /// Matrix products in half precision instead.
    pub fp16: bool,
    /// Uniform noise of ±α/√(L·H) on the embeddings of words (Jain et al. 2023, NEFTune); 0 is none.
    pub neftune_noise_alpha: f64,
}

/// libtorch's messages span many lines of C++; the first says it all.
pub(crate) fn torch_error(error: tch::TchError) -> Error {
    let text = error.to_string();
    let result = Error::stage(format!("libtorch: {}", text.lines().next().unwrap_or_default()));
    if says_out_of_memory(&text) {
        return result.hint(
            "set `auto_find_batch_size: true`, lower `per_device_train_batch_size` and raise `gradient_accumulation_steps`, or lower `max_length`",
        );
    }
    result
}

/// Whether an error that [`torch_error`] made is for want of memory.
pub(crate) fn is_out_of_memory(error: &Error) -> bool {
    says_out_of_memory(&error.message)
}

fn says_out_of_memory(text: &str) -> bool {
    ["out of memory", "can't allocate memory", "bad_alloc"].iter().any(|words| text.contains(words))
}

impl<'p> TorchBackend<'p> {
    pub(crate) fn new(parameters: &'p Parameters, marks: &'p Marks, training: bool, bf16: bool) -> Self {
        TorchBackend { parameters, training, bf16, options: TrainingOptions::default(), generation: None, marks }
    }

    pub(crate) fn with(self, options: TrainingOptions) -> Self {
        TorchBackend { options, ..self }
    }

    /// Attention reads and extends a cache.
    pub(crate) fn generating(self, state: GenerationState<'p>) -> Self {
        TorchBackend { generation: Some(state), ..self }
    }

    /// Embeddings of words `[B, L, H]` with NEFTune's noise.
    fn with_noise(&self, module: &str, embedded: Tensor) -> Result<Tensor, tch::TchError> {
        let is_words = ["word_embeddings", "wte", "embed_tokens"].iter().any(|name| module.ends_with(name));
        if !self.training || self.options.neftune_noise_alpha == 0.0 || !is_words {
            return Ok(embedded);
        }
        let size = embedded.size();
        let magnitude = self.options.neftune_noise_alpha / ((size[1] * size[2]) as f64).sqrt();
        let noise = embedded.f_zeros_like()?.f_uniform_(-magnitude, magnitude)?;
        embedded.f_add(&noise)
    }

    fn get(&self, module: &str, name: &str) -> Result<&Tensor> {
        self.find(module, name).ok_or_else(|| Error::internal(format!("the model has no parameter {module}.{name}")))
    }

    fn find(&self, module: &str, name: &str) -> Option<&Tensor> {
        self.parameters.get(&format!("{module}.{name}"))
    }

    /// A parameter of a matrix product, in the type that it is computed in; absent where the module has none.
    fn find_cast(&self, module: &str, name: &str) -> Result<Option<Tensor>> {
        let cast = self.generation.and_then(|state| state.cast.get(&format!("{module}.{name}")));
        match cast {
            Some(cast) => Ok(Some(cast.shallow_clone())),
            None => self.find(module, name).map(|found| self.compute(found)).transpose(),
        }
    }

    fn get_cast(&self, module: &str, name: &str) -> Result<Tensor> {
        self.find_cast(module, name)?.ok_or_else(|| Error::internal(format!("the model has no parameter {module}.{name}")))
    }

    /// The type that matrix products are computed in.
    fn compute(&self, x: &Tensor) -> Result<Tensor> {
        match (self.options.fp16, self.bf16) {
            (true, _) => x.f_to_kind(Kind::Half).map_err(torch_error),
            (false, true) => x.f_to_kind(Kind::BFloat16).map_err(torch_error),
            (false, false) => Ok(x.shallow_clone()),
        }
    }
}

impl Backend for TorchBackend<'_> {
    type Tensor = Rc<Tensor>;

    fn embedding(&self, module: &str, ids: &Self::Tensor, padding: Option<i64>) -> Result<Self::Tensor> {
        let weight = self.get(module, "weight")?;
        let marks = self.marks.get(&format!("{module}.weight"));
        let embedded = match kernels::embedding(weight, ids, padding, marks)? {
            Some(embedded) => embedded,
            None => {
                // libtorch does not say which rows.
                marks.filter(|_| weight.requires_grad()).map(step::mark_all);
                Tensor::f_embedding(weight, ids, padding.unwrap_or(-1), false, false).map_err(torch_error)?
            }
        };
        self.with_noise(module, embedded).map(Into::into).map_err(torch_error)
    }

    fn embedding_row(&self, module: &str, row: i64) -> Result<Self::Tensor> {
        self.get(module, "weight")?.f_narrow(0, row, 1).and_then(|row| row.f_unsqueeze(0)).map(Into::into).map_err(torch_error)
    }

    fn position_embedding(&self, module: &str, ids: &Self::Tensor) -> Result<Self::Tensor> {
        let length = ids.size()[1];
        self.get(module, "weight")?.f_narrow(0, 0, length).and_then(|rows| rows.f_unsqueeze(0)).map(Into::into).map_err(torch_error)
    }

    fn positions_from_padding(&self, ids: &Self::Tensor, pad: i64) -> Result<Self::Tensor> {
        let run = || {
            let tokens = ids.f_ne(pad)?.f_to_kind(Kind::Int64)?;
            tokens.f_cumsum(1, Kind::Int64)?.f_mul(&tokens)?.f_add_scalar(pad)
        };
        run().map(Into::into).map_err(torch_error)
    }

    fn linear(&self, module: &str, x: &Self::Tensor) -> Result<Self::Tensor> {
        let (weight, bias) = (self.get_cast(module, "weight")?, self.find_cast(module, "bias")?);
        linear(&self.compute(x)?, &weight, bias.as_ref())
    }

    fn conv1d(&self, module: &str, x: &Self::Tensor) -> Result<Self::Tensor> {
        let (weight, bias) = (self.get_cast(module, "weight")?, self.get_cast(module, "bias")?);
        linear(&self.compute(x)?, &weight.f_tr().map_err(torch_error)?, Some(&bias))
    }

    fn layer_norm(&self, module: &str, x: &Self::Tensor, eps: f64) -> Result<Self::Tensor> {
        let (weight, bias) = (self.get(module, "weight")?, self.get(module, "bias")?);
        let x = x.f_to_kind(Kind::Float).map_err(torch_error)?;
        x.f_layer_norm(weight.size(), Some(weight), Some(bias), eps, true).map(Into::into).map_err(torch_error)
    }

    fn rms_norm(&self, module: &str, x: &Self::Tensor, eps: f64) -> Result<Self::Tensor> {
        let weight = self.get(module, "weight")?;
        let run = || {
            let x = x.f_to_kind(Kind::Float)?;
            let mean_square = x.f_square()?.f_mean_dim([-1].as_slice(), true, Kind::Float)?;
            weight.f_mul(&x.f_mul(&mean_square.f_add_scalar(eps)?.f_rsqrt()?)?)
        };
        run().map(Into::into).map_err(torch_error)
    }

    fn attention(&self, q: &Self::Tensor, k: &Self::Tensor, v: &Self::Tensor, mask: &Self::Tensor, spec: &AttentionSpec) -> Result<Self::Tensor> {
        if let Some(context) = kernels::attention(q, k, v, mask, spec, if self.training { spec.dropout } else { 0.0 })? {
            return Ok(Rc::new(context));
        }
        let run = || {
            let size = q.size();
            let (rows, asked, length, dim) = (size[0], size[1], k.size()[1], spec.head_dim);
            // [B, M, heads · dim] → [B, heads, M, dim]
            let queries = q.f_view([rows, asked, spec.heads, dim])?.f_transpose(1, 2)?;
            // In half precision a product that is not scaled yet may be too large for its type.
            let scaled_before = q.kind() == Kind::Half;
            let queries = if scaled_before { queries.f_mul_scalar(spec.scale)? } else { queries };
            let scale = if scaled_before { 1.0 } else { spec.scale };
            // [B, L, kv_heads · dim] → the same, each head as often as queries share it.
            let shared = |x: &Tensor| {
                let (kv_heads, groups) = (spec.kv_heads, spec.heads / spec.kv_heads);
                let heads = x.f_view([rows, length, kv_heads, dim])?.f_transpose(1, 2)?;
                if groups == 1 {
                    return Ok(heads);
                }
                heads.f_unsqueeze(2)?.f_expand([rows, kv_heads, groups, length, dim], false)?.f_reshape([rows, spec.heads, length, dim])
            };
            let scores = queries.f_matmul(&shared(k)?.f_transpose(2, 3)?)?;
            let probabilities = (scores.f_to_kind(Kind::Float)?.f_mul_scalar(scale)?.f_add(mask)?).f_softmax(-1, Kind::Float)?;
            let probabilities = if self.training && spec.dropout > 0.0 { probabilities.f_dropout(spec.dropout, true)? } else { probabilities };
            let context = probabilities.f_to_kind(v.kind())?.f_matmul(&shared(v)?)?;
            context.f_transpose(1, 2)?.f_reshape([rows, asked, spec.heads * dim])
        };
        run().map(Into::into).map_err(torch_error)
    }

    fn cached_attention(
        &self,
        layer: usize,
        q: &Self::Tensor,
        k: &Self::Tensor,
        v: &Self::Tensor,
        mask: &Self::Tensor,
        spec: &AttentionSpec,
    ) -> Result<Self::Tensor> {
        match self.generation {
            Some(state) => state.cache.borrow_mut().attention(layer, q, k, v, mask, spec).map(Into::into).map_err(torch_error),
            None => self.attention(q, k, v, mask, spec),
        }
    }

    fn padding_mask(&self, attention_mask: &Self::Tensor) -> Result<Self::Tensor> {
        let run = || {
            // Finite, so that a row of padding alone gives no NaN.
            let mask = attention_mask.f_to_kind(Kind::Float)?.f_rsub_scalar(1.0)?.f_mul_scalar(f64::from(f32::MIN))?;
            mask.f_unsqueeze(1)?.f_unsqueeze(1)
        };
        run().map(Into::into).map_err(torch_error)
    }

    fn causal_mask(&self, attention_mask: &Self::Tensor, window: Option<i64>) -> Result<Self::Tensor> {
        causal_mask(attention_mask, attention_mask.size()[1], window, false).map(Into::into).map_err(torch_error)
    }

    fn cached_causal_mask(&self, attention_mask: &Self::Tensor, ids: &Self::Tensor, window: Option<i64>) -> Result<Self::Tensor> {
        causal_mask(attention_mask, ids.size()[1], window, true).map(Into::into).map_err(torch_error)
    }

    fn rotary_angles(&self, ids: &Self::Tensor, rotary: &Rotary) -> Result<Angles<Self::Tensor>> {
        let positions = || Tensor::f_arange(ids.size()[1], (Kind::Float, ids.device()))?.f_unsqueeze(0);
        positions().and_then(|positions| angles(&positions, rotary)).map_err(torch_error)
    }

    fn rotary_angles_at(&self, position_ids: &Self::Tensor, rotary: &Rotary) -> Result<Angles<Self::Tensor>> {
        position_ids.f_to_kind(Kind::Float).and_then(|positions| angles(&positions, rotary)).map_err(torch_error)
    }

    fn rotate(&self, x: &Self::Tensor, angles: &Angles<Self::Tensor>) -> Result<Self::Tensor> {
        let run = || {
            let (size, half) = (x.size(), angles.head_dim / 2);
            let heads = x.f_view([size[0], size[1], -1, angles.head_dim])?;
            let turned = Tensor::f_cat(&[heads.f_narrow(-1, half, half)?.f_neg()?, heads.f_narrow(-1, 0, half)?], -1)?;
            let rotated = heads.f_mul(&angles.cos)?.f_add(&turned.f_mul(&angles.sin)?)?;
            rotated.f_view(size.as_slice())?.f_to_kind(x.kind())
        };
        run().map(Into::into).map_err(torch_error)
    }

    fn dropout(&self, x: &Self::Tensor, p: f64) -> Result<Self::Tensor> {
        if !self.training || p == 0.0 {
            return Ok(x.clone());
        }
        match kernels::dropout(x, p)? {
            Some(dropped) => Ok(Rc::new(dropped)),
            None => x.f_dropout(p, true).map(Into::into).map_err(torch_error),
        }
    }

    fn residual_dropout_norm(&self, module: &str, x: &Self::Tensor, residual: &Self::Tensor, p: f64, eps: f64) -> Result<Self::Tensor> {
        let (weight, bias) = (self.get(module, "weight")?, self.get(module, "bias")?);
        match kernels::residual_norm(x, residual, weight, bias, if self.training { p } else { 0.0 }, eps)? {
            Some(normed) => Ok(Rc::new(normed)),
            None => self.layer_norm(module, &self.add(&self.dropout(x, p)?, residual)?, eps),
        }
    }

    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor> {
        a.f_add(b).map(Into::into).map_err(torch_error)
    }

    fn mul(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor> {
        a.f_mul(b).map(Into::into).map_err(torch_error)
    }

    fn columns(&self, x: &Self::Tensor, columns: Range<i64>) -> Result<Self::Tensor> {
        x.f_narrow(-1, columns.start, columns.end - columns.start).map(Into::into).map_err(torch_error)
    }

    fn activation(&self, x: &Self::Tensor, kind: Activation) -> Result<Self::Tensor> {
        match kind {
            Activation::Gelu => x.f_gelu("none"),
            Activation::GeluTanh => x.f_gelu("tanh"),
            Activation::Relu => x.f_relu(),
            Activation::Silu => x.f_silu(),
            Activation::Tanh => x.f_tanh(),
        }
        .map(Into::into)
        .map_err(torch_error)
    }

    fn tokens(&self, x: &Self::Tensor, tokens: Range<i64>) -> Result<Self::Tensor> {
        x.f_narrow(1, tokens.start, tokens.end - tokens.start).map(Into::into).map_err(torch_error)
    }

    fn first_token(&self, x: &Self::Tensor) -> Result<Self::Tensor> {
        x.f_select(1, 0).map(Into::into).map_err(torch_error)
    }

    fn slots(&self, x: &Self::Tensor, slots: &Self::Tensor) -> Result<Self::Tensor> {
        x.f_flatten(0, 1).and_then(|flat| flat.f_index_select(0, slots)).map(Into::into).map_err(torch_error)
    }

    fn last_token(&self, x: &Self::Tensor, values: &Self::Tensor, skip: i64) -> Result<Self::Tensor> {
        let run = || {
            let size = x.size();
            let positions = Tensor::f_arange(size[1], (Kind::Int64, values.device()))?;
            let last = values.f_ne(skip)?.f_to_kind(Kind::Int64)?.f_mul(&positions)?.f_amax([1].as_slice(), false)?;
            // [B] → [B, 1, H], the same index for every feature.
            let index = last.f_view([-1, 1, 1])?.f_expand([size[0], 1, size[2]], false)?;
            x.f_gather(1, &index, false)?.f_squeeze_dim(1)
        };
        run().map(Into::into).map_err(torch_error)
    }
}

/// `x · weightᵀ + bias` over the last axis.
fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Rc<Tensor>> {
    match kernels::linear(x, weight, bias)? {
        Some(product) => Ok(Rc::new(product)),
        None => x.f_linear(weight, bias).map(Into::into).map_err(torch_error),
    }
}

/// What is added to the scores of the last `length` of `T` tokens, `[B, 1, length, T]`. `by_document`: a token sees those alone whose
/// number in the mask is its own.
fn causal_mask(attention_mask: &Tensor, length: i64, window: Option<i64>, by_document: bool) -> Result<Tensor, tch::TchError> {
    let all = attention_mask.size()[1];
    let positions = Tensor::f_arange(all, (Kind::Int64, attention_mask.device()))?;
    // [length, T]: how far back each token finds another.
    let distance = positions.f_narrow(0, all - length, length)?.f_unsqueeze(1)?.f_sub(&positions)?;
    let mut seen = distance.f_ge(0)?;
    if let Some(window) = window {
        seen = seen.f_logical_and(&distance.f_lt(window)?)?;
    }
    let mut seen = attention_mask.f_ne(0)?.f_unsqueeze(1)?.f_unsqueeze(1)?.f_logical_and(&seen)?;
    if by_document {
        let queries = attention_mask.f_narrow(1, all - length, length)?.f_unsqueeze(2)?;
        let own = queries.f_eq_tensor(&attention_mask.f_unsqueeze(1)?)?;
        seen = seen.f_logical_and(&own.f_unsqueeze(1)?)?;
    }
    // Finite, so that padding that nothing precedes gives no NaN.
    seen.f_logical_not()?.f_to_kind(Kind::Float)?.f_mul_scalar(f64::from(f32::MIN))
}

/// The rotations of `positions` `[1 or B, L]`.
fn angles(positions: &Tensor, rotary: &Rotary) -> Result<Angles<Rc<Tensor>>, tch::TchError> {
    let frequencies = Tensor::f_from_slice(&rotary.inv_freq)?.f_to_device(positions.device())?;
    let half = positions.f_unsqueeze(-1)?.f_mul(&frequencies)?;
    // Both halves of a head turn alike: [B, L, dim] → [B, L, 1, dim]
    let angles = Tensor::f_cat(&[&half, &half], -1)?.f_unsqueeze(2)?;
    let scaled = |x: Tensor| x.f_mul_scalar(rotary.attention_factor).map(Rc::new);
    Ok(Angles { cos: scaled(angles.f_cos()?)?, sin: scaled(angles.f_sin()?)?, head_dim: angles.size()[3] })
}
