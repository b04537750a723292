//! The tokenizer inside a GGUF file, as the files that a model folder has.

use std::path::{Path, PathBuf};

use pipe_core::{Error, IoContext, Result};
use pipe_model::gguf::{Gguf, GgufFile};
use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;

use super::encoder::TOKENIZER;

/// ggml's kinds of tokens that are matched before a text is split.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// How Llama 3 splits a text, as its `tokenizer.json` has it.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The folder to read a tokenizer from: `given`, or `into` with the files made of its GGUF where it has no other tokenizer.
pub(super) fn unpacked(given: &Path, into: &Path) -> Result<PathBuf> {
    if given.join(TOKENIZER).is_file() {
        return Ok(given.to_owned());
    }
    let Some(file) = GgufFile::of_folder(given)? else { return Ok(given.to_owned()) };
    let named = |e: Error| Error { message: format!("{}: {}", file.path().display(), e.message), ..e };
    let gguf = file.read()?;
    let (tokenizer, settings) = (tokenizer(&gguf).map_err(named)?, settings(&gguf).map_err(named)?);
    std::fs::create_dir_all(into).doing("make the folder", into)?;
    let put = |name: &str, content: &[u8]| std::fs::write(into.join(name), content).doing("write", &into.join(name));
    // By the library, which writes a vocabulary in the order of its ids.
    let text = tokenizer.to_string(true).map_err(|_| Error::internal("a converted tokenizer cannot be written"))?;
    put(TOKENIZER, text.as_bytes())?;
    let special: Map<String, Value> =
        settings.iter().filter(|(name, _)| name.ends_with("_token")).map(|(name, token)| (name.clone(), token.clone())).collect();
    put("special_tokens_map.json", &serde_json::to_vec_pretty(&special).expect("plain data"))?;
    put("tokenizer_config.json", &serde_json::to_vec_pretty(&settings).expect("plain data"))?;
    Ok(into.to_owned())
}

fn unsupported(key: &str, value: Option<&str>, supported: &str) -> Error {
    Error::input(format!("`{key}: {}` is not supported in GGUF; supported: {supported}", value.unwrap_or("(missing)")))
        .hint("put the model's tokenizer.json beside the GGUF file")
}

fn tokens<'m>(gguf: &Gguf<'m>) -> Result<Vec<&'m str>> {
    gguf.texts("tokenizer.ggml.tokens")?.filter(|tokens| !tokens.is_empty()).ok_or_else(|| Error::input("`tokenizer.ggml.tokens` is missing"))
}

/// Byte pairs over the bytes of UTF-8, as GPT-2 has them.
fn tokenizer(gguf: &Gguf<'_>) -> Result<Tokenizer> {
    let model = gguf.text("tokenizer.ggml.model")?;
    if model != Some("gpt2") {
        return Err(unsupported("tokenizer.ggml.model", model, "gpt2"));
    }
    let byte_level = |splits: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": splits});
    let kind = gguf.text("tokenizer.ggml.pre")?;
    let (pre_tokenizer, whole_words_first) = match kind {
        Some("gpt-2") => (byte_level(true), false),
        Some("smollm") => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            (json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true)]}), false)
        }
        Some("llama-bpe" | "llama3" | "llama-v3") => {
            let split = json!({"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": false});
            (json!({"type": "Sequence", "pretokenizers": [split, byte_level(false)]}), true)
        }
        other => return Err(unsupported("tokenizer.ggml.pre", other, "gpt-2, llama-bpe, smollm")),
    };
    let tokens = tokens(gguf)?;
    let vocabulary: Map<String, Value> = tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    if vocabulary.len() != tokens.len() {
        return Err(Error::input("`tokenizer.ggml.tokens` has a token twice"));
    }
    let merges = gguf.texts("tokenizer.ggml.merges")?.unwrap_or_default();
    let merges = merges.into_iter().map(|merge| merge.split_once(' ').ok_or_else(|| Error::input("`tokenizer.ggml.merges` has no pairs")));
    let kinds = gguf.integers("tokenizer.ggml.token_type")?.unwrap_or_default();
    let added = tokens.iter().zip(kinds).enumerate().filter(|(_, (_, kind))| [CONTROL, USER_DEFINED].contains(kind)).map(|(id, (token, kind))| {
        let special = kind == CONTROL;
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special})
    });
    let whole = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor(gguf, &tokens, byte_level(true), whole_words_first)?,
        "decoder": byte_level(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": whole_words_first,
            "vocab": vocabulary,
            "merges": merges.collect::<Result<Vec<_>>>()?,
        },
    });
    let bytes = serde_json::to_vec(&whole).expect("plain data");
    // Without its message, which may quote a token.
    Tokenizer::from_bytes(bytes).map_err(|_| Error::input("its tokenizer does not hold together: a merge makes no token, or a token is missing"))
}

