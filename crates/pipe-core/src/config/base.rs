//! Where a tokenizer or a model starts from: something pretrained, or nothing.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::{NewModelConfig, TrainTokenizerConfig};

/// What `tokenizer:` and `model:` accept: a folder or URL, or a mapping that says how to begin anew.
///
/// One mapping serves both settings, so that one variable can stand for both.
#[derive(Debug, Clone, PartialEq)]
pub enum Base {
    /// A Hugging Face model folder: a path relative to the pipeline's root, or a URL.
    Folder(PathBuf),
    Scratch(Box<Scratch>),
}

/// How to begin anew.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Scratch {
    /// What `tokenizer:` takes of it.
    pub train_tokenizer: Option<TrainTokenizerConfig>,
    /// What `model:` takes of it: keys of a `config.json`, or the path of such a file.
    pub config: Option<NewModel>,
}

/// The shape of a model that is trained from scratch.
#[derive(Debug, Clone, PartialEq)]
pub enum NewModel {
    Inline(Box<NewModelConfig>),
    /// A `config.json`, or a folder or URL that has one.
    File(PathBuf),
}

impl Default for Base {
    fn default() -> Self {
        Base::Folder(PathBuf::new())
    }
}

impl From<PathBuf> for Base {
    fn from(path: PathBuf) -> Base {
        Base::Folder(path)
    }
}

impl From<&str> for Base {
    fn from(path: &str) -> Base {
        Base::Folder(path.into())
    }
}

impl Base {
    /// Nothing was written down.
    pub fn is_missing(&self) -> bool {
        matches!(self, Base::Folder(path) if path.as_os_str().is_empty())
    }

    /// The folder or URL of something pretrained.
    pub fn folder(&self) -> Option<&PathBuf> {
        match self {
            Base::Folder(path) => Some(path).filter(|path| !path.as_os_str().is_empty()),
            Base::Scratch(_) => None,
        }
    }

    pub fn train_tokenizer(&self) -> Option<&TrainTokenizerConfig> {
        match self {
            Base::Folder(_) => None,
            Base::Scratch(scratch) => scratch.train_tokenizer.as_ref(),
        }
    }

    pub fn new_model(&self) -> Option<&NewModel> {
        match self {
            Base::Folder(_) => None,
            Base::Scratch(scratch) => scratch.config.as_ref(),
        }
    }
}

impl Serialize for Base {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Base::Folder(path) => path.serialize(serializer),
            Base::Scratch(scratch) => scratch.serialize(serializer),
        }
    }
}

impl Serialize for NewModel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            NewModel::Inline(config) => config.serialize(serializer),
            NewModel::File(path) => path.serialize(serializer),
        }
    }
}

// By hand: what serde derives for a choice of two forgets where in the file an unknown key stands.

impl<'de> Deserialize<'de> for Base {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FolderOrScratch;
        impl<'de> Visitor<'de> for FolderOrScratch {
            type Value = Base;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path or URL of a model folder, or a mapping such as { train_tokenizer: …, config: … }")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<Base, E> {
                Ok(Base::Folder(path.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Base, A::Error> {
                Scratch::deserialize(MapAccessDeserializer::new(map)).map(|scratch| Base::Scratch(Box::new(scratch)))
            }
        }
        deserializer.deserialize_any(FolderOrScratch)
    }
}

impl<'de> Deserialize<'de> for NewModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InlineOrFile;
        impl<'de> Visitor<'de> for InlineOrFile {
            type Value = NewModel;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of config.json keys, or the path of a config.json")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<NewModel, E> {
                Ok(NewModel::File(path.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NewModel, A::Error> {
                NewModelConfig::deserialize(MapAccessDeserializer::new(map)).map(|config| NewModel::Inline(Box::new(config)))
            }
        }
        deserializer.deserialize_any(InlineOrFile)
    }
}

impl JsonSchema for Base {
    fn schema_name() -> Cow<'static, str> {
        "Base".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let scratch = generator.subschema_for::<Scratch>();
        json_schema!({"anyOf": [scratch, {"type": "string", "description": "A Hugging Face model folder: a path, or a URL."}]})
    }
}

impl JsonSchema for NewModel {
    fn schema_name() -> Cow<'static, str> {
        "NewModel".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let inline = generator.subschema_for::<NewModelConfig>();
        json_schema!({"anyOf": [inline, {"type": "string", "description": "A config.json, or a folder that has one: a path, or a URL."}]})
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{StageConfig, StageKind};
    use crate::file::{Problem, SourceId, parse};

