//! Whatever bytes a file has: no panic, no hang, and the same records whatever the chunks and blocks.
//!
//! Few cases each, so that they run with all other tests. For a night of it:
//! `TMPDIR=/dev/shm PROPTEST_CASES=1000000 cargo test --release -p pipe-data read::fuzz` (files in memory: a disk takes
//! most of the time of a case); `scrub::fuzz` is that of the detectors.

use pipe_core::config::{SourceConfig, SourceFormat};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::tests::Reading;
use super::*;

/// Signs that mean something to a reader, and pieces of valid files.
const PIECES: [&[u8]; 40] = [
    b"\n",
    b"\r\n",
    b"\r",
    b",",
    b"\"",
    b"\"\"",
    b";",
    b"|",
    b"\t",
    b" ",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"\\",
    b"\\\"",
    b"\\u",
    b"\\ud83d",
    b"0",
    b"-1e9",
    b"null",
    b"text",
    b"label",
    b"\"text\"",
    b"\"label\": ",
    b"{\"text\": \"a\", \"label\": 1}",
    b"{\"text\": \"",
    b"\"},\n",
    b"a,b\n",
    b"\"a\nb\",c\n",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\x00",
    b"\xff",
    b"\xe5\xa5\xbd",
    b"\xba\xc3",
    b"\x81\x5c",
    b"\x81\x30\x81\x30",
];

fn content() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![6 => prop::sample::select(&PIECES[..]).prop_map(<[u8]>::to_vec), 1 => vec(any::<u8>(), 0..6)];
    vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// A good file with some bytes changed, left out or put in.
fn mutated(good: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), 0..3u8, any::<u8>());
    vec(change, 0..6).prop_map(move |changes| {
        let mut bytes = good.as_bytes().to_vec();
        for (at, kind, byte) in changes {
            let at = at.index(bytes.len().max(1));
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at.min(bytes.len()), byte),
            }
        }
        bytes
    })
}

const GOOD_CSV: &str = "text,label\n\"a, \"\"b\"\"\nc\",1\nd,2\n好,3\n";
const GOOD_JSONL: &str = "{\"text\": \"a\\n好\", \"label\": 1}\n{\"text\": \"b\", \"more\": [{\"x\": null}], \"label\": \"c\"}\n";
const GOOD_ARRAY: &str = "[\n  {\"text\": \"a\\n好\", \"label\": [1, 2]},\n  {\"text\": \"]\", \"label\": {\"x\": \"}\"}}, 5\n]\n";

#[track_caller]
fn holds(format: SourceFormat, encoding: &str, bytes: &[u8]) {
    let source = SourceConfig {
        encoding: encoding.to_owned(),
        delimiter: (encoding == "gb18030" && format == SourceFormat::Csv).then(|| "|".to_owned()),
        ..SourceConfig::default()
    };
    let wanted: &[&str] = if matches!(format, SourceFormat::Lines | SourceFormat::Text) { &["text"] } else { &["text", "label"] };
    let read = |chunk_records, block| Reading { format, source: source.clone(), wanted, chunk_records, block }.read(bytes);
    let whole = read(CHUNK_RECORDS, 1 << 20);
    for (chunk_records, block) in [(1, 1), (3, 5)] {
        match (&whole, read(chunk_records, block)) {
            (Ok(whole), Ok(parts)) => {
                assert!(whole.records == parts.records, "{format:?} {encoding}: other records in parts");
                assert_eq!(whole.places, parts.places);
            }
            (Err(whole), Err(parts)) => assert_eq!(whole.message.replace("/tmp", "").len(), parts.message.replace("/tmp", "").len()),
            _ => panic!("{format:?} {encoding}: an error in one way of reading alone"),
        }
    }
    let Ok(whole) = whole else { return };
    // Records are in order, and within the file.
    for pair in whole.places.windows(2) {
        assert!(pair[0].offset + pair[0].length <= pair[1].offset && pair[0].number + 1 == pair[1].number);
    }
    if let Some(last) = whole.places.last() {
        assert!(last.offset + last.length <= bytes.len() as u64);
    }
}

const TEXT_FORMATS: [SourceFormat; 5] = [SourceFormat::Csv, SourceFormat::Jsonl, SourceFormat::Json, SourceFormat::Lines, SourceFormat::Text];

fn any_format() -> impl Strategy<Value = (SourceFormat, &'static str)> {
    (prop::sample::select(&TEXT_FORMATS[..]), prop::sample::select(&["utf-8", "auto", "gb18030", "windows-1252", "utf-16le"][..]))
}

