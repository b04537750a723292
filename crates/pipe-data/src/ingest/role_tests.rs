//! Classes in numbers, values, and words with tags: each form that they come in, why a record is none, and what is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::DataType;
use pipe_core::Silent;
use pipe_core::cache::{Cache, Shards};
use pipe_core::config::SourceFormat;
use serde_json::{Value, json};

use super::*;
use crate::parquet_io::{TableReader, TableWriter};

/// What the stage made of one file.
struct Outcome {
    result: Result<Summary>,
    out: PathBuf,
    _folder: tempfile::TempDir,
}

/// Runs the stage with these settings on one file of these bytes.
fn ingest(settings: Value, name: &str, bytes: impl AsRef<[u8]>) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let format = match path.extension().unwrap().to_str().unwrap() {
        "csv" => SourceFormat::Csv,
        "parquet" => SourceFormat::Parquet,
        _ => SourceFormat::Jsonl,
    };
    let mut settings = settings;
    settings["source"] = json!({"paths": [name]});
    if settings.get("rejects").is_none() {
        settings["rejects"] = json!({"max_ratio": 1});
    }
    let config: IngestConfig = serde_json::from_value(settings).unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let source = IngestSource { digest: pipe_core::digest::of_file(&path).unwrap(), file: SourceFile::new(path, format) };
    let sources = [source];
    let into = |name: &str| {
        let (out, scratch) = (folder.path().join(name), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(&out).unwrap();
        let shards = Shards::new(cache.shards(), true);
        let places = IngestPlaces { root: Path::new(""), out: &out, scratch: scratch.path(), shards: &shards, names: None };
        (run(&config, &places, &sources, &Silent), out, shards.figures())
    };
    let (result, out, _) = into("out");
    if result.is_ok() {
        // What comes from the store is what was made.
        let (_, again, figures) = into("again");
        assert_eq!(figures["made"], 0);
        assert_eq!(files(&again), files(&out));
    }
    Outcome { result, out, _folder: folder }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = pipe_core::cache::files_below(folder).unwrap();
    files.into_iter().map(|file| (file.clone(), std::fs::read(folder.join(file)).unwrap())).collect()
}

fn ingest_rows(settings: Value, rows: &[Value]) -> Outcome {
    ingest(settings, "rows.jsonl", rows.iter().map(|row| row.to_string() + "\n").collect::<String>())
}

impl Outcome {
    fn json(&self, name: &str) -> Value {
        self.result.as_ref().unwrap_or_else(|error| panic!("{}", error.message));
        serde_json::from_slice(&std::fs::read(self.out.join(name)).unwrap()).unwrap()
    }

    fn error(&self) -> &Error {
        let Err(error) = &self.result else { panic!("it was to fail") };
        error
    }

    fn rejected(&self) -> Value {
        self.json("report.json")["rejected"].clone()
    }

    /// All rows of the only split, one batch.
    fn table(&self) -> RecordBatch {
        self.json("report.json");
        let mut reader = TableReader::open(&self.out.join("all/part-00000.parquet")).unwrap();
        let batch = reader.next().unwrap().unwrap();
        assert!(reader.next().is_none());
        batch
    }

    /// A column of lists of texts, the items of each with bars between them.
    fn lists(&self, column: &str) -> Vec<String> {
        let table = self.table();
        let array = table.column_by_name(column).unwrap();
        let field = table.schema().field_with_name(column).unwrap().clone();
        let DataType::List(item) = field.data_type() else { panic!("{column} holds no lists") };
        assert!(!field.is_nullable() && !item.is_nullable() && *item.data_type() == DataType::Utf8 && item.name() == "item");
        let lists = array.as_list::<i32>();
        (0..lists.len()).map(|row| lists.value(row).as_string::<i32>().iter().map(Option::unwrap).collect::<Vec<_>>().join("|")).collect()
    }
}

fn with_map(mut settings: Value, unmapped: &str) -> Value {
    settings["labels"] = json!({"map": {"1": "good", "2": "bad", "a": "A", "b": "B", "O": "O", "PER": "B-PER"}, "unmapped": unmapped});
    settings
}