    fn read(kind: StageKind, with: &str) -> Result<StageConfig, Problem> {
        StageConfig::read(kind, &parse(with, SourceId::FILE).unwrap())
    }

    #[test]
    fn one_mapping_serves_both_settings_and_each_takes_its_own() {
        let base = |tokens: usize, hidden: usize| {
            format!("{{ train_tokenizer: {{ vocab_size: {tokens} }}, config: {{ hidden_size: {hidden}, num_attention_heads: 4 }} }}")
        };
        let tokenize = |tokens, hidden| read(StageKind::Tokenize, &format!("tokenizer: {}", base(tokens, hidden))).unwrap().semantic();
        let train = |tokens, hidden| read(StageKind::Train, &format!("model: {}", base(tokens, hidden))).unwrap().semantic();
        assert_eq!(tokenize(8000, 64), serde_json::json!({"train_tokenizer": {"vocab_size": 8000}}));
        assert_eq!(tokenize(8000, 64), tokenize(8000, 128));
        assert_ne!(tokenize(8000, 64), tokenize(9000, 64));
        assert_eq!(train(8000, 64), serde_json::json!({"model": {"config": {"hidden_size": 64, "num_attention_heads": 4}}}));
        assert_eq!(train(8000, 64), train(9000, 64));
        assert_ne!(train(8000, 64), train(8000, 128));
        let spelled = read(StageKind::Tokenize, "train_tokenizer: { kind: wordpiece, vocab_size: 8000 }").unwrap();
        assert_eq!(spelled.semantic(), tokenize(8000, 64));
    }

    #[test]
    fn paths_are_content_not_settings() {
        let train = read(StageKind::Train, "model: { config: a/config.json }").unwrap();
        assert_eq!(train.semantic(), serde_json::json!({}));
        assert_eq!(train.assets()[0].setting, "model.config");
        for (kind, with) in [(StageKind::Tokenize, "tokenizer: hf://a/b"), (StageKind::Train, "model: a/b")] {
            assert_eq!(read(kind, with).unwrap().semantic(), serde_json::json!({}));
            assert_eq!(read(kind, with).unwrap().assets().len(), 1);
        }
        for (kind, with) in [(StageKind::Tokenize, "train_tokenizer:  {}"), (StageKind::Train, "model: { config: {} }")] {
            let config = read(kind, with).unwrap();
            assert!(config.assets().is_empty());
            assert_ne!(config.semantic(), serde_json::json!({}), "a start from scratch is part of the key even if all is default");
        }
    }

    #[test]
    fn what_cannot_be_is_pointed_at() {
        use StageKind::{Tokenize, Train};
        for (kind, with, place, message) in [
            (Tokenize, "max_length: 8", "max_length: 8", "no tokenizer is named"),
            (Tokenize, "{ tokenizer: m, train_tokenizer: { kind: bpe } }", "{ kind: bpe }", "both"),
            (Tokenize, "tokenizer: { config: {} }", "{ config: {} }", "no `train_tokenizer`"),
            (Tokenize, "train_tokenizer: { kind: wordpeace }", "wordpeace", "not one of the possible values"),
            (Tokenize, "train_tokenizer: { vocab_size: 9 }", "9", "between"),
            (Tokenize, "train_tokenizer: { kind: unigram, min_frequency: 5 }", "5", "unigram"),
            (Train, "num_train_epochs: 1", "num_train_epochs: 1", "`model` is missing"),
            (Train, "model: { train_tokenizer: {} }", "{ train_tokenizer: {} }", "no `config`"),
            (Train, "model: { config: { hiden_size: 64 } }", "hiden_size", "unknown key"),
            (Train, "model: { config: { model_type: t5 } }", "t5", "not one of the possible values"),
            (Train, "model: { config: { model_type: gpt2, type_vocab_size: 2 } }", "2", "no setting of a gpt2 model"),
            (Train, "model: { config: { model_type: llama, num_key_value_heads: 5 } }", "5", "multiple"),
            (Train, "model: { config: { hidden_size: 100, num_attention_heads: 12 } }", "100", "multiple"),
            (Train, "model: { config: { hidden_act: sigmoid } }", "sigmoid", "not known"),
            (Train, "model: { config: { num_hidden_layers: 100000000 } }", "100000000", "between"),
            (Train, "model: 5", "5", "the path or URL of a model folder"),
        ] {
            let problem = read(kind, with).unwrap_err();
            assert_eq!(with[problem.span.start..problem.span.end].trim_end(), place, "{with}: {}", problem.message);
            assert!(problem.message.contains(message), "{with}: {}", problem.message);
        }
    }
}
