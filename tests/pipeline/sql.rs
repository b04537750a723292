//! Queries: the stage `sql` between others, and `pipe sql`, `head` and `describe` over what stages left.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::project::{PIPELINE, Project, command, entries, files_below, pipe, read_json};
use crate::table::Table;

const SPLITS: [&str; 3] = ["test", "train", "validation"];

/// Ingest, tokenize and a query between them that drops one class.
fn queried(sql: &str) -> Project {
    let project = Project::new();
    let (before, after) = PIPELINE.split_at(PIPELINE.find("  tokenize:\n").unwrap());
    let tokenize = &after[..after.find("  train:\n").unwrap()];
    project.write(
        "pipeline.yaml",
        format!("{before}  some:\n    uses: sql\n    from: ingest\n    with: {{ {sql} }}\n{}", tokenize.replace("from: ingest", "from: some")),
    );
    project
}

fn rows_of(project: &Project, stage: &str) -> BTreeMap<String, usize> {
    let artifact = project.artifact(stage);
    SPLITS.iter().map(|split| ((*split).to_owned(), Table::of_split(&artifact, split).rows())).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_query_stands_between_ingest_and_tokenize() {
    let project = queried("query: \"SELECT id, text, label FROM ingest WHERE label <> 'neutral'\"");
    project.run(&[]).code(0);
    let (all, some) = (project.artifact("ingest"), project.artifact("some"));
    for split in SPLITS {
        let (all, some) = (Table::of_split(&all, split), Table::of_split(&some, split));
        assert_eq!(some.columns, ["id", "text", "label"]);
        let labels = all.strings("label");
        let kept = |column: &str| {
            let values = all.strings(column).into_iter().zip(&labels);
            values.filter(|(_, label)| *label != "neutral").map(|(value, _)| value).collect::<Vec<_>>()
        };
        // The order of the input, too.
        assert_eq!((some.strings("id"), some.strings("text")), (kept("id"), kept("text")));
        assert!(some.rows() > 0 && some.rows() < all.rows());
    }
    assert_eq!(std::fs::read(some.join("scrub.json")).unwrap(), std::fs::read(all.join("scrub.json")).unwrap());
    let labels = read_json(&all.join("labels.json")).as_array().unwrap().clone();
    let kept: Vec<Value> = labels.into_iter().filter(|label| label != "neutral").collect();
    assert_eq!(read_json(&some.join("labels.json")), Value::from(kept));
    let report = read_json(&some.join("report.json"));
    assert_eq!(report["splits"]["train"]["rows"], Table::of_split(&some, "train").rows());
    assert_eq!(report["splits"]["train"]["rows_in"], Table::of_split(&all, "train").rows());
    let tokens = project.artifact("tokenize");
    assert_eq!(read_json(&tokens.join("pipe.json"))["scrub"], read_json(&some.join("scrub.json")));
    assert_eq!(rows_of(&project, "tokenize"), rows_of(&project, "some"));

    // Written as everything else: nothing of a value beside the pages.
    let bytes = std::fs::read(&entries(&some.join("train"))[0]).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("pipe") && !text.to_lowercase().contains("polars"));

    project.run(&[]).code(0);
    assert!(project.last_run().ran().is_empty());
    // Another query runs again, and says why.
    project.edit("label <> 'neutral'", "label = 'neutral' OR label = 'positive'");
    project.pipe(&["explain", "pipeline.yaml", "some"]).code(0).prints(&["stale", "with.query"]);
    project.run(&["some"]).code(0);
    assert_eq!(project.last_run().ran(), ["some"]);
}

#[test]
fn the_same_bytes_whatever_the_machine_and_the_order_of_work() {
    let sql = "query: \"SELECT i.label AS id, COUNT(*) AS n, AVG(LENGTH(i.text) / 7.0) AS mean, COUNT(DISTINCT j.id) AS d, FIRST(j.text) AS text \
               FROM ingest i JOIN ingest j ON i.label = j.label GROUP BY i.label\", split: all";
    let mut found = Vec::new();
    for threads in ["1", "8"] {
        let project = queried(sql);
        let mut run = command(pipe(), &project.root);
        run.args(project.run_arguments(&["some"])).env("POLARS_MAX_THREADS", threads).env("POLARS_IDEAL_MORSEL_SIZE", "7");
        assert!(run.status().unwrap().success());
        project.run(&["some", "--force", "some"]).code(0);
        found.push(project.last_run().artifact("some"));
        let table = Table::of_split(&project.artifact("some"), "all");
        assert_eq!(table.columns, ["id", "n", "mean", "d", "text"]);
    }
    assert_eq!(found[0], found[1]);
}