fn text_list(rows: &[Option<&[&str]>]) -> ArrayRef {
    let mut list = ListBuilder::new(StringBuilder::new());
    for row in rows {
        row.unwrap_or_default().iter().for_each(|item| list.values().append_value(item));
        list.append(row.is_some());
    }
    Arc::new(list.finish())
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap();
    let mut writer = TableWriter::create(&path, batch.schema(), &[]).unwrap();
    writer.write(batch.columns().to_vec(), &batch.schema()).unwrap();
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

fn of_labels() -> Value {
    json!({"columns": {"labels": "marks"}})
}

fn of_words() -> Value {
    json!({"columns": {"tokens": "words", "tags": "tags"}})
}

#[test]
fn classes_come_in_many_forms_and_are_written_in_one() {
    let row = |at: usize, marks: Value| json!({"text": format!("number {at}"), "marks": marks});
    let forms = [
        (json!(["b", "a", "b"]), "a|b"),
        (json!([2, 1.0, 1.5, true, "x"]), "1|1.5|2|true|x"),
        (json!([" a ", "", "b"]), "a|b"),
        (json!([]), ""),
        (json!(""), ""),
        (json!("b, a ,, b"), "a|b"),
        (json!(r#" ["b", "a", 3]"#), "3|a|b"),
        (json!("[]"), ""),
        (json!(7), "7"),
        (json!(false), "false"),
    ];
    let rows: Vec<Value> = forms.iter().enumerate().map(|(at, (marks, _))| row(at, marks.clone())).collect();
    let outcome = ingest_rows(of_labels(), &rows);
    assert_eq!(outcome.lists("labels"), forms.map(|(_, expected)| expected));
    assert_eq!(outcome.json("labels.json"), json!(["1", "1.5", "2", "3", "7", "a", "b", "false", "true", "x"]));
    let split = &outcome.json("report.json")["splits"]["all"];
    assert_eq!((&split["rows"], &split["labels"]["b"], &split["labels"]["7"]), (&json!(10), &json!(4), &json!(1)));
    assert!(std::fs::read_to_string(outcome.out.join("report.md")).unwrap().contains("| all | 10 | 1 |"));

    let csv = ingest(of_labels(), "rows.csv", "text,marks\none,\"b,a\"\ntwo,\nthree,\"[\"\"b\"\", \"\"c\"\"]\"\n");
    assert_eq!(csv.lists("labels"), ["a|b", "", "b|c"]);

    let texts: ArrayRef = Arc::new(StringArray::from(vec!["one", "two", "three"]));
    let file = parquet(vec![("text", Arc::clone(&texts)), ("marks", text_list(&[Some(&["b", "a"]), Some(&[]), None]))]);
    let table = ingest(of_labels(), "rows.parquet", file);
    assert_eq!(table.lists("labels"), ["a|b", ""]);
    assert_eq!(table.rejected(), json!({"empty_label": 1}));
    let mut numbers = ListBuilder::new(Int64Builder::new());
    for row in 0..3 {
        numbers.values().append_value(row);
        numbers.append(true);
    }
    let table = ingest(of_labels(), "rows.parquet", parquet(vec![("text", texts), ("marks", Arc::new(numbers.finish()))]));
    assert_eq!(table.lists("labels"), ["0", "1", "2"]);
    assert_eq!(table.json("labels.json"), json!(["0", "1", "2"]));
}

#[test]
fn classes_are_mapped_and_records_without_a_list_rejected() {
    let rows =
        [json!({"text": "one", "marks": ["a", 1, "b"]}), json!({"text": "two", "marks": []}), json!({"text": "three", "marks": ["a", "other"]})];
    let reject = ingest_rows(with_map(of_labels(), "reject"), &rows);
    assert_eq!((reject.lists("labels"), reject.rejected()), (vec!["A|B|good".into(), String::new()], json!({"unmapped_label": 1})));
    let filter = ingest_rows(with_map(of_labels(), "filter"), &rows);
    assert_eq!((filter.lists("labels").len(), &filter.json("report.json")["rows"]["filtered"]), (2, &json!(1)));
    assert_eq!(ingest_rows(with_map(of_labels(), "keep"), &rows).lists("labels"), ["A|B|good", "", "A|other"]);

    let bad = ingest_rows(
        of_labels(),
        &[
            json!({"text": "fine", "marks": "only one"}),
            json!({"text": "b", "marks": null}),
            json!({"text": "c"}),
            json!({"text": "d", "marks": {"a": 1}}),
            json!({"text": "e", "marks": [null]}),
            json!({"text": "f", "marks": [["a"]]}),
            json!({"text": "g", "marks": "['a', 'b']"}),
            json!({"text": "h", "marks": ["jane@example.com"]}),
        ],
    );
    assert_eq!(bad.rejected(), json!({"empty_label": 1, "missing_column": 1, "wrong_type": 4, "personal_data": 1}));
    // One class of several may be all there is.
    assert_eq!(bad.json("labels.json"), json!(["only one"]));
    let rows = &bad.json("report.json")["rows"];
    assert_eq!((&rows["read"], &rows["out"], &rows["rejected"]), (&json!(8), &json!(1), &json!(7)));
}

#[test]
fn classes_have_limits_and_operators() {
    let long = ingest_rows(of_labels(), &[json!({"text": "a", "marks": ["secret ".repeat(50)]})]);
    assert!(long.error().message.starts_with("the labels column holds a value of more than 100"), "{}", long.error().message);
    assert!(!long.error().message.contains("secret"));
    let many: Vec<Value> = (0..1001).map(|at| json!({"text": format!("number {at}"), "marks": [at]})).collect();
    assert_eq!(ingest_rows(of_labels(), &many).error().message, "the labels column has more than 1000 different values");

    let mut settings = of_labels();
    settings["scrub"] = json!({"columns": {"labels": "keep"}});
    let row = json!({"text": "a", "marks": ["jane@example.com", "b"]});
    assert_eq!(ingest_rows(settings.clone(), std::slice::from_ref(&row)).lists("labels"), ["b|jane@example.com"]);
    settings["scrub"] = json!({"columns": {"labels": "placeholder"}});
    assert_eq!(ingest_rows(settings, &[row]).lists("labels"), ["<LABELS>"]);
    for (column, settings) in [("tokens", of_words()), ("tags", of_words()), ("value", json!({"columns": {"value": "n"}}))] {
        let mut settings = settings;
        settings["scrub"] = json!({"columns": {column: "placeholder"}});
        let message = ingest_rows(settings, &[json!({"text": "a"})]).error().message.clone();
        assert_eq!(message, format!("`placeholder` takes whole texts, and `{column}` holds none"));
    }
}

#[test]
fn values_are_finite_numbers() {
    let settings = || json!({"columns": {"value": "n"}});
    let good = [json!(1), json!(-0.0), json!("2.5"), json!(" 1e3 "), json!(12.25)];
    let bad = [json!("nan"), json!("inf"), json!("much"), json!(true), json!([1]), json!(""), json!(" "), Value::Null];
    let rows: Vec<Value> = good.iter().chain(&bad).enumerate().map(|(at, n)| json!({"text": format!("number {at}"), "n": n})).collect();
    let rows: Vec<Value> = rows.into_iter().chain([json!({"text": "none"}), json!({"text": "a phone", "n": 13_812_345_678_u64})]).collect();
    let outcome = ingest_rows(settings(), &rows);
    let table = outcome.table();
    let field = table.schema().field_with_name("value").unwrap().clone();
    assert_eq!((field.data_type(), field.is_nullable()), (&DataType::Float64, false));
    let values = table.column_by_name("value").unwrap().as_primitive::<Float64Type>().values().to_vec();
    assert_eq!(values, [1.0, 0.0, 2.5, 1000.0, 12.25]);
    assert!(values[1].is_sign_positive());
    assert_eq!(outcome.rejected(), json!({"wrong_type": 5, "missing_value": 3, "missing_column": 1, "personal_data": 1}));
    assert_eq!(outcome.json("labels.json"), json!([]));
    let report = outcome.json("report.json");
    assert_eq!((&report["rows"]["read"], &report["rows"]["out"], &report["rows"]["rejected"]), (&json!(15), &json!(5), &json!(10)));
    assert!(report["warnings"][0].as_str().unwrap().contains("5 rows are few"));
}

#[test]
fn words_and_tags_come_in_many_forms() {
    let row = |words: Value, tags: Value| json!({"words": words, "tags": tags});
    let rows = [
        row(json!(["Ann", "left"]), json!(["B-PER", "O"])),
        row(json!(r#"["Bob", "stays"]"#), json!(r#"["B-PER", "O"]"#)),
        row(json!("Eve  came\tin"), json!("B-PER O O")),
        row(json!("[ 1 ]"), json!("O O O")),
        row(json!(["it", 2, "is"]), json!(["O", "O", "O"])),
        row(json!(["", "a b", " ", "c"]), json!(["B-X", "O", "O", "O"])),
    ];
    let outcome = ingest_rows(of_words(), &rows);
    assert_eq!(outcome.lists("tokens"), ["Ann|left", "Bob|stays", "Eve|came|in", "[|1|]", "it|2|is", "a_b|c"]);
    assert_eq!(outcome.lists("tags"), ["B-PER|O", "B-PER|O", "B-PER|O|O", "O|O|O", "O|O|O", "O|O"]);
    assert_eq!(outcome.json("labels.json"), json!(["B-PER", "O"]));
    // Tags are counted by words.
    assert_eq!(outcome.json("report.json")["splits"]["all"], json!({"rows": 6, "labels": {"B-PER": 3, "O": 12}}));
    let table = outcome.table();
    assert_eq!(table.schema().fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["id", "tokens", "tags"]);

    let numbers = ingest_rows(of_words(), &[row(json!(["Ann", "left"]), json!([1, 0])), row(json!(["she", "did"]), json!("[0, 10]"))]);
    assert_eq!((numbers.lists("tags"), numbers.json("labels.json")), (vec!["1|0".into(), "0|10".into()], json!(["0", "1", "10"])));
    let csv = ingest(of_words(), "rows.csv", "words,tags\nAnn left,B-PER O\n\"[\"\"a b\"\"]\",\"[\"\"O\"\"]\"\n");
    assert_eq!((csv.lists("tokens"), csv.lists("tags")), (vec!["Ann|left".to_owned(), "a_b".into()], vec!["B-PER|O".to_owned(), "O".into()]));
    let lists = vec![("words", text_list(&[Some(&["Ann", "left"]), Some(&[])])), ("tags", text_list(&[Some(&["B-PER", "O"]), Some(&[])]))];
    let table = ingest(of_words(), "rows.parquet", parquet(lists));
    assert_eq!((table.lists("tokens"), table.rejected()), (vec!["Ann|left".to_owned()], json!({"empty_text": 1})));

    // Rows to be scored.
    let alone = ingest_rows(json!({"columns": {"tokens": "words"}}), &rows);
    assert_eq!(alone.lists("tokens").len(), 6);
    assert!(alone.table().column_by_name("tags").is_none());
    assert_eq!(alone.json("labels.json"), json!([]));
}

#[test]
fn records_whose_words_and_tags_do_not_fit_are_rejected() {
    let rows = [
        json!({"words": ["Ann", "left"], "tags": ["PER", "O"]}),
        json!({"words": ["Ann", "leaves"], "tags": ["PER"]}),
        json!({"words": ["Ann"], "tags": []}),
        json!({"words": ["Ann", ""], "tags": ["PER"]}),
        json!({"words": [], "tags": []}),
        json!({"words": ["", " "], "tags": ["O", "O"]}),
        json!({"words": null, "tags": ["O"]}),
        json!({"words": 3, "tags": ["O"]}),
        json!({"words": [null], "tags": ["O"]}),
        json!({"words": ["Bob"], "tags": null}),
        json!({"words": ["Bob"], "tags": [""]}),
        json!({"words": ["Bob"], "tags": "['O']"}),
        json!({"words": ["Bob"], "tags": 1}),
        json!({"words": ["Bob"]}),
        json!({"tags": ["O"]}),
        json!({"words": ["Bob"], "tags": ["jane@example.com"]}),
    ];
    let outcome = ingest_rows(of_words(), &rows);
    let expected = json!({"misaligned_tags": 3, "empty_text": 3, "wrong_type": 4, "empty_label": 2, "missing_column": 2, "personal_data": 1});
    assert_eq!(outcome.rejected(), expected);
    assert_eq!(outcome.lists("tokens"), ["Ann|left"]);
    let counts = &outcome.json("report.json")["rows"];
    assert_eq!((&counts["read"], &counts["out"], &counts["rejected"]), (&json!(16), &json!(1), &json!(15)));

    let mapped = ingest_rows(with_map(of_words(), "reject"), &[rows[0].clone(), json!({"words": ["Bob"], "tags": ["LOC"]})]);
    assert_eq!((mapped.lists("tags"), mapped.rejected()), (vec!["B-PER|O".to_owned()], json!({"unmapped_label": 1})));
    let one = ingest_rows(of_words(), &[json!({"words": ["Bob"], "tags": ["O"]})]);
    assert_eq!(one.error().message, "the tags column `tags` has only one class in 1 rows");
}

#[test]
fn what_is_replaced_over_several_words_takes_their_tags_along() {
    let row = |words: &str, tags: &str| json!({"words": words, "tags": tags});
    let rows = [
        row("call 138 1234 5678 , Ann", "O O O O O B-PER"),
        row("( 138 1234 5678, ok", "O B-NUM I-NUM I-NUM O"),
        row("write to jane@example.com now", "O O B-MAIL O"),
        row("at 138 1234 5678 .", "O O B-NUM I-NUM O"),
        row("4111 1111 1111 1111 and 138 1234 5678", "O O O O B-X O O O"),
        row("nothing here", "O O"),
    ];
    let mut settings = of_words();
    settings["dedup"] = json!("none");
    let outcome = ingest_rows(settings, &rows);
    let expected = ["call|<PHONE>|,|Ann", "(|<PHONE>,|ok", "write|to|<EMAIL>|now", "at|<PHONE>|.", "<CARD>|and|<PHONE>", "nothing|here"];
    assert_eq!(outcome.lists("tokens"), expected);
    assert_eq!(outcome.lists("tags"), ["O|O|O|B-PER", "O|B-NUM|O", "O|O|B-MAIL|O", "O|B-NUM|O", "O|B-X|O", "O|O"]);
    let report = outcome.json("report.json");
    let found: u64 = report["entities"]["tokens"].as_array().unwrap().iter().map(|cell| cell["count"].as_u64().unwrap()).sum();
    assert_eq!(found, 6);
    // I-NUM stood on words alone that are gone.
    assert_eq!(outcome.json("labels.json"), json!(["B-MAIL", "B-NUM", "B-PER", "B-X", "O"]));

    let mut settings = json!({"columns": {"tokens": "words"}, "scrub": {"columns": {"tokens": "keep"}}});
    assert_eq!(ingest_rows(settings.clone(), &[row("call 138 1234 5678", "")]).lists("tokens"), ["call|138|1234|5678"]);
    settings["scrub"] = json!({"operators": {"phone": "redact", "email": "drop_row"}});
    let outcome = ingest_rows(settings, &[row("call 138 1234 5678", ""), row("138 1234 5678", ""), row("a@example.com !", "")]);
    assert_eq!((outcome.lists("tokens"), outcome.rejected()), (vec!["call".to_owned()], json!({"empty_text": 1})));
    assert_eq!(outcome.json("report.json")["rows"]["filtered"], 1);
}

#[test]
fn a_value_planted_over_words_is_found_in_what_was_written() {
    let config: IngestConfig = serde_json::from_value(of_words()).unwrap();
    let scrub = Scrub::new(&config, Path::new(""), None).unwrap();
    let columns = Columns::new(&config, &scrub.policy).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let check = |words: &[&[&str]], tags: &[&[&str]]| {
        let path = folder.path().join("part.parquet");
        let lists = |rows: &[&[&str]]| text_list(&rows.iter().map(|row| Some(*row)).collect::<Vec<_>>());
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(words.iter().map(|_| "1")));
        std::fs::write(&path, parquet(vec![("id", ids), ("tokens", lists(words)), ("tags", lists(tags))])).unwrap();
        residual::check(&path, &columns, &scrub.scrubber).err().map(|error| error.message.replace(&path.display().to_string(), "…"))
    };
    assert_eq!(check(&[&["call", "<PHONE>"], &["138", "1234"], &["5678"]], &[&["O"], &["O"], &["O"]]), None);
    let found = |row: usize, column: &str| Some(format!("row {row} of … still holds 1 values in `{column}` that its scrub policy replaces"));
    assert_eq!(check(&[&["fine"], &["call", "138", "1234", "5678"]], &[&["O"], &["O"]]), found(2, "tokens"));
    assert_eq!(check(&[&["fine"], &[], &["a"]], &[&["O"], &[], &["O", "a@example.com"]]), found(3, "tags"));
}

#[test]
fn equal_texts_that_are_labelled_otherwise_conflict() {
    let report = |settings: Value, rows: &[Value]| {
        let mut settings = settings;
        settings["conflicts"] = json!("drop");
        let report = ingest_rows(settings, rows).json("report.json");
        let rows = report["rows"].clone();
        (rows["out"].as_u64().unwrap(), rows["duplicates"].as_u64().unwrap(), rows["conflicts"].as_u64().unwrap())
    };
    let marks = |text: &str, marks: Value| json!({"text": text, "marks": marks});
    let rows = [marks("a", json!(["x", "y"])), marks("a", json!("y, x")), marks("b", json!(["x"])), marks("b", json!([])), marks("c", json!([]))];
    assert_eq!(report(of_labels(), &rows), (2, 1, 2));
    let value = |text: &str, n: Value| json!({"text": text, "n": n});
    let rows = [value("a", json!(0)), value("a", json!("-0.0")), value("b", json!(1)), value("b", json!(1.5)), value("c", json!(1))];
    assert_eq!(report(json!({"columns": {"value": "n"}}), &rows), (2, 1, 2));
    let words = |words: &str, tags: &str| json!({"words": words, "tags": tags});
    let rows = [words("a b", "X O"), words("a b", "X O"), words("c d", "X O"), words("c d", "O X"), words("e", "O")];
    assert_eq!(report(of_words(), &rows), (2, 1, 2));
}

/// Rows of each role, with values over words and bad ones among them.
fn many_rows() -> Vec<Value> {
    (0..300)
        .map(|at| {
            let words = format!("word {at} calls 138 1234 {:04} now", at + 1000);
            let tags = if at % 9 == 4 { "O O" } else { "O B-N O O B-P I-P O" };
            json!({"words": words, "tags": tags, "text": format!("number {at}"), "marks": ([at % 5, at % 3]), "n": at as f64 / 4.0})
        })
        .collect()
}

/// Runs the stage on a pool of `threads` and gives the bytes of all that it wrote.
fn bytes(settings: &Value, rows: &[Value], threads: usize) -> BTreeMap<PathBuf, Vec<u8>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let outcome = pool.install(|| ingest_rows(settings.clone(), rows));
    outcome.json("report.json");
    files(&outcome.out)
}

#[test]
fn the_same_bytes_on_any_number_of_threads() {
    let rows = many_rows();
    for columns in [json!({"labels": "marks"}), json!({"value": "n"}), json!({"tokens": "words", "tags": "tags"})] {
        let settings = json!({"columns": columns, "shard_rows": 16, "split": {"train": 0.5, "test": 0.5}});
        let first = bytes(&settings, &rows, 1);
        assert!(first.len() > 10, "{:?}", first.keys());
        assert_eq!(bytes(&settings, &rows, 3), first);
        let report: Value = serde_json::from_slice(&first[Path::new("report.json")]).unwrap();
        let count = |what: &str| report["rows"][what].as_u64().unwrap();
        assert_eq!(count("read"), count("out") + count("rejected") + count("duplicates"));
        assert_eq!(count("rejected"), if settings["columns"].get("tags").is_some() { 33 } else { 0 });
    }
}
