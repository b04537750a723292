//! What decides the rows of a chunk: its records as they are framed, and where they stand to one another.

use pipe_core::Result;
use pipe_core::config::SourceFormat;

use super::cells::columns;
use super::frame::{Body, RawChunk};
use super::header::Slot;
use super::{Cell, Place, Wanted};

impl RawChunk {
    /// Adds the chunk to a digest: all that its cells and rejects follow from, with places relative to `start`. Two runs
    /// of records of equal digest, read for the same wanted columns, give equal cells and rejects, whatever their file.
    pub fn update(&self, hasher: &mut blake3::Hasher, wanted: &Wanted, start: Place) -> Result<()> {
        // Hashed in large pieces: many small updates would take longer than all the copying.
        let mut notes = Vec::with_capacity(64 * self.records());
        let number = |notes: &mut Vec<u8>, number: u64| notes.extend_from_slice(&number.to_le_bytes());
        let text = |notes: &mut Vec<u8>, text: &str| {
            notes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            notes.extend_from_slice(text.as_bytes());
        };
        // Framed alike, whatever stands between the records.
        let format = match self.file.format {
            SourceFormat::Csv | SourceFormat::Tsv => "csv",
            SourceFormat::Jsonl | SourceFormat::Json => "json",
            SourceFormat::Parquet | SourceFormat::Arrow => "arrow",
            SourceFormat::Lines | SourceFormat::Text => "text",
        };
        text(&mut notes, format);
        text(&mut notes, &self.file.encoding.name());
        notes.push(self.file.delimiter);
        number(&mut notes, self.file.header.width as u64);
        for slot in &self.file.header.slots {
            match slot {
                // Columns of a table are hashed by themselves, wherever they are.
                Slot::At(_) if format == "arrow" => text(&mut notes, "at"),
                Slot::At(at) => number(&mut notes, *at as u64),
                Slot::Key => text(&mut notes, "key"),
                Slot::OfFile(value) => {
                    text(&mut notes, "file");
                    text(&mut notes, value);
                }
                Slot::Absent => text(&mut notes, "absent"),
            }
        }
        number(&mut notes, self.records() as u64);
        match &self.body {
            Body::Text { bytes, records } => {
                for record in records {
                    let place = record.place.relative_to(start);
                    for part in [place.number, place.offset, place.length] {
                        number(&mut notes, part);
                    }
                    notes.extend_from_slice(&record.start.to_le_bytes());
                    notes.extend_from_slice(&record.end.to_le_bytes());
                    text(&mut notes, record.fault.map_or("", super::Reason::name));
                }
                hasher.update(&notes).update(bytes);
            }
            Body::Table { batch, .. } => {
                for (_, column) in columns(batch, wanted, &self.file)? {
                    for row in 0..batch.num_rows() {
                        match column.cell(row) {
                            None => notes.push(b'?'),
                            Some(Cell::Missing) => notes.push(b'-'),
                            Some(Cell::Null) => notes.push(b'0'),
                            Some(Cell::Text(value)) => {
                                notes.push(b't');
                                text(&mut notes, &value);
                            }
                            Some(Cell::Integer(value)) => {
                                notes.push(b'i');
                                notes.extend_from_slice(&value.to_le_bytes());
                            }
                            Some(Cell::Float(value)) => {
                                notes.push(b'f');
                                notes.extend_from_slice(&value.to_bits().to_le_bytes());
                            }
                            Some(Cell::Bool(value)) => notes.extend_from_slice(&[b'b', u8::from(value)]),
                            Some(Cell::Nested(value)) => {
                                notes.push(b'n');
                                text(&mut notes, &value.to_string());
                            }
                        }
                    }
                }
                hasher.update(&notes);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pipe_core::config::{SourceConfig, SourceFormat};
    use pipe_core::source::SourceFile;

    use super::super::{CHUNK_RECORDS, Framer};
    use super::*;

    /// The digest of all records but the first `skipped`.
    fn digest(csv: &str, skipped: usize) -> blake3::Hash {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, csv).unwrap();
        let (file, wanted) = (SourceFile::new(path, SourceFormat::Csv), Wanted::new(vec!["a".into()]));
        let records = if skipped == 0 { CHUNK_RECORDS } else { skipped };
        let mut framer = Framer::open(&file, &SourceConfig::default(), &wanted, records).unwrap();
        if skipped > 0 {
            framer.next_chunk().unwrap().unwrap();
        }
        let chunk = framer.next_chunk().unwrap().unwrap();
        let mut hasher = blake3::Hasher::new();
        chunk.update(&mut hasher, &wanted, chunk.start()).unwrap();
        hasher.finalize()
    }

    #[test]
    fn where_a_run_of_records_stands_does_not_count_but_every_field_does() {
        assert_eq!(digest("a,b\nx,1\ny,2\n", 0), digest("a,b\nfirst,0\nsecond,0\nx,1\ny,2\n", 2));
        for other in ["a,b\nx,1\ny,3\n", "b,a\nx,1\ny,2\n", "a,b,c\nx,1\ny,2\n", "a,b\nx,1\n\ny,2\n", "a,b\nx,1\n"] {
            assert_ne!(digest("a,b\nx,1\ny,2\n", 0), digest(other, 0), "{other}");
        }
    }
}
