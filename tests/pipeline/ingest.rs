//! Roles, extra columns, classes, splits and duplicates, through the binary: what is read is accounted for, and comes out as
//! the settings say, on any number of cores and after a kill.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::project::{Outcome, Project, command, files_below, has_failpoints, pipe, read_json};
use crate::table::Table;

/// A project whose pipeline is an ingest with these settings.
fn project(with: &str) -> Project {
    let project = Project::new();
    let with: String = with.trim().lines().map(|line| format!("      {line}\n")).collect();
    project.write("pipeline.yaml", format!("version: 1\nname: ingest\nstages:\n  ingest:\n    uses: ingest\n    with:\n{with}"));
    project
}

fn lines(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().map(|row| row.to_string() + "\n").collect()
}

fn report(project: &Project) -> Value {
    read_json(&project.artifact("ingest").join("report.json"))
}

/// All parts of a split as one table each.
fn parts(project: &Project, split: &str) -> Vec<Table> {
    files_below(&project.artifact("ingest").join(split)).iter().map(|part| Table::read(part)).collect()
}

fn column(project: &Project, split: &str, name: &str) -> Vec<String> {
    parts(project, split).iter().flat_map(|part| part.strings(name)).collect()
}

const SPLITS: [&str; 3] = ["train", "validation", "test"];

/// Where each value of a column is.
fn splits_of(project: &Project, name: &str) -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut found: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    for split in SPLITS {
        for value in column(project, split, name) {
            found.entry(value).or_default().insert(split);
        }
    }
    found
}

/// Rows with duplicates, near duplicates, groups, times and personal data in them.
fn messy(rows: usize) -> String {
    const SUBJECTS: [&str; 7] = ["order", "parcel", "invoice", "ticket", "refund", "contract", "account"];
    lines((0..rows).map(|at| {
        let body = format!(
            "the {} of customer {} arrived on day {} and nobody had told us about it before we asked twice",
            SUBJECTS[at % 7],
            at / 3,
            at % 11
        );
        let text = if at % 5 == 0 { format!("{body}, write to user{at}@example.com") } else { body };
        json!({"text": text, "label": (["good", "bad", "fair"][at % 3]), "customer": format!("c{}", at % 97), "at": 1_700_000_000 + at * 60})
    }))
}

#[test]
fn the_same_bytes_on_one_two_and_eight_threads_and_after_a_kill() {
    for settings in [
        "dedup: exact\nsplit: { train: 0.8, validation: 0.1, test: 0.1 }",
        "dedup: near\nnear: { action: group }\nsplit: { train: 0.8, validation: 0.1, test: 0.1, by: stratified }",
        "dedup: near\nsplit: { train: 0.6, validation: 0.2, test: 0.2, by: time }",
    ] {
        let mut project = project(&format!(
            "source: {{ paths: [rows.jsonl] }}\ncolumns: {{ text: text, label: label, group: customer, time: at }}\nshard_rows: 100\n{settings}"
        ));
        project.write("rows.jsonl", messy(1500));
        let mut on = |threads: &str, failpoint: Option<&str>| {
            project.cache_dir = Some(project.path(&format!("cache-{threads}-{}", failpoint.is_some())));
            if let Some(failpoint) = failpoint {
                let killed = Outcome::of(command(pipe(), &project.root).env("PIPE_FAILPOINT", failpoint).args(project.run_arguments(&[])));
                assert!(!killed.succeeded(), "it was to be killed");
                assert!(project.keys().is_empty());
            }
            Outcome::of(command(pipe(), &project.root).env("RAYON_NUM_THREADS", threads).args(project.run_arguments(&[]))).code(0);
            project.last_run().artifact("ingest")
        };
        let first = on("1", None);
        assert_eq!(on("2", None), first, "{settings}");
        assert_eq!(on("8", None), first, "{settings}");
        if has_failpoints() {
            assert_eq!(on("2", Some("ingest.part=kill@3")), first, "{settings}");
            assert_eq!(on("1", Some("ingest.shard=kill@5")), first, "{settings}");
        }
    }
}

