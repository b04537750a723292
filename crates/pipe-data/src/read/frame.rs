//! Files to chunks of raw records.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use arrow_array::RecordBatch;
use csv::{ByteRecord, ReaderBuilder};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use pipe_core::config::{ColumnsConfig, SourceConfig, SourceFormat};
use pipe_core::source::SourceFile;
use pipe_core::{Error, IoContext, Result};

use super::{CHUNK_RECORDS, ColumnMap, Place, TextEncoding};

/// Records as their file frames them, not yet looked into. No `Debug`: it holds raw text.
pub enum RawChunk {
    Csv { map: ColumnMap, records: Vec<(Place, ByteRecord)> },
    Jsonl { lines: Vec<(Place, Vec<u8>)> },
    Arrow { first: u64, batch: RecordBatch },
}

/// Reads one file, chunk after chunk.
pub struct Framer {
    kind: Kind,
    path: std::path::PathBuf,
    /// Names in the header; none in a format without one.
    columns: Vec<String>,
    chunk_records: usize,
}

enum Kind {
    Csv { reader: csv::Reader<Budgeted>, map: ColumnMap, read: u64 },
    Jsonl { reader: BufReader<File>, read: u64, offset: u64 },
    Parquet { reader: ParquetRecordBatchReader, read: u64 },
}

/// A record longer than this is none: it would have to be held in memory whole. A quote that never closes is one.
const MAX_RECORD: usize = 16 << 20;
/// A chunk ends after this many bytes even if it holds few records.
const CHUNK_BYTES: u64 = 4 << 20;

/// A file that gives out once a record's budget of bytes is read.
struct Budgeted {
    file: BufReader<File>,
    left: usize,
}

impl Read for Budgeted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        let most = buffer.len().min(self.left);
        let read = self.file.read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}

impl Framer {
    /// Opens `file` and, where the format has a header, finds the mapped columns in it.
    /// A chunk has `chunk_records` records at most.
    pub fn open(file: &SourceFile, source: &SourceConfig, columns: &ColumnsConfig, encoding: TextEncoding, chunk_records: usize) -> Result<Framer> {
        Framer::with_header(file, source, encoding, chunk_records, |header| ColumnMap::of_header(columns, header, &file.path))
    }

    /// Opens a file whose columns nobody has named yet; all count as dropped.
    pub(crate) fn open_unmapped(file: &SourceFile, source: &SourceConfig, encoding: TextEncoding) -> Result<Framer> {
        Framer::with_header(file, source, encoding, CHUNK_RECORDS, |header| Ok(ColumnMap::unmapped(header)))
    }

    fn with_header(
        file: &SourceFile,
        source: &SourceConfig,
        encoding: TextEncoding,
        chunk_records: usize,
        map: impl FnOnce(&[String]) -> Result<ColumnMap>,
    ) -> Result<Framer> {
        let path = &file.path;
        let mut header_names = Vec::new();
        let handle = File::open(path).doing("open", path)?;
        let kind = match file.format {
            SourceFormat::Csv | SourceFormat::Tsv => {
                let default = if file.format == SourceFormat::Tsv { b'\t' } else { b',' };
                let delimiter = source.delimiter.as_ref().map_or(default, |text| text.as_bytes()[0]);
                let mut reader = ReaderBuilder::new()
                    .delimiter(delimiter)
                    .flexible(true)
                    .from_reader(Budgeted { file: BufReader::with_capacity(1 << 20, handle), left: MAX_RECORD });
                let header = reader.byte_headers().map_err(|e| csv_error(path, 0, e))?.clone();
                if header.is_empty() {
                    return Err(empty(path));
                }
                let mut names = Vec::with_capacity(header.len());
                for (at, name) in header.iter().enumerate() {
                    let name = if at == 0 { name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name) } else { name };
                    names.push(encoding.decode(name).map(std::borrow::Cow::into_owned).unwrap_or_default());
                }
                let map = map(&names)?;
                header_names = names;
                Kind::Csv { map, reader, read: 0 }
            }
            SourceFormat::Jsonl => Kind::Jsonl { reader: BufReader::with_capacity(1 << 20, handle), read: 0, offset: 0 },
            SourceFormat::Parquet => {
                let reader = ParquetRecordBatchReaderBuilder::try_new(handle)
                    .and_then(|builder| {
                        header_names = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
                        builder.with_batch_size(chunk_records).build()
                    })
                    .map_err(|_| {
                        Error::input(format!("{} is not a readable Parquet file", path.display())).hint("it may be cut short, or of another format")
                    })?;
                Kind::Parquet { reader, read: 0 }
            }
            SourceFormat::Json | SourceFormat::Arrow | SourceFormat::Lines | SourceFormat::Text => {
                return Err(Error::usage(format!("{} is of a format that cannot be read yet", path.display())));
            }
        };
        Ok(Framer { kind, path: path.clone(), columns: header_names, chunk_records })
    }

    /// Bytes read so far, for progress.
    pub fn position(&self) -> u64 {
        match &self.kind {
            Kind::Csv { reader, .. } => reader.position().byte(),
            Kind::Jsonl { offset, .. } => *offset,
            Kind::Parquet { .. } => 0,
        }
    }

    /// Names of all columns, as far as the file has a header.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Names of columns that are in the file and play no role.
    pub fn dropped_columns(&self) -> &[String] {
        match &self.kind {
            Kind::Csv { map, .. } => &map.dropped,
            _ => &[],
        }
    }

    /// The next records; absent at the end of the file.
    pub fn next_chunk(&mut self) -> Result<Option<RawChunk>> {
        match &mut self.kind {
            Kind::Csv { reader, map, read } => {
                let mut records = Vec::with_capacity(self.chunk_records);
                let start = reader.position().byte();
                while records.len() < self.chunk_records && reader.position().byte() - start < CHUNK_BYTES {
                    let mut record = ByteRecord::new();
                    reader.get_mut().left = MAX_RECORD;
                    if !reader.read_byte_record(&mut record).map_err(|e| csv_error(&self.path, *read + 1, e))? {
                        break;
                    }
                    *read += 1;
                    let offset = record.position().map_or(0, csv::Position::byte);
                    let place = Place { number: *read, offset, length: reader.position().byte().saturating_sub(offset) };
                    records.push((place, record));
                }
                Ok((!records.is_empty()).then(|| RawChunk::Csv { map: map.clone(), records }))
            }
            Kind::Jsonl { reader, read, offset } => {
                let mut lines = Vec::with_capacity(self.chunk_records);
                let first = *offset;
                while lines.len() < self.chunk_records && *offset - first < CHUNK_BYTES {
                    let mut line = Vec::new();
                    let length = Read::take(&mut *reader, MAX_RECORD as u64).read_until(b'\n', &mut line).doing("read", &self.path)? as u64;
                    if length == 0 {
                        break;
                    }
                    if length as usize == MAX_RECORD {
                        return Err(too_long(&self.path, *read + 1).hint("is it really JSON lines?"));
                    }
                    let start = *offset;
                    *offset += length;
                    let mut body = line.as_slice();
                    if start == 0 {
                        body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
                    }
                    let body = body.trim_ascii();
                    if body.is_empty() {
                        continue;
                    }
                    *read += 1;
                    let place = Place { number: *read, offset: start, length };
                    lines.push((place, body.to_vec()));
                }
                Ok((!lines.is_empty()).then_some(RawChunk::Jsonl { lines }))
            }
            Kind::Parquet { reader, read } => match reader.next() {
                None => Ok(None),
                Some(Ok(batch)) => {
                    let first = *read + 1;
                    *read += batch.num_rows() as u64;
                    Ok(Some(RawChunk::Arrow { first, batch }))
                }
                Some(Err(_)) => Err(Error::input(format!("{} is damaged after row {read}", self.path.display()))),
            },
        }
    }
}

