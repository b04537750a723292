//! File operations whose errors name the path, and that take what is already done for done.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};

pub(crate) fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|cause| Error::io("create", path, &cause))
}

pub(crate) fn write(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content).map_err(|cause| Error::io("write", path, &cause))
}

pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|cause| Error::io("read", path, &cause))
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|cause| Error::io("rename a finished file to", to, &cause))
}

/// The entries of a folder, sorted by name.
pub(crate) fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>> {
    let mut entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(|cause| Error::io("read", folder, &cause))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

/// Removes a folder with all that is in it, if it is there.
pub(crate) fn remove_dir(path: &Path) -> Result<()> {
    unless_missing(fs::remove_dir_all(path), path)
}

/// Removes a file, if it is there.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    unless_missing(fs::remove_file(path), path)
}

fn unless_missing(removed: io::Result<()>, path: &Path) -> Result<()> {
    match removed {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, &cause)),
        _ => Ok(()),
    }
}
