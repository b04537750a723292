//! Near duplicates: rows that share a band of their signatures are in one cluster, and so are rows that share one with
//! a third row.

use pipe_core::Result;
use pipe_core::config::NearAction;

use super::rows::{Decided, KEPT, NEAR_DUPLICATE, Rows, Work};
use super::scratch::{Components, RowBytes};
use super::spill::{ORDINAL_BYTES, Record, read_ordinal, write_ordinal};

/// A row in the bucket of one band.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InBucket<B> {
    pub(super) bucket: B,
    pub(super) ordinal: u64,
}

impl<B: Record> Record for InBucket<B> {
    const BYTES: usize = B::BYTES + ORDINAL_BYTES;

    fn write(&self, to: &mut [u8]) {
        self.bucket.write(&mut to[..B::BYTES]);
        write_ordinal(self.ordinal, &mut to[B::BYTES..]);
    }

    fn read(from: &[u8]) -> Self {
        InBucket { bucket: B::read(&from[..B::BYTES]), ordinal: read_ordinal(&from[B::BYTES..]) }
    }
}

/// Joins the rows of each bucket with its first one, so that one of a million rows costs a million steps. `bucket` is
/// asked for all rows in order.
pub(super) fn join_buckets<B: Record + Ord + Send>(
    work: &Work<'_>,
    rows: u64,
    components: &mut Components,
    mut bucket: impl FnMut(u64) -> Result<Option<B>>,
) -> Result<()> {
    let mut sort = work.sorter();
    for ordinal in 0..rows {
        work.check(ordinal)?;
        if let Some(bucket) = bucket(ordinal)? {
            sort.push(InBucket { bucket, ordinal })?;
        }
    }
    let sorted = sort.finish()?;
    let mut all = sorted.iter()?;
    let mut first: Option<InBucket<B>> = None;
    while let Some(row) = all.next()? {
        work.check(row.ordinal)?;
        match first {
            Some(first) if first.bucket == row.bucket => components.join(first.ordinal, row.ordinal),
            _ => first = Some(row),
        }
    }
    Ok(())
}

/// The clusters of the rows that are left.
pub(super) fn find(work: &Work<'_>, rows: &Rows, decided: &Decided) -> Result<Components> {
    let mut components = Components::new(work.scratch, rows.count)?;
    for (at, band) in rows.bands.iter().enumerate() {
        work.progress.advance(at as u64, rows.bands.len() as u64, "bands", "near duplicates");
        let mut hashes = band.reader();
        join_buckets(work, rows.count, &mut components, |ordinal| {
            let hash = hashes.next()?;
            Ok((hash != 0 && decided.fates.get(ordinal) == KEPT).then_some(hash))
        })?;
    }
    Ok(components)
}

/// The row that stands for the cluster was met.
const CHOSEN: u8 = 0x80;
/// The cluster was counted.
const COUNTED: u8 = 0x40;
const PREFERENCE: u8 = 0x3f;

/// Counts clusters and, if so asked, leaves out all rows of each but the one to stay: the first one in file order, of
/// the last split if files decide.
pub(super) fn settle(work: &Work<'_>, rows: &Rows, components: &mut Components, action: NearAction, decided: &mut Decided) -> Result<()> {
    // Per row that stands for a component: how much its most preferred row is, and what was met of it.
    let mut marks = RowBytes::new(work.scratch, rows.count)?;
    let mut splits = rows.splits.reader();
    for ordinal in 0..rows.count {
        work.check(ordinal)?;
        let split = splits.next()?;
        if decided.fates.get(ordinal) == KEPT {
            let first = components.first(ordinal);
            marks.set(first, marks.get(first).max(split));
        }
    }
    let mut splits = rows.splits.reader();
    for ordinal in 0..rows.count {
        work.check(ordinal)?;
        let split = splits.next()?;
        if decided.fates.get(ordinal) != KEPT {
            continue;
        }
        let first = components.first(ordinal);
        let mark = marks.get(first);
        let best = mark & PREFERENCE;
        if split == best && mark & CHOSEN == 0 {
            marks.set(first, mark | CHOSEN);
            continue;
        }
        if mark & COUNTED == 0 {
            marks.set(first, mark | COUNTED);
            decided.report.near_clusters += 1;
        }
        if action == NearAction::Drop {
            decided.report.near_duplicates += 1;
            decided.fates.set(ordinal, NEAR_DUPLICATE);
            decided.count_removed(u8::MAX - split, u8::MAX - best);
        }
    }
    Ok(())
}
