//! Every task through every stage, on the example data: what a user gets of each, and what becomes of bad rows.

use std::path::Path;

use serde_json::Value;

use crate::project::{Project, read_json};
use crate::table::Table;

/// A small model from scratch, in the place of what the example pipelines name.
const SMALL: &str = "base={train_tokenizer: {vocab_size: 1000}, config: {hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64, max_position_embeddings: 256}}";
const SMALL_DECODER: &str = "base={train_tokenizer: {vocab_size: 600}, config: {model_type: llama, hidden_size: 48, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, intermediate_size: 96, max_position_embeddings: 256}}";

/// An example pipeline of the checkout with its data, in a folder of its own.
fn example(name: &str) -> Project {
    let project = Project::new();
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(checkout.join(format!("pipelines/{name}.yaml"))).unwrap();
    // The same rows once more, by the trained model as it is.
    let direct = "\n  direct: { uses: predict, from: [train, ingest.test], with: { device: cpu } }\n";
    project.write("pipeline.yaml", text.replace("root: ..\n", "") + direct);
    std::fs::create_dir_all(project.path("data/examples")).unwrap();
    for entry in std::fs::read_dir(checkout.join("data/examples")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, project.path("data/examples").join(path.file_name().unwrap())).unwrap();
    }
    project
}

/// Runs it on a small model for `epochs`, whatever it then scores; the metrics of `evaluate`.
fn run(project: &Project, base: &str, epochs: u32, more: &[&str]) -> Value {
    let epochs = format!("train.with.num_train_epochs={epochs}");
    let mut arguments = vec!["--var", base, "--set", &epochs, "--set", "evaluate.with.gate={}", "--set", "train.with.learning_rate=2.0e-3"];
    arguments.extend(["--set", "ingest.with.columns.extra={origin: {value: made up}}", "--set", "evaluate.with.confidence={n_resamples: 40}"]);
    // Rows that share one have no value of their own.
    let sliced = base == SMALL;
    if sliced {
        arguments.extend(["--set", "tokenize.with.keep_columns=[origin]", "--set", "evaluate.with.by=[origin]"]);
    }
    arguments.extend(more);
    project.run(&arguments).code(0);
    let metrics = read_json(&project.artifact("evaluate").join("metrics.json"));
    has_intervals(&metrics);
    if sliced {
        has_one_slice(&metrics);
    }
    metrics
}

/// Every metric has an interval, and lies in it or near it.
fn has_intervals(metrics: &Value) {
    let intervals = metrics["confidence"]["intervals"].as_object().unwrap_or_else(|| panic!("no intervals in {metrics}"));
    let values = metrics["metrics"].as_object().unwrap();
    for (name, value) in values {
        let (value, low, high) = (value.as_f64().unwrap(), intervals[name]["low"].as_f64().unwrap(), intervals[name]["high"].as_f64().unwrap());
        // Resamples are biased in some measures, such as that of calibration.
        let room = 0.5 * (high - low) + 1e-9;
        assert!(low <= high && low - room <= value && value <= high + room, "{name} is {value}, from {low} to {high}");
    }
    assert_eq!(intervals.len(), values.len() + usize::from(metrics["loss"].is_number()));
}