/// The text between the tokens that the model was trained to see around it. `begins`: it begins with one where the file does not say,
/// as llama.cpp has it for Llama 3.
fn post_processor(gguf: &Gguf<'_>, tokens: &[&str], plain: Value, begins: bool) -> Result<Value> {
    let around = |kind: &str, unless_told: bool| -> Result<Option<(i64, &str)>> {
        let token = token(gguf, tokens, kind)?;
        Ok(if gguf.flag(&format!("tokenizer.ggml.add_{kind}_token"))?.unwrap_or(unless_told) { token } else { None })
    };
    let (first, last) = (around("bos", begins)?, around("eos", false)?);
    if first.is_none() && last.is_none() {
        return Ok(plain);
    }
    let special = |(_, token): (i64, &str), type_id: u32| json!({"SpecialToken": {"id": token, "type_id": type_id}});
    let text = |name: &str, type_id: u32| {
        let sequence = json!({"Sequence": {"id": name, "type_id": type_id}});
        first.map(|token| special(token, type_id)).into_iter().chain([sequence]).chain(last.map(|token| special(token, type_id))).collect::<Vec<_>>()
    };
    let known = first.into_iter().chain(last).map(|(id, token)| (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]})));
    let (single, pair) = (text("A", 0), [text("A", 0), text("B", 1)].concat());
    Ok(json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": known.collect::<Map<_, _>>()}))
}

/// A token that has a part to play, with its id.
fn token<'m>(gguf: &Gguf<'m>, tokens: &[&'m str], kind: &str) -> Result<Option<(i64, &'m str)>> {
    let key = format!("tokenizer.ggml.{kind}_token_id");
    let Some(id) = gguf.integer(&key)? else { return Ok(None) };
    let token = usize::try_from(id).ok().and_then(|id| tokens.get(id));
    token.map(|token| Some((id, *token))).ok_or_else(|| Error::input(format!("`{key}` is {id}, there are {} tokens", tokens.len())))
}

