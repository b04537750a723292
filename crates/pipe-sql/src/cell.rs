//! One value of a result, for those who do not know polars.

use polars::prelude::{AnyValue, DataFrame, PolarsResult};
use serde_json::Value;

/// A value as it is printed.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    /// In JSON's spelling.
    Number(String),
    Text(String),
    /// A list or struct, as JSON.
    Nested(String),
}

impl Cell {
    /// As JSON. Numbers that JSON does not have are `null`.
    pub fn json(&self) -> String {
        match self {
            Cell::Null => "null".to_owned(),
            Cell::Bool(value) => value.to_string(),
            Cell::Number(number) if number.contains(['N', 'i']) => "null".to_owned(),
            Cell::Number(json) | Cell::Nested(json) => json.clone(),
            Cell::Text(text) => Value::from(text.as_str()).to_string(),
        }
    }

    /// For people and for CSV; nothing for what is absent.
    pub fn text(&self) -> String {
        match self {
            Cell::Null => String::new(),
            Cell::Bool(value) => value.to_string(),
            Cell::Number(text) | Cell::Text(text) | Cell::Nested(text) => text.clone(),
        }
    }
}

/// All cells of a batch, row by row.
pub(crate) fn rows(batch: &DataFrame) -> PolarsResult<Vec<Vec<Cell>>> {
    let mut rows = vec![Vec::with_capacity(batch.width()); batch.height()];
    for column in batch.columns() {
        let series = column.as_materialized_series().rechunk();
        for (row, value) in rows.iter_mut().zip(series.iter()) {
            row.push(cell(&value));
        }
    }
    Ok(rows)
}

fn cell(value: &AnyValue<'_>) -> Cell {
    match value {
        AnyValue::Null => Cell::Null,
        AnyValue::Boolean(value) => Cell::Bool(*value),
        AnyValue::String(text) => Cell::Text((*text).to_owned()),
        AnyValue::StringOwned(text) => Cell::Text(text.to_string()),
        // The shortest text that is this number, which is not the shortest of the nearest f64.
        AnyValue::Float32(number) => Cell::Number(number.to_string()),
        AnyValue::Float64(number) => Cell::Number(number.to_string()),
        AnyValue::List(_) | AnyValue::Array(..) | AnyValue::Struct(..) | AnyValue::StructOwned(_) => Cell::Nested(json(value)),
        value if value.is_integer() => Cell::Number(value.to_string()),
        value => Cell::Text(value.to_string()),
    }
}

fn json(value: &AnyValue<'_>) -> String {
    let list = |series: &polars::prelude::Series| {
        let items: Vec<String> = series.iter().map(|item| json(&item)).collect();
        format!("[{}]", items.join(", "))
    };
    let fields = |values: &[AnyValue<'_>], fields: &[polars::prelude::Field]| {
        let fields = fields.iter().zip(values).map(|(field, value)| format!("{}: {}", Value::from(field.name().as_str()), json(value)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
    };
    match value {
        AnyValue::List(series) | AnyValue::Array(series, _) => list(series),
        AnyValue::StructOwned(inner) => fields(&inner.0, &inner.1),
        AnyValue::Struct(_, _, own) => {
            let values: Vec<AnyValue<'_>> = value._iter_struct_av().collect();
            fields(&values, own)
        }
        value => cell(value).json(),
    }
}
