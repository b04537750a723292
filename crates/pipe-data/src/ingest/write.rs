//! Rows to Parquet, one folder per split: parts are planned one after the other and encoded on all cores.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use arrow_select::interleave::interleave_record_batch;
use pipe_core::cache::{ShardKey, Shards};
use pipe_core::{Error, IoContext, Progress, Result, failpoint};

use crate::parquet_io::{BATCH_ROWS, TableOptions, TableWriter};
use crate::scrub::Scrubber;

use super::assign::{Assignment, Fate, RowDigest};
use super::columns::{Columns, Kind};
use super::labels::Classes;
use super::parts::{Cuts, Part, PartPlanner};
use super::report::SplitReport;
use super::residual;
use super::shard::ShardSchema;
use super::store;

/// Rows are written so many bytes of text at a time, about, however few rows they are.
const BATCH_BYTES: usize = 4 << 20;

/// Where the rows of one shard are, and what their made ids are made of.
pub(super) struct StoredShard {
    pub(super) key: ShardKey,
    pub(super) rows: u64,
    /// The first digits of its file's digest.
    pub(super) id_prefix: String,
    /// Number of its first record in the file.
    pub(super) start: u64,
}

/// Writes all rows that have a split.
pub(super) struct RowWriter<'w> {
    pub(super) out: &'w Path,
    pub(super) splits: Vec<String>,
    pub(super) columns: &'w Columns,
    pub(super) shard_schema: &'w ShardSchema,
    pub(super) schema: SchemaRef,
    pub(super) shards: &'w Shards,
    pub(super) stored: &'w [StoredShard],
    pub(super) scrubber: &'w Scrubber,
    /// Where the rows come from, for whoever reads a part alone: in the order in which it is written.
    pub(super) metadata: Vec<(String, String)>,
}

