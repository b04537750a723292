//! What must see every row: which rows are left out as duplicates, near duplicates or conflicts, and which split each of
//! the others belongs to.
//!
//! Rows are pushed in file order as small facts, which go to unnamed files in a scratch folder. Everything is then
//! decided by sorting records of a few bytes in runs (`sort`), so that memory does not grow with the texts at all and
//! with the number of rows by a few bytes each, which live in mapped scratch files too (`scratch`).
//!
//! - **Equal texts** (`exact`): the first row in file order stays. Labels of equal texts are compared whether duplicates
//!   stay or not; with `conflicts: drop` all rows of a text with several labels are left out.
//! - **Near duplicates** (`near`, `clusters`) are told among the rows that are left: the first one of a cluster stays, or
//!   all do and keep to the first one's split.
//! - **Units** (`units`): rows of one group, of one such cluster, or of equal text and no group go to one split as a whole;
//!   two of these that share a row are one unit. With groups, rows of equal text in two groups are not: that would tie all
//!   groups together in which somebody says "thank you". The overlap report counts them.
//! - `by: hash` places a unit by the group or text of its first row. New rows move no old ones, but for clusters: one moves
//!   if a new row ties it to another one, or comes before all its rows.
//! - `by: stratified` orders the units of a class by the same hash and cuts where the shares of its rows say so; a unit is
//!   of the class of its first row. `by: time` orders units by their latest row and cuts likewise, never between equal times.
//! - `by: files`: files decide, over groups and clusters too. A text that stands in several splits stays in the last one of
//!   train, validation and test, so that what is evaluated on stays whole and nothing of it was trained on.
//! - **Overlaps** between splits (`overlap`) are measured at the end.

mod clusters;
mod exact;
mod near;
mod overlap;
mod quota;
mod rows;
mod scratch;
mod sort;
mod spill;
pub(super) mod split;
mod units;

use std::path::{Path, PathBuf};

use pipe_core::config::{Conflicts, Dedup, NearAction, NearConfig, SplitBy, SplitConfig};
use pipe_core::{Error, Progress, Result};
use serde::Serialize;

pub(super) use near::NearSigner;
pub(super) use overlap::Overlap;
pub(super) use split::{RowDigest, Splitter};

use rows::{CONFLICT, DUPLICATE, Decided, FIRST_SPLIT, KEPT, NEAR_DUPLICATE, NO_SPLIT, Rows, Work};
use scratch::RowBytes;
use spill::{Column, MAX_ROWS};

/// The settings that decide.
#[derive(Debug, Clone)]
pub(super) struct AssignConfig<'c> {
    pub(super) dedup: Dedup,
    pub(super) near: &'c NearConfig,
    pub(super) conflicts: Conflicts,
    /// Absent: one split takes all.
    pub(super) split: Option<&'c SplitConfig>,
}

/// All that is known of one good row here.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowFacts<'r> {
    /// [`Splitter::digest`] of the raw text or texts.
    pub(super) digest: RowDigest,
    /// [`Splitter::digest`] of what scrubbing left of them.
    pub(super) scrubbed: RowDigest,
    pub(super) label: Option<u32>,
    /// [`Splitter::group`] of the column `group`.
    pub(super) group: Option<RowDigest>,
    /// Present in every row where the split is by time, in any unit.
    pub(super) time: Option<i64>,
    /// Index of the source file.
    pub(super) source: u32,
    /// [`NearSigner::bands`]; looked at with `dedup: near` alone.
    pub(super) bands: &'r [u64],
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays, in the split of this index (of [`Splitter::names`]).
    Split(usize),
    /// Another row of equal text stays.
    Duplicate,
    /// Another row of nearly equal text stays.
    NearDuplicate,
    /// Its text has several labels.
    Conflict,
    /// Its file belongs to no split.
    NoSplit,
}

/// Takes the rows in.
pub(super) struct Assigner {
    dedup: Dedup,
    action: NearAction,
    conflicts: Conflicts,
    by: SplitBy,
    splitter: Splitter,
    split_of_source: Vec<Option<usize>>,
    scratch: PathBuf,
    memory: usize,
    rows: u64,
    digests: Column<u128>,
    scrubbed: Column<u128>,
    labels: Column<u32>,
    groups: Column<u128>,
    times: Column<i64>,
    splits: Column<u8>,
    bands: Vec<Column<u64>>,
}

/// What was decided.
pub(super) struct Assignment {
    fates: RowBytes,
    pub(super) report: AssignReport,
}

/// Counts of what was decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct AssignReport {
    /// Rows pushed: those in splits and the five counts below them add up to it.
    pub(super) rows: u64,
    /// Rows per split, in the order of [`Splitter::names`].
    pub(super) splits: Vec<u64>,
    pub(super) duplicates: u64,
    /// Rows left out.
    pub(super) near_duplicates: u64,
    pub(super) conflicts_dropped: u64,
    pub(super) without_split: u64,
    /// Clusters of two rows or more; 0 unless `dedup: near`.
    pub(super) near_clusters: u64,
    /// Different texts whose rows have more than one label, and those rows.
    pub(super) conflicting_texts: u64,
    pub(super) conflicting_rows: u64,
    /// One per pair of splits.
    pub(super) overlaps: Vec<Overlap>,
}

