//! What stands on top of a model. A head is one function here, its weights in [`parameters`](crate::parameters()), and
//! its place in [`Head`].

use pipe_core::{Error, Result, Task};
use serde_json::Value;

use crate::decoder::{gpt2, llama};
use crate::encoder::{EncoderNames, Positions, encode};
use crate::{Activation, Architecture, Backend, ModelConfig, ModelInputs};

/// What a model is to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// One score per class and row.
    SequenceClassification { classes: usize },
    /// One score per class at every position.
    TokenClassification { classes: usize },
    /// Two scores at every position: that the answer begins there, and that it ends there.
    QuestionAnswering,
    /// One score per token of the vocabulary at every position: what comes next. For decoders.
    CausalLm,
}

impl Head {
    /// The class that transformers has for it; `family` is what its classes begin with.
    pub(crate) fn class(self, family: &str) -> String {
        match self {
            Head::SequenceClassification { .. } => format!("{family}ForSequenceClassification"),
            Head::TokenClassification { .. } => format!("{family}ForTokenClassification"),
            Head::QuestionAnswering => format!("{family}ForQuestionAnswering"),
            Head::CausalLm if family == "GPT2" => "GPT2LMHeadModel".into(),
            Head::CausalLm => format!("{family}ForCausalLM"),
        }
    }

    /// What a model of `task` over `classes` classes has.
    pub fn of(task: Task, classes: usize) -> Head {
        match task {
            Task::SequenceClassification | Task::MultiLabelClassification => Head::SequenceClassification { classes },
            Task::Regression => Head::SequenceClassification { classes: 1 },
            Task::TokenClassification => Head::TokenClassification { classes },
            Task::QuestionAnswering => Head::QuestionAnswering,
            Task::CausalLm => Head::CausalLm,
        }
    }

    /// The forward pass of a whole model: `[B, classes]`; or, of a head that scores positions, `[B, L, scores]`, and
    /// `[N, scores]` where the inputs name N slots.
    pub fn forward<B: Backend>(self, backend: &B, config: &ModelConfig, inputs: &ModelInputs<B::Tensor>) -> Result<B::Tensor> {
        if let Head::SequenceClassification { .. } = self {
            return sequence_classification(backend, config, inputs, &hidden_states(backend, config, inputs, Positions::First)?);
        }
        let hidden = hidden_states(backend, config, inputs, Positions::All)?;
        // Before the head: a vocabulary's scores of positions that nobody asks about would be most of the work.
        let hidden = match &inputs.slots {
            Some(slots) => backend.slots(&hidden, slots)?,
            None => hidden,
        };
        match self {
            Head::SequenceClassification { .. } => unreachable!("answered above"),
            Head::TokenClassification { .. } => {
                let module = if config.architecture == Architecture::Llama { "score" } else { "classifier" };
                backend.linear(module, &backend.dropout(&hidden, config.token_dropout)?)
            }
            Head::QuestionAnswering => backend.linear("qa_outputs", &backend.dropout(&hidden, config.answer_dropout)?),
            Head::CausalLm => backend.linear(language_model_head(config), &hidden),
        }
    }
}

/// `[B, L, H]`; an encoder gives the `wanted` positions alone.
fn hidden_states<B: Backend>(backend: &B, config: &ModelConfig, inputs: &ModelInputs<B::Tensor>, wanted: Positions) -> Result<B::Tensor> {
    match config.architecture {
        Architecture::Bert | Architecture::Roberta | Architecture::DistilBert => encode(backend, config, inputs, wanted),
        Architecture::Gpt2 => gpt2(backend, config, inputs),
        Architecture::Llama => llama(backend, config, inputs),
    }
}

impl ModelConfig {
    /// Refuses a model that [`Head::CausalLm`] is not for.
    pub fn check_generates(&self) -> Result<()> {
        if self.is_decoder() {
            return Ok(());
        }
        let model = self.raw.get("model_type").and_then(Value::as_str).unwrap_or("model");
        Err(Error::usage(format!("a {model} sees the tokens that it would have to predict: it is no causal language model"))
            .hint("use a GPT-2, Llama, Mistral or Qwen2 model"))
    }
}

/// What [`Head::CausalLm`] gives at the last place of each row: `[B, vocabulary]`. Generation needs no more, and all places of long
/// prompts times the vocabulary would be gigabytes.
pub fn next_token_logits<B: Backend>(backend: &B, config: &ModelConfig, inputs: &ModelInputs<B::Tensor>) -> Result<B::Tensor> {
    config.check_generates()?;
    let hidden = hidden_states(backend, config, inputs, Positions::All)?;
    // No token has the id -1.
    backend.linear(language_model_head(config), &backend.last_token(&hidden, &inputs.input_ids, -1)?)
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

/// The parameter that has a row for each word, where nothing but look-ups reads it: a language model may score the vocabulary with it.
pub fn word_table(config: &ModelConfig, head: Head) -> Option<String> {
    let tied = head == Head::CausalLm && config.decoder.tied_embeddings;
    let module = match config.architecture {
        Architecture::Bert | Architecture::Roberta | Architecture::DistilBert => {
            format!("{}.word_embeddings", EncoderNames::of(config.architecture).embeddings)
        }
        Architecture::Gpt2 => "transformer.wte".to_owned(),
        Architecture::Llama => "model.embed_tokens".to_owned(),
    };
    (!tied).then(|| format!("{module}.weight"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_scores_the_vocabulary_is_not_for_look_ups_alone() {
        let families = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/families");
        let of = |name: &str, head| word_table(&ModelConfig::read(&families.join(name)).unwrap(), head);
        let classifier = Head::SequenceClassification { classes: 3 };
        assert_eq!(of("llama-lm", Head::CausalLm), None);
        assert_eq!(of("llama-lm", classifier).as_deref(), Some("model.embed_tokens.weight"));
        assert_eq!(of("gpt2", classifier).as_deref(), Some("transformer.wte.weight"));
        assert_eq!(of("roberta", classifier).as_deref(), Some("roberta.embeddings.word_embeddings.weight"));
    }
}
