//! From nothing: a tokenizer trained on the rows, and a model whose weights are drawn.

use std::collections::BTreeMap;

use crate::project::{Project, entries, read_json};
use crate::table::Table;

const BASE: &str = "{ train_tokenizer: { kind: wordpiece, vocab_size: 400 }, \
                    config: { hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64 } }";

/// All stages on Chinese rows of two classes, by words that only one of them has.
fn project() -> Project {
    let project = Project::new();
    project.edit("vars: { base: model,", &format!("vars: {{ base: {BASE},"));
    project.edit("paths: [tweets.csv], format: csv, encoding: mac-roman", "paths: [reviews.jsonl]");
    project.edit("num_train_epochs: 4", "num_train_epochs: 2");
    write_rows(&project, 0..240);
    project
}

fn write_rows(project: &Project, numbers: std::ops::Range<usize>) {
    let things = ["书", "酒店", "电脑", "早餐", "服务", "房间"];
    let row = |at: usize| {
        let (label, word) = [("pos", "很好，喜欢"), ("neg", "太差，失望")][at % 2];
        format!("{{\"text\": \"第{at}次的{}{word} room {at}\", \"sentiment\": \"{label}\"}}\n", things[at / 2 % things.len()])
    };
    project.write("reviews.jsonl", numbers.map(row).collect::<String>());
}

