//! Records of every format, from everywhere: what comes out is what was put in, whatever it was wrapped in.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, RecordBatch, StringViewArray};
use serde_json::json;

use crate::project::{Outcome, Project, command, pipe, read_json};
use crate::sample;
use crate::table::Table;

/// Labels and texts, as they come out too: nothing in them is personal.
fn rows() -> Vec<(String, String)> {
    (0..40).map(|at| (["good", "bad"][at % 2].to_owned(), format!("row number {at}, 很好，送货太慢 \"quoted\""))).collect()
}

/// A project of one stage that reads `source` and keeps rows as they are, in one split.
fn project(source: &str) -> Project {
    let project = Project::new();
    let with =
        format!("source: {{ {source} }}\n      columns: {{ text: text, label: sentiment }}\n      scrub: {{ policy: none }}\n      dedup: exact");
    project.write("pipeline.yaml", format!("version: 1\nname: sample\nstages:\n  ingest:\n    uses: ingest\n    with:\n      {with}\n"));
    project
}

fn ingested(project: &Project) -> Vec<(String, String)> {
    let table = Table::of_split(&project.artifact("ingest"), "all");
    table.strings("label").into_iter().zip(table.strings("text")).collect()
}

/// `pipe` with this on its standard input.
fn piped(project: &Project, arguments: &[&str], input: &[u8]) -> Outcome {
    let mut command = command(pipe(), &project.root);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may end before it has read all.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Outcome::new(output.status.code(), text(output.stdout), text(output.stderr))
}

fn json_lines(rows: &[(String, String)]) -> String {
    rows.iter().map(|(label, text)| json!({"text": text, "sentiment": label}).to_string() + "\n").collect()
}

fn csv_text(rows: &[(String, String)]) -> String {
    rows.iter().fold("sentiment,text\n".to_owned(), |all, (label, text)| format!("{all}{label},\"{}\"\n", text.replace('"', "\"\"")))
}

