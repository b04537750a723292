//! `pipe init`: from a data file and a model folder to a pipeline that runs, and what a newcomer gets wrong.

use crate::project::{Outcome, Project, fixtures};
use crate::sample;
use crate::table::write_strings;

/// A project with data and model, and no pipeline file yet.
fn newcomer() -> Project {
    let project = Project::new();
    std::fs::remove_file(project.path("pipeline.yaml")).unwrap();
    project
}

fn init(project: &Project, arguments: &[&str]) -> Outcome {
    let outcome = project.pipe(&[&["init"], arguments].concat());
    sample::assert_quotes_no_row(&outcome.stdout);
    sample::assert_quotes_no_row(&outcome.stderr);
    outcome
}

#[test]
fn a_written_pipeline_runs_to_the_end() {
    let project = newcomer();
    init(&project, &["tweets.csv"]).code(0).prints(&[
        "tweets.csv: 241 records, mac-roman",
        "text       text",
        "label      sentiment (3 classes)",
        "next: pipe run pipeline.yaml",
    ]);
    let text = std::fs::read_to_string(project.path("pipeline.yaml")).unwrap();
    sample::assert_quotes_no_row(&text);
    for label in ["negative", "neutral", "positive"] {
        assert!(!text.contains(label), "a label's name is in the file");
    }
    assert!(!text.contains("yaml-language-server"), "there is no schema beside it");
    project.pipe(&["validate", "pipeline.yaml"]).code(0).prints(&["ingest → tokenize → train → evaluate → export → predict"]);
    project.run(&["--set", "train.with.max_steps=2", "--set", "train.with.device=cpu", "--set", "train.with.torch_threads=1"]).code(0);
    assert!(project.path("out/tweets/model/model.onnx").is_file());
    assert!(project.path("out/tweets/predictions/predictions.parquet").is_file());

    // A second one scores with what the first one made.
    init(&project, &["new-rows.csv", "--model", "out/tweets/model", "--output", "score.yaml"]).code(0).prints(&["id         id", "scored with"]);
    project.pipe(&["validate", "score.yaml"]).code(0).prints(&["ingest → predict"]);
    project.pipe(&["run", "score.yaml", "--log-format", "text"]).code(0);
    assert!(project.path("out/new-rows/predictions/predictions.parquet").is_file());
}

#[test]
fn what_is_left_out_is_looked_for() {
    let project = newcomer();
    init(&project, &[]).fails(2, &["more than one data file", "new-rows.csv, tweets.csv", "pipe init data.csv"]);
    std::fs::create_dir(project.path("data")).unwrap();
    std::fs::rename(project.path("tweets.csv"), project.path("data/tweets.csv")).unwrap();
    std::fs::remove_file(project.path("new-rows.csv")).unwrap();
    std::fs::create_dir(project.path("flows")).unwrap();
    init(&project, &["--output", "flows/mine.yaml"]).code(0);
    let text = std::fs::read_to_string(project.path("flows/mine.yaml")).unwrap();
    assert!(text.contains("\"../data/tweets.csv\"") && text.contains("base: \"../model\""), "{text}");
    project.pipe(&["run", "flows/mine.yaml", "ingest", "--log-format", "text"]).code(0);
    std::fs::remove_file(project.path("data/tweets.csv")).unwrap();
    init(&project, &[]).fails(12, &["no data file", "pipe init data.csv"]);
}

#[test]
fn a_schema_beside_the_file_is_named() {
    let project = newcomer();
    let schema = project.pipe(&["schema"]).code(0).stdout;
    project.write("schema.json", schema);
    init(&project, &["tweets.csv"]).code(0);
    assert!(std::fs::read_to_string(project.path("pipeline.yaml")).unwrap().starts_with("# yaml-language-server: $schema=schema.json\n"));
}

