//! Lengths that a table's file claims, held against the file before a library believes them: it allocates what a length
//! says before it reads, and a process that asks for more memory than there is gets ended, not told.
//!
//! What cannot be followed is left to the library, which refuses it too, or stops where this does.

use std::fs::File;
use std::os::unix::fs::FileExt;

use arrow_ipc::{Block, Message, root_as_footer, root_as_message};

/// More than zstd makes of a block of one byte: 128 KiB of four bytes.
const MOST_TIMES: u64 = 1 << 16;
/// How an Arrow file ends: the length of its footer, then its magic.
const ARROW_TRAILER: u64 = 10;
/// How a Parquet file ends: the same, with a shorter magic.
const PARQUET_TRAILER: u64 = 8;
/// Structs within one another, in a Parquet footer.
const MAX_DEPTH: usize = 64;

/// Bytes of a file; none where it does not have them all.
fn bytes_at(file: &File, at: u64, length: u64, size: u64) -> Option<Vec<u8>> {
    at.checked_add(length).filter(|end| *end <= size)?;
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

fn number_at(file: &File, at: u64, size: u64) -> Option<i32> {
    Some(i32::from_le_bytes(bytes_at(file, at, 4, size)?.try_into().ok()?))
}

/// Whether no length in an Arrow stream is beyond the file's.
pub(super) fn fit_stream(file: &File, size: u64) -> bool {
    let mut at = 0;
    while let Some(first) = number_at(file, at, size) {
        let (length, start) = match first {
            // The mark of newer streams, and the length behind it.
            -1 => (number_at(file, at + 4, size), at + 8),
            length => (Some(length), at + 4),
        };
        let Some(length @ 1..) = length.and_then(|length| u64::try_from(length).ok()) else { return true };
        let Some(metadata) = bytes_at(file, start, length, size) else { return length <= size };
        let Ok(message) = root_as_message(&metadata) else { return true };
        let Some(body) = u64::try_from(message.bodyLength()).ok().filter(|body| *body <= size) else { return false };
        at = start + length;
        if !body_fits(file, &message, at, size) {
            return false;
        }
        at += body;
    }
    true
}

/// The same of an Arrow file, whose footer says where its messages are.
pub(super) fn fit_arrow(file: &File, size: u64) -> bool {
    let footer = || {
        let end = size.checked_sub(ARROW_TRAILER)?;
        let length = u64::try_from(number_at(file, end, size)?).ok()?;
        bytes_at(file, end.checked_sub(length)?, length, size)
    };
    let Some(bytes) = footer() else { return true };
    let Ok(footer) = root_as_footer(&bytes) else { return true };
    let block_fits = |block: &Block| {
        let number = |number: i64| u64::try_from(number).ok().filter(|number| *number <= size);
        let (Some(offset), Some(length), Some(_)) = (number(block.offset()), number(block.metaDataLength().into()), number(block.bodyLength()))
        else {
            return false;
        };
        let Some(metadata) = bytes_at(file, offset, length, size) else { return true };
        let message = metadata.get(if metadata.starts_with(&[0xff; 4]) { 8 } else { 4 }..).and_then(|message| root_as_message(message).ok());
        // The library looks for the message in the body too, where a length that is too short hides it from this.
        message.is_some_and(|message| body_fits(file, &message, offset + length, size))
    };
    [footer.dictionaries(), footer.recordBatches()].into_iter().flatten().all(|blocks| blocks.iter().all(block_fits))
}

/// Whether the compressed buffers of a message say that they become no more than they can.
fn body_fits(file: &File, message: &Message<'_>, body: u64, size: u64) -> bool {
    let batch = message.header_as_record_batch().or_else(|| message.header_as_dictionary_batch()?.data());
    let Some(batch) = batch.filter(|batch| batch.compression().is_some()) else { return true };
    batch.buffers().is_none_or(|buffers| {
        buffers.iter().all(|buffer| {
            let (Ok(offset), Ok(length)) = (u64::try_from(buffer.offset()), u64::try_from(buffer.length())) else { return false };
            let claim = body.checked_add(offset).filter(|_| length >= 8).and_then(|at| bytes_at(file, at, 8, size));
            let claim = claim.and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
            // -1: it is not compressed after all.
            claim.is_none_or(|claim| claim == -1 || u64::try_from(claim).is_ok_and(|claim| claim <= length.saturating_mul(MOST_TIMES)))
        })
    })
}

/// Whether no list in a Parquet file's footer has more elements than the footer has bytes.
pub(super) fn fit_parquet(file: &File, size: u64) -> bool {
    let footer = || {
        let end = size.checked_sub(PARQUET_TRAILER)?;
        let length = u64::try_from(number_at(file, end, size)?).ok()?;
        bytes_at(file, end.checked_sub(length)?, length, size)
    };
    footer().is_none_or(|bytes| Thrift(&bytes).skip_struct(0).is_some())
}

/// Reads over values of Thrift's compact protocol
/// (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>). None for what is none, or claims too much.
struct Thrift<'b>(&'b [u8]);

