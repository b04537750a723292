//! Small files of every format, encoding and compression, against records written by hand.

use std::fmt::Write as _;
use std::io::Write as _;

use pipe_core::config::{Compression, SourceConfig, SourceFormat};
use pipe_core::source::SourceFile;
use pipe_core::{Error, Result};

use super::*;

/// The wanted cells of a record as text, or what is wrong with it.
type Shown = std::result::Result<Vec<String>, (Option<String>, Reason)>;

/// What a file gives: the wanted cells of each record as text, or what is wrong with it; and the places.
pub(super) struct Given {
    pub(super) records: Vec<Shown>,
    pub(super) places: Vec<Place>,
    pub(super) names: KeyNames,
}

/// How a file is read in a test.
pub(super) struct Reading<'r> {
    pub(super) format: SourceFormat,
    pub(super) source: SourceConfig,
    pub(super) wanted: &'r [&'r str],
    pub(super) chunk_records: usize,
    pub(super) block: usize,
}

impl Reading<'_> {
    pub(super) fn of(format: SourceFormat, encoding: &str) -> Reading<'static> {
        let source = SourceConfig { encoding: encoding.to_owned(), ..SourceConfig::default() };
        Reading { format, source, wanted: &["text", "label"], chunk_records: CHUNK_RECORDS, block: 1 << 20 }
    }

    pub(super) fn read(&self, content: &[u8]) -> Result<Given> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, content).unwrap();
        self.read_file(&SourceFile { path, format: self.format, name: "set/pos/1.file".to_owned() })
    }

    pub(super) fn read_file(&self, file: &SourceFile) -> Result<Given> {
        let wanted = Wanted::new(self.wanted.iter().map(|name| (*name).to_owned()).collect());
        let mut framer = Framer::open_in_blocks(file, &self.source, &wanted, self.chunk_records, self.block)?;
        let mut given = Given { records: Vec::new(), places: Vec::new(), names: KeyNames::default() };
        while let Some(chunk) = framer.next_chunk()? {
            assert!(chunk.records() > 0 && chunk.records() <= self.chunk_records);
            let (mut records, mut places) = (Vec::new(), Vec::new());
            chunk.parse(&wanted, &mut given.names, &mut |record, cells| {
                places.push(record.place);
                records.push(match cells {
                    Ok(cells) => Ok(cells.iter().map(shown).collect()),
                    Err((column, reason)) => Err((column.map(str::to_owned), reason)),
                });
                Ok(())
            })?;
            assert_eq!(records.len(), chunk.records());
            assert_eq!(places.first(), Some(&chunk.start()));
            given.records.extend(records);
            given.places.extend(places);
        }
        Ok(given)
    }
}

fn shown(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Missing => "-".to_owned(),
        Cell::Null => "null".to_owned(),
        Cell::Text(text) => text.clone().into_owned(),
        Cell::Integer(number) => format!("i{number}"),
        Cell::Float(number) => format!("f{number}"),
        Cell::Bool(value) => format!("b{value}"),
        Cell::Nested(value) => value.to_string(),
    }
}

/// Records as `text|label`, or the reason of their rejection.
fn lines(given: &Given) -> Vec<String> {
    let line = |record: &Shown| match record {
        Ok(cells) => cells.join("|"),
        Err((column, reason)) => format!("{}{}", column.as_ref().map_or(String::new(), |column| format!("{column}: ")), reason.name()),
    };
    given.records.iter().map(line).collect()
}

#[track_caller]
fn gives(reading: &Reading<'_>, content: &[u8], expected: &[&str]) {
    for (chunk_records, block) in [(CHUNK_RECORDS, 1 << 20), (1, 1), (2, 7)] {
        let reading = Reading { source: reading.source.clone(), chunk_records, block, ..*reading };
        assert_eq!(lines(&reading.read(content).unwrap()), expected, "chunks of {chunk_records}, blocks of {block}");
    }
}

fn error(reading: &Reading<'_>, content: &[u8]) -> Error {
    reading.read(content).err().expect("it cannot be read")
}

const CSV: SourceFormat = SourceFormat::Csv;
const JSONL: SourceFormat = SourceFormat::Jsonl;

