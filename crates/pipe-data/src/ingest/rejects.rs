//! `rejects.parquet`: where each rejected record stands and why, without its text.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pipe_core::Result;

use crate::parquet_io::{BATCH_ROWS, TableWriter};
use crate::read::Reject;

pub(super) struct Rejects {
    /// Whether their raw bytes are there, sealed.
    sealed: bool,
    writer: TableWriter,
    schema: SchemaRef,
    pending: Vec<(String, Reject)>,
    /// Of `pending`.
    sealed_bytes: usize,
}

/// Sealed records are written so many bytes at a time, about, however few they are.
const BATCH_BYTES: usize = 4 << 20;

impl Rejects {
    pub(super) fn create(path: &Path, sealed: bool) -> Result<Rejects> {
        let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
        let number = |name| Field::new(name, DataType::UInt64, false);
        let mut fields = vec![
            text("file", false),
            number("record"),
            number("byte_offset"),
            number("byte_length"),
            text("column", true),
            text("reason", false),
            text("digest", false),
        ];
        fields.extend(sealed.then(|| Field::new("sealed", DataType::Binary, true)));
        let schema = Arc::new(Schema::new(fields));
        Ok(Rejects {
            sealed,
            writer: TableWriter::create(path, Arc::clone(&schema), &["digest", "sealed"])?,
            schema,
            pending: Vec::new(),
            sealed_bytes: 0,
        })
    }

    pub(super) fn add(&mut self, file_digest: &str, reject: &Reject) -> Result<()> {
        self.sealed_bytes += reject.sealed.as_ref().map_or(0, Vec::len);
        self.pending.push((file_digest.to_owned(), reject.clone()));
        if self.pending.len() >= BATCH_ROWS || self.sealed_bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.pending);
        self.sealed_bytes = 0;
        if rows.is_empty() {
            return Ok(());
        }
        let text = |value: fn(&(String, Reject)) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(value))) };
        let number =
            |value: fn(&Reject) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(rows.iter().map(|(_, reject)| value(reject)))) };
        let mut columns = vec![
            text(|(file, _)| file),
            number(|reject| reject.place.number),
            number(|reject| reject.place.offset),
            number(|reject| reject.place.length),
            Arc::new(rows.iter().map(|(_, reject)| reject.column.as_deref()).collect::<StringArray>()),
            text(|(_, reject)| reject.reason.name()),
            text(|(_, reject)| &reject.digest),
        ];
        if self.sealed {
            columns.push(Arc::new(rows.iter().map(|(_, reject)| reject.sealed.as_deref()).collect::<BinaryArray>()));
        }
        self.writer.write(columns, &self.schema)
    }

    pub(super) fn finish(mut self) -> Result<u64> {
        self.flush()?;
        self.writer.finish()
    }
}
