//! What splits have in common once all is decided: measured, not concluded from how it was decided.

use pipe_core::Result;
use serde::Serialize;

use super::rows::{Decided, FIRST_SPLIT, MAX_SPLITS, Rows, Work};
use super::scratch::Components;
use super::spill::Record;

/// What two splits have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::ingest) struct Overlap {
    /// Indices of two splits, the smaller one first: of train and test, say, 0 and 2.
    pub(in crate::ingest) splits: [usize; 2],
    /// Equal raw texts.
    pub(in crate::ingest) texts: Shared,
    /// Equal texts after scrubbing: two customers on one template.
    pub(in crate::ingest) scrubbed: Shared,
    /// Near-duplicate clusters; absent where they were not looked for.
    pub(in crate::ingest) near: Option<Shared>,
    /// Groups; absent where no row has one.
    pub(in crate::ingest) groups: Option<Shared>,
    /// Rows left out of either split because the other one has a row of the same or nearly the same text (`by: files`).
    pub(in crate::ingest) removed: u64,
}

/// Things that stand in both splits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(in crate::ingest) struct Shared {
    /// Different ones.
    pub(in crate::ingest) count: u64,
    /// Rows of the second split that have one of them: what a model that trained on the first one has seen.
    pub(in crate::ingest) rows: u64,
}

/// By the smaller and the larger index.
type Pairs = [[Shared; MAX_SPLITS]; MAX_SPLITS];

/// Something that a row has, and the row's split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    key: u128,
    split: u8,
}

impl Record for Standing {
    const BYTES: usize = 16 + 1;

    fn write(&self, to: &mut [u8]) {
        self.key.write(&mut to[..16]);
        to[16] = self.split;
    }

    fn read(from: &[u8]) -> Standing {
        Standing { key: u128::read(&from[..16]), split: from[16] }
    }
}

/// One per pair of `splits` splits. `clusters` are those whose rows stayed, if near duplicates were looked for.
pub(super) fn measure(
    work: &Work<'_>,
    rows: &Rows,
    splits: usize,
    near: bool,
    clusters: Option<&mut Components>,
    decided: &Decided,
) -> Result<Vec<Overlap>> {
    if splits < 2 {
        return Ok(Vec::new());
    }
    let (mut digests, mut scrubbed, mut groups) = (rows.digests.reader(), rows.scrubbed.reader(), rows.groups.reader());
    let texts = shared(work, rows, decided, |_| digests.next().map(Some))?;
    let scrubbed = shared(work, rows, decided, |_| scrubbed.next().map(Some))?;
    let groups = match rows.groups.is_empty() {
        true => None,
        false => Some(shared(work, rows, decided, |_| groups.next().map(|group| (group != 0).then_some(group)))?),
    };
    let near = match clusters {
        Some(components) => Some(shared(work, rows, decided, |ordinal| Ok(Some(components.first(ordinal).into())))?),
        // One row is left of each cluster.
        None => near.then(Pairs::default),
    };
    let pairs = (0..splits).flat_map(|a| (a + 1..splits).map(move |b| [a, b]));
    let overlap = |[a, b]: [usize; 2]| Overlap {
        splits: [a, b],
        texts: texts[a][b],
        scrubbed: scrubbed[a][b],
        near: near.map(|near| near[a][b]),
        groups: groups.map(|groups| groups[a][b]),
        removed: decided.removed[a][b],
    };
    Ok(pairs.map(overlap).collect())
}

/// What two splits share of the things that `key` says rows have; it is asked for all rows in order.
fn shared(work: &Work<'_>, rows: &Rows, decided: &Decided, mut key: impl FnMut(u64) -> Result<Option<u128>>) -> Result<Pairs> {
    let mut sort = work.sorter();
    for ordinal in 0..rows.count {
        work.check(ordinal)?;
        let (key, fate) = (key(ordinal)?, decided.fates.get(ordinal));
        if let Some(key) = key.filter(|_| fate >= FIRST_SPLIT) {
            sort.push(Standing { key, split: fate - FIRST_SPLIT })?;
        }
    }
    let sorted = sort.finish()?;
    let mut all = sorted.iter()?;
    let (mut pairs, mut counts, mut current, mut met) = (Pairs::default(), [0; MAX_SPLITS], None, 0u64);
    while let Some(standing) = all.next()? {
        work.check(met)?;
        met += 1;
        if current != Some(standing.key) {
            add(&mut pairs, std::mem::take(&mut counts));
            current = Some(standing.key);
        }
        counts[usize::from(standing.split)] += 1;
    }
    add(&mut pairs, counts);
    Ok(pairs)
}

/// One thing, which so many rows of each split have.
fn add(pairs: &mut Pairs, rows: [u64; MAX_SPLITS]) {
    for a in 0..MAX_SPLITS {
        for b in a + 1..MAX_SPLITS {
            if rows[a] > 0 && rows[b] > 0 {
                pairs[a][b].count += 1;
                pairs[a][b].rows += rows[b];
            }
        }
    }
}
