//! The parts of an ingest artifact: the pieces that tokenize and predict work on, known by their content.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pipe_core::cache::Artifact;
use pipe_core::{Error, Result, digest};

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
