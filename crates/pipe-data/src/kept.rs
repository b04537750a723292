//! Columns that are carried along as they are: from rows to tokens and predictions, and from there to slices.

use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_select::take::take;
use pipe_core::{Error, Result};

use crate::parquet_io::{TableReader, files_of};

/// The schema of what a stage writes with the columns that it keeps of its rows behind its own.
pub(crate) fn with_kept(own: &Schema, rows: &Schema, kept: &[String]) -> Result<SchemaRef> {
    let mut fields: Vec<Field> = own.fields().iter().map(|field| field.as_ref().clone()).collect();
    for name in kept {
        if own.field_with_name(name).is_ok() {
            return Err(Error::usage(format!("`keep_columns` names `{name}`, which is the name of a column that the stage itself writes"))
                .hint("give it another name in `columns.extra`"));
        }
        let Ok(field) = rows.field_with_name(name) else {
            return Err(missing("keep_columns", name, rows.fields().iter().map(|field| field.name().as_str())));
        };
        if matches!(field.data_type(), DataType::List(_) | DataType::Struct(_)) {
            return Err(Error::usage(format!("`keep_columns` names `{name}`, which holds lists; only texts, numbers, times and booleans are kept")));
        }
        fields.push(Field::new(name, field.data_type().clone(), true));
    }
    Ok(Schema::new(fields).into())
}

/// The kept columns of some rows, each once or several times.
pub(crate) fn of_rows(batch: &RecordBatch, kept: &[String], rows: impl Iterator<Item = usize>) -> Result<Vec<ArrayRef>> {
    let rows: UInt32Array = rows.map(|row| row as u32).collect();
    let pick = |name: &String| {
        let column = batch.column_by_name(name).ok_or_else(|| Error::internal(format!("rows without the column {name}, which others have")))?;
        take(column, &rows, None).map_err(|e| Error::internal(format!("rows that are not there: {e}")))
    };
    kept.iter().map(pick).collect()
}

/// The values of a column of a folder of Parquet files, as text.
pub(crate) fn column_of(folder: &Path, name: &str) -> Result<Vec<Option<String>>> {
    let mut values = Vec::new();
    for file in files_of(folder)? {
        for batch in TableReader::open(&file)? {
            values.extend(texts_of(&batch?, name)?);
        }
    }
    Ok(values)
}

/// The values of a column that was kept, as text.
pub(crate) fn texts_of(batch: &RecordBatch, name: &str) -> Result<Vec<Option<String>>> {
    let Some(column) = batch.column_by_name(name) else {
        return Err(missing("by", name, batch.schema_ref().fields().iter().map(|field| field.name().as_str()))
            .hint("have the stage that is read keep it: `keep_columns` of tokenize, or of predict with `of: predictions`"));
    };
    macro_rules! numbers {
        ($kind:ty) => {
            column.as_primitive::<$kind>().iter().map(|value| value.map(|value| value.to_string())).collect()
        };
    }
    Ok(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect(),
        DataType::Boolean => column.as_boolean().iter().map(|value| value.map(|value| value.to_string())).collect(),
        DataType::Int8 => numbers!(Int8Type),
        DataType::Int16 => numbers!(Int16Type),
        DataType::Int32 => numbers!(Int32Type),
        DataType::Int64 => numbers!(Int64Type),
        DataType::Float32 => numbers!(Float32Type),
        DataType::Float64 => numbers!(Float64Type),
        DataType::Timestamp(TimeUnit::Microsecond, _) => numbers!(TimestampMicrosecondType),
        other => return Err(Error::usage(format!("`by` names the column `{name}`, whose values ({other}) make no slices"))),
    })
}

fn missing<'n>(setting: &str, name: &str, known: impl Iterator<Item = &'n str>) -> Error {
    let known: Vec<&str> = known.collect();
    let error = Error::usage(format!("`{setting}` names the column `{name}`, which the rows do not have; they have {}", known.join(", ")));
    match pipe_core::file::nearest(name, known.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("a column comes along by `columns.extra` of ingest, or as a column of a query"),
    }
}
