//! Rows in, rows out: encodings and rejects, splits that never move, duplicates that never straddle them.

use std::collections::{BTreeMap, BTreeSet};

use crate::project::{PIPELINE, Project, read_json};
use crate::sample;
use crate::table::Table;

const SPLITS: [&str; 3] = ["train", "validation", "test"];

#[test]
fn rows_in_another_encoding_are_rejected_one_by_one() {
    let project = Project::new();
    project.edit("encoding: mac-roman", "encoding: utf-8");
    project.run(&["tokenize"]).code(0);
    let ingest = project.artifact("ingest");
    let report = read_json(&ingest.join("report.json"));
    let expected = sample::counts();
    assert_eq!(report["rows"]["rejected"], expected["rows_not_utf8"]);
    assert_eq!(report["rejected"]["invalid_encoding"], expected["rows_not_utf8"]);
    assert_eq!(report["rows"]["duplicates"], expected["duplicate_rows_among_utf8"]);

    let bad: Vec<sample::Record> = sample::records().into_iter().filter(|record| !record.is_utf8()).collect();
    let rejects = Table::read(&ingest.join("rejects.parquet"));
    assert_eq!(rejects.numbers("record"), bad.iter().map(|record| record.number).collect::<Vec<_>>());
    assert_eq!(rejects.numbers("byte_offset"), bad.iter().map(|record| record.offset as u64).collect::<Vec<_>>());
    assert!(rejects.strings("reason").iter().all(|reason| reason == "invalid_encoding"));
    assert!(rejects.strings("column").iter().all(|column| column == "text"));
    rejects_point_at_their_records(&project, &rejects, &bad);
}

/// The bytes that a reject names are the whole record and nothing else.
fn rejects_point_at_their_records(project: &Project, rejects: &Table, bad: &[sample::Record]) {
    let bytes = std::fs::read(project.path("tweets.csv")).unwrap();
    for ((offset, length), record) in rejects.numbers("byte_offset").into_iter().zip(rejects.numbers("byte_length")).zip(bad) {
        let (start, end) = (offset as usize, (offset + length) as usize);
        assert_eq!(bytes[start - 1], b'\n', "a record begins after a line's end");
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&bytes[start..end]);
        let records: Vec<csv::ByteRecord> = reader.byte_records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0][2], record.text[..]);
    }
}

#[test]
fn offsets_hold_with_the_line_ends_of_windows() {
    let project = Project::new();
    let rows = [&b"text,sentiment\r\nsunny,good\r\n"[..], b"caf\x8e,good\r\nrainy,bad\r\n"].concat();
    project.write("tweets.csv", &rows);
    project.edit("encoding: mac-roman", "encoding: utf-8");
    project.edit("dedup: exact", "dedup: exact\n      rejects: { max_ratio: 0.5 }");
    project.run(&["ingest"]).code(0);
    let rejects = Table::read(&project.artifact("ingest").join("rejects.parquet"));
    assert_eq!(rejects.numbers("record"), [2]);
    let start = rows.windows(3).position(|bytes| bytes == b"caf").unwrap();
    assert_eq!(rejects.numbers("byte_offset"), [start as u64]);
}

#[test]
fn too_many_rejects_fail_and_commit_nothing() {
    let project = Project::new();
    project.edit("encoding: mac-roman", "encoding: utf-8");
    project.edit("dedup: exact", "dedup: exact\n      rejects: { max_ratio: 0.05 }");
    project.run(&[]).fails(12, &["32 of 241 rows were rejected", "invalid_encoding 32", "encoding", "max_ratio"]);
    assert!(project.keys().is_empty());
    project.edit("max_ratio: 0.05", "max_ratio: 0.15");
    project.run(&["ingest"]).code(0);
}

