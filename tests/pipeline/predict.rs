//! Scoring rows with a finished model: `pipe predict` on any file, and the nightly pipeline.

use std::path::Path;

use crate::project::{Outcome, Project, entries, fixtures, read_json};
use crate::sample;
use crate::table::{Table, write_strings};

/// Ids and texts of `new-rows.csv`.
fn new_rows() -> (Vec<String>, Vec<String>) {
    let mut reader = csv::Reader::from_path(fixtures().join("new-rows.csv")).unwrap();
    reader.records().map(Result::unwrap).map(|record| (record[0].to_owned(), record[1].to_owned())).unzip()
}

/// `pipe predict MODEL INPUT --output OUT` with arguments for the rest.
fn predict(project: &Project, model: &str, input: &str, arguments: &[&str]) -> Outcome {
    let all = ["predict", model, input, "--output", "scores.parquet", "--threads", "1", "--log-format", "text"];
    project.pipe(&[&all[..], arguments].concat())
}

/// Label and probabilities of every row, which must be those of `ids` in their order.
fn scores(path: &Path, ids: &[String]) -> (Vec<String>, Vec<Vec<f32>>) {
    let table = Table::read(path);
    assert_eq!(table.strings("id"), ids);
    let columns = table.columns.iter().filter(|name| name.starts_with("prob_"));
    (table.strings("label"), columns.map(|name| table.floats(name)).collect())
}

#[test]
fn a_file_of_any_format_gives_the_same_scores() {
    let project = Project::finished();
    let (ids, texts) = new_rows();
    let lines = ids.iter().zip(&texts).map(|(id, text)| serde_json::json!({"id": id, "text": text}).to_string() + "\n");
    project.write("rows.jsonl", lines.collect::<String>());
    write_strings(&project.path("rows.parquet"), &[("text", texts.clone()), ("id", ids.clone())]);
    let all = ["new-rows.csv", "rows.jsonl", "rows.parquet"].map(|input| {
        predict(&project, "out/model", input, &["--id", "id"]).code(0).prints(&["scores.parquet", &format!("{} rows scored", ids.len())]);
        scores(&project.path("scores.parquet"), &ids)
    });
    assert!(all.iter().all(|scores| *scores == all[0]));
    let classes = all[0].0.iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(classes.len(), 3, "an untrained model would name one class");
    // Without an id column, a row is known by its file and number.
    predict(&project, "out/model", "rows.jsonl", &[]).code(0);
    let table = Table::read(&project.path("scores.parquet"));
    assert!(table.strings("id").iter().zip(1..).all(|(id, number)| id.len() > 9 && id.ends_with(&format!("-{number}"))));
    assert_eq!(table.strings("label"), all[0].0);
}

#[test]
fn what_was_scrubbed_in_training_is_scrubbed_in_use() {
    let project = Project::finished();
    let texts = |texts: [&str; 2]| vec![("text", texts.map(str::to_owned).to_vec())];
    write_strings(&project.path("raw.parquet"), &texts(["Awful queue. write to ada@example.com please", "Great song. call 202-555-0111 now"]));
    write_strings(&project.path("clean.parquet"), &texts(["Awful queue. write to <EMAIL> please", "Great song. call <PHONE> now"]));
    let [raw, clean, as_is] = [("raw.parquet", &[][..]), ("clean.parquet", &[]), ("raw.parquet", &["--no-scrub"])].map(|(input, arguments)| {
        predict(&project, "out/model", input, arguments).code(0);
        Table::read(&project.path("scores.parquet")).floats("prob_negative")
    });
    assert_eq!(raw, clean);
    assert_ne!(raw, as_is);
}