impl RowWriter<'_> {
    /// Rows and classes per split. `part_rows` is about how many a part has.
    pub(super) fn write(&self, assignment: &Assignment, part_rows: usize, progress: &dyn Progress) -> Result<BTreeMap<String, SplitReport>> {
        let workers = rayon::current_num_threads();
        // As many parts wait as are written: a plan is small.
        let (to_workers, parts) = sync_channel::<Part>(workers);
        let parts = Mutex::new(parts);
        let failed: Mutex<Option<(usize, usize, Error)>> = Mutex::new(None);
        let (written, to_disk) = channel::<PathBuf>();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                let written = written.clone();
                let (parts, failed) = (&parts, &failed);
                scope.spawn(move || self.encode_all(parts, written, failed));
            }
            // Ends once the last worker has.
            drop(written);
            let syncing = scope.spawn(move || sync_all(&to_disk));
            let planned = self.plan(assignment, part_rows, &to_workers, &failed, progress).inspect(|_| drop(to_workers));
            syncing.join().expect("nothing in it panics").and(planned)
        })
        .and_then(|rows| match failed.into_inner().expect("no panic while locked") {
            Some((_, _, error)) => Err(error),
            None => Ok(rows),
        })
    }

    /// Hands out the rows to parts, in file order.
    fn plan(
        &self,
        assignment: &Assignment,
        part_rows: usize,
        to_workers: &SyncSender<Part>,
        failed: &Mutex<Option<(usize, usize, Error)>>,
        progress: &dyn Progress,
    ) -> Result<BTreeMap<String, SplitReport>> {
        let mut planner = PartPlanner::new(self.splits.len(), Cuts::new(part_rows));
        let mut reports = vec![SplitReport::default(); self.splits.len()];
        let target_at = self.columns.target().map(|at| self.shard_schema.first + at);
        let total: u64 = self.stored.iter().map(|shard| shard.rows).sum();
        let gone = || Error::internal("the writers of parts are gone");
        let mut ordinal = 0;
        for (at, shard) in self.stored.iter().enumerate() {
            progress.check()?;
            if failed.lock().expect("no panic while locked").is_some() {
                break;
            }
            let mut row = 0u32;
            for batch in store::map(&self.shards.path(&shard.key), &self.shard_schema.arrow)? {
                let digests = batch.column(1).as_fixed_size_binary();
                let classes = target_at.and_then(|at| Classes::of(batch.column(at)));
                for in_batch in 0..batch.num_rows() {
                    if let Fate::Split(split) = assignment.fate(ordinal) {
                        reports[split].add(classes.iter().flat_map(|classes| classes.of_row(in_batch)));
                        if let Some(part) = planner.add(split, at, row, RowDigest::from_bytes(digests.value(in_batch))) {
                            to_workers.send(part).map_err(|_| gone())?;
                        }
                    }
                    row += 1;
                    ordinal += 1;
                }
            }
            progress.advance(ordinal, total, "rows", "writing");
        }
        for part in planner.finish() {
            to_workers.send(part).map_err(|_| gone())?;
        }
        Ok(self.splits.iter().cloned().zip(reports).collect())
    }

    fn encode_all(&self, parts: &Mutex<Receiver<Part>>, written: Sender<PathBuf>, failed: &Mutex<Option<(usize, usize, Error)>>) {
        loop {
            let next = parts.lock().expect("no panic while locked").recv();
            let Ok(part) = next else { return };
            // After a failure the rest is only taken, so that the planner is not left waiting.
            if failed.lock().expect("no panic while locked").is_some() {
                continue;
            }
            match self.encode(&part) {
                // Nobody takes it where syncing failed, which is an error of its own.
                Ok(()) => drop(written.send(self.path(&part))),
                Err(error) => {
                    let mut first = failed.lock().expect("no panic while locked");
                    // The first in the order of parts, so that the same input ends with the same error as far as may be.
                    if first.as_ref().is_none_or(|(split, number, _)| (part.split, part.number) < (*split, *number)) {
                        *first = Some((part.split, part.number, error));
                    }
                }
            }
        }
    }

    fn path(&self, part: &Part) -> PathBuf {
        self.out.join(&self.splits[part.split]).join(format!("part-{:05}.parquet", part.number))
    }

    /// Writes one part, and looks through what was written for anything that should have been replaced.
    fn encode(&self, part: &Part) -> Result<()> {
        failpoint("ingest.part");
        let path = self.path(part);
        let mut writer = TableWriter::with_options(&path, Arc::clone(&self.schema), &self.options())?;
        let mut pending = PendingRows::default();
        for slice in &part.slices {
            let shard = &self.stored[slice.shard];
            let batches = store::map(&self.shards.path(&shard.key), &self.shard_schema.arrow)?;
            let mut first = 0;
            let mut rows = slice.rows.iter().copied().peekable();
            for batch in &batches {
                let end = first + batch.num_rows() as u32;
                let mut open = false;
                while let Some(row) = rows.next_if(|row| *row < end) {
                    if !open {
                        pending.batches.push((slice.shard, batch.clone()));
                        open = true;
                    }
                    pending.add(batch, (row - first) as usize, self.shard_schema.first);
                    if pending.indices.len() >= BATCH_ROWS || pending.bytes >= BATCH_BYTES {
                        self.flush(&mut pending, &mut writer)?;
                        open = false;
                    }
                }
                first = end;
            }
        }
        self.flush(&mut pending, &mut writer)?;
        writer.finish()?;
        residual::check(&path, self.columns, self.scrubber)
    }

    fn options(&self) -> TableOptions {
        let text = |kind| matches!(kind, Kind::Text | Kind::OptionalText | Kind::Id);
        let plain = self.columns.written().filter(|column| text(column.kind)).map(|column| column.name.clone());
        // Minima and maxima are values: only numbers, times and classes have them, and no column that is kept as it is.
        let pruned = |of: &DataType| matches!(of, DataType::Int64 | DataType::Float64 | DataType::Timestamp(..) | DataType::Boolean);
        let statistics = self
            .columns
            .written()
            .filter(|column| (pruned(&column.data_type()) || column.kind == Kind::Label) && !column.is_kept())
            .map(|column| column.name.clone());
        TableOptions {
            plain: std::iter::once("id".to_owned()).chain(plain).collect(),
            statistics: statistics.collect(),
            metadata: self.metadata.clone(),
        }
    }

    fn flush(&self, pending: &mut PendingRows, writer: &mut TableWriter) -> Result<()> {
        if pending.indices.is_empty() {
            return Ok(());
        }
        let PendingRows { batches, indices, .. } = std::mem::take(pending);
        let references: Vec<&RecordBatch> = batches.iter().map(|(_, batch)| batch).collect();
        let gathered = interleave_record_batch(&references, &indices).map_err(|_| Error::internal("the rows of shards do not fit together"))?;
        let first = self.shard_schema.first;
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.schema.fields().len());
        let mut id = None;
        for (column, array) in self.columns.written().zip(&gathered.columns()[first..]) {
            if column.kind == Kind::Id {
                id = Some(array);
            } else {
                columns.push(Arc::clone(array));
            }
        }
        columns.insert(0, self.ids(id, gathered.column(0), &batches, &indices)?);
        writer.write(columns, &self.schema)
    }

    /// The mapped id where a row has one, else the digest of its file and its record number.
    fn ids(&self, mapped: Option<&ArrayRef>, records: &ArrayRef, batches: &[(usize, RecordBatch)], indices: &[(usize, usize)]) -> Result<ArrayRef> {
        let mapped = mapped.map(|ids| ids.as_string::<i32>());
        let records = records.as_primitive::<arrow_array::types::UInt32Type>();
        let mut ids = StringBuilder::with_capacity(indices.len(), indices.len() * 20);
        for (at, (batch, _)) in indices.iter().enumerate() {
            match mapped.filter(|ids| ids.is_valid(at)) {
                Some(mapped) => ids.append_value(mapped.value(at)),
                None => {
                    let shard = &self.stored[batches[*batch].0];
                    write!(ids, "{}-{}", shard.id_prefix, shard.start + u64::from(records.value(at)))
                        .map_err(|_| Error::internal("an id cannot be written"))?;
                    ids.append_value("");
                }
            }
        }
        Ok(Arc::new(ids.finish()))
    }
}

/// Makes parts durable as they come. The cache syncs all that it commits, but only once every part is there: a disk that
/// begins while others are still encoded is done sooner.
fn sync_all(written: &Receiver<PathBuf>) -> Result<()> {
    written.iter().try_for_each(|path| File::open(&path).and_then(|file| file.sync_data()).doing("write", &path))
}

/// Rows that are not written yet. They end where the rows themselves say so, not where shards do: the bytes of a part
/// follow from its rows alone.
#[derive(Default)]
struct PendingRows {
    /// With the position of their shard.
    batches: Vec<(usize, RecordBatch)>,
    indices: Vec<(usize, usize)>,
    bytes: usize,
}

impl PendingRows {
    /// A row of the last of `batches`.
    fn add(&mut self, batch: &RecordBatch, row: usize, first: usize) {
        self.indices.push((self.batches.len() - 1, row));
        self.bytes += batch.columns()[first..].iter().map(|column| size_of_value(column.as_ref(), row)).sum::<usize>();
    }
}

/// Bytes of text in one value, about.
fn size_of_value(array: &dyn Array, row: usize) -> usize {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value_length(row) as usize,
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (start, end) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
            (start..end).map(|item| size_of_value(list.values().as_ref(), item)).sum()
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| size_of_value(column.as_ref(), row)).sum(),
        _ => 8,
    }
}
