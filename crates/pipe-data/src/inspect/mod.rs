//! What a data file looks like: its columns' names, kinds and statistics, from its first records. No text of a row
//! leaves this module, only counts.

mod encoding;
mod tally;

use std::io::{BufRead, BufReader};

use pipe_core::config::{Compression, SourceConfig, SourceFormat};
use pipe_core::source::SourceFile;
use pipe_core::{Error, IoContext, Result};

use crate::read::{CHUNK_RECORDS, Cell, Framer, Input, KeyNames, Wanted};
pub(crate) use encoding::beside_utf_8;
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
    let path = &file.shown();
    let is_table = matches!(file.format, SourceFormat::Parquet | SourceFormat::Arrow);
    let encoding = match if is_table { Guess::Utf8 } else { guess(Input::decompressed(file, Compression::Auto)?.bytes).doing("read", path)? } {
        Guess::Utf8 => "utf-8",
        Guess::Utf16(label) | Guess::Label(label) => label,
        Guess::Unknown => {
            return Err(
                Error::input(format!("cannot tell the encoding of {}", path.display())).hint("convert it to UTF-8 first, for example with iconv")
            );
        }
    };
    let mut source = SourceConfig { encoding: encoding.to_owned(), ..SourceConfig::default() };
    let delimiter = match file.format {
        SourceFormat::Csv if !encoding.starts_with("utf-16") => delimiter(file)?.filter(|&found| found != ','),
        _ => None,
    };
    source.delimiter = delimiter.map(String::from);
    let all = Framer::open(file, &source, &Wanted::default(), CHUNK_RECORDS)?.all_columns(file, &source)?;
    // Files without a name for each of their columns have their records framed, and told as unreadable.
    let (mut tallies, wanted) = (Tallies::new(&all), Wanted::new(all));
    let mut framer = Framer::open(file, &source, &wanted, CHUNK_RECORDS)?;
    let is_csv = matches!(file.format, SourceFormat::Csv | SourceFormat::Tsv);
    let mut is_longer = false;
    while let Some(chunk) = framer.next_chunk()? {
        chunk.parse(&wanted, &mut KeyNames::default(), &mut |_, cells| {
            count(cells.ok().map(|cells| &*cells), is_csv, &mut tallies);
            Ok(())
        })?;
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
fn delimiter(file: &SourceFile) -> Result<Option<char>> {
    let mut reader = BufReader::new(Input::decompressed(file, Compression::Auto)?.bytes);
    let mut lines = Vec::new();
    while lines.len() < DELIMITER_LINES {
        let mut line = Vec::new();
        if std::io::Read::take(&mut reader, DELIMITER_BYTES).read_until(b'\n', &mut line).doing("read", &file.shown())? == 0 {
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

/// `cells` are absent for a record that cannot be read.
fn count(cells: Option<&[Cell<'_>]>, is_csv: bool, tallies: &mut Tallies) {
    tallies.records += 1;
    let Some(cells) = cells else {
        tallies.unreadable += 1;
        return;
    };
    for (at, cell) in cells.iter().enumerate() {
        match cell {
            Cell::Missing | Cell::Null => {}
            Cell::Text(text) if is_csv => tallies.add(at, ValueKind::of_field(text), text),
            Cell::Text(text) => tallies.add(at, ValueKind::Text, text),
            Cell::Integer(number) => tallies.add(at, ValueKind::Integer, &number.to_string()),
            Cell::Float(number) => tallies.add(at, ValueKind::Number, &number.to_string()),
            Cell::Bool(value) => tallies.add(at, ValueKind::Integer, &value.to_string()),
            Cell::Nested(_) => tallies.add(at, ValueKind::Other, ""),
        }
    }
}

#[cfg(test)]
mod tests;
