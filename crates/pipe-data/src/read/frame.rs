//! Files to chunks of raw records.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use memchr::memchr;
use pipe_core::config::{Compression, SourceConfig, SourceFormat};
use pipe_core::source::SourceFile;
use pipe_core::{Error, Result};

use super::array::{ArrayFramer, Element};
use super::csv::{self, Dialect, End};
use super::header::Header;
use super::input::{Input, read_error};
use super::table::{TableFramer, slice_bytes};
use super::utf16::source_length;
use super::wanted::Wanted;
use super::window::Window;
use super::{Place, Reason, TextEncoding, header};

/// A record longer than this is none: it would have to be held in memory whole.
pub(super) const MAX_RECORD: usize = 16 << 20;
/// What is kept of a record that is too long.
const KEPT_OF_LONG: usize = 64 << 10;
/// A chunk ends after this many bytes even if it holds few records.
const CHUNK_BYTES: usize = 4 << 20;
/// Read at a time, at least.
const BLOCK: usize = 1 << 20;

/// Records as their file frames them, not yet looked into. No `Debug`: it holds raw text.
pub struct RawChunk {
    pub(super) file: Arc<FileFacts>,
    pub(super) body: Body,
}

pub(super) enum Body {
    /// Records next to one another, as they stand in the file.
    Text { bytes: Vec<u8>, records: Vec<TextRecord> },
    /// Rows of Arrow, the first with its number.
    Table { first: u64, batch: RecordBatch },
}

pub(super) struct TextRecord {
    pub(super) place: Place,
    /// Its bytes in the chunk's, line end included.
    pub(super) start: u32,
    pub(super) end: u32,
    /// What the framer found wrong with it.
    pub(super) fault: Option<Reason>,
}

/// What all records of a file have in common.
pub(super) struct FileFacts {
    pub(super) path: PathBuf,
    pub(super) format: SourceFormat,
    pub(super) encoding: TextEncoding,
    pub(super) delimiter: u8,
    pub(super) header: Header,
    /// Names of the wanted columns, in order.
    pub(super) wanted: Vec<String>,
}

/// Reads one file, chunk after chunk.
pub struct Framer {
    file: Arc<FileFacts>,
    kind: Kind,
    /// Names of the columns that it has, as far as it says.
    columns: Vec<String>,
    chunk_records: usize,
    /// Records framed so far.
    read: u64,
}

enum Kind {
    Text(Box<TextFramer>),
    Table(Box<TableFramer>),
}

struct TextFramer {
    window: Window,
    framing: Framing,
    compression: Compression,
    /// What ended reading, while what was read before is framed.
    failed: Option<std::io::Error>,
    position: Arc<AtomicU64>,
    /// Of what is not framed yet, in the file.
    offset: u64,
    is_utf_16: bool,
}

enum Framing {
    /// A record is a line that is not blank.
    Lines,
    Csv(Dialect),
    Array(ArrayFramer),
    /// All that is left of the file; absent once it was given.
    File(bool),
}

/// What comes next in some bytes of a file.
enum Step {
    Record {
        gap: usize,
        length: usize,
        fault: Option<Reason>,
    },
    /// A record that ends nowhere in them.
    More {
        gap: usize,
    },
    End,
}

impl Framer {
    /// Opens `file` and finds the wanted columns in it, where it says which it has. A chunk has `chunk_records` records at most.
    pub fn open(file: &SourceFile, source: &SourceConfig, wanted: &Wanted, chunk_records: usize) -> Result<Framer> {
        Framer::open_in_blocks(file, source, wanted, chunk_records, BLOCK)
    }

