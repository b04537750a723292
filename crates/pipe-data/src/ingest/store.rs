//! Rows of a shard as Arrow IPC: written once, and read back without a copy, since every row is read twice at least.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::root_as_footer;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;
use memmap2::Mmap;
use pipe_core::{Error, IoContext, Result};

/// An IPC file's last bytes: the length of its footer and the magic.
const TRAILER: usize = 10;

/// Writes an IPC file.
pub(super) fn write_ipc(batches: &[RecordBatch], schema: &SchemaRef, out: &mut dyn Write) -> std::io::Result<()> {
    let failed = |error| match error {
        ArrowError::IoError(_, error) => error,
        _ => std::io::Error::other("rows cannot be written as Arrow IPC"),
    };
    let mut writer = FileWriter::try_new(out, schema).map_err(failed)?;
    for batch in batches {
        writer.write(batch).map_err(failed)?;
    }
    writer.finish().map_err(failed)
}

/// Batches of a file whose bytes were made by [`write_ipc`], of rows with this schema; absent for anything else.
///
/// The batches are views into `bytes`, and are not validated: the caller has compared the bytes with their checksum.
fn of_ipc(bytes: Bytes, schema: &SchemaRef) -> Option<Vec<RecordBatch>> {
    let buffer = Buffer::from(bytes);
    let body = buffer.len().checked_sub(TRAILER)?;
    let length = read_footer_length(buffer[body..].try_into().ok()?).ok()?;
    let footer = root_as_footer(&buffer[body.checked_sub(length)?..body]).ok()?;
    if fb_to_schema(footer.schema()?).fields() != schema.fields() {
        return None;
    }
    let decoder = FileDecoder::new(Arc::clone(schema), footer.version());
    // SAFETY: the bytes are those that this program wrote, by their BLAKE3.
    let decoder = unsafe { decoder.with_skip_validation(true) };
    let blocks = footer.recordBatches()?;
    let read = |block: &arrow_ipc::Block| {
        let (offset, length) = (usize::try_from(block.offset()).ok()?, usize::try_from(i64::from(block.metaDataLength()) + block.bodyLength()).ok()?);
        let end = offset.checked_add(length).filter(|end| *end <= buffer.len())?;
        decoder.read_record_batch(block, &buffer.slice_with_length(offset, end - offset)).ok()?
    };
    blocks.iter().map(read).collect()
}

/// Batches of a shard that was read, its checksum found right.
pub(super) fn of_checked(bytes: Vec<u8>, schema: &SchemaRef) -> Option<Vec<RecordBatch>> {
    of_ipc(Bytes::from(bytes), schema)
}

/// Batches of a shard that this run has made or checked, right from the page cache.
pub(super) fn map(path: &Path, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let gone = || {
        Error::stage(format!("{} is gone or damaged while it is in use", path.display()))
            .hint("was the cache cleared during the run? run again: what was done is kept")
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(gone()),
        opened => opened.doing("open", path)?,
    };
    // SAFETY: shards are never written to once they are in place, only removed, which leaves a mapping as it is.
    let mapped = unsafe { Mmap::map(&file) }.doing("map", path)?;
    of_ipc(Bytes::from_owner(mapped), schema).ok_or_else(gone)
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, StringArray};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn rows_come_back_and_anything_else_is_nothing() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true)]));
        let column =
            |texts: Vec<Option<&str>>| RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(texts)) as ArrayRef]).unwrap();
        let batches = [column(vec![Some("一"), None, Some("")]), column(vec![Some("two")])];
        let mut bytes = Vec::new();
        write_ipc(&batches, &schema, &mut bytes).unwrap();
        assert_eq!(of_checked(bytes.clone(), &schema).unwrap(), batches);
        let other: SchemaRef = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
        assert!(of_checked(bytes.clone(), &other).is_none());
        for length in [0, 5, TRAILER, bytes.len() / 2, bytes.len() - 1] {
            assert!(of_checked(bytes[..length].to_vec(), &schema).is_none(), "{length}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.shard");
        assert!(map(&path, &schema).is_err());
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(map(&path, &schema).unwrap(), batches);
    }
}
