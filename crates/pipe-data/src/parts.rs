//! The parts of an ingest artifact: the pieces that tokenize and predict work on, known by their content.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow_schema::DataType;
use pipe_core::cache::Artifact;
use pipe_core::{Error, Result, digest};

use crate::parquet_io::TableReader;

/// One file of rows.
pub(crate) struct Part {
    pub(crate) split: String,
    /// Its name in the split's folder.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// BLAKE3 of its content, from the manifest.
    pub(crate) digest: String,
}

impl Part {
    /// Reads it whole and compares: what is made of a damaged part must not be kept under the name of the good one.
    pub(crate) fn verify(&self) -> Result<()> {
        if digest::of_file(&self.path)? == self.digest {
            return Ok(());
        }
        Err(Error::stage(format!("{} is damaged", self.path.display())).hint("run again with --force for the stage that made it"))
    }
}

/// The parts of the given splits, in the order of the rows.
pub(crate) fn parts_of(artifact: &Artifact, splits: &BTreeMap<String, u64>) -> Vec<Part> {
    let part = |file: &pipe_core::cache::FileEntry| {
        let (split, name) = file.path.split_once('/').filter(|(split, name)| splits.contains_key(*split) && name.ends_with(".parquet"))?;
        Some(Part { split: split.to_owned(), name: name.to_owned(), path: artifact.path.join(&file.path), digest: file.blake3.clone() })
    };
    // A manifest is sorted by path.
    artifact.manifest.files.iter().filter_map(part).collect()
}

/// Refuses parts that do not have what rows have: a query may give any columns.
pub(crate) fn check_rows(parts: &[Part]) -> Result<()> {
    let Some(first) = parts.first() else { return Ok(()) };
    let schema = TableReader::open(&first.path)?.schema();
    for column in ["id", "text", "text_pair", "label"] {
        let found = schema.field_with_name(column).ok().map(arrow_schema::Field::data_type);
        match found {
            Some(DataType::Utf8) => {}
            None if matches!(column, "text_pair" | "label") => {}
            Some(_) => {
                return Err(Error::usage(format!("the column `{column}` of the rows that it reads is no text"))
                    .hint(format!("in the query that gives them: CAST({column} AS VARCHAR) AS {column}")));
            }
            None => {
                return Err(Error::usage(format!("the rows that it reads have no column `{column}`"))
                    .hint("a query whose rows are read as ingest's selects `id` and `text`, and `text_pair` and `label` where there are any"));
            }
        }
    }
    Ok(())
}