    /// The same, reading about `block` bytes at a time.
    pub(super) fn open_in_blocks(file: &SourceFile, source: &SourceConfig, wanted: &Wanted, chunk_records: usize, block: usize) -> Result<Framer> {
        let names: Vec<String> = wanted.names().map(str::to_owned).collect();
        if matches!(file.format, SourceFormat::Parquet | SourceFormat::Arrow) {
            let (table, columns, header) = TableFramer::open(file, source, wanted, chunk_records)?;
            let facts = FileFacts { path: file.shown(), format: file.format, encoding: TextEncoding::UTF_8, delimiter: 0, header, wanted: names };
            return Ok(Framer { file: Arc::new(facts), kind: Kind::Table(Box::new(table)), columns, chunk_records, read: 0 });
        }
        let input = Input::text(file, source)?;
        let encoding = input.encoding;
        let default = if file.format == SourceFormat::Tsv { b'\t' } else { b',' };
        let delimiter = source.delimiter.as_ref().and_then(|text| text.bytes().next()).unwrap_or(default);
        let has_pairs = encoding.has_pairs();
        let framing = match file.format {
            SourceFormat::Csv | SourceFormat::Tsv => Framing::Csv(Dialect { delimiter, has_pairs }),
            SourceFormat::Json => Framing::Array(ArrayFramer::new(has_pairs)),
            SourceFormat::Text => Framing::File(false),
            _ => Framing::Lines,
        };
        let mut text = TextFramer {
            window: Window::new(input.bytes, block),
            framing,
            compression: input.compression,
            failed: None,
            position: input.position,
            offset: input.mark,
            is_utf_16: input.is_utf_16,
        };
        if file.format == SourceFormat::Json {
            text.open_array(&file.shown())?;
        }
        let columns = match file.format {
            SourceFormat::Csv | SourceFormat::Tsv => text.header(file, encoding, delimiter)?,
            SourceFormat::Lines | SourceFormat::Text => vec!["text".to_owned()],
            _ => Vec::new(),
        };
        let header = match file.format {
            SourceFormat::Csv | SourceFormat::Tsv => Header::of_first_line(wanted, &columns, file)?,
            SourceFormat::Lines | SourceFormat::Text => Header::of_schema(wanted, &columns, file)?,
            _ => Header::of_keys(wanted, file),
        };
        let facts = FileFacts { path: file.shown(), format: file.format, encoding, delimiter, header, wanted: names };
        let mut framer = Framer { file: Arc::new(facts), kind: Kind::Text(Box::new(text)), columns, chunk_records, read: 0 };
        if framer.has_keys() && !wanted.is_empty() {
            framer.columns = header::first_keys(file, source)?;
        }
        Ok(framer)
    }

    /// The names of columns are keys of the records.
    fn has_keys(&self) -> bool {
        matches!(self.file.format, SourceFormat::Json | SourceFormat::Jsonl)
    }

    /// Bytes read so far of the file as it is on disk, for progress.
    pub fn position(&self) -> u64 {
        match &self.kind {
            Kind::Text(text) => text.position.load(Ordering::Relaxed),
            Kind::Table(table) => table.position(),
        }
    }

    /// Names of all columns; in a format without a header, the keys of its first records.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Names of all columns, keys of the first records included; for a look at a file of which nothing is known.
    pub(crate) fn all_columns(self, file: &SourceFile, source: &SourceConfig) -> Result<Vec<String>> {
        if self.has_keys() { header::first_keys(file, source) } else { Ok(self.columns) }
    }

    /// Whether [`columns`](Framer::columns) are all there are.
    pub fn knows_columns(&self) -> bool {
        !self.has_keys()
    }

    /// The next records; absent at the end of the file.
    pub fn next_chunk(&mut self) -> Result<Option<RawChunk>> {
        let body = match &mut self.kind {
            Kind::Text(text) => text.next_body(self.read, self.chunk_records, &self.file.path)?,
            Kind::Table(table) => table.next_batch(&self.file.path)?.map(|batch| Body::Table { first: self.read + 1, batch }),
        };
        Ok(body.map(|body| {
            let chunk = RawChunk { file: Arc::clone(&self.file), body };
            self.read += chunk.records() as u64;
            chunk
        }))
    }
}

impl TextFramer {
    /// `records` are framed so far. Those that were read before reading failed still are, so that the failure is told
    /// with the place where it is.
    fn grow(&mut self, path: &Path, records: u64) -> Result<()> {
        let held = self.window.bytes().len();
        let failed = match self.failed.take() {
            Some(error) => Some(error),
            None => self.window.grow().err(),
        };
        match failed {
            Some(error) if self.window.bytes().len() > held => self.failed = Some(error),
            Some(error) => return Err(read_error(path, self.compression, records, error)),
            None => {}
        }
        Ok(())
    }

    /// How many bytes of the file these are.
    fn source_length(&self, bytes: &[u8]) -> u64 {
        if self.is_utf_16 { source_length(bytes) } else { bytes.len() as u64 }
    }

    /// Consumes the opening bracket of an array.
    fn open_array(&mut self, path: &Path) -> Result<()> {
        loop {
            let blank = self.window.bytes().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            match self.window.bytes().get(blank) {
                Some(b'[') => {
                    self.offset += self.source_length(&self.window.bytes()[..blank + 1]);
                    self.window.consume(blank + 1);
                    return Ok(());
                }
                Some(_) => {
                    return Err(
                        Error::input(format!("{} is no JSON array", path.display())).hint("if each of its lines is an object, write `format: jsonl`")
                    );
                }
                None if self.window.is_last() => return Err(empty(path)),
                None => {
                    self.offset += self.source_length(&self.window.bytes()[..blank]);
                    self.window.consume(blank);
                    self.grow(path, 0)?;
                }
            }
        }
    }