#[test]
fn every_row_is_accounted_for() {
    let project = project(
        r#"source: { paths: [rows.jsonl] }
columns: { text: text, label: stars, extra: { note: { required: true } } }
labels: { map: { "1": bad, "2": bad, "5": good }, unmapped: filter }
dedup: exact
conflicts: drop
rejects: { max_ratio: 0.5 }"#,
    );
    let row = |text: &str, stars: i64| json!({"text": text, "stars": stars, "note": "n"});
    let rows = [
        row("first", 1),
        row("first", 2), // one class with the one before: a duplicate
        row("second", 1),
        row("second", 5), // two classes: both are left out
        row("third", 5),
        row("fourth", 3), // no class stands for it
        json!({"text": "fifth", "stars": 5}),
        json!({"text": "sixth", "stars": 5, "note": null}),
    ];
    project.write("rows.jsonl", lines(rows) + "{\"text\": \n");
    project.run(&[]).code(0);
    let report = report(&project);
    let expected = json!({"read": 9, "out": 2, "rejected": 3, "duplicates": 1, "near_duplicates": 0, "conflicts": 2, "filtered": 1});
    assert_eq!(report["rows"], expected);
    assert_eq!(report["rejected"], json!({"missing_value": 2, "invalid_json": 1}));
    assert_eq!(report["splits"]["all"]["labels"], json!({"bad": 1, "good": 1}));
    assert_eq!(column(&project, "all", "text"), ["first", "third"]);
    let readable = std::fs::read_to_string(project.artifact("ingest").join("report.md")).unwrap();
    assert!(readable.contains("| read | 9 |") && readable.contains("invalid_json 1"), "{readable}");
}

#[test]
fn groups_and_near_duplicates_stay_in_one_split() {
    let project = project(
        "source: { paths: [rows.jsonl] }\ncolumns: { text: text, label: label, group: customer }\nsplit: { train: 0.6, validation: 0.2, test: 0.2 }",
    );
    project.write("rows.jsonl", messy(1500));
    project.run(&[]).code(0);
    let places = splits_of(&project, "group");
    assert_eq!(places.len(), 97);
    assert!(places.values().all(|splits| splits.len() == 1), "a group straddles two splits");
    assert!(SPLITS.iter().all(|split| places.values().any(|splits| splits.contains(split))));

    // More rows of known groups go to where their group is; new groups move none.
    let more = lines((0..60).map(|at| json!({"text": format!("a late word {at}"), "label": "good", "customer": format!("c{}", at + 60)})));
    project.write("rows.jsonl", messy(1500) + &more);
    project.run(&[]).code(0);
    let after = splits_of(&project, "group");
    assert_eq!(after.len(), 120);
    assert!(places.iter().all(|(group, splits)| after[group] == *splits), "a group moved");
}

#[test]
fn the_latest_rows_test() {
    let project = project(
        "source: { paths: [rows.jsonl] }\ncolumns: { text: text, label: label, time: at }\nsplit: { train: 0.8, validation: 0.1, test: 0.1, by: time }",
    );
    // The oldest rows stand last in the file.
    project.write("rows.jsonl", messy(1000).lines().rev().map(|line| line.to_owned() + "\n").collect::<String>());
    project.run(&[]).code(0);
    let times = |split: &str| -> Vec<i64> { parts(&project, split).iter().flat_map(|part| part.times("time")).collect() };
    let (train, validation, test) = (times("train"), times("validation"), times("test"));
    assert!(train.iter().max() < validation.iter().min() && validation.iter().max() < test.iter().min());
    let rows = report(&project)["rows"]["out"].as_u64().unwrap() as usize;
    assert!(train.len().abs_diff(rows * 8 / 10) <= 1 && test.len().abs_diff(rows / 10) <= 1, "{} of {rows}", train.len());
}

#[test]
fn a_stratified_split_has_every_class_in_its_share() {
    let project = project(
        "source: { paths: [rows.jsonl] }\ncolumns: { text: text, label: label }\nsplit: { train: 0.8, validation: 0.1, test: 0.1, by: stratified }",
    );
    let rows = (0..1030).map(|at| json!({"text": format!("text {at}"), "label": if at < 1000 { "common" } else { "rare" }}));
    project.write("rows.jsonl", lines(rows));
    project.run(&[]).code(0);
    let splits = &report(&project)["splits"];
    let labels: Vec<&Value> = SPLITS.iter().map(|split| &splits[split]["labels"]).collect();
    assert_eq!(labels, [&json!({"common": 800, "rare": 24}), &json!({"common": 100, "rare": 3}), &json!({"common": 100, "rare": 3})]);
}

