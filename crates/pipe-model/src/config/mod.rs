//! `config.json` of a Hugging Face model folder: the fields that change what is computed.

mod decoders;
mod encoders;
mod fields;

use std::path::Path;

use pipe_core::provenance::Tokenization;
use pipe_core::{Error, IoContext, Result, Task};
use serde_json::{Map, Value, json};

pub(crate) use fields::Fields;

use crate::gguf::GgufFile;
use crate::{Activation, Head, Rotary};

/// Families whose forward pass is one function. What distinguishes the members of a family are fields of
/// [`ModelConfig`], not code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    Bert,
    /// RoBERTa and XLM-R.
    Roberta,
    DistilBert,
    Gpt2,
    /// Llama, Mistral, Qwen2.
    Llama,
}

/// `model_type`, what computes it, and what its classes in transformers are called after.
const MODEL_TYPES: [(&str, Architecture, &str); 8] = [
    ("bert", Architecture::Bert, "Bert"),
    ("roberta", Architecture::Roberta, "Roberta"),
    ("xlm-roberta", Architecture::Roberta, "XLMRoberta"),
    ("distilbert", Architecture::DistilBert, "DistilBert"),
    ("gpt2", Architecture::Gpt2, "GPT2"),
    ("llama", Architecture::Llama, "Llama"),
    ("mistral", Architecture::Llama, "Mistral"),
    ("qwen2", Architecture::Llama, "Qwen2"),
];

/// A model's shape, and the whole `config.json` for writing it back.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    pub architecture: Architecture,
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub layers: usize,
    pub heads: i64,
    pub head_dim: i64,
    pub intermediate_size: i64,
    /// Rows of the table of positions; [`max_length`](ModelConfig::max_length) is what a row of tokens may have.
    pub max_positions: i64,
    /// How many texts a row may consist of; 0 for a model without token types.
    pub type_vocab_size: i64,
    pub activation: Activation,
    /// Of layer norms or RMS norms.
    pub norm_eps: f64,
    pub embedding_dropout: f64,
    pub hidden_dropout: f64,
    pub attention_dropout: f64,
    /// Dropout before a classifier of rows.
    pub classifier_dropout: f64,
    /// Dropout before a classifier of tokens.
    pub token_dropout: f64,
    /// Dropout before the scores of an answer's ends.
    pub answer_dropout: f64,
    /// Standard deviation of new weights.
    pub initializer_range: f64,
    pub pad_token_id: Option<i64>,
    /// What only decoders have.
    pub decoder: DecoderConfig,
    /// Everything the file says, known here or not.
    pub raw: Map<String, Value>,
}

/// What is particular to models that see no token after their own.
#[derive(Debug, Clone, Default)]
pub struct DecoderConfig {
    /// Heads of keys and values.
    pub kv_heads: i64,
    /// Absent: positions are learned.
    pub rotary: Option<Rotary>,
    /// How far each layer's attention reaches back, itself included; absent: to the beginning.
    pub windows: Vec<Option<i64>>,
    pub qkv_bias: bool,
    /// Of attention's output.
    pub output_bias: bool,
    pub mlp_bias: bool,
    /// The language model's head is the table of tokens.
    pub tied_embeddings: bool,
    /// The token whose embedding learns nothing: the padding of the config as it was read, as transformers has it.
    pub embedding_padding: Option<i64>,
    /// What each layer's scores are multiplied by.
    pub score_scales: Vec<f64>,
}

fn read_json(path: &Path) -> Result<Map<String, Value>> {
    let bytes = std::fs::read(path).doing("read", path)?;
    serde_json::from_slice(&bytes).map_err(|e| Error::input(format!("{} is not valid JSON: {e}", path.display())))
}

