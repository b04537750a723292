//! What a model folder says about generating.

use std::path::Path;

use pipe_core::{Error, IoContext, Result};
use serde_json::{Map, Value};

use crate::ModelConfig;

/// What transformers reads before `config.json` where it generates.
pub const GENERATION_CONFIG_FILE: &str = "generation_config.json";

/// The tokens that end a text: those of `generation_config.json`, else of `config.json`, else what transformers' class of the model has
/// where its config says nothing. None for a model that knows no such token.
pub fn eos_token_ids(folder: &Path, config: &ModelConfig) -> Result<Vec<u32>> {
    let path = folder.join(GENERATION_CONFIG_FILE);
    if path.exists() {
        let bytes = std::fs::read(&path).doing("read", &path)?;
        let settings: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|e| Error::input(format!("{} is not valid JSON: {e}", path.display())))?;
        let ids = read(settings.get("eos_token_id"), config).map_err(|e| Error { message: format!("{}: {}", path.display(), e.message), ..e })?;
        if !ids.is_empty() {
            return Ok(ids);
        }
    }
    match config.raw.get("eos_token_id") {
        None => Ok(default_id(config).filter(|id| i64::from(*id) < config.vocab_size).into_iter().collect()),
        given => read(given, config),
    }
}

/// Of `GPT2Config`, `LlamaConfig` and `MistralConfig`.
fn default_id(config: &ModelConfig) -> Option<u32> {
    match config.raw.get("model_type")?.as_str()? {
        "gpt2" => Some(50_256),
        "llama" | "mistral" => Some(2),
        _ => None,
    }
}

/// A token, a list of them, or nothing.
fn read(value: Option<&Value>, config: &ModelConfig) -> Result<Vec<u32>> {
    let ids = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.as_slice(),
        Some(id) => std::slice::from_ref(id),
    };
    let read = |id: &Value| {
        let known = id.as_i64().filter(|id| *id < config.vocab_size).and_then(|id| u32::try_from(id).ok());
        known.ok_or_else(|| Error::input(format!("`eos_token_id` is {id}, it must be a token id below `vocab_size`")))
    };
    ids.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_generation_config_counts_first_and_the_class_last() {
        let folder = tempfile::tempdir().unwrap();
        let config = |other: Value| {
            let mut raw = json!({
                "model_type": "llama", "vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                "intermediate_size": 8,
            });
            raw.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
            ModelConfig::from_json(raw.as_object().unwrap().clone()).unwrap()
        };
        let ids = |other| eos_token_ids(folder.path(), &config(other)).map_err(|e| e.message);
        assert_eq!(ids(json!({})).unwrap(), [2]);
        assert_eq!(ids(json!({"model_type": "qwen2"})).unwrap(), [0; 0]);
        assert_eq!(ids(json!({"model_type": "gpt2"})).unwrap(), [0; 0], "the vocabulary is another");
        assert_eq!(ids(json!({"eos_token_id": null})).unwrap(), [0; 0]);
        assert_eq!(ids(json!({"eos_token_id": [7, 9]})).unwrap(), [7, 9]);
        assert!(ids(json!({"eos_token_id": 40})).unwrap_err().contains("`eos_token_id` is 40"));
        let path = folder.path().join(GENERATION_CONFIG_FILE);
        std::fs::write(&path, r#"{"eos_token_id": 5, "top_k": 3}"#).unwrap();
        assert_eq!(ids(json!({"eos_token_id": 7})).unwrap(), [5]);
        std::fs::write(&path, r#"{"top_k": 3}"#).unwrap();
        assert_eq!(ids(json!({"eos_token_id": 7})).unwrap(), [7]);
        std::fs::write(&path, r#"{"eos_token_id": "</s>"}"#).unwrap();
        assert!(ids(json!({})).unwrap_err().contains("generation_config.json: `eos_token_id` is"));
    }
}
