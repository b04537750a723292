//! The files of a trained tokenizer, as transformers' `AutoTokenizer` reads them.

use std::path::Path;

use pipe_core::config::{TokenizerKind, TrainTokenizerConfig};
use pipe_core::{Error, IoContext, Result};
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use super::alphabet::{END, INSIDE};
use super::words::LONGEST_WORD;
use super::{Pieces, SPECIAL};

/// A tokenizer that normalises and splits, and knows no piece.
pub(super) fn skeleton(config: &TrainTokenizerConfig) -> Result<Tokenizer> {
    tokenizer(config, model(&Pieces::Wordpiece(SPECIAL.iter().map(|token| (*token).to_owned()).collect())))
}

/// Writes `tokenizer.json` and the files that stand beside it.
pub(super) fn write(config: &TrainTokenizerConfig, pieces: &Pieces, max_length: usize, folder: &Path) -> Result<()> {
    let tokenizer = tokenizer(config, model(pieces))?;
    std::fs::create_dir_all(folder).doing("make the folder", folder)?;
    let put = |name: &str, content: &[u8]| std::fs::write(folder.join(name), content).doing("write", &folder.join(name));
    // By the library, which writes a vocabulary in the order of its ids.
    let text = tokenizer.to_string(true).map_err(|_| Error::internal("a trained tokenizer cannot be written"))?;
    put("tokenizer.json", text.as_bytes())?;
    let names: Map<String, Value> = [("pad_token", 0), ("unk_token", 1), ("cls_token", 2), ("sep_token", 3), ("mask_token", 4)]
        .map(|(name, id)| (name.to_owned(), json!(SPECIAL[id])))
        .into_iter()
        .collect();
    let mut settings = names.clone();
    settings.insert("model_max_length".into(), json!(max_length));
    settings.insert("clean_up_tokenization_spaces".into(), json!(false));
    if let Pieces::Wordpiece(vocabulary) = pieces {
        settings.insert("tokenizer_class".into(), json!("BertTokenizer"));
        settings.insert("do_lower_case".into(), json!(config.lowercase));
        settings.insert("strip_accents".into(), json!(config.strip_accents));
        settings.insert("tokenize_chinese_chars".into(), json!(config.tokenize_chinese_chars));
        put("vocab.txt", (vocabulary.join("\n") + "\n").as_bytes())?;
    } else {
        settings.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        settings.insert("model_input_names".into(), json!(["input_ids", "token_type_ids", "attention_mask"]));
    }
    put("special_tokens_map.json", &serde_json::to_vec_pretty(&names).expect("plain data"))?;
    put("tokenizer_config.json", &serde_json::to_vec_pretty(&settings).expect("plain data"))
}

fn tokenizer(config: &TrainTokenizerConfig, model: Value) -> Result<Tokenizer> {
    let bert = json!({"type": "BertPreTokenizer"});
    let space = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let (pre_tokenizer, decoder) = match config.kind {
        TokenizerKind::Wordpiece => (bert, json!({"type": "WordPiece", "prefix": INSIDE, "cleanup": true})),
        TokenizerKind::Bpe => (bert, json!({"type": "BPEDecoder", "suffix": END})),
        TokenizerKind::Unigram => (json!({"type": "Sequence", "pretokenizers": [bert, space]}), space),
    };
    let special = |token: &str, type_id: u32| json!({"SpecialToken": {"id": token, "type_id": type_id}});
    let text = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
    let (cls, sep) = (SPECIAL[2], SPECIAL[3]);
    let single = [special(cls, 0), text("A", 0), special(sep, 0)];
    let known = |id: usize| json!({"id": SPECIAL[id], "ids": [id], "tokens": [SPECIAL[id]]});
    let added = |(id, token): (usize, &&str)| json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    let whole = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": SPECIAL.iter().enumerate().map(added).collect::<Vec<_>>(),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": config.tokenize_chinese_chars,
            "strip_accents": config.strip_accents,
            "lowercase": config.lowercase,
        },
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": single.iter().cloned().chain([text("B", 1), special(sep, 1)]).collect::<Vec<_>>(),
            "special_tokens": {cls: known(2), sep: known(3)},
        },
        "decoder": decoder,
        "model": model,
    });
    let bytes = serde_json::to_vec(&whole).expect("plain data");
    // Without its message, which may quote a piece.
    Tokenizer::from_bytes(bytes).map_err(|_| Error::internal("a trained tokenizer cannot be read back"))
}

fn model(pieces: &Pieces) -> Value {
    let ids = |names: &[String]| names.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect::<Map<String, Value>>();
    let unknown = SPECIAL[1];
    match pieces {
        Pieces::Wordpiece(names) => json!({
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": INSIDE,
            "max_input_chars_per_word": LONGEST_WORD,
            "vocab": ids(names),
        }),
        Pieces::Bpe(names, merges) => json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": END,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": ids(names),
            "merges": merges,
        }),
        Pieces::Unigram(pieces) => json!({"type": "Unigram", "unk_id": 1, "vocab": pieces, "byte_fallback": false}),
    }
}
