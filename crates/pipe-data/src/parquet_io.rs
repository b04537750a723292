//! Parquet in and out, one way everywhere: fixed `created_by`, fixed batch sizes, so that equal rows give equal bytes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchReader};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::ChunkReader;
use parquet::schema::types::ColumnPath;
use pipe_core::{Error, IoContext, Result};

/// Rows per record batch, in reading and writing.
pub const BATCH_ROWS: usize = 4096;
/// Rows per row group: small enough to hold in memory, large enough to compress well.
const ROW_GROUP_ROWS: usize = 65_536;

/// A row group ends here too, so that no writer holds more of a file than this.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// Bytes of a page before compression: what a core's cache holds beside the compressor's tables.
const PAGE_BYTES: usize = 256 << 10;

/// How the columns of a file are written.
#[derive(Debug, Clone, Default)]
pub struct TableOptions {
    /// Columns that get no dictionary: their values rarely repeat.
    pub plain: Vec<String>,
    /// Columns that get minima and maxima, one per row group: values of theirs stand in the footer.
    pub statistics: Vec<String>,
    /// For the footer.
    pub metadata: Vec<(String, String)>,
}

/// Writes record batches to one file.
pub struct TableWriter {
    writer: ArrowWriter<File>,
    path: PathBuf,
    rows: u64,
}

impl TableWriter {
    /// `plain` columns get no dictionary: their values rarely repeat.
    pub fn create(path: &Path, schema: SchemaRef, plain: &[&str]) -> Result<TableWriter> {
        let plain = plain.iter().map(|&column| column.to_owned()).collect();
        TableWriter::with_options(path, schema, &TableOptions { plain, ..TableOptions::default() })
    }

    pub fn with_options(path: &Path, schema: SchemaRef, options: &TableOptions) -> Result<TableWriter> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).doing("make the folder", folder)?;
        }
        let file = File::create(path).doing("write", path)?;
        let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("a valid level"));
        let writer = ArrowWriter::try_new(file, schema, Some(properties(options, zstd))).map_err(|e| parquet_error("write", path, e))?;
        Ok(TableWriter { writer, path: path.to_owned(), rows: 0 })
    }

    pub fn write(&mut self, columns: Vec<ArrayRef>, schema: &SchemaRef) -> Result<()> {
        let batch =
            RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| Error::internal(format!("columns do not fit their schema: {e}")))?;
        self.rows += batch.num_rows() as u64;
        self.writer.write(&batch).map_err(|e| parquet_error("write", &self.path, e))
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Makes the file durable too, for one that no artifact will hold: the cache syncs what it commits.
    pub fn finish_durably(self) -> Result<u64> {
        let path = self.path.clone();
        let rows = self.finish()?;
        File::open(&path).and_then(|file| file.sync_all()).doing("write", &path)?;
        Ok(rows)
    }

    /// Writes the footer and reads it back.
    pub fn finish(self) -> Result<u64> {
        let TableWriter { writer, path, rows } = self;
        writer.into_inner().map_err(|e| parquet_error("write", &path, e))?;
        let read = TableReader::open(&path)?;
        if read.rows != rows {
            return Err(Error::internal(format!("{} holds {} rows instead of {rows}", path.display(), read.rows)));
        }
        Ok(rows)
    }
}

fn properties(options: &TableOptions, compression: Compression) -> WriterProperties {
    // Statistics hold values, and few columns are worth them.
    let mut properties = WriterProperties::builder()
        .set_created_by("pipe".to_owned())
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_write_batch_size(BATCH_ROWS);
    if !options.metadata.is_empty() {
        let metadata = options.metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
        properties = properties.set_key_value_metadata(Some(metadata.collect()));
    }
    for column in &options.plain {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column.as_str()), false);
    }
    for column in &options.statistics {
        properties = properties.set_column_statistics_enabled(ColumnPath::from(column.as_str()), EnabledStatistics::Chunk);
    }
    properties.build()
}

/// A file's bytes, for what is small enough to be made in memory and is only kept for a next time: compressed lightly.
/// Setting up zstd alone takes longer than a small shard.
pub fn to_bytes(batches: &[RecordBatch], schema: &SchemaRef, plain: &[&str]) -> Result<Vec<u8>> {
    let failed = |e: parquet::errors::ParquetError| Error::internal(format!("rows cannot be written as Parquet: {e}"));
    let mut writer = ArrowWriter::try_new(
        Vec::new(),
        Arc::clone(schema),
        Some(properties(
            &TableOptions { plain: plain.iter().map(|&column| column.to_owned()).collect(), ..TableOptions::default() },
            Compression::SNAPPY,
        )),
    )
    .map_err(failed)?;
    for batch in batches {
        writer.write(batch).map_err(failed)?;
    }
    writer.into_inner().map_err(failed)
}

/// Reads one file batch by batch.
pub struct TableReader {
    reader: ParquetRecordBatchReader,
    path: PathBuf,
    /// From the footer.
    pub rows: u64,
}

impl TableReader {
    pub fn open(path: &Path) -> Result<TableReader> {
        TableReader::of(File::open(path).doing("open", path)?, path, ArrowReaderOptions::new())
    }

    /// With the types that Parquet itself has for the columns, whatever Arrow types the writer noted: those of polars are others.
    pub fn open_plain(path: &Path) -> Result<TableReader> {
        TableReader::of(File::open(path).doing("open", path)?, path, ArrowReaderOptions::new().with_skip_arrow_metadata(true))
    }

    /// Of a whole file in memory; `path` is for messages.
    pub fn of_bytes(bytes: Vec<u8>, path: &Path) -> Result<TableReader> {
        TableReader::of(Bytes::from(bytes), path, ArrowReaderOptions::new())
    }

    fn of(input: impl ChunkReader + 'static, path: &Path, options: ArrowReaderOptions) -> Result<TableReader> {
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(input, options).map_err(|e| parquet_error("read", path, e))?;
        let rows = builder.metadata().file_metadata().num_rows() as u64;
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|e| parquet_error("read", path, e))?;
        Ok(TableReader { reader, path: path.to_owned(), rows })
    }

    pub fn schema(&self) -> SchemaRef {
        self.reader.schema()
    }
}

impl Iterator for TableReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        let batch = self.reader.next()?;
        Some(batch.map_err(|_| {
            Error::stage(format!("{} is damaged", self.path.display())).hint("delete it, or run again with --force for the stage that made it")
        }))
    }
}

/// The Parquet files of a folder, sorted by name.
pub fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).doing("list", folder)? {
        let path = entry.doing("list", folder)?.path();
        if path.extension().is_some_and(|extension| extension == "parquet") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A full disk hides inside parquet's error; the rest of its text never holds a value.
fn parquet_error(doing: &str, path: &Path, error: parquet::errors::ParquetError) -> Error {
    let text = error.to_string();
    let result = Error::stage(format!("cannot {doing} {}: {text}", path.display()));
    if text.contains("os error 28") || text.contains("StorageFull") {
        return Error::io(doing, path, std::io::Error::from_raw_os_error(28));
    }
    result
}
