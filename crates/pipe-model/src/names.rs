//! The spellings of parameters that are found in files.

use serde_json::Value;

use crate::{Architecture, Head, ModelConfig};

/// What files of a family may hold.
struct FileNames {
    /// Before the names of the base model; files of a base model alone leave it out.
    prefix: &'static str,
    /// The base model's first modules.
    modules: &'static [&'static str],
    /// What stands on the base model for one task or another.
    heads: &'static [&'static str],
}

impl FileNames {
    fn of(architecture: Architecture) -> FileNames {
        match architecture {
            Architecture::Bert => FileNames {
                prefix: "bert.",
                modules: &["embeddings.", "encoder.", "pooler."],
                heads: &["cls.", "classifier.", "qa_outputs.", "bert.pooler."],
            },
            Architecture::Roberta => FileNames {
                prefix: "roberta.",
                modules: &["embeddings.", "encoder.", "pooler."],
                heads: &["lm_head.", "classifier.", "qa_outputs.", "roberta.pooler."],
            },
            Architecture::DistilBert => FileNames {
                prefix: "distilbert.",
                modules: &["embeddings.", "transformer."],
                heads: &["vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "pre_classifier.", "classifier.", "qa_outputs."],
            },
            Architecture::Gpt2 => FileNames {
                prefix: "transformer.",
                modules: &["wte.", "wpe.", "h.", "ln_f."],
                heads: &["lm_head.", "score.", "classifier.", "qa_outputs.", "multiple_choice_head."],
            },
            Architecture::Llama => {
                FileNames { prefix: "model.", modules: &["embed_tokens.", "layers.", "norm."], heads: &["lm_head.", "score.", "qa_outputs."] }
            }
        }
    }
}

/// What some of transformers' classes of the Llama family call the base model to this day.
const OLD_LLAMA_PREFIX: &str = "transformer.";

/// Saved by earlier versions of transformers, and recomputed by all.
const BUFFERS: [&str; 5] = [".position_ids", ".token_type_ids", ".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"];

/// The name that a tensor of a file has here; absent for tensors that are no parameters.
///
/// Accepts names without the model's prefix and the `gamma`/`beta` of the first checkpoints.
pub fn canonical_name(config: &ModelConfig, name: &str) -> Option<String> {
    let name = name.strip_suffix(".gamma").map(|stem| format!("{stem}.weight")).unwrap_or_else(|| name.to_owned());
    let name = name.strip_suffix(".beta").map(|stem| format!("{stem}.bias")).unwrap_or(name);
    if BUFFERS.iter().any(|buffer| name.ends_with(buffer)) {
        return None;
    }
    let file = FileNames::of(config.architecture);
    if let Some(rest) = name.strip_prefix(OLD_LLAMA_PREFIX).filter(|_| config.architecture == Architecture::Llama) {
        return Some(format!("{}{rest}", file.prefix));
    }
    let bare = file.modules.iter().any(|module| name.starts_with(module));
    Some(if bare { format!("{}{name}", file.prefix) } else { name })
}

/// The name that transformers' class of the model with `head` has for a parameter: what is saved loads there.
pub fn saved_name(config: &ModelConfig, head: Head, name: &str) -> String {
    let model_type = config.raw.get("model_type").and_then(Value::as_str);
    match name.strip_prefix("model.") {
        // Not so Mistral's class.
        Some(rest) if head == Head::QuestionAnswering && matches!(model_type, Some("llama" | "qwen2")) => format!("{OLD_LLAMA_PREFIX}{rest}"),
        _ => name.to_owned(),
    }
}

/// Whether a canonical name is of some head, of this task or another: a model may leave it alone.
pub fn is_of_a_head(config: &ModelConfig, name: &str) -> bool {
    FileNames::of(config.architecture).heads.iter().any(|head| name.starts_with(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(model_type: &str) -> ModelConfig {
        let raw = serde_json::json!({
            "model_type": model_type, "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
            "intermediate_size": 8,
        });
        ModelConfig::from_json(raw.as_object().unwrap().clone()).unwrap()
    }

    #[test]
    fn spellings_of_files_lead_to_one_name() {
        for (model_type, file, ours) in [
            ("bert", "embeddings.LayerNorm.gamma", Some("bert.embeddings.LayerNorm.weight")),
            ("bert", "bert.embeddings.LayerNorm.beta", Some("bert.embeddings.LayerNorm.bias")),
            ("bert", "pooler.dense.bias", Some("bert.pooler.dense.bias")),
            ("bert", "classifier.weight", Some("classifier.weight")),
            ("bert", "bert.embeddings.position_ids", None),
            ("roberta", "encoder.layer.0.output.dense.bias", Some("roberta.encoder.layer.0.output.dense.bias")),
            ("xlm-roberta", "roberta.embeddings.position_ids", None),
            ("distilbert", "transformer.layer.0.ffn.lin1.bias", Some("distilbert.transformer.layer.0.ffn.lin1.bias")),
            ("gpt2", "h.0.attn.c_attn.bias", Some("transformer.h.0.attn.c_attn.bias")),
            ("gpt2", "h.0.attn.bias", None),
            ("gpt2", "transformer.h.0.attn.masked_bias", None),
            ("gpt2", "score.weight", Some("score.weight")),
            ("llama", "layers.0.mlp.up_proj.weight", Some("model.layers.0.mlp.up_proj.weight")),
            ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq", None),
            ("llama", "lm_head.weight", Some("lm_head.weight")),
            ("qwen2", "transformer.layers.0.mlp.up_proj.weight", Some("model.layers.0.mlp.up_proj.weight")),
        ] {
            assert_eq!(canonical_name(&config(model_type), file).as_deref(), ours, "{model_type} {file}");
        }
    }

    #[test]
    fn names_of_files_are_those_of_the_class_and_lead_back() {
        let query = "model.layers.0.self_attn.q_proj.weight";
        for (model_type, head, saved) in [
            ("llama", Head::QuestionAnswering, "transformer.layers.0.self_attn.q_proj.weight"),
            ("qwen2", Head::QuestionAnswering, "transformer.layers.0.self_attn.q_proj.weight"),
            ("mistral", Head::QuestionAnswering, query),
            ("llama", Head::TokenClassification { classes: 3 }, query),
            ("llama", Head::CausalLm, query),
        ] {
            let config = config(model_type);
            assert_eq!(saved_name(&config, head, query), saved, "{model_type}");
            assert_eq!(canonical_name(&config, saved).as_deref(), Some(query), "{model_type}");
        }
        assert_eq!(saved_name(&config("llama"), Head::QuestionAnswering, "qa_outputs.bias"), "qa_outputs.bias");
    }

    #[test]
    fn heads_of_other_tasks_are_known() {
        for (model_type, name, of_a_head) in [
            ("bert", "cls.predictions.bias", true),
            ("bert", "bert.encoder.layer.0.output.dense.bias", false),
            ("roberta", "lm_head.dense.weight", true),
            ("distilbert", "vocab_projector.bias", true),
            ("gpt2", "transformer.ln_f.bias", false),
            ("qwen2", "lm_head.weight", true),
            ("qwen2", "qa_outputs.weight", true),
            ("gpt2", "classifier.bias", true),
            ("bert", "bert.pooler.dense.weight", true),
            ("llama", "model.norm.weight", false),
        ] {
            assert_eq!(is_of_a_head(&config(model_type), name), of_a_head, "{model_type} {name}");
        }
    }
}
