//! Names, shapes and first values of a model's parameters.

use pipe_core::Task;

use crate::encoder::EncoderNames;
use crate::{Architecture, Head, ModelConfig};

/// A parameter that the model must have.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    pub name: String,
    pub shape: Vec<i64>,
    pub part: Part,
    pub init: Init,
}

/// Where a parameter comes from when a pretrained model is fine-tuned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The file must have it.
    Base,
    /// Starts anew where the file has not got it.
    Head,
    /// The same, and also where the file's is of another task, other classes or another shape.
    Classes,
}

/// The values that a parameter starts with, as transformers' `_init_weights` draws them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    Zeros,
    Ones,
    /// Around 0; `zero_row` is the padding's.
    Normal {
        std: f64,
        zero_row: Option<i64>,
    },
}

/// Every parameter of the model with `head`, in the order of the modules.
pub fn parameters(config: &ModelConfig, head: Head) -> Vec<ParameterSpec> {
    let mut specs = Specs { std: config.initializer_range, part: Part::Base, list: Vec::new() };
    match config.architecture {
        Architecture::Bert | Architecture::Roberta | Architecture::DistilBert => encoder(&mut specs, config),
        Architecture::Gpt2 => gpt2(&mut specs, config),
        Architecture::Llama => llama(&mut specs, config),
    }
    match head {
        Head::SequenceClassification { classes } => sequence_classification(&mut specs, config, classes as i64),
        Head::TokenClassification { classes } => {
            specs.part = Part::Classes;
            let is_llama = config.architecture == Architecture::Llama;
            let bias = !is_llama || config.raw.get("token_classification_bias") != Some(&false.into());
            specs.matrix(if is_llama { "score" } else { "classifier" }, [classes as i64, config.hidden_size], bias);
        }
        Head::QuestionAnswering => {
            // BERT's class takes as many outputs as its config has labels.
            specs.part = Part::Classes;
            specs.matrix("qa_outputs", [2, config.hidden_size], true);
        }
        Head::CausalLm if config.decoder.tied_embeddings => {}
        Head::CausalLm => {
            // What says that it is a language model has it; a base model or one of another task learns it anew.
            specs.part = if config.task() == Some(Task::CausalLm) { Part::Base } else { Part::Head };
            specs.matrix("lm_head", [config.vocab_size, config.hidden_size], false);
        }
    }
    specs.list
}

fn encoder(specs: &mut Specs, config: &ModelConfig) {
    let names = EncoderNames::of(config.architecture);
    let hidden = config.hidden_size;
    let of = |name: &str| format!("{}.{name}", names.embeddings);
    specs.table(&of("word_embeddings"), [config.vocab_size, hidden], config.pad_token_id);
    let padding_position = config.pad_token_id.filter(|_| config.architecture == Architecture::Roberta);
    specs.table(&of("position_embeddings"), [config.max_positions, hidden], padding_position);
    if config.type_vocab_size > 0 {
        specs.table(&of("token_type_embeddings"), [config.type_vocab_size, hidden], None);
    }
    specs.norm(&of("LayerNorm"), hidden, true);
    for layer in 0..config.layers {
        let of = |name: &str| format!("{}.{layer}.{name}", names.layers);
        for part in [names.query, names.key, names.value, names.attention_output] {
            specs.matrix(&of(part), [hidden, hidden], true);
        }
        specs.norm(&of(names.attention_norm), hidden, true);
        specs.matrix(&of(names.wide), [config.intermediate_size, hidden], true);
        specs.matrix(&of(names.narrow), [hidden, config.intermediate_size], true);
        specs.norm(&of(names.output_norm), hidden, true);
    }
}

fn gpt2(specs: &mut Specs, config: &ModelConfig) {
    let (hidden, wide) = (config.hidden_size, config.intermediate_size);
    specs.table("transformer.wte", [config.vocab_size, hidden], None);
    specs.table("transformer.wpe", [config.max_positions, hidden], None);
    // Two residual additions per layer (Radford et al. 2019).
    let residual_std = config.initializer_range / (2.0 * config.layers as f64).sqrt();
    for layer in 0..config.layers {
        let of = |name: &str| format!("transformer.h.{layer}.{name}");
        specs.norm(&of("ln_1"), hidden, true);
        specs.conv1d(&of("attn.c_attn"), [hidden, 3 * hidden], config.initializer_range);
        specs.conv1d(&of("attn.c_proj"), [hidden, hidden], residual_std);
        specs.norm(&of("ln_2"), hidden, true);
        specs.conv1d(&of("mlp.c_fc"), [hidden, wide], config.initializer_range);
        specs.conv1d(&of("mlp.c_proj"), [wide, hidden], residual_std);
    }
    specs.norm("transformer.ln_f", hidden, true);
}