/// The engine's hash tables have random seeds, and in debug builds so few places that every group comes apart.
#[test]
fn sums_of_floats_are_the_same_each_time() {
    let project = Project::new();
    project.run(&["ingest"]).code(0);
    for sql in [
        "SELECT LENGTH(text) % 11 AS k, AVG(LENGTH(text) / 7.0) AS m, STDDEV(LENGTH(text)) AS d, COUNT(*) AS n FROM ingest GROUP BY 1",
        "SELECT label, SUM(LENGTH(text) / 7.0) AS m FROM ingest GROUP BY 1 HAVING SUM(LENGTH(text) / 7.0) > 1 ORDER BY m",
        "SELECT SUM(LENGTH(text) / 7.0) AS m, VARIANCE(LENGTH(text) / 7.0) AS d FROM ingest",
        "SELECT id, SUM(LENGTH(text) / 7.0) OVER (PARTITION BY label) AS m FROM ingest",
        "SELECT i.label, AVG(LENGTH(i.text) / 7.0) AS m FROM ingest i JOIN ingest j ON i.label = j.label GROUP BY i.label",
    ] {
        let said = || project.pipe(&["sql", "pipeline.yaml", sql, "--format", "csv"]).code(0).stdout;
        let first = said();
        assert!(first.lines().count() > 1, "{first}");
        for _ in 0..5 {
            assert_eq!(said(), first, "{sql}");
        }
    }
    // Groups come as their first rows do, with or without floats in them.
    let keys = |aggregate: &str| {
        let sql = format!("SELECT k FROM (SELECT LENGTH(text) % 11 AS k, {aggregate} AS m FROM ingest GROUP BY 1) AS t");
        project.pipe(&["sql", "pipeline.yaml", &sql, "--format", "csv"]).code(0).stdout
    };
    assert_eq!(keys("COUNT(*)"), keys("AVG(LENGTH(text) / 7.0)"));
}

#[test]
fn all_rows_at_once_know_their_split() {
    let project = queried("query: \"SELECT split, COUNT(*) AS id, 'x' AS text FROM ingest GROUP BY split\", split: all");
    project.run(&[]).code(0);
    let table = Table::of_split(&project.artifact("some"), "all");
    let rows = rows_of(&project, "ingest");
    assert_eq!(table.strings("split"), SPLITS);
    assert_eq!(table.strings("id"), SPLITS.map(|split| rows[split].to_string()));
    assert_eq!(Table::of_split(&project.artifact("tokenize"), "all").rows(), 3);
}

#[test]
fn a_wrong_query_is_known_before_anything_runs() {
    let wrong: [(&str, &[&str]); 7] = [
        ("query: \"SELECT id FROM ingest WHERE\"", &["stage `some`", "not valid SQL", "EOF"]),
        ("query: \"SELECT id\\nFORM ingest x\"", &["not valid SQL", "line 2"]),
        ("query: \"SELECT * FROM ingst\"", &["reads `ingst`", "line 1, column 15", "did you mean `ingest`?"]),
        ("query: \"SELECT * FROM tokenize\"", &["not in the `from:`", "add it"]),
        ("query: \"SELECT * FROM ingest.trian\"", &["ingest.trian", "did you mean `train`?"]),
        ("query: \"SELECT * FROM ingest.rejects\"", &["ingest.rejects", "is a report"]),
        ("query: \"SELECT * FROM read_parquet('tweets.parquet')\"", &["only the output of stages can be queried"]),
    ];
    for (sql, words) in wrong {
        let project = queried(sql);
        project.pipe(&["validate", "pipeline.yaml"]).fails(2, words);
        project.run(&[]).fails(2, words);
        assert!(!project.path(".pipe/artifacts").exists());
    }
    queried("split: all").pipe(&["validate", "pipeline.yaml"]).fails(2, &["`query` is missing"]);
    queried("query: \"SELECT 1\", splits: all").pipe(&["validate", "pipeline.yaml"]).fails(2, &["splits"]);
}

#[test]
fn what_does_not_fit_the_rows_is_said_without_a_row() {
    let project = queried("query: \"SELECT id, txet FROM ingest\"");
    project.run(&[]).fails(2, &["stage `some`", "column `txet`", "line 1, column 12", "did you mean `text`?"]);
    project.edit("id, txet", "id, label");
    project.run(&[]).fails(2, &["stage `tokenize`", "no column `text`"]);
    project.edit("id, label", "id, CAST(text AS INT) AS text");
    project.run(&[]).fails(2, &["stage `some`", "TRY_CAST"]);
    project.edit("CAST(text AS INT) AS text", "NULLIF(label, 'neutral') AS text");
    project.run(&[]).fails(12, &["stage `tokenize`", "a row has no `text`", "IS NOT NULL"]);
    // A stage that failed left nothing behind.
    assert!(files_below(&project.path(".pipe/work")).iter().all(|path| !path.ends_with("result.parquet")));
}

