//! Parquet and Arrow IPC: files whose rows come as columns.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{DataType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use pipe_core::config::{Compression, SourceConfig, SourceFormat};
use pipe_core::source::SourceFile;
use pipe_core::{Error, IoContext, Result, catch_panic};

use super::cells::{is_readable, is_text};
use super::header::{Header, Slot};
use super::input::by_magic;
use super::lengths;
use super::wanted::{Need, Wanted};

/// How an Arrow IPC file begins, other than a stream.
const ARROW_FILE: &[u8] = b"ARROW1";
/// Rows read together take about so much memory at most.
const BATCH_BYTES: usize = 4 << 20;

pub(super) struct TableFramer {
    batches: Batches,
    /// What is left of a batch that has more rows than a chunk.
    rest: Option<RecordBatch>,
    chunk_records: usize,
    /// Of the file, in bytes.
    size: u64,
}

enum Batches {
    Parquet(ParquetRecordBatchReader),
    File(FileReader<BufReader<File>>),
    Stream(Box<StreamReader<BufReader<File>>>),
}

impl TableFramer {
    /// With the names of all columns, and where the wanted ones are among those that are read.
    pub(super) fn open(
        file: &SourceFile,
        source: &SourceConfig,
        wanted: &Wanted,
        chunk_records: usize,
    ) -> Result<(TableFramer, Vec<String>, Header)> {
        let path = &file.shown();
        let mut handle = File::open(&file.path).doing("open", path)?;
        let mut head = Vec::new();
        Read::take(&mut handle, 16).read_to_end(&mut head).and_then(|_| handle.rewind()).doing("read", path)?;
        if head.is_empty() {
            return Err(super::empty(path));
        }
        if !matches!(source.compression, Compression::Auto | Compression::None) || by_magic(&head) != Compression::None {
            return Err(Error::input(format!("{} is compressed as a whole, which cannot be read of this format", path.display()))
                .hint("decompress it first: such files are compressed within"));
        }
        let size = handle.metadata().doing("read", path)?.len();
        let fits = match file.format {
            SourceFormat::Parquet => lengths::fit_parquet(&handle, size),
            _ if head.starts_with(ARROW_FILE) => lengths::fit_arrow(&handle, size),
            _ => lengths::fit_stream(&handle, size),
        };
        if !fits {
            return Err(unreadable(file));
        }
        let opened = catch_panic(|| open_batches(handle, &head, file, wanted, chunk_records));
        let (batches, columns, header) = opened.unwrap_or_else(|| Err(unreadable(file)))?;
        Ok((TableFramer { batches, rest: None, chunk_records, size }, columns, header))
    }

    /// Rows have no bytes of their own in the file: it is told as read when it is open.
    pub(super) fn position(&self) -> u64 {
        self.size
    }

    pub(super) fn next_batch(&mut self, path: &Path) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.rest.take() {
                if batch.num_rows() > self.chunk_records {
                    self.rest = Some(batch.slice(self.chunk_records, batch.num_rows() - self.chunk_records));
                    return Ok(Some(batch.slice(0, self.chunk_records)));
                }
                return Ok(Some(batch));
            }
            let batch = catch_panic(|| match &mut self.batches {
                Batches::Parquet(reader) => reader.next(),
                Batches::File(reader) => reader.next(),
                Batches::Stream(reader) => reader.next(),
            });
            match batch {
                Some(None) => return Ok(None),
                // The library's own message may quote a value.
                None | Some(Some(Err(_))) => return Err(Error::input(format!("{} is damaged", path.display())).hint("copy the file again")),
                Some(Some(Ok(batch))) => self.rest = Some(batch).filter(|batch| batch.num_rows() > 0),
            }
        }
    }
}

