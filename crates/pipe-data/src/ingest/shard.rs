//! One shard from raw records to clean rows, or from the store: everything that needs no other row.
//!
//! A shard in the store has no file digest, record number or offset of its file in it, so that the same records are one
//! shard wherever they stand: those are filled in when shards are merged.
//!
//! ```text
//! record (from 0), digest (16 bytes, of the raw text), text, [text_pair], [label], [id]
//! ```

use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::{FixedSizeBinaryBuilder, StringBuilder, UInt32Builder};
use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, RecordBatch, StringArray, UInt32Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pipe_core::cache::{ShardKey, Shards};
use pipe_core::config::{ColumnsConfig, IngestConfig, SourceFormat, StageKind};
use pipe_core::{Error, Progress, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::parquet_io::{TableReader, to_bytes};
use crate::read::{Parsed, Place, RawChunk, Reject, TextEncoding};
use crate::scrub::{ScrubCounts, ScrubPolicy, Scrubber};

use super::IngestSource;
use super::labels::Labels;
use super::plan::RawShard;
use super::split::{RowDigest, Splitter};

/// A shard of rows after everything that needs no other row.
pub(super) struct CleanShard {
    pub(super) source: usize,
    pub(super) start: Place,
    pub(super) end: u64,
    rows: Vec<RecordBatch>,
    pub(super) notes: ShardNotes,
}

/// What a shard holds beside its rows.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ShardNotes {
    pub(super) rows: u64,
    /// Number and offset count from the shard's first record.
    pub(super) rejects: Vec<Reject>,
    pub(super) text: ScrubCounts,
    pub(super) text_pair: ScrubCounts,
}

/// One row as its shard holds it.
pub(super) struct ShardRow<'r> {
    /// From 0, in the shard.
    pub(super) record: u64,
    pub(super) digest: RowDigest,
    pub(super) text: &'r str,
    pub(super) text_pair: Option<&'r str>,
    pub(super) label: Option<&'r str>,
    pub(super) id: Option<&'r str>,
}

/// Makes clean shards. Shared by all threads.
pub(super) struct Cleaner<'c> {
    columns: &'c ColumnsConfig,
    sources: &'c [IngestSource],
    encoding: TextEncoding,
    scrubber: Scrubber,
    splitter: &'c Splitter,
    schema: SchemaRef,
    /// All that decides a shard's bytes beside its records.
    settings: Value,
    shards: &'c Shards,
}