#[test]
fn csv_records_are_told_apart() {
    let csv = Reading::of(CSV, "utf-8");
    gives(&csv, b"\xef\xbb\xbftext,label,n\r\n\"a, \"\"b\"\"\nc\",x,1\r\n\r\n,y,2\r\nd,z\r\ne,x,3", &["a, \"b\"\nc|x", "|y", "field_count", "e|x"]);
    gives(
        &csv,
        b"label,text\nx,\xff\n\xff,a\ny,b\x00c\nz,ok\n",
        &["text: invalid_encoding", "label: invalid_encoding", "text: invalid_encoding", "ok|z"],
    );
    // Each line end there is; a quote inside a field means nothing.
    gives(&csv, b"text,label\rit's 5\" wide,x\r\"a\"b,y\n", &["it's 5\" wide|x", "ab|y"]);
    let semicolon = Reading { source: SourceConfig { delimiter: Some(";".into()), ..SourceConfig::default() }, ..Reading::of(CSV, "utf-8") };
    gives(&semicolon, b"text;label\na,b;c\n", &["a,b|c"]);
    gives(&Reading::of(SourceFormat::Tsv, "utf-8"), b"text\tlabel\na,b\tc\n", &["a,b|c"]);
    assert!(error(&csv, b"").message.contains("no rows"));
    let missing = error(&csv, b"secret,13800000000\n");
    assert!(missing.message.contains("no column `text`") && !format!("{missing:?}").contains("secret"));
}

#[test]
fn a_quote_that_never_closes_costs_its_line() {
    let csv = Reading::of(CSV, "utf-8");
    gives(&csv, b"label,text\nx,a\ny,\"b\nz,c\nx,d\n", &["a|x", "unclosed_quote", "c|z", "d|x"]);
    // One that another quote closes, far away, costs what is between.
    let mut long = b"label,text\nx,a\ny,\"b".to_vec();
    for _ in 0..(17 << 20) / 8 {
        long.extend_from_slice(b"\nz,cccccc");
    }
    let given = csv.read(&long).unwrap();
    assert_eq!(given.records[1], Err((None, Reason::UnclosedQuote)));
    assert_eq!(given.records.len(), 2 + (17 << 20) / 8);
    assert_eq!(given.places[2].offset, 20);
}

#[test]
fn json_lines_are_objects_each() {
    let jsonl = Reading::of(JSONL, "utf-8");
    let content = concat!(
        "\u{feff}{\"text\": \"a\\n\\u597d\", \"label\": 1}\r\n\n  \n",
        "{\"label\": null, \"text\": \"好\", \"more\": [1, {\"x\": \"}\"}]}\n",
        "{\"text\": \"a\"\n[1]\n{\"text\": \"\\ud800\"}\n{\"text\": 1, \"text\": 2}\n{\"label\": 1.5, \"text\": {\"k\": [true]}}",
    );
    gives(
        &jsonl,
        content.as_bytes(),
        &["a\n好|i1", "好|null", "invalid_json", "invalid_json", "invalid_json", "text: duplicate_key", "{\"k\":[true]}|f1.5"],
    );
    gives(&jsonl, b"{\"text\": \"\xff\"}\n{\"text\": \"b\"}\n", &["invalid_encoding", "b|-"]);
    let given = jsonl.read(content.as_bytes()).unwrap();
    assert_eq!(given.names.common().collect::<Vec<_>>(), ["label", "more", "text"]);
    let first = content.find('\n').unwrap() as u64 + 1;
    assert_eq!(given.places[0], Place { number: 1, offset: 3, length: first - 3 });
    assert_eq!(given.places[1].offset, content.find("{\"label\": null").unwrap() as u64);
}