/// `tokenizer_config.json`.
fn settings(gguf: &Gguf<'_>) -> Result<Map<String, Value>> {
    let tokens = tokens(gguf)?;
    let mut settings = Map::new();
    settings.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    settings.insert("clean_up_tokenization_spaces".into(), false.into());
    for (name, kind) in [("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")] {
        if let Some((_, token)) = token(gguf, &tokens, kind)? {
            settings.insert(name.into(), token.into());
        }
    }
    // A model that was never padded takes the end of a text for it, as is usual.
    if let (None, Some(token)) = (settings.get("pad_token"), settings.get("eos_token").cloned()) {
        settings.insert("pad_token".into(), token);
    }
    if let Some(length) = gguf.integer("llama.context_length")? {
        settings.insert("model_max_length".into(), length.into());
    }
    if let Some(template) = gguf.text("tokenizer.chat_template")? {
        settings.insert("chat_template".into(), template.into());
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/families/llama-gguf")
    }

    fn json_of(path: &Path) -> Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn texts_become_the_ids_of_the_model_s_own_tokenizer() {
        for name in ["llama3-gguf", "llama-gguf"] {
            let (given, into) = (fixture().with_file_name(name), tempfile::tempdir().unwrap());
            let folder = unpacked(&given, into.path()).unwrap();
            assert_eq!(folder, into.path());
            let tokenizer = Tokenizer::from_file(folder.join(TOKENIZER)).unwrap();
            for case in json_of(&given.join("tokens.json")).as_array().unwrap() {
                let text = case["text"].as_str().unwrap();
                let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
                assert_eq!(tokenizer.encode(text, true).unwrap().get_ids(), ids, "{name}: {text}");
                let first = if name == "llama3-gguf" { "<|im_start|>" } else { "" };
                assert_eq!(tokenizer.decode(&ids, false).unwrap(), format!("{first}{text}"));
            }
        }
        let into = tempfile::tempdir().unwrap();
        let folder = unpacked(&fixture(), into.path()).unwrap();
        let config = json_of(&folder.join("tokenizer_config.json"));
        assert_eq!(
            (&config["eos_token"], &config["pad_token"], &config["model_max_length"]),
            (&json!("<|im_end|>"), &json!("<|im_end|>"), &json!(64))
        );
        assert!(config["chat_template"].as_str().unwrap().starts_with("{% for message in messages %}"));
        assert_eq!(json_of(&folder.join("special_tokens_map.json"))["bos_token"], "<|im_start|>");
    }

    #[test]
    fn llama_3_begins_a_text_with_its_token_where_the_file_does_not_say() {
        let (given, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (name, begins) in [("llama3-gguf", true), ("llama-gguf", false)] {
            let mut bytes = std::fs::read(fixture().with_file_name(name).join("model.gguf")).unwrap();
            // Another key of the same length.
            let (told, silent) = (b"tokenizer.ggml.add_bos_token", b"tokenizer.ggml.add_bos_tokem");
            if let Some(at) = bytes.windows(told.len()).position(|window| window == told) {
                bytes[at..at + silent.len()].copy_from_slice(silent);
            }
            std::fs::write(given.path().join("model.gguf"), bytes).unwrap();
            let folder = unpacked(given.path(), into.path()).unwrap();
            let tokenizer = Tokenizer::from_file(folder.join(TOKENIZER)).unwrap();
            let first = tokenizer.encode("the", true).unwrap().get_tokens()[0].clone();
            assert_eq!(first == "<|im_start|>", begins, "{name}: {first}");
        }
    }

    #[test]
    fn a_tokenizer_beside_the_file_comes_first() {
        let (given, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::copy(fixture().join("model.gguf"), given.path().join("model.gguf")).unwrap();
        assert_eq!(unpacked(given.path(), into.path()).unwrap(), into.path());
        std::fs::write(given.path().join(TOKENIZER), "{}").unwrap();
        assert_eq!(unpacked(given.path(), into.path()).unwrap(), given.path());
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let (given, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let whole = std::fs::read(fixture().join("model.gguf")).unwrap();
        for (from, to, message) in [
            (b"smollm".as_slice(), b"viking".as_slice(), "`tokenizer.ggml.pre: viking` is not supported"),
            (b"\xc4\xa0 t", b"\xc4\xa0 \xff", "a text is not UTF-8"),
            (b"\xc4\xa0 t", b"\xc4\xa0 ~", "does not hold together"),
            (b"\x04\0\0\0\0\0\0\0gpt2", b"\x04\0\0\0\0\0\0\0bert", "`tokenizer.ggml.model: bert` is not supported"),
        ] {
            let at = whole.windows(from.len()).position(|bytes| bytes == from).unwrap();
            let mut changed = whole.clone();
            changed[at..at + to.len()].copy_from_slice(to);
            std::fs::write(given.path().join("model.gguf"), changed).unwrap();
            let error = unpacked(given.path(), into.path()).unwrap_err();
            assert!(error.message.contains(message), "{error}");
        }
    }
}