#[test]
fn given_files_are_splits_and_what_they_share_is_reported() {
    let project = project(
        r#"source: { paths: ["old/*.jsonl", "new/*.jsonl"] }
columns: { text: text, label: label }
dedup: none
split: { by: files, files: { train: ["old/*"], test: ["new/*"] } }"#,
    );
    for folder in ["old", "new"] {
        std::fs::create_dir(project.path(folder)).unwrap();
    }
    let row = |text: &str, label: &str| json!({"text": text, "label": label});
    project.write("old/a.jsonl", lines([row("one", "x"), row("call 415-555-0101", "y"), row("two", "x")]));
    project.write("new/b.jsonl", lines([row("two", "x"), row("call 415-555-0199", "y"), row("three", "x")]));
    project.run(&[]).code(0);
    let report = report(&project);
    assert_eq!((&report["splits"]["train"]["rows"], &report["splits"]["test"]["rows"]), (&json!(3), &json!(3)));
    let overlap = &report["rows_together"]["overlaps"][0];
    assert_eq!((&overlap["texts"]["count"], &overlap["scrubbed"]["count"]), (&json!(1), &json!(2)), "{overlap}");
    assert!(report["warnings"].to_string().contains("equal after scrubbing"), "{}", report["warnings"]);

    // Moving a file to the other split is another output, though no file's content changes.
    std::fs::rename(project.path("new/b.jsonl"), project.path("old/b.jsonl")).unwrap();
    project.run(&[]).fails(12, &["no file matches `new/*.jsonl`"]);
    project.edit(", \"new/*.jsonl\"", "");
    project.run(&[]).fails(12, &["no source file fits `new/*`", "split.files.test"]);
}

#[test]
fn answers_move_with_what_is_scrubbed_before_them() {
    let project = project("source: { paths: [rows.jsonl] }\ncolumns: { question: q, context: c, answers: a }\nrejects: { max_ratio: 0.9 }");
    let context = "Write to somebody@example.com. 你好，The capital is Paris. Call 415-555-0123 at noon.";
    let at = |answer: &str| context[..context.find(answer).unwrap()].chars().count();
    let row = |answer: &str, start: usize| json!({"q": format!("{answer} {start}?"), "c": context, "a": {"text": [answer], "answer_start": [start]}});
    project.write(
        "rows.jsonl",
        lines([
            row("Paris", at("Paris")),
            row("415-555-0123", at("415")),
            row("noon", at("noon")),
            row("Paris", 3),
            row("noon", 5000),
            json!({"q": "none?", "c": context, "a": {"text": [], "answer_start": []}}),
        ]),
    );
    project.run(&[]).code(0);
    assert_eq!(report(&project)["rejected"], json!({"invalid_answers": 2}));
    let clean = "Write to <EMAIL>. 你好，The capital is Paris. Call <PHONE> at noon.";
    assert_eq!(column(&project, "all", "context"), [clean; 4]);
    let answers: Vec<(Vec<String>, Vec<i32>)> = parts(&project, "all").iter().flat_map(|part| part.answers("answers")).collect();
    let found = |answer: &str| (vec![answer.to_owned()], vec![clean[..clean.find(answer).unwrap()].chars().count() as i32]);
    assert_eq!(answers, [found("Paris"), found("<PHONE>"), found("noon"), (vec![], vec![])]);
}

#[test]
fn extra_columns_have_their_types_and_are_scrubbed_in_depth() {
    let project = project(
        r#"source: { paths: [rows.jsonl] }
columns:
  text: text
  extra:
    stars: { type: integer }
    price: { type: float }
    when: { type: time }
    channel: { from: via }
    origin: { value: crm }
    meta: { type: json }
rejects: { max_ratio: 0.6 }"#,
    );
    project.write(
        "rows.jsonl",
        lines([
            json!({"text": "a", "stars": "4", "when": "2024-03-15", "via": "mail", "meta": {"by": "x@example.com", "deep": [{"13812345678": 1}]}, "secret": "s"}),
            json!({"text": "b", "stars": 4.5, "when": null, "via": 7, "meta": null}),
            json!({"text": "c", "via": "13812345678"}),
            json!({"text": "d", "stars": 13812345678u64}),
            json!({"text": "e", "price": 13812345678.0}),
        ]),
    );
    project.run(&[]).code(0);
    let report = report(&project);
    assert_eq!(report["rejected"], json!({"wrong_type": 1, "personal_data": 2}), "{report}");
    assert_eq!(report["dropped_columns"], json!(["secret"]));
    assert_eq!(column(&project, "all", "text"), ["a", "c"]);
    assert_eq!(column(&project, "all", "channel"), ["mail", "<PHONE>"]);
    assert_eq!(column(&project, "all", "origin"), ["crm", "crm"]);
    let meta: Value = serde_json::from_str(&column(&project, "all", "meta")[0]).unwrap();
    assert_eq!(meta, json!({"by": "<EMAIL>", "deep": [{"<PHONE>": 1}]}));
    assert_eq!(parts(&project, "all")[0].times("when")[0], 1_710_460_800_000_000);
}

#[test]
fn columns_that_must_or_must_not_be_there_are_looked_for_first() {
    let project = project("source: { paths: [rows.csv] }\ncolumns: { text: text, required: [branch], forbidden: [ssn] }");
    project.write("rows.csv", "text,ssn\nhello,1\n");
    project.run(&[]).fails(12, &["rows.csv", "`branch`"]);
    project.write("rows.csv", "text,branch,ssn\nhello,1,2\n");
    project.run(&[]).fails(12, &["rows.csv", "`ssn`"]);
    project.write("rows.csv", "text,branch\nhello,1\n");
    project.run(&[]).code(0);
}

