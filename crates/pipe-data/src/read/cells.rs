//! Columns of Arrow, cell by cell.

use std::borrow::Cow;
use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::temporal_conversions as temporal;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrowPrimitiveType, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use pipe_core::{Error, Result};
use serde_json::{Map, Value};

use super::Cell;
use super::frame::FileFacts;
use super::header::Slot;
use super::wanted::Wanted;

/// Where the values of a wanted column are.
pub(super) enum Column<'a> {
    Array(&'a dyn Array),
    OfFile(&'a str),
    Absent,
}

impl<'a> Column<'a> {
    /// Absent: bytes that are no text.
    pub(super) fn cell(&self, row: usize) -> Option<Cell<'a>> {
        match *self {
            Column::Array(array) => cell(array, row),
            Column::OfFile(value) => Some(Cell::Text(Cow::Borrowed(value))),
            Column::Absent => Some(Cell::Missing),
        }
    }
}

/// The wanted columns of a batch, with their names.
pub(super) fn columns<'a>(batch: &'a RecordBatch, wanted: &'a Wanted, file: &'a FileFacts) -> Result<Vec<(&'a str, Column<'a>)>> {
    let mut columns = Vec::with_capacity(wanted.len());
    for (name, slot) in wanted.names().zip(&file.header.slots) {
        let column = match slot {
            Slot::At(at) => Column::Array(
                batch.columns().get(*at).ok_or_else(|| Error::internal(format!("a batch of {} lacks a column", file.path.display())))?.as_ref(),
            ),
            Slot::OfFile(value) => Column::OfFile(value),
            Slot::Absent | Slot::Key => Column::Absent,
        };
        columns.push((name, column));
    }
    Ok(columns)
}

/// Strings, or bytes that may be some.
pub(super) fn is_text(kind: &DataType) -> bool {
    use DataType::{Binary, BinaryView, Dictionary, LargeBinary, LargeUtf8, Null, Utf8, Utf8View};
    match kind {
        Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView | Null => true,
        Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// Whether [`cell`] knows the type.
pub(super) fn is_readable(kind: &DataType) -> bool {
    use DataType::{
        Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Dictionary, FixedSizeList, Float16, Float32, Float64, Int8, Int16, Int32, Int64,
        LargeList, List, Map, Struct, Time32, Time64, Timestamp, UInt8, UInt16, UInt32, UInt64,
    };
    match kind {
        Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float16 | Float32 | Float64 => true,
        Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(..) | Decimal32(..) | Decimal64(..) | Decimal128(..) => true,
        Dictionary(_, values) => is_readable(values),
        List(field) | LargeList(field) | FixedSizeList(field, _) | Map(field, _) => is_readable(field.data_type()),
        Struct(fields) => fields.iter().all(|field| is_readable(field.data_type())),
        other => is_text(other),
    }
}

fn text<'a>(text: &'a str) -> Option<Cell<'a>> {
    Some(Cell::Text(Cow::Borrowed(text)))
}

fn bytes(bytes: &[u8]) -> Option<Cell<'_>> {
    text(simdutf8::basic::from_utf8(bytes).ok()?)
}