/// Where all rows have one value, its slice is all of them, and measures the same.
fn has_one_slice(metrics: &Value) {
    let [slice] = metrics["slices"]["origin"].as_array().unwrap().as_slice() else { panic!("not one slice: {metrics}") };
    assert_eq!((&slice["value"], &slice["rows"]), (&"made up".into(), &metrics["rows"]));
    let near = |a: &Value, b: &Value| (a.is_null() && b.is_null()) || (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-9;
    let (whole, part) = (metrics["metrics"].as_object().unwrap(), slice["metrics"].as_object().unwrap());
    assert!(near(&metrics["loss"], &slice["loss"]), "{metrics}");
    assert!(whole.keys().eq(part.keys()) && whole.iter().all(|(name, value)| near(value, &part[name])), "{metrics}");
    assert_eq!(slice["confidence"], metrics["confidence"]["intervals"]);
}

/// What libtorch says of the rows (the stage `direct`) is what ONNX Runtime says of them (`predict`).
pub(crate) fn runtimes_agree(project: &Project, texts: &[&str], numbers: &[&str]) {
    let of = |stage: &str| Table::read(&project.artifact(stage).join("predictions.parquet"));
    let (onnx, torch) = (of("predict"), of("direct"));
    assert_eq!((&onnx.columns, onnx.rows()), (&torch.columns, torch.rows()));
    for column in texts {
        assert_eq!(onnx.strings(column), torch.strings(column), "{column}");
    }
    for column in numbers {
        for (a, b) in onnx.floats(column).into_iter().zip(torch.floats(column)) {
            assert!((a - b).abs() <= 1e-4, "{column}: {a} and {b}");
        }
    }
}

fn metric(metrics: &Value, name: &str) -> f64 {
    metrics["metrics"][name].as_f64().unwrap_or_else(|| panic!("no {name} in {metrics}"))
}

fn predictions(project: &Project) -> (Table, Table) {
    let predictions = Table::read(&project.artifact("predict").join("predictions.parquet"));
    let rows = Table::of_split(&project.artifact("ingest"), "test");
    assert_eq!(predictions.strings("id"), rows.strings("id"));
    (predictions, rows)
}

#[test]
fn words_get_tags_and_entities() {
    let project = example("entities");
    let metrics = run(&project, SMALL, 4, &[]);
    assert_eq!(metrics["task"], "token-classification");
    assert!(metric(&metrics, "f1") > 0.5, "{metrics}");
    let config = read_json(&project.artifact("train").join("config.json"));
    assert_eq!(config["architectures"][0], "BertForTokenClassification");
    let (predictions, rows) = predictions(&project);
    assert_eq!(predictions.columns, ["id", "tags", "scores", "entities"]);
    assert_eq!(predictions.lengths("tags"), rows.lengths("tokens"), "a tag for every word");
    assert!(predictions.lengths("entities").iter().any(|&entities| entities > 0));
    runtimes_agree(&project, &["id"], &[]);
    let direct = Table::read(&project.artifact("direct").join("predictions.parquet"));
    assert_eq!((direct.lists_of_texts("tags"), direct.lengths("entities")), (predictions.lists_of_texts("tags"), predictions.lengths("entities")));
    let scores = [&direct, &predictions].map(|table| table.lists_of_floats("scores").concat());
    assert!(scores[0].iter().zip(&scores[1]).all(|(a, b)| (a - b).abs() <= 1e-4));
}

#[test]
fn texts_get_any_number_of_classes() {
    let project = example("topics");
    let metrics = run(&project, SMALL, 6, &[]);
    assert!(metric(&metrics, "f1_micro") > 0.5, "{metrics}");
    assert_eq!(read_json(&project.artifact("train").join("config.json"))["problem_type"], "multi_label_classification");
    let (predictions, _) = predictions(&project);
    assert_eq!(predictions.columns, ["id", "labels", "prob_billing", "prob_delivery", "prob_hardware", "prob_software"]);
    let probable: Vec<usize> = ["billing", "delivery", "hardware", "software"]
        .map(|class| predictions.floats(&format!("prob_{class}")))
        .into_iter()
        .map(|column| column.into_iter().map(|probability| usize::from(probability > 0.5)).collect::<Vec<_>>())
        .reduce(|sum, column| sum.iter().zip(column).map(|(a, b)| a + b).collect())
        .unwrap();
    assert_eq!(predictions.lengths("labels"), probable);
    runtimes_agree(&project, &["id"], &["prob_billing", "prob_delivery", "prob_hardware", "prob_software"]);
}

#[test]
fn pairs_get_a_number() {
    let project = example("scores");
    let metrics = run(&project, SMALL, 2, &[]);
    assert_eq!(metrics["loss"], metrics["metrics"]["mse"]);
    let config = read_json(&project.artifact("train").join("config.json"));
    assert_eq!((&config["problem_type"], &config["id2label"]["0"]), (&"regression".into(), &"LABEL_0".into()));
    let (predictions, _) = predictions(&project);
    assert_eq!(predictions.columns, ["id", "value"]);
    assert!(predictions.floats("value").iter().all(|value| value.is_finite()));
    runtimes_agree(&project, &["id"], &["value"]);
}

#[test]
fn questions_get_the_words_of_their_context() {
    let project = example("questions");
    let metrics = run(&project, SMALL, 4, &[]);
    assert!(metrics["metrics"]["NoAns_exact"].is_number() && metric(&metrics, "f1") > 10.0, "{metrics}");
    let tokens = Table::of_split(&project.artifact("tokenize"), "train");
    assert!(tokens.rows() > Table::of_split(&project.artifact("ingest"), "train").rows(), "long contexts are several windows");
    let (predictions, rows) = predictions(&project);
    assert_eq!(predictions.columns, ["id", "answer", "start", "end", "score"]);
    runtimes_agree(&project, &["id", "answer"], &["score"]);
    let ends = predictions.integers("start").into_iter().zip(predictions.integers("end"));
    for ((answer, context), ends) in predictions.strings("answer").iter().zip(rows.strings("context")).zip(ends) {
        let (Some(start), Some(end)) = ends else {
            assert!(answer.is_empty());
            continue;
        };
        let said: String = context.chars().skip(start as usize).take((end - start) as usize).collect();
        assert_eq!(*answer, said, "offsets are characters of the context");
    }
    // Where the answers stand is where training is told they do.
    let offsets = tokens.lists("offsets");
    let (starts, stops) = (tokens.integers("start_position"), tokens.integers("end_position"));
    let mut contexts = std::collections::BTreeMap::new();
    let mut wanted = std::collections::BTreeMap::new();
    let train = Table::of_split(&project.artifact("ingest"), "train");
    for ((id, context), (texts, _)) in train.strings("id").into_iter().zip(train.strings("context")).zip(train.answers("answers")) {
        contexts.insert(id.clone(), context);
        wanted.insert(id, texts);
    }
    let mut found = std::collections::BTreeSet::new();
    for (at, id) in tokens.strings("id").into_iter().enumerate() {
        let (start, stop) = (starts[at].unwrap() as usize, stops[at].unwrap() as usize);
        if stop == 0 {
            continue;
        }
        let (from, to) = (offsets[at][2 * start] as usize, offsets[at][2 * stop + 1] as usize);
        let text: String = contexts[&id].chars().skip(from).take(to - from).collect();
        assert_eq!(wanted[&id], [text], "{id}");
        found.insert(id);
    }
    assert!(wanted.iter().all(|(id, texts)| texts.is_empty() || found.contains(id)), "each answer is whole in some window");
}

#[test]
fn a_language_model_is_tuned_exported_and_writes() {
    let project = example("instruct");
    let short = ["predict", "direct"].map(|stage| format!("{stage}.with.generation.max_new_tokens=8"));
    let kept = ["predict", "direct"].map(|stage| format!("{stage}.with.keep_columns=[origin]"));
    let mut more = vec!["--set", "texts.with.gate={}", "--set", "texts.with.by=[origin]", "--set", "texts.with.confidence={n_resamples: 40}"];
    short.iter().chain(&kept).for_each(|set| more.extend(["--set", set.as_str()]));
    let metrics = run(&project, SMALL_DECODER, 3, &more);
    assert!((metric(&metrics, "perplexity") - metrics["loss"].as_f64().unwrap().exp()).abs() < 1e-9);
    let state = read_json(&project.artifact("train").join("trainer_state.json"));
    let losses: Vec<f64> = state["log_history"].as_array().unwrap().iter().filter_map(|row| row["eval_loss"].as_f64()).collect();
    assert!(losses.len() >= 2 && losses[losses.len() - 1] < 0.7 * losses[0], "{losses:?}");
    let packed = Table::of_split(&project.artifact("tokenize"), "train");
    assert!(packed.rows() * 2 < Table::of_split(&project.artifact("ingest"), "train").rows(), "rows share one");
    let (predictions, rows) = predictions(&project);
    assert_eq!(predictions.columns, ["id", "text", "finish_reason", "tokens", "reference", "origin"]);
    assert_eq!(predictions.strings("reference"), rows.strings("completion"));
    assert_eq!(predictions.strings("origin"), rows.strings("origin"));
    runtimes_agree(&project, &["id", "text", "finish_reason", "reference", "origin"], &[]);
    let direct = Table::read(&project.artifact("direct").join("predictions.parquet"));
    assert_eq!(predictions.integers("tokens"), direct.integers("tokens"));
    let texts = read_json(&project.artifact("texts").join("metrics.json"));
    for name in ["bleu", "rougeL", "chrf", "exact_match"] {
        assert!(texts["metrics"][name].is_number(), "{texts}");
    }
    has_intervals(&texts);
    has_one_slice(&texts);
}

#[test]
fn chats_are_learned_as_their_template_writes_them() {
    let project = Project::new();
    let chat = |question: usize| {
        serde_json::json!({"messages": [
            {"role": "user", "content": format!("count {question}")}, {"role": "assistant", "content": format!("that is {question}")},
        ]})
        .to_string()
    };
    project.write("chats.jsonl", (0..60).map(|at| chat(at) + "\n").collect::<String>());
    project.write("pipeline.yaml", CHATS);
    project.run(&["tokenize"]).code(0);
    let tokens = Table::of_split(&project.artifact("tokenize"), "train");
    let tokenizer = read_json(&project.artifact("tokenize").join("tokenizer/tokenizer.json"));
    let words: std::collections::BTreeMap<i32, String> =
        tokenizer["model"]["vocab"].as_object().unwrap().iter().map(|(word, id)| (id.as_i64().unwrap() as i32, word.clone())).collect();
    for (ids, labels) in tokens.lists("input_ids").iter().zip(tokens.lists("labels")) {
        let text = |ids: &mut dyn Iterator<Item = i32>| ids.map(|id| words[&id].trim_start_matches("##").to_owned()).collect::<String>();
        let all = text(&mut ids.iter().copied());
        let learned = text(&mut labels.iter().copied().filter(|label| *label != -100));
        // Signs that the trained tokenizer has not are `[UNK]`.
        let (_, after) = all.split_once("count").unwrap();
        let number = after.split_once('[').unwrap().0;
        assert_eq!(learned, format!("thatis{number}[UNK][UNK]s[UNK]"), "the answer and what ends it, of {all}");
        assert!(ids.iter().zip(&labels).all(|(id, label)| *label == -100 || id == label));
    }
    project.edit("completion_only_loss: true", "completion_only_loss: false");
    project.run(&["tokenize"]).code(0);
    let tokens = Table::of_split(&project.artifact("tokenize"), "train");
    assert_eq!(tokens.lists("input_ids"), tokens.lists("labels"));
    // A tokenizer that knows no template, and none in the settings.
    project.edit(", chat_template: \"{% for m in messages %}<{{ m.role }}> {{ m.content }} </s> {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}\"", "");
    project.run(&["tokenize"]).fails(12, &["no chat template", "chat_template"]);
}

const CHATS: &str = r#"
version: 1
name: chats
stages:
  ingest: { uses: ingest, with: { source: { paths: [chats.jsonl] }, columns: { messages: messages }, split: { train: 0.8, validation: 0.1, test: 0.1 } } }
  tokenize: { uses: tokenize, from: ingest, with: { tokenizer: { train_tokenizer: { vocab_size: 200 } }, max_length: 64, completion_only_loss: true, chat_template: "{% for m in messages %}<{{ m.role }}> {{ m.content }} </s> {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}" } }
"#;

#[test]
fn chats_are_answered_and_held_against_what_was_said() {
    let project = Project::new();
    // Every third chat ends with a question, so that nobody knows its answer.
    let chat = |at: usize| {
        let mut turns = vec![serde_json::json!({"role": "user", "content": format!("count {at}")})];
        if !at.is_multiple_of(3) {
            turns.push(serde_json::json!({"role": "assistant", "content": format!("that is {at}")}));
        }
        serde_json::json!({"nr": format!("chat-{at}"), "messages": turns}).to_string() + "\n"
    };
    project.write("chats.jsonl", (0..90).map(chat).collect::<String>());
    let rest = r#"  train: { uses: train, from: tokenize, with: { model: { config: { model_type: llama, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 32, max_position_embeddings: 64 } }, max_steps: 2 } }
  export: { uses: export, from: [train, tokenize.validation] }
  predict: { uses: predict, from: [export, ingest.test], with: { generation: { max_new_tokens: 4 } } }
  texts: { uses: evaluate, from: predict, with: { of: predictions } }
  evaluate: { uses: evaluate, from: [train, tokenize.test], with: { by: [origin], confidence: { n_resamples: 20 } } }
"#;
    project.write(
        "pipeline.yaml",
        CHATS
            .replace("{ messages: messages }", "{ id: nr, messages: messages, extra: { origin: { value: made up } } }")
            .replace("max_length: 64", "max_length: 64, max_skipped_ratio: 0.6, keep_columns: [origin]")
            + rest,
    );
    project.run(&[]).code(0);
    let (predictions, _) = predictions(&project);
    let references = predictions.strings("reference");
    for (id, reference) in predictions.strings("id").iter().zip(&references) {
        let at: usize = id.trim_start_matches("chat-").parse().unwrap();
        assert_eq!(*reference, if at.is_multiple_of(3) { String::new() } else { format!("that is {at}") });
    }
    let metrics = read_json(&project.artifact("evaluate").join("metrics.json"));
    has_intervals(&metrics);
    has_one_slice(&metrics);
    let texts = read_json(&project.artifact("texts").join("metrics.json"));
    assert_eq!(texts["rows"], references.iter().filter(|reference| !reference.is_empty()).count());
}

#[test]
fn metrics_and_settings_of_another_task_are_refused_before_anything_runs() {
    let project = example("scores");
    project
        .pipe(&["validate", "pipeline.yaml", "--set", "evaluate.with.gate={f1_macro: '>= 0.5'}"])
        .fails(2, &["`f1_macro`, which is not measured for regression", "pearson"]);
    project.pipe(&["validate", "pipeline.yaml", "--set", "tokenize.with.packing=true"]).fails(2, &["`packing` is for the task causal-lm"]);
}

#[test]
fn rows_that_nothing_can_be_learned_of_are_named_and_too_many_end_the_stage() {
    let project = Project::new();
    let row = |at: usize| {
        // Every fifth prompt leaves no room.
        let prompt = if at.is_multiple_of(5) { "long ".repeat(80) } else { "short ".to_owned() };
        serde_json::json!({"nr": format!("row-{at}"), "prompt": prompt + &at.to_string(), "completion": " yes"}).to_string() + "\n"
    };
    project.write("rows.jsonl", (0..100).map(row).collect::<String>());
    project.write(
        "pipeline.yaml",
        CHATS.replace("chats.jsonl", "rows.jsonl").replace("{ messages: messages }", "{ id: nr, prompt: prompt, completion: completion }"),
    );
    project.run(&["tokenize"]).fails(12, &["leave nothing to learn", "row-", "max_skipped_ratio"]);
    let outcome = project.run(&["tokenize", "--set", "tokenize.with.max_skipped_ratio=0.5"]).code(0);
    assert!(outcome.stderr.contains("left out"), "{}", outcome.stderr);
    let report = read_json(&project.artifact("tokenize").join("report.json"));
    let skipped: u64 = report["splits"].as_object().unwrap().values().map(|split| split["skipped_rows"].as_u64().unwrap_or(0)).sum();
    assert_eq!(skipped, 20);
}

#[test]
fn bad_rows_of_each_task_are_rejected_with_their_reason() {
    let cases = [
        ("{ tokens: a, tags: b }", r#"{"a": ["x", "y"], "b": ["O"]}"#, r#"{"a": ["x", "y"], "b": ["O", "B-Z"]}"#, "misaligned_tags"),
        (
            "{ question: q, context: c, answers: a }",
            r#"{"q": "who", "c": "Ann ran", "a": {"text": ["Bob"], "answer_start": [0]}}"#,
            r#"{"q": "who", "c": "Ann ran", "a": {"text": ["Ann"], "answer_start": [0]}}"#,
            "invalid_answers",
        ),
        (
            "{ question: q, context: c, answers: a }",
            r#"{"q": "who", "c": "Ann ran", "a": {"text": ["Ann"], "answer_start": [70]}}"#,
            r#"{"q": "who", "c": "Ann ran", "a": {"text": ["Ann"], "answer_start": [0]}}"#,
            "invalid_answers",
        ),
        ("{ prompt: q, completion: c }", r#"{"q": "who", "c": " "}"#, r#"{"q": "who", "c": "Ann"}"#, "empty_text"),
        ("{ text: q, value: v }", r#"{"q": "who", "v": "much"}"#, r#"{"q": "who", "v": 2.5}"#, "wrong_type"),
    ];
    for (columns, bad, good, reason) in cases {
        let project = Project::new();
        project.write("rows.jsonl", format!("{bad}\n") + &format!("{good}\n").repeat(40));
        let file = format!(
            "version: 1\nname: bad\nstages:\n  ingest: {{ uses: ingest, with: {{ source: {{ paths: [rows.jsonl] }}, dedup: none, rejects: {{ max_ratio: 0.1 }}, columns: {columns} }} }}\n"
        );
        project.write("pipeline.yaml", file);
        let outcome = project.run(&["ingest"]);
        let outcome = outcome.code(0);
        assert!(outcome.stderr.contains("1 rejected"), "{columns}: {}", outcome.stderr);
        let report = read_json(&project.artifact("ingest").join("report.json"));
        assert_eq!(report["rejected"][reason], 1, "{columns}: {}", report["rejected"]);
    }
}

#[test]
fn tokens_of_another_task_are_refused() {
    let project = example("topics");
    project
        .run(&["--var", SMALL, "--set", "train.with.task=question-answering"])
        .fails(2, &["`task` is question-answering", "multi-label-classification"]);
    let project = example("topics");
    project
        .run(&["tokenize", "--var", SMALL, "--set", "evaluate.with={}", "--set", "tokenize.with.task=token-classification"])
        .fails(2, &["no column `tokens`"]);
    // An encoder sees what it would have to predict.
    let project = example("instruct");
    project.run(&["train", "--var", SMALL]).fails(2, &["no causal language model"]);
}
