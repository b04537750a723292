//! `publish:` copies a finished output to where people look for it, and swaps it in whole.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pipe_core::cache::{Artifact, Cache, Manifest, files_below, write_atomically};
use pipe_core::{Error, IoContext, Result, digest};
use rustix::fs::{CWD, RenameFlags};

/// In every published folder, so that a later run knows it for pipe's own.
const MANIFEST: &str = "manifest.json";

/// Makes `target` hold what `artifact` holds, unless it does already. True if something was copied.
pub(crate) fn publish(cache: &Cache, root: &Path, target: &Path, artifact: &Artifact) -> Result<bool> {
    let target = root.join(target);
    let marker = cache.dir().join("published").join(format!("{}.txt", digest::of_bytes(target.as_os_str().as_encoded_bytes())));
    let unchanged = std::fs::read_to_string(&marker).is_ok_and(|content| content == artifact.manifest.content);
    if unchanged && artifact.manifest.files.iter().all(|file| std::fs::metadata(target.join(&file.path)).is_ok_and(|stat| stat.len() == file.size)) {
        return Ok(false);
    }
    let (folder, name) = match (target.parent(), target.file_name()) {
        (Some(folder), Some(name)) => (folder, name.to_string_lossy().into_owned()),
        _ => return Err(Error::usage(format!("`publish: {}` names no folder", target.display()))),
    };
    refuse_foreign(&target)?;
    std::fs::create_dir_all(folder).doing("make the folder", folder)?;
    let fresh = folder.join(format!(".{name}.new"));
    let _ = std::fs::remove_dir_all(&fresh);
    let mut files: Vec<PathBuf> = artifact.manifest.files.iter().map(|file| PathBuf::from(&file.path)).collect();
    files.push(MANIFEST.into());
    for file in &files {
        let (from, to) = (artifact.path.join(file), fresh.join(file));
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).doing("make the folder", parent)?;
        }
        std::fs::copy(&from, &to).doing("publish", &to)?;
    }
    swap(&fresh, &target)?;
    write_atomically(&marker, artifact.manifest.content.as_bytes()).doing("write", &marker)?;
    Ok(true)
}

/// What is published replaces what was: only a folder that pipe itself filled may be replaced.
fn refuse_foreign(target: &Path) -> Result<()> {
    let own = || -> Option<BTreeSet<PathBuf>> {
        let manifest: Manifest = serde_json::from_slice(&std::fs::read(target.join(MANIFEST)).ok()?).ok()?;
        Some(manifest.files.iter().map(|file| PathBuf::from(&file.path)).chain([PathBuf::from(MANIFEST)]).collect())
    };
    let is_empty = || std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    let refused = |what: String| {
        let error = Error::stage(format!("will not publish over {}: {what}", target.display()));
        Err(error.hint("publishing replaces the whole folder: give one that only pipe writes to, or move what is in it away"))
    };
    if !target.exists() || is_empty() {
        return Ok(());
    }
    let Some(own) = own() else { return refused("pipe did not make it".into()) };
    let found = files_below(target)?;
    match found.iter().find(|file| !own.contains(*file)) {
        Some(foreign) => refused(format!("it holds {}, which pipe did not put there", foreign.display())),
        None => Ok(()),
    }
}

/// Puts `fresh` in the place of `target` in one step, so that a reader sees the old folder or the new one.
fn swap(fresh: &Path, target: &Path) -> Result<()> {
    if target.exists() {
        rustix::fs::renameat_with(CWD, fresh, CWD, target, RenameFlags::EXCHANGE).map_err(std::io::Error::from).doing("publish", target)?;
        // What was published before now has the other name.
        return std::fs::remove_dir_all(fresh).doing("remove", fresh);
    }
    std::fs::rename(fresh, target).doing("publish", target)
}
