//! Source files to raw shards: runs of records of one file, cut by number and size alone, so that the plan depends on
//! input and settings and never on workers.

use pipe_core::Result;
use pipe_core::config::IngestConfig;

use crate::read::{CHUNK_RECORDS, Framer, Place, RawChunk, Wanted, check_columns, empty};

use super::IngestSource;

/// A shard has so many records at most, and no more than a part of the output is to have.
const SHARD_RECORDS: usize = 8192;
/// A shard ends after so many bytes, even if it holds few records.
const SHARD_BYTES: u64 = 8 << 20;
/// Shards that are worked on together: enough to keep all cores busy (each is many chunks), few enough to bound memory.
const BATCH_SHARDS: usize = 64;
const BATCH_BYTES: u64 = 16 << 20;

/// A run of records of one file, not yet looked into. No `Debug`: it holds raw text.
pub(super) struct RawShard {
    /// Index of its file.
    pub(super) source: usize,
    /// Of its first record.
    pub(super) start: Place,
    pub(super) chunks: Vec<RawChunk>,
    /// Bytes of all files up to its end, for progress.
    pub(super) end: u64,
}

/// Cuts the source files into shards, one after the other.
pub(super) struct Planner<'p> {
    config: &'p IngestConfig,
    wanted: &'p Wanted,
    sources: &'p [IngestSource],
    sizes: &'p [u64],
    at: usize,
    open: Option<OpenSource>,
    bytes_before: u64,
    /// What is known once all is read.
    pub(super) seen: SourceFacts,
}

/// What the files are, beside their rows.
#[derive(Default)]
pub(super) struct SourceFacts {
    /// Records of each file, in order.
    pub(super) rows: Vec<u64>,
    /// Names in the files' headers.
    pub(super) columns: std::collections::BTreeSet<String>,
    /// Those of them that no role takes, in the order in which they came.
    pub(super) dropped: Vec<String>,
}

impl SourceFacts {
    /// Names of columns of one more file.
    pub(super) fn add<'n>(&mut self, names: impl Iterator<Item = &'n str>, wanted: &Wanted) {
        for name in names {
            self.columns.insert(name.to_owned());
            if !wanted.contains(name) && !self.dropped.iter().any(|dropped| dropped == name) {
                self.dropped.push(name.to_owned());
            }
        }
    }
}

struct OpenSource {
    framer: Framer,
    rows: u64,
}

impl<'p> Planner<'p> {
    /// `sizes` are those of the files, in bytes.
    pub(super) fn new(config: &'p IngestConfig, wanted: &'p Wanted, sources: &'p [IngestSource], sizes: &'p [u64]) -> Planner<'p> {
        Planner { config, wanted, sources, sizes, at: 0, open: None, bytes_before: 0, seen: SourceFacts::default() }
    }

    /// The next shards, in order; none at the end.
    pub(super) fn next_batch(&mut self) -> Result<Vec<RawShard>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_SHARDS
            && bytes < BATCH_BYTES
            && let Some(shard) = self.next_shard()?
        {
            bytes += shard.chunks.iter().map(RawChunk::bytes).sum::<u64>();
            batch.push(shard);
        }
        Ok(batch)
    }

    fn next_shard(&mut self) -> Result<Option<RawShard>> {
        let limit = SHARD_RECORDS.min(self.config.shard_rows);
        let chunk_records = CHUNK_RECORDS.min(limit);
        while let Some(source) = self.sources.get(self.at) {
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    let framer = Framer::open(&source.file, &self.config.source, self.wanted, chunk_records)?;
                    if framer.knows_columns() {
                        check_columns(&self.config.columns, framer.columns(), &source.file.shown())?;
                        self.seen.add(framer.columns().iter().map(String::as_str), self.wanted);
                    }
                    self.open.insert(OpenSource { framer, rows: 0 })
                }
            };
            let (mut chunks, mut records, mut bytes) = (Vec::new(), 0, 0);
            while records + chunk_records <= limit
                && bytes < SHARD_BYTES
                && let Some(chunk) = open.framer.next_chunk()?
            {
                records += chunk.records();
                bytes += chunk.bytes();
                chunks.push(chunk);
            }
            open.rows += records as u64;
            if let Some(first) = chunks.first() {
                let (start, end) = (first.start(), self.bytes_before + open.framer.position());
                return Ok(Some(RawShard { source: self.at, start, chunks, end }));
            }
            if open.rows == 0 {
                return Err(empty(&source.file.shown()));
            }
            self.seen.rows.push(open.rows);
            self.bytes_before += self.sizes[self.at];
            self.open = None;
            self.at += 1;
        }
        Ok(None)
    }
}