#[test]
fn a_record_that_is_too_long_costs_itself() {
    let long = "x".repeat(17 << 20);
    let small: &[&str] = &["a|-", "too_long", "b|-"];
    let jsonl = format!("{{\"text\": \"a\"}}\n{{\"text\": \"{long}\"}}\n{{\"text\": \"b\"}}\n");
    let array = format!("[{{\"text\": \"a\"}},\n{{\"text\": \"{long}\"}},\n  {{\"text\": \"b\"}}]");
    for (format, content) in [(JSONL, &jsonl), (SourceFormat::Json, &array)] {
        let given = Reading::of(format, "utf-8").read(content.as_bytes()).unwrap();
        assert_eq!(lines(&given), small);
        assert_eq!(given.places[2].offset as usize, content.rfind("{\"text\"").unwrap());
    }
    let given = Reading { wanted: &["text"], ..Reading::of(SourceFormat::Lines, "utf-8") }.read(format!("a\n{long}\nb").as_bytes()).unwrap();
    assert_eq!(lines(&given), ["a", "too_long", "b"]);
    assert_eq!(given.places[1], Place { number: 2, offset: 2, length: (17 << 20) + 1 });
    let given = Reading { wanted: &["text"], ..Reading::of(SourceFormat::Text, "utf-8") }.read(long.as_bytes()).unwrap();
    assert_eq!(lines(&given), ["too_long"]);
    let csv = format!("text,label\na,1\n{long},2\nb,3\n");
    assert_eq!(lines(&Reading::of(CSV, "utf-8").read(csv.as_bytes()).unwrap()), ["a|1", "too_long", "b|3"]);
}

#[test]
fn arrays_are_read_element_by_element() {
    let json = Reading::of(SourceFormat::Json, "utf-8");
    gives(
        &json,
        b" [{\"text\": \"a\", \"label\": [1]},\n {\"text\": b},\n5, {\"text\": \"]\"}\n]\n",
        &["a|[1]", "invalid_json", "invalid_json", "]|-"],
    );
    gives(&json, b"[{\"text\": \"a\"}, {\"text\": \"b", &["a|-", "invalid_json"]);
    assert!(error(&json, b"{\"text\": \"a\"}\n").hint.unwrap().contains("jsonl"));
    assert_eq!(lines(&json.read(b"[]").unwrap()), [""; 0]);
    let deep = format!("[{{\"text\": {}{}}}, {{\"text\": \"b\"}}]", "[".repeat(300), "]".repeat(300));
    gives(&json, deep.as_bytes(), &["too_deep", "b|-"]);
}

#[test]
fn lines_and_files_are_texts() {
    let reading = |format| Reading { wanted: &["text", "$file", "$stem", "$folder"], ..Reading::of(format, "utf-8") };
    gives(&reading(SourceFormat::Lines), b"one\r\n\n \ntwo \"q\", {\n", &["one|1.file|1|pos", "two \"q\", {|1.file|1|pos"]);
    gives(&reading(SourceFormat::Text), "one\n\ntwo 好\n".as_bytes(), &["one\n\ntwo 好|1.file|1|pos"]);
    gives(&reading(SourceFormat::Text), b"", &["|1.file|1|pos"]);
    gives(&reading(SourceFormat::Lines), b"a\x00b\nc\xff\nd", &["invalid_encoding", "invalid_encoding", "d|1.file|1|pos"]);
    let optional = Reading { wanted: &["text", "label"], ..Reading::of(SourceFormat::Lines, "utf-8") };
    assert!(error(&optional, b"a\n").message.contains("no column `label`"));
}