impl Thrift<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A number of things that take a byte each at least.
    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok().filter(|count| *count <= self.0.len())
    }

    fn skip_bytes(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }

    fn skip_struct(&mut self, depth: usize) -> Option<()> {
        loop {
            let header = self.byte()?;
            if header == 0 {
                return Some(());
            }
            // The field's number, where it is not told as a difference.
            if header >> 4 == 0 {
                self.varint()?;
            }
            // Of a field that is true or false the header says which.
            if !matches!(header & 0xf, 1 | 2) {
                self.skip_value(header & 0xf, depth)?;
            }
        }
    }

    fn skip_value(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match kind {
            1..=3 => self.skip_bytes(1),
            4..=6 => self.varint().map(drop),
            7 => self.skip_bytes(8),
            8 => self.count().and_then(|length| self.skip_bytes(length)),
            9 | 10 => {
                let header = self.byte()?;
                let count = if header >> 4 == 15 { self.count()? } else { usize::from(header >> 4) };
                (0..count).try_for_each(|_| self.skip_value(header & 0xf, depth + 1))
            }
            11 => {
                let count = self.count()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                (0..count).try_for_each(|_| self.skip_value(kinds >> 4, depth + 1).and_then(|()| self.skip_value(kinds & 0xf, depth + 1)))
            }
            12 => self.skip_struct(depth + 1),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    use arrow_ipc::CompressionType;
    use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
    use pipe_core::config::SourceFormat;

    use super::super::tests::Reading;
    use super::*;

    fn batch() -> RecordBatch {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["one text and another"; 40]));
        RecordBatch::try_from_iter([("text", Arc::clone(&texts)), ("label", texts)]).unwrap()
    }

    fn arrow(stream: bool, compression: Option<CompressionType>) -> Vec<u8> {
        let (batch, mut bytes) = (batch(), Vec::new());
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        if stream {
            let mut writer = StreamWriter::try_new_with_options(&mut bytes, &batch.schema(), options).unwrap();
            writer.write(&batch).and_then(|()| writer.finish()).unwrap();
        } else {
            let mut writer = FileWriter::try_new_with_options(&mut bytes, &batch.schema(), options).unwrap();
            writer.write(&batch).and_then(|()| writer.finish()).unwrap();
        }
        bytes
    }

    /// Every eight bytes of a table in turn become a length that no machine has the memory for.
    #[test]
    fn no_length_of_an_arrow_table_ends_the_process() {
        for stream in [false, true] {
            for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
                let good = arrow(stream, compression);
                let reading = Reading::of(SourceFormat::Arrow, "utf-8");
                assert_eq!(reading.read(&good).unwrap().records.len(), 40);
                for at in 0..good.len() - 8 {
                    let mut bytes = good.clone();
                    bytes[at..at + 8].copy_from_slice(&(1u64 << 46).to_le_bytes());
                    let _ = reading.read(&bytes);
                }
            }
        }
    }

    #[test]
    fn a_parquet_footer_has_no_more_elements_than_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let fits = |bytes: &[u8]| {
            std::fs::write(folder.path().join("b.parquet"), bytes).unwrap();
            fit_parquet(&File::open(folder.path().join("b.parquet")).unwrap(), bytes.len() as u64)
        };
        let batch = batch();
        let mut writer = crate::parquet_io::TableWriter::create(&path, batch.schema(), &[]).unwrap();
        writer.write(batch.columns().to_vec(), &batch.schema()).unwrap();
        writer.finish().unwrap();
        let good = std::fs::read(&path).unwrap();
        let reading = Reading::of(SourceFormat::Parquet, "utf-8");
        assert_eq!(reading.read(&good).unwrap().records.len(), 40);
        assert!(fits(&good));
        let end = good.len() - 8;
        let length = u32::from_le_bytes(good[end..end + 4].try_into().unwrap()) as usize;
        // Lists of structs, as those of row groups: their header and one that claims two thousand million of them.
        let mut claims = 0;
        for at in end - length..end {
            if good[at] & 0xf == 12 && good[at] >> 4 != 0 {
                let mut bytes = good[..at].to_vec();
                bytes.extend([0xfc, 0xff, 0xff, 0xff, 0xff, 7]);
                bytes.extend(&good[at + 1..end]);
                bytes.extend((length as u32 + 5).to_le_bytes());
                bytes.extend(b"PAR1");
                // A byte that only looks like a list's header may be within a text, whose length is then another.
                claims += usize::from(!fits(&bytes));
                let _ = reading.read(&bytes);
            }
        }
        assert!(claims > 0);
    }
}