fn gzip(content: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Feather, with strings as pandas writes categories and as polars writes text.
fn write_arrow(path: &Path, rows: &[(String, String)]) {
    let labels: DictionaryArray<Int32Type> = rows.iter().map(|(label, _)| label.as_str()).collect();
    let texts: StringViewArray = rows.iter().map(|(_, text)| Some(text.as_str())).collect();
    let columns = [("sentiment", Arc::new(labels) as ArrayRef), ("text", Arc::new(texts) as ArrayRef)];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = arrow_ipc::writer::FileWriter::try_new(std::fs::File::create(path).unwrap(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
}

#[test]
fn the_same_rows_come_out_of_every_wrapping() {
    let rows = rows();
    let array = json!(rows.iter().map(|(label, text)| json!({"text": text, "sentiment": label})).collect::<Vec<_>>());
    let utf_16: Vec<u8> = format!("\u{feff}{}", csv_text(&rows)).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let gb = encoding(&csv_text(&rows));
    let files: [(&str, Vec<u8>, &str); 6] = [
        ("rows.jsonl.gz", gzip(&json_lines(&rows)), "paths: [rows.jsonl.gz]"),
        ("rows.json", serde_json::to_vec_pretty(&array).unwrap(), "paths: [rows.json]"),
        ("rows.csv", utf_16, "paths: [rows.csv]"),
        ("rows.csv", gb.clone(), "paths: [rows.csv], encoding: gb18030"),
        ("rows.csv", gb, "paths: [rows.csv], encoding: auto"),
        ("rows.jsonl", json_lines(&rows).into_bytes(), "paths: [rows.jsonl], encoding: auto"),
    ];
    for (name, content, source) in files {
        let project = project(source);
        project.write(name, content);
        project.run(&["ingest"]).code(0);
        assert_eq!(ingested(&project), rows, "{source}");
    }
    let project = project("paths: [rows.arrow]");
    write_arrow(&project.path("rows.arrow"), &rows);
    project.run(&["ingest"]).code(0);
    assert_eq!(ingested(&project), rows);
}

/// GB18030 of a text whose only Chinese is that of [`rows`].
fn encoding(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for c in text.chars() {
        match c {
            '很' => bytes.extend([0xba, 0xdc]),
            '好' => bytes.extend([0xba, 0xc3]),
            '，' => bytes.extend([0xa3, 0xac]),
            '送' => bytes.extend([0xcb, 0xcd]),
            '货' => bytes.extend([0xbb, 0xf5]),
            '太' => bytes.extend([0xcc, 0xab]),
            '慢' => bytes.extend([0xc2, 0xfd]),
            ascii => bytes.push(u8::try_from(ascii).unwrap()),
        }
    }
    bytes
}

#[test]
fn standard_input_is_read_once_by_a_run_and_by_nothing_else() {
    let (rows, project) = (rows(), project("paths: [\"-\"], format: jsonl"));
    let lines = json_lines(&rows);
    project.pipe(&["status", "pipeline.yaml"]).code(0).prints(&["the standard input"]);
    let run = |arguments: &[&str]| piped(&project, &project.run_arguments(arguments), lines.as_bytes());
    run(&["ingest", "--dry-run"]).code(0);
    assert!(project.keys().is_empty());
    run(&["ingest"]).code(0);
    assert_eq!(ingested(&project), rows);
    run(&["ingest"]).code(0);
    assert!(project.last_run().ran().is_empty(), "the same input is the same key");
    // Nothing of it stays but the rows themselves.
    for file in crate::project::files_below(&project.cache()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(20).any(|part| part == &lines.as_bytes()[..20]), "{}", file.display());
    }
    piped(&project, &project.run_arguments(&["ingest"]), b"").fails(12, &["the standard input holds no rows"]);
    project.edit("paths: [\"-\"], format: jsonl", "paths: [\"-\"]");
    project.run(&["ingest"]).fails(2, &["the standard input has no name", "format: jsonl"]);
}

#[test]
fn rows_may_stand_in_the_pipeline_file() {
    let project = project("rows: [{ text: \"a fine day\", sentiment: good }, { text: rain, sentiment: bad }, { text: \"很好\", sentiment: 1 }]");
    project.run(&["ingest"]).code(0);
    let row = |label: &str, text: &str| (label.to_owned(), text.to_owned());
    assert_eq!(ingested(&project), [row("good", "a fine day"), row("bad", "rain"), row("1", "很好")]);
    project.run(&["ingest"]).code(0);
    assert!(project.last_run().ran().is_empty());
    project.edit("a fine day", "a grey day");
    project.run(&["ingest"]).code(0);
    assert_eq!(ingested(&project)[0].1, "a grey day");
    project.edit("rows: [", "encoding: gb18030, rows: [");
    project.run(&["ingest"]).fails(2, &["rows written here have no format"]);
}

#[test]
fn a_text_can_be_labelled_by_where_it_is() {
    let project = project("paths: [\"set/*.txt\"], format: lines");
    project.edit("label: sentiment", "label: $stem");
    std::fs::create_dir(project.path("set")).unwrap();
    project.write("set/good.txt", "sunny\n\nwarm, \"mild\"\r\n");
    project.write("set/bad.txt", "rain\n");
    project.run(&["ingest"]).code(0);
    let row = |label: &str, text: &str| (label.to_owned(), text.to_owned());
    let expected = [row("bad", "rain"), row("good", "sunny"), row("good", "warm, \"mild\"")];
    assert_eq!(ingested(&project), expected);
    // Another name is another label, whatever the cache holds of the same lines.
    std::fs::rename(project.path("set/bad.txt"), project.path("set/awful.txt")).unwrap();
    project.run(&["ingest"]).code(0);
    assert_eq!(ingested(&project)[0], row("awful", "rain"));
    // A file each, labelled by its folder.
    project.edit("set/*.txt", "set/*/*");
    project.edit("format: lines", "format: text");
    project.edit("$stem", "$folder");
    for (folder, name, text) in [("good", "1.txt", "one\ntwo\n"), ("bad", "2.txt", "three")] {
        std::fs::create_dir(project.path(&format!("set/{folder}"))).unwrap();
        project.write(&format!("set/{folder}/{name}"), text);
    }
    project.run(&["ingest"]).code(0);
    assert_eq!(ingested(&project), [row("bad", "three"), row("good", "one\ntwo")]);
}

#[test]
fn what_cannot_be_read_says_why() {
    let whole = gzip(&json_lines(&(0..20_000).map(|at| ("good".to_owned(), format!("{at} {}", at * 7919))).collect::<Vec<_>>()));
    let cases: [(&str, &[u8], &str, &[&str]); 5] = [
        ("rows.jsonl.gz", &whole[..whole.len() / 2], "paths: [rows.jsonl.gz]", &["rows.jsonl.gz is cut short", "after record", "copy it again"]),
        ("rows.json", b"{\"text\": \"a\"}\n", "paths: [rows.json]", &["rows.json is no JSON array", "format: jsonl"]),
        ("rows.arrow", b"ARROW1 nothing else", "paths: [rows.arrow]", &["rows.arrow is not a readable Arrow file", "cut short"]),
        ("rows.parquet", &whole, "paths: [rows.parquet]", &["rows.parquet is compressed as a whole", "decompress"]),
        ("rows.csv", b"text,sentiment\na,b\n", "paths: [rows.csv], compression: zstd", &["rows.csv cannot be decompressed", "zstd"]),
    ];
    for (name, content, source, words) in cases {
        let project = project(source);
        project.write(name, content);
        project.run(&["ingest"]).fails(12, words);
        assert!(project.keys().is_empty());
    }
}

#[test]
fn required_and_forbidden_columns_are_looked_for_in_every_file() {
    let project = project("paths: [a.csv, b.jsonl]");
    project.write("a.csv", "text,sentiment,lang\nx,good,en\n");
    project.write("b.jsonl", "{\"text\": \"y\", \"sentiment\": \"bad\", \"phone\": \"1\"}\n");
    project.edit("label: sentiment", "label: sentiment, forbidden: [phone]");
    project.run(&["ingest"]).fails(12, &["b.jsonl has the column `phone`", "columns.forbidden"]);
    project.edit("forbidden: [phone]", "required: [lang]");
    project.run(&["ingest"]).fails(12, &["b.jsonl has no column `lang`", "columns.required"]);
    project.edit(", required: [lang]", "");
    project.run(&["ingest"]).code(0);
    let report = read_json(&project.artifact("ingest").join("report.json"));
    assert_eq!(report["dropped_columns"], json!(["lang", "phone"]));
    sample::assert_quotes_no_row(&report.to_string());
}