#[test]
fn policies_that_differ_do_not_mix() {
    let project = queried("query: \"SELECT id, text FROM ingest UNION ALL SELECT id, text FROM other\"");
    let text = std::fs::read_to_string(project.path("pipeline.yaml")).unwrap();
    let ingest = &text[text.find("  ingest:\n").unwrap()..text.find("  some:\n").unwrap()];
    let other = ingest.replace("  ingest:\n", "  other:\n").replace("standard", "minimal");
    project.write("pipeline.yaml", text.replace("from: ingest", "from: [ingest, other]") + &other);
    project.run(&[]).fails(2, &["stage `some`", "different policies"]);
    project.edit("minimal", "standard");
    project.run(&[]).code(0);
    let (all, some) = (rows_of(&project, "ingest"), rows_of(&project, "some"));
    assert!(SPLITS.iter().all(|split| some[*split] == 2 * all[*split]));
}

#[test]
fn the_command_line_queries_what_is_there() {
    let project = Project::new();
    let sql = |query: &str, rest: &[&str]| project.pipe(&[&["sql", "pipeline.yaml", query], rest].concat());
    sql("SELECT * FROM ingest", &[]).fails(12, &["`ingest` has no output yet", "pipe run pipeline.yaml ingest"]);
    project.edit("encoding: mac-roman", "encoding: utf-8");
    project.run(&["tokenize"]).code(0);
    let artifact = project.artifact("ingest");
    let train = Table::of_split(&artifact, "train");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    train.strings("label").into_iter().for_each(|label| *counts.entry(label).or_default() += 1);

    let query = "SELECT label, count(*) AS n FROM ingest.train GROUP BY 1 ORDER BY 1";
    let csv: String = counts.iter().map(|(label, rows)| format!("{label},{rows}\n")).collect();
    assert_eq!(sql(query, &["--format", "csv"]).code(0).stdout, format!("label,n\n{csv}"));
    let rows = json(&sql(query, &["--format", "json"]).code(0).stdout);
    assert_eq!(rows.as_array().unwrap().len(), counts.len());
    assert!(rows.as_array().unwrap().iter().all(|row| row["n"] == counts[row["label"].as_str().unwrap()]));
    let lines = sql(query, &["--format", "jsonl", "--limit", "1"]).code(0).stdout;
    assert_eq!(json(&lines)["label"].as_str(), counts.keys().next().map(String::as_str));
    let table = sql(query, &[]).code(0).stdout;
    assert_eq!(table.lines().count(), 1 + counts.len());
    assert!(table.starts_with("label"), "{table}");
    assert_eq!(sql("SELECT 1 AS a FROM ingest WHERE FALSE", &["--format", "csv"]).code(0).stdout, "a\n");
    assert_eq!(sql("SELECT 1 AS a FROM ingest WHERE FALSE", &["--format", "json"]).code(0).stdout, "[]\n");

    // Every Parquet file of the pipeline is a table.
    let rejects = Table::read(&artifact.join("rejects.parquet"));
    assert!(rejects.rows() > 0);
    assert_eq!(json(&sql("SELECT COUNT(*) AS n FROM ingest.rejects", &["--format", "jsonl"]).code(0).stdout)["n"], rejects.rows());
    let tokens = json(&sql("SELECT input_ids, split FROM tokenize LIMIT 1", &["--format", "jsonl"]).code(0).stdout);
    assert!(tokens["input_ids"].as_array().is_some_and(|ids| ids.len() > 2 && ids.iter().all(Value::is_u64)));
    let joined = "SELECT COUNT(*) AS n FROM ingest.train i JOIN tokenize t ON i.id = t.id";
    assert_eq!(json(&sql(joined, &["--format", "jsonl"]).code(0).stdout)["n"], train.rows());

    sql("SELECT * FROM ingest.nothing", &[]).fails(2, &["no table `nothing`", "line 1, column 15"]);
    sql("SELECT * FROM ingets", &[]).fails(2, &["no stage `ingets`", "did you mean `ingest`?"]);
    sql("SELECT lable FROM ingest", &[]).fails(2, &["did you mean `label`?"]);
    sql("SELECT * FROM 'tweets.csv'", &[]).fails(2, &["only the output of stages"]);
    sql("SELECT CAST(text AS INT) FROM ingest", &[]).fails(2, &["TRY_CAST"]);
    sql("SELECT * FROM train", &[]).fails(12, &["`train` has no output yet"]);

    // What is stale is read all the same, and said to be.
    project.edit("dedup: exact", "dedup: none");
    let last = sql(query, &["--format", "csv"]).code(0);
    assert_eq!(last.stdout, format!("label,n\n{csv}"));
    assert!(last.stderr.contains("`ingest` is stale (with.dedup"), "{}", last.stderr);
}

