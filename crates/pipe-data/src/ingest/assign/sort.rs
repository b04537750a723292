//! Sorting more records than fit into memory: sorted runs in a scratch file, merged when they are read.
//!
//! What comes out depends on the records alone: records are totally ordered, and those that compare equal are equal.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Range;
use std::path::{Path, PathBuf};

use pipe_core::Result;
use rayon::slice::ParallelSliceMut;

use super::spill::{Record, Spill, SpillReader, Spilled};

/// Runs that are merged at a time read so many bytes at once, if memory allows.
const RUN_BUFFER: usize = 64 << 10;
/// Fewer records are not worth a second thread.
const FEW: usize = 1 << 14;

/// Takes records in.
pub(super) struct ExternalSort<T> {
    scratch: PathBuf,
    memory: usize,
    records: Vec<T>,
    spill: Option<Spill>,
    /// Bytes of the sorted runs in the file.
    runs: Vec<Range<u64>>,
}

impl<T: Record + Ord + Send> ExternalSort<T> {
    /// Holds `memory` bytes of records, but at least two records.
    pub(super) fn new(scratch: &Path, memory: usize) -> ExternalSort<T> {
        ExternalSort { scratch: scratch.to_owned(), memory, records: Vec::new(), spill: None, runs: Vec::new() }
    }

    pub(super) fn push(&mut self, record: T) -> Result<()> {
        let limit = (self.memory / size_of::<T>()).max(2);
        if self.records.len() == limit {
            self.end_run()?;
        }
        if self.records.capacity() == 0 {
            // At once, as growing would hold the records twice; pages that are not written to take no memory.
            self.records.reserve_exact(limit);
        }
        self.records.push(record);
        Ok(())
    }

    fn end_run(&mut self) -> Result<()> {
        sort(&mut self.records);
        let spill = match &mut self.spill {
            Some(spill) => spill,
            None => self.spill.insert(Spill::create(&self.scratch)?),
        };
        let start = spill.bytes();
        for record in &self.records {
            spill.push(record)?;
        }
        self.records.clear();
        self.runs.push(start..spill.bytes());
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Sorted<T>> {
        if self.spill.is_none() {
            sort(&mut self.records);
            return Ok(Sorted { memory: self.memory, records: self.records, file: None, runs: Vec::new() });
        }
        if !self.records.is_empty() {
            self.end_run()?;
        }
        // Merging holds buffers instead of records.
        self.records = Vec::new();
        let file = self.spill.take().map(Spill::finish).transpose()?;
        let mut sorted = Sorted { memory: self.memory, records: Vec::new(), file, runs: self.runs };
        let fan_in = (self.memory / RUN_BUFFER).max(2);
        while sorted.runs.len() > fan_in {
            sorted = sorted.merge_runs(fan_in, &self.scratch)?;
        }
        Ok(sorted)
    }
}

fn sort<T: Ord + Send>(records: &mut [T]) {
    if records.len() < FEW { records.sort_unstable() } else { records.par_sort_unstable() }
}

/// All records, to be read in order, as often as needed.
pub(super) struct Sorted<T> {
    memory: usize,
    /// All of them, if they fit.
    records: Vec<T>,
    file: Option<Spilled>,
    runs: Vec<Range<u64>>,
}

impl<T: Record + Ord> Sorted<T> {
    pub(super) fn iter(&self) -> Result<Merge<'_, T>> {
        self.merge(&self.runs)
    }

