//! A chunk of raw records to cells or what is wrong with them: pure, so that any thread can do it.

use std::borrow::Cow;

use pipe_core::Result;
use pipe_core::config::SourceFormat;

use super::cells::{Column, row_as_json};
use super::csv::Fields;
use super::frame::{Body, FileFacts, MAX_RECORD, RawChunk, TextRecord, without_line_end};
use super::header::Slot;
use super::json;
use super::names::KeyCounter;
use super::seal::Sealer;
use super::wanted::Wanted;
use super::{Cell, KeyNames, Place, Reason, Reject};

/// A record as it stands in its file. No `Debug`: it holds raw text.
pub struct RawRecord<'a> {
    pub place: Place,
    raw: Raw<'a>,
}

enum Raw<'a> {
    Bytes(&'a [u8]),
    /// A row of Arrow's columns.
    Row(&'a [(&'a str, Column<'a>)], usize),
}

/// What is done with each record: with its cells, or with what is wrong with it and in which column.
pub(super) type EachRecord<'e> = &'e mut dyn FnMut(&RawRecord<'_>, Result<&mut [Cell<'_>], (Option<&str>, Reason)>) -> Result<()>;

/// Fills the cells of a record from its text. On failure: the position of the column at fault, where one is.
type CellsOf<'e> = &'e mut dyn for<'t> FnMut(&'t str, &mut [Cell<'t>]) -> Result<(), (Option<usize>, Reason)>;

impl RawRecord<'_> {
    /// Its bytes without the line end; for a row of Arrow, the wanted columns as a JSON object.
    pub(crate) fn raw(&self) -> Cow<'_, [u8]> {
        match &self.raw {
            Raw::Bytes(bytes) => Cow::Borrowed(bytes),
            Raw::Row(columns, row) => Cow::Owned(row_as_json(columns, *row)),
        }
    }

    /// The note of a record that cannot be used.
    pub fn reject(&self, column: Option<&str>, reason: Reason) -> Reject {
        // The key is no secret: it keeps the digest apart from other digests of the same bytes, not a short record from
        // being guessed.
        let key = blake3::derive_key("pipe rejected record v1", b"");
        let digest = blake3::keyed_hash(&key, &self.raw()).to_hex()[..32].to_owned();
        Reject { place: self.place, column: column.map(str::to_owned), reason, digest, sealed: None }
    }

    /// The same, with the raw bytes sealed.
    pub fn sealed_reject(&self, column: Option<&str>, reason: Reason, sealer: Option<&Sealer>) -> Reject {
        Reject { sealed: sealer.map(|sealer| sealer.seal(&self.raw())), ..self.reject(column, reason) }
    }
}

impl RawChunk {
    /// Looks into every record, in order. `wanted` is what the file was opened with. `names` are the keys met, in formats
    /// whose records name their columns. Fails where `each` does.
    pub fn parse(&self, wanted: &Wanted, names: &mut KeyNames, each: EachRecord<'_>) -> Result<()> {
        match &self.body {
            Body::Text { bytes, records } => match self.file.format {
                SourceFormat::Csv | SourceFormat::Tsv => self.each_text(bytes, records, each, &mut |text, cells| csv_cells(text, &self.file, cells)),
                SourceFormat::Json | SourceFormat::Jsonl => {
                    let mut keys = KeyCounter::new(names);
                    self.each_text(bytes, records, each, &mut |text, cells| json::cells_of(text, wanted, cells, &mut keys))
                }
                _ => self.each_text(bytes, records, each, &mut |text, cells| {
                    cells.fill(Cell::Text(Cow::Borrowed(text)));
                    Ok(())
                }),
            },
            Body::Table { first, batch } => {
                let columns = super::cells::columns(batch, wanted, &self.file)?;
                let mut cells = Vec::with_capacity(columns.len());
                for row in 0..batch.num_rows() {
                    let place = Place { number: first + row as u64, offset: 0, length: 0 };
                    let record = RawRecord { place, raw: Raw::Row(&columns, row) };
                    cells.clear();
                    let mut fault = None;
                    for (name, column) in &columns {
                        match column.cell(row) {
                            Some(cell) => cells.push(cell),
                            None => fault = fault.or(Some((Some(*name), Reason::InvalidEncoding))),
                        }
                    }
                    each(&record, fault.map_or(Ok(cells.as_mut_slice()), Err))?;
                }
                Ok(())
            }
        }
    }

