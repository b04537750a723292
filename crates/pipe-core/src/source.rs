//! Source files of an ingest stage: patterns to a sorted list of files, before anything is read.

use std::path::{Path, PathBuf};

use crate::config::{SourceConfig, SourceFormat};
use crate::error::{Error, Result};
use crate::file::nearest;

/// What stands for the standard input among the paths of a source.
pub const STANDARD_INPUT: &str = "-";
/// What rows written in the pipeline file are called, as a file.
pub const INLINE_ROWS: &str = "rows";

/// One file to read.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFile {
    pub path: PathBuf,
    pub format: SourceFormat,
    /// What people call it: its path from the pipeline's root, its URL, `-` or `rows`.
    pub name: String,
}

impl SourceFile {
    /// A file that is called by its path.
    pub fn new(path: PathBuf, format: SourceFormat) -> SourceFile {
        SourceFile { name: path.display().to_string(), path, format }
    }

    /// For messages: where a person finds it.
    pub fn shown(&self) -> PathBuf {
        match self.name.as_str() {
            STANDARD_INPUT => "the standard input".into(),
            INLINE_ROWS if self.path.starts_with("/proc/self") => "`source.rows`".into(),
            _ => self.path.clone(),
        }
    }
}

/// `path` with its format: as `config` has it, else by its name.
pub fn with_format(path: PathBuf, config: &SourceConfig) -> Result<SourceFile> {
    let format = config.format.or_else(|| SourceFormat::of_path(&path)).ok_or_else(|| {
        Error::input(format!("cannot tell the format of {} from its name", path.display()))
            .hint("add `format: csv` (or tsv, jsonl, json, parquet, arrow, lines, text) to the source")
    })?;
    Ok(SourceFile::new(path, format))
}

/// The files that a path or glob pattern names, sorted; at least one.
pub fn expand(root: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let full = root.join(pattern);
    // A file may be called like a pattern.
    if full.is_file() {
        return Ok(vec![full]);
    }
    if !pattern.contains(['*', '?', '[']) {
        return Err(missing(&full, pattern));
    }
    let root = root.to_str().ok_or_else(|| Error::usage(format!("the path {} is not UTF-8", root.display())))?;
    let text = if Path::new(pattern).is_absolute() { pattern.to_owned() } else { format!("{}/{pattern}", glob::Pattern::escape(root)) };
    let paths = glob::glob(&text).map_err(|e| Error::usage(format!("`{pattern}` is no valid pattern: {}", e.msg)))?;
    let mut found = Vec::new();
    for path in paths {
        let path = path.map_err(|e| Error::input(format!("cannot list {}: {}", e.path().display(), e.error())))?;
        if path.is_file() {
            found.push(path);
        }
    }
    if found.is_empty() { Err(missing(&full, pattern)) } else { Ok(found) }
}

fn missing(full: &Path, pattern: &str) -> Error {
    let error = Error::input(format!("no file matches `{pattern}`"));
    let Some((folder, name)) = full.parent().zip(full.file_name()) else { return error };
    if !folder.is_dir() {
        return error.hint(format!("there is no folder {}; in a fresh checkout `cargo xtask setup` fetches the example data", folder.display()));
    }
    let names: Vec<String> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    match nearest(&name.to_string_lossy(), names.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("paths are relative to the pipeline's root; this one is looked for in {}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_expand_sorted_and_a_missing_file_has_a_neighbour() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.csv", "a.csv", "c.jsonl"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let names: Vec<_> = expand(folder.path(), "*.csv").unwrap().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.csv", "b.csv"]);
        let file = with_format(folder.path().join("c.jsonl"), &SourceConfig::default()).unwrap();
        assert_eq!(file.format, SourceFormat::Jsonl);
        assert!(with_format(folder.path().join("c.doc"), &SourceConfig::default()).is_err());
        let error = expand(folder.path(), "aa.csv").unwrap_err();
        assert_eq!((error.class.exit_code(), error.hint.as_deref()), (12, Some("did you mean `a.csv`?")));
    }
}
