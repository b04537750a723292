//! A table: Parquet files that stay in their order.

use std::path::PathBuf;

use polars::prelude::{DataType, HiveOptions, LazyFrame, PlRefPath, PolarsResult, ScanArgsParquet, ScanSources, UnionArgs, concat, lit};

/// The column that says from which part of a table a row comes.
const SPLIT: &str = "split";

/// Rows in files, in one part or in several that have names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Name and files of each part. A part without a name is all there is.
    pub parts: Vec<(Option<String>, Vec<PathBuf>)>,
}

impl Table {
    /// The rows of some files.
    pub fn of_files(files: Vec<PathBuf>) -> Table {
        Table { parts: vec![(None, files)] }
    }

    /// Rows part by part; a column `split` names the part, unless the rows have one of that name.
    pub(crate) fn scan(&self) -> PolarsResult<LazyFrame> {
        let frames = self.parts.iter().map(|(name, files)| {
            let mut frame = scan_files(files)?;
            match name {
                Some(name) if !frame.collect_schema()?.contains(SPLIT) => {
                    Ok(frame.with_column(lit(name.as_str()).cast(DataType::String).alias(SPLIT)))
                }
                _ => Ok(frame),
            }
        });
        let mut frames = frames.collect::<PolarsResult<Vec<_>>>()?;
        if frames.len() == 1 {
            return Ok(frames.remove(0));
        }
        concat(frames, UnionArgs { maintain_order: true, ..UnionArgs::default() })
    }
}

fn scan_files(files: &[PathBuf]) -> PolarsResult<LazyFrame> {
    let paths = files.iter().map(|file| PlRefPath::try_from_path(file)).collect::<PolarsResult<Vec<_>>>()?;
    // A folder called `a=b` or `[c]` is a name, and there are no statistics.
    let args = ScanArgsParquet { glob: false, hive_options: HiveOptions::new_disabled(), use_statistics: false, ..ScanArgsParquet::default() };
    LazyFrame::scan_parquet_sources(ScanSources::Paths(paths.into_iter().collect()), args)
}
