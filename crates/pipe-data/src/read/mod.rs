//! Records out of source files: framed first, parsed after, so that one bad record costs one record.
//!
//! Framing is sequential and cheap and gives [`RawChunk`]s; parsing a chunk is pure and runs on any thread. What
//! is wrong with a record is one of a closed set of [`Reason`]s, because parser messages quote values.

mod columns;
mod frame;
mod parse;

use pipe_core::config::ColumnsConfig;
use serde::{Deserialize, Serialize};

pub use columns::ColumnMap;
pub(crate) use frame::empty;
pub use frame::{Framer, RawChunk};
pub use parse::TextEncoding;
pub(crate) use parse::strings;

/// Records per chunk: the unit that threads work on. Fixed, since it decides nothing but speed.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// From 1, the header not counted.
    pub number: u64,
    /// In bytes, in the file as it is on disk. Zero in formats where records have no bytes of their own.
    pub offset: u64,
    pub length: u64,
}

/// A record that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// What parsing makes of a record.
pub type Parsed = Result<Row, Reject>;

/// A role that a column can play, with the name the user gave it.
pub(crate) fn roles(columns: &ColumnsConfig) -> Vec<(&'static str, &str)> {
    let optional = [("text_pair", &columns.text_pair), ("label", &columns.label), ("id", &columns.id)];
    let named = optional.into_iter().filter_map(|(role, column)| Some((role, column.as_deref()?)));
    std::iter::once(("text", columns.text.as_str())).chain(named).collect()
}
