//! Wrong files and wrong settings: one screen that says what to do, the right exit code, no broken cache, and the next
//! run succeeds once the input is right.

use crate::project::{Outcome, Project, command, pipe};
use crate::table::write_numbers_as_text;

const SOURCE: &str = "paths: [tweets.csv], format: csv, encoding: mac-roman";

/// Asserts that the run fails on an input before anything is committed.
#[track_caller]
fn refuses_input(project: &Project, words: &[&str]) {
    project.run(&[]).fails(12, words);
    assert!(project.keys().is_empty(), "a failed ingest was committed");
}

/// Asserts that the pipeline file is refused before any work is done.
#[track_caller]
fn refuses_file(project: &Project, words: &[&str]) {
    project.run(&[]).fails(2, words);
    assert!(project.keys().is_empty(), "a stage ran before the file was checked");
    project.write("pipeline.yaml", crate::project::PIPELINE);
    project.run(&["ingest"]).code(0);
}

#[test]
fn a_missing_source_file_names_its_neighbour() {
    let project = Project::new();
    std::fs::rename(project.path("tweets.csv"), project.path("tweet.csv")).unwrap();
    refuses_input(&project, &["no file matches `tweets.csv`", "did you mean `tweet.csv`?"]);
    std::fs::rename(project.path("tweet.csv"), project.path("tweets.csv")).unwrap();
    project.run(&["ingest"]).code(0);
}

#[test]
fn a_wrong_column_names_the_nearest_one() {
    let project = Project::new();
    project.edit("text: text", "text: txt");
    refuses_input(&project, &["tweets.csv has no column `txt`", "columns.text", "did you mean `text`?"]);
    project.edit("text: txt", "text: text");
    project.run(&["ingest"]).code(0);
}

#[test]
fn a_source_of_no_use_says_why() {
    let one_class = "sentiment,text\nneutral,The museum opens at nine\nneutral,The museum closes at six\n";
    for (name, content, words) in [
        ("one-class.csv", one_class, &["the label column `sentiment` has only one class in 2 rows", "at least two"][..]),
        ("empty.csv", "", &["empty.csv holds no rows", "complete"]),
        ("header.csv", "sentiment,confidence,text\n", &["header.csv holds no rows", "complete"]),
        ("empty.jsonl", "", &["empty.jsonl holds no rows", "complete"]),
        ("numbers.jsonl", "{\"text\": 5, \"sentiment\": \"a\"}\n", &["1 of 1 rows were rejected", "wrong_type 1", "columns"]),
        ("no-parquet.parquet", "PAR1 nothing else", &["no-parquet.parquet is not a readable Parquet file", "cut short"]),
        ("rows.txt", "text,sentiment\n", &["cannot tell the format of", "rows.txt", "format: csv"]),
    ] {
        let project = Project::new();
        project.write(name, content);
        project.edit(SOURCE, &format!("paths: [{name}]"));
        refuses_input(&project, words);
        // The file is put right: here, by what is known to be good.
        project.edit(&format!("paths: [{name}]"), &format!("paths: [{name}], format: csv, encoding: mac-roman"));
        project.copy_fixture("tweets-sample.csv", name);
        project.run(&["ingest"]).code(0);
    }
}

#[test]
fn a_parquet_column_of_numbers_is_not_text() {
    let project = Project::new();
    write_numbers_as_text(&project.path("rows.parquet"));
    project.edit(SOURCE, "paths: [rows.parquet]");
    refuses_input(&project, &["the column `text` of", "rows.parquet is Int64, not text", "columns.text"]);
    project.edit("paths: [rows.parquet]", SOURCE);
    project.run(&["ingest"]).code(0);
}

#[test]
fn a_typo_in_a_key_is_shown_in_its_place() {
    let project = Project::new();
    project.edit("learning_rate", "learning_rat");
    refuses_file(&project, &["unknown key `learning_rat`", "pipeline.yaml:23:7", "^^^^^^^^^^^^", "did you mean `learning_rate`?"]);
}

#[test]
fn a_value_of_a_wrong_type_is_shown_in_its_place() {
    let project = Project::new();
    project.edit("num_train_epochs: 4", "num_train_epochs: many");
    refuses_file(&project, &["expected a number, found text", "pipeline.yaml:24:25", "num_train_epochs: many", "^^^^"]);
}

#[test]
fn an_unknown_stage_in_from_names_the_nearest_one() {
    let project = Project::new();
    project.edit("from: [train, tokenize.test]", "from: [trian, tokenize.test]");
    refuses_file(&project, &["there is no stage `trian`", "pipeline.yaml:31:12", "did you mean `train`?"]);
}

#[test]
fn an_unknown_split_in_from_is_found_before_any_work() {
    let project = Project::new();
    project.edit("tokenize.test", "tokenize.tset");
    refuses_file(&project, &["tset", "evaluate", "test"]);
}

#[test]
fn a_cycle_is_shown() {
    let project = Project::new();
    project.edit("from: ingest\n", "from: tokenize\n");
    refuses_file(&project, &["cycle", "tokenize ← tokenize", "pipeline.yaml:15:11", "^^^^^^^^"]);
}