    /// The names in the first record, which is consumed.
    fn header(&mut self, file: &SourceFile, encoding: TextEncoding, delimiter: u8) -> Result<Vec<String>> {
        let path = &file.shown();
        loop {
            match self.framing.step(self.window.bytes(), self.window.is_last()) {
                Step::Record { fault: Some(Reason::UnclosedQuote), .. } => {
                    return Err(Error::input(format!("the first line of {} has a quote that never closes", path.display()))
                        .hint("is it a header, and is `format:` right?"));
                }
                Step::Record { fault: Some(_), .. } => return Err(long_header(path)),
                Step::Record { gap, length, .. } => {
                    let record = without_line_end(&self.window.bytes()[gap..gap + length]);
                    let text = encoding.decode(record);
                    let Some(text) = text else {
                        return Err(Error::input(format!("the first line of {} is not {}", path.display(), encoding.name()))
                            .hint("is `encoding:` right? `encoding: auto` finds it out"));
                    };
                    let names = csv::Fields::of(&text, delimiter).map(std::borrow::Cow::into_owned).collect();
                    self.offset += self.source_length(&self.window.bytes()[..gap + length]);
                    self.window.consume(gap + length);
                    return Ok(names);
                }
                Step::More { gap } if self.window.bytes().len() - gap > MAX_RECORD => return Err(long_header(path)),
                Step::More { .. } => self.grow(path, 0)?,
                Step::End => return Err(empty(path)),
            }
        }
    }

    /// `read` records came before.
    fn next_body(&mut self, read: u64, chunk_records: usize, path: &Path) -> Result<Option<Body>> {
        let mut records: Vec<TextRecord> = Vec::new();
        // What of the window is framed, from where the chunk begins.
        let mut at = 0;
        while records.len() < chunk_records && at < CHUNK_BYTES {
            match self.framing.step(&self.window.bytes()[at..], self.window.is_last()) {
                // So that a chunk ends at the same place however much of the gap is in memory.
                Step::Record { gap, .. } | Step::More { gap } if gap > CHUNK_BYTES && !records.is_empty() => break,
                Step::Record { gap, length, fault } if length <= MAX_RECORD => {
                    let bytes = self.window.bytes();
                    self.offset += self.source_length(&bytes[at..at + gap]);
                    let place = Place {
                        number: read + records.len() as u64 + 1,
                        offset: self.offset,
                        length: self.source_length(&bytes[at + gap..at + gap + length]),
                    };
                    self.offset += place.length;
                    records.push(TextRecord { place, start: (at + gap) as u32, end: (at + gap + length) as u32, fault });
                    at += gap + length;
                }
                Step::Record { gap, .. } => {
                    if records.is_empty() {
                        return self.skip_long(gap, read, path).map(Some);
                    }
                    break;
                }
                Step::More { gap } if self.window.bytes().len() - at - gap > MAX_RECORD => {
                    if records.is_empty() {
                        return self.skip_long(gap, read, path).map(Some);
                    }
                    break;
                }
                Step::More { gap } => {
                    // Blank lines before a chunk are no part of it, however many they are.
                    if records.is_empty() {
                        self.offset += self.source_length(&self.window.bytes()[..gap]);
                        self.window.consume(gap);
                    }
                    self.grow(path, read + records.len() as u64)?;
                }
                Step::End => break,
            }
        }
        if records.is_empty() {
            return Ok(None);
        }
        // Blank lines before the first record are not the chunk's.
        let start = records[0].start;
        let bytes = self.window.bytes()[start as usize..at].to_vec();
        for record in &mut records {
            record.start -= start;
            record.end -= start;
        }
        self.window.consume(at);
        Ok(Some(Body::Text { bytes, records }))
    }

    /// A chunk of the first bytes of a record that is too long; the rest of it is left out.
    fn skip_long(&mut self, gap: usize, read: u64, path: &Path) -> Result<Body> {
        self.offset += self.source_length(&self.window.bytes()[..gap]);
        self.window.consume(gap);
        let bytes = self.window.bytes()[..KEPT_OF_LONG.min(self.window.bytes().len())].to_vec();
        let mut length = 0;
        loop {
            let (step, found) = self.framing.skip(self.window.bytes());
            length += self.source_length(&self.window.bytes()[..step]);
            self.window.consume(step);
            if found || (self.window.is_last() && self.window.bytes().is_empty()) {
                break;
            }
            self.grow(path, read)?;
        }
        let place = Place { number: read + 1, offset: self.offset, length };
        self.offset += length;
        let record = TextRecord { place, start: 0, end: bytes.len() as u32, fault: Some(Reason::TooLong) };
        Ok(Body::Text { bytes, records: vec![record] })
    }
}

