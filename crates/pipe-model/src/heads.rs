//! What stands on top of a model. A head is one function here, its weights in [`parameters`](crate::parameters()), and
//! its place in [`Head`].

use pipe_core::{Error, Result};

use crate::decoder::{gpt2, llama};
use crate::encoder::encode;
use crate::{Activation, Architecture, Backend, ModelConfig, ModelInputs};

/// What a model is to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// One score per class and row.
    SequenceClassification { classes: usize },
    /// One score per token of the vocabulary at every position: what comes next. For decoders.
    CausalLm,
}

impl Head {
    /// The class that transformers has for it; `family` is what its classes begin with.
    pub(crate) fn class(self, family: &str) -> String {
        match self {
            Head::SequenceClassification { .. } => format!("{family}ForSequenceClassification"),
            Head::CausalLm if family == "GPT2" => "GPT2LMHeadModel".into(),
            Head::CausalLm => format!("{family}ForCausalLM"),
        }
    }

    /// The forward pass of a whole model: `[B, classes]`, or `[B, L, vocabulary]`.
    pub fn forward<B: Backend>(self, backend: &B, config: &ModelConfig, inputs: &ModelInputs<B::Tensor>) -> Result<B::Tensor> {
        let hidden = match config.architecture {
            Architecture::Bert | Architecture::Roberta | Architecture::DistilBert => encode(backend, config, inputs)?,
            Architecture::Gpt2 => gpt2(backend, config, inputs)?,
            Architecture::Llama => llama(backend, config, inputs)?,
        };
        match self {
            Head::SequenceClassification { .. } => sequence_classification(backend, config, inputs, &hidden),
            Head::CausalLm => backend.linear(language_model_head(config), &hidden),
        }
    }
}

impl ModelConfig {
    /// Refuses a model that [`Head::CausalLm`] is not for.
    pub fn check_generates(&self) -> Result<()> {
        match self.architecture {
            Architecture::Gpt2 | Architecture::Llama => Ok(()),
            Architecture::Bert | Architecture::Roberta | Architecture::DistilBert => Err(cannot_generate()),
        }
    }
}

/// What [`Head::CausalLm`] gives at the last place of each row: `[B, vocabulary]`. Generation needs no more, and all places of long
/// prompts times the vocabulary would be gigabytes.
pub fn next_token_logits<B: Backend>(backend: &B, config: &ModelConfig, inputs: &ModelInputs<B::Tensor>) -> Result<B::Tensor> {
    let hidden = match config.architecture {
        Architecture::Gpt2 => gpt2(backend, config, inputs)?,
        Architecture::Llama => llama(backend, config, inputs)?,
        Architecture::Bert | Architecture::Roberta | Architecture::DistilBert => return Err(cannot_generate()),
    };
    // No token has the id -1.
    backend.linear(language_model_head(config), &backend.last_token(&hidden, &inputs.input_ids, -1)?)
}

fn cannot_generate() -> Error {
    Error::input("tokens of this model see those after them: it cannot generate").hint("give a causal language model, such as GPT-2 or Llama")
}

fn sequence_classification<B: Backend>(backend: &B, config: &ModelConfig, inputs: &ModelInputs<B::Tensor>, hidden: &B::Tensor) -> Result<B::Tensor> {
    let dropout = |x: &B::Tensor| backend.dropout(x, config.classifier_dropout);
    match config.architecture {
        Architecture::Bert => {
            let pooled = backend.linear_activation("bert.pooler.dense", &backend.first_token(hidden)?, Activation::Tanh)?;
            backend.linear("classifier", &dropout(&pooled)?)
        }
        Architecture::Roberta => {
            let pooled = backend.linear_activation("classifier.dense", &dropout(&backend.first_token(hidden)?)?, Activation::Tanh)?;
            backend.linear("classifier.out_proj", &dropout(&pooled)?)
        }
        Architecture::DistilBert => {
            let pooled = backend.linear_activation("pre_classifier", &backend.first_token(hidden)?, Activation::Relu)?;
            backend.linear("classifier", &dropout(&pooled)?)
        }
        Architecture::Gpt2 | Architecture::Llama => {
            // By ids, as transformers does, wherever the padding token is known.
            let last = match config.pad_token_id {
                Some(pad) => backend.last_token(hidden, &inputs.input_ids, pad)?,
                None => backend.last_token(hidden, &inputs.attention_mask, 0)?,
            };
            backend.linear("score", &last)
        }
    }
}

/// The module whose weight scores the vocabulary.
fn language_model_head(config: &ModelConfig) -> &'static str {
    match config.architecture {
        Architecture::Gpt2 if config.decoder.tied_embeddings => "transformer.wte",
        Architecture::Llama if config.decoder.tied_embeddings => "model.embed_tokens",
        _ => "lm_head",
    }
}