impl<'c> Cleaner<'c> {
    pub(super) fn new(
        config: &'c IngestConfig,
        sources: &'c [IngestSource],
        encoding: TextEncoding,
        (policy, scrubber): (&ScrubPolicy, Scrubber),
        splitter: &'c Splitter,
        shards: &'c Shards,
    ) -> Cleaner<'c> {
        let columns = &config.columns;
        let mut fields = vec![
            Field::new("record", DataType::UInt32, false),
            Field::new("digest", DataType::FixedSizeBinary(RowDigest::BYTES), false),
            Field::new("text", DataType::Utf8, false),
        ];
        for (name, column) in [("text_pair", &columns.text_pair), ("label", &columns.label), ("id", &columns.id)] {
            fields.extend(column.as_ref().map(|_| Field::new(name, DataType::Utf8, name != "label")));
        }
        let settings = json!({
            "columns": columns,
            "encoding": config.source.encoding,
            "scrub": policy,
            // The row digest is keyed with it.
            "seed": config.split.as_ref().map_or(0, |split| split.seed),
        });
        let schema = Arc::new(Schema::new(fields));
        Cleaner { columns, sources, encoding, scrubber, splitter, schema, settings, shards }
    }

    /// The shards' rows, in order. Each is in the store as soon as it is made.
    pub(super) fn clean(&self, batch: Vec<RawShard>, progress: &dyn Progress) -> Result<Vec<CleanShard>> {
        let clean: Vec<Result<CleanShard>> = batch
            .into_par_iter()
            .map(|raw| {
                progress.check()?;
                self.clean_one(&raw)
            })
            .collect();
        clean.into_iter().collect()
    }

    fn clean_one(&self, raw: &RawShard) -> Result<CleanShard> {
        let key = self.key(raw)?;
        let (rows, notes) = match self.load(&key) {
            Some(found) => found,
            None => {
                let made = self.make(raw)?;
                let bytes = to_bytes(&made.0, &self.schema, &["record", "digest", "text", "text_pair", "id"])?;
                self.shards.put(&key, &bytes, &made.1)?;
                made
            }
        };
        Ok(CleanShard { source: raw.source, start: raw.start, end: raw.end, rows, notes })
    }

    fn path(&self, raw: &RawShard) -> &Path {
        &self.sources[raw.source].file.path
    }

    fn key(&self, raw: &RawShard) -> Result<ShardKey> {
        let mut hasher = blake3::Hasher::new();
        for chunk in &raw.chunks {
            chunk.update(&mut hasher, raw.start, self.columns, self.path(raw))?;
        }
        let header = match &raw.chunks[0] {
            RawChunk::Csv { map, .. } => json!([map.width, map.text, map.text_pair, map.label, map.id]),
            RawChunk::Jsonl { .. } | RawChunk::Arrow { .. } => Value::Null,
        };
        // Framed alike, whatever stands between the fields.
        let format = match self.sources[raw.source].file.format {
            SourceFormat::Csv | SourceFormat::Tsv => "csv",
            SourceFormat::Jsonl | SourceFormat::Json => "json",
            SourceFormat::Parquet | SourceFormat::Arrow => "arrow",
            SourceFormat::Lines | SourceFormat::Text => "text",
        };
        let made_from = json!({
            "settings": self.settings,
            "format": format,
            "header": header,
            "records": hasher.finalize().to_hex().as_str(),
        });
        Ok(ShardKey::of(StageKind::Ingest, &made_from))
    }

    /// A shard that cannot be read is none.
    fn load(&self, key: &ShardKey) -> Option<(Vec<RecordBatch>, ShardNotes)> {
        let (bytes, notes): (Vec<u8>, ShardNotes) = self.shards.load(key)?;
        let rows: Result<Vec<RecordBatch>> = TableReader::of_bytes(bytes, Path::new("shard")).and_then(|reader| reader.collect());
        let rows = rows.ok()?;
        rows.iter().all(|batch| batch.schema().fields() == self.schema.fields()).then_some((rows, notes))
    }

    fn make(&self, raw: &RawShard) -> Result<(Vec<RecordBatch>, ShardNotes)> {
        let chunks: Vec<Result<(RecordBatch, ShardNotes)>> =
            raw.chunks.par_iter().map(|chunk| self.rows(chunk.parse(self.columns, self.encoding, self.path(raw))?, raw.start)).collect();
        let (mut rows, mut notes) = (Vec::new(), ShardNotes::default());
        for chunk in chunks {
            let (batch, of_chunk) = chunk?;
            rows.push(batch);
            notes.rows += of_chunk.rows;
            notes.rejects.extend(of_chunk.rejects);
            notes.text.add(&of_chunk.text);
            notes.text_pair.add(&of_chunk.text_pair);
        }
        Ok((rows, notes))
    }

    fn rows(&self, parsed: Vec<Parsed>, start: Place) -> Result<(RecordBatch, ShardNotes)> {
        let mut notes = ShardNotes::default();
        let (mut records, mut digests) = (UInt32Builder::new(), FixedSizeBinaryBuilder::new(RowDigest::BYTES));
        let (mut texts, mut pairs, mut labels, mut ids) = (StringBuilder::new(), StringBuilder::new(), StringBuilder::new(), StringBuilder::new());
        // What the merge will refuse as no classes must not get into the store.
        let mut classes = Labels::new();
        for row in parsed {
            let row = match row {
                Ok(row) => row,
                Err(reject) => {
                    notes.rejects.push(Reject { place: reject.place.relative_to(start), ..reject });
                    continue;
                }
            };
            notes.rows += 1;
            records.append_value((row.number - start.number) as u32);
            // Of the raw text: after scrubbing, different customers on one template would collapse.
            let digest = self.splitter.digest(&row.text, row.text_pair.as_deref());
            digests.append_value(digest.to_bytes()).map_err(|_| Error::internal("a digest has another length"))?;
            texts.append_value(&self.scrubber.scrub_column(vec![row.text], "text", &mut notes.text)?[0]);
            let pair = row.text_pair.map(|pair| self.scrubber.scrub_column(vec![pair], "text_pair", &mut notes.text_pair)).transpose()?;
            pairs.append_option(pair.map(|mut pair| pair.remove(0)));
            if let Some(label) = &row.label {
                classes.id_of(label).inspect_err(|_| self.shards.forget())?;
            }
            labels.append_option(row.label);
            ids.append_option(row.id);
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(records.finish()), Arc::new(digests.finish()), Arc::new(texts.finish())];
        for (column, mut values) in [(&self.columns.text_pair, pairs), (&self.columns.label, labels), (&self.columns.id, ids)] {
            if column.is_some() {
                columns.push(Arc::new(values.finish()));
            }
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        Ok((batch.map_err(|e| Error::internal(format!("columns do not fit their schema: {e}")))?, notes))
    }
}

impl CleanShard {
    pub(super) fn rows(&self) -> impl Iterator<Item = ShardRow<'_>> {
        self.rows.iter().flat_map(|batch| {
            let text_of = |name: &str| batch.column_by_name(name).map(|column| column.as_string::<i32>());
            let records: &UInt32Array = batch.column(0).as_primitive::<UInt32Type>();
            let digests: &FixedSizeBinaryArray = batch.column(1).as_fixed_size_binary();
            let texts: &StringArray = batch.column(2).as_string();
            let (pairs, labels, ids) = (text_of("text_pair"), text_of("label"), text_of("id"));
            (0..batch.num_rows()).map(move |at| ShardRow {
                record: u64::from(records.value(at)),
                digest: RowDigest::from_bytes(digests.value(at)),
                text: texts.value(at),
                text_pair: optional(pairs, at),
                label: optional(labels, at),
                id: optional(ids, at),
            })
        })
    }
}

fn optional(column: Option<&StringArray>, at: usize) -> Option<&str> {
    column.filter(|column| column.is_valid(at)).map(|column| column.value(at))
}