fn utf_16(text: &str, big_endian: bool) -> Vec<u8> {
    text.encode_utf16().flat_map(|unit| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

#[test]
fn utf_16_is_read_with_its_mark_its_name_or_neither() {
    let text = "text,label\n好 😀,x\n\"a\nb\",y\n";
    let json = "{\"text\": \"好\", \"label\": 2}\n{\"text\": \"b\", \"label\": 3}\n";
    for big_endian in [false, true] {
        let name = if big_endian { "utf-16be" } else { "utf-16le" };
        for (mark, encoding) in [("\u{feff}", "utf-8"), ("\u{feff}", name), ("", name), ("", "auto"), ("\u{feff}", "auto")] {
            let content = utf_16(&format!("{mark}{text}"), big_endian);
            gives(&Reading::of(CSV, encoding), &content, &["好 😀|x", "a\nb|y"]);
            let places = Reading::of(CSV, encoding).read(&content).unwrap().places;
            for (place, record) in places.iter().zip(["好 😀,x\n", "\"a\nb\",y\n"]) {
                assert_eq!(content[place.offset as usize..][..place.length as usize], utf_16(record, big_endian));
            }
            gives(&Reading::of(JSONL, encoding), &utf_16(&format!("{mark}{json}"), big_endian), &["好|i2", "b|i3"]);
        }
    }
    // Half a pair costs its record alone.
    let mut broken = utf_16("\u{feff}text,label\na,x\n", false);
    broken.extend([0x3d, 0xd8]);
    broken.extend(utf_16(",y\nb,z\n", false));
    gives(&Reading::of(CSV, "utf-8"), &broken, &["a|x", "text: invalid_encoding", "b|z"]);
}

#[test]
fn encodings_are_named_or_found_out_even_within_one_file() {
    let encode = |label: &str, text: &str| encoding_rs::Encoding::for_label(label.as_bytes()).unwrap().encode(text).0.into_owned();
    // Second bytes that are `|`, `\` and `{` in ASCII.
    let gb = "乗虜倇\u{5fa3}東很好";
    for (label, text) in [
        ("gb18030", gb),
        ("gb18030", "𠀀很好"),
        ("big5", "許功蓋閱很好"),
        ("windows-1252", "café “x”"),
        ("macintosh", "café “x”"),
        ("shift_jis", "表示ソ能"),
    ] {
        let csv = encode(label, &format!("text|label\n{text}|\"x\n{text}\"\n{text}|y\n"));
        let pipe = Reading {
            source: SourceConfig { delimiter: Some("|".into()), encoding: label.into(), ..SourceConfig::default() },
            ..Reading::of(CSV, "")
        };
        gives(&pipe, &csv, &[&format!("{text}|x\n{text}"), &format!("{text}|y")]);
        let array = encode(label, &format!("[{{\"text\": \"{text}\"}}, {{\"text\": \"{text}\", \"label\": \"{text}\\n\"}}]"));
        gives(&Reading::of(SourceFormat::Json, label), &array, &[&format!("{text}|-"), &format!("{text}|{text}\n")]);
    }
    let common = "这个产品非常好用,我很喜欢。送货太慢了,包装也坏了,不会再买。";
    let mixed = [
        "{\"text\": \"很好\"}\n".as_bytes(),
        &encode("gb18030", &format!("{{\"text\": \"{common}\"}}\n")).repeat(30),
        b"{\"text\": \"\xff\xff\"}\n",
        "{\"text\": \"café\"}\n".as_bytes(),
    ]
    .concat();
    let given = lines(&Reading::of(JSONL, "auto").read(&mixed).unwrap());
    assert_eq!(given.len(), 33);
    assert_eq!([&given[0], &given[1], &given[31], &given[32]], ["很好|-", &format!("{common}|-"), "invalid_encoding", "café|-"]);
}

/// The same content compressed in each way.
fn compressed(content: &[u8]) -> Vec<(Compression, Vec<u8>)> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(content).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(content).unwrap();
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    xz.write_all(content).unwrap();
    vec![
        (Compression::Gzip, gzip.finish().unwrap()),
        (Compression::Bzip2, bzip2.finish().unwrap()),
        (Compression::Zstd, zstd::stream::encode_all(content, 1).unwrap()),
        (Compression::Xz, xz.finish().unwrap()),
    ]
}

#[test]
fn compressed_files_are_read_as_what_is_in_them() {
    let mut content = String::new();
    for at in 0..20_000 {
        writeln!(content, "{{\"text\": \"row {at} {}\", \"label\": {}}}", at * 7919 % 104_729, at % 3).unwrap();
    }
    let jsonl = Reading::of(JSONL, "utf-8");
    let plain = jsonl.read(content.as_bytes()).unwrap();
    for (compression, bytes) in compressed(content.as_bytes()) {
        let given = jsonl.read(&bytes).unwrap();
        assert!(given.records == plain.records && given.places == plain.places, "{compression:?}");
        // Two archives in a row are one.
        assert_eq!(jsonl.read(&bytes.repeat(2)).unwrap().records.len(), 40_000, "{compression:?}");
        let named = Reading { source: SourceConfig { compression, ..SourceConfig::default() }, ..Reading::of(JSONL, "utf-8") };
        assert_eq!(named.read(&bytes).unwrap().records.len(), 20_000);
        assert_eq!(error(&named, content.as_bytes()).class.exit_code(), 12);
        let cut = error(&jsonl, &bytes[..bytes.len() * 3 / 4]);
        assert!(cut.message.contains("record") && cut.message.contains("cut short"), "{compression:?}: {}", cut.message);
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 0xff;
        damaged[bytes.len() / 2 + 1] ^= 0xff;
        let damage = error(&jsonl, &damaged);
        assert!(damage.message.contains("record") && !damage.message.contains("row"), "{compression:?}: {}", damage.message);
    }
}
