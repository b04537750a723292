//! A chunk of raw records to rows or rejects: pure, so that any thread can do it.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use csv::ByteRecord;
use encoding_rs::Encoding;
use pipe_core::config::ColumnsConfig;
use pipe_core::file::nearest;
use pipe_core::{Error, IoContext, Result};

use super::{ColumnMap, Parsed, Place, RawChunk, Reason, Reject, Row, roles};

/// How the bytes of a source become text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextEncoding(&'static Encoding);

impl TextEncoding {
    pub const UTF_8: TextEncoding = TextEncoding(encoding_rs::UTF_8);

    /// By a WHATWG label, or `mac-roman`.
    pub fn named(label: &str) -> Result<TextEncoding> {
        let label = if label.eq_ignore_ascii_case("mac-roman") || label.eq_ignore_ascii_case("mac_roman") { "macintosh" } else { label };
        match Encoding::for_label(label.as_bytes()) {
            // Records are framed before they are decoded, which needs newlines that are one byte.
            Some(encoding) if encoding.is_ascii_compatible() => Ok(TextEncoding(encoding)),
            Some(_) => Err(Error::usage(format!("the encoding `{label}` cannot be read directly"))
                .hint("convert the file to UTF-8 first, for example with iconv")),
            None => Err(Error::usage(format!("the encoding `{label}` is not known"))
                .hint("known are utf-8, mac-roman, windows-1252, gb18030, big5 and the other labels of the WHATWG standard")),
        }
    }

    /// Strict: bytes that are invalid give nothing, never a replacement character.
    pub fn decode(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        self.0.decode_without_bom_handling_and_without_replacement(bytes)
    }
}

/// Tells equal bad records from others. The key is no secret: it keeps the digest apart from other digests of the same
/// bytes, not a short record from being guessed.
fn raw_digest(bytes: &[u8]) -> String {
    let key = blake3::derive_key("pipe rejected record v1", b"");
    blake3::keyed_hash(&key, bytes).to_hex()[..32].to_owned()
}

impl RawChunk {
    /// Looks into every record. Fails only for what concerns the whole file, such as a column of a wrong type.
    pub fn parse(&self, columns: &ColumnsConfig, encoding: TextEncoding, path: &Path) -> Result<Vec<Parsed>> {
        match self {
            RawChunk::Csv { map, records } => Ok(csv_rows(map, records, columns, encoding)),
            RawChunk::Jsonl { lines } => Ok(lines.iter().map(|(place, line)| json_row(*place, line, columns, encoding)).collect()),
            RawChunk::Arrow { first, batch } => arrow_rows(*first, batch, columns, path),
        }
    }
}

fn csv_rows(map: &ColumnMap, records: &[(Place, ByteRecord)], columns: &ColumnsConfig, encoding: TextEncoding) -> Vec<Parsed> {
    records
        .iter()
        .map(|(place, record)| {
            let reject = |column: Option<&str>, reason| Reject {
                place: *place,
                column: column.map(str::to_owned),
                reason,
                digest: raw_digest(record.as_slice()),
            };
            if record.len() != map.width {
                return Err(reject(None, Reason::FieldCount));
            }
            let decode = |at: usize, column: &str| {
                encoding.decode(&record[at]).map(Cow::into_owned).ok_or_else(|| reject(Some(column), Reason::InvalidEncoding))
            };
            let optional = |at: Option<usize>, column: &Option<String>| match (at, column) {
                (Some(at), Some(column)) => decode(at, column).map(Some),
                _ => Ok(None),
            };
            let row = Row {
                number: place.number,
                text: decode(map.text, &columns.text)?,
                text_pair: optional(map.text_pair, &columns.text_pair)?,
                label: optional(map.label, &columns.label)?,
                id: optional(map.id, &columns.id)?,
            };
            complete(row, columns, reject)
        })
        .collect()
}

/// The csv crate lets a record begin at the line feed of the carriage return before it, and at blank lines: moves the
/// place of a record in `file` to its first byte.
pub(crate) fn mend_place(place: &mut Place, file: &File, path: &Path) -> Result<()> {
    let mut head = [0; 64];
    let read = file.read_at(&mut head, place.offset).doing("read", path)?;
    let blank = head[..read].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count() as u64;
    place.offset += blank;
    place.length = place.length.saturating_sub(blank);
    Ok(())
}

/// What holds for every format: a row has a text and, if labels are mapped, a label.
fn complete(row: Row, columns: &ColumnsConfig, reject: impl Fn(Option<&str>, Reason) -> Reject) -> Parsed {
    if row.text.trim().is_empty() {
        return Err(reject(Some(&columns.text), Reason::EmptyText));
    }
    if row.label.as_ref().is_some_and(|label| label.trim().is_empty()) {
        return Err(reject(columns.label.as_deref(), Reason::EmptyLabel));
    }
    Ok(Row { label: row.label.map(|label| label.trim().to_owned()), ..row })
}

