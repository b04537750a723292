//! Parquet files as columns of plain values.

use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int8Type, Int32Type, TimestampMicrosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::project::entries;

pub(crate) struct Table {
    batches: Vec<RecordBatch>,
    pub(crate) columns: Vec<String>,
}

impl Table {
    pub(crate) fn read(path: &Path) -> Table {
        let file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let columns = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
        Table { batches: builder.build().unwrap().map(Result::unwrap).collect(), columns }
    }

    /// One split of an artifact of rows.
    pub(crate) fn of_split(artifact: &Path, split: &str) -> Table {
        let parts = entries(&artifact.join(split));
        let tables: Vec<Table> = parts.iter().map(|path| Table::read(path)).collect();
        let columns = tables.first().unwrap_or_else(|| panic!("{} has no split {split}", artifact.display())).columns.clone();
        Table { batches: tables.into_iter().flat_map(|table| table.batches).collect(), columns }
    }

    pub(crate) fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    fn collect<T>(&self, column: &str, values: impl Fn(&ArrayRef) -> Vec<T>) -> Vec<T> {
        let array = |batch: &RecordBatch| values(batch.column_by_name(column).unwrap_or_else(|| panic!("no column {column} in {:?}", self.columns)));
        self.batches.iter().flat_map(array).collect()
    }

    /// A text column; an absent value is empty.
    pub(crate) fn strings(&self, column: &str) -> Vec<String> {
        self.collect(column, |array| array.as_string::<i32>().iter().map(|value| value.unwrap_or_default().to_owned()).collect())
    }

    pub(crate) fn floats(&self, column: &str) -> Vec<f32> {
        self.collect(column, |array| array.as_primitive::<Float32Type>().values().to_vec())
    }

    pub(crate) fn numbers(&self, column: &str) -> Vec<u64> {
        self.collect(column, |array| array.as_primitive::<UInt64Type>().values().to_vec())
    }

    /// A column of whole numbers that may be absent.
    pub(crate) fn integers(&self, column: &str) -> Vec<Option<i32>> {
        self.collect(column, |array| array.as_primitive::<Int32Type>().iter().collect())
    }

    /// A column of times, in microseconds since 1970.
    pub(crate) fn times(&self, column: &str) -> Vec<i64> {
        self.collect(column, |array| array.as_primitive::<TimestampMicrosecondType>().values().to_vec())
    }

    /// The texts and starts of a column of answers.
    pub(crate) fn answers(&self, column: &str) -> Vec<(Vec<String>, Vec<i32>)> {
        self.collect(column, |array| {
            let (texts, starts) = (array.as_struct().column(0).as_list::<i32>(), array.as_struct().column(1).as_list::<i32>());
            let texts = texts.iter().map(|list| list.unwrap().as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect());
            texts.zip(starts.iter().map(|list| list.unwrap().as_primitive::<Int32Type>().values().to_vec())).collect()
        })
    }

    /// Each row's list of numbers.
    pub(crate) fn lists(&self, column: &str) -> Vec<Vec<i32>> {
        let values = |list: Option<ArrayRef>| list.map_or_else(Vec::new, |list| list.as_primitive::<Int32Type>().values().to_vec());
        self.collect(column, |array| array.as_list::<i32>().iter().map(values).collect())
    }

    /// Each row's list of texts; an absent one is empty.
    pub(crate) fn lists_of_texts(&self, column: &str) -> Vec<Vec<String>> {
        let texts = |list: ArrayRef| list.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned()).collect();
        self.collect(column, |array| array.as_list::<i32>().iter().map(|list| list.map_or_else(Vec::new, texts)).collect())
    }

    /// Each row's list of numbers; an absent one is 0.
    pub(crate) fn lists_of_floats(&self, column: &str) -> Vec<Vec<f32>> {
        let values = |list: ArrayRef| list.as_primitive::<Float32Type>().iter().map(Option::unwrap_or_default).collect();
        self.collect(column, |array| array.as_list::<i32>().iter().map(|list| list.map_or_else(Vec::new, values)).collect())
    }

    /// How long each row's list is.
    pub(crate) fn lengths(&self, column: &str) -> Vec<usize> {
        self.collect(column, |array| array.as_list::<i32>().iter().map(|list| list.map_or(0, |list| list.len())).collect())
    }

    /// How many ones each row's list holds.
    pub(crate) fn ones(&self, column: &str) -> Vec<usize> {
        let count = |list: ArrayRef| list.as_primitive::<Int8Type>().values().iter().filter(|&&bit| bit == 1).count();
        self.collect(column, |array| array.as_list::<i32>().iter().map(|list| list.map_or(0, count)).collect())
    }

    /// Every text of every column, whatever its name.
    pub(crate) fn all_texts(&self) -> Vec<String> {
        let texts = |array: &ArrayRef| -> Vec<String> {
            let kind = array.data_type().to_string();
            // Binary of a fixed size is a digest.
            let known = !kind.contains("LargeUtf8") && !kind.contains("View") && (!kind.contains("Binary") || kind.starts_with("FixedSizeBinary"));
            assert!(known, "this search knows no {kind}");
            let Some(array) = array.as_string_opt::<i32>() else { return Vec::new() };
            array.iter().flatten().map(str::to_owned).collect()
        };
        self.batches.iter().flat_map(|batch| batch.columns().iter().flat_map(texts).collect::<Vec<_>>()).collect()
    }
}

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// A Parquet file of text columns.
pub(crate) fn write_strings(path: &Path, columns: &[(&str, Vec<String>)]) {
    let array = |values: &Vec<String>| -> ArrayRef { std::sync::Arc::new(StringArray::from(values.clone())) };
    write(path, columns.iter().map(|(name, values)| (*name, array(values))).collect());
}

/// A Parquet file whose `text` holds numbers.
pub(crate) fn write_numbers_as_text(path: &Path) {
    let text: ArrayRef = std::sync::Arc::new(Int64Array::from(vec![1, 2, 3]));
    let label: ArrayRef = std::sync::Arc::new(StringArray::from(vec!["a", "b", "a"]));
    write(path, vec![("text", text), ("sentiment", label)]);
}
