//! Queries over small tables on disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use pipe_core::{Result, Silent};
use polars::df;
use polars::prelude::{DataFrame, LazyFrame, ParquetWriter, PlRefPath, ScanArgsParquet};
use tempfile::TempDir;

use super::*;

fn write(path: &Path, mut frame: DataFrame) {
    ParquetWriter::new(File::create(path).unwrap()).finish(&mut frame).unwrap();
}

/// `rows` in two parts, and `scores` of some of them.
struct Tables {
    _folder: TempDir,
    tables: BTreeMap<TableName, Table>,
}

fn name(stage: &str, part: Option<&str>) -> TableName {
    TableName { stage: stage.to_owned(), part: part.map(str::to_owned) }
}

fn tables() -> Tables {
    let folder = tempfile::tempdir().unwrap();
    // Neither a hive partition nor a pattern.
    let inner = folder.path().join("lr=3[x]");
    std::fs::create_dir(&inner).unwrap();
    let (train, test, scores) = (inner.join("train.parquet"), inner.join("test.parquet"), inner.join("scores.parquet"));
    write(&train, df!("id" => ["a", "b", "c", "d"], "text" => ["好的", "bad", "ok", "so-so"], "label" => ["pos", "neg", "pos", "neg"]).unwrap());
    write(&test, df!("id" => ["e", "f"], "text" => ["坏", "fine"], "label" => ["neg", "pos"]).unwrap());
    write(&scores, df!("id" => ["f", "a", "b"], "score" => [0.5f32, 0.1, 0.7]).unwrap());
    let part = |name: &str, file: &Path| (Some(name.to_owned()), vec![file.to_owned()]);
    let tables = BTreeMap::from([
        (name("rows", None), Table { parts: vec![part("test", &test), part("train", &train)] }),
        (name("rows", Some("train")), Table::of_files(vec![train])),
        (name("rows", Some("test")), Table::of_files(vec![test])),
        (name("scores", None), Table::of_files(vec![scores])),
    ]);
    Tables { _folder: folder, tables }
}

impl Tables {
    fn all(&self, sql: &str, limit: Option<usize>) -> Result<(Vec<String>, bool)> {
        let prepared = Query::parse(sql)?.prepare(&self.tables)?;
        let mut lines = Vec::new();
        let more = prepared.rows(limit, |rows| {
            lines.extend(rows.iter().map(|row| row.iter().map(Cell::text).collect::<Vec<_>>().join(" ")));
            Ok(true)
        })?;
        Ok((lines, more))
    }

    fn lines(&self, sql: &str) -> Vec<String> {
        self.all(sql, None).unwrap_or_else(|error| panic!("{sql}: {error:?}")).0
    }

    #[track_caller]
    fn refuses(&self, sql: &str, words: &[&str]) {
        let error = self.all(sql, None).unwrap_err();
        let said = format!("{}; {}", error.message, error.hint.clone().unwrap_or_default());
        assert_eq!(error.class.exit_code(), 2, "{said}");
        for word in words {
            assert!(said.contains(word), "{sql}: `{word}` is not in: {said}");
        }
    }
}

#[test]
fn stages_and_their_splits_are_tables() {
    let tables = tables();
    assert_eq!(tables.lines("SELECT id, split FROM rows WHERE label = 'pos'"), ["f test", "a train", "c train"]);
    assert_eq!(tables.lines("SELECT id FROM rows.train WHERE text LIKE '%o%'"), ["c", "d"]);
    assert_eq!(
        tables.lines("SELECT train.id, rows.train.label, t.id AS other FROM rows.train JOIN rows.test AS t ON train.label = t.label ORDER BY 1 DESC"),
        ["d neg e", "c pos f", "b neg e", "a pos f"]
    );
    assert_eq!(
        tables.lines("WITH best AS (SELECT * FROM scores WHERE score > 0.4) SELECT r.id, best.score FROM rows r JOIN best ON r.id = best.id"),
        ["f 0.5", "b 0.7"]
    );
    assert_eq!(
        tables.lines("SELECT label, COUNT(*) AS n, 0.1 + AVG(LENGTH(text)) AS l FROM rows GROUP BY 1"),
        ["neg 3 3.1", "pos 3 2.7666666666666666"]
    );
    assert_eq!(tables.lines("SELECT COUNT(*), SUM(LENGTH(id)) AS n FROM rows"), ["6 6"]);
    assert_eq!(tables.lines("SELECT DISTINCT label FROM rows.train UNION ALL SELECT split FROM rows LIMIT 3"), ["pos", "neg", "test"]);
    assert_eq!(tables.lines("SELECT id FROM rows.train ORDER BY label"), ["b", "d", "a", "c"]);
    assert_eq!(tables.lines("SELECT id FROM rows WHERE id IN (SELECT id FROM scores)"), ["f", "a", "b"]);
}