impl ModelConfig {
    /// Reads `folder/config.json`, or what the folder's GGUF file says in its place.
    pub fn read(folder: &Path) -> Result<ModelConfig> {
        if let Some(file) = GgufFile::of_folder(folder)? {
            let raw = file.read()?.config().map_err(|e| Error { message: format!("{}: {}", file.path().display(), e.message), ..e })?;
            return ModelConfig::from_json(raw);
        }
        let path = folder.join("config.json");
        if !path.exists() {
            return Err(Error::input(format!("{} is not a model folder: it has no config.json", folder.display()))
                .hint("give a Hugging Face model folder with config.json, model.safetensors and tokenizer.json"));
        }
        ModelConfig::from_json(read_json(&path)?).map_err(|e| Error { message: format!("{}: {}", path.display(), e.message), ..e })
    }

    /// For a model from scratch that will read what `tokens` describes: what `raw` leaves open is the tokenizer's.
    pub fn for_tokenizer(mut raw: Map<String, Value>, tokens: &Tokenization) -> Result<ModelConfig> {
        if let Some(id) = raw.get("pad_token_id").and_then(Value::as_u64).filter(|id| *id != u64::from(tokens.pad_token_id)) {
            return Err(Error::usage(format!("`pad_token_id` is {id}, the tokenizer's padding token has the id {}", tokens.pad_token_id))
                .hint("remove `pad_token_id`: it is taken from the tokenizer"));
        }
        raw.insert("pad_token_id".into(), tokens.pad_token_id.into());
        raw.entry("vocab_size").or_insert_with(|| tokens.vocab_size.into());
        raw.entry("model_type").or_insert_with(|| "bert".into());
        if let Some(id) = tokens.eos_token_id {
            raw.entry("eos_token_id").or_insert_with(|| id.into());
        }
        // The classes' own defaults are ids of another tokenizer.
        for name in ["bos_token_id", "eos_token_id"] {
            raw.entry(name).or_insert(Value::Null);
        }
        let config = ModelConfig::from_json(raw)?;
        let sizes = [config.vocab_size, config.hidden_size, config.intermediate_size, config.max_positions, config.type_vocab_size];
        if sizes.iter().any(|size| *size > 1 << 20) || config.layers > 1000 {
            return Err(Error::input("a size of the model is out of range"));
        }
        if config.vocab_size < tokens.vocab_size as i64 {
            return Err(Error::usage(format!("`vocab_size` is {}, the tokenizer has {} tokens", config.vocab_size, tokens.vocab_size))
                .hint("remove `vocab_size`: it is taken from the tokenizer"));
        }
        if config.max_length() < tokens.max_length as i64 {
            let message = format!(
                "`max_position_embeddings` is {}, room for {} tokens; the rows are cut to `max_length` {} tokens",
                config.max_positions,
                config.max_length(),
                tokens.max_length
            );
            return Err(Error::usage(message).hint("raise `max_position_embeddings`, or lower `max_length` of the tokenize stage"));
        }
        Ok(config)
    }

    /// The same, of a `config.json`.
    pub fn from_file_for_tokenizer(path: &Path, tokens: &Tokenization) -> Result<ModelConfig> {
        let mut raw = read_json(path)?;
        // Classes of another task; training names its own.
        for name in ["id2label", "label2id", "num_labels"] {
            raw.remove(name);
        }
        ModelConfig::for_tokenizer(raw, tokens).map_err(|e| Error { message: format!("{}: {}", path.display(), e.message), ..e })
    }

    /// Reads a config that is already parsed.
    pub fn from_json(raw: Map<String, Value>) -> Result<ModelConfig> {
        let fields = Fields::new(&raw, "");
        let model_type = fields.required(fields.text("model_type")?, "model_type")?;
        let Some((_, architecture, _)) = MODEL_TYPES.iter().find(|(name, ..)| *name == model_type) else {
            let known: Vec<&str> = MODEL_TYPES.iter().map(|(name, ..)| *name).collect();
            return Err(Error::input(format!("the model type `{model_type}` is not supported; supported: {}", known.join(", "))));
        };
        if fields.mapping("quantization_config")?.is_some() {
            return Err(
                Error::input("`quantization_config`: quantised weights are not supported").hint("give the model as it was before quantisation")
            );
        }
        fields.must_be_off(&["is_decoder", "is_encoder_decoder", "add_cross_attention"])?;
        let config = match architecture {
            Architecture::Bert | Architecture::Roberta => encoders::bert(*architecture, &fields)?,
            Architecture::DistilBert => encoders::distilbert(&fields)?,
            Architecture::Gpt2 => decoders::gpt2(&fields)?,
            Architecture::Llama => decoders::llama(model_type, &fields)?,
        };
        if config.max_length() < 1 {
            return Err(Error::input(format!("`max_position_embeddings` {} leaves no room for tokens", config.max_positions)));
        }
        Ok(ModelConfig { raw, ..config })
    }

