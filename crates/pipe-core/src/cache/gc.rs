//! What may be swept away: everything that no pipeline's state, no recent run, no pin and no living process needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Cache, Lock, LockError, Manifest, read_latest};
use crate::error::{IoContext, Result};
use crate::failpoint;
use crate::key::Key;

/// One artifact and who wants it kept.
#[derive(Debug)]
pub struct ArtifactEntry {
    pub content: String,
    /// Absent where it cannot be read.
    pub manifest: Option<Manifest>,
    /// In bytes, as the manifest has it.
    pub size: u64,
    pub last_used: Option<SystemTime>,
    /// `pin: …`, `state of classify`: empty for what only caches.
    pub kept_by: Vec<String>,
}

/// What the record of a key is called among waste.
const KEY_RECORD: &str = "record of a key";

/// What to sweep.
#[derive(Debug, Clone)]
pub struct GcPolicy {
    /// What was used within this time stays.
    pub older_than: Duration,
    /// Artifacts are swept, the least recently used first, until all take no more than this. Goes before `older_than` and
    /// the outputs of past runs, never before a pipeline's state, a pin or a lease.
    pub max_size: Option<u64>,
    /// Records of keys and runs go after this time.
    pub records_older_than: Duration,
}

/// One thing to remove.
#[derive(Debug, Clone, PartialEq)]
pub struct Waste {
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// What it is, for people.
    pub what: String,
    /// Removed only while nobody holds this lock.
    lock: Option<PathBuf>,
    /// Of an artifact, with its last use as it was listed: wanted by nobody then, and looked at again before it goes.
    artifact: Option<(String, Option<SystemTime>)>,
}

impl Cache {
    /// All artifacts, the least recently used first.
    pub fn artifacts(&self) -> Result<Vec<ArtifactEntry>> {
        let mut keepers = self.keepers();
        let mut entries = Vec::new();
        for content in names(&self.dir.join("artifacts"))? {
            let path = self.artifact_path(&content);
            let manifest = Manifest::read(&path).filter(|manifest| manifest.content == content);
            let last_used = modified(&self.lease_path(&content)).or_else(|| modified(&path));
            let size = manifest.as_ref().map_or_else(|| size_below(&path), Manifest::size);
            let kept_by = keepers.remove(&content).unwrap_or_default();
            entries.push(ArtifactEntry { content, manifest, size, last_used, kept_by });
        }
        entries.sort_by(|a, b| (a.last_used, &a.content).cmp(&(b.last_used, &b.content)));
        Ok(entries)
    }

    /// Keeps an artifact from being swept away, until [`unpin`](Cache::unpin).
    pub fn pin(&self, content: &str, reason: &str) -> Result<()> {
        let path = self.pin_path(content);
        super::write_atomically(&path, reason.as_bytes()).doing("write", &path)
    }