fn json_row(place: Place, line: &[u8], columns: &ColumnsConfig, encoding: TextEncoding) -> Parsed {
    let reject = |column: Option<&str>, reason| Reject { place, column: column.map(str::to_owned), reason, digest: raw_digest(line) };
    let text = encoding.decode(line).ok_or_else(|| reject(None, Reason::InvalidEncoding))?;
    let record: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).map_err(|_| reject(None, Reason::InvalidJson))?;
    let string = |column: &str, numbers: bool| match record.get(column) {
        Some(serde_json::Value::String(value)) => Ok(Some(value.clone())),
        Some(serde_json::Value::Number(value)) if numbers => Ok(Some(value.to_string())),
        Some(serde_json::Value::Bool(value)) if numbers => Ok(Some(value.to_string())),
        Some(serde_json::Value::Null) => Ok(None),
        Some(_) => Err(reject(Some(column), Reason::WrongType)),
        None => Err(reject(Some(column), Reason::MissingColumn)),
    };
    let optional = |column: &Option<String>, numbers| column.as_deref().map_or(Ok(None), |column| string(column, numbers));
    let label = optional(&columns.label, true)?;
    if columns.label.is_some() && label.is_none() {
        return Err(reject(columns.label.as_deref(), Reason::EmptyLabel));
    }
    let row = Row {
        number: place.number,
        text: string(&columns.text, false)?.unwrap_or_default(),
        text_pair: optional(&columns.text_pair, false)?,
        label,
        id: optional(&columns.id, true)?,
    };
    complete(row, columns, reject)
}

/// A text column of an Arrow batch, whatever its physical type.
pub(super) fn text_column(batch: &RecordBatch, role: &str, column: &str, path: &Path) -> Result<Vec<Option<String>>> {
    let Some(array) = batch.column_by_name(column) else {
        let schema = batch.schema();
        let error = Error::input(format!("{} has no column `{column}` (named by `columns.{role}`)", path.display()));
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(match nearest(column, names.iter().copied()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("its columns are {}", names.join(", "))),
        });
    };
    let integers = role == "label" || role == "id";
    strings(array, integers).ok_or_else(|| {
        Error::input(format!("the column `{column}` of {} is {}, not text", path.display(), array.data_type()))
            .hint(format!("map a text column to `columns.{role}`"))
    })
}

/// Texts, and for labels and ids integers and true/false too; absent for all other types.
pub(crate) fn strings(array: &ArrayRef, integers: bool) -> Option<Vec<Option<String>>> {
    fn collect<'a, T: std::fmt::Display + 'a>(values: impl Iterator<Item = Option<T>>) -> Option<Vec<Option<String>>> {
        Some(values.map(|value| value.map(|value| value.to_string())).collect())
    }
    use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type};
    match array.data_type() {
        DataType::Utf8 => collect(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => collect(array.as_string::<i64>().iter()),
        DataType::Utf8View => collect(array.as_string_view().iter()),
        DataType::Int8 if integers => collect(array.as_primitive::<Int8Type>().iter()),
        DataType::Int16 if integers => collect(array.as_primitive::<Int16Type>().iter()),
        DataType::Int32 if integers => collect(array.as_primitive::<Int32Type>().iter()),
        DataType::Int64 if integers => collect(array.as_primitive::<Int64Type>().iter()),
        DataType::Boolean if integers => collect(array.as_boolean().iter()),
        _ => None,
    }
}

fn arrow_rows(first: u64, batch: &RecordBatch, columns: &ColumnsConfig, path: &Path) -> Result<Vec<Parsed>> {
    let mut by_role = std::collections::BTreeMap::new();
    for (role, column) in roles(columns) {
        by_role.insert(role, text_column(batch, role, column, path)?);
    }
    let mut take = |role: &str, at: usize| by_role.get_mut(role).and_then(|values| values[at].take());
    let mut rows = Vec::with_capacity(batch.num_rows());
    for at in 0..batch.num_rows() {
        let place = Place { number: first + at as u64, offset: 0, length: 0 };
        let row = Row {
            number: place.number,
            text: take("text", at).unwrap_or_default(),
            text_pair: take("text_pair", at),
            label: take("label", at),
            id: take("id", at),
        };
        let digest = raw_digest(row.text.as_bytes());
        let reject = |column: Option<&str>, reason| Reject { place, column: column.map(str::to_owned), reason, digest: digest.clone() };
        if columns.label.is_some() && row.label.is_none() {
            rows.push(Err(reject(columns.label.as_deref(), Reason::EmptyLabel)));
            continue;
        }
        rows.push(complete(row, columns, reject));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> ColumnsConfig {
        ColumnsConfig { label: Some("label".into()), ..ColumnsConfig::default() }
    }

    fn json(line: &str) -> Result<(String, Option<String>), Reason> {
        let place = Place { number: 1, offset: 0, length: line.len() as u64 };
        json_row(place, line.as_bytes(), &columns(), TextEncoding::UTF_8).map(|row| (row.text, row.label)).map_err(|reject| reject.reason)
    }

    #[test]
    fn json_lines_give_rows_or_a_reason() {
        assert_eq!(json(r#"{"text": "a", "label": 1}"#), Ok(("a".into(), Some("1".into()))));
        assert_eq!(json(r#"{"text": 5, "label": 1}"#), Err(Reason::WrongType));
        assert_eq!(json(r#"{"text": "a"}"#), Err(Reason::MissingColumn));
        assert_eq!(json(r#"{"text": "a", "label": null}"#), Err(Reason::EmptyLabel));
        assert_eq!(json(r#"{"text": " ", "label": "x"}"#), Err(Reason::EmptyText));
        assert_eq!(json("[1]"), Err(Reason::InvalidJson));
    }

    #[test]
    fn mac_roman_decodes_and_utf_8_is_strict() {
        assert_eq!(TextEncoding::named("mac-roman").unwrap().decode(b"caf\x8e").unwrap(), "café");
        assert!(TextEncoding::UTF_8.decode(b"caf\x8e").is_none());
        assert!(TextEncoding::named("utf-16le").is_err());
        assert!(TextEncoding::named("klingon").is_err());
    }
}