impl Framing {
    fn step(&mut self, bytes: &[u8], is_last: bool) -> Step {
        match self {
            Framing::Lines => line(bytes, is_last),
            Framing::Csv(dialect) => csv_record(bytes, is_last, *dialect),
            Framing::Array(framer) => match framer.next(bytes, is_last) {
                Element::Whole { gap, length, fault } => Step::Record { gap, length, fault },
                Element::More => Step::More { gap: 0 },
                Element::End => Step::End,
            },
            Framing::File(true) => Step::End,
            Framing::File(given) if is_last => {
                *given = true;
                Step::Record { gap: 0, length: bytes.len(), fault: None }
            }
            Framing::File(_) => Step::More { gap: 0 },
        }
    }

    /// How much of `bytes` belongs to a record that is too long, and whether it ends there.
    fn skip(&mut self, bytes: &[u8]) -> (usize, bool) {
        match self {
            Framing::Lines | Framing::Csv(_) => memchr(b'\n', bytes).map_or((bytes.len(), false), |at| (at + 1, true)),
            Framing::Array(framer) => framer.skip(bytes),
            Framing::File(given) => {
                *given = true;
                (bytes.len(), false)
            }
        }
    }
}

fn line(bytes: &[u8], is_last: bool) -> Step {
    let mut gap = 0;
    loop {
        let rest = &bytes[gap..];
        let length = match memchr(b'\n', rest) {
            Some(end) => end + 1,
            None if !is_last => return Step::More { gap },
            None if rest.is_empty() => return Step::End,
            None => rest.len(),
        };
        // The first sign decides but for blank lines.
        if rest[..length].iter().any(|byte| !byte.is_ascii_whitespace()) {
            return Step::Record { gap, length, fault: None };
        }
        gap += length;
    }
}

fn csv_record(bytes: &[u8], is_last: bool, dialect: Dialect) -> Step {
    let gap = bytes.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
    let rest = &bytes[gap..];
    if rest.is_empty() {
        return if is_last { Step::End } else { Step::More { gap } };
    }
    // Whatever more of the file is at hand must not count.
    let (seen, is_all) = if rest.len() > MAX_RECORD { (&rest[..MAX_RECORD + 1], false) } else { (rest, is_last) };
    let (body, fault) = match csv::record_end(seen, dialect) {
        End::At(body) => (body, None),
        End::Beyond if is_all => (rest.len(), None),
        // It closes nowhere: only the line that opens it is lost.
        End::Quoted if is_all || seen.len() > MAX_RECORD => {
            let line = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            (line, Some(Reason::UnclosedQuote))
        }
        End::Beyond | End::Quoted => return Step::More { gap },
    };
    let end = match rest.get(body..) {
        Some([b'\r', b'\n', ..]) => 2,
        // A line feed may follow.
        Some([b'\r']) if !is_last => return Step::More { gap },
        Some([b'\r' | b'\n', ..]) => 1,
        _ => 0,
    };
    Step::Record { gap, length: body + end, fault }
}

pub(super) fn without_line_end(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}

impl RawChunk {
    pub fn records(&self) -> usize {
        match &self.body {
            Body::Text { records, .. } => records.len(),
            Body::Table { batch, .. } => batch.num_rows(),
        }
    }

    /// How much memory its records take, about.
    pub fn bytes(&self) -> u64 {
        match &self.body {
            Body::Text { bytes, .. } => bytes.len() as u64,
            Body::Table { batch, .. } => slice_bytes(batch),
        }
    }

    /// Where its first record stands.
    pub fn start(&self) -> Place {
        match &self.body {
            Body::Text { records, .. } => records[0].place,
            Body::Table { first, .. } => Place { number: *first, offset: 0, length: 0 },
        }
    }
}

pub(crate) fn empty(path: &Path) -> Error {
    Error::input(format!("{} holds no rows", path.display())).hint("is the file complete? an empty input is never trained on")
}

fn long_header(path: &Path) -> Error {
    Error::input(format!("the first line of {} is longer than {} MiB", path.display(), MAX_RECORD >> 20))
        .hint("is it really a table, and is there a quote that never closes?")
}
