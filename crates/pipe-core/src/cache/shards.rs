//! Finished pieces of data stages, kept across keys and runs, so that new input costs only itself and a killed run
//! goes on with what it had.
//!
//! ```text
//! shards/<aa>/<key>.shard       what was made: Parquet, or Arrow IPC for ingest
//! shards/<aa>/<key>.json        {version, size, blake3, notes}: written last; its modification time says when it was last of use
//! shards/<aa>/.<ulid>           unfinished; left behind by a kill, and of no use then
//! ```
//!
//! A key covers everything that decides a shard's bytes, so a shard is never out of date, only unused. Nothing here is
//! synced: a shard is served only where size and BLAKE3 match its record, and a torn one is made again.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::StageKind;
use crate::digest;
use crate::error::{Error, IoContext, Result};

/// On-disk version of shard records.
const VERSION: u32 = 1;

/// Small pieces of a shard are written and hashed so many bytes at a time.
const WRITE_BYTES: usize = 64 << 10;

/// The shards of one cache. Any number of processes may read and write it at once.
#[derive(Debug, Clone)]
pub struct ShardStore {
    dir: PathBuf,
}

/// BLAKE3 over the canonical JSON of what decides a shard's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardKey(String);

/// A file, and the digest of all that is written to it.
struct HashingFile<'h> {
    file: File,
    hasher: &'h mut blake3::Hasher,
}

impl Write for HashingFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct ShardRecord {
    version: u32,
    size: u64,
    /// Over the file's bytes and then the notes as JSON: counts are no less to be trusted than rows.
    blake3: String,
    notes: Value,
}

impl ShardKey {
    /// `made_from` is all that counts beside the stage's own version: settings, and digests of what is read.
    pub fn of(stage: StageKind, made_from: &Value) -> ShardKey {
        let components = json!({"stage": stage, "version": stage.version(), "from": made_from});
        ShardKey(digest::of_bytes(components.to_string().as_bytes()))
    }
}

impl ShardStore {
    pub(super) fn new(dir: PathBuf) -> ShardStore {
        ShardStore { dir }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, key: &ShardKey, extension: &str) -> PathBuf {
        self.dir.join(&key.0[..2]).join(format!("{}.{extension}", key.0))
    }

    fn record(&self, key: &ShardKey) -> Option<ShardRecord> {
        let record: ShardRecord = serde_json::from_slice(&std::fs::read(self.path(key, "json")).ok()?).ok()?;
        (record.version == VERSION).then_some(record)
    }

    /// Says that a shard was of use, to whoever clears away what was not. The record's time, not the shard's: that may
    /// be one file with a part of an artifact.
    fn touch(&self, key: &ShardKey) {
        if let Ok(record) = File::options().write(true).open(self.path(key, "json")) {
            let _ = record.set_modified(SystemTime::now());
        }
    }

    fn load<N: DeserializeOwned>(&self, key: &ShardKey) -> Option<(Vec<u8>, N)> {
        let record = self.record(key)?;
        let bytes = std::fs::read(self.path(key, "shard")).ok()?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes);
        if bytes.len() as u64 != record.size || checksum(hasher, &record.notes) != record.blake3 {
            return None;
        }
        Some((bytes, serde_json::from_value(record.notes).ok()?))
    }

    fn link<N: DeserializeOwned>(&self, key: &ShardKey, target: &Path) -> Result<Option<N>> {
        let path = self.path(key, "shard");
        let Some(record) = self.record(key).filter(|record| std::fs::metadata(&path).is_ok_and(|stat| stat.len() == record.size)) else {
            return Ok(None);
        };
        match link_or_copy(&path, target) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            linked => linked.doing("write", target)?,
        }
        // What is checked is what will be used: the shard itself may be replaced or cleared away meanwhile.
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(target).doing("open", target)?).doing("read", target)?;
        if checksum(hasher, &record.notes) == record.blake3
            && let Ok(notes) = serde_json::from_value(record.notes)
        {
            return Ok(Some(notes));
        }
        std::fs::remove_file(target).doing("remove", target)?;
        Ok(None)
    }

    fn put(&self, key: &ShardKey, notes: Value, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
        self.publish(key, notes, |aside, hasher| {
            let mut out = BufWriter::with_capacity(WRITE_BYTES, HashingFile { file: File::create(aside)?, hasher });
            write(&mut out)?;
            out.flush()
        })
    }

    fn keep(&self, key: &ShardKey, file: &Path, notes: Value) -> Result<()> {
        self.publish(key, notes, |aside, hasher| {
            link_or_copy(file, aside)?;
            hasher.update_reader(File::open(aside)?).map(drop)
        })
    }

    /// Writes shard and record aside and moves them into place, the record last.
    fn publish(&self, key: &ShardKey, notes: Value, write: impl FnOnce(&Path, &mut blake3::Hasher) -> std::io::Result<()>) -> Result<()> {
        let path = self.path(key, "shard");
        let folder = path.parent().expect("a shard lies in a folder");
        // A name that no other process has, in the same folder: a rename across folders locks the whole file system.
        let aside = folder.join(format!(".{}", ulid::Ulid::generate()));
        let record_aside = aside.with_extension("json");
        let published = (|| {
            if !folder.is_dir() {
                std::fs::create_dir_all(folder)?;
            }
            let mut hasher = blake3::Hasher::new();
            write(&aside, &mut hasher)?;
            let record = ShardRecord { version: VERSION, size: hasher.count(), blake3: checksum(hasher, &notes), notes };
            std::fs::write(&record_aside, serde_json::to_vec(&record).expect("plain data"))?;
            std::fs::rename(&aside, &path)?;
            std::fs::rename(&record_aside, self.path(key, "json"))
        })();
        published.doing("write", &path).inspect_err(|_| {
            for aside in [&aside, &record_aside] {
                let _ = std::fs::remove_file(aside);
            }
        })
    }

    fn remove(&self, key: &ShardKey) {
        // The record first: a shard without one is not served.
        for extension in ["json", "shard"] {
            let _ = std::fs::remove_file(self.path(key, extension));
        }
    }
}