#[test]
fn an_unknown_variable_and_a_wrong_override_are_shown() {
    let project = Project::new();
    project.run(&["--set", "train.with.learning_rat=1"]).fails(2, &["unknown key `learning_rat`", "--set", "did you mean `learning_rate`?"]);
    project.run(&["--var", "max_lenght=3"]).fails(2, &["no variable `max_lenght`", "max_length"]);
    project.run(&["--var", "max_length=many"]).fails(2, &["expected an integer", "found text", "max_length", "^"]);
    project.edit("\"${max_length}\"", "\"${max_lenght}\"");
    refuses_file(&project, &["max_lenght", "did you mean `max_length`?", "^"]);
}

#[test]
fn a_missing_pipeline_file_is_named() {
    let project = Project::new();
    project.pipe(&["run", "pipelin.yaml", "--log-format", "text"]).fails(2, &["no pipeline file pipelin.yaml"]);
}

#[test]
fn a_missing_model_folder_is_named() {
    let project = Project::new();
    let run = |code: i32| -> Outcome { project.run(&["--until", "tokenize", "--var", "base=modle"]).code(code) };
    run(12).fails(12, &["there is no folder", "modle", "Hugging Face model folder"]);
    assert_eq!(project.keys().len(), 1, "only ingest can be committed");
    std::fs::rename(project.path("model"), project.path("modle")).unwrap();
    run(0);
}

#[test]
fn a_truncated_model_is_refused() {
    let project = Project::new();
    let weights = std::fs::read(project.path("model/model.safetensors")).unwrap();
    for length in [weights.len() / 2, 4, 0] {
        project.write("model/model.safetensors", &weights[..length]);
        project.run(&[]).fails(12, &["stage `train`", "model.safetensors", "copy it again"]);
        assert_eq!(project.keys().len(), 2, "only ingest and tokenize can be committed");
    }
    project.write("model/model.safetensors", weights);
    project.run(&["train"]).code(0);
    assert_eq!(project.last_run().ran(), ["train"]);
}

#[test]
fn a_gate_that_is_not_met_stops_the_run_every_time() {
    let project = Project::new();
    project.edit("with: { device: cpu, torch_threads: 1 }", "with: { device: cpu, torch_threads: 1, gate: { accuracy: \">= 0.999\" } }");
    for evaluate in ["evaluate ran", "evaluate cached"] {
        project.run(&[]).fails(11, &["stage `evaluate`", "accuracy is 0.", "the gate is >= 0.999", "lower the gate"]);
        assert_eq!(project.last_run().statuses()[3..], [evaluate, "export blocked", "predict blocked"]);
        assert!(!project.path("out").exists(), "published past a gate");
    }
    // A gate is no part of the key.
    project.edit(">= 0.999", ">= 0.5");
    project.run(&[]).code(0);
    assert_eq!(project.last_run().ran(), ["export", "predict"]);
}

#[test]
fn a_machine_without_the_worker_still_ingests_and_tokenizes() {
    let project = Project::new();
    let program = project.path("bin/pipe");
    std::fs::create_dir(project.path("bin")).unwrap();
    // A link where it can be: the program is large. Not a symbolic one, which leads back to the worker.
    if std::fs::hard_link(pipe(), &program).is_err() {
        std::fs::copy(pipe(), &program).unwrap();
    }
    let native = std::env::var_os("PIPE_NATIVE").unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/.native").into());
    let run = |arguments: &[&str]| Outcome::of(command(&program, &project.root).env("PIPE_NATIVE", &native).args(project.run_arguments(arguments)));
    run(&["tokenize"]).code(0);
    run(&[]).fails(10, &["stage `train`", "the training worker", "pipe-train is missing", "cargo build", "--no-train"]);
    assert_eq!(project.keys().len(), 2);
    project.run(&["train"]).code(0);
    assert_eq!(project.last_run().ran(), ["train"]);
}

#[test]
fn brackets_in_a_path_are_no_pattern() {
    let project = Project::new();
    std::fs::create_dir(project.path("br[1]")).unwrap();
    for name in ["tweets.csv", "pipeline.yaml", "tweets (1) [x].csv"] {
        std::fs::copy(project.path(if name.ends_with("csv") { "tweets.csv" } else { name }), project.path("br[1]").join(name)).unwrap();
    }
    for paths in ["tweets*.csv", "tweets (1) [x].csv"] {
        let set = format!("ingest.with.source.paths=[\"{paths}\"]");
        project.pipe(&["run", "br[1]/pipeline.yaml", "ingest", "--set", &set]).code(0);
    }
}

#[test]
fn choices_that_leave_nothing_to_choose_are_refused() {
    let project = Project::new();
    project.run(&["--from", "train", "--until", "tokenize"]).fails(2, &["`tokenize` needs nothing of `train`", "--from comes before --until"]);
    project.run(&["tokenize", "--force", "train"]).fails(2, &["--force train: this run does not get to that stage"]);
    // One that no other stage reads.
    project.edit("  predict:", &format!("  {}:", "t".repeat(300)));
    project.run(&[]).fails(2, &["at most 100 bytes"]);
}

#[test]
fn a_log_that_cannot_be_written_changes_no_exit_code() {
    let project = Project::new();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut wrong = command(pipe(), &project.root);
    wrong.args(["run", "none.yaml", "--log-format", "text"]).stderr(full());
    assert_eq!(wrong.status().unwrap().code(), Some(2));
    // Results are another matter: nobody would know that they are missing.
    let mut schema = command(pipe(), &project.root);
    schema.arg("schema").stdout(full()).stderr(std::process::Stdio::null());
    assert_eq!(schema.status().unwrap().code(), Some(10));
}