    fn merge(&self, runs: &[Range<u64>]) -> Result<Merge<'_, T>> {
        let Some(file) = &self.file else {
            return Ok(Merge::Memory(self.records.iter()));
        };
        let buffer = (self.memory / runs.len().max(1)).clamp(1, RUN_BUFFER);
        let mut readers: Vec<_> = runs.iter().map(|run| SpillReader::new(file, run.start, run.end, buffer)).collect();
        let mut heads = BinaryHeap::with_capacity(readers.len());
        for (at, reader) in readers.iter_mut().enumerate() {
            heads.extend(reader.next()?.map(|record| Reverse((record, at))));
        }
        Ok(Merge::Runs { readers, heads })
    }

    /// Fewer and longer runs in another file.
    fn merge_runs(self, fan_in: usize, scratch: &Path) -> Result<Sorted<T>> {
        let mut spill = Spill::create(scratch)?;
        let mut runs = Vec::new();
        for together in self.runs.chunks(fan_in) {
            let start = spill.bytes();
            let mut merge = self.merge(together)?;
            while let Some(record) = merge.next()? {
                spill.push(&record)?;
            }
            runs.push(start..spill.bytes());
        }
        Ok(Sorted { memory: self.memory, records: Vec::new(), file: Some(spill.finish()?), runs })
    }

    /// Walks over groups of neighbours of equal `key`. A group is gathered up by `add`, as a whole, before `each` is
    /// called for its records; it may have any number of them.
    pub(super) fn for_groups<K: PartialEq, G: Default>(
        &self,
        key: impl Fn(&T) -> K,
        mut add: impl FnMut(&mut G, &T),
        mut each: impl FnMut(&G, &T) -> Result<()>,
    ) -> Result<()> {
        // Two readers instead of a memory of the group: one looks ahead, the other one follows.
        let (mut ahead, mut behind) = (self.iter()?, self.iter()?);
        let mut next = ahead.next()?;
        while let Some(first) = next {
            let (mut group, mut rows) = (G::default(), 0u64);
            let mut current = Some(first);
            while let Some(record) = current.filter(|record| key(record) == key(&first)) {
                add(&mut group, &record);
                rows += 1;
                current = ahead.next()?;
            }
            next = current;
            for _ in 0..rows {
                if let Some(record) = behind.next()? {
                    each(&group, &record)?;
                }
            }
        }
        Ok(())
    }
}

/// Reads sorted records.
pub(super) enum Merge<'s, T> {
    Memory(std::slice::Iter<'s, T>),
    Runs { readers: Vec<SpillReader<'s, T>>, heads: BinaryHeap<Reverse<(T, usize)>> },
}

impl<T: Record + Ord> Merge<'_, T> {
    pub(super) fn next(&mut self) -> Result<Option<T>> {
        match self {
            Merge::Memory(records) => Ok(records.next().copied()),
            Merge::Runs { readers, heads } => {
                let Some(mut head) = heads.peek_mut() else { return Ok(None) };
                let Reverse((record, at)) = *head;
                match readers[at].next()? {
                    Some(next) => *head = Reverse((next, at)),
                    None => drop(PeekMut::pop(head)),
                }
                Ok(Some(record))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(folder: &Path, numbers: &[u64], memory: usize) -> Sorted<u64> {
        let mut sort = ExternalSort::new(folder, memory);
        numbers.iter().for_each(|number| sort.push(*number).unwrap());
        sort.finish().unwrap()
    }

    fn all(sorted: &Sorted<u64>) -> Vec<u64> {
        let mut merge = sorted.iter().unwrap();
        std::iter::from_fn(|| merge.next().unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_memory_gives_the_sorted_records(numbers in prop::collection::vec(0u64..300, 0..400), memory in 0usize..2000) {
            let folder = tempfile::tempdir().unwrap();
            let sorted = sorted(folder.path(), &numbers, memory);
            let mut expected = numbers;
            expected.sort_unstable();
            prop_assert_eq!(all(&sorted), &expected[..]);
            // Once more, and in groups.
            prop_assert_eq!(all(&sorted), &expected[..]);
            let mut found = Vec::new();
            let add = |sum: &mut u64, number: &u64| *sum += number;
            sorted.for_groups(|number| number / 10, add, |sum, number| { found.push((*number, *sum)); Ok(()) }).unwrap();
            let sum = |number: u64| expected.iter().filter(|other| *other / 10 == number / 10).sum::<u64>();
            prop_assert_eq!(found, expected.iter().map(|number| (*number, sum(*number))).collect::<Vec<_>>());
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn many_runs_are_merged_in_several_rounds() {
        let folder = tempfile::tempdir().unwrap();
        let numbers: Vec<u64> = (0..60_000u64).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).collect();
        let mut expected = numbers.clone();
        expected.sort_unstable();
        assert_eq!(all(&sorted(folder.path(), &numbers, 16)), expected);
        assert_eq!(all(&sorted(folder.path(), &numbers, 200_000)), expected);
    }
}
