//! Shards back to one stream of rows, in file order: duplicates, labels, splits and what the report counts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use pipe_core::Result;
use pipe_core::cache::Shards;
use pipe_core::config::{Dedup, IngestConfig};

use crate::read::Reject;
use crate::scrub::ScrubPolicy;

use super::labels::Labels;
use super::rejects::Rejects;
use super::shard::CleanShard;
use super::split::{DigestHasher, RowDigest, Splitter};
use super::writer::SplitWriters;
use super::{IngestReport, IngestSource};

pub(super) struct Merge<'m> {
    dedup: Dedup,
    sources: &'m [IngestSource],
    splitter: &'m Splitter,
    shards: &'m Shards,
    /// Rows that came before, with their labels.
    seen: HashMap<RowDigest, Option<u32>, DigestHasher>,
    pub(super) writers: SplitWriters,
    pub(super) rejects: Rejects,
    pub(super) labels: Labels,
    pub(super) report: IngestReport,
}

impl<'m> Merge<'m> {
    pub(super) fn new(
        config: &IngestConfig,
        sources: &'m [IngestSource],
        policy: &ScrubPolicy,
        splitter: &'m Splitter,
        shards: &'m Shards,
        out: &Path,
    ) -> Result<Merge<'m>> {
        Ok(Merge {
            dedup: config.dedup,
            sources,
            splitter,
            shards,
            seen: HashMap::default(),
            writers: SplitWriters::create(out, splitter, &config.columns, config.shard_rows)?,
            rejects: Rejects::create(&out.join("rejects.parquet"))?,
            labels: Labels::new(),
            report: IngestReport::new(policy, config.columns.text_pair.is_some()),
        })
    }

    /// The next shard.
    pub(super) fn add(&mut self, shard: &CleanShard) -> Result<()> {
        let source = &self.sources[shard.source];
        let id_prefix = &source.digest[..8];
        self.report.rows.read += shard.notes.rows + shard.notes.rejects.len() as u64;
        self.report.add_entities(&shard.notes.text, &shard.notes.text_pair);
        self.add_rejects(shard, source)?;
        for row in shard.rows() {
            let label = row.label.map(|label| self.labels.id_of(label)).transpose().inspect_err(|_| self.shards.forget())?;
            if self.dedup == Dedup::Exact {
                match self.seen.entry(row.digest) {
                    Entry::Occupied(first) => {
                        self.report.add_duplicate(*first.get() != label);
                        continue;
                    }
                    Entry::Vacant(place) => place.insert(label),
                };
            }
            let split = self.splitter.split_of(row.digest);
            self.report.add_row(split, label);
            self.writers.add(split, &row, id_prefix, shard.start.number + row.record)?;
        }
        Ok(())
    }

    fn add_rejects(&mut self, shard: &CleanShard, source: &IngestSource) -> Result<()> {
        for reject in &shard.notes.rejects {
            let reject = Reject { place: shard.start.of_relative(reject.place), ..reject.clone() };
            self.report.add_reject(&reject);
            self.rejects.add(&source.digest, &reject)?;
        }
        Ok(())
    }
}
