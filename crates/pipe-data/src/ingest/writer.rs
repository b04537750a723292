//! Clean rows to one folder of Parquet per split.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pipe_core::Result;
use pipe_core::config::ColumnsConfig;

use crate::parquet_io::{BATCH_ROWS, TableWriter};

use super::CleanRow;
use super::split::Splitter;

/// Rows per file: later stages work file by file.
const FILE_ROWS: u64 = 1 << 20;

pub(super) struct SplitWriters {
    splits: Vec<SplitWriter>,
}

struct SplitWriter {
    name: String,
    folder: PathBuf,
    schema: SchemaRef,
    writer: TableWriter,
    pending: Vec<CleanRow>,
    files: usize,
    rows: u64,
}

impl SplitWriters {
    pub(super) fn create(out: &Path, splitter: &Splitter, columns: &ColumnsConfig) -> Result<SplitWriters> {
        let mut fields = vec![Field::new("id", DataType::Utf8, false), Field::new("text", DataType::Utf8, false)];
        if columns.text_pair.is_some() {
            fields.push(Field::new("text_pair", DataType::Utf8, true));
        }
        if columns.label.is_some() {
            fields.push(Field::new("label", DataType::Utf8, false));
        }
        let schema = Arc::new(Schema::new(fields));
        let splits = splitter
            .names()
            .map(|name| {
                let folder = out.join(name);
                let writer = open(&folder, 0, &schema)?;
                Ok(SplitWriter { name: name.to_owned(), folder, schema: Arc::clone(&schema), writer, pending: Vec::new(), files: 1, rows: 0 })
            })
            .collect::<Result<_>>()?;
        Ok(SplitWriters { splits })
    }

    pub(super) fn add(&mut self, split: usize, row: CleanRow) -> Result<()> {
        let split = &mut self.splits[split];
        split.pending.push(row);
        if split.pending.len() >= BATCH_ROWS { split.flush() } else { Ok(()) }
    }

    /// Rows per split.
    pub(super) fn finish(self) -> Result<BTreeMap<String, u64>> {
        let mut rows = BTreeMap::new();
        for mut split in self.splits {
            split.flush()?;
            split.writer.finish()?;
            rows.insert(split.name, split.rows);
        }
        Ok(rows)
    }
}

fn open(folder: &Path, number: usize, schema: &SchemaRef) -> Result<TableWriter> {
    TableWriter::create(&folder.join(format!("part-{number:05}.parquet")), Arc::clone(schema), &["id", "text", "text_pair"])
}

impl SplitWriter {
    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.pending);
        if rows.is_empty() {
            return Ok(());
        }
        if self.writer.rows() >= FILE_ROWS {
            let next = open(&self.folder, self.files, &self.schema)?;
            std::mem::replace(&mut self.writer, next).finish()?;
            self.files += 1;
        }
        self.rows += rows.len() as u64;
        let mut columns: Vec<ArrayRef> = Vec::new();
        for field in self.schema.fields() {
            let value = |row: &CleanRow| match field.name().as_str() {
                "id" => Some(row.id.clone()),
                "text" => Some(row.text.clone()),
                "text_pair" => row.text_pair.clone(),
                _ => row.label.clone(),
            };
            columns.push(Arc::new(rows.iter().map(value).collect::<StringArray>()));
        }
        self.writer.write(columns, &self.schema)
    }
}
