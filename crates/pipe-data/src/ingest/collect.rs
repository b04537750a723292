//! Shards back to one stream of rows, in file order: what the whole data set has to be asked, row by row.

use std::collections::BTreeSet;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{Array, RecordBatch};
use pipe_core::Result;
use pipe_core::cache::Shards;
use pipe_core::config::{ColumnsConfig, IngestConfig, SourceFormat};

use crate::read::{KeyNames, Reject, check_columns};

use super::assign::{Assigner, RowDigest, RowFacts};
use super::labels::{Labels, Target};
use super::rejects::Rejects;
use super::shard::{CleanShard, ShardSchema};
use super::write::StoredShard;
use super::{Columns, IngestReport, IngestSource};

/// What is known once every shard is clean.
pub(super) struct Collector<'m> {
    sources: &'m [IngestSource],
    shards: &'m Shards,
    /// Where what rows are labelled with stands among the columns of shards.
    target_at: Option<usize>,
    pub(super) assigner: Assigner,
    pub(super) stored: Vec<StoredShard>,
    pub(super) rejects: Rejects,
    pub(super) labels: Labels,
    pub(super) report: IngestReport,
    /// Keys of all records, in formats whose records name their columns.
    pub(super) keys: KeyNames,
    /// Those of the file that shards come from now.
    file: Option<(usize, KeyNames)>,
    names: &'m ColumnsConfig,
}

impl<'m> Collector<'m> {
    pub(super) fn new(
        config: &'m IngestConfig,
        sources: &'m [IngestSource],
        columns: &Columns,
        schema: &ShardSchema,
        assigner: Assigner,
        shards: &'m Shards,
        out: &Path,
    ) -> Result<Collector<'m>> {
        let target_at = columns.target().map(|at| schema.first + at);
        let named: BTreeSet<String> = columns.all.iter().map(|column| column.name.clone()).collect();
        Ok(Collector {
            sources,
            shards,
            target_at,
            assigner,
            stored: Vec::new(),
            rejects: Rejects::create(&out.join("rejects.parquet"), config.rejects.recipient.is_some())?,
            labels: Labels::new(columns.class_role()),
            report: IngestReport::new(named),
            keys: KeyNames::default(),
            file: None,
            names: &config.columns,
        })
    }

    /// The next shard.
    pub(super) fn add(&mut self, shard: &CleanShard) -> Result<()> {
        let source = &self.sources[shard.source];
        let notes = &shard.notes;
        self.report.rows.read += notes.rows + notes.filtered + notes.rejects.len() as u64;
        self.report.rows.filtered += notes.filtered;
        self.report.add_entities(&notes.entities);
        if self.file.as_ref().is_none_or(|(of, _)| *of != shard.source) {
            self.end_file()?;
            self.file = Some((shard.source, KeyNames::default()));
        }
        if let Some((_, keys)) = &mut self.file {
            keys.add(&notes.keys);
        }
        self.add_rejects(shard, source)?;
        for batch in &shard.rows {
            self.add_rows(batch, shard.source as u32)?;
        }
        self.stored.push(StoredShard {
            key: shard.key.clone(),
            rows: notes.rows,
            id_prefix: source.digest[..8].to_owned(),
            start: shard.start.number,
        });
        Ok(())
    }

    /// Holds the names of a file's columns against the settings, where only its records tell them.
    pub(super) fn end_file(&mut self) -> Result<()> {
        let Some((source, keys)) = self.file.take() else { return Ok(()) };
        self.keys.add(&keys);
        let file = &self.sources[source].file;
        if !matches!(file.format, SourceFormat::Json | SourceFormat::Jsonl) {
            return Ok(());
        }
        let listed = self.names.required.iter().chain(&self.names.forbidden);
        let met: Vec<String> = listed.filter(|name| keys.contains(name)).cloned().collect();
        check_columns(self.names, &met, &file.path).inspect_err(|_| self.shards.forget())
    }

    fn add_rows(&mut self, batch: &RecordBatch, source: u32) -> Result<()> {
        let digests = batch.column(1).as_fixed_size_binary();
        let scrubbed = batch.column(2).as_fixed_size_binary();
        let optional = |name: &str| batch.column_by_name(name);
        let groups = optional("#group").map(|column| column.as_fixed_size_binary());
        let times = optional("#time").map(|column| column.as_primitive::<Int64Type>());
        let bands = optional("#bands").map(|column| {
            let list = column.as_fixed_size_list();
            (list.value_length() as usize, list.values().as_primitive::<UInt64Type>().values())
        });
        let target = self.target_at.map(|at| Target::of(batch.column(at)));
        for row in 0..batch.num_rows() {
            let label = match &target {
                Some(target) => Some(target.of_row(row, &mut self.labels).inspect_err(|_| self.shards.forget())?),
                None => None,
            };
            self.assigner.push(&RowFacts {
                digest: RowDigest::from_bytes(digests.value(row)),
                scrubbed: RowDigest::from_bytes(scrubbed.value(row)),
                label,
                group: groups.filter(|groups| groups.is_valid(row)).map(|groups| RowDigest::from_bytes(groups.value(row))),
                time: times.filter(|times| times.is_valid(row)).map(|times| times.value(row)),
                source,
                bands: bands.map_or(&[], |(length, values)| &values[row * length..(row + 1) * length]),
            })?;
        }
        Ok(())
    }

    fn add_rejects(&mut self, shard: &CleanShard, source: &IngestSource) -> Result<()> {
        if shard.notes.rejects.is_empty() {
            return Ok(());
        }
        for reject in &shard.notes.rejects {
            let reject = Reject { place: shard.start.of_relative(reject.place), ..reject.clone() };
            self.report.add_reject(&reject);
            self.rejects.add(&source.digest, &reject)?;
        }
        Ok(())
    }
}
