//! What must see every row: which rows are left out as duplicates, near duplicates or conflicts, and which split each of
//! the others belongs to.
//!
//! Rows are pushed in file order as small facts, which go to unnamed files in a scratch folder. Everything is then
//! decided by sorting records of a few bytes in runs (`sort`), so that memory does not grow with the texts at all and
//! with the number of rows by a few bytes each, which live in mapped scratch files too (`scratch`).

mod near;
pub(super) mod split;

use std::path::Path;

use pipe_core::config::{Conflicts, Dedup, NearConfig, SplitConfig};
use pipe_core::{Error, Progress, Result};
use serde::Serialize;

pub(super) use near::NearSigner;
pub(super) use split::{RowDigest, Splitter};

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
pub(super) struct Assigner {}

/// What was decided.
pub(super) struct Assignment {
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

/// What two splits have in common once all is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Overlap {
    /// Indices of two splits, the smaller one first: of train and test, say, 0 and 2.
    pub(super) splits: [usize; 2],
    /// Equal raw texts.
    pub(super) texts: Shared,
    /// Equal texts after scrubbing: two customers on one template.
    pub(super) scrubbed: Shared,
    /// Near-duplicate clusters; absent where they were not looked for.
    pub(super) near: Option<Shared>,
    /// Groups; absent where no row has one.
    pub(super) groups: Option<Shared>,
    /// Rows left out of either split because the other one has a row of the same or nearly the same text (`by: files`).
    pub(super) removed: u64,
}

/// Things that stand in both splits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Shared {
    /// Different ones.
    pub(super) count: u64,
    /// Rows of the second split that have one of them: what a model that trained on the first one has seen.
    pub(super) rows: u64,
}

impl Assigner {
    /// `split_of_source` gives the split of each source file with `by: files`, and is empty otherwise. Spill files are
    /// made in `scratch` and have no name there; `memory` bounds, in bytes, what sorting holds at a time.
    pub(super) fn new(config: &AssignConfig<'_>, split_of_source: Vec<Option<usize>>, scratch: &Path, memory: usize) -> Result<Assigner> {
        let _ = (config, split_of_source, scratch, memory);
        Ok(Assigner {})
    }

    /// The next row, in file order; the first one's ordinal is 0.
    pub(super) fn push(&mut self, row: &RowFacts<'_>) -> Result<()> {
        let _ = row;
        Ok(())
    }

    pub(super) fn finish(self, progress: &dyn Progress) -> Result<Assignment> {
        progress.check()?;
        Err(Error::internal("rows cannot be assigned yet"))
    }
}

impl Assignment {
    /// Of the row of this ordinal.
    pub(super) fn fate(&self, ordinal: u64) -> Fate {
        let _ = ordinal;
        Fate::NoSplit
    }
}
