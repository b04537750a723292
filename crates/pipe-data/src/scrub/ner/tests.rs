use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const WORDS: [&str; 12] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "jane", "doe", "berlin", "met", "in", ".", "小", "明"];

/// A folder with a tokenizer of words and a graph that nobody reads.
fn folder(labels: &[&str], positions: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let vocabulary: BTreeMap<&str, usize> = WORDS.iter().enumerate().map(|(id, word)| (*word, id)).collect();
    let special = |id: usize| serde_json::json!({"id": WORDS[id], "ids": [id], "tokens": [WORDS[id]]});
    let tokenizer = serde_json::json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": special(2), "[SEP]": special(3)},
        },
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    });
    let id2label: BTreeMap<String, &str> = labels.iter().enumerate().map(|(id, label)| (id.to_string(), *label)).collect();
    let config = serde_json::json!({"id2label": id2label, "max_position_embeddings": positions, "pad_token_id": 0});
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.path().join("model.onnx"), "a graph").unwrap();
    folder
}

/// Tags each word by its number alone.
fn model(labels: &'static [&'static str], positions: usize, tag: fn(i64) -> usize) -> (EntityModel, Arc<AtomicUsize>) {
    let batches = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&batches);
    let folder = folder(labels, positions);
    let model = open(folder.path(), String::new(), |tags| {
        assert_eq!(tags, labels.len());
        Ok(Arc::new(move |batch: &Batch| {
            counted.fetch_add(1, Ordering::Relaxed);
            assert!(batch.length <= positions);
            let row = |id: &i64| (0..tags).map(|at| if at == tag(*id) { 4.0 } else { 0.0 }).collect::<Vec<f32>>();
            Ok(Logits { classes: tags, values: batch.input_ids.iter().flat_map(row).collect() })
        }))
    });
    (model.unwrap(), batches)
}

fn found<'t>(model: &EntityModel, text: &'t str) -> Vec<(&'t str, String)> {
    (model.find)(&[text]).unwrap()[0].iter().map(|span| (&text[span.start..span.end], span.tag.clone())).collect()
}

const IOB: [&str; 4] = ["O", "B-PER", "I-PER", "B-LOC"];

fn iob(id: i64) -> usize {
    match id {
        4 | 10 => 1,
        5 | 11 => 2,
        6 => 3,
        _ => 0,
    }
}

#[test]
fn words_of_one_name_are_one_span_in_bytes_of_the_text() {
    let (model, _) = model(&IOB, 64, iob);
    let per = |text| (text, "PER".to_owned());
    assert_eq!(found(&model, "Jane  Doe met Jane in Berlin."), [per("Jane  Doe"), per("Jane"), ("Berlin", "LOC".to_owned())]);
    assert_eq!(found(&model, "Jane Jane Doe"), [per("Jane"), per("Jane Doe")]);
    assert_eq!(found(&model, "昨天小明在 BERLIN"), [per("小明"), ("BERLIN", "LOC".to_owned())]);
    assert!(found(&model, "").is_empty() && found(&model, " \n ").is_empty());
    let score = (model.find)(&["jane"]).unwrap()[0][0].score;
    assert!((f64::from(score) - softmax(&[0.0, 4.0, 0.0, 0.0])[1]).abs() < 1e-6);
}

#[test]
fn all_schemes_of_tags_say_the_same() {
    let (plain, _) = model(&["O", "PER"], 64, |id| usize::from(matches!(id, 4 | 5)));
    assert_eq!(found(&plain, "met Jane Doe in"), [("Jane Doe", "PER".to_owned())]);
    let (bioes, _) = model(&["O", "B-PER", "E-PER", "S-LOC"], 64, iob);
    assert_eq!(found(&bioes, "Jane Doe Berlin Berlin"), [("Jane Doe", "PER".to_owned()), ("Berlin", "LOC".to_owned()), ("Berlin", "LOC".to_owned())]);
    let (iob1, _) = model(&["O", "I-PER", "I-PER", "I-LOC"], 64, iob);
    assert_eq!(found(&iob1, "Jane Doe Berlin"), [("Jane Doe", "PER".to_owned()), ("Berlin", "LOC".to_owned())]);
}

#[test]
fn a_long_text_goes_through_in_windows_and_every_word_is_judged_once() {
    let (model, batches) = model(&IOB, 16, iob);
    for count in [1, 5, 11, 14, 15, 16, 25, 28, 100, 1001] {
        let text = "met Jane Doe in ".repeat(count);
        let names = found(&model, &text);
        assert_eq!(names.len(), count, "{count}");
        assert!(names.iter().all(|(name, _)| *name == "Jane Doe"));
    }
    assert!(batches.load(Ordering::Relaxed) > 10);
}

#[test]
fn a_folder_without_what_it_needs_is_refused() {
    let open_with = |change: &dyn Fn(&Path)| {
        let folder = folder(&IOB, 64);
        change(folder.path());
        open(folder.path(), String::new(), |_| Ok(Arc::new(|_: &Batch| Ok(Logits { classes: 4, values: vec![] })))).err().unwrap().message
    };
    assert!(open_with(&|folder| std::fs::remove_file(folder.join("model.onnx")).unwrap()).contains("has no model.onnx"));
    assert!(open_with(&|folder| std::fs::write(folder.join("config.json"), "{}").unwrap()).contains("id2label"));
    assert!(open_with(&|folder| std::fs::write(folder.join("config.json"), "[").unwrap()).contains("line 1"));
    assert!(open_with(&|folder| std::fs::write(folder.join("tokenizer.json"), "{}").unwrap()).contains("as a tokenizer"));
}
