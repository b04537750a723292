//! What was written is read back and scanned once more: whatever went wrong between the detectors and the disk, nothing
//! personal gets into an artifact.

use std::path::Path;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_schema::DataType;
use pipe_core::config::ColumnScrub;
use pipe_core::{Error, Result};

use crate::parquet_io::TableReader;
use crate::scrub::Scrubber;

use super::columns::Columns;

/// Fails where a scanned column of the file holds what its policy replaces.
pub(super) fn check(path: &Path, columns: &Columns, scrubber: &Scrubber) -> Result<()> {
    let scanned: Vec<&str> = columns.written().filter(|column| column.scrub == ColumnScrub::Scan).map(|column| column.name.as_str()).collect();
    let mut rows = 0;
    for batch in TableReader::open(path)? {
        let batch = batch?;
        for name in &scanned {
            // A made id is digits of a digest and a number.
            let Some(column) = batch.column_by_name(name) else { continue };
            if let Some((row, hits)) = first_hit(column.as_ref(), scrubber) {
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

/// The first row with values that should not be there, and how many.
fn first_hit(array: &dyn Array, scrubber: &Scrubber) -> Option<(usize, usize)> {
    match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            (0..texts.len()).find_map(|row| {
                let hits = if texts.is_valid(row) { scrubber.residual(texts.value(row)) } else { 0 };
                (hits > 0).then_some((row, hits))
            })
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (item, hits) = first_hit(list.values().as_ref(), scrubber)?;
            let row = list.value_offsets().partition_point(|offset| *offset as usize <= item);
            Some((row.saturating_sub(1), hits))
        }
        DataType::Struct(_) => array.as_struct().columns().iter().find_map(|column| first_hit(column.as_ref(), scrubber)),
        _ => None,
    }
}
