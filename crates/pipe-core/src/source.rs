//! Source files of an ingest stage: patterns to a sorted list of files, before anything is read.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::config::{SourceConfig, SourceFormat};
use crate::error::{Error, Result};
use crate::file::nearest;

/// One file to read.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFile {
    pub path: PathBuf,
    pub format: SourceFormat,
}

/// All files that `paths` name, in the order of the patterns and sorted within each; none twice.
pub fn resolve(root: &Path, config: &SourceConfig) -> Result<Vec<SourceFile>> {
    let mut files: Vec<SourceFile> = Vec::new();
    let mut seen: HashSet<PathBuf> = HashSet::new();
    for pattern in &config.paths {
        let found = expand(root, pattern)?;
        for path in found {
            if !seen.insert(path.clone()) {
                continue;
            }
            let format = config.format.or_else(|| SourceFormat::of_path(&path)).ok_or_else(|| {
                Error::input(format!("cannot tell the format of {} from its name", path.display()))
                    .hint("add `format: csv` (or tsv, jsonl, parquet) to the source")
            })?;
            files.push(SourceFile { path, format });
        }
    }
    Ok(files)
}

fn expand(root: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let full = root.join(pattern);
    if !pattern.contains(['*', '?', '[']) {
        return if full.is_file() { Ok(vec![full]) } else { Err(missing(&full, pattern)) };
    }
    let text = full.to_str().ok_or_else(|| Error::usage(format!("the path {pattern} is not UTF-8")))?;
    let paths = glob::glob(text).map_err(|e| Error::usage(format!("`{pattern}` is no valid pattern: {}", e.msg)))?;
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
        let config = |paths: &[&str]| SourceConfig { paths: paths.iter().map(|&p| p.to_owned()).collect(), ..SourceConfig::default() };
        let files = resolve(folder.path(), &config(&["*.csv", "a.csv", "c.jsonl"])).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.csv", "b.csv", "c.jsonl"]);
        assert_eq!(files[2].format, SourceFormat::Jsonl);
        let error = resolve(folder.path(), &config(&["aa.csv"])).unwrap_err();
        assert_eq!((error.class.exit_code(), error.hint.as_deref()), (12, Some("did you mean `a.csv`?")));
    }
}
