//! What is in a table, in numbers: rows, nulls, how long texts are, how often each class comes.

use std::collections::BTreeMap;

use pipe_core::Result;
use polars::prelude::{DataType, Expr, LazyFrame, QuantileMethod, col, len, lit};

use crate::cell::{self, Cell};
use crate::error::while_planning;
use crate::prepared::Prepared;
use crate::table::Table;

/// Columns whose values are few and name kinds of rows.
const CLASSES: [&str; 2] = ["label", "reason"];
/// More classes than this are told as a sum.
const MAX_CLASSES: usize = 50;

/// Of one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub rows: u64,
    pub columns: Vec<ColumnFacts>,
}

/// Of one column.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnFacts {
    pub name: String,
    pub data_type: String,
    pub nulls: u64,
    /// Of a text's characters, a list's items, or numbers themselves; absent for others, and where all is null.
    pub spread: Option<Spread>,
    /// Of the columns `label` and `reason`: rows by value, the most frequent ones.
    pub classes: Option<BTreeMap<String, u64>>,
    /// Rows of all other values.
    pub other_classes: u64,
}

/// How values are spread; quantiles are values that occur.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// `characters`, `items` or `value`.
    pub of: &'static str,
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    pub max: f64,
}

/// Reads all of `table`.
pub fn describe(table: &Table) -> Result<Facts> {
    let planning = |error| while_planning(&error, &[], |_| None);
    let mut frame = table.scan().map_err(planning)?;
    let schema = frame.collect_schema().map_err(planning)?;
    let rows = numbers(&cells(frame.clone().select([len()]))?)[0].unwrap_or(0.0) as u64;
    let mut columns = Vec::new();
    for (name, data_type) in schema.iter() {
        // One column at a time: quantiles hold what they are taken of.
        let measured = measure(data_type).map(|(of, measure)| (of, measure(col(name.clone())).cast(DataType::Float64)));
        let mut wanted = vec![col(name.clone()).null_count()];
        if let Some((_, values)) = &measured {
            let quantile = |q: f64| values.clone().quantile(lit(q), QuantileMethod::Nearest);
            wanted.extend([values.clone().min(), values.clone().mean(), quantile(0.5), quantile(0.95), values.clone().max()]);
            wanted.iter_mut().enumerate().for_each(|(at, expr)| *expr = expr.clone().alias(at.to_string()));
        }
        let found = numbers(&cells(frame.clone().select(wanted))?);
        let spread = match (measured, found.as_slice()) {
            (Some((of, _)), [_, Some(min), Some(mean), Some(p50), Some(p95), Some(max)]) => {
                Some(Spread { of, min: *min, mean: *mean, p50: *p50, p95: *p95, max: *max })
            }
            _ => None,
        };
        let mut facts = ColumnFacts {
            name: name.to_string(),
            data_type: data_type.to_string(),
            nulls: found[0].unwrap_or(0.0) as u64,
            spread,
            classes: None,
            other_classes: 0,
        };
        if CLASSES.contains(&name.as_str()) && !data_type.is_nested() {
            let counted = Prepared::collect(frame.clone().group_by([col(name.clone())]).agg([len().alias("rows")]))?;
            let mut counts: Vec<(String, u64)> = cell::rows(&counted)
                .map_err(planning)?
                .into_iter()
                .filter(|row| row[0] != Cell::Null)
                .map(|row| (row[0].text(), row[1].text().parse().unwrap_or(0)))
                .collect();
            counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            facts.other_classes = counts.iter().skip(MAX_CLASSES).map(|(_, rows)| rows).sum();
            facts.classes = Some(counts.into_iter().take(MAX_CLASSES).collect());
        }
        columns.push(facts);
    }
    Ok(Facts { rows, columns })
}

/// What is measured, and how.
type Measure = (&'static str, fn(Expr) -> Expr);

/// What is measured of values of a type.
fn measure(data_type: &DataType) -> Option<Measure> {
    match data_type {
        DataType::String => Some(("characters", |values| values.str().len_chars())),
        DataType::List(_) => Some(("items", |values| values.list().len())),
        data_type if data_type.is_primitive_numeric() => Some(("value", |values| values)),
        _ => None,
    }
}

/// The cells of a frame's one row.
fn cells(frame: LazyFrame) -> Result<Vec<Cell>> {
    let found = Prepared::collect(frame)?;
    let rows = cell::rows(&found).map_err(|error| while_planning(&error, &[], |_| None))?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

fn numbers(cells: &[Cell]) -> Vec<Option<f64>> {
    cells.iter().map(|cell| cell.text().parse().ok()).collect()
}