#[test]
fn head_and_describe_show_a_stage() {
    let project = Project::new();
    project.run(&["tokenize"]).code(0);
    let artifact = project.artifact("ingest");
    let train = Table::of_split(&artifact, "train");
    let head = project.pipe(&["head", "pipeline.yaml", "ingest.train", "-n", "3", "--format", "csv"]).code(0).stdout;
    let ids: Vec<&str> = head.lines().skip(1).filter_map(|line| line.split(',').next()).take(1).collect();
    assert_eq!(ids, [&train.strings("id")[0]]);
    assert_eq!(project.pipe(&["head", "pipeline.yaml", "ingest"]).code(0).stdout.lines().count(), 11);
    project.pipe(&["head", "pipeline.yaml", "tokenize"]).code(0).prints(&["input_ids", "split", "[2, "]);
    project.pipe(&["head", "pipeline.yaml", "ingest.rejects"]).code(0).prints(&["byte_offset"]);
    project.pipe(&["head", "pipeline.yaml", "ingest."]).fails(2, &["names no stage"]);

    let facts = json(&project.pipe(&["describe", "pipeline.yaml", "ingest", "--json"]).code(0).stdout);
    assert_eq!(facts["artifact"], project.last_run().artifact("ingest"));
    let split = facts["splits"].as_array().unwrap().iter().find(|split| split["split"] == "train").unwrap();
    assert_eq!((&split["rows"], facts["splits"].as_array().unwrap().len()), (&Value::from(train.rows()), 3));
    let column = |name: &str| split["columns"].as_array().unwrap().iter().find(|column| column["name"] == name).unwrap();
    let lengths: Vec<usize> = train.strings("text").iter().map(|text| text.chars().count()).collect();
    let spread = &column("text")["spread"];
    assert_eq!((spread["of"].as_str(), spread["min"].as_f64()), (Some("characters"), lengths.iter().min().map(|&length| length as f64)));
    assert_eq!(spread["max"].as_f64(), lengths.iter().max().map(|&length| length as f64));
    let classes = column("label")["classes"].as_object().unwrap();
    assert_eq!(classes.values().filter_map(Value::as_u64).sum::<u64>(), train.rows() as u64);
    assert_eq!(column("label")["nulls"], 0);
    let text = project.pipe(&["describe", "pipeline.yaml", "ingest"]).code(0).prints(&["characters", "p95", "positive"]).stdout;
    crate::sample::assert_quotes_no_row(&text);
    project.pipe(&["describe", "pipeline.yaml", "tokenize.test"]).code(0).prints(&["items", "input_ids"]);
}

#[test]
fn the_same_split_of_two_stages_stays_two_tables() {
    let project = queried("query: \"SELECT id, text, label FROM ingest WHERE label <> 'neutral'\"");
    project.run(&[]).code(0);
    let ask = |query: &str| project.pipe(&["sql", "pipeline.yaml", query, "--format", "json"]);
    let count = |query: &str| json(&ask(query).code(0).stdout)[0]["n"].as_u64().unwrap();
    let (all, some) = (rows_of(&project, "ingest")["train"] as u64, rows_of(&project, "some")["train"] as u64);
    assert!(some < all);
    assert_eq!(count("SELECT COUNT(*) AS n FROM ingest.train CROSS JOIN \"some\".train"), all * some);
    assert_eq!(count("SELECT COUNT(*) AS n FROM ingest.train JOIN \"some\".train ON ingest.train.id = \"some\".train.id"), some);
    // Of the left one are those that the right one lacks.
    let lost = "SELECT COUNT(ingest.train.id) AS n FROM ingest.train LEFT JOIN \"some\".train ON ingest.train.id = \"some\".train.id WHERE \"some\".train.text IS NULL";
    assert_eq!(count(lost), all - some);
    let first = json(&ask("SELECT ingest.train.* FROM ingest.train LIMIT 1").code(0).stdout);
    assert_eq!(first[0]["id"], json(&ask("SELECT train.id FROM ingest.train LIMIT 1").code(0).stdout)[0]["id"]);
    ask("SELECT COUNT(*) AS n FROM ingest.train JOIN ingest.train ON 1 = 1").fails(2, &["reads `ingest.train` twice", "AS a JOIN"]);
    ask("SELECT id FROM ingest WHERE EXISTS (SELECT 1 FROM \"some\")").fails(2, &["is not supported"]);
}