#[test]
fn more_rows_than_asked_for_are_known_of() {
    let tables = tables();
    assert_eq!(tables.all("SELECT id FROM rows", Some(2)).unwrap(), (vec!["e".to_owned(), "f".to_owned()], true));
    assert!(!tables.all("SELECT id FROM rows", Some(6)).unwrap().1);
}

#[test]
fn only_a_select_over_stages_is_a_query() {
    let tables = tables();
    for sql in [
        "SELECT * FROM 'x.parquet'",
        "SELECT * FROM read_parquet('x.parquet')",
        "SELECT * FROM rows WHERE id IN (SELECT id FROM read_csv('/etc/passwd'))",
        "WITH a AS (SELECT * FROM 'x.csv') SELECT * FROM a",
        "SELECT * FROM rows.train JOIN read_parquet('x') AS b ON b.id = train.id",
    ] {
        tables.refuses(sql, &["only the output of stages can be queried"]);
    }
    tables.refuses("SELECT * FROM a.b.c", &["`a.b.c` is no table"]);
    tables.refuses("DROP TABLE rows", &["begins with SELECT"]);
    tables.refuses("SELECT 1; SELECT 2", &["one statement"]);
    tables.refuses("", &["one statement"]);
    tables.refuses("SELECT id FROM rows WHERE", &["not valid SQL", "found: EOF"]);
    tables.refuses("SELECT id FORM rows\nWHER x", &["not valid SQL", "line 1, column"]);
    tables.refuses("WITH scores AS (SELECT * FROM scores) SELECT * FROM scores", &["relation 'scores' was not found", "rename it in WITH"]);
    assert_eq!(tables.lines("WITH rows AS (SELECT id FROM rows.test) SELECT * FROM rows"), ["e", "f"]);
}

#[test]
fn what_is_wrong_with_a_query_is_said_without_a_value() {
    let tables = tables();
    tables.refuses("SELECT id,\n  lable FROM rows", &["no table of the query has a column `lable`", "line 2, column 3", "did you mean `label`?"]);
    tables.refuses("SELECT nothing_like_it(id) FROM rows", &["nothing_like_it"]);
    tables.refuses("SELECT label, id FROM rows GROUP BY label", &["GROUP BY"]);
    let error = tables.all("SELECT CAST(text AS INT) FROM rows", None).unwrap_err();
    assert!(!format!("{error:?}").contains("bad"), "{error:?}");
    assert!(error.hint.unwrap().contains("TRY_CAST"));
    assert_eq!(tables.lines("SELECT TRY_CAST(text AS INT) FROM rows.test"), ["", ""]);
}

#[test]
fn results_are_written_and_read_back() {
    let tables = tables();
    let path = tables._folder.path().join("out.parquet");
    let sql = "SELECT LENGTH(text) AS id, label = 'pos' AS label, NULL AS nothing FROM rows.train";
    Query::parse(sql).unwrap().prepare(&tables.tables).unwrap().write_parquet(&path, &Silent).unwrap();
    let frame = LazyFrame::scan_parquet(PlRefPath::try_from_path(&path).unwrap(), ScanArgsParquet::default()).unwrap().collect().unwrap();
    assert_eq!(
        frame,
        df!("id" => ["2", "3", "2", "5"], "label" => ["true", "false", "true", "false"])
            .unwrap()
            .hstack(&[frame.column("nothing").unwrap().clone()])
            .unwrap()
    );
    assert_eq!(frame.column("nothing").unwrap().null_count(), 4);
}

#[test]
fn a_table_is_described_in_numbers() {
    let tables = tables();
    let facts = describe(&tables.tables[&name("rows", None)]).unwrap();
    assert_eq!(facts.rows, 6);
    let column = |name: &str| facts.columns.iter().find(|column| column.name == name).unwrap();
    let spread = column("text").spread.as_ref().unwrap();
    assert_eq!((spread.of, spread.min, spread.p50, spread.max), ("characters", 1.0, 3.0, 5.0));
    assert!((spread.mean - 17.0 / 6.0).abs() < 1e-12);
    assert_eq!(column("label").classes, Some(BTreeMap::from([("neg".to_owned(), 3), ("pos".to_owned(), 3)])));
    assert_eq!((column("text").nulls, &column("text").classes), (0, &None));
}
