//! Rows of equal text: which one stays, and whether their labels agree.

use pipe_core::Result;
use pipe_core::config::{Conflicts, Dedup};

use super::rows::{CONFLICT, DUPLICATE, Decided, KEPT, Rows, Work};
use super::spill::{ORDINAL_BYTES, Record, read_ordinal, write_ordinal};

/// A row by its text. The first one in order is the one to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Text {
    digest: u128,
    rank: u8,
    ordinal: u64,
    /// As in [`Rows::labels`].
    label: u32,
}

impl Record for Text {
    const BYTES: usize = 16 + 1 + ORDINAL_BYTES + 4;

    fn write(&self, to: &mut [u8]) {
        self.digest.write(&mut to[..16]);
        to[16] = self.rank;
        write_ordinal(self.ordinal, &mut to[17..17 + ORDINAL_BYTES]);
        self.label.write(&mut to[17 + ORDINAL_BYTES..]);
    }

    fn read(from: &[u8]) -> Text {
        Text {
            digest: u128::read(&from[..16]),
            rank: from[16],
            ordinal: read_ordinal(&from[17..17 + ORDINAL_BYTES]),
            label: u32::read(&from[17 + ORDINAL_BYTES..]),
        }
    }
}

/// What the rows of one text are together.
#[derive(Default)]
struct Together {
    first: Option<(u64, u8)>,
    label: u32,
    rows: u64,
    conflict: bool,
}

impl Together {
    /// A row without a label contradicts none.
    fn add(&mut self, row: &Text) {
        self.rows += 1;
        self.first.get_or_insert((row.ordinal, row.rank));
        self.conflict |= self.label != 0 && row.label != 0 && row.label != self.label;
        if self.label == 0 {
            self.label = row.label;
        }
    }
}

pub(super) fn decide(work: &Work<'_>, rows: &Rows, dedup: Dedup, conflicts: Conflicts, decided: &mut Decided) -> Result<()> {
    if dedup == Dedup::None && rows.labels.is_empty() {
        return Ok(());
    }
    let mut sort = work.sorter();
    let (mut digests, mut labels, mut ranks) = (rows.digests.reader(), rows.labels.reader(), rows.ranks());
    for ordinal in 0..rows.count {
        work.check(ordinal)?;
        let row = Text { digest: digests.next()?, rank: ranks.next()?, ordinal, label: labels.next()? };
        if decided.fates.get(ordinal) == KEPT {
            sort.push(row)?;
        }
    }
    let each = |together: &Together, row: &Text| {
        work.check(row.ordinal)?;
        let (first, first_rank) = together.first.expect("a group has a row");
        if together.conflict {
            decided.report.conflicting_rows += 1;
            decided.report.conflicting_texts += u64::from(row.ordinal == first);
        }
        if together.conflict && conflicts == Conflicts::Drop {
            decided.report.conflicts_dropped += 1;
            decided.fates.set(row.ordinal, CONFLICT);
        } else if dedup != Dedup::None && row.ordinal != first {
            decided.report.duplicates += 1;
            decided.fates.set(row.ordinal, DUPLICATE);
            decided.count_removed(row.rank, first_rank);
        }
        Ok(())
    };
    sort.finish()?.for_groups(|row| row.digest, Together::add, each)
}