fn open_batches(handle: File, head: &[u8], file: &SourceFile, wanted: &Wanted, chunk_records: usize) -> Result<(Batches, Vec<String>, Header)> {
    let path = &file.shown();
    let unreadable = || unreadable(file);
    Ok(if file.format == SourceFormat::Parquet {
        let builder = ParquetRecordBatchReaderBuilder::try_new(handle).map_err(|_| unreadable())?;
        let (columns, mut header) = find(builder.schema(), wanted, file)?;
        let read = project(&mut header);
        let rows = batch_rows(&builder, &read, chunk_records);
        let mask = ProjectionMask::roots(builder.parquet_schema(), read);
        let reader = builder.with_projection(mask).with_batch_size(rows).build().map_err(|_| unreadable())?;
        (Batches::Parquet(reader), columns, header)
    } else if head.starts_with(ARROW_FILE) {
        let mut reader = BufReader::new(handle);
        let schema = FileReader::try_new(&mut reader, None).map_err(|_| unreadable())?.schema();
        let (columns, mut header) = find(&schema, wanted, file)?;
        let read = project(&mut header);
        reader.rewind().doing("read", path)?;
        (Batches::File(FileReader::try_new(reader, Some(read)).map_err(|_| unreadable())?), columns, header)
    } else {
        let mut reader = BufReader::new(handle);
        let schema = StreamReader::try_new(&mut reader, None).map_err(|_| unreadable())?.schema();
        let (columns, mut header) = find(&schema, wanted, file)?;
        let read = project(&mut header);
        reader.rewind().doing("read", path)?;
        (Batches::Stream(Box::new(StreamReader::try_new(reader, Some(read)).map_err(|_| unreadable())?)), columns, header)
    })
}

fn unreadable(file: &SourceFile) -> Error {
    let name = if file.format == SourceFormat::Parquet { "Parquet" } else { "Arrow" };
    Error::input(format!("{} is not a readable {name} file", file.shown().display())).hint("it may be cut short, or of another format")
}

/// Names of all columns, and the wanted ones, whose types must be of use.
fn find(schema: &Schema, wanted: &Wanted, file: &SourceFile) -> Result<(Vec<String>, Header)> {
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let header = Header::of_schema(wanted, &names, file)?;
    for (column, slot) in wanted.columns.iter().zip(&header.slots) {
        let Slot::At(at) = slot else { continue };
        let kind = schema.field(*at).data_type();
        let (name, setting, path) = (&column.name, &column.setting, file.shown());
        let path = path.display();
        if column.need == Need::Text && !is_text(kind) {
            return Err(Error::input(format!("the column `{name}` of {path} is {kind}, not text")).hint(format!("map a text column to `{setting}`")));
        }
        if !is_readable(kind) {
            return Err(Error::input(format!("the column `{name}` of {path} is {kind}, which cannot be read"))
                .hint(format!("convert it, or take it out of `{setting}`")));
        }
    }
    Ok((names, header))
}

/// The columns to read, ascending. Slots are made positions among them.
fn project(header: &mut Header) -> Vec<usize> {
    let positions = header.slots.iter().filter_map(|slot| if let Slot::At(at) = slot { Some(*at) } else { None });
    let read: Vec<usize> = positions.collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    for slot in &mut header.slots {
        if let Slot::At(at) = slot {
            *at = read.binary_search(at).unwrap_or_default();
        }
    }
    read
}

/// Rows of a batch, so that long texts do not fill the memory. By what the file says of itself, and so always the same.
fn batch_rows(builder: &ParquetRecordBatchReaderBuilder<File>, read: &[usize], chunk_records: usize) -> usize {
    let metadata = builder.metadata();
    let descriptor = metadata.file_metadata().schema_descr();
    let mut widest = 1;
    for group in metadata.row_groups() {
        let columns = group.columns().iter().enumerate().filter(|(leaf, _)| read.contains(&descriptor.get_column_root_idx(*leaf)));
        let bytes: i64 = columns.map(|(_, column)| column.uncompressed_size().max(0)).sum();
        widest = widest.max(bytes / group.num_rows().max(1));
    }
    (BATCH_BYTES / (widest as usize).max(1)).clamp(1, chunk_records)
}

/// What the rows of a batch take, and not the buffers that they are a slice of.
pub(super) fn slice_bytes(batch: &RecordBatch) -> u64 {
    fn bytes(array: &dyn Array) -> usize {
        match array.data_type() {
            // Their buffers are shared as a whole.
            DataType::Utf8View | DataType::BinaryView | DataType::Dictionary(..) => array.len() * 64,
            _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
        }
    }
    batch.columns().iter().map(|column| bytes(column) as u64).sum()
}