/// `cases` unless `PROPTEST_CASES` says otherwise. Failures are shown, not kept in files.
pub(crate) fn config(cases: u32) -> Config {
    let mut config = Config { failure_persistence: None, max_global_rejects: u32::MAX, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn any_bytes_are_read_the_same_in_parts((format, encoding) in any_format(), bytes in content()) {
        holds(format, encoding, &bytes);
        if format == SourceFormat::Csv {
            holds(format, encoding, &[b"text,label\n", &bytes[..]].concat());
        }
        if format == SourceFormat::Json {
            holds(format, encoding, &[b"[", &bytes[..]].concat());
        }
    }

    #[test]
    fn a_damaged_file_is_read_the_same_in_parts(
        csv in mutated(GOOD_CSV),
        jsonl in mutated(GOOD_JSONL),
        array in mutated(GOOD_ARRAY),
        encoding in prop::sample::select(&["utf-8", "auto", "gb18030"][..]),
    ) {
        holds(SourceFormat::Csv, encoding, &csv);
        holds(SourceFormat::Jsonl, encoding, &jsonl);
        holds(SourceFormat::Json, encoding, &array);
    }

    /// The csv crate frames as this one does, wherever all quotes close.
    #[test]
    fn csv_is_what_another_reader_makes_of_it(bytes in content()) {
        let text = [b"text,label\n", &bytes[..]].concat();
        prop_assume!(!bytes.contains(&0) && ![&b"\xef\xbb\xbf"[..], b"\xff\xfe", b"\xfe\xff"].iter().any(|mark| bytes.starts_with(mark)));
        let Ok(given) = Reading::of(SourceFormat::Csv, "windows-1252").read(&text) else { return Ok(()) };
        if given.records.iter().any(|record| matches!(record, Err((_, Reason::UnclosedQuote)))) {
            return Ok(());
        }
        let mut reader = ::csv::ReaderBuilder::new().flexible(true).from_reader(&text[..]);
        let expected: Vec<Option<Vec<String>>> = reader
            .byte_records()
            .map(|record| {
                let record = record.unwrap();
                let fields = record.iter().map(|field| encoding_rs::WINDOWS_1252.decode_without_bom_handling(field).0.into_owned()).collect();
                (record.len() == 2).then_some(fields)
            })
            .collect();
        let found: Vec<Option<Vec<String>>> = given.records.into_iter().map(Result::ok).collect();
        prop_assert_eq!(found, expected);
    }
}

/// Ten megabytes in one line of what a reader could stumble over again and again.
#[test]
fn long_lines_take_time_in_proportion() {
    // By hand in release builds, where it takes seconds.
    let size = if cfg!(debug_assertions) { 64 << 10 } else { 10 << 20 };
    for piece in [
        "0",
        "@",
        "[",
        "{",
        "\"",
        "\"\"",
        "[{\"a\":",
        "{\"a\":[",
        "\\",
        ",",
        "{},",
        "\"\n",
        "{\n",
        ",\"",
        "a\"b,",
        "[\"\\\"",
        "\u{597d}",
        "\r",
        "]",
        "\"a\",\n{",
    ] {
        let body = piece.repeat(size / piece.len());
        for format in TEXT_FORMATS {
            let text = match format {
                SourceFormat::Csv => format!("text,label\n{body}"),
                SourceFormat::Json => format!("[{body}"),
                _ => body.clone(),
            };
            let wanted: &[&str] = if matches!(format, SourceFormat::Lines | SourceFormat::Text) { &["text"] } else { &["text", "label"] };
            for encoding in ["utf-8", "gb18030"] {
                let given = Reading { wanted, ..Reading::of(format, encoding) }.read(text.as_bytes()).unwrap();
                assert!(given.places.last().is_none_or(|last| last.offset + last.length <= text.len() as u64));
            }
        }
    }
}

/// Tables of some types, as Parquet and as both kinds of Arrow.
fn tables() -> Vec<(SourceFormat, Vec<u8>)> {
    use arrow_array::{ArrayRef, DictionaryArray, Float64Array, RecordBatch, StringViewArray, StructArray};
    use std::sync::Arc;
    let texts: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None, Some("a text that is longer than twelve bytes")]));
    let labels: ArrayRef = Arc::new(vec![Some("x"), Some("y"), None].into_iter().collect::<DictionaryArray<arrow_array::types::Int8Type>>());
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.5, 3.0]));
    let nested: ArrayRef = Arc::new(StructArray::try_from(vec![("n", Arc::clone(&numbers)), ("t", Arc::clone(&texts))]).unwrap());
    let batch = RecordBatch::try_from_iter_with_nullable([("text", texts, true), ("label", labels, true), ("more", nested, true)]).unwrap();
    let (mut file, mut stream, mut parquet) = (Vec::new(), Vec::new(), Vec::new());
    let mut writer = arrow_ipc::writer::FileWriter::try_new(&mut file, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(&mut stream, &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut parquet, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    vec![(SourceFormat::Arrow, file), (SourceFormat::Arrow, stream), (SourceFormat::Parquet, parquet)]
}

#[test]
fn tables_give_their_values() {
    for (format, bytes) in tables() {
        // Records are counted without reading any column.
        let none = Reading { wanted: &[], ..Reading::of(format, "utf-8") }.read(&bytes).unwrap();
        assert_eq!(none.records.len(), 3);
        for chunk_records in [1, 2, CHUNK_RECORDS] {
            let given = Reading { wanted: &["more", "text", "label"], chunk_records, ..Reading::of(format, "utf-8") }.read(&bytes).unwrap();
            let records: Vec<Vec<String>> = given.records.into_iter().map(|record| record.unwrap()).collect();
            assert_eq!(records[0], ["{\"n\":1.0,\"t\":\"a\"}", "a", "x"]);
            assert_eq!(records[1], ["{\"n\":2.5,\"t\":null}", "null", "y"]);
            assert_eq!(records[2][1..], ["a text that is longer than twelve bytes", "null"]);
        }
    }
}

#[test]
fn a_table_that_is_cut_short_is_an_error() {
    for (format, bytes) in tables() {
        for cut in (0..bytes.len()).step_by(17) {
            let given = Reading { wanted: &["more", "text", "label"], ..Reading::of(format, "utf-8") }.read(&bytes[..cut]);
            // A stream may end after any batch.
            assert!(given.is_err() || (format == SourceFormat::Arrow && given.is_ok_and(|given| given.records.len() % 3 == 0)), "{cut}");
        }
    }
}
