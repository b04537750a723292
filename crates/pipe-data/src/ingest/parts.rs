//! Which rows make which part: a part ends at a row whose own digest says so, within bounds. A row that comes in or goes
//! away therefore moves the ends near it and no others, and stages that work part by part find all other parts as they
//! were.

use super::assign::RowDigest;

/// Where parts end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cuts {
    min: u64,
    max: u64,
    /// Rows with digests below it end a part.
    below: u64,
}

impl Cuts {
    /// For parts of about `rows` rows: at least a quarter of them, at most twice as many.
    pub(crate) fn new(rows: usize) -> Cuts {
        let (min, max) = (rows as u64 / 4, rows as u64 * 2);
        // After `min` rows each one ends the part with a chance of 1 / (0.87 · rows). Up to `max`, the expectation of
        // that geometric distribution is ¾ · rows: x · (1 − exp(−1.75 / x)) = 0.75 at x = 0.87.
        Cuts { min, max, below: (u64::MAX as f64 / (0.87 * rows as f64)) as u64 }
    }

    fn ends(self, rows: u64, digest: RowDigest) -> bool {
        self.ends_at(rows, digest.low())
    }

    /// Whether a part of `rows` rows ends with a row of this digest.
    pub(crate) fn ends_at(self, rows: u64, digest: u64) -> bool {
        rows >= self.max || (rows >= self.min && digest < self.below)
    }
}

/// The rows of one part, by shard.
pub(super) struct Part {
    pub(super) split: usize,
    /// Among the parts of its split.
    pub(super) number: usize,
    pub(super) slices: Vec<Slice>,
    pub(super) rows: u64,
}

/// Rows of one shard, by their position in it, ascending.
pub(super) struct Slice {
    pub(super) shard: usize,
    pub(super) rows: Vec<u32>,
}

/// The open part of each split.
pub(super) struct PartPlanner {
    cuts: Cuts,
    open: Vec<Part>,
}

impl PartPlanner {
    pub(super) fn new(splits: usize, cuts: Cuts) -> PartPlanner {
        let part = |split| Part { split, number: 0, slices: Vec::new(), rows: 0 };
        PartPlanner { cuts, open: (0..splits).map(part).collect() }
    }

    /// Adds a row; gives the part that it ends.
    pub(super) fn add(&mut self, split: usize, shard: usize, row: u32, digest: RowDigest) -> Option<Part> {
        let part = &mut self.open[split];
        match part.slices.last_mut() {
            Some(slice) if slice.shard == shard => slice.rows.push(row),
            _ => part.slices.push(Slice { shard, rows: vec![row] }),
        }
        part.rows += 1;
        self.cuts.ends(part.rows, digest).then(|| {
            let next = Part { split, number: part.number + 1, slices: Vec::new(), rows: 0 };
            std::mem::replace(part, next)
        })
    }

    /// What is left; a split without rows has one part without rows.
    pub(super) fn finish(self) -> impl Iterator<Item = Part> {
        self.open.into_iter().filter(|part| part.rows > 0 || part.number == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::assign::Splitter;
    use super::*;

    /// Rows per part of rows with these numbers.
    fn parts(numbers: impl Iterator<Item = u64>, rows: usize) -> Vec<Vec<u64>> {
        let (splitter, mut planner) = (Splitter::new(None), PartPlanner::new(1, Cuts::new(rows)));
        let numbers: Vec<u64> = numbers.collect();
        let mut found = Vec::new();
        for (at, number) in numbers.iter().enumerate() {
            found.extend(planner.add(0, 0, at as u32, splitter.digest(&number.to_string(), None)));
        }
        found.extend(planner.finish());
        let rows = |part: Part| part.slices.into_iter().flat_map(|slice| slice.rows).map(|row| numbers[row as usize]).collect();
        found.into_iter().map(rows).collect()
    }

    #[test]
    fn parts_have_about_as_many_rows_as_asked_for() {
        let found = parts(0..1_000_000, 1000);
        let mean = 1_000_000 / found.len();
        assert!((930..1070).contains(&mean), "{mean}");
        assert!(found[..found.len() - 1].iter().all(|part| (250..=2000).contains(&part.len())));
    }

    #[test]
    fn rows_that_come_in_change_only_the_parts_near_them() {
        let before = parts(0..20_000, 64);
        // Before the first, in the middle and after the last.
        for at in [0, 10_000, 20_000] {
            let after = parts((0..at).chain(50_000..50_003).chain(at..20_000), 64);
            let kept = before.iter().filter(|part| after.contains(part)).count();
            assert!(kept + 6 >= before.len(), "{kept} of {} parts are as before", before.len());
        }
    }

    #[test]
    fn no_part_of_a_split_is_without_rows_but_the_only_one() {
        assert_eq!(parts(0..0, 64), [Vec::<u64>::new()]);
        // The last row ends a part: nothing is left.
        assert_eq!(parts(0..128, 64).iter().map(Vec::len).sum::<usize>(), 128);
        assert!(parts(0..128, 64).iter().all(|part| !part.is_empty()));
    }
}
