//! [`TorchBackend`]: the operations of the architectures, computed and differentiated by libtorch.

use std::collections::BTreeMap;

use pipe_core::{Error, Result};
use pipe_model::{Activation, AttentionSpec, Backend};
use tch::{Kind, Tensor};

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
    text.contains("out of memory") || text.contains("can't allocate memory")
}

impl<'p> TorchBackend<'p> {
    pub(crate) fn new(parameters: &'p Parameters, training: bool, bf16: bool) -> Self {
        TorchBackend { parameters, training, bf16, options: TrainingOptions::default() }
    }

    pub(crate) fn with(self, options: TrainingOptions) -> Self {
        TorchBackend { options, ..self }
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
    type Tensor = std::rc::Rc<Tensor>;

    fn embedding(&self, module: &str, ids: &Self::Tensor) -> Result<Self::Tensor> {
        let embedded = Tensor::f_embedding(self.get(module, "weight")?, ids, -1, false, false).map_err(torch_error)?;
        self.with_noise(module, embedded).map(Into::into).map_err(torch_error)
    }

    fn position_embedding(&self, module: &str, ids: &Self::Tensor, offset: i64) -> Result<Self::Tensor> {
        let length = ids.size()[1];
        self.get(module, "weight")?.f_narrow(0, offset, length).and_then(|rows| rows.f_unsqueeze(0)).map(Into::into).map_err(torch_error)
    }

    fn linear(&self, module: &str, x: &Self::Tensor) -> Result<Self::Tensor> {
        let weight = self.compute(self.get(module, "weight")?)?;
        let bias = self.find(module, "bias").map(|bias| self.compute(bias)).transpose()?;
        self.compute(x)?.f_linear(&weight, bias.as_ref()).map(Into::into).map_err(torch_error)
    }

    fn layer_norm(&self, module: &str, x: &Self::Tensor, eps: f64) -> Result<Self::Tensor> {
        let (weight, bias) = (self.get(module, "weight")?, self.get(module, "bias")?);
        let x = x.f_to_kind(Kind::Float).map_err(torch_error)?;
        x.f_layer_norm(weight.size(), Some(weight), Some(bias), eps, true).map(Into::into).map_err(torch_error)
    }

    fn attention(&self, q: &Self::Tensor, k: &Self::Tensor, v: &Self::Tensor, mask: &Self::Tensor, spec: &AttentionSpec) -> Result<Self::Tensor> {
        let run = || {
            let size = q.size();
            let (rows, length) = (size[0], size[1]);
            // [B, L, H] → [B, heads, L, dim]
            let heads = |x: &Tensor| x.f_view([rows, length, spec.heads, spec.head_dim])?.f_transpose(1, 2);
            let scale = 1.0 / (spec.head_dim as f64).sqrt();
            let scores = heads(q)?.f_matmul(&heads(k)?.f_transpose(2, 3)?)?;
            let probabilities = (scores.f_to_kind(Kind::Float)?.f_mul_scalar(scale)?.f_add(mask)?).f_softmax(-1, Kind::Float)?;
            let probabilities = if self.training && spec.dropout > 0.0 { probabilities.f_dropout(spec.dropout, true)? } else { probabilities };
            let context = probabilities.f_to_kind(v.kind())?.f_matmul(&heads(v)?)?;
            context.f_transpose(1, 2)?.f_reshape([rows, length, spec.heads * spec.head_dim])
        };
        run().map(Into::into).map_err(torch_error)
    }

    fn padding_mask(&self, attention_mask: &Self::Tensor) -> Result<Self::Tensor> {
        let run = || {
            // Finite, so that a row of padding alone gives no NaN.
            let mask = attention_mask.f_to_kind(Kind::Float)?.f_rsub_scalar(1.0)?.f_mul_scalar(f64::from(f32::MIN))?;
            mask.f_unsqueeze(1)?.f_unsqueeze(1)
        };
        run().map(Into::into).map_err(torch_error)
    }

    fn dropout(&self, x: &Self::Tensor, p: f64) -> Result<Self::Tensor> {
        if self.training && p > 0.0 { x.f_dropout(p, true).map(Into::into).map_err(torch_error) } else { Ok(x.clone()) }
    }

    fn add(&self, a: &Self::Tensor, b: &Self::Tensor) -> Result<Self::Tensor> {
        a.f_add(b).map(Into::into).map_err(torch_error)
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

    fn first_token(&self, x: &Self::Tensor) -> Result<Self::Tensor> {
        x.f_select(1, 0).map(Into::into).map_err(torch_error)
    }
}