fn checksum(mut hasher: blake3::Hasher, notes: &Value) -> String {
    hasher.update(notes.to_string().as_bytes());
    digest::short(hasher.finalize())
}

/// One file under two names, or two files where the file system knows no links.
fn link_or_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if std::fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    std::fs::copy(from, to).map(drop)
}

/// Where a stage finds shards, and whether it may use those that are there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SharedShards {
    dir: PathBuf,
    reading: bool,
}

impl SharedShards {
    pub fn open(self) -> Shards {
        Shards::new(ShardStore::new(self.dir), self.reading)
    }
}

/// One stage's use of the store: what it finds there, what it adds, and the count of both.
#[derive(Debug)]
pub struct Shards {
    store: ShardStore,
    /// False for a stage that is to be made anew.
    reading: bool,
    reused: AtomicU64,
    made: AtomicU64,
    used: Mutex<Vec<ShardKey>>,
    forgotten: AtomicBool,
}

impl Shards {
    /// With `reading` false nothing is found, and what is made replaces what was there.
    pub fn new(store: ShardStore, reading: bool) -> Shards {
        Shards { store, reading, reused: AtomicU64::new(0), made: AtomicU64::new(0), used: Mutex::default(), forgotten: AtomicBool::new(false) }
    }

    /// For another process of the same stage.
    pub fn share(&self) -> SharedShards {
        SharedShards { dir: self.store.dir.clone(), reading: self.reading }
    }

    /// A shard's bytes and notes, if it is there and whole.
    pub fn load<N: DeserializeOwned>(&self, key: &ShardKey) -> Option<(Vec<u8>, N)> {
        let found = if self.reading { self.store.load(key) } else { None };
        found.inspect(|_| self.count_reused(key))
    }

    /// Where a shard that this stage found or made lies, to be read once more. Whoever reads it must not trust it to
    /// be there: the store may be cleared by hand at any time.
    pub fn path(&self, key: &ShardKey) -> PathBuf {
        self.store.path(key, "shard")
    }

    /// Makes `target` another name of the shard, if that is there and whole.
    pub fn link<N: DeserializeOwned>(&self, key: &ShardKey, target: &Path) -> Result<Option<N>> {
        let found = if self.reading { self.store.link(key, target)? } else { None };
        Ok(found.inspect(|_| self.count_reused(key)))
    }

    /// Adds a shard.
    pub fn put<N: Serialize>(&self, key: &ShardKey, bytes: &[u8], notes: &N) -> Result<()> {
        self.put_with(key, notes, |out| out.write_all(bytes))
    }

    /// Adds a shard whose bytes are written piece by piece.
    pub fn put_with<N: Serialize>(&self, key: &ShardKey, notes: &N, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
        self.add(key, || self.store.put(key, to_value(notes)?, write))
    }

    /// Adds a finished file, which must not change any more, as a shard.
    pub fn keep<N: Serialize>(&self, key: &ShardKey, file: &Path, notes: &N) -> Result<()> {
        self.add(key, || self.store.keep(key, file, to_value(notes)?))
    }

    /// Removes all shards that this stage found or made, and takes no more: for input that turns out to be none that may
    /// be kept.
    pub fn forget(&self) {
        self.forgotten.store(true, Ordering::SeqCst);
        for key in std::mem::take(&mut *self.used.lock().expect("no panic while locked")) {
            self.store.remove(&key);
        }
    }

    /// For `run.json`.
    pub fn figures(&self) -> Value {
        json!({"reused": self.reused.load(Ordering::Relaxed), "made": self.made.load(Ordering::Relaxed)})
    }

    fn count_reused(&self, key: &ShardKey) {
        self.store.touch(key);
        self.reused.fetch_add(1, Ordering::Relaxed);
        self.used.lock().expect("no panic while locked").push(key.clone());
    }

