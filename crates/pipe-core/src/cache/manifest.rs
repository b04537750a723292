//! `manifest.json`: what an artifact holds. A pure function of the artifact's files and its row counts; it has
//! no time, host or absolute path in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::StageKind;
use crate::digest;
use crate::error::{Error, IoContext, Result};

pub(super) const FILE_NAME: &str = "manifest.json";
pub(super) const VERSION: u32 = 1;

/// The part of an artifact that all its splits share.
pub const SHARED_PART: &str = "";

/// Readable records of how an artifact came about. They count towards the content id, but no stage reads them,
/// so a change in them alone reruns nothing.
const REPORTS: [&str; 3] = ["report.json", "report.md", "rejects.parquet"];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub kind: StageKind,
    /// BLAKE3 over the sorted (path, size, digest) of all files.
    pub content: String,
    /// Sorted by path.
    pub files: Vec<FileEntry>,
    /// Rows per split, empty for artifacts that are not rows.
    pub splits: BTreeMap<String, u64>,
    /// Content id per part: each split, and [`SHARED_PART`] for the other files that stages read.
    pub parts: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative, with `/`.
    pub path: String,
    pub size: u64,
    pub blake3: String,
}

impl Manifest {
    /// Hashes everything below `dir`. A top-level folder named as a split is that split's part.
    pub fn of_folder(dir: &Path, kind: StageKind, splits: BTreeMap<String, u64>) -> Result<Manifest> {
        let mut files = Vec::new();
        for path in files_below(dir)? {
            let full = dir.join(&path);
            let size = std::fs::metadata(&full).doing("read", &full)?.len();
            files.push(FileEntry { path: path.to_string_lossy().into_owned(), size, blake3: digest::of_file(&full)? });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let content = content_id(files.iter());
        let mut parts: BTreeMap<String, Vec<&FileEntry>> = splits.keys().map(|split| (split.clone(), Vec::new())).collect();
        parts.insert(SHARED_PART.to_owned(), Vec::new());
        for file in files.iter().filter(|file| !REPORTS.contains(&file.path.as_str())) {
            let first = file.path.split('/').next().unwrap_or_default();
            let part = if splits.contains_key(first) { first } else { SHARED_PART };
            parts.get_mut(part).expect("made above").push(file);
        }
        let parts = parts.into_iter().map(|(part, files)| (part, content_id(files.into_iter()))).collect();
        Ok(Manifest { version: VERSION, kind, content, files, splits, parts })
    }

    /// The manifest of the artifact in `dir`, if it can be read.
    pub fn read(dir: &Path) -> Option<Manifest> {
        let manifest: Manifest = serde_json::from_slice(&std::fs::read(dir.join(FILE_NAME)).ok()?).ok()?;
        (manifest.version == VERSION).then_some(manifest)
    }

    /// Whether all its files are in `dir` at their sizes.
    pub fn sizes_match(&self, dir: &Path) -> bool {
        self.files.iter().all(|file| std::fs::metadata(dir.join(&file.path)).is_ok_and(|stat| stat.len() == file.size))
    }

    /// Reads every byte again.
    pub(super) fn is_whole(&self, dir: &Path) -> bool {
        self.damaged(dir).is_ok_and(|damaged| damaged.is_empty())
    }

    /// Files that are gone or not what they were, after reading every byte again. One that cannot be read at all is an
    /// error: that says nothing of its content.
    pub fn damaged(&self, dir: &Path) -> Result<Vec<&str>> {
        let mut damaged = Vec::new();
        for file in &self.files {
            let path = dir.join(&file.path);
            match std::fs::metadata(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => damaged.push(file.path.as_str()),
                stat => {
                    if stat.doing("read", &path)?.len() != file.size || digest::of_file(&path)? != file.blake3 {
                        damaged.push(file.path.as_str());
                    }
                }
            }
        }
        Ok(damaged)
    }

    /// In bytes, without the manifest itself.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    pub fn rows(&self) -> u64 {
        self.splits.values().sum()
    }
}

fn content_id<'f>(files: impl Iterator<Item = &'f FileEntry>) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        hasher.update(format!("{}\0{}\0{}\n", file.path, file.size, file.blake3).as_bytes());
    }
    digest::short(hasher.finalize())
}

/// Relative paths of all files below `dir`, without the manifest itself.
pub fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        let full = dir.join(&folder);
        for entry in std::fs::read_dir(&full).doing("list", &full)? {
            let entry = entry.doing("list", &full)?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type().doing("read", &dir.join(&path))?;
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                if path != Path::new(FILE_NAME) {
                    found.push(path);
                }
            } else {
                return Err(Error::internal(format!("{} is neither a file nor a folder", dir.join(&path).display())));
            }
        }
    }
    Ok(found)
}