    /// True if it was pinned.
    pub fn unpin(&self, content: &str) -> Result<bool> {
        let path = self.pin_path(content);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            result => result.doing("remove", &path).map(|()| true),
        }
    }

    /// Content ids of all that is pinned.
    pub fn pins(&self) -> Vec<String> {
        names(&self.dir.join("pins")).unwrap_or_default()
    }

    fn pin_path(&self, content: &str) -> PathBuf {
        self.dir.join("pins").join(content)
    }

    /// Content id → who wants it kept.
    fn keepers(&self) -> BTreeMap<String, Vec<String>> {
        let mut keepers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in names(&self.dir.join("pins")).unwrap_or_default() {
            let reason = std::fs::read_to_string(self.pin_path(&name)).unwrap_or_default();
            keepers.entry(name).or_default().push(format!("pin: {reason}"));
        }
        for file in names(&self.dir.join("latest")).unwrap_or_default().iter().filter(|name| name.ends_with(".json")) {
            let Some(latest) = read_latest(&self.dir.join("latest").join(file)) else { continue };
            let pipeline = file.trim_end_matches(".json");
            let keys: BTreeSet<&Key> = latest.stages.values().chain(latest.good.values()).collect();
            for record in keys.into_iter().filter_map(|key| self.key_record(key).ok().flatten()) {
                keepers.entry(record.artifact).or_default().push(format!("state of {pipeline}"));
            }
        }
        for kept in keepers.values_mut() {
            kept.sort();
            kept.dedup();
        }
        keepers
    }

    /// What `policy` would remove. `recent` are content ids of the outputs of runs that are to be kept.
    pub fn waste(&self, policy: &GcPolicy, recent: &BTreeSet<String>, old_runs: &BTreeSet<String>) -> Result<Vec<Waste>> {
        let now = SystemTime::now();
        let old = |time: Option<SystemTime>, limit: Duration| time.is_none_or(|time| now.duration_since(time).unwrap_or_default() >= limit);
        let mut waste = Vec::new();
        let mut kept: u64 = 0;
        let mut spare = Vec::new();
        for entry in self.artifacts()? {
            let path = self.artifact_path(&entry.content);
            let lock = Some(self.lease_path(&entry.content));
            let kind = entry.manifest.as_ref().map_or("damaged", |manifest| manifest.kind.name());
            let artifact = Some((entry.content.clone(), entry.last_used));
            let item = Waste { path, size: entry.size, what: format!("artifact of {kind}"), lock, artifact };
            if !entry.kept_by.is_empty() {
                kept += entry.size;
            } else if recent.contains(&entry.content) || !old(entry.last_used, policy.older_than) {
                kept += entry.size;
                spare.push(item);
            } else {
                waste.push(item);
            }
        }
        // The least recently used come first.
        for item in spare {
            if policy.max_size.is_some_and(|limit| kept > limit) {
                kept -= item.size;
                waste.push(item);
            }
        }
        for name in names(&self.dir.join("work"))? {
            let path = self.dir.join("work").join(&name);
            if old(newest_below(&path), policy.older_than) {
                let lock = match name.strip_prefix("replay-") {
                    Some(_) => self.dir.join("locks").join(format!("{name}.lock")),
                    None => self.dir.join("locks").join(format!("key-{name}.lock")),
                };
                waste.push(Waste { size: size_below(&path), path, what: "unfinished work".into(), lock: Some(lock), artifact: None });
            }
        }
        for name in names(&self.dir.join("trash"))? {
            let path = self.dir.join("trash").join(&name);
            waste.push(Waste { size: size_below(&path), path, what: "damaged".into(), lock: None, artifact: None });
        }
        self.add_shards(&mut waste, |time| old(time, policy.older_than));
        self.add_files(&mut waste, "remote", "fetched file", Some(self.files_path()), |time| old(time, policy.older_than))?;
        for run in old_runs {
            let path = self.run_dir(run);
            if old(newest_below(&path), policy.records_older_than) {
                waste.push(Waste { size: size_below(&path), path, what: "record of a run".into(), lock: None, artifact: None });
            }
        }
        let wanted = self.state_keys();
        self.add_files(&mut waste, "keys", KEY_RECORD, None, |time| old(time, policy.records_older_than))?;
        waste.retain(|item| item.what != KEY_RECORD || !self.is_wanted_key(&item.path, &wanted));
        Ok(waste)
    }

    /// Whether the record of a key at `path` is of a pipeline's state, or says what a pinned artifact is.
    fn is_wanted_key(&self, path: &Path, state: &BTreeSet<String>) -> bool {
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { return false };
        let artifact = || {
            let record: super::KeyRecord = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
            Some(record.artifact)
        };
        state.contains(name) || artifact().is_some_and(|artifact| self.pin_path(&artifact).exists())
    }

    fn state_keys(&self) -> BTreeSet<String> {
        let files = names(&self.dir.join("latest")).unwrap_or_default();
        let latest = files.iter().filter_map(|file| read_latest(&self.dir.join("latest").join(file)));
        latest.flat_map(|latest| latest.stages.into_values().chain(latest.good.into_values())).map(|key| key.to_string()).collect()
    }

    /// The record of a shard says when it was last of use; its data may be linked to an artifact, so their time says nothing.
    fn add_shards(&self, waste: &mut Vec<Waste>, is_old: impl Fn(Option<SystemTime>) -> bool) {
        for path in walk(&self.dir.join("shards")) {
            let record = path.with_extension("json");
            let used = if record.exists() { modified(&record) } else { modified(&path) };
            if is_old(used) {
                let size = std::fs::metadata(&path).map_or(0, |stat| stat.len());
                waste.push(Waste { size, path, what: "shard".into(), lock: Some(self.files_path()), artifact: None });
            }
        }
    }

    fn add_files(
        &self,
        waste: &mut Vec<Waste>,
        folder: &str,
        what: &str,
        lock: Option<PathBuf>,
        is_old: impl Fn(Option<SystemTime>) -> bool,
    ) -> Result<()> {
        for path in walk(&self.dir.join(folder)) {
            let Ok(stat) = std::fs::metadata(&path) else { continue };
            if is_old(stat.modified().ok()) {
                waste.push(Waste { size: stat.len(), path, what: what.to_owned(), lock: lock.clone(), artifact: None });
            }
        }
        Ok(())
    }

    /// Removes one thing; false where somebody uses it now.
    pub fn sweep(&self, waste: &Waste) -> Result<bool> {
        let path = &waste.path;
        if !path.exists() {
            return Ok(false);
        }
        let listed_lock = waste.lock.as_ref().is_some_and(|lock| lock.exists());
        let lock = match &waste.lock {
            None => None,
            Some(lock) => match Lock::unsigned(lock) {
                Ok(held) => Some((held, lock)),
                Err(LockError::Held(_)) => return Ok(false),
                Err(LockError::Failed(error)) => return Err(error),
            },
        };
        if let Some((content, last_used)) = &waste.artifact {
            // Somebody may have come to want it since it was listed.
            let used = modified(&self.lease_path(content)).or_else(|| modified(path));
            if self.keepers().contains_key(content) || (listed_lock && used > *last_used) {
                return Ok(false);
            }
        }
        if waste.what == KEY_RECORD && self.is_wanted_key(path, &self.state_keys()) {
            return Ok(false);
        }
        let gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        if path.is_dir() {
            // Gone at once for everybody else, however long it takes to remove.
            let trash = self.dir.join("trash").join(format!("gc-{}", ulid::Ulid::generate()));
            match std::fs::rename(path, &trash) {
                // Another sweep was here.
                Err(error) if gone(&error) => return Ok(false),
                moved => moved.doing("move away", path)?,
            }
            failpoint("gc.moved");
            match std::fs::remove_dir_all(&trash) {
                Err(error) if !gone(&error) => return Err(crate::Error::io("remove", &trash, error)),
                _ => {}
            }
        } else {
            match std::fs::remove_file(path) {
                Err(error) if !gone(&error) => return Err(crate::Error::io("remove", path, error)),
                _ => {}
            }
            // Folders that are left empty go too; one that is not empty stays.
            let _ = path.parent().map(std::fs::remove_dir);
        }
        if let Some((_held, lock)) = lock.filter(|(_, path)| **path != self.files_path()) {
            // While it is held: whoever waits for it sees that its file is gone, and makes another.
            let _ = std::fs::remove_file(lock);
        }
        Ok(true)
    }

    /// Removes lock files of keys that nobody works on, and of artifacts that are gone. Failing to is no failure.
    pub fn sweep_locks(&self) {
        for name in names(&self.dir.join("locks")).unwrap_or_default() {
            let base = name.trim_end_matches(".lock");
            let idle = match (base.strip_prefix("artifact-"), base.strip_prefix("key-")) {
                (Some(content), _) => !self.artifact_path(content).exists(),
                (_, Some(key)) => !self.dir.join("work").join(key).exists(),
                _ => base.starts_with("replay-") && !self.dir.join("work").join(base).exists(),
            };
            let path = self.dir.join("locks").join(&name);
            // While it is held: whoever opened it meanwhile sees that it is gone, and makes another.
            if idle && let Ok(_held) = Lock::unsigned(&path) {
                let _ = std::fs::remove_file(&path);
            }
        }
    }

    /// Moves a damaged artifact out of the way, so that its stage runs again. False where somebody reads it now, or where
    /// it is gone or whole again.
    pub fn quarantine(&self, content: &str) -> Result<bool> {
        let path = self.artifact_path(content);
        let _lock = match Lock::unsigned(&self.lease_path(content)) {
            Ok(lock) => lock,
            Err(LockError::Held(_)) => return Ok(false),
            Err(LockError::Failed(error)) => return Err(error),
        };
        let manifest = Manifest::read(&path).filter(|manifest| manifest.content == content);
        if let Some(manifest) = manifest
            && manifest.damaged(&path)?.is_empty()
        {
            return Ok(false);
        }
        let trash = self.dir.join("trash").join(format!("{content}-{}", ulid::Ulid::generate()));
        std::fs::create_dir_all(self.dir.join("trash")).doing("make the folder", &trash)?;
        match std::fs::rename(&path, &trash) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            result => result.doing("move away the damaged", &path).map(|()| true),
        }
    }
}

/// Names in a folder, sorted; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing("list", folder)?,
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| !name.starts_with('.')).collect();
    names.sort();
    Ok(names)
}

/// All files below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(_) => found.push(entry.path()),
                Err(_) => {}
            }
        }
    }
    found.sort();
    found
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

fn newest_below(path: &Path) -> Option<SystemTime> {
    walk(path).iter().filter_map(|file| modified(file)).max().or_else(|| modified(path))
}

fn size_below(path: &Path) -> u64 {
    walk(path).iter().filter_map(|file| std::fs::metadata(file).ok()).map(|stat| stat.len()).sum()
}
