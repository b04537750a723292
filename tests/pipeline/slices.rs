//! Slices and intervals of an evaluation, held against the predictions that a user has.

use serde_json::Value;

use crate::project::{Project, read_json};
use crate::table::Table;
use crate::tasks::runtimes_agree;

const PIPELINE: &str = r#"version: 1
name: slices
stages:
  ingest:
    uses: ingest
    with:
      source: { paths: [rows.jsonl] }
      columns: { text: text, label: mood, extra: { language: {}, size: { type: integer } } }
      split: { train: 0.5, validation: 0.1, test: 0.4, seed: 1 }
  tokenize: { uses: tokenize, from: ingest, with: { tokenizer: model, max_length: 32, keep_columns: [language, size] } }
  train:
    uses: train
    from: tokenize
    with: { model: model, learning_rate: 3.0e-3, num_train_epochs: 1, device: cpu, torch_threads: 1 }
  evaluate:
    uses: evaluate
    from: [train, tokenize.test]
    with: { by: [language, size], confidence: { n_resamples: 500 }, device: cpu, torch_threads: 1 }
  export: { uses: export, from: [train, tokenize.validation] }
  onnx: { uses: evaluate, from: [export, tokenize.test], with: { by: [language], confidence: { n_resamples: 500 }, torch_threads: 1 } }
  predict: { uses: predict, from: [export, ingest.test], with: { keep_columns: [language], threads: 1 } }
  direct: { uses: predict, from: [train, ingest.test], with: { keep_columns: [language], device: cpu, threads: 1 } }
"#;

fn project() -> Project {
    let project = Project::new();
    let row = |at: usize| {
        let (mood, word) = [("good", "thanks"), ("bad", "broken")][at % 2];
        // Some lie, so that not all is learned; every seventh has no language.
        let word = if at.is_multiple_of(5) { "maybe" } else { word };
        let language = if at.is_multiple_of(7) { Value::Null } else { ["en", "de", "fr"][at / 2 % 3].into() };
        serde_json::json!({"text": format!("{word} {at} again"), "mood": mood, "language": language, "size": at % 2 + 1}).to_string() + "\n"
    };
    project.write("rows.jsonl", (0..300).map(row).collect::<String>());
    project.write("pipeline.yaml", PIPELINE);
    project
}

fn metrics(project: &Project, stage: &str) -> Value {
    read_json(&project.artifact(stage).join("metrics.json"))
}

fn interval(metrics: &Value, name: &str) -> (f64, f64) {
    let interval = &metrics["confidence"]["intervals"][name];
    (interval["low"].as_f64().unwrap(), interval["high"].as_f64().unwrap())
}

