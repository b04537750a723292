//! Clean rows to one folder of Parquet per split, cut into parts by content.
//!
//! A part ends at a row whose own digest says so, within bounds. A row that comes in or goes away therefore moves the
//! ends near it and no others, and stages that work part by part find all other parts as they were.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::StringBuilder;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pipe_core::config::ColumnsConfig;
use pipe_core::{Error, Result};

use crate::parquet_io::{BATCH_ROWS, TableWriter};

use super::shard::ShardRow;
use super::split::{RowDigest, Splitter};

pub(super) struct SplitWriters {
    splits: Vec<SplitWriter>,
}

/// Where parts end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cuts {
    min: u64,
    max: u64,
    /// Rows with digests below it end a part.
    below: u64,
}

struct SplitWriter {
    name: String,
    folder: PathBuf,
    schema: SchemaRef,
    cuts: Cuts,
    /// Absent between two parts.
    writer: Option<TableWriter>,
    /// Of the part, written or not.
    part_rows: u64,
    parts: usize,
    rows: u64,
    pending: Pending,
}

/// Rows that are not written yet, one builder per column of the output.
#[derive(Default)]
struct Pending {
    rows: usize,
    id: StringBuilder,
    text: StringBuilder,
    text_pair: Option<StringBuilder>,
    label: Option<StringBuilder>,
}

impl Cuts {
    /// For parts of about `rows` rows: at least a quarter of them, at most twice as many.
    pub(crate) fn new(rows: usize) -> Cuts {
        let (min, max) = (rows as u64 / 4, rows as u64 * 2);
        // After `min` rows each one ends the part with a chance of 1 / (0.87 · rows). Up to `max`, the expectation of
        // that geometric distribution is ¾ · rows: x · (1 − exp(−1.75 / x)) = 0.75 at x = 0.87.
        Cuts { min, max, below: (u64::MAX as f64 / (0.87 * rows as f64)) as u64 }
    }

    fn ends(self, rows: u64, digest: RowDigest) -> bool {
        self.ends_at(rows, digest.low())
    }

    /// Whether a part of `rows` rows ends with a row of this digest.
    pub(crate) fn ends_at(self, rows: u64, digest: u64) -> bool {
        rows >= self.max || (rows >= self.min && digest < self.below)
    }
}

impl SplitWriters {
    pub(super) fn create(out: &Path, splitter: &Splitter, columns: &ColumnsConfig, part_rows: usize) -> Result<SplitWriters> {
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
                let mut split = SplitWriter {
                    name: name.to_owned(),
                    folder: out.join(name),
                    schema: Arc::clone(&schema),
                    cuts: Cuts::new(part_rows),
                    writer: None,
                    part_rows: 0,
                    parts: 0,
                    rows: 0,
                    pending: Pending {
                        text_pair: columns.text_pair.as_ref().map(|_| StringBuilder::new()),
                        label: columns.label.as_ref().map(|_| StringBuilder::new()),
                        ..Pending::default()
                    },
                };
                // A split without rows has one part without rows.
                split.open()?;
                Ok(split)
            })
            .collect::<Result<_>>()?;
        Ok(SplitWriters { splits })
    }

    /// `number` is the row's in its file, for a row without an id of its own.
    pub(super) fn add(&mut self, split: usize, row: &ShardRow<'_>, id_prefix: &str, number: u64) -> Result<()> {
        let split = &mut self.splits[split];
        split.pending.push(row, id_prefix, number)?;
        split.part_rows += 1;
        if split.cuts.ends(split.part_rows, row.digest) {
            return split.end_part();
        }
        if split.pending.rows >= BATCH_ROWS { split.flush() } else { Ok(()) }
    }

    /// Rows per split.
    pub(super) fn finish(self) -> Result<BTreeMap<String, u64>> {
        let mut rows = BTreeMap::new();
        for mut split in self.splits {
            split.end_part()?;
            rows.insert(split.name, split.rows);
        }
        Ok(rows)
    }
}

impl SplitWriter {
    fn open(&mut self) -> Result<&mut TableWriter> {
        if self.writer.is_none() {
            let path = self.folder.join(format!("part-{:05}.parquet", self.parts));
            self.writer = Some(TableWriter::create(&path, Arc::clone(&self.schema), &["id", "text", "text_pair"])?);
            self.parts += 1;
        }
        Ok(self.writer.as_mut().expect("opened above"))
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.rows == 0 {
            return Ok(());
        }
        self.rows += self.pending.rows as u64;
        let (columns, schema) = (self.pending.take(), Arc::clone(&self.schema));
        self.open()?.write(columns, &schema)
    }

    fn end_part(&mut self) -> Result<()> {
        self.flush()?;
        self.part_rows = 0;
        self.writer.take().map_or(Ok(()), |writer| writer.finish().map(drop))
    }
}

impl Pending {
    fn push(&mut self, row: &ShardRow<'_>, id_prefix: &str, number: u64) -> Result<()> {
        self.rows += 1;
        match row.id {
            Some(id) => self.id.append_value(id),
            None => {
                write!(self.id, "{id_prefix}-{number}").map_err(|_| Error::internal("an id cannot be written"))?;
                self.id.append_value("");
            }
        }
        self.text.append_value(row.text);
        if let Some(pairs) = &mut self.text_pair {
            pairs.append_option(row.text_pair);
        }
        if let Some(labels) = &mut self.label {
            labels.append_option(row.label);
        }
        Ok(())
    }

    /// Columns in the order of the schema.
    fn take(&mut self) -> Vec<ArrayRef> {
        self.rows = 0;
        let optional = [&mut self.text_pair, &mut self.label].into_iter().flatten();
        [&mut self.id, &mut self.text].into_iter().chain(optional).map(|values| Arc::new(values.finish()) as ArrayRef).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows per part of rows with these numbers.
    fn parts(numbers: impl Iterator<Item = u64>, rows: usize) -> Vec<Vec<u64>> {
        let (splitter, cuts) = (Splitter::new(None), Cuts::new(rows));
        let mut parts = vec![Vec::new()];
        for number in numbers {
            let part = parts.last_mut().unwrap();
            part.push(number);
            if cuts.ends(part.len() as u64, splitter.digest(&number.to_string(), None)) {
                parts.push(Vec::new());
            }
        }
        parts
    }

    #[test]
    fn parts_have_about_as_many_rows_as_asked_for() {
        let found = parts(0..1_000_000, 1000);
        let mean = 1_000_000 / found.len();
        assert!((930..1070).contains(&mean), "{mean}");
        assert!(found[..found.len() - 1].iter().all(|part| (250..=2000).contains(&part.len())));
    }

    #[test]
    fn rows_that_come_in_change_only_the_parts_near_them() {
        let before = parts(0..20_000, 64);
        // Before the first, in the middle and after the last.
        for at in [0, 10_000, 20_000] {
            let after = parts((0..at).chain(50_000..50_003).chain(at..20_000), 64);
            let kept = before.iter().filter(|part| after.contains(part)).count();
            assert!(kept + 6 >= before.len(), "{kept} of {} parts are as before", before.len());
        }
    }
}
