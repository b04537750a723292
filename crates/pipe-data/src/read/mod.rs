//! Records out of source files: framed first, parsed after, so that one bad record costs one record.
//!
//! [`Framer`] opens a file (`input`: decompressed, UTF-16 transcoded) and cuts it into [`RawChunk`]s of records that
//! nobody has looked into: sequential and cheap. [`RawChunk::parse`] is pure and runs on any thread; it gives each
//! record's wanted columns as [`Cell`]s, or why there are none: one of a closed set of [`Reason`]s, because parser
//! messages quote values.

mod array;
mod cells;
mod csv;
mod digest;
mod encoding;
mod frame;
mod header;
mod input;
mod json;
mod lengths;
mod names;
mod parse;
mod row;
pub mod seal;
mod table;
mod utf16;
mod wanted;
mod window;

use std::borrow::Cow;

use pipe_core::Result;
use pipe_core::config::SourceConfig;
use pipe_core::source::SourceFile;
use serde::{Deserialize, Serialize};

pub use encoding::TextEncoding;
pub(crate) use frame::empty;
pub use frame::{Framer, RawChunk};
pub use header::check_columns;
pub(crate) use input::Input;
pub use names::KeyNames;
pub use parse::RawRecord;
pub use row::{Parsed, Row, parse_rows, wanted_for_rows};
pub use wanted::{Need, Wanted};

/// Records per chunk, at most: the unit that threads work on. Fixed, since it decides nothing but speed.
pub const CHUNK_RECORDS: usize = 1024;

/// A value of a record. No `Debug`: it holds raw text.
#[derive(Clone, PartialEq)]
pub enum Cell<'a> {
    /// The record has no such column.
    Missing,
    Null,
    Text(Cow<'a, str>),
    Integer(i128),
    Float(f64),
    Bool(bool),
    /// A list, a struct or a map.
    Nested(serde_json::Value),
}

/// Where a record stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// From 1, the header not counted.
    pub number: u64,
    /// In bytes, in the file as it is on disk; in a compressed file, in what it decompresses to. Zero in formats where
    /// records have no bytes of their own.
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
    /// The raw bytes, sealed to `rejects.recipient` where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "seal::as_hex")]
    pub sealed: Option<Vec<u8>>,
}

/// Why a record was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Bytes that are not valid in the source's encoding, or that are zero.
    InvalidEncoding,
    /// More or fewer fields than the header.
    FieldCount,
    /// A quote that never closes: the line that opens it.
    UnclosedQuote,
    /// Not valid JSON, or not an object.
    InvalidJson,
    /// A key that an object has twice.
    DuplicateKey,
    /// Longer than a record may be.
    TooLong,
    /// Lists and objects within one another, more than may be.
    TooDeep,
    /// The record lacks the column.
    MissingColumn,
    /// The column holds nothing, where something is needed.
    MissingValue,
    /// The column holds something of another type.
    WrongType,
    EmptyText,
    EmptyLabel,
    /// A label that `labels.map` does not have.
    UnmappedLabel,
    InvalidTime,
    /// Answers that are not in their context, or not of their form.
    InvalidAnswers,
    /// Messages that are not of their form.
    InvalidMessages,
    /// More or fewer tags than words.
    MisalignedTags,
    /// Personal data that the policy drops rows for.
    PersonalData,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::InvalidEncoding => "invalid_encoding",
            Reason::FieldCount => "field_count",
            Reason::UnclosedQuote => "unclosed_quote",
            Reason::InvalidJson => "invalid_json",
            Reason::DuplicateKey => "duplicate_key",
            Reason::TooLong => "too_long",
            Reason::TooDeep => "too_deep",
            Reason::MissingColumn => "missing_column",
            Reason::MissingValue => "missing_value",
            Reason::WrongType => "wrong_type",
            Reason::EmptyText => "empty_text",
            Reason::EmptyLabel => "empty_label",
            Reason::UnmappedLabel => "unmapped_label",
            Reason::InvalidTime => "invalid_time",
            Reason::InvalidAnswers => "invalid_answers",
            Reason::InvalidMessages => "invalid_messages",
            Reason::MisalignedTags => "misaligned_tags",
            Reason::PersonalData => "personal_data",
        }
    }
}

#[cfg(test)]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

/// How many records a file has, without looking into them.
pub fn count_records(file: &SourceFile, source: &SourceConfig) -> Result<u64> {
    let mut framer = Framer::open(file, source, &Wanted::default(), CHUNK_RECORDS)?;
    let mut records = 0;
    while let Some(chunk) = framer.next_chunk()? {
        records += chunk.records() as u64;
    }
    Ok(records)
}
