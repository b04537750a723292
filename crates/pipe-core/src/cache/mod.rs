//! Finished stage outputs on disk, found by key, named by content. Below `.pipe/`:
//!
//! ```text
//! CACHEDIR.TAG
//! artifacts/<content id>/…           finished outputs + manifest.json
//! keys/<aa>/<key>.json               key → content id, with the key's components
//! work/<key>/out, …/scratch          unfinished work of one key
//! shards/<aa>/<key>.shard, ….json    finished pieces of data stages, across keys and runs
//! runs/<ulid>/run.json               what a run did
//! latest/<pipeline>.json             stage → key of its last success, for "why not fresh"; the last good run
//! locks/pipeline-….lock              one run of a pipeline
//! locks/key-….lock                   whoever makes the output of a key
//! locks/artifact-….lock              shared by all who read an artifact; its time is that of the last use
//! locks/files.lock                   shared by all runs, which may read shards and fetched files
//! remote/…                           what URLs named, as it was fetched
//! pins/<content id>                  artifacts to keep, with the reason
//! digests.json                       digests of source files, by what the file system says of them
//! trash/…                            damaged artifacts
//! ```
//!
//! The rename of `keys/<aa>/<key>.json` into place is the commit point: before it nothing is served, after it
//! everything it names is on disk.

mod gc;
mod lock;
mod manifest;
mod pending;
mod shards;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, IoContext, Result};
use crate::key::{Components, Key};

pub use gc::{ArtifactEntry, GcPolicy, Waste};
pub use lock::{Lock, LockError};
pub use manifest::{FileEntry, Manifest, SHARED_PART, files_below};
pub use pending::PendingArtifact;
pub use shards::{ShardKey, ShardStore, Shards, SharedShards};

/// On-disk version of key records.
const KEY_RECORD_VERSION: u32 = 1;
/// On-disk version of the files below `latest/`.
const LATEST_VERSION: u32 = 2;

#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
    /// Whether what is found is kept from being swept away while it is in use. Not for commands that only look: they
    /// take no lock at all.
    leases: bool,
}

/// A finished output: where it is and what it holds.
#[derive(Debug, Clone)]
pub struct Artifact {
    pub path: PathBuf,
    pub manifest: Manifest,
    /// Held for as long as anybody here may read it.
    _lease: Option<Arc<Lock>>,
}

/// `keys/<aa>/<key>.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyRecord {
    version: u32,
    pub key: Key,
    /// Content id.
    pub artifact: String,
    pub components: Components,
    /// What `components.sources` were called, for people: no part of the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceNote>,
}

/// One source file as it was when its rows were read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceNote {
    /// Relative to the pipeline's root, or a URL.
    pub name: String,
    pub digest: String,
    /// In bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

/// `latest/<pipeline>.json`: the state of a pipeline's stages after its runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latest {
    version: u32,
    /// Stage → key of its last success.
    pub stages: BTreeMap<String, Key>,
    /// Stage → most memory that its last making took, in bytes, where that is known.
    #[serde(default)]
    pub memory: BTreeMap<String, u64>,
    /// Stage → key in the last run that ended well.
    pub good: BTreeMap<String, Key>,
    /// That run.
    pub good_run: Option<String>,
}

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
        Ok(Cache { dir: dir.to_owned(), leases: true })
    }

    /// A cache for reading only: makes nothing, locks nothing, finds nothing where there is nothing.
    pub fn at(dir: &Path) -> Cache {
        Cache { dir: dir.to_owned(), leases: false }
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
        match self.key_record(key)? {
            Some(record) => {
                let found = self.artifact(&record.artifact)?;
                if found.is_some() && self.leases {
                    PendingArtifact::clear_finished(self, key);
                }
                Ok(found)
            }
            None => Ok(None),
        }
    }

    /// The artifact with this content id, if it is there, whole at its recorded sizes.
    pub fn artifact(&self, content: &str) -> Result<Option<Artifact>> {
        let path = self.artifact_path(content);
        // Before looking: what is leased stays.
        let lease = if self.leases && path.exists() { Some(self.lease(content)?) } else { None };
        let Some(manifest) = Manifest::read(&path) else { return Ok(None) };
        if manifest.content != content || !manifest.sizes_match(&path) {
            return Ok(None);
        }
        Ok(Some(Artifact { path, manifest, _lease: lease }))
    }

    pub fn artifact_path(&self, content: &str) -> PathBuf {
        self.dir.join("artifacts").join(content)
    }

    fn files_path(&self) -> PathBuf {
        self.dir.join("locks").join("files.lock")
    }

    /// While it is held, neither shards nor fetched files are swept away.
    pub fn use_files(&self) -> Result<Lock> {
        Lock::shared(&self.files_path())
    }

    fn lease_path(&self, content: &str) -> PathBuf {
        self.dir.join("locks").join(format!("artifact-{content}.lock"))
    }

    fn lease(&self, content: &str) -> Result<Arc<Lock>> {
        let lease = Lock::shared(&self.lease_path(content))?;
        lease.touch();
        Ok(Arc::new(lease))
    }

    /// The record of a key that was committed once. One that cannot be read counts as none: the stage reruns and
    /// replaces it.
    pub fn key_record(&self, key: &Key) -> Result<Option<KeyRecord>> {
        let path = self.key_path(key);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        Ok(serde_json::from_slice::<KeyRecord>(&bytes).ok().filter(|record| record.version == KEY_RECORD_VERSION && record.key == *key))
    }

    /// Starts (or goes on with) the work of `key`, holding its lock. `holder` says who, for people who wait.
    pub fn begin(&self, key: &Key, holder: &str) -> Result<PendingArtifact, LockError> {
        PendingArtifact::begin(self, key, holder)
    }

    /// The lock that one run of a pipeline holds.
    pub fn lock_pipeline(&self, name: &str, holder: &str) -> Result<Lock, LockError> {
        Lock::exclusive(&self.dir.join("locks").join(format!("pipeline-{}.lock", file_name(name))), holder)
    }

    pub fn runs_dir(&self) -> PathBuf {
        self.dir.join("runs")
    }

    pub fn run_dir(&self, run: &str) -> PathBuf {
        self.runs_dir().join(run)
    }

    fn latest_path(&self, pipeline: &str) -> PathBuf {
        self.dir.join("latest").join(format!("{}.json", file_name(pipeline)))
    }

    /// Empty where the pipeline never ran, or where another version of pipe wrote it.
    pub fn latest(&self, pipeline: &str) -> Latest {
        read_latest(&self.latest_path(pipeline)).unwrap_or_else(|| Latest { version: LATEST_VERSION, ..Latest::default() })
    }

    pub fn set_latest(&self, pipeline: &str, latest: &Latest) -> Result<()> {
        let path = self.latest_path(pipeline);
        write_atomically(&path, &serde_json::to_vec_pretty(latest).expect("plain data")).doing("write", &path)
    }
}

fn read_latest(path: &Path) -> Option<Latest> {
    let latest: Latest = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (latest.version == LATEST_VERSION).then_some(latest)
}

impl Artifact {
    /// The artifact in a folder that another process holds for this one.
    pub fn borrowed(path: &Path) -> Result<Artifact> {
        let manifest = Manifest::read(path).ok_or_else(|| Error::internal(format!("{} is no artifact", path.display())))?;
        Ok(Artifact { path: path.to_owned(), manifest, _lease: None })
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.manifest.size()
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