#[test]
fn slices_are_what_the_predictions_say_and_intervals_are_as_wide_as_theory_has_them() {
    let project = project();
    project.run(&[]).code(0).prints(&["language", "(none)", "95% confidence"]);
    let found = metrics(&project, "evaluate");
    let (predictions, rows) =
        (Table::read(&project.artifact("direct").join("predictions.parquet")), Table::of_split(&project.artifact("ingest"), "test"));
    assert_eq!(predictions.columns.last().unwrap(), "language");
    runtimes_agree(&project, &["id", "label", "language"], &["score", "prob_bad", "prob_good"]);
    let languages = predictions.strings("language");
    assert_eq!(languages, rows.strings("language"));
    let right: Vec<bool> = predictions.strings("label").iter().zip(rows.strings("label")).map(|(a, b)| *a == b).collect();
    let slices = found["slices"]["language"].as_array().unwrap();
    let values: Vec<Option<&str>> = slices.iter().map(|slice| slice["value"].as_str()).collect();
    assert_eq!(values, [None, Some("de"), Some("en"), Some("fr")]);
    for slice in slices {
        // A table has nothing where there is nothing.
        let value = slice["value"].as_str().unwrap_or_default();
        let of_slice: Vec<bool> = right.iter().zip(&languages).filter(|(_, language)| *language == value).map(|(right, _)| *right).collect();
        let accuracy = of_slice.iter().filter(|&&right| right).count() as f64 / of_slice.len() as f64;
        assert_eq!(slice["rows"], of_slice.len());
        assert!((slice["metrics"]["accuracy"].as_f64().unwrap() - accuracy).abs() < 1e-12, "{slice}");
    }
    let sizes: Vec<&str> = found["slices"]["size"].as_array().unwrap().iter().map(|slice| slice["value"].as_str().unwrap()).collect();
    assert_eq!(sizes, ["1", "2"]);
    // The normal approximation of a share.
    let (share, n) = (found["metrics"]["accuracy"].as_f64().unwrap(), right.len() as f64);
    let width = 2.0 * 1.96 * (share * (1.0 - share) / n).sqrt();
    let (low, high) = interval(&found, "accuracy");
    assert!((0.1..0.95).contains(&share), "a share with a spread: {share}");
    assert!(((high - low) / width - 1.0).abs() < 0.2 && low < share && share < high, "{low} to {high}, by theory {width} wide");
    // What ONNX Runtime scores is drawn and sliced alike.
    let onnx = metrics(&project, "onnx");
    assert_eq!(interval(&onnx, "accuracy"), (low, high));
    assert_eq!(onnx["slices"]["language"][1]["metrics"]["accuracy"], slices[1]["metrics"]["accuracy"]);
    // Batches decide nothing, the seed and the level do.
    project.run(&["evaluate", "--set", "evaluate.with.per_device_eval_batch_size=3"]).code(0);
    let others = metrics(&project, "evaluate");
    assert_eq!(others["slices"]["language"][2]["metrics"]["accuracy"], slices[2]["metrics"]["accuracy"]);
    for name in found["metrics"].as_object().unwrap().keys() {
        let ((low, high), (other_low, other_high)) = (interval(&found, name), interval(&others, name));
        assert!((low - other_low).abs() < 1e-5 && (high - other_high).abs() < 1e-5, "{name}: {low} to {high}, {other_low} to {other_high}");
    }
    project.run(&["evaluate", "--set", "evaluate.with.confidence={n_resamples: 500, confidence_level: 0.5}"]).code(0);
    let narrow = interval(&metrics(&project, "evaluate"), "accuracy");
    assert!(low < narrow.0 && narrow.1 < high, "{narrow:?} within {low} to {high}");
}

#[test]
fn a_column_that_is_not_there_or_has_too_many_values_is_refused_with_what_to_do() {
    let project = project();
    project
        .pipe(&["validate", "pipeline.yaml", "--set", "evaluate.with.by=[langage]"])
        .fails(2, &["`by` names the column `langage`, which `tokenize` does not keep", "did you mean `language`?"]);
    project
        .pipe(&["validate", "pipeline.yaml", "--set", "tokenize.with.keep_columns=[language, size, colour]"])
        .fails(2, &["`keep_columns` names the column `colour`, which `ingest` does not have; it has text, label, language, size"]);
    // What a query gives is known once it ran.
    let query = "  query: { uses: sql, from: ingest, with: { query: \"SELECT *, id AS each_one FROM ingest\" } }\n";
    project.write(
        "pipeline.yaml",
        PIPELINE.replace("  tokenize: { uses: tokenize, from: ingest", &format!("{query}  tokenize: {{ uses: tokenize, from: query")),
    );
    project
        .run(&["tokenize", "--set", "tokenize.with.keep_columns=[language, size, colour]"])
        .fails(2, &["`keep_columns` names the column `colour`, which the rows do not have; they have id, text, label, language, size, each_one"]);
    let each = ["evaluate", "--set", "tokenize.with.keep_columns=[language, each_one]", "--set", "evaluate.with.by=[each_one]"];
    project.run(&each).fails(12, &["`by` names the column `each_one`, which has", "at most 100 are told apart"]);
}
