//! Tasks that score a text or a pair as a whole: one class, several, or a number.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use pipe_core::{Error, Result, Task};

use super::row::{Target, TokenRow};
use super::words::{class_id, lists};
use super::{TextEncoder, strings};

/// Rows of texts with what `task` is to give for them, where they are labelled.
pub(super) fn rows(task: Task, encoder: &TextEncoder, batch: &RecordBatch, labels: &[String], labelled: bool) -> Result<Vec<TokenRow>> {
    let texts = strings(batch, "text")?;
    let pairs = batch.column_by_name("text_pair").map(|_| strings(batch, "text_pair")).transpose()?;
    let rows = encoder.encode(texts, pairs)?;
    let targets = match task {
        _ if !labelled => vec![Target::None; rows.len()],
        Task::Regression => values(batch)?,
        Task::MultiLabelClassification => classes(batch, labels)?,
        _ => class(batch, labels)?,
    };
    Ok(rows.into_iter().zip(targets).enumerate().map(|(source, (tokens, target))| TokenRow { source, tokens, target }).collect())
}

fn class(batch: &RecordBatch, labels: &[String]) -> Result<Vec<Target>> {
    let names = batch.column_by_name("label").ok_or_else(|| Error::internal("the ingest artifact names labels but has no label column"))?;
    names
        .as_string::<i32>()
        .iter()
        .map(|name| {
            let name = name.ok_or_else(|| {
                Error::input("a row has no `label`").hint("leave such rows out in the query that gives them: WHERE label IS NOT NULL")
            })?;
            class_id(labels, name).map(|id| Target::Class(id.into()))
        })
        .collect()
}

fn classes(batch: &RecordBatch, labels: &[String]) -> Result<Vec<Target>> {
    lists(batch, "labels")?
        .into_iter()
        .map(|names| {
            let mut ids = names.iter().map(|name| class_id(labels, name)).collect::<Result<Vec<_>>>()?;
            ids.sort_unstable();
            ids.dedup();
            Ok(Target::Classes(ids))
        })
        .collect()
}

fn values(batch: &RecordBatch) -> Result<Vec<Target>> {
    let values = batch.column_by_name("value").and_then(|column| column.as_primitive_opt::<Float64Type>());
    let values = values.ok_or_else(|| Error::input("the column `value` of the rows that it reads holds no numbers"))?;
    values
        .iter()
        .map(|value| {
            value
                .filter(|value| value.is_finite())
                .map(Target::Value)
                .ok_or_else(|| Error::input("a row has no `value`").hint("leave such rows out in the query that gives them: WHERE value IS NOT NULL"))
        })
        .collect()
}
