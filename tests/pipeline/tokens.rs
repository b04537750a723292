//! Tokens as configured, and the same scores from the model and from its export.

use crate::project::{Project, read_json};
use crate::table::Table;

#[test]
fn padding_on_disk_is_to_the_longest_that_is_allowed() {
    let project = Project::new();
    project.run(&["tokenize"]).code(0);
    let longest = Table::of_split(&project.artifact("tokenize"), "train").lengths("input_ids");
    project.run(&["tokenize", "--set", "tokenize.with.padding=max_length"]).code(0);
    let padded = Table::of_split(&project.artifact("tokenize"), "train");
    assert!(padded.lengths("input_ids").iter().all(|&length| length == 48));
    assert!(longest.iter().any(|&length| length < 48));
    // What is no padding is as long as before.
    assert_eq!(padded.ones("attention_mask"), longest);
}

#[test]
fn truncated_rows_and_lost_tokens_are_counted() {
    let project = Project::new();
    project.run(&["tokenize"]).code(0);
    let whole = Table::of_split(&project.artifact("tokenize"), "train").lengths("input_ids");
    project.run(&["tokenize", "--var", "max_length=12"]).code(0);
    let counted = read_json(&project.artifact("tokenize").join("report.json"))["splits"]["train"].clone();
    assert_eq!(counted["truncated_rows"], whole.iter().filter(|&&length| length > 12).count());
    assert_eq!(counted["lost_tokens"], whole.iter().map(|&length| length.saturating_sub(12)).sum::<usize>());
    project
        .run(&["tokenize", "--var", "max_length=12", "--set", "tokenize.with.truncation=do_not_truncate"])
        .fails(12, &["more than 12 tokens", "max_length"]);
    // More than the model has positions for.
    project.run(&["tokenize", "--var", "max_length=65"]).fails(2, &["65", "64 positions"]);
}

#[test]
fn an_export_is_evaluated_like_its_model() {
    let project = Project::finished();
    let of_model = read_json(&project.artifact("evaluate").join("metrics.json"));
    project.edit("  predict:", "  check: { uses: evaluate, from: [export, tokenize.test] }\n  predict:");
    project.run(&["check"]).code(0);
    let of_export = read_json(&project.artifact("check").join("metrics.json"));
    assert_eq!(of_export["confusion_matrix"], of_model["confusion_matrix"]);
    assert!((of_export["loss"].as_f64().unwrap() - of_model["loss"].as_f64().unwrap()).abs() < 1e-4);
}

/// As on a machine without libtorch: no stage of the file needs it.
#[test]
fn a_finished_export_is_evaluated_on_new_rows() {
    let project = Project::finished();
    let of_model = read_json(&project.artifact("evaluate").join("metrics.json"));
    let whole = std::fs::read_to_string(project.path("pipeline.yaml")).unwrap();
    let ingest = &whole[whole.find("  ingest:").unwrap()..whole.find("  tokenize:").unwrap()];
    let rest = "  tokenize: { uses: tokenize, from: ingest, with: { tokenizer: out/model, max_length: 48 } }\n  \
                evaluate: { uses: evaluate, from: tokenize.test, with: { model: out/model, gate: { accuracy: \">= 0.5\" } } }\n";
    project.write("check.yaml", format!("version: 1\nname: check\nstages:\n{ingest}{rest}"));
    project.pipe(&["run", "check.yaml", "--log-format", "text"]).code(0);
    let of_export = read_json(&project.artifact("evaluate").join("metrics.json"));
    assert_eq!(of_export["confusion_matrix"], of_model["confusion_matrix"]);
}