    fn each_text(&self, bytes: &[u8], records: &[TextRecord], each: EachRecord<'_>, cells_of: CellsOf<'_>) -> Result<()> {
        let slots = &self.file.header.slots;
        let names: &[String] = &self.file.wanted;
        let mut spare: Vec<Cell<'static>> = Vec::with_capacity(slots.len());
        for at in records {
            let raw = without_line_end(&bytes[at.start as usize..at.end as usize]);
            let record = RawRecord { place: at.place, raw: Raw::Bytes(raw) };
            let text = match at.fault {
                Some(reason) => Err((None, reason)),
                None => self.text(raw).map_err(|at| (at.map(|at| names[at].as_str()), Reason::InvalidEncoding)),
            };
            let text = match text {
                Ok(text) => text,
                Err(fault) => {
                    each(&record, Err(fault))?;
                    continue;
                }
            };
            let mut cells = recycled(spare);
            cells.resize(slots.len(), Cell::Missing);
            let parsed = cells_of(&text, &mut cells);
            for (cell, slot) in cells.iter_mut().zip(slots) {
                match slot {
                    Slot::OfFile(value) => *cell = Cell::Text(Cow::Borrowed(value)),
                    Slot::Absent => *cell = Cell::Missing,
                    Slot::At(_) | Slot::Key => {}
                }
            }
            match parsed {
                Ok(()) => each(&record, Ok(&mut cells))?,
                Err((at, reason)) => each(&record, Err((at.map(|at| names[at].as_str()), reason)))?,
            }
            spare = recycled(cells);
        }
        Ok(())
    }

    /// The text of a record. On failure: the position of the wanted column at fault, where one can be told.
    fn text<'b>(&self, raw: &'b [u8]) -> Result<Cow<'b, str>, Option<usize>> {
        let encoding = self.file.encoding;
        let is_json = matches!(self.file.format, SourceFormat::Json | SourceFormat::Jsonl);
        match encoding.decode(raw) {
            // JSON has no zeros either, and says so itself.
            Some(text) if is_json || memchr::memchr(0, text.as_bytes()).is_none() => Ok(text),
            _ if matches!(self.file.format, SourceFormat::Csv | SourceFormat::Tsv) => Err(self.bad_field(raw)),
            _ => Err(None),
        }
    }

    /// The first wanted field of a CSV record that is no text. Fields of pairs of bytes are not told apart.
    fn bad_field(&self, raw: &[u8]) -> Option<usize> {
        if self.file.encoding.has_pairs() {
            return None;
        }
        // One character per byte, so that positions are those of the bytes.
        let latin: String = raw.iter().map(|&byte| char::from(byte)).collect();
        let is_bad = |field: &str| {
            let bytes: Vec<u8> = field.chars().map(|c| c as u32 as u8).collect();
            self.file.encoding.decode(&bytes).is_none() || bytes.contains(&0)
        };
        let bad: Vec<bool> = Fields::of(&latin, self.file.delimiter).map(|field| is_bad(&field)).collect();
        self.file.header.slots.iter().position(|slot| matches!(slot, Slot::At(at) if bad.get(*at) == Some(&true)))
    }
}

/// The same allocation for cells that live otherwise.
fn recycled<'b>(mut cells: Vec<Cell<'_>>) -> Vec<Cell<'b>> {
    cells.clear();
    cells.into_iter().map(|_| Cell::Missing).collect()
}

fn csv_cells<'t>(text: &'t str, file: &FileFacts, cells: &mut [Cell<'t>]) -> Result<(), (Option<usize>, Reason)> {
    let mut width = 0;
    for (at, field) in Fields::of(text, file.delimiter).enumerate() {
        width += 1;
        // Wanted columns are few; one field may be wanted twice.
        let mut field = Some(field);
        let mut slots = file.header.slots.iter().enumerate().filter(|(_, slot)| **slot == Slot::At(at)).peekable();
        while let Some((wanted, _)) = slots.next() {
            let value = if slots.peek().is_some() { field.clone() } else { field.take() };
            cells[wanted] = value.map_or(Cell::Missing, Cell::Text);
        }
    }
    if width == file.header.width { Ok(()) } else { Err((None, Reason::FieldCount)) }
}

const _: () = assert!(MAX_RECORD < u32::MAX as usize);
