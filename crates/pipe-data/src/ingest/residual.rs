//! What was written is read back and scanned once more: whatever went wrong between the detectors and the disk, nothing
//! personal gets into an artifact.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_schema::DataType;
use pipe_core::config::{ColumnScrub, ColumnType};
use pipe_core::{Error, Result};
use serde_json::Value;

use crate::parquet_io::TableReader;
use crate::scrub::{Scrubber, joined};

use super::columns::{Columns, Kind};

/// Fails where a scanned column of the file holds what its policy replaces.
pub(super) fn check(path: &Path, columns: &Columns, scrubber: &Scrubber) -> Result<()> {
    let scanned: Vec<(&str, Kind)> = columns
        .written()
        // An answer is a part of its context, which is looked through in full: out of it, the words around it are missing.
        .filter(|column| column.scrub == ColumnScrub::Scan && column.kind != Kind::Answers)
        .map(|column| (column.name.as_str(), column.kind))
        .collect();
    // Of classes there are few, and many of each.
    let known = RefCell::new(HashMap::<String, usize>::new());
    let of_class = |class: &str| {
        let hits = known.borrow().get(class).copied();
        hits.unwrap_or_else(|| *known.borrow_mut().entry(class.to_owned()).or_insert_with(|| scrubber.residual(class)))
    };
    let mut rows = 0;
    for batch in TableReader::open(path)? {
        let batch = batch?;
        for (name, kind) in &scanned {
            // A made id is digits of a digest and a number.
            let Some(column) = batch.column_by_name(name) else { continue };
            let hit = match kind {
                // As one text: a value may stand over several words, and a word alone says too little.
                Kind::Tokens => first_hit_in_words(column.as_ref(), scrubber),
                Kind::Labels | Kind::Tags => first_hit(column.as_ref(), &of_class),
                Kind::Extra { of: ColumnType::Json, .. } => first_hit(column.as_ref(), &|text| of_json(text, scrubber)),
                _ => first_hit(column.as_ref(), &|text| scrubber.residual(text)),
            };
            if let Some((row, hits)) = hit {
                return Err(Error::stage(format!(
                    "row {} of {} still holds {hits} values in `{name}` that its scrub policy replaces",
                    rows + row as u64 + 1,
                    path.display()
                ))
                .hint("nothing was committed; this is a fault of the detectors: please report the kind of text it was, or drop the column"));
            }
        }
        rows += batch.num_rows() as u64;
    }
    Ok(())
}

/// Each string, key and number by itself, as they were scrubbed: what stands between them is no text.
fn of_json(text: &str, scrubber: &Scrubber) -> usize {
    fn of(value: &Value, scrubber: &Scrubber) -> usize {
        match value {
            Value::Null | Value::Bool(_) => 0,
            Value::String(text) => scrubber.residual(text),
            Value::Number(number) => scrubber.residual(&number.to_string()),
            Value::Array(items) => items.iter().map(|item| of(item, scrubber)).sum(),
            Value::Object(map) => map.iter().map(|(key, item)| scrubber.residual(key) + of(item, scrubber)).sum(),
        }
    }
    serde_json::from_str(text).map_or_else(|_| scrubber.residual(text), |value| of(&value, scrubber))
}

fn first_hit_in_words(array: &dyn Array, scrubber: &Scrubber) -> Option<(usize, usize)> {
    let lists = array.as_list::<i32>();
    (0..lists.len()).find_map(|row| {
        let words = lists.value(row);
        let words: Vec<&str> = words.as_string::<i32>().iter().flatten().collect();
        let hits = scrubber.residual(&joined(&words));
        (hits > 0).then_some((row, hits))
    })
}

/// The first row with values that should not be there, and how many.
fn first_hit(array: &dyn Array, residual: &dyn Fn(&str) -> usize) -> Option<(usize, usize)> {
    match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            (0..texts.len()).find_map(|row| {
                let hits = if texts.is_valid(row) { residual(texts.value(row)) } else { 0 };
                (hits > 0).then_some((row, hits))
            })
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (item, hits) = first_hit(list.values().as_ref(), residual)?;
            let row = list.value_offsets().partition_point(|offset| *offset as usize <= item);
            Some((row.saturating_sub(1), hits))
        }
        DataType::Struct(_) => array.as_struct().columns().iter().find_map(|column| first_hit(column.as_ref(), residual)),
        _ => None,
    }
}