impl Assigner {
    /// `split_of_source` gives the split of each source file with `by: files`, and is empty otherwise. Spill files are
    /// made in `scratch` and have no name there; `memory` bounds, in bytes, what sorting holds at a time.
    pub(super) fn new(config: &AssignConfig<'_>, split_of_source: Vec<Option<usize>>, scratch: &Path, memory: usize) -> Result<Assigner> {
        let bands = if config.dedup == Dedup::Near { config.near.bands } else { 0 };
        Ok(Assigner {
            dedup: config.dedup,
            action: config.near.action,
            conflicts: config.conflicts,
            by: config.split.map_or(SplitBy::Hash, |split| split.by),
            splitter: Splitter::new(config.split),
            split_of_source,
            scratch: scratch.to_owned(),
            memory,
            rows: 0,
            digests: Column::new(),
            scrubbed: Column::new(),
            labels: Column::new(),
            groups: Column::new(),
            times: Column::new(),
            splits: Column::new(),
            bands: (0..bands).map(|_| Column::new()).collect(),
        })
    }

    /// The next row, in file order; the first one's ordinal is 0.
    pub(super) fn push(&mut self, row: &RowFacts<'_>) -> Result<()> {
        let (ordinal, scratch) = (self.rows, &self.scratch);
        if ordinal >= MAX_ROWS {
            return Err(Error::input(format!("there are more than {MAX_ROWS} rows")).hint("ingest them in several stages"));
        }
        self.rows += 1;
        self.digests.push(ordinal, row.digest.into(), scratch)?;
        if self.splitter.names().count() > 1 {
            self.scrubbed.push(ordinal, row.scrubbed.into(), scratch)?;
        }
        if let Some(label) = row.label {
            self.labels.push(ordinal, label.saturating_add(1), scratch)?;
        }
        if let Some(group) = row.group {
            self.groups.push(ordinal, group.into(), scratch)?;
        }
        match self.by {
            SplitBy::Time => {
                let time = row.time.ok_or_else(|| Error::internal("a row without a time is to be split by time"))?;
                self.times.push(ordinal, time, scratch)?;
            }
            SplitBy::Files => {
                let split = self.split_of_source.get(row.source as usize).ok_or_else(|| Error::internal("a row is of no source file"))?;
                self.splits.push(ordinal, split.map_or(0, |split| split as u8 + 1), scratch)?;
            }
            SplitBy::Hash | SplitBy::Stratified => {}
        }
        if !self.bands.is_empty() && !row.bands.is_empty() {
            if row.bands.len() != self.bands.len() {
                return Err(Error::internal("a signature has another number of bands than was asked for"));
            }
            for (column, band) in self.bands.iter_mut().zip(row.bands) {
                // 0 is for rows without a signature.
                column.push(ordinal, (*band).max(1), scratch)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self, progress: &dyn Progress) -> Result<Assignment> {
        let rows = Rows {
            count: self.rows,
            digests: self.digests.finish()?,
            scrubbed: self.scrubbed.finish()?,
            labels: self.labels.finish()?,
            groups: self.groups.finish()?,
            times: self.times.finish()?,
            splits: self.splits.finish()?,
            bands: self.bands.into_iter().map(Column::finish).collect::<Result<_>>()?,
        };
        let work = Work { scratch: &self.scratch, memory: self.memory, progress };
        let names = self.splitter.names().count();
        let report = AssignReport { rows: rows.count, splits: vec![0; names], ..AssignReport::default() };
        let mut decided = Decided { fates: RowBytes::new(&self.scratch, rows.count)?, report, removed: Default::default() };
        if self.by == SplitBy::Files {
            leave_out_files(&work, &rows, &mut decided)?;
        }
        exact::decide(&work, &rows, self.dedup, self.conflicts, &mut decided)?;
        let near = self.dedup == Dedup::Near;
        let mut clusters = None;
        if near {
            let mut components = clusters::find(&work, &rows, &decided)?;
            clusters::settle(&work, &rows, &mut components, self.action, &mut decided)?;
            clusters = Some(components).filter(|_| self.action == NearAction::Group);
        }
        units::assign(&work, &rows, &self.splitter, self.by, self.dedup, clusters.as_mut(), &mut decided)?;
        decided.report.overlaps = overlap::measure(&work, &rows, names, near, clusters.as_mut(), &decided)?;
        for ordinal in 0..rows.count {
            if let Fate::Split(split) = Fate::of(decided.fates.get(ordinal)) {
                decided.report.splits[split] += 1;
            }
        }
        Ok(Assignment { fates: decided.fates, report: decided.report })
    }
}

/// Rows of files that belong to no split are no one's duplicates.
fn leave_out_files(work: &Work<'_>, rows: &Rows, decided: &mut Decided) -> Result<()> {
    let mut splits = rows.splits.reader();
    for ordinal in 0..rows.count {
        work.check(ordinal)?;
        if splits.next()? == 0 {
            decided.fates.set(ordinal, NO_SPLIT);
            decided.report.without_split += 1;
        }
    }
    Ok(())
}

impl Fate {
    fn of(byte: u8) -> Fate {
        match byte {
            DUPLICATE => Fate::Duplicate,
            NEAR_DUPLICATE => Fate::NearDuplicate,
            CONFLICT => Fate::Conflict,
            KEPT | NO_SPLIT => Fate::NoSplit,
            split => Fate::Split(usize::from(split - FIRST_SPLIT)),
        }
    }
}

impl Assignment {
    /// Of the row of this ordinal.
    ///
    /// # Panics
    /// If no such row was pushed.
    pub(super) fn fate(&self, ordinal: u64) -> Fate {
        Fate::of(self.fates.get(ordinal))
    }
}

#[cfg(test)]
mod tests;
