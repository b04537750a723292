//! Records out of source files: framed first, parsed after, so that one bad record costs one record.
//!
//! Framing is sequential and cheap and gives [`RawChunk`]s; parsing a chunk is pure and runs on any thread. What
//! is wrong with a record is one of a closed set of [`Reason`]s, because parser messages quote values.

mod columns;
mod digest;
mod frame;
mod parse;
pub mod seal;

use pipe_core::Result;
use pipe_core::config::{ColumnsConfig, SourceConfig};
use pipe_core::source::SourceFile;
use serde::{Deserialize, Serialize};

pub use columns::ColumnMap;
pub(crate) use frame::empty;
pub use frame::{Framer, RawChunk};
pub use parse::TextEncoding;
pub(crate) use parse::{mend_place, strings};

/// Records per chunk, at most: the unit that threads work on. Fixed, since it decides nothing but speed.
pub const CHUNK_RECORDS: usize = 1024;

/// One well-formed record, its columns mapped to roles. No `Debug`: it holds raw text.
pub struct Row {
    pub number: u64,
    pub id: Option<String>,
    pub text: String,
    pub text_pair: Option<String>,
    pub label: Option<String>,
}

/// Where a record stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// From 1, the header not counted.
    pub number: u64,
    /// In bytes, in the file as it is on disk. Zero in formats where records have no bytes of their own.
    pub offset: u64,
    pub length: u64,
}

impl Place {
    /// The place that is `place` as counted from this one.
    pub(crate) fn of_relative(self, place: Place) -> Place {
        Place { number: self.number + place.number, offset: self.offset + place.offset, length: place.length }
    }

    /// This place as counted from `start`.
    pub(crate) fn relative_to(self, start: Place) -> Place {
        Place { number: self.number - start.number, offset: self.offset - start.offset, length: self.length }
    }
}

/// A record that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    pub place: Place,
    /// The column at fault, where one is.
    pub column: Option<String>,
    pub reason: Reason,
    /// Keyed digest of the raw bytes, so that equal bad records can be told.
    pub digest: String,
}

/// Why a record was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Bytes that are not valid in the source's encoding.
    InvalidEncoding,
    /// More or fewer fields than the header.
    FieldCount,
    /// Not valid JSON, or not an object.
    InvalidJson,
    /// The record lacks the column.
    MissingColumn,
    /// The column holds something other than text.
    WrongType,
    EmptyText,
    EmptyLabel,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::InvalidEncoding => "invalid_encoding",
            Reason::FieldCount => "field_count",
            Reason::InvalidJson => "invalid_json",
            Reason::MissingColumn => "missing_column",
            Reason::WrongType => "wrong_type",
            Reason::EmptyText => "empty_text",
            Reason::EmptyLabel => "empty_label",
        }
    }
}

/// How many records a file has, without looking into them.
pub fn count_records(file: &SourceFile, source: &SourceConfig, columns: &ColumnsConfig) -> Result<u64> {
    let mut framer = Framer::open(file, source, columns, TextEncoding::named(&source.encoding)?, CHUNK_RECORDS)?;
    let mut records = 0;
    while let Some(chunk) = framer.next_chunk()? {
        records += chunk.records() as u64;
    }
    Ok(records)
}

/// What parsing makes of a record.
pub type Parsed = Result<Row, Reject>;

/// A role that a column can play, with the name the user gave it.
pub(crate) fn roles(columns: &ColumnsConfig) -> Vec<(&'static str, &str)> {
    let optional = [("text_pair", &columns.text_pair), ("label", &columns.label), ("id", &columns.id)];
    let named = optional.into_iter().filter_map(|(role, column)| Some((role, column.as_deref()?)));
    std::iter::once(("text", columns.text.as_str())).chain(named).collect()
}