    /// The most tokens that a row may have. RoBERTa's positions begin after the padding's.
    pub fn max_length(&self) -> i64 {
        match self.architecture {
            Architecture::Roberta => self.max_positions - self.pad_token_id.unwrap_or(0) - 1,
            _ => self.max_positions,
        }
    }

    /// Refuses rows longer than the model's positions.
    pub fn check_length(&self, length: usize) -> Result<()> {
        let most = self.max_length();
        if length as i64 > most {
            return Err(Error::input(format!("a row has {length} tokens, the model has {most} positions"))
                .hint(format!("set `max_length` of the tokenize stage to {most} or less")));
        }
        Ok(())
    }

    /// Whether a token sees none after its own.
    pub fn is_decoder(&self) -> bool {
        matches!(self.architecture, Architecture::Gpt2 | Architecture::Llama)
    }

    /// Whether it tells the texts of a row apart. With one type alone every token is of that.
    pub fn reads_token_types(&self) -> bool {
        self.type_vocab_size > 1
    }

    /// Takes the padding token of the rows that the model will read. A decoder finds the last token of a row by it, so it
    /// becomes part of the config; RoBERTa counts positions from the one that it was trained with, and refuses another.
    pub fn pad_with(&mut self, id: i64) -> Result<()> {
        match self.architecture {
            Architecture::Roberta if self.pad_token_id != Some(id) => {
                let own = self.pad_token_id.map_or("none".to_owned(), |id| id.to_string());
                Err(Error::input(format!("the tokenizer pads with token {id}, the model's `pad_token_id` is {own}"))
                    .hint("tokenize with the tokenizer of the same model folder"))
            }
            Architecture::Gpt2 | Architecture::Llama => {
                self.pad_token_id = Some(id);
                self.raw.insert("pad_token_id".into(), id.into());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// One rate for all dropouts, as the setting `dropout:` asks.
    pub fn set_dropout(&mut self, p: f64) {
        (self.embedding_dropout, self.hidden_dropout, self.attention_dropout, self.classifier_dropout) = (p, p, p, p);
        self.token_dropout = p;
        // The others drop nothing there, whatever their config says.
        if self.architecture == Architecture::DistilBert {
            self.answer_dropout = p;
        }
    }

    /// `id2label` in the order of the ids, if the config has it.
    pub fn labels(&self) -> Option<Vec<String>> {
        let map = self.raw.get("id2label")?.as_object()?;
        (0..map.len()).map(|id| map.get(&id.to_string())?.as_str().map(str::to_owned)).collect()
    }

    /// What the model was trained for, by the class and the kind of problem that its config names; absent where it names no
    /// task that is known here, as one that is only pretrained does.
    pub fn task(&self) -> Option<Task> {
        let class = self.raw.get("architectures").and_then(|classes| classes.get(0)).and_then(Value::as_str)?;
        if class.ends_with("ForSequenceClassification") {
            let kind = self.raw.get("problem_type").and_then(Value::as_str);
            return match kind {
                // As transformers guesses it.
                None if self.labels().is_some_and(|labels| labels.len() == 1) => Some(Task::Regression),
                None => Some(Task::SequenceClassification),
                kind => Task::ALL.into_iter().find(|task| task.problem_type() == kind),
            };
        }
        [
            ("ForTokenClassification", Task::TokenClassification),
            ("ForQuestionAnswering", Task::QuestionAnswering),
            ("ForCausalLM", Task::CausalLm),
            ("LMHeadModel", Task::CausalLm),
        ]
        .into_iter()
        .find_map(|(suffix, task)| class.ends_with(suffix).then_some(task))
    }

    /// The `config.json` of this model as one of `task` over `labels`.
    pub fn with_task(&self, task: Task, labels: &[String]) -> Map<String, Value> {
        let mut raw = self.with_head(Head::of(task, labels.len()));
        for name in ["problem_type", "id2label", "label2id", "num_labels"] {
            raw.remove(name);
        }
        if let Some(name) = task.problem_type() {
            raw.insert("problem_type".into(), name.into());
        }
        // transformers takes two classes where none are named; a number is one.
        let number = ["LABEL_0".to_owned()];
        let labels = match task {
            Task::Regression => &number,
            _ if task.has_classes() => labels,
            _ => return raw,
        };
        raw.insert("id2label".into(), labels.iter().enumerate().map(|(id, label)| (id.to_string(), Value::from(label.as_str()))).collect());
        raw.insert("label2id".into(), labels.iter().enumerate().map(|(id, label)| (label.clone(), Value::from(id))).collect());
        raw
    }

    /// The `config.json` of this model with `head`, its weights in f32.
    pub fn with_head(&self, head: Head) -> Map<String, Value> {
        let mut raw = self.raw.clone();
        // Notes of whoever saved it last; they would name another machine or version.
        for name in ["_name_or_path", "transformers_version", "torch_dtype", "gradient_checkpointing"] {
            raw.remove(name);
        }
        let model_type = raw.get("model_type").and_then(Value::as_str);
        let family = MODEL_TYPES.iter().find(|(name, ..)| Some(*name) == model_type).map_or("", |(.., family)| *family);
        raw.insert("architectures".into(), json!([head.class(family)]));
        raw.insert("dtype".into(), "float32".into());
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(model_type: &str, other: Value) -> Result<ModelConfig> {
        let mut raw = json!({
            "model_type": model_type, "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32,
        });
        raw.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        let Value::Object(raw) = raw else { unreachable!() };
        ModelConfig::from_json(raw)
    }

    #[test]
    fn what_is_not_supported_is_refused_by_its_field() {
        for (model_type, other, message) in [
            ("t5", json!({}), "the model type `t5` is not supported; supported: bert, roberta, xlm-roberta, distilbert, gpt2, llama, mistral, qwen2"),
            (
                "bert",
                json!({"position_embedding_type": "relative_key"}),
                "`position_embedding_type: \"relative_key\"` is not supported; supported: absolute",
            ),
            ("bert", json!({"hidden_act": "mish"}), "`hidden_act: \"mish\"` is not supported"),
            ("bert", json!({"is_decoder": true}), "`is_decoder: true` is not supported; supported: false"),
            ("bert", json!({"hidden_size": "16"}), "`hidden_size` is \"16\", it must be a whole number above 0"),
            ("bert", json!({"hidden_size": null}), "`hidden_size` is missing"),
            ("bert", json!({"hidden_size": 18}), "`hidden_size` 18 is no multiple of `num_attention_heads` 4"),
            ("bert", json!({"num_hidden_layers": -1}), "`num_hidden_layers` is -1"),
            ("llama", json!({"num_hidden_layers": 1_000_000_000}), "`num_hidden_layers` is 1000000000, it must be at most 10000"),
            ("bert", json!({"hidden_dropout_prob": 1.5}), "`hidden_dropout_prob` is 1.5, it must be from 0 to below 1"),
            ("roberta", json!({"pad_token_id": 50}), "`pad_token_id` is 50, it must be a token id below `vocab_size`"),
            ("roberta", json!({"max_position_embeddings": 2}), "`max_position_embeddings` 2 leaves no room for tokens"),
            ("distilbert", json!({"n_heads": 5}), "`hidden_size` 16 is no multiple of `n_heads` 5"),
            ("gpt2", json!({"add_cross_attention": true}), "`add_cross_attention: true`"),
            ("llama", json!({"num_key_value_heads": 3}), "`num_attention_heads` 4 is no multiple of `num_key_value_heads` 3"),
            ("llama", json!({"rope_scaling": {"rope_type": "longrope"}}), "`rope_scaling.rope_type: \"longrope\"` is not supported"),
            ("llama", json!({"rope_parameters": {"rope_type": "linear"}}), "`rope_parameters.factor` is missing"),
            ("llama", json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "`rope_parameters.partial_rotary_factor: 0.5`"),
            ("llama", json!({"rope_theta": 0}), "`rope_theta` is 0, it must be above 0"),
            ("llama", json!({"quantization_config": {"bits": 4}}), "`quantization_config`"),
            ("qwen2", json!({"use_sliding_window": true, "layer_types": ["full_attention"]}), "`layer_types` names 1 layers"),
        ] {
            let error = config(model_type, other).unwrap_err();
            assert!(error.message.contains(message), "{message}: {error}");
        }
    }

    #[test]
    fn both_spellings_of_transformers_mean_the_same() {
        let rotary = |other| config("llama", other).unwrap().decoder.rotary.unwrap();
        let llama3 = json!({"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
        let mut scaling = llama3.clone();
        scaling["type"] = "llama3".into();
        let mut parameters = llama3;
        parameters["rope_type"] = "llama3".into();
        parameters["rope_theta"] = 500.0.into();
        assert_eq!(rotary(json!({"rope_theta": 500.0, "rope_scaling": scaling})), rotary(json!({"rope_parameters": parameters})));
        assert_eq!(rotary(json!({"rope_theta": 10000.0, "rope_scaling": null})), rotary(json!({})));
        // What was added to a config that transformers 5 wrote counts.
        let linear = json!({"type": "linear", "factor": 4.0});
        assert_eq!(
            rotary(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "rope_scaling": linear.clone()})),
            rotary(json!({"rope_theta": 500.0, "rope_scaling": linear}))
        );
        // Dynamic scaling begins beyond the positions that a row may have.
        assert_eq!(rotary(json!({"rope_scaling": {"type": "dynamic", "factor": 4.0}})), rotary(json!({})));
        let heads = |other| config("gpt2", other).unwrap().heads;
        assert_eq!(heads(json!({"n_head": 8})), 8);
        assert_eq!(heads(json!({})), 4);
    }

    #[test]
    fn a_decoder_s_padding_is_the_rows_but_its_table_learns_as_before() {
        for (given, learns_nothing) in [(json!({}), None), (json!({"pad_token_id": 3}), Some(3))] {
            let mut config = config("llama", given).unwrap();
            config.pad_with(7).unwrap();
            assert_eq!((config.pad_token_id, config.decoder.embedding_padding), (Some(7), learns_nothing));
        }
    }

    #[test]
    fn windows_are_those_of_each_family() {
        let windows = |model_type, other| config(model_type, other).unwrap().decoder.windows;
        assert_eq!(windows("llama", json!({"sliding_window": 8})), [None, None]);
        assert_eq!(windows("mistral", json!({"num_key_value_heads": 2, "sliding_window": 8})), [Some(8), Some(8)]);
        assert_eq!(windows("mistral", json!({"num_key_value_heads": 2, "sliding_window": null})), [None, None]);
        assert_eq!(windows("mistral", json!({"num_key_value_heads": 2})), [Some(4096), Some(4096)]);
        assert_eq!(windows("qwen2", json!({"sliding_window": 8, "max_window_layers": 1})), [None, None]);
        assert_eq!(windows("qwen2", json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1})), [None, Some(8)]);
        assert_eq!(windows("qwen2", json!({"use_sliding_window": true, "sliding_window": null, "max_window_layers": 0})), [None, None]);
        let types = json!({"use_sliding_window": true, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]});
        assert_eq!(windows("qwen2", types), [Some(8), None]);
    }
}
