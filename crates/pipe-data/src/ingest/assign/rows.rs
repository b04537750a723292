//! What the steps of the decision share: the facts of all rows, what is decided so far, and the means to sort.

use std::path::Path;

use pipe_core::{Progress, Result};

use super::AssignReport;
use super::scratch::RowBytes;
use super::sort::ExternalSort;
use super::spill::{Record, Stored, StoredReader};

/// Fates of rows as bytes; a row of split `k` is `FIRST_SPLIT + k`.
pub(super) const KEPT: u8 = 0;
pub(super) const DUPLICATE: u8 = 1;
pub(super) const NEAR_DUPLICATE: u8 = 2;
pub(super) const CONFLICT: u8 = 3;
pub(super) const NO_SPLIT: u8 = 4;
pub(super) const FIRST_SPLIT: u8 = 8;

/// Splits are three at most: a pipeline has no others than `pipe_core::config::SPLITS`.
pub(super) const MAX_SPLITS: usize = pipe_core::config::SPLITS.len();

/// The facts of all rows, one column each.
pub(super) struct Rows {
    pub(super) count: u64,
    pub(super) digests: Stored<u128>,
    pub(super) scrubbed: Stored<u128>,
    /// Counted from 1.
    pub(super) labels: Stored<u32>,
    /// 0 for none.
    pub(super) groups: Stored<u128>,
    pub(super) times: Stored<i64>,
    /// Of the row's file, counted from 1; empty unless files decide.
    pub(super) splits: Stored<u8>,
    /// One column per band; 0 for none.
    pub(super) bands: Vec<Stored<u64>>,
}

impl Rows {
    /// Per row, how much it is preferred over its duplicates, the smallest first: what is tested with is to stay whole,
    /// so a text that stands in several given splits stays in the last one of them.
    pub(super) fn ranks(&self) -> Ranks<'_> {
        Ranks(self.splits.reader())
    }

    /// Per row, its group, or else its text: what may not straddle two splits.
    pub(super) fn keys(&self) -> Keys<'_> {
        Keys { digests: self.digests.reader(), groups: self.groups.reader() }
    }
}

pub(super) struct Ranks<'r>(StoredReader<'r, u8>);

impl Ranks<'_> {
    pub(super) fn next(&mut self) -> Result<u8> {
        Ok(u8::MAX - self.0.next()?)
    }
}

pub(super) struct Keys<'r> {
    digests: StoredReader<'r, u128>,
    groups: StoredReader<'r, u128>,
}

impl Keys<'_> {
    pub(super) fn next(&mut self) -> Result<u128> {
        let (digest, group) = (self.digests.next()?, self.groups.next()?);
        Ok(if group == 0 { digest } else { group })
    }
}

/// What is decided so far.
pub(super) struct Decided {
    pub(super) fates: RowBytes,
    pub(super) report: AssignReport,
    /// Rows that were left out in favour of another split's, by the smaller and the larger index.
    pub(super) removed: [[u64; MAX_SPLITS]; MAX_SPLITS],
}

impl Decided {
    /// A row of one rank was left out in favour of one of another rank.
    pub(super) fn count_removed(&mut self, out: u8, stays: u8) {
        if out != stays {
            let (one, other) = (usize::from(u8::MAX - out) - 1, usize::from(u8::MAX - stays) - 1);
            self.removed[one.min(other)][one.max(other)] += 1;
        }
    }
}

/// Where scratch files go, and how much is held at a time.
pub(super) struct Work<'w> {
    pub(super) scratch: &'w Path,
    pub(super) memory: usize,
    pub(super) progress: &'w dyn Progress,
}

impl Work<'_> {
    /// Two sorts at a time: one is read while the next one is filled.
    pub(super) fn sorter<T: Record + Ord + Send>(&self) -> ExternalSort<T> {
        ExternalSort::new(self.scratch, self.memory / 2)
    }

    /// Whether to go on, asked at some of the rows.
    pub(super) fn check(&self, ordinal: u64) -> Result<()> {
        if ordinal.is_multiple_of(1 << 16) { self.progress.check() } else { Ok(()) }
    }
}
