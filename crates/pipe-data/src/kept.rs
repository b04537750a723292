//! Columns that are carried along as they are: from rows to tokens and predictions, and from there to slices.

use std::path::Path;

use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
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
    let unfit = |e| Error::usage(format!("`by` names the column `{name}`, whose values make no slices: {e}"));
    let options = FormatOptions::default();
    let values = ArrayFormatter::try_new(column, &options).map_err(unfit)?;
    (0..column.len()).map(|row| column.is_valid(row).then(|| values.value(row).try_to_string().map_err(unfit)).transpose()).collect()
}

fn missing<'n>(setting: &str, name: &str, known: impl Iterator<Item = &'n str>) -> Error {
    let known: Vec<&str> = known.collect();
    let error = Error::usage(format!("`{setting}` names the column `{name}`, which the rows do not have; they have {}", known.join(", ")));
    match pipe_core::file::nearest(name, known.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("a column comes along by `columns.extra` of ingest, or as a column of a query"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn values_are_written_as_people_read_them() {
        let columns: [(&str, ArrayRef); 5] = [
            ("text", Arc::new(StringArray::from(vec![Some("de"), None]))),
            ("whole", Arc::new(Int64Array::from(vec![Some(3), None]))),
            ("number", Arc::new(Float64Array::from(vec![Some(0.5), None]))),
            ("truth", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            ("time", Arc::new(TimestampMicrosecondArray::from(vec![Some(1_795_996_800_000_000), None]).with_timezone("+00:00"))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap();
        for (name, expected) in [("text", "de"), ("whole", "3"), ("number", "0.5"), ("truth", "true"), ("time", "2026-11-30T00:00:00Z")] {
            assert_eq!(texts_of(&batch, name).unwrap(), [Some(expected.to_owned()), None], "{name}");
        }
        assert!(texts_of(&batch, "txt").unwrap_err().message.contains("the rows do not have"));
    }
}
