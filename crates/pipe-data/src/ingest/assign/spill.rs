//! Scratch files without a name: what is written there is gone with the process, however it ends.
//!
//! ```text
//! column of a fact     value of row 0, value of row 1, …     fixed size, little endian; zeros at the end are left out
//! ```

use std::fs::File;
use std::io::{BufWriter, Write};
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pipe_core::{Error, IoContext, Result};

/// What writers and readers of whole columns hold back, in bytes.
const BUFFER: usize = 64 << 10;

/// A value of fixed size on disk, all zeros being the default.
pub(super) trait Record: Copy {
    const BYTES: usize;

    /// `to` has [`BYTES`](Record::BYTES) bytes.
    fn write(&self, to: &mut [u8]);

    /// `from` has [`BYTES`](Record::BYTES) bytes.
    fn read(from: &[u8]) -> Self;
}

macro_rules! number {
    ($($number:ty),*) => {$(
        impl Record for $number {
            const BYTES: usize = size_of::<$number>();

            fn write(&self, to: &mut [u8]) {
                to.copy_from_slice(&self.to_le_bytes());
            }

            fn read(from: &[u8]) -> Self {
                <$number>::from_le_bytes(from.try_into().expect("as many bytes as asked for"))
            }
        }
    )*};
}

number!(u8, u32, u64, u128, i64);

/// Bytes of an ordinal on disk.
pub(super) const ORDINAL_BYTES: usize = 5;
/// Ordinals stay below it.
pub(super) const MAX_ROWS: u64 = 1 << (8 * ORDINAL_BYTES);

pub(super) fn write_ordinal(ordinal: u64, to: &mut [u8]) {
    to.copy_from_slice(&ordinal.to_le_bytes()[..ORDINAL_BYTES]);
}

pub(super) fn read_ordinal(from: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..ORDINAL_BYTES].copy_from_slice(from);
    u64::from_le_bytes(bytes)
}

/// A new file without a name in the folder `scratch`, readable by its owner alone.
pub(super) fn unnamed(scratch: &Path) -> Result<File> {
    tempfile::tempfile_in(scratch).doing("make a scratch file in", scratch)
}

/// Appends records.
pub(super) struct Spill {
    to: BufWriter<File>,
    bytes: u64,
    scratch: PathBuf,
}

impl Spill {
    pub(super) fn create(scratch: &Path) -> Result<Spill> {
        Ok(Spill { to: BufWriter::with_capacity(BUFFER, unnamed(scratch)?), bytes: 0, scratch: scratch.to_owned() })
    }

    pub(super) fn push<T: Record>(&mut self, record: &T) -> Result<()> {
        // No record is longer.
        let mut bytes = [0; 64];
        let bytes = &mut bytes[..T::BYTES];
        record.write(bytes);
        self.bytes += T::BYTES as u64;
        self.to.write_all(bytes).doing("write scratch files in", &self.scratch)
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn finish(self) -> Result<Spilled> {
        let file = self.to.into_inner().map_err(|error| Error::io("write scratch files in", &self.scratch, error.into_error()))?;
        Ok(Spilled { file, scratch: self.scratch })
    }
}

/// A scratch file that is only read from now on.
pub(super) struct Spilled {
    file: File,
    scratch: PathBuf,
}

/// Reads records of one stretch of a file, one after the other.
pub(super) struct SpillReader<'s, T> {
    from: &'s Spilled,
    /// What is not in the buffer yet.
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    used: usize,
    /// Of the buffer, once full.
    size: usize,
    record: PhantomData<T>,
}

impl<'s, T: Record> SpillReader<'s, T> {
    /// From byte `at` to byte `end`, `buffer` bytes at a time.
    pub(super) fn new(from: &'s Spilled, at: u64, end: u64, buffer: usize) -> SpillReader<'s, T> {
        let size = (buffer / T::BYTES).max(1) * T::BYTES;
        SpillReader { from, at, end, buffer: Vec::new(), used: 0, size, record: PhantomData }
    }

    pub(super) fn next(&mut self) -> Result<Option<T>> {
        if self.used == self.buffer.len() {
            let bytes = (self.end - self.at).min(self.size as u64) as usize;
            if bytes == 0 {
                return Ok(None);
            }
            self.buffer.resize(bytes, 0);
            self.from.file.read_exact_at(&mut self.buffer, self.at).doing("read scratch files in", &self.from.scratch)?;
            self.at += bytes as u64;
            self.used = 0;
        }
        let record = T::read(&self.buffer[self.used..self.used + T::BYTES]);
        self.used += T::BYTES;
        Ok(Some(record))
    }
}

/// One fact per row, in file order. Rows that have none cost nothing if no later row has one.
pub(super) struct Column<T> {
    spill: Option<Spill>,
    rows: u64,
    value: PhantomData<T>,
}

impl<T: Record + Default> Column<T> {
    pub(super) fn new() -> Column<T> {
        Column { spill: None, rows: 0, value: PhantomData }
    }

    /// The value of a row after all those that were pushed before it; rows in between get the default.
    pub(super) fn push(&mut self, ordinal: u64, value: T, scratch: &Path) -> Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            None => self.spill.insert(Spill::create(scratch)?),
        };
        while self.rows < ordinal {
            spill.push(&T::default())?;
            self.rows += 1;
        }
        self.rows += 1;
        spill.push(&value)
    }

    pub(super) fn finish(self) -> Result<Stored<T>> {
        let file = self.spill.map(Spill::finish).transpose()?;
        Ok(Stored { file, rows: self.rows, value: PhantomData })
    }
}

/// A column that is complete.
pub(super) struct Stored<T> {
    file: Option<Spilled>,
    rows: u64,
    value: PhantomData<T>,
}

impl<T: Record + Default> Stored<T> {
    /// Whether no row has a value.
    pub(super) fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(super) fn reader(&self) -> StoredReader<'_, T> {
        StoredReader(self.file.as_ref().map(|file| SpillReader::new(file, 0, self.rows * T::BYTES as u64, BUFFER)))
    }
}

/// Reads a column from row 0 on.
pub(super) struct StoredReader<'s, T>(Option<SpillReader<'s, T>>);

impl<T: Record + Default> StoredReader<'_, T> {
    /// The next row's value.
    pub(super) fn next(&mut self) -> Result<T> {
        let value = self.0.as_mut().map_or(Ok(None), SpillReader::next)?;
        Ok(value.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_a_value_have_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let mut column = Column::<u32>::new();
        for (ordinal, value) in [(2, 7), (3, 8), (70_000, 9)] {
            column.push(ordinal, value, folder.path()).unwrap();
        }
        let stored = column.finish().unwrap();
        let mut reader = stored.reader();
        let found: Vec<u32> = (0..70_005).map(|_| reader.next().unwrap()).collect();
        assert_eq!(found.iter().sum::<u32>(), 24);
        assert_eq!((found[2], found[3], found[70_000]), (7, 8, 9));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

        let none = Column::<i64>::new().finish().unwrap();
        assert!(none.is_empty());
        assert_eq!(none.reader().next().unwrap(), 0);
    }
}