fn llama(specs: &mut Specs, config: &ModelConfig) {
    let (hidden, decoder) = (config.hidden_size, &config.decoder);
    let (queries, keys) = (config.heads * config.head_dim, decoder.kv_heads * config.head_dim);
    specs.table("model.embed_tokens", [config.vocab_size, hidden], config.pad_token_id);
    for layer in 0..config.layers {
        let of = |name: &str| format!("model.layers.{layer}.{name}");
        specs.matrix(&of("self_attn.q_proj"), [queries, hidden], decoder.qkv_bias);
        specs.matrix(&of("self_attn.k_proj"), [keys, hidden], decoder.qkv_bias);
        specs.matrix(&of("self_attn.v_proj"), [keys, hidden], decoder.qkv_bias);
        specs.matrix(&of("self_attn.o_proj"), [hidden, queries], decoder.output_bias);
        specs.matrix(&of("mlp.gate_proj"), [config.intermediate_size, hidden], decoder.mlp_bias);
        specs.matrix(&of("mlp.up_proj"), [config.intermediate_size, hidden], decoder.mlp_bias);
        specs.matrix(&of("mlp.down_proj"), [hidden, config.intermediate_size], decoder.mlp_bias);
        specs.norm(&of("input_layernorm"), hidden, false);
        specs.norm(&of("post_attention_layernorm"), hidden, false);
    }
    specs.norm("model.norm", hidden, false);
}

fn sequence_classification(specs: &mut Specs, config: &ModelConfig, classes: i64) {
    let hidden = config.hidden_size;
    let (pooler, classifier, bias) = match config.architecture {
        // Pretraining without next-sentence prediction leaves the pooler out.
        Architecture::Bert => (Some("bert.pooler.dense"), "classifier", true),
        Architecture::Roberta => (Some("classifier.dense"), "classifier.out_proj", true),
        Architecture::DistilBert => (Some("pre_classifier"), "classifier", true),
        Architecture::Gpt2 | Architecture::Llama => (None, "score", false),
    };
    specs.part = Part::Head;
    if let Some(pooler) = pooler {
        specs.matrix(pooler, [hidden, hidden], true);
    }
    specs.part = Part::Classes;
    specs.matrix(classifier, [classes, hidden], bias);
}

struct Specs {
    /// Of weights.
    std: f64,
    part: Part,
    list: Vec<ParameterSpec>,
}

impl Specs {
    fn push(&mut self, module: &str, name: &str, shape: &[i64], init: Init) {
        self.list.push(ParameterSpec { name: format!("{module}.{name}"), shape: shape.to_vec(), part: self.part, init });
    }

    /// Rows to be looked up.
    fn table(&mut self, module: &str, shape: [i64; 2], zero_row: Option<i64>) {
        self.push(module, "weight", &shape, Init::Normal { std: self.std, zero_row });
    }

    /// A linear layer, `[out, in]`.
    fn matrix(&mut self, module: &str, shape: [i64; 2], bias: bool) {
        self.push(module, "weight", &shape, Init::Normal { std: self.std, zero_row: None });
        if bias {
            self.push(module, "bias", &shape[..1], Init::Zeros);
        }
    }

    /// A linear layer, `[in, out]`.
    fn conv1d(&mut self, module: &str, shape: [i64; 2], std: f64) {
        self.push(module, "weight", &shape, Init::Normal { std, zero_row: None });
        self.push(module, "bias", &shape[1..], Init::Zeros);
    }

    fn norm(&mut self, module: &str, size: i64, bias: bool) {
        self.push(module, "weight", &[size], Init::Ones);
        if bias {
            self.push(module, "bias", &[size], Init::Zeros);
        }
    }
}