/// Absent: bytes that are no text, or a type that [`is_readable`] does not know.
fn cell(array: &dyn Array, row: usize) -> Option<Cell<'_>> {
    if array.is_null(row) {
        return Some(Cell::Null);
    }
    fn primitive<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
        array.as_primitive::<T>().value(row)
    }
    fn integer<'a, T: ArrowPrimitiveType<Native: Into<i128>>>(array: &dyn Array, row: usize) -> Option<Cell<'a>> {
        Some(Cell::Integer(primitive::<T>(array, row).into()))
    }
    match array.data_type() {
        DataType::Null => Some(Cell::Null),
        DataType::Utf8 => text(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => text(array.as_string::<i64>().value(row)),
        DataType::Utf8View => text(array.as_string_view().value(row)),
        DataType::Binary => bytes(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => bytes(array.as_binary::<i64>().value(row)),
        DataType::BinaryView => bytes(array.as_binary_view().value(row)),
        DataType::Boolean => Some(Cell::Bool(array.as_boolean().value(row))),
        DataType::Int8 => integer::<Int8Type>(array, row),
        DataType::Int16 => integer::<Int16Type>(array, row),
        DataType::Int32 => integer::<Int32Type>(array, row),
        DataType::Int64 => integer::<Int64Type>(array, row),
        DataType::UInt8 => integer::<UInt8Type>(array, row),
        DataType::UInt16 => integer::<UInt16Type>(array, row),
        DataType::UInt32 => integer::<UInt32Type>(array, row),
        DataType::UInt64 => integer::<UInt64Type>(array, row),
        DataType::Float16 => Some(Cell::Float(primitive::<Float16Type>(array, row).to_f64())),
        DataType::Float32 => Some(Cell::Float(f64::from(primitive::<Float32Type>(array, row)))),
        DataType::Float64 => Some(Cell::Float(primitive::<Float64Type>(array, row))),
        DataType::Decimal32(_, scale) => decimal(i128::from(primitive::<Decimal32Type>(array, row)), *scale),
        DataType::Decimal64(_, scale) => decimal(i128::from(primitive::<Decimal64Type>(array, row)), *scale),
        DataType::Decimal128(_, scale) => decimal(primitive::<Decimal128Type>(array, row), *scale),
        DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => {
            time(array, row).map(|text| Cell::Text(Cow::Owned(text)))
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary_opt()?;
            let key = *dictionary.normalized_keys().get(row)?;
            (key < dictionary.values().len()).then(|| cell(dictionary.values().as_ref(), key))?
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) | DataType::Struct(_) | DataType::Map(..) => {
            nested(array, row).map(Cell::Nested)
        }
        _ => None,
    }
}

/// Whole numbers as such, others in digits: a float would not hold them.
fn decimal<'a>(value: i128, scale: i8) -> Option<Cell<'a>> {
    let Ok(scale) = usize::try_from(scale) else {
        return value.checked_mul(10i128.checked_pow(u32::from(scale.unsigned_abs()))?).map(Cell::Integer);
    };
    if scale == 0 {
        return Some(Cell::Integer(value));
    }
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    Some(Cell::Text(Cow::Owned(format!("{sign}{whole}.{part}"))))
}

/// As ISO 8601 has it; with `Z` where the column says that it is a moment.
fn time(array: &dyn Array, row: usize) -> Option<String> {
    fn value<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
        array.as_primitive::<T>().value(row)
    }
    match array.data_type() {
        DataType::Date32 => Some(temporal::date32_to_datetime(value::<Date32Type>(array, row))?.date().to_string()),
        DataType::Date64 => Some(temporal::date64_to_datetime(value::<Date64Type>(array, row))?.date().to_string()),
        DataType::Time32(TimeUnit::Second) => Some(temporal::time32s_to_time(value::<Time32SecondType>(array, row))?.to_string()),
        DataType::Time32(_) => Some(temporal::time32ms_to_time(value::<Time32MillisecondType>(array, row))?.to_string()),
        DataType::Time64(TimeUnit::Microsecond) => Some(temporal::time64us_to_time(value::<Time64MicrosecondType>(array, row))?.to_string()),
        DataType::Time64(_) => Some(temporal::time64ns_to_time(value::<Time64NanosecondType>(array, row))?.to_string()),
        DataType::Timestamp(unit, zone) => {
            let time = match unit {
                TimeUnit::Second => temporal::timestamp_s_to_datetime(value::<TimestampSecondType>(array, row)),
                TimeUnit::Millisecond => temporal::timestamp_ms_to_datetime(value::<TimestampMillisecondType>(array, row)),
                TimeUnit::Microsecond => temporal::timestamp_us_to_datetime(value::<TimestampMicrosecondType>(array, row)),
                TimeUnit::Nanosecond => temporal::timestamp_ns_to_datetime(value::<TimestampNanosecondType>(array, row)),
            };
            let mut text = String::new();
            let zone = if zone.is_some() { "Z" } else { "" };
            write!(text, "{}{zone}", time?.format("%Y-%m-%dT%H:%M:%S%.f")).ok()?;
            Some(text)
        }
        _ => None,
    }
}

fn nested(array: &dyn Array, row: usize) -> Option<Value> {
    let list = |values: &dyn Array| (0..values.len()).map(|at| json(cell(values, at)?)).collect::<Option<Vec<Value>>>().map(Value::Array);
    match array.data_type() {
        DataType::List(_) => list(array.as_list::<i32>().value(row).as_ref()),
        DataType::LargeList(_) => list(array.as_list::<i64>().value(row).as_ref()),
        DataType::FixedSizeList(..) => list(array.as_fixed_size_list().value(row).as_ref()),
        DataType::Struct(fields) => {
            let columns = array.as_struct();
            let mut object = Map::new();
            for (field, column) in fields.iter().zip(columns.columns()) {
                object.insert(field.name().clone(), json(cell(column.as_ref(), row)?)?);
            }
            Some(Value::Object(object))
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let mut object = Map::new();
            for at in 0..entries.len() {
                let key = match json(cell(entries.column(0).as_ref(), at)?)? {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                object.insert(key, json(cell(entries.column(1).as_ref(), at)?)?);
            }
            Some(Value::Object(object))
        }
        _ => None,
    }
}

fn json(cell: Cell<'_>) -> Option<Value> {
    Some(match cell {
        Cell::Missing | Cell::Null => Value::Null,
        Cell::Text(text) => Value::String(text.into_owned()),
        Cell::Integer(number) => match (u64::try_from(number), i64::try_from(number)) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            _ => Value::String(number.to_string()),
        },
        Cell::Float(number) => serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number),
        Cell::Bool(value) => Value::Bool(value),
        Cell::Nested(value) => value,
    })
}

/// A row's wanted columns as a JSON object, in their order.
pub(super) fn row_as_json(columns: &[(&str, Column<'_>)], row: usize) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (at, (name, column)) in columns.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(Value::from(*name).to_string().as_bytes());
        out.push(b':');
        let value = column.cell(row).and_then(json).unwrap_or(Value::Null);
        out.extend_from_slice(value.to_string().as_bytes());
    }
    out.push(b'}');
    out
}