    fn add(&self, key: &ShardKey, write: impl FnOnce() -> Result<()>) -> Result<()> {
        self.made.fetch_add(1, Ordering::Relaxed);
        self.used.lock().expect("no panic while locked").push(key.clone());
        if !self.forgotten.load(Ordering::SeqCst) {
            write()?;
        }
        // Another thread may have begun to forget while this one wrote.
        if self.forgotten.load(Ordering::SeqCst) {
            self.store.remove(key);
        }
        Ok(())
    }
}

fn to_value<N: Serialize>(notes: &N) -> Result<Value> {
    serde_json::to_value(notes).map_err(|_| Error::internal("a shard's notes are no plain data"))
}

#[cfg(test)]
mod tests {
    use super::super::Cache;
    use super::*;

    fn key(name: &str) -> ShardKey {
        ShardKey::of(StageKind::Ingest, &json!({"input": name}))
    }

    fn shards(folder: &Path, reading: bool) -> Shards {
        Shards::new(Cache::open(folder).unwrap().shards(), reading)
    }

    #[test]
    fn a_shard_is_found_by_what_it_is_made_from() {
        let folder = tempfile::tempdir().unwrap();
        let one = shards(folder.path(), true);
        assert!(one.load::<u64>(&key("a")).is_none());
        one.put(&key("a"), b"rows", &7u64).unwrap();
        assert_eq!(one.load(&key("a")), Some((b"rows".to_vec(), 7u64)));
        assert!(one.load::<u64>(&key("b")).is_none());
        assert_ne!(ShardKey::of(StageKind::Predict, &json!({"input": "a"})), key("a"));
        assert_eq!(one.figures(), json!({"reused": 1, "made": 1}));
        // Notes of another shape are another format.
        assert!(one.load::<String>(&key("a")).is_none());
        // Nothing unfinished is left over.
        assert_eq!(std::fs::read_dir(one.store.path(&key("a"), "json").parent().unwrap()).unwrap().count(), 2);
        one.forget();
        assert!(one.load::<u64>(&key("a")).is_none());
        one.put(&key("a"), b"rows", &7u64).unwrap();
        assert!(one.load::<u64>(&key("a")).is_none());
    }

    #[test]
    fn a_stage_that_is_made_anew_finds_nothing_and_replaces_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        shards(folder.path(), true).put(&key("a"), b"old", &1u64).unwrap();
        let anew = shards(folder.path(), false);
        assert!(anew.load::<u64>(&key("a")).is_none());
        assert!(anew.link::<u64>(&key("a"), &folder.path().join("target")).unwrap().is_none());
        anew.put(&key("a"), b"new", &2u64).unwrap();
        assert_eq!(shards(folder.path(), true).load(&key("a")), Some((b"new".to_vec(), 2u64)));
    }

    #[test]
    fn a_damaged_shard_is_no_shard() {
        let folder = tempfile::tempdir().unwrap();
        let shards = shards(folder.path(), true);
        let (path, record) = (shards.store.path(&key("a"), "shard"), shards.store.path(&key("a"), "json"));
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        let damages: [&dyn Fn(); 6] = [
            &|| std::fs::write(&path, "r0ws").unwrap(),
            &|| std::fs::write(&path, "row").unwrap(),
            &|| std::fs::remove_file(&path).unwrap(),
            &|| std::fs::write(&record, text(&record).replace(":7", ":8")).unwrap(),
            &|| std::fs::write(&record, &text(&record)[..20]).unwrap(),
            &|| std::fs::remove_file(&record).unwrap(),
        ];
        for damage in damages {
            shards.put(&key("a"), b"rows", &7u64).unwrap();
            assert!(shards.load::<u64>(&key("a")).is_some());
            damage();
            assert!(shards.load::<u64>(&key("a")).is_none());
            let target = folder.path().join("target");
            assert!(shards.link::<u64>(&key("a"), &target).unwrap().is_none());
            assert!(!target.exists());
        }
    }

    #[test]
    fn a_kept_file_is_linked_and_survives_its_first_name() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let shards = shards(folder.path(), true);
        let (file, target) = (folder.path().join("part"), folder.path().join("again"));
        std::fs::write(&file, "tokens").unwrap();
        shards.keep(&key("a"), &file, &3u64).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(shards.link(&key("a"), &target).unwrap(), Some(3u64));
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "tokens");
        assert_eq!(std::fs::metadata(&target).unwrap().nlink(), 2);
    }

    #[test]
    fn use_is_noted_on_the_record_and_not_on_the_shard() {
        let folder = tempfile::tempdir().unwrap();
        let shards = shards(folder.path(), true);
        shards.put(&key("a"), b"rows", &7u64).unwrap();
        let (path, record) = (shards.store.path(&key("a"), "shard"), shards.store.path(&key("a"), "json"));
        for path in [&path, &record] {
            File::options().write(true).open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        shards.load::<u64>(&key("a")).unwrap();
        let modified = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(modified(&path), SystemTime::UNIX_EPOCH);
        assert!(modified(&record) > SystemTime::UNIX_EPOCH);
    }
}
