//! A model as `google-bert/bert-base-chinese` is on the hub, too small and too random to know anything: a vocabulary of
//! characters, weights of a masked language model under the names of 2018, a `tokenizer_config.json` that names no token.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

const HIDDEN: usize = 16;
const INNER: usize = 32;
const POSITIONS: usize = 512;

/// Names and content of the repository's files.
pub(crate) fn files() -> Vec<(&'static str, Vec<u8>)> {
    let vocabulary = vocabulary();
    let json = |value: Value| serde_json::to_vec_pretty(&value).unwrap();
    vec![
        ("README.md", b"# A stand-in".to_vec()),
        ("config.json", json(config(vocabulary.len()))),
        ("model.safetensors", weights(vocabulary.len())),
        ("pytorch_model.bin", b"pickle".to_vec()),
        ("tokenizer.json", json(tokenizer(&vocabulary))),
        ("tokenizer_config.json", json(json!({"do_lower_case": false, "model_max_length": POSITIONS}))),
        ("vocab.txt", (vocabulary.join("\n") + "\n").into_bytes()),
    ]
}

/// Special tokens stand where BERT has them, after a hundred places of which all but the first are free; then punctuation and
/// the Han characters of Unicode 1.
fn vocabulary() -> Vec<String> {
    let free = (1..100).map(|at| format!("[unused{at}]"));
    let special = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let characters = "!,.?。，！？".chars().chain('一'..='龥').map(String::from);
    ["[PAD]".to_owned()].into_iter().chain(free).chain(special).chain(characters).collect()
}

fn config(vocabulary: usize) -> Value {
    json!({
        "architectures": ["BertForMaskedLM"],
        "attention_probs_dropout_prob": 0.1,
        "directionality": "bidi",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INNER,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": POSITIONS,
        "model_type": "bert",
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "pad_token_id": 0,
        "pooler_fc_size": HIDDEN,
        "pooler_num_attention_heads": 2,
        "pooler_num_fc_layers": 3,
        "pooler_size_per_head": 16,
        "pooler_type": "first_token_transform",
        "type_vocab_size": 2,
        "vocab_size": vocabulary,
    })
}

fn tokenizer(vocabulary: &[String]) -> Value {
    let id = |token: &str| vocabulary.iter().position(|known| known == token).unwrap();
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let added = special.map(|token| {
        json!({"id": id(token), "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
    });
    let token = |token: &str, sentence: usize| json!({"SpecialToken": {"id": token, "type_id": sentence}});
    let sequence = |name: &str, sentence: usize| json!({"Sequence": {"id": name, "type_id": sentence}});
    let first = [token("[CLS]", 0), sequence("A", 0), token("[SEP]", 0)];
    let pair = [&first[..], &[sequence("B", 1), token("[SEP]", 1)]].concat();
    let meaning = |token: &str| json!({"id": token, "ids": [id(token)], "tokens": [token]});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": false},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": first,
            "pair": pair,
            "special_tokens": {"[CLS]": meaning("[CLS]"), "[SEP]": meaning("[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary.iter().enumerate().map(|(id, token)| (token.clone(), id)).collect::<HashMap<String, usize>>(),
        },
    })
}

fn weights(vocabulary: usize) -> Vec<u8> {
    let layer = "bert.encoder.layer.0";
    let mut linear = vec![
        ("bert.pooler.dense".to_owned(), HIDDEN, HIDDEN),
        ("cls.predictions.transform.dense".to_owned(), HIDDEN, HIDDEN),
        ("cls.seq_relationship".to_owned(), 2, HIDDEN),
        (format!("{layer}.intermediate.dense"), INNER, HIDDEN),
        (format!("{layer}.output.dense"), HIDDEN, INNER),
    ];
    linear.extend(["self.query", "self.key", "self.value", "output.dense"].map(|part| (format!("{layer}.attention.{part}"), HIDDEN, HIDDEN)));
    let norms = ["bert.embeddings", "cls.predictions.transform", "bert.encoder.layer.0.attention.output", "bert.encoder.layer.0.output"];

    let mut random = fastrand::Rng::with_seed(7);
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut add = |name: String, shape: &[usize], mean: f32, spread: f32| {
        let values = (0..shape.iter().product()).flat_map(|_| (mean + spread * (2.0 * random.f32() - 1.0)).to_le_bytes());
        tensors.push((name, shape.to_vec(), values.collect()));
    };
    for (name, rows) in [("word", vocabulary), ("position", POSITIONS), ("token_type", 2)] {
        add(format!("bert.embeddings.{name}_embeddings.weight"), &[rows, HIDDEN], 0.0, 0.1);
    }
    for (name, to, from) in linear {
        add(format!("{name}.weight"), &[to, from], 0.0, 0.3);
        add(format!("{name}.bias"), &[to], 0.0, 0.1);
    }
    for name in norms {
        add(format!("{name}.LayerNorm.gamma"), &[HIDDEN], 1.0, 0.1);
        add(format!("{name}.LayerNorm.beta"), &[HIDDEN], 0.0, 0.1);
    }
    add("cls.predictions.bias".to_owned(), &[vocabulary], 0.0, 0.1);
    let views = tensors.iter().map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}