#[test]
fn ids_and_classes_that_are_personal_are_refused() {
    let project = project("source: { paths: [rows.csv] }\ncolumns: { text: text, id: who }");
    project.write("rows.csv", "text,who\nhello,jo@example.com\nbye,al@example.com\n");
    project.run(&[]).fails(12, &["2 of 2 rows were rejected", "personal_data 2", "scrub: { columns:"]);
    project.edit("id: who }", "id: who }\n      scrub: { columns: { id: keep } }");
    project.run(&[]).code(0);
    assert_eq!(column(&project, "all", "id"), ["jo@example.com", "al@example.com"]);
}

#[test]
fn listed_keys_are_found_whatever_they_look_like() {
    let project = project("source: { paths: [rows.jsonl] }\ncolumns: { text: text, required: [\"@timestamp\"], forbidden: [\"user#id\"] }");
    project.write("rows.jsonl", lines([json!({"text": "a", "user#id": 1}), json!({"text": "b"})]));
    project.run(&[]).fails(12, &["rows.jsonl", "`@timestamp`"]);
    project.write("rows.jsonl", lines([json!({"text": "a", "@timestamp": 1, "user#id": 1}), json!({"text": "b"})]));
    project.run(&[]).fails(12, &["rows.jsonl", "`user#id`"]);
    project.write("rows.jsonl", lines([json!({"text": "a", "@timestamp": 1}), json!({"text": "b"})]));
    project.run(&[]).code(0);
}

#[test]
fn members_whose_keys_become_one_are_all_there() {
    let project = project("source: { paths: [rows.jsonl] }\ncolumns: { text: text, extra: { meta: { type: json } } }");
    project.write("rows.jsonl", lines([json!({"text": "a", "meta": {"a@example.com": 1, "b@example.com": 2}})]));
    project.run(&[]).code(0);
    assert_eq!(column(&project, "all", "meta"), [r#"{"<EMAIL>":1,"<EMAIL>_2":2}"#]);
}

#[test]
fn what_is_kept_hides_nothing() {
    let project = project("source: { paths: [rows.jsonl] }\ncolumns: { text: text, id: nr }\nscrub: { operators: { url: keep, phone: drop_row } }");
    let row = |nr: &str, text: &str| json!({"nr": nr, "text": text});
    project.write(
        "rows.jsonl",
        lines([row("1", "see https://example.com/u/zhang@example.org now"), row("13812345678", "an id"), row("3", "call 13812345678")]),
    );
    project.run(&[]).code(0);
    let text = column(&project, "all", "text");
    assert!(text.len() == 1 && text[0].starts_with("see https://example.com") && !text[0].contains("zhang"), "{text:?}");
    assert_eq!((&report(&project)["rows"]["filtered"], &report(&project)["rows"]["rejected"]), (&json!(2), &json!(0)));
}

#[test]
fn wrong_settings_are_refused_before_any_work() {
    for (with, words) in [
        ("columns: { text: a, label: a }", &["the column `a` is both"][..]),
        ("columns: { question: q }", &["`question` needs `context`"]),
        ("columns: { extra: { text_pair: {} } }", &["`text_pair` is the name of a role"]),
        ("columns: { forbidden: [text] }", &["asked for and forbidden"]),
        ("labels: { map: { a: b } }", &["no label to map"]),
        ("conflicts: drop", &["no labels that could differ"]),
        ("split: { train: 0.8, test: 0.2, by: stratified }", &["needs classes"]),
        ("split: { train: 0.8, test: 0.2, by: time }", &["needs times"]),
        ("split: { by: files, files: { tset: [\"*\"] } }", &["no split `tset`"]),
        ("scrub: { columns: { txt: keep } }", &["`txt`", "did you mean `text`?"]),
        ("scrub: { columns: { text: drop } }", &["`text` cannot be dropped"]),
        ("columns: { messages: m }\nscrub: { columns: { messages: redact } }", &["`redact` takes whole texts, and `messages` holds none"]),
        ("columns: { question: q, context: c, answers: a }\nscrub: { columns: { context: mask } }", &["`context` cannot be replaced"]),
        ("scrub: { model: m, operators: { phone: keep } }", &["a model's policy is taken as it is"]),
        ("columns: { time: t }\nscrub: { columns: { time: mask } }", &["`mask` takes whole texts, and `time` holds none"]),
    ] {
        let project = project(&format!("source: {{ paths: [tweets.csv] }}\n{with}"));
        project.run(&[]).fails(2, words);
        assert!(!Path::new(&project.cache()).join("keys").exists() || project.keys().is_empty());
    }
}
