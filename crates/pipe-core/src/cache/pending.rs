//! Unfinished work of one key, and how it becomes an artifact.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, IoContext, Result};
use crate::failpoint;
use crate::key::{Components, Key};

use super::manifest::{FILE_NAME, files_below};
use super::{Artifact, Cache, KEY_RECORD_VERSION, KeyRecord, Lock, LockError, Manifest, Shards, SourceNote, sync_dir, write_atomically};

/// A stage's output while it is written: `out/` becomes the artifact, `scratch/` survives a kill so that work
/// can go on (checkpoints), and is gone after the commit.
#[derive(Debug)]
pub struct PendingArtifact {
    cache: Cache,
    key: Key,
    work: PathBuf,
    lock: Lock,
    /// Nothing that an earlier attempt left may be used.
    anew: AtomicBool,
}

impl PendingArtifact {
    pub(super) fn begin(cache: &Cache, key: &Key, holder: &str) -> Result<PendingArtifact, LockError> {
        let lock = Lock::exclusive(&cache.dir.join("locks").join(format!("key-{key}.lock")), holder)?;
        PendingArtifact::prepare(cache, key, key.as_str(), lock).map_err(LockError::Failed)
    }

    /// A place to make the output of `key` once more, beside what is committed, for comparing the two.
    pub fn replay(cache: &Cache, key: &Key) -> Result<PendingArtifact> {
        let name = format!("replay-{key}");
        match Lock::exclusive(&cache.dir.join("locks").join(format!("{name}.lock")), "") {
            Ok(lock) => {
                let pending = PendingArtifact::prepare(cache, key, &name, lock)?;
                pending.clear_scratch()?;
                Ok(pending)
            }
            Err(LockError::Held(holder)) => Err(Error::stage(format!("{holder} replays this stage already"))),
            Err(LockError::Failed(error)) => Err(error),
        }
    }

    /// Removes what a kill right after the commit of `key` left behind, unless somebody works there.
    pub(super) fn clear_finished(cache: &Cache, key: &Key) {
        let work = cache.dir.join("work").join(key.as_str());
        if work.exists()
            && let Ok(_lock) = Lock::exclusive(&cache.dir.join("locks").join(format!("key-{key}.lock")), "")
        {
            let _ = std::fs::remove_dir_all(&work);
        }
    }

    /// Removes all of it.
    pub fn discard(self) {
        let _ = std::fs::remove_dir_all(&self.work);
    }

    fn prepare(cache: &Cache, key: &Key, name: &str, lock: Lock) -> Result<PendingArtifact> {
        let work = cache.dir.join("work").join(name);
        let out = work.join("out");
        // Half-written output of a killed run is never trusted; what may be trusted is in `scratch`.
        if out.exists() {
            std::fs::remove_dir_all(&out).doing("clear", &out)?;
        }
        for dir in [out, work.join("scratch")] {
            std::fs::create_dir_all(&dir).doing("make the folder", &dir)?;
        }
        Ok(PendingArtifact { cache: cache.clone(), key: key.clone(), work, lock, anew: AtomicBool::new(false) })
    }

    /// Where the stage writes its output.
    pub fn out(&self) -> PathBuf {
        self.work.join("out")
    }

    /// Where the stage keeps what lets it go on after a kill.
    pub fn scratch(&self) -> PathBuf {
        self.work.join("scratch")
    }

    /// Finished pieces that the stage may use instead of making them; none once the scratch was cleared.
    pub fn shards(&self) -> Shards {
        Shards::new(self.cache.shards(), !self.anew.load(Ordering::Relaxed))
    }

    /// Forgets what an earlier attempt left to go on with, shards too: for a stage that is forced.
    pub fn clear_scratch(&self) -> Result<()> {
        self.anew.store(true, Ordering::Relaxed);
        let scratch = self.scratch();
        std::fs::remove_dir_all(&scratch).and_then(|()| std::fs::create_dir(&scratch)).doing("clear", &scratch)
    }

    /// For a worker process, which must hold the key's lock too.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Makes everything durable, then publishes it under its key. `splits` are the rows per split.
    pub fn commit(self, components: &Components, sources: Vec<SourceNote>, splits: BTreeMap<String, u64>) -> Result<Artifact> {
        let out = self.out();
        failpoint("commit.begin");
        sync_tree(&out)?;
        failpoint("commit.synced");
        let manifest = Manifest::of_folder(&out, components.stage, splits)?;
        let bytes = serde_json::to_vec_pretty(&manifest).expect("plain data");
        let manifest_path = out.join(FILE_NAME);
        write_atomically(&manifest_path, &bytes).doing("write", &manifest_path)?;
        failpoint("commit.manifest");
        // Before it is in its place: until its key is there too, nothing but the lease keeps it from being swept away.
        let lease = self.cache.lease(&manifest.content)?;
        let path = self.move_into_place(&out, &manifest, &bytes)?;
        failpoint("commit.moved");
        let (key, artifact) = (self.key.clone(), manifest.content.clone());
        let record = KeyRecord { version: KEY_RECORD_VERSION, key, artifact, components: components.clone(), sources };
        let key_path = self.cache.key_path(&self.key);
        write_atomically(&key_path, &serde_json::to_vec_pretty(&record).expect("plain data")).doing("write", &key_path)?;
        failpoint("commit.published");
        let _ = std::fs::remove_dir_all(&self.work);
        Ok(Artifact { path, manifest, _lease: Some(lease) })
    }

