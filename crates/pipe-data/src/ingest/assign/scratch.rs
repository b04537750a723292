//! What is known of every row at once: a few bytes per row in mapped scratch files, which the kernel may write out
//! whenever memory is short.

use std::io::Write;
use std::path::Path;

use memmap2::MmapMut;
use pipe_core::{IoContext, Result};

use super::spill::{ORDINAL_BYTES, read_ordinal, unnamed, write_ordinal};

/// A byte per row, 0 at first.
pub(super) struct RowBytes(MmapMut);

impl RowBytes {
    pub(super) fn new(scratch: &Path, rows: u64) -> Result<RowBytes> {
        Ok(RowBytes(zeros(scratch, rows)?))
    }

    pub(super) fn get(&self, ordinal: u64) -> u8 {
        self.0[ordinal as usize]
    }

    pub(super) fn set(&mut self, ordinal: u64, value: u8) {
        self.0[ordinal as usize] = value;
    }
}

/// Connected components of rows: union-find in which the smallest ordinal of a component stands for it.
pub(super) struct Components {
    /// How far below a row its parent is; 0 for one that stands for its component.
    below: MmapMut,
    wide: bool,
}

impl Components {
    /// Each row on its own.
    pub(super) fn new(scratch: &Path, rows: u64) -> Result<Components> {
        let wide = rows > u64::from(u32::MAX);
        Ok(Components { below: zeros(scratch, rows * if wide { ORDINAL_BYTES as u64 } else { 4 })?, wide })
    }

    fn parent(&self, row: u64) -> u64 {
        let at = row as usize;
        let below = if self.wide {
            read_ordinal(&self.below[at * ORDINAL_BYTES..][..ORDINAL_BYTES])
        } else {
            u64::from(u32::from_le_bytes(self.below[at * 4..][..4].try_into().expect("4 bytes")))
        };
        row - below
    }

    fn set_parent(&mut self, row: u64, parent: u64) {
        let (at, below) = (row as usize, row - parent);
        if self.wide {
            write_ordinal(below, &mut self.below[at * ORDINAL_BYTES..][..ORDINAL_BYTES]);
        } else {
            self.below[at * 4..][..4].copy_from_slice(&(below as u32).to_le_bytes());
        }
    }

    /// The smallest row of the component.
    pub(super) fn first(&mut self, mut row: u64) -> u64 {
        // Path halving (Tarjan and van Leeuwen, 1984): with it, any order of unions takes O(log n) a step on average.
        loop {
            let parent = self.parent(row);
            let above = self.parent(parent);
            if above == parent {
                return parent;
            }
            self.set_parent(row, above);
            row = above;
        }
    }

    pub(super) fn join(&mut self, a: u64, b: u64) {
        let (a, b) = (self.first(a), self.first(b));
        if a != b {
            self.set_parent(a.max(b), a.min(b));
        }
    }
}

fn zeros(scratch: &Path, bytes: u64) -> Result<MmapMut> {
    let mut file = unnamed(scratch)?;
    // Written and not only made that long: on a full disk a page of a hole ends the process.
    let bytes = bytes.max(1);
    let chunk = vec![0; bytes.min(1 << 20) as usize];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(chunk.len() as u64);
        file.write_all(&chunk[..now as usize]).doing("write scratch files in", scratch)?;
        left -= now;
    }
    // SAFETY: the file has no name and no other handle, so nobody else changes or shortens it.
    unsafe { MmapMut::map_mut(&file) }.doing("map scratch files in", scratch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_row_stands_for_its_component() {
        let folder = tempfile::tempdir().unwrap();
        for wide in [false, true] {
            let mut components = Components { below: zeros(folder.path(), 20 * ORDINAL_BYTES as u64).unwrap(), wide };
            for (a, b) in [(9, 8), (3, 9), (5, 6), (19, 5), (8, 3)] {
                components.join(a, b);
            }
            let firsts: Vec<u64> = (0..20).map(|row| components.first(row)).collect();
            assert_eq!(firsts, [0, 1, 2, 3, 4, 5, 5, 7, 3, 3, 10, 11, 12, 13, 14, 15, 16, 17, 18, 5]);
        }
    }

    #[test]
    fn long_chains_stay_short_work() {
        let folder = tempfile::tempdir().unwrap();
        let mut components = Components::new(folder.path(), 200_000).unwrap();
        // Each union puts a new root above all that came before.
        for row in (0..199_999).rev() {
            components.join(row, row + 1);
        }
        assert!((0..200_000).all(|row| components.first(row) == 0));
    }
}