#[test]
fn bad_records_of_every_format_are_counted_by_reason() {
    let project = Project::new();
    let lines = [
        r#"{"text": "sunny day", "sentiment": "good"}"#,
        r#"{"text": 7, "sentiment": "good"}"#,
        r#"{"text": "rainy day", "sentiment": "bad"}"#,
        r#"{"sentiment": "bad"}"#,
        r#"{"text": " ", "sentiment": "bad"}"#,
        r#"{"text": "windy day", "sentiment": null}"#,
        "{ not json",
    ];
    project.write("tweets.jsonl", lines.join("\n"));
    project.edit("paths: [tweets.csv], format: csv, encoding: mac-roman", "paths: [tweets.jsonl]");
    project.edit("dedup: exact", "dedup: exact\n      rejects: { max_ratio: 0.9 }");
    project.run(&["ingest"]).code(0);
    let report = read_json(&project.artifact("ingest").join("report.json"));
    let rows = |name: &str| report["rows"][name].as_u64().unwrap();
    assert_eq!((rows("read"), rows("out"), rows("rejected"), rows("duplicates")), (7, 2, 5, 0));
    for reason in ["wrong_type", "missing_column", "empty_text", "empty_label", "invalid_json"] {
        assert_eq!(report["rejected"][reason], 1, "{reason}");
    }
    let rejects = Table::read(&project.artifact("ingest").join("rejects.parquet"));
    assert_eq!(rejects.numbers("record"), [2, 4, 5, 6, 7]);
    assert_eq!(rejects.numbers("byte_offset")[0], lines[0].len() as u64 + 1);
}

/// A UTF-8 CSV of these labels and texts, and a pipeline that leaves the texts as they are.
fn plain(project: &Project, rows: &[(String, String)]) {
    let mut writer = csv::Writer::from_path(project.path("tweets.csv")).unwrap();
    writer.write_record(["sentiment", "text"]).unwrap();
    for (label, text) in rows {
        writer.write_record([label, text]).unwrap();
    }
    writer.flush().unwrap();
    project.write("pipeline.yaml", PIPELINE.replace("encoding: mac-roman", "encoding: utf-8").replace("policy: standard", "policy: none"));
}

/// Text → the split it is in. Fails for a text in two splits.
fn splits_by_text(project: &Project) -> BTreeMap<String, &'static str> {
    let mut found = BTreeMap::new();
    for split in SPLITS {
        for text in Table::of_split(&project.artifact("ingest"), split).strings("text") {
            let other = found.insert(text.clone(), split);
            assert!(other.is_none_or(|other| other == split), "`{text}` is in {split} and in {}", other.unwrap());
        }
    }
    found
}

#[test]
fn new_rows_move_no_old_row_to_another_split() {
    let project = Project::new();
    let old: Vec<(String, String)> =
        sample::records().into_iter().filter_map(|record| Some((record.label, String::from_utf8(record.text).ok()?))).collect();
    plain(&project, &old);
    project.run(&["ingest"]).code(0);
    let before = splits_by_text(&project);
    assert_eq!(before.values().collect::<BTreeSet<_>>().len(), 3);

    let new: Vec<(String, String)> = (0..50).map(|at| ("neutral".to_owned(), format!("A new row with the number {at}"))).collect();
    plain(&project, &[&new[..25], &old, &new[25..]].concat());
    project.run(&["ingest"]).code(0);
    let after = splits_by_text(&project);
    assert_eq!(after.len(), before.len() + 50);
    for (text, split) in &before {
        assert_eq!(after[text], *split);
    }
    // Another seed splits otherwise.
    project.run(&["ingest", "--set", "ingest.with.split.seed=7"]).code(0);
    assert!(splits_by_text(&project).iter().any(|(text, split)| after[text] != *split));
}

#[test]
fn duplicates_never_straddle_splits() {
    let project = Project::new();
    let rows: Vec<(String, String)> = (0..200).map(|at| (["good", "bad"][at % 2].to_owned(), format!("row {}", at % 40))).collect();
    plain(&project, &rows);
    project.run(&["ingest"]).code(0);
    assert_eq!(splits_by_text(&project).len(), 40);
    project.run(&["ingest", "--set", "ingest.with.dedup=none"]).code(0);
    assert_eq!(splits_by_text(&project).len(), 40);
    let rows: usize = SPLITS.iter().map(|split| Table::of_split(&project.artifact("ingest"), split).rows()).sum();
    assert_eq!(rows, 200);
}