/// Names and content of the files of the tokenizer that travels with a stage's tokens.
fn tokenizer(project: &Project) -> BTreeMap<String, Vec<u8>> {
    let files = entries(&project.artifact("tokenize").join("tokenizer"));
    files.into_iter().map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn a_model_from_scratch_goes_through_all_stages() {
    let project = project();
    project.run(&[]).code(0);
    let files = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"];
    assert_eq!(tokenizer(&project).into_keys().collect::<Vec<_>>(), files);
    let (trained, exported) = (project.artifact("train"), project.path("out/model"));
    for name in files {
        assert!(trained.join(name).is_file() && exported.join(name).is_file(), "{name}");
    }
    let vocabulary = std::fs::read_to_string(trained.join("vocab.txt")).unwrap();
    let config = read_json(&trained.join("config.json"));
    assert_eq!(config["vocab_size"], vocabulary.lines().count());
    assert_eq!((config["pad_token_id"].as_u64(), config["model_type"].as_str()), (Some(0), Some("bert")));
    assert_eq!(config["architectures"][0], "BertForSequenceClassification");
    assert!(vocabulary.starts_with("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n") && vocabulary.contains("\n喜\n"), "{vocabulary}");
    // Two words tell the classes apart.
    let accuracy = read_json(&project.artifact("evaluate").join("metrics.json"))["metrics"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.9, "{accuracy}");
    project.run(&[]).code(0);
    assert!(project.last_run().ran().is_empty());
}

#[test]
fn the_same_weights_are_drawn_every_time() {
    let (first, second) = (project(), project());
    let train = |project: &Project, arguments: &[&str]| {
        project.run(&[&["train", "--set", "train.with.max_steps=2"], arguments].concat()).code(0);
        project.last_run().artifact("train")
    };
    assert_eq!(train(&first, &[]), train(&second, &[]));
    assert_ne!(train(&second, &["--set", "train.with.seed=7"]), train(&first, &[]));
}

#[test]
fn one_variable_leads_from_scratch_to_a_given_model() {
    let project = project();
    project.run(&["train", "--var", "base=model", "--set", "train.with.max_steps=2"]).code(0);
    let given = tokenizer(&project);
    assert_eq!(given["tokenizer.json"], std::fs::read(project.path("model/tokenizer.json")).unwrap());
}

#[test]
fn the_tokenizer_is_learnt_from_rows_to_train_on_alone() {
    let project = project();
    project.run(&["tokenize"]).code(0);
    let report = read_json(&project.artifact("tokenize").join("report.json"));
    assert_eq!(report["trained_tokenizer"]["rows"], report["splits"]["train"]["rows"]);
    let vocabulary = String::from_utf8(tokenizer(&project)["vocab.txt"].clone()).unwrap();
    let texts = |split: &str| Table::of_split(&project.artifact("ingest"), split).all_texts().concat();
    let (train, test) = (texts("train"), texts("test"));
    let is_han = |character: &char| ('\u{4e00}'..='\u{9fff}').contains(character);
    for line in vocabulary.lines().filter(|line| line.chars().any(|character| is_han(&character))) {
        assert!(train.contains(line), "{line} is not in the rows to train on");
    }
    assert!(!test.is_empty());

    // Another split alone is tokenized alike, and again where the rows to train on changed.
    project.edit("from: ingest\n    with: { tokenizer", "from: ingest.test\n    with: { tokenizer");
    let pipeline = std::fs::read_to_string(project.path("pipeline.yaml")).unwrap();
    let tokens_alone = &pipeline[..pipeline.find("  train:\n").unwrap()];
    project.write("pipeline.yaml", tokens_alone);
    project.run(&["tokenize"]).code(0);
    assert_eq!(project.last_run().ran(), ["tokenize"]);
    let before = tokenizer(&project);
    assert_eq!(before["vocab.txt"], vocabulary.as_bytes());
    // More rows to train on.
    write_rows(&project, 0..260);
    project.run(&["tokenize"]).code(0);
    assert_eq!(project.last_run().ran(), ["ingest", "tokenize"]);
    assert_ne!(tokenizer(&project), before);
}

#[test]
fn all_rows_are_learnt_from_where_there_is_no_split() {
    let project = project();
    project.edit("      split: { train: 0.7, validation: 0.15, test: 0.15, seed: 42 }\n", "");
    let pipeline = std::fs::read_to_string(project.path("pipeline.yaml")).unwrap();
    project.write("pipeline.yaml", &pipeline[..pipeline.find("  train:\n").unwrap()]);
    for kind in ["bpe", "unigram"] {
        project.run(&["tokenize", "--var", &format!("base={{ train_tokenizer: {{ kind: {kind}, vocab_size: 300 }} }}")]).code(0);
        let report = read_json(&project.artifact("tokenize").join("report.json"));
        assert_eq!((&report["trained_tokenizer"]["split"], &report["trained_tokenizer"]["rows"]), (&"all".into(), &240.into()), "{kind}");
        assert_eq!(report["trained_tokenizer"]["kind"], kind);
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let project = project();
    let config = |keys: &str| format!("train.with.model={{ config: {{ hidden_size: 32, num_attention_heads: 2, {keys} }} }}");
    for (keys, words) in [
        ("vocab_size: 20", ["`vocab_size` is 20, the tokenizer has", "remove `vocab_size`"]),
        ("pad_token_id: 3", ["`pad_token_id` is 3", "remove `pad_token_id`"]),
        ("max_position_embeddings: 16", ["`max_position_embeddings` is 16", "48 tokens"]),
        ("num_layers: 2", ["unknown key `num_layers`", "config"]),
    ] {
        project.run(&["train", "--set", &config(keys)]).fails(2, &words);
    }
    project.run(&["train", "--set", "train.with.model={ config: none/config.json }"]).fails(12, &["none/config.json", "model.config"]);
    // A file serves as well, and its content is part of the key.
    project.write(
        "shape.json",
        r#"{"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}"#,
    );
    let by_file = ["train", "--set", "train.with.model={ config: shape.json }", "--set", "train.with.max_steps=1"];
    project.run(&by_file).code(0);
    assert_eq!(read_json(&project.artifact("train").join("config.json"))["hidden_size"], 16);
    project.run(&by_file).code(0);
    assert!(project.last_run().ran().is_empty());
    project.write("shape.json", r#"{"model_type": "t5", "d_model": 16}"#);
    project.run(&by_file).fails(12, &["shape.json", "t5", "supported: bert"]);
}