#[test]
fn a_wrong_model_or_input_says_what_to_do() {
    let project = Project::finished();
    let trained = project.artifact("train");
    project.copy_fixture("new-rows.csv", "rows.txt");
    project.write("empty.csv", "");
    project.write("header.csv", "id,text\n");
    project.write("latin1.csv", b"text\ncaf\xe9\n");
    for (model, input, arguments, words) in [
        ("out/model", "new-rows.csv", &["--text", "txt"][..], &["new-rows.csv has no column `txt`", "did you mean `text`?"][..]),
        ("out/model", "new-rows.csv", &["--id", "idd"], &["no column `idd`", "did you mean `id`?"]),
        ("out/modle", "new-rows.csv", &[], &["out/modle", "export"]),
        (trained.to_str().unwrap(), "new-rows.csv", &[], &["is a trained model, not an export", "export stage", "model.onnx"]),
        ("model", "new-rows.csv", &[], &["is a trained model, not an export", "export stage"]),
        ("out/model", "rows.txt", &[], &["cannot tell the format of rows.txt", ".csv, .tsv, .jsonl, .json, .parquet or .arrow"]),
        ("out/model", "old-rows.csv", &[], &["there is no file old-rows.csv"]),
        ("out/model", "empty.csv", &[], &["empty.csv holds no rows"]),
        ("out/model", "header.csv", &[], &["header.csv holds no rows"]),
        ("out/model", "latin1.csv", &[], &["1 of 1 rows", "encoding"]),
    ] {
        predict(&project, model, input, arguments).fails(12, words);
    }
    // An output that cannot be written, after all the work.
    project.pipe(&["predict", "out/model", "new-rows.csv", "--output", "out", "--log-format", "text"]).fails(10, &["cannot write out"]);
    let left =
        entries(&project.root).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "parquet" || extension == "part"));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn new_rows_are_scored_nightly_with_a_finished_model() {
    let project = Project::finished();
    let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    std::fs::create_dir(project.path("nightly")).unwrap();
    std::fs::copy(pipelines.join("score.yaml"), project.path("nightly/score.yaml")).unwrap();
    let run = ["run", "nightly/score.yaml", "--var", "model=out/model", "--var", "inbox=new-rows.csv", "--log-format", "text"];
    project.pipe(&run).code(0);
    assert_eq!(project.last_run().ran(), ["ingest", "predict"]);

    let (ids, _) = new_rows();
    let (labels, _) = scores(&project.path("out/score/predictions/predictions.parquet"), &ids);
    predict(&project, "out/model", "new-rows.csv", &["--id", "id"]).code(0);
    assert_eq!(scores(&project.path("scores.parquet"), &ids).0, labels);

    // Scrubbed by the model's own policy, and not known by another name.
    let ingest = project.artifact("ingest");
    let texts = Table::of_split(&ingest, "all").all_texts().join("\n");
    assert!(texts.contains("<EMAIL>"));
    for value in sample::planted("new-rows.csv") {
        assert!(!texts.contains(&value), "{value} is still there");
    }
    let policy = read_json(&project.path("out/model/pipe.json"))["scrub"].clone();
    assert_eq!(read_json(&ingest.join("scrub.json")), policy);

    project.pipe(&run).code(0).prints(&["2 stages up to date"]);
    std::fs::remove_dir_all(project.path("out/model")).unwrap();
    project.pipe(&run).fails(12, &["there is no folder", "out/model", "export"]);
}

#[test]
fn the_example_pipelines_are_valid() {
    let project = Project::new();
    for file in entries(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")) {
        if file.extension().is_some_and(|extension| extension == "yaml") {
            project.pipe(&["validate", file.to_str().unwrap()]).code(0).prints(&["valid"]);
        }
    }
}

#[test]
fn the_input_is_never_the_output() {
    let project = Project::finished();
    let before = std::fs::read(project.path("new-rows.csv")).unwrap();
    let arguments = ["predict", "out/model", "new-rows.csv", "--output", "./new-rows.csv", "--log-format", "text"];
    project.pipe(&arguments).fails(2, &["the output is the input"]);
    assert_eq!(std::fs::read(project.path("new-rows.csv")).unwrap(), before);
}