impl RawChunk {
    pub fn records(&self) -> usize {
        match self {
            RawChunk::Csv { records, .. } => records.len(),
            RawChunk::Jsonl { lines } => lines.len(),
            RawChunk::Arrow { batch, .. } => batch.num_rows(),
        }
    }

    /// How much memory its records take, about.
    pub fn bytes(&self) -> u64 {
        let places = |sum: &mut dyn Iterator<Item = Place>| sum.map(|place| place.length).sum();
        match self {
            RawChunk::Csv { records, .. } => places(&mut records.iter().map(|(place, _)| *place)),
            RawChunk::Jsonl { lines } => places(&mut lines.iter().map(|(place, _)| *place)),
            RawChunk::Arrow { batch, .. } => batch.get_array_memory_size() as u64,
        }
    }

    /// Where its first record stands.
    pub fn start(&self) -> Place {
        let first = match self {
            RawChunk::Csv { records, .. } => records.first().map(|(place, _)| *place),
            RawChunk::Jsonl { lines } => lines.first().map(|(place, _)| *place),
            RawChunk::Arrow { first, .. } => Some(Place { number: *first, offset: 0, length: 0 }),
        };
        first.expect("a chunk holds records")
    }
}

pub(crate) fn empty(path: &Path) -> Error {
    Error::input(format!("{} holds no rows", path.display())).hint("is the file complete? an empty input is never trained on")
}

fn too_long(path: &Path, record: u64) -> Error {
    Error::input(format!("record {record} of {} is longer than {} MiB", path.display(), MAX_RECORD >> 20))
}

/// csv's own messages can quote a field.
fn csv_error(path: &Path, record: u64, error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
            too_long(path, record).hint("is there a quote that never closes?")
        }
        csv::ErrorKind::Io(error) => Error::io("read", path, error),
        _ => Error::input(format!("{} cannot be read as CSV", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<usize> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        let file = SourceFile { path, format: SourceFormat::Csv };
        let mut framer = Framer::open(&file, &SourceConfig::default(), &ColumnsConfig::default(), TextEncoding::UTF_8, CHUNK_RECORDS)?;
        let mut records = 0;
        while let Some(chunk) = framer.next_chunk()? {
            records += chunk.records();
        }
        Ok(records)
    }

    #[test]
    fn a_quote_that_never_closes_is_an_error_and_not_a_row() {
        let lines = "id,text\n".to_owned() + &"1,fine\n".repeat(10);
        assert_eq!(read(&lines).unwrap(), 10);
        let error = read(&(lines + "2,\"secret" + &" secret".repeat(MAX_RECORD / 6))).unwrap_err();
        assert_eq!(error.class.exit_code(), 12);
        assert!(error.message.contains("record 11") && error.hint.unwrap().contains("quote"), "{}", error.message);
        assert!(!error.message.contains("secret"));
    }

    #[test]
    fn chunks_end_at_their_bytes() {
        let text = "text\n".to_owned() + &format!("{}\n", "a".repeat(1 << 20)).repeat(20);
        assert_eq!(read(&text).unwrap(), 20);
    }
}
