//! An artifact as tables.

use std::path::PathBuf;

use pipe_core::cache::Artifact;
use pipe_sql::Table;

/// Ingest's table of what it refused.
pub(super) const REJECTS: &str = "rejects";

/// The rows of an artifact: all its splits, or those of `splits`; or its one file of rows. Absent: it has no rows.
pub(super) fn rows(artifact: &Artifact, splits: Option<&[String]>) -> Option<Table> {
    let names = artifact.manifest.splits.keys().filter(|name| splits.is_none_or(|splits| splits.contains(name)));
    let mut parts: Vec<(Option<String>, Vec<PathBuf>)> = names.map(|name| (Some(name.clone()), files_of(artifact, name))).collect();
    parts.retain(|(_, files)| !files.is_empty());
    match parts.as_mut_slice() {
        [] => match whole_files(artifact).into_iter().filter(|(name, _)| name != REJECTS).collect::<Vec<_>>().as_slice() {
            [(_, file)] => Some(Table::of_files(vec![file.clone()])),
            _ => None,
        },
        // Rows that were never split.
        [(name, _)] if name.as_deref() == Some("all") => {
            *name = None;
            Some(Table { parts })
        }
        _ => Some(Table { parts }),
    }
}

/// One split of an artifact, or one of its other tables.
pub(super) fn part(artifact: &Artifact, name: &str) -> Option<Table> {
    if artifact.manifest.splits.contains_key(name) {
        return Some(Table::of_files(files_of(artifact, name))).filter(|table| table.parts.iter().any(|(_, files)| !files.is_empty()));
    }
    whole_files(artifact).into_iter().find(|(table, _)| table == name).map(|(_, file)| Table::of_files(vec![file]))
}

/// What [`part`] knows.
pub(super) fn parts(artifact: &Artifact) -> Vec<String> {
    let splits = artifact.manifest.splits.keys().cloned();
    splits.chain(whole_files(artifact).into_iter().map(|(name, _)| name)).collect()
}

/// The Parquet files of a split, in the order of the rows.
fn files_of(artifact: &Artifact, split: &str) -> Vec<PathBuf> {
    // A manifest is sorted by path.
    let files = artifact.manifest.files.iter().map(|file| file.path.as_str());
    let of_split = files.filter(|path| path.split_once('/').is_some_and(|(folder, name)| folder == split && name.ends_with(".parquet")));
    of_split.map(|path| artifact.path.join(path)).collect()
}

/// Tables of one file: name and path.
fn whole_files(artifact: &Artifact) -> Vec<(String, PathBuf)> {
    let files = artifact.manifest.files.iter().filter_map(|file| Some((file.path.strip_suffix(".parquet")?, &file.path)));
    files.filter(|(name, _)| !name.contains('/')).map(|(name, path)| (name.to_owned(), artifact.path.join(path))).collect()
}
