//! BLAKE3 digests of files, remembered by what the file system says of them.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::error::{Error, IoContext, Result};
use crate::progress::Progress;

/// Length of every digest that is shown or stored: 128 bits in hex.
pub const DIGEST_CHARS: usize = 32;

/// The digest of `bytes` in hex.
pub fn of_bytes(bytes: &[u8]) -> String {
    short(blake3::hash(bytes))
}

pub(crate) fn short(hash: blake3::Hash) -> String {
    hash.to_hex()[..DIGEST_CHARS].to_owned()
}

/// The digest of a file's content, read once from start to end.
pub fn of_file(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = std::fs::File::open(path).doing("open", path)?;
    hasher.update_reader(file).doing("read", path)?;
    Ok(short(hasher.finalize()))
}

/// The same for a file that may be large: `progress` is told, and may say to stop.
fn of_large_file(path: &Path, size: u64, progress: &dyn Progress) -> Result<String> {
    let mut file = std::fs::File::open(path).doing("open", path)?;
    let mut hasher = blake3::Hasher::new();
    let (mut buffer, mut done, mut next) = (vec![0; 1 << 20], 0u64, TOLD);
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(short(hasher.finalize())),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.doing("read", path)?,
        };
        hasher.update(&buffer[..read]);
        done += read as u64;
        if done >= next {
            next = done + TOLD;
            progress.check()?;
            progress.advance(done, size, "bytes", "reading");
        }
    }
}

/// Files up to this size are read in one go, larger ones are told of each time so much of them is read.
const TOLD: u64 = 64 << 20;

/// Remembers digests by (device, inode, size, modification and change time), so that a run in which nothing
/// changed reads no input again.
#[derive(Debug)]
pub struct DigestCache {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, String>,
    changed: bool,
}

impl DigestCache {
    /// Reads `path`; a file that is missing or damaged only costs time.
    pub fn open(path: PathBuf) -> DigestCache {
        let entries = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        DigestCache { path, state: Mutex::new(State { entries, changed: false }) }
    }

    pub fn file(&self, path: &Path, progress: &dyn Progress) -> Result<String> {
        self.file_and_size(path, progress).map(|(digest, _)| digest)
    }

    /// The digest, and the size in bytes.
    pub fn file_and_size(&self, path: &Path, progress: &dyn Progress) -> Result<(String, u64)> {
        let stat = std::fs::metadata(path).doing("read", path)?;
        if !stat.is_file() {
            return Err(Error::input(format!("{} is not a file", path.display())));
        }
        let identity = format!(
            "{}:{}:{}:{}.{:09}:{}.{:09}",
            stat.dev(),
            stat.ino(),
            stat.size(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec()
        );
        if let Some(digest) = self.state.lock().expect("no panic while locked").entries.get(&identity) {
            return Ok((digest.clone(), stat.len()));
        }
        progress.check()?;
        let digest = if stat.len() <= TOLD { of_file(path)? } else { of_large_file(path, stat.len(), progress)? };
        let mut state = self.state.lock().expect("no panic while locked");
        // An inode's older states never come back.
        let inode = format!("{}:{}:", stat.dev(), stat.ino());
        let stale: Vec<String> =
            state.entries.range(inode.clone()..).map(|(key, _)| key).take_while(|key| key.starts_with(&inode)).cloned().collect();
        for key in stale {
            state.entries.remove(&key);
        }
        state.entries.insert(identity, digest.clone());
        state.changed = true;
        Ok((digest, stat.len()))
    }

    /// One digest for several files of a folder: over their names and contents.
    pub fn files(&self, folder: &Path, names: &[String], progress: &dyn Progress) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        for name in names {
            hasher.update(name.as_bytes()).update(b"\0").update(self.file(&folder.join(name), progress)?.as_bytes()).update(b"\n");
        }
        Ok(short(hasher.finalize()))
    }

    /// Writes what was learned, for the next process. Failing to is no failure: it only costs time then.
    pub fn save(&self) {
        let mut state = self.state.lock().expect("no panic while locked");
        if state.changed
            && let Ok(bytes) = serde_json::to_vec(&state.entries)
            && crate::cache::write_atomically(&self.path, &bytes).is_ok()
        {
            state.changed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn a_changed_file_has_a_changed_digest_and_the_rest_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        std::fs::write(&file, "one").unwrap();
        let cache = DigestCache::open(folder.path().join("digests.json"));
        let first = cache.file(&file, &Silent).unwrap();
        assert_eq!(first, of_bytes(b"one"));
        cache.save();
        std::fs::write(&file, "two!").unwrap();
        let again = DigestCache::open(folder.path().join("digests.json"));
        assert_eq!(again.file(&file, &Silent).unwrap(), of_bytes(b"two!"));
        assert_eq!(again.state.lock().unwrap().entries.len(), 1);
    }
}
