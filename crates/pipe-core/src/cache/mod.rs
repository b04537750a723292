//! Finished stage outputs on disk, found by key, named by content. Below `.pipe/`:
//!
//! ```text
//! CACHEDIR.TAG
//! artifacts/<content id>/…           finished outputs + manifest.json
//! keys/<aa>/<key>.json               key → content id, with the key's components
//! work/<key>/out, …/scratch          unfinished work of one key
//! shards/<aa>/<key>.parquet, ….json  finished pieces of data stages, across keys and runs
//! runs/<ulid>/run.json               what a run did
//! latest/<pipeline>.json             stage → key of its last success, for "why not fresh"
//! locks/…                            kernel file locks, released when their process dies
//! digests.json                       digests of source files, by what the file system says of them
//! trash/…                            damaged artifacts
//! ```
//!
//! The rename of `keys/<aa>/<key>.json` into place is the commit point: before it nothing is served, after it
//! everything it names is on disk.

mod lock;
mod manifest;
mod pending;
mod shards;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext, Result};
use crate::key::{Components, Key};

pub use lock::{Lock, LockError};
pub use manifest::{FileEntry, Manifest, SHARED_PART, files_below};
pub use pending::PendingArtifact;
pub use shards::{ShardKey, ShardStore, Shards};

/// On-disk version of key records.
const KEY_RECORD_VERSION: u32 = 1;

#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

/// A finished output: where it is and what it holds.
#[derive(Debug, Clone)]
pub struct Artifact {
    pub path: PathBuf,
    pub manifest: Manifest,
}

/// `keys/<aa>/<key>.json`
#[derive(Debug, Serialize, Deserialize)]
struct KeyRecord {
    version: u32,
    key: Key,
    artifact: String,
    components: Components,
}

/// Stage name → key of its last success, per pipeline.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Latest(pub BTreeMap<String, Key>);

impl Cache {
    /// Opens the cache at `dir`, making its folders where they are missing.
    pub fn open(dir: &Path) -> Result<Cache> {
        let made = !dir.exists();
        for name in ["artifacts", "keys", "work", "runs", "latest", "locks", "trash", "shards"] {
            let folder = dir.join(name);
            if made || !folder.is_dir() {
                std::fs::create_dir_all(&folder).doing("make the cache folder", &folder)?;
            }
        }
        let tag = dir.join("CACHEDIR.TAG");
        if !tag.exists() {
            // The signature that backup tools look for, from the Cache Directory Tagging specification.
            let text = b"Signature: 8a477f597d28d172789f06886806bc55\n# Made by pipe. Safe to delete: everything in here can be rebuilt.\n";
            std::fs::write(&tag, text).doing("write", &tag)?;
        }
        Ok(Cache { dir: dir.to_owned() })
    }

    /// A cache for reading only: makes nothing, finds nothing where there is nothing.
    pub fn at(dir: &Path) -> Cache {
        Cache { dir: dir.to_owned() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Finished pieces of data stages.
    pub fn shards(&self) -> ShardStore {
        ShardStore::new(self.dir.join("shards"))
    }

    fn key_path(&self, key: &Key) -> PathBuf {
        self.dir.join("keys").join(&key.as_str()[..2]).join(format!("{key}.json"))
    }

    /// The artifact of `key` if it is there, whole at its recorded sizes.
    pub fn lookup(&self, key: &Key) -> Result<Option<Artifact>> {
        let Some(record) = self.key_record(key)? else { return Ok(None) };
        let path = self.dir.join("artifacts").join(&record.artifact);
        let Ok(bytes) = std::fs::read(path.join(manifest::FILE_NAME)) else { return Ok(None) };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return Ok(None) };
        if manifest.version != manifest::VERSION || manifest.content != record.artifact || !manifest.sizes_match(&path) {
            return Ok(None);
        }
        Ok(Some(Artifact { path, manifest }))
    }

    /// The components of a key that was committed once.
    pub fn components(&self, key: &Key) -> Result<Option<Components>> {
        Ok(self.key_record(key)?.map(|record| record.components))
    }

    fn key_record(&self, key: &Key) -> Result<Option<KeyRecord>> {
        let path = self.key_path(key);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        // A record that cannot be read counts as none: the stage reruns and replaces it.
        Ok(serde_json::from_slice::<KeyRecord>(&bytes).ok().filter(|record| record.version == KEY_RECORD_VERSION && record.key == *key))
    }

    /// Starts (or goes on with) the work of `key`, holding its lock.
    pub fn begin(&self, key: &Key) -> Result<PendingArtifact, LockError> {
        PendingArtifact::begin(self, key)
    }

    /// The lock that one run of a pipeline holds.
    pub fn lock_pipeline(&self, name: &str) -> Result<Lock, LockError> {
        Lock::acquire(&self.dir.join("locks").join(format!("pipeline-{}.lock", file_name(name))))
    }

    pub fn run_dir(&self, run: &str) -> PathBuf {
        self.dir.join("runs").join(run)
    }

    fn latest_path(&self, pipeline: &str) -> PathBuf {
        self.dir.join("latest").join(format!("{}.json", file_name(pipeline)))
    }

    pub fn latest(&self, pipeline: &str) -> Latest {
        std::fs::read(self.latest_path(pipeline)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    pub fn set_latest(&self, pipeline: &str, latest: &Latest) -> Result<()> {
        let path = self.latest_path(pipeline);
        write_atomically(&path, &serde_json::to_vec_pretty(latest).expect("plain data")).doing("write", &path)
    }
}

/// A pipeline's name as a file name: kept where it is plain, a digest where it is not.
fn file_name(name: &str) -> String {
    if !name.is_empty() && name.len() < 100 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        name.to_owned()
    } else {
        crate::digest::of_bytes(name.as_bytes())
    }
}

/// Writes a file so that readers see the old content or the new one, and a crash loses neither.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().expect("a file in a folder");
    std::fs::create_dir_all(folder)?;
    let temporary = folder.join(format!(".{}.{}", path.file_name().unwrap_or_default().to_string_lossy(), ulid::Ulid::generate()));
    let result = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        sync_dir(folder)
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

/// Makes the names in `dir` durable.
pub fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
