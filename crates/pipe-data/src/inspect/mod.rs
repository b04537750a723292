//! What a data file looks like: its columns' names, kinds and statistics, from its first records. No text of a row
//! leaves this module, only counts.

mod encoding;
mod tally;

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use pipe_core::config::{SourceConfig, SourceFormat};
use pipe_core::source::SourceFile;
use pipe_core::{Error, IoContext, Result};

use crate::read::{Framer, RawChunk, TextEncoding, strings};
use encoding::{Guess, guess};
pub use tally::ColumnFacts;
use tally::{Tallies, ValueKind};

/// Records looked at. Many, since a file may be sorted by its labels.
const MAX_RECORDS: u64 = 500_000;
/// Lines that decide about the delimiter.
const DELIMITER_LINES: usize = 50;
/// Bytes of one line that are looked at for it.
const DELIMITER_BYTES: u64 = 64 << 10;

/// What is known about a file.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// As `source.encoding` names it.
    pub encoding: &'static str,
    /// Where it is not the format's own.
    pub delimiter: Option<char>,
    /// Looked at.
    pub records: u64,
    /// The file has more than those.
    pub is_longer: bool,
    /// Of those, not readable as the guesses above have it.
    pub unreadable: u64,
    pub columns: Vec<ColumnFacts>,
    /// The first line of a CSV file looks like a row: then the columns' "names" are a row's text, to be shown to nobody.
    pub header_is_a_row: bool,
}

/// Looks at the first records of `file`.
pub fn inspect(file: &SourceFile) -> Result<Inspection> {
    let path = &file.path;
    let encoding = match (file.format, guess(path)?) {
        (SourceFormat::Parquet, _) | (_, Guess::Utf8) => "utf-8",
        (_, Guess::Label(label)) => label,
        (_, Guess::Utf16(name)) => {
            return Err(Error::input(format!("{} is {name}, which pipe does not read", path.display()))
                .hint(format!("convert it first: iconv -f {name} -t UTF-8 FILE > NEW_FILE")));
        }
        (_, Guess::Unknown) => {
            return Err(
                Error::input(format!("cannot tell the encoding of {}", path.display())).hint("convert it to UTF-8 first, for example with iconv")
            );
        }
    };
    let delimiter = match file.format {
        SourceFormat::Csv => delimiter(path)?.filter(|&found| found != ','),
        _ => None,
    };
    let source = SourceConfig { delimiter: delimiter.map(String::from), ..SourceConfig::default() };
    let decoder = TextEncoding::named(encoding)?;
    let mut framer = Framer::open_unmapped(file, &source, decoder)?;
    let mut tallies = Tallies::new(framer.dropped_columns());
    let mut is_longer = false;
    while let Some(chunk) = framer.next_chunk()? {
        count(&chunk, decoder, &mut tallies);
        if tallies.records >= MAX_RECORDS {
            is_longer = true;
            break;
        }
    }
    let header_is_a_row = matches!(file.format, SourceFormat::Csv | SourceFormat::Tsv) && tallies.header_is_a_row();
    let (records, unreadable) = (tallies.records, tallies.unreadable);
    Ok(Inspection { encoding, delimiter, records, is_longer, unreadable, columns: tallies.finish(), header_is_a_row })
}

/// The sign that splits most lines into the same number of fields, the most of them.
fn delimiter(path: &Path) -> Result<Option<char>> {
    let mut reader = BufReader::new(File::open(path).doing("open", path)?);
    let mut lines = Vec::new();
    while lines.len() < DELIMITER_LINES {
        let mut line = Vec::new();
        if std::io::Read::take(&mut reader, DELIMITER_BYTES).read_until(b'\n', &mut line).doing("read", path)? == 0 {
            break;
        }
        lines.push(line);
    }
    let Some(header) = lines.first() else { return Ok(None) };
    let fields = |line: &[u8], sign: u8| line.iter().filter(|&&byte| byte == sign).count();
    // Quoted fields may hold the sign and line ends, so no line has to agree, but most do, or at least have as many.
    let agrees = |sign: u8| {
        let wanted = fields(header, sign);
        let agreeing = lines.iter().filter(|line| fields(line, sign) >= wanted).count();
        if wanted > 0 && agreeing * 2 > lines.len() { wanted } else { 0 }
    };
    let best = [b',', b';', b'\t', b'|'].into_iter().rev().max_by_key(|&sign| agrees(sign)).filter(|&sign| agrees(sign) > 0);
    Ok(best.map(char::from))
}

fn count(chunk: &RawChunk, encoding: TextEncoding, tallies: &mut Tallies) {
    match chunk {
        RawChunk::Csv { map, records } => {
            for (_, record) in records {
                tallies.records += 1;
                let fields: Option<Vec<Cow<'_, str>>> =
                    if record.len() == map.width { record.iter().map(|field| encoding.decode(field)).collect() } else { None };
                match fields {
                    None => tallies.unreadable += 1,
                    Some(fields) => fields.iter().enumerate().for_each(|(at, field)| tallies.add(at, ValueKind::of_field(field), field)),
                }
            }
        }
        RawChunk::Jsonl { lines } => {
            for (_, line) in lines {
                tallies.records += 1;
                let record = encoding.decode(line).and_then(|text| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).ok());
                let Some(record) = record else {
                    tallies.unreadable += 1;
                    continue;
                };
                for (name, value) in &record {
                    let Some(at) = tallies.position(name) else { continue };
                    match value {
                        serde_json::Value::Null => {}
                        serde_json::Value::String(text) => tallies.add(at, ValueKind::Text, text),
                        serde_json::Value::Number(number) if number.is_f64() => tallies.add(at, ValueKind::Number, &number.to_string()),
                        serde_json::Value::Number(number) => tallies.add(at, ValueKind::Integer, &number.to_string()),
                        serde_json::Value::Bool(value) => tallies.add(at, ValueKind::Integer, &value.to_string()),
                        _ => tallies.add(at, ValueKind::Other, ""),
                    }
                }
            }
        }
        RawChunk::Arrow { batch, .. } => {
            tallies.records += batch.num_rows() as u64;
            for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
                if let Some(at) = tallies.position(field.name()) {
                    count_arrow(column, at, tallies);
                }
            }
        }
    }
}

fn count_arrow(column: &ArrayRef, at: usize, tallies: &mut Tallies) {
    let kind = match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ValueKind::Text,
        _ => ValueKind::Integer,
    };
    match strings(column, true) {
        Some(values) => values.iter().flatten().for_each(|value| tallies.add(at, kind, value)),
        // What ingest does not read plays no role; strings in a dictionary are the likeliest of it.
        None => {
            let is_text = column.as_any_dictionary_opt().is_some_and(|dictionary| strings(dictionary.values(), false).is_some());
            (0..column.len() - column.null_count()).for_each(|_| tallies.add(at, if is_text { ValueKind::Dictionary } else { ValueKind::Other }, ""));
        }
    }
}

#[cfg(test)]
mod tests;