    fn move_into_place(&self, out: &Path, manifest: &Manifest, bytes: &[u8]) -> Result<PathBuf> {
        let artifacts = self.cache.dir.join("artifacts");
        let path = artifacts.join(&manifest.content);
        // One extra round: another key may commit the same content between the check and the rename.
        for _ in 0..2 {
            if path.exists() {
                if manifest.is_whole(&path) && std::fs::read(path.join(FILE_NAME)).is_ok_and(|old| old == bytes) {
                    return Ok(path);
                }
                let trash = self.cache.dir.join("trash").join(format!("{}-{}", manifest.content, ulid::Ulid::generate()));
                std::fs::rename(&path, &trash).doing("move away the damaged", &path)?;
            }
            match std::fs::rename(out, &path) {
                Ok(()) => {
                    sync_dir(&artifacts).doing("write", &artifacts)?;
                    return Ok(path);
                }
                Err(_) if path.exists() => {}
                Err(error) => return Err(Error::io("move the finished output to", &path, error)),
            }
        }
        Err(Error::internal(format!("{} changes while it is written", path.display())))
    }
}

fn sync_tree(dir: &Path) -> Result<()> {
    let mut folders = std::collections::BTreeSet::from([dir.to_owned()]);
    for file in files_below(dir)? {
        let full = dir.join(&file);
        File::open(&full).and_then(|file| file.sync_all()).doing("write", &full)?;
        folders.extend(full.parent().map(Path::to_owned));
    }
    for folder in folders {
        sync_dir(&folder).doing("write", &folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StageKind;

    fn components(version: u32) -> Components {
        Components {
            stage: StageKind::Ingest,
            version,
            with: serde_json::json!({}),
            inputs: vec![],
            sources: vec![],
            assets: BTreeMap::new(),
            environment: BTreeMap::new(),
        }
    }

    fn make(cache: &Cache, components: &Components, train: &str, report: &str) -> Artifact {
        let pending = cache.begin(&Key::of(components), "").unwrap();
        std::fs::create_dir(pending.out().join("train")).unwrap();
        std::fs::write(pending.out().join("train/part"), train).unwrap();
        std::fs::write(pending.out().join("report.json"), report).unwrap();
        pending.commit(components, Vec::new(), BTreeMap::from([("train".to_owned(), 1)])).unwrap()
    }

    #[test]
    fn what_is_committed_is_found_and_what_is_not_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let one = components(1);
        assert!(cache.lookup(&Key::of(&one)).unwrap().is_none());
        let artifact = make(&cache, &one, "rows", "r");
        let found = cache.lookup(&Key::of(&one)).unwrap().unwrap();
        assert_eq!(found.manifest, artifact.manifest);
        assert_eq!(cache.key_record(&Key::of(&one)).unwrap().unwrap().components, one);
        assert!(!folder.path().join("work").join(Key::of(&one).as_str()).exists());
        // An unfinished one is not served.
        let two = components(2);
        let pending = cache.begin(&Key::of(&two), "").unwrap();
        std::fs::write(pending.out().join("x"), "half").unwrap();
        drop(pending);
        assert!(cache.lookup(&Key::of(&two)).unwrap().is_none());
        // And its leftovers do not come into the next attempt.
        let again = make(&cache, &two, "rows", "r");
        assert_eq!(again.manifest.content, artifact.manifest.content);
    }

    #[test]
    fn a_truncated_artifact_is_a_miss_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let one = components(1);
        let artifact = make(&cache, &one, "rows", "r");
        std::fs::write(artifact.path.join("train/part"), "ro").unwrap();
        assert!(cache.lookup(&Key::of(&one)).unwrap().is_none());
        make(&cache, &one, "rows", "r");
        assert_eq!(std::fs::read_to_string(artifact.path.join("train/part")).unwrap(), "rows");
        assert_eq!(std::fs::read_dir(folder.path().join("trash")).unwrap().count(), 1);
    }

    #[test]
    fn a_changed_report_changes_no_part() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let a = make(&cache, &components(1), "rows", "r").manifest;
        let b = make(&cache, &components(2), "rows", "other").manifest;
        assert_ne!(a.content, b.content);
        assert_eq!(a.parts, b.parts);
        let c = make(&cache, &components(3), "rowz", "r").manifest;
        assert_ne!(a.parts["train"], c.parts["train"]);
        assert_eq!(a.parts[super::super::SHARED_PART], c.parts[super::super::SHARED_PART]);
    }

    #[test]
    fn one_key_is_worked_on_once_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let key = Key::of(&components(1));
        let held = cache.begin(&key, "").unwrap();
        assert!(matches!(cache.begin(&key, ""), Err(LockError::Held(who)) if who.contains("process")));
        drop(held);
        assert!(cache.begin(&key, "").is_ok());
    }
}