#[test]
fn a_pipeline_file_is_not_overwritten_unasked() {
    let project = newcomer();
    project.write("pipeline.yaml", "mine");
    init(&project, &["tweets.csv"]).fails(2, &["pipeline.yaml is there already", "--force", "--output"]);
    assert_eq!(std::fs::read(project.path("pipeline.yaml")).unwrap(), b"mine");
    init(&project, &["tweets.csv", "--force"]).code(0);
    project.pipe(&["validate", "pipeline.yaml"]).code(0);
    init(&project, &["tweets.csv", "--output", "nowhere/p.yaml"]).fails(2, &["no folder nowhere"]);
}

#[test]
fn names_of_all_kinds_come_through() {
    let project = newcomer();
    let rows: String = (0..40).map(|at| format!("{at};A day {at} like any other;\"{}\"\n", if at % 2 == 0 { "x" } else { "y" })).collect();
    project.write("da[t]a ${x} \"1\".csv", format!("id;say: \"what\" ${{x}};#label, {{one}}\n{rows}"));
    init(&project, &["da[t]a ${x} \"1\".csv"]).code(0);
    project.pipe(&["run", "pipeline.yaml", "ingest", "--log-format", "text"]).code(0);
    let texts = (0..40).map(|at| format!("Some words {at} that are text")).collect::<Vec<_>>();
    let labels = (0..40).map(|at| format!("class {}", at % 4)).collect();
    write_strings(&project.path("pairs.parquet"), &[("answer", texts.clone()), ("question", texts), ("verdict", labels)]);
    init(&project, &["pairs.parquet", "--output", "pairs.yaml"]).code(0).prints(&["text_pair  answer", "label      verdict (4 classes)"]);
    project.pipe(&["run", "pairs.yaml", "tokenize", "--log-format", "text"]).code(0);
}

#[test]
fn what_a_newcomer_gets_wrong_is_said() {
    let project = newcomer();
    let model_file = |name: &str| project.path("model").join(name);
    project.write("rows.txt", "text,label\n");
    project.write("empty.csv", "");
    project.write("header.csv", "text,label\n");
    project.write("numbers.csv", "a,b\n1,2\n3,4\n");
    project.write("no-header.csv", "x,Some words here\ny,Some words there\n".repeat(20));
    project.write("not.jsonl", "text,label\nSome words,x\n");
    project.write("wide.csv", "text,label\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    project.write("broken.parquet", "PAR1 nothing else");
    for (arguments, words) in [
        (&["tweet.csv"][..], &["there is no file tweet.csv"][..]),
        (&["model"], &["there is no file model", "it is a folder"]),
        (&["rows.txt"], &["cannot tell the format of rows.txt", ".csv, .tsv, .jsonl, .json, .parquet or .arrow"]),
        (&["empty.csv"], &["empty.csv holds no rows"]),
        (&["header.csv"], &["header.csv holds no rows"]),
        (&["numbers.csv"], &["no column of numbers.csv looks like text", "delimiter"]),
        (&["no-header.csv"], &["the first line of no-header.csv looks like a row"]),
        (&["not.jsonl"], &["none of 2 records of not.jsonl can be read"]),
        (&["wide.csv"], &["wide.csv holds no rows"]),
        (&["broken.parquet"], &["broken.parquet is not a readable Parquet file"]),
        (&["new-rows.csv"], &["no column looks like a label", "--model"]),
        (&["tweets.csv", "--model", "modle"], &["there is no folder modle"]),
        (&["tweets.csv", "--model", "."], &["is no model folder: it has no config.json"]),
    ] {
        let outcome = init(&project, arguments).fails(12, words);
        assert!(!outcome.stderr.contains("Some words"), "{}", outcome.stderr);
    }
    std::fs::remove_file(model_file("tokenizer.json")).unwrap();
    init(&project, &["tweets.csv"]).fails(12, &["model cannot turn text into tokens: it has no tokenizer.json"]);
    std::fs::copy(fixtures().join("tiny-bert/tokenizer.json"), model_file("tokenizer.json")).unwrap();
    std::fs::remove_file(model_file("model.safetensors")).unwrap();
    init(&project, &["tweets.csv"]).fails(12, &["model has no weights: it has no model.safetensors"]);
    assert!(!project.path("pipeline.yaml").exists());
}
