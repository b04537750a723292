//! One shard from raw records to clean rows, or from the store: everything that needs no other row.
//!
//! A shard in the store has no file digest, record number or offset of its file in it, so that the same records are one
//! shard wherever they stand: those are filled in when rows are written.
//!
//! ```text
//! record     from 0
//! digest     16 bytes, keyed, of the raw texts             scrubbed   the same of the texts as they are written
//! [group]    16 bytes, keyed, of the raw group             [time]     microseconds since 1970
//! [bands]    the near-duplicate signature                  then the columns of the output, but for a made id
//! ```

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use pipe_core::cache::{ShardKey, Shards};
use pipe_core::config::{ColumnsConfig, Dedup, IngestConfig, StageKind};
use pipe_core::{Progress, Result, failpoint};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::read::{KeyNames, Place, RawChunk};

use super::assign::{NearSigner, RowDigest, Splitter};
use super::clean::{RowBuilder, RowMaker, ShardNotes};
use super::columns::{Columns, Kind};
use super::plan::RawShard;
use super::{Scrub, store};

/// The columns of shards.
pub(super) struct ShardSchema {
    pub(super) arrow: SchemaRef,
    pub(super) has_group: bool,
    pub(super) has_time: bool,
    /// Length of the near-duplicate signature, where there is one.
    pub(super) bands: Option<i32>,
    /// Where the output's columns begin.
    pub(super) first: usize,
}

/// A shard of which all that needs no other row is known, its rows in the store.
pub(super) struct CleanShard {
    pub(super) source: usize,
    pub(super) start: Place,
    /// Bytes of all files up to its end, for progress.
    pub(super) end: u64,
    pub(super) key: ShardKey,
    pub(super) rows: Vec<RecordBatch>,
    pub(super) notes: ShardNotes,
}

/// Makes clean shards. Shared by all threads.
pub(super) struct Cleaner<'c> {
    maker: RowMaker<'c>,
    /// All that decides a shard's bytes beside its records.
    settings: Value,
    shards: &'c Shards,
}

impl ShardSchema {
    pub(super) fn new(columns: &Columns, config: &IngestConfig) -> ShardSchema {
        let digest = |name: &str, nullable| Field::new(name, DataType::FixedSizeBinary(RowDigest::BYTES), nullable);
        let (has_group, has_time) = (columns.has(Kind::Group), columns.has(Kind::Time));
        let mut fields = vec![Field::new("#record", DataType::UInt32, false), digest("#digest", false), digest("#scrubbed", false)];
        fields.extend(has_group.then(|| digest("#group", true)));
        fields.extend(has_time.then(|| Field::new("#time", DataType::Int64, true)));
        let bands = (config.dedup == Dedup::Near).then_some(config.near.bands as i32);
        fields.extend(bands.map(|bands| Field::new("#bands", DataType::FixedSizeList(Arc::new(ShardSchema::band_field()), bands), false)));
        let first = fields.len();
        fields.extend(columns.written().map(|column| column.field()));
        ShardSchema { arrow: Arc::new(Schema::new(fields)), has_group, has_time, bands, first }
    }

    pub(super) fn band_field() -> Field {
        Field::new("item", DataType::UInt64, false)
    }
}

impl<'c> Cleaner<'c> {
    pub(super) fn new(
        config: &'c IngestConfig,
        scrub: &'c Scrub,
        columns: &'c Columns,
        schema: &'c ShardSchema,
        splitter: &'c Splitter,
        shards: &'c Shards,
    ) -> Cleaner<'c> {
        let near = (config.dedup == Dedup::Near).then_some(&config.near);
        let settings = json!({
            "columns": ColumnsConfig { required: Vec::new(), forbidden: Vec::new(), ..config.columns.clone() },
            // Counted with every shard's keys.
            "listed": config.columns.listed(),
            "labels": config.labels,
            "encoding": config.source.encoding,
            // Without its name.
            "scrub": scrub.policy.digest(),
            "runtime": scrub.runtime,
            "sealed_to": scrub.sealer.as_ref().and(config.rejects.recipient.as_ref()),
            "sealed_with": scrub.sealer.as_ref().and(scrub.key_id.as_ref()),
            "near": near.map(|near| (near.bands, near.rows, near.words, near.characters)),
            // The row digest is keyed with it.
            "seed": config.split.as_ref().map_or(0, |split| split.seed),
        });
        let maker = RowMaker {
            columns,
            schema,
            scrubber: &scrub.scrubber,
            splitter,
            near: near.map(NearSigner::new),
            label_map: &config.labels.map,
            unmapped: config.labels.unmapped,
            sealer: scrub.sealer.as_ref(),
            listed: config.columns.listed(),
        };
        Cleaner { maker, settings, shards }
    }

    /// The shards' rows, in order. Each is in the store as soon as it is made.
    pub(super) fn clean(&self, batch: Vec<RawShard>, progress: &dyn Progress) -> Result<Vec<CleanShard>> {
        let clean: Vec<Result<CleanShard>> = batch
            .into_par_iter()
            .map(|raw| {
                progress.check()?;
                self.clean_one(raw)
            })
            .collect();
        clean.into_iter().collect()
    }

    fn clean_one(&self, raw: RawShard) -> Result<CleanShard> {
        let key = self.key(&raw)?;
        let (rows, notes) = match self.load(&key) {
            Some(found) => found,
            None => {
                failpoint("ingest.shard");
                let made = self.make(&raw)?;
                self.shards.put_with(&key, &made.1, |out| store::write_ipc(&made.0, &self.maker.schema.arrow, out))?;
                made
            }
        };
        Ok(CleanShard { source: raw.source, start: raw.start, end: raw.end, key, rows, notes })
    }

    fn key(&self, raw: &RawShard) -> Result<ShardKey> {
        let mut hasher = blake3::Hasher::new();
        for chunk in &raw.chunks {
            chunk.update(&mut hasher, &self.maker.columns.wanted, raw.start)?;
        }
        let made_from = json!({"settings": self.settings, "records": hasher.finalize().to_hex().as_str()});
        Ok(ShardKey::of(StageKind::Ingest, &made_from))
    }

    /// A shard that cannot be read is none.
    fn load(&self, key: &ShardKey) -> Option<(Vec<RecordBatch>, ShardNotes)> {
        let (bytes, notes): (Vec<u8>, ShardNotes) = self.shards.load(key)?;
        Some((store::of_checked(bytes, &self.maker.schema.arrow)?, notes))
    }

    fn make(&self, raw: &RawShard) -> Result<(Vec<RecordBatch>, ShardNotes)> {
        let chunks: Vec<Result<(RecordBatch, ShardNotes)>> = raw.chunks.par_iter().map(|chunk| self.rows(chunk, raw)).collect();
        let (mut rows, mut notes) = (Vec::new(), ShardNotes::default());
        for chunk in chunks {
            // What the merge would refuse as no classes must not get into the store.
            let (batch, of_chunk) = chunk.inspect_err(|_| self.shards.forget())?;
            rows.push(batch);
            notes.add(of_chunk);
        }
        Ok((rows, notes))
    }

    fn rows(&self, chunk: &RawChunk, raw: &RawShard) -> Result<(RecordBatch, ShardNotes)> {
        let mut builder = RowBuilder::new(&self.maker, raw.start, chunk.records(), chunk.bytes() as usize);
        let mut names = KeyNames::listing(self.maker.listed.iter().cloned());
        chunk.parse(&self.maker.columns.wanted, &mut names, &mut |record, cells| builder.add(record, cells))?;
        builder.finish(names)
    }
}
