//! What decides the rows of a chunk: its records as they are framed, and where they stand to one another.

use std::path::Path;

use pipe_core::Result;
use pipe_core::config::ColumnsConfig;

use super::parse::text_column;
use super::{Place, RawChunk, roles};

impl RawChunk {
    /// Adds the chunk to a digest: every field with its length, and places relative to `start`. Two runs of records of
    /// equal digest, read with equal settings, give equal rows and rejects, whatever their file.
    pub fn update(&self, hasher: &mut blake3::Hasher, start: Place, columns: &ColumnsConfig, path: &Path) -> Result<()> {
        // Hashed at once: many small updates would take longer than all the copying.
        let mut bytes = Vec::with_capacity(self.bytes() as usize + 32 * self.records());
        let number = |bytes: &mut Vec<u8>, number: u64| bytes.extend_from_slice(&number.to_le_bytes());
        let place = |bytes: &mut Vec<u8>, place: &Place| {
            number(bytes, place.offset - start.offset);
            number(bytes, place.length);
        };
        match self {
            RawChunk::Csv { records, .. } => {
                for (at, record) in records {
                    place(&mut bytes, at);
                    bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
                    for field in record {
                        bytes.extend_from_slice(&(field.len() as u32).to_le_bytes());
                    }
                    bytes.extend_from_slice(record.as_slice());
                }
            }
            RawChunk::Jsonl { lines } => {
                for (at, line) in lines {
                    place(&mut bytes, at);
                    bytes.extend_from_slice(&(line.len() as u32).to_le_bytes());
                    bytes.extend_from_slice(line);
                }
            }
            RawChunk::Arrow { batch, .. } => {
                // Only what plays a role, so that a new column costs nothing.
                for (role, column) in roles(columns) {
                    bytes.extend_from_slice(&(batch.num_rows() as u32).to_le_bytes());
                    for value in text_column(batch, role, column, path)? {
                        let length = value.as_ref().map_or(u32::MAX, |value| value.len() as u32);
                        bytes.extend_from_slice(&length.to_le_bytes());
                        bytes.extend_from_slice(value.unwrap_or_default().as_bytes());
                    }
                }
            }
        }
        hasher.update(&bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use csv::ByteRecord;

    use super::super::ColumnMap;
    use super::*;

    fn digest(fields: &[&[&str]], offset: u64, start: u64) -> blake3::Hash {
        let map = ColumnMap { width: 2, text: 0, text_pair: None, label: None, id: None, dropped: Vec::new() };
        let place = |at: usize| Place { number: start + at as u64, offset: offset + at as u64 * 10, length: 10 };
        let records: Vec<(Place, ByteRecord)> =
            fields.iter().enumerate().map(|(at, fields)| (place(at), ByteRecord::from(fields.to_vec()))).collect();
        let chunk = RawChunk::Csv { map, records };
        let mut hasher = blake3::Hasher::new();
        chunk.update(&mut hasher, chunk.start(), &ColumnsConfig::default(), Path::new("")).unwrap();
        hasher.finalize()
    }

    #[test]
    fn where_a_run_of_records_stands_does_not_count_but_every_field_does() {
        let rows: &[&[&str]] = &[&["ab", "c"], &["d", ""]];
        assert_eq!(digest(rows, 5, 1), digest(rows, 900, 77));
        for other in [&[&["a", "bc"][..], &["d", ""]][..], &[&["ab", "c"], &["d"]], &[&["ab", "c"], &["d", "e"]], &[&["ab", "c"]]] {
            assert_ne!(digest(rows, 5, 1), digest(other, 5, 1));
        }
    }
}
