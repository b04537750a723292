//! What settings mean for keys: only what they say counts, not how they are written; and everything that they say does.

use std::collections::{BTreeMap, BTreeSet};

use pipe_core::config::{StageConfig, StageKind};
use pipe_core::file::{SourceId, parse};
use pipe_core::key::{Components, Key};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// One setting with some of its values, in JSON.
struct Setting {
    /// Below `with:`.
    path: &'static str,
    values: &'static [&'static str],
    /// Whether it decides the output, and so the key.
    keyed: bool,
}

const fn keyed(path: &'static str, values: &'static [&'static str]) -> Setting {
    Setting { path, values, keyed: true }
}

const fn left_out(path: &'static str, values: &'static [&'static str]) -> Setting {
    Setting { path, values, keyed: false }
}

const INGEST: &[Setting] = &[
    left_out("source.paths", &[r#"["a.csv"]"#, r#"["b.csv", "c/*.csv"]"#]),
    keyed("source.format", &["null", r#""csv""#, r#""tsv""#, r#""jsonl""#, r#""json""#, r#""parquet""#, r#""arrow""#, r#""lines""#, r#""text""#]),
    keyed("source.encoding", &[r#""utf-8""#, r#""mac-roman""#, r#""gb18030""#]),
    keyed("source.delimiter", &["null", r#"";""#, r#""|""#]),
    // With paths there are none.
    keyed("source.rows", &["[]"]),
    keyed("source.compression", &[r#""auto""#, r#""none""#, r#""gzip""#, r#""zstd""#]),
    left_out("source.settle", &["null", r#""10m""#, r#""1h30m""#]),
    left_out("source.min_files", &["null", "1", "7"]),
    // One setting here, since roles depend on one another. All have classes: others need them.
    keyed(
        "columns",
        &[
            r#"{"label": "label"}"#,
            r#"{"label": "mood"}"#,
            r#"{"label": "label", "text": "body"}"#,
            r#"{"label": "label", "text_pair": "second", "id": "nr"}"#,
            r#"{"label": "label", "group": "customer"}"#,
            r#"{"label": "label", "time": "sent"}"#,
            r#"{"label": "label", "question": "q", "context": "c"}"#,
            r#"{"label": "label", "question": "q", "context": "c", "answers": "a"}"#,
            r#"{"label": "label", "prompt": "p", "completion": "c"}"#,
            r#"{"label": "label", "messages": "m"}"#,
            r#"{"labels": "label"}"#,
            r#"{"labels": "moods", "text_pair": "second"}"#,
            r#"{"tokens": "words", "tags": "tags"}"#,
            r#"{"tokens": "tokens", "tags": "ner"}"#,
            r#"{"label": "label", "extra": {"channel": {}}}"#,
            r#"{"label": "label", "extra": {"channel": {"from": "via"}}}"#,
            r#"{"label": "label", "extra": {"stars": {"type": "integer", "required": true}, "origin": {"value": "crm"}}}"#,
            r#"{"label": "label", "required": ["a"], "forbidden": ["b"]}"#,
        ],
    ),
    keyed("labels.map", &["{}", r#"{"1": "bad", "5": "good"}"#]),
    keyed("labels.unmapped", &[r#""reject""#, r#""filter""#, r#""keep""#]),
    keyed("scrub.policy", &[r#""standard""#, r#""strict""#, r#""minimal""#, r#""none""#]),
    keyed("scrub.entities", &["null", "[]", r#"["email"]"#, r#"["email", "phone"]"#]),
    // The key's id is part of the environment, the model's content an asset.
    left_out("scrub.key", &["null", r#"{"file": "a.key"}"#, r#"{"env": "KEY"}"#]),
    keyed("scrub.ner", &["null", r#"{"model": "a"}"#, r#"{"model": "a", "threshold": 0.9}"#, r#"{"model": "a", "labels": {"NAME": "person"}}"#]),
    left_out("scrub.model", &["null", r#""a/model""#, r#""b/model""#]),
    keyed("dedup", &[r#""exact""#, r#""near""#, r#""none""#]),
    keyed("near.bands", &["14", "9"]),
    keyed("near.rows", &["8", "13"]),
    keyed("near.words", &["5", "3"]),
    keyed("near.characters", &["5", "4"]),
    keyed("near.action", &[r#""drop""#, r#""group""#]),
    keyed("conflicts", &[r#""keep_first""#, r#""drop""#]),
    keyed(
        "split",
        &[
            "null",
            r#"{"train": 0.8, "validation": 0.1, "test": 0.1, "seed": 42}"#,
            r#"{"train": 0.8, "validation": 0.1, "test": 0.1, "seed": 43}"#,
            r#"{"train": 0.8, "validation": 0.2}"#,
            r#"{"train": 0.8, "test": 0.2}"#,
            r#"{"train": 1}"#,
            r#"{"by": "files", "files": {"train": ["a*"], "test": ["b*"]}}"#,
        ],
    ),
    keyed("shard_rows", &["32768", "64"]),
    keyed("rejects.max_ratio", &["0.2", "0", "0.5"]),
    keyed("rejects.max_count", &["null", "0", "10"]),
    // Another needs a key beside it.
    keyed("rejects.recipient", &["null"]),
    left_out("drift.max_row_change", &["0.5", "null", "0.1"]),
    left_out("drift.columns", &["true", "false"]),
    left_out("drift.action", &[r#""warn""#, r#""gate""#]),
];

const TOKENIZE: &[Setting] = &[
    // A start from scratch; that a path is left out has a test of its own below.
    keyed("tokenizer.train_tokenizer.kind", &[r#""wordpiece""#, r#""bpe""#, r#""unigram""#]),
    keyed("tokenizer.train_tokenizer.vocab_size", &["30000", "8000"]),
    keyed("tokenizer.train_tokenizer.min_frequency", &["2", "5"]),
    keyed("tokenizer.train_tokenizer.limit_alphabet", &["null", "6000"]),
    keyed("tokenizer.train_tokenizer.lowercase", &["true", "false"]),
    keyed("tokenizer.train_tokenizer.strip_accents", &["null", "false"]),
    keyed("tokenizer.train_tokenizer.tokenize_chinese_chars", &["true", "false"]),
    left_out("tokenizer.config", &["null", r#"{"hidden_size": 96}"#, r#""a/config.json""#]),
    keyed("train_tokenizer", &["null"]),
    keyed("max_length", &["null", "64", "128"]),
    keyed("truncation", &[r#""longest_first""#, r#""only_first""#, r#""only_second""#, r#""do_not_truncate""#]),
    keyed("padding", &[r#""longest""#, r#""max_length""#]),
    // With any other the settings below would be refused, or `padding` would.
    keyed("task", &["null"]),
    keyed("packing", &["false"]),
    keyed("label_all_tokens", &["false", "true"]),
    keyed("doc_stride", &["null", "1", "2"]),
    keyed("completion_only_loss", &["null", "false"]),
    keyed("chat_template", &["null", r#""{{ messages }}""#]),
    left_out("max_skipped_ratio", &["null", "0.5"]),
    keyed("keep_columns", &["[]", r#"["language"]"#]),
];

const TRAIN: &[Setting] = &[
    left_out("task", &["null", r#""sequence-classification""#, r#""causal-lm""#]),
    left_out("model.train_tokenizer", &["null", r#"{"vocab_size": 8000}"#]),
    keyed("model.config.model_type", &[r#""bert""#, r#""roberta""#, r#""distilbert""#, r#""gpt2""#, r#""llama""#]),
    keyed("model.config.vocab_size", &["null", "9000"]),
    keyed("model.config.hidden_size", &["768", "96"]),
    keyed("model.config.num_hidden_layers", &["null", "2"]),
    keyed("model.config.num_attention_heads", &["12", "4"]),
    keyed("model.config.num_key_value_heads", &["null", "2"]),
    keyed("model.config.intermediate_size", &["3072", "64"]),
    keyed("model.config.hidden_act", &["null", r#""relu""#]),
    keyed("model.config.hidden_dropout_prob", &["null", "0"]),
    keyed("model.config.attention_probs_dropout_prob", &["null", "0.2"]),
    keyed("model.config.classifier_dropout", &["null", "0.3"]),
    keyed("model.config.max_position_embeddings", &["null", "128"]),
    keyed("model.config.type_vocab_size", &["null", "4"]),
    keyed("model.config.rope_theta", &["null", "500000.0"]),
    keyed("model.config.initializer_range", &["0.02", "0.1"]),
    keyed("model.config.layer_norm_eps", &["null", "1e-5"]),
    keyed("model.config.pad_token_id", &["null", "0", "3"]),
    left_out("device", &[r#""auto""#, r#""cpu""#, r#""cuda""#]),
    keyed("learning_rate", &["5e-5", "3e-5", "0.001"]),
    keyed("num_train_epochs", &["3", "1", "2.5"]),
    keyed("max_steps", &["-1", "10", "100"]),
    keyed("max_train_samples", &["null", "100", "200"]),
    keyed("max_eval_samples", &["null", "100", "200"]),
    keyed("per_device_train_batch_size", &["8", "16"]),
    keyed("per_device_eval_batch_size", &["8", "32"]),
    keyed("gradient_accumulation_steps", &["1", "2"]),
    keyed("dataloader_drop_last", &["false", "true"]),
    keyed("auto_find_batch_size", &["false", "true"]),
    keyed(
        "lr_scheduler_type",
        &[
            r#""linear""#,
            r#""cosine""#,
            r#""constant""#,
            r#""constant_with_warmup""#,
            r#""polynomial""#,
            r#""inverse_sqrt""#,
            r#""cosine_with_restarts""#,
            r#""cosine_with_min_lr""#,
            r#""warmup_stable_decay""#,
            r#""reduce_lr_on_plateau""#,
        ],
    ),
    // One setting here, since its keys depend on the schedule.
    keyed(
        "lr_scheduler_kwargs",
        &[
            "{}",
            r#"{"num_cycles": 2}"#,
            r#"{"power": 2, "lr_end": 1e-8}"#,
            r#"{"timescale": 100}"#,
            r#"{"min_lr": 1e-6}"#,
            r#"{"min_lr_rate": 0.1}"#,
            r#"{"num_decay_steps": 10}"#,
            r#"{"num_decay_steps": 10, "num_stable_steps": 5, "warmup_type": "cosine", "decay_type": "1-sqrt", "min_lr_ratio": 0.1}"#,
            r#"{"factor": 0.5, "patience": 2, "threshold": 0.1, "threshold_mode": "abs", "cooldown": 1, "eps": 1e-9}"#,
        ],
    ),
    keyed("warmup_steps", &["0", "0.1", "50"]),
    keyed("warmup_ratio", &["0", "0.1"]),
    keyed(
        "optim",
        &[
            r#""adamw_torch""#,
            r#""adamw_torch_fused""#,
            r#""adamw_8bit""#,
            r#""adamw_bnb_8bit""#,
            r#""adafactor""#,
            r#""sgd""#,
            r#""lion""#,
            r#""lion_32bit""#,
        ],
    ),
    keyed(
        "optim_args",
        &[
            "{}",
            r#"{"momentum": 0.9}"#,
            r#""momentum=0.9, nesterov=True""#,
            r#"{"momentum": 0.9, "nesterov": true}"#,
            r#"{"dampening": 0.1}"#,
            r#"{"scale_parameter": true, "clip_threshold": 2, "decay_rate": -0.7, "beta1": 0.9}"#,
        ],
    ),
    keyed("weight_decay", &["0", "0.01"]),
    keyed("adam_beta1", &["0.9", "0.8"]),
    keyed("adam_beta2", &["0.999", "0.98"]),
    keyed("adam_epsilon", &["1e-8", "1e-6"]),
    keyed("max_grad_norm", &["1", "0", "5"]),
    keyed("layerwise_lr_decay", &["null", "1", "0.9"]),
    keyed("head_learning_rate", &["null", "1e-3"]),
    keyed("freeze.embeddings", &["false", "true"]),
    keyed("freeze.layers", &["0", "2"]),
    keyed("freeze.patterns", &["[]", r#"["bert.pooler.*"]"#]),
    keyed("label_smoothing_factor", &["0", "0.1"]),
    keyed("class_weights", &["null", r#""balanced""#, r#"{"a": 2, "b": 0.5}"#]),
    keyed("focal_gamma", &["0", "2"]),
    keyed("neftune_noise_alpha", &["null", "5"]),
    keyed("dropout", &["null", "0", "0.2"]),
    keyed("seed", &["42", "7"]),
    keyed("data_seed", &["null", "7", "42"]),
    keyed("eval_strategy", &[r#""no""#, r#""epoch""#, r#""steps""#]),
    keyed("eval_steps", &["null", "10", "0.1"]),
    keyed("eval_on_start", &["false", "true"]),
    keyed("eval_delay", &["0", "2"]),
    keyed("save_strategy", &["null", r#""no""#, r#""epoch""#, r#""steps""#, r#""best""#]),
    keyed("save_steps", &["null", "10", "0.5"]),
    left_out("save_total_limit", &["null", "1", "5"]),
    keyed("logging_strategy", &[r#""steps""#, r#""epoch""#, r#""no""#]),
    keyed("logging_steps", &["50", "10", "0.01"]),
    keyed("logging_first_step", &["false", "true"]),
    keyed("load_best_model_at_end", &["false", "true"]),
    keyed("metric_for_best_model", &["null", r#""f1_macro""#, r#""accuracy""#, r#""loss""#]),
    keyed("greater_is_better", &["null", "true", "false"]),
    keyed("early_stopping_patience", &["null", "1", "3"]),
    keyed("early_stopping_threshold", &["0", "0.01"]),
    keyed("bf16", &["false", "true"]),
    keyed("fp16", &["false", "true"]),
    keyed("tf32", &["false", "true"]),
    left_out("gradient_checkpointing", &["false", "true"]),
    keyed("train_sampling_strategy", &[r#""random""#, r#""group_by_length""#, r#""sequential""#]),
    keyed("group_by_length", &["false", "true"]),
    left_out("torch_threads", &["null", "1", "4"]),
];

const EVALUATE: &[Setting] = &[
    left_out("model", &["null", r#""a/model""#]),
    left_out("metrics", &[r#"["accuracy", "f1_macro"]"#, r#"["accuracy"]"#, "[]"]),
    left_out("gate", &["{}", r#"{"f1_macro": ">= 0.5"}"#, r#"{"accuracy": "> 0.1", "loss": "< 2"}"#]),
    keyed("of", &[r#""model""#, r#""predictions""#]),
    keyed("text_tokenizer", &[r#""spaced""#, r#""chinese""#]),
    keyed("by", &["[]", r#"["language"]"#, r#"["language", "group"]"#]),
    keyed("confidence", &["null", "{}", r#"{"confidence_level": 0.9}"#, r#"{"n_resamples": 200}"#, r#"{"seed": 7}"#]),
    keyed("per_device_eval_batch_size", &["32", "8"]),
    keyed("bf16", &["false", "true"]),
    left_out("device", &[r#""auto""#, r#""cpu""#]),
    left_out("torch_threads", &["null", "2"]),
];

const EXPORT: &[Setting] =
    &[keyed("format", &[r#""onnx""#]), keyed("parity.max_abs_diff", &["1e-4", "1e-3", "0"]), keyed("parity.rows", &["64", "8"])];

const PREDICT: &[Setting] = &[
    left_out("model", &["null", r#""a/model""#]),
    keyed("tokens_per_batch", &["1024", "2048"]),
    keyed("scrub", &["true", "false"]),
    left_out("key", &["null", r#"{"file": "a.key"}"#, r#"{"env": "KEY"}"#]),
    left_out("ner", &["null", r#""a/model""#]),
    keyed("generation.max_new_tokens", &["256", "8"]),
    keyed("generation.do_sample", &["false", "true"]),
    keyed("generation.temperature", &["1.0", "0.7"]),
    keyed("generation.top_k", &["50", "0"]),
    keyed("generation.top_p", &["1.0", "0.9"]),
    keyed("generation.min_p", &["null", "0.1"]),
    keyed("generation.repetition_penalty", &["1.0", "1.2"]),
    keyed("generation.no_repeat_ngram_size", &["null", "3"]),
    keyed("generation.stop_strings", &["[]", r#"["."]"#]),
    keyed("generation.eos_token_id", &["null", "[2, 3]", "[]"]),
    keyed("generation.seed", &["42", "7"]),
    keyed("keep_columns", &["[]", r#"["language"]"#]),
    keyed("bf16", &["false", "true"]),
    left_out("device", &[r#""auto""#, r#""cpu""#]),
    left_out("threads", &["null", "2"]),
];

const SQL: &[Setting] = &[
    keyed("query", &[r#""SELECT * FROM ingest""#, r#""SELECT id, text FROM ingest WHERE label = 'a'""#]),
    keyed("split", &[r#""each""#, r#""all""#]),
];

/// Settings that have to be written down.
const REQUIRED: [&str; 5] = ["source.paths", "columns", "tokenizer.train_tokenizer.kind", "model.config.hidden_size", "query"];

fn settings(kind: StageKind) -> &'static [Setting] {
    match kind {
        StageKind::Ingest => INGEST,
        StageKind::Tokenize => TOKENIZE,
        StageKind::Train => TRAIN,
        StageKind::Evaluate => EVALUATE,
        StageKind::Export => EXPORT,
        StageKind::Predict => PREDICT,
        StageKind::Sql => SQL,
    }
}

/// For each setting the value it has, or none where it is not written down.
type Choice = Vec<Option<usize>>;

fn choices() -> impl Strategy<Value = (StageKind, Choice)> {
    proptest::sample::select(StageKind::ALL.as_slice()).prop_flat_map(|kind| {
        let one = |setting: &'static Setting| {
            let values = 0..setting.values.len();
            let weight = if REQUIRED.contains(&setting.path) && kind != StageKind::Evaluate && kind != StageKind::Predict { 0 } else { 2 };
            prop_oneof![weight => Just(None), 1 => values.prop_map(Some)]
        };
        (Just(kind), settings(kind).iter().map(one).collect::<Vec<_>>())
    })
}

fn put(into: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(into.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            if let Value::Object(inner) = into.entry(first).or_insert_with(|| Value::Object(Map::new())) {
                put(inner, rest, value);
            }
        }
    }
}

fn written(kind: StageKind, choice: &Choice) -> Value {
    let mut with = Map::new();
    for (setting, at) in settings(kind).iter().zip(choice) {
        if let Some(at) = at {
            put(&mut with, setting.path, serde_json::from_str(setting.values[*at]).unwrap());
        }
    }
    Value::Object(with)
}

/// As a pipeline file would have it, its keys in an order that `seed` gives.
fn yaml(value: &Value, seed: &mut u64) -> String {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<String> = Vec::new();
            for (name, value) in map {
                *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let at = (*seed >> 33) as usize % (entries.len() + 1);
                entries.insert(at, format!("{name}: {}", yaml(value, seed)));
            }
            format!("{{{}}}", entries.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(|item| yaml(item, seed)).collect::<Vec<_>>().join(", ")),
        scalar => scalar.to_string(),
    }
}

/// Absent where the values do not go together, such as `eval_strategy: steps` without `eval_steps`.
fn read(kind: StageKind, with: &Value, mut seed: u64) -> Option<StageConfig> {
    let node = parse(&yaml(with, &mut seed), SourceId::FILE).unwrap();
    StageConfig::read(kind, &node).ok()
}

fn components(config: &StageConfig) -> Components {
    Components {
        stage: config.kind(),
        version: config.kind().version(),
        with: config.semantic(),
        inputs: Vec::new(),
        sources: Vec::new(),
        assets: BTreeMap::new(),
        environment: BTreeMap::new(),
    }
}

fn key(config: &StageConfig) -> Key {
    Key::of(&components(config))
}

/// Every setting with its value, defaults too.
fn full(config: &StageConfig) -> Value {
    match config {
        StageConfig::Ingest(config) => serde_json::to_value(config),
        StageConfig::Tokenize(config) => serde_json::to_value(config),
        StageConfig::Train(config) => serde_json::to_value(config),
        StageConfig::Evaluate(config) => serde_json::to_value(config),
        StageConfig::Export(config) => serde_json::to_value(config),
        StageConfig::Predict(config) => serde_json::to_value(config),
        StageConfig::Sql(config) => serde_json::to_value(config),
    }
    .unwrap()
}

/// The same, of two spellings the one that counts.
fn meant(config: &StageConfig) -> Value {
    match config {
        StageConfig::Train(config) => serde_json::to_value(config.canonical()).unwrap(),
        other => full(other),
    }
}

/// Leaves out of `full` what `written` does not have, at random.
fn some_defaults(full: &Value, written: Option<&Value>, seed: &mut u64) -> Value {
    let Value::Object(map) = full else { return full.clone() };
    let mut kept = Map::new();
    for (name, value) in map {
        let own = written.and_then(|written| written.get(name));
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        if own.is_some() || *seed >> 63 == 0 {
            // A mapping without a default has to be whole, and so has one that may be written as a text: it does not tell its parts.
            let whole = ["split", "gate", "ner", "class_weights", "optim_args"];
            let value = if whole.contains(&name.as_str()) { value.clone() } else { some_defaults(value, own, seed) };
            kept.insert(name.clone(), value);
        }
    }
    Value::Object(kept)
}

proptest! {
    #![proptest_config(crate::config(500))]

    #[test]
    fn settings_count_however_they_are_written((kind, choice) in choices(), mut seed in any::<u64>()) {
        let with = written(kind, &choice);
        let config = read(kind, &with, 0);
        prop_assume!(config.is_some());
        let config = config.unwrap();
        let reordered = read(kind, &with, seed).unwrap();
        prop_assert_eq!(reordered.semantic(), config.semantic());
        prop_assert_eq!(key(&reordered), key(&config));
        let spelled_out = read(kind, &full(&config), seed).expect("a full serialisation reads back");
        prop_assert_eq!(spelled_out.semantic(), config.semantic());
        prop_assert_eq!(key(&spelled_out), key(&config));
        let part = some_defaults(&full(&config), Some(&with), &mut seed);
        let partly = read(kind, &part, seed).unwrap_or_else(|| panic!("so does a part: {part} of {with}"));
        prop_assert_eq!(key(&partly), key(&config));
    }

    #[test]
    fn settings_that_decide_the_output_change_the_key((kind, choice) in choices(), which in any::<prop::sample::Index>(), other in any::<prop::sample::Index>()) {
        let at = which.index(choice.len());
        let setting = &settings(kind)[at];
        let mut changed = choice.clone();
        changed[at] = Some(other.index(setting.values.len()));
        let (before, after) = (read(kind, &written(kind, &choice), 0), read(kind, &written(kind, &changed), 0));
        prop_assume!(before.is_some() && after.is_some());
        let (before, after) = (before.unwrap(), after.unwrap());
        let differs = meant(&before) != meant(&after);
        prop_assert_eq!(key(&before) != key(&after), differs && setting.keyed, "{}: {:?}", setting.path, full(&after));
    }
}

/// What is at a path counts, not the path.
#[test]
fn paths_are_left_out() {
    for (kind, name) in [(StageKind::Tokenize, "tokenizer"), (StageKind::Train, "model")] {
        let of = |path: &str| key(&read(kind, &serde_json::json!({name: path}), 0).unwrap());
        assert_eq!(of("a/model"), of("hf://b/model"), "{name}");
    }
    let of = |path: &str| key(&read(StageKind::Train, &serde_json::json!({"model": {"config": path}}), 0).unwrap());
    assert_eq!(of("a/config.json"), of("b/config.json"));
}

#[test]
fn the_version_of_a_stage_is_in_its_key() {
    for kind in StageKind::ALL {
        let mut with = Map::new();
        for setting in settings(kind).iter().filter(|setting| REQUIRED.contains(&setting.path)) {
            put(&mut with, setting.path, serde_json::from_str(setting.values[0]).unwrap());
        }
        let now = components(&read(kind, &Value::Object(with), 0).unwrap());
        let next = Components { version: now.version + 1, ..now.clone() };
        assert_ne!(Key::of(&now), Key::of(&next), "{}", kind.name());
    }
}

/// A new setting has to get a line above.
#[test]
fn every_setting_is_tried() {
    fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) if !matches!(path, "columns" | "labels.map" | "split" | "gate" | "lr_scheduler_kwargs" | "optim_args") => {
                for (name, value) in map {
                    leaves(value, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, found);
                }
            }
            _ => drop(found.insert(path.to_owned())),
        }
    }
    for kind in StageKind::ALL {
        let first: Choice = settings(kind).iter().map(|_| Some(0)).collect();
        let mut found = BTreeSet::new();
        leaves(&full(&read(kind, &written(kind, &first), 0).unwrap()), "", &mut found);
        let tried: BTreeSet<String> = settings(kind).iter().map(|setting| setting.path.to_owned()).collect();
        assert_eq!(found, tried, "{}", kind.name());
    }
}
